"""What import-linter cannot see: the one door to the extension."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.contract import project


def reaches_extension(path: Path) -> bool:
    """Whether a module imports `featureplane._native` in any spelling."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import) and any("_native" in name.name for name in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and (
            "_native" in (node.module or "") or any(name.name == "_native" for name in node.names)
        ):
            return True
    return False


@pytest.mark.parametrize("path", project.modules(), ids=project.dotted)
def test_only_native_imports_the_extension(path: Path) -> None:
    assert reaches_extension(path) == (path == project.PACKAGE / "native.py")
