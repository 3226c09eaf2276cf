"""Plans and sets: what compiles to what, and what is refused with which words (rules 1.5, 7.1, 8, 9)."""

from __future__ import annotations

import json
import pickle
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.errors import PlanError, UnknownFeature
from featureplane.features import kernels as k
from featureplane.features.kernels.declarations import KERNELS
from featureplane.features.spec import Feature, FeatureFlags, FeatureSet


def one(expression: k.Expression) -> FeatureSet:
    return FeatureSet("test", features={"x": expression})


EVERY_CONSTRUCTOR = {
    "best_bid": k.best_bid(),
    "best_ask": k.best_ask(),
    "mid_x2": k.mid_x2(),
    "spread": k.spread(),
    "microprice_x2": k.microprice_x2(),
    "level_price": k.level_price("bid", 3),
    "qty": k.qty("ask", 2),
    "depth": k.depth("bid", 5),
    "imbalance_ppm": k.imbalance_ppm(5),
    "vwap_x2": k.vwap_x2(5),
    "book_slope": k.book_slope(5),
    "ofi": k.ofi(),
    "ofi_multi": k.ofi_multi(5),
    "deep_flow": k.deep_flow(5),
    "tob_survival_ms": k.tob_survival_ms(),
    "signed_qty": k.signed_qty(hidden=False),
    "trade_price": k.trade_price(),
    "trade_count": k.trade_count(),
    "trade_intensity": k.trade_intensity(half_life_seconds=5),
    "ms_since_trade": k.ms_since_trade(),
    "trade_imbalance": k.trade_imbalance(seconds=5, hidden=False),
    "vpin": k.vpin(50, bucket=1000),
    "kyle_lambda": k.kyle_lambda(256),
    "roll_spread": k.roll_spread(256),
    "return_bps": k.return_bps(ms=100),
    "realized_vol": k.realized_vol(seconds=30),
    "ema": k.ema(k.ofi(), 8),
    "ema_time": k.ema_time(k.spread(), half_life_ms=500),
    "sum_over": k.sum_over(k.ofi(), seconds=1),
    "mean_over": k.mean_over(k.spread(), seconds=30),
    "std_over": k.std_over(k.spread(), seconds=30),
    "mean": k.mean(k.spread(), 16),
    "std": k.std(k.spread(), 16),
    "zscore": k.zscore(k.spread(), 256),
    "min": k.min(k.best_bid(), 16),
    "max": k.max(k.best_bid(), 16),
    "lag": k.lag(k.mid_x2(), 3),
    "diff": k.diff(k.mid_x2()),
    "cumsum": k.cumsum(k.ofi()),
    "autocov": k.autocov(k.diff(k.mid_x2()), lag=1, window=40),
    "clip": k.clip(k.ofi(), -5, 5),
    "abs": k.abs(k.ofi()),
    "add": k.best_bid() + k.best_ask(),
    "sub": k.best_ask() - 1,
    "mul": 2 * k.spread(),
    "div": k.spread() / k.mid_x2(),
    "negative": -k.ofi(),
    "ratio_ppm": k.ratio_ppm(k.spread(), k.mid_x2()),
    "fixed": k.fixed(k.ema(k.spread(), 8), 1000),
    "bucket": k.bucket(k.spread(), (1, 2, 4)),
    "mid_rel": k.mid_rel(seconds=300),
    "microprice_rel": k.microprice_rel(seconds=300),
    "spread_regime": k.spread_regime(),
    "volatility_regime": k.volatility_regime(),
    "liquidity_regime": k.liquidity_regime(),
}


def test_every_kernel_of_rule_8_can_be_bound() -> None:
    fset = FeatureSet("all", features=EVERY_CONSTRUCTOR)
    assert {node.kernel for node in fset.plan.nodes} == set(KERNELS)


def test_equal_calls_are_computed_once_and_inputs_come_first() -> None:
    fset = FeatureSet(
        "s", features={"ema": k.ema(k.ofi(level=1), span=8), "ofi": k.ofi(), "cum": k.cumsum(k.ofi(1))}
    )
    assert [node.kernel for node in fset.plan.nodes] == ["ofi", "ema", "cumsum"]
    assert [f.node for f in fset.plan.features] == [1, 0, 2]
    assert fset.plan.nodes[1].inputs == (0,)


def test_one_and_one_point_zero_are_two_definitions() -> None:
    fset = FeatureSet("s", features={"a": k.spread() + 1, "b": k.spread() + 1.0})
    assert [fset[f].dtype for f in fset] == ["i64", "f64"]


def test_the_plan_is_canonical_json() -> None:
    fset = one(k.ema(k.ofi(), 8))
    assert fset.plan_json == (
        '{"abi":1,"feature_set_id":"test","features":[{"dtype":"f64","feature_id":"x","node":1,"scale":1}],'
        '"nodes":[{"dtype":"i64","inputs":[],"kernel":"ofi","kind":"flow","params":{"level":1}},'
        '{"dtype":"f64","inputs":[0],"kernel":"ema","kind":"state","params":{"n":8}}],"schema_version":1}'
    )


def test_the_fingerprint_covers_abi_nodes_and_features_alone() -> None:
    fset = one(k.spread())
    plan = json.loads(fset.plan_json)
    covered = {name: plan[name] for name in ("abi", "nodes", "features")}
    text = json.dumps(covered, sort_keys=True, separators=(",", ":")).encode()
    assert fset.fingerprint == sha256(text).hexdigest()
    assert (
        FeatureSet("other", schema_version=9, features={"x": Feature(k.spread(), "title")}).fingerprint
        == fset.fingerprint
    )


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"y": k.spread()}, id="id"),
        pytest.param({"x": k.mid_x2()}, id="kernel"),
        pytest.param({"x": k.spread(), "y": k.mid_x2()}, id="one more"),
    ],
)
def test_another_definition_has_another_fingerprint(other: dict[str, k.Expression]) -> None:
    assert FeatureSet("test", features=other).fingerprint != one(k.spread()).fingerprint


@pytest.mark.parametrize(
    ("expression", "events", "ns"),
    [
        pytest.param(k.ofi(), 2, 0, id="ofi"),
        pytest.param(k.ema(k.ofi(), 8), 9, 0, id="ema of ofi"),
        pytest.param(k.lag(k.spread(), 3), 4, 0, id="lag"),
        pytest.param(k.diff(k.lag(k.spread(), 3)), 5, 0, id="diff of lag"),
        pytest.param(k.roll_spread(256), 257, 0, id="roll: n + 1 trade prices"),
        pytest.param(k.ema(k.spread(), 8) + k.mean(k.spread(), 20), 20, 0, id="the slower of two"),
        pytest.param(k.sum_over(k.ofi(), seconds=1), 2, 10**9, id="window over a flow"),
        pytest.param(
            k.mean_over(k.realized_vol(seconds=30), seconds=300), 1, 330 * 10**9, id="windows over states add"
        ),
        pytest.param(
            k.sum_over(k.diff(k.realized_vol(seconds=30)), seconds=10), 2, 30 * 10**9, id="longer of flow"
        ),
        pytest.param(k.trade_intensity(half_life_seconds=5), 0, 15 * 10**9, id="three half-lives"),
        pytest.param(k.ema_time(k.spread(), half_life_ms=100), 2, 300 * 10**6, id="ema_time"),
        pytest.param(k.tob_survival_ms(), 2, 0, id="first change seen"),
        pytest.param(k.vpin(50), 50, 0, id="vpin"),
    ],
)
def test_warm_up_is_derived_along_the_chain(expression: k.Expression, events: int, ns: int) -> None:
    """Rule 7.1."""
    spec = one(expression)["x"]
    assert (spec.warmup_min_events, spec.warmup_min_ns) == (events, ns)


@pytest.mark.parametrize(
    ("expression", "derived"),
    [
        pytest.param(k.mid_x2() - k.vwap_x2(5), ("i64", "price", 2, "book", "state"), id="difference"),
        pytest.param(k.ema(k.mid_x2(), 8), ("f64", "price", 2, "book", "state"), id="ema keeps the scale"),
        pytest.param(k.spread() / k.mid_x2(), ("f64", "none", 1, "book", "state"), id="quotient of prices"),
        pytest.param(k.spread() / 2, ("f64", "price", 1, "book", "state"), id="divided by a number"),
        pytest.param(
            k.mid_x2() + 1, ("i64", "price", 2, "book", "state"), id="a constant takes the other's unit"
        ),
        pytest.param(k.spread() * k.qty("bid"), ("i64", "none", 1, "book", "state"), id="product"),
        pytest.param(
            k.spread() + k.qty("bid"), ("i64", "none", 1, "book", "state"), id="sum of unlike units"
        ),
        pytest.param(
            k.fixed(k.ema(k.mid_x2(), 8), 1000), ("i64", "price", 2000, "book", "state"), id="fixed"
        ),
        pytest.param(-k.ofi() * 2, ("i64", "qty", 1, "book", "flow"), id="arithmetic on a flow is a flow"),
        pytest.param(k.max(k.ofi(), 8), ("i64", "qty", 1, "book", "state"), id="an extreme is a state"),
        pytest.param(k.diff(k.mid_x2()), ("i64", "price", 2, "book", "flow"), id="diff"),
        pytest.param(k.spread_regime(), ("u32", "none", 0, "book", "state"), id="a code"),
        pytest.param(k.lag(k.spread_regime(), 1), ("u32", "none", 0, "book", "state"), id="a code before"),
        pytest.param(k.diff(k.spread_regime()), ("i64", "none", 1, "book", "flow"), id="a code's change"),
        pytest.param(k.realized_vol(seconds=30), ("i64", "bps", 10**5, "book", "state"), id="bps"),
        pytest.param(k.mid_rel(seconds=300), ("i64", "none", 1000, "book", "state"), id="relative ticks"),
        pytest.param(k.vpin(50), ("i64", "ppm", 10**6, "trade", "state"), id="trades alone"),
        pytest.param(k.kyle_lambda(256), ("f64", "none", 1, "mixed", "state"), id="both"),
    ],
)
def test_the_spec_is_derived(expression: k.Expression, derived: tuple[str, str, int, str, str]) -> None:
    """Rule 1.5."""
    spec = one(expression)["x"]
    assert (spec.dtype, spec.unit, spec.scale, spec.source_kind, spec.kind) == derived
    assert spec.parity == "exact"


DAY = 24 * 3600
REFUSED: list[Any] = [
    pytest.param(
        k.zscore(k.ema(k.spread(), 8), 256), "zscore over a float, ema", id="rolling kernel over a float"
    ),
    pytest.param(k.cumsum(k.spread() / 2), "cumsum over a float, div", id="sum of floats"),
    pytest.param(k.sum_over(k.ofi()), "no duration, or several", id="no window"),
    pytest.param(k.sum_over(k.ofi(), seconds=1, ms=1), "no duration, or several", id="two windows"),
    pytest.param(k.sum_over(k.ofi(), ns=1_500_000), "a multiple of 1 ms", id="window off the grid"),
    pytest.param(k.sum_over(k.ofi(), seconds=0.1234567891), "a duration of", id="window of broken ns"),
    pytest.param(k.sum_over(k.ofi(), seconds=DAY + 1), "window_ns|from 1000000 to", id="window above 24 h"),
    pytest.param(k.sum_over(k.ofi(), ms=0), "from 1000000 to", id="window of nothing"),
    pytest.param(k.sum_over(k.ofi(), seconds="1"), "a duration of '1'", id="window of text"),  # type: ignore[arg-type] # refused here
    pytest.param(k.zscore(k.spread(), 65_537), "window=65537", id="too many rows"),
    pytest.param(k.zscore(k.spread(), 1), "window=1", id="a z-score of one"),
    pytest.param(k.autocov(k.spread(), lag=1, window=1025), "window=1025", id="autocov too long"),
    pytest.param(k.autocov(k.spread(), lag=8, window=8), "a lag shorter", id="lag fills the window"),
    pytest.param(k.ofi(0), "level=0", id="level 0"),
    pytest.param(k.ofi(True), "level=True", id="a level that is a truth"),  # noqa: FBT003
    pytest.param(k.deep_flow(1), "levels=1", id="nothing behind the touch"),
    pytest.param(k.qty("buy"), "'bid' or 'ask'", id="an unknown side"),
    pytest.param(k.signed_qty(hidden=1), "True or False", id="hidden is no number"),  # type: ignore[arg-type] # refused here
    pytest.param(k.clip(k.spread(), 3, 2), "lo <= hi", id="clip upside down"),
    pytest.param(
        k.clip(k.spread(), 0.5, 2), "an integer, as the input is one", id="float bound of an integer"
    ),
    pytest.param(k.bucket(k.spread(), (1, 1)), "strictly ascending", id="edges that stand still"),
    pytest.param(k.bucket(k.spread(), ()), "1 to 1024", id="no edges"),
    pytest.param(k.bucket(k.spread(), (2**53 + 1,)), "holds exactly", id="an edge floats cannot hold"),
    pytest.param(k.constant(3), "reads the book or the trades", id="a constant feature"),
    pytest.param(k.ema(k.constant(3), 8), "of constants alone", id="a constant that never advances"),
    pytest.param(k.spread() + float("inf"), "a finite number", id="infinity"),
    pytest.param(k.spread() + 2**63, "magnitude", id="a constant beyond 64 bits"),
    pytest.param(k.spread() + None, "a number", id="None is no number"),  # type: ignore[operator] # refused here
    pytest.param(k.spread() + k.mid_x2(), "spread (scale 1) and mid_x2 (scale 2)", id="unlike scales"),
    pytest.param(
        k.roll(k.autocov(k.spread(), lag=1, window=8)), "roll over autocov", id="roll of something else"
    ),
    pytest.param(
        k.relative_ticks(k.mid_x2(), k.mean_over(k.spread(), seconds=1)), "mean_over", id="another mean"
    ),
    pytest.param(k.vpin(50, bucket=0), "bucket=0", id="empty buckets"),
    pytest.param(k.trade_intensity(half_life_ns=0), "half_life_ns=0", id="no half-life"),
    pytest.param(k.Expression("ofi", (("level", 1), ("n", 2))), "parameter 'n'", id="a parameter too many"),
    pytest.param(k.Expression("qty", (("level", 1),)), "required", id="a parameter too few"),
    pytest.param(k.Expression("nothing"), "kernel 'nothing'", id="an unknown kernel"),
    pytest.param(k.Expression("ema", (("n", 8),)), "ema of 0 inputs", id="an input too few"),
]


@pytest.mark.parametrize(("expression", "words"), REFUSED)
def test_a_mistake_is_refused_with_the_feature_and_the_reason(expression: k.Expression, words: str) -> None:
    with pytest.raises(PlanError) as raised:
        one(expression)
    assert str(raised.value).startswith("`x`: found ")
    assert any(word in str(raised.value) for word in words.split("|"))


def test_the_way_out_of_a_float_is_named() -> None:
    with pytest.raises(PlanError) as raised:
        one(k.zscore(k.ema(k.spread(), 8), 256))
    assert "fixed(x, scale) first" in str(raised.value.hint)


@pytest.mark.parametrize("bad", ["", "1st", "a b", "a-b", "class", "ä", "x" * 65, "seq", "symbol", 3])
def test_a_feature_id_is_a_plain_name(bad: str) -> None:
    with pytest.raises(PlanError):
        FeatureSet("s", features={bad: k.spread()})


def test_ids_that_differ_only_in_case_are_refused() -> None:
    with pytest.raises(PlanError, match="more than case"):
        FeatureSet("s", features={"Mid": k.mid_x2(), "mid": k.spread()})


@pytest.mark.parametrize(
    ("set_id", "version", "features"),
    [
        pytest.param("", 1, {"x": k.spread()}, id="no id"),
        pytest.param("a/b", 1, {"x": k.spread()}, id="an id like a path"),
        pytest.param("s", 0, {"x": k.spread()}, id="version 0"),
        pytest.param("s", True, {"x": k.spread()}, id="version True"),
        pytest.param("s", 1 << 32, {"x": k.spread()}, id="version beyond 32 bits"),
        pytest.param("s", 1, {}, id="no features"),
        pytest.param("s", 1, {"x": 3}, id="a number as feature"),
        pytest.param("s", 1, [("x", k.spread())], id="a list"),
        pytest.param(
            "s", 1, {"x": Feature(k.spread(), flags=FeatureFlags(3), note="n" * 2000)}, id="a long note"
        ),
    ],
)
def test_a_set_that_is_none_is_refused(set_id: str, version: int, features: dict[str, k.Expression]) -> None:
    with pytest.raises(PlanError):
        FeatureSet(set_id, schema_version=version, features=features)


def test_the_size_of_a_set_is_bounded() -> None:
    deep = k.spread()
    for _ in range(5000):
        deep = deep + 1
    wide = k.spread()
    for _ in range(60):
        wide = wide + wide
    heavy = {f"f{i}": k.zscore(k.spread() + i, 65_536) for i in range(300)}
    for features in ({"x": deep}, {"x": wide}, heavy):
        with pytest.raises(PlanError, match="at most"):
            FeatureSet("s", features=features)
    with pytest.raises(PlanError, match="65535"):
        FeatureSet("s", features={f"f{i}": k.spread() for i in range(65_536)})


def test_a_set_is_frozen_and_travels() -> None:
    fset = FeatureSet("s", features={"x": Feature(k.spread(), "spread", FeatureFlags.MODEL_SAFE, "note")})
    with pytest.raises(AttributeError):
        fset.schema_version = 2  # type: ignore[misc] # refused here
    with pytest.raises(TypeError):
        fset.features["y"] = k.spread()  # type: ignore[index] # refused here
    again = pickle.loads(pickle.dumps(fset))  # noqa: S301 - our own bytes
    assert again == fset
    assert hash(again) == hash(fset)
    assert again != FeatureSet("s", features={"x": k.spread()})


def test_a_set_reads_like_a_mapping_of_specs() -> None:
    fset = FeatureSet("s", features={"b": k.spread(), "a": k.ofi()})
    assert (list(fset), len(fset), fset.feature_ids) == (["b", "a"], 2, ("b", "a"))
    assert fset["a"].index == fset.index("a") == 1
    assert "a" in fset
    assert "c" not in fset
    assert fset.expression("a") == k.ofi()
    with pytest.raises(UnknownFeature, match="'c'"):
        fset["c"]


def test_a_difference_is_told_feature_by_feature() -> None:
    before = FeatureSet("s", features={"a": k.spread(), "b": k.ofi(), "c": k.mid_x2()})
    after = FeatureSet("s", features={"b": k.ofi(2), "a": k.spread(), "d": k.mid_x2()})
    told = [str(d) for d in before.diff(after)]
    assert told == [
        "`a`: index 0 -> 1",
        "`b`: index 1 -> 0",
        "`b`: definition ofi() -> ofi(level=2)",
        "`c` removed",
        "`d` added",
    ]
    assert before.diff(before) == ()


atoms = st.sampled_from([k.best_bid(), k.spread(), k.ofi(), k.qty("ask", 2), k.trade_price(), k.signed_qty()])
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(k.ema, inner, st.integers(1, 100)),
        st.builds(k.lag, inner, st.integers(1, 100)),
        st.builds(lambda x, y: x * y, inner, st.one_of(inner, st.integers(-9, 9))),
        st.builds(k.diff, inner),
        st.builds(k.abs, inner),
    ),
    max_leaves=6,
)


@given(st.lists(expressions, min_size=1, max_size=6))
def test_every_node_of_any_plan_stands_behind_its_inputs(given_expressions: list[k.Expression]) -> None:
    fset = FeatureSet("s", features={f"f{i}": x for i, x in enumerate(given_expressions)})
    texts = [json.dumps(node.definition(), sort_keys=True) for node in fset.plan.nodes]
    assert len(set(texts)) == len(texts)
    for i, node in enumerate(fset.plan.nodes):
        assert all(j < i for j in node.inputs)
        assert node.warm_events >= max((fset.plan.nodes[j].warm_events for j in node.inputs), default=0)
