"""Drill: a handler raises."""

from __future__ import annotations

from pathlib import Path

import pytest

import featureplane as fp
from featureplane.services.marketdata import StrategyForms
from featureplane.strategy.examples import market_maker
from tests.drills.scene import scene
from tests.services import sample_lines


class Brittle(market_maker.SharedMarketMaker):
    """Cannot bear one frame."""

    bears = 300

    def on_features(self, frame: fp.FeatureFrame) -> None:
        if frame.seq == self.bears:
            raise ZeroDivisionError("on purpose")
        super().on_features(frame)


def test_it_is_stopped_alone_and_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    lines = sample_lines(12_000)
    makers = {"shared": Brittle, "legacy": market_maker.LegacyMarketMaker}
    strategies = Brittle("mm"), market_maker.SharedMarketMaker("other")
    with scene(
        "strategy-stopped", tmp_path, capsys, *strategies, forms={"mm": StrategyForms(makers, "shared")}
    ) as stage:
        stage.feed(lines[:2_000])
        stage.metrics()
        stage.feed(lines[2_000:5_000])
        stage.metrics()
        # The symptom.
        assert stage.value('strategy_stopped_total{strategy="mm"}') == 1
        assert stage.value('strategy_running{strategy="mm"}') == 0
        assert stage.value('strategy_running{strategy="other"}') == 1
        (said,) = [one for one in caplog.records if one.message.startswith("a strategy was stopped")]
        assert said.__dict__["fields"]["trace"].startswith("m")
        assert said.exc_info is not None
        assert not stage.running.runner.states["mm"].desk.working
        assert stage.page.ask("strategy list")["strategies"] == {"mm": "off", "other": "on"}
        _, shown = stage.page.curl("/metrics")
        assert 'strategy_exceptions_total{handler="on_features",strategy="mm"} 1.0' in shown
        # What the page says, and its effect.
        before = stage.running.story.decisions["mm", "submit"]
        stage.page.run("strategy set NAME legacy", NAME="mm")
        stage.feed(lines[5_000:8_000])
        assert stage.running.story.decisions["mm", "submit"] > before
        stage.page.run("strategy set NAME shared", NAME="mm")
        stage.feed(lines[8_000:])
        # The recovery.
        stage.metrics(40)
        assert stage.value('strategy_running{strategy="mm"}') == 1
        assert stage.value('strategy_exceptions_total{handler="on_features",strategy="mm"}') == 1
        stage.alarms(*stage.page.alerts)
