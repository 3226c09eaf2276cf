"""How many levels a feed shows, held against what an instruments file says it does (rule 7.3).

Leans on `book.engine` and `market`.
"""

from __future__ import annotations

from featureplane.book.engine import LOBEngine
from featureplane.market.agreement import levels_mismatch
from featureplane.market.events import EventBatch
from featureplane.market.quality import BookState

__all__ = ["ShownLevels"]

_CHUNK_EVENTS = 1024


class ShownLevels:
    """The books of a stream, looked at every so often: none may be deeper than its feed is said to be.

    Guarded as everywhere: a book without a snapshot or with a gap may keep levels that are long out of
    view, and is not asked. Only instruments of a file that declares `book_levels` above 0 are kept.
    """

    def __init__(self, backend: str = "auto") -> None:
        self._backend = backend
        self._books: dict[int, LOBEngine] = {}

    def take(self, batch: EventBatch) -> None:
        """Apply the events; raises `InstrumentMismatch` for a side with more levels than declared."""
        for one in batch.instruments:
            if one.origin is None or not one.book_levels:
                continue
            if one.symbol_id not in self._books:
                seed = batch.options.seed
                self._books[one.symbol_id] = LOBEngine(one, self._backend, on_malformed="drop", seed=seed)
            for piece in batch.chunks(_CHUNK_EVENTS):
                self._look(self._books[one.symbol_id], piece)

    def _look(self, book: LOBEngine, piece: EventBatch) -> None:
        instrument = book.instrument
        book.process_events(piece.array[piece.array["symbol_id"] == instrument.symbol_id])
        if book.state is not BookState.WHOLE:
            return
        for name, levels in zip(("bids", "asks"), book.levels(), strict=True):
            if len(levels) > instrument.book_levels:
                raise levels_mismatch(instrument, f"{len(levels)} {name} in a book")
