"""Kernels that read trades, against the rule worked out from all trades so far (rule 8)."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featureplane.features.kernels.cell import NO_VALUE, NOT_WARM, OVERFLOWN, Cell
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.features.kernels.toxicity import KyleLambda, Vpin
from featureplane.features.kernels.trades import (
    MsSinceTrade,
    SignedQty,
    TradeCount,
    TradeIntensity,
    TradePrice,
    TradeTick,
)
from featureplane.units import I64_MAX, exp2_neg

LN_2 = float.fromhex("0x1.62e42fefa39efp-1")

prices = st.integers(98, 102)
trades = st.builds(
    TradeTick,
    price=prices,
    qty=st.integers(1, 9),
    sign=st.sampled_from([0, 0, 1, -1]),
    clock_ns=st.just(0),
    hidden=st.booleans(),
    mid_before=st.none() | st.integers(196, 204),
)


def lee_ready(trade: TradeTick, before: list[int]) -> int:
    """Sign after Lee and Ready, from the prices of all trades before."""
    if trade.sign:
        return trade.sign
    if trade.mid_before is not None and 2 * trade.price != trade.mid_before:
        return 1 if 2 * trade.price > trade.mid_before else -1
    others = [price for price in before if price != trade.price]
    return 0 if not others else 1 if trade.price > others[-1] else -1


@given(stream=st.lists(trades, max_size=30), hidden=st.booleans())
def test_rule_8_signed_qty_after_lee_and_ready(*, stream: list[TradeTick], hidden: bool) -> None:
    kernel = SignedQty(hidden=hidden)
    seen: list[int] = []
    expected = NOT_WARM
    for trade in stream:
        sign = 0
        if hidden or not trade.hidden:
            sign = lee_ready(trade, seen)
            seen.append(trade.price)
        assert kernel.update(trade) is (sign != 0)
        expected = Cell(sign * trade.qty, 0) if sign else expected
        assert kernel.read(0) == expected


@given(stream=st.lists(trades, max_size=30), hidden=st.booleans())
def test_rule_8_trade_price_and_count(*, stream: list[TradeTick], hidden: bool) -> None:
    price, count = TradePrice(hidden=hidden), TradeCount(hidden=hidden)
    seen: list[int] = []
    assert (price.read(0), count.read(0)) == (NOT_WARM, NOT_WARM)
    for trade in stream:
        reads = hidden or not trade.hidden
        assert price.update(trade) is reads
        assert count.update(trade) is reads
        if reads:
            seen.append(trade.price)
        assert price.read(0) == (Cell(seen[-1], 0) if seen else NOT_WARM)
        assert count.read(0) == (Cell(len(seen), 0) if seen else NOT_WARM)


@given(traded_ns=st.integers(0, 1 << 62), age_ns=st.integers(0, 1 << 62))
def test_rule_8_ms_since_trade_cuts(traded_ns: int, age_ns: int) -> None:
    kernel = MsSinceTrade()
    assert kernel.read(traded_ns) == NOT_WARM
    kernel.update(TradeTick(price=1, qty=1, sign=0, clock_ns=traded_ns))
    assert kernel.read(traded_ns + age_ns) == Cell(age_ns // 10**6, 0)


@given(steps=st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 2)), max_size=20))
def test_rule_8_trade_intensity_step_by_step(steps: list[tuple[int, int]]) -> None:
    h = 700
    kernel = TradeIntensity(h)
    clock_ns = 1_000
    s, traded_ns = 0.0, None
    for wait_ns, count in steps:
        clock_ns += wait_ns
        kernel.begin(clock_ns)
        for _ in range(count):
            kernel.update(TradeTick(price=1, qty=1, sign=0, clock_ns=clock_ns))
            s = 1.0 if traded_ns is None else s * exp2_neg(clock_ns - traded_ns, h) + 1.0
            traded_ns = clock_ns
        begun_ns = 1_000 + steps[0][0]
        rate = 0.0 if traded_ns is None else s * exp2_neg(clock_ns - traded_ns, h) * (LN_2 * 1e9 / float(h))
        assert kernel.read(clock_ns) == (Cell(rate, 0) if clock_ns - begun_ns >= 3 * h else NOT_WARM)


def test_rule_8_trade_intensity_is_zero_before_the_first_trade() -> None:
    kernel = TradeIntensity(10)
    assert kernel.read(100) == NOT_WARM
    kernel.begin(100)
    assert kernel.read(129) == NOT_WARM
    assert kernel.read(130) == Cell(0.0, 0)


def buckets_unit_by_unit(signed: list[int], bucket: int) -> list[int]:
    """|buy - sell| of the full buckets, every unit of size poured in on its own."""
    full, net, filled = [], 0, 0
    for q in signed:
        for _ in range(abs(q)):
            net, filled = net + (1 if q > 0 else -1), filled + 1
            if filled == bucket:
                full.append(abs(net))
                net = filled = 0
    return full


@given(signed=st.lists(st.integers(-40, 40), max_size=30), bucket=st.integers(1, 12), n=st.integers(1, 5))
@example(signed=[5, 5], bucket=10, n=1)
def test_rule_8_vpin_splits_trades_at_the_edge(signed: list[int], bucket: int, n: int) -> None:
    kernel = Vpin(bucket, n)
    for i, q in enumerate(signed):
        kernel.update(q)
        full = buckets_unit_by_unit(signed[: i + 1], bucket)
        total = 0
        for imbalance in full[-n:]:
            total += imbalance
        expected = Cell(round(Fraction(10**6 * total, n * bucket)), 0) if len(full) >= n else NOT_WARM
        assert kernel.read(0) == expected


def test_rule_8_vpin_of_a_giant_needs_no_loop() -> None:
    kernel = Vpin(1, 65_536)
    kernel.update(I64_MAX)
    assert kernel.read(0) == Cell(10**6, 0)


def test_rule_8_vpin_without_a_bucket_is_never_defined() -> None:
    kernel = Vpin(None, 1)
    kernel.update(I64_MAX)
    assert kernel.read(0) == NOT_WARM


messages = st.lists(
    st.tuples(
        st.none() | st.integers(1_000, 1_030) | st.just(1 << 53),
        st.lists(st.integers(-20, 20) | st.sampled_from([1 << 47, -(1 << 47), (1 << 47) - 1]), min_size=1),
    ),
    max_size=20,
)


def slope(pairs: list[tuple[int, int]]) -> Cell:
    if any(max(abs(x), abs(y)) >= 1 << 47 for x, y in pairs):
        return OVERFLOWN
    n = len(pairs)
    above = below = 0
    for x, y in pairs:
        for x_2, y_2 in pairs:
            # Twice the rule's sums, as differences of all pairs of pairs.
            above += (x - x_2) * (y - y_2)
            below += (x - x_2) * (x - x_2)
    assert n > 1
    return NO_VALUE if below == 0 else Cell.of_float(float(above // 2) / (2.0 * float(below // 2)))


@given(stream=messages, n=st.integers(2, 5))
@example(stream=[(1_000, [1 << 47]), (1_001, [1]), (1_003, [2]), (1_004, [3])], n=2)
def test_rule_8_kyle_lambda_of_completed_pairs(stream: list[tuple[int | None, list[int]]], n: int) -> None:
    kernel = KyleLambda(n)
    for step, (mid, sizes) in enumerate(stream):
        for q in sizes:
            kernel.update(q, mid, step)
        pairs = []
        for (mid_1, sizes_1), (mid_2, _) in pairwise(stream[: step + 1]):
            size = 0
            for q in sizes_1:
                size += q
            if mid_1 is not None and mid_2 is not None:
                pairs.append((size, mid_2 - mid_1))
        assert kernel.read(0) == (slope(pairs[-n:]) if len(pairs) >= n else NOT_WARM)


TRADE_KERNELS: list[Callable[[], SignedQty | TradePrice | TradeCount | MsSinceTrade | TradeIntensity]] = [
    SignedQty,
    TradePrice,
    lambda: TradeCount(hidden=False),
    MsSinceTrade,
    lambda: TradeIntensity(500),
]


@pytest.mark.parametrize("build", TRADE_KERNELS)
@given(stream=st.lists(trades, max_size=12), cut=st.integers(0, 12))
def test_rule_8_restore_continues(
    build: Callable[[], SignedQty | TradeIntensity], stream: list[TradeTick], cut: int
) -> None:
    kernel, twin = build(), build()
    for i, trade in enumerate(stream):
        if i == cut:
            out = StateWriter()
            kernel.save(out)
            state = StateReader(out.bytes())
            twin.load(state)
            state.finish()
        at = trade._replace(clock_ns=400 * i)
        for one in (kernel, twin) if i >= cut else (kernel,):
            if isinstance(one, TradeIntensity):
                one.begin(at.clock_ns)
            one.update(at)
        if i >= cut:
            assert twin.read(at.clock_ns + 7) == kernel.read(at.clock_ns + 7)


@given(stream=messages, cut=st.integers(0, 20))
def test_rule_8_restore_continues_with_the_next_message(
    stream: list[tuple[int | None, list[int]]], cut: int
) -> None:
    kernel, twin = KyleLambda(3), KyleLambda(3)
    vpin, vpin_twin = Vpin(7, 3), Vpin(7, 3)
    for step, (mid, sizes) in enumerate(stream):
        if step == cut:
            out = StateWriter()
            kernel.save(out)
            vpin.save(out)
            state = StateReader(out.bytes())
            twin.load(state)
            vpin_twin.load(state)
            state.finish()
        for q in sizes:
            kernel.update(q, mid, step)
            vpin.update(q)
            if step >= cut:
                # Steps are only told apart; another engine may count them from elsewhere.
                twin.update(q, mid, step + 1_000)
                vpin_twin.update(q)
        if step >= cut:
            assert (twin.read(0), vpin_twin.read(0)) == (kernel.read(0), vpin.read(0))


def test_rule_8_state_bytes_are_pinned() -> None:
    signed, intensity, vpin, impact = SignedQty(), TradeIntensity(10), Vpin(10, 2), KyleLambda(2)
    intensity.begin(5)
    for price, clock_ns in ((100, 6), (101, 16)):
        trade = TradeTick(price=price, qty=13, sign=1, clock_ns=clock_ns)
        signed.update(trade)
        intensity.update(trade)
        vpin.update(13)
        impact.update(13, 2 * price, clock_ns)
    impact.update(-3, 999, 16)
    assert saved(signed) == struct.pack("<QqQqQq", 1, 13, 1, 101, 1, 100)
    assert saved(intensity) == struct.pack("<QqQqd", 1, 5, 1, 16, 1.5)
    assert saved(vpin) == struct.pack("<QQQqq", 6, 0, 2, 10, 10)
    assert saved(impact) == struct.pack("<QQqqqQqq", 1, 1, 202, 10, 0, 1, 13, 2)


def saved(kernel: SignedQty | TradeIntensity | Vpin | KyleLambda) -> bytes:
    out = StateWriter()
    kernel.save(out)
    return out.bytes()


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (TradeCount(), struct.pack("<q", -1)),
        (TradeIntensity(1), struct.pack("<QQd", 0, 0, math.inf)),
        (Vpin(10, 2), struct.pack("<QQQ", 5, 5, 0)),
        (Vpin(10, 2), struct.pack("<QQQqqq", 0, 0, 3, 1, 1, 1)),
        (Vpin(10, 2), struct.pack("<QQQq", 0, 0, 1, 11)),
        (Vpin(None, 2), struct.pack("<QQQ", 1, 0, 0)),
        (KyleLambda(2), struct.pack("<QQqq", 0, 1, (1 << 47) + 1, 0)),
        (KyleLambda(2), struct.pack("<QQ6q", 0, 3, 0, 0, 0, 0, 0, 0)),
        (SignedQty(), struct.pack("<Q", 2)),
    ],
)
def test_a_state_no_kernel_has_is_refused(kernel: SignedQty, words: bytes) -> None:
    with pytest.raises(ValueError, match=r"state|saved"):
        kernel.load(StateReader(words))


@pytest.mark.parametrize(
    "build", [lambda: TradeIntensity(0), lambda: Vpin(0, 1), lambda: Vpin(1, 0), lambda: KyleLambda(1)]
)
def test_parameters_without_meaning_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        build()
