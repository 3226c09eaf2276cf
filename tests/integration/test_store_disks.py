"""A disk that is full, or read-only: features are computed, nothing is wrong, and it is said once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import stored
from tests.store_disks import in_a_room_of_its_own


@pytest.mark.skipif(sys.platform != "linux", reason="disks are mounted as Linux does it")
@pytest.mark.parametrize("task", ["full", "read_only"])
def test_a_disk_that_cannot_be_written(task: str, tmp_path: Path) -> None:
    raw, root = tmp_path / "raw", tmp_path / "root"
    stored.dataset(raw)
    root.mkdir()
    done = in_a_room_of_its_own(task, root, raw)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
