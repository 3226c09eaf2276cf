"""The settings of the environment: one table, its defaults, its refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import featureplane as fp
from featureplane import native
from featureplane.errors import BackendUnavailable, SettingError
from featureplane.settings import PREFIX, SETTINGS, Settings, inherited, read_settings


def test_nothing_set_is_every_default() -> None:
    assert read_settings({"PATH": "/bin", "HFT_MODE": "x"}) == Settings()
    for setting in SETTINGS:
        assert getattr(Settings(), setting.field) == setting.default
    assert [one.name for one in dataclasses.fields(Settings)] == [one.field for one in SETTINGS]


def test_each_setting_is_read() -> None:
    read = read_settings(
        {
            "HFT_FEATURE_ENGINE_ENABLED": "0",
            "HFT_FEATURE_ENGINE_BACKEND": "python",
            "HFT_FEATURE_ENGINE_EMIT_EVENTS": "0",
            "HFT_FEATURE_METRICS_SAMPLE_EVERY": "1",
            "HFT_FEATURE_LATENCY_SAMPLE_EVERY": "1000000",
            "HFT_FEATURE_SHADOW_PARITY": "1",
            "HFT_FEATURE_SHADOW_BACKEND": "python",
            "HFT_FEATURE_SHADOW_SAMPLE_EVERY": "64",
            "HFT_FEATURE_SHADOW_WARN_EVERY": "7",
            "HFT_FEATURE_SHADOW_ABS_TOL": "1e-9",
            "HFT_FEATURE_ROLLOUT_STATE_PATH": "state/rollout.json",
        }
    )
    assert read == Settings(
        engine_enabled=False,
        engine_backend="python",
        engine_emit_events=False,
        metrics_sample_every=1,
        latency_sample_every=1_000_000,
        shadow_parity=True,
        shadow_backend="python",
        shadow_sample_every=64,
        shadow_warn_every=7,
        shadow_abs_tol=1e-9,
        rollout_state_path=Path("state/rollout.json"),
    )


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ENGINE_BACKED", "ENGINE_BACKEND"),
        ("LATENCY_SAMPLE", "LATENCY_SAMPLE_EVERY"),
        ("engine_enabled", "ENGINE_ENABLED"),
        ("BACKEND", "ENGINE_BACKEND"),
        ("", "ENGINE_ENABLED"),
    ],
)
def test_an_unknown_setting_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(SettingError) as caught:
        read_settings({PREFIX + name: "1"})
    assert str(caught.value) == f"{PREFIX}{name} is no setting"
    assert caught.value.hint is not None
    assert all(one.variable in caught.value.hint for one in SETTINGS)
    if name:
        assert caught.value.hint.startswith(f"did you mean {PREFIX}{near}? ")


def test_a_setting_like_no_other_is_not_guessed_at() -> None:
    with pytest.raises(SettingError, match="HFT_FEATURE_X is no setting") as caught:
        read_settings({"HFT_FEATURE_X": "1"})
    assert str(caught.value.hint).startswith("there are: HFT_FEATURE_ENGINE_ENABLED, ")


@pytest.mark.parametrize(
    ("name", "text"),
    [(name, text) for name in ("ENGINE_ENABLED", "ENGINE_EMIT_EVENTS") for text in ("", "2", "true", "-1")]
    + [("ENGINE_BACKEND", text) for text in ("", "Rust", "gpu")]
    + [
        (name, text)
        for name in ("METRICS_SAMPLE_EVERY", "LATENCY_SAMPLE_EVERY")
        for text in ("", "0", "-1", "1.5", "1000001", "9" * 5000, "many", "\u0661", " 1")
    ]
    + [("SHADOW_ABS_TOL", text) for text in ("", "-1", "nan", "inf", "1e7", "1_0", " 1", "0x1p3", "many")]
    + [("ROLLOUT_STATE_PATH", text) for text in ("", "  ", "a\0b")],
)
def test_a_value_out_of_range_is_refused(name: str, text: str) -> None:
    with pytest.raises(SettingError, match=f"^{PREFIX}{name}=") as caught:
        read_settings({PREFIX + name: text})
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("it takes ")


def test_a_path_may_stand_in_a_file_too() -> None:
    below = {"rollout_state_path": "state/r.json"}
    assert read_settings({}, under=below).rollout_state_path == Path("state/r.json")
    above = {"HFT_FEATURE_ROLLOUT_STATE_PATH": "other.json"}
    assert read_settings(above, under=below).rollout_state_path == Path("other.json")
    for wrong in ("", 3, True):
        with pytest.raises(SettingError, match="rollout_state_path="):
            read_settings({}, under={"rollout_state_path": wrong})


def test_settings_made_by_hand_are_checked_alike() -> None:
    with pytest.raises(SettingError, match="METRICS_SAMPLE_EVERY=0"):
        Settings(metrics_sample_every=0)
    with pytest.raises(SettingError, match="LATENCY_SAMPLE_EVERY=True"):
        dataclasses.replace(Settings(), latency_sample_every=True)


def test_the_backend_asked_for_is_the_one_that_auto_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HFT_FEATURE_ENGINE_BACKEND", "python")
    fset = fp.feature_set("lob_shared_v1")
    assert fp.FeatureEngine(fset).backend == "python"
    if native.available():
        assert fp.FeatureEngine(fset, "rust").backend == "rust"
    monkeypatch.setenv("HFT_FEATURE_ENGINE_BACKED", "python")
    with pytest.raises(SettingError, match="ENGINE_BACKED is no setting"):
        fp.FeatureEngine(fset)


def test_rust_without_the_extension_is_an_error_and_no_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_native", None)
    monkeypatch.setenv("HFT_FEATURE_ENGINE_BACKEND", "rust")
    with pytest.raises(BackendUnavailable):
        native.resolve("auto")
    monkeypatch.delenv("HFT_FEATURE_ENGINE_BACKEND")
    assert native.resolve("auto") == "python"


def test_a_program_that_is_started_inherits_and_gets_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HFT_FEATURE_ENGINE_ENABLED", "0")
    started = inherited(PYTHONPATH="src")
    assert (started["HFT_FEATURE_ENGINE_ENABLED"], started["PYTHONPATH"]) == ("0", "src")
