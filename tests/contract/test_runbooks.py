"""Pages of the runbook: the same parts in the same order, and commands that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from featureplane.cli.app import app
from featureplane.ops.alerts import ALERTS as SERVICE_ALERTS
from featureplane.ops.store_alerts import STORE_ALERTS
from tests.contract.project import ROOT

ALERTS = (*SERVICE_ALERTS, *STORE_ALERTS)
PAGES = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
PARTS = ["What you see", "What it means", "Look", "Act", "Over when", "Afterwards"]


def commands(page: Path) -> list[list[str]]:
    """The lines of the page's blocks that call us, as words."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert lines, "a page without anything to run"
    return [shlex.split(line)[1:] for line in lines if line.startswith("featureplane ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_it_has_its_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_commands_are_understood(page: Path) -> None:
    for words in commands(page):
        _, bound, _ = app.parse_args(words, print_error=False, exit_on_error=False)
        assert bound is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_it_says_which_alerts_lead_to_it(page: Path) -> None:
    """Those that name it stand in its first lines, and no name stands there that is no alert."""
    head = page.read_text(encoding="utf-8").partition("## ")[0]
    named = set(re.findall(r"`([A-Z]\w+)`", head))
    assert named <= {alert.name for alert in ALERTS}
    assert named >= {alert.name for alert in ALERTS if alert.page == page.stem}
