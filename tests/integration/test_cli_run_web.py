"""What `featureplane run` says of the extra that its servers need."""

from __future__ import annotations

from pathlib import Path

import pytest

from featureplane.cli.app import main
from featureplane.errors import ExtraUnavailable
from tests.services import SAMPLE


@pytest.mark.native
@pytest.mark.parametrize("level", ["warning", "debug"])
def test_what_a_server_would_need_is_told_to_who_asks_for_one_or_for_everything(
    level: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def missing() -> None:
        raise ExtraUnavailable("starlette", "service", "it is not installed")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("featureplane.services.health.require_web", missing)
    words = ["run", "--source", f"replay:{SAMPLE}", "--features", "lob_shared_v1"]
    assert main([*words, "--log-level", level]) == 0
    assert ("cannot be switched" in capsys.readouterr().err) == (level == "debug")
    assert main([*words, "--control", "mine.sock"]) == 2
    assert "starlette" in capsys.readouterr().err
