"""The options of `featureplane run`, in groups; what is not given is None, and nothing is said about it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

__all__ = ["Feeding", "Trading", "Watching", "given"]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Feeding:
    """What messages are taken, and what is computed of them."""

    source: Annotated[
        str | None,
        Parameter(help="replay:PATH[,PATH...][@SPEED]: recordings, or a folder that --record wrote."),
    ] = None
    feed: Annotated[
        str | None, Parameter(help="The venue whose messages they are; the instruments, or they, tell.")
    ] = None
    symbol: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, help="Those that are wanted; may be left out where there is one."),
    ] = None
    instruments: Annotated[
        Path | None, Parameter(help="Instruments file; without one a first pass finds exponents.")
    ] = None
    queue: Annotated[int | None, Parameter(help="Messages there is room for before the pipeline.")] = None
    features: Annotated[
        str | None, Parameter(help="The id of a shipped set, or a .toml or .py file that holds one.")
    ] = None
    backend: Annotated[
        Literal["auto", "rust", "python"] | None, Parameter(help="Who computes; goes before the setting.")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Trading:
    """Who decides, and what becomes of orders."""

    strategy: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, help="[NAME=]module:Class, or file.py:Class with --allow-code."),
    ] = None
    venue: Annotated[str | None, Parameter(help="Where orders go: paper.")] = None
    fill: Annotated[
        Literal["touch", "queue", "through"] | None, Parameter(help="When paper fills a waiting order.")
    ] = None
    latency_us: Annotated[
        int | None, Parameter(help="Microseconds an order takes to the venue, and its answer back.")
    ] = None
    maker_bps: Annotated[str | None, Parameter(help="Fee of a waiting order in basis points.")] = None
    taker_bps: Annotated[str | None, Parameter(help="Fee of an order that takes.")] = None
    budget_us: Annotated[
        int | None, Parameter(help="Microseconds a handler may take; longer ones are counted and named.")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Watching:
    """What it says of itself, and what it leaves behind."""

    metrics: Annotated[
        str | None, Parameter(help="HOST:PORT for /metrics, /healthz and /readyz; needs the extra ops.")
    ] = None
    remote: Annotated[
        bool, Parameter(show_default=False, help="Let --metrics be reached from other machines.")
    ] = False
    control: Annotated[
        str | None, Parameter(help="The socket `featureplane strategy` speaks to, or off.")
    ] = None
    record: Annotated[
        Path | None, Parameter(help="A folder for every message and frame, the log, numbers and settings.")
    ] = None
    record_mb: Annotated[int | None, Parameter(help="Size behind which another file begins.")] = None
    record_keep_mb: Annotated[
        int | None, Parameter(help="Size of that folder behind which its oldest files go.")
    ] = None
    shadow_mode: Annotated[
        Literal["sample", "full"] | None,
        Parameter(
            help="What HFT_FEATURE_SHADOW_PARITY=1 hands over: samples with their state, or everything."
        ),
    ] = None
    log_json: Annotated[
        bool, Parameter(show_default=False, help="Log one JSON object a line, on standard error.")
    ] = False
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, Parameter(help="What is logged.")
    ] = None


def given(*groups: Feeding | Trading | Watching) -> dict[str, Any]:
    """What was given, by the names of a configuration; a switch that is off was not given."""
    values = {one.name: getattr(group, one.name) for group in groups for one in fields(group)}
    return {name: value for name, value in values.items() if value is not False}
