"""What a strategy pays: for one feature it reads, and for the features it decides by.

`pull`: a million reads in a loop, the empty loop taken off. `forms`: the examples' handlers over the
recording, with the decision left out, timed one by one, the clock's own cost taken off: computing the
features of a book in Python against reading them. What the engine takes is the job `streaming`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import featureplane as fp
from benchmarks.harness import Contestant, Goal, Job, Sample, now
from benchmarks.peers import Peers
from benchmarks.recording import Recording
from featureplane import native
from featureplane.features.latest import LatestFrames
from featureplane.strategy.compatibility import Forms
from featureplane.strategy.examples import market_maker, ofi_taker
from featureplane.strategy.runner import StrategyRunner

__all__ = ["jobs"]

_READS: Final = 1_000_000
_EMPTY_RUNS: Final = 5
_NAME: Final = "ofi_l1_raw"
_NANOS: Final = 1_000_000_000
_EXAMPLES: Final[dict[str, Forms]] = {"maker": market_maker.FORMS, "taker": ofi_taker.FORMS}

Loop = Callable[[range], None]


class _Context:
    """Where a strategy finds `get_feature`."""

    __slots__ = ("get_feature",)

    def __init__(self, latest: LatestFrames) -> None:
        self.get_feature = latest.get_feature


def _latest(recording: Recording) -> tuple[LatestFrames, str]:
    """The last frames behind the recording's first messages, all values warm."""
    events = recording.events
    fset = fp.feature_set("lob_shared_v1")
    engine, latest = fp.FeatureEngine(fset), LatestFrames(fset, events.instruments, "rust")
    engine.follow(latest)
    symbol = latest.symbols[0]
    start = 0
    for stop in events.message_ends.tolist():
        engine.push(events, start, stop)
        start = stop
        if latest.get_feature(symbol, "ofi_l1_ema8", default=None) is not None:
            break
    return latest, symbol


def _loops(recording: Recording) -> dict[str, Loop]:
    """Loops whose body is one read."""
    latest, symbol = _latest(recording)
    ctx, handle, values = _Context(latest), latest.handle(symbol, _NAME), latest.frame(symbol)
    ready = {name: values[name] for name in values.feature_ids}

    def by_name(reads: range) -> None:
        for _ in reads:
            ctx.get_feature(symbol, "ofi_l1_raw")

    def called(reads: range) -> None:
        for _ in reads:
            handle()

    def value(reads: range) -> None:
        for _ in reads:
            handle.value  # noqa: B018 - the read is the work

    def dictionary(reads: range) -> None:
        for _ in reads:
            ready["ofi_l1_raw"]

    return {
        "by name": by_name,
        "by handle, called": called,
        "by handle, value": value,
        "a dict, nothing checked": dictionary,
    }


def _empty(reads: range) -> None:
    for _ in reads:
        pass


def _pull(loops: Callable[[], dict[str, Loop]], name: str, reads: range, runs: int) -> Sample:
    loop = loops()[name]
    # WHY the least of several: an interruption while nothing is done would make reads free.
    empty = min(_time_of(_empty, reads) for _ in range(_EMPTY_RUNS))
    return Sample(tuple(_time_of(loop, reads) - empty for _ in range(runs)), len(reads))


def _time_of(loop: Loop, reads: range) -> float:
    began = now()
    loop(reads)
    return now() - began


def _handler_times(recording: Recording, forms: Forms, form: str) -> npt.NDArray[np.int64]:
    """Nanoseconds of every call of a form's handler, without its decision."""
    made: Any = forms.make(form)
    made.decide = _nothing
    events = recording.events
    engine = fp.FeatureEngine(fp.feature_set("lob_shared_v1")) if form == "shared" else None
    times: list[int] = []
    name = "on_bid_ask" if form == "legacy" else "on_features"
    handler, clock = getattr(made, name), time.perf_counter_ns

    def timed(_self: Any, event: Any) -> None:
        began = clock()
        handler(event)
        times.append(clock() - began)

    made.__class__ = type("Timed", (type(made),), {name: timed})  # called as what is overridden
    StrategyRunner([made], events.instruments, engine=engine, stream=events.options).run(events)
    return np.array(times, np.int64) - _clock_cost()


def _nothing(*_: object) -> None:
    """The decision, left out."""


def _clock_cost() -> int:
    """What two readings of the clock see of themselves."""
    clock = time.perf_counter_ns
    return int(np.median([-(clock() - clock()) for _ in range(1_000)]))


def _forms(recording: Recording, forms: Forms, form: str, of: Callable[..., Any], runs: int) -> Sample:
    return Sample(tuple(float(of(_handler_times(recording, forms, form))) / _NANOS for _ in range(runs)), 1)


def _forms_job(recording: Recording) -> Job:
    figures: dict[str, Callable[..., Any]] = {"mean": np.mean, "p99": partial(np.percentile, q=99)}
    contestants = tuple(
        Contestant(f"{name}, {form}, {word}", partial(_forms, recording, forms, form, of), equal=False)
        for name, forms in _EXAMPLES.items()
        for word, of in figures.items()
        for form in ("legacy", "shared")
    )
    goals = tuple(
        Goal(f"{name}, shared, {word}", 1 / 3, f"{name}, legacy, {word}")
        for name in _EXAMPLES
        for word in figures
    )
    return Job(
        "forms",
        "Features a strategy decides by: computed in its handler, or read there",
        "ns/book message",
        contestants,
        baseline="maker, legacy, mean",
        goals=goals,
        note="the decision is left out, it is the same; the engine's own time is the job `streaming`",
    )


def jobs(recording: Recording, peers: Peers) -> Sequence[Job]:
    """Needs the extension."""
    del peers
    if not native.available():
        return ()
    reads = range(min(_READS, 10 * recording.events.messages))
    loops = partial(_loops, recording)
    names = ("by name", "by handle, called", "by handle, value", "a dict, nothing checked")
    pull = Job(
        "pull",
        "One feature read in a strategy, readiness checked",
        "ns/read",
        tuple(Contestant(name, partial(_pull, loops, name, reads), equal=False) for name in names),
        baseline="by name",
        goals=(
            Goal("by name", 60.0),
            Goal("by handle, called", 30.0),
            Goal("by handle, value", 30.0),
        ),
        note=f"{len(reads):,} reads a run, the empty loop taken off",
    )
    return pull, _forms_job(recording)
