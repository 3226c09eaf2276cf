"""`featureplane ops`: the files in the package, written where they are wanted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from featureplane.cli.app import main
from featureplane.errors import ExtraUnavailable
from featureplane.ops.alertmanager import routes_text
from featureplane.ops.grafana import dashboard_text
from featureplane.ops.rules import rules_text, store_rules_text
from featureplane.ops.store_dashboard import BOARDS


def test_rules_are_written_into_a_folder_that_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "monitoring"
    wanted = {
        "featureplane.rules.yml": rules_text(),
        "featurestore.rules.yml": store_rules_text(),
        "featurestore.alertmanager.yml": routes_text(),
    }
    for _ in range(2):  # again is no error: who upgrades writes over what was there
        assert main(["ops", "rules", "--out", str(out), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"written": [str(out / name) for name in wanted]}
        assert {name: (out / name).read_text(encoding="utf-8") for name in wanted} == wanted


def test_dashboards_are_those_of_the_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "dashboards", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err.count("wrote ") == len(BOARDS)
    for name, board in BOARDS.items():
        assert json.loads((tmp_path / name).read_text(encoding="utf-8"))["uid"] == board.uid


def test_who_makes_them_anew_is_told_of_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grafana_foundation_sdk.builders", None)
    with pytest.raises(ExtraUnavailable, match="grafana-foundation-sdk"):
        dashboard_text(BOARDS["feature_plane.json"])


def test_a_place_that_is_no_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert main(["ops", "rules", "--out", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
