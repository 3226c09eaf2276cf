"""The units of systemd: their commands exist, each timer has its service, and comes when it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from featureplane.cli.app import app
from tests.contract.project import ROOT

UNITS = sorted((ROOT / "deploy").glob("*.*"))
TIMERS = {"feature-cache-cleanup.timer", "feature-reconcile.timer"}


def test_each_timer_has_its_service() -> None:
    assert {one.name for one in UNITS if one.suffix == ".timer"} == TIMERS
    assert {one.stem for one in UNITS if one.suffix == ".service"} == {Path(one).stem for one in TIMERS}


@pytest.mark.parametrize(
    "unit", [one for one in UNITS if one.suffix == ".service"], ids=lambda unit: unit.name
)
def test_its_commands_are_understood(unit: Path) -> None:
    found = re.findall(r"^ExecStart=-?featureplane (.+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    for words in found:
        given = re.sub(r"\$\{\w+\}", "var/some", words)
        _, bound, _ = app.parse_args(given.split(), print_error=False, exit_on_error=False)
        assert "json" in bound.arguments
        assert set(re.findall(r"\$\{(\w+)\}", words)) <= set(re.findall(r"(FEATURE_\w+)=", unit.read_text()))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze; Debian, Ubuntu: apt install systemd")
    stem = tmp_path / unit.name
    for one in UNITS:
        text = one.read_text(encoding="utf-8").replace("=-featureplane", "=-/bin/true")
        (tmp_path / one.name).write_text(text.replace("=featureplane", "=/bin/true"), encoding="utf-8")
    done = subprocess.run(
        [program, "verify", "--man=no", str(stem)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    said = [line for line in done.stderr.splitlines() if unit.stem in line]
    assert not said
