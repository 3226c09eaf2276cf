"""Recordings again and again in one file, an hour of a feed, with what happens to lines on their way."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from featureplane.services.raw_queue import Reconnect
from featureplane.services.recording import reconnect_line
from featureplane.units import NANOS_PER_MS, NANOS_PER_SECOND
from tests.binance_render import Way

_SNAPSHOT_NS = 5 * NANOS_PER_SECOND
"""A service that lost its book asks for another; here one comes so often."""

_LEVELS = 1_000
_TIMES = re.compile(rb'("[ET]":)(\d{13})\b')


@dataclass(frozen=True, slots=True)
class Feed:
    """A file of messages, and what was done to them."""

    path: Path
    seconds: float
    messages: int
    did: Counter[str]


def recorded_feed(recordings: Sequence[Path], symbol: str, seconds: float, out: Path, seed: int = 1) -> Feed:
    """So many seconds of spot recordings that continue each other, repeated with later times, with faults.

    Each repetition comes over another connection: its ids begin where they began. Lines are dropped,
    doubled, swapped, corrupted, and connections begin anew (`Way`).
    """
    lines = list(with_snapshots(recordings))
    begins_ns = lines[0][0]
    step_ns = (lines[-1][0] - begins_ns) // NANOS_PER_MS * NANOS_PER_MS + NANOS_PER_SECOND
    way = Way(seed, [symbol])
    stop_ns = begins_ns + int(seconds * NANOS_PER_SECOND)
    last_ns, count = begins_ns, 0
    with out.open("wb") as file:
        for item in way.items(_repeated(lines, step_ns, stop_ns)):
            if isinstance(item, Reconnect):
                line = reconnect_line(last_ns, item.symbol, item.reason)
            else:
                line, count = item[0], count + 1
                last_ns = int(line[:19]) if line[:19].isdigit() and len(line) > 19 else last_ns
            file.write(line + b"\n")
    return Feed(out, (last_ns - begins_ns) / NANOS_PER_SECOND, count, way.did)


def _repeated(lines: list[tuple[int, bytes]], step_ns: int, stop_ns: int) -> Iterator[bytes]:
    shift_ns = 0
    while True:
        shift_ms = shift_ns // NANOS_PER_MS

        def later(found: re.Match[bytes], by: int = shift_ms) -> bytes:
            return found[1] + b"%d" % (int(found[2]) + by)

        if shift_ns:
            yield reconnect_line(lines[0][0] + shift_ns, None, "feed")
        for ns, text in lines:
            if ns + shift_ns >= stop_ns:
                return
            yield b"%d %s" % (ns + shift_ns, _TIMES.sub(later, text))
        shift_ns += step_ns


def with_snapshots(recordings: Sequence[Path]) -> Iterator[tuple[int, bytes]]:
    """Lines and their times, and the book as a snapshot every few seconds."""
    sides: dict[str, dict[str, str]] = {"b": {}, "a": {}}
    due_ns = 0
    for path in recordings:
        with gzip.open(path) as file:
            for line in file.read().splitlines():
                ns, text = int(line[:19]), line[20:]
                yield ns, text
                if b'"lastUpdateId"' in text:
                    said = json.loads(text)
                    sides = {"b": dict(said["bids"]), "a": dict(said["asks"])}
                    due_ns = ns + _SNAPSHOT_NS
                elif due_ns and b'"depthUpdate"' in text:
                    said = json.loads(text)["data"]
                    _apply(sides, said)
                    if ns >= due_ns:
                        due_ns = ns + _SNAPSHOT_NS
                        yield ns, _snapshot(said["s"], said["u"], sides)


def _apply(sides: dict[str, dict[str, str]], said: dict[str, list[list[str]]]) -> None:
    for name, levels in sides.items():
        for price, qty in said[name]:
            if float(qty):
                levels[price] = qty
            else:
                levels.pop(price, None)


def _snapshot(symbol: str, last: int, sides: dict[str, dict[str, str]]) -> bytes:
    bids = sorted(sides["b"].items(), key=lambda level: -float(level[0]))[:_LEVELS]
    asks = sorted(sides["a"].items(), key=lambda level: float(level[0]))[:_LEVELS]
    # WHY the symbol: behind a corrupt line that names another one, an answer that names none is nobody's.
    said = {"symbol": symbol, "lastUpdateId": last, "bids": bids, "asks": asks}
    return json.dumps(said, separators=(",", ":")).encode()
