"""Readers of recorded markets, one module a source, and the table in which they are found.

To add a source, write a module here with a constant

    SOURCES: Final = {"my-source": Source(info, read, infer)}

and name the module in `_MODULES`. `read(request)` gives the stream in batches (`request.events_max`
None: in exactly one) and raises errors of the tree with file and line; `infer(request)` gives the
instruments that a first pass finds, or is None where the data say nothing about them. Each module
is imported when its source is asked for. `sources.files` has what readers of files share.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy.typing as npt

from featureplane.errors import SettingError
from featureplane.market.events import EventBatch, SourceInfo, StreamOptions
from featureplane.market.instruments import Instrument

__all__ = ["Request", "Source", "find_source", "source_names"]

_MODULES: Final = {
    "binance-spot": "binance",
    "binance-usdm": "binance",
    "binance-coinm": "binance",
    "capture": "capture",
    "hftbacktest": "hftbacktest",
    "lobster": "lobster",
    "synthetic": "synthetic",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One stream to be read: what `read_events` was asked for, checked and completed."""

    inputs: tuple[Path | npt.NDArray[Any], ...]  # arrays only where `Source.takes_arrays`
    source: str
    symbol: str | None  # None: the one that is there
    instruments: tuple[Instrument, ...] | None  # None: to be found in a first pass
    options: StreamOptions
    backend: Literal["rust", "python"]
    events_max: int | None  # a batch is cut at the first message end behind this; None: never


@dataclass(frozen=True, slots=True)
class Source:
    """How one source is read."""

    info: SourceInfo
    read: Callable[[Request], Iterator[EventBatch]]
    infer: Callable[[Request], tuple[Instrument, ...]] | None = None
    takes_arrays: bool = False
    takes_messages: bool = False  # one by one, as they come: `features.pipeline`


def source_names() -> tuple[str, ...]:
    """Every source that can be asked for, sorted."""
    return tuple(sorted(_MODULES))


def find_source(name: str) -> Source:
    """The source called `name`; raises `SettingError` naming those that are."""
    if name not in _MODULES:
        raise SettingError(f"source={name!r}", hint=f"choose one of {', '.join(source_names())}")
    module = importlib.import_module(f"featureplane.market.sources.{_MODULES[name]}")
    found: dict[str, Source] = module.SOURCES
    return found[name]
