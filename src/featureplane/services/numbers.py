"""The numbers of a running service as metrics: which count is which series.

Leans on `telemetry` and on what the pipeline counts. Counts latencies alone itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from featureplane.features.shadow import ShadowCounts
from featureplane.features.shadow_queue import names_of
from featureplane.features.spec import FeatureSet
from featureplane.market.quality import Drop, Quality, ResetCause
from featureplane.market.stages import ASIDE, CANDIDATE, ENGINE_STAGES
from featureplane.release.criteria import CRITERIA, REPORTS
from featureplane.release.rollout import Cause, Phase, RolloutState
from featureplane.telemetry import Histogram, Telemetry

if TYPE_CHECKING:
    from featureplane.services.marketdata import MarketDataService
    from featureplane.services.rollout.pilot import RolloutPilot

__all__ = ["FLAG_NAMES", "NO_SET", "STAGES", "UNREAD", "Latencies", "write_numbers"]

STAGES: Final = (*(one for one in ENGINE_STAGES if one != ASIDE), "dispatch", "risk", "order")
"""Stages of a message that are timed."""

FLAG_NAMES: Final = {
    "GAP_DETECTED": "gap",
    "STATE_RESET": "state_reset",
    "STALE_INPUT": "stale_input",
    "OUT_OF_ORDER_INPUT": "out_of_order",
    "PARTIAL_FEATURES": "partial",
    "CROSSED_BOOK": "crossed",
}
"""Labels of quality flags."""

_CAUSES: Final = {one.value: "session" if one is ResetCause.TRADING else one.value for one in ResetCause}
_BREAKS: Final = ("gap", "crossed", "malformed", "queue")
NO_SET: Final = "none"  # where no features are computed
_SETS_MAX: Final = 32
UNREAD: Final = ("other_symbol", "other_stream", "unnamed_snapshot")
_DROPS: Final = (*(one.value for one in Drop), *UNREAD)


class Latencies:
    """How long sampled messages took: by stage, until their frames, and in a candidate beside that."""

    def __init__(self) -> None:
        self.stages = {stage: Histogram() for stage in STAGES}
        self.frames = Histogram()
        self.candidate = Histogram()

    def add(self, spent: Mapping[str, int], *, made_frames: bool) -> None:
        """Note one message."""
        for stage, histogram in self.stages.items():
            if stage in spent:
                histogram.observe(spent[stage])
        if CANDIDATE in spent:
            self.candidate.observe(spent[CANDIDATE])
        if made_frames:  # behind the guard's verdict
            self.frames.observe(spent.get("book", 0) + spent.get("features", 0))


def write_numbers(service: MarketDataService, telemetry: Telemetry) -> None:
    """Write the numbers of messages, queue and features."""
    counts = service.rollout.counts
    put = telemetry.put
    put("messages_total", service.messages)
    put("raw_queue_depth", len(service.queue))
    put("raw_queue_capacity", service.queue.messages_max)
    put("raw_queue_dropped_total", service.queue.dropped)
    put("feed_reconnect_total", service.reconnects - service.resubscribes)
    put("feed_resubscribe_total", service.resubscribes)
    put("feature_plane_latency_ns", service.latencies.frames)
    for stage, histogram in service.latencies.stages.items():
        put("pipeline_latency_ns", histogram, stage)
    dropped = counts["dropped"]
    telemetry.put_all("events_dropped_total", dict.fromkeys(_DROPS, 0) | dropped)
    broken = Counter(counts.get("broken"))
    broken["queue"] += service.queue_breaks
    telemetry.put_all("book_broken_total", {reason: broken[reason] for reason in _BREAKS})
    resets, rises = Counter(counts.get("resets")), Counter(counts.get("flags"))
    telemetry.put_all("feature_resets_total", {_CAUSES[one]: resets[one] for one in _CAUSES})
    telemetry.put_all("feature_quality_flags_total", {FLAG_NAMES[one]: rises[one] for one in FLAG_NAMES})
    _write_symbols(service, telemetry)
    _write_updates(service, telemetry)
    _write_shadow(service, telemetry)
    _write_rollout(service.pilot, telemetry)
    _end_old_sets(service, telemetry)
    put("feature_candidate_lost_total", service.rollout.lost)
    for name in service.runner.states:
        put("strategy_divergence_total", service.rollout.divergences[name], name)


def _write_rollout(pilot: RolloutPilot | None, telemetry: Telemetry) -> None:
    """As of a rollout that has not begun where nobody steers by one."""
    state = RolloutState() if pilot is None else pilot.state
    telemetry.put_all("feature_rollout_phase", {one.value: int(one is state.phase) for one in Phase})
    causes = Counter(one.cause for one in state.history)
    telemetry.put_all("feature_rollout_rollback_total", {one.value: causes[one] for one in Cause})
    stuck = pilot is not None and (pilot.frozen or pilot.astray) is not None
    telemetry.put("feature_rollout_frozen", int(stuck))
    reached = {} if pilot is None else pilot.reached()
    judged = {one: int(reached.get(one, False)) for one in CRITERIA if one != REPORTS}
    telemetry.put_all("feature_rollout_criterion_reached", judged)


def _write_symbols(service: MarketDataService, telemetry: Telemetry) -> None:
    """Whether symbols can be relied on, and what is wrong with their last frames."""
    runner = service.runner
    for symbol, why in service.readiness.look().items():
        telemetry.put("book_whole", int(runner.is_whole(symbol)), symbol)
        telemetry.put("features_ready", int(not why), symbol)
    latest = runner.latest
    seen = () if latest is None else [latest.times(one.symbol) for one in runner.instruments]
    standing = [flags for _, flags in filter(None, seen)]
    for flag in Quality:
        count = sum(bool(flags & flag) for flags in standing)
        telemetry.put("feature_quality_flags_standing", count, FLAG_NAMES[str(flag.name)])


def _write_shadow(service: MarketDataService, telemetry: Telemetry) -> None:
    """At 0 where there is none; with a rollout all of its comparisons too, so that no count ever falls.

    A set that may become the active one has its series at 0 before it does: what differs right behind the
    step would else be the first value of a series, and no increase.
    """
    fset, shadow, pilot = service.fset, service.shadow, service.pilot
    set_id = NO_SET if fset is None else fset.feature_set_id
    sets: dict[str, FeatureSet | None] = {set_id: fset}
    if pilot is not None:
        sets |= {name: one for name, one in pilot.known_sets().items() if name not in sets}
        by_set, every = pilot.compared, pilot.candidate.compared_every
    elif shadow is not None:
        by_set, every = shadow.counts_by_set, shadow.sample_every
    else:
        by_set, every = dict[str, ShadowCounts](), 0
    telemetry.put("feature_shadow_sample_every", every)
    for name in {**sets, **by_set}:
        counts, known = by_set.get(name, ShadowCounts()), sets.get(name)
        results = {"match": counts.match, "mismatch": counts.mismatch, "skipped": counts.skipped}
        results["error"] = counts.error
        telemetry.put_all("feature_shadow_parity_checks_total", results, name)
        names = {} if known is None else dict.fromkeys(names_of(known), 0)
        telemetry.put_all("feature_shadow_parity_mismatch_total", names | dict(counts.by_name), name)
    compared = 0 if pilot is None else pilot.compared_with_candidates
    telemetry.put("feature_rollout_compared_total", compared)


def _end_old_sets(service: MarketDataService, telemetry: Telemetry) -> None:
    """So that the values of `feature_set` are bounded, however many candidates a process has seen."""
    candidate = service.runner.candidate
    known = {} if service.pilot is None else service.pilot.known_sets()
    past = [one for one in service.rollout.updates() if one not in known]
    now = {NO_SET if service.fset is None else service.fset.feature_set_id}
    if candidate is not None:
        now.add(candidate.fset.feature_set_id)
    telemetry.end_others("feature_set", {*[*past, *reversed(known)][-_SETS_MAX:], *now})


def _write_updates(service: MarketDataService, telemetry: Telemetry) -> None:
    fset, backend = service.fset, service.feed.backend
    set_id, fingerprint = (NO_SET, "") if fset is None else (fset.feature_set_id, fset.fingerprint)
    telemetry.put_only("feature_set_info", set_id, fingerprint, backend)
    known = () if service.pilot is None else service.pilot.known_sets()
    for name, results in ({one: Counter[str]() for one in known} | service.rollout.updates()).items():
        for result in ("emitted", "updated", "dropped", "error"):
            telemetry.put("feature_plane_updates_total", results[result], result, name)
