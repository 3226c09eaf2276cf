"""Instruments and their files: what is read, written and refused, and when they trade."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.errors import (
    EmptyStream,
    InstrumentMismatch,
    InvalidInstrument,
    SettingError,
    UnknownSymbol,
    UnreadableFile,
)
from featureplane.market.agreement import check_ticks
from featureplane.market.decimals import BadDecimal, decimal_text, scaled, written
from featureplane.market.instruments import (
    Instrument,
    Origin,
    choose_instrument,
    default_symbol_id,
    infer,
    instruments_text,
    load_instruments,
    save_instruments,
)
from featureplane.market.sample import sample_events
from featureplane.market.sessions import Session, TimeOfDay, daily_instants, session_intervals
from featureplane.market.sources.hftbacktest_rows import ROW_DTYPE

FILES = Path(__file__).resolve().parents[1] / "instruments"
WEEK = ("mon", "tue", "wed", "thu", "fri")


def instrument(**fields: Any) -> Instrument:
    given: dict[str, Any] = {"venue": "v", "symbol": "S", "price_exponent": 2, "qty_exponent": 3}
    return Instrument(**(given | fields))


def nanos(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


# -- decimals


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("61800.20", 6180020),
        ("-1.05", -105),
        ("7", 700),
        ("1.2300000000000000000000", 123),
        ("000000000000000000000000000000000000000000001", 100),
        ("90071992547409.91", (1 << 53) - 1),
        ("-0.00", 0),
    ],
)
def test_rule_1_1_decimals_are_read_digit_by_digit(text: str, value: int) -> None:
    assert scaled(text, 2) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        ".",
        "1.",
        ".5",
        "+1",
        "1e3",
        " 1",
        "1 ",
        "1,0",
        "--1",
        "1.2.3",
        "NaN",
        "\u0661",
        "0x1",
        "1_0",
        "1\n",
    ],
)
def test_rule_1_1_nothing_else_is_a_decimal(text: str) -> None:
    with pytest.raises(BadDecimal, match="digits"):
        scaled(text, 2)


def test_rules_1_1_and_1_2_what_is_wrong_is_said_in_one_order() -> None:
    def fault(text: str, *, size: bool = False) -> str:
        with pytest.raises(BadDecimal) as caught:
            scaled(text, 2, size=size)
        return caught.value.expected

    assert "2 significant" in fault("-99999999999999999999.001", size=True)
    assert "at least 0" in fault("-99999999999999999999.01", size=True)
    assert "2^53" in fault("-99999999999999999999.01")
    assert "2^53" in fault("9" * 5000)


@given(st.integers(-(1 << 53) + 1, (1 << 53) - 1), st.integers(0, 18))
def test_text_of_a_decimal_says_the_same_number(value: int, exponent: int) -> None:
    text = decimal_text(value, exponent)
    assert scaled(text, exponent) == value
    mantissa, places = written(text)
    assert mantissa * 10 ** (exponent - places) == value
    assert places == 0 or mantissa % 10


# -- instruments


def test_rule_2_1_an_id_is_the_first_bytes_of_the_hash_of_venue_and_symbol() -> None:
    assert instrument().symbol_id == default_symbol_id("v", "S") == 0x786BCDB8
    assert instrument(symbol_id=5).symbol_id == 5


def test_tick_lot_and_bucket_are_known_in_the_units_of_events() -> None:
    one = instrument(tick_size="0.05", lot_size="0.010", vpin_bucket="12")
    assert (one.tick, one.lot, one.vpin_bucket_scaled) == (5, 10, 12000)
    assert (instrument().tick, instrument().lot, instrument().vpin_bucket_scaled) == (None, None, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"venue": ""},
        {"symbol": "a\nb"},
        {"symbol": 5},
        {"symbol_id": 1 << 32},
        {"symbol_id": -2},
        {"price_exponent": 19},
        {"qty_exponent": -1},
        {"qty_exponent": True},
        {"price_exponent": "2"},
        {"tick_size": "0.005"},
        {"tick_size": "0"},
        {"lot_size": "-1"},
        {"lot_size": 1.0},
        {"vpin_bucket": "many"},
        {"stale_ms": -1},
        {"clock": "exact"},
        {"locked": "open"},
        {"book_levels": 1 << 16},
        {"time_zone": "Taipei"},
        {"time_zone": None},
        {"reset_at": "24:00"},
        {"sessions": [1]},
        {"sessions": (Session("trading", 0, 3600), Session("closed", 1800, 7200))},
        {"sessions": (Session("trading", 3600, 3600), Session("closed", 1800, 1900))},
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_by_its_field(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInstrument) as caught:
        instrument(**fields)
    assert next(iter(fields)) in caught.value.field


@pytest.mark.parametrize("path", sorted(FILES.glob("*.toml")), ids=lambda path: path.stem)
def test_files_of_the_tests_come_back_as_they_are(path: Path, tmp_path: Path) -> None:
    read = load_instruments(path)
    save_instruments(tmp_path / "again.toml", read)
    again = load_instruments(tmp_path / "again.toml")
    assert again == read
    assert instruments_text(again) == (tmp_path / "again.toml").read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["again.toml"]


def test_numbers_may_stand_in_a_file_without_quotes(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(
        '[[instrument]]\nvenue = "v"\nsymbol = "S"\nprice_exponent = 2\nqty_exponent = 0\n'
        "tick_size = 0.10\nlot_size = 1\n"
    )
    (one,) = load_instruments(path)
    assert (one.tick_size, one.lot_size, one.origin) == (
        "0.10",
        "1",
        Origin(str(path), 1, one.origin.lines if one.origin else {}),
    )
    assert one.place_of("tick_size") == (str(path), 6)
    assert one.place_of("clock") == (str(path), 1)


HEAD = '[[instrument]]\nvenue = "v"\nsymbol = "S"\nprice_exponent = 2\nqty_exponent = 0\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(HEAD + 'tick_size = "0.001"\n', 6, id="finer than its exponent"),
        pytest.param(HEAD + "tick = 1\n", 6, id="unknown key"),
        pytest.param(HEAD + "stale_ms = 1.5\n", 6, id="a float"),
        pytest.param(HEAD.replace("price_exponent", "price_exponnt"), 4, id="mistyped key"),
        pytest.param("# a\n\n[[instrument]]\nvenue = 'v'\n", 3, id="a key is missing"),
        pytest.param(
            HEAD + 'sessions = [{ state = "open", opens = "08:00", closes = "09:00" }]\n', 6, id="state"
        ),
        pytest.param(
            HEAD + 'sessions = [{ state = "trading", opens = "8:00", closes = "9:00" }]\n', 6, id="time"
        ),
        pytest.param(HEAD + 'sessions = [{ state = "trading", opens = "08:00" }]\n', 6, id="no end"),
        pytest.param(HEAD + "sessions = 5\n", 6, id="sessions of another kind"),
        pytest.param(HEAD + "\n" + HEAD, 7, id="twice"),
        pytest.param(
            HEAD + "symbol_id = 9\n" + HEAD.replace('"S"', '"T"') + "symbol_id = 9\n", 12, id="one id twice"
        ),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_its_line(text: str, line: int, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InvalidInstrument) as caught:
        load_instruments(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)
    assert f"bad.toml:{line}" in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"[instrument]\n",
        b"a = 1\n",
        HEAD.encode() + b"[other]\n",
        b"\xff",
        b"instrument = [{}]\n",
        b"a = " + b"[" * 5000,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_a_file_that_is_none_is_unreadable(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(data)
    with pytest.raises(UnreadableFile):
        load_instruments(path)


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UnreadableFile):
            load_instruments(path)


def test_a_written_file_may_be_read_by_whom_the_folder_lets(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    save_instruments(tmp_path / "one.toml", [instrument()])
    assert (tmp_path / "one.toml").stat().st_mode == plain.stat().st_mode


def test_a_contradiction_names_the_line_of_its_key(tmp_path: Path) -> None:
    events = sample_events()
    path = tmp_path / "one.toml"
    save_instruments(path, [replace(events.instrument, tick_size="0.05")])
    line = 1 + path.read_text().splitlines().index('tick_size = "0.05"')
    with pytest.raises(InstrumentMismatch) as caught:
        check_ticks(replace(events, instruments=load_instruments(path)))
    assert (caught.value.file, caught.value.line) == (str(path), line)


def test_what_cannot_be_written_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "kept.toml"
    path.write_text("kept")
    with pytest.raises(InvalidInstrument):
        save_instruments(path, [instrument(), instrument()])
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["kept"]


def test_an_instrument_is_chosen_by_symbol_then_venue() -> None:
    spot, future, other = instrument(), instrument(venue="w"), instrument(symbol="T")
    assert choose_instrument([spot, other], "S") is spot
    assert choose_instrument([spot, future, other], "S", "w") is future
    assert choose_instrument([future, other], None, "w") is future
    assert choose_instrument([other], None, "w") is other
    with pytest.raises(SettingError, match="not clear"):
        choose_instrument([spot, other], None, "v")
    with pytest.raises(UnknownSymbol) as caught:
        choose_instrument([spot, other], "U")
    assert caught.value.known == ("S", "T")


# -- when they trade


def test_rule_3_6_resets_are_at_midnight_unless_there_are_sessions() -> None:
    trading = (Session("trading", 0, 3600),)
    assert instrument().daily_reset == TimeOfDay(0, "UTC")
    assert instrument(time_zone="Asia/Taipei").daily_reset == TimeOfDay(0, "UTC")
    assert instrument(reset_at="none").daily_reset is None
    assert instrument(sessions=trading).daily_reset is None
    assert instrument(sessions=trading, reset_at="17:30", time_zone="Asia/Taipei").daily_reset == TimeOfDay(
        63_000, "Asia/Taipei"
    )


def test_rule_3_12_sessions_are_half_open_in_the_time_of_the_exchange() -> None:
    night = (Session("trading", 15 * 3600, 5 * 3600, WEEK),)
    friday, saturday = nanos("2026-04-10T07:00"), nanos("2026-04-10T21:00")
    spans = session_intervals(night, "Asia/Taipei", nanos("2026-04-10T00:00"), nanos("2026-04-13T00:00"))
    assert spans == [(friday, saturday, "trading")]
    assert session_intervals(night, "Asia/Taipei", saturday, saturday + 1) == []
    assert session_intervals(night, "Asia/Taipei", saturday - 1, saturday) == spans


def test_a_change_of_clocks_moves_a_session_in_utc() -> None:
    day = (Session("trading", 34_200, 57_600),)
    opens = [nanos("2024-03-09T14:30"), nanos("2024-03-10T13:30")]
    spans = session_intervals(day, "America/New_York", opens[0], opens[1] + 1)
    assert [span[0] for span in spans] == opens


def test_a_time_that_is_skipped_or_comes_twice_is_one_instant() -> None:
    at = TimeOfDay(9000, "America/New_York")  # 02:30
    skipped = daily_instants(at, nanos("2024-03-10T00:00"), nanos("2024-03-11T00:00"))
    assert skipped == [nanos("2024-03-10T07:30")]
    twice = daily_instants(
        TimeOfDay(5400, at.time_zone), nanos("2024-11-03T00:00"), nanos("2024-11-04T00:00")
    )
    assert twice == [nanos("2024-11-03T05:30")]


@given(st.integers(0, 4 * 10**18), st.integers(0, 10 * 86_400 * 10**9), st.integers(0, 86_399))
def test_daily_instants_are_a_day_apart_where_no_clock_changes(start: int, span: int, seconds: int) -> None:
    instants = daily_instants(TimeOfDay(seconds, "UTC"), start, start + span)
    day = 86_400 * 10**9
    first = (start // day) * day + seconds * 10**9
    first += day if first <= start else 0
    assert instants == list(range(first, start + span + 1, day))


def test_nothing_is_inferred_from_nothing(tmp_path: Path) -> None:
    rows = tmp_path / "zero.npy"
    np.save(rows, np.zeros(0, ROW_DTYPE))
    day = "AAPL_2012-06-21_34200000_57600000"
    for name in (f"{day}_message_1.csv", f"{day}_orderbook_1.csv", "empty.gz"):
        (tmp_path / name).touch()
    for path, source in (
        (rows, "hftbacktest"),
        (tmp_path / f"{day}_message_1.csv", "lobster"),
        (tmp_path / "empty.gz", "binance-spot"),
    ):
        for backend in ("python", "auto"):
            with pytest.raises(EmptyStream) as caught:
                infer(path, source, "AAPL", backend=backend)
            assert caught.value.hint
