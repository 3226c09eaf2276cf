"""The examples do what they say, on what is at hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.contract import project
from tests.shared_data import shared


def told(tmp_path: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "examples/researchers_day.py", "--root", str(tmp_path / "root"), *words]
    command += ["--plot", str(tmp_path / "plot.svg")]
    done = subprocess.run(command, cwd=project.ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    bars = ET.parse(tmp_path / "plot.svg").getroot().findall("{http://www.w3.org/2000/svg}rect")  # noqa: S314 - our own
    assert len(bars) == 10
    assert answer["rows"] > answer["rows_of_a_minute"] > 10
    assert answer["train"] > answer["test"] > 100
    return answer


def test_a_week_is_computed_once(tmp_path: Path) -> None:
    first, again = told(tmp_path), told(tmp_path)
    assert len(first["days"]) == 7
    assert first["warmed"] == {"warm": 7}
    assert again["warmed"] == {"hit": 7}
    assert {**first, "warmed": 0} == {**again, "warmed": 0}


@pytest.mark.native
def test_days_of_a_recording(tmp_path: Path) -> None:
    files = "\n".join(
        f'[[file]]\npath = "{shared(f"binance_raw/spot/ethusdt_202408{day}.gz")}"\nsymbol = "ETHUSDT"'
        for day in ("08", "09")
    )
    about = project.ROOT / "tests" / "instruments" / "binance.toml"
    catalogue = tmp_path / "days.toml"
    catalogue.write_text(f'source = "binance-spot"\ninstruments = "{about}"\n{files}\n')
    days = ["--start", "2024-08-08T00:00Z", "--end", "2024-08-10T00:00Z"]
    answer = told(tmp_path, "--data", str(catalogue), "--symbol", "ETHUSDT", *days)
    assert (answer["rows"], list(answer["days"])) == (6_469, ["2024-08-08", "2024-08-09"])
    assert answer["correlation"] > 0  # the imbalance of the book tells something of the next second
