"""Figures of a LOBSTER day, computed from the frames of a feature set alone.

Each function is one entry of `reference/lobster_*.json` in the shared data; its definition stands there
in words. Times are ns after midnight New York, prices in units of $0.0001.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from featureplane.features import kernels as k
from featureplane.features.spec import FeatureSet
from featureplane.research.tables import FeatureTable

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Figures: TypeAlias = dict[str, Any]

SECOND: Final = 1_000_000_000
OPEN, SPLIT, CLOSE = 34_500 * SECOND, 45_900 * SECOND, 57_300 * SECOND
BUCKET: Final = 10 * SECOND
HALF_HOUR: Final = 1_800 * SECOND
TICK: Final = 100

DAY = FeatureSet(
    "lobster_day_v1",
    features={
        "bid": k.best_bid(),
        "ask": k.best_ask(),
        "bid_qty": k.qty("bid", 1),
        "ask_qty": k.qty("ask", 1),
        "ofi": k.ofi(1),
        "signed_qty": k.signed_qty(hidden=False),
        "price": k.trade_price(hidden=False),
        "visible": k.trade_count(hidden=False),
        "executions": k.trade_count(),
    },
)


@dataclass(frozen=True)
class Trades:
    """Executions of one time and side that stand together are one trade; `row` is its first."""

    row: Ints
    sign: Ints
    size: Ints
    price: Floats


@dataclass(frozen=True)
class Day:
    """One row a frame: the touch, and what the row told."""

    time: Ints
    bid: Ints
    ask: Ints
    bid_qty: Ints
    ask_qty: Ints
    ofi: Ints  # 0 where the book did not move
    signed_qty: Ints  # 0 but for visible executions
    price: Ints
    is_visible: npt.NDArray[np.bool_]
    is_hidden: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, table: FeatureTable, midnight_ns: int) -> Day:
        """From the frames of `DAY`."""
        made = {name: table.column(name) for name in DAY}
        value = {name: np.where(defined, values, 0) for name, (values, defined) in made.items()}
        assert all(made[name][1].all() for name in ("bid", "ask", "bid_qty", "ask_qty"))
        told = np.diff(value["executions"], prepend=0)
        is_visible = np.diff(value["visible"], prepend=0) == 1
        assert set(told.tolist()) == {0, 1}
        is_hidden = (told == 1) & ~is_visible
        return cls(
            time=np.asarray(table.to_arrow()["source_ts_ns"].to_numpy()) - midnight_ns,
            **{name: value[name] for name in ("bid", "ask", "bid_qty", "ask_qty", "price")},
            ofi=np.where(is_hidden, 0, value["ofi"]),  # what stands on a frame is a flow of its message
            signed_qty=np.where(is_visible, value["signed_qty"], 0),
            is_visible=is_visible,
            is_hidden=is_hidden,
        )

    @cached_property
    def mid_x2(self) -> Ints:
        """Twice the mid."""
        return self.bid + self.ask

    @cached_property
    def spread(self) -> Ints:
        """Ask less bid."""
        return self.ask - self.bid

    @cached_property
    def submits(self) -> npt.NDArray[np.bool_]:
        """Rows that made a side better or larger: type 1."""
        better = (np.diff(self.bid, prepend=0) > 0) | (np.diff(-self.ask, prepend=-(10**10)) > 0)
        same = (np.diff(self.bid, prepend=0) == 0) & (np.diff(self.ask, prepend=0) == 0)
        more = (np.diff(self.bid_qty, prepend=0) > 0) | (np.diff(self.ask_qty, prepend=0) > 0)
        made: npt.NDArray[np.bool_] = better | (same & more)
        return made

    def in_force(self, times: Ints) -> Ints:
        """The last row at or before each time."""
        return np.searchsorted(self.time, times, side="right") - 1

    def mean(self, values: Any, start: int = OPEN, stop: int = CLOSE) -> float:
        """Average over [start, stop), each row weighted by the time it was in force."""
        edges = np.clip(np.append(self.time, np.iinfo(np.int64).max), start, stop)
        weights = np.diff(edges)
        return float((values * weights).sum() / weights.sum())

    @cached_property
    def trades(self) -> Trades:
        """All trades of the day."""
        rows = np.flatnonzero(self.is_visible)
        signs, sizes = np.sign(self.signed_qty[rows]), np.abs(self.signed_qty[rows])
        begins = np.ones(len(rows), np.bool_)
        begins[1:] = (np.diff(rows) > 1) | (np.diff(self.time[rows]) != 0) | (np.diff(signs) != 0)
        first = np.flatnonzero(begins)
        total = np.add.reduceat(sizes, first)
        paid = np.add.reduceat(sizes * self.price[rows], first)
        return Trades(rows[first], signs[first], total, paid / total)


def autocorrelation(x: npt.NDArray[Any], lag: int) -> float:
    centred = x - x.mean()
    return float((centred[:-lag] * centred[lag:]).sum() / (centred * centred).sum())


def facts(day: Day) -> Figures:
    """The entry of this name."""
    inside = (day.time >= OPEN) & (day.time < CLOSE)
    trades = day.trades
    traded = inside[trades.row]
    return {
        "mean_price_usd": day.mean(day.mid_x2 / 2) / 10_000,
        "tick_bps": day.mean(TICK / (day.mid_x2 / 2)) * 10_000,
        "spread_ticks": day.mean(day.spread / TICK),
        "spread_bps": day.mean(day.spread / (day.mid_x2 / 2)) * 10_000,
        "share_one_tick": day.mean(day.spread == TICK),
        "depth_best": day.mean((day.bid_qty + day.ask_qty) / 2),
        "n_messages": int(inside.sum()),
        "n_by_type": by_type(day, inside),
        "n_trades": int(traded.sum()),
        "volume_visible": int(trades.size[traded].sum()),
        "sign_acf": [autocorrelation(trades.sign[traded], lag) for lag in range(1, 11)],
    }


def by_type(day: Day, rows: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Rows by type; partial and full cancels look alike at the touch."""
    counted = {"1": day.submits, "4": day.is_visible, "5": day.is_hidden}
    counts = {name: int((rows & mask).sum()) for name, mask in counted.items()}
    return {**counts, "2 or 3": int(rows.sum()) - sum(counts.values())}


@dataclass(frozen=True)
class Line:
    """Least squares with intercept."""

    alpha: float
    beta: float
    r2: float

    @classmethod
    def through(cls, x: Floats, y: Floats) -> Line:
        dx, dy = x - x.mean(), y - y.mean()
        beta = (dx * dy).sum() / (dx * dx).sum()
        left = dy - beta * dx
        return cls(float(y.mean() - beta * x.mean()), float(beta), float(1 - (left @ left) / (dy @ dy)))

    def score(self, x: Floats, y: Floats, forecast: float) -> float:
        """1 - SSE / SSE of a constant forecast."""
        left = y - self.alpha - self.beta * x
        return float(1 - (left @ left) / ((y - forecast) @ (y - forecast)))


class Buckets:
    """Ten seconds each: order-flow imbalance, mid change in ticks, mean depth."""

    def __init__(self, day: Day) -> None:
        self.edges = np.arange(OPEN, CLOSE + 1, BUCKET)
        flow = np.append(0, np.cumsum(day.ofi))
        self.ofi = np.diff(flow[day.in_force(self.edges) + 1]).astype(np.float64)
        self.move = np.diff(day.mid_x2[day.in_force(self.edges)]) / (2 * TICK)
        self.start, self.end = self.edges[:-1], self.edges[1:]


def cks_windows(day: Day) -> list[Figures]:
    """The entry of this name."""
    buckets, depth, out = Buckets(day), (day.bid_qty + day.ask_qty) / 2, []
    for start in range(34_200 * SECOND, CLOSE, HALF_HOUR):
        mine = (buckets.start >= start) & (buckets.end <= start + HALF_HOUR)
        line = Line.through(buckets.ofi[mine], buckets.move[mine])
        edges = buckets.start[mine]
        out.append(
            {
                "start": start / SECOND,
                "n": int(mine.sum()),
                "beta_ticks_per_1000_shares": line.beta * 1000,
                "r2": line.r2,
                "mean_depth": float(np.mean([day.mean(depth, int(at), int(at) + BUCKET) for at in edges])),
            }
        )
    return out


def cks_full_day(day: Day) -> Figures:
    """The entry of this name."""
    buckets = Buckets(day)
    line = Line.through(buckets.ofi, buckets.move)
    return {"beta_ticks_per_1000_shares": line.beta * 1000, "r2": line.r2, "buckets": len(buckets.ofi)}


def forecast(day: Day, lag: int) -> Figures:
    """`contemporaneous` (lag 0) and `lagged` (1)."""
    buckets = Buckets(day)
    parts = []
    for mine in (buckets.end <= SPLIT, buckets.start >= SPLIT):
        x, y = buckets.ofi[mine], buckets.move[mine]
        parts.append((x[: len(x) - lag], y[lag:]))
    (x, y), (x_test, y_test) = parts
    line = Line.through(x, y)
    return {
        "r2_oos": line.score(x_test, y_test, float(y.mean())),
        "beta": line.beta,
        "alpha": line.alpha,
        "n_train": len(x),
        "n_test": len(x_test),
    }


def auc(score: Floats, up: npt.NDArray[np.bool_]) -> float:
    """By ranks, those of ties averaged."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    positive, negative = int(up.sum()), int((~up).sum())
    return float((rank[up].sum() - positive * (positive + 1) / 2) / (positive * negative))


def imbalance(day: Day) -> Figures:
    """The entry of this name."""
    at: Ints = np.arange(OPEN, CLOSE, SECOND)
    row = day.in_force(at)
    score = (day.bid_qty[row] - day.ask_qty[row]) / (day.bid_qty[row] + day.ask_qty[row])
    changes = np.flatnonzero(np.diff(day.mid_x2)) + 1
    place = np.searchsorted(changes, row, side="right")
    known = place < len(changes)
    at, row, score, change = at[known], row[known], score[known], changes[place[known]]
    up, when = day.mid_x2[change] > day.mid_x2[row], day.time[change]
    train = (at < SPLIT) & (when < SPLIT)
    test = (at >= SPLIT) & (when < CLOSE)
    # The edges are those of the published curve: -1 + 0.2 i as floats, some a little beyond the decimal.
    bins = np.clip(np.searchsorted(-1 + 0.2 * np.arange(11), score[test], side="right") - 1, 0, 9)
    return {
        "auc_oos": auc(score[test], up[test]),
        "auc_train": auc(score[train], up[train]),
        "n_train": int(train.sum()),
        "n_test": int(test.sum()),
        "base_rate_test": float(up[test].mean()),
        "curve": [
            {
                "lo": round(-1 + 0.2 * i, 1),
                "n": int((bins == i).sum()),
                "p_up": float(up[test][bins == i].mean()),
            }
            for i in range(10)
        ],
    }


def spread_decomposition(day: Day) -> list[Figures]:
    """The entry of this name."""
    trades, when = day.trades, day.time[day.trades.row]
    mine = (when >= OPEN) & (when < 57_240 * SECOND)
    row, sign, size, price = (x[mine] for x in (trades.row, trades.sign, trades.size, trades.price))
    before = day.mid_x2[row - 1] / 2
    out = []
    for horizon in (5, 60):
        after = day.mid_x2[day.in_force(when[mine] + horizon * SECOND)] / 2
        paid = {"effective": price - before, "realized": price - after, "impact": after - before}
        entry: Figures = {"horizon": float(horizon), "n_trades": int(mine.sum())}
        for name, distance in paid.items():
            cost = 2 * sign * distance
            entry[f"{name}_ticks"] = float((cost / TICK * size).sum() / size.sum())
            entry[f"{name}_bps"] = float((cost / before * 10_000 * size).sum() / size.sum())
        out.append(entry)
    return out


def whole_file(day: Day) -> Figures:
    """The entry of this name."""
    sign = np.sign(day.signed_qty[day.is_visible])
    return {
        "rows": len(day.time),
        "by_type": by_type(day, np.ones(len(day.time), np.bool_)),
        "median_mid_usd": float(np.median(day.mid_x2 / 2)) / 10_000,
        "median_spread_ticks": float(np.median(day.spread)) / TICK,
        "exec_sign_acf": {str(lag): autocorrelation(sign, lag) for lag in (1, 2, 5, 10, 20, 50, 100)},
    }
