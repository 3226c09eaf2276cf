"""Trading hours: wall-clock times of a time zone as intervals of UTC nanoseconds (rule 3.12).

Knows nothing of instruments, events or the current time.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from featureplane.units import NANOS_PER_SECOND

__all__ = [
    "STATES",
    "WEEKDAYS",
    "Session",
    "TimeOfDay",
    "check_sessions",
    "daily_instants",
    "session_intervals",
    "zone",
]

STATES: Final = ("trading", "pre_open", "halted", "closed")
"""What a market can be in; outside all sessions of an instrument that has some it is `closed`."""

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""Days on which a session may open, Monday first."""

_DAY: Final = timedelta(days=1)
_DAY_SECONDS: Final = 86_400
_WEEK_SECONDS: Final = 7 * _DAY_SECONDS
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")
_KEYS: Final = ("state", "opens", "closes", "days")


@functools.cache
def zone(name: object) -> ZoneInfo:
    """The time zone called `name`; ValueError if there is none."""
    try:
        return ZoneInfo(name)  # type: ignore[arg-type] # whatever a file said is judged here
    except Exception:  # noqa: BLE001 - zoneinfo raises OSError, KeyError, ValueError and TypeError
        raise ValueError("a time zone such as Asia/Taipei") from None


def _seconds(text: object) -> int:
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a time of day `HH:MM` or `HH:MM:SS`")
    return int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3] or 0)


def _clock(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours:02}:{minutes:02}" + (f":{left:02}" if left else "")


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """A wall-clock time: seconds after midnight in a time zone."""

    seconds: int
    time_zone: str

    @classmethod
    def parse(cls, text: object, time_zone: str) -> TimeOfDay:
        """From `HH:MM` or `HH:MM:SS`; ValueError for anything else."""
        return cls(_seconds(text), time_zone)

    def on(self, day: date) -> int:
        """UTC nanoseconds since 1970 of this time on a calendar day.

        A time that a change of clocks skips is taken as if the change had not happened yet, one
        that comes twice is the first of the two.
        """
        wall = datetime(day.year, day.month, day.day, tzinfo=zone(self.time_zone)) + timedelta(
            seconds=self.seconds
        )
        since = wall.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * _DAY_SECONDS + since.seconds) * NANOS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Session:
    """One half-open interval of each of its days, [`opens`, `closes`), in seconds after midnight.

    `closes` at or before `opens` lies on the next day; `days` are those on which it opens.
    """

    state: str
    opens: int
    closes: int
    days: tuple[str, ...] = WEEKDAYS

    def __post_init__(self) -> None:
        """State, times and days must be known ones."""
        if self.state not in STATES:
            raise ValueError(f"a state of {', '.join(STATES)}")
        for value in (self.opens, self.closes):
            if type(value) is not int or not 0 <= value < _DAY_SECONDS:
                raise ValueError("seconds after midnight, below 86400")
        if not self.days or any(day not in WEEKDAYS for day in self.days):
            raise ValueError(f"days of {', '.join(WEEKDAYS)}")

    @property
    def length(self) -> int:
        """Seconds of wall-clock time from `opens` to `closes`."""
        return (self.closes - self.opens) % _DAY_SECONDS or _DAY_SECONDS

    @classmethod
    def read_all(cls, tables: Any) -> tuple[Session, ...]:
        """From the `sessions` of an instruments file; ValueError says what a session looks like."""
        if not isinstance(tables, list):
            raise ValueError("a list of sessions")  # noqa: TRY004 - all shapes are refused alike
        return tuple(cls._read(table) for table in tables)

    @classmethod
    def _read(cls, table: Any) -> Session:
        if not isinstance(table, dict) or not {"state", "opens", "closes"} <= set(table) <= set(_KEYS):
            raise ValueError('tables like { state = "trading", opens = "08:45", closes = "13:45" }')
        days = table.get("days", list(WEEKDAYS))
        if not isinstance(days, list) or not all(isinstance(day, str) for day in days):
            raise ValueError('days like ["mon", "tue"]')
        return cls(table["state"], _seconds(table["opens"]), _seconds(table["closes"]), tuple(days))

    def toml(self) -> str:
        """The session as an inline table of an instruments file."""
        days = ", ".join(f'"{day}"' for day in self.days)
        rows = [
            f'state = "{self.state}"',
            f'opens = "{_clock(self.opens)}"',
            f'closes = "{_clock(self.closes)}"',
        ]
        return "{ " + ", ".join([*rows, *([] if self.days == WEEKDAYS else [f"days = [{days}]"])]) + " }"


def _weekly(sessions: Iterable[Session]) -> Iterator[tuple[int, int]]:
    for session in sessions:
        for day in session.days:
            start = WEEKDAYS.index(day) * _DAY_SECONDS + session.opens
            yield start, start + session.length


def check_sessions(sessions: object) -> None:
    """ValueError unless these are sessions of which no two overlap."""
    if not isinstance(sessions, tuple) or not all(isinstance(one, Session) for one in sessions):
        raise ValueError("a tuple of Session")
    spans = sorted(_weekly(sessions))
    if not spans:
        return
    following = [*spans[1:], (spans[0][0] + _WEEK_SECONDS, 0)]
    if any(end > start for (_, end), (start, _) in zip(spans, following, strict=True)):
        raise ValueError("sessions that do not overlap")


def _days(start_ns: int, stop_ns: int, time_zone: str) -> Iterator[date]:
    first = datetime.fromtimestamp(start_ns // NANOS_PER_SECOND, zone(time_zone)).date() - _DAY
    last = datetime.fromtimestamp(stop_ns // NANOS_PER_SECOND, zone(time_zone)).date()
    while first <= last:
        yield first
        first += _DAY


def session_intervals(
    sessions: tuple[Session, ...], time_zone: str, start_ns: int, stop_ns: int
) -> list[tuple[int, int, str]]:
    """(opens, closes, state) of every session that touches [start_ns, stop_ns), in order of time.

    UTC nanoseconds, half-open; empty where there are no sessions.
    """
    found = []
    for day in _days(start_ns, stop_ns, time_zone):
        for session in sessions:
            if WEEKDAYS[day.weekday()] in session.days:
                over = session.closes <= session.opens
                opens = TimeOfDay(session.opens, time_zone).on(day)
                closes = TimeOfDay(session.closes, time_zone).on(day + _DAY if over else day)
                if opens < stop_ns and closes > start_ns:
                    found.append((opens, closes, session.state))
    return sorted(found)


def daily_instants(at: TimeOfDay, start_ns: int, stop_ns: int) -> list[int]:
    """Every time it is `at` within (start_ns, stop_ns], UTC nanoseconds, ascending."""
    instants = (at.on(day) for day in _days(start_ns, stop_ns, at.time_zone))
    return [instant for instant in instants if start_ns < instant <= stop_ns]
