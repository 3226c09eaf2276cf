"""Drill: messages come faster than they are taken."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane.features.symbol import SymbolRun
from featureplane.services.marketdata import StrategyForms
from featureplane.services.raw_queue import RawQueue
from featureplane.settings import Settings
from featureplane.strategy.examples import market_maker
from tests.drills.scene import scene
from tests.feeds import with_snapshots
from tests.integration.test_service_web import until_taken
from tests.services import SAMPLE, SYMBOL, sample_lines

ROOM = 500


class Slow(market_maker.SharedMarketMaker):
    """Takes its time from a frame on."""

    from_seq = 300

    def on_features(self, frame: fp.FeatureFrame) -> None:
        if frame.seq > self.from_seq:
            time.sleep(0.05)
        super().on_features(frame)


def test_what_does_not_fit_is_lost_and_the_slow_one_goes_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [b"%d %s" % one for one in with_snapshots([SAMPLE])]
    slow = {"mm": StrategyForms({"shared": Slow, "legacy": market_maker.LegacyMarketMaker}, "shared")}
    how = {"queue": RawQueue(ROOM, whose=lambda _: SYMBOL), "budget_ns": 10_000_000}
    with scene("too-slow", tmp_path, capsys, Slow("mm"), forms=slow, **how) as stage:
        for at in range(0, 2_500, 100):
            stage.feed(lines[at : at + 100])
        stage.metrics()
        at, lost = 2_500, 0
        while lost < 300 or stage.running.runner.states["mm"].over_budget["on_features"] < 40:
            lost += not stage.steps.queue.put(lines[at])
            at += 1
            time.sleep(0.0005)
        stage.metrics()
        # The symptom.
        assert stage.value("raw_queue_capacity") == ROOM
        assert stage.value("raw_queue_depth") > 0.8 * ROOM
        assert stage.value("raw_queue_dropped_total") >= lost
        _, shown = stage.page.curl("/metrics")
        assert 'pipeline_latency_ns_sum{stage="dispatch"}' in shown
        assert stage.value('strategy_over_budget_total{handler="on_features",strategy="mm"}') > 10
        # What the page says, and its effect: all that waits is taken.
        stage.page.run("strategy set NAME off", NAME="mm")
        until_taken(stage.running, at - lost)
        assert len(stage.steps.queue) == 0
        # The recovery: behind the next snapshot.
        stage.given = at - lost
        for begin in range(at, at + 3_000, 100):
            stage.feed(lines[begin : begin + 100])
        stage.metrics(40)
        assert stage.value('book_broken_total{reason="queue"}') >= 1
        assert stage.value("raw_queue_dropped_total") == lost
        assert stage.value("raw_queue_depth") == 0
        assert stage.readyz()[0] == 200
        stage.alarms("RawQueueDropping", "RawQueueNearFull", "StrategyOverBudget")


@pytest.mark.native
def test_features_that_take_too_long_are_seen_by_stage_and_backend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = SymbolRun._computed_frame

    def slowly(*given: Any) -> Any:
        time.sleep(0.002)  # on any machine more than the alert allows
        return computed(*given)

    monkeypatch.setattr(SymbolRun, "_computed_frame", slowly)
    phases, fset = [], fp.feature_set("lob_shared_v2")
    settings = Settings(latency_sample_every=1)
    for backend, minutes in (("python", 30), ("rust", 40)):
        how = {"fset": fset, "backend": backend, "settings": settings}
        with scene("too-slow", tmp_path, capsys, **how) as stage:
            if backend == "python":
                stage.metrics()
            stage.feed(sample_lines(3_000))
            stage.metrics(minutes, grows=minutes)
            _, shown = stage.page.curl("/metrics")
            assert 'pipeline_latency_ns_count{stage="features"}' in shown
            assert f'backend="{backend}"' in stage.phases[-1].text
            phases += stage.phases
    stage.phases = phases
    stage.alarms("FeaturePlaneSlow")
