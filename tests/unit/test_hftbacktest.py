"""hftbacktest arrays: what a row becomes, where messages end, and what is refused."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featureplane import native
from featureplane.errors import (
    FeaturePlaneError,
    FileOrder,
    InstrumentMismatch,
    MalformedEvent,
    UnreadableFile,
)
from featureplane.features.catalog import feature_set
from featureplane.features.parity import parity
from featureplane.market.events import EventBatch, EventFlag, Kind, Side
from featureplane.market.instruments import Instrument, load_instruments, save_instruments
from featureplane.market.reading import iter_events, read_events
from featureplane.market.sessions import session_intervals
from featureplane.market.sources.batches import Counts
from featureplane.market.sources.hftbacktest import infer_exponents, read_rows
from featureplane.market.sources.hftbacktest_rows import ROW_DTYPE, Rows
from tests.shared_data import shared

LOCAL, EXCH, BUY, SELL = 1 << 30, 1 << 31, 1 << 29, 1 << 28
BACKENDS = [
    pytest.param("python", id="python"),
    pytest.param("rust", id="rust", marks=pytest.mark.skipif(not native.available(), reason="no extension")),
]
backends = pytest.mark.parametrize("backend", BACKENDS)
FILES = ("TMFD6_2026-04-08_replay_actual.parquet", "TXO35000Q6_2026-04-17_replay_actual.parquet")

Array = npt.NDArray[np.void]
INSTRUMENT = Instrument(venue="test", symbol="TEST", symbol_id=7, price_exponent=1, qty_exponent=3)


def rows_of(*rows: tuple[Any, ...]) -> Array:
    """(ev, exch_ts, local_ts, px, qty[, order_id, ival]) of the local side."""
    full = [(ev | LOCAL, *rest, *(0,) * (7 - len(rest))) for ev, *rest in rows]
    return np.array(full, ROW_DTYPE)


def events_of(source: Any, backend: str, **config: Any) -> Array:
    rows = Rows(source)
    return np.concatenate(list(read_rows(rows, INSTRUMENT, backend=backend, **config)))


def outcome(source: Any, backend: str, *, drop: bool) -> tuple[bytes, object]:
    """The bytes of all events, and the error behind them."""
    parts, error = [b""], None
    try:
        rows = Rows(source)
        blocks = read_rows(rows, INSTRUMENT, backend=backend, drop_malformed=drop)
        parts.extend(block.tobytes() for block in blocks)
    except FeaturePlaneError as caught:
        error = (type(caught), vars(caught))
    return b"".join(parts), error


def messages(events: Array) -> list[list[int]]:
    ends = np.flatnonzero(events["flags"] & EventFlag.LAST) + 1
    return [part["kind"].tolist() for part in np.split(events, ends) if len(part)]


@backends
def test_rule_3_11_runs_of_book_rows_are_messages(backend: str) -> None:
    events = events_of(
        rows_of(
            (3 | BUY, 1, 2, 10.0, 0),
            (4 | BUY, 1, 2, 10.5, 1),
            (3 | SELL, 1, 2, 12.0, 0),
            (4 | SELL, 1, 2, 11.0, 1),
            (1 | SELL, 1, 2, 11.0, 2),
            (4 | SELL, 1, 2, 11.0, 1),
            (2 | SELL, 1, 2, 10.5, 1),
            (1 | SELL, 1, 2, 11.0, 0),
            (1 | BUY, 1, 2, 10.5, 0),
            (1 | BUY, 1, 3, 10.5, 3, 8, 9),
            (5 | BUY, 1, 3, 10.5, 3),
            (5 | SELL, 1, 3, 11.0, 3),
        ),
        backend,
    )
    assert messages(events) == [[3, 4], [3, 4, 1], [4], [2], [1, 1], [1], [5, 5]]
    clear, snapshot = events[0], events[1]
    assert clear["flags"] == EventFlag.RECOVERY | EventFlag.BOUND
    assert (clear["price"], clear["qty"], snapshot["price"], snapshot["qty"]) == (100, 0, 105, 1000)
    assert events[6]["side"] == Side.ASK
    assert (events[9]["seq_prev"], events[9]["seq_last"]) == (8, 9)
    assert not events["seq_last"][:9].any()
    assert (events["kind"][-1], events["symbol_id"][-1]) == (Kind.QUOTE, 7)


@backends
def test_rule_3_11_a_clear_without_side_or_bound_empties_all(backend: str) -> None:
    events = events_of(rows_of((3, 1, 2, 0.0, 0), (3 | BUY, 1, 2, float("inf"), 0)), backend)
    assert events["flags"].tolist() == [EventFlag.RECOVERY | EventFlag.LAST] * 2
    assert events["side"].tolist() == [Side.NONE, Side.BID]


@backends
def test_rule_3_11_other_rows_are_dropped_and_counted(backend: str) -> None:
    rows = rows_of(
        (1 | BUY, 1, 2, 1.0, 1), (103, 1, 2, 1.0, 1), (2 | BUY, 1, 2, 1.0, 0), (10 | BUY, 1, 2, 1.0, 1)
    )
    rows["ev"][0] = 1 | BUY | EXCH
    counts = Counts()
    assert len(events_of(rows, backend, counts=counts)) == 0
    assert counts.total() == {"not_local": 1, "unknown_kind": 2, "empty_trade": 1}


@backends
def test_rule_2_5_aggressors_may_be_inferred_or_missing(backend: str) -> None:
    rows = Rows(rows_of((2 | BUY, 1, 2, 1.0, 1), (2, 1, 2, 1.0, 1)))
    events = np.concatenate(list(read_rows(rows, replace(INSTRUMENT, venue="TAIFEX"), backend=backend)))
    assert events["side"].tolist() == [Side.BID, Side.NONE]
    assert ((events["flags"] & EventFlag.SIDE_INFERRED) != 0).tolist() == [True, False]


@backends
def test_rule_2_3_without_a_local_time_it_is_the_venues(backend: str) -> None:
    assert events_of(rows_of((1 | BUY, 5, 0, 1.0, 1)), backend)["local_ts_ns"] == [5]


@backends
def test_rule_1_1_floats_are_the_decimals_they_were_meant_to_be(backend: str) -> None:
    events = events_of(rows_of((1 | BUY, 1, 2, 0.1 + 0.2, 0.001)), backend)
    assert (events["price"][0], events["qty"][0]) == (3, 1)


@backends
@pytest.mark.parametrize(
    ("xs", "expected"),
    [
        pytest.param([1.0, 25.0], 0, id="whole numbers"),
        pytest.param([61_800.1, 1e-8], 8, id="the finest counts"),
        pytest.param([0.1 + 0.2], 1, id="noise of arithmetic is no decimal"),
        pytest.param([2683.81, float("nan")], 2, id="what nothing fits is left to the reader"),
    ],
)
def test_rule_1_1_the_first_pass_finds_the_decimals(backend: str, xs: list[float], expected: int) -> None:
    rows = rows_of(*((1 | BUY, 1, 2, x, 1) for x in xs))
    assert infer_exponents(Rows(rows), backend) == (expected, 0)


BAD_ROWS = [
    pytest.param((1 | BUY, 1, 2, 1.05, 1), "px 1.05", id="off the grid"),
    pytest.param((1 | BUY, 1, 2, float("nan"), 1), "px", id="no number"),
    pytest.param((1 | BUY, 1, 2, 1.0, -1), "qty -1.0", id="negative size"),
    pytest.param((1 | BUY, 1, 2, 1e300, 1), "px", id="price beyond 2^53"),
    pytest.param((1 | BUY, 1, 2, 1.0, 9_007_199_254_740.992), "qty", id="size of 2^53"),
    pytest.param((1, 1, 2, 1.0, 1), "ev 0x40000001", id="level without side"),
    pytest.param((2 | BUY | SELL, 1, 2, 1.0, 1), "ev 0x70000002", id="trade of both sides"),
    pytest.param((1 | BUY, 1, 2, 1.0, 1, 0, -4), "ival -4", id="negative id"),
]


@backends
@pytest.mark.parametrize(("row", "found"), BAD_ROWS)
def test_a_malformed_row_is_named_and_what_came_before_is_kept(
    backend: str, row: tuple[Any, ...], found: str
) -> None:
    rows = Rows(rows_of((1 | BUY, 1, 1, 1.0, 1), row))
    parts: list[Array] = []
    with pytest.raises(MalformedEvent) as caught:
        parts.extend(read_rows(rows, INSTRUMENT, backend=backend))
    assert caught.value.line == 2
    assert caught.value.found.startswith(found)
    assert caught.value.hint
    assert sum(map(len, parts)) == 0 or messages(parts[0]) == [[1]]


@backends
def test_a_file_whose_exponent_is_too_small_is_named_with_its_line(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "instruments.toml"
    save_instruments(path, [INSTRUMENT])
    declared = load_instruments(path)
    line = 1 + path.read_text().splitlines().index("price_exponent = 1")
    with pytest.raises(InstrumentMismatch, match=r"px 10\.25") as caught:
        read_events(rows_of((1 | BUY, 1, 2, 10.25, 1.0)), "hftbacktest", "TEST", declared, backend=backend)
    assert (caught.value.field, caught.value.file, caught.value.line) == ("price_exponent", str(path), line)
    for px in (float("nan"), 1e300):
        with pytest.raises(MalformedEvent):
            read_events(rows_of((1 | BUY, 1, 2, px, 1.0)), "hftbacktest", "TEST", declared, backend=backend)


@backends
def test_rule_10_1_a_dropped_book_message_leaves_a_mark(backend: str) -> None:
    rows = rows_of(
        (1 | BUY, 1, 11, 1.0, 1),
        (1 | BUY, 2, 12, 1.0, 1),
        (1 | BUY, 2, 12, 0.01, 1),
        (1 | BUY, 2, 12, 1.0, 1),
        (2 | BUY, 2, 12, 0.01, 1),
        (1 | BUY, 2, 12, 1.0, 1),
    )
    counts = Counts()
    events = events_of(rows, backend, drop_malformed=True, counts=counts)
    assert messages(events) == [[Kind.LEVEL], [0], [Kind.LEVEL]]
    assert (events["source_ts_ns"][1], events["local_ts_ns"][1]) == (2, 12)
    assert counts.total() == {"malformed": 1}


@pytest.mark.native
@pytest.mark.parametrize("name", FILES)
def test_both_readers_give_the_same_events_of_recorded_files(name: str) -> None:
    rows = Rows(shared(f"taifex/{name}"))
    price, qty = infer_exponents(rows)
    instrument = Instrument(venue="taifex", symbol="X", price_exponent=price, qty_exponent=qty)

    def read(backend: str) -> Array:
        blocks = read_rows(rows, instrument, backend=backend)
        return np.concatenate(list(islice(blocks, 2)))

    fast, plain = read("rust"), read("python")
    assert len(fast) > 60_000
    assert fast.tobytes() == plain.tobytes()


@pytest.mark.native
def test_both_readers_agree_on_rows_of_chance() -> None:
    draws = np.random.default_rng(5)
    for _ in range(300):
        rows = np.zeros(40, ROW_DTYPE)
        rows["ev"] = draws.choice([1, 1, 1, 2, 3, 4, 4, 5, 9], 40) | draws.choice(
            [LOCAL, LOCAL | EXCH, EXCH], 40
        )
        rows["ev"] |= draws.choice([BUY, SELL, BUY, SELL, BUY, SELL, BUY, SELL, 0], 40).astype("u8")
        rows["exch_ts"], rows["local_ts"] = np.sort(draws.integers(0, 9, (2, 40)))
        rows["px"] = draws.integers(-5, 60, 40) / draws.choice([10, 10, 10, 10, 10, 100], 40)
        rows["qty"] = draws.integers(0, 9, 40) / 1000
        rows["ival"] = draws.choice([0, 0, 5, 6], 40)
        for drop in (False, True):
            assert outcome(rows, "rust", drop=drop) == outcome(rows, "python", drop=drop)


# -- files


@pytest.fixture
def rows() -> Array:
    return rows_of((3, 1, 12, 0.0, 0), (1 | BUY, 1, 12, 1.0, 1), (2 | SELL, 2, 13, 1.0, 1))


def npz(path: Path, rows: Array) -> Path:
    np.savez_compressed(path / "rows.npz", data=rows, local_shift_ns=np.int64(10))
    return path / "rows.npz"


def npy(path: Path, rows: Array) -> Path:
    np.save(path / "rows.npy", rows)
    return path / "rows.npy"


def parquet(path: Path, rows: Array) -> Path:
    names = ("ev", "exch_ts", "local_ts", "px", "qty")
    table = pa.table({name: pa.array(rows[name]) for name in names})
    pq.write_table(table.replace_schema_metadata({"local_shift_ns": "10"}), path / "rows.parquet")
    return path / "rows.parquet"


@pytest.mark.parametrize("write", [npz, npy, parquet])
@backends
def test_every_form_of_file_gives_the_same_events(
    backend: str, write: Callable[[Path, Array], Path], tmp_path: Path, rows: Array
) -> None:
    path = write(tmp_path, rows)
    expected = events_of(rows, backend)
    if write is not npy:
        assert Rows(path).local_shift_ns == 10
        expected["local_ts_ns"] -= 10
    assert events_of(path, backend).tobytes() == expected.tobytes()


def spoiled(path: Path, rows: Array) -> Iterator[tuple[str, Path, str]]:
    """(what, file, a word of what was found)."""
    whole = npy(path, rows).read_bytes()
    for what, name, data, found in (
        ("cut", "cut.npy", whole[:-1], "1 bytes less"),
        ("cut in the header", "head.npy", whole[:50], "no NumPy header"),
        ("text", "text.npy", b"hello", "no NumPy header"),
        ("text", "text.npz", b"hello", "no zip"),
        ("text", "text.parquet", b"hello", "no Parquet"),
        ("empty", "empty.npz", b"", "no zip"),
        ("empty", "empty.npy", b"", "no NumPy header"),
    ):
        (path / name).write_bytes(data)
        yield what, path / name, found
    np.savez(path / "other.npz", rows=rows)
    yield "another key", path / "other.npz", "rows.npy"
    np.save(path / "old.npy", np.zeros((3, 6)))
    yield "six columns", path / "old.npy", "2 dimensions"
    np.save(path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    yield "pickled objects", path / "object.npy", "1 dimensions"
    flipped = bytearray(npz(path, rows).read_bytes())
    flipped[zipfile.ZipFile(path / "rows.npz").getinfo("data.npy").header_offset + 60] ^= 0xFF
    (path / "flipped.npz").write_bytes(flipped)
    yield "a flipped byte", path / "flipped.npz", ""
    pq.write_table(pa.table({"ev": [1], "px": [1.0]}), path / "columns.parquet")
    yield "missing columns", path / "columns.parquet", "the columns ev, px"
    pq.write_table(pa.table({"ev": ["x"], "exch_ts": [1], "px": [1.0], "qty": [1.0]}), path / "types.parquet")
    yield "text in numbers", path / "types.parquet", "damaged"
    yield "absent", path / "absent.npy", "No such file"
    yield "absent", path / "absent.parquet", ""


def test_what_is_no_such_file_gets_a_named_error(tmp_path: Path, rows: Array) -> None:
    for what, path, found in spoiled(tmp_path, rows):
        with pytest.raises(UnreadableFile) as caught:
            events_of(path, "python")
        assert str(path) in str(caught.value), what
        assert found in caught.value.found, what
        assert caught.value.expected, what


def test_a_null_in_parquet_is_named_with_its_row(tmp_path: Path) -> None:
    table = pa.table({"ev": [LOCAL | 1, None], "exch_ts": [1, 1], "px": [1.0, 1.0], "qty": [1.0, 1.0]})
    pq.write_table(table, tmp_path / "null.parquet")
    with pytest.raises(MalformedEvent) as caught:
        events_of(tmp_path / "null.parquet", "python")
    assert (caught.value.found, caught.value.line) == ("no `ev`", 2)


# -- as a source


def test_an_array_is_a_stream(rows: Array) -> None:
    batch = read_events(rows, "hftbacktest", "X")
    instrument = batch.instrument
    assert (instrument.symbol, instrument.venue, instrument.inferred) == ("X", "hftbacktest", True)
    assert (instrument.tick_size, instrument.lot_size) == ("1", "1")
    assert batch.source.local_time
    assert not batch.source.sequenced
    assert messages(batch.array) == [[Kind.CLEAR, Kind.LEVEL], [Kind.TRADE]]
    parts = list(iter_events(rows, "hftbacktest", "X", events_max=1))
    assert [len(part) for part in parts] == [2, 1, 0]


def test_rule_3_2_ids_show_in_the_rows(rows: Array) -> None:
    rows["ival"][:2] = 7
    assert read_events(rows, "hftbacktest").source.sequenced


def test_rule_3_1_files_are_read_in_order(rows: Array, tmp_path: Path) -> None:
    later = rows.copy()
    later["local_ts"] += 5
    np.save(tmp_path / "SYM_a.npy", later)
    np.save(tmp_path / "SYM_b.npy", rows)
    paths = [tmp_path / "SYM_b.npy", tmp_path / "SYM_a.npy"]
    batch = read_events(paths, "hftbacktest")
    assert (len(batch), batch.instrument.symbol) == (6, "SYM")
    with pytest.raises(FileOrder) as caught:
        read_events(paths[::-1], "hftbacktest")
    assert caught.value.right == tuple(map(str, paths))


@pytest.mark.parametrize("name", FILES)
def test_the_instruments_file_fits_the_taifex_recordings(name: str) -> None:
    symbol = name.partition("_")[0]
    path = Path(__file__).parents[1] / "instruments" / "taifex.toml"
    batch = read_events(shared(f"taifex/{name}"), "hftbacktest", symbol, path)
    assert batch.instrument.symbol == symbol
    assert not batch.source.local_time
    trades = batch.array[batch.array["kind"] == Kind.TRADE]
    assert (trades["flags"] & EventFlag.SIDE_INFERRED != 0).all()
    states = {state for *_, state in intervals(batch)}
    assert states == {"pre_open", "trading"}
    opens = [opens for opens, _, state in intervals(batch) if state == "trading"]
    before = trades["source_ts_ns"] < opens[0]
    assert before.any() == (symbol == "TMFD6")  # trial matches before the open


def intervals(batch: EventBatch) -> list[tuple[int, int, str]]:
    times = batch.array["source_ts_ns"]
    instrument = batch.instrument
    return session_intervals(instrument.sessions, instrument.time_zone, int(times[0]), int(times[-1]))


@pytest.mark.native
@pytest.mark.parametrize("name", FILES)
def test_rule_10_1_sessions_without_local_time_agree_in_both_languages(name: str) -> None:
    path = Path(__file__).parents[1] / "instruments" / "taifex.toml"
    symbol = name.partition("_")[0]
    batch = read_events(shared(f"taifex/{name}"), "hftbacktest", symbol, path)
    report = parity(batch.part(0, 1_000), feature_set("lob_shared_v2"))
    assert report.frames > 400
    assert report.mismatches == 0
