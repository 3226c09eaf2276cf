"""Each page of the runbook has a drill, which does what the page says."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from featureplane.cli.app import main
from featureplane.ops.alerts import ALERTS
from featureplane.ops.store_alerts import STORE_ALERTS
from tests.drills.page import PAGES, Page

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in PAGES.glob("*.md"))
FORM = ["What you see", "What it means", "Look", "Act", "Over when", "Afterwards"]


def drill(name: str) -> Path:
    """Where the drill of a page stands."""
    return HERE / f"test_{name.replace('-', '_')}.py"


def said(path: Path) -> set[str]:
    """What a drill asks its page for, and commands that stand in it whole."""
    texts: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
    return texts


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_a_drill_that_uses_every_command_on_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = drill(name)
    assert path.exists(), f"{name}.md has no drill"
    text, words = path.read_text(encoding="utf-8"), said(path)
    assert f'"{name}"' in text
    assert "def test_" in text
    for command in Page(name, capsys).commands:
        begins = command.removeprefix("featureplane ")
        if (asked := re.match(r"curl -s http://127\.0\.0\.1:8000(/\w+)", command)) is not None:
            used = asked[1] in words
        elif command.startswith("featureplane "):
            used = any(begins.startswith(one) for one in words if len(one.split()) > 1) or command in words
        else:
            used = command in words
        assert used, f"{path.name} does not do `{command}`"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_on_a_page_is_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in Page(name, capsys).commands:
        words = shlex.split(command)
        if words[0] != "featureplane":
            continue
        nouns = [word for word in words[1:3] if re.fullmatch(r"[a-z]+", word)]
        assert main([*nouns, "--help"]) == 0, command
        shown = capsys.readouterr().out
        options = [word for word in words if word.startswith("--")]
        assert all(option in shown for option in options), command


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_its_form_and_its_alerts(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = Page(name, capsys)
    assert re.findall(r"^## (.*)$", page.text, re.MULTILINE) == FORM
    known = (*ALERTS, *STORE_ALERTS)
    assert {alert.name for alert in known if alert.page == name} <= set(page.alerts)
    assert set(page.alerts) <= {alert.name for alert in known}


def test_no_drill_is_of_a_page_that_is_not_there() -> None:
    drills = {path.name for path in HERE.glob("test_*.py")} - {Path(__file__).name}
    assert drills == {drill(name).name for name in NAMES}
