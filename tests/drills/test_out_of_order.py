"""Drill: messages come after their turn."""

from __future__ import annotations

from pathlib import Path

import pytest

import featureplane as fp
from featureplane.services.marketdata import StrategyForms
from featureplane.strategy.examples import market_maker
from tests.drills.scene import scene
from tests.services import sample_lines

V2 = fp.feature_set("lob_shared_v2")


class Maker(market_maker.SharedMarketMaker):
    """Reads a set that reads trades."""

    required_features = "lob_shared_v2"


def swapped(lines: list[bytes]) -> list[bytes]:
    """The same lines, each two trades that follow each other the other way round."""
    out: list[bytes] = []
    held: bytes | None = None
    for line in lines:
        if b'"e":"trade"' not in line:
            out.append(line)
        elif held is None:
            held = line
        else:
            out += [line, held]
            held = None
    return out


def test_late_messages_are_seen_and_strategies_wait(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = sample_lines(16_000)
    forms = {"mm": StrategyForms({"shared": Maker}, "shared")}
    with scene("out-of-order", tmp_path, capsys, Maker("mm"), fset=V2, forms=forms) as stage:
        stage.feed(lines[:4_000])
        stage.metrics()
        assert stage.value('events_dropped_total{reason="late"}') == 0
        stage.feed(swapped(lines[4_000:10_000]))
        stage.metrics()
        # The symptom.
        late = stage.value('events_dropped_total{reason="late"}')
        assert late > 100
        assert stage.value('feature_quality_flags_total{flag="out_of_order"}') > 10
        _, shown = stage.page.curl("/metrics")
        assert f'events_dropped_total{{reason="late"}} {late}' in shown
        assert 'events_dropped_total{reason="duplicate"} 0.0' in shown, "one line reorders: no two carry it"
        # What the page says, and its effect.
        stage.page.run("strategy set NAME off", NAME="mm")
        said = stage.running.story.decisions.total()
        stage.feed(lines[10_000:13_000])
        assert stage.running.story.decisions.total() == said
        # The recovery.
        stage.metrics(40)
        assert stage.value('events_dropped_total{reason="late"}') == late
        stage.page.run("strategy set NAME shared", NAME="mm")
        stage.feed(lines[13_000:])
        assert stage.running.story.decisions.total() > said
        stage.alarms(*stage.page.alerts)
