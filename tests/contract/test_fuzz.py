"""The fuzz targets, their seeds and their plans belong together."""

import re
import tomllib

import pytest

from featureplane.features.spec import FeatureSet
from scripts.fuzz_corpus import FUZZ, SEEDS, SETS

CARGO = tomllib.loads((FUZZ / "Cargo.toml").read_text(encoding="utf-8"))
TARGETS = {binary["name"] for binary in CARGO["bin"]}


def test_every_target_is_listed_everywhere() -> None:
    listed = re.findall(
        r'^    \("(\w+)", (\w+)::any\)', (FUZZ / "src/lib.rs").read_text("utf-8"), re.MULTILINE
    )
    assert all(name == module for name, module in listed)
    assert {name for name, _ in listed} == TARGETS
    assert {path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs")} == TARGETS
    assert set(SEEDS) == TARGETS


@pytest.mark.parametrize("target", sorted(SEEDS))
def test_committed_seeds_are_those_the_script_writes(target: str) -> None:
    written = {path.name for path in (FUZZ / "corpus" / target).glob("*.seed")}
    assert written == {f"{name}.seed" for name, _ in SEEDS[target]()}, "run `python -m scripts.fuzz_corpus`"


@pytest.mark.parametrize("fset", SETS, ids=lambda fset: fset.feature_set_id)
def test_plans_of_the_targets_are_those_of_today(fset: FeatureSet) -> None:
    path = FUZZ / "plans" / f"{fset.feature_set_id}.json"
    assert path.read_text("ascii") == fset.plan_json + "\n", "run `python -m scripts.fuzz_corpus`"
