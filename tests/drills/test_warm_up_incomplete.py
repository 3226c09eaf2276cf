"""Drill: a feature has no value, and nothing is wrong with the book."""

from __future__ import annotations

from pathlib import Path

import pytest

import featureplane as fp
from featureplane.features import kernels as k
from featureplane.services.marketdata import StrategyForms
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.events import BidAskEvent
from tests.drills.scene import scene
from tests.services import sample_lines

THIN = fp.FeatureSet(
    "thin", features={"mid": k.mid_x2(), "flow": k.sum_over(k.signed_qty(), seconds=1), "bid": k.best_bid()}
)


class Reads(BaseStrategy):
    """Decides by both, once both have a value."""

    required_features = THIN.fingerprint
    decided = 0

    def on_features(self, frame: fp.FeatureFrame) -> None:
        if self.ctx.get_feature(frame.symbol, "flow", default=None) is not None:
            type(self).decided += 1


class Computes(BaseStrategy):
    """The same without features."""

    decided = 0

    def on_bid_ask(self, _event: BidAskEvent) -> None:
        type(self).decided += 1


def test_what_waits_for_a_window_waits_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = sample_lines(9_000)
    quiet = [line for line in lines if b'"e":"trade"' not in line]
    forms = {"mm": StrategyForms({"shared": Reads, "legacy": Computes}, "shared")}
    with scene("warm-up-incomplete", tmp_path, capsys, Reads("mm"), fset=THIN, forms=forms) as stage:
        stage.metrics()
        stage.feed(quiet[:3_000])
        stage.metrics()
        # The symptom.
        assert stage.value('book_whole{symbol="ETHUSDT"}') == 1
        assert stage.value('features_ready{symbol="ETHUSDT"}') == 0
        status, body = stage.page.curl("/readyz")
        assert (status, "no value yet: flow" in body) == (503, True)
        _, shown = stage.page.curl("/metrics")
        assert 'feature_resets_total{cause="gap"} 0.0' in shown
        assert "warm" in stage.page.run("features show lob_shared_v1")
        assert Reads.decided == 0, "it waits by itself"
        # What the page says, and its effect.
        stage.page.run("strategy set NAME legacy", NAME="mm")
        stage.feed(quiet[3_000:4_000])
        assert Computes.decided > 0
        # The recovery: trades come.
        at = lines.index(quiet[3_999]) + 1
        stage.feed(lines[at : at + 2_000])
        stage.metrics(40)
        assert stage.readyz()[0] == 200
        assert stage.value('features_ready{symbol="ETHUSDT"}') == 1
        stage.page.run("strategy set NAME shared", NAME="mm")
        before = Computes.decided
        stage.feed(lines[at + 2_000 :])
        assert Reads.decided > 0
        assert Computes.decided == before
        stage.alarms(*stage.page.alerts)
