"""Recordings as a feed: which files, which lines, when."""

from __future__ import annotations

import gzip
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from featureplane.clock import ManualClock
from featureplane.errors import FeaturePlaneError, FileOrder, SettingError, UnreadableFile
from featureplane.services.raw_queue import RawQueue, Reconnect
from featureplane.services.recording import INSTRUMENTS, reconnect_line, reconnected
from featureplane.services.replay_source import ReplaySource, parse_replay, raw_lines, recorded_instruments
from tests.binance_lines import LOCAL, line, trade
from tests.services import SAMPLE, sample_lines


def test_paths_and_speed(tmp_path: Path) -> None:
    one, two, odd = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c@2"
    for path in (one, two, odd):
        path.write_bytes(b"")
    assert parse_replay(f"replay:{one}") == ((one,), None)
    assert parse_replay(f"replay:{one},{two}@2.5") == ((one, two), 2.5)
    assert parse_replay(f"replay:{odd}") == ((odd,), None), "a file that is called so"
    assert parse_replay(f"replay:{odd}@3") == ((odd,), 3.0)


def test_a_recording_alone_says_what_its_instruments_are(tmp_path: Path) -> None:
    (tmp_path / INSTRUMENTS).write_bytes(b"")
    other = tmp_path / "a.txt"
    other.write_bytes(b"")
    for speed in ("", "@2"):
        assert recorded_instruments(f"replay:{tmp_path}{speed}") == tmp_path / INSTRUMENTS
        assert recorded_instruments(f"replay:{other}{speed}") is None
        assert recorded_instruments(f"replay:{tmp_path},{other}{speed}") is None


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("live:binance", SettingError, "source: found 'live:binance', expected"),
        ("replay:", SettingError, "source: found 'replay:', expected"),
        ("replay:nowhere.gz", UnreadableFile, "nowhere.gz: found nothing"),
        ("replay:nowhere.gz@fast", SettingError, "speed @fast"),
        ("replay:nowhere.gz@0", SettingError, "speed @0"),
        ("replay:nowhere.gz@-1", SettingError, "speed @-1"),
        ("replay:nowhere.gz@nan", SettingError, "speed @nan"),
        ("replay:src", UnreadableFile, "src: found a folder"),
    ],
)
def test_what_is_no_recording_is_refused(text: str, error: type[FeaturePlaneError], said: str) -> None:
    with pytest.raises(error, match=said):
        parse_replay(text)


def test_lines_of_plain_and_packed_files_are_the_same(tmp_path: Path) -> None:
    lines = sample_lines()
    plain = tmp_path / "plain.txt"
    plain.write_bytes(b"\r\n\n".join(lines))
    assert list(raw_lines([plain])) == lines
    later = tmp_path / "later.txt"
    later.write_bytes(lines[-1])
    assert list(raw_lines([SAMPLE, later])) == [*lines, lines[-1]]


def test_files_that_do_not_continue_each_other_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c.txt"]
    for path, times in zip(paths, ((0, 5), (5, 9), (7, 8)), strict=True):
        path.write_bytes(b"".join(line(trade(), LOCAL + at) for at in times))
    assert len(list(raw_lines(paths[:2]))) == 4
    with pytest.raises(FileOrder) as caught:
        next(raw_lines(paths[1::-1]))
    assert caught.value.right == tuple(str(path) for path in paths[:2])
    lines = raw_lines(paths)
    with pytest.raises(FileOrder, match="a file begins before the one before it ended"):
        list(lines)


def test_a_line_cut_off_by_the_end_of_its_file_is_left_out(tmp_path: Path) -> None:
    whole = line(trade())
    for cut in range(1, len(whole)):
        path, behind = tmp_path / "cut.txt", tmp_path / "behind.gz"
        path.write_bytes(whole + whole[:cut])
        behind.write_bytes(gzip.compress(whole))
        expected = 2 if cut < len(whole) - 1 else 3  # then its line feed alone is missing
        assert list(raw_lines([path, behind])) == [whole[:-1]] * expected


def test_messages_come_when_they_came_so_many_times_as_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "paced.txt"
    times = [LOCAL, LOCAL + 1_000_000_000, LOCAL + 1_000_000_000, LOCAL + 500_000_000, LOCAL + 3_000_000_000]
    path.write_bytes(b"".join(line(trade(), at) for at in times))
    clock, queue = ManualClock(), RawQueue()
    source = ReplaySource([path], 4.0, ["BTCUSDT"], clock)
    came: list[int] = []
    monkeypatch.setattr(queue, "put", lambda *_item: came.append(clock.monotonic_ns()))
    source.run(queue)
    assert came == [0, 250_000_000, 250_000_000, 250_000_000, 750_000_000]
    assert not source.waits
    assert queue.is_ended


def test_a_paced_feed_stops_at_once(tmp_path: Path) -> None:
    path = tmp_path / "paced.txt"
    path.write_bytes(line(trade(), LOCAL) + line(trade(), LOCAL + 3_600_000_000_000))
    source, queue = ReplaySource([path], 1.0, ["BTCUSDT"]), RawQueue()
    source.stop()
    began = time.monotonic()
    source.run(queue)
    assert time.monotonic() - began < 30
    assert len(queue) <= 1


@pytest.mark.parametrize("symbol", ["BTCUSDT", None])
def test_a_reconnect_that_was_recorded_is_one_again(tmp_path: Path, symbol: str | None) -> None:
    path = tmp_path / "again.txt"
    said = reconnect_line(LOCAL, symbol, "queue")
    assert reconnected(said) == (symbol, "queue")
    path.write_bytes(line(trade()) + said + b"\n" + line(trade()))
    queue = RawQueue()
    ReplaySource([path], None, ["BTCUSDT"]).run(queue)
    items = [queue.take() for _ in range(3)]
    assert items[1] == Reconnect(symbol, "queue")
    assert list(ReplaySource([path], None, []).items()) == items
    assert items[0] == items[2] == (line(trade())[:-1], None, None)


@pytest.mark.parametrize(
    ("symbols", "expected"), [(["A", "BTCUSDT"], "BTCUSDT"), (["A", "B"], None), (["A"], "A")]
)
def test_whose_a_lost_message_was(symbols: Sequence[str], expected: str | None) -> None:
    assert ReplaySource([], None, symbols).whose(line(trade())) == expected
