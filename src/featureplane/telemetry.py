"""What a running program says of itself: counted in plain integers, and logged in one form.

Numbers are kept by whoever has them and gathered into one picture by `Telemetry.publish`, now and then
and at each scrape; `exposition` writes that picture in the text that Prometheus reads. Every metric is
declared here once. `log_event` is a line of the log with named values; `log_to` chooses its form.
Leans on `errors`; `prometheus_client` (extra `ops`) is loaded when it is asked for.
"""

from __future__ import annotations

import json
import logging
import math
import traceback
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

from featureplane.errors import ExtraUnavailable, SettingError

__all__ = [
    "LATENCY_EDGES_NS",
    "LOG_LEVELS",
    "METRICS",
    "Histogram",
    "Labels",
    "Metric",
    "Number",
    "Picture",
    "Telemetry",
    "exposition",
    "json_text",
    "label_names",
    "log_also",
    "log_event",
    "log_to",
    "require_prometheus",
]

LATENCY_EDGES_NS: Final = (
    *(base * times for base in (250, 2_500, 25_000, 250_000) for times in (1, 2, 4)),
    2_500_000,
    5_000_000,
)
"""Upper edges of a latency's buckets: 250 ns to 5 ms."""

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name, what is counted, and its labels; `edges` are those of a histogram."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    says: str
    labels: Labels = ()
    edges: tuple[float, ...] = ()


METRICS: Final = (
    Metric(
        "feature_plane_updates_total",
        "counter",
        "frames by what became of them: `emitted` to strategies, `updated` (computed, not handed out), and "
        "messages that made none: `dropped` by the guard, `error`",
        ("result", "feature_set"),
    ),
    Metric(
        "feature_plane_latency_ns",
        "histogram",
        "from the guard's verdict on a message to its finished frames, without shadow, sampled",
        edges=LATENCY_EDGES_NS,
    ),
    Metric("feature_quality_flags_total", "counter", "frames on which a quality flag rises", ("flag",)),
    Metric(
        "feature_quality_flags_standing",
        "gauge",
        "symbols on whose last frame a quality flag stands",
        ("flag",),
    ),
    Metric(
        "feature_shadow_sample_every",
        "gauge",
        "every so manieth computed frame of a symbol is compared with the shadow; 0: there is none",
    ),
    Metric(
        "feature_shadow_parity_checks_total",
        "counter",
        "frames that were to be compared with the shadow: `match`, `mismatch`, `skipped`, and `error`: lost "
        "by the shadow, and its deaths",
        ("feature_set", "result"),
    ),
    Metric(
        "feature_shadow_parity_mismatch_total",
        "counter",
        "frames in which a feature differs in the shadow, or one of what belongs to no feature: the masks "
        "`_changed` and `_ready`, `_flags`, `_frame` (one that one side alone made, or of another time) and "
        "`_state` (saved state of no one feature)",
        ("feature_set", "feature_id"),
    ),
    Metric("raw_queue_depth", "gauge", "messages between feed and pipeline"),
    Metric("raw_queue_dropped_total", "counter", "messages for which that queue had no room"),
    Metric(
        "pipeline_latency_ns",
        "histogram",
        "time a message spends in a stage that it goes through, sampled; `dispatch` is what the others "
        "leave: handlers and the venue's market",
        ("stage",),
        LATENCY_EDGES_NS,
    ),
    Metric("raw_queue_capacity", "gauge", "messages for which that queue has room"),
    Metric("feed_reconnect_total", "counter", "connections begun anew"),
    Metric(
        "feed_resubscribe_total",
        "counter",
        "symbols begun anew over a connection that stands: behind a full queue",
    ),
    Metric("messages_total", "counter", "messages taken from the queue"),
    Metric("events_dropped_total", "counter", "messages and empty trades not used", ("reason",)),
    Metric("book_broken_total", "counter", "books that broke", ("reason",)),
    Metric("book_whole", "gauge", "1 while nothing is missing in the book of a symbol", ("symbol",)),
    Metric(
        "feature_resets_total",
        "counter",
        "steps at which kernels were reset; beside `first`, `session`, `daily`, `reconnect`, `recovery` and "
        "`explicit` there are `gap`: messages are missing and not waited for, and `restored`: it was pending "
        "in a saved state, which knows no causes. Counted under another cause they would say what did not "
        "happen",
        ("cause",),
    ),
    Metric(
        "features_ready",
        "gauge",
        "1 while the book of a symbol is whole and each feature that its feed can define has had a value",
        ("symbol",),
    ),
    Metric(
        "feature_set_info",
        "gauge",
        "1 for the set that is computed, 0 for those that were before",
        ("feature_set", "fingerprint", "backend"),
    ),
    Metric(
        "strategy_divergence_total",
        "counter",
        "times that the legacy form running silently beside a strategy decided otherwise",
        ("strategy",),
    ),
    Metric("feature_candidate_lost_total", "counter", "candidates that an error of their own ended"),
    Metric("feature_rollout_phase", "gauge", "1 for the phase that the rollout is in", ("phase",)),
    Metric(
        "feature_rollout_compared_total",
        "counter",
        "frames of candidates that were compared with the active version's, whatever came of it",
    ),
    Metric(
        "feature_rollout_rollback_total",
        "counter",
        "versions that were rolled back, by people and by themselves, over the whole history",
        ("cause",),
    ),
    Metric(
        "feature_rollout_frozen",
        "gauge",
        "1 while the state of the rollout cannot be read or followed, or not be written when it has to be",
    ),
    Metric(
        "feature_rollout_criterion_reached",
        "gauge",
        "1 for each criterion that the candidate has reached; 0 without one",
        ("criterion",),
    ),
    Metric(
        "strategy_decisions_total",
        "counter",
        "what strategies asked for: `submit`, `cancel`",
        ("strategy", "kind"),
    ),
    Metric("risk_refused_total", "counter", "orders the risk check refused", ("code",)),
    Metric("order_events_total", "counter", "what became of orders", ("status",)),
    Metric("strategy_running", "gauge", "1 while a strategy runs", ("strategy",)),
    Metric("strategy_stopped_total", "counter", "strategies stopped by an error", ("strategy",)),
    Metric("strategy_exceptions_total", "counter", "exceptions that left a handler", ("strategy", "handler")),
    Metric(
        "strategy_over_budget_total",
        "counter",
        "handlers that took longer than they may",
        ("strategy", "handler"),
    ),
    Metric("subscriber_stopped_total", "counter", "subscribers that stopped themselves", ("subscriber",)),
)
"""Every metric of a running service; a store declares its own."""


class Histogram:
    """How often a value lay in which bucket; `counts` has one more than there are edges."""

    __slots__ = ("_edges", "counts", "total")

    def __init__(self, edges: tuple[int, ...] = LATENCY_EDGES_NS) -> None:
        self._edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.total = 0

    def observe(self, value: int) -> None:
        """Count a value; it lies in the first bucket whose edge is not below it."""
        self.counts[bisect_left(self._edges, value)] += 1
        self.total += value


Number = float | tuple[tuple[int, ...], float]
"""A count, or the counts and the sum of a histogram."""

Picture = Mapping[str, Mapping[Labels, Number]]
"""All numbers at one moment, by metric and the values of its labels."""


@dataclass(slots=True)
class Telemetry:
    """Gathers what its parts count.

    A part is a function that writes its numbers into a table, with `put`. `picture` is what was published
    last: it is never changed, another one takes its place.
    """

    parts: list[Callable[[Telemetry], None]] = field(default_factory=list)
    picture: Picture = field(default_factory=dict)
    _table: dict[str, dict[Labels, Number]] = field(default_factory=dict)

    def put(self, metric: str, value: int | Histogram, *labels: str) -> None:
        """Note the number of a series, in a part."""
        known = _BY_NAME[metric]
        assert len(labels) == len(known.labels)
        number: Number = value if isinstance(value, int) else (tuple(value.counts), value.total)
        self._table.setdefault(metric, {})[labels] = number

    def put_only(self, metric: str, *labels: str) -> None:
        """Note 1 for a series, and 0 for all others that this metric has had."""
        for others in self._table.get(metric, ()):
            self.put(metric, 0, *others)
        self.put(metric, 1, *labels)

    def put_all(self, metric: str, counts: Mapping[str, int], *before: str) -> None:
        """Note the numbers of series that differ in their last label."""
        for label, count in counts.items():
            self.put(metric, count, *before, label)

    def end_others(self, label: str, values: Collection[str]) -> None:
        """Let the series end whose label has another value than these."""
        for name, series in self._table.items():
            names = _BY_NAME[name].labels
            if label in names:
                at = names.index(label)
                for labels in [one for one in series if one[at] not in values]:
                    del series[labels]

    def publish(self) -> Picture:
        """Ask all parts, and make what they say the picture."""
        for part in self.parts:
            part(self)
        self.picture = {name: dict(series) for name, series in self._table.items()}
        return self.picture


_BY_NAME: Final = {one.name: one for one in METRICS}


def label_names(metric: str) -> Labels:
    """The names of a metric's labels."""
    return _BY_NAME[metric].labels


def require_prometheus() -> None:
    """Raise `ExtraUnavailable` where what Prometheus reads cannot be written."""
    try:
        import prometheus_client  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise ExtraUnavailable("prometheus-client", "ops", str(error)) from error


def exposition(picture: Picture, declared: Iterable[Metric] = METRICS) -> tuple[bytes, str]:
    """A picture of metrics that are declared as Prometheus reads it, and the type of that text.

    Raises `ExtraUnavailable` without the extra `ops`.
    """
    require_prometheus()
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - an extra
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest  # noqa: PLC0415 - as above

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(picture, {one.name: one for one in declared}))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector:
    """What `prometheus_client` asks for."""

    def __init__(self, picture: Picture, declared: Mapping[str, Metric]) -> None:
        self._picture, self._declared = picture, declared

    def describe(self) -> Iterable[Any]:
        """Nothing in advance: the names are checked where they are declared."""
        return ()

    def collect(self) -> Iterator[Any]:
        """A family a metric."""
        from prometheus_client import core  # noqa: PLC0415 - an extra

        kinds: dict[str, Any] = {
            "counter": core.CounterMetricFamily,
            "gauge": core.GaugeMetricFamily,
            "histogram": core.HistogramMetricFamily,
        }
        for name, series in self._picture.items():
            metric = self._declared[name]
            family = kinds[metric.kind](name, metric.says, labels=metric.labels)
            for labels, number in series.items():
                if isinstance(number, tuple):
                    buckets = _cumulative(metric.edges, number[0])
                    family.add_metric(labels, buckets=buckets, sum_value=number[1])
                else:
                    family.add_metric(labels, number)
            yield family


def _cumulative(edges: tuple[float, ...], counts: tuple[int, ...]) -> list[tuple[str, float]]:
    below, out = 0, []
    for edge, count in zip((*map(str, edges), "+Inf"), counts, strict=True):
        below += count
        out.append((edge, float(below)))
    return out


def log_event(logger: logging.Logger, level: int, text: str, **fields: object) -> None:
    """A line of the log, with named values beside its text."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s", text, extra={"fields": fields}, stacklevel=2)


@contextmanager
def log_to(stream: TextIO, *, as_json: bool, level: str = "info") -> Iterator[None]:
    """Write the log there meanwhile, and nowhere else: one JSON object a line, or a line to read.

    Raises `SettingError` for a level that is none.
    """
    if level not in LOG_LEVELS:
        raise SettingError(f"log level {level!r}", hint=f"choose one of {', '.join(LOG_LEVELS)}")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonLines() if as_json else _Readable())
    root, ours = logging.getLogger(), logging.getLogger("featureplane")
    before = root.handlers[:], root.level, ours.level
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    ours.setLevel(level.upper())
    try:
        yield
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])


@contextmanager
def log_also(keep: Callable[[Mapping[str, object]], None]) -> Iterator[None]:
    """Hand every line of the log to `keep` too meanwhile, as an object; one at a time, from any thread."""
    handler = _Kept(keep)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


class _Kept(logging.Handler):
    """Hands lines on."""

    def __init__(self, keep: Callable[[Mapping[str, object]], None]) -> None:
        super().__init__()
        self._keep = keep

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self._keep(_as_object(record))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    given = getattr(record, "fields", None)
    fields: dict[str, object] = dict(given) if isinstance(given, dict) else {}
    if record.exc_info and record.exc_info[0] is not None:
        fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
    return fields


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json_text(_as_object(record))


def _as_object(record: logging.LogRecord) -> dict[str, object]:
    line: dict[str, object] = {
        "time": _time(record),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    for name, value in _fields(record).items():
        line.setdefault(name, value)
    return line


def json_text(line: Mapping[str, object]) -> str:
    """An object as one line of JSON, whatever is in it."""
    # WHY text: NaN and infinity are no JSON, and a log line is to be readable whatever is in it.
    plain = {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in line.items()
    }
    return json.dumps(plain, default=str)


class _Readable(logging.Formatter):
    """Text first, then names and values; one line whatever is in them."""

    def format(self, record: logging.LogRecord) -> str:
        values = "".join(f"  {name}={_shown(value)}" for name, value in _fields(record).items())
        room = record.name.removeprefix("featureplane.")
        return (
            f"{_time(record)} {record.levelname.lower():7} {room}: {_harmless(record.getMessage())}{values}"
        )


def _shown(value: object) -> str:
    text = str(value)
    return json.dumps(text) if any(c in text for c in ' ="') or not text.isprintable() else text


def _harmless(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
