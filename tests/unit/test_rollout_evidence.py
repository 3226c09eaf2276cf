"""What a service measures of a candidate: thirds of sessions, frames of two sets, counts that add up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import featureplane as fp
from featureplane.errors import SettingError, UnreadableFile
from featureplane.features import kernels as k
from featureplane.features.shadow import ShadowCounts
from featureplane.features.shadow_queue import OTHERS
from featureplane.market.instruments import Instrument
from featureplane.market.sessions import Session
from featureplane.release.criteria import Criteria
from featureplane.release.evidence import FLAGS, Evidence
from featureplane.release.reports import Report
from featureplane.services.rollout.evidence import (
    EvidenceKeeper,
    FrameComparison,
    SessionThirds,
    promoted_in_both,
    read_evidence,
)
from featureplane.services.rollout.steps import Asked, instant
from tests.services import V1, sample_lines

MINUTE_NS = 60_000_000_000
DAY_NS = 1_440 * MINUTE_NS
PLAIN = Instrument(venue="v", symbol="s", price_exponent=0, qty_exponent=0)
ABOUT = Evidence(active="a", candidate="b", began=3, shadow=True, abs_tol=0.0, features=("best_bid",))
CRITERIA = Criteria(baseline_messages=100, baseline_minutes=0, samples_min=10)


# -- thirds


def test_thirds_of_a_day_in_utc() -> None:
    thirds = SessionThirds(PLAIN, 1_440)
    day = 20_000 * DAY_NS
    assert [thirds(day + hour * 60 * MINUTE_NS) for hour in (0, 7, 8, 15, 16, 23)] == [
        (day, third) for third in (0, 0, 1, 1, 2, 2)
    ]
    assert thirds(day - 1) == (day - DAY_NS, 2)


def test_shorter_sessions_count_from_midnight_and_end_with_the_day() -> None:
    thirds, day = SessionThirds(PLAIN, 700), 20_000 * DAY_NS
    begins = [(day, 0), (day + 700 * MINUTE_NS, 0), (day + 1_400 * MINUTE_NS, 1), (day + DAY_NS, 0)]
    assert [thirds(day + at * MINUTE_NS) for at in (0, 700, 1_415, 1_440)] == begins


@given(st.integers(0, 30_000 * DAY_NS), st.integers(1, 1_440))
def test_every_instant_is_in_a_third_of_a_session_that_has_begun(at_ns: int, minutes: int) -> None:
    found = SessionThirds(PLAIN, minutes)(at_ns)
    assert found is not None
    assert found[0] <= at_ns < found[0] + minutes * MINUTE_NS
    assert found[1] in {0, 1, 2}


def test_a_venue_with_hours_has_thirds_of_them_and_none_outside() -> None:
    hours = Session.read_all([{"state": "trading", "opens": "09:00", "closes": "12:00"}])
    instrument = dataclasses.replace(PLAIN, sessions=hours, time_zone="UTC")
    thirds = SessionThirds(instrument, 1_440)
    monday = 20_003 * DAY_NS  # 2024-10-07
    opens = monday + 540 * MINUTE_NS
    seen = [thirds(monday + at * MINUTE_NS) for at in (539, 540, 600, 660, 719, 720)]
    assert seen == [None, (opens, 0), (opens, 1), (opens, 2), (opens, 2), None]


# -- frames of two sets


def pushed(*sets: fp.FeatureSet) -> tuple[list[tuple[fp.FeatureFrame, ...]], ...]:
    """The frames of each set, message by message."""
    lines, instruments = sample_lines(1_500), fp.sample_events().instruments
    pipelines = [fp.Pipeline(one, "binance-spot", instruments, live=False) for one in sets]
    return tuple([tuple(frame.copy() for frame in one.push(line)) for line in lines] for one in pipelines)


def test_frames_of_two_sets_agree_on_what_both_define() -> None:
    other = fp.feature_set("lob_shared_v2")
    told: list[Any] = []
    watch = FrameComparison(V1, other, every=2, abs_tol=0.0, differs=lambda *what: told.append(what))
    live, candidate = pushed(V1, other)
    for mine, theirs in zip(live, candidate, strict=True):
        watch.take(mine, theirs)
    counts = watch.counts
    due = sum(frame.seq % 2 == 0 for frames in live for frame in frames)
    assert (counts.match, counts.mismatch, counts.skipped) == (due, 0, 0)
    assert due > 20
    assert told == []
    assert counts.live_flags == counts.shadow_flags
    assert counts.live_flags["STATE_RESET"] <= 2


def test_a_difference_on_a_promoted_feature_is_told_with_its_time() -> None:
    told: list[tuple[int, str]] = []
    watch = FrameComparison(V1, V1, every=1, abs_tol=0.0, differs=lambda at, what: told.append((at, what)))
    (live,) = pushed(V1)
    frames = [one for one in live if one]
    watch.take(frames[3], frames[4])
    assert watch.counts.mismatch == 1
    assert told[0][0] == frames[3][0].local_ts_ns
    assert "_frame" in told[0][1]
    watch.take(frames[5], ())
    assert (watch.counts.mismatch, watch.counts.by_name["_frame"]) == (2, 2)


def test_what_is_not_promoted_is_counted_and_not_told() -> None:
    mine = fp.FeatureSet("mine", features={"bid": k.best_bid(), "mid": k.mid_x2()})
    assert promoted_in_both(mine, mine) == ()
    told: list[Any] = []
    watch = FrameComparison(mine, mine, every=1, abs_tol=0.0, differs=lambda *what: told.append(what))
    (live,) = pushed(mine)
    frames = [one for one in live if one]
    first = frames[3][0]
    changed = bytearray(first.pack())
    changed[-8:] = (12345).to_bytes(8, "little")
    watch.take((first,), (fp.FeatureFrame(bytes(changed), first.layout),))
    assert dict(watch.counts.by_name) == {"mid": 1}
    assert told == []


def test_promoted_features_that_are_defined_otherwise_are_not_compared() -> None:
    other = fp.FeatureSet("o", 1, {**V1.features, "ofi_l1_ema8": k.ema(k.ofi(level=1), span=9)})
    assert set(V1) - set(promoted_in_both(V1, other)) == {"ofi_l1_ema8"}


# -- the keeper


class Source:
    """Counts that grow."""

    def __init__(self) -> None:
        self.counts = ShadowCounts()

    def __call__(self) -> ShadowCounts:
        return self.counts

    def is_at(self, due: int, match: int, **more: Any) -> None:
        self.counts = ShadowCounts(due=due, match=match, **more)


def keeper(folder: Path, minutes: int = 3) -> EvidenceKeeper:
    return EvidenceKeeper(folder / "evidence.json", CRITERIA, SessionThirds(PLAIN, minutes))


def test_a_baseline_needs_messages_and_timed_ones(tmp_path: Path) -> None:
    one = keeper(tmp_path, 1_440)
    one.pass_by(99, 5)
    for _ in range(10):
        one.timed(3, 100)
    seen = [one.has_baseline]
    one.pass_by(1, 5)
    seen.append(one.has_baseline)
    assert [tail.p99 for tail in one.tails] == [3, 100]
    one.pass_by(50, DAY_NS)  # another session
    assert [*seen, one.has_baseline] == [False, True, False]
    numbers = {"messages": 50, "messages_min": 100, "samples": 0, "samples_min": 10}
    assert one.baseline == numbers | {"minutes": 0, "minutes_min": 0}


def test_a_baseline_is_of_some_minutes_however_many_messages_they_have(tmp_path: Path) -> None:
    criteria = dataclasses.replace(CRITERIA, baseline_minutes=2)
    one = EvidenceKeeper(tmp_path / "evidence.json", criteria, SessionThirds(PLAIN, 1_440))
    for _ in range(10):
        one.timed(3, 100)
    begins_ns = 7 * MINUTE_NS
    seen = []
    for at_ns in (0, MINUTE_NS, 2 * MINUTE_NS - 1, 2 * MINUTE_NS):
        one.pass_by(1_000, begins_ns + at_ns)
        seen.append(one.has_baseline)
    assert seen == [False, False, False, True]
    assert one.baseline["minutes"] == 2
    one.forget_baseline()
    one.pass_by(0, begins_ns + 3 * MINUTE_NS)
    assert one.baseline["minutes"] == 0


def test_frames_count_for_the_third_they_were_due_in_however_late_the_shadow_answers(tmp_path: Path) -> None:
    one, source = keeper(tmp_path), Source()
    one.begin(ABOUT, source)
    for minute, (due, match) in enumerate([(10, 0), (30, 4), (60, 25), (60, 60)]):
        source.is_at(due, match)
        one.count(min(minute, 2) * MINUTE_NS)
    evidence = one.evidence
    assert evidence is not None
    assert evidence.thirds == (10, 20, 30)
    source.is_at(100, 60, skipped=40)
    one.count(2 * MINUTE_NS)
    assert one.evidence is not None
    assert one.evidence.thirds == (10, 20, 30)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50)), max_size=20))
def test_thirds_never_hold_more_than_was_compared(steps: list[tuple[int, int, int]]) -> None:
    one, source = EvidenceKeeper(Path("unused"), CRITERIA, SessionThirds(PLAIN, 3)), Source()
    one._about, one._sources, one._lock = ABOUT, [source], 0
    due = match = skipped = 0
    for at, (more, answered, lost) in enumerate(steps):
        due += more
        match += min(answered, due - match - skipped)
        skipped += min(lost, due - match - skipped)
        source.is_at(due, match, skipped=skipped)
        one.count(at * 17_000_000_000)
    evidence = one.evidence
    assert evidence is not None
    assert evidence.thirds is not None
    assert evidence.compared == match
    assert sum(evidence.thirds) <= match
    if not skipped:
        assert sum(evidence.thirds) == match


def test_only_promoted_features_and_masks_are_mismatches_of_the_evidence(tmp_path: Path) -> None:
    one, source = keeper(tmp_path), Source()
    one.begin(ABOUT, source)
    source.is_at(5, 2, mismatch=3, by_name={"best_bid": 1, "other": 2, "_ready": 1})
    one.count(0)
    assert one.evidence is not None
    assert one.evidence.mismatches == {**dict.fromkeys(OTHERS, 0), "best_bid": 1, "_ready": 1}
    assert set(one.evidence.flags_active or {}) == set(FLAGS)


def measured(folder: Path, about: Evidence, match: int) -> Evidence | None:
    """A run of a service."""
    one, source = keeper(folder), Source()
    one.begin(about, source)
    source.is_at(match, match)
    for _ in range(20):
        one.timed(1, 200)
    one.count(0)
    one.save()
    one.close()
    return read_evidence(folder / "evidence.json")


def test_runs_add_up_as_long_as_they_are_about_the_same(tmp_path: Path) -> None:
    first, second = measured(tmp_path, ABOUT, 10), measured(tmp_path, ABOUT, 5)
    assert first is not None
    assert second is not None
    assert (first.compared, second.compared, len(second.runs)) == (10, 15, 2)
    assert second.runs[1].latency_with.p99 == 200
    for another in ({"began": 9}, {"since": "2026-01-05T10:00:00Z"}):  # a rollout that was begun anew
        other = measured(tmp_path, dataclasses.replace(ABOUT, **another), 5)
        assert other is not None
        assert (other.compared, len(other.runs)) == (5, 1)


def test_who_is_not_alone_has_no_evidence(tmp_path: Path) -> None:
    first, second = keeper(tmp_path), keeper(tmp_path)
    for one in (first, second):
        one.begin(ABOUT, Source())
    assert first.evidence is not None
    assert second.evidence is None
    assert (first.is_elsewhere, second.is_elsewhere) == (False, True)
    second.close()
    assert not (tmp_path / "evidence.json").exists()
    first.close()
    assert read_evidence(tmp_path / "evidence.json") is not None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"evidence_v1": 3}', '{"evidence_v1": {"x": 1}}', "[" * 100_000]
)
def test_a_damaged_file_is_no_evidence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "evidence.json"
    path.write_text(text)
    with pytest.raises(UnreadableFile):
        read_evidence(path)
    known = measured(tmp_path, ABOUT, 7)
    assert known is not None
    assert known.compared == 7


# -- what is asked


def test_what_is_asked_survives_the_socket() -> None:
    report = Report("mm", "f", same=False, decisions=(3, 4), sha256="0", form="Maker", signed_by="ann")
    asked = Asked(action="promote", by="ann", why="x", strategies=("mm",), reports=(report,), again=True)
    assert Asked.from_json(json.loads(json.dumps(asked.to_json()))) == asked


@pytest.mark.parametrize(
    "table",
    [
        [],
        None,
        "shadow",
        {"what": 1},
        {"action": 3},
        {"action": "canary", "strategies": "mm"},
        {"action": "canary", "strategies": [3]},
        {"action": "shadow", "again": "yes"},
        {"action": "promote", "reports": [3]},
        {"action": "promote", "reports": [{"strategy": "mm"}]},
    ],
)
def test_what_is_no_request_is_refused(table: object) -> None:
    with pytest.raises(SettingError, match="no change of a rollout"):
        Asked.from_json(table)


def test_an_instant_is_utc_to_the_millisecond() -> None:
    assert instant(1_723_075_200_123_456_789) == "2024-08-08T00:00:00.123Z"
