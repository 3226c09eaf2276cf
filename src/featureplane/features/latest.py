"""The last frame of each symbol, read value by value: what strategies pull from.

By name, or by a handle made once; a value that is not there is never a number. In Rust when an engine
computes there (`crates/featureplane-py/src/latest.rs`), else in Python; both answer alike. Leans on
`features.frame`. Knows nothing of engines or strategies.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final, NoReturn, Protocol

from featureplane import native
from featureplane.errors import NotReady, UnknownFeature, UnknownSymbol
from featureplane.features.frame import FeatureFrame, FrameLayout
from featureplane.features.spec import FeatureSet
from featureplane.market.instruments import Instrument
from featureplane.units import UNDEFINED_F64_BITS, UNDEFINED_I64

__all__ = ["Handle", "LatestFrames", "PlainHandle", "PlainLatest", "check_symbols"]

_SEQ_WORD: Final = 2
_FLAGS_WORD: Final = 1
_LOCAL_WORD: Final = 4
_UNDEFINED_F64: Final = UNDEFINED_F64_BITS
_MASK: Final = (1 << 64) - 1


class Handle(Protocol):
    """A door to one feature of one symbol; `handle()` is its value, and raises `NotReady` without one."""

    @property
    def symbol(self) -> str:
        """The symbol it reads."""

    @property
    def feature_id(self) -> str:
        """The feature it reads."""

    @property
    def is_ready(self) -> bool:
        """Whether there is a value."""

    @property
    def value(self) -> Any:
        """The value, `int` or `float` as the feature declares; raises `NotReady`. Cheaper than a call."""

    def __call__(self) -> Any:
        """The same."""


class PlainHandle:
    """A handle in Python."""

    __slots__ = ("_place", "_store", "feature_id", "symbol")

    def __init__(self, store: PlainLatest, symbol: str, feature_id: str) -> None:
        self._store, self._place = store, (symbol, feature_id)
        self.symbol, self.feature_id = symbol, feature_id

    @property
    def is_ready(self) -> bool:
        """Whether there is a value."""
        return self._store.value(*self._place) is not None

    @property
    def value(self) -> int | float:
        """The value; raises `NotReady`."""
        return self()

    def __call__(self) -> int | float:
        """The value; raises `NotReady`."""
        value: int | float = self._store.get_feature(*self._place)
        return value


class PlainLatest:
    """The reference: `put` is told every frame, in the order of `symbols`."""

    def __init__(  # noqa: PLR0917 - as its twin takes them
        self,
        symbols: list[str],
        features: list[str],
        floats: list[bool],
        undefined: bytes,
        first: int,
        refuse: Any,
    ) -> None:
        self._undefined, self._refuse = undefined, refuse
        self._rows = {symbol: bytearray(undefined) for symbol in symbols}
        self._numbers = list(self._rows.values())
        self._places = {
            feature_id: (8 * (first + i), is_float)
            for i, (feature_id, is_float) in enumerate(zip(features, floats, strict=True))
        }

    def put(self, row: int, frame: bytes) -> None:
        """The last frame of the symbol number `row`."""
        self._numbers[row][:] = frame

    def has(self, feature_id: str) -> bool:
        """Whether it is one of the features."""
        return feature_id in self._places

    def value(self, symbol: str, feature_id: str) -> int | float | None:
        """The value, None without one; raises `KeyError` for what is not here."""
        at, is_float = self._places[feature_id]
        raw = memoryview(self._rows[symbol])[at : at + 8]
        if is_float:
            undefined = raw.cast("Q")[0] == _UNDEFINED_F64
            return None if undefined else raw.cast("d")[0]
        word = raw.cast("q")[0]
        return None if word == UNDEFINED_I64 else word

    def get_feature(self, symbol: str, feature_id: str, /, **default: Any) -> Any:
        """The value of a feature; without one `default=` if it is given, else what `refuse` raises."""
        if default and set(default) != {"default"}:
            raise TypeError("get_feature() takes symbol, feature_id and default=")
        try:
            value = self.value(symbol, feature_id)
        except (KeyError, TypeError):
            return self._refuse(symbol, feature_id)
        if value is not None:
            return value
        return default["default"] if default else self._refuse(symbol, feature_id)

    def handle(self, symbol: str, feature_id: str) -> PlainHandle | None:
        """A door to one feature of one symbol; what `refuse` raises for one that is not here."""
        if symbol not in self._rows or feature_id not in self._places:
            self._refuse(symbol, feature_id)
            return None
        return PlainHandle(self, symbol, feature_id)

    def frame(self, symbol: str) -> bytes | None:
        """The bytes of the symbol's last frame, None for a symbol that is not here."""
        row = self._rows.get(symbol)
        return None if row is None else bytes(row)

    def word(self, symbol: str, at: int) -> int | None:
        """A 64-bit word of the symbol's last frame, as a signed integer."""
        row = self._rows.get(symbol)
        if row is None or not 0 <= 8 * at < len(row):
            return None
        word: int = memoryview(row)[8 * at : 8 * at + 8].cast("q")[0]
        return word

    def clear(self, symbol: str | None = None, /) -> None:
        """Forget the values of a symbol, or all."""
        for name, row in self._rows.items():
            if symbol in {None, name}:
                row[:] = self._undefined


class LatestFrames:
    """The last frames of a feature set's symbols. `FeatureEngine.follow` keeps them up to date.

    `get_feature(symbol, feature_id)` is the value; it raises `NotReady` without one unless `default=` is
    given by name, `UnknownSymbol` and `UnknownFeature` even then.
    """

    def __init__(self, fset: FeatureSet, instruments: Iterable[Instrument], backend: str) -> None:
        given = tuple(instruments)
        self.layout = FrameLayout.of(fset, {one.symbol_id: one.symbol for one in given})
        self.symbols = tuple(sys.intern(one.symbol) for one in given)
        self.backend = backend
        kind = native.module().Latest if backend == "rust" else PlainLatest
        layout = self.layout
        blank = layout.pack(
            symbol_id=0,
            flags=0,
            seq=0,
            source_ts_ns=0,
            local_ts_ns=0,
            source_seq=0,
            changed=0,
            ready=0,
            values=layout.undefined,
        )
        self.store: Any = kind(
            list(self.symbols),
            [sys.intern(feature_id) for feature_id in layout.feature_ids],
            [dtype == "f64" for dtype in layout.dtypes],
            blank,
            layout.values_at // 8,
            self.refuse,
        )
        self.get_feature = self.store.get_feature

    def set_id(self, symbol: str | None = None) -> str:
        """The id of the feature set; of one symbol's, which is the same. Raises `UnknownSymbol`."""
        if symbol is not None and symbol not in self.symbols:
            raise UnknownSymbol(symbol, self.symbols)
        return self.layout.feature_set_id

    def handle(self, symbol: str, feature_id: str) -> Handle:
        """A door to one feature of one symbol; raises `UnknownSymbol`, `UnknownFeature`."""
        made: Handle = self.store.handle(symbol, feature_id)
        return made

    def frame(self, symbol: str) -> FeatureFrame:
        """The symbol's last frame, on bytes of its own.

        Raises `UnknownSymbol`, or `NotReady` before the first.
        """
        data = self.store.frame(symbol)
        if data is None:
            raise UnknownSymbol(symbol, self.symbols)
        if not self.word(symbol, _SEQ_WORD):
            raise NotReady(symbol, self.layout.feature_set_id, "there is no frame yet")
        return FeatureFrame(data, self.layout)

    def times(self, symbol: str) -> tuple[int, int] | None:
        """When the last frame's message was received, and its flags; None before the first.

        Raises `UnknownSymbol`.
        """
        if not self.word(symbol, _SEQ_WORD):
            return None
        flags = (self.word(symbol, _FLAGS_WORD) & _MASK) >> 32
        return self.word(symbol, _LOCAL_WORD), flags

    def word(self, symbol: str, at: int) -> int:
        """A word of the symbol's last frame; raises `UnknownSymbol`."""
        word: int | None = self.store.word(symbol, at)
        if word is None:
            raise UnknownSymbol(symbol, self.symbols)
        return word

    def clear(self, symbol: str | None = None) -> None:
        """Forget the values of a symbol, or all: nothing is ready until the next frame."""
        self.store.clear(symbol)

    def refuse(self, symbol: str, feature_id: str) -> NoReturn:
        """Raise for a feature without value, or one or a symbol that is not here."""
        if symbol not in self.symbols:
            raise UnknownSymbol(symbol, self.symbols)
        if feature_id not in self.layout.places:
            raise UnknownFeature(feature_id, self.layout.feature_ids)
        seq = self.word(symbol, _SEQ_WORD)
        raise NotReady(
            symbol, feature_id, f"not in the ready mask of frame {seq}" if seq else "there is no frame yet"
        )


def check_symbols(latest: LatestFrames | None, layout: FrameLayout) -> None:
    """Refuse, with `UnknownSymbol`, the last frames of other symbols, or in another order."""
    symbols = tuple(layout.symbols.values())
    if latest is not None and latest.symbols != symbols:
        other = next((one for one in symbols if one not in latest.symbols), symbols[0])
        raise UnknownSymbol(other, latest.symbols)
