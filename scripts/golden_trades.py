"""Cases of the golden files of kernels over trades and series, and of those without state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from featureplane.features.kernels.arithmetic import (
    Abs,
    Add,
    Bucket,
    Clip,
    Div,
    Fixed,
    Mul,
    RatioPpm,
    Roll,
    Sub,
)
from featureplane.features.kernels.series import Autocov, Diff, Lag, Max, Min
from featureplane.features.kernels.toxicity import KyleLambda, Vpin
from featureplane.features.kernels.trades import (
    MsSinceTrade,
    SignedQty,
    TradeCount,
    TradeIntensity,
    TradePrice,
)
from scripts.golden_kernels import Case, Op, Random, float_bits

I64_MAX = 2**63 - 1
MS = 1_000_000

Number = Callable[[Random], Any]


def any_integer(rng: Random) -> int:
    """Of every magnitude, the largest one now and then."""
    return (I64_MAX, -I64_MAX)[rng.below(2)] if rng.below(24) == 0 else rng.signed(63)


def any_float(rng: Random) -> str:
    """Of many magnitudes, halves often, the ends of the range now and then."""
    if rng.below(12) == 0:
        return float_bits((1.7e308, -1.7e308, 5e-324, 0.0, 2.0**53, -(2.0**53) - 2)[rng.below(6)])
    return float_bits(rng.signed(54) / 2 ** rng.below(40) + 0.0)


def small(rng: Random) -> int:
    """Of one digit, so that equal ones meet."""
    return rng.signed(3)


def around_the_square_limit(rng: Random) -> int:
    """Below 2^47, now and then not."""
    if rng.below(24) == 0:
        return (2**47, -(2**47), I64_MAX)[rng.below(3)]
    return (2**47 - 1, 1 - 2**47, 0, 3)[rng.below(4)]


def series(seed: int, value: Number, count: int = 80) -> list[Op]:
    """Values, each followed by a reading; a reset and some savings in between."""
    rng = Random(seed)
    ops: list[Op] = []
    for _ in range(count):
        if rng.below(count) == 0:
            ops.append(["reset"])
        ops += [["update", value(rng), 0], ["read", 0]]
        if rng.below(16) == 0:
            ops.append(["save"])
    return [*ops, ["save"]]


def over_series(values: Iterable[Number], seed: int, shapes: Iterable[dict[str, Any]]) -> list[Case]:
    """Every shape of window with every kind of value; floats where the values are."""
    cases: list[Case] = []
    for value in values:
        dtype = {"dtype": "f64"} if value is any_float else {}
        cases += [
            Case(shape | dtype, series(seed + 31 * len(cases) + i, value)) for i, shape in enumerate(shapes)
        ]
    return cases


def lengths(*ns: int) -> list[dict[str, Any]]:
    """Shapes that are a number of advances."""
    return [{"n": n} for n in ns]


def tape(seed: int, hooks: str = "", count: int = 80) -> list[Op]:
    """Messages of one to three trades around a mid that is sometimes not there."""
    rng = Random(seed)
    clock, ops = 1_000 * rng.below(10**6), list[Op]()
    for step in range(count):
        clock += (0, rng.below(MS), rng.below(900 * MS), rng.below(9_000 * MS))[rng.below(4)]
        if rng.below(count) == 0:
            ops.append(["reset"])
        if "b" in hooks:
            ops.append(["begin", clock])
        mid_before = None if rng.below(4) == 0 else 200 + rng.signed(3)
        for _ in range((0, 1, 1, 1, 3)[rng.below(5)]):
            price, sign = 100 + rng.signed(2), (0, 0, 1, -1)[rng.below(4)]
            ops.append(["trade", price, 1 + rng.below(50), sign, clock, rng.below(5) == 0, mid_before, step])
        ops.append(["read", clock])
        if rng.below(16) == 0:
            ops.append(["save"])
    return [*ops, ["save"]]


def over_tapes(seed: int, hooks: str = "", **params: Any) -> list[Case]:
    """With hidden executions and without."""
    return [Case({"hidden": hidden, **params}, tape(seed + hidden, hooks)) for hidden in (True, False)]


def at_the_edge(half_life_ns: int) -> Case:
    """Readings around the end of the warm-up of `trade_intensity`."""
    reads = [["read", 7 + 3 * half_life_ns + off] for off in (-1, 0, 1)]
    return Case({"hidden": True, "half_life_ns": half_life_ns}, [["begin", 7], *reads])


def volumes(seed: int, bucket: int | None, n: int) -> Case:
    """Signed sizes from a small part of a bucket to far more than all that are looked at."""
    rng = Random(seed)
    ops: list[Op] = []
    for _ in range(60):
        size = (1 + (bucket or 1) // 3, (bucket or 1) * 2, rng.below(n + 3) * (bucket or 1), I64_MAX)
        q = min(size[rng.below(3) if rng.below(30) else 3], I64_MAX)
        ops += [["update", (1 + rng.below(q)) * (1, -1)[rng.below(2)] if q else 0, 0], ["read", 0]]
        if rng.below(12) == 0:
            ops.append(["save"])
    return Case({"bucket": bucket, "n": n}, [*ops, ["reset"], ["read", 0], ["save"]])


def impacts(seed: int, n: int, size: Number) -> Case:
    """Messages of signed trades; a mid that is sometimes not there, or very far."""
    rng = Random(seed)
    ops: list[Op] = []
    mid = 4_000_000
    for step in range(90):
        mid += rng.signed(6)
        mid_before = (None, mid + 2**50, *[mid] * 14)[rng.below(16)]
        ops += [["update", size(rng), mid_before, step] for _ in range((1, 1, 3)[rng.below(3)])]
        ops.append(["read", 0])
        if rng.below(12) == 0:
            ops.append(["save"])
    return Case({"n": n}, [*ops, ["reset"], ["read", 0], ["save"]])


def values(seed: int, *inputs: Number, count: int = 40) -> list[Op]:
    """Inputs of a kernel without state."""
    rng = Random(seed)
    return [["value", *(value(rng) for value in inputs)] for _ in range(count)]


def pairs(seed: int) -> list[Case]:
    """Operands of both types, equal and mixed."""
    mixes = [(a, b) for a in (any_integer, small, any_float) for b in (any_integer, small, any_float)]
    return [Case({}, values(seed + i, *mix, count=16)) for i, mix in enumerate(mixes)]


def stateless() -> dict[str, tuple[type, list[Case]]]:
    """Kernels without state."""
    edges: list[dict[str, Any]] = [
        {"edges": [0.5, 1.5, 3.0]},
        {"edges": []},
        {"edges": [-(2.0**53), 2.0**53]},
    ]
    return {
        "clip": (
            Clip,
            [
                Case({"lo": -3, "hi": 3}, values(1, any_integer) + values(2, small)),
                Case({"lo": -0.5, "hi": 2.0**40}, values(3, any_float)),
            ],
        ),
        "abs": (
            Abs,
            [Case({}, values(4 + i, value, count=60)) for i, value in enumerate((any_integer, any_float))],
        ),
        "add": (Add, pairs(10)),
        "sub": (Sub, pairs(20)),
        "mul": (Mul, pairs(30)),
        "div": (Div, pairs(40)),
        "ratio_ppm": (
            RatioPpm,
            [
                Case({}, values(50, any_integer, any_integer)),
                Case({}, values(51, small, any_integer)),
                Case({}, values(52, small, small)),
                Case({}, [["value", x, y] for x in range(-5, 6) for y in (2_000_000, -2_000_000, 6_000_000)]),
            ],
        ),
        "fixed": (
            Fixed,
            [
                Case({"k": k}, values(60 + i, value))
                for i, (k, value) in enumerate(
                    (k, v) for k in (1, 1_000, 10**9) for v in (any_float, any_integer)
                )
            ],
        ),
        "bucket": (
            Bucket,
            [
                Case(shape, values(70 + i, value, count=20))
                for i, (shape, value) in enumerate(
                    (e, v) for e in edges for v in (any_float, any_integer, small)
                )
            ],
        ),
        "roll": (Roll, [Case({}, values(80, any_float, count=110))]),
    }


def cases() -> dict[str, tuple[type, list[Case]]]:
    """By kernel name, its class and its cases."""
    either = (any_integer, small, any_float)
    autocov: list[dict[str, Any]] = [
        {"lag": k, "n": n} for k, n in ((0, 2), (1, 2), (1, 40), (7, 8), (5, 40))
    ]
    sizes = (small, around_the_square_limit, lambda rng: rng.signed(40))
    return {
        "lag": (Lag, over_series(either, 100, lengths(1, 7))),
        "diff": (Diff, over_series(either, 200, [{}])),
        "min": (Min, over_series(either, 300, lengths(1, 2, 16))),
        "max": (Max, over_series(either, 400, lengths(1, 2, 16))),
        "autocov": (Autocov, over_series((small, around_the_square_limit), 500, autocov)),
        "signed_qty": (SignedQty, over_tapes(600)),
        "trade_price": (TradePrice, over_tapes(610)),
        "trade_count": (TradeCount, over_tapes(620)),
        "ms_since_trade": (MsSinceTrade, over_tapes(630)),
        "trade_intensity": (
            TradeIntensity,
            [
                case
                for i, h in enumerate((1, 5 * MS, 5_000 * MS))
                for case in (*over_tapes(640 + 2 * i, "b", half_life_ns=h), at_the_edge(h))
            ],
        ),
        "vpin": (
            Vpin,
            [
                volumes(700 + i, bucket, n)
                for i, (bucket, n) in enumerate(((1, 1), (7, 3), (1_000, 20), (2**53 - 1, 4), (None, 2)))
            ],
        ),
        "kyle_lambda": (
            KyleLambda,
            [impacts(800 + 3 * n + i, n, size) for n in (2, 16) for i, size in enumerate(sizes)],
        ),
        **stateless(),
    }
