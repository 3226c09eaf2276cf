"""A process that works on a store on a disk of its own, which is full, or read-only.

Run by `in_a_room_of_its_own`: what it mounts, nobody else sees, and it goes with the process.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

import featureplane as fp
from featureplane.clock import SystemClock
from tests.contract import project
from tests.stored import OTHER, SET, SYMBOL, at, whole

MINUTE_NS = 61_000_000_000
SIZES_KB = (4, 16, 48, 100, 160, 200, 240, 280, 320, 400, 560, 1_000)
SETS = (SET, OTHER, fp.feature_set("lob_shared_v1"))


class Skipping(SystemClock):
    """A clock that can be moved."""

    skipped_ns = 0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.skipped_ns


class Told(logging.Handler):
    """What the store warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        logging.getLogger("featureplane.store").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def mount(root: Path, *options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(root)], check=True)


def right_of(raw: Path, root: Path) -> dict[str, pa.Table]:
    with fp.FeatureStore(root / "right", data_of(raw)) as store:
        tables = {fset.feature_set_id: whole(store, fset=fset).table() for fset in SETS}
    shutil.rmtree(root / "right")
    return tables


def data_of(raw: Path) -> fp.Dataset:
    return fp.Dataset(sorted(raw.glob("*.fpcap")), "capture")


def all_right(store: fp.FeatureStore, right: dict[str, pa.Table]) -> Counter[str]:
    """Everything is asked for and read, and right; what came of it."""
    results: Counter[str] = Counter()
    for fset in SETS:
        entry = whole(store, fset=fset)
        assert entry.table().equals(right[fset.feature_set_id])
        results.update(entry.days.values())
    return results


def full(root: Path, raw: Path) -> None:
    """Disks of several sizes run full, and have room later."""
    right, told, seen = right_of(raw, root), Told(), Counter[str]()
    for size in SIZES_KB:
        mount(root, f"size={size}k")
        told.texts.clear()
        clock = Skipping()
        with fp.FeatureStore(root, data_of(raw), clock=clock) as store:
            for _ in range(3):
                seen += all_right(store, right)
            assert len(told.texts) <= 1, told.texts
            store.warm([SYMBOL], at(0), at(2), SETS[2])
            mount_again(root, "size=64m")
            clock.skipped_ns = MINUTE_NS
            all_right(store, right)
        with fp.FeatureStore(root, data_of(raw)) as store:
            assert set(all_right(store, right)) == {"hit"}, f"{size} kB"
            store.fsck(repair=True)
            assert store.fsck().clean
            assert store.stats()["days"] == 2 * len(SETS)
        subprocess.run(["umount", str(root)], check=True)
    assert seen["read_only"] > 10, seen
    assert seen["miss"] > 5, seen
    print(dict(seen))  # noqa: T201 - said to whoever waits


def read_only(root: Path, raw: Path) -> None:
    """A disk that cannot be written from some moment on, and can again."""
    right, told = right_of(raw, root), Told()
    mount(root, "size=64m")
    clock = Skipping()
    with fp.FeatureStore(root, data_of(raw), clock=clock) as store:
        whole(store, fset=SET)
        # What is open can still be written, as it is when a disk is found to be damaged.
        subprocess.run(["mount", "--bind", str(root), str(root)], check=True)
        mount_again(root, "bind,ro")
        assert all_right(store, right) == {"hit": 2, "read_only": 4}
        assert all_right(store, right) == {"hit": 2, "read_only": 4}
        assert len(told.texts) == 1, told.texts
    subprocess.run(["umount", str(root)], check=True)
    mount_again(root, "ro")
    told.texts.clear()
    with fp.FeatureStore(root, data_of(raw), clock=clock) as store:
        assert store.read_only
        for _ in range(2):
            assert all_right(store, right) == {"hit": 2, "read_only": 4}
        assert (store.evict(), store.clear()) == ({"removed": 0, "bytes": 0}, 0)
        assert store.fsck(repair=True).clean
        assert len(told.texts) == 1, told.texts
        mount_again(root, "rw")
        clock.skipped_ns += MINUTE_NS
        came = all_right(store, right)
        assert came == {"hit": 2, "miss": 4}, (came, told.texts)
        assert store.stats()["read_only"] is False
    with fp.FeatureStore(root, data_of(raw)) as store:
        assert all_right(store, right) == {"hit": 6}
        assert store.fsck().clean
    print("read")  # noqa: T201 - as above


def mount_again(root: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(root)], check=True)


def in_a_room_of_its_own(task: str, root: Path, raw: Path) -> subprocess.CompletedProcess[str]:
    """Run a task where it may mount: as the root of a namespace of users, else as root of this machine.

    Raises `RuntimeError`, with what would make it possible, where neither is allowed.
    """
    ways = [["unshare", "--user", "--map-root-user", "--mount"]]
    if os.geteuid() == 0:
        ways.append(["unshare", "--mount"])
    for way in ways:
        tried = [*way, "sh", "-c", 'mount -t tmpfs -o size=64k none "$0" && umount "$0"', str(root)]
        if subprocess.run(tried, capture_output=True, check=False).returncode == 0:
            command = [*way, sys.executable, "-m", "tests.store_disks", task, str(root), str(raw)]
            return subprocess.run(
                command, cwd=project.ROOT, capture_output=True, text=True, timeout=300, check=False
            )
    raise RuntimeError(
        "no disk can be mounted here: allow namespaces of users (sysctl kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0), or run the tests as root"
    )


if __name__ == "__main__":
    tasks: dict[str, Callable[[Path, Path], None]] = {"full": full, "read_only": read_only}
    tasks[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
