"""Drill: the service is gone, or what answers is something else."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import pytest

from featureplane.cli.app import main
from tests.drills.alarms import Phase, check_alarms
from tests.drills.page import Page
from tests.integration.test_cli_run import FORMS, Child
from tests.integration.test_service_web import get
from tests.services import SAMPLE

CONFIG = """
source = "replay:{sample}@20"
symbol = ["ETHUSDT"]
features = "lob_shared_v1"
strategy = ["mm={forms}"]
metrics = "{address}"
control = "{control}"
"""


def healthy(page: Page) -> dict[str, object]:
    """What `/healthz` says, once it answers."""
    until = time.monotonic() + 30
    while True:
        try:
            status, body = page.curl("/healthz")
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            assert status == 200
            found: dict[str, object] = json.loads(body)
            return found


def test_a_service_that_was_killed_is_started_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    control = tmp_path / "s.sock"
    config = CONFIG.format(sample=SAMPLE, forms=FORMS, address=address, control=control)
    (tmp_path / "service.toml").write_text(config, encoding="utf-8")
    page = Page("service-absent", capsys, control, f"http://{address}")
    first = Child("run", "--config", str(tmp_path / "service.toml"))
    first.until("order accepted")
    assert "messages" in healthy(page)
    phases = [Phase(get(f"{page.address}/metrics")[1].decode(), 20, 20)]
    # The incident, and the symptom.
    first.process.send_signal(signal.SIGKILL)
    first.process.communicate(timeout=60)
    with pytest.raises(OSError, match="refused"):
        page.curl("/healthz")
    assert "no service answers" in page.refuse("strategy list")
    phases.append(Phase("", 20))
    # What the page says: the socket that was left is no hindrance.
    monkeypatch.chdir(tmp_path)
    assert "nothing would be refused" in page.run("run --config service.toml --check")
    monkeypatch.undo()
    assert "featureplane run --config service.toml" in page.commands
    second = Child("run", "--config", str(tmp_path / "service.toml"))
    second.until("order accepted")
    # Its effect, and the recovery.
    assert healthy(page)["over"] is False
    assert get(f"{page.address}/readyz")[0] == 200
    assert page.ask("strategy list")["strategies"] == {"mm": "shared"}
    phases.append(Phase(get(f"{page.address}/metrics")[1].decode(), 40, 40))
    second.process.send_signal(signal.SIGTERM)
    assert second.end()["messages"] > 0
    assert second.process.returncode == 0
    check_alarms(tmp_path, phases, "FeatureplaneDown", "FeatureplaneAbsent")


def test_what_lacks_series_is_told_and_rules_are_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page("service-absent", capsys)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = CONFIG.format(sample=SAMPLE, forms=FORMS, address=address, control=tmp_path / "s.sock")
    (tmp_path / "service.toml").write_text(config, encoding="utf-8")
    child = Child("run", "--config", str(tmp_path / "service.toml"))
    child.until("order accepted")
    whole = get(f"http://{address}/metrics")[1].decode()
    child.process.send_signal(signal.SIGTERM)
    child.end()
    lacking = "\n".join(line for line in whole.splitlines() if "book_whole" not in line) + "\n"
    check_alarms(
        tmp_path, [Phase(whole, 20, 20), Phase(lacking, 20), Phase(whole, 40)], "FeatureplaneSeriesMissing"
    )
    monkeypatch.chdir(tmp_path)
    page.run("ops rules --out monitoring")
    written = tmp_path / "monitoring" / "featureplane.rules.yml"
    assert "FeatureplaneSeriesMissing" in written.read_text(encoding="utf-8")
    assert main(["run", "--config", "service.toml", "--check"]) == 0
