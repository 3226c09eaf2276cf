"""Which messages of a running service could not be read, and why, told to the log a few lines a minute.

The engine drops and counts them, and says no more. Here such a message is read once more by a reader that
refuses, for the reason. Leans on `market.feed`. It has no say in anything.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from typing import Final

from featureplane.clock import Clock
from featureplane.errors import FeaturePlaneError, InputError, MalformedEvent
from featureplane.features.pipeline import Pipeline
from featureplane.market.events import EventBatch
from featureplane.market.feed import MessageFeed
from featureplane.telemetry import log_event
from featureplane.units import NANOS_PER_SECOND

__all__ = ["BYTES_SHOWN", "LINES_A_MINUTE", "UnreadableMessages", "shown"]

BYTES_SHOWN: Final = 96
"""So much of a message's beginning is shown."""

LINES_A_MINUTE: Final = 5
"""At most so many lines of a kind; how many were left out is said in the next one, and at the end."""

_MINUTE_NS: Final = 60 * NANOS_PER_SECOND
_REASON_MAX: Final = 300
_NO_REASON: Final = "no rule accepts its events"

_log = logging.getLogger(__name__)


def shown(data: object, most: int = BYTES_SHOWN) -> str:
    """The beginning of a message in printable ASCII, whatever is in it."""
    return repr(bytes(data[:most]))[2:-1] if isinstance(data, bytes) else type(data).__name__


class UnreadableMessages:
    """Tells of messages that became nothing although they should have become something."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, deque[int]] = {}
        self._left_out: Counter[str] = Counter()
        self._room: EventBatch | None = None
        self._counted = 0
        self._reader: MessageFeed | None = None

    def look(
        self,
        feed: Pipeline | MessageFeed,
        data: bytes,
        local_ts_ns: int | None,
        symbol: str | None,
        message: int,
    ) -> None:
        """Look what the message of this number, from 1, has become, and tell if it is not what it says."""
        events, count = feed.taken
        if count:
            if events.array["kind"][:count].all():
                return
        else:
            counted = feed.unread.get("malformed", 0)
            before = self._counted if events is self._room else 0  # each stream has room of its own
            self._room, self._counted = events, counted
            if counted == before:
                return
        reason = self._reason(feed, events.source.name, data, local_ts_ns, symbol)
        if reason is None and not count:
            return
        about = {"source": events.source.name, "symbol": symbol, "local_ts_ns": local_ts_ns}
        reason = (reason or _NO_REASON)[:_REASON_MAX]
        self.tell("a message cannot be read", logging.WARNING, data, message, reason=reason, **about)

    def tell(self, what: str, level: int, data: object, message: int, **fields: object) -> None:
        """A line about a message, unless there were enough of these in the last minute."""
        now_ns, told = self._clock.monotonic_ns(), self._told.setdefault(what, deque())
        while told and now_ns - told[0] >= _MINUTE_NS:
            told.popleft()
        if len(told) >= LINES_A_MINUTE:
            self._left_out[what] += 1
            return
        told.append(now_ns)
        if left_out := self._left_out.pop(what, 0):
            fields["left_out_before"] = left_out
        size = len(data) if isinstance(data, bytes) else None
        log_event(_log, level, what, trace=f"m{message}", **fields, bytes=size, begins=shown(data))

    def finish(self) -> None:
        """Tell how many were left out and have not been told of."""
        for what, count in self._left_out.items():
            log_event(_log, logging.WARNING, f"{what}: more of them were not told of", left_out=count)
        self._left_out.clear()

    def _reason(
        self,
        feed: Pipeline | MessageFeed,
        source: str,
        data: bytes,
        local_ts_ns: int | None,
        symbol: str | None,
    ) -> str | None:
        """What a reader that refuses says of it; None if it does not."""
        if self._reader is None:
            self._reader = MessageFeed(source, feed.instruments, backend=feed.backend, live=False)
        try:
            self._reader.push(data, local_ts_ns, symbol)
        except MalformedEvent as error:
            return f"found {error.found}, expected {error.expected}"
        except InputError as error:
            return str(error)
        except FeaturePlaneError:
            return None
        else:
            return None
        finally:
            self._reader.finish()
