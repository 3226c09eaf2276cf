"""The dashboard of a store's objective: which panels, and the query behind each.

Leans on the names of metrics in `research.measures` and of records in `store_alerts`.
"""

from __future__ import annotations

from typing import Final

from featureplane.ops.dashboards import DASHBOARDS, HERE, RATE, Board, Panel, Query, Row
from featureplane.research.store.objective import OBJECTIVE

__all__ = ["BOARDS", "STORE_BOARD", "STORE_FILE"]

STORE_FILE: Final = "featurestore.json"


def _of(metric: str, *more: str) -> str:
    return f"{metric}{{{','.join((HERE, *more))}}}"


def _rate(counter: str, by: str) -> str:
    return f"sum by ({by}) (rate({_of(counter)}[{RATE}]))"


def _p99(name: str) -> str:
    return f"histogram_quantile(0.99, sum by (le) (rate({_of(f'featurestore_{name}_seconds_bucket')}[5m])))"


def _number(title: str, expr: str, says: str, unit: str = "short", **bad: float) -> Panel:
    return Panel(title, "number", (Query(expr),), says, unit, **bad)


def _lines(title: str, says: str, *queries: tuple[str, str], unit: str = "short") -> Panel:
    return Panel(title, "lines", tuple(Query(*one) for one in queries), says, unit)


_SLO: Final = Row(
    "The objective",
    (
        _number(
            "Hit ratio, five minutes",
            f"min({_of('featurestore:hit_ratio_5m')})",
            "Of requested days, those that were there. Without requests there is none.",
            "percentunit",
            bad_below=OBJECTIVE,
        ),
        _number(
            "As the exporter sees it",
            f"min({_of('featurestore_hit_ratio')})",
            "The same, computed where it is counted.",
            "percentunit",
            bad_below=OBJECTIVE,
        ),
        _number("Days asked for a second", f"sum({_of('featurestore:request_rate_5m')})", "Without warming."),
        _number(
            "Alerts",
            'count(ALERTS{alertstate="firing",alertname=~"FeatureStore.+"}) or vector(0)',
            "Of stores, that fire.",
            bad_from=1,
        ),
        _number(
            "Frames that are equal",
            f"min({_of('feature_consistency_ratio')})",
            "Of those that were computed again.",
            "percentunit",
            bad_below=1,
        ),
        _number(
            "Disk", f"max({_of('featurestore_disk_used_ratio')})", "How full.", "percentunit", bad_from=0.85
        ),
        _number(
            "Manifest",
            f"min({_of('featurestore_manifest_readable')})",
            "1 while it can be read.",
            bad_below=1,
        ),
    ),
)

_WHY: Final = Row(
    "What comes of requests",
    (
        _lines(
            "Misses by window",
            "A budget of 5 % burns at the rate of these.",
            *((_of(f"featurestore:miss_ratio_{span}"), span) for span in ("5m", "30m", "1h", "6h", "3d")),
            unit="percentunit",
        ),
        _lines("By result", "Days a second.", (_rate("featurestore_requests_total", "result"), "{{result}}")),
        _lines(
            "Misses by cause",
            "new_data is churn, evicted is thrashing.",
            (_rate("featurestore_misses_total", "cause"), "{{cause}}"),
        ),
        _lines(
            "By symbol",
            "Days a second that the objective is about.",
            (_rate("featurestore_symbol_requests_total", "symbol, result"), "{{symbol}} {{result}}"),
        ),
        _lines(
            "Removed",
            "Files a second, by reason.",
            (_rate("featurestore_evictions_total", "reason"), "{{reason}}"),
        ),
    ),
)

_TIMES: Final = Row(
    "Times and room",
    (
        _lines(
            "p99",
            "Of five minutes.",
            *((_p99(name), name) for name in ("request", "lookup", "read", "compute", "lock_wait")),
            unit="s",
        ),
        _lines(
            "Bytes",
            "By tier, and what both may take.",
            (_of("featurestore_bytes"), "{{tier}}"),
            (_of("featurestore_bytes_max"), "limit"),
            unit="bytes",
        ),
        _lines("Days", "Stored, by tier.", (_of("featurestore_days"), "{{tier}}")),
        _lines(
            "Frames computed again",
            "A second, by whether they are the same.",
            (_rate("feature_consistency_frames_total", "result"), "{{result}}"),
        ),
    ),
)

STORE_BOARD: Final = Board(
    "featurestore-slo",
    "Feature store",
    "How many of the requested days are there, why the others are not, and what that costs.",
    (_SLO, _WHY, _TIMES),
    "featurestore_requests_total",
)

BOARDS: Final = {**DASHBOARDS, STORE_FILE: STORE_BOARD}
"""All dashboards by the names of their files."""
