"""hftbacktest, the library: found when it is first needed, and a market made of it.

Leans on `research.backtest.assets`. Knows nothing of books, features or strategies.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from featureplane.errors import ExtraUnavailable, SettingError
from featureplane.execution.money import amount
from featureplane.market.instruments import Instrument
from featureplane.research.backtest.assets import HftAsset

__all__ = [
    "BPS_PLACES",
    "END_OF_DATA",
    "FEED",
    "FOREVER_NS",
    "RESPONSE",
    "TIMEOUT",
    "HftMarket",
    "Simulation",
    "library",
]

TIMEOUT: Final = 0
END_OF_DATA: Final = 1
FEED: Final = 2
RESPONSE: Final = 3
"""What `wait_next_feed` says."""

FOREVER_NS: Final = 10**15
BPS_PLACES: Final = 4
_QUEUES: Final = ("risk_adverse", "log_prob", "log_prob2")
_FILLS: Final = ("touch", "queue", "through")
_TRADE: Final = 2
_KINDS: Final = np.uint64(0xFF)
_ENDLESS: Final = 1 << 54  # units of size: what a queue and an order can hold together (rule 1.2)
_EXCH: Final = np.uint64(1 << 31)
_LOCAL: Final = np.uint64(1 << 30)


def library() -> ModuleType:
    """The package `hftbacktest`; raises `ExtraUnavailable` where it cannot be imported."""
    try:
        return importlib.import_module("hftbacktest")
    except ImportError as error:
        raise ExtraUnavailable("hftbacktest", "backtest", str(error)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class HftMarket:
    """How hftbacktest treats orders. Raises `SettingError`.

    `fill` is what a trade at its price does to a waiting order: "touch" fills it whole, "through" nothing,
    "queue" what `queue` says, a queue model of hftbacktest: "risk_adverse", "log_prob" or "log_prob2"
    (`docs/concepts/hftbacktest.md`). `entry_ns` is the way of orders to the venue, `response_ns` that back;
    `partial_fills` its exchange model with partial fills, whose orders also take several levels; fees are
    decimal text in basis points of the value, negative for a rebate. `roi`, two prices, keeps a book of that
    range alone, which is faster. `latency_offset_ns` is added to all local times, as hftbacktest's
    `latency_offset` does, but not in anybody's array.
    `configure` is called at last with each `BacktestAsset` and its instrument, for all that is not said here.
    """

    queue: str = "risk_adverse"
    fill: str = "queue"
    entry_ns: int = 0
    response_ns: int = 0
    partial_fills: bool = False
    maker_bps: str = "0"
    taker_bps: str = "0"
    roi: tuple[float, float] | None = None
    latency_offset_ns: int = 0
    configure: Callable[[Any, Instrument], object] | None = None

    def __post_init__(self) -> None:
        """Refuse words and numbers that are not options."""
        if self.queue not in _QUEUES:
            raise SettingError(f"queue={self.queue!r}", hint=f"choose one of {', '.join(_QUEUES)}")
        if self.fill not in _FILLS:
            raise SettingError(f"fill={self.fill!r}", hint=f"choose one of {', '.join(_FILLS)}")
        if self.fill != "queue" and self.queue != _QUEUES[0]:
            found = f"queue={self.queue!r} with fill={self.fill!r}"
            raise SettingError(found, hint='a queue model goes with fill="queue"')
        for name in ("entry_ns", "response_ns"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise SettingError(f"{name}={value!r}", hint="nanoseconds, an integer from 0")
        if type(self.latency_offset_ns) is not int:
            found = f"latency_offset_ns={self.latency_offset_ns!r}"
            raise SettingError(found, hint="nanoseconds, an integer")
        for name in ("maker_bps", "taker_bps"):
            if amount(getattr(self, name), BPS_PLACES) is None:
                expected = f"decimal text of at most {BPS_PLACES} decimals"
                found = f"{name}: found {getattr(self, name)!r}, expected {expected}"
                raise SettingError(found, hint='basis points, like "2.5"; below 0 is a rebate')
        if self.roi is not None and not self.roi[0] < self.roi[1]:
            raise SettingError(f"roi={self.roi!r}", hint="the lowest and the highest price of the book")


class Simulation:
    """A market of hftbacktest, ready to begin; `close` ends it, and so does leaving `with`.

    `offsets_ns` is, asset by asset, what its clock has more than `HftAsset.clock_ns`: clocks of several
    assets are brought to one shift, and latency offsets are in it, whoever asked for them.
    """

    def __init__(self, assets: Sequence[HftAsset], market: HftMarket) -> None:
        package = library()
        self.market = market
        shift_ns = max(one.shift_ns for one in assets)
        more = [shift_ns - one.shift_ns + market.latency_offset_ns for one in assets]
        for one, offset in zip(assets, more, strict=True):
            if market.latency_offset_ns < 0 and one.least_latency_ns + offset < 0:
                least = market.latency_offset_ns - one.least_latency_ns - offset
                raise SettingError(
                    f"latency_offset_ns={market.latency_offset_ns}: "
                    f"{one.instrument.symbol} would be received before it was sent",
                    hint=f"at least {least} is possible",
                )
        # hftbacktest writes a latency offset into the array: where it may be told one, it gets a copy.
        is_ours = market.configure is None
        self._rows = [
            one.rows if is_ours and not offset else _shifted(one.rows, offset)
            for one, offset in zip(assets, more, strict=True)
        ]
        if market.fill != "queue":
            self._rows = [
                _trades_for(rows, market.fill, one.instrument.qty_exponent)
                for rows, one in zip(self._rows, assets, strict=True)
            ]
        before = [int(rows["local_ts"][0]) for rows in self._rows]
        made = [_made(package, one, rows, market) for one, rows in zip(assets, self._rows, strict=True)]
        build = package.HashMapMarketDepthBacktest
        if market.roi is not None:
            build = package.ROIVectorMarketDepthBacktest
        self.hbt: Any = build(made)
        self.offsets_ns = [
            offset + int(rows["local_ts"][0]) - was
            for offset, rows, was in zip(more, self._rows, before, strict=True)
        ]

    def close(self) -> None:
        """Give hftbacktest's memory back; a second time it does nothing."""
        if self.hbt is not None:
            self.hbt.close()
            self.hbt = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _shifted(rows: npt.NDArray[Any], offset_ns: int) -> npt.NDArray[Any]:
    out = rows.copy()
    if offset_ns:
        out["local_ts"] += np.int64(offset_ns)
    return out


def _trades_for(rows: npt.NDArray[Any], fill: str, qty_exponent: int) -> npt.NDArray[Any]:
    """Rows whose trades the venue's side sees larger than any queue, or of no size; ours as they were.

    WHY that is a fill model: hftbacktest fills what a trade went beyond, and at its price subtracts the trade
    from the queue before the order.
    """
    is_trade = (rows["ev"] & _KINDS == _TRADE) & (rows["ev"] & _EXCH != 0)
    both = is_trade & (rows["ev"] & _LOCAL != 0)
    out = rows[np.repeat(np.arange(len(rows)), 1 + both)]
    seconds = np.flatnonzero(both) + np.arange(1, int(both.sum()) + 1)
    out["ev"][seconds - 1] &= ~_LOCAL
    out["ev"][seconds] &= ~_EXCH
    venues = (out["ev"] & _KINDS == _TRADE) & (out["ev"] & _EXCH != 0)
    out["qty"][venues] = _ENDLESS / 10.0**qty_exponent if fill == "touch" else 0.0
    return out


def _made(package: ModuleType, asset: HftAsset, rows: npt.NDArray[Any], market: HftMarket) -> Any:
    about = asset.instrument
    made = package.BacktestAsset().data(rows).linear_asset(1.0)
    made.constant_order_latency(market.entry_ns, market.response_ns)
    getattr(made, _QUEUE_MODELS[market.queue])()
    made.partial_fill_exchange() if market.partial_fills else made.no_partial_fill_exchange()
    made.trading_value_fee_model(_fraction(market.maker_bps), _fraction(market.taker_bps))
    made.tick_size((about.tick or 1) / 10.0**about.price_exponent)
    # WHY not the lot: what a partly filled order leaves may be finer, and would be no level then.
    made.lot_size(1.0 / 10.0**about.qty_exponent)
    if market.roi is not None:
        made.roi_lb(market.roi[0]).roi_ub(market.roi[1])
    if market.configure is not None:
        market.configure(made, about)
    return made


def _fraction(bps: str) -> float:
    return (amount(bps, BPS_PLACES) or 0) / 10.0 ** (4 + BPS_PLACES)


_QUEUE_MODELS: Final = {
    "risk_adverse": "risk_adverse_queue_model",
    "log_prob": "log_prob_queue_model",
    "log_prob2": "log_prob_queue_model2",
}
