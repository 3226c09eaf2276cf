"""Recordings as a feed: `replay:PATH[@SPEED]`.

Lines of Binance recordings, plain or gzip; several files, or a folder that `--record` wrote, are one stream.
At full speed the loop itself reads, so nothing is lost; with `@SPEED` messages come when they came,
so many times as fast, and what there is no room for is lost as it would be live. Leans on `market.sources`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from featureplane.clock import SYSTEM, Clock, ReplayClock
from featureplane.errors import SettingError, UnreadableFile
from featureplane.market.sources.binance import check_follows, first_times
from featureplane.market.sources.binance_plain import is_cut, local_time
from featureplane.market.sources.files import read_chunks
from featureplane.market.sources.text import Lines, Unpacker
from featureplane.services.raw_queue import Item, RawQueue, Reconnect
from featureplane.services.recording import (
    INSTRUMENTS,
    is_reconnect,
    is_recording,
    raw_files,
    read_beginnings,
    reconnected,
)

__all__ = ["ReplaySource", "parse_replay", "raw_lines", "recorded_instruments", "recorded_states", "starts"]

_SCHEME: Final = "replay:"
_UNREADABLE: Final = b"a line without end"
_NAME_BYTES: Final = 256
_SPEED_MAX: Final = 1e6


def parse_replay(text: str) -> tuple[tuple[Path, ...], float | None]:
    """Files and speed of `replay:PATH[,PATH...][@SPEED]`; a folder is the recording in it.

    Raises `SettingError` for another scheme or no speed, `UnreadableFile` for what is not there.
    """
    paths, speed = _named(text)
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            if not is_recording(path):
                raise UnreadableFile(str(path), "a folder", "a recording, or a folder that `--record` wrote")
            files += raw_files(path)
        elif not path.is_file():
            raise UnreadableFile(str(path), "nothing", "a recording")
        else:
            files.append(path)
    return tuple(files), speed


def recorded_instruments(text: str) -> Path | None:
    """What a folder that `--record` wrote says of its instruments, where it is all that is replayed.

    Found in the data again they could be others: a recording has a part of what they were found in.
    """
    paths, _ = _named(text)
    described = paths[0] / INSTRUMENTS
    return described if len(paths) == 1 and described.is_file() else None


def recorded_states(text: str) -> Mapping[str, bytes]:
    """The state of each symbol from which a folder goes on, where it is all that is replayed.

    Empty for one that begins with a stream. Raises `UnreadableFile`.
    """
    paths, _ = _named(text)
    folder = paths[0]
    if len(paths) != 1 or not is_recording(folder) or not (files := raw_files(folder)):
        return {}
    for here in read_beginnings(folder):
        if here.raw == (files[0].name, 0):
            return here.states
        if here.raw[0] >= files[0].name:  # WHY: they are in order, and many
            break
    return {}


def _named(text: str) -> tuple[list[Path], float | None]:
    """Files and folders, and the speed, as they are named."""
    if not text.startswith(_SCHEME):
        there = text != "" and Path(text.rpartition("@")[0] or text).exists()
        meant = f"did you mean {_SCHEME}{text}? " if there else ""
        hint = f"{meant}replay:PATH plays recordings, replay:PATH@1 as fast as they came"
        found = f"{text!r}" if text else "none"
        raise SettingError(f"source: found {found}, expected replay:PATH", hint=hint)
    where, at, factor = text.removeprefix(_SCHEME).rpartition("@")
    speed: float | None = None
    if not at or Path(text.removeprefix(_SCHEME)).exists():
        where = text.removeprefix(_SCHEME)
    else:
        speed = _speed(factor)
    paths = [Path(part) for part in where.split(",") if part]
    if not paths:
        raise SettingError(
            f"source: found {text!r}, expected replay:PATH", hint="name a recording behind `replay:`"
        )
    return paths, speed


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= _SPEED_MAX:
        raise SettingError(f"speed @{text}", hint="a number above 0; without @ as fast as possible")
    return speed


def starts(paths: Sequence[Path]) -> list[int | None]:
    """First local time of each file; None where it does not say, or where order needs no proof.

    The files of one recording continue each other in the order of their names, whatever became of the clock
    meanwhile. Raises `FileOrder` for others unless they rise.
    """
    folders = {path.parent for path in paths}
    recorded = raw_files(folders.pop()) if len(folders) == 1 and is_recording(min(folders)) else []
    one_recording = set(paths) <= set(recorded) and list(paths) == sorted(paths)
    return [None] * len(paths) if one_recording else first_times(paths)


def raw_lines(paths: Sequence[Path]) -> Iterator[bytes]:
    """The lines of recordings, in order, without those that are empty or cut off by the end of a file.

    Raises `UnreadableFile` and `FileOrder`, as reading events from them does.
    """
    last = b""
    for path, start in zip(paths, starts(paths), strict=True):
        ended = local_time(last)
        check_follows(paths, start, ended[0] if ended else 0)
        for line in _lines_of(path):
            yield line
            last = line


def _lines_of(path: Path) -> Iterator[bytes]:
    unpacker, lines = Unpacker(), Lines()
    unpacker.begin(str(path))
    for chunk in read_chunks(path):
        place = 0
        while place < len(chunk):
            piece, used = unpacker.step(chunk[place:] if place else chunk)
            place += used
            for line in lines.feed(piece):
                if line.text != b"":
                    yield _UNREADABLE if line.text is None else line.text
    for line in (*lines.feed(unpacker.finish()), *lines.finish()):
        if line.text and not (line.tail and is_cut(line.text)):
            yield line.text


class ReplaySource:
    """The messages of recordings; `symbols` are those looked for where one is lost."""

    def __init__(
        self, paths: Sequence[Path], speed: float | None, symbols: Sequence[str], clock: Clock = SYSTEM
    ) -> None:
        self.paths, self.speed = tuple(paths), speed
        self._quoted = [(f'"{symbol}"'.encode(), symbol) for symbol in symbols]
        self._clock = clock
        self._stopped = threading.Event()

    @property
    def waits(self) -> bool:
        """Whether the next message waits until it is asked for: then nothing is lost."""
        return self.speed is None

    def items(self) -> Iterator[Item]:
        """Messages and reconnects, in order; with a speed each when it is due."""
        for line in raw_lines(self.paths) if self.speed is None else self._paced(self.speed):
            if is_reconnect(line):
                yield Reconnect(*reconnected(line))
            else:
                yield line, None, None

    def run(self, queue: RawQueue) -> None:
        """Put everything, then the end; in a thread of its own."""
        try:
            for item in self.items():
                if self._stopped.is_set():
                    break
                if isinstance(item, Reconnect):
                    queue.reconnect(item.symbol, item.reason)
                else:
                    queue.put(*item)
        except Exception as error:  # noqa: BLE001 - said by whoever takes the messages
            queue.end(error)
        else:
            queue.end()

    def stop(self) -> None:
        """Put nothing more, from any thread."""
        self._stopped.set()

    def _paced(self, speed: float) -> Iterator[bytes]:
        """The lines, each when it is due."""
        clock: ReplayClock | None = None
        for line in raw_lines(self.paths):
            read = local_time(line)
            if read is not None:
                if clock is None:
                    clock = ReplayClock(read[0], speed, self._clock)
                ahead = read[0] - clock.wall_ns()
                if ahead > 0 and clock.wait(ahead, self._stopped):
                    return
            yield line

    def whose(self, line: bytes) -> str | None:
        """The symbol a message is of; None where it does not say so at its beginning."""
        if len(self._quoted) == 1:
            return self._quoted[0][1]
        start = line[:_NAME_BYTES]
        return next((symbol for quoted, symbol in self._quoted if quoted in start), None)
