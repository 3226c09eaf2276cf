"""Every block of Python in the tutorial and in the README runs, in order, as a reader would run it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import featureplane as fp
from featureplane.cli.app import main
from featureplane.features.loading import load_feature_set

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.native
@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/tutorial.md",
        "docs/concepts/feature-sets.md",
        "docs/concepts/fill-models.md",
        "docs/concepts/hftbacktest.md",
        "docs/concepts/shadow.md",
        "docs/concepts/strategies.md",
        "docs/concepts/tables.md",
    ],
)
def test_what_a_page_shows_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)  # noqa: S102 - our own page
    capsys.readouterr()


@pytest.mark.native
def test_the_file_the_tutorial_shows_is_the_set_it_composes(tmp_path: Path) -> None:
    page = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.toml").write_text(text)
    composed: dict[str, object] = {"fp": fp}
    block = next(one for one in BLOCK.findall(page) if "FeatureSet(" in one)
    exec(block.partition("own =")[0], composed)  # noqa: S102 - our own page
    assert load_feature_set(tmp_path / "mine.toml") == composed["mine"]


def test_ten_lines_are_ten() -> None:
    (block, *_) = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert sum(line.strip() != "" for line in block.splitlines()) == 10


@pytest.mark.native
def test_what_a_service_recorded_is_read_as_its_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sample = ROOT / "src/featureplane/sample/ethusdt_20240808.gz"
    words = ["--source", f"replay:{sample}", "--features", "lob_shared_v1", "--control", "off"]
    assert main(["run", *words, "--record", "var/recording"]) == 0
    capsys.readouterr()
    (block,) = BLOCK.findall((ROOT / "docs/concepts/service.md").read_text(encoding="utf-8"))
    exec(compile(block, "docs/concepts/service.md", "exec"), {})  # noqa: S102 - our own page
    assert capsys.readouterr().out == "3433 ETHUSDT 536501\n"
