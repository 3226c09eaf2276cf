"""Metrics in the text of Prometheus, and the log in one form."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from featureplane.errors import ExtraUnavailable, SettingError
from featureplane.telemetry import (
    LATENCY_EDGES_NS,
    METRICS,
    Histogram,
    Telemetry,
    exposition,
    log_event,
    log_to,
)


def numbers(telemetry: Telemetry) -> None:
    histogram = Histogram()
    for value in (0, 250, 251, 5_000_000, 5_000_001):
        histogram.observe(value)
    telemetry.put("pipeline_latency_ns", histogram, "features")
    telemetry.put("raw_queue_depth", 3)
    telemetry.put("feature_plane_updates_total", 7, "emitted", "lob_shared_v1")
    telemetry.put_all("strategy_exceptions_total", {"on_tick": 1, 'od"d\n': 2}, "mm")


def test_what_is_published_is_what_prometheus_reads() -> None:
    telemetry = Telemetry([numbers])
    text, kind = exposition(telemetry.publish())
    assert kind.startswith("text/plain; version=")
    samples = {
        (one.name, *sorted(one.labels.items())): one.value
        for family in parsed(text.decode())
        for one in family.samples
    }
    assert samples["raw_queue_depth",] == 3
    updates = ("feature_plane_updates_total", ("feature_set", "lob_shared_v1"), ("result", "emitted"))
    assert samples[updates] == 7
    odd = ("strategy_exceptions_total", ("handler", 'od"d\n'), ("strategy", "mm"))
    assert samples[odd] == 2
    stage = ("stage", "features")
    assert samples["pipeline_latency_ns_count", stage] == 5
    assert samples["pipeline_latency_ns_sum", stage] == 0 + 250 + 251 + 5_000_000 + 5_000_001
    for edge, below in ((250, 2), (500, 3), (5_000_000, 4), ("+Inf", 5)):
        assert samples["pipeline_latency_ns_bucket", ("le", str(edge)), stage] == below


def test_a_picture_stays_what_it_was() -> None:
    count = 1
    telemetry = Telemetry([lambda one: one.put("raw_queue_depth", count)])
    before = telemetry.publish()
    count = 2
    assert telemetry.publish()["raw_queue_depth"] == {(): 2}
    assert before["raw_queue_depth"] == {(): 1}


def test_declarations_are_sound() -> None:
    assert len({one.name for one in METRICS}) == len(METRICS)
    assert list(LATENCY_EDGES_NS) == sorted(LATENCY_EDGES_NS)
    assert (LATENCY_EDGES_NS[0], LATENCY_EDGES_NS[-1]) == (250, 5_000_000)
    for one in METRICS:
        assert (one.kind == "counter") is one.name.endswith("_total")
        assert (one.kind == "histogram") is bool(one.edges)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ExtraUnavailable) as caught:
        exposition({})
    assert caught.value.hint == f"{sys.executable} -m pip install 'featureplane[ops]' brings it"


def test_a_line_of_the_log_is_one_json_object() -> None:
    stream, log = io.StringIO(), logging.getLogger("featureplane.services.x")
    with log_to(stream, as_json=True):
        log_event(log, logging.INFO, "100 %s", trace="m7", price=None, ratio=float("nan"), message="mine")
        log_event(log, logging.DEBUG, "too much")
        log.error("failed", exc_info=ValueError("on\npurpose"), extra={"fields": {"trace": "m8"}})
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert list(first) == ["time", "level", "logger", "message", "trace", "price", "ratio"]
    assert first["message"] == "100 %s"
    assert (first["level"], first["logger"]) == ("info", "featureplane.services.x")
    assert (first["trace"], first["price"], first["ratio"]) == ("m7", None, "nan")
    assert first["time"].endswith("Z")
    assert second["trace"] == "m8"
    assert "ValueError: on\npurpose" in second["traceback"]


def test_a_line_to_read_is_one_line() -> None:
    stream, log = io.StringIO(), logging.getLogger("featureplane.services.x")
    with log_to(stream, as_json=False, level="debug"):
        log_event(log, logging.DEBUG, "two\nlines", trace="m7", why="a b", odd="\x1b[2J", empty="")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(' debug   services.x: two lines  trace=m7  why="a b"  odd="\\u001b[2J"  empty=')


def test_behind_a_program_the_log_is_as_it_was() -> None:
    root, ours, stream = logging.getLogger(), logging.getLogger("featureplane"), io.StringIO()
    before = root.handlers[:], root.level, ours.level
    with pytest.raises(KeyError), log_to(stream, as_json=True):
        raise KeyError
    assert (root.handlers, root.level, ours.level) == before
    stream.close()
    log_event(ours, logging.ERROR, "nothing is written to a stream that was closed")


def test_a_level_that_is_none_is_refused() -> None:
    with (
        pytest.raises(SettingError, match="log level 'loud'"),
        log_to(io.StringIO(), as_json=False, level="loud"),
    ):
        pass
