"""What import-linter cannot see: the one door to the extension, to the environment, and to time."""

from __future__ import annotations

import ast
import tomllib
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


def test_kernels_are_kept_from_every_room_but_units() -> None:
    """Import-linter forbids what is listed: a room that is not would be open to kernels."""
    rules = tomllib.loads((project.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {one["name"]: one for one in rules["tool"]["importlinter"]["contracts"]}
    forbidden = set(contracts["Kernels know units and nothing else"]["forbidden_modules"])
    rooms = {".".join(project.dotted(path).split(".")[:2]) for path in project.modules()}
    open_to_kernels = rooms - forbidden
    assert open_to_kernels == {
        "featureplane",  # the front door, which names what every room offers
        "featureplane.__main__",
        "featureplane.features",  # where they live; what they may use of it is asked below
        "featureplane.units",
    }


@pytest.mark.parametrize(
    "path", [one for one in project.modules() if "kernels" in one.parts], ids=project.dotted
)
def test_a_kernel_leans_on_units_other_kernels_and_pure_parts_of_python(path: Path) -> None:
    pure = {"__future__", "abc", "bisect", "collections", "dataclasses", "decimal", "enum", "functools"}
    pure |= {"hashlib", "itertools", "math", "operator", "struct", "types", "typing"}
    leans_on = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            leans_on |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            leans_on.add(str(node.module))
    others = {
        name
        for name in leans_on
        if name.split(".")[0] not in pure
        and name != "featureplane.units"
        and not name.startswith("featureplane.features.kernels")
    }
    assert others == set()
