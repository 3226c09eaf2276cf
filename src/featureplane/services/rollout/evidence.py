"""What a running service measures of a candidate, and the file it leaves beside the rollout's state.

Counts come from the shadow's process, or in canary from `FrameComparison`; queue and latency are sampled
without the candidate first and with it then. Leans on `release.evidence`. Judges nothing.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Final

from featureplane.errors import SettingError, UnreadableFile
from featureplane.features.frame import FeatureFrame
from featureplane.features.shadow import ShadowCounts
from featureplane.features.shadow_compare import Comparison, left_out
from featureplane.features.shadow_queue import OTHERS
from featureplane.features.spec import FeatureFlags, FeatureSet
from featureplane.market.instruments import Instrument
from featureplane.market.quality import Quality
from featureplane.market.schedule import Schedule
from featureplane.release.criteria import Criteria
from featureplane.release.evidence import THIRDS, Evidence, Quantiles, Run, Tail
from featureplane.services.numbers import FLAG_NAMES
from featureplane.units import NANOS_PER_SECOND
from featureplane.whole_file import WholeFile

__all__ = ["EvidenceKeeper", "FrameComparison", "SessionThirds", "promoted_in_both", "read_evidence"]

_FORMAT: Final = "evidence_v1"
_BYTES_MAX: Final = 16 << 20
_MINUTE_NS: Final = 60 * NANOS_PER_SECOND
_DAY_NS: Final = 1_440 * _MINUTE_NS

_log = logging.getLogger("featureplane.rollout")


def promoted_in_both(live: FeatureSet, candidate: FeatureSet) -> tuple[str, ...]:
    """The promoted features of the live set that the candidate defines alike: those that are compared."""
    out = left_out(live, candidate)
    return tuple(
        one.feature_id
        for one in live.specs
        if FeatureFlags.PROMOTED in one.flags and one.feature_id not in out
    )


class SessionThirds:
    """Which third of which session an instant lies in.

    Sessions are an instrument's trading sessions; where it has none, so many minutes each, counted from
    midnight UTC.
    """

    def __init__(self, instrument: Instrument, session_minutes: int) -> None:
        self._schedule = Schedule(instrument)
        self._length_ns = session_minutes * _MINUTE_NS

    def __call__(self, at_ns: int) -> tuple[int, int] | None:
        """When the session began, and its third from 0; None outside all sessions."""
        if self._schedule.has_sessions:
            session = self._schedule.session(at_ns)
            if session is None:
                return None
            opens, closes = session
        else:
            into_day = at_ns % _DAY_NS
            opens = at_ns - into_day % self._length_ns
            closes = min(opens + self._length_ns, at_ns - into_day + _DAY_NS)
        return opens, THIRDS * (at_ns - opens) // (closes - opens)


class FrameComparison:
    """Compares every so manieth frame that two sets make of one message, where one process computes both.

    `differs` is told the clock of receipt of each mismatch on promoted features, and their names; `handed`
    the symbol of each frame that was compared; `seen` what each mismatch is, as `Shadow.note` takes it.
    """

    def __init__(
        self,
        live: FeatureSet,
        candidate: FeatureSet,
        *,
        every: int,
        abs_tol: float,
        differs: Callable[[int, str], None],
        handed: Callable[[str], None] = lambda _: None,
        seen: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self._comparison = Comparison(live, candidate, abs_tol=abs_tol, fresh=_no_run)
        self._names = {*promoted_in_both(live, candidate), *OTHERS}
        self.every = every
        self._differs, self._handed, self._seen = differs, handed, seen
        self._match = self._mismatch = self._skipped = 0
        self._by_name: Counter[str] = Counter()
        self._flags = Counter[str](), Counter[str]()

    def take(self, live: Sequence[FeatureFrame], candidate: Sequence[FeatureFrame]) -> None:
        """The frames of one message; those of the candidate may be fewer."""
        for frame in live:
            if frame.seq % self.every:
                continue
            twin = next((one for one in candidate if one.symbol_id == frame.symbol_id), None)
            self._compare(frame, twin)

    def _compare(self, frame: FeatureFrame, twin: FeatureFrame | None) -> None:
        found = self._comparison.frames(frame.pack(), None if twin is None else twin.pack())
        if found is None:
            self._skipped += 1
            return
        for table, one in zip(self._flags, (frame, twin), strict=True):
            flags = Quality(0) if one is None else one.flags
            table.update(str(flag.name) for flag in Quality if flag & flags)
        if twin is not None:
            self._handed(frame.symbol)
        self._by_name.update(found.keys())
        if not found:
            self._match += 1
            return
        self._mismatch += 1
        self._seen(
            {
                "symbol": frame.symbol,
                "seq": frame.seq,
                "differs": {name: list(sides) for name, sides in found.items()},
                "live": frame.pack().hex(),
                "shadow": "" if twin is None else twin.pack().hex(),
            }
        )
        names = [name for name in found if name in self._names]
        if names:
            self._differs(frame.local_ts_ns, ", ".join(names))

    @property
    def counts(self) -> ShadowCounts:
        """As a shadow's."""
        live, candidate = ({str(one.name): table[str(one.name)] for one in Quality} for table in self._flags)
        return ShadowCounts(
            due=self._match + self._mismatch + self._skipped,
            match=self._match,
            mismatch=self._mismatch,
            skipped=self._skipped,
            by_name=dict(self._by_name),
            live_flags=live,
            shadow_flags=candidate,
        )


def _no_run(_fset: FeatureSet) -> Any:
    raise AssertionError("states are not compared here")


def read_evidence(path: Path) -> Evidence | None:
    """What a service left; None where there is nothing.

    Raises `UnreadableFile` for a file that is damaged.
    """
    try:
        with path.open("rb") as file:
            table = json.loads(file.read(_BYTES_MAX))
        return Evidence.from_json(table[_FORMAT])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error), "evidence of a rollout") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnreadableFile(str(path), f"{type(error).__name__}: {error}", "evidence of a rollout") from None


class EvidenceKeeper:
    """Gathers the evidence of one run of a service; one candidate after another.

    The baseline is what was measured since the session began, or since the last candidate went, without one.
    """

    def __init__(self, path: Path, criteria: Criteria, thirds: SessionThirds) -> None:
        self.path, self._criteria, self._thirds = path, criteria, thirds
        self._depth, self._latency = Quantiles(), Quantiles()  # without a candidate
        self._messages = 0  # for them
        self._since_ns: int | None = None  # measured, and until when
        self._until_ns = 0
        self._session: int | None = None
        self._with_depth, self._with_latency = Quantiles(), Quantiles()
        self._noted = self._depth, self._latency
        self._past: Evidence | None = None  # of the candidate, from runs before this one
        self._about: Evidence | None = None
        self._runs: list[Run] = []
        self._sources: list[Callable[[], ShadowCounts]] = []
        self._seen = self._answered = 0
        self._due: deque[tuple[int, int | None]] = deque()  # frames due until then, and the third
        self._by_third = [0] * THIRDS
        self._lock: int | None = None
        self._writer: threading.Thread | None = None
        self._is_open = False
        self.divergences: Counter[str] = Counter()
        self.consumed: Counter[str] = Counter()
        self.forms: dict[str, str] = {}

    # -- without a candidate

    def pass_by(self, messages: int, now_ns: int) -> None:
        """So many more messages came without a candidate."""
        found = self._thirds(now_ns)
        if found is not None and found[0] != self._session:
            if self._session is not None:
                self.forget_baseline()
            self._session = found[0]
        self._messages += messages
        if messages and self._since_ns is None:
            self._since_ns = now_ns
        self._until_ns = now_ns

    def outlived(self, now_ns: int) -> bool:
        """Whether another session has begun than the one that the baseline is of."""
        found = self._thirds(now_ns)
        return found is not None and self._session is not None and found[0] != self._session

    def forget_baseline(self) -> None:
        """Begin to measure it anew."""
        self._messages, self._since_ns = 0, None
        self._depth.clear()
        self._latency.clear()

    @property
    def has_baseline(self) -> bool:
        """Whether enough was measured without a candidate."""
        asked = self._criteria
        enough = self._messages >= asked.baseline_messages and self._minutes >= asked.baseline_minutes
        return enough and self._latency.count >= asked.samples_min

    @property
    def _minutes(self) -> int:
        """Whole ones, by the clock of the messages."""
        return 0 if self._since_ns is None else (self._until_ns - self._since_ns) // _MINUTE_NS

    @property
    def baseline(self) -> dict[str, int]:
        """How far it is."""
        return {
            "minutes": self._minutes,
            "minutes_min": self._criteria.baseline_minutes,
            "messages": self._messages,
            "messages_min": self._criteria.baseline_messages,
            "samples": self._latency.count,
            "samples_min": self._criteria.samples_min,
        }

    @property
    def tails(self) -> tuple[Tail, Tail]:
        """Queue and latency without a candidate."""
        return Tail.of(self._depth), Tail.of(self._latency)

    def timed(self, depth: int, latency_ns: int) -> None:
        """A message that was timed, and the messages that waited then."""
        depths, latencies = self._noted
        depths.add(depth)
        latencies.add(latency_ns)

    def settle(self) -> None:
        """Count what was timed; a thousand messages at a time."""
        for one in self._noted:
            one.settle()

    # -- with one

    def begin(self, about: Evidence, source: Callable[[], ShadowCounts]) -> None:
        """A candidate is computed from now on; `source` has the counts of its comparison."""
        self.end()
        if self._about is None or not self._about.concerns(about):
            self._past = self._found(about)
            self._runs, self._sources = [], []
            self._seen = self._answered = 0
            self._due.clear()
            self._by_third = [0] * THIRDS
            for one in (self.divergences, self.consumed, self.forms):
                one.clear()
        self._about = about
        self._sources.append(source)
        self._is_open, self._noted = True, (self._with_depth, self._with_latency)

    def miss(self, about: Evidence) -> None:
        """A candidate is to be compared and is not, in this run."""
        self.begin(replace(about, shadow=False), ShadowCounts)
        self.end()

    def _found(self, about: Evidence) -> Evidence | None:
        """What earlier runs measured of it, if this service is the one that measures."""
        if not self._is_alone():
            _log.warning("another service gathers evidence in %s; this one's is not kept", self.path)
        try:
            known = read_evidence(self.path)
        except UnreadableFile as error:
            _log.warning("the evidence so far is lost: %s", error)
            return None
        return known if known is not None and known.concerns(about) else None

    @property
    def is_elsewhere(self) -> bool:
        """Whether another service gathers the evidence of the candidate that is computed here."""
        return self._is_open and self._lock is None

    def _is_alone(self) -> bool:
        if self._lock is not None:
            return True
        descriptor = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            name = self.path.with_name(f"{self.path.name}.lock")
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if descriptor is not None:
                os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def count(self, now_ns: int) -> None:
        """Look at what was compared since.

        What was due since the last look counts for the third of the session that this instant is in, also
        where the shadow answers later: it answers in order.
        """
        counts, found = self._counts, self._thirds(now_ns)
        self._due.append((counts.due, None if found is None else found[1]))
        more, self._seen = counts.compared - self._seen, counts.compared
        answered = counts.due - counts.outstanding
        while self._due and self._answered < answered:
            until, third = self._due[0]
            here = min(until, answered)
            if third is not None:
                self._by_third[third] += min(more, here - self._answered)
            more -= min(more, here - self._answered)
            self._answered = here
            if here == until:
                self._due.popleft()

    @property
    def _counts(self) -> ShadowCounts:
        return reduce(add, (source() for source in self._sources), ShadowCounts())

    def end(self) -> None:
        """The candidate is not computed any more; what it still has in its queue is counted when it comes."""
        if not self._is_open:
            return
        self._runs.append(self._run())
        self._is_open, self._noted = False, (self._depth, self._latency)
        self._with_depth.clear()
        self._with_latency.clear()

    def _run(self) -> Run:
        depth, latency = self.tails
        return Run(depth, Tail.of(self._with_depth), latency, Tail.of(self._with_latency))

    @property
    def evidence(self) -> Evidence | None:
        """All that is known of the last candidate, other runs with it.

        None if there was none, and where another service gathers it.
        """
        if self._about is None or self._lock is None:
            return None
        counts = self._counts
        names = (*self._about.features, *OTHERS)
        mine = replace(
            self._about,
            compared=counts.compared,
            mismatches={name: counts.by_name.get(name, 0) for name in names},
            thirds=tuple(self._by_third),
            flags_active=_by_label(counts.live_flags),
            flags_candidate=_by_label(counts.shadow_flags),
            divergences=dict(self.divergences),
            consumed=dict(self.consumed),
            forms=dict(self.forms),
            runs=(*self._runs, *([self._run()] if self._is_open else [])),
        )
        return mine if self._past is None else self._past + mine

    def save(self) -> None:
        """Write it beside the state, in a thread of its own: who has messages to take does not wait."""
        data = self._packed()
        if data is not None and (self._writer is None or not self._writer.is_alive()):
            self._writer = threading.Thread(target=self._write, args=(data,), name="evidence", daemon=True)
            self._writer.start()

    def _packed(self) -> bytes | None:
        """What is to be written; None where nothing is, or another service writes."""
        evidence = self.evidence
        return None if evidence is None else json.dumps({_FORMAT: evidence.to_json()}, indent=1).encode()

    def _write(self, data: bytes) -> None:
        try:
            with WholeFile(self.path) as file:
                file.part.write_bytes(data)
        except (SettingError, OSError) as error:
            _log.warning("the evidence cannot be written: %s", error)

    def close(self) -> None:
        """The service has ended: it is written when this returns."""
        self.end()
        if self._writer is not None:
            self._writer.join()
        data = self._packed()
        if data is not None:
            self._write(data)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _by_label(flags: dict[str, int] | Any) -> dict[str, int]:
    """Counts by the labels that metrics have; of a comparison that has not begun all are 0."""
    return {label: flags.get(name, 0) for name, label in FLAG_NAMES.items()}
