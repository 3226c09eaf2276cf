"""Every alert of a store, judged by promtool, and who is told of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from featureplane.ops.alerting import Alert
from featureplane.ops.alertmanager import routes
from featureplane.ops.rules import PAGES, store_rules_text
from featureplane.ops.store_alerts import STORE_ALERTS, STORE_ALWAYS, STORE_RECORDS
from featureplane.research.store.measures import METRICS
from tests.contract.project import ROOT
from tests.prometheus import promtool

AT = 'job="featurestore",instance="s:8000"'
HERE = {"job": "featurestore", "instance": "s:8000"}
MINUTES = 420


def requests(result: str) -> str:
    return f'featurestore_requests_total{{{AT},result="{result}"}}'


def of_symbol(result: str) -> str:
    return f'featurestore_symbol_requests_total{{{AT},symbol="X",result="{result}"}}'


def misses(cause: str) -> str:
    return f'featurestore_misses_total{{{AT},cause="{cause}"}}'


def series(name: str) -> str:
    return f"{name}{{{AT}}}"


def frames(result: str) -> str:
    return f'feature_consistency_frames_total{{{AT},result="{result}"}}'


WELL = {
    series("up"): f"1x{MINUTES}",
    requests("hit"): f"0+970x{MINUTES}",
    requests("coalesced"): f"0+10x{MINUTES}",
    requests("miss"): f"0+20x{MINUTES}",
    requests("corrupt"): f"0x{MINUTES}",
    requests("warm"): f"0+5000x{MINUTES}",
    requests("open_day"): f"0+500x{MINUTES}",
    requests("read_only"): f"0+500x{MINUTES}",
    of_symbol("hit"): f"0+98x{MINUTES}",
    of_symbol("miss"): f"0+2x{MINUTES}",
    misses("new_data"): f"0+20x{MINUTES}",
    misses("evicted"): f"0x{MINUTES}",
    series("featurestore_disk_used_ratio"): f"0.84x{MINUTES}",
    series("featurestore_manifest_readable"): f"1x{MINUTES}",
    frames("equal"): f"0+9x{MINUTES}",
    frames("different"): f"0x{MINUTES}",
}
"""A store of which much is asked, for seven hours; two in a hundred are misses."""


def turned(before: int, rate: int, minutes: int, then: int) -> str:
    """A counter that grows by `before` a minute, and by `rate` in the last minutes before the end."""
    steady = MINUTES - minutes
    return f"0+{before}x{steady} {before * steady + rate}+{rate}x{then}"


def missing_for(minutes: int, hits: int, missed: int) -> dict[str, str]:
    return {
        requests("hit"): turned(970, hits, minutes, minutes),
        requests("coalesced"): f"0+10x{MINUTES - minutes} {10 * (MINUTES - minutes)}x{minutes}",
        requests("miss"): turned(20, missed, minutes, minutes),
    }


@dataclass(frozen=True)
class Case:
    """What makes an alert fire at the end."""

    changes: dict[str, str]
    value: str = ""
    gone: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    at: dict[str, str] = field(default_factory=lambda: dict(HERE))


CASES = {
    "FeatureStoreHitRatioLow": Case(missing_for(20, 900, 100), "90%"),
    "FeatureStoreHitRatioCritical": Case(missing_for(15, 0, 1000), "0%"),
    "FeatureStoreSymbolHitRatioLow": Case(
        {of_symbol("hit"): turned(98, 1, 40, 40), of_symbol("miss"): turned(2, 3, 40, 40)},
        "25%",
        labels={"symbol": "X"},
    ),
    "FeatureStoreBudgetBurnFast": Case(missing_for(90, 250, 750), "75%"),
    "FeatureStoreBudgetBurnSlow": Case(missing_for(400, 600, 400), "40%"),
    "FeatureStoreBudgetBurnLong": Case(
        {requests("hit"): f"0+890x{MINUTES}", requests("miss"): f"0+100x{MINUTES}"}, "10%"
    ),
    "FeatureStoreThrashing": Case({misses("evicted"): turned(0, 40, 40, 40)}, "600"),
    "FeatureStoreDiskHigh": Case({series("featurestore_disk_used_ratio"): f"0.86x{MINUTES}"}, "86%"),
    "FeatureStoreDiskCritical": Case({series("featurestore_disk_used_ratio"): f"0.91x{MINUTES}"}, "91%"),
    "FeatureStoreCorrupt": Case({requests("corrupt"): turned(0, 1, 60, 60)}, "59"),
    "FeatureStoreManifestUnreadable": Case({series("featurestore_manifest_readable"): f"0x{MINUTES}"}),
    "FeatureStoreInconsistent": Case({frames("different"): turned(0, 1, 60, 60)}, "59"),
    "FeatureStoreAbsent": Case({}, gone="*", at={"job": "featurestore"}),
    "FeatureStoreNoTraffic": Case({}, gone="*", at={}),
    "FeatureStoreSeriesMissing": Case(
        {}, gone="featurestore_disk_used_ratio", labels={"series": "featurestore_disk_used_ratio"}
    ),
}


def judge(folder: Path, given: dict[str, str], alerts: dict[str, list[dict[str, Any]]]) -> None:
    """Let promtool say whether these series make exactly these alerts at the end."""
    rules = folder / "rules.yml"
    rules.write_text(store_rules_text(), encoding="utf-8")
    asked = [
        {"eval_time": f"{MINUTES - 1}m", "alertname": name, "exp_alerts": one} for name, one in alerts.items()
    ]
    told = [{"series": name, "values": values} for name, values in given.items()]
    file = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "group_eval_order": ["featurestore-records", "featurestore-slo"],
        "tests": [{"interval": "1m", "input_series": told, "alert_rule_test": asked}],
    }
    written = folder / "tests.yml"
    written.write_text(json.dumps(file), encoding="utf-8")
    promtool("test", "rules", str(written))


def expected(alert: Alert, case: Case) -> dict[str, Any]:
    def shown(text: str) -> str:
        for name, value in {**case.at, **case.labels}.items():
            text = text.replace(f"{{{{ $labels.{name} }}}}", value)
        return re.sub(r"\{\{ \$value( \| \w+)? \}\}", case.value, text)

    return {
        "exp_labels": {**case.at, **case.labels, "severity": alert.severity, **dict(alert.labels)},
        "exp_annotations": {
            "summary": shown(alert.summary),
            "description": shown(alert.description),
            "runbook": f"{PAGES}/{alert.page}.md",
        },
    }


def without(name: str) -> dict[str, str]:
    """All is well, but for a metric that is not there."""
    return {} if name == "*" else {one: v for one, v in WELL.items() if one.partition("{")[0] != name}


def test_the_rules_are_sound(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(store_rules_text(), encoding="utf-8")
    found = f"{len(STORE_ALERTS) + len(STORE_RECORDS)} rules found"
    assert found in promtool("check", "rules", str(rules))


def test_all_is_quiet_while_all_is_well(tmp_path: Path) -> None:
    judge(tmp_path, WELL, {alert.name: [] for alert in STORE_ALERTS})


@pytest.mark.parametrize("alert", STORE_ALERTS, ids=lambda alert: alert.name)
def test_it_fires(alert: Alert, tmp_path: Path) -> None:
    case = CASES[alert.name]
    given = (without(case.gone) if case.gone else WELL) | case.changes
    judge(tmp_path, given, {alert.name: [expected(alert, case)]})


RATIOS = [one for one in STORE_ALERTS if "Ratio" in one.name or "Burn" in one.name]


@pytest.mark.parametrize("results", [("warm",), ("read_only", "open_day"), ()], ids=str)
def test_what_is_no_miss_fires_nothing_of_the_ratio(results: tuple[str, ...], tmp_path: Path) -> None:
    """Nobody asks, only warming does, or only a root that takes nothing is asked: no ratio."""
    still = {
        name: f"0+100x{MINUTES}" if any(f'"{one}"' in name for one in results) else f"7x{MINUTES}"
        for name in WELL
        if "requests_total" in name
    }
    case = CASES["FeatureStoreNoTraffic"]
    alert = next(one for one in STORE_ALERTS if one.name == "FeatureStoreNoTraffic")
    quiet: dict[str, list[dict[str, Any]]] = {one.name: [] for one in RATIOS}
    judge(tmp_path, WELL | still, {**quiet, "FeatureStoreAbsent": [], alert.name: [expected(alert, case)]})


@pytest.mark.parametrize("name", STORE_ALWAYS)
def test_without_its_series_a_rule_is_quiet_and_their_absence_is_told(name: str, tmp_path: Path) -> None:
    blind = {"FeatureStoreAbsent", "FeatureStoreNoTraffic", "FeatureStoreSeriesMissing"}
    quiet: dict[str, list[dict[str, Any]]] = {
        one.name: [] for one in STORE_ALERTS if name in one.expr and one.name not in blind
    }
    missing = next(one for one in STORE_ALERTS if one.name == "FeatureStoreSeriesMissing")
    told = expected(missing, Case({}, labels={"series": name}))
    judge(tmp_path, without(name), {**quiet, missing.name: [told]})


def test_every_alert_has_a_case_a_page_and_its_labels() -> None:
    assert set(CASES) == {one.name for one in STORE_ALERTS}
    page = (ROOT / PAGES / "featurestore-slo.md").read_text(encoding="utf-8")
    for one in STORE_ALERTS:
        assert one.page == "featurestore-slo"
        assert f"`{one.name}`" in page
        critical = one.severity == "critical"
        first = "dev-data-oncall,platform-oncall" if critical else "dev-data-oncall"
        assert dict(one.labels) == {"first_responder": first, "escalate_after": "0m" if critical else "30m"}


def test_what_rules_read_is_declared() -> None:
    known = {one.name for one in METRICS} | {one.name for one in STORE_RECORDS} | {"up"}
    for expr in (*(one.expr for one in STORE_ALERTS), *(one.expr for one in STORE_RECORDS)):
        read = set(re.findall(r"feature[a-z_:0-9]+", re.sub(r'"[^"]*"', "", expr)))
        assert read
        assert read <= known


def told(alert: Alert) -> list[tuple[str, str, bool]]:
    """Who is told, after how long, and whether that is muted at times: Alertmanager's walk through routes."""
    labels = {"alertname": alert.name, "severity": alert.severity, **dict(alert.labels)}
    found = []
    for route in routes()["route"]["routes"]:
        matchers = [re.fullmatch(r'(\w+)(=~?)"(.*)"', one) for one in route["matchers"]]
        assert all(matchers)
        parts = [one.groups() for one in matchers if one is not None]
        if all(
            re.fullmatch(value if how == "=~" else re.escape(value), labels[n]) for n, how, value in parts
        ):
            found.append((route["receiver"], route["group_wait"], "mute_time_intervals" in route))
            if not route.get("continue"):
                break
    return found


@pytest.mark.parametrize("alert", STORE_ALERTS, ids=lambda alert: alert.name)
def test_three_levels_are_told(alert: Alert) -> None:
    waits = "0s" if alert.severity == "critical" else "30m"
    muted = alert.name == "FeatureStoreNoTraffic"
    assert told(alert) == [("platform-oncall", waits, muted), ("dev-data-oncall", "0s", muted)]
    assert {one["name"] for one in routes()["receivers"]} == {"dev-data-oncall", "platform-oncall"}
