"""The book at a cut of a stream, for any feature set: a saved state without what belongs to one set.

A checkpoint holds guard, clock and book of one symbol (`docs/reference/engine-state.md`, parts 3 to 12 and
14), as the channels that are listened to made them. Laid under a fresh state of a set that listens to the
same channels it continues as if that set had been there all along, with its kernels just reset.

Leans on `features`. Knows nothing of files or days.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from featureplane.errors import StoreError
from featureplane.features import kernels as k
from featureplane.features.engine_state import STATE_MAGIC
from featureplane.features.kernels.state import StateReader
from featureplane.features.spec import FeatureSet
from featureplane.market.events import SourceInfo
from featureplane.market.messages import EVENT_BYTES
from featureplane.research.store.keys import digest_of
from featureplane.whole_file import WholeFile

__all__ = ["BookCheckpoint", "StateCuts", "begun_anew", "clock_of", "reads_of", "roll_set"]

_MAGIC: Final = b"FPBOOK01"
_DOMAIN: Final = "featureplane book 1"
_HASH_BYTES: Final = 32
_WORD: Final = 8
_HEAD: Final = 16  # magic and fingerprint
_CHAINS: Final = 3


@dataclass(frozen=True, slots=True)
class StateCuts:
    """Where the parts of a saved state begin, in bytes; raises `StoreError` for bytes that are none."""

    clock: int
    seq: int
    book: int
    nodes: int

    @classmethod
    def of(cls, state: bytes, features: int) -> StateCuts:
        """The cuts of a state of a set of that many features."""
        if state[:_WORD] != STATE_MAGIC:
            raise StoreError("found no saved state where one should be")
        reader = StateReader(state)
        try:
            reader.raw(_HEAD + _WORD * (1 + 2 + 3 * _CHAINS + 4))  # id, guard, chains, standing
            for _ in range(reader.count()):
                reader.raw(EVENT_BYTES * reader.count(EVENT_BYTES))
            reader.raw(_WORD * 4)  # pending, trading
            reader.option_i64()
            clock = len(state) - reader.left
            reader.option_i64()
            reader.option_i64()
            reader.raw(_WORD * 2)
            seq = len(state) - reader.left
            book = seq + _WORD * (1 + features)
            reader.raw(book - seq)
            for words in (2, 2, 4):
                reader.raw(_WORD * words * reader.count(_WORD * words))
            reader.u64()
        except ValueError as error:
            raise StoreError(f"a saved state that cannot be read: {error}") from None
        return cls(clock, seq, book, len(state) - reader.left)


def clock_of(state: bytes, features: int) -> int | None:
    """The clock of rule 5.3 in a saved state; None before the first step."""
    return StateReader(state[StateCuts.of(state, features).clock :]).option_i64()


def begun_anew(state: bytes, fresh: bytes, features: int) -> bytes:
    """A state as a day begins: no frame yet, so `seq` counts from 1 and nothing stands before the first."""
    cuts, new = StateCuts.of(state, features), StateCuts.of(fresh, features)
    return state[: cuts.seq] + fresh[new.seq : new.book] + state[cuts.book :]


@dataclass(frozen=True, slots=True)
class BookCheckpoint:
    """The book of one symbol at a cut between two files, and what else stands while no frame does."""

    reads: str
    before: bytes  # parts 3 to 12
    book: bytes  # part 14

    @classmethod
    def of(cls, state: bytes, reads: str, features: int) -> BookCheckpoint:
        """Taken from a saved state of a set that reads `reads`."""
        cuts = StateCuts.of(state, features)
        return cls(reads, state[_HEAD : cuts.seq], state[cuts.book : cuts.nodes])

    def under(self, fresh: bytes, features: int) -> bytes:
        """A state of the set that `fresh` is a new state of, with this book."""
        cuts = StateCuts.of(fresh, features)
        return fresh[:_HEAD] + self.before + fresh[cuts.seq : cuts.book] + self.book + fresh[cuts.nodes :]

    def pack(self) -> bytes:
        """As bytes; the same book gives the same ones."""
        words = [_MAGIC, self.reads.encode().ljust(16, b"\0"), len(self.before).to_bytes(_WORD, "little")]
        return b"".join((*words, self.before, self.book))

    @property
    def hash(self) -> bytes:
        """What keys of days that start from it are made of, 32 bytes."""
        return digest_of(_DOMAIN, [("packed", self.pack())])

    def save(self, path: Path) -> None:
        """Write it into a file that appears when it is whole; raises `OSError` or `SettingError`."""
        path.parent.mkdir(exist_ok=True)
        with WholeFile(path) as file:
            file.part.write_bytes(self.hash + self.pack())

    @classmethod
    def load(cls, path: Path) -> BookCheckpoint:
        """Read a file that `save` wrote; `StoreError` for another one, `OSError` where there is none."""
        data = path.read_bytes()
        book = cls.unpack(data[_HASH_BYTES:])
        if book.hash != data[:_HASH_BYTES]:
            raise StoreError(f"{path.name}: the book in it is not the one that was written")
        return book

    @classmethod
    def unpack(cls, data: bytes) -> BookCheckpoint:
        """Raises `StoreError` for bytes that `pack` cannot have written."""
        head = len(_MAGIC) + 16 + _WORD
        size = int.from_bytes(data[head - _WORD : head], "little")
        if data[: len(_MAGIC)] != _MAGIC or len(data) < head + size:
            raise StoreError("found no book checkpoint where one should be")
        reads = data[len(_MAGIC) : head - _WORD].rstrip(b"\0").decode("ascii", "replace")
        return cls(reads, data[head : head + size], data[head + size :])


def reads_of(fset: FeatureSet, source: SourceInfo) -> str:
    """The channels a set listens to on a source: `book`, `trade` or `book+trade`."""
    reads = set(fset.plan.reads)
    if not source.trade_sides and any(node.kernel == "signed_qty" for node in fset.plan.nodes):
        reads.add("book")
    return "+".join(sorted(reads))


_BID, _TRADES = k.best_bid(), k.trade_count()
_ROLLS: Final = {
    "book": FeatureSet("book_roll", features={"bid": _BID}),
    "book+trade": FeatureSet("book_and_trades_roll", features={"bid": _BID, "trades": _TRADES}),
    "trade": FeatureSet("trades_roll", features={"trades": _TRADES}),
}


def roll_set(reads: str) -> FeatureSet:
    """The least there is to compute for a book to be rolled forward by these channels."""
    return _ROLLS[reads]
