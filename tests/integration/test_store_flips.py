"""Flips anywhere in what a store wrote: whoever opens it next gets what is right, without an exception."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import featureplane as fp
from tests import stored
from tests.soak import share
from tests.stored import OTHER, SET, SYMBOL, at, whole

FLIPS = 1_000
KINDS = ("*/*/*/*.parquet", ".hot/*.arrow", "manifest.sqlite*", ".books/*.book")


def flipped(root: Path, kind: str, draw: random.Random) -> str:
    """Flip a bit of one of the files; of Parquet often one of the footer; which."""
    path = draw.choice(sorted(root.glob(kind)))
    size = path.stat().st_size
    first = max(0, size - 4_096) if path.suffix == ".parquet" and draw.random() < 0.3 else 0
    place = draw.randrange(first, size)
    stored.flip(path, place, 1 << draw.randrange(8))
    return f"{path.name}, byte {place} of {size}"


@pytest.mark.parametrize(
    "flips", [pytest.param(16, id="few"), pytest.param(share(FLIPS), id="many", marks=pytest.mark.soak)]
)
def test_a_flip_anywhere_never_reaches_a_reader(
    flips: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    data, whole_one = stored.dataset(tmp_path / "raw"), tmp_path / "whole"
    with fp.FeatureStore(whole_one, data) as store:
        store.warm([SYMBOL], at(0), at(2), SET)
        right = {fset.feature_set_id: whole(store, fset=fset).table() for fset in (SET, OTHER)}
    seed, results = int.from_bytes(os.urandom(4), "little"), Counter[str]()
    draw = random.Random(seed)
    for number in range(flips):
        root, kind = tmp_path / str(number), KINDS[number % len(KINDS)]
        shutil.copytree(whole_one, root)
        where = f"seed {seed}, {flipped(root, kind, draw)}"
        again = fp.Dataset([file.path for file in data.files], "capture")
        with fp.FeatureStore(root, again) as store:
            for fset in (OTHER, SET):
                entry = whole(store, fset=fset)
                assert entry.table().equals(right[fset.feature_set_id]), where
                results.update(entry.days.values())
            store.fsck(repair=True)
            assert store.fsck().clean, where
        shutil.rmtree(root)
    record_property("flips", flips)
    print(f"{flips} flips: {dict(results)}")  # noqa: T201 - for the page of a soak
