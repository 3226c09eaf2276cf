"""The alerts of a store: its objective, what threatens it, and who is told when.

Leans on the names of metrics, which stand in `research.measures`; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from featureplane.ops.alerting import ON, Alert, Record
from featureplane.research.store.objective import OBJECTIVE

__all__ = ["STORE_ALERTS", "STORE_ALWAYS", "STORE_JOB", "STORE_RECORDS"]

STORE_JOB: Final = "featurestore"
"""The `job` under which `featureplane store serve` is scraped."""

_PAGE: Final = "featurestore-slo"
_BUDGET: Final = 1 - OBJECTIVE
_REQUESTS: Final = "featurestore_requests_total"
_GOOD: Final = 'result=~"hit|coalesced"'
_BAD: Final = 'result=~"miss|corrupt"'
_ALL: Final = 'result=~"hit|coalesced|miss|corrupt"'
_BY: Final = "sum by (job, instance)"


def _part(counter: str, which: str, span: str, by: str = _BY) -> str:
    return f"{by} (rate({counter}{{{which}}}[{span}])) / {by} (rate({counter}{{{_ALL}}}[{span}]))"


STORE_RECORDS: Final = (
    Record("featurestore:hit_ratio_5m", _part(_REQUESTS, _GOOD, "5m")),
    Record("featurestore:request_rate_5m", f"{_BY} (rate({_REQUESTS}{{{_ALL}}}[5m]))"),
    *(
        Record(f"featurestore:miss_ratio_{span}", _part(_REQUESTS, _BAD, span))
        for span in ("5m", "30m", "1h", "6h", "3d")
    ),
)

STORE_ALWAYS: Final = (
    _REQUESTS,
    "featurestore_misses_total",
    "featurestore_disk_used_ratio",
    "featurestore_manifest_readable",
    "feature_consistency_frames_total",
)
"""Series that rules read and that an exporter has from its start."""

_SYMBOL: Final = "featurestore_symbol_requests_total"
_BY_SYMBOL: Final = "sum by (job, instance, symbol)"


def _burn(times: float, long: str, short: str) -> str:
    most = f"{times * _BUDGET:.3g}"
    return f"featurestore:miss_ratio_{long} > {most} and {ON} featurestore:miss_ratio_{short} > {most}"


def _told(alert: Alert) -> Alert:
    """With the labels by which it is routed."""
    critical = alert.severity == "critical"
    first = "dev-data-oncall,platform-oncall" if critical else "dev-data-oncall"
    return replace(
        alert, labels=(("first_responder", first), ("escalate_after", "0m" if critical else "30m"))
    )


def _warning(name: str, expr: str, summary: str, description: str, lasts: str = "0m") -> Alert:
    return _told(Alert(name, "warning", expr, _PAGE, summary, description, lasts))


def _critical(name: str, expr: str, summary: str, description: str, lasts: str = "0m") -> Alert:
    return _told(Alert(name, "critical", expr, _PAGE, summary, description, lasts))


_RATIO: Final = (
    _warning(
        "FeatureStoreHitRatioLow",
        f"featurestore:hit_ratio_5m < {OBJECTIVE}",
        "{{ $value | humanizePercentage }} of the requested days are there",
        "The objective is 95 %. `featurestore_misses_total` says why days had to be computed.",
        "10m",
    ),
    _critical(
        "FeatureStoreHitRatioCritical",
        "featurestore:hit_ratio_5m < 0.80",
        "only {{ $value | humanizePercentage }} of the requested days are there",
        "More than every fifth day is computed while somebody waits for it.",
        "5m",
    ),
    _warning(
        "FeatureStoreSymbolHitRatioLow",
        f"{_part(_SYMBOL, _GOOD, '15m', _BY_SYMBOL)} < 0.80 "
        f"and on (job, instance, symbol) {_BY_SYMBOL} (increase({_SYMBOL}{{{_ALL}}}[15m])) >= 20",
        "{{ $value | humanizePercentage }} of the days of {{ $labels.symbol }} are there",
        "Of at least twenty days asked for in a quarter of an hour.",
        "10m",
    ),
    _critical(
        "FeatureStoreBudgetBurnFast",
        _burn(14.4, "1h", "5m"),
        "the error budget is spent 14 times as fast as it may be",
        "{{ $value | humanizePercentage }} misses in an hour: two days of this are a month's budget.",
        "2m",
    ),
    _critical(
        "FeatureStoreBudgetBurnSlow",
        _burn(6, "6h", "30m"),
        "the error budget is spent 6 times as fast as it may be",
        "{{ $value | humanizePercentage }} misses in six hours: five days of this are a month's budget.",
        "15m",
    ),
    _warning(
        "FeatureStoreBudgetBurnLong",
        _burn(1, "3d", "6h"),
        "the error budget does not last",
        "{{ $value | humanizePercentage }} misses in three days; the objective allows 5 %.",
        "1h",
    ),
)

_CAUSES: Final = (
    _warning(
        "FeatureStoreThrashing",
        f'{_BY} (increase(featurestore_misses_total{{cause="evicted"}}[15m])) > 5 '
        f'and {ON} {_BY} (increase(featurestore_misses_total{{cause="evicted"}}[15m])) '
        f"> {ON} 0.5 * {_BY} (increase(featurestore_misses_total[15m]))",
        "days are computed that were evicted a moment ago",
        "{{ $value | humanize }} in a quarter of an hour, most of all misses: what is used does not fit.",
        "5m",
    ),
    _warning(
        "FeatureStoreDiskHigh",
        "featurestore_disk_used_ratio > 0.85",
        "the disk of the store is {{ $value | humanizePercentage }} full",
        "When it is full, days are computed and not stored.",
        "10m",
    ),
    _critical(
        "FeatureStoreDiskCritical",
        "featurestore_disk_used_ratio > 0.90",
        "the disk of the store is {{ $value | humanizePercentage }} full",
        "When it is full, days are computed and not stored.",
        "5m",
    ),
    _warning(
        "FeatureStoreCorrupt",
        f'{_BY} (increase({_REQUESTS}{{result="corrupt"}}[1h])) > 0',
        "{{ $value | humanize }} stored days were damaged",
        "They are in quarantine and were computed again; a disk, or somebody, changes files.",
    ),
    _critical(
        "FeatureStoreManifestUnreadable",
        "featurestore_manifest_readable == 0",
        "the manifest of {{ $labels.instance }} cannot be read",
        "Nothing is found without it; it can be made anew from the files.",
        "2m",
    ),
    _critical(
        "FeatureStoreInconsistent",
        f'{_BY} (increase(feature_consistency_frames_total{{result="different"}}[1h])) > 0',
        "{{ $value | humanize }} frames are other ones when they are computed again",
        "What was stored or emitted and what the code computes now are not the same.",
    ),
)

_BLIND: Final = (
    _warning(
        "FeatureStoreAbsent",
        f'absent({_REQUESTS}{{job="{STORE_JOB}"}})',
        "no store says anything",
        "No target of the job has its series: every other alert of stores is blind.",
        "5m",
    ),
    _warning(
        "FeatureStoreNoTraffic",
        "absent(featurestore:request_rate_5m > 0)",
        "no day that the objective is about has been asked for in an hour",
        "Without such requests there is no ratio; warming, the running day and a root that takes nothing are "
        "none. Muted on Saturday and Sunday (UTC).",
        "1h",
    ),
    _warning(
        "FeatureStoreSeriesMissing",
        " or ".join(
            f'label_replace(up{{job="{STORE_JOB}"}} == 1 unless {ON} {name}, "series", "{name}", "", "")'
            for name in STORE_ALWAYS
        ),
        "{{ $labels.instance }} answers without {{ $labels.series }}",
        "A series that rules read is not there, so they stay quiet whatever happens.",
        "5m",
    ),
)

STORE_ALERTS: Final = (*_RATIO, *_CAUSES, *_BLIND)
"""All alerts of stores."""
