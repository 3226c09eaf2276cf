"""The days of an instrument: from one reset of rule 3.6 to the next, so that each can be computed alone.

With sessions a day begins with the first session that opens on its date and lasts until the first of the
next such date; a session that ends after midnight belongs to the date on which it opened. Without sessions
it goes from one daily reset to the next: the UTC day, unless `reset_at` says otherwise.

Leans on `market.schedule`. Knows nothing of the current time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from featureplane.errors import SettingError
from featureplane.market.instruments import Instrument
from featureplane.market.schedule import Schedule
from featureplane.market.sessions import WEEKDAYS, TimeOfDay, daily_instants, session_intervals, zone
from featureplane.units import NANOS_PER_SECOND

__all__ = ["CALENDAR_VERSION", "Calendar", "Day"]

CALENDAR_VERSION: Final = 1
"""Rises with any change of what a day is; what is stored by day is found under another key then."""

_DAY: Final = timedelta(days=1)
_KEPT_MAX: Final = 4_096
_REACH_DAYS: Final = 400  # how far apart two dates with a session may lie


@dataclass(frozen=True, slots=True)
class Day:
    """One day of an instrument: UTC nanoseconds, half-open.

    `closes_ns` is where its last session ends, `end_ns` where there are no sessions: what comes later is
    no reason to miss its data. `calendar` holds the instants that follow from sessions and resets.
    """

    date: date
    start_ns: int
    end_ns: int
    closes_ns: int
    calendar: tuple[tuple[int, int, str], ...]

    def __str__(self) -> str:
        return self.date.isoformat()


class Calendar:
    """The days of one instrument; `holidays` are dates on which nothing opens, whatever the week says.

    Raises `SettingError` for an instrument whose days do not begin with a reset: what such a day shows
    would depend on where the data before it begin.

    >>> from featureplane.market.instruments import Instrument
    >>> days = Calendar(Instrument(venue="v", symbol="s", price_exponent=0, qty_exponent=0))
    >>> [str(day) for day in days.between(0, 86_400_000_000_001)]
    ['1970-01-01', '1970-01-02']
    """

    def __init__(self, instrument: Instrument, holidays: Iterable[date] = ()) -> None:
        self.instrument = instrument
        self.holidays = frozenset(holidays)
        self._schedule = Schedule(instrument)
        self._reset_at = instrument.daily_reset
        if not instrument.sessions and self._reset_at is None:
            raise _no_reset(instrument)
        self._zone = zone(self._reset_at.time_zone if self._reset_at else instrument.time_zone)
        self.on = functools.lru_cache(maxsize=4_096)(self._on)
        self._between: dict[tuple[int, int], tuple[Day, ...]] = {}  # asked for again and again

    def between(self, start_ns: int, end_ns: int) -> tuple[Day, ...]:
        """The days that share an instant with [start, end), in order."""
        known = self._between.get((start_ns, end_ns))
        if known is not None:
            return known
        found = []
        day = self.at(start_ns)
        while day.start_ns < end_ns:
            found.append(day)
            day = self._next(day.date)
        if len(self._between) >= _KEPT_MAX:
            self._between.clear()
        self._between[start_ns, end_ns] = tuple(found)
        return tuple(found)

    def at(self, clock_ns: int) -> Day:
        """The day that an instant belongs to."""
        on = datetime.fromtimestamp(clock_ns // NANOS_PER_SECOND, self._zone).date() + _DAY
        for _ in range(_REACH_DAYS):
            day = self.on(on)
            if day is not None and day.start_ns <= clock_ns:
                return day
            on -= _DAY
        raise SettingError(
            f"no session of {self.instrument.symbol} opens before {on}", hint="is it the year?"
        )

    def _next(self, after: date) -> Day:
        for number in range(1, _REACH_DAYS):
            day = self.on(after + number * _DAY)
            if day is not None:
                return day
        raise SettingError(
            f"no session of {self.instrument.symbol} opens after {after}", hint="is it the year?"
        )

    def _on(self, on: date) -> Day | None:
        """The day of that date; None on a date on which nothing opens."""
        start = self._begins(on)
        if start is None:
            return None
        following = (self._begins(on + number * _DAY) for number in range(1, _REACH_DAYS))
        end = next(instant for instant in following if instant is not None)
        instrument = self.instrument
        intervals = session_intervals(instrument.sessions, instrument.time_zone, start, end)
        resets = daily_instants(self._reset_at, start - 1, end) if self._reset_at is not None else []
        if start not in resets and self._schedule.is_open(start - 1):
            raise _no_reset(instrument)
        own = [(opens, closes) for opens, closes, _ in intervals if start <= opens < end]
        closes_ns = max((closes for _, closes in own), default=end)
        calendar = (*intervals, *((instant, instant, "reset") for instant in resets))
        return Day(on, start, end, closes_ns, calendar)

    def _begins(self, on: date) -> int | None:
        instrument = self.instrument
        if not instrument.sessions:
            assert self._reset_at is not None
            return self._reset_at.on(on)
        if on in self.holidays:
            return None
        opens = [
            TimeOfDay(session.opens, instrument.time_zone).on(on)
            for session in instrument.sessions
            if WEEKDAYS[on.weekday()] in session.days
        ]
        return min(opens, default=None)


def _no_reset(instrument: Instrument) -> SettingError:
    return SettingError(
        f"days of {instrument.symbol} do not begin with a reset, so none can be computed alone",
        hint="give the instrument a `reset_at`: with sessions, the time at which its first one opens",
    )
