"""The alerts: what somebody on call is told, and which page of the runbook says what to do.

Leans on the names of metrics, which stand in `telemetry`; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from featureplane.ops.alerting import COMPUTED, JOB, ON, SYMBOLS, Alert, grown

__all__ = ["ALERTS", "ALWAYS_THERE", "GROUPS"]

ALWAYS_THERE: Final = (
    "messages_total",
    "raw_queue_depth",
    "raw_queue_capacity",
    "raw_queue_dropped_total",
    "feed_reconnect_total",
    "feed_resubscribe_total",
    "events_dropped_total",
    "book_broken_total",
    "book_whole",
    "features_ready",
    "feature_resets_total",
    "feature_quality_flags_total",
    "feature_quality_flags_standing",
    "feature_plane_updates_total",
    "feature_plane_latency_ns_bucket",
    "pipeline_latency_ns_bucket",
    "feature_set_info",
    "feature_shadow_sample_every",
    "feature_shadow_parity_checks_total",
    "feature_rollout_phase",
    "feature_rollout_compared_total",
    "feature_rollout_rollback_total",
    "feature_rollout_frozen",
)
"""Series that rules read and that every service has from its start: where one is missing, a rule is blind."""

SERVICE: Final = (
    Alert(
        "FeatureplaneDown",
        "critical",
        f'up{{job="{JOB}"}} == 0',
        "service-absent",
        "{{ $labels.instance }} does not answer",
        "Prometheus could not scrape it for a minute: it ended, hangs in one message, or cannot be reached.",
        "1m",
    ),
    Alert(
        "FeatureplaneAbsent",
        "critical",
        f'absent(messages_total{{job="{JOB}"}})',
        "service-absent",
        "no service says anything at all",
        f"No target of the job `{JOB}` has the series of a service. Every other alert is blind meanwhile.",
        "2m",
    ),
    Alert(
        "FeatureplaneSeriesMissing",
        "critical",
        " or ".join(
            f'label_replace(up{{job="{JOB}"}} == 1 unless {ON} {name}, "series", "{name}", "", "")'
            for name in ALWAYS_THERE
        ),
        "service-absent",
        "{{ $labels.instance }} answers without {{ $labels.series }}",
        "A series that rules read is not there, so that they stay quiet whatever happens: another "
        "version of the service, something else at that address, or a relabelling that drops it.",
        "2m",
    ),
    Alert(
        "FeedSilent",
        "critical",
        grown("messages_total", "2m") + " == 0",
        "stale-feed",
        "{{ $labels.instance }} gets no messages",
        "Not one message was taken for two minutes. Frames and readiness stay what they were, they "
        "only grow old.",
        "1m",
    ),
    Alert(
        "FeedStale",
        "warning",
        'feature_quality_flags_standing{flag="stale_input"} > 0',
        "stale-feed",
        "{{ $value }} symbols of {{ $labels.instance }} are late",
        "Their last frames carry STALE_INPUT: messages come later behind the venue's time than "
        "`stale_ms` of the instrument allows.",
        "1m",
    ),
)

BOOKS: Final = (
    Alert(
        "BookGapStorm",
        "critical",
        grown("book_broken_total", "5m") + f" > {ON} 5 + {SYMBOLS}",
        "gap-and-reset-storm",
        "books of {{ $labels.instance }} break again and again",
        "{{ $value | humanize }} books broke in five minutes; each waits for a snapshot, and no "
        "feature of it is ready until then.",
    ),
    Alert(
        "FeatureResetStorm",
        "warning",
        grown("feature_resets_total", "5m", 'cause!~"first|session|daily"') + f" > {ON} 5 + {SYMBOLS}",
        "gap-and-reset-storm",
        "kernels of {{ $labels.instance }} are reset again and again",
        "{{ $value | humanize }} resets in five minutes that no calendar asks for: windows never fill.",
    ),
    Alert(
        "FeedReconnectStorm",
        "warning",
        grown("feed_reconnect_total", "5m") + " + " + grown("feed_resubscribe_total", "5m") + " > 5",
        "gap-and-reset-storm",
        "the feed of {{ $labels.instance }} begins anew again and again",
        "{{ $value | humanize }} connections or symbols were begun anew in five minutes.",
    ),
    Alert(
        "BookNotWhole",
        "critical",
        "book_whole == 0",
        "gap-and-reset-storm",
        "no book of {{ $labels.symbol }}",
        "Something has been missing in it for two minutes, so a snapshot does not come or cannot be "
        "used. Strategies get no frame of it that is ready.",
        "2m",
    ),
    Alert(
        "FeedOutOfOrder",
        "warning",
        grown("feature_quality_flags_total", "5m", 'flag="out_of_order"') + " > 10",
        "out-of-order",
        "messages of {{ $labels.instance }} come after their turn",
        "{{ $value | humanize }} times in five minutes OUT_OF_ORDER_INPUT rose on a frame. What came late "
        "was dropped: it is in no feature.",
    ),
    Alert(
        "WarmUpIncomplete",
        "warning",
        "features_ready == 0 and on (job, instance, symbol) book_whole == 1",
        "warm-up-incomplete",
        "features of {{ $labels.symbol }} do not get ready",
        "Its book has been whole for ten minutes, and a feature that its feed can define has had no "
        "value yet.",
        "10m",
    ),
)

SPEED: Final = (
    Alert(
        "RawQueueNearFull",
        "warning",
        "instance:raw_queue:fill > 0.8",
        "too-slow",
        "the queue of {{ $labels.instance }} is {{ $value | humanizePercentage }} full",
        "Messages come faster than they are taken. When it is full, what comes is lost and the books break.",
        "30s",
    ),
    Alert(
        "RawQueueDropping",
        "critical",
        grown("raw_queue_dropped_total", "5m") + " > 0",
        "too-slow",
        "{{ $labels.instance }} lost {{ $value | humanize }} messages",
        "The queue between feed and pipeline had no room for them. Each symbol concerned waits for a "
        "snapshot.",
    ),
    Alert(
        "FeaturePlaneSlow",
        "warning",
        "instance:feature_plane_latency_ns:p99_5m > 1e6",
        "too-slow",
        "one frame in a hundred of {{ $labels.instance }} takes longer than a millisecond",
        "From the guard's verdict to the finished frame, without shadow: p99 of five minutes is "
        "{{ $value | humanize }} ns. Rust takes microseconds.",
        "5m",
    ),
    Alert(
        "StrategyOverBudget",
        "warning",
        grown("strategy_over_budget_total", "5m", by="strategy") + " > 10",
        "too-slow",
        "{{ $labels.strategy }} takes too long",
        "{{ $value | humanize }} of its handlers took longer than `--budget-us` in five minutes; "
        "messages wait meanwhile.",
    ),
)

STRATEGIES: Final = (
    Alert(
        "StrategyStopped",
        "critical",
        "strategy_stopped_total > 0 and on (job, instance, strategy) strategy_running == 0",
        "strategy-stopped",
        "{{ $labels.strategy }} was stopped by an error of its own",
        "It gets no messages any more and its working orders were cancelled; its positions stand.",
    ),
    Alert(
        "RecordingStopped",
        "critical",
        "subscriber_stopped_total > 0",
        "recording-stopped",
        "{{ $labels.subscriber }} of {{ $labels.instance }} has stopped",
        "It hears nothing any more: the disk is full or cannot be written, or it raised. The service "
        "goes on; what comes now is in no recording.",
    ),
    Alert(
        "MessagesUnreadable",
        "critical",
        grown("feature_plane_updates_total", "5m", 'result="error"') + " > 10",
        "schema-mismatch",
        "{{ $labels.instance }} cannot read what the venue sends",
        "{{ $value | humanize }} messages in five minutes kept no rule. One is chance; many are a "
        "venue that changed its format, or instruments with too few decimals.",
    ),
    Alert(
        "FeatureSetsDiffer",
        "critical",
        "count by (job, feature_set) (count by (job, feature_set, fingerprint) (feature_set_info == 1)) > 1",
        "schema-mismatch",
        "{{ $value }} definitions of {{ $labels.feature_set }} run at once",
        "Services of one job compute sets of the same name with different fingerprints: same names, "
        "other numbers.",
        "5m",
    ),
)

SHADOW: Final = (
    Alert(
        "ShadowMismatch",
        "critical",
        grown("feature_shadow_parity_checks_total", "15m", 'result="mismatch"', by="feature_set") + " > 0",
        "shadow",
        "{{ $labels.feature_set }} differs from its shadow",
        "{{ $value | humanize }} frames in fifteen minutes were not what the shadow computed. The two "
        "are to be equal bit by bit: one of them is wrong, and nobody knows yet which.",
    ),
    Alert(
        "ShadowNotComparing",
        "warning",
        f"feature_shadow_sample_every > 0 and {ON} instance:shadow_compared:increase15m == 0 and {ON} "
        + grown("feature_plane_updates_total", "15m", COMPUTED)
        + f" > {ON} 10 * feature_shadow_sample_every",
        "shadow",
        "nothing of {{ $labels.instance }} is compared",
        "Frames are made and a shadow is asked for, and for fifteen minutes not one frame was "
        "compared. No mismatch means nothing now.",
        "5m",
    ),
    Alert(
        "ShadowSkipping",
        "warning",
        grown("feature_shadow_parity_checks_total", "15m", 'result="skipped"')
        + f" / {ON} instance:shadow_due:increase15m > 0.5",
        "shadow",
        "the shadow of {{ $labels.instance }} leaves out {{ $value | humanizePercentage }}",
        "More than half of the frames that were to be compared were not: the shadow is too slow for "
        "what it is asked.",
        "10m",
    ),
    Alert(
        "ShadowFailing",
        "warning",
        grown("feature_shadow_parity_checks_total", "15m", 'result="error"') + " > 3",
        "shadow",
        "the shadow of {{ $labels.instance }} dies or raises",
        "{{ $value | humanize }} frames were lost with it in fifteen minutes. It starts again by "
        "itself, each time later.",
    ),
)

ROLLOUT: Final = (
    Alert(
        "RolloutRolledBack",
        "warning",
        grown("feature_rollout_rollback_total", "1h", by="cause") + " > 0",
        "rollback-order",
        "a version was rolled back on {{ $labels.instance }}: {{ $labels.cause }}",
        "By somebody, or by the guard of a canary. What strategies consume has changed to the last version "
        "in good standing; the history says who, what and why.",
    ),
    Alert(
        "RolloutFrozen",
        "critical",
        "feature_rollout_frozen == 1",
        "rollback-order",
        "the rollout of {{ $labels.instance }} is frozen",
        "Its state cannot be read or written, or the version that it says cannot be computed: then features "
        "of another one are. The service goes on as it is and no step can be taken. A "
        "canary that has to be called back still is; that is written as soon as it can be.",
        "1m",
    ),
    Alert(
        "RolloutNotComparing",
        "warning",
        'feature_rollout_phase{phase=~"shadow|canary"} == 1 '
        f"and {ON} instance:candidate_compared:increase15m == 0",
        "canary",
        "the candidate of {{ $labels.instance }} is compared with nothing",
        "It has been in {{ $labels.phase }} for half an hour, and for a quarter of an hour not one of its "
        "frames was compared: its criteria are never reached like this.",
        "30m",
    ),
    Alert(
        "RolloutLeftInCanary",
        "warning",
        'feature_rollout_phase{phase="canary"} == 1',
        "canary",
        "{{ $labels.instance }} has had a canary for a day",
        "Some strategies consume a candidate, all others the active version. A canary ends: it is promoted "
        "or taken back.",
        "1d",
    ),
)

GROUPS: Final[Mapping[str, tuple[Alert, ...]]] = {
    "service": SERVICE,
    "books": BOOKS,
    "speed": SPEED,
    "strategies": STRATEGIES,
    "shadow": SHADOW,
    "rollout": ROLLOUT,
}
"""All alerts, by group."""

ALERTS: Final = tuple(one for group in GROUPS.values() for one in group)
