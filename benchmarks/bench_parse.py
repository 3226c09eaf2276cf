"""From the venue's text to events: JSON lines already unpacked, and the recording as it lies on disk.

hftbacktest's converter is timed on the packed file; for the first job the time of unpacking it the way
the converter does, line by line, is taken off.
"""

from __future__ import annotations

import gzip
import statistics
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

import featureplane as fp
from benchmarks.harness import Contestant, Goal, Job, Sample, timed
from benchmarks.peers import Peers
from benchmarks.recording import Recording
from featureplane import native

__all__ = ["jobs"]

_LINE_BYTES_MAX = 1 << 24
_CHUNK_BYTES = 1 << 20


def _from_memory(recording: Recording, text: bytes) -> Callable[[], npt.NDArray[np.uint64]]:
    instrument = recording.events.instrument
    chunks = [text[at : at + _CHUNK_BYTES] for at in range(0, len(text), _CHUNK_BYTES)]
    reader_class = native.module().BinanceReader

    def parse() -> npt.NDArray[np.uint64]:
        reader = reader_class(
            instrument.symbol,
            instrument.symbol_id,
            instrument.price_exponent,
            instrument.qty_exponent,
            recording.source != "binance-spot",
            False,  # noqa: FBT003 - drop_malformed; the reader takes no names
            _LINE_BYTES_MAX,
        )
        reader.begin("memory")
        for chunk in chunks:
            place = 0
            while place < len(chunk):
                place = reader.feed(chunk, place, (1 << 63) - 1)
        reader.end()
        events: npt.NDArray[np.uint64] = reader.take()
        return events

    return parse


def _without_unpacking(peers: Peers) -> Contestant:
    worker = peers.hftbacktest
    assert worker is not None

    def run(runs: int) -> Sample:
        convert, unpack = worker.ask("convert", runs), worker.ask("unpack", runs)
        off = statistics.median(unpack["seconds"])
        return Sample(tuple(seconds - off for seconds in convert["seconds"]), convert["units"])

    return Contestant("hftbacktest", run, equal=False)


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """Needs the recording's file and the extension."""
    if recording.path is None or not native.available():
        return ()
    text = gzip.decompress(recording.path.read_bytes())
    ours = timed(_from_memory(recording, text), recording.rows)
    path, instrument = recording.path, recording.events.instrument
    whole = timed(
        lambda: fp.read_events(path, source=recording.source, instruments=instrument), recording.rows
    )
    peer = (_without_unpacking(peers),) if peers.hftbacktest else ()
    return (
        Job(
            "json",
            "Unpacked JSON lines in memory to events",
            "ns/row",
            (*peer, Contestant("featureplane", ours, equal=False)),
            baseline="hftbacktest",
            goals=(Goal("featureplane", 1 / 20, "hftbacktest"),),
            absent=peers.missing("hftbacktest"),
            note="Ours keeps best quotes as events too; the converter parses their JSON and drops them.",
        ),
        Job(
            "recording",
            "The recording on disk, gzip, to events",
            "ns/row",
            (
                *peers.contestants(("hftbacktest", "hftbacktest", "convert", False)),
                Contestant("featureplane", whole, equal=False),
            ),
            baseline="hftbacktest",
            goals=(Goal("featureplane", 1 / 8, "hftbacktest"),),
            absent=peers.missing("hftbacktest"),
        ),
    )
