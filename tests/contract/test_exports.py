"""Every public name is in its module's `__all__`, once, and is there; ruff (RUF022) sorts them."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from tests.contract import project

MODULES = [path for path in project.modules() if path.name != "__main__.py"]
NAMES = [project.dotted(path) for path in MODULES]


def declared(path: Path) -> set[str]:
    """Names without an underscore that a module defines (not those it imports)."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names |= {n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_all_names_what_is_public(path: Path) -> None:
    module = importlib.import_module(project.dotted(path))
    exported = list(getattr(module, "__all__", ()))
    assert len(exported) == len(set(exported)), "named twice"
    assert all(hasattr(module, name) for name in exported), "named but not there"
    assert declared(path) <= set(exported), "public but not in __all__"
