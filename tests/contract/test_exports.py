"""What is public is in `__all__` (ruff sorts them, RUF022); other names are ours to change."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from tests.contract import project

MODULES = [path for path in project.modules() if path.name != "__main__.py"]
NAMES = [project.dotted(path) for path in MODULES]


def imported_from_other_rooms(path: Path) -> set[tuple[str, str]]:
    """(module, name) pairs a module takes from rooms beside its own."""
    own = project.dotted(path).split(".")[:2]
    return {
        (node.module, name.name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("featureplane.")
        for name in node.names
        if node.module.split(".")[:2] != own
    }


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_all_names_what_is_public(path: Path) -> None:
    module = importlib.import_module(project.dotted(path))
    exported = list(getattr(module, "__all__", ()))
    assert len(exported) == len(set(exported)), "named twice"
    assert all(hasattr(module, name) for name in exported), "named but not there"
    defines = any(
        isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )
    assert exported or not defines, "a module that defines something has an __all__"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_rooms_use_public_names_of_each_other(path: Path) -> None:
    for module, name in imported_from_other_rooms(path):
        exported = getattr(importlib.import_module(module), "__all__", ())
        assert name in exported or f"{module}.{name}" in NAMES, f"{module}.{name} is not in __all__"
