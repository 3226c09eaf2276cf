"""Whether a running service can be relied on, symbol by symbol.

Leans on `strategy` and `features`. Counts nothing.
"""

from __future__ import annotations

from typing import Final

from featureplane.features.availability import undefined_here
from featureplane.features.spec import FeatureSet
from featureplane.strategy.service import ServiceRunner

__all__ = ["Readiness"]

_NAMED_MAX: Final = 5


class Readiness:
    """A symbol is ready while its book is whole, once every feature its feed can define has had a value.

    A feature that has none for a moment, as a quotient by 0, is not waited for again; a book that is not
    whole begins everything anew.
    """

    def __init__(self, runner: ServiceRunner, fset: FeatureSet | None) -> None:
        self._runner, self._fset = runner, fset
        self._needed = {one.symbol: 0 for one in runner.instruments}
        if fset is not None:
            for one in runner.instruments:
                never = undefined_here(fset, one)
                bits = (1 << i for i, spec in enumerate(fset.specs) if spec.feature_id not in never)
                self._needed[one.symbol] = sum(bits)
        self._seen = dict.fromkeys(self._needed, 0)

    def look(self) -> dict[str, str]:
        """What each symbol waits for; an empty text: it is ready. Between two messages."""
        return {symbol: self._look(symbol) for symbol in self._needed}

    def _look(self, symbol: str) -> str:
        if not self._runner.is_whole(symbol):
            self._seen[symbol] = 0
            return "its book is not whole"
        latest, needed = self._runner.latest, self._needed[symbol]
        if latest is None or self._fset is None:
            return ""
        if latest.times(symbol) is not None:
            self._seen[symbol] |= latest.frame(symbol).ready
        missing = needed & ~self._seen[symbol]
        if not missing:
            return ""
        names = [spec.feature_id for i, spec in enumerate(self._fset.specs) if missing >> i & 1]
        more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
        return f"no value yet: {', '.join(names[:_NAMED_MAX])}{more}"
