"""What of a stream may be used: sequences, duplicates, gaps, snapshots (rules 3.1 to 3.7).

One `StreamGuard` a symbol says of each message whether it is applied, kept for later, or dropped
and why. Its clock is `market.stream_clock`. Leans on `market.messages`. Knows nothing of books,
kernels or frames: what a reset resets is the engine's affair.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum, IntEnum, IntFlag, StrEnum
from typing import Final, NamedTuple

from featureplane.errors import SequenceGap
from featureplane.market.messages import Channel, Message

__all__ = [
    "BUFFER_MESSAGES",
    "Admission",
    "Base",
    "BookState",
    "Cause",
    "Chain",
    "Drop",
    "Outcome",
    "Quality",
    "Reads",
    "ResetCause",
    "StreamGuard",
]

BUFFER_MESSAGES: Final = 4096
"""Messages kept for a book that is not whole; then the oldest goes (rule 3.4)."""


class Quality(IntFlag):
    """What happened to the input of one frame; 0 is all well (rule 4)."""

    GAP_DETECTED = 1 << 0  # messages are missing before this frame
    STATE_RESET = 1 << 1  # kernels forgot what they knew before this frame
    STALE_INPUT = 1 << 2  # the message came later than the symbol's limit
    OUT_OF_ORDER_INPUT = 1 << 3  # a message came after its turn, before this frame
    PARTIAL_FEATURES = 1 << 4  # a warm feature has no value or sums fewer levels; the book is not whole
    CROSSED_BOOK = 1 << 5  # the best bid is not below the best ask


class Drop(StrEnum):
    """Why a message, or an empty trade, was not used."""

    BEFORE_SNAPSHOT = "before_snapshot"  # the book was begun later
    BUFFER_OVERFLOW = "buffer_overflow"  # too many came without a book
    DUPLICATE = "duplicate"
    EMPTY_TRADE = "empty_trade"
    INCOMPLETE = "incomplete"  # cut off by the end of the input
    LATE = "late"  # its place was passed over
    MALFORMED = "malformed"
    REDUNDANT = "redundant"  # a snapshot of a book that is whole and newer
    SNAPSHOT_TOO_OLD = "snapshot_too_old"  # it does not reach what came since


class Reads(IntFlag):
    """Channels a plan or a kernel reads; a reset names the channels it concerns."""

    NOTHING = 0
    BOOK = 1
    TRADES = 2


class ResetCause(StrEnum):
    """Why kernels were reset (rule 3.6)."""

    FIRST = "first"  # the first step of a symbol
    RECOVERY = "recovery"  # a recovery snapshot
    TRADING = "trading"  # trading was entered, by status or session
    DAILY = "daily"  # the clock has reached `reset_at`
    GAP = "gap"  # messages that some kernel reads are missing and not waited for
    RECONNECT = "reconnect"
    EXPLICIT = "explicit"
    RESTORED = "restored"  # it was pending in a saved state, which knows no causes


class BookState(IntEnum):
    """What the guard knows of a symbol's book (rule 3.4)."""

    WAITING = 0  # nothing to begin with yet
    WHOLE = 1
    BROKEN = 2  # begun, and something is missing


class Cause(IntEnum):
    """Why a book is broken."""

    NONE = 0
    GAP = 1
    CROSSED = 2
    MALFORMED = 3
    QUEUE = 4  # a service could not keep up


class Base(IntEnum):
    """What set the beginning of a chain of ids."""

    UNSET = 0
    SNAPSHOT = 1
    PASSED_OVER = 2  # a gap that was not waited for
    FIRST = 3  # the first message that had ids


class Outcome(Enum):
    """What becomes of a message."""

    IGNORED = "ignored"  # dropped, or of no concern to books and kernels
    HELD = "held"  # of a book that is not whole: only its trades can be read
    TRADES = "trades"  # a message of the trade channel, applied
    STATUS = "status"  # a message of the status channel, applied
    APPLIED = "applied"  # one or several book messages, applied as one
    BROKE = "broke"  # it shows that the book is broken
    SPOILED = "spoiled"  # it is malformed, and that breaks the book
    UNFINISHED = "unfinished"  # a snapshot is in the book, and behind it something is missing


class Admission(NamedTuple):
    """The guard's answer: what becomes of a message, and what is applied as one, at which times.

    `begins`: the book was not whole and begins with this; what is left of an old one goes first.
    """

    outcome: Outcome
    messages: tuple[Message, ...]
    source_ts_ns: int
    local_ts_ns: int
    begins: bool = False


class Chain:
    """The ids applied of one channel: (base, applied], unbroken (rule 3.3)."""

    __slots__ = ("applied", "base", "kind")

    def __init__(self) -> None:
        self.unset()

    def unset(self) -> None:
        """Forget all ids."""
        self.kind = Base.UNSET
        self.base = 0
        self.applied = 0

    def begin(self, kind: Base, base: int, applied: int) -> None:
        """Begin anew behind `base`."""
        self.kind, self.base, self.applied = kind, base, applied

    @property
    def is_set(self) -> bool:
        """Whether any id is known."""
        return self.kind is not Base.UNSET

    def old(self, message: Message) -> Drop | None:
        """Why the message brings nothing new, or None."""
        if not self.is_set or message.seq_last > self.applied:
            return None
        if message.seq_last > self.base:
            return Drop.DUPLICATE
        return Drop.BEFORE_SNAPSHOT if self.kind is Base.SNAPSHOT else Drop.LATE

    def continues(self, message: Message) -> bool:
        """Whether the message joins what is applied; overlapping order events do not."""
        if message.has_orders and message.seq_prev < self.applied:
            return False
        return message.seq_prev <= self.applied


class StreamGuard:
    """Judges the messages of one symbol in the order in which they arrive.

    `symbol` is for messages to people. `reads` are the channels of the plan: what happens to a
    channel nobody reads raises nothing. `pending_flags` wait for the next frame,
    `pending_resets` and their `causes` for the next step; the engine takes them. `dropped` counts by
    reason, `broken` the books by cause, `gaps` the holes by channel.
    """

    def __init__(
        self,
        symbol: str,
        *,
        reads: Reads = Reads.BOOK | Reads.TRADES,
        on_gap: str = "wait",
        seed: str = "snapshot",
        seed_after: int | None = None,
    ) -> None:
        self.symbol = symbol
        self.reads = reads
        self.on_gap = on_gap
        self.seed = seed
        self.seed_after = seed_after
        self.dropped: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()
        self.gaps: Counter[str] = Counter()
        self.pending_flags = Quality.STATE_RESET
        self.pending_resets = Reads.NOTHING
        self.causes: set[ResetCause] = set()  # of the pending resets
        self.mixed = False  # whether book messages carry trades
        self.book = Chain()
        self.trades = Chain()
        self.status = Chain()
        self._wait()

    def _wait(self) -> None:
        self.state = BookState.WAITING
        self.cause = Cause.NONE
        self.buffer: list[Message] = []
        self.passed_over = False  # a gap was not waited for, and no snapshot has come since
        self.seeded = False  # the book was begun without a snapshot
        self.seed_frames = 0

    @property
    def is_whole(self) -> bool:
        """Whether the book is what the venue has."""
        return self.state is BookState.WHOLE

    @property
    def standing_flags(self) -> Quality:
        """Flags that every frame of a plan that reads the book carries for now."""
        flags = Quality(0)
        if self.passed_over:
            flags |= Quality.GAP_DETECTED | Quality.PARTIAL_FEATURES
        if self.seeded and (self.seed_after is None or self.seed_frames < self.seed_after):
            flags |= Quality.PARTIAL_FEATURES
        return flags

    def frame_made(self) -> None:
        """Told of every frame computed."""
        if self.seeded:
            self.seed_frames += 1

    def reconnect(self) -> None:
        """A connection without proof that it continues the one before: all ids are forgotten."""
        if self.state is not BookState.WAITING:
            self._raise(Quality.GAP_DETECTED, Reads.BOOK)
        self.reset(Reads.BOOK | Reads.TRADES, ResetCause.RECONNECT)
        for chain in (self.book, self.trades, self.status):
            chain.unset()
        self._wait()

    # -- verdicts

    def admit(self, message: Message) -> Admission:
        """What becomes of the next message.

        Raises `SequenceGap` at a hole in the ids with `on_gap="refuse"`.
        """
        if message.malformed:
            return self._admit_malformed(message)
        if message.empty_trades:
            self._count(Drop.EMPTY_TRADE, message.empty_trades)
        if message.channel is Channel.BOOK:
            return self._admit_book(message)
        if message.channel is Channel.QUOTE:
            return _one(Outcome.IGNORED, message)
        if message.channel is Channel.TRADE:
            return self._admit_trades(message)
        return self._admit_status(message)

    def _admit_malformed(self, message: Message) -> Admission:
        self._count(Drop.MALFORMED)
        if message.channel is Channel.BOOK and self.is_whole:
            self.break_book(Cause.MALFORMED)
            return _one(Outcome.SPOILED, message)
        return _one(Outcome.IGNORED, message)

    def _admit_trades(self, message: Message) -> Admission:
        if message.has_ids and not self._pass(self.trades, message, Reads.TRADES):
            return _one(Outcome.IGNORED, message)
        return _one(Outcome.TRADES, message)

    def _admit_status(self, message: Message) -> Admission:
        if message.has_ids and not self._pass(self.status, message, Reads.NOTHING):
            return _one(Outcome.IGNORED, message)
        return _one(Outcome.STATUS, message)

    def _pass(self, chain: Chain, message: Message, concerned: Reads) -> bool:
        """Apply the ids of a channel that waits for nothing; whether the message is new."""
        if not chain.is_set:
            chain.begin(Base.FIRST, message.seq_prev, message.seq_last)
            return True
        if reason := chain.old(message):
            self._drop_old(reason, concerned)
            return False
        if message.seq_prev > chain.applied:
            self._note_gap(message, chain)
            self._raise(Quality.GAP_DETECTED, concerned)
            self.reset(concerned, ResetCause.GAP)
            chain.begin(Base.PASSED_OVER, message.seq_prev, message.seq_last)
        chain.applied = message.seq_last
        return True

    def _admit_book(self, message: Message) -> Admission:
        self.mixed = self.mixed or message.has_trades
        if message.snapshot and (message.recovery or not self.is_whole):
            return self._admit_snapshot(message)
        if message.has_ids and (reason := self.book.old(message)):
            self._drop_old(reason, Reads.BOOK | Reads.TRADES if message.trades else Reads.BOOK)
            return _one(Outcome.IGNORED, message)
        if self.state is BookState.WAITING and self.seed == "increments":
            self.state, self.seeded = BookState.WHOLE, True
        if not message.has_ids:
            return self._admit_without_ids(message)
        if self.is_whole:
            return self._admit_next(message)
        return self._admit_to_unreadable(message)

    def _admit_to_unreadable(self, message: Message) -> Admission:
        """A message with ids while the book waits or is broken: it heals, or is held once."""
        if self._holds(message):
            self._count(Drop.DUPLICATE)
            return _one(Outcome.IGNORED, message)
        heals = self.cause in {Cause.GAP, Cause.MALFORMED} and self.book.is_set
        if heals and message.seq_prev <= self.book.applied and (healed := self._heal(message)):
            return healed
        return self._hold(message)

    def _admit_without_ids(self, message: Message) -> Admission:
        if self.is_whole:
            return _one(Outcome.APPLIED, message)
        if message.clears:
            self._begin_without_ids()
            self._become_whole(begins=True)
            return _one(Outcome.APPLIED, message)._replace(begins=True)
        self._count(Drop.BEFORE_SNAPSHOT)
        return _one(Outcome.HELD, message)

    def _admit_next(self, message: Message) -> Admission:
        chain = self.book
        if not chain.is_set:
            chain.begin(Base.FIRST, message.seq_prev, message.seq_last)
            return _one(Outcome.APPLIED, message)
        if chain.continues(message):
            chain.applied = message.seq_last
            return _one(Outcome.APPLIED, message)
        self._note_gap(message, chain)
        if self.on_gap == "continue":
            self._pass_over(message)
            return _one(Outcome.APPLIED, message)
        self.break_book(Cause.GAP)
        if not message.snapshot:
            self.buffer.append(message)
        return _one(Outcome.BROKE, message)

    # -- books that are not whole

    def break_book(self, cause: Cause) -> None:
        """The book cannot be trusted from here on."""
        self.state, self.cause = BookState.BROKEN, cause
        self.buffer = []
        self.broken[cause.name.lower()] += 1
        if self.mixed and cause is not Cause.CROSSED:
            self._lose_trades()

    def _holds(self, message: Message) -> bool:
        ids = message.seq_prev, message.seq_last
        return any((held.seq_prev, held.seq_last) == ids for held in self.buffer)

    def _hold(self, message: Message) -> Admission:
        if len(self.buffer) == BUFFER_MESSAGES:
            del self.buffer[0]
            self._count(Drop.BUFFER_OVERFLOW)
        self.buffer.append(message)
        return _one(Outcome.HELD, message)

    def _admit_snapshot(self, snapshot: Message) -> Admission:
        if not snapshot.has_ids:
            self._begin_without_ids()
            return self._join(snapshot, [])
        last, chain = snapshot.seq_last, self.book
        if self.is_whole and chain.is_set and last <= chain.applied:
            self._count(Drop.REDUNDANT)
            return _one(Outcome.IGNORED, snapshot)
        kept = sorted((m for m in self.buffer if m.seq_last > last), key=_by_ids)
        older = not kept and chain.is_set and last < chain.applied
        if older or (kept and kept[0].seq_prev > last):
            self._count(Drop.SNAPSHOT_TOO_OLD)
            return _one(Outcome.IGNORED, snapshot)
        self._count(Drop.BEFORE_SNAPSHOT, len(self.buffer) - len(kept))
        chain.begin(Base.SNAPSHOT, last, last)
        return self._join(snapshot, kept)

    def _begin_without_ids(self) -> None:
        """What was held cannot be joined to a book without ids, nor what comes to its chain."""
        self._count(Drop.BEFORE_SNAPSHOT, len(self.buffer))
        self.book.unset()

    def _join(self, snapshot: Message, kept: list[Message]) -> Admission:
        """The snapshot and what was kept behind it, as one message."""
        times = [m.source_ts_ns for m in (snapshot, *self.buffer) if m.source_ts_ns]  # 0: it has none
        source_ts_ns = max(times, default=snapshot.local_ts_ns)
        if snapshot.recovery:
            self.reset(Reads.BOOK, ResetCause.RECOVERY)
        begins = not self.is_whole
        self._become_whole(begins=True)
        joined = [snapshot]
        for i, message in enumerate(kept):
            if self.book.old(message):
                self._count(Drop.DUPLICATE)
                continue
            if not self.book.continues(message):
                self._note_gap(message, self.book)
                if self.on_gap != "continue":
                    self.break_book(Cause.GAP)
                    self.buffer = kept[i:]
                    torn = _one(Outcome.UNFINISHED, snapshot)
                    return torn._replace(messages=tuple(joined), begins=begins)
                self._pass_over(message)
            self.book.applied = message.seq_last
            joined.append(message)
        return Admission(Outcome.APPLIED, tuple(joined), source_ts_ns, snapshot.local_ts_ns, begins)

    def _heal(self, message: Message) -> Admission | None:
        """The message and all that is held as one, if no hole is left."""
        pool = sorted((*self.buffer, message), key=_by_ids)
        before = self.book.applied
        used = []
        for one in pool:
            if self.book.old(one):
                continue
            if not self.book.continues(one):
                self.book.applied = before
                return None
            self.book.applied = one.seq_last
            used.append(one)
        self._count(Drop.DUPLICATE, len(pool) - len(used))
        self._become_whole(begins=False)
        self._raise(Quality.OUT_OF_ORDER_INPUT, Reads.BOOK)
        source_ts_ns = max(one.source_ts_ns for one in pool)
        return Admission(Outcome.APPLIED, tuple(used), source_ts_ns, message.local_ts_ns)

    def _become_whole(self, *, begins: bool) -> None:
        """`begins`: with a full book, whatever was known before."""
        if self.state is BookState.BROKEN or (begins and self.passed_over):
            self._raise(Quality.GAP_DETECTED, Reads.BOOK)
        self.state, self.cause = BookState.WHOLE, Cause.NONE
        self.buffer = []
        if begins:
            self.passed_over = self.seeded = False

    def _count(self, reason: Drop, count: int = 1) -> None:
        if count:
            self.dropped[reason] += count

    # -- what waits

    def _pass_over(self, message: Message) -> None:
        self.book.begin(Base.PASSED_OVER, message.seq_prev, message.seq_last)
        self.passed_over = True
        self.reset(Reads.BOOK, ResetCause.GAP)
        if self.mixed:
            self._lose_trades()

    def _lose_trades(self) -> None:
        """A hole in book messages that carry trades is a hole in trades."""
        self.reset(Reads.TRADES, ResetCause.GAP)
        if not self.reads & Reads.BOOK:
            self._raise(Quality.GAP_DETECTED, Reads.TRADES)

    def _note_gap(self, message: Message, chain: Chain) -> None:
        self.gaps[message.channel.value] += 1
        if self.on_gap == "refuse":
            raise SequenceGap(self.symbol, message.channel.value, chain.applied, message.seq_prev)

    def _drop_old(self, reason: Drop, concerned: Reads) -> None:
        self._count(reason)
        if reason is Drop.LATE:
            self._raise(Quality.OUT_OF_ORDER_INPUT, concerned)

    def _raise(self, flag: Quality, concerned: Reads) -> None:
        if self.reads & concerned:
            self.pending_flags |= flag

    def reset(self, concerned: Reads, cause: ResetCause) -> None:
        """Reset the kernels that read one of these channels, if any, at the next step."""
        if self.mixed and concerned & Reads.BOOK:
            concerned |= Reads.TRADES
        if concerned & self.reads:
            self.pending_resets |= concerned & self.reads
            self.causes.add(cause)


def _by_ids(message: Message) -> tuple[int, int]:
    return message.seq_last, message.seq_prev


def _one(outcome: Outcome, message: Message) -> Admission:
    return Admission(outcome, (message,), message.source_ts_ns, message.local_ts_ns)
