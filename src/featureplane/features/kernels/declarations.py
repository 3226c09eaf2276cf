"""What every kernel declares about itself: parameters, types, units, warm-up, source (rule 8).

Read by the plan compiler and by the generated reference. The arithmetic stands in the module each
declaration names, once in Python and once in Rust.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from featureplane.units import I64_MAX, MAGNITUDE_LIMIT, NANOS_PER_MS, NANOS_PER_SECOND

__all__ = [
    "HIDDEN",
    "KERNELS",
    "KERNEL_ABI",
    "AsInput",
    "KernelDeclaration",
    "Param",
    "ParamKind",
    "ParamValue",
]

ParamValue = int | float | bool | str | tuple[int | float, ...] | None

KERNEL_ABI: Final = 1
"""Changes with any formula of rule 8; part of every fingerprint."""

_HOURS_24: Final = 24 * 3600 * NANOS_PER_SECOND
_ROWS_MAX: Final = 65_536
"""Longest window of advances whose second moments fit 128 bits (rule 8)."""

ParamKind = Literal["int", "bool", "side", "window", "half_life", "number", "edges", "optional_int"]
AsInput: Final = "as input"
"""In place of a dtype, kind, unit or scale: the input's own."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: its name in the plan, its keyword in the constructor, its range."""

    name: str
    keyword: str
    kind: ParamKind = "int"
    low: int = 1
    high: int = I64_MAX
    default: ParamValue | Literal["required"] = "required"


@dataclass(frozen=True, slots=True)
class KernelDeclaration:
    """One row of rule 8.

    `marks`: B advances at book ticks, T at trades, X with its input, t evaluated at each frame;
    stateless kernels have none. `inputs` names what each input may be: `integer`, `number`, or the
    kernels it must be. `warm` is the number of own advances before the first value: a parameter
    plus a constant. `span` is the time that must be covered: a parameter times a constant.
    """

    name: str
    marks: str
    formula: str
    dtype: str
    unit: str
    scale: int | str
    no_value: str
    module: str
    inputs: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()
    kind: str = "state"
    warm: tuple[str | None, int] = (None, 1)
    span: tuple[str, int] | None = None
    paper: str = ""
    note: str = ""
    implied: bool = False
    """The constructor supplies the inputs; they are not arguments."""

    @property
    def all_params(self) -> tuple[Param, ...]:
        """The constructor's parameters, `hidden` of an implied `signed_qty` with them."""
        borrowed = self.implied and self.inputs[0] == "signed_qty"
        return self.params + ((HIDDEN,) if borrowed else ())

    @property
    def stateless(self) -> bool:
        """Whether the kernel remembers nothing: its value is a function of its inputs now."""
        return self.warm == (None, 0) and self.span is None

    def warm_text(self) -> str:
        """When the kernel is warm, in words for tables."""
        name, plus = self.warm
        keyword = next((p.keyword for p in self.params if p.name == name), "")
        events = f"{keyword} + {plus}" if keyword and plus else keyword or str(plus)
        if self.span is None:
            return events
        return "covered" if self.span[1] == 1 else f"{self.span[1]} half-lives"


HIDDEN: Final = Param("hidden", "hidden", "bool", default=True)
_SIDE: Final = Param("side", "side", "side")
_LEVEL: Final = Param("level", "level", high=1000, default=1)
_LEVELS: Final = Param("levels", "levels", high=1000)
_WINDOW: Final = Param("window_ns", "ns", "window", low=NANOS_PER_MS, high=_HOURS_24)
_HALF_LIFE: Final = Param("half_life_ns", "half_life_ns", "half_life", high=30 * _HOURS_24)
_BUCKET: Final = Param("bucket", "bucket", "optional_int", high=MAGNITUDE_LIMIT - 1, default=None)
_COVERED: Final = ("window_ns", 1)


def _n(keyword: str = "window", low: int = 1, high: int = _ROWS_MAX) -> Param:
    return Param("n", keyword, low=low, high=high)


_CONT: Final = 'Cont, Kukanov, Stoikov, "The Price Impact of Order Book Events", 2014'
_CONT_MULTI: Final = 'Cont, Cucuringu, Zhang, "Cross-Impact of Order Flow Imbalance in Equity Markets", 2023'
_EASLEY: Final = (
    'Easley, Lopez de Prado, O\'Hara, "Flow Toxicity and Liquidity in a High-frequency World", 2012'
)
_ROLL: Final = 'Roll, "A Simple Implicit Measure of the Effective Bid-Ask Spread", 1984'

_BOOK: Final = (
    KernelDeclaration("best_bid", "B", "b_1", "i64", "price", 1, "bid side empty, book invalid", "price"),
    KernelDeclaration("best_ask", "B", "a_1", "i64", "price", 1, "ask side empty, book invalid", "price"),
    KernelDeclaration("mid_x2", "B", "b_1 + a_1", "i64", "price", 2, "a side empty", "price"),
    KernelDeclaration("spread", "B", "a_1 - b_1", "i64", "price", 1, "a side empty", "price"),
    KernelDeclaration(
        "microprice_x2", "B", "R(2 (a_1 p_1 + b_1 s_1), p_1 + s_1)", "i64", "price", 2, "a side empty",
        "price", paper="Gatheral, Oomen, 2009", note="the size-weighted mid, not Stoikov's estimator of 2018",
    ),
    KernelDeclaration(
        "level_price", "B", "price of level i of a side", "i64", "price", 1, "level absent", "price",
        params=(_SIDE, _LEVEL),
    ),
    KernelDeclaration(
        "qty", "B", "size of level i of a side", "i64", "qty", 1, "level absent", "price",
        params=(_SIDE, _LEVEL),
    ),
    KernelDeclaration(
        "depth", "B", "sum of sizes of levels 1..n that exist", "i64", "qty", 1, "side empty", "price",
        params=(_SIDE, _LEVELS),
    ),
    KernelDeclaration(
        "imbalance_ppm", "B", "R((P - S) 10^6, P + S), P and S the depths of n levels", "i64", "ppm", 10**6,
        "a side empty", "imbalance", params=(_LEVELS,),
    ),
    KernelDeclaration(
        "vwap_x2", "B", "R(2 sum (b_i p_i + a_i s_i), sum (p_i + s_i)), levels 1..n that exist", "i64",
        "price", 2, "a side empty", "price", params=(_LEVELS,),
    ),
    KernelDeclaration(
        "book_slope", "B", "F(P) / F(m - 2 b_n) + F(S) / F(2 a_n - m)", "f64", "none", 1,
        "level n absent on a side", "imbalance", params=(_LEVELS,),
        note="size per unit of price, mean of the two sides",
    ),
    KernelDeclaration(
        "ofi", "B", "p' [b' >= b] - p [b' <= b] - s' [a' <= a] + s [a' >= a] at level k, primed = now", "i64",
        "qty", 1, "level k absent", "flow", params=(_LEVEL,), kind="flow", warm=(None, 2), paper=_CONT,
    ),
    KernelDeclaration(
        "ofi_multi", "B", "ofi(1) + .. + ofi(n)", "i64", "qty", 1, "a level absent", "flow",
        params=(_LEVELS,), kind="flow", warm=(None, 2), paper=_CONT_MULTI,
        note="the plain sum, not the paper's fitted first component",
    ),
    KernelDeclaration(
        "deep_flow", "B", "b_1 and a_1 as before: (P_2..n - before) - (S_2..n - before); else 0", "i64",
        "qty", 1, "a side empty", "flow", params=(Param("levels", "levels", low=2, high=1000),), kind="flow",
        warm=(None, 2),
    ),
    KernelDeclaration(
        "tob_survival_ms", "Bt", "(c - c0) div 10^6, c0 = clock of the last change of b_1 or a_1", "i64",
        "ms", 1, "no change seen yet", "price", warm=(None, 2),
    ),
)  # fmt: skip

_TRADES: Final = (
    KernelDeclaration(
        "signed_qty", "T", "+q for a buy, -q for a sell; without side: Lee-Ready on the book before", "i64",
        "qty", 1, "no sign (no advance)", "trades", params=(HIDDEN,), kind="flow",
        paper='Lee, Ready, "Inferring Trade Direction from Intraday Data", 1991',
    ),
    KernelDeclaration(
        "trade_price", "T", "last trade price", "i64", "price", 1, "no trade yet", "trades", params=(HIDDEN,),
    ),
    KernelDeclaration(
        "trade_count", "T", "trades since reset", "i64", "count", 1, "no trade yet", "trades",
        params=(HIDDEN,),
    ),
    KernelDeclaration(
        "trade_intensity", "Tt", "s = s exp2_neg(dt, h) + 1 a trade; read as trades per second", "f64",
        "none", 1, "not warm", "trades", params=(_HALF_LIFE, HIDDEN), warm=(None, 0),
        span=("half_life_ns", 3), note="0 before the first trade",
    ),
    KernelDeclaration(
        "ms_since_trade", "Tt", "(c - c_trade) div 10^6", "i64", "ms", 1, "no trade yet", "trades",
        params=(HIDDEN,),
    ),
    KernelDeclaration(
        "trade_imbalance", "Tt", "R(10^6 sum signed, sum q) over the window's signed trades", "i64", "ppm",
        10**6, "no signed trade in the window", "window", inputs=("signed_qty",), params=(_WINDOW,),
        span=_COVERED, implied=True,
    ),
    KernelDeclaration(
        "vpin", "T", "R(10^6 sum abs(buy - sell), n V) over the last n full buckets of size V", "i64", "ppm",
        10**6, "fewer than n full buckets", "toxicity", inputs=("signed_qty",),
        params=(_n("buckets"), _BUCKET), warm=("n", 0), implied=True, paper=_EASLEY,
        note="aggressor flags, not bulk classification; bucket None takes the instrument's `vpin_bucket`",
    ),
    KernelDeclaration(
        "kyle_lambda", "T", "F(n Sxy - Sx Sy) / (2 F(n Sxx - Sx^2)) over the last n completed pairs", "f64",
        "none", 1, "denominator 0, no valid mid now", "toxicity", inputs=("signed_qty", "mid_x2"),
        params=(_n(low=2),), warm=("n", 0), implied=True,
        paper='Kyle, "Continuous Auctions and Insider Trading", 1985',
        note="price per size; one pair a message with signed trades",
    ),
    KernelDeclaration(
        "roll", "", "2.0 sqrt(-x), x the autocovariance of trade price changes", "f64", "price", 1,
        "autocovariance >= 0", "arithmetic", inputs=("autocov(diff(trade_price))",), warm=(None, 0),
        paper=_ROLL,
    ),
)  # fmt: skip

_VOLATILITY: Final = (
    KernelDeclaration(
        "return_bps", "Bt", "R(10^9 (m - m0), m0), m0 = last mid before the window", "i64", "bps", 10**5,
        "m0 <= 0, m undefined", "returns", inputs=("mid_x2",), params=(_WINDOW,), span=_COVERED, implied=True,
    ),
    KernelDeclaration(
        "realized_vol", "Bt", "isqrt of the sum of r^2 inside, r = R(10^9 (m_n - m_(n-1)), m_(n-1))", "i64",
        "bps", 10**5, "m undefined", "returns", inputs=("mid_x2",), params=(_WINDOW,), span=_COVERED,
        implied=True, note="not annualised",
    ),
)  # fmt: skip

_ROLLING: Final = (
    KernelDeclaration(
        "ema", "X", "p = F(x_1), then p = p + alpha (F(x) - p), alpha = 2 / (n + 1)", "f64", AsInput, AsInput,
        "", "averages", inputs=("number",), params=(_n("span", high=2**31 - 1),), warm=("n", 0),
    ),
    KernelDeclaration(
        "ema_time", "X", "p = F(x_(n-1)) + exp2_neg(dt, h) (p - F(x_(n-1)))", "f64", AsInput, AsInput, "",
        "averages", inputs=("number",), params=(_HALF_LIFE,), warm=(None, 2), span=("half_life_ns", 3),
        note="decays towards the value held, never the new one",
    ),
    KernelDeclaration(
        "sum_over", "Xt", "sum of the window's x; an empty covered window is 0", "i64", AsInput, AsInput, "",
        "window", inputs=("integer",), params=(_WINDOW,), span=_COVERED,
    ),
    KernelDeclaration(
        "mean_over", "Xt", "time-weighted: F(I) / F(V), I the integral of x over V ns with x defined", "f64",
        AsInput, AsInput, "x undefined, V = 0", "averages", inputs=("integer",), params=(_WINDOW,),
        span=_COVERED,
    ),
    KernelDeclaration(
        "std_over", "Xt", "sqrt(F(N S2 - S1^2)) / F(N) over the N advances inside", "f64", AsInput, AsInput,
        "N < 2", "window", inputs=("integer",), params=(_WINDOW,), span=_COVERED,
    ),
    KernelDeclaration(
        "mean", "X", "F(S1) / F(n) over the last n advances", "f64", AsInput, AsInput, "", "rolling",
        inputs=("integer",), params=(_n(),), warm=("n", 0),
    ),
    KernelDeclaration(
        "std", "X", "sqrt(F(n S2 - S1^2)) / F(n)", "f64", AsInput, AsInput, "", "rolling",
        inputs=("integer",), params=(_n(),), warm=("n", 0),
    ),
    KernelDeclaration(
        "zscore", "X", "F(n x - S1) / sqrt(F(n S2 - S1^2)), x among the n", "f64", "none", 1, "variance 0",
        "rolling", inputs=("integer",), params=(_n(low=2),), warm=("n", 0),
    ),
    KernelDeclaration(
        "min", "X", "least of the last n advances", AsInput, AsInput, AsInput, "", "series",
        inputs=("number",), params=(_n(),), warm=("n", 0),
    ),
    KernelDeclaration(
        "max", "X", "greatest of the last n advances", AsInput, AsInput, AsInput, "", "series",
        inputs=("number",), params=(_n(),), warm=("n", 0),
    ),
    KernelDeclaration(
        "lag", "X", "x_(N-n)", AsInput, AsInput, AsInput, "", "series", inputs=("number",), params=(_n("n"),),
        kind=AsInput, warm=("n", 1),
    ),
    KernelDeclaration(
        "diff", "X", "x_N - x_(N-1)", "signed", AsInput, AsInput, "overflow", "series", inputs=("number",),
        kind="flow", warm=(None, 2),
    ),
    KernelDeclaration(
        "cumsum", "X", "sum since reset", "i64", AsInput, AsInput, "overflow, until reset", "rolling",
        inputs=("integer",),
    ),
    KernelDeclaration(
        "autocov", "X", "F(n^2 P - n S1 (A + B) + (n - k) S1^2) / F(n^3)", "f64", "none", 1, "", "series",
        inputs=("integer",), params=(Param("lag", "lag", high=1023), _n(low=2, high=1024)), warm=("n", 0),
        note="P = sum of x_i x_(i-k), A = sum of x without the k oldest, B without the k newest",
    ),
)  # fmt: skip

_STATELESS: Final = (
    KernelDeclaration(
        "clip", "", "x held inside [lo, hi]", "signed", AsInput, AsInput, "", "arithmetic",
        inputs=("number",), params=(Param("lo", "lo", "number"), Param("hi", "hi", "number")), kind=AsInput,
        warm=(None, 0),
    ),
    KernelDeclaration(
        "abs", "", "|x|", "signed", AsInput, AsInput, "", "arithmetic", inputs=("number",), kind=AsInput,
        warm=(None, 0),
    ),
    KernelDeclaration(
        "add", "", "x + y", "mixed", "same", "same", "overflow", "arithmetic", inputs=("number", "number"),
        kind=AsInput, warm=(None, 0),
    ),
    KernelDeclaration(
        "sub", "", "x - y", "mixed", "same", "same", "overflow", "arithmetic", inputs=("number", "number"),
        kind=AsInput, warm=(None, 0),
    ),
    KernelDeclaration(
        "mul", "", "x * y", "mixed", "product", "product", "overflow", "arithmetic",
        inputs=("number", "number"), kind=AsInput, warm=(None, 0),
    ),
    KernelDeclaration(
        "div", "", "F(x) / F(y)", "f64", "quotient", "quotient", "y = 0", "arithmetic",
        inputs=("number", "number"), warm=(None, 0),
    ),
    KernelDeclaration(
        "ratio_ppm", "", "R(x 10^6, y)", "i64", "ppm", 10**6, "y = 0, overflow", "arithmetic",
        inputs=("integer", "integer"), warm=(None, 0),
        note="of the published integers, whatever their scales",
    ),
    KernelDeclaration(
        "fixed", "", "rint(x F(k)), half-even", "i64", AsInput, "times k", "beyond 2^53", "arithmetic",
        inputs=("number",), params=(Param("k", "scale", high=MAGNITUDE_LIMIT),), kind=AsInput, warm=(None, 0),
    ),
    KernelDeclaration(
        "bucket", "", "number of edges <= x", "u32", "none", 0, "", "arithmetic", inputs=("number",),
        params=(Param("edges", "edges", "edges", high=1024),), warm=(None, 0),
    ),
    KernelDeclaration(
        "relative_ticks", "", "R(1000 (x V - I), 2 tick V), I and V of mean_over(mid_x2)", "i64", "none",
        1000, "V = 0, no tick known", "averages",
        inputs=("mid_x2|microprice_x2|vwap_x2", "mean_over(mid_x2)"), warm=(None, 0),
        note="thousandths of a tick from the mid's own time-weighted mean",
    ),
    KernelDeclaration(
        "constant", "", "a number", "literal", "none", 1, "", "arithmetic",
        params=(Param("value", "value", "number"),), warm=(None, 0),
    ),
)  # fmt: skip

KERNELS: Final[dict[str, KernelDeclaration]] = {
    k.name: k for k in (*_BOOK, *_TRADES, *_VOLATILITY, *_ROLLING, *_STATELESS)
}
