"""Profiles of a feature set: the same features, other parameters, a fingerprint of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featureplane as fp
from featureplane.errors import FeaturePlaneError, PlanError, UnreadableFile
from featureplane.features import kernels as k
from featureplane.features.catalog import LOB_SHARED_V1, LOB_SHARED_V2
from featureplane.features.loading import load_feature_set, resolve_feature_set, to_toml
from featureplane.features.profiles import base_id, is_profile_of, profile_of
from featureplane.features.spec import FeatureSet
from featureplane.market.sample import sample_events

SLOW = """\
base = "lob_shared_v2"
profile = "slow"

[parameters]
ofi_l1_ema8 = { span = 16 }
ofi_l1_1s = { seconds = 2 }
"imbalance_mean5s_ppm" = { "mean_over.ms" = 7500, levels = 4 }

[parameters.trade_intensity_5s]
half_life_ms = 2500
"""


def written(folder: Path, text: str, name: str = "slow.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_names_a_set_and_what_is_other_in_it(tmp_path: Path) -> None:
    slow = resolve_feature_set(str(written(tmp_path, SLOW)))
    assert slow.feature_set_id == "lob_shared_v2@slow"
    assert slow.feature_ids == LOB_SHARED_V2.feature_ids
    assert slow.fingerprint != LOB_SHARED_V2.fingerprint
    changed = {one.feature_id for one in LOB_SHARED_V2.diff(slow)}
    assert changed == {"ofi_l1_ema8", "ofi_l1_1s", "imbalance_mean5s_ppm", "trade_intensity_5s"}
    assert slow.expression("ofi_l1_ema8") == k.ema(k.ofi(level=1), span=16)
    assert slow.expression("ofi_l1_1s") == k.sum_over(k.ofi(level=1), seconds=2)
    assert slow.expression("imbalance_mean5s_ppm") == k.mean_over(k.imbalance_ppm(levels=4), ms=7500)
    assert slow.expression("trade_intensity_5s") == k.trade_intensity(half_life_ms=2500)
    assert is_profile_of(slow, LOB_SHARED_V2)
    assert base_id(slow.feature_set_id) == "lob_shared_v2"


def test_a_profile_computes_what_the_set_written_out_computes() -> None:
    slow = profile_of(LOB_SHARED_V1, "slow", {"ofi_l1_ema8": {"span": 16}})
    out = FeatureSet("out", 1, {**LOB_SHARED_V1.features, "ofi_l1_ema8": k.ema(k.ofi(level=1), span=16)})
    events = sample_events()
    columns = [
        fp.compute(events, one).to_arrow()["ofi_l1_ema8"].to_numpy() for one in (slow, out, LOB_SHARED_V1)
    ]
    assert np.array_equal(columns[0], columns[1], equal_nan=True)
    assert not np.array_equal(columns[0], columns[2], equal_nan=True)
    assert slow.fingerprint == out.fingerprint


def test_a_base_may_be_a_file_beside_it(tmp_path: Path) -> None:
    written(tmp_path, 'id = "mine"\n[features]\na = "ema(spread(), span=4)"\n', "mine.toml")
    path = written(tmp_path, 'base = "mine.toml"\nprofile = "p"\n[parameters]\na = {span = 5}\n')
    assert load_feature_set(path).feature_set_id == "mine@p"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        pytest.param({"nope": {"span": 2}}, "no feature 'nope'", id="no feature"),
        pytest.param({"ofi_l1_ema8": {"span": 0}}, "span=0", id="a value out of range"),
        pytest.param({"ofi_l1_ema8": {"span": "x"}}, "span='x'", id="no number"),
        pytest.param({"ofi_l1_ema8": {"spam": 2}}, "one of: ema.span, ofi.level", id="no parameter"),
        pytest.param({"ofi_l1_1s": {"seconds": 0.0015}}, "multiple of 1 ms", id="no window"),
        pytest.param({"ofi_l1_1s": {"seconds": "2"}}, "a duration of '2'", id="no time"),
        pytest.param({"ofi_l1_ema8": 16}, "parameters by name", id="no table"),
        pytest.param({"ofi_l1_ema8": {"span": 8}}, "changes nothing", id="nothing changed"),
        pytest.param({}, "changes nothing", id="nothing said"),
    ],
)
def test_what_is_no_profile_is_refused(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError) as raised:
        profile_of(LOB_SHARED_V2, "p", parameters)
    assert words in str(raised.value)


@pytest.mark.parametrize("name", ["", "a b", "a@b", "../a", "x" * 65])
def test_a_profile_has_a_name(name: str) -> None:
    with pytest.raises(PlanError, match="a name of at most"):
        profile_of(LOB_SHARED_V1, name, {"ofi_l1_ema8": {"span": 16}})


def test_a_parameter_of_several_calls_is_said_with_its_kernel() -> None:
    twice = k.ema(k.ema(k.spread(), span=4), span=8)
    mixed = k.ema(k.ema_time(k.spread(), half_life_seconds=1), span=3)
    base = FeatureSet("b", features={"a": twice, "b": mixed})
    with pytest.raises(PlanError, match="of several calls"):
        profile_of(base, "p", {"a": {"ema.span": 5}})
    made = profile_of(base, "p", {"b": {"ema.span": 5, "ema_time.half_life_ms": 10}})
    assert made.expression("b") == k.ema(k.ema_time(k.spread(), half_life_ms=10), span=5)


def test_readers_of_the_set_get_the_same_types_and_scales() -> None:
    base = FeatureSet("b", features={"a": k.fixed(k.ema(k.spread(), span=4), scale=10)})
    with pytest.raises(PlanError, match="as readers of the set expect"):
        profile_of(base, "p", {"a": {"scale": 100}})


def test_a_name_alone_makes_no_profile(tmp_path: Path) -> None:
    other = FeatureSet("lob_shared_v1@slow", 1, {"a": k.spread()})
    assert not is_profile_of(other, LOB_SHARED_V1)
    path = written(tmp_path, 'id = "lob_shared_v1@slow"\n[features]\na = "spread()"\n')
    with pytest.raises(UnreadableFile, match=r"slow\.toml:1: .*is for profiles"):
        load_feature_set(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('base = "slow.toml"\nprofile = "p"\n', "found a profile"),
        ('base = "none.toml"\nprofile = "p"\n', "no readable file"),
        ('base = "none"\nprofile = "p"\n', "no feature set 'none'"),
        ('profile = "p"\n', "without them"),
        ('base = "lob_shared_v1"\n', "profile ''"),
        ('base = "lob_shared_v1"\nprofile = 3\n', "profile 3"),
        ('base = "lob_shared_v1"\nprofile = "p"\nparameters = 3\n', "without them"),
        ('base = "lob_shared_v1"\nprofile = "p"\nid = "x"\n', "slow.toml:3: found key 'id'"),
        (
            'base = "lob_shared_v1"\nprofile = "p"\n[parameters]\nofi_l1_ema8 = {span = 0}\n',
            "slow.toml:4: `ofi_l1_ema8`: found ema with span=0",
        ),
    ],
)
def test_a_file_that_is_none_is_told_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FeaturePlaneError) as raised:
        load_feature_set(written(tmp_path, text))
    assert words in str(raised.value)


def test_written_out_a_profile_is_a_set_of_its_own(tmp_path: Path) -> None:
    slow = load_feature_set(written(tmp_path, SLOW))
    out = load_feature_set(written(tmp_path, to_toml(slow), "out.toml"))
    assert out.feature_set_id == "lob_shared_v2_slow"
    assert out.fingerprint == slow.fingerprint
