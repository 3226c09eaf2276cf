"""The running service: raw messages in, frames, strategies and orders out, one call a message.

    feed (its own thread) -> RawQueue -> loop: subscribers, ServiceRunner.push, subscribers
    feed that waits -> loop

Nothing that comes from outside stops the loop: a message that cannot be read, a handler that raises or
is late, a full queue, a full disk are counted and named. What other threads want, `ask` does between
two messages. Leans on `strategy`, `raw_queue`, `story`, `readiness` and `telemetry`. Knows no files, sockets
or signals.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from featureplane.clock import SYSTEM, Clock
from featureplane.errors import (
    FeaturePlaneError,
    InputError,
    SettingError,
    StateError,
    UnknownStrategy,
    UnknownSymbol,
)
from featureplane.features.frame import FeatureFrame
from featureplane.features.pipeline import Pipeline
from featureplane.features.shadow import Shadow
from featureplane.features.spec import FeatureSet
from featureplane.market.feed import MessageFeed
from featureplane.services.ends import Feed, Subscriber
from featureplane.services.numbers import Latencies, write_numbers
from featureplane.services.raw_queue import Item, RawQueue
from featureplane.services.readiness import Readiness
from featureplane.services.recording import START
from featureplane.services.rollout.engines import RolloutEngines
from featureplane.services.rollout.pilot import RolloutPilot
from featureplane.services.story import Story
from featureplane.services.unreadable import UnreadableMessages
from featureplane.settings import Settings
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.service import DID_WORD, WHOLE, ServiceRunner
from featureplane.telemetry import Picture, Telemetry, log_event
from featureplane.units import NANOS_PER_MS

__all__ = ["Feed", "MarketDataService", "StrategyForms", "Subscriber"]

_IDLE_S: Final = 0.05
_WATCH_EVERY: Final = 1024
_LEAVE_S: Final = 5.0
_PUBLISH_NS: Final = 100 * NANOS_PER_MS

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StrategyForms:
    """Who makes a strategy in which form, and the form it begins in."""

    makers: Mapping[str, Callable[[], BaseStrategy]]
    first: str


def _nothing(*_: object) -> None:
    """What a subscriber does that has no such method."""


class MarketDataService:
    """Runs a feed through a runner.

    `feed` is the runner's own `Pipeline`, or `MessageFeed` where no features are computed. `forms` has
    the forms of strategies by name. `answers_ns`: how long after the end
    orders are still heard of. `watched`: somebody scrapes; numbers are then published every
    `metrics_sample_every` frames, ten times a second at most, and exactly at each scrape. `shadow`: what the
    feed is compared with; it ends with the service.
    """

    def __init__(
        self,
        runner: ServiceRunner,
        feed: Pipeline | MessageFeed,
        *,
        settings: Settings | None = None,
        story: Story | None = None,
        subscribers: Iterable[Subscriber] = (),
        forms: Mapping[str, StrategyForms] | None = None,
        queue: RawQueue | None = None,
        answers_ns: int = 0,
        watched: bool = False,
        shadow: Shadow | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        settings = settings or Settings()
        self.runner, self.feed = runner, feed
        self.queue = RawQueue() if queue is None else queue
        self.story = story or Story()
        self.fset: FeatureSet | None = feed.fset if isinstance(feed, Pipeline) else None
        self.emits = settings.engine_emit_events
        self.telemetry = Telemetry([self._numbers])
        self.latencies = Latencies()
        self.readiness = Readiness(runner, self.fset)
        self.shadow = shadow
        self.rollout = RolloutEngines(self)
        self.pilot: RolloutPilot | None = None
        if isinstance(feed, Pipeline):
            feed.watch(shadow)
        self._subscribers: list[Subscriber] = []
        self._gone: Counter[str] = Counter()
        for one in subscribers:
            self.subscribe(one)
        self._forms = dict(forms or {})
        self._running = {name: one.first for name, one in self._forms.items()}
        self._answers_ns = answers_ns
        self._asked: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._push = runner.push
        self._timed_every = self._timed_at = settings.latency_sample_every
        self._watch_at = _WATCH_EVERY
        self._due = min(self._timed_at, self._watch_at)
        self._publish_every = settings.metrics_sample_every if watched else 0
        self._publish_at = self._publish_every
        self._clock, self._published_ns = clock, 0
        self._unreadable, self._seen = UnreadableMessages(clock), runner.seen
        self._stopping = self.is_over = False
        self.messages = self.frames = self.errors = self.reconnects = 0
        self.queue_breaks = self.resubscribes = 0

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell it of all that comes from now on; before `run`, or between two messages."""
        self._subscribers.append(subscriber)
        self._gone.setdefault(subscriber.name, 0)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Tell it of nothing more; between two messages."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)

    @property
    def subscribers(self) -> tuple[Subscriber, ...]:
        """Those that are told now."""
        return tuple(self._subscribers)

    def look_soon(self) -> None:
        """Look before the next message what is to be done between two of them."""
        self._watch_at = self._due = self.messages + 1

    # -- the loop

    def run(self, source: Feed) -> None:
        """Take messages until the feed ends or `stop`; then end the stream in order.

        Raises what ended the feed, behind all that.
        """
        log_event(_log, logging.INFO, "running", **self.about())
        self._say_unheard()
        if self.pilot is not None:
            self.pilot.start()
        self.telemetry.publish()  # WHY before the first message: every series is there, at 0
        try:
            if source.waits:
                self._read(source)
            else:
                self._listen(source)
        finally:
            source.stop()
            self.finish()

    def _say_unheard(self) -> None:
        """Say which strategies have an `on_features` that the settings let nobody call."""
        for one in () if self.emits else self.runner.states.values():
            if type(one.strategy).on_features is not BaseStrategy.on_features:
                why = "`on_features` is not called: ENGINE_EMIT_EVENTS is 0"
                log_event(_log, logging.WARNING, why, strategy=one.name)

    def stop(self) -> None:
        """Take no further message; from any thread, and from a signal."""
        self._stopping = True  # WHY nothing else: a signal may come where a lock is held

    def _read(self, source: Feed) -> None:
        """The loop that reads: nothing is lost, and no other thread takes time from a handler."""
        for item in source.items():
            if self._stopping:
                break
            if self._asked:
                self._answer()
            self._next(item)

    def _listen(self, source: Feed) -> None:
        """The loop that is told."""
        thread = threading.Thread(target=source.run, args=(self.queue,), name="feed", daemon=True)
        thread.start()
        queue = self.queue
        while not self._stopping:
            if self._asked:
                self._answer()
            try:
                item = queue.take()
            except IndexError:
                lost = queue.lost()
                if lost is not None:
                    self._next(lost)
                elif queue.is_ended and not len(queue):
                    break
                else:
                    queue.wait(_IDLE_S)
            else:
                self._next(item)
        source.stop()
        thread.join(_LEAVE_S)
        if queue.error is not None:
            raise queue.error

    def _next(self, item: Item) -> None:
        if isinstance(item, tuple):
            self.take(*item)
        else:
            self.reconnect(item.symbol, item.reason)
        if self.story.news:
            self.story.tell()

    def take(self, data: bytes, local_ts_ns: int | None = None, symbol: str | None = None) -> None:
        """Take one message; raises nothing for what may be wrong with it."""
        messages = self.messages = self.messages + 1
        if self._subscribers:
            self._tell("on_message", data, local_ts_ns, symbol)
        try:
            if messages < self._due:
                frames = self._push(data, local_ts_ns, symbol)
            else:
                frames = self._take_due(data, local_ts_ns, symbol)
        except FeaturePlaneError as error:
            self._refuse(error, data)
            return
        if not self._seen.head[DID_WORD] & WHOLE:
            self._unreadable.look(self.feed, data, local_ts_ns, symbol, messages)
        if frames:
            self.frames += len(frames)
            if self._subscribers and isinstance(self.feed, Pipeline):
                self._tell("on_frames", self.feed.pushed)
            if self._publish_every and self.frames >= self._publish_at:
                self._publish()

    def _take_due(self, data: bytes, local_ts_ns: int | None, symbol: str | None) -> tuple[FeatureFrame, ...]:
        """Take a message that is timed, or at which it is looked what is late."""
        messages = self.messages
        is_timed = messages >= self._timed_at
        if is_timed:
            self._timed_at = messages + self._timed_every
        if messages >= self._watch_at:
            self._watch_at = messages + _WATCH_EVERY
            self.readiness.look()
            self.story.tell_late(self.runner.states.values())
            if self.pilot is not None:
                self.pilot.look()
        self._due = min(self._timed_at, self._watch_at)
        if not is_timed:
            return self._push(data, local_ts_ns, symbol)
        frames, spent = self.runner.push_timed(data, local_ts_ns, symbol)
        self.latencies.add(spent, made_frames=bool(frames))
        self._tell_candidate()
        if self.pilot is not None:
            self.pilot.timed(spent, len(self.queue))
        return frames

    def _push_both(
        self, data: bytes, local_ts_ns: int | None = None, symbol: str | None = None
    ) -> tuple[FeatureFrame, ...]:
        frames = self.runner.push(data, local_ts_ns, symbol)
        self._tell_candidate()
        return frames

    def _tell_candidate(self) -> None:
        """Tell subscribers that want to know what the last message made of the candidate."""
        candidate = self.runner.candidate
        if candidate is not None and candidate.frames:
            self._tell("on_candidate", candidate.pipeline.pushed)
        self.rollout.tell()

    def _publish(self) -> None:
        self._publish_at = self.frames + self._publish_every
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._published_ns >= _PUBLISH_NS:  # WHY: it takes as long as many messages
            self._published_ns = now_ns
            self.telemetry.publish()

    def _refuse(self, error: FeaturePlaneError, data: bytes) -> None:
        """A message that cannot be used.

        Where it was taken a stream cannot go on behind it, even one that drops what is malformed: it begins
        anew, and waits for a snapshot.
        """
        self.errors += 1
        said = {"error": str(error), "hint": error.hint}
        self._unreadable.tell("a message cannot be used", logging.ERROR, data, self.messages, **said)
        if not isinstance(error, InputError) or isinstance(error, UnknownSymbol):
            return  # nothing was taken
        with suppress(StateError):  # raised where the stream has ended; books and venue come before
            self.runner.reconnect()
        self.runner.begin_anew()

    def reconnect(self, symbol: str | None, reason: str = "feed") -> None:
        """What comes next of a symbol, or of all, comes over another connection, or behind a loss.

        `start`: it comes from where another service was begun, which knew nothing of what is before.
        """
        runner = self.runner
        known = [one.symbol for one in runner.instruments]
        if symbol is not None and symbol not in known:
            return  # of a symbol that is not taken here
        meant = known if symbol is None else [symbol]
        self.reconnects += reason != START
        if reason == "queue":
            self.resubscribes += 1
            self.queue_breaks += sum(runner.is_whole(one) for one in meant)
        self._tell("on_reconnect", symbol, reason)
        with suppress(StateError):  # raised where no stream is being taken; books and venue come before
            runner.reconnect(symbol)
        if reason == START:
            self.runner.begin_anew()
        log_event(
            _log, logging.WARNING, "reconnected", trace=f"m{runner.messages}", symbol=symbol, reason=reason
        )

    def finish(self) -> None:
        """End the stream: working orders are cancelled, subscribers write what they hold. Once is enough."""
        if self.is_over:
            return
        self.is_over = True
        if self.pilot is not None:
            self.pilot.look()
        self.runner.finish()
        self.runner.hear(self.runner.now_ns + self._answers_ns)
        self._tell("finish")
        if self.shadow is not None:
            self.feed.finish()
            self.shadow.close()
        if self.pilot is not None:
            self.pilot.finish()
        self.story.tell()
        self.story.tell_late(self.runner.states.values())
        self._unreadable.finish()
        self.telemetry.publish()
        self._answer(StateError("the service has ended"))
        log_event(_log, logging.INFO, "ended", messages=self.messages, frames=self.frames)

    def _tell(self, what: str, *about: object) -> None:
        """Tell subscribers; one that raises hears nothing more."""
        for one in tuple(self._subscribers):
            try:
                getattr(one, what, _nothing)(*about)
            except Exception as error:  # noqa: BLE001 - its own affair, as a strategy's is
                self._subscribers.remove(one)
                self._gone[one.name] += 1
                _log.exception(
                    "a subscriber was stopped by an error of its own",
                    extra={"fields": {"subscriber": one.name, "error": repr(error)}},
                )

    def follow_candidate(self) -> None:
        """Look whether there is a candidate, or a silent form, to be told of; for the rollout."""
        runner = self.runner
        self._push = self._push_both if runner.candidate or runner.twins else runner.push

    def legacy_form(self, name: str) -> BaseStrategy | None:
        """A new strategy of that name in its legacy form; None if it has none, or runs in it."""
        forms = self._forms.get(name)
        if forms is None or self._running[name] == "legacy" or "legacy" not in forms.makers:
            return None
        return forms.makers["legacy"]()

    def adopt(self) -> None:
        """Look which set is the active one now; for the rollout."""
        engine = self.runner.active
        if engine is not None and engine is not self.feed:
            self.feed, self.fset, self._seen = engine, engine.fset, self.runner.seen
            self._tell("on_set", engine.fset)
            self.readiness = Readiness(self.runner, engine.fset)
            if self.shadow is not None and self.shadow.candidate is None:
                engine.watch(self.shadow)
        self.follow_candidate()

    # -- what other threads want

    def ask(self, work: Callable[[], T], seconds: float) -> T:
        """Do it between two messages, and wait for the answer.

        Raises what it raises, `StateError` for a service that has ended, and `TimeoutError`: it may still be
        done then.
        """
        future: Future[T] = Future()
        self._asked.append((work, future))
        self.queue.wake()
        if self.is_over:
            self._answer(StateError("the service has ended"))
        return future.result(seconds)

    def _answer(self, instead: Exception | None = None) -> None:
        while self._asked:
            try:
                work, future = self._asked.popleft()
            except IndexError:
                return  # somebody else was quicker, at the end
            with suppress(InvalidStateError):
                if instead is not None:
                    future.set_exception(instead)
                    continue
                try:
                    future.set_result(work())
                except Exception as error:  # noqa: BLE001 - the one who asked is told
                    future.set_exception(error)

    def set_form(self, name: str, form: str) -> bool:
        """Let a strategy run in another form, or not at all (`off`); False where it does already.

        Its working orders are cancelled and its positions go over. Raises `UnknownStrategy`, `SettingError`
        for a form that it does not have, and what refuses a strategy at the start: then the old one goes on.
        """
        states = self.runner.states
        if name not in states:
            raise UnknownStrategy(name, "this service", list(states))
        now = self._running.get(name, "") if states[name].is_running else "off"
        if form not in {"legacy", "shared", "off"}:
            raise SettingError(f"form {form!r}", hint="choose one of legacy, shared, off")
        if form == now:
            return False
        makers = self._forms[name].makers if name in self._forms else {}
        if form != "off" and form not in makers:
            there = ", ".join((*makers, "off"))
            raise SettingError(f"{name} has no {form} form", hint=f"it has: {there}")
        before = states[name]
        self.runner.switch(name, None if form == "off" else makers[form]())
        if self.runner.states[name] is not before:
            self.story.leave(before)
        self._running[name] = form
        self.rollout.switched(name, form)
        log_event(
            _log,
            logging.WARNING,
            "a strategy was switched",
            trace=f"m{self.runner.messages}",
            strategy=name,
            before=now,
            now=form,
        )
        return True

    # -- what there is to say

    def forms(self) -> dict[str, str]:
        """In which form each strategy runs; `off` for one that does not."""
        states = self.runner.states.values()
        return {one.name: self._running.get(one.name, "on") if one.is_running else "off" for one in states}

    def about(self) -> dict[str, object]:
        """What is running."""
        return {
            "symbols": [one.symbol for one in self.runner.instruments],
            "feature_set": None if self.fset is None else self.fset.feature_set_id,
            "fingerprint": None if self.fset is None else self.fset.fingerprint,
            "backend": self.feed.backend,
            "strategies": self.forms(),
            "rollout": self.rollout.about(),
        }

    def picture(self, seconds: float) -> Picture:
        """All numbers as they are between two messages; those published last where that takes too long."""
        if self.is_over:
            return self.telemetry.picture
        try:
            return self.ask(self.telemetry.publish, seconds)
        except (TimeoutError, StateError):
            return self.telemetry.picture

    def _numbers(self, telemetry: Telemetry) -> None:
        write_numbers(self, telemetry)
        for name, count in self._gone.items():
            telemetry.put("subscriber_stopped_total", count + self._has_failed(name), name)
        self.story.numbers(telemetry, self.runner.states.values())

    def _has_failed(self, name: str) -> int:
        found = (getattr(one, "has_failed", False) for one in self._subscribers if one.name == name)
        return sum(map(bool, found))
