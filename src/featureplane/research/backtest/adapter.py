"""hftbacktest keeps clock, latencies, queue and fills; our book and features walk along.

    hftbacktest returns -> its clock -> messages known by then -> book, engine -> strategies -> its orders

Messages are handed on one by one, also those of one local time, for which hftbacktest returns once.
Its last feed comes back as the end of the data. Leans on `library`, `assets`, `columns`, `venue` and on
`strategy`, whose runner calls strategies as everywhere.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from featureplane.errors import SettingError, StateError
from featureplane.execution.risk import RiskCheck
from featureplane.features.catalog import set_or_id
from featureplane.features.engine import FeatureEngine
from featureplane.features.frame import FeatureFrame
from featureplane.features.spec import FeatureSet
from featureplane.market.instruments import check_ids
from featureplane.research.backtest.assets import HftAsset, Stream, joined
from featureplane.research.backtest.columns import FeatureRows, feature_rows
from featureplane.research.backtest.library import (
    END_OF_DATA,
    FEED,
    FOREVER_NS,
    RESPONSE,
    TIMEOUT,
    HftMarket,
    Simulation,
)
from featureplane.research.backtest.venue import HftVenue
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.market import STATS_LEVELS
from featureplane.strategy.runner import Listener, StrategyRunner

__all__ = ["FeatureMode", "HftAccount", "HftBacktestAdapter", "HftRun", "Walk"]

FeatureMode = Literal["stats_only", "lob_feature"]

_MODES: Final = ("stats_only", "lob_feature")
_RESPONSES_TOO: Final = True
_NOT_BEGUN: Final = 2**63 - 1  # its clock before the first return
_GOES_ON: Final = frozenset({TIMEOUT, FEED, RESPONSE})


class Walk:
    """Walks the messages of a stream behind the clock of a simulation.

    While what is `busy` there is empty, orders and answers, `lag` hands messages on by their own times:
    hftbacktest has nothing to tell then but that time goes on. Without `busy` it does not. `catch_up` lets
    hftbacktest go on, before it gets an order, and holds its clock against ours. The end of the data is
    always its own.
    """

    def __init__(
        self, stream: Stream, simulation: Simulation, busy: tuple[Sized, Sized] | None = None
    ) -> None:
        self.hbt = simulation.hbt
        self.returns = 0
        self.events = stream.batch
        self.now_ns = 0
        self.ended = False
        self._spans, self.clock_ns = stream.spans, stream.clock_ns
        self._at = 0
        self._busy, self._lags = busy, False
        self._end = bisect_left(self.clock_ns, self.clock_ns[-1]) if self.clock_ns else 0

    def wait(self) -> list[tuple[int, int]]:
        """Let hftbacktest go on to its next feed or order response; the messages known by then.

        Given is where in `events` each begins and ends. At the end of the data they are those that are left.
        Raises `StateError` for any other answer of hftbacktest.
        """
        clock, first = self.clock_ns, self._at
        self.returns += 1
        self.catch_up()
        code = self.hbt.wait_next_feed(_RESPONSES_TOO, FOREVER_NS)
        if code in _GOES_ON:
            now_ns = self.now_ns = self.hbt.current_timestamp
            at, count = first, len(clock)
            while at < count and clock[at] <= now_ns:
                at += 1
        elif code == END_OF_DATA:
            # WHY the messages' clock: hftbacktest leaves its own where it was before the last feed.
            at = len(clock)
            self.ended = True
            self.now_ns = max(self.now_ns, clock[-1] if clock else 0)
        else:
            raise StateError(f"hftbacktest stopped with {code}", hint="its log says more")
        self._at = at
        return self._spans[first:at]

    def lag(self) -> Iterator[tuple[int, int]]:
        """Messages by their own times, as long as nothing is `busy`; not those of the last time of all."""
        if self._busy is None:
            return
        (orders, answers), clock, spans = self._busy, self.clock_ns, self._spans
        at, end, returns = self._at, self._end, 0
        try:
            while at < end and not orders and not answers:
                self.now_ns = now_ns = clock[at]
                self._lags = True
                returns += 1
                yield spans[at]
                at += 1
                while clock[at] == now_ns:
                    yield spans[at]
                    at += 1
        finally:
            self._at = at
            self.returns += returns

    def catch_up(self) -> None:
        """Bring hftbacktest to the time of the messages handed on; raises `StateError` if it has another."""
        if not self._lags:
            return
        self._lags = False
        hbt = self.hbt
        if hbt.current_timestamp == _NOT_BEGUN:
            hbt.wait_next_feed(_RESPONSES_TOO, FOREVER_NS)
        code = hbt.elapse(self.now_ns - hbt.current_timestamp)
        if code or hbt.current_timestamp != self.now_ns:
            found = f"hftbacktest is at {hbt.current_timestamp} ({code}), its rows say {self.now_ns}"
            raise StateError(found, hint="has `configure` moved its clock?")


class HftAccount(NamedTuple):
    """What hftbacktest says of an asset at the end, in its floats; 2.4 leaves partial fills out."""

    position: float
    balance: float
    fee: float
    trades: int


class HftRun(NamedTuple):
    """What came of a backtest; `risk` has positions and PnL, `accounts` is what hftbacktest counts itself."""

    runner: StrategyRunner
    risk: RiskCheck
    accounts: dict[str, HftAccount]
    returns: int  # of hftbacktest, asked for or not
    messages: int  # but for quotes


class HftBacktestAdapter:
    """Backtests of hftbacktest in which every message updates our book and features.

    `assets` are numbered as in hftbacktest. `feature_mode="lob_feature"` computes `fset` after every
    message; `"stats_only"` computes no features and takes none: strategies have `LOBStatsEvent`, trades
    and the book. `market` says how orders are treated.
    One adapter runs as often as one likes, each time from the beginning.

    Raises `ExtraUnavailable` where hftbacktest is not installed, when it is first needed; `SettingError`
    for what is no choice.
    """

    def __init__(
        self,
        assets: HftAsset | Sequence[HftAsset],
        fset: FeatureSet | str | None = None,
        *,
        feature_mode: FeatureMode = "lob_feature",
        market: HftMarket | None = None,
        backend: str = "auto",
    ) -> None:
        if feature_mode not in _MODES:
            raise SettingError(f"feature_mode={feature_mode!r}", hint=f"choose one of {', '.join(_MODES)}")
        if (fset is None) is (feature_mode == "lob_feature"):
            hint = "`lob_feature` needs a feature set, `stats_only` takes none"
            raise SettingError(f"feature_mode={feature_mode!r} with {fset!r}", hint=hint)
        self.assets = (assets,) if isinstance(assets, HftAsset) else tuple(assets)
        if not self.assets:
            raise SettingError("no assets", hint="give at least one")
        self.instruments = check_ids(one.instrument for one in self.assets)
        self.fset = None if fset is None else set_or_id(fset)
        self.feature_mode = feature_mode
        self.market = market or HftMarket()
        self.backend = backend
        self._streams = dict[tuple[int, ...], Stream]()
        self._rows: tuple[FeatureRows, ...] | None = None

    @contextmanager
    def walk(self) -> Iterator[Walk]:
        """A simulation at its beginning, and the messages that become known as it goes on."""
        with Simulation(self.assets, self.market) as simulation:
            yield Walk(self._stream(simulation.offsets_ns), simulation)

    def frames(self) -> Iterator[FeatureFrame]:
        """The frames as they become known, each to look at until the next: those of `FeatureEngine.push`.

        Several assets come as their messages come. Raises `SettingError` in `stats_only`.
        """
        engine = FeatureEngine(self._features(), backend=self.backend)
        with self.walk() as walk:
            while not walk.ended:
                for start, stop in walk.wait():
                    yield from engine.push(walk.events, start, stop)

    def run(
        self,
        strategies: BaseStrategy | Iterable[BaseStrategy],
        *,
        risk: RiskCheck | None = None,
        listener: Listener | None = None,
        levels: int = STATS_LEVELS,
        budget_ns: int | None = None,
    ) -> HftRun:
        """Run strategies over the whole recording; they are those of a replay or a service, unchanged.

        Orders pass `risk` (one with the limits' defaults, if none is given), then hftbacktest has them; what
        becomes of them is told between messages, when its response has come. Behind the last message
        orders are rejected, and those that work are cancelled. The other options are `StrategyRunner`'s.
        """
        given = [strategies] if isinstance(strategies, BaseStrategy) else strategies
        risk = RiskCheck(self.instruments) if risk is None else risk
        engine = None if self.fset is None else FeatureEngine(self.fset, backend=self.backend)
        with Simulation(self.assets, self.market) as simulation:
            venue = HftVenue(self.instruments, simulation)
            # What `configure` did is not known here: hftbacktest is asked for each of its returns then.
            busy = None if self.market.configure is not None else venue.busy
            walk = Walk(self._stream(simulation.offsets_ns), simulation, busy)
            venue.before_sending = walk.catch_up
            runner = StrategyRunner(
                given,
                self.instruments,
                engine=engine,
                venue=venue,
                risk=risk,
                stream=walk.events.options,
                levels=levels,
                budget_ns=budget_ns,
                listener=listener,
                backend=self.backend,
            )
            self._drive(walk, runner, venue, simulation)
            accounts = {
                one.symbol: _account(simulation.hbt, number) for number, one in enumerate(self.instruments)
            }
        return HftRun(runner, risk, accounts, walk.returns, len(walk.clock_ns))

    def _drive(self, walk: Walk, runner: StrategyRunner, venue: HftVenue, simulation: Simulation) -> None:
        """From return to return, and message to message, to the end."""
        ahead_ns = max(
            one.shift_ns + more for one, more in zip(self.assets, simulation.offsets_ns, strict=True)
        )
        events = walk.events
        while not walk.ended:
            runner.steps(events, walk.lag())
            spans = walk.wait()
            venue.is_over = walk.ended
            runner.steps(events, spans)
            if not spans:
                runner.hear(walk.now_ns - ahead_ns)
        runner.finish()

    @contextmanager
    def numba(self) -> Iterator[tuple[Any, tuple[FeatureRows, ...]]]:
        """The object of hftbacktest at its beginning, and the frames of each asset as arrays.

        Frames are computed once an adapter. Both are arguments of a function that numba compiles.
        `FeatureRows.clock_ns` is on the clock of this object; what is read before it has come would be read
        from the future.
        """
        fset = self._features()
        with Simulation(self.assets, self.market) as simulation:
            yield (
                simulation.hbt,
                tuple(
                    _on_clock(feature_rows(one, fset, backend=self.backend), offset)
                    for one, offset in zip(self.assets, simulation.offsets_ns, strict=True)
                ),
            )

    def _stream(self, offsets_ns: Sequence[int]) -> Stream:
        key = tuple(offsets_ns)
        if key not in self._streams:
            self._streams = {key: joined(self.assets, key)}
        return self._streams[key]

    def _features(self) -> FeatureSet:
        if self.fset is None:
            raise SettingError("no features in `stats_only`", hint='feature_mode="lob_feature" has them')
        return self.fset


def _account(hbt: Any, number: int) -> HftAccount:
    state = hbt.state_values(number)
    return HftAccount(hbt.position(number), state.balance, state.fee, int(state.num_trades))


def _on_clock(rows: FeatureRows, offset_ns: int) -> FeatureRows:
    return rows._replace(clock_ns=rows.clock_ns + np.int64(offset_ns)) if offset_ns else rows
