"""The references of windows and averages against rule 8, worked out from everything that happened."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureplane.features.kernels.averages import Ema, EmaTime, MeanOver, RelativeTicks
from featureplane.features.kernels.cell import NO_VALUE, NOT_WARM, OVERFLOWN, Cell
from featureplane.features.kernels.quanta import QUANTA, Quanta
from featureplane.features.kernels.returns import RealizedVol, ReturnBps
from featureplane.features.kernels.rolling import CumSum, Mean, Std, ZScore
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.features.kernels.window import StdOver, SumOver, TradeImbalance
from featureplane.units import I64_MAX, exp2_neg

MS = 1_000_000
SECOND = 1_000 * MS
LIMIT = 2**47
WINDOWS = (MS, 5 * MS, SECOND)


@dataclass
class History:
    """What a kernel was told since its reset."""

    steps: list[int] = field(default_factory=list)
    advances: list[tuple[int, int]] = field(default_factory=list)
    ends: list[tuple[int, int | None]] = field(default_factory=list)

    def inside(self, window_ns: int) -> list[int]:
        return [x for clock, x in self.advances if clock >= self.edge(window_ns)]

    def edge(self, window_ns: int) -> int:
        q = window_ns // 1000
        return (self.steps[-1] // q - 999) * q

    def covered(self, window_ns: int, kind: str) -> bool:
        since = self.steps[:1]
        if kind == "state":
            since = [clock for clock, _ in self.advances[:1]]
            since += [clock for clock, x in self.ends if x is not None][:1]
        return bool(since) and since[0] < self.edge(window_ns)


Definition = Callable[[History, dict[str, Any]], Cell]


def sum_over(history: History, params: dict[str, Any]) -> Cell:
    if not history.covered(**params):
        return NOT_WARM
    return Cell.of_int(sum(history.inside(params["window_ns"])))


def deviation(inputs: list[int], least: int) -> Cell:
    if any(abs(x) >= LIMIT for x in inputs):
        return OVERFLOWN
    if len(inputs) < least:
        return NO_VALUE
    n = len(inputs)
    mean = Fraction(sum(inputs), n)
    scatter = sum((x - mean) ** 2 for x in inputs) * n
    assert Fraction(scatter).denominator == 1
    return Cell.of_float(math.sqrt(float(int(scatter))) / float(n))


def std_over(history: History, params: dict[str, Any]) -> Cell:
    if not history.covered(**params):
        return NOT_WARM
    return deviation(history.inside(params["window_ns"]), 2)


def trade_imbalance(history: History, params: dict[str, Any]) -> Cell:
    if not history.covered(params["window_ns"], "flow"):
        return NOT_WARM
    inside = history.inside(params["window_ns"])
    size = sum(abs(x) for x in inside)
    return Cell.of_int(round(Fraction(10**6 * sum(inside), size))) if size else NO_VALUE


def mean_over(history: History, params: dict[str, Any]) -> Cell:
    watched = History(history.steps, [], history.ends)
    if not watched.covered(**params):
        return NOT_WARM
    integral = defined_ns = 0
    clocks = [clock for clock, _ in history.ends[1:]] + history.steps[-1:]
    for (since, held), until in zip(history.ends, clocks, strict=True):
        ns = until - max(since, history.edge(params["window_ns"]))
        if held is not None and ns > 0:
            integral += held * ns
            defined_ns += ns
    return Cell.of_float(float(integral) / float(defined_ns)) if defined_ns else NO_VALUE


def return_bps(history: History, params: dict[str, Any]) -> Cell:
    edge = history.edge(params["window_ns"])
    before = [mid for clock, mid in history.advances if clock < edge]
    if not before:
        return NOT_WARM
    if before[-1] <= 0:
        return NO_VALUE
    now = history.advances[-1][1]
    return Cell.of_int(round(Fraction(10**9 * (now - before[-1]), before[-1])))


def realized_vol(history: History, params: dict[str, Any]) -> Cell:
    if not history.covered(params["window_ns"], "state"):
        return NOT_WARM
    edge = history.edge(params["window_ns"])
    returns = [
        round(Fraction(10**9 * (m - before), before))
        for (_, before), (clock, m) in zip(history.advances, history.advances[1:], strict=False)
        if clock >= edge and before > 0
    ]
    if any(abs(r) >= LIMIT for r in returns):
        return OVERFLOWN
    return Cell.of_int(math.isqrt(sum(r * r for r in returns)))


def last(history: History, n: int) -> list[int]:
    return [x for _, x in history.advances[-n:]]


def mean(history: History, params: dict[str, Any]) -> Cell:
    inputs = last(history, **params)
    if len(inputs) < params["n"]:
        return NOT_WARM
    return Cell.of_float(float(sum(inputs)) / float(len(inputs)))


def std(history: History, params: dict[str, Any]) -> Cell:
    inputs = last(history, **params)
    return NOT_WARM if len(inputs) < params["n"] else deviation(inputs, 1)


def zscore(history: History, params: dict[str, Any]) -> Cell:
    spread = std(history, params)
    if spread.value is None:
        return spread
    inputs = last(history, **params)
    n, s1, s2 = len(inputs), sum(inputs), sum(x * x for x in inputs)
    if n * s2 == s1 * s1:
        return NO_VALUE
    return Cell.of_float(float(n * inputs[-1] - s1) / math.sqrt(float(n * s2 - s1 * s1)))


def cumsum(history: History, _: dict[str, Any]) -> Cell:
    sums = [sum(last(history, len(history.advances))[:n]) for n in range(1, len(history.advances) + 1)]
    if any(abs(s) > I64_MAX for s in sums):
        return OVERFLOWN
    return Cell.of_int(sums[-1]) if sums else NOT_WARM


def ema(history: History, params: dict[str, Any]) -> Cell:
    inputs = last(history, len(history.advances)) if history.advances else []
    if len(inputs) < params["n"]:
        return NOT_WARM
    alpha = 2.0 / (float(params["n"]) + 1.0)
    p = float(inputs[0])
    for x in inputs[1:]:
        p = p + alpha * (float(x) - p)
    return Cell.of_float(p)


def ema_time(history: History, params: dict[str, Any]) -> Cell:
    h = params["half_life_ns"]
    advances = history.advances
    if not advances or advances[-1][0] - advances[0][0] < 3 * h:
        return NOT_WARM
    p = float(advances[0][1])
    for (since, held), (clock, _) in pairwise(advances):
        p = float(held) + exp2_neg(clock - since, h) * (p - float(held))
    return Cell.of_float(p)


small = st.integers(-50, 50)
any_size = st.integers(-I64_MAX, I64_MAX)
squares = st.sampled_from([LIMIT, -LIMIT, LIMIT - 1, 1 - LIMIT, 0, 7])
mids = st.one_of(st.integers(4_999_000, 5_001_000), st.sampled_from([2**54, 1, 0, -3]))

KERNELS: list[tuple[type, Definition, st.SearchStrategy[int], list[dict[str, Any]]]] = [
    (
        SumOver,
        sum_over,
        small | any_size,
        [{"window_ns": w, "kind": k} for w in WINDOWS for k in ("flow", "state")],
    ),
    (
        StdOver,
        std_over,
        small | squares,
        [{"window_ns": w, "kind": k} for w in WINDOWS for k in ("flow", "state")],
    ),
    (
        MeanOver,
        mean_over,
        small | any_size,
        [{"window_ns": w, "kind": k} for w in WINDOWS for k in ("flow", "state")],
    ),
    (TradeImbalance, trade_imbalance, small | any_size, [{"window_ns": w} for w in WINDOWS]),
    (ReturnBps, return_bps, mids, [{"window_ns": w} for w in WINDOWS]),
    (RealizedVol, realized_vol, mids, [{"window_ns": w} for w in WINDOWS]),
    (Mean, mean, small | any_size, [{"n": n} for n in (1, 2, 5)]),
    (Std, std, small | squares, [{"n": n} for n in (1, 2, 5)]),
    (ZScore, zscore, small | squares, [{"n": n} for n in (1, 2, 5)]),
    (CumSum, cumsum, small | any_size, [{}]),
    (Ema, ema, small | any_size, [{"n": n} for n in (1, 3)]),
    (EmaTime, ema_time, small | any_size, [{"half_life_ns": h} for h in (MS // 10, SECOND)]),
]


def state_of(kernel: Any) -> bytes:
    out = StateWriter()
    kernel.save(out)
    return out.bytes()


def revived(make: type, params: dict[str, Any], data: bytes) -> Any:
    kernel: Any = make(**params)
    reader = StateReader(data)
    kernel.load(reader)
    reader.finish()
    return kernel


def tell(kernel: Any, hook: str, *words: Any) -> None:
    if hasattr(kernel, hook):
        getattr(kernel, hook)(*words)


def pauses(scale_ns: int) -> st.SearchStrategy[int]:
    """Nothing, a quantum give or take one, a part of the window, and silences longer than it."""
    q = scale_ns // 1000
    return st.one_of(
        st.just(0),
        st.integers(q - 1, q + 1),
        st.integers(0, scale_ns // 4),
        st.integers(scale_ns - 2 * q, scale_ns + 2 * q),
        st.just(40 * scale_ns),
    )


@pytest.mark.parametrize(
    ("make", "definition", "values", "grid"), KERNELS, ids=lambda k: getattr(k, "__name__", "")
)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_rule_8_kernel_is_its_definition(
    make: type,
    definition: Definition,
    values: st.SearchStrategy[int],
    grid: list[dict[str, Any]],
    data: st.DataObject,
) -> None:
    params = data.draw(st.sampled_from(grid))
    kernel: Any = make(**params)
    history = History()
    clock = data.draw(st.integers(0, 2 * SECOND))
    scale = params.get("window_ns", params.get("half_life_ns", SECOND))
    for pause in data.draw(st.lists(pauses(scale), min_size=1, max_size=20)):
        clock += pause
        history.steps.append(clock)
        tell(kernel, "begin", clock)
        for x in data.draw(st.lists(values, max_size=2)) if make is not MeanOver else []:
            history.advances.append((clock, x))
            kernel.update(x, clock)
        if make is MeanOver:
            held = data.draw(st.none() | values)
            assert kernel.read(clock) == definition(history, params), "before the step ends"
            history.ends.append((clock, held))
            kernel.settle(NO_VALUE if held is None else Cell(held, 0), clock)
        assert kernel.read(clock) == definition(history, params)
        if data.draw(st.integers(0, 7)) == 0:
            before = state_of(kernel)
            kernel = revived(make, params, before)
            assert state_of(kernel) == before
            assert kernel.read(clock) == definition(history, params), "from a saved state"
    kernel.reset()
    assert state_of(kernel) == state_of(make(**params)), "reset returns to the initial conditions"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 700), st.integers(-9, 9), st.booleans()), max_size=60))
def test_rule_8_a_sum_of_quanta_is_what_lies_in_them_at_any_clock(
    happened: list[tuple[int, int, bool]],
) -> None:
    sums, told, now = Quanta(QUANTA, "flow", ("i128", "u64")), list[tuple[int, int]](), 0
    for later, x, goes_on in happened:
        now += later
        sums.add(now, x, 1)
        told.append((now, x))
        if not goes_on:
            out = StateWriter()
            sums.save(out)
            sums = Quanta(QUANTA, "flow", ("i128", "u64"))
            sums.load(StateReader(out.bytes()))
        for clock in (now, now, now + 400, now, now + QUANTA):
            inside = [value for at, value in told if clock - QUANTA < at <= clock]
            assert sums.total(0, clock) == sum(inside)
            assert sums.total(1, clock) == len(inside)


class Counting(list[int]):
    """Counts the items that are gone through."""

    passed = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.passed += len(found) if isinstance(place, slice) else 1
        return found


def test_a_window_of_which_only_the_newest_quantum_grows_is_not_gone_through_again() -> None:
    sums = Quanta(QUANTA, "flow", ("i128",))
    for clock in range(500):
        sums.add(clock, clock)
    column = Counting(sums._columns[0])
    sums._columns = (column,)
    for more in range(1, 101):
        sums.add(499, 1)
        assert sums.total(0, 499) == sum(range(500)) + more
    assert 499 <= column.passed < 1_000


def test_rule_8_a_window_of_one_second_on_millisecond_data_is_open_on_the_left() -> None:
    flow = SumOver(SECOND, "flow")
    flow.begin(0)
    flow.update(7, 5 * SECOND)
    assert flow.read(6 * SECOND - MS).value == 7
    assert flow.read(6 * SECOND).value == 0


@pytest.mark.parametrize(
    ("kind", "since"),
    [pytest.param("flow", 0, id="first step"), pytest.param("state", 300 * MS, id="first value")],
)
def test_rule_8_a_window_is_covered_when_its_watch_began_before_the_edge(kind: Any, since: int) -> None:
    kernel = SumOver(SECOND, kind)
    kernel.begin(0)
    kernel.update(1, 300 * MS)
    assert kernel.read(since + SECOND - 1) == NOT_WARM
    assert kernel.read(since + SECOND).value is not None


def test_rule_8_return_is_measured_from_before_a_long_silence() -> None:
    change = ReturnBps(SECOND)
    change.update(1_000, 0)
    change.update(2_000, 3_600 * SECOND)
    assert change.read(3_600 * SECOND).value == 10**9
    assert change.read(3_602 * SECOND).value == 0


def test_rule_8_a_large_return_leaves_with_its_quantum() -> None:
    wobble = RealizedVol(SECOND)
    for mid_x2, clock in ((1, 0), (200_000, SECOND), (200_000, SECOND + MS)):
        wobble.update(mid_x2, clock)
    assert wobble.read(2 * SECOND - MS) == OVERFLOWN
    assert wobble.read(2 * SECOND).value == 0


def test_rule_8_time_without_a_value_does_not_count() -> None:
    average = MeanOver(SECOND, "state")
    average.settle(Cell.of_int(10), 0)
    average.settle(NO_VALUE, 900 * MS)
    average.settle(Cell.of_int(30), 2_000 * MS)
    assert average.read(2_000 * MS) == NO_VALUE
    assert average.integral(2_500 * MS) == (30 * 500 * MS, 500 * MS)


def test_rule_1_2_a_sum_that_left_its_range_is_lost_until_reset() -> None:
    total = CumSum()
    for x in (I64_MAX, 1, -5):
        total.update(x, 0)
    assert total.read(0) == OVERFLOWN
    total.reset()
    total.update(-5, 0)
    assert total.read(0).value == -5


def test_rule_8_a_window_sum_comes_back_into_its_range() -> None:
    flow = SumOver(SECOND, "flow")
    flow.begin(0)
    flow.update(I64_MAX, 2_000 * MS)
    flow.update(1, 2_500 * MS)
    assert flow.read(2_600 * MS) == OVERFLOWN
    assert flow.read(3_000 * MS).value == 1


def test_an_average_that_is_not_finite_never_has_a_value_again() -> None:
    average = Ema(n=1)
    for x in (1.7e308, -1.7e308, 1.0):
        average.update(x, 0)
    assert average.read(0) == NO_VALUE
    assert state_of(average)[8:].hex() == "000000000000f87f"
    assert revived(Ema, {"n": 1}, state_of(average)).read(0) == NO_VALUE


def test_relative_ticks_is_cold_without_a_tick() -> None:
    assert RelativeTicks(tick=None).value(1, 2, 3) == NOT_WARM
    assert RelativeTicks(tick=1).value(I64_MAX, -(2**100), 1) == OVERFLOWN


@pytest.mark.parametrize(
    ("make", "params", "words"),
    [
        pytest.param(SumOver, {"window_ns": MS, "kind": "flow"}, [0, 2, 5, 0, 0, 5, 0, 0], id="quanta twice"),
        pytest.param(SumOver, {"window_ns": MS, "kind": "flow"}, [0, 2, 5, 0, 0, 1005, 0, 0], id="too wide"),
        pytest.param(SumOver, {"window_ns": MS, "kind": "flow"}, [0, 1001], id="too many"),
        pytest.param(MeanOver, {"window_ns": MS, "kind": "state"}, [0, 1, 9, 1, -(2**63), 0], id="undefined"),
        pytest.param(MeanOver, {"window_ns": MS, "kind": "state"}, [0, 1, 9, 0, 1, 1, 0, 0, 1], id="later"),
        pytest.param(ReturnBps, {"window_ns": MS}, [3, -9_000_000, 1, 0, 1, 1_000, 1], id="before two"),
        pytest.param(ZScore, {"n": 2}, [3, 1, 2, 3], id="too many inputs"),
        pytest.param(ZScore, {"n": 2}, [1, -(2**63)], id="undefined input"),
        pytest.param(CumSum, {}, [2, 5], id="a sum that is lost and there"),
        pytest.param(Ema, {"n": 2}, [3, 0], id="more advances than n"),
    ],
)
def test_a_state_no_kernel_wrote_is_refused(make: type, params: dict[str, Any], words: list[int]) -> None:
    data = b"".join(word.to_bytes(8, "little", signed=True) for word in words)
    with pytest.raises(ValueError, match="state"):
        revived(make, params, data)
