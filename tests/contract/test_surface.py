"""The package's own names: there, sorted, imported late."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

import featureplane as fp
from tests.contract import project

INIT = ast.parse((project.PACKAGE / "__init__.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", fp.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(fp, name) is not None


def test_dir_lists_the_public_names_and_no_other() -> None:
    assert dir(fp) == sorted(fp.__all__)


def test_what_type_checkers_see_is_what_is_there() -> None:
    """The imports for type checkers and the homes of the late imports are one list said twice."""
    seen = {
        alias.name: f"{node.module}"
        for node in ast.walk(INIT)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("featureplane")
        for alias in node.names
    }
    assert seen == {name: f"featureplane.{home}" for name, home in fp._HOME_OF.items()}
    assert sorted([*seen, "__version__"]) == sorted(fp.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fp.nothing


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import featureplane, sys; print([m for m in ('numpy', 'pyarrow', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_computing_frames_does_not_import_pyarrow() -> None:
    code = (
        "import featureplane as fp, sys\n"
        "next(fp.FeatureEngine(fp.feature_set('lob_shared_v1')).replay(fp.sample_events()))\n"
        "print('pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
