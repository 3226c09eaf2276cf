"""When an instrument trades, and when its kernels are reset each day (rules 3.6, 3.12).

Wall-clock hours become instants as the clock reaches them, a month at a time. Leans on
`market.instruments` and `market.sessions`. Knows nothing of status events, which can halt trading
inside a session.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from featureplane.market.instruments import Instrument
from featureplane.market.sessions import daily_instants, session_intervals
from featureplane.units import NANOS_PER_SECOND

__all__ = ["Schedule"]

_DAY_NS: Final = 86_400 * NANOS_PER_SECOND
_MONTH_NS: Final = 32 * _DAY_NS
_MARGIN_NS: Final = 9 * _DAY_NS  # a week's sessions, and what a change of clocks may move


class Schedule:
    """The hours of one instrument.

    >>> from featureplane.market.instruments import Instrument
    >>> hours = Schedule(Instrument(venue="v", symbol="s", price_exponent=0, qty_exponent=0))
    >>> hours.is_open(0), hours.resets(_DAY_NS - 1, _DAY_NS), hours.resets(0, _DAY_NS - 1)
    (True, True, False)
    """

    def __init__(self, instrument: Instrument) -> None:
        self._sessions = instrument.sessions
        self._time_zone = instrument.time_zone
        self._reset_at = instrument.daily_reset
        self._known = range(0)  # the clocks `_intervals` and `_instants` are good for
        self._intervals: list[tuple[int, int, str]] = []
        self._instants: list[int] = []

    @property
    def has_sessions(self) -> bool:
        """Whether trading depends on the clock at all."""
        return bool(self._sessions)

    def is_open(self, clock_ns: int) -> bool:
        """Whether the session of this clock, if there are sessions, is a trading one."""
        return not self._sessions or self.session(clock_ns) is not None

    def session(self, clock_ns: int) -> tuple[int, int] | None:
        """When the trading session of this clock opens and closes; None outside, or where there are none."""
        if not self._sessions:
            return None
        self._look_up(clock_ns)
        found = (
            (opens, closes)
            for opens, closes, state in self._intervals
            if opens <= clock_ns < closes and state == "trading"
        )
        return next(found, None)

    def resets(self, before_ns: int, clock_ns: int) -> bool:
        """Whether a daily reset lies in (before, clock]."""
        if self._reset_at is None or clock_ns <= before_ns:
            return False
        self._look_up(clock_ns)
        reached = bisect_right(self._instants, clock_ns)
        return reached > 0 and self._instants[reached - 1] > before_ns

    def _look_up(self, clock_ns: int) -> None:
        if clock_ns in self._known:
            return
        start, stop = clock_ns - _MARGIN_NS, clock_ns + _MONTH_NS + _MARGIN_NS
        self._intervals = session_intervals(self._sessions, self._time_zone, start, stop)
        if self._reset_at is not None:
            self._instants = daily_instants(self._reset_at, start, stop)
        self._known = range(clock_ns, clock_ns + _MONTH_NS)
