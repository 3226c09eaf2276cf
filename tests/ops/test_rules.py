"""Every alert, judged by promtool: quiet while all is well, firing when it should, told of when blind."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from featureplane.ops.alerting import JOB, Alert
from featureplane.ops.alerts import ALERTS, ALWAYS_THERE
from featureplane.ops.rules import PAGES, RECORDS, rules_text
from featureplane.ops.shipped import RULES
from featureplane.telemetry import METRICS
from tests.contract.project import ROOT
from tests.prometheus import promtool

TABLE = re.compile(r"^\| \[[^]]+\]\(\.\./runbooks/([a-z-]+)\.md\) \| (`.*) \|$", re.MULTILINE)
"""Rows of the table of pages: the page, and the alerts that name it."""

Series = dict[str, str]
"""Values by series, in promtool's notation: one a minute."""

AT = 'job="featureplane",instance="a:8000"'
MADE_BY_PROMETHEUS = {"up"}
WELL: Series = {
    f"up{{{AT}}}": "1x60",
    f"messages_total{{{AT}}}": "0+6000x60",
    f"raw_queue_depth{{{AT}}}": "3x60",
    f"raw_queue_capacity{{{AT}}}": "16384x60",
    f"raw_queue_dropped_total{{{AT}}}": "0x60",
    f"feed_reconnect_total{{{AT}}}": "0x60",
    f"feed_resubscribe_total{{{AT}}}": "0x60",
    f'events_dropped_total{{{AT},reason="late"}}': "0x60",
    f'book_broken_total{{{AT},reason="gap"}}': "0x60",
    f'book_whole{{{AT},symbol="X"}}': "1x60",
    f'features_ready{{{AT},symbol="X"}}': "1x60",
    f'feature_resets_total{{{AT},cause="session"}}': "0+5x60",
    f'feature_resets_total{{{AT},cause="recovery"}}': "0x60",
    f'feature_quality_flags_total{{{AT},flag="gap"}}': "0+5x60",
    f'feature_quality_flags_total{{{AT},flag="out_of_order"}}': "0x60",
    f'feature_quality_flags_standing{{{AT},flag="stale_input"}}': "0x60",
    f'feature_quality_flags_standing{{{AT},flag="partial"}}': "1x60",
    f'feature_plane_updates_total{{{AT},feature_set="s",result="emitted"}}': "0+3000x60",
    f'feature_plane_updates_total{{{AT},feature_set="s",result="updated"}}': "0x60",
    f'feature_plane_updates_total{{{AT},feature_set="s",result="error"}}': "0x60",
    f'feature_plane_latency_ns_bucket{{{AT},le="5000"}}': "0+300x60",
    f'feature_plane_latency_ns_bucket{{{AT},le="5000000"}}': "0+300x60",
    f'feature_plane_latency_ns_bucket{{{AT},le="+Inf"}}': "0+300x60",
    f'pipeline_latency_ns_bucket{{{AT},stage="book",le="+Inf"}}': "0+300x60",
    f'feature_set_info{{{AT},backend="rust",feature_set="s",fingerprint="f"}}': "1x60",
    f"feature_shadow_sample_every{{{AT}}}": "256x60",
    f'feature_shadow_parity_checks_total{{{AT},feature_set="s",result="match"}}': "0+12x60",
    f'feature_shadow_parity_checks_total{{{AT},feature_set="s",result="mismatch"}}': "0x60",
    f'feature_shadow_parity_checks_total{{{AT},feature_set="s",result="skipped"}}': "0x60",
    f'feature_shadow_parity_checks_total{{{AT},feature_set="s",result="error"}}': "0x60",
    f'feature_rollout_phase{{{AT},phase="active"}}': "1x60",
    f'feature_rollout_phase{{{AT},phase="shadow"}}': "0x60",
    f'feature_rollout_phase{{{AT},phase="canary"}}': "0x60",
    f'feature_rollout_rollback_total{{{AT},cause="kernel"}}': "3x60",
    f"feature_rollout_frozen{{{AT}}}": "0x60",
    f"feature_rollout_compared_total{{{AT}}}": "0x60",
    f'strategy_running{{{AT},strategy="mm"}}': "1x60",
    f'strategy_stopped_total{{{AT},strategy="mm"}}': "0x60",
    f'strategy_over_budget_total{{{AT},strategy="mm",handler="on_features"}}': "0x60",
    f'subscriber_stopped_total{{{AT},subscriber="recorder"}}': "0x60",
}
"""A service in which nothing is wrong, for an hour."""


@dataclass(frozen=True)
class Case:
    """What makes an alert fire at a minute: series that go otherwise for a while before, or at all times.

    `labels` are those of the alert beside job and instance, `value` how its value is shown. `gone`: series
    whose absence is what is wrong.
    """

    changes: Series
    labels: dict[str, str] = field(default_factory=dict)
    value: str = ""
    gone: tuple[str, ...] = ()
    minute: int = 50
    at: dict[str, str] = field(default_factory=lambda: {"job": "featureplane", "instance": "a:8000"})


CASES = {
    "FeatureplaneDown": Case({f"up{{{AT}}}": "1x40 0x20"}),
    "FeatureplaneAbsent": Case({f"up{{{AT}}}": "0x60"}, gone=("*",), at={"job": "featureplane"}),
    "FeatureplaneSeriesMissing": Case({}, {"series": "book_whole"}, gone=("book_whole",)),
    "FeedSilent": Case({f"messages_total{{{AT}}}": "0+6000x40 240000x20"}),
    "FeedStale": Case(
        {f'feature_quality_flags_standing{{{AT},flag="stale_input"}}': "0x40 2x20"},
        {"flag": "stale_input"},
        "2",
    ),
    "BookGapStorm": Case({f'book_broken_total{{{AT},reason="gap"}}': "0x40 0+2x20"}, value="10"),
    "FeatureResetStorm": Case({f'feature_resets_total{{{AT},cause="recovery"}}': "0x40 0+2x20"}, value="10"),
    "FeedReconnectStorm": Case(
        {f"feed_reconnect_total{{{AT}}}": "0x40 0+1x20", f"feed_resubscribe_total{{{AT}}}": "0x40 0+1x20"},
        value="10",
    ),
    "BookNotWhole": Case({f'book_whole{{{AT},symbol="X"}}': "1x40 0x20"}, {"symbol": "X"}),
    "FeedOutOfOrder": Case(
        {f'feature_quality_flags_total{{{AT},flag="out_of_order"}}': "0x40 0+3x20"}, value="15"
    ),
    "WarmUpIncomplete": Case({f'features_ready{{{AT},symbol="X"}}': "1x30 0x30"}, {"symbol": "X"}),
    "RawQueueNearFull": Case({f"raw_queue_depth{{{AT}}}": "3x40 15000x20"}, value="91.55%"),
    "RawQueueDropping": Case({f"raw_queue_dropped_total{{{AT}}}": "0x40 0+4x20"}, value="20"),
    "FeaturePlaneSlow": Case(
        {f'feature_plane_latency_ns_bucket{{{AT},le="5000"}}': "0+300x40 12000x20"}, value="4.95M"
    ),
    "StrategyOverBudget": Case(
        {f'strategy_over_budget_total{{{AT},strategy="mm",handler="on_features"}}': "0x40 0+3x20"},
        {"strategy": "mm"},
        "15",
    ),
    "StrategyStopped": Case(
        {
            f'strategy_running{{{AT},strategy="mm"}}': "1x40 0x20",
            f'strategy_stopped_total{{{AT},strategy="mm"}}': "0x40 1x20",
        },
        {"strategy": "mm"},
    ),
    "RecordingStopped": Case(
        {f'subscriber_stopped_total{{{AT},subscriber="recorder"}}': "0x40 1x20"}, {"subscriber": "recorder"}
    ),
    "MessagesUnreadable": Case(
        {f'feature_plane_updates_total{{{AT},feature_set="s",result="error"}}': "0x40 0+3x20"}, value="15"
    ),
    "FeatureSetsDiffer": Case(
        {
            f'feature_set_info{{{AT},backend="rust",feature_set="s",fingerprint="f"}}': "1x60",
            'feature_set_info{job="featureplane",instance="b:8000",backend="rust",feature_set="s",'
            'fingerprint="g"}': "1x60",
        },
        {"feature_set": "s"},
        "2",
        at={"job": "featureplane"},
    ),
    "ShadowMismatch": Case(
        {f'feature_shadow_parity_checks_total{{{AT},feature_set="s",result="mismatch"}}': "0x45 1x15"},
        {"feature_set": "s"},
        "1",
    ),
    "ShadowNotComparing": Case(
        {f'feature_shadow_parity_checks_total{{{AT},feature_set="s",result="match"}}': "0+12x20 240x40"}
    ),
    "ShadowSkipping": Case(
        {f'feature_shadow_parity_checks_total{{{AT},feature_set="s",result="skipped"}}': "0+36x60"},
        value="75%",
    ),
    "ShadowFailing": Case(
        {f'feature_shadow_parity_checks_total{{{AT},feature_set="s",result="error"}}': "0x40 0+1x20"},
        value="9",
    ),
    "RolloutRolledBack": Case(
        {f'feature_rollout_rollback_total{{{AT},cause="kernel"}}': "3x45 4x15"}, {"cause": "kernel"}
    ),
    "RolloutFrozen": Case({f"feature_rollout_frozen{{{AT}}}": "0x40 1x20"}),
    "RolloutNotComparing": Case(
        {
            f'feature_rollout_phase{{{AT},phase="shadow"}}': "1x60",
        },  # the other backend is compared all the while
        {"phase": "shadow"},
    ),
    "RolloutLeftInCanary": Case(
        {f'feature_rollout_phase{{{AT},phase="canary"}}': "1x1500"}, {"phase": "canary"}, minute=1450
    ),
}


def metric_of(series: str) -> str:
    """The name of a series."""
    return series.partition("{")[0]


def named_in(expr: str) -> set[str]:
    """The metrics an expression reads, records resolved."""
    for record in RECORDS:
        expr = expr.replace(record.name, f"({record.expr})")
    known = {one.name for one in METRICS} | {f"{one.name}_bucket" for one in METRICS} | MADE_BY_PROMETHEUS
    words = set(re.findall(r"[a-z_:]{2,}", re.sub(r'"[^"]*"', "", expr)))
    return words & known


def shown(text: str, case: Case) -> str:
    """An annotation as it is sent."""
    for name, value in {**case.at, **case.labels}.items():
        text = text.replace(f"{{{{ $labels.{name} }}}}", value)
    return re.sub(r"\{\{ \$value( \| \w+)? \}\}", case.value, text)


def expected(alert: Alert, case: Case) -> dict[str, Any]:
    """The alert as it is to be sent."""
    return {
        "exp_labels": {**case.at, **case.labels, "severity": alert.severity},
        "exp_annotations": {
            "summary": shown(alert.summary, case),
            "description": shown(alert.description, case),
            "runbook": f"{PAGES}/{alert.page}.md",
        },
    }


def judge(folder: Path, series: Series, alerts: dict[str, list[dict[str, Any]]], minute: int = 50) -> None:
    """Let promtool say whether these series make exactly these alerts."""
    rules = folder / "rules.yml"
    rules.write_text(rules_text(), encoding="utf-8")
    tests = [
        {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": one} for name, one in alerts.items()
    ]
    given = [{"series": name, "values": values} for name, values in series.items()]
    file = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "group_eval_order": ["featureplane-records"],
        "tests": [{"interval": "1m", "input_series": given, "alert_rule_test": tests}],
    }
    written = folder / "tests.yml"
    written.write_text(json.dumps(file), encoding="utf-8")  # JSON is YAML
    promtool("test", "rules", str(written))


def test_the_rules_are_sound(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(rules_text(), encoding="utf-8")
    assert f"{len(ALERTS) + len(RECORDS)} rules found" in promtool("check", "rules", str(rules))


def test_all_is_quiet_while_all_is_well(tmp_path: Path) -> None:
    judge(tmp_path, WELL, {alert.name: [] for alert in ALERTS})


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_it_fires(alert: Alert, tmp_path: Path) -> None:
    case = CASES[alert.name]
    series = {name: values for name, values in WELL.items() if metric_of(name) not in case.gone}
    series = ({} if "*" in case.gone else series) | case.changes
    judge(tmp_path, series, {alert.name: [expected(alert, case)]}, case.minute)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_without_its_series_it_is_quiet_and_their_absence_is_told(alert: Alert, tmp_path: Path) -> None:
    reads = named_in(alert.expr) - MADE_BY_PROMETHEUS
    always = sorted(reads & {*ALWAYS_THERE})
    if alert.name.startswith("Featureplane"):
        always = ["messages_total"]  # it is about what is missing
    series = {name: values for name, values in WELL.items() if metric_of(name) not in {*reads, *always}}
    missing = next(one for one in ALERTS if one.name == "FeatureplaneSeriesMissing")
    told = [expected(missing, Case({}, {"series": name})) for name in always]
    if alert.name == missing.name:
        told = [expected(missing, Case({}, {"series": name})) for name in sorted(reads)]
    quiet: dict[str, list[dict[str, Any]]] = {} if alert.name.startswith("Featureplane") else {alert.name: []}
    judge(tmp_path, series, {**quiet, missing.name: told})


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == {alert.name for alert in ALERTS}
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_it_names_a_page_of_the_runbook_that_names_it(alert: Alert) -> None:
    page = ROOT / PAGES / f"{alert.page}.md"
    assert f"`{alert.name}`" in page.read_text(encoding="utf-8")


def test_what_rules_read_is_declared_and_missed_when_it_is_gone() -> None:
    """A rule over a series that nobody writes is quiet for ever."""
    read = set[str]()
    for expr in (*(alert.expr for alert in ALERTS), *(record.expr for record in RECORDS)):
        names = named_in(expr)
        assert names, expr
        read |= names
    own = {"strategy", "subscriber"}
    labelled = {one.name for one in METRICS if own & set(one.labels)}
    assert read - labelled - MADE_BY_PROMETHEUS == set(ALWAYS_THERE)


def test_the_page_about_operations_says_how_to_load_them_and_lists_them_all(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "concepts" / "operations.md").read_text(encoding="utf-8")
    config = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert config is not None
    (tmp_path / "monitoring").mkdir()
    (tmp_path / "monitoring" / RULES[0]).write_text(rules_text(), encoding="utf-8")
    (tmp_path / "prometheus.yml").write_text(config[1], encoding="utf-8")
    said = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert f"{len(ALERTS) + len(RECORDS)} rules found" in said
    assert f"job_name: {JOB} " in config[1]
    listed = {(page_of, name) for page_of, row in TABLE.findall(page) for name in re.findall(r"`(\w+)`", row)}
    assert listed == {(alert.page, alert.name) for alert in ALERTS}
