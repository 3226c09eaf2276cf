"""Capture files: the same events back, plain without a copy, and damage that is named."""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from featureplane.errors import (
    FeaturePlaneError,
    FileOrder,
    InstrumentMismatch,
    SettingError,
    StateError,
    UnknownSymbol,
    UnreadableFile,
)
from featureplane.market.events import EventBatch, EventFlag, SourceFile, SourceInfo
from featureplane.market.instruments import Instrument, load_instruments
from featureplane.market.reading import iter_events, read_events
from featureplane.market.sources.capture import CaptureFile, CaptureWriter, write_capture
from featureplane.market.sources.capture_layout import FRAME_EVENTS_MAX, HEADER_BYTES
from featureplane.market.sources.files import source_file
from featureplane.market.synthetic import symbol_name, synthetic_events

Array = npt.NDArray[np.void]

INFO = SourceInfo("synthetic", sequenced=True, has_snapshots=True, local_time=True, trade_sides=False)
INSTRUMENTS = tuple(
    Instrument(venue="synthetic", symbol=symbol_name(i), price_exponent=2, qty_exponent=3) for i in range(2)
)
compressions = pytest.mark.parametrize("compression", ["none", "zstd"])


@pytest.fixture(scope="module")
def events() -> Array:
    return synthetic_events(40_000, seed=5, symbols=2)


def write(path: Path, events: Array, compression: str = "none", **header: Any) -> Path:
    target = path / f"{compression}.fpcap"
    with CaptureWriter(target, INSTRUMENTS, INFO, compression=compression, **header) as writer:
        for part in np.array_split(events, 7):
            writer.write(part)
    return target


def read(path: Path) -> tuple[bytes, int]:
    file = CaptureFile(path)
    return file.array().tobytes(), file.incomplete


@compressions
def test_rule_2_1_events_come_back_as_they_were(compression: str, events: Array, tmp_path: Path) -> None:
    path = write(tmp_path, events, compression, files=(SourceFile("day.gz", "ab" * 32),))
    file = CaptureFile(path)
    assert file.array().tobytes() == events.tobytes()
    assert b"".join(block.tobytes() for block in file.blocks()) == events.tobytes()
    assert file.incomplete == 0
    header = file.header
    assert (header.source, header.instruments) == (INFO, INSTRUMENTS)
    assert (header.compression, header.count) == (compression, len(events))
    assert header.first_local_ts_ns == events["local_ts_ns"][0]
    assert header.last_local_ts_ns == events["local_ts_ns"][-1]
    assert header.files == (SourceFile("day.gz", "ab" * 32),)


def test_rule_2_1_the_layout_is_pinned(events: Array, tmp_path: Path) -> None:
    data = write(tmp_path, events[:1]).read_bytes()
    assert data[:8] == b"FPCAPT01"
    text, zeros = data[8:HEADER_BYTES].rstrip(b"\0"), data[HEADER_BYTES - 8 : HEADER_BYTES]
    assert zeros == bytes(8)
    assert list(json.loads(text)) == [
        "compression",
        "count",
        "files",
        "first_local_ts_ns",
        "instruments",
        "last_local_ts_ns",
        "sha256",
        "source",
        "version",
    ]
    assert data[HEADER_BYTES:] == events[:1].tobytes()


def test_the_index_is_pinned_and_skipped_by_zstd(events: Array, tmp_path: Path) -> None:
    data = write(tmp_path, events, "zstd").read_bytes()
    with pa.CompressedInputStream(pa.BufferReader(data[HEADER_BYTES:]), "zstd") as stream:
        assert stream.read() == events.tobytes()
    offset, count, total, magic = struct.unpack("<QQQ8s", data[-32:])
    assert (magic, total) == (b"FPCIDX01", len(events))
    assert struct.unpack_from("<II", data, offset) == (0x184D2A5E, len(data) - offset - 8)
    first = 0
    for number in range(count):
        at, packed, held, crc, spare = struct.unpack_from("<QIIII", data, offset + 8 + 24 * number)
        assert crc == zlib.crc32(data[at : at + packed])
        assert 0 < held <= FRAME_EVENTS_MAX
        assert spare == 0
        first += held
        assert events["flags"][first - 1] & EventFlag.LAST
    assert first == len(events)


def test_a_plain_file_is_a_view_of_its_mapping(events: Array, tmp_path: Path) -> None:
    array = CaptureFile(write(tmp_path, events)).array()
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap)
    assert not array.flags.writeable


def test_every_field_of_an_instrument_comes_back(tmp_path: Path) -> None:
    instruments = load_instruments(Path(__file__).parents[1] / "instruments" / "taifex.toml")
    with CaptureWriter(tmp_path / "empty.fpcap", instruments, INFO):
        pass
    file = CaptureFile(tmp_path / "empty.fpcap")
    assert file.header.instruments == instruments
    assert (len(file.array()), file.incomplete, file.header.count) == (0, 0, 0)


@compressions
@pytest.mark.parametrize("lost", [1, 64, 65, 20_000])
def test_rule_2_1_a_tail_cut_off_is_dropped_and_counted(
    compression: str, lost: int, events: Array, tmp_path: Path
) -> None:
    path = write(tmp_path, events, compression)
    data = path.read_bytes()
    path.write_bytes(data[:-lost])
    got, incomplete = read(path)
    if compression == "zstd" and len(got) == events.nbytes:
        pytest.fail("only the index was lost")
    assert incomplete == 1
    assert got == events.tobytes()[: len(got)]
    last = np.frombuffer(got, events.dtype)["flags"][-1:]
    assert (last & EventFlag.LAST).all()
    if compression == "none":
        assert len(got) >= len(data) - HEADER_BYTES - lost - 64 * 500


def spoil(data: bytes, how: str) -> bytes:
    offset = struct.unpack("<QQQ8s", data[-32:])[0] if how.startswith("index") else 0
    header = json.loads(data[8:HEADER_BYTES].rstrip(b"\0"))
    changes: dict[str, Any] = {
        "version": {"version": 2},
        "count text": {"count": "many"},
        "count less": {"count": header["count"] - 1},
        "key": {"colour": "red"},
        "compression": {"compression": "gzip"},
        "source": {"source": header["source"] | {"sequenced": 1}},
        "source less": {"source": {"name": "x"}},
        "instrument": {"instruments": [{"venue": "x"}]},
        "instrument twice": {"instruments": header["instruments"][:1] * 2},
        "instrument key": {"instruments": [header["instruments"][0] | {"origin": ["a", 1]}]},
        "files": {"files": [{"name": "x", "colour": "red"}]},
        "list": [],
    }
    if how in changes:
        change = changes[how]
        text = json.dumps(header | change if isinstance(change, dict) else change).encode()
        return data[:8] + text.ljust(HEADER_BYTES - 8, b"\0") + data[HEADER_BYTES:]
    return {
        "magic": b"X" + data[1:],
        "empty": b"",
        "short header": data[:3000],
        "no json": data[:8] + b"[" + data[9:],
        "not utf-8": data[:8] + b"\xff" + data[9:],
        "nested": data[:8] + b"[" * 4088 + data[HEADER_BYTES:],
        "extra": data + b"x",
        "frame": data[: HEADER_BYTES + 99]
        + bytes([data[HEADER_BYTES + 99] ^ 1])
        + data[HEADER_BYTES + 100 :],
        "index entry": data[: offset + 12] + b"\xff" + data[offset + 13 :],
        "index offset": data[:-32] + b"\1" + data[-31:],
        "index magic": data[:-1] + b"X",
        "index lost": data[:offset],
    }[how]


IN_BOTH = [
    ("magic", "FPCAPT01"),
    ("empty", "FPCAPT01"),
    ("short header", "4096 bytes"),
    ("no json", "a header"),
    ("not utf-8", "a header"),
    ("nested", "a header"),
    ("version", "version 1"),
    ("count text", "a header"),
    ("count less", "header says"),
    ("key", "a header"),
    ("compression", "a header"),
    ("source", "a header"),
    ("source less", "a header"),
    ("instrument", "a header"),
    ("instrument twice", "a header"),
    ("instrument key", "a header"),
    ("files", "a header"),
    ("list", "version 1"),
]
CASES = [
    *(("none", *case) for case in [*IN_BOTH, ("extra", "events, as its header says")]),
    *(("zstd", *case) for case in IN_BOTH),
    ("zstd", "frame", "the frame its index names"),
    ("zstd", "index entry", "frames one behind the other"),
    ("zstd", "index offset", "frames one behind the other"),
    ("zstd", "index magic", "the index at its end"),
    ("zstd", "index lost", "the index at its end"),
]


@pytest.mark.parametrize(("compression", "how", "expected"), CASES)
def test_damage_is_named(compression: str, how: str, expected: str, events: Array, tmp_path: Path) -> None:
    path = write(tmp_path, events, compression)
    path.write_bytes(spoil(path.read_bytes(), how))
    with pytest.raises(UnreadableFile) as caught:
        read(path)
    assert expected in caught.value.expected
    assert caught.value.path == str(path)
    assert len(str(caught.value)) < 600


@compressions
def test_no_flipped_byte_gives_anything_but_an_error_of_ours(
    compression: str, events: Array, tmp_path: Path
) -> None:
    path = write(tmp_path, events[:300], compression)
    data = bytearray(path.read_bytes())
    places = [*range(600), *range(HEADER_BYTES, len(data), 37), *range(len(data) - 60, len(data))]
    for place in places:
        data[place] ^= 0x10
        path.write_bytes(data)
        with suppress(FeaturePlaneError):
            got = CaptureFile(path).array().tobytes()
            assert compression == "none" or place < HEADER_BYTES or got == events[:300].tobytes()
        data[place] ^= 0x10


@compressions
def test_a_file_that_was_cut_off_has_a_hash_of_its_own(
    compression: str, events: Array, tmp_path: Path
) -> None:
    path = write(tmp_path, events, compression)
    whole = CaptureFile(path).source_file()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert CaptureFile(path).source_file() == source_file(path) != whole


def test_what_is_absent_or_a_folder_is_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(UnreadableFile):
            CaptureFile(path)


# -- writing


def test_nothing_is_left_behind_when_writing_fails(events: Array, tmp_path: Path) -> None:
    def stopped() -> None:
        with CaptureWriter(tmp_path / "x.fpcap", INSTRUMENTS, INFO) as writer:
            writer.write(events)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []


def test_a_capture_appears_when_it_is_whole(events: Array, tmp_path: Path) -> None:
    path = tmp_path / "x.fpcap"
    path.write_bytes(b"before")
    writer = CaptureWriter(path, INSTRUMENTS, INFO)
    writer.write(events)
    assert path.read_bytes() == b"before"
    writer.close()
    writer.close()
    assert read(path) == (events.tobytes(), 0)
    with pytest.raises(StateError):
        writer.write(events)


def test_what_cannot_be_written_is_refused(events: Array, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be written"):
        CaptureWriter(tmp_path / "no" / "x", INSTRUMENTS, INFO)
    with pytest.raises(SettingError, match="compression"):
        CaptureWriter(tmp_path / "x", INSTRUMENTS, INFO, compression="gzip")
    many = tuple(replace(INSTRUMENTS[0], symbol=f"S{i}", symbol_id=i) for i in range(100))
    with pytest.raises(SettingError, match="100 instruments"):
        CaptureWriter(tmp_path / "x", many, INFO)
    with pytest.raises(UnknownSymbol), CaptureWriter(tmp_path / "x", INSTRUMENTS[:1], INFO) as writer:
        writer.write(events)
    assert list(tmp_path.iterdir()) == []


# -- as a source


@compressions
def test_a_captured_batch_is_read_as_it_was(compression: str, tmp_path: Path) -> None:
    made = read_events("synthetic:5:40000:2", "synthetic")
    write_capture(tmp_path / "x.fpcap", made, compression=compression)
    batch = read_events(tmp_path / "x.fpcap", "capture", seed="increments")
    assert isinstance(batch, EventBatch)
    assert (batch.source, batch.instruments) == (made.source, made.instruments)
    assert batch.array.tobytes() == made.array.tobytes()
    assert batch.options.seed == "increments"
    parts = list(iter_events(tmp_path / "x.fpcap", "capture", events_max=1_000))
    assert b"".join(part.array.tobytes() for part in parts) == made.array.tobytes()
    assert max(map(len, parts)) < 1_500


def test_one_symbol_of_a_capture_can_be_read(events: Array, tmp_path: Path) -> None:
    path = write(tmp_path, events)
    batch = read_events(path, "capture", symbol_name(1))
    assert batch.instruments == INSTRUMENTS[1:]
    expected = events[events["symbol_id"] == INSTRUMENTS[1].symbol_id]
    assert batch.array.tobytes() == expected.tobytes()
    with pytest.raises(UnknownSymbol) as caught:
        read_events(path, "capture", "OTHER")
    assert caught.value.known == (symbol_name(0), symbol_name(1))


def test_rule_3_1_captures_that_continue_each_other_are_one_stream(tmp_path: Path) -> None:
    made = read_events("synthetic:5:3000", "synthetic").array
    made = made[made["local_ts_ns"] == np.maximum.accumulate(made["local_ts_ns"])]
    for name, part in (("b", made[:1500]), ("a", made[1500:])):
        with CaptureWriter(tmp_path / name, INSTRUMENTS, INFO) as writer:
            writer.write(part)
    batch = read_events([tmp_path / "b", tmp_path / "a"], "capture")
    assert batch.array.tobytes() == made.tobytes()
    assert [file.name for file in batch.files] == ["b", "a"]
    with pytest.raises(FileOrder) as caught:
        read_events([tmp_path / "a", tmp_path / "b"], "capture")
    assert caught.value.right == (str(tmp_path / "b"), str(tmp_path / "a"))


def test_instruments_given_must_agree_with_the_capture(events: Array, tmp_path: Path) -> None:
    path = write(tmp_path, events)
    slow = replace(INSTRUMENTS[0], stale_ms=5_000)
    assert read_events(path, "capture", instruments=slow).instruments == (slow, INSTRUMENTS[1])
    with pytest.raises(InstrumentMismatch) as caught:
        read_events(path, "capture", instruments=replace(INSTRUMENTS[0], price_exponent=3))
    assert (caught.value.declared, caught.value.found) == (3, 2)
