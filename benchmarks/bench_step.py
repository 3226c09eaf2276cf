"""The whole step of a service: bytes of a message in, strategies called and orders sent when it returns.

`step`: what a runner, a strategy with orders and the paper venue take on top of the rows of `Pipeline.push`
alone, message by message. `maker` and `taker`: the examples in both forms, with all their orders, whose
decisions have to be the same; and without orders and venue, where the features are most of what differs. Best
quotes, which nobody reads here, do not count.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import featureplane as fp
from benchmarks.harness import Contestant, Goal, Job, Proof, Sample, checksum
from benchmarks.peers import Peers
from benchmarks.recording import Recording
from featureplane import native
from featureplane.execution.limits import RiskLimits
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.paper import PaperVenue
from featureplane.market.events import Kind
from featureplane.market.feed import MessageFeed
from featureplane.strategy.compatibility import Forms
from featureplane.strategy.desk import Decision
from featureplane.strategy.examples import market_maker, ofi_taker
from featureplane.strategy.runner import Listener, StrategyRunner

__all__ = ["jobs"]

_NANOS: Final = 1_000_000_000
_DIGITS_NS: Final = 19  # of a local time in nanoseconds; others are in microseconds
_SAMPLE: Final = Path(fp.__file__).parent / "sample" / "ethusdt_20240808.gz"
_EXAMPLES: Final[dict[str, Forms]] = {"maker": market_maker.FORMS, "taker": ofi_taker.FORMS}
_WIDE: Final = RiskLimits(
    order_qty_max="1000000",
    order_value_max="100000000",
    position_max="1000000",
    gross_value_max="1000000000",
    open_value_max="1000000000",
    orders_per_second_max=10_000,
    messages_per_second_max=10_000,
    repeated_execution_max=10_000,
    duplicate_order_ms=0,
    daily_loss_max="1000000000",
    drawdown_max="1000000000",
    loss_streak_max=1000,
)

Push = Callable[[bytes, int], object]
Times = npt.NDArray[np.int64]


class _Told(Listener):
    """Keeps decisions."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []

    def on_decision(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def checksum(self) -> str:
        """Of what was decided, when, and what became of it."""
        rows = [
            (d.message, d.local_ts_ns, d.order_id, d.side, d.qty, d.price or 0, len(d.action), len(d.outcome))
            for d in self.decisions
        ]
        table = np.array(rows, np.int64).reshape(-1, 8)
        return checksum([np.ascontiguousarray(column) for column in table.T])


class _Messages:
    """The messages of a recording, and which of them count."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    @cached_property
    def all(self) -> list[tuple[bytes, int]]:
        """Bytes and local time of each, as many as the recording has events of."""
        feed, found, taken = self.feed(), [], 0
        with gzip.open(self.recording.path or _SAMPLE) as stream:
            for line in stream:
                local, _, data = line.rstrip().partition(b" ")
                local_ts_ns = int(local) * (1 if len(local) == _DIGITS_NS else 1000)
                found.append((data, local_ts_ns))
                feed.push(data, local_ts_ns)
                taken += feed.taken[1]
                if taken >= len(self.recording.events):
                    break
        return found

    @cached_property
    def counts(self) -> npt.NDArray[np.bool_]:
        """Whether a message is one of books or trades."""
        feed, steps = self.feed(), []
        for data, local_ts_ns in self.all:
            feed.push(data, local_ts_ns)
            room, count = feed.taken
            steps.append(bool(count) and room.array["kind"][0] != Kind.QUOTE)
        return np.array(steps)

    def feed(self) -> MessageFeed:
        """A reader without features."""
        return MessageFeed(self.recording.source, self.recording.events.instruments, live=False)

    def pipeline(self) -> fp.Pipeline:
        """And one with."""
        fset = fp.feature_set("lob_shared_v1")
        return fp.Pipeline(fset, self.recording.source, self.recording.events.instruments, live=False)

    def times(self, push: Push) -> Times:
        """Nanoseconds of every message, the clock's own cost taken off."""
        clock, times = time.perf_counter_ns, []
        for data, local_ts_ns in self.all:
            began = clock()
            push(data, local_ts_ns)
            times.append(clock() - began)
        return np.array(times, np.int64)[self.counts] - _clock_cost()


def _clock_cost() -> int:
    """What two readings of the clock see of themselves."""
    clock = time.perf_counter_ns
    return int(np.median([-(clock() - clock()) for _ in range(1_000)]))


class _Form:
    """One form of an example over all messages; a pass is looked at by all figures of a turn."""

    def __init__(self, messages: _Messages, forms: Forms, form: str, *, orders: bool) -> None:
        self._messages, self._forms, self._form, self._orders = messages, forms, form, orders
        self._passes: list[Times] = []
        self._sum, self.decided = "", 0

    def _pass(self) -> Times:
        strategy: Any = self._forms.make(self._form)
        messages, told, how = self._messages, _Told(), dict[str, Any]()
        feed = messages.pipeline() if self._form == "shared" else messages.feed()
        if self._orders:
            risk = RiskCheck(feed.instruments, _WIDE)
            how = {"venue": PaperVenue(feed.instruments, stream=feed.options), "risk": risk}
        else:
            strategy.decide = _nothing
        runner = StrategyRunner([strategy], feed.instruments, engine=feed, listener=told, **how)
        times = messages.times(runner.push)
        self._sum, self.decided = told.checksum(), len(told.decisions)
        return times

    def first(self, of: Callable[[Times], float], runs: int) -> Sample:
        """A figure of new passes."""
        self._passes = [self._pass() for _ in range(runs)]
        return self.again(of, runs)

    def again(self, of: Callable[[Times], float], runs: int) -> Sample:
        """Another one of the same."""
        return Sample(tuple(of(times) / _NANOS for times in self._passes[:runs]), 1, self._sum)


def _nothing(*_: object) -> None:
    """The decision, left out."""


def _mean(times: Times) -> float:
    return float(times.mean())


def _median(times: Times) -> float:
    return float(np.percentile(times, 50))


def _p99(times: Times) -> float:
    return float(np.percentile(times, 99))


def _forms_job(messages: _Messages, name: str) -> Job:
    contestants: list[Contestant] = []
    deciding: list[_Form] = []
    for orders, kind in ((True, "orders"), (False, "no orders")):
        for form in ("legacy", "shared"):
            one = _Form(messages, _EXAMPLES[name], form, orders=orders)
            if orders:
                deciding.append(one)
            for ask, of, word in (
                (one.first, _mean, "mean"),
                (one.again, _median, "p50"),
                (one.again, _p99, "p99"),
            ):
                contestants.append(Contestant(f"{form}, {kind}, {word}", partial(ask, of), equal=orders))
    return Job(
        name,
        f"The example {name} as a service runs it, a message: legacy and shared form",
        "ns/message",
        tuple(contestants),
        baseline="legacy, orders, mean",
        proofs=(Proof("both forms sent orders", lambda: all(one.decided for one in deciding)),),
        note="legacy without an engine; decisions of both are compared; reading, book, venue and orders cost "
        "both forms the same; what the forms themselves take is the job `forms`.",
    )


def _step_job(messages: _Messages) -> Job:
    """Both ways in one turn, and what one has on top of the other, message by message."""
    taken: dict[str, list[Times]] = {}

    def both(of: Callable[[Times], float], runs: int) -> Sample:
        taken["rows"], taken["step"] = [], []
        for _ in range(runs):
            taken["rows"].append(messages.times(messages.pipeline().push))
            pipeline = messages.pipeline()
            runner = StrategyRunner(
                [_EXAMPLES["taker"].make("shared")],
                pipeline.instruments,
                engine=pipeline,
                venue=PaperVenue(pipeline.instruments, stream=pipeline.options),
                risk=RiskCheck(pipeline.instruments, _WIDE),
            )
            taken["step"].append(messages.times(runner.push))
        return figure("rows", of, runs)

    def figure(who: str, of: Callable[[Times], float], runs: int) -> Sample:
        return Sample(tuple(of(times) / _NANOS for times in taken[who][:runs]), 1)

    def on_top(of: Callable[[Times], float], runs: int) -> Sample:
        pairs = zip(taken["step"][:runs], taken["rows"][:runs], strict=True)
        return Sample(tuple(of(step - rows) / _NANOS for step, rows in pairs), 1)

    return Job(
        "step",
        "Bytes in to strategies called: a step of the service, and of its rows alone",
        "ns/message",
        (
            Contestant("rows alone, p50", partial(both, _median), equal=False),
            Contestant("rows alone, p99", partial(figure, "rows", _p99), equal=False),
            Contestant("step, p50", partial(figure, "step", _median), equal=False),
            Contestant("step, p99", partial(figure, "step", _p99), equal=False),
            Contestant("on top, p50", partial(on_top, _median), equal=False),
            Contestant("on top, p99", partial(on_top, _p99), equal=False),
        ),
        baseline="rows alone, p50",
        goals=(Goal("on top, p50", 1_000.0),),
        note="the shared taker with its orders at the paper venue; `on top` is of each message by itself",
    )


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """Needs the extension."""
    del peers
    if not native.available():
        return ()
    messages = _Messages(recording)
    return (_step_job(messages), *(_forms_job(messages, name) for name in _EXAMPLES))
