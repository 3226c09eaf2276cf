"""The days of instruments: each begins with a reset, and none is missing between two."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.errors import SettingError
from featureplane.market.days import Calendar, Day
from featureplane.market.instruments import load_instruments
from featureplane.market.schedule import Schedule
from featureplane.market.sessions import Session
from tests.contract.project import ROOT
from tests.streams import instrument

TAIFEX = load_instruments(ROOT / "tests" / "instruments" / "taifex.toml")[0]


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp()) * 1_000_000_000


def spans(days: tuple[Day, ...]) -> list[tuple[int, int]]:
    return [(day.start_ns, day.end_ns) for day in days]


def test_without_sessions_a_day_is_the_utc_day() -> None:
    days = Calendar(instrument()).between(ns("2024-02-28T12:00Z"), ns("2024-03-01T00:00Z"))
    assert [str(day) for day in days] == ["2024-02-28", "2024-02-29"]
    assert spans(days)[0] == (ns("2024-02-28T00:00Z"), ns("2024-02-29T00:00Z"))


def test_a_reset_of_its_own_begins_the_day() -> None:
    days = Calendar(instrument(reset_at="17:00", time_zone="America/New_York"))
    day = days.at(ns("2024-03-10T12:00-04:00"))  # clocks changed that night
    assert spans((day,)) == [(ns("2024-03-09T17:00-05:00"), ns("2024-03-10T17:00-04:00"))]
    assert str(day) == "2024-03-09"


def test_a_session_behind_midnight_belongs_to_the_date_on_which_it_opened() -> None:
    days = Calendar(TAIFEX)
    friday = days.at(ns("2026-04-11T04:59+08:00"))
    assert str(friday) == "2026-04-10"
    assert friday.start_ns == ns("2026-04-10T08:30+08:00")
    assert friday.closes_ns == ns("2026-04-11T05:00+08:00")
    assert friday.end_ns == ns("2026-04-13T08:30+08:00")
    assert str(days.at(friday.end_ns)) == "2026-04-13"


def test_a_holiday_is_no_day() -> None:
    days = Calendar(TAIFEX, [date(2026, 4, 9)])
    week = days.between(ns("2026-04-08T09:00+08:00"), ns("2026-04-10T09:00+08:00"))
    assert [str(day) for day in week] == ["2026-04-08", "2026-04-10"]


@pytest.mark.parametrize(
    "about", [instrument(), TAIFEX, instrument(reset_at="06:30", time_zone="Asia/Tokyo")]
)
@given(start=st.integers(0, 4 * 10**18), length=st.integers(1, 40 * 86_400 * 10**9))
def test_days_lie_beside_each_other_and_cover_the_range(about: object, start: int, length: int) -> None:
    days = spans(Calendar(about).between(start, start + length))  # type: ignore[arg-type] # an instrument
    assert days[0][0] <= start < days[0][1]
    assert days[-1][0] < start + length <= days[-1][1]
    assert all(one[1] == two[0] for one, two in pairwise(days))


@given(clock=st.integers(10**18, 2 * 10**18))
def test_a_day_begins_with_a_reset_or_outside_trading(clock: int) -> None:
    for about in (instrument(), TAIFEX):
        day = Calendar(about).at(clock)
        hours = Schedule(about)
        assert hours.resets(day.start_ns - 1, day.start_ns) or not hours.is_open(day.start_ns - 1)


def test_days_without_a_reset_are_refused() -> None:
    round_the_clock = Session("trading", 0, 0)
    for about in (instrument(reset_at="none"), instrument(sessions=(round_the_clock,))):
        with pytest.raises(SettingError, match="do not begin with a reset") as caught:
            Calendar(about).at(10**18)
        assert "reset_at" in (caught.value.hint or "")
    with_reset = Calendar(instrument(sessions=(round_the_clock,), reset_at="00:00"))
    assert with_reset.at(10**18).start_ns == 10**18 // 86_400_000_000_000 * 86_400_000_000_000
