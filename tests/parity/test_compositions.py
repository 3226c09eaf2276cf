"""Reference = streaming = block for sets nobody wrote: random compositions of every kernel (rule 10.1)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

import pytest

from featureplane.errors import PlanError
from featureplane.features import kernels as k
from featureplane.features.parity import parity
from featureplane.features.spec import FeatureSet
from tests.parity.streams import assert_agrees, synthetic
from tests.soak import share
from tests.unit.test_plan import EVERY_CONSTRUCTOR

pytestmark = pytest.mark.native

FEATURES: Final = 20
DEPTH_MAX: Final = 4

SOURCES: Final[Sequence[Callable[[], k.Expression]]] = (
    k.best_bid,
    k.best_ask,
    k.mid_x2,
    k.spread,
    k.microprice_x2,
    lambda: k.level_price("bid", 3),
    lambda: k.qty("ask", 2),
    lambda: k.depth("bid", 5),
    lambda: k.imbalance_ppm(3),
    lambda: k.vwap_x2(4),
    lambda: k.book_slope(3),
    k.ofi,
    lambda: k.ofi_multi(3),
    lambda: k.deep_flow(4),
    k.tob_survival_ms,
    k.signed_qty,
    lambda: k.signed_qty(hidden=False),
    k.trade_price,
    k.trade_count,
    k.ms_since_trade,
    lambda: k.trade_intensity(half_life_ms=100),
    lambda: k.trade_imbalance(seconds=1),
    lambda: k.vpin(3, bucket=50),
    lambda: k.kyle_lambda(4),
    lambda: k.roll_spread(5),
    lambda: k.return_bps(ms=200),
    lambda: k.realized_vol(seconds=1),
    lambda: k.mid_rel(ms=500),
)


def composed(rng: random.Random, depth: int) -> k.Expression:
    """An expression of that depth; not every one compiles."""
    if depth == 0:
        return rng.choice(SOURCES)()
    x, n, ms = composed(rng, depth - 1), rng.randint(1, 6), rng.choice((1, 5, 100, 1000))

    def other() -> k.Expression:
        return composed(rng, rng.randrange(depth))

    makers: Sequence[Callable[[], k.Expression]] = (
        lambda: k.ema(x, n),
        lambda: k.ema_time(x, half_life_ms=ms),
        lambda: k.sum_over(x, ms=ms),
        lambda: k.mean_over(x, ms=ms),
        lambda: k.std_over(x, ms=ms),
        lambda: k.mean(x, n),
        lambda: k.std(x, n),
        lambda: k.zscore(x, n + 1),
        lambda: k.min(x, n),
        lambda: k.max(x, n),
        lambda: k.lag(x, n),
        lambda: k.diff(x),
        lambda: k.cumsum(x),
        lambda: k.autocov(x, lag=1, window=n + 1),
        lambda: k.clip(x, -50, 50),
        lambda: abs(x),
        lambda: x + other(),
        lambda: x - other(),
        lambda: x * other(),
        lambda: x / other(),
        lambda: k.ratio_ppm(x, other()),
        lambda: k.fixed(x, rng.choice((1, 7, 1000, 10**9))),
        lambda: k.bucket(x, (-10, 0, 0.5, 100)),
        lambda: x * rng.choice((2, -3, 0.1, 10**15)),
        lambda: rng.choice((1, 0.5, -7)) - x,
    )
    return rng.choice(makers)()


def random_set(seed: int) -> FeatureSet:
    """A set of compositions that compile."""
    rng = random.Random(seed)
    features: dict[str, k.Expression] = {}
    while len(features) < FEATURES:
        expression = composed(rng, rng.randint(1, DEPTH_MAX))
        try:
            FeatureSet("one", features={"x": expression})
        except PlanError:
            continue
        features[f"f{len(features)}"] = expression
    return FeatureSet(f"random_{seed}", features=features)


def compare(seed: int, events: int) -> None:
    stream = synthetic(events, seed=seed, symbols=2, vpin_bucket="500", tick_size="0.01")
    assert_agrees(parity(stream, random_set(seed)))


@pytest.mark.parametrize("seed", range(10))
def test_rule_10_1_random_sets(seed: int) -> None:
    compare(seed, 3_000)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 200))
def test_rule_10_1_many_random_sets(seed: int) -> None:
    compare(seed, max(share(3_000), 500))  # below that nothing is warm


def test_rule_10_1_every_constructor() -> None:
    fset = FeatureSet("every", features={f"x_{name}": x for name, x in EVERY_CONSTRUCTOR.items()})
    assert_agrees(parity(synthetic(4_000, seed=3, vpin_bucket="500", tick_size="0.01"), fset))


def test_an_estimator_without_solution_over_a_short_depth_is_partial() -> None:
    """Rule 4, reading 35: the flag stands although the feature has no value for another reason."""
    fset = FeatureSet(
        "short", features={"z": k.zscore(k.deep_flow(4), 2), "r": k.ratio_ppm(1, k.deep_flow(4))}
    )
    assert_agrees(parity(synthetic(20_000, seed=11, symbols=3), fset))
