"""A service as `featureplane run` makes it, with a rollout, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from featureplane.cli.app import main
from featureplane.services.configuration import ServiceConfiguration
from featureplane.services.preparation import prepare
from featureplane.settings import read_settings
from tests.drills.page import Page
from tests.drills.scene import Scene
from tests.integration.test_service_web import served
from tests.services import INSTRUMENTS, SAMPLE

CRITERIA = """\
frames_min = 400
session_minutes = 10
samples_min = 100
baseline_messages = 2000
baseline_minutes = 0
canary_frames_min = 20
queue_p99_ratio_max = 1000
latency_p99_ratio_max = 1000

[guard]
p99_ratio_max = 1000
"""
FORMS = "featureplane.strategy.examples.market_maker:FORMS"
SLOW = 'base = "lob_shared_v1"\nprofile = "slow"\n[parameters]\nspread_ema8_scaled = { span = 16 }\n'
HASTY = 'base = "lob_shared_v1"\nprofile = "hasty"\n[parameters]\nofi_l1_ema8 = { span = 2 }\n'
ANN = ("--by", "ann", "--why", "a drill")


def prepare_rollout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a rollout is kept, with criteria that a part of the sample can reach, and candidates."""
    state = folder / "rollout" / "feature_rollout.json"
    state.parent.mkdir()
    for name, value in (
        ("ROLLOUT_STATE_PATH", str(state)),
        ("SHADOW_PARITY", "1"),
        ("SHADOW_SAMPLE_EVERY", "2"),
        ("LATENCY_SAMPLE_EVERY", "4"),
    ):
        monkeypatch.setenv(f"HFT_FEATURE_{name}", value)
    state.with_suffix(".criteria.toml").write_text(CRITERIA, encoding="utf-8")
    for name, text in (("slow", SLOW), ("hasty", HASTY)):
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return state


@contextmanager
def rollout_scene(
    page: str, folder: Path, capsys: pytest.CaptureFixture[str], features: str | None = "lob_shared_v1"
) -> Iterator[Scene]:
    """A service that follows the rollout, with two strategies: `mm` and `other`."""
    asked = ServiceConfiguration(
        source=f"replay:{SAMPLE}",
        feed="binance-spot",
        instruments=str(INSTRUMENTS),
        features=features,
        strategy=(f"mm={FORMS}", f"other={FORMS}"),
        metrics="127.0.0.1:0",
        settings=read_settings(),
    )
    running = prepare(asked).service
    with served(running, folder) as (address, path, steps):
        yield Scene(running, Page(page, capsys, path, address), folder, steps)


def told(stage: Scene, *words: str) -> None:
    """Tell the rollout of the service something that is on no page: how it came to where a drill begins."""
    assert stage.page.control is not None
    assert main(["rollout", *words, *ANN, "--control", str(stage.page.control)]) == 0
