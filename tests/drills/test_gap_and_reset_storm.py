"""Drill: messages are lost again and again, the book breaks and begins anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from featureplane.services.raw_queue import Reconnect
from tests.drills.scene import Scene, forms, maker, scene
from tests.feeds import with_snapshots
from tests.services import SAMPLE, SYMBOL

HOLES = 9


def is_depth(line: bytes) -> bool:
    return b'"depthUpdate"' in line


def is_snapshot(line: bytes) -> bool:
    return b'"lastUpdateId"' in line


def lose(stage: Scene, lines: list[bytes]) -> int:
    """Let lines come of which one diff is lost behind each snapshot; how many came."""
    holes, armed = 0, True
    for at, line in enumerate(lines):
        if is_depth(line) and armed and holes < HOLES:
            holes, armed = holes + 1, False
            stage.say(Reconnect(SYMBOL))
            continue
        if is_snapshot(line):
            if holes == HOLES:
                stage.feed([])
                return at
            armed = True
        stage.put(line)
    raise AssertionError("too few snapshots")


def test_a_storm_is_seen_held_out_and_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [b"%d %s" % one for one in with_snapshots([SAMPLE])]
    with scene("gap-and-reset-storm", tmp_path, capsys, maker(), **forms()) as stage:
        stage.feed(lines[:3_000])
        stage.metrics()
        assert stage.readyz()[0] == 200
        at = 3_000 + lose(stage, lines[3_000:])
        stage.metrics()
        # The symptom.
        assert stage.value('feature_resets_total{cause="recovery"}') >= HOLES - 1
        assert stage.value("feed_reconnect_total") == HOLES
        assert stage.value('book_whole{symbol="ETHUSDT"}') == 0
        status, body = stage.page.curl("/readyz")
        assert status == 503
        assert "its book is not whole" in body
        _, shown = stage.page.curl("/metrics")
        assert "feature_resets_total" in shown
        # What the page says.
        (found,) = stage.page.ask("strategy list")["strategies"].items()
        assert found == ("mm", "shared")
        stage.page.run("strategy set NAME off", NAME="mm")
        said = stage.running.story.decisions.total()
        assert not stage.running.runner.states["mm"].desk.working, "its orders are cancelled"
        # Its effect: nobody decides while it goes on, and the recovery.
        stage.feed(lines[at : at + 3_000])
        assert stage.running.story.decisions.total() == said
        stage.metrics(40)
        assert stage.readyz()[0] == 200
        assert stage.value('book_whole{symbol="ETHUSDT"}') == 1
        assert stage.value('features_ready{symbol="ETHUSDT"}') == 1
        stage.page.run("strategy set NAME legacy", NAME="mm")
        stage.feed(lines[at + 3_000 : at + 6_000])
        assert stage.running.story.decisions.total() > said
        stage.alarms("BookNotWhole", "FeatureResetStorm", "FeedReconnectStorm")


def test_lost_messages_alone_break_the_book_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [b"%d %s" % one for one in with_snapshots([SAMPLE])]
    with scene("gap-and-reset-storm", tmp_path, capsys) as stage:
        stage.feed(lines[:3_000])
        stage.metrics()
        armed = True
        for line in lines[3_000:9_000]:
            if is_depth(line) and armed:
                armed = False
                continue
            armed = armed or is_snapshot(line)
            stage.put(line)
        stage.feed([])
        stage.metrics()
        assert stage.value('book_broken_total{reason="gap"}') > 6
        stage.feed(lines[9_000:12_000])
        stage.metrics(40)
        assert stage.readyz()[0] == 200
        stage.alarms("BookGapStorm", "FeatureResetStorm")
