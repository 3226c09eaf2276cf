"""What a strategy is, and what it can do: handlers it overrides, a context it reads and orders through.

The same class runs in a replay, in a backtest and in a service. Leans on `strategy.events`,
`features` and `execution`. Knows nothing of who calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, Protocol

from featureplane.errors import FeatureSetMismatch, NotReady, SettingError, StateError, UnknownSymbol
from featureplane.execution.orders import Order, OrderEvent, OrderIntent
from featureplane.features.catalog import registry
from featureplane.features.frame import FeatureFrame, FeatureUpdateEvent
from featureplane.features.latest import Handle, LatestFrames
from featureplane.features.profiles import is_profile_of
from featureplane.features.spec import FeatureSet
from featureplane.features.view import FeatureView
from featureplane.market.instruments import Instrument
from featureplane.market.quality import Quality
from featureplane.strategy.events import BidAskEvent, GapEvent, LOBStatsEvent, TickEvent

__all__ = ["HANDLERS", "BaseStrategy", "OrderDesk", "StrategyContext", "check_features", "required_by"]

HANDLERS: Final = ("on_tick", "on_bid_ask", "on_lob_stats", "on_features", "on_gap", "on_fill", "on_order")
"""The handlers a strategy may override; only those it does are called."""

_FINGERPRINT_DIGITS: Final = 64

Shown = LatestFrames | FeatureView
"""Where a strategy reads from: the frames of one set, or those of the version it consumes now."""


class BaseStrategy:
    """A strategy: override the handlers it needs.

    `required_features` is the id of a registered feature set, which its profiles satisfy too, or a
    fingerprint of 64 hexadecimal digits, which only that set does; or several of them, of which any will do.
    A strategy that overrides `on_features` must have one. Without it the strategy runs with any engine, and
    without one. `name` tells strategies of one runner apart.

    Handlers are called in the order `on_gap`, `on_fill` and `on_order`, `on_tick`, `on_bid_ask`,
    `on_lob_stats`, `on_features` for every message. An exception that leaves a handler stops this strategy
    and no other: its working orders are cancelled.
    """

    required_features: ClassVar[str | tuple[str, ...] | None] = None
    ctx: StrategyContext

    def __init__(self, name: str | None = None) -> None:
        self.name = name or type(self).__name__

    def on_start(self) -> None:
        """Before the first message; `ctx` is there, and handles can be made."""

    def on_stop(self) -> None:
        """Behind the last message, or when it is switched off; not when an exception stopped it."""

    def on_tick(self, event: TickEvent) -> None:
        """A trade."""

    def on_bid_ask(self, event: BidAskEvent) -> None:
        """The book changed."""

    def on_lob_stats(self, event: LOBStatsEvent) -> None:
        """The book changed and has two sides."""

    def on_features(self, frame: FeatureUpdateEvent) -> None:
        """A frame; what it has no value for has none."""

    def on_gap(self, event: GapEvent) -> None:
        """Messages are missing."""

    def on_fill(self, event: OrderEvent) -> None:
        """An order of this strategy was filled, in part or as a whole."""

    def on_order(self, event: OrderEvent) -> None:
        """Anything else that happened to an order of this strategy, refusals of the venue among it."""


class OrderDesk(Protocol):
    """How the orders of one strategy leave it; the runner's."""

    def submit(self, intent: OrderIntent) -> int:
        """See `StrategyContext.submit`."""

    def cancel(self, order_id: int) -> bool:
        """See `StrategyContext.cancel`."""

    @property
    def now_ns(self) -> int:
        """See `StrategyContext.now_ns`."""

    @property
    def positions(self) -> Mapping[str, int]:
        """Position by symbol."""

    @property
    def working(self) -> Mapping[int, Order]:
        """Orders by number."""


class StrategyContext:
    """What one strategy can read and do. Times are nanoseconds on the clock of receipt.

    `get_feature(symbol, feature_id)` is the value as of the symbol's last frame. Raises `NotReady` while it
    has none (`default=`, by name, gives something else then), `UnknownSymbol`, `UnknownFeature`.
    """

    __slots__ = ("_desk", "_instruments", "_latest", "get_feature")

    def __init__(self, instruments: Iterable[Instrument], latest: Shown | None, desk: OrderDesk) -> None:
        self._instruments = {one.symbol: one for one in instruments}
        self._desk = desk
        self.use(latest)

    def use(self, latest: Shown | None) -> None:
        """Read from there; for the runner."""
        self._latest = latest
        # WHY an attribute: the method of the store itself, without a call of ours around it.
        self.get_feature: Any = self._no_feature if latest is None else latest.get_feature

    @property
    def shown(self) -> Shown | None:
        """Where it reads from; for the runner."""
        return self._latest

    @property
    def now_ns(self) -> int:
        """When the message at hand was received; does not go back."""
        return self._desk.now_ns

    # -- features

    def get_feature_view(self, symbol: str) -> FeatureFrame:
        """The symbol's last frame: values in schema order and what is known of them, on bytes of its own.

        Raises `NotReady` before the first frame, `UnknownSymbol`.
        """
        return self._frames().frame(symbol)

    def get_feature_set_id(self, symbol: str | None = None) -> str:
        """The id of the feature set, of one symbol or of all.

        Raises `UnknownSymbol`, and `StateError` without a symbol while symbols are of several sets.
        """
        return self._frames().set_id(symbol)

    def handle(self, feature_id: str, symbol: str | None = None) -> Handle:
        """A door to one feature for the hot path; without `symbol` of the only one there is.

        `handle()` and `handle.value` are what `get_feature` gives, without looking up names. It reads the
        last frame whenever that came. In a service it follows a change of the feature set, and raises
        `StateError` where the other set does not have the feature; elsewhere there is no value in it then.
        Raises `UnknownSymbol`, `UnknownFeature`, `SettingError` where there are several symbols.
        """
        latest = self._frames()
        if symbol is None:
            if len(self._instruments) != 1:
                raise SettingError(
                    f"{len(self._instruments)} symbols", hint="say which: handle(feature_id, symbol)"
                )
            symbol = next(iter(self._instruments))
        return latest.handle(symbol, feature_id)

    def is_feature_stale(self, symbol: str, max_age_ns: int) -> bool:
        """Whether the symbol's last frame is older than `max_age_ns`, is flagged stale, or never came.

        The age is that of its message's receipt, before `now_ns`. Raises `UnknownSymbol`.
        """
        times = self._frames().times(symbol)
        if times is None:
            return True
        local_ts_ns, flags = times
        return self.now_ns - local_ts_ns > max_age_ns or bool(flags & Quality.STALE_INPUT)

    # -- orders

    def submit(self, intent: OrderIntent) -> int:
        """Ask for an order; its number, or 0 if the risk check refused it.

        The number is the runner's: `intent.client_id` is not looked at. What becomes of the order is told to
        `on_fill` and `on_order`. Raises `UnknownSymbol`.
        """
        return self._desk.submit(intent)

    def cancel(self, order_id: int) -> bool:
        """Ask for the end of an order; False if it is over, or ending, already.

        Raises `StateError` for one that is not this strategy's.
        """
        return self._desk.cancel(order_id)

    def position(self, symbol: str) -> int:
        """What this strategy's own fills add up to, signed, in event units; raises `UnknownSymbol`."""
        self.instrument(symbol)
        return self._desk.positions.get(symbol, 0)

    @property
    def working(self) -> Mapping[int, Order]:
        """The strategy's orders that are not known to be over, by number, oldest first."""
        return self._desk.working

    # -- what there is

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols there are."""
        return tuple(self._instruments)

    def instrument(self, symbol: str) -> Instrument:
        """Ticks, lots and exponents of a symbol; raises `UnknownSymbol`."""
        try:
            return self._instruments[symbol]
        except KeyError:
            raise UnknownSymbol(symbol, self.symbols) from None

    def _frames(self) -> Shown:
        if self._latest is None:
            raise StateError("there are no features here", hint="give the runner a feature engine")
        return self._latest

    def _no_feature(self, symbol: str, feature_id: str, **_default: Any) -> Any:
        self.instrument(symbol)
        raise NotReady(symbol, feature_id, "there is no feature engine")


def required_by(strategy: BaseStrategy | type[BaseStrategy]) -> tuple[str, ...]:
    """The sets of which a strategy needs one, by id or fingerprint; none for one that needs no features."""
    required = strategy.required_features
    if required is None:
        return ()
    return (required,) if isinstance(required, str) else tuple(required)


def check_features(strategy: BaseStrategy, fset: FeatureSet | None) -> None:
    """Refuse a strategy that requires other features than those of an engine; `fset` None: no engine.

    Raises `UnknownFeatureSet` for an id that is not registered, `FeatureSetMismatch` for another set,
    `StateError` where features are required and there is no engine, `SettingError` for a strategy that
    overrides `on_features` and requires nothing.
    """
    required = required_by(strategy)
    if not required:
        if type(strategy).on_features is not BaseStrategy.on_features:
            raise SettingError(
                f"{strategy.name}: `on_features` without `required_features`",
                hint='say which features it reads: required_features = "lob_shared_v1"',
            )
        return
    if fset is None:
        _known(required[0])
        raise StateError(
            f"{strategy.name} requires the features {' or '.join(required)}, and there is no feature engine",
            hint="give the runner an engine of that set, or run the strategy's legacy form",
        )
    if any(_satisfies(fset, one) for one in required):
        return
    mine = _known(required[0])
    differences = mine.diff(fset) if mine else ()
    wanted = required[0] if mine is None else mine.fingerprint
    about = f"{strategy.name} requires the features {' or '.join(required)}, not {fset.feature_set_id}"
    first = str(differences[0]) if differences else None
    raise FeatureSetMismatch(wanted, fset.fingerprint, first, about=about)


def _satisfies(fset: FeatureSet, required: str) -> bool:
    if _is_fingerprint(required):
        return fset.fingerprint == required
    if required not in registry:
        return False
    mine = registry.get(required)
    return fset.fingerprint == mine.fingerprint or is_profile_of(fset, mine)


def _known(required: str) -> FeatureSet | None:
    """The set that is required; None for a fingerprint of one that is not registered."""
    if not _is_fingerprint(required):
        return registry.get(required)
    return next((one for one in map(registry.get, registry) if one.fingerprint == required), None)


def _is_fingerprint(text: str) -> bool:
    return len(text) == _FINGERPRINT_DIGITS and all(digit in "0123456789abcdef" for digit in text)
