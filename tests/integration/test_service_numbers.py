"""Which series a service has, and from when on: what a rule reads is there, at 0, before anything happens."""

from __future__ import annotations

import pytest

from featureplane.features.latest import LatestFrames
from featureplane.features.shadow import Shadow
from featureplane.services.marketdata import MarketDataService
from featureplane.settings import Settings
from featureplane.telemetry import METRICS
from tests.services import SYMBOL, V1, sample_lines, service

OWN = {"strategy", "subscriber"}
"""Labels of series that are there once their strategy or subscriber is."""
FLAGS = {"gap", "state_reset", "stale_input", "out_of_order", "partial", "crossed"}
STAGES = {"normalize", "guard", "book", "features", "dispatch", "risk", "order"}
CAUSES = {"first", "session", "daily", "reconnect", "recovery", "explicit"}


def labels(running: MarketDataService, metric: str) -> set[str]:
    """What the last label of a metric is."""
    return {one[-1] for one in running.telemetry.publish()[metric]}


@pytest.mark.parametrize("fset", [V1, None], ids=["features", "no features"])
def test_before_the_first_message_every_series_is_there_at_0(fset: object) -> None:
    running = service(fset=None if fset is None else V1)
    picture = running.telemetry.publish()
    without_set = {"feature_shadow_parity_mismatch_total"} if fset is None else set()
    missing = {one.name for one in METRICS if not OWN & {*one.labels}} - without_set - {*picture}
    assert missing == set()
    stands = {"feature_rollout_phase", "feature_set_info", "features_ready", "raw_queue_capacity"}
    for name, series in picture.items():
        for number in series.values():
            count = sum(number[0]) if isinstance(number, tuple) else number
            assert name in stands or count == 0


def test_label_values_are_those_of_the_contract() -> None:
    running = service()
    assert labels(running, "feature_quality_flags_total") == FLAGS
    assert labels(running, "feature_quality_flags_standing") == FLAGS
    assert labels(running, "feature_resets_total") >= CAUSES
    assert labels(running, "pipeline_latency_ns") == STAGES
    assert labels(running, "feature_shadow_parity_checks_total") == {"match", "mismatch", "skipped", "error"}
    updates = {one[0] for one in running.telemetry.publish()["feature_plane_updates_total"]}
    assert updates == {"emitted", "updated", "dropped", "error"}
    assert labels(running, "feature_shadow_parity_mismatch_total") >= {"_changed", "_ready", "_flags"}


def test_what_happens_makes_no_series_that_was_not_there() -> None:
    lines = sample_lines(3000)
    lines.insert(2000, b"what")
    running = service()
    before = {(name, one) for name, series in running.telemetry.publish().items() for one in series}
    for line in lines:
        running.take(line)
    running.reconnect(SYMBOL)
    running.reconnect(None, "queue")
    after = {(name, one) for name, series in running.telemetry.publish().items() for one in series}
    assert after == before


def test_a_flag_stands_as_long_as_it_is_on_the_last_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    running = service()
    for line in sample_lines(3000):
        running.take(line)
    for flags, standing in ((0, 0), (1 << 2, 1), (1 << 2 | 1, 1)):
        monkeypatch.setattr(LatestFrames, "times", lambda *_, flags=flags: (1, flags))
        assert running.telemetry.publish()["feature_quality_flags_standing"]["stale_input",] == standing


def test_a_symbol_is_ready_behind_its_warm_up_and_not_behind_a_loss() -> None:
    running = service()

    def gauges() -> tuple[object, object]:
        picture = running.telemetry.publish()
        return picture["book_whole"][SYMBOL,], picture["features_ready"][SYMBOL,]

    assert gauges() == (0, 0)
    for line in sample_lines(3000):
        running.take(line)
    assert gauges() == (1, 1)
    running.reconnect(SYMBOL, "queue")
    assert gauges() == (0, 0)
    picture = running.telemetry.publish()
    assert picture["feed_resubscribe_total"][()] == 1
    assert picture["feed_reconnect_total"][()] == 0
    running.reconnect(None)
    picture = running.telemetry.publish()
    assert (picture["feed_resubscribe_total"][()], picture["feed_reconnect_total"][()]) == (1, 1)


def test_how_often_is_compared_is_told_and_0_without_a_shadow() -> None:
    assert service().telemetry.publish()["feature_shadow_sample_every"][()] == 0
    shadow = Shadow(sample_every=64, backend="python")
    running = service(shadow=shadow, settings=Settings(), backend="rust")
    try:
        assert running.telemetry.publish()["feature_shadow_sample_every"][()] == 64
    finally:
        shadow.close()


def test_another_set_ends_what_is_said_of_the_one_before() -> None:
    running = service()
    telemetry = running.telemetry
    telemetry.publish()
    telemetry.put_only("feature_set_info", "other", "f", "rust")
    telemetry.parts.clear()
    series = telemetry.publish()["feature_set_info"]
    assert sorted(series.values(), key=str) == [0, 1]
    assert series["other", "f", "rust"] == 1
