"""What import-linter cannot see: the one door to the extension, to the environment, and to time."""

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


def opens_environment(path: Path) -> bool:
    """Whether a module reads or writes the environment in any spelling."""
    words = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in words:
            return True
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and words & {one.name for one in node.names}
        ):
            return True
    return False


@pytest.mark.parametrize("path", project.modules(), ids=project.dotted)
def test_only_settings_opens_the_environment(path: Path) -> None:
    assert opens_environment(path) == (path == project.PACKAGE / "settings.py")


def asks_the_time(path: Path) -> bool:
    """Whether a module imports what reads a clock; dates made from numbers are none."""
    words = {f"{cls}.{method}" for cls in ("date", "datetime") for method in ("now", "utcnow", "today")}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import) and any(name.name == "time" for name in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            return True
        if isinstance(node, ast.Attribute) and ast.unparse(node) in words:
            return True
    return False


@pytest.mark.parametrize("path", project.modules(), ids=project.dotted)
def test_only_clock_asks_the_time(path: Path) -> None:
    assert asks_the_time(path) == (path == project.PACKAGE / "clock.py")
