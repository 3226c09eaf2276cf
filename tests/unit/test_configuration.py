"""Command line over environment over file; what is no name or no value is refused, with what may be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featureplane.errors import SettingError, UnreadableFile
from featureplane.execution.limits import RiskLimits
from featureplane.services.configuration import ServiceConfiguration, nearest, read_configuration
from featureplane.settings import Settings

NOTHING: dict[str, str] = {}


def written(folder: Path, text: str) -> Path:
    path = folder / "service.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_said_is_every_default() -> None:
    assert read_configuration(environment=NOTHING) == ServiceConfiguration()
    assert read_configuration(None, {"source": None, "symbol": []}, NOTHING) == ServiceConfiguration()


def test_everything_can_stand_in_the_file(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        source = "replay:a.gz@2"
        feed = "binance-usdm"
        symbol = ["A", "B"]
        features = "lob_shared_v2"
        strategy = "mm=module:Class"
        venue = "paper"
        instruments = "i.toml"
        fill = "touch"
        latency_us = 5
        maker_bps = "-0.5"
        taker_bps = "4"
        budget_us = 0
        queue = 1
        metrics = "127.0.0.1:8000"
        remote = true
        control = "off"
        record = "there"
        record_mb = 1
        log_json = true
        log_level = "debug"
        backend = "python"
        engine_enabled = 0
        engine_backend = "python"
        engine_emit_events = false
        metrics_sample_every = 1
        latency_sample_every = 2

        [limits]
        order_qty_max = "0.5"
        orders_per_second_max = 3
        """,
    )
    assert read_configuration(file, environment=NOTHING) == ServiceConfiguration(
        source="replay:a.gz@2",
        feed="binance-usdm",
        symbol=("A", "B"),
        features="lob_shared_v2",
        strategy=("mm=module:Class",),
        venue="paper",
        instruments="i.toml",
        fill="touch",
        latency_us=5,
        maker_bps="-0.5",
        taker_bps="4",
        budget_us=0,
        queue=1,
        metrics="127.0.0.1:8000",
        remote=True,
        control="off",
        record="there",
        record_mb=1,
        log_json=True,
        log_level="debug",
        backend="python",
        limits=RiskLimits(order_qty_max="0.5", orders_per_second_max=3),
        settings=Settings(
            engine_enabled=False,
            engine_backend="python",
            engine_emit_events=False,
            metrics_sample_every=1,
            latency_sample_every=2,
        ),
    )


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = written(
        tmp_path, 'source = "a"\nfill = "touch"\nengine_enabled = true\nlatency_sample_every = 9\n'
    )
    given: dict[str, Any] = {"source": "b", "symbol": ["X"], "record": Path("r"), "fill": None}
    asked = read_configuration(file, given, {"HFT_FEATURE_ENGINE_ENABLED": "0"})
    assert (asked.source, asked.fill, asked.symbol, asked.record) == ("b", "touch", ("X",), "r")
    assert asked.settings == Settings(engine_enabled=False, latency_sample_every=9)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ('sorce = "a"', "unknown key 'sorce'", "did you mean source? "),
        ("engine_enable = 0", "unknown key 'engine_enable'", "did you mean engine_enabled? "),
        ("ENGINE_ENABLED = 0", "unknown key 'ENGINE_ENABLED'", "there are: source"),
        ("settings = 1", "unknown key 'settings'", ""),
        ("source = 5", "source=5", "text"),
        ("symbol = 5", "symbol=5", "a list of names"),
        ("symbol = [5]", r"symbol=\[5\]", "a list of names"),
        ("latency_us = -1", "latency_us=-1", "a number from 0 to"),
        ('latency_us = "1"', "latency_us='1'", "a number from 0 to"),
        ("latency_us = true", "latency_us=True", "a number from 0 to"),
        ("queue = 0", "queue=0", "a number from 1 to"),
        ("remote = 1", "remote=1", "true or false"),
        ("engine_enabled = 2", "toml: engine_enabled=2", "0 or 1"),
        ("metrics_sample_every = 0", "toml: metrics_sample_every=0", "a number from 1"),
        ("latency_sample_every = 1000001", "toml: latency_sample_every=1000001", "a number from 1"),
        ('engine_backend = "cuda"', "toml: engine_backend='cuda'", "auto or rust or python"),
        ("limits = 1", "limits=1", r"[limits]"),
        ("[limits]\norder_qty = 1", "unknown limit 'order_qty'", "did you mean order_qty_max? "),
        ("[limits]\norder_qty_max = 1", "order_qty_max=1", "decimal text"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, said: str, hint: str) -> None:
    with pytest.raises(SettingError, match=said) as caught:
        read_configuration(written(tmp_path, text), environment=NOTHING)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


@pytest.mark.parametrize("text", [None, "a = = b", "[" * 100_000])
def test_what_is_no_file_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "none.toml" if text is None else written(tmp_path, text)
    with pytest.raises(UnreadableFile):
        read_configuration(path, environment=NOTHING)


def test_an_unknown_variable_is_refused_here_too() -> None:
    with pytest.raises(SettingError, match="HFT_FEATURE_ENGIN_ENABLED is no setting"):
        read_configuration(environment={"HFT_FEATURE_ENGIN_ENABLED": "1"})


def test_a_hint_names_the_nearest_or_all() -> None:
    assert nearest("paiper", ("paper", "real")) == "did you mean paper? there are: paper, real"
    assert nearest("xyz", ("paper",)) == "there are: paper"
