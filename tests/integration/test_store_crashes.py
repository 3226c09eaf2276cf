"""Processes that are killed while they write: nothing readable is wrong, and nothing stays stuck."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

import featureplane as fp
from tests import stored
from tests.contract import project
from tests.stored import OTHER, SET, whole

RESEARCH = project.PACKAGE / "research"


def steps(*, objects: bool = False) -> list[str]:
    """Every step at which a process that writes can be told to stop, as the code names them.

    Those of a store in a folder, or what is different on object storage.
    """
    return sorted(
        {
            node.args[0].value
            for path in RESEARCH.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if (path.name == "objects.py") == objects
            and isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "reached"
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        }
    )


def worker(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.store_worker", *arguments]
    return subprocess.Popen(
        command, cwd=project.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    stored.dataset(folder)
    return folder


@pytest.fixture(scope="module")
def right(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """What every reader must get, by set."""
    data = fp.Dataset(sorted(raw.glob("*.fpcap")), "capture")
    with fp.FeatureStore(tmp_path_factory.mktemp("right"), data) as store:
        return {fset.feature_set_id: whole(store, fset=fset).table() for fset in (SET, OTHER)}


def check(root: Path, raw: Path, right: dict[str, pa.Table]) -> None:
    """Whoever comes next reads what is right, waits for nobody dead, and leaves a store that is whole."""
    data = fp.Dataset(sorted(raw.glob("*.fpcap")), "capture")
    with fp.FeatureStore(root, data) as store:
        began = time.monotonic()
        for fset in (SET, OTHER):
            assert whole(store, fset=fset).table().equals(right[fset.feature_set_id])
        assert time.monotonic() - began < 12  # a lease that nobody renews is dead after 15
        store.fsck(repair=True)
        report = store.fsck()
        assert report.clean, report
        assert store._root.leases.all() == []
        for fset in (SET, OTHER):
            assert whole(store, fset=fset).table().equals(right[fset.feature_set_id])


def test_the_steps_are_those_of_a_write() -> None:
    assert {"leased", "begun", "group", "written", "synced", "renamed", "folder_synced", "recorded"} <= set(
        steps()
    )


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("step", steps())
def test_killed_at_a_step(
    step: str, number: int, raw: Path, right: dict[str, pa.Table], tmp_path: Path
) -> None:
    process = worker("die_at", str(tmp_path), str(raw), step, str(number))
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, f"{step} was not reached {number} times: {said}"
    check(tmp_path, raw, right)
