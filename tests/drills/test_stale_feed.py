"""Drill: nothing comes, or it comes late."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drills.scene import forms, maker, scene
from tests.services import sample_lines

LATE_NS = 5_000_000_000


def test_silence_and_late_messages_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = sample_lines(12_000)
    late = [b"%d%s" % (int(line[:19]) + LATE_NS, line[19:]) for line in lines[4_000:6_000]]
    with scene("stale-feed", tmp_path, capsys, maker(), **forms()) as stage:
        stage.feed(lines[:4_000])
        stage.metrics()
        # The symptom: first nothing, then what is late.
        stage.metrics()
        status, body = stage.page.curl("/healthz")
        assert (status, f'"messages":{stage.given}' in body) == (200, True)
        _, shown = stage.page.curl("/metrics")
        assert "raw_queue_depth 0.0" in shown, "nothing comes from outside"
        stage.alarms("FeedSilent", over=False)
        silent = stage.phases.pop()
        stage.feed(late)
        stage.metrics()
        assert stage.value('feature_quality_flags_standing{flag="stale_input"}') == 1
        assert silent.text != stage.phases[-1].text
        # What the page says, and its effect.
        stage.page.run("strategy set NAME off", NAME="mm")
        said = stage.running.story.decisions.total()
        stage.feed(lines[6_000:9_000])
        assert stage.running.story.decisions.total() == said
        # The recovery.
        stage.metrics(40)
        assert stage.value('feature_quality_flags_standing{flag="stale_input"}') == 0
        stage.page.run("strategy set NAME shared", NAME="mm")
        stage.feed(lines[9_000:])
        assert stage.running.story.decisions.total() > said
        stage.alarms(*stage.page.alerts[1:])
        assert list(stage.page.alerts) == ["FeedSilent", "FeedStale"]
