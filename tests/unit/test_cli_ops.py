"""`featureplane ops`: the files in the package, written where they are wanted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featureplane.cli.app import main
from featureplane.ops.rules import rules_text


def test_rules_are_written_into_a_folder_that_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "monitoring"
    for _ in range(2):  # again is no error: who upgrades writes over what was there
        assert main(["ops", "rules", "--out", str(out), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"written": [str(out / "featureplane.rules.yml")]}
        assert (out / "featureplane.rules.yml").read_text(encoding="utf-8") == rules_text()


def test_a_place_that_is_no_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert main(["ops", "rules", "--out", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
