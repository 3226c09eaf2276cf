"""Recordings: what is written can be read again, whatever happens in between."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane.clock import ManualClock
from featureplane.errors import FeatureSetMismatch, SettingError, UnreadableFile
from featureplane.features.frame import FrameLayout
from featureplane.market.instruments import load_instruments
from featureplane.services.recorder import Recorder
from featureplane.services.recording import (
    START,
    files_of,
    frame_files,
    raw_files,
    read_about,
    read_any_frames,
    read_frames,
    reconnect_line,
)
from featureplane.services.replay_source import ReplaySource, parse_replay, raw_lines
from tests.binance_lines import LOCAL, line, trade
from tests.services import INSTRUMENTS, SOURCE, SYMBOL, V1, Frames, Lines, sample_lines, service
from tests.versions import FASTER, Both, play

ETH = load_instruments(INSTRUMENTS)
LAYOUT = FrameLayout.of(V1, {one.symbol_id: one.symbol for one in ETH})
V2 = fp.feature_set("lob_shared_v2")


def recorder(folder: Path, **how: Any) -> Recorder:
    return Recorder(folder, SOURCE, ETH, V1, **how)


def frames_of(folder: Path) -> list[bytes]:
    return [frame.pack() for frame in read_frames(frame_files(folder), LAYOUT)]


def test_a_recording_played_back_gives_the_same_frames_byte_for_byte(tmp_path: Path) -> None:
    lines, seen = sample_lines(5000), Frames()
    lines.insert(1500, b"what")
    service(subscribers=[recorder(tmp_path / "one"), seen]).run(Lines(lines))
    assert list(raw_lines(raw_files(tmp_path / "one"))) == lines
    assert frames_of(tmp_path / "one") == seen.packed
    paths, _ = parse_replay(f"replay:{tmp_path / 'one'}")
    again = Frames()
    service(subscribers=[recorder(tmp_path / "two"), again]).run(ReplaySource(paths, None, [SYMBOL]))
    assert again.packed == seen.packed
    assert frames_of(tmp_path / "two") == seen.packed
    assert len(seen.packed) > 300


def test_frames_of_a_candidate_stand_in_files_of_their_own(tmp_path: Path) -> None:
    """Those of the active set stand behind each other, whichever set that is."""
    seen = Both()
    running = service(subscribers=[recorder(tmp_path), seen])
    steps: dict[int, Any] = {
        1_000: lambda: running.rollout.begin_candidate(FASTER),
        2_500: running.rollout.promote,
        4_000: lambda: running.rollout.activate(V1),
    }
    play(running, [(line, None, None) for line in sample_lines(5_000)], steps)
    layouts = [FrameLayout.of(one, LAYOUT.symbols) for one in (V1, FASTER)]
    recorded = [frame.pack() for frame in read_any_frames(frame_files(tmp_path), layouts)]
    beside = [frame.pack() for frame in read_any_frames(files_of(tmp_path, "candidate"), layouts)]
    assert recorded == seen.packed
    assert beside == seen.candidates
    assert min(len(recorded), len(beside)) > 50
    with pytest.raises(FeatureSetMismatch):
        list(read_any_frames(files_of(tmp_path, "candidate"), layouts[:1]))
    assert list(raw_lines(raw_files(tmp_path))) == sample_lines(5_000)


def test_featureplane_reads_it_as_any_other_recording(tmp_path: Path) -> None:
    seen = Frames()
    service(subscribers=[recorder(tmp_path), seen]).run(Lines(sample_lines(5000)))
    events = fp.read_events(raw_files(tmp_path), SOURCE, instruments=tmp_path / "instruments.toml")
    assert [frame.pack() for frame in fp.FeatureEngine(V1).replay(events)] == seen.packed
    about = read_about(tmp_path)
    assert about == {"source": SOURCE, "feature_set": "lob_shared_v1", "fingerprint": V1.fingerprint}


def test_a_reconnect_stands_where_it_was(tmp_path: Path) -> None:
    lines, seen = sample_lines(3000), Frames()
    running = service(subscribers=[recorder(tmp_path), seen])
    for text in lines[:1500]:
        running.take(text)
    running.reconnect(SYMBOL, "queue")
    running.run(Lines(lines[1500:]))
    again = Frames()
    played = service(subscribers=[again])
    played.run(ReplaySource(raw_files(tmp_path), None, [SYMBOL]))
    assert again.packed == seen.packed
    assert again.reconnects == [(SYMBOL, "queue")]
    assert played.reconnects == running.reconnects == 1


def test_files_end_when_they_are_large_and_with_the_day(tmp_path: Path) -> None:
    one = recorder(tmp_path, bytes_max=100_000)
    day = 86_400_000_000_000
    midnight = LOCAL // day * day + day
    texts = [line(trade(), LOCAL)[:-1]] * 2000
    texts += [line(trade(), midnight - 1)[:-1], line(trade(), midnight)[:-1], line(trade(), LOCAL)[:-1]]
    for text in texts:
        one.on_message(text, None, None)
    one.finish()
    files = raw_files(tmp_path)
    assert [path.name[:12] for path in files] == ["raw-20240808"] * (len(files) - 1) + ["raw-20240809"]
    sizes = [path.stat().st_size for path in files]
    assert len(sizes) == 4
    assert all(100_000 <= size <= 100_000 + (1 << 16) + 300 for size in sizes[:2])
    assert list(raw_lines(files)) == texts, "days do not go back"


def test_a_message_received_with_its_time_and_symbol_becomes_one_line_of_both(tmp_path: Path) -> None:
    one = recorder(tmp_path)
    one.on_message(b'{"lastUpdateId":\r\n 5}\n', LOCAL, SYMBOL)
    one.on_message(b"{}", LOCAL + 1, SYMBOL)
    one.on_message(b"what\nnow", LOCAL + 2, None)
    one.finish()
    assert raw_files(tmp_path)[0].read_bytes().splitlines() == [
        b'%d {"symbol":"ETHUSDT","lastUpdateId":   5}' % LOCAL,
        b"%d {}" % (LOCAL + 1),
        b"%d what now" % (LOCAL + 2),
    ]


def test_a_torn_end_is_left_out_and_another_file_goes_on(tmp_path: Path) -> None:
    lines, seen = sample_lines(3000), Frames()
    service(subscribers=[recorder(tmp_path), seen]).run(Lines(lines[:2000]))
    for path in (raw_files(tmp_path)[0], frame_files(tmp_path)[0]):
        path.write_bytes(path.read_bytes()[:-5])
    assert list(raw_lines(raw_files(tmp_path))) == lines[:1999]
    assert frames_of(tmp_path) == seen.packed[:-1]
    one = recorder(tmp_path)
    for text in lines[2000:]:
        one.on_message(text, None, None)
    one.finish()
    assert len(raw_files(tmp_path)) == 2
    start = reconnect_line(int(lines[2000].split()[0]), None, START)
    assert list(raw_lines(raw_files(tmp_path))) == [*lines[:1999], start, *lines[2000:]]


def test_everything_is_with_the_system_after_a_second(tmp_path: Path) -> None:
    clock = ManualClock()
    one = recorder(tmp_path, clock=clock)
    one.on_message(line(trade()), None, None)
    assert raw_files(tmp_path) == []
    clock.move(1_000_000_000)
    one.on_message(line(trade()), None, None)
    assert len(list(raw_lines(raw_files(tmp_path)))) == 2


def test_a_full_disk_ends_the_recording_with_whole_lines_and_the_service_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room, write = 100_000, os.write

    def full(file: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(file, data[: min(room, len(data))])
        room -= written
        return written

    monkeypatch.setattr(os, "write", full)
    lines, seen = sample_lines(5000), Frames()
    one = recorder(tmp_path)
    running = service(subscribers=[one, seen])
    running.run(Lines(lines))
    monkeypatch.undo()
    assert running.messages == 5000
    assert len(seen.packed) > 300
    kept = list(raw_lines(raw_files(tmp_path)))
    assert kept == lines[: len(kept)]
    assert len(kept) > 10
    assert all(path.read_bytes().endswith(b"\n") for path in raw_files(tmp_path) if path.stat().st_size)
    assert frames_of(tmp_path) == seen.packed[: len(frames_of(tmp_path))]
    assert one.has_failed
    assert running.telemetry.picture["subscriber_stopped_total"]["recorder",] == 1
    (said,) = [one for one in caplog.records if one.message == "the recording ends here, the service goes on"]
    assert said.__dict__["fields"]["error"] == os.strerror(errno.ENOSPC)


@pytest.mark.parametrize("what", ["source", "feature_set", "instruments", "no recording", "no folder"])
def test_a_folder_that_cannot_take_it_is_refused(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "there"
    if what in {"source", "feature_set", "instruments"}:
        recorder(folder).finish()
        recorder(folder).finish()
    else:
        (folder if what == "no recording" else tmp_path).mkdir(exist_ok=True)
        (folder / "a" if what == "no recording" else folder).write_text("x", encoding="utf-8")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    eth = fp.Instrument(venue=SOURCE, symbol=SYMBOL, price_exponent=3, qty_exponent=4)
    source = "binance-usdm" if what == "source" else SOURCE
    fset = V2 if what == "feature_set" else V1
    with pytest.raises(SettingError, match="--record"):
        Recorder(folder, source, [eth] if what == "instruments" else ETH, fset)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_what_is_no_recording_cannot_be_read(tmp_path: Path) -> None:
    for text in ("", "[]"):
        (tmp_path / "recording.json").write_text(text, encoding="utf-8")
        with pytest.raises(UnreadableFile):
            read_about(tmp_path)
    recording = tmp_path / "frames-1.bin"
    recording.write_bytes(next(iter(fp.FeatureEngine(V2).replay(fp.sample_events()))).pack())
    with pytest.raises(FeatureSetMismatch):
        list(read_frames([recording], LAYOUT))
    with pytest.raises(UnreadableFile):
        list(read_frames([tmp_path / "frames-2.bin"], LAYOUT))
