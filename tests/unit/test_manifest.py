"""The manifest keeps its sums along with its rows, whoever writes them."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureplane.research.store.dayfile import DayFacts
from featureplane.research.store.eviction import Eviction
from featureplane.research.store.manifest import MANIFEST_NAME, Manifest, Row
from featureplane.research.store.shelf import OpenFile, Shelf

_SCHEMA = "SELECT sql FROM sqlite_master WHERE sql > ''"
CHANGES = st.tuples(
    st.sampled_from(["put", "put_hot", "drop", "heat", "cool", "nothing"]),
    st.integers(0, 3),
    st.integers(0, 1 << 40),
)


def row(number: int, size: int) -> Row:
    facts = DayFacts(f"key{number}", "set", "print", "SYM", f"day{number}", 0, 1, 1, ("",) * 8, "")
    return Row.of(facts, "path", size=size, checksum="", seconds=1, created_ns=1, now_ns=1)


def change(manifest: Manifest, what: str, number: int, size: int) -> None:
    with manifest.writing() as connection:
        match what:
            case "put":
                manifest.put(row(number, size), connection)
            case "put_hot":
                manifest.put(row(number, size)._replace(hot_bytes=size // 2), connection)
            case "drop":
                manifest.drop(row(number, size), "evicted", 1, connection)
            case "heat" | "cool":
                told = (size if what == "heat" else 0, f"key{number}")
                connection.execute("UPDATE manifest SET hot_bytes = ? WHERE key = ?", told)


@settings(max_examples=40, deadline=None)
@given(st.lists(CHANGES, max_size=15))
def test_sums_are_those_of_the_rows(changes: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        manifest = Manifest(Path(root))
        for what, number, size in changes:
            change(manifest, what, number, size)
            assert manifest.totals() == manifest.counted()
            taken = manifest.taken_bytes(1, manifest.connection())
            assert taken == manifest.counted()[1] + manifest.counted()[3]
        manifest.close()


def test_what_is_rolled_back_counts_for_nothing(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    change(manifest, "put", 0, 100)

    def fails() -> None:
        with manifest.writing() as connection:
            manifest.put(row(1, 50), connection)
            connection.execute("SELECT nonsense")

    with pytest.raises(sqlite3.OperationalError):
        fails()
    assert manifest.totals() == (1, 100, 0, 0)
    manifest.close()


def test_a_manifest_of_the_version_before_gets_its_sums(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    change(manifest, "put_hot", 0, 100)
    manifest.close()
    older = sqlite3.connect(tmp_path / MANIFEST_NAME)
    names = "sums_put", "sums_dropped", "sums_changed"
    older.executescript("".join(f"DROP TRIGGER {name};" for name in names) + "DROP TABLE sums;")
    older.execute("PRAGMA user_version = 1")
    older.close()
    only_read = Manifest(tmp_path, read_only=True)
    assert only_read.totals() == (1, 100, 1, 50)
    only_read.close()
    manifest = Manifest(tmp_path)
    assert manifest.totals() == (1, 100, 1, 50)
    change(manifest, "put", 1, 7)
    assert manifest.totals() == (2, 107, 1, 50)
    manifest.close()


def test_more_days_than_are_looked_at_at_once_make_room(tmp_path: Path) -> None:
    count = 700
    manifest, shelf = Manifest(tmp_path), Shelf(tmp_path)
    for number in range(count):
        (tmp_path / str(number)).touch()
    with manifest.writing() as connection:
        for number in range(count):
            manifest.put(row(number, 10)._replace(path=str(number), priority=number), connection)
    held = [OpenFile(tmp_path / str(number)) for number in range(300)]
    eviction = Eviction(manifest, shelf)
    assert eviction.free(10 * 300) == 10 * 300
    assert {one.day for one in manifest.rows()} == {
        f"day{number}" for number in range(count) if not 300 <= number < 600
    }
    assert eviction.free(10 * count) == 10 * 100  # and no more while somebody reads the rest
    assert manifest.totals() == (len(held), 10 * len(held), 0, 0)
    manifest.close()


def test_who_opens_a_new_root_waits_for_another_who_does(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / MANIFEST_NAME, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # nobody gets a log ahead now: SQLite says so at once
    later = threading.Timer(0.1, lambda: other.execute("ROLLBACK"))
    later.start()
    with Manifest(tmp_path).writing() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    later.join()
    other.close()


def test_each_byte_of_a_schema_that_flips_is_damage_and_nothing_else(tmp_path: Path) -> None:
    Manifest(tmp_path).close()
    path = tmp_path / MANIFEST_NAME
    right = path.read_bytes()
    with sqlite3.connect(path) as connection:
        texts = [
            text.encode() for (text,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql > ''")
        ]
    connection.close()
    found = 0
    for text in texts:
        first = right.find(text)
        for place in range(first, first + len(text) if first >= 0 else first):
            path.write_bytes(right[:place] + bytes([right[place] ^ 0x80]) + right[place + 1 :])
            try:
                opened = Manifest(tmp_path)
            except sqlite3.DatabaseError:
                found += 1
                continue
            found += not opened.is_whole()
            opened.close()
    assert found > 1_000
