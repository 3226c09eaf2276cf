"""A rollout in a running service, through its control socket and behind its back."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane import native
from featureplane.cli.app import main
from featureplane.clock import SYSTEM
from featureplane.features.loading import load_feature_set
from featureplane.features.profiles import profile_of
from featureplane.release.evidence import Tail
from featureplane.release.rollout import Action, Phase, Version
from featureplane.release.rollout_file import RolloutFile
from featureplane.strategy.twins import Twin
from featureplane.telemetry import Picture
from tests.integration.test_rollout import ANN, CRITERIA
from tests.rollouts import FORMS, MAKER, PLACE, consumed, folder, number, running
from tests.services import SYMBOL
from tests.shadow import until

__all__ = ["folder"]

pytestmark = pytest.mark.skipif(not native.available(), reason="both backends are needed")


def test_a_running_service_follows_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = ["mm=alone.py:Maker", "alone.py:Taker"]
    with running(folder, *two) as live:
        other = next(name for name in live.service.runner.states if name != "mm")
        live.rollout("shadow", "slow.toml", *ANN)
        assert "the candidate begins when the baseline is measured" in capsys.readouterr().err
        live.rollout("canary", "--strategy", "mm", *ANN, status=2)
        assert "the baseline is still being measured" in capsys.readouterr().err
        live.more(4_200)
        told = live.told(capsys)
        assert (told["phase"], told["service"]["compared_in"]) == ("shadow", "shadow")
        assert told["active"]["feature_set_id"] == "lob_shared_v1"
        live.more(4_000)
        live.rollout("canary", "--strategy", "mm", *ANN)
        live.more(4_000)
        assert (consumed(live, "mm"), consumed(live, other)) == ("lob_shared_v1@slow", "lob_shared_v1")
        told = live.told(capsys)
        assert told["service"]["consuming"] == [f"mm {SYMBOL}"]
        assert told["evidence"]["compared"] > 150
        assert set(told["evidence"]["mismatches"].values()) == {0}
        live.rollout("promote", *ANN, status=2)
        live.rollout("disable", *ANN)
        live.more(2_000)
        assert (consumed(live, "mm"), live.pilot.state.phase) == ("lob_shared_v1", Phase.DISABLED)
        live.rollout("enable", *ANN)
        live.more(3_000)
        assert consumed(live, "mm") == "lob_shared_v1@slow"
        live.rollout("rollback", "--cause", "config", *ANN)
        live.more(500)
        assert (consumed(live, "mm"), consumed(live, other)) == ("lob_shared_v1", "lob_shared_v1")
        picture = live.service.picture(20)
    assert RolloutFile(PLACE).read().phase is Phase.ACTIVE
    assert picture["feature_rollout_rollback_total"]["config",] == 1
    assert picture["feature_rollout_phase"]["active",] == 1
    assert Path("var/feature_rollout.evidence.json").exists()


def test_a_promotion_and_its_way_back_while_it_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = load_feature_set("slow.toml")
    report = {
        "form": MAKER,
        "fingerprint": slow.fingerprint,
        "same": False,
        "decisions": {"legacy": 7, "shared": 8},
    }
    Path("ab.json").write_text(json.dumps(report))
    criteria = CRITERIA.replace("frames_min = 400", "frames_min = 100\nthirds_min = 1")
    Path("var/feature_rollout.criteria.toml").write_text(criteria)
    with running(folder, FORMS) as live:
        live.more(3_000)
        live.rollout("shadow", "slow.toml", *ANN)
        live.more(6_000)
        live.rollout("canary", "--strategy", MAKER, "--symbol", SYMBOL, *ANN)
        live.more(6_000)
        live.rollout("promote", "--ab", "ab.json", *ANN, status=2)
        assert "they differ, and nobody has signed that" in capsys.readouterr().err
        until(lambda: not any(one.outstanding for one in live.pilot.compared.values()))
        pictures = [live.service.picture(20)]
        live.rollout("promote", "--ab", "ab.json", "--sign", "ann", *ANN)
        assert live.service.fset is not None
        assert live.service.fset.feature_set_id == "lob_shared_v1@slow"
        pictures.append(live.service.picture(20))
        live.more(1_000)
        assert consumed(live) == "lob_shared_v1@slow"
        pictures.append(live.service.picture(20))
        live.rollout("rollback", "--cause", "kernel", *ANN)
        live.more(1_000)
        pictures.append(live.service.picture(20))
        assert_each_set_has_series_of_its_own(*pictures)
        assert (consumed(live), live.service.forms()[MAKER]) == ("lob_shared_v1", "shared")
        live.rollout("rollback", "--cause", "kernel", *ANN)
        live.more(1_000)
        assert live.service.forms()[MAKER] == "legacy"
    state = RolloutFile(PLACE).read()
    assert (state.phase, state.active) == (Phase.DISABLED, None)
    ways_back = [one.evidence for one in state.history if one.action is Action.ROLLBACK]
    assert [one["message"] for one in ways_back] == [16_000, 17_000]
    assert [one["mismatches"] for one in ways_back] == [{}, {}]
    assert ways_back[0]["promoted"]["frames"]
    assert ways_back[1]["compared"] > 100
    proof = next(one.evidence for one in state.history if one.action is Action.PROMOTE)
    assert proof["ab_report"] == f"{MAKER}: they differ, signed by ann"


def assert_each_set_has_series_of_its_own(*pictures: Picture) -> None:
    """From before a promotion, right behind it, later, and behind the way back."""
    before, promoted, later, back = pictures
    for name in ("feature_shadow_parity_checks_total", "feature_shadow_parity_mismatch_total"):
        new = {one for one in promoted[name] if one[0] == "lob_shared_v1@slow"}
        assert new <= before[name].keys(), "a series that begins with its promotion"
        assert {number(promoted[name][one]) for one in new} == {0}
        assert {number(later[name][one]) for one in promoted[name].keys() - new} == {
            number(promoted[name][one]) for one in promoted[name].keys() - new
        }
        for one in promoted[name].keys() - new:
            assert number(later[name][one]) <= number(back[name][one])
    checks = "feature_shadow_parity_checks_total"
    assert number(before[checks]["lob_shared_v1", "match"]) > 100
    updates = "feature_plane_updates_total"
    assert promoted[updates].keys() == before[updates].keys()
    compared = [number(one["feature_rollout_compared_total"][()]) for one in pictures]
    assert compared[0] > 100
    assert compared == [compared[0]] * len(pictures), "no candidate is compared behind its promotion"


def test_each_session_has_a_baseline_of_its_own_also_while_a_canary_runs(folder: Path) -> None:
    criteria = CRITERIA.replace("session_minutes = 10", "session_minutes = 1")
    Path("var/feature_rollout.criteria.toml").write_text(criteria)
    consumes, measured, sessions = [], [], set()
    with running(folder) as live:
        live.more(3_000)
        live.rollout("shadow", "slow.toml", *ANN)
        while live.service.ask(lambda: live.pilot.keeper.has_baseline, 20) is False:
            live.more(512)
        live.rollout("canary", "--strategy", MAKER, *ANN)
        for _ in range(16):
            live.more(1_024)
            sessions.add(live.service.ask(lambda: live.service.runner.now_ns, 20) // 60_000_000_000)
            consumes.append(consumed(live) == "lob_shared_v1@slow")
            measured.append(live.pilot.keeper.has_baseline)
        assert live.pilot.state.phase is Phase.CANARY
        evidence = live.pilot.keeper.evidence
    assert len(sessions) > 2
    assert False in measured[measured.index(True) :], "the baseline of the first session was kept for ever"
    left = consumes.index(False, consumes.index(True))
    assert True in consumes[left:]
    assert evidence is not None
    assert len({one.latency_before for one in evidence.runs if one.latency_with.samples}) > 1


def test_what_changes_the_file_alone_is_followed_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featureplane.services.rollout.pilot._FOLLOW_NS", 0)
    with running(folder) as live:
        live.more(3_000)
        for words in (["enable", "lob_shared_v1"], ["shadow", "slow.toml"], ["canary", "--strategy", MAKER]):
            assert main(["rollout", *words, *ANN, "--control", "nobody.sock"]) == 0
        live.more(2_000)
        assert live.pilot.state.phase is Phase.CANARY
        live.more(2_000)
        assert consumed(live) == "lob_shared_v1@slow"
        assert main(["rollout", "rollback", "--cause", "data", *ANN, "--control", "nobody.sock"]) == 0
        live.more(2_000)
        assert consumed(live) == "lob_shared_v1"


def test_a_strategy_that_does_not_accept_it_refuses_the_canary(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(folder) as live:
        live.more(3_000)
        live.rollout("shadow", "lob_shared_v2", *ANN)
        before = live.pilot.state
        for names, words in (([MAKER], f"{MAKER} does not accept"), (["nobody"], "no strategy 'nobody'")):
            live.rollout("canary", "--strategy", *names, *ANN, status=2)
            assert words in capsys.readouterr().err
        live.rollout("canary", "--strategy", MAKER, "--symbol", "NONE", *ANN, status=2)
        live.more(2_000)
        assert live.pilot.state == RolloutFile(PLACE).read() == before
        assert live.told(capsys)["service"]["compared_in"] == "shadow"
        until(lambda: live.told(capsys)["evidence"]["compared"] > 0)


def test_a_candidate_is_refused_at_once_where_nothing_would_be_compared(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HFT_FEATURE_SHADOW_PARITY", "0")
    with running(folder) as live:
        live.rollout("shadow", "slow.toml", *ANN, status=2)
        assert "shadows are switched off" in capsys.readouterr().err
        live.rollout("enable", *ANN)
        assert live.told(capsys)["active"]["feature_set_id"] == "lob_shared_v1"
        live.rollout("shadow", "slow.toml", *ANN, status=2)
        live.more(100)
    assert RolloutFile(PLACE).read().phase is Phase.ACTIVE


def test_how_often_frames_are_compared_is_set_in_every_phase(folder: Path) -> None:
    def set_to(every: int) -> None:
        words = ["--sample-every", str(every), "--control", str(live.control)]
        assert main(["shadow", "set", *words]) == 0

    with running(folder) as live:
        live.more(3_000)
        live.rollout("shadow", "slow.toml", *ANN)
        set_to(1)
        live.rollout("canary", "--strategy", MAKER, *ANN)
        live.more(3_000)
        first = live.pilot.keeper.evidence
        set_to(1_000_000)
        live.more(2_000)
        second = live.pilot.keeper.evidence
        live.more(2_000)
        third = live.pilot.keeper.evidence
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.compared is not None
    assert first.compared > 100
    assert second.compared == third.compared


def test_what_a_silent_form_takes_is_no_part_of_a_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow, long_ns = Twin.follow, 3_000_000

    def slowly(*given: Any) -> None:
        began = SYSTEM.monotonic_ns()
        while SYSTEM.monotonic_ns() - began < long_ns:
            pass
        follow(*given)

    with running(folder, FORMS) as live:
        live.more(3_000)
        live.rollout("shadow", "slow.toml", *ANN)
        live.rollout("canary", "--strategy", MAKER, *ANN)
        spent: list[dict[str, int]] = []
        monkeypatch.setattr(live.pilot, "timed", lambda what, _depth: spent.append(dict(what)))
        monkeypatch.setattr(Twin, "follow", slowly)
        live.more(200)
    slow = [one for one in spent if one.get("aside", 0) >= long_ns]
    assert len(slow) > 5
    assert sorted(one["dispatch"] for one in slow)[len(slow) // 2] < long_ns


def test_what_is_done_for_a_shadow_is_in_the_baseline_as_little_as_in_a_canary(folder: Path) -> None:
    spent = {"normalize": 3, "book": 4, "features": 5, "aside": 1_000_000, "dispatch": 6, "candidate": 7}
    with running(folder, FORMS) as live:
        live.more(3_000)

        def tail() -> Tail:
            live.pilot.keeper.forget_baseline()
            for _ in range(200):
                live.pilot.timed({name: ns for name, ns in spent.items() if name != "candidate"}, 0)
            return live.pilot.keeper.tails[1]

        assert live.service.ask(tail, 20) == Tail(18, 200)


def test_behind_a_restart_it_is_seen_what_earlier_runs_measured_and_nothing_is_promoted_by_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = CRITERIA.replace("frames_min = 400", "frames_min = 100")
    Path("var/feature_rollout.criteria.toml").write_text(frames)
    with running(folder) as live:
        live.more(3_000)
        live.rollout("shadow", "slow.toml", *ANN)
        live.rollout("canary", "--strategy", MAKER, *ANN)
        live.more(3_000)
        before = live.service.picture(20)["feature_rollout_criterion_reached"]
    known = json.loads(Path("var/feature_rollout.evidence.json").read_text())["evidence_v1"]
    with running(folder) as live:
        live.more(700)
        told = live.told(capsys)
        assert told["service"]["baseline_measured"] is False
        assert told["service"]["baseline"]["messages"] == 700
        assert told["evidence"]["compared"] == known["compared"] > 100
        after = live.service.picture(20)["feature_rollout_criterion_reached"]
        live.rollout("promote", *ANN, status=2)
        live.more(4_000)
        assert live.told(capsys)["evidence"]["compared"] > known["compared"]
    assert before["frames",] == 1
    assert {one for one in before if before[one]} <= {one for one in after if after[one]}


def test_the_sets_that_series_tell_of_are_bounded(folder: Path) -> None:
    with running(folder) as live:
        live.more(500)
        first = live.service.picture(20)
        live.service.rollout._past.update({f"old_{number}": Counter(updated=1) for number in range(100)})
        picture = live.service.picture(20)
    updates = "feature_plane_updates_total"
    assert {one[1] for one in first[updates]} == {"lob_shared_v1"}
    named = {one[1] for one in picture[updates]}
    assert {"lob_shared_v1", "old_99"} < named
    assert len(named) <= 33
    assert picture["feature_set_info"].keys() == first["feature_set_info"].keys()


def test_a_service_without_a_rollout_has_its_numbers_at_0(folder: Path) -> None:
    with running(folder) as live:
        picture = live.service.picture(20)
        live.rollout("status")
    assert picture["feature_rollout_phase"] == {
        ("disabled",): 1,
        ("shadow",): 0,
        ("canary",): 0,
        ("active",): 0,
    }
    assert set(picture["feature_rollout_rollback_total"].values()) == {0}
    assert len(picture["feature_rollout_rollback_total"]) == 4
    assert not PLACE.exists()


def test_what_is_compared_in_any_phase_is_counted_and_no_count_ever_falls(folder: Path) -> None:
    """A count that falls passes for one that began anew: what stood in it before would be counted again."""
    checks, steps = "feature_shadow_parity_checks_total", []
    with running(folder) as live:

        def step(messages: int, *words: str) -> None:
            if words:
                live.rollout(*words, *ANN)
            live.more(messages)
            steps.append(live.service.picture(20))

        step(5_000)
        step(3_000, "shadow", "slow.toml")
        step(2_000, "canary", "--strategy", MAKER)
        step(2_000, "rollback", "--cause", "config")
        step(2_000, "shadow", "slow.toml", "--again")
        step(1_000, "disable")
    steps.append(live.service.picture(20))  # shadows have ended, and said all they had
    compared = []
    for before, now in pairwise(steps):
        for name in (checks, "feature_shadow_parity_mismatch_total"):
            fallen = [one for one, count in before[name].items() if number(now[name][one]) < number(count)]
            assert fallen == []
        done = [number(one[checks]["lob_shared_v1", "match"]) for one in (before, now)]
        compared.append(done[1] - done[0])
    assert compared[1] > 20  # in the canary, where nothing is waited for
    assert sum(compared) > 100
    assert steps[2]["feature_shadow_sample_every"][()] == steps[0]["feature_shadow_sample_every"][()] == 2


def test_a_profile_is_a_candidate_like_any_set() -> None:
    slow = profile_of(fp.feature_set("lob_shared_v1"), "slow", {"spread_ema8_scaled": {"span": 16}})
    version = Version.of(slow, "slow.toml")
    assert (version.feature_set_id, version.profile) == ("lob_shared_v1@slow", "slow")
