"""The generated pages say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.docs import pages


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_a_generated_page_is_up_to_date(path: Path) -> None:
    written = path.read_text(encoding="utf-8") if path.exists() else ""
    assert written == pages()[path], f"{path.name} is stale; run: .venv/bin/python -m scripts.docs"
