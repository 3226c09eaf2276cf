"""Cases of the golden files of kernels over windows and averages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from featureplane.features.kernels.averages import Ema, EmaTime, MeanOver, RelativeTicks
from featureplane.features.kernels.returns import RealizedVol, ReturnBps
from featureplane.features.kernels.rolling import CumSum, Mean, Std, ZScore
from featureplane.features.kernels.window import StdOver, SumOver, TradeImbalance
from scripts.golden_kernels import Case, Op, Random, float_bits

MS = 1_000_000
SECOND = 1_000 * MS
DAY = 86_400 * SECOND
I64_MAX = 2**63 - 1

Value = Callable[[Random], int]


def pause(rng: Random, window_ns: int) -> int:
    """Time to the next step: none, a little, a quantum, a good part of the window, a long silence."""
    match rng.below(16):
        case 0 | 1 | 2 | 3:
            return 0
        case 4 | 5 | 6 | 7 | 8:
            return rng.below(window_ns // 500)
        case 9 | 10:
            return window_ns // 1000
        case 11 | 12 | 13 | 14:
            return rng.below(window_ns // 20)
        case _:
            return rng.below(3 * window_ns)


def steps(seed: int, window_ns: int, value: Value, hooks: str, count: int = 96) -> list[Op]:
    """A life of a kernel over time: steps, of which some bring values, and now and then an accident.

    `hooks`: which of b(egin), u(pdate), s(ettle) and c(lockless reading) the kernel has.
    """
    rng = Random(seed)
    clock = 2 * window_ns + rng.below(window_ns) + (1_700_000_000 * SECOND if window_ns == DAY else 0)
    ops: list[Op] = []
    for _ in range(count):
        clock += pause(rng, window_ns)
        if rng.below(count) == 0:
            ops.append(["reset"])
        if "b" in hooks:
            ops.append(["begin", clock])
        if "u" in hooks:
            ops.extend(["update", value(rng), clock] for _ in range((0, 1, 1, 2)[rng.below(4)]))
        if "s" in hooks:
            ops.append(["settle", None if rng.below(6) == 0 else value(rng), clock])
        ops.append(["read", clock])
        if rng.below(20) == 0:
            ops.append(["save"])
    return [*ops, ["save"]]


def edges(window_ns: int, hooks: str) -> list[Op]:
    """One value, then readings on both sides of the clock from which the window is covered."""
    quantum = window_ns // 1000
    clock, covered = 12 * quantum + 5, 1012 * quantum
    moments = (covered - quantum, covered - 1, covered, covered + 1)
    ops: list[Op] = [["begin", clock]] if "b" in hooks else []
    ops.append(["settle" if "s" in hooks else "update", 1_000, clock])
    ops.append(["settle" if "s" in hooks else "update", 1_003, covered - quantum])
    return [*ops, *(["read", moment] for moment in moments), ["reset"]]


def small(rng: Random) -> int:
    """A few digits."""
    return rng.signed(10)


def any_size(rng: Random) -> int:
    """Of every magnitude an integer can have."""
    return rng.signed(63)


def huge(rng: Random) -> int:
    """Sums of a few leave 64 bits."""
    return rng.signed(4) * 2**59


def around_the_square_limit(rng: Random) -> int:
    """Below 2^47, now and then not."""
    if rng.below(40) == 0:
        return (2**47, -(2**47), I64_MAX)[rng.below(3)]
    return (2**47 - 1, 1 - 2**47, 0, 3)[rng.below(4)]


def mid(rng: Random) -> int:
    """A doubled price that moves a little."""
    return 5_000_000 + rng.signed(6)


def wild_mid(rng: Random) -> int:
    """Prices no market has, some of them not positive."""
    return (2**54, 1, 0, -7, 3 * 10**9, 10**9)[rng.below(6)] + rng.below(4)


def over_time(hooks: str, values: tuple[Value, ...], seed: int, **params: Any) -> list[Case]:
    """Windows of every length, each with each kind of value."""
    return [
        Case(
            {"window_ns": window_ns, **params},
            edges(window_ns, hooks) + steps(seed + i, window_ns, value, hooks),
        )
        for i, (window_ns, value) in enumerate(
            (window_ns, value) for window_ns in (MS, 5 * SECOND, DAY) for value in values
        )
    ]


def by_count(values: tuple[Value, ...], seed: int, lengths: tuple[int, ...], key: str = "n") -> list[Case]:
    """Windows by number of advances."""
    return [
        Case({key: n} if key else {}, steps(seed + i, SECOND, value, "u", count=90))
        for i, (n, value) in enumerate((n, value) for n in lengths for value in values)
    ]


def floats(cases: list[Case]) -> list[Case]:
    """The same with floats for inputs, some beyond every range."""
    extremes = (1e308, -1e308, 5e-324, 0.1)
    for case in cases:
        for op in case.ops:
            if op[0] == "update":
                x = op[1]
                op[1] = float_bits(extremes[x % 4] if x % 97 == 0 else x / 8)
    return cases


def distances(seed: int) -> list[Op]:
    """Prices against means, magnitudes of every kind."""
    rng = Random(seed)
    return [
        ["value", rng.signed(bits), {"i128": str(rng.signed(bits + 40))}, 1 + rng.below(2**46)]
        for bits in (8, 20, 40, 54, 63)
        for _ in range(30)
    ]


def cases() -> dict[str, tuple[type, list[Case]]]:
    """By kernel: class and cases."""
    wide = (small, any_size)
    squares = (small, around_the_square_limit)
    mids = (mid, wild_mid)
    return {
        "sum_over": (
            SumOver,
            over_time("bu", wide, 100, kind="flow") + over_time("bu", (small,), 110, kind="state"),
        ),
        "std_over": (
            StdOver,
            over_time("bu", squares, 200, kind="flow") + over_time("bu", (small,), 210, kind="state"),
        ),
        "trade_imbalance": (TradeImbalance, over_time("bu", wide, 300)),
        "mean_over": (
            MeanOver,
            over_time("bs", wide, 400, kind="state") + over_time("bs", (small,), 410, kind="flow"),
        ),
        "return_bps": (ReturnBps, over_time("u", mids, 500)),
        "realized_vol": (RealizedVol, over_time("u", mids, 600)),
        "relative_ticks": (
            RelativeTicks,
            [Case({"tick": tick}, distances(700 + i)) for i, tick in enumerate((1, 10, 2**52, None))],
        ),
        "mean": (Mean, by_count(wide, 800, (1, 2, 7, 50))),
        "std": (Std, by_count(squares, 900, (1, 2, 7, 50))),
        "zscore": (ZScore, by_count(squares, 1000, (1, 2, 7, 50))),
        "cumsum": (CumSum, by_count((*wide, huge), 1100, (0,), key="")),
        "ema": (Ema, by_count(wide, 1200, (1, 3, 20)) + floats(by_count((any_size,), 1210, (3,)))),
        "ema_time": (
            EmaTime,
            by_count(wide, 1300, (MS, SECOND // 10, SECOND), "half_life_ns")
            + floats(by_count((any_size,), 1310, (MS,), "half_life_ns")),
        ),
    }
