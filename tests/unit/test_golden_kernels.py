"""The reference still answers what the golden files say; `cargo test` holds the twins against them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.golden_kernels import GOLDEN, golden_texts

TEXTS = golden_texts()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_a_kernel_answers_as_it_did(path: Path) -> None:
    pinned = path.read_text(encoding="utf-8") if path.exists() else ""
    assert pinned == TEXTS[path], "a kernel changed; if that is meant: python -m scripts.golden"


def test_golden_files_are_small_enough_to_review() -> None:
    assert [path.name for path in TEXTS if len(TEXTS[path]) > 100_000] == []


def test_every_golden_file_has_a_kernel() -> None:
    assert set(GOLDEN.iterdir()) == set(TEXTS)
