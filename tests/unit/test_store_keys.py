"""What a stored day's key is made of: everything its bytes follow from, and nothing else."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featureplane.features import kernels as k
from featureplane.features.spec import Feature, FeatureSet
from featureplane.market.days import Calendar, Day
from featureplane.market.events import StreamOptions
from featureplane.market.instruments import Origin
from featureplane.research.contents import (
    LEAF_BYTES,
    block_digest,
    content_hash,
    hash_file,
    identity_of,
    leaf_hash,
    root_hash,
)
from featureplane.research.datasets import OwnMemory
from featureplane.research.store import keys
from featureplane.research.store.keys import DayKey, day_key, digest_of
from tests import stored
from tests.stored import MONDAY_NS, SET
from tests.streams import instrument

NAMES = st.text("ab", max_size=4)
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=6)), max_size=4)


def given_parts() -> dict[str, Any]:
    day: Day = Calendar(instrument()).at(MONDAY_NS)
    return {
        "raw": [b"x" * 32],
        "book": None,
        "fset": SET,
        "instrument": instrument(),
        "day": day,
        "source": "capture",
        "options": StreamOptions(),
    }


def key(**other: Any) -> DayKey:
    return day_key(**(given_parts() | other))


def ema_set(span: int, name: str = "", feature_id: str = "e") -> FeatureSet:
    return FeatureSet("s", features={feature_id: Feature(k.ema(k.spread(), span=span), name=name)})


@given(FIELDS, FIELDS, NAMES, NAMES)
def test_digests_are_the_same_only_for_the_same_fields(
    one: list[tuple[str, bytes]], two: list[tuple[str, bytes]], domain: str, other: str
) -> None:
    same = domain == other and one == two
    assert (digest_of(domain, one) == digest_of(other, two)) == same


def test_every_part_changes_the_key_and_is_named() -> None:
    base = key()
    about, day = instrument(), Calendar(instrument()).at(MONDAY_NS)
    others: dict[str, dict[str, Any]] = {
        "raw": {"raw": [b"y" * 32]},
        "book": {"book": b"b" * 32},
        "features": {"fset": ema_set(8)},
        "instrument": {"instrument": replace(about, qty_exponent=3)},
        "calendar": {"day": replace(day, end_ns=day.end_ns + 1)},
        "parameters": {"options": StreamOptions(on_gap="continue")},
    }
    for name, other in others.items():
        changed = key(**other)
        assert changed.key != base.key
        assert changed.differs_from(base.parts) == (name,)
    assert len({key(**other).key for other in others.values()}) == len(others)


def test_the_kernels_and_the_calendar_have_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    base = key()
    for name, part in (
        ("KERNEL_ABI", "kernels"),
        ("CALENDAR_VERSION", "calendar"),
        ("FORMAT_VERSION", "format"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(keys, name, getattr(keys, name) + 1)
            assert key().differs_from(base.parts) == (part,)


def test_a_coefficient_and_a_column_change_the_key_and_a_comment_does_not() -> None:
    base = key(fset=ema_set(8)).key
    assert key(fset=ema_set(9)).key != base
    assert key(fset=ema_set(8, feature_id="f")).key != base
    assert key(fset=ema_set(8, name="another title")).key == base
    assert key(instrument=replace(instrument(), origin=Origin("other.toml", 7))).key == key().key


def test_files_in_another_order_or_cut_elsewhere_are_other_data() -> None:
    one, two = b"a" * 32, b"b" * 32
    found = {key(raw=raw).key for raw in ([one, two], [two, one], [one + two], [one], [])}
    assert len(found) == 5


def test_a_holiday_elsewhere_changes_nothing() -> None:
    about = instrument()
    with_holiday = Calendar(about, [date(2024, 12, 25)]).at(MONDAY_NS)
    assert key(day=with_holiday).key == key().key


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(place=st.integers(0, (1 << 16) - 1), mask=st.integers(1, 255))
def test_a_flip_of_any_byte_of_a_file_changes_the_key(tmp_path: Path, place: int, mask: int) -> None:
    path = tmp_path / "raw"
    data = bytearray(bytes(range(256)) * 256)
    path.write_bytes(data)
    before = content_hash(path)[0]
    data[place] ^= mask
    path.write_bytes(data)
    after = content_hash(path)[0]
    assert key(raw=[before]).key != key(raw=[after]).key


def test_each_byte_of_a_small_file_counts(tmp_path: Path) -> None:
    """All 65,536, each changed once in the file itself; no two of them give the same key."""
    path = tmp_path / "raw"
    data = bytearray(os.urandom(LEAF_BYTES))
    path.write_bytes(data)
    found = {content_hash(path)[0]}
    with path.open("r+b", buffering=0) as stream:
        for place, byte in enumerate(data):
            os.pwrite(stream.fileno(), bytes([byte ^ 1 << place % 8]), place)
            found.add(content_hash(path)[0])
            os.pwrite(stream.fileno(), bytes([byte]), place)
    assert content_hash(path)[0] in found
    assert len(found) == 1 + LEAF_BYTES
    some = random.Random(1).sample(sorted(found), 1_000)
    assert len({key(raw=[one]).key for one in some}) == len(some)


def test_bytes_of_a_large_file_count(tmp_path: Path) -> None:
    """Ten thousand random bytes of a gigabyte each change the key, no two of them to the same one.

    The tree lets each of them be asked for what it costs to hash one leaf and the root. That the tree is
    what is made of the file is asked of the file itself, as it is and with two of the bytes changed.
    """
    path, size, count = tmp_path / "large", 1 << 30, 10_000
    with path.open("wb") as stream:
        stream.truncate(size)  # holes read as zeros
    leaf = leaf_hash(bytes(LEAF_BYTES))
    leaves = bytearray(leaf * (size // LEAF_BYTES))
    of_file = partial(day_key, **given_parts())
    before = root_hash([bytes(leaves)], size)
    assert content_hash(path)[0] == before
    room, seen = bytearray(LEAF_BYTES), {of_file(raw=[before]).key}
    draws = random.Random(os.urandom(8)).sample(range(size), count)
    for number, place in enumerate(draws):
        at, mask = slice(place // LEAF_BYTES * 32, (place // LEAF_BYTES + 1) * 32), 1 << number % 8
        room[place % LEAF_BYTES] ^= mask
        leaves[at] = leaf_hash(room)
        room[place % LEAF_BYTES] ^= mask
        changed = root_hash([bytes(leaves)], size)
        leaves[at] = leaf
        seen.add(of_file(raw=[changed]).key)
        if number in (0, count - 1):
            stored.flip(path, place, mask)
            assert content_hash(path)[0] == changed
            stored.flip(path, place, mask)
    assert len(seen) == 1 + count


def test_sizes_are_told_apart_from_zeros(tmp_path: Path) -> None:
    found = set()
    for size in (0, 1, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 2 * LEAF_BYTES):
        path = tmp_path / str(size)
        path.write_bytes(bytes(size))
        found.add(content_hash(path)[0])
    assert len(found) == 6


def test_a_hash_is_remembered_as_long_as_the_file_is_the_same(tmp_path: Path) -> None:
    path, memory = tmp_path / "raw", OwnMemory()
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    identity = identity_of(path.stat())
    memory.remember_content(identity, b"remembered")
    assert hash_file(path, memory) == (b"remembered", identity)
    path.write_bytes(b"two")  # the same inode and size
    os.utime(path, ns=(1, 1))  # and the same time of change, set back
    assert hash_file(path, memory)[0] == content_hash(path)[0]


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    path, memory = tmp_path / "raw", OwnMemory()
    path.write_bytes(b"one")
    hash_file(path, memory)
    assert memory.content(identity_of(path.stat())) is None


@given(st.binary(min_size=1, max_size=9_000), st.integers(0, 1 << 30), st.integers(1, 255))
def test_the_quick_digest_sees_every_changed_byte(data: bytes, place: int, mask: int) -> None:
    changed = bytearray(data)
    changed[place % len(data)] ^= mask
    assert block_digest(data) != block_digest(bytes(changed))
    assert block_digest(data) != block_digest(data + b"\0")
