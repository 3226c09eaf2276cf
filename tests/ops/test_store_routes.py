"""Who is told of a store's alerts, and when: Alertmanager's own tool, and a real Alertmanager."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from featureplane.cli.app import main
from featureplane.ops.alerting import Alert
from featureplane.ops.alertmanager import routes
from featureplane.ops.alerts import ALERTS
from featureplane.ops.store_alerts import STORE_ALERTS
from tests.contract.project import ROOT
from tests.prometheus import alertmanager, amtool

LATER_S = 4.0
"""What half an hour is in these tests."""

NAMED = {one.name: one for one in STORE_ALERTS}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as a site gets it."""
    folder = tmp_path_factory.mktemp("routes")
    assert main(["ops", "rules", "--out", str(folder)]) == 0
    return folder / "featurestore.alertmanager.yml"


def labels(alert: Alert) -> dict[str, str]:
    at = {"job": "featurestore", "instance": "s:8000"}
    return {"alertname": alert.name, "severity": alert.severity, **at, **dict(alert.labels)}


def test_alertmanager_takes_the_file(written: Path) -> None:
    assert "SUCCESS" in amtool("check-config", str(written))


@pytest.mark.parametrize("alert", STORE_ALERTS, ids=lambda alert: alert.name)
def test_both_are_told_sooner_or_later(alert: Alert, written: Path) -> None:
    told = [f"{name}={value}" for name, value in labels(alert).items()]
    receivers = "--verify.receivers=platform-oncall,dev-data-oncall"
    found = amtool("config", "routes", "test", f"--config.file={written}", receivers, *told)
    assert found.split() == ["platform-oncall,dev-data-oncall"]


def test_alerts_of_services_go_where_they_went(written: Path) -> None:
    for alert in ALERTS:
        told = [f"alertname={alert.name}", f"severity={alert.severity}"]
        found = amtool("config", "routes", "test", f"--config.file={written}", *told)
        assert found.split() == ["dev-data-oncall"]


def test_the_page_says_what_the_routes_do() -> None:
    page = (ROOT / "docs" / "runbooks" / "featurestore-slo.md").read_text(encoding="utf-8")
    waits = {one.get("group_wait") for one in routes()["route"]["routes"]}
    assert waits == {"0s", "30m"}
    for line in (
        "| 1 | warning | `dev-data-oncall` | |",
        "| 2 | warning that still fires then | `platform-oncall` too | 30m |",
        "| 3 | critical | `dev-data-oncall`, `platform-oncall` | 0m |",
    ):
        assert line in page


@contextmanager
def receivers(config: dict[str, Any]) -> Iterator[list[tuple[str, str, float]]]:
    """Let the receivers of a configuration note whom they are told of, and when."""
    began, heard = time.monotonic(), list[tuple[str, str, float]]()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            at = time.monotonic() - began
            heard.extend((self.path[1:], one["labels"]["alertname"], at) for one in said["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for one in config["receivers"]:
        url = f"http://127.0.0.1:{server.server_port}/{one['name']}"
        one["webhook_configs"] = [{"url": url, "send_resolved": False}]
    try:
        yield heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def tell(address: str, *names: str, ended: bool = False, **more: str) -> None:
    """Let alerts fire, or end; with labels of their expression."""
    ends = {"endsAt": datetime.now(UTC).isoformat()} if ended else {}
    body = json.dumps([{"labels": labels(NAMED[name]) | more, **ends} for name in names]).encode()
    line = HTTPConnection(address, timeout=10)
    line.request("POST", "/api/v2/alerts", body, {"Content-Type": "application/json"})
    assert line.getresponse().status == 200
    line.close()


def scaled() -> dict[str, Any]:
    """The routes with a few seconds for half an hour."""
    config: dict[str, Any] = json.loads(json.dumps(routes()).replace('"30m",', f'"{LATER_S:.0f}s",'))
    for one in config["route"]["routes"]:
        one["matchers"] = [text.replace(f'"{LATER_S:.0f}s"', '"30m"') for text in one["matchers"]]
    return config


def test_three_levels_are_told_one_after_the_other(tmp_path: Path) -> None:
    config = scaled()
    config["time_intervals"][0]["time_intervals"][0]["weekdays"] = ["sunday:saturday"]  # always closed
    warning, brief, critical = (
        "FeatureStoreHitRatioLow",
        "FeatureStoreThrashing",
        "FeatureStoreHitRatioCritical",
    )
    with receivers(config) as heard, alertmanager(tmp_path, config) as address:
        began = time.monotonic()
        tell(address, warning, brief, critical, "FeatureStoreNoTraffic")
        time.sleep(LATER_S / 2)
        tell(address, brief, ended=True)
        at_once = {(who, what) for who, what, _ in heard}
        while len(heard) < 5 and time.monotonic() - began < 5 * LATER_S:
            time.sleep(0.1)
        time.sleep(1)
    assert at_once == {
        ("dev-data-oncall", warning),
        ("dev-data-oncall", brief),
        ("dev-data-oncall", critical),
        ("platform-oncall", critical),
    }
    later = [(who, what, at) for who, what, at in heard if (who, what) not in at_once]
    assert [one[:2] for one in later] == [("platform-oncall", warning)], "what has ended wakes nobody"
    first = min(at for _, _, at in heard)
    assert later[0][2] - first > LATER_S - 0.5


def test_that_nobody_asks_is_told_while_sessions_are_open(tmp_path: Path) -> None:
    config = scaled()
    today = datetime.now(UTC).strftime("%A").lower()
    days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    others = [one for one in days if one not in {today, days[(days.index(today) + 1) % 7]}]
    config["time_intervals"][0]["time_intervals"][0]["weekdays"] = others
    with receivers(config) as heard, alertmanager(tmp_path, config) as address:
        tell(address, "FeatureStoreNoTraffic")
        ends = time.monotonic() + 5 * LATER_S
        while len(heard) < 2 and time.monotonic() < ends:
            time.sleep(0.1)
    told = [one[:2] for one in heard]
    assert told == [
        ("dev-data-oncall", "FeatureStoreNoTraffic"),
        ("platform-oncall", "FeatureStoreNoTraffic"),
    ]


def test_each_alert_has_half_an_hour_of_its_own(tmp_path: Path) -> None:
    config, name = scaled(), "FeatureStoreSeriesMissing"
    with receivers(config) as heard, alertmanager(tmp_path, config) as address:
        tell(address, name, series="a")
        time.sleep(LATER_S - 1)
        tell(address, name, series="b")
        time.sleep(2)
        soon = [who for who, _, _ in heard].count("platform-oncall")
        ends = time.monotonic() + 3 * LATER_S
        while [who for who, _, _ in heard].count("platform-oncall") < 2 and time.monotonic() < ends:
            time.sleep(0.1)
    assert soon == 1
    first, second = (at for who, _, at in heard if who == "platform-oncall")
    assert second - first > LATER_S - 2
