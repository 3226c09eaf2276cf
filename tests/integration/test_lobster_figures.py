"""Published figures of a LOBSTER day, to 11 digits, from the frames of a set composed here."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, NamedTuple

import pytest

from featureplane.market.reading import read_events
from featureplane.market.sources.lobster import midnight_ns
from featureplane.research.compute import compute
from tests.integration import lobster_figures as figures
from tests.integration.lobster_figures import DAY, Day
from tests.shared_data import shared

pytestmark = pytest.mark.native

DIGITS = 5e-12  # half a unit of the eleventh, where the first digit is 9


class Sample(NamedTuple):
    """A file and the symbol whose figures it has to give; `but_for` are figures of another depth of file."""

    file: str
    symbol: str
    but_for: tuple[str, ...] = ()


# Cancels and deletes look alike at the touch, and a file of one level has fewer rows than one of five.
KINDS = (".by_type.2", ".by_type.3", ".n_by_type.2", ".n_by_type.3")
DEEP = (*KINDS, ".by_type.1", ".n_by_type.1")
ROWS = (*DEEP, ".rows", ".n_messages", ".median_mid_usd", ".median_spread_ticks")
SAMPLES = {
    "AAPL 1": Sample("AAPL_2012-06-21_1", "AAPL", KINDS),
    "AMZN 1": Sample("AMZN_2012-06-21_1", "AMZN", ROWS),
    "AMZN 5": Sample("AMZN_2012-06-21_5", "AMZN", DEEP),
}
FIGURES: dict[str, Callable[[Day], Any]] = {
    "facts": figures.facts,
    "cks_windows": figures.cks_windows,
    "cks_full_day": figures.cks_full_day,
    "contemporaneous": lambda day: figures.forecast(day, 0),
    "lagged": lambda day: figures.forecast(day, 1),
    "imbalance": figures.imbalance,
    "spread_decomposition": figures.spread_decomposition,
    "whole_file": figures.whole_file,
}


@functools.cache
def day_of(file: str) -> Day:
    events = read_events(shared(f"lobster/LOBSTER_SampleFile_{file}.zip"), "lobster")
    return Day.of(compute(events, DAY), midnight_ns(date(2012, 6, 21)))


@functools.cache
def reference(symbol: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(shared(f"reference/lobster_{symbol}.json").read_text(encoding="ascii"))
    return said


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{i}]")
    else:
        yield path, value


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("sample", SAMPLES)
def test_a_published_figure_of_the_day_to_eleven_digits(sample: str, figure: str) -> None:
    file, symbol, but_for = SAMPLES[sample]
    expected = {path: number for path, number in leaves(reference(symbol)[figure]) if path not in but_for}
    got = {path: number for path, number in leaves(FIGURES[figure](day_of(file))) if path not in but_for}
    assert set(expected) <= set(got)
    wrong = {
        path: (number, got[path])
        for path, number in expected.items()
        if not math.isclose(number, got[path], rel_tol=DIGITS)
    }
    assert not wrong


def test_the_two_figures_everybody_knows() -> None:
    told = [
        (
            round(figures.cks_full_day(day)["beta_ticks_per_1000_shares"], 3),
            round(figures.cks_full_day(day)["r2"], 3),
            (int(day.is_visible.sum()), int(day.is_hidden.sum())),
        )
        for day in (day_of(SAMPLES[name].file) for name in ("AAPL 1", "AMZN 1"))
    ]
    assert told == [(4.105, 0.427, (23_658, 11_332)), (2.501, 0.331, (8_974, 2_445))]
