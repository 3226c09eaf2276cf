"""The paper venue's fill models give the reference figures of 9,074 hypothetical orders of a day."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from datetime import date
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest

from featureplane.execution.limits import RiskLimits
from featureplane.execution.orders import EventKind, OrderEvent, OrderIntent, Side
from featureplane.execution.risk import Approved, RiskCheck
from featureplane.execution.venues.paper import PaperOptions, PaperVenue
from featureplane.features import kernels as k
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch
from featureplane.market.reading import read_events
from featureplane.market.sources.lobster import midnight_ns
from featureplane.research.compute import compute
from featureplane.units import NANOS_PER_SECOND
from tests.contract import project
from tests.shared_data import shared

pytestmark = pytest.mark.native

FILE: Final = "lobster/LOBSTER_SampleFile_AMZN_2012-06-21_5.zip"
NAMES: Final = {"touch": "touch", "queue": "fifo", "through": "through"}  # ours, and the reference's
DIGITS: Final = 5e-12  # half a unit of the eleventh, where the first digit is 9
TICK: Final = 100
SIZE: Final = 100
LIFE_NS: Final = 60 * NANOS_PER_SECOND
HORIZONS: Final = {"mk_0.1": 100_000_000, "mk_1": 10**9, "mk_10": 10**10, "mk_60": 6 * 10**10}
WIDE: Final = RiskLimits(
    position_max="1000000",
    gross_value_max="1000000000",
    open_value_max="1000000000",
    reference_age_ms_max=60_000,
    daily_loss_max="1000000000",
    drawdown_max="1000000000",
    loss_streak_max=10_000,
    repeated_execution_max=10_000,
)


@functools.cache
def day() -> EventBatch:
    return read_events(shared(FILE), "lobster")


def slices(batch: EventBatch) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Each decision time, and the rows that have come since the one before."""
    midnight = midnight_ns(date(2012, 6, 21))
    times = midnight + np.arange(34_500, 57_181, 5) * NANOS_PER_SECOND
    ends = np.searchsorted(batch.array["local_ts_ns"], times, side="right")
    first = 0
    for now_ns, end in zip(times.tolist(), ends.tolist(), strict=True):
        yield now_ns, batch.array[first:end]
        first = end
    yield times[-1] + 2 * LIFE_NS, batch.array[first:]


def run(fill: str) -> dict[int, list[OrderEvent]]:
    """All events of every order, by its number."""
    batch = day()
    instrument = batch.instrument
    options = PaperOptions(fill=fill, life_ns=LIFE_NS, level_exit=True, own_orders="apart")
    venue, check = PaperVenue(batch.instruments, options), RiskCheck(batch.instruments, WIDE)
    told: dict[int, list[OrderEvent]] = {}
    number = 0
    *decisions, (end_ns, rest) = slices(batch)
    for now_ns, rows in decisions:
        venue.on_market(rows, checked=True)
        for event in venue.poll(now_ns):
            told[event.client_id].append(event)
            check.on_event(event)
        prices = venue.best(instrument.symbol)
        check.on_market(instrument.symbol, *prices, ts_ns=now_ns)
        for side, price in zip(Side, prices, strict=True):
            number += 1
            intent = OrderIntent(symbol=instrument.symbol, side=side, qty=SIZE, price=price, client_id=number)
            approved = check.review(intent, now_ns)
            assert isinstance(approved, Approved), approved
            told[number] = []
            venue.send(approved, now_ns)
    venue.on_market(rest, checked=True)
    for event in venue.poll(end_ns):
        told[event.client_id].append(event)
    return told


@functools.cache
def mids() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Time and doubled mid of every row."""
    table = compute(day(), FeatureSet("mid_v1", features={"mid_x2": k.mid_x2()}))
    values, defined = table.column("mid_x2")
    assert defined.all()
    return np.asarray(table.to_arrow()["source_ts_ns"].to_numpy()), values


def figures(told: dict[int, list[OrderEvent]]) -> dict[str, Any]:
    """What the reference says of a model, from the orders' events alone."""
    ends = {"filled": 0, "timeout": 0, "level_exit": 0}
    fills: list[tuple[int, int, int, int]] = []
    partial = 0
    for events in told.values():
        assert events[0].kind is EventKind.ACCEPTED
        last = events[-1]
        name = {"life": "timeout", "level_exit": "level_exit", "": "filled"}[last.reason]
        assert (last.kind is EventKind.FILLED) == (name == "filled")
        ends[name] += 1
        mine = [event for event in events if event.is_fill]
        if mine:
            partial += name != "filled"
            filled = sum(event.qty for event in mine)
            fills.append((last.side.sign, filled, mine[-1].price, mine[-1].venue_ts_ns))
    sign, qty, price, when = np.array(fills, np.int64).T
    out: dict[str, Any] = {
        "n_orders": len(told),
        "p_fill": len(fills) / len(told),
        "fill_frac": int(qty.sum()) / (SIZE * len(told)),
        "end": ends,
        "partial": partial,
    }
    times, mid_x2 = mids()
    for name, horizon_ns in HORIZONS.items():
        after = mid_x2[np.searchsorted(times, when + horizon_ns, side="right") - 1]
        out[name] = float((sign * (after - 2 * price) * qty).sum() / (2 * TICK * qty.sum()))
    return out


@functools.cache
def measured(fill: str) -> dict[str, Any]:
    return figures(run(fill))


@pytest.mark.parametrize("fill", NAMES)
def test_a_fill_model_gives_the_figures_of_the_reference_to_eleven_digits(fill: str) -> None:
    reference = json.loads(shared("reference/lobster_AMZN.json").read_text(encoding="ascii"))
    expected = reference["fill_models"]["results"][NAMES[fill]]
    got = measured(fill)
    assert got.keys() == expected.keys()
    for name, figure in expected.items():
        if isinstance(figure, float):
            assert math.isclose(got[name], figure, rel_tol=DIGITS), name
        else:
            assert got[name] == figure, name


@pytest.mark.parametrize("fill", NAMES)
def test_the_page_on_fill_models_shows_what_was_measured(fill: str) -> None:
    got = measured(fill)
    shares = [f"{100 * got[name]:.2f} %" for name in ("p_fill", "fill_frac")]
    counts = [f"{count:,}" for count in (got["partial"], got["end"]["timeout"], got["end"]["level_exit"])]
    marks = [f"{got[name]:.3f}" for name in HORIZONS]
    row = " | ".join([f"`{fill}`", *shares, *counts, *marks])
    page = (project.ROOT / "docs" / "concepts" / "fill-models.md").read_text(encoding="utf-8")
    assert f"| {row} |" in page
