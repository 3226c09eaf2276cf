"""Who looks at the log of a service sees which messages could not be read, and why."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import featureplane as fp
from featureplane import native
from featureplane.clock import ManualClock
from featureplane.services.marketdata import MarketDataService
from featureplane.services.unreadable import BYTES_SHOWN, LINES_A_MINUTE, shown
from featureplane.units import NANOS_PER_SECOND
from tests.services import SYMBOL, V1, sample_lines, service

LOGGER = "featureplane.services.unreadable"
BACKENDS = ["python", pytest.param("rust", marks=pytest.mark.skipif(not native.available(), reason="Rust"))]
LINES = sample_lines(4_000)
DIFF = next(line for line in LINES[3_000:] if b"depthUpdate" in line)
TRADE = next(line for line in LINES[3_000:] if b'"trade"' in line)
AT = DIFF[:20]
UNREADABLE = {
    "a trade": TRADE.replace(b'"p":"', b'"p":"x'),
    "a diff": DIFF.replace(b'"b":[', b'"b":[3,'),
    "garbage": AT + b"\xff\x00\x1b[2J" + b"x" * 500,
    "nothing": AT,
}


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = [one for one in caplog.records if one.name == LOGGER]
    return [{"what": one.getMessage(), "level": one.levelname, **one.__dict__["fields"]} for one in found]


def begun(caplog: pytest.LogCaptureFixture, most: int = 2_000, **how: Any) -> MarketDataService:
    caplog.set_level(logging.WARNING, LOGGER)
    running = service(**how)
    for line in LINES[:most]:
        running.take(line)
    return running


@pytest.mark.parametrize("fset", [V1, None], ids=["features", "none"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("most", [2_000, 3], ids=["whole", "waiting"])
def test_each_is_told_with_source_place_reason_and_its_beginning(
    most: int, backend: str, fset: fp.FeatureSet | None, caplog: pytest.LogCaptureFixture
) -> None:
    running = begun(caplog, most, backend=backend, fset=fset)
    assert told(caplog) == []
    for at, bad in enumerate(UNREADABLE.values()):
        running.take(bad)
        running.take(TRADE)
        line = told(caplog)[at]
        assert (line["what"], line["level"]) == ("a message cannot be read", "WARNING")
        assert (line["source"], line["trace"]) == ("binance-spot", f"m{most + 2 * at + 1}")
        assert line["reason"].startswith("found ")
        assert ", expected " in line["reason"]
        assert line["bytes"] == len(bad)
        assert line["begins"] == shown(bad)
    assert len(told(caplog)) == len(UNREADABLE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_read_and_of_no_use_here_is_not_told(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    running = begun(caplog, backend=backend)
    running.take(TRADE.replace(b'"p":"', b'"p":"x'))
    for line in (AT + b'{"result":null,"id":1}', TRADE.replace(SYMBOL.encode(), b"BTCUSDT"), DIFF, TRADE):
        running.take(line)
    assert len(told(caplog)) == 1


def test_a_flood_is_a_few_lines_a_minute_and_a_number(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    running = begun(caplog, clock=clock)
    for _ in range(100):
        running.take(UNREADABLE["garbage"])
    assert len(told(caplog)) == LINES_A_MINUTE
    clock.move(61 * NANOS_PER_SECOND)
    running.take(UNREADABLE["garbage"])
    assert told(caplog)[-1]["left_out_before"] == 100 - LINES_A_MINUTE
    for _ in range(10):
        running.take(UNREADABLE["a trade"])
    running.finish()
    assert told(caplog)[-1]["left_out"] == 10 - (LINES_A_MINUTE - 1)
    assert running.feed.counts["dropped"]["malformed"] == 111


def test_what_is_refused_is_told_in_the_same_way(caplog: pytest.LogCaptureFixture) -> None:
    running = begun(caplog, 10)
    for _ in range(100):
        running.take(TRADE, None, "NOSUCH")
    lines = told(caplog)
    assert len(lines) == LINES_A_MINUTE
    assert lines[0]["what"] == "a message cannot be used"
    assert (lines[0]["level"], lines[0]["begins"]) == ("ERROR", shown(TRADE))
    assert "NOSUCH" in lines[0]["error"]


def test_another_set_changes_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    running = begun(caplog)
    running.take(UNREADABLE["a trade"])
    running.rollout.activate(fp.feature_set("lob_shared_v2"))
    running.take(TRADE)
    assert len(told(caplog)) == 1
    running.take(UNREADABLE["a trade"])
    assert len(told(caplog)) == 2


@pytest.mark.parametrize("data", [b"\x00\x1b[31m\n\xff", b"'\"\\", b"x" * 10_000, b""])
def test_whatever_it_is_it_is_shown_in_a_little_plain_text(data: bytes) -> None:
    text = shown(data)
    assert text.isascii()
    assert text.isprintable() or not text
    assert len(text) <= 4 * BYTES_SHOWN
