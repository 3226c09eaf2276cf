"""Which alerts a service's numbers make: its own expositions, one after the other, judged by promtool."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families as parsed

from featureplane.ops.rules import rules_text
from tests.prometheus import promtool

Values = dict[str, float]

_LABELS = ("job", "featureplane"), ("instance", "a:8000")
_COUNTED = ("_total", "_bucket", "_count", "_sum")


@dataclass(frozen=True)
class Phase:
    """What a service said for so many minutes, of which counters grew in the first; no text: it is gone."""

    text: str
    minutes: int = 20
    grows: int = 2


def _values(text: str) -> Values:
    return {_named(one.name, one.labels): one.value for family in parsed(text) for one in family.samples}


def _named(name: str, labels: dict[str, str]) -> str:
    pairs = [*_LABELS, *sorted(labels.items())]
    return f"{name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in pairs)}}}"


def _series(phases: Sequence[Phase]) -> list[dict[str, str]]:
    told = [_values(one.text) for one in phases]
    series = []
    for name in sorted(set().union(*told)):
        grows = name.partition("{")[0].endswith(_COUNTED)
        values: list[str] = []
        before = 0.0
        for phase, now in zip(phases, (one.get(name) for one in told), strict=True):
            for minute in range(1, phase.minutes + 1):
                share = min(1.0, minute / phase.grows) if grows and now is not None and now >= before else 1.0
                values.append("_" if now is None else repr(before * (1 - share) + now * share))
            before = now or 0.0
        series.append({"series": name, "values": " ".join(values)})
    up = " ".join(f"{int(bool(one.text))}x{one.minutes - 1}" for one in phases)
    return [*series, {"series": _named("up", {}), "values": up}]


def check_alarms(folder: Path, phases: Sequence[Phase], *alerts: str, over: bool = True) -> None:
    """Alerts are quiet in the first phase, fire in the second, and are over at the end of the last."""
    rules = folder / "rules.yml"
    rules.write_text(rules_text(), encoding="utf-8")
    first, until = phases[0].minutes - 1, sum(one.minutes for one in phases) - 1
    symptom = phases[0].minutes + phases[1].minutes - 1

    def asked_at(at: int, alert: str, *, fires: bool) -> dict[str, object]:
        firing = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
        expr = f"count(count_over_time({firing}[{phases[1].minutes}m])) > bool 0" if fires else firing
        samples = [{"labels": "{}", "value": 1}] if fires else []
        return {"expr": expr, "eval_time": f"{at}m", "exp_samples": samples}

    asked = [asked_at(first, alert, fires=False) for alert in alerts]
    asked += [asked_at(symptom, alert, fires=True) for alert in alerts]
    asked += [asked_at(until, alert, fires=False) for alert in alerts if over]
    test = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": _series(phases), "promql_expr_test": asked}],
    }
    path = folder / "alarms.yml"
    path.write_text(json.dumps(test), encoding="utf-8")
    promtool("test", "rules", str(path))
