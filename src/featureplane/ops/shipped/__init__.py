"""The rules as files: written by `python -m scripts.docs`, and part of the package.

What makes them is `ops.rules`; to have them takes no extra.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

__all__ = ["RULES", "rule_files"]

RULES: Final = ("featureplane.rules.yml",)


def rule_files() -> Mapping[str, str]:
    """Names and texts of the files of rules."""
    return _read(RULES)


def _read(names: tuple[str, ...]) -> Mapping[str, str]:
    return {name: (files(__package__) / name).read_text(encoding="utf-8") for name in names}
