"""One function a kernel: the words feature sets are written in.

Each returns an `Expression`; formulas, units, warm-up and sources stand in `declarations` and, as a
table, in `docs/reference/kernels.md`. A duration is given once, as `seconds=`, `ms=` or `ns=`
(half-lives: `half_life_seconds=` and so on). Inputs may be plain numbers; `trade` kernels read
hidden executions unless bound with `hidden=False`. Mistakes are told when a `FeatureSet` is made.
"""

# ruff: noqa: A001 - read as `k.min`, `k.max`, `k.abs`

from __future__ import annotations

from collections.abc import Iterable, Sequence

from featureplane.features.kernels.declarations import ParamValue
from featureplane.features.kernels.expression import Expression, Number, Operand, duration_ns, expression

__all__ = [
    "abs",
    "autocov",
    "best_ask",
    "best_bid",
    "book_slope",
    "bucket",
    "clip",
    "constant",
    "cumsum",
    "deep_flow",
    "depth",
    "diff",
    "ema",
    "ema_time",
    "fixed",
    "imbalance_ppm",
    "kyle_lambda",
    "lag",
    "level_price",
    "liquidity_regime",
    "max",
    "mean",
    "mean_over",
    "microprice_rel",
    "microprice_x2",
    "mid_rel",
    "mid_x2",
    "min",
    "ms_since_trade",
    "ofi",
    "ofi_multi",
    "qty",
    "ratio_ppm",
    "realized_vol",
    "relative_ticks",
    "return_bps",
    "roll",
    "roll_spread",
    "signed_qty",
    "spread",
    "spread_regime",
    "std",
    "std_over",
    "sum_over",
    "tob_survival_ms",
    "trade_count",
    "trade_imbalance",
    "trade_intensity",
    "trade_price",
    "volatility_regime",
    "vpin",
    "vwap_x2",
    "zscore",
]


def _call(kernel: str, *inputs: Operand, **params: ParamValue) -> Expression:
    return Expression(kernel, tuple(sorted(params.items())), tuple(expression(x) for x in inputs))


def best_bid() -> Expression:
    """Best bid price."""
    return _call("best_bid")


def best_ask() -> Expression:
    """Best ask price."""
    return _call("best_ask")


def mid_x2() -> Expression:
    """Twice the mid price: bid + ask, exact."""
    return _call("mid_x2")


def spread() -> Expression:
    """Best ask minus best bid."""
    return _call("spread")


def microprice_x2() -> Expression:
    """Twice the size-weighted mid at the touch."""
    return _call("microprice_x2")


def level_price(side: str, level: int = 1) -> Expression:
    """Price of level `level` (1 is the best) of side "bid" or "ask"."""
    return _call("level_price", side=side, level=level)


def qty(side: str, level: int = 1) -> Expression:
    """Size at level `level` of side "bid" or "ask"."""
    return _call("qty", side=side, level=level)


def depth(side: str, levels: int) -> Expression:
    """Size on the best `levels` levels of side "bid" or "ask"."""
    return _call("depth", side=side, levels=levels)


def imbalance_ppm(levels: int) -> Expression:
    """Bid depth minus ask depth over their sum, in millionths, over `levels` levels."""
    return _call("imbalance_ppm", levels=levels)


def vwap_x2(levels: int) -> Expression:
    """Twice the size-weighted price of the best `levels` levels of both sides."""
    return _call("vwap_x2", levels=levels)


def book_slope(levels: int) -> Expression:
    """Size per unit of price from the mid to level `levels`, mean of the two sides."""
    return _call("book_slope", levels=levels)


def ofi(level: int = 1) -> Expression:
    """Order-flow imbalance at one level, a flow."""
    return _call("ofi", level=level)


def ofi_multi(levels: int) -> Expression:
    """Order-flow imbalance summed over the best `levels` levels, a flow."""
    return _call("ofi_multi", levels=levels)


def deep_flow(levels: int) -> Expression:
    """Net size added behind an unmoved touch, levels 2 to `levels`, a flow."""
    return _call("deep_flow", levels=levels)


def tob_survival_ms() -> Expression:
    """Milliseconds since the best bid or ask price last changed."""
    return _call("tob_survival_ms")


def signed_qty(*, hidden: bool = True) -> Expression:
    """Size of each market trade, positive for buys, a flow."""
    return _call("signed_qty", hidden=hidden)


def trade_price(*, hidden: bool = True) -> Expression:
    """Price of the last market trade."""
    return _call("trade_price", hidden=hidden)


def trade_count(*, hidden: bool = True) -> Expression:
    """Market trades since the reset."""
    return _call("trade_count", hidden=hidden)


def ms_since_trade(*, hidden: bool = True) -> Expression:
    """Milliseconds since the last market trade."""
    return _call("ms_since_trade", hidden=hidden)


def trade_intensity(
    *,
    half_life_seconds: Number | None = None,
    half_life_ms: Number | None = None,
    half_life_ns: int | None = None,
    hidden: bool = True,
) -> Expression:
    """Trades per second, exponentially forgotten with the given half-life."""
    h = duration_ns(half_life_seconds, half_life_ms, half_life_ns)
    return _call("trade_intensity", half_life_ns=h, hidden=hidden)


def trade_imbalance(
    *, seconds: Number | None = None, ms: Number | None = None, ns: int | None = None, hidden: bool = True
) -> Expression:
    """Signed over total traded size in the window, in millionths."""
    return _call("trade_imbalance", signed_qty(hidden=hidden), window_ns=duration_ns(seconds, ms, ns))


def vpin(buckets: int, *, bucket: int | None = None, hidden: bool = True) -> Expression:
    """Volume imbalance over the last full buckets, in millionths.

    `bucket` is the bucket's size as a scaled integer; None takes the instrument's `vpin_bucket`.
    """
    return _call("vpin", signed_qty(hidden=hidden), n=buckets, bucket=bucket)


def kyle_lambda(window: int, *, hidden: bool = True) -> Expression:
    """Price impact per traded size, regressed over `window` messages with signed trades."""
    return _call("kyle_lambda", signed_qty(hidden=hidden), mid_x2(), n=window)


def roll(x: Operand) -> Expression:
    """`2 sqrt(-x)` of an autocovariance of trade price changes; see `roll_spread`."""
    return _call("roll", x)


def roll_spread(window: int, *, hidden: bool = True) -> Expression:
    """Roll's effective spread over the last `window` differences of trade prices."""
    return roll(autocov(diff(trade_price(hidden=hidden)), lag=1, window=window))


def return_bps(
    *, seconds: Number | None = None, ms: Number | None = None, ns: int | None = None
) -> Expression:
    """Return of the mid over the window, in 10^-5 basis points."""
    return _call("return_bps", mid_x2(), window_ns=duration_ns(seconds, ms, ns))


def realized_vol(
    *, seconds: Number | None = None, ms: Number | None = None, ns: int | None = None
) -> Expression:
    """Root of the summed squared mid returns in the window, in 10^-5 basis points."""
    return _call("realized_vol", mid_x2(), window_ns=duration_ns(seconds, ms, ns))


def ema(x: Operand, span: int) -> Expression:
    """Exponential mean over advances, alpha = 2 / (span + 1), seeded with the first value."""
    return _call("ema", x, n=span)


def ema_time(
    x: Operand,
    *,
    half_life_seconds: Number | None = None,
    half_life_ms: Number | None = None,
    half_life_ns: int | None = None,
) -> Expression:
    """Exponential mean over time, of the value as it was held."""
    return _call("ema_time", x, half_life_ns=duration_ns(half_life_seconds, half_life_ms, half_life_ns))


def sum_over(
    x: Operand, *, seconds: Number | None = None, ms: Number | None = None, ns: int | None = None
) -> Expression:
    """Sum of the input's advances in the time window."""
    return _call("sum_over", x, window_ns=duration_ns(seconds, ms, ns))


def mean_over(
    x: Operand, *, seconds: Number | None = None, ms: Number | None = None, ns: int | None = None
) -> Expression:
    """Time-weighted mean of the input in the time window."""
    return _call("mean_over", x, window_ns=duration_ns(seconds, ms, ns))


def std_over(
    x: Operand, *, seconds: Number | None = None, ms: Number | None = None, ns: int | None = None
) -> Expression:
    """Standard deviation of the input's advances in the time window."""
    return _call("std_over", x, window_ns=duration_ns(seconds, ms, ns))


def mean(x: Operand, window: int) -> Expression:
    """Mean of the last `window` advances."""
    return _call("mean", x, n=window)


def std(x: Operand, window: int) -> Expression:
    """Standard deviation of the last `window` advances."""
    return _call("std", x, n=window)


def zscore(x: Operand, window: int) -> Expression:
    """Distance from the mean of the last `window` advances in their standard deviations."""
    return _call("zscore", x, n=window)


def min(x: Operand, window: int) -> Expression:
    """Least of the last `window` advances."""
    return _call("min", x, n=window)


def max(x: Operand, window: int) -> Expression:
    """Greatest of the last `window` advances."""
    return _call("max", x, n=window)


def lag(x: Operand, n: int) -> Expression:
    """The input `n` advances ago."""
    return _call("lag", x, n=n)


def diff(x: Operand) -> Expression:
    """The input minus what it was one advance before, a flow."""
    return _call("diff", x)


def cumsum(x: Operand) -> Expression:
    """Sum of the input since the reset."""
    return _call("cumsum", x)


def autocov(x: Operand, *, lag: int, window: int) -> Expression:
    """Autocovariance at `lag` over the last `window` advances."""
    return _call("autocov", x, lag=lag, n=window)


def clip(x: Operand, lo: Number, hi: Number) -> Expression:
    """The input held inside [lo, hi]; bounds of the input's own type."""
    return _call("clip", x, lo=lo, hi=hi)


def abs(x: Operand) -> Expression:
    """The input without its sign."""
    return _call("abs", x)


def ratio_ppm(x: Operand, y: Operand) -> Expression:
    """Integer ratio in millionths, half-even."""
    return _call("ratio_ppm", x, y)


def fixed(x: Operand, scale: int) -> Expression:
    """The input times `scale` as the nearest integer: how a float enters an integer kernel."""
    return _call("fixed", x, k=scale)


def _held(edges: object) -> ParamValue:
    return tuple(edges) if isinstance(edges, Iterable) else edges  # type: ignore[return-value]  # checked with the set


def bucket(x: Operand, edges: Sequence[Number]) -> Expression:
    """How many of the ascending `edges` lie at or below the input."""
    return _call("bucket", x, edges=_held(edges))


def constant(value: Number) -> Expression:
    """A number as an expression."""
    return _call("constant", value=value)


def relative_ticks(x: Operand, mean: Operand) -> Expression:
    """Thousandths of a tick from a `mean_over(mid_x2)` to `x`, a price times two."""
    return _call("relative_ticks", x, mean)


def mid_rel(*, seconds: Number | None = None, ms: Number | None = None, ns: int | None = None) -> Expression:
    """Mid relative to its own time-weighted mean, in thousandths of a tick."""
    return relative_ticks(mid_x2(), mean_over(mid_x2(), seconds=seconds, ms=ms, ns=ns))


def microprice_rel(
    *, seconds: Number | None = None, ms: Number | None = None, ns: int | None = None
) -> Expression:
    """Microprice relative to the mid's time-weighted mean, in thousandths of a tick."""
    return relative_ticks(microprice_x2(), mean_over(mid_x2(), seconds=seconds, ms=ms, ns=ns))


def spread_regime(*, seconds: Number = 300, edges: Sequence[Number] = (0.5, 1.5, 3.0)) -> Expression:
    """Spread against its own mean: 0 tight, 1 usual, 2 wide, 3 very wide."""
    return bucket(spread() / mean_over(spread(), seconds=seconds), edges)


def volatility_regime(
    *, vol_seconds: Number = 30, seconds: Number = 300, edges: Sequence[Number] = (0.5, 1.5, 3.0)
) -> Expression:
    """Realised volatility against its own mean: 0 calm, 1 usual, 2 lively, 3 wild."""
    vol = realized_vol(seconds=vol_seconds)
    return bucket(vol / mean_over(vol, seconds=seconds), edges)


def liquidity_regime(
    *, levels: int = 5, seconds: Number = 300, edges: Sequence[Number] = (0.5, 1.5)
) -> Expression:
    """Depth of both sides against its own mean: 0 thin, 1 usual, 2 deep."""
    both = depth("bid", levels) + depth("ask", levels)
    return bucket(both / mean_over(both, seconds=seconds), edges)
