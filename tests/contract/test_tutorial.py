"""Every block of Python in the tutorial and in the README runs, in order, as a reader would run it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.native
@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/tutorial.md",
        "docs/concepts/feature-sets.md",
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
