"""The two dashboards: which panels, and the query behind each.

`grafana` makes of them what Grafana imports. Leans on the names of metrics, which stand in `telemetry`, and
of records, which stand in `rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from featureplane.ops.alerting import COMPUTED, JOB

__all__ = ["DASHBOARDS", "HERE", "RATE", "Board", "Panel", "Query", "Row"]

HERE: Final = 'job=~"$job",instance=~"$instance"'
"""Matchers of the services that are chosen at the top of a dashboard."""

RATE: Final = "$__rate_interval"

Kind = Literal["number", "lines", "table"]


@dataclass(frozen=True, slots=True)
class Query:
    """An expression of Prometheus, and how its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A few queries and how they are shown.

    `unit` is one of Grafana's. `bad_from`: a number is red from there on; `bad_below`: it is red below that.
    """

    title: str
    kind: Kind
    queries: tuple[Query, ...]
    says: str
    unit: str = "short"
    bad_from: float | None = None
    bad_below: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels that stand together."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard; `uid` is part of its address and never changes."""

    uid: str
    title: str
    says: str
    rows: tuple[Row, ...]
    known_by: str = "messages_total"  # whose jobs and instances can be chosen


def _of(metric: str, *more: str) -> str:
    return f"{metric}{{{','.join((HERE, *more))}}}"


def _rate(counter: str, by: str, *more: str) -> str:
    return f"sum by ({by}) (rate({_of(counter, *more)}[{RATE}]))"


def _number(title: str, expr: str, says: str, unit: str = "short", **bad: float) -> Panel:
    return Panel(title, "number", (Query(expr),), says, unit, **bad)


def _lines(title: str, says: str, *queries: tuple[str, str], unit: str = "short") -> Panel:
    return Panel(title, "lines", tuple(Query(*one) for one in queries), says, unit)


def _firing(alerts: str) -> str:
    return f'count(ALERTS{{alertstate="firing",alertname=~"{alerts}"}}) or vector(0)'


_WELL: Final = Row(
    "Is it well",
    (
        _number("Services that answer", f"sum(up{{{HERE}}})", "Targets that could be scraped.", bad_below=1),
        _number("Alerts", _firing(".+"), "Alerts that fire, of all services.", bad_from=1),
        _number(
            "Symbols that are not ready",
            f"count({_of('features_ready')}) - sum({_of('features_ready')})",
            "Their book is not whole, or a feature has had no value yet.",
            bad_from=1,
        ),
        _number(
            "Messages a second", f"sum({_of('instance:messages:rate1m')})", "Taken from the queue.", "mps"
        ),
        _number(
            "Frames a second", f"sum({_of('instance_set:frames:rate1m')})", "Computed, handed out or not."
        ),
        _number(
            "p99 of a frame",
            f"max({_of('instance:feature_plane_latency_ns:p99_5m')})",
            "From the guard's verdict to the finished frame, without shadow.",
            "ns",
            bad_from=1e6,
        ),
        _number(
            "Queue", f"max({_of('instance:raw_queue:fill')})", "How full it is.", "percentunit", bad_from=0.8
        ),
    ),
)

_FLOW: Final = Row(
    "Messages and frames",
    (
        _lines(
            "Frames, and messages that made none",
            "emitted: to strategies; updated: not handed out; dropped by the guard; error: unreadable.",
            (_rate("feature_plane_updates_total", "feature_set, result"), "{{feature_set}} {{result}}"),
        ),
        _lines("Messages", "Taken from the queue.", (_rate("messages_total", "instance"), "{{instance}}")),
        _lines(
            "Left out, by reason",
            "Messages and empty trades that were not used.",
            (_rate("events_dropped_total", "reason"), "{{reason}}"),
        ),
        Panel(
            "What is computed",
            "table",
            (Query(f"{_of('feature_set_info')} == 1"),),
            "Sets by name and fingerprint. One name with two fingerprints is an alert.",
        ),
    ),
)

_LATENCY: Final = Row(
    "Latency, of sampled messages",
    (
        _lines(
            "A frame",
            "From the guard's verdict to the finished frame, without shadow.",
            (_of("instance:feature_plane_latency_ns:p50_5m"), "p50 {{instance}}"),
            (_of("instance:feature_plane_latency_ns:p99_5m"), "p99 {{instance}}"),
            unit="ns",
        ),
        _lines(
            "p99 by stage",
            "Of messages that go through the stage.",
            (_of("instance_stage:pipeline_latency_ns:p99_5m"), "{{stage}} {{instance}}"),
            unit="ns",
        ),
        _lines(
            "p50 by stage",
            "Of messages that go through the stage.",
            (_of("instance_stage:pipeline_latency_ns:p50_5m"), "{{stage}} {{instance}}"),
            unit="ns",
        ),
        _lines(
            "Where the time goes",
            "Share of each stage in the time of sampled messages.",
            (
                (
                    f"{_rate('pipeline_latency_ns_sum', 'stage')} "
                    f"/ ignoring (stage) group_left () sum(rate({_of('pipeline_latency_ns_sum')}[{RATE}]))"
                ),
                "{{stage}}",
            ),
            unit="percentunit",
        ),
    ),
)

_INPUT: Final = Row(
    "Quality of the input",
    (
        _lines(
            "Flags that rise",
            "Frames on which a quality flag stands that did not stand before.",
            (_rate("feature_quality_flags_total", "flag"), "{{flag}}"),
        ),
        _lines(
            "Flags that stand",
            "Symbols on whose last frame a flag stands.",
            (f"sum by (flag) ({_of('feature_quality_flags_standing')})", "{{flag}}"),
        ),
        _lines(
            "Books and readiness",
            "1 while the book is whole; 1 while everything that can have a value has had one.",
            (_of("book_whole"), "book {{symbol}}"),
            (_of("features_ready"), "ready {{symbol}}"),
        ),
        _lines(
            "Books that break",
            "By reason.",
            (_rate("book_broken_total", "reason"), "{{reason}}"),
        ),
        _lines("Resets of kernels", "By cause.", (_rate("feature_resets_total", "cause"), "{{cause}}")),
        _lines(
            "Begun anew",
            "Connections, and symbols behind a full queue.",
            (_rate("feed_reconnect_total", "instance"), "connections {{instance}}"),
            (_rate("feed_resubscribe_total", "instance"), "symbols {{instance}}"),
        ),
    ),
)

_QUEUE: Final = Row(
    "The queue between feed and pipeline",
    (
        _lines(
            "Depth",
            "Messages that wait; a full queue loses what comes.",
            (_of("raw_queue_depth"), "{{instance}}"),
            (_of("instance:raw_queue_depth:p99_5m"), "p99 {{instance}}"),
            (_of("raw_queue_capacity"), "room {{instance}}"),
        ),
        _lines(
            "Lost",
            "Messages for which there was no room.",
            (_rate("raw_queue_dropped_total", "instance"), "{{instance}}"),
        ),
    ),
)

_STRATEGIES: Final = Row(
    "Strategies and orders",
    (
        _lines("Running", "1 while a strategy runs.", (_of("strategy_running"), "{{strategy}} {{instance}}")),
        _lines(
            "Decisions",
            "What strategies asked for.",
            (_rate("strategy_decisions_total", "strategy, kind"), "{{strategy}} {{kind}}"),
        ),
        _lines("Refused", "By the risk check, by code.", (_rate("risk_refused_total", "code"), "{{code}}")),
        _lines("Orders", "What became of them.", (_rate("order_events_total", "status"), "{{status}}")),
        _lines(
            "Handlers that raise or are late",
            "An exception stops its strategy; a late one is named in the log.",
            (_rate("strategy_exceptions_total", "strategy, handler"), "raised {{strategy}} {{handler}}"),
            (_rate("strategy_over_budget_total", "strategy, handler"), "late {{strategy}} {{handler}}"),
        ),
        _lines(
            "Subscribers that stopped",
            "What listens beside the pipeline: recordings.",
            (_of("subscriber_stopped_total"), "{{subscriber}} {{instance}}"),
        ),
    ),
)

_CHECKS: Final = "feature_shadow_parity_checks_total"
_SEEN: Final = 'result=~"match|mismatch"'
_WRONG: Final = 'result="mismatch"'

_PARITY: Final = Row(
    "Are they equal",
    (
        _number(
            "Mismatches",
            f"sum(increase({_of(_CHECKS, _WRONG)}[$__range]))",
            "In the time shown. One is too many.",
            bad_from=0.5,
        ),
        _number(
            "Frames compared",
            f"sum(increase({_of(_CHECKS, _SEEN)}[$__range]))",
            "In the time shown. Without any, no mismatch means nothing.",
            bad_below=1,
        ),
        _number(
            "Rate of mismatches is below",
            f"3 / sum(increase({_of(_CHECKS, _SEEN)}[$__range]))",
            "With 95 % confidence, if there was none (rule 10.4).",
            "percentunit",
        ),
        _number(
            "Compared is every",
            f"max({_of('feature_shadow_sample_every')})",
            "So manieth frame of a symbol; 0: there is no shadow.",
            bad_below=1,
        ),
        _number("Alerts", _firing("Shadow.+|Rollout.+"), "Of shadows and rollouts, that fire.", bad_from=1),
    ),
)

_COMPARED: Final = Row(
    "What comes of the comparisons",
    (
        _lines(
            "Frames that were due",
            "skipped: no room or no state; error: lost by the shadow, and its deaths.",
            (_rate(_CHECKS, "feature_set, result"), "{{feature_set}} {{result}}"),
        ),
        _lines(
            "Left out",
            "Share of the frames that were due and not compared, of fifteen minutes.",
            (
                (
                    f"1 - {_of('instance:shadow_compared:increase15m')} "
                    f"/ {_of('instance:shadow_due:increase15m')}"
                ),
                "{{instance}}",
            ),
            unit="percentunit",
        ),
        _lines(
            "Mismatches by feature",
            "And by _changed, _ready, _flags, _frame, _state; the ten with most.",
            (
                (
                    f"topk(10, sum by (feature_set, feature_id) "
                    f"(increase({_of('feature_shadow_parity_mismatch_total')}[$__range])))"
                ),
                "{{feature_set}} {{feature_id}}",
            ),
        ),
        _lines(
            "Frames a second",
            "Of the live engine: what could be compared.",
            (_rate("feature_plane_updates_total", "feature_set", COMPUTED), "{{feature_set}}"),
        ),
    ),
)

_ROLLOUT: Final = Row(
    "Rollout",
    (
        _lines(
            "Phase",
            "1 for the phase that a rollout is in.",
            (_of("feature_rollout_phase"), "{{phase}} {{instance}}"),
        ),
        _lines(
            "Criteria",
            "1 for each that the candidate has reached; the report of the strategy is asked for at the end.",
            (_of("feature_rollout_criterion_reached"), "{{criterion}} {{instance}}"),
        ),
        _lines(
            "Rolled back",
            "Versions, by cause, over the whole history.",
            (_of("feature_rollout_rollback_total"), "{{cause}} {{instance}}"),
        ),
        _lines(
            "Frozen",
            "1 while the state cannot be read or written: no step can be taken.",
            (_of("feature_rollout_frozen"), "{{instance}}"),
        ),
        _lines(
            "In a canary",
            "Decisions in which the silent legacy form differs, and candidates that an error ended.",
            (_rate("strategy_divergence_total", "strategy"), "differs {{strategy}}"),
            (_rate("feature_candidate_lost_total", "instance"), "lost {{instance}}"),
        ),
    ),
)

_COST: Final = Row(
    "That it costs nothing",
    (
        _lines(
            "A frame, without shadow",
            "What the live engine takes; it is to be the same with and without.",
            (_of("instance:feature_plane_latency_ns:p50_5m"), "p50 {{instance}}"),
            (_of("instance:feature_plane_latency_ns:p99_5m"), "p99 {{instance}}"),
            unit="ns",
        ),
        _lines("The queue", "Messages that wait.", (_of("raw_queue_depth"), "{{instance}}")),
    ),
)

DASHBOARDS: Final = {
    "feature_plane.json": Board(
        f"{JOB}-plane",
        "Feature plane",
        "Messages, books, features, strategies and orders of running services.",
        (_WELL, _FLOW, _LATENCY, _INPUT, _QUEUE, _STRATEGIES),
    ),
    "shadow_parity.json": Board(
        f"{JOB}-shadow",
        "Shadow parity",
        "Live engines, what is compared with them, and what is rolled out.",
        (_PARITY, _COMPARED, _ROLLOUT, _COST),
    ),
}
"""The dashboards by the names of their files."""
