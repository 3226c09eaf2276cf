"""Events from a seed, with the accidents a recording has: for tests and first hours.

The same seed gives the same bytes on every machine and under every version of NumPy. `Faults`
says how often each accident happens, `SyntheticStream.injected` how often it did.

Leans on `market.order_flow`, the market without accidents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from featureplane.errors import SettingError
from featureplane.market.events import EVENT_DTYPE, EventFlag, Kind, Side
from featureplane.market.instruments import Instrument, default_symbol_id
from featureplane.market.order_flow import Change, Draws, Market, Message
from featureplane.units import MAGNITUDE_LIMIT, NANOS_PER_MS, NANOS_PER_SECOND

__all__ = ["Faults", "SyntheticStream", "symbol_name", "synthetic_events", "synthetic_instruments"]

_START_NS: Final = 1_723_161_540 * NANOS_PER_SECOND  # 2024-08-08 23:59 UTC: midnight comes soon
_DAY_NS: Final = 86_400 * NANOS_PER_SECOND
_BLOCK_EVENTS: Final = 1 << 16
_LOCAL_OFFSET_NS: Final = -1_270 * NANOS_PER_MS  # a recorder's clock is wrong; rule 3.10 lives with it
_NOT_MESSAGES: Final = frozenset({"huge", "far", "no_side", "source_back"})
_CENTRES: Final = (1_000_000, 200, MAGNITUDE_LIMIT - 100_000, -50_000)


@dataclass(frozen=True, slots=True)
class Faults:
    """How often each accident happens, in millionths of the messages."""

    gap_book: int = 400  # a book message is lost; a recovery snapshot comes later, or the message itself
    gap_trades: int = 400
    late_trades: int = 300  # a trade message comes after those behind it
    duplicate: int = 800
    overlap: int = 300  # a message covers ids already applied
    crossed: int = 400  # for one message; locked in a third of the cases
    crossed_long: int = 60  # for more than a second
    empty_side: int = 300
    clear: int = 60  # both sides at once
    snapshot_redundant: int = 200
    snapshot_too_old: int = 150  # after a gap, one that does not reach the buffered messages
    snapshot_plain: int = 100  # a full book as an ordinary message
    halt: int = 40  # status halted or pre-open or closed, later trading
    source_back: int = 2_000  # one message stamped earlier than the one before
    source_ahead: int = 60  # a burst stamped more than a minute ahead
    local_step: int = 60  # our own clock is set, back or forward
    stale: int = 150  # a burst that took seconds
    jump: int = 60  # silence for minutes, hours or until just before midnight
    huge: int = 300  # of the sizes: 2^53 - 1
    far: int = 1_000  # a level at the limit of prices
    no_side: int = 2_000  # of the trades: the aggressor is not told
    corrupt: int = 0  # a message no rule accepts; needs `on_malformed="drop"`

    @classmethod
    def none(cls) -> Faults:
        """A stream without accidents."""
        return cls(*[0] * len(fields(cls)))

    def __post_init__(self) -> None:
        """Rates are integers of 0 .. 1,000,000."""
        for field, rate in zip(fields(self), astuple(self), strict=True):
            if not 0 <= rate <= 1_000_000:
                raise SettingError(
                    f"{field.name}={rate}", hint="a rate is 0 to 1000000, in millionths of the messages"
                )


def symbol_name(index: int) -> str:
    """The name of the `index`-th made-up symbol, from 0."""
    return f"SYN{index}"


def synthetic_instruments(symbols: int = 1) -> tuple[Instrument, ...]:
    """The first made-up instruments: two decimals in prices, three in sizes."""
    return tuple(
        Instrument(
            venue="synthetic",
            symbol=symbol_name(index),
            price_exponent=2,
            qty_exponent=3,
            tick_size="0.01",
            lot_size="0.001",
            vpin_bucket="1000",
        )
        for index in range(symbols)
    )


class _Line:
    """One symbol: its market and what stands between it and us."""

    def __init__(self, index: int, seed: int, faults: Faults, *, order_level: bool) -> None:
        self.draws = Draws(seed * 1_000_003 + 7_919 * (index + 1))
        self.symbol_id = default_symbol_id("synthetic", symbol_name(index))
        self.market = Market(
            self.draws,
            _CENTRES[index % len(_CENTRES)] + 1_000 * (index // len(_CENTRES)),
            order_level=order_level,
            huge_ppm=faults.huge,
            far_ppm=faults.far,
            no_side_ppm=faults.no_side,
        )
        self.order_level = order_level
        self.steps = 0
        self.due: list[tuple[int, Callable[[], None]]] = []
        self.shift_ns = 0  # of the source's clock, for `burst` more messages
        self.burst = 0
        self.pause_ns = 0  # a quiet stretch before each of the next messages, until `cross_end`
        self.halted = False

    def later(self, steps: int, action: Callable[[], None]) -> None:
        self.due.append((self.steps + steps, action))


class SyntheticStream:
    """Events of `symbols` made-up symbols in arrival order.

    `faults` is True for the usual rates, False for none, or a `Faults`. With `order_level` books are
    told by orders (kinds 10 to 13) and a snapshot is a clear and adds, all marked `RECOVERY`.
    Book and trade messages carry ids as Binance's futures do; quotes carry the book's id.
    """

    def __init__(
        self, seed: int = 1, symbols: int = 1, *, faults: bool | Faults = True, order_level: bool = False
    ) -> None:
        if symbols < 1:
            raise SettingError(f"symbols={symbols}", hint="at least one")
        self.faults = faults if isinstance(faults, Faults) else Faults() if faults else Faults.none()
        self._counts: Counter[str] = Counter()
        self._draws = Draws(seed)
        self._now = _START_NS
        self._local_shift = _LOCAL_OFFSET_NS
        self._lines = [_Line(i, seed, self.faults, order_level=order_level) for i in range(symbols)]
        self._changes: list[int] = []
        self._heads: list[int] = []
        self._accidents = self._ladder()
        for line in self._lines:
            self._open(line)

    @property
    def injected(self) -> Counter[str]:
        """How often each accident of `Faults` has happened so far."""
        counts = Counter(self._counts)
        for market in (line.market for line in self._lines):
            counts.update(huge=market.huge, far=market.far, no_side=market.no_side)
        return +counts

    def blocks(self, count: int) -> Iterator[npt.NDArray[np.void]]:
        """Whole messages, in blocks, until at least `count` events have come.

        A longer stream of the same seed begins with the same messages.
        """
        made = 0
        while made < count:
            goal = min(_BLOCK_EVENTS, count - made)
            while len(self._changes) < 6 * goal:
                self._step()
            block = self._flush()
            made += len(block)
            yield block

    def _flush(self) -> npt.NDArray[np.void]:
        changes = np.array(self._changes, dtype=np.int64).reshape(-1, 6)
        heads = np.array(self._heads, dtype=np.int64).reshape(-1, 7)
        self._changes.clear()
        self._heads.clear()
        out = np.zeros(len(changes), EVENT_DTYPE)
        for i, name in enumerate(("kind", "side", "flags", "price", "qty", "order_id")):
            out[name] = changes[:, i]
        for i, name in enumerate(("symbol_id", "seq_prev", "seq_last", "source_ts_ns", "local_ts_ns")):
            out[name] = np.repeat(heads[:, i], heads[:, 5])
        ends = np.cumsum(heads[:, 5]) - 1
        out["flags"][ends[heads[:, 6] == 1]] |= int(EventFlag.LAST)
        return out

    def _send(self, line: _Line, message: Message, *, whole: bool = True) -> None:
        """Writes a message down with the times it gets now; one that is not `whole` lacks its `LAST`."""
        draws = line.draws
        source = self._now // NANOS_PER_MS * NANOS_PER_MS + line.shift_ns
        if line.burst:
            line.burst -= 1
            if not line.burst:
                line.shift_ns = 0
        if draws.hits(self.faults.source_back):
            self._counts["source_back"] += 1
            source -= draws.below(500) * NANOS_PER_MS
        local = self._now + self._local_shift + 50_000 + draws.below(400_000)
        for change in message.changes:
            self._changes += change
        self._heads += (
            line.symbol_id,
            message.prev,
            message.last,
            source,
            local,
            len(message.changes),
            whole,
        )

    # -- one step of time

    def _step(self) -> None:
        line = self._lines[self._draws.below(len(self._lines))] if len(self._lines) > 1 else self._lines[0]
        draws = line.draws
        if draws.below(4):
            self._now += draws.below(2_000_000 << draws.few())
        self._now += line.pause_ns
        line.steps += 1
        if line.due:
            ready = [action for at, action in line.due if at <= line.steps]
            line.due = [item for item in line.due if item[0] > line.steps]
            for action in ready:
                action()
            if ready:
                return
        kind = draws.below(1_000_000)
        for threshold, name, accident in self._accidents:
            if kind < threshold:
                self._counts[name] += 1
                accident(line)
                return
        self._ordinary(line)

    def _ladder(self) -> tuple[tuple[int, str, Callable[[_Line], None]], ...]:
        """One draw of a million decides on the accident: each owns the stretch below its threshold."""
        total, out = 0, []
        for field in fields(self.faults):
            if field.name not in _NOT_MESSAGES:
                total += getattr(self.faults, field.name)
                out.append((total, field.name, getattr(self, f"_{field.name}")))
        if total > 1_000_000:
            raise SettingError(
                f"accidents add up to {total} millionths of the messages", hint="at most 1000000"
            )
        return tuple(out)

    def _ordinary(self, line: _Line) -> None:
        market, draws = line.market, line.draws
        kind = draws.below(100)
        if kind < 45:
            self._send(line, market.update())
        elif kind < 62:
            self._send(line, market.trades([market.lone_trade() for _ in range(1 + draws.few() // 3)]))
        elif kind < 84:
            quote = market.quote()
            self._send(line, quote or market.update())
        else:
            self._sweep(line, mixed=kind >= 94, most=1 if kind < 90 else 2 + draws.few())

    def _sweep(self, line: _Line, *, mixed: bool, most: int) -> None:
        taken, left = line.market.sweep(most)
        if not taken:
            self._send(line, line.market.update())
        elif mixed:
            self._send(line, line.market.book(taken + left))
        else:
            for trade in taken:
                self._send(line, line.market.trades([trade]))
            self._send(line, line.market.book(left))

    # -- the start and the way back

    def _open(self, line: _Line) -> None:
        """Diffs first, a snapshot taken among them and told after: the buffered ones join it."""
        market, draws = line.market, line.draws
        for _ in range(1 + draws.below(4)):
            self._send(line, market.update())
        snapshot = market.snapshot()
        for _ in range(draws.below(4)):
            self._send(line, market.update())
        self._send(line, snapshot)

    def _recover(self, line: _Line) -> None:
        """Schedules a recovery snapshot that is told some messages after it was taken."""

        def take() -> None:
            snapshot = line.market.snapshot()
            line.later(1 + line.draws.below(3), lambda: self._send(line, snapshot))

        line.later(2 + line.draws.below(16), take)

    # -- accidents, by the names of `Faults`

    def _gap_book(self, line: _Line) -> None:
        lost = line.market.update()
        if line.draws.below(2):
            line.later(1 + line.draws.below(6), lambda: self._send(line, lost))
            if not line.order_level:
                return
        self._recover(line)

    def _gap_trades(self, line: _Line) -> None:
        for _ in range(1 + line.draws.few()):
            line.market.trades([line.market.lone_trade()])

    def _late_trades(self, line: _Line) -> None:
        late = line.market.trades([line.market.lone_trade()])
        line.later(1 + line.draws.below(6), lambda: self._send(line, late))

    def _duplicate(self, line: _Line) -> None:
        market = line.market
        message = market.update() if line.draws.below(2) else market.trades([market.lone_trade()])
        self._send(line, message)
        line.later(1 + line.draws.below(4), lambda: self._send(line, message))

    def _overlap(self, line: _Line) -> None:
        message = line.market.update()
        message.prev -= 1 + line.draws.below(30)
        self._send(line, message)
        if line.order_level:
            self._recover(line)

    def _crossed(self, line: _Line) -> None:
        message, price = line.market.cross(line.draws.below(3))
        self._send(line, message)
        line.later(1, lambda: self._send(line, line.market.uncross(price)))

    def _crossed_long(self, line: _Line) -> None:
        message, price = line.market.cross(1 + line.draws.below(3))
        self._send(line, message)
        line.pause_ns = 400 * NANOS_PER_MS

        def end() -> None:
            line.pause_ns = 0
            self._send(line, line.market.uncross(price))
            self._recover(line)

        line.later(5, end)

    def _empty_side(self, line: _Line) -> None:
        side = Side.BID if line.draws.below(2) else Side.ASK
        self._send(line, line.market.empty(side, line.draws.below(3)))

    def _clear(self, line: _Line) -> None:
        self._send(line, line.market.clear())

    def _snapshot_redundant(self, line: _Line) -> None:
        snapshot = line.market.snapshot()
        if line.draws.below(2):
            self._send(line, line.market.update())
        self._send(line, snapshot)

    def _snapshot_too_old(self, line: _Line) -> None:
        old = line.market.snapshot()
        line.market.update()
        self._send(line, line.market.update())
        line.later(1 + line.draws.below(3), lambda: self._send(line, old))
        self._recover(line)

    def _snapshot_plain(self, line: _Line) -> None:
        market = line.market
        changed = market.update()
        full = market.snapshot(recovery=False)
        self._send(line, Message("book", changed.prev, changed.last, full.changes))

    def _halt(self, line: _Line) -> None:
        if line.halted:
            self._send(line, line.market.update())
            return
        line.halted = True
        self._send(line, _status(line.draws.below(3)))

        def end() -> None:
            line.halted = False
            self._send(line, _status(3))

        line.later(5 + line.draws.below(60), end)

    def _source_ahead(self, line: _Line) -> None:
        line.shift_ns = (61 + line.draws.below(60)) * NANOS_PER_SECOND
        line.burst = 1 + line.draws.below(40)
        self._ordinary(line)

    def _stale(self, line: _Line) -> None:
        line.shift_ns = -(1_100 + line.draws.below(4_000)) * NANOS_PER_MS
        line.burst = 1 + line.draws.below(12)
        self._ordinary(line)

    def _local_step(self, line: _Line) -> None:
        self._local_shift += (line.draws.below(4_000) - 2_000) * NANOS_PER_MS
        self._ordinary(line)

    def _jump(self, line: _Line) -> None:
        how = line.draws.below(3)
        if how == 0:
            self._now += (1 + line.draws.below(10)) * 60 * NANOS_PER_SECOND
        elif how == 1:
            self._now += (1 + line.draws.below(5)) * 3_600 * NANOS_PER_SECOND
        else:
            self._now += _DAY_NS - self._now % _DAY_NS - line.draws.below(3) * NANOS_PER_MS
        self._ordinary(line)

    def _corrupt(self, line: _Line) -> None:
        message = line.market.update()
        if line.draws.below(8) == 0:
            self._send(line, message, whole=False)
            self._send(line, line.market.update())
            self._recover(line)
            return
        changes = message.changes
        spoiled = _SPOILERS[line.draws.below(len(_SPOILERS))](changes[-1])
        self._send(line, Message("book", message.prev, message.last, [*changes[:-1], spoiled]))
        self._recover(line)


def _status(state: int) -> Message:
    return Message("status", 0, 0, [Change(Kind.STATUS, Side.NONE, 0, 0, state)])


_SPOILERS: Final[tuple[Callable[[Change], Change], ...]] = (
    lambda c: c._replace(kind=99),
    lambda c: c._replace(kind=0),
    lambda c: c._replace(flags=c.flags | 1 << 8),
    lambda c: c._replace(side=3),
    lambda c: c._replace(price=MAGNITUDE_LIMIT),
    lambda c: c._replace(price=-MAGNITUDE_LIMIT),
    lambda c: c._replace(qty=-1),
    lambda c: c._replace(qty=MAGNITUDE_LIMIT),
)


def synthetic_events(
    count: int, *, seed: int = 1, symbols: int = 1, faults: bool | Faults = True, order_level: bool = False
) -> npt.NDArray[np.void]:
    """At least `count` events of a `SyntheticStream`, whole messages, as an `EVENT_DTYPE` array."""
    stream = SyntheticStream(seed, symbols, faults=faults, order_level=order_level)
    blocks = list(stream.blocks(count))
    return np.concatenate(blocks) if blocks else np.zeros(0, EVENT_DTYPE)
