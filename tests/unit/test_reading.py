"""From files to batches: order, symbols, instruments, sizes of batches, errors with their file."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featureplane import native
from featureplane.errors import (
    EmptyStream,
    FileOrder,
    InstrumentMismatch,
    MalformedEvent,
    SettingError,
    UnknownSymbol,
    UnreadableFile,
)
from featureplane.market.agreement import check_ticks
from featureplane.market.events import EventFlag
from featureplane.market.instruments import Instrument, infer, load_instruments, save_instruments
from featureplane.market.reading import iter_events, read_events
from featureplane.market.sources import find_source, source_names
from tests import binance_lines as make
from tests.binance_lines import LOCAL, line
from tests.shared_data import shared

BACKENDS = [
    pytest.param("python", id="python"),
    pytest.param("rust", id="rust", marks=pytest.mark.skipif(not native.available(), reason="no extension")),
]
backends = pytest.mark.parametrize("backend", BACKENDS)
DECLARED = Instrument(venue="binance-usdm", symbol=make.SYMBOL, price_exponent=1, qty_exponent=3)
INSTRUMENTS = Path(__file__).resolve().parents[1] / "instruments" / "binance.toml"

RECORDINGS: dict[str, tuple[str, list[str], int, int]] = {
    "usdm 2024": ("binance-usdm", ["usdm/btcusdt_20240808.gz"], 466_836, 93_954),
    "usdm 2023": (
        "binance-usdm",
        ["usdm/btcusdt_20230404.dat.gz", "usdm/btcusdt_20230405.dat.gz"],
        337_619,
        73_251,
    ),
    "spot": ("binance-spot", ["spot/ethusdt_20240808.gz", "spot/ethusdt_20240809.gz"], 289_281, 79_744),
    "coinm": ("binance-coinm", ["cm/ethusd_perp_20240808.gz", "cm/ethusd_perp_20240809.gz"], 443_519, 78_314),
}


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two files that continue each other, the second one packed."""
    first, second = tmp_path / "1.log", tmp_path / "2.log.gz"
    first.write_bytes(line(make.snapshot()) + line(make.diff(), LOCAL + 5) + line(make.trade(), LOCAL + 6))
    second.write_bytes(
        gzip.compress(line(make.diff(U=13, u=15, pu=12), LOCAL + 6) + line(make.quote(), LOCAL + 7))
    )
    return [first, second]


@backends
def test_several_files_are_one_stream(two: list[Path], backend: str) -> None:
    batch = read_events(two, "binance-usdm", make.SYMBOL, DECLARED, backend=backend)
    assert (len(batch), batch.rows, batch.messages) == (14, 12, 5)
    assert batch.instrument is DECLARED
    assert not batch.instrument.inferred
    assert [file.name for file in batch.files] == ["1.log", "2.log.gz"]
    assert [file.sha256 for file in batch.files] == [hashlib.sha256(p.read_bytes()).hexdigest() for p in two]
    assert batch.has_snapshot


@backends
def test_rule_1_1_without_a_file_a_first_pass_over_all_files_finds_the_instrument(
    two: list[Path], backend: str
) -> None:
    batch = read_events([str(path) for path in two], "binance-usdm", backend=backend)
    found = batch.instrument
    assert (found.symbol, found.venue, found.inferred) == (make.SYMBOL, "binance-usdm", True)
    assert (found.price_exponent, found.tick_size) == (1, "0.1")
    assert (found.qty_exponent, found.lot_size, found.vpin_bucket) == (3, "0.001", "0.001")
    assert infer(two, "binance-usdm", backend=backend) == (found,)


@backends
def test_the_first_pass_counts_a_snapshot_for_the_only_symbol(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "a.log"
    snapshot = make.snapshot(bids=[["1.0005", "1"]], asks=[])
    path.write_bytes(
        line(snapshot) + line(make.trade(p="2.5", q="150")) + line(make.trade(q="0", p="0.0000001"))
    )
    (found,) = infer(path, "binance-usdm", backend=backend)
    assert (found.tick_size, found.lot_size, found.vpin_bucket) == ("0.0005", "1", "3")


@backends
@pytest.mark.parametrize("events_max", [1, 3, 5, 1000])
def test_batches_hold_the_same_events_cut_between_messages(
    two: list[Path], backend: str, events_max: int
) -> None:
    whole = read_events(two, "binance-usdm", instruments=DECLARED, backend=backend)
    parts = list(
        iter_events(two, "binance-usdm", instruments=DECLARED, events_max=events_max, backend=backend)
    )
    assert np.concatenate([part.array for part in parts]).tobytes() == whole.array.tobytes()
    assert all(part.array["flags"][-1] & EventFlag.LAST for part in parts if len(part))


@backends
def test_counts_of_batches_add_up(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "a.log"
    path.write_bytes((line(make.diff()) + line({"e": "markPriceUpdate"})) * 50)
    parts = list(iter_events(path, "binance-usdm", instruments=DECLARED, events_max=10, backend=backend))
    assert sum(part.dropped.get("other_stream", 0) for part in parts) == 50


@backends
def test_rule_3_1_files_in_the_wrong_order_are_refused_with_the_right_one(
    two: list[Path], backend: str
) -> None:
    with pytest.raises(FileOrder) as caught:
        read_events(two[::-1], "binance-usdm", instruments=DECLARED, backend=backend)
    assert caught.value.right == tuple(str(path) for path in two)
    assert caught.value.given == tuple(str(path) for path in two[::-1])


@backends
def test_rule_3_1_files_that_overlap_are_refused(two: list[Path], backend: str) -> None:
    with two[0].open("ab") as stream:
        stream.write(line(make.trade(t=78), LOCAL + 7))
    for instruments in (DECLARED, None):
        with pytest.raises(FileOrder) as caught:
            read_events(two, "binance-usdm", instruments=instruments, backend=backend)
        assert "overlap" in str(caught.value.hint)
    with pytest.raises(FileOrder):
        read_events([two[0], two[0]], "binance-usdm", instruments=DECLARED, backend=backend)


@backends
@pytest.mark.parametrize(
    "instruments", [None, Instrument(venue="v", symbol="X", price_exponent=1, qty_exponent=3)]
)
def test_a_symbol_that_is_not_there_is_refused_with_those_that_are(
    two: list[Path], backend: str, instruments: Instrument | None
) -> None:
    with pytest.raises(UnknownSymbol) as caught:
        read_events(two, "binance-usdm", "X", instruments, backend=backend)
    assert caught.value.known == (make.SYMBOL,)


@backends
def test_a_symbol_must_be_named_where_there_are_several(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(line(make.trade()) + line(make.trade(s="ETHUSDT")))
    with pytest.raises(SettingError) as caught:
        read_events(path, "binance-usdm", backend=backend)
    assert "ETHUSDT" in str(caught.value.hint)
    assert read_events(path, "binance-usdm", "ETHUSDT", backend=backend).dropped == {"other_symbol": 1}


@backends
def test_a_malformed_line_is_named_with_its_file(two: list[Path], backend: str) -> None:
    with two[0].open("ab") as stream:
        stream.write(line(make.trade(p="1.25"), LOCAL + 6))
    with pytest.raises(MalformedEvent) as caught:
        read_events(two, "binance-usdm", instruments=DECLARED, backend=backend)
    assert (caught.value.file, caught.value.line) == (str(two[0]), 4)
    batches = iter_events(two, "binance-usdm", instruments=DECLARED, backend=backend)
    assert len(next(batches)) == 9
    with pytest.raises(MalformedEvent):
        next(batches)


@backends
def test_a_file_that_the_data_contradict_is_named(two: list[Path], tmp_path: Path, backend: str) -> None:
    path = tmp_path / "instruments.toml"
    for name, wrong, found in (
        ("price_exponent", replace(DECLARED, price_exponent=0), '"61800.20"'),
        ("qty_exponent", replace(DECLARED, qty_exponent=1), '"'),
    ):
        save_instruments(path, [wrong])
        declared = getattr(wrong, name)
        line = 1 + path.read_text().splitlines().index(f"{name} = {declared}")
        with pytest.raises(InstrumentMismatch) as caught:
            read_events(two, "binance-usdm", instruments=path, backend=backend)
        assert (caught.value.file, caught.value.line) == (str(path), line)
        assert (caught.value.field, caught.value.declared) == (name, declared)
        assert found in str(caught.value.found)
        assert f"{two[0]}:1" in str(caught.value.found)


def test_prices_lie_on_the_tick_that_is_declared(two: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "instruments.toml"
    for tick, agrees in (("0.1", True), ("0.5", False)):
        save_instruments(path, [replace(DECLARED, tick_size=tick)])
        batch = read_events(two, "binance-usdm", instruments=path)
        if agrees:
            check_ticks(batch)
            continue
        with pytest.raises(InstrumentMismatch, match=r"the price 61800\.2") as caught:
            check_ticks(batch)
        assert (caught.value.file, caught.value.line) == (str(path), 7)


@backends
def test_rule_10_1_what_stands_before_an_error_is_read(two: list[Path], backend: str) -> None:
    two[1].write_bytes(two[1].read_bytes()[:-5])
    batches = iter_events(two, "binance-usdm", instruments=DECLARED, backend=backend)
    assert len(next(batches)) >= 9
    with pytest.raises(UnreadableFile) as caught:
        next(batches)
    assert caught.value.path == str(two[1])


@backends
def test_files_that_cannot_be_read_are_named(two: list[Path], tmp_path: Path, backend: str) -> None:
    for path in (tmp_path, tmp_path / "none.gz"):
        with pytest.raises(UnreadableFile) as caught:
            read_events([*two, path], "binance-usdm", instruments=DECLARED, backend=backend)
        assert caught.value.path == str(path)


@backends
@pytest.mark.parametrize(
    "text",
    [b"", b"\n\n", line({"channel": "l2Book", "data": {"levels": []}}), b"1723161255030314667 {"],
    ids=["empty", "empty lines", "another venue", "cut"],
)
def test_a_stream_of_nothing_is_an_error(text: bytes, tmp_path: Path, backend: str) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(text)
    for instruments in (None, DECLARED):
        with pytest.raises(EmptyStream):
            read_events(path, "binance-usdm", instruments=instruments, backend=backend)
    with pytest.raises(EmptyStream):
        list(iter_events(path, "binance-usdm", instruments=DECLARED, backend=backend))


@pytest.mark.parametrize(
    "arguments",
    [
        {"source": "binance"},
        {"paths": []},
        {"backend": "c"},
        {"on_gap": "x"},
        {"paths": [np.zeros(3)]},
        {"events_max": 0},
    ],
    ids=str,
)
def test_arguments_that_cannot_be_meant_are_refused(arguments: dict[str, Any], two: list[Path]) -> None:
    given: dict[str, Any] = {"paths": two, "source": "binance-usdm", "instruments": DECLARED}
    with pytest.raises(SettingError):
        iter_events(**(given | arguments))


@pytest.mark.parametrize("name", source_names())
def test_every_source_is_found_by_its_name(name: str) -> None:
    assert find_source(name).info.name == name


@pytest.mark.native
@pytest.mark.parametrize(("source", "files", "rows", "messages"), RECORDINGS.values(), ids=RECORDINGS)
def test_the_recordings_hold_what_their_notes_say(
    source: str, files: list[str], rows: int, messages: int
) -> None:
    paths = [shared(f"binance_raw/{name}") for name in files]
    declared = [one for one in load_instruments(INSTRUMENTS) if one.venue == source]
    batch = read_events(paths, source, instruments=INSTRUMENTS)
    assert (batch.rows, batch.messages, batch.instrument) == (rows, messages, declared[0])
    (found,) = infer(paths, source)
    assert (found.price_exponent, found.qty_exponent) == (
        declared[0].price_exponent,
        declared[0].qty_exponent,
    )
    assert declared[0].tick is not None
    assert found.tick == declared[0].tick
