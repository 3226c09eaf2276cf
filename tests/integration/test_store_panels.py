"""Every query of the store's dashboard, asked of a real Prometheus that scrapes a real exporter."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import featureplane as fp
from featureplane.ops.shipped import dashboard_files, rule_files
from featureplane.ops.store_alerts import STORE_ALERTS, STORE_JOB, STORE_RECORDS
from featureplane.ops.store_dashboard import STORE_FILE
from tests import stored
from tests.prometheus import executable, free_port, server
from tests.stored import OTHER, SYMBOL, at, whole

FILLED_S = 60.0
CHOSEN = {"$job": STORE_JOB, "$instance": ".*", "$__rate_interval": "5s", "$__range": "1m"}


def queries() -> dict[str, str]:
    """Queries by panel, with what Grafana puts in the place of its variables."""
    found = {}
    for panel in json.loads(dashboard_files()[STORE_FILE])["panels"]:
        for target in panel.get("targets", ()):
            expr = target["expr"]
            for name, value in CHOSEN.items():
                expr = expr.replace(name, value)
            assert "$" not in expr
            found[f"{panel['title']} {target['refId']}"] = expr
    return found


@contextmanager
def serving(root: Path) -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    words = [sys.executable, "-m", "featureplane", "store", "serve", "--listen", address, "--root", str(root)]
    with (root.parent / "serve.log").open("w+b") as log:
        running = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            yield address
            assert running.poll() is None, (root.parent / "serve.log").read_text(encoding="utf-8")
        finally:
            running.terminate()
            running.wait(60)


@contextmanager
def used(root: Path, raw: Path) -> Iterator[None]:
    """A store of which something of everything is asked, again and again."""
    over = threading.Event()
    data = stored.dataset(raw)

    def work() -> None:
        with fp.FeatureStore(root, data) as store, ThreadPoolExecutor(2) as two:
            while not over.is_set():
                both = [two.submit(store.get_or_compute, SYMBOL, at(0), at(2), "lob_shared_v1") for _ in "ab"]
                for asked in both:  # one of them waits for the other
                    asked.result().table()
                whole(store, fset=OTHER)
                store.verify(1)
                del both, asked
                store.clear(SYMBOL)
                over.wait(0.2)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


@pytest.mark.native
def test_every_panel_shows_something_of_a_store_that_is_used(tmp_path: Path) -> None:
    executable("prometheus")
    rules = tmp_path / "featurestore.rules.yml"
    rules.write_text(rule_files()[rules.name], encoding="utf-8")
    root = tmp_path / "root"
    root.mkdir()
    missing = queries() | {f"record {one.name}": one.name for one in STORE_RECORDS}
    with (
        used(root, tmp_path / "raw"),
        serving(root) as address,
        server(tmp_path, {STORE_JOB: address}, rules) as prometheus,
    ):
        ends = time.monotonic() + FILLED_S
        while missing and time.monotonic() < ends:
            time.sleep(0.5)
            seen = {name: prometheus.query(expr) for name, expr in missing.items()}
            missing = {
                name: missing[name]
                for name, series in seen.items()
                if not any(math.isfinite(float(one["value"][1])) for one in series)
            }
        assert missing == {}
        groups = prometheus.ask("rules")["groups"]
        health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    names = [*(one.name for one in STORE_ALERTS), *(one.name for one in STORE_RECORDS)]
    assert health == dict.fromkeys(names, "ok")
