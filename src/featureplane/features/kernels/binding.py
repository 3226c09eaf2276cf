"""From a kernel's name in a plan to the object that computes it.

Leans on every module of kernels. Knows nothing of plans: it is told the parameters, what the inputs
are, and what the instrument and the source say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from featureplane.features.kernels.arithmetic import (
    Abs,
    Add,
    Bucket,
    Clip,
    Constant,
    Div,
    Fixed,
    Mul,
    RatioPpm,
    Roll,
    Sub,
)
from featureplane.features.kernels.averages import Ema, EmaTime, MeanOver, RelativeTicks
from featureplane.features.kernels.flow import DeepFlow, Ofi, OfiMulti, TobSurvivalMs
from featureplane.features.kernels.imbalance import Depth, ImbalancePpm, Qty
from featureplane.features.kernels.price import (
    BestAsk,
    BestBid,
    BookSlope,
    LevelPrice,
    MicropriceX2,
    MidX2,
    Spread,
    VwapX2,
)
from featureplane.features.kernels.returns import RealizedVol, ReturnBps
from featureplane.features.kernels.rolling import CumSum, Mean, Std, ZScore
from featureplane.features.kernels.series import Autocov, Diff, Lag, Max, Min
from featureplane.features.kernels.toxicity import KyleLambda, Vpin
from featureplane.features.kernels.trades import (
    MsSinceTrade,
    SignedQty,
    TradeCount,
    TradeIntensity,
    TradePrice,
)
from featureplane.features.kernels.window import StdOver, SumOver, TradeImbalance

__all__ = ["Family", "InputType", "Terms", "bind", "family_of", "is_timed"]


class Family(Enum):
    """How the engine runs a kernel."""

    BOOK = "book"  # `BookKernel`: told of books
    TRADES = "trades"  # told of trades, one at a time; says whether it advanced
    STATEFUL = "stateful"  # told of its inputs' values when one of them advances
    STATELESS = "stateless"  # a function of its inputs now
    KYLE = "kyle"  # advances with signed trades, told of the mid before the message
    RELATIVE = "relative"  # stateless, but reads the integral of its second input


class InputType(NamedTuple):
    """What a kernel must know of an input when it is made."""

    dtype: str  # i64, f64, u32
    kind: str  # state, flow


class Terms(NamedTuple):
    """What the instrument says to kernels; None and 0 where it says nothing."""

    tick: int | None = None
    vpin_bucket: int | None = None
    book_levels: int = 0


_Call = Callable[[Mapping[str, Any], Sequence[InputType], Terms], Any]


def _plain(cls: Callable[..., Any]) -> _Call:
    return lambda params, _inputs, _terms: cls(**params)


def _windowed(cls: Callable[..., Any]) -> _Call:
    return lambda params, inputs, _terms: cls(**params, kind=inputs[0].kind)


def _typed(cls: Callable[..., Any]) -> _Call:
    return lambda params, inputs, _terms: cls(**params, dtype="f64" if inputs[0].dtype == "f64" else "i64")


def _vpin(params: Mapping[str, Any], _inputs: Sequence[InputType], terms: Terms) -> Vpin:
    bucket = params["bucket"]
    return Vpin(bucket=terms.vpin_bucket if bucket is None else bucket, n=params["n"])


def _relative(_params: Mapping[str, Any], _inputs: Sequence[InputType], terms: Terms) -> RelativeTicks:
    return RelativeTicks(tick=terms.tick)


_KERNELS: Final[dict[str, tuple[Family, _Call]]] = {
    "best_bid": (Family.BOOK, _plain(BestBid)),
    "best_ask": (Family.BOOK, _plain(BestAsk)),
    "mid_x2": (Family.BOOK, _plain(MidX2)),
    "spread": (Family.BOOK, _plain(Spread)),
    "microprice_x2": (Family.BOOK, _plain(MicropriceX2)),
    "level_price": (Family.BOOK, _plain(LevelPrice)),
    "qty": (Family.BOOK, _plain(Qty)),
    "depth": (Family.BOOK, _plain(Depth)),
    "imbalance_ppm": (Family.BOOK, _plain(ImbalancePpm)),
    "vwap_x2": (Family.BOOK, _plain(VwapX2)),
    "book_slope": (Family.BOOK, _plain(BookSlope)),
    "ofi": (Family.BOOK, _plain(Ofi)),
    "ofi_multi": (Family.BOOK, _plain(OfiMulti)),
    "deep_flow": (Family.BOOK, _plain(DeepFlow)),
    "tob_survival_ms": (Family.BOOK, _plain(TobSurvivalMs)),
    "signed_qty": (Family.TRADES, _plain(SignedQty)),
    "trade_price": (Family.TRADES, _plain(TradePrice)),
    "trade_count": (Family.TRADES, _plain(TradeCount)),
    "trade_intensity": (Family.TRADES, _plain(TradeIntensity)),
    "ms_since_trade": (Family.TRADES, _plain(MsSinceTrade)),
    "ema": (Family.STATEFUL, _plain(Ema)),
    "ema_time": (Family.STATEFUL, _plain(EmaTime)),
    "sum_over": (Family.STATEFUL, _windowed(SumOver)),
    "mean_over": (Family.STATEFUL, _windowed(MeanOver)),
    "std_over": (Family.STATEFUL, _windowed(StdOver)),
    "mean": (Family.STATEFUL, _plain(Mean)),
    "std": (Family.STATEFUL, _plain(Std)),
    "zscore": (Family.STATEFUL, _plain(ZScore)),
    "min": (Family.STATEFUL, _typed(Min)),
    "max": (Family.STATEFUL, _typed(Max)),
    "lag": (Family.STATEFUL, _typed(Lag)),
    "diff": (Family.STATEFUL, _typed(Diff)),
    "cumsum": (Family.STATEFUL, _plain(CumSum)),
    "autocov": (Family.STATEFUL, _plain(Autocov)),
    "trade_imbalance": (Family.STATEFUL, _plain(TradeImbalance)),
    "vpin": (Family.STATEFUL, _vpin),
    "return_bps": (Family.STATEFUL, _plain(ReturnBps)),
    "realized_vol": (Family.STATEFUL, _plain(RealizedVol)),
    "kyle_lambda": (Family.KYLE, _plain(KyleLambda)),
    "clip": (Family.STATELESS, _plain(Clip)),
    "abs": (Family.STATELESS, _plain(Abs)),
    "add": (Family.STATELESS, _plain(Add)),
    "sub": (Family.STATELESS, _plain(Sub)),
    "mul": (Family.STATELESS, _plain(Mul)),
    "div": (Family.STATELESS, _plain(Div)),
    "ratio_ppm": (Family.STATELESS, _plain(RatioPpm)),
    "fixed": (Family.STATELESS, _plain(Fixed)),
    "bucket": (Family.STATELESS, _plain(Bucket)),
    "constant": (Family.STATELESS, _plain(Constant)),
    "roll": (Family.STATELESS, _plain(Roll)),
    "relative_ticks": (Family.RELATIVE, _relative),
}

_TIMED: Final = frozenset(
    {
        "tob_survival_ms",
        "trade_intensity",
        "ms_since_trade",
        "sum_over",
        "mean_over",
        "std_over",
        "trade_imbalance",
        "return_bps",
        "realized_vol",
    }
)


def family_of(kernel: str) -> Family:
    """How the engine runs a kernel; KeyError for a name that is not one of rule 8."""
    return _KERNELS[kernel][0]


def is_timed(kernel: str) -> bool:
    """Whether a kernel's own value moves with the clock (mark t)."""
    return kernel in _TIMED


def bind(kernel: str, params: Mapping[str, Any], inputs: Sequence[InputType], terms: Terms) -> Any:
    """A new kernel, or None for one that this feed can never feed (rule 7.3)."""
    made = _KERNELS[kernel][1](params, inputs, terms)
    return None if 0 < terms.book_levels < getattr(made, "levels", 0) else made
