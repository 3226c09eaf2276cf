"""Every query of every panel, asked of a real Prometheus that scrapes a real service."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from featureplane.ops.alerting import JOB
from featureplane.ops.alerts import ALERTS
from featureplane.ops.rules import RECORDS
from featureplane.ops.shipped import dashboard_files, rule_files
from featureplane.ops.store_dashboard import STORE_FILE
from featureplane.telemetry import METRICS
from tests.contract.project import PACKAGE
from tests.prometheus import Server, executable, free_port, server
from tests.services import INSTRUMENTS, SAMPLE

SPEED = 8
"""The sample is then played in less than a minute, and scraped for long enough to have rates."""

FILLED_S = 60.0
MAY_BE_SLOW = {"too-slow", "stale-feed"}
"""What a machine that does something else as well may be told; everything else is quiet on a sound run."""

MAKER = "mm=featureplane.strategy.examples.market_maker:SharedMarketMaker"
CHOSEN = {"$job": JOB, "$instance": ".*", "$__rate_interval": "5s", "$__range": "1m"}
"""What Grafana puts in the place of its variables."""


def panels(board: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Panels that ask for something."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            assert not panel["panels"], "a row that is folded hides its panels from this test"
        else:
            yield panel


def asked(text: str) -> str:
    """A query as Grafana would send it."""
    for name, value in CHOSEN.items():
        text = text.replace(name, value)
    assert "$" not in text
    return text


def queries() -> dict[str, str]:
    """All queries of the files that are shipped, by file and panel."""
    found = {}
    for name, text in dashboard_files().items():
        if name == STORE_FILE:  # asked of a store, in `test_store_panels`
            continue
        for panel in panels(json.loads(text)):
            for target in panel["targets"]:
                found[f"{name}: {panel['title']} {target['refId']}"] = asked(target["expr"])
    return found


@contextmanager
def running(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A service that plays the sample with a strategy and a shadow, and records it; its address first."""
    address = f"127.0.0.1:{free_port()}"
    words = [sys.executable, "-m", "featureplane", "run", "--source", f"replay:{SAMPLE}@{SPEED}"]
    words += ["--instruments", str(INSTRUMENTS), "--features", "lob_shared_v1", "--strategy", MAKER]
    words += ["--metrics", address, "--record", str(folder / "record"), "--control", "off"]
    settings = {"SHADOW_PARITY": "1", "SHADOW_SAMPLE_EVERY": "4", "LATENCY_SAMPLE_EVERY": "4"}
    env = os.environ | {f"HFT_FEATURE_{name}": value for name, value in settings.items()}
    env["PYTHONPATH"] = str(PACKAGE.parent)  # it runs in another folder
    with (folder / "service.log").open("w+b") as log:
        service = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder, env=env)
        try:
            yield address, service
            assert service.poll() is None, (folder / "service.log").read_text(encoding="utf-8")
        finally:
            service.terminate()
            service.wait(60)


def is_filled(series: list[dict[str, Any]]) -> bool:
    """Whether there is a number that can be drawn."""
    return any(math.isfinite(float(one["value"][1])) for one in series)


def unfilled(
    prometheus: Server, wanted: Mapping[str, str], service: subprocess.Popen[bytes]
) -> dict[str, list[dict[str, Any]]]:
    """What has had no answer with numbers as long as the service ran, and how it was answered last."""
    ends = time.monotonic() + FILLED_S
    missing: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    while missing and service.poll() is None and time.monotonic() < ends:
        time.sleep(0.5)
        seen = {name: prometheus.query(wanted[name]) for name in missing}
        missing = {name: series for name, series in seen.items() if not is_filled(series)}
    return missing


@pytest.mark.native
def test_every_panel_shows_something_of_a_service_that_runs(tmp_path: Path) -> None:
    executable("prometheus")
    rules = []
    for name in ("featureplane.rules.yml",):
        text = rule_files()[name]
        rules.append(tmp_path / name)
        rules[-1].write_text(text, encoding="utf-8")
    wanted = queries() | {f"record {one.name}": one.name for one in RECORDS}
    with (
        running(tmp_path) as (address, service),
        server(tmp_path, {JOB: address}, *rules) as prometheus,
    ):
        assert unfilled(prometheus, wanted, service) == {}
        assert prometheus.ask("label/job/values", **{"match[]": "messages_total{}"}) == [JOB]
        chosen = f'messages_total{{job=~"{JOB}"}}'
        assert prometheus.ask("label/instance/values", **{"match[]": chosen}) == [address]
        groups = prometheus.ask("rules")["groups"]
        firing = {one["metric"]["alertname"] for one in prometheus.query('ALERTS{alertstate="firing"}')}
        health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    names = [*(one.name for one in ALERTS), *(one.name for one in RECORDS)]
    assert health == dict.fromkeys(names, "ok")
    slow = {one.name for one in ALERTS if one.page in MAY_BE_SLOW}
    assert firing - slow == set()


def test_panels_read_what_is_declared() -> None:
    """A panel over a series that nobody writes would be empty for ever."""
    known = {one.name for one in (*METRICS, *RECORDS)} | {"up", "ALERTS"}
    known |= {f"{one.name}_sum" for one in METRICS if one.kind == "histogram"}
    for name, expr in queries().items():
        read = set(re.findall(r"[a-zA-Z_:0-9]+(?=\{)", expr))
        assert read, name
        assert read <= known, name


@pytest.mark.parametrize("name", dashboard_files())
def test_a_dashboard_can_be_imported(name: str) -> None:
    board = json.loads(dashboard_files()[name])
    assert board["uid"]
    assert [one["name"] for one in board["templating"]["list"]] == ["datasource", "job", "instance"]
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers) > 5
    for panel in panels(board):
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


def test_every_metric_is_in_a_panel_or_a_rule() -> None:
    shown = " ".join((*queries().values(), *(one.expr for one in ALERTS), *(one.expr for one in RECORDS)))
    unseen = {one.name for one in METRICS if not re.search(rf"\b{one.name}(_bucket|_sum)?\b", shown)}
    assert unseen == set()
