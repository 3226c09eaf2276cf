"""From recorded files to batches of events: the one door for every source.

    files -> find_source(name).read -> EventBatch

Leans on `market.sources`. Computes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from featureplane import native
from featureplane.arguments import as_paths, whole_number
from featureplane.errors import EmptyStream, SettingError, UnreadableFile
from featureplane.market.events import EventBatch, StreamOptions
from featureplane.market.instruments import Instrument, check_ids, load_instruments
from featureplane.market.sources import Request, find_source
from featureplane.whole_file import is_text

__all__ = ["EventsPaths", "InstrumentsLike", "iter_events", "read_events", "request_for"]

EventsPaths: TypeAlias = (
    str | os.PathLike[str] | npt.NDArray[Any] | Iterable[str | os.PathLike[str] | npt.NDArray[Any]]
)
"""One file or several that continue each other; arrays where the source takes them."""

InstrumentsLike: TypeAlias = str | os.PathLike[str] | Instrument | Iterable[Instrument]
"""An instruments file, or instruments."""


def read_events(
    paths: EventsPaths,
    source: str,
    symbol: str | None = None,
    instruments: InstrumentsLike | None = None,
    *,
    on_gap: str = "wait",
    on_malformed: str = "raise",
    seed: str = "snapshot",
    seed_after: int | None = None,
    on_mismatch: str = "raise",
    backend: str = "auto",
) -> EventBatch:
    """Read recorded files into one batch of events, in order of arrival.

    Several files are one stream, in the order given; a hole between them shows as a gap of ids.
    `symbol` may be left out where the stream, or `instruments`, has exactly one. Without
    `instruments` a first pass over all files finds exponents, tick and lot: the batch's instrument
    then says `inferred`. `backend` chooses the reader (`auto`, `rust`, `python`); both give the
    same bytes, errors and counts. The options from `on_gap` to `seed_after` ride on the batch to
    whoever computes with it; `on_mismatch` is LOBSTER's (rule 3.11).

    Raises
    ------
    UnreadableFile
        A file that is missing, cut short or damaged.
    MalformedEvent
        With file and line, unless `on_malformed="drop"`.
    FileOrder
        A file begins before the one before it ended; `right` is the order by time.
    UnknownSymbol
        The symbol is not in the stream (or not among `instruments`); `known` are those that are.
    EmptyStream
        Not one event was found.

    See Also
    --------
    iter_events : the same in batches of bounded size
    """
    options = StreamOptions(on_gap, on_malformed, seed, seed_after, on_mismatch)
    request = request_for(paths, source, symbol, instruments, options=options, backend=backend)
    batch = next(iter(find_source(source).read(request)))
    if not len(batch):
        raise _empty(source, dict(batch.dropped))
    return batch


def iter_events(
    paths: EventsPaths,
    source: str,
    symbol: str | None = None,
    instruments: InstrumentsLike | None = None,
    *,
    on_gap: str = "wait",
    on_malformed: str = "raise",
    seed: str = "snapshot",
    seed_after: int | None = None,
    on_mismatch: str = "raise",
    backend: str = "auto",
    events_max: int = 1 << 17,
) -> Iterator[EventBatch]:
    """Read recorded files as batches of about `events_max` events; memory stays bounded.

    Batches are cut between messages and hold the events of `read_events` in the same order. Their
    `dropped` concerns the part of the input they come from; the last batch may hold no
    event. Raises what `read_events` raises, errors of the data only when they are reached.
    """
    options = StreamOptions(on_gap, on_malformed, seed, seed_after, on_mismatch)
    whole_number("events_max", events_max, "a number of events above 0", least=1)
    request = request_for(
        paths, source, symbol, instruments, options=options, backend=backend, events_max=events_max
    )
    return _not_empty(source, find_source(source).read(request))


def _not_empty(source: str, batches: Iterator[EventBatch]) -> Iterator[EventBatch]:
    events, dropped = 0, dict[str, int]()
    for batch in batches:
        events += len(batch)
        for reason, count in batch.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        yield batch
    if not events:
        raise _empty(source, dropped)


def _empty(source: str, dropped: dict[str, int]) -> EmptyStream:
    counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    return EmptyStream(
        f"events of {source}", hint=f"the files held: {counts}" if counts else "is this the right source?"
    )


def request_for(
    paths: EventsPaths,
    source: str,
    symbol: str | None = None,
    instruments: InstrumentsLike | None = None,
    *,
    options: StreamOptions | None = None,
    backend: str = "auto",
    events_max: int | None = None,
) -> Request:
    """Arguments of a caller as a `Request`; raises `SettingError` for what cannot be meant."""
    given = as_paths("paths", paths, np.ndarray)
    inputs = tuple(item if isinstance(item, np.ndarray) else _path(item) for item in given)
    if not inputs:
        raise SettingError("no paths", hint="name at least one file")
    if not find_source(source).takes_arrays and any(isinstance(item, np.ndarray) for item in inputs):
        raise SettingError(f"{source} reads files, not arrays", hint="give paths")
    return Request(
        inputs=inputs,
        source=source,
        symbol=symbol,
        instruments=_instruments(instruments),
        options=options or StreamOptions(),
        backend=native.resolve(backend),
        events_max=events_max,
    )


def _path(given: str | os.PathLike[str]) -> Path:
    """A path that can be said in errors and in what is computed; `UnreadableFile` for one that is no text."""
    path = Path(given)
    if not is_text(path):
        found = f"the name {str(path).encode(errors='surrogateescape')!r}"
        raise UnreadableFile(
            path.name.encode(errors="replace").decode(), found, "a name in UTF-8", hint="rename it"
        )
    return path


def _instruments(given: InstrumentsLike | None) -> tuple[Instrument, ...] | None:
    if given is None:
        return None
    if isinstance(given, (str, os.PathLike)):
        return load_instruments(given)
    return check_ids((given,) if isinstance(given, Instrument) else given)
