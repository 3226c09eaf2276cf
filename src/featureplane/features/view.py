"""What one strategy reads while several versions of a feature set are computed: of each symbol one of them.

Which one may change between two messages. Handles stay, and read the version that is shown; nothing that a
strategy holds goes on reading the one it has left. In Rust where the frames are
(`crates/featureplane-py/src/view.rs`), else in Python; both answer alike. Leans on `features.latest`. Knows
nothing of engines or strategies.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from featureplane import native
from featureplane.errors import StateError, UnknownSymbol
from featureplane.features.frame import FeatureFrame
from featureplane.features.latest import Handle, LatestFrames, PlainLatest
from featureplane.market.instruments import Instrument

__all__ = ["FeatureView", "PlainDoor", "PlainView"]

_VERSIONS_MAX: Final = 64


class PlainDoor:
    """A handle in Python."""

    __slots__ = ("_view", "feature_id", "symbol")

    def __init__(self, view: PlainView, symbol: str, feature_id: str) -> None:
        self._view = view
        self.symbol, self.feature_id = symbol, feature_id

    @property
    def is_ready(self) -> bool:
        """Whether there is a value."""
        return self._view.value(self.symbol, self.feature_id) is not None

    @property
    def value(self) -> int | float:
        """The value; raises `NotReady`."""
        return self()

    def __call__(self) -> int | float:
        """The value; raises `NotReady`."""
        value: int | float = self._view.get_feature(self.symbol, self.feature_id)
        return value


class PlainView:
    """The reference of `View`."""

    def __init__(self, symbols: list[str], refuse: Any) -> None:
        self._refuse = refuse
        self._shown: dict[str, PlainLatest | None] = dict.fromkeys(symbols)
        self._versions: list[PlainLatest] = []

    def turn(self, symbol: str, latest: PlainLatest | None, /) -> bool:
        """Show these frames of a symbol from now on, or none; whether there was room for another version."""
        if symbol not in self._shown:
            return False
        if latest is not None and all(latest is not one for one in self._versions):
            if len(self._versions) == _VERSIONS_MAX:
                return False
            self._versions.append(latest)
        self._shown[symbol] = latest
        return True

    def value(self, symbol: str, feature_id: str) -> int | float | None:
        """The value, None where there is none, whatever the reason."""
        shown = self._shown[symbol]
        try:
            return None if shown is None else shown.value(symbol, feature_id)
        except KeyError:
            return None

    def get_feature(self, symbol: str, feature_id: str, /, **default: Any) -> Any:
        """The value of a feature; without one `default=` if it is given, else what `refuse` raises."""
        if default and set(default) != {"default"}:
            raise TypeError("get_feature() takes symbol, feature_id and default=")
        try:
            shown = self._shown[symbol]
            value = None if shown is None else shown.value(symbol, feature_id)
        except (KeyError, TypeError):
            return self._refuse(symbol, feature_id)
        if value is not None:
            return value
        return default["default"] if default and shown is not None else self._refuse(symbol, feature_id)

    def handle(self, symbol: str, feature_id: str) -> PlainDoor | None:
        """A door to one feature of one symbol; what `refuse` raises for one that is not shown."""
        shown = self._shown.get(symbol)
        if shown is None or not shown.has(feature_id):
            self._refuse(symbol, feature_id)
            return None
        return PlainDoor(self, symbol, feature_id)


class FeatureView:
    """The last frame of each symbol, of the version shown: `LatestFrames` for one strategy.

    Values and errors are those of `LatestFrames`; a handle to a feature that the version shown now does not
    have raises `StateError`.
    """

    def __init__(self, instruments: Iterable[Instrument], backend: str) -> None:
        self.symbols = tuple(sys.intern(one.symbol) for one in instruments)
        self._backend = backend
        self._shown: dict[str, LatestFrames] = {}
        kind = native.module().View if backend == "rust" else PlainView
        self._doors: dict[tuple[str, str], Handle] = {}
        self.store: Any = kind(list(self.symbols), self.refuse)
        self.get_feature = self.store.get_feature

    def turn(self, latest: LatestFrames, symbol: str | None = None) -> None:
        """Show these frames of a symbol, or of all, from now on.

        Raises `UnknownSymbol`, `StateError` after 64 different ones.
        """
        if latest.symbols != self.symbols:
            other = next((one for one in latest.symbols if one not in self.symbols), latest.symbols[0])
            raise UnknownSymbol(other, self.symbols)
        for one in self.symbols if symbol is None else (symbol,):
            if not self.store.turn(one, latest.store):
                hint = "start the service anew"
                raise StateError(f"{_VERSIONS_MAX} versions of features were shown already", hint=hint)
            self._shown[one] = latest

    def of(self, symbol: str) -> LatestFrames:
        """What is shown of a symbol; raises `UnknownSymbol`."""
        if symbol not in self._shown:
            raise UnknownSymbol(symbol, self.symbols)
        return self._shown[symbol]

    def held(self, symbol: str) -> frozenset[str]:
        """The features of a symbol to which there are handles."""
        return frozenset(feature_id for name, feature_id in self._doors if name == symbol)

    def set_id(self, symbol: str | None = None) -> str:
        """The id of the set that is shown of a symbol, or of all.

        Raises `UnknownSymbol`, `StateError` without a symbol where they are several.
        """
        if symbol is not None:
            return self.of(symbol).layout.feature_set_id
        ids = list(dict.fromkeys(one.layout.feature_set_id for one in self._shown.values()))
        if len(ids) > 1:
            hint = "say of which symbol: get_feature_set_id(symbol)"
            raise StateError(f"symbols are of {' and '.join(ids)} now", hint=hint)
        return ids[0]

    def handle(self, symbol: str, feature_id: str) -> Handle:
        """The door to one feature of one symbol; raises `UnknownSymbol`, `UnknownFeature`."""
        known = self._doors.get((symbol, feature_id))
        if known is None or feature_id not in self.of(symbol).layout.places:
            known = self.store.handle(symbol, feature_id)
            self._doors[symbol, feature_id] = known
        return known

    def frame(self, symbol: str) -> FeatureFrame:
        """See `LatestFrames.frame`."""
        return self.of(symbol).frame(symbol)

    def times(self, symbol: str) -> tuple[int, int] | None:
        """See `LatestFrames.times`."""
        return self.of(symbol).times(symbol)

    def refuse(self, symbol: str, feature_id: str) -> NoReturn:
        """Raise for a feature without value, or one or a symbol that is not here."""
        shown = self.of(symbol)
        if (symbol, feature_id) in self._doors and feature_id not in shown.layout.places:
            raise StateError(
                f"{symbol}: `{feature_id}` is not in {shown.layout.feature_set_id}, which is consumed now",
                hint="ask `ctx.get_feature_set_id(symbol)` which set it is, and read what that has",
            )
        shown.refuse(symbol, feature_id)
