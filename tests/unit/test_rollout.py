"""The rollout's state machine, walked as a table, and the rules of the way back."""

from __future__ import annotations

import fcntl
import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.errors import IllegalTransition, SettingError, StateError, UnreadableFile
from featureplane.features.catalog import LOB_SHARED_V1, LOB_SHARED_V2
from featureplane.features.profiles import profile_of
from featureplane.release.criteria import CRITERIA, Criteria, judge, proof_of
from featureplane.release.rollout import (
    AUTOMATIC,
    TABLE,
    Action,
    Cause,
    Phase,
    Proof,
    Request,
    RolloutState,
    Version,
)
from featureplane.release.rollout_file import RolloutFile, digest_of
from featureplane.release.rollout_versions import KeptVersions

ASKED = Request("ann", "a test", "2026-01-05T10:00:00Z")
A, B, C, D = (Version(f"set_{name}", f"{name}" * 64, None, f"set_{name}.toml") for name in "abcd")


def proven(state: RolloutState, *missing: str) -> Proof:
    assert state.active is not None
    assert state.candidate is not None
    return Proof(state.active.fingerprint, state.candidate.fingerprint, missing, {"compared": 200_000})


def in_phase(phase: Phase) -> RolloutState:
    state = RolloutState().enable(ASKED, active=A)
    match phase:
        case Phase.DISABLED:
            return in_phase(Phase.CANARY).disable(ASKED)
        case Phase.ACTIVE:
            return state
        case Phase.SHADOW:
            return state.shadow(B, ASKED)
    return state.shadow(B, ASKED).canary(["mm"], ["ETHUSDT"], ASKED)


def promoted(state: RolloutState, version: Version, *, again: bool = False) -> RolloutState:
    canary = state.shadow(version, ASKED, again=again).canary(["mm"], [], ASKED)
    return canary.promote(proven(canary), ASKED)


def rolled_back(state: RolloutState) -> RolloutState:
    return state.rollback(ASKED, Cause.KERNEL)


ACTIONS: dict[Action, Callable[[RolloutState], RolloutState]] = {
    Action.SHADOW: lambda state: state.shadow(C, ASKED, active=A),
    Action.CANARY: lambda state: state.canary(["mm"], [], ASKED),
    Action.PROMOTE: lambda state: state.promote(proven(in_phase(Phase.CANARY)), ASKED),
    Action.ROLLBACK: rolled_back,
    Action.DISABLE: lambda state: state.disable(ASKED),
    Action.ENABLE: lambda state: state.enable(ASKED, active=A),
}


@pytest.mark.parametrize(("phase", "action"), list(itertools.product(Phase, Action)))
def test_every_pair_is_a_row_or_refused(phase: Phase, action: Action) -> None:
    state = in_phase(phase)
    if (phase, action) not in TABLE:
        with pytest.raises(IllegalTransition):
            ACTIONS[action](state)
        return
    after = ACTIONS[action](state)
    assert after.phase in TABLE[phase, action]
    assert after.revision == state.revision + 1
    line = after.history[-1]
    assert (line.action, line.before, line.after) == (action, phase, after.phase)
    assert (line.by, line.why, line.at) == (ASKED.by, ASKED.why, ASKED.at)


def test_shadow_is_not_promoted_straight_to_active() -> None:
    state = in_phase(Phase.SHADOW)
    with pytest.raises(IllegalTransition, match="`promote` is not possible from `shadow`"):
        state.promote(proven(state), ASKED)


def test_promotion_is_refused_while_anything_is_missing() -> None:
    state = in_phase(Phase.CANARY)
    with pytest.raises(StateError, match="not proven: too few frames; no report"):
        state.promote(proven(state, "too few frames", "no report"), ASKED)


def test_without_any_evidence_it_is_said_what_is_missing() -> None:
    state = in_phase(Phase.CANARY)
    proof = proof_of(None, judge(Criteria(), None, (), ["mm"]))
    with pytest.raises(StateError, match="not proven: shadow: no data") as refused:
        state.promote(proof, ASKED)
    assert all(f"{name}: " in str(refused.value) for name in CRITERIA)


def test_proof_of_another_candidate_proves_nothing() -> None:
    state = in_phase(Phase.CANARY)
    with pytest.raises(StateError, match="other versions"):
        state.promote(Proof(A.fingerprint, C.fingerprint, (), {}), ASKED)


def test_canary_is_for_listed_strategies_and_symbols() -> None:
    state = in_phase(Phase.CANARY)
    seen = {pair: state.version_for(*pair) for pair in itertools.product(("mm", "other"), ("ETHUSDT", "X"))}
    assert [pair for pair, version in seen.items() if version == B] == [("mm", "ETHUSDT")]
    everywhere = state.canary(["mm"], [], ASKED)
    assert everywhere.version_for("mm", "X") == B
    assert everywhere.version_for("other", "X") == A


def test_rollback_in_shadow_and_canary_keeps_the_active_version() -> None:
    for phase in (Phase.SHADOW, Phase.CANARY):
        after = rolled_back(in_phase(phase))
        assert (after.phase, after.active, after.candidate) == (Phase.ACTIVE, A, None)
        assert after.bad == (B.fingerprint,)
        assert after.version_for("mm", "ETHUSDT") == A


def test_two_rollbacks_in_a_row() -> None:
    state = promoted(promoted(in_phase(Phase.ACTIVE), B), C)
    assert [one.feature_set_id for one in state.good] == ["set_a", "set_b"]
    once = rolled_back(state)
    assert (once.active, once.good) == (B, (A,))
    twice = rolled_back(once)
    assert (twice.active, twice.good, twice.bad) == (A, (), (C.fingerprint, B.fingerprint))


def test_a_rollback_never_returns_to_what_was_rolled_back() -> None:
    state = promoted(in_phase(Phase.ACTIVE), B)
    state = promoted(state, A)  # A stands in `good` from its first time
    assert state.good == (A, B)
    state = rolled_back(state)
    assert state.active == B
    state = rolled_back(state)
    assert (state.phase, state.active) == (Phase.DISABLED, None)


def test_a_version_that_came_back_is_still_none_to_return_to() -> None:
    state = rolled_back(in_phase(Phase.ACTIVE).shadow(B, ASKED))
    with pytest.raises(StateError, match="was rolled back"):
        state.shadow(B, ASKED)
    state = promoted(promoted(state, B, again=True), C)
    state = rolled_back(state)
    assert state.active == A


def test_what_was_switched_off_is_rolled_back_without_being_switched_on() -> None:
    state = rolled_back(in_phase(Phase.CANARY).disable(ASKED))
    assert (state.phase, state.active, state.candidate, state.held) == (Phase.ACTIVE, A, None, None)
    assert state.bad == (B.fingerprint,)
    state = rolled_back(promoted(in_phase(Phase.ACTIVE), B).disable(ASKED))
    assert (state.phase, state.active, state.held) == (Phase.ACTIVE, A, None)
    state = rolled_back(in_phase(Phase.ACTIVE).disable(ASKED))
    assert (state.phase, state.active, state.held) == (Phase.DISABLED, None, None)
    for nothing in (RolloutState(), state):
        with pytest.raises(StateError, match="nothing to roll back"):
            rolled_back(nothing)


def test_a_rollback_without_any_good_version_disables() -> None:
    state = rolled_back(in_phase(Phase.ACTIVE))
    assert (state.phase, state.active, state.bad) == (Phase.DISABLED, None, (A.fingerprint,))
    with pytest.raises(StateError, match="no version is active"):
        state.version_for("mm", "ETHUSDT")
    with pytest.raises(StateError, match="nothing to roll back"):
        rolled_back(state)
    with pytest.raises(StateError, match="was rolled back"):
        state.enable(ASKED, active=A)
    with pytest.raises(StateError, match="was rolled back"):
        state.shadow(B, ASKED, active=A)
    assert state.enable(ASKED, active=B).active == B


@pytest.mark.parametrize("phase", [Phase.SHADOW, Phase.CANARY, Phase.ACTIVE])
def test_enable_goes_on_where_it_was_disabled(phase: Phase) -> None:
    state = in_phase(phase)
    off = state.disable(ASKED)
    assert off.version_for("mm", "ETHUSDT") == A
    assert not off.has_candidate
    on = off.enable(ASKED)
    assert (on.phase, on.candidate, on.canary_strategies) == (
        phase,
        state.candidate,
        state.canary_strategies,
    )
    assert on.began == state.began


def test_the_active_version_is_no_candidate() -> None:
    with pytest.raises(StateError, match="is the active version"):
        in_phase(Phase.ACTIVE).shadow(A, ASKED)
    with pytest.raises(StateError, match="no active version"):
        RolloutState().shadow(A, ASKED)


@pytest.mark.parametrize(
    ("by", "why"), [("", "x"), (" ", "x"), ("ann", ""), ("ann", "\n"), ("x" * 1001, "y")]
)
def test_nobody_changes_it_without_a_name_and_a_reason(by: str, why: str) -> None:
    with pytest.raises(SettingError):
        Request(by, why, ASKED.at)


@pytest.mark.parametrize("text", ["ok\n9  promote  canary -> active", "\x1b[2J", "a\tb", "\u202eback"])
def test_nobody_writes_lines_of_the_history_that_were_no_steps(text: str) -> None:
    for by, why in (("ann", text), (text, "a test")):
        with pytest.raises(SettingError):
            Request(by, why, ASKED.at)
    for strategies, symbols in (([text], []), (["mm"], [text])):
        with pytest.raises(SettingError):
            in_phase(Phase.SHADOW).canary(strategies, symbols, ASKED)


@pytest.mark.parametrize("why", ["", "\n", "x" * 5_000, "raised ValueError: line 1\nline 2\x00"])
def test_what_calls_back_by_itself_may_say_anything(why: str) -> None:
    made = Request.automatic(why, ASKED.at)
    assert made.by == AUTOMATIC
    assert made.why.isprintable()
    assert made.why.startswith(why[:20].strip())


def test_a_version_that_was_promoted_again_is_not_forbidden() -> None:
    state = promoted(rolled_back(promoted(in_phase(Phase.ACTIVE), B)), B, again=True)
    assert state.bad == (B.fingerprint,)
    assert state.forbidden == set()
    assert rolled_back(state).forbidden == {B.fingerprint}


def test_since_is_when_the_candidate_came() -> None:
    state = in_phase(Phase.ACTIVE)
    assert state.since == ""
    later = Request("ann", "a test", "2026-01-06T10:00:00Z")
    assert state.shadow(B, later).canary(["mm"], [], ASKED).since == later.at


@given(st.lists(st.tuples(st.sampled_from(Action), st.sampled_from([A, B, C, D])), max_size=30))
def test_whatever_is_asked_bad_versions_never_come_back_by_rollback(
    asked: list[tuple[Action, Version]],
) -> None:
    state = RolloutState()
    for action, version in asked:
        before = state
        try:
            match action:
                case Action.SHADOW:
                    state = state.shadow(version, ASKED, active=A, again=True)
                case Action.ENABLE:
                    state = state.enable(ASKED, active=version)
                case Action.PROMOTE:
                    state = state.promote(proven(state), ASKED) if state.candidate else state
                case _:
                    state = ACTIONS[action](state)
        except StateError:
            assert state is before
            continue
        if action is Action.ROLLBACK and state.active != before.active:
            assert state.active is None or state.active.fingerprint not in state.bad
        assert (state.active is None) == (state.phase is Phase.DISABLED and state.held is None)


# -- the file


def written(folder: Path) -> tuple[RolloutFile, RolloutState]:
    file = RolloutFile(folder / "var" / "rollout.json")
    file.change(lambda state: state.enable(ASKED, active=A))
    file.change(lambda state: state.shadow(B, ASKED))
    return file, file.change(lambda state: state.canary(["mm"], ["ETHUSDT"], ASKED))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file, state = written(tmp_path)
    assert file.read() == state
    ended = file.change(lambda one: one.rollback(ASKED, Cause.DATA, {"mismatches": 3}))
    assert RolloutFile(file.path).read() == ended
    assert sorted(one.name for one in file.path.parent.iterdir()) == ["rollout.json", "rollout.json.lock"]


def test_no_file_is_a_rollout_that_did_not_begin(tmp_path: Path) -> None:
    file = RolloutFile(tmp_path / "none.json")
    assert file.read() == RolloutState()
    assert file.stamp() is None


def damage(content: bytes) -> list[bytes]:
    table = json.loads(content)
    forged = json.loads(content)
    forged["state"]["phase"] = "active"
    later = {**table, "format": 2}
    return [
        b"",
        content[: len(content) // 2],
        b"\xff" + content,
        content.replace(b"canary", b"shadow", 1),
        json.dumps(forged).encode(),
        json.dumps(later).encode(),
        b"[]",
        b"null",
        b"[" * 100_000,
        json.dumps({**table, "state": {}}).encode(),
    ]


@pytest.mark.parametrize("which", range(10))
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, which: int) -> None:
    file, _ = written(tmp_path)
    spoilt = damage(file.path.read_bytes())[which]
    file.path.write_bytes(spoilt)
    with pytest.raises(UnreadableFile, match="expected the state of a rollout"):
        file.read()
    with pytest.raises(UnreadableFile):
        file.change(lambda state: state.disable(ASKED))
    assert file.path.read_bytes() == spoilt


def test_a_contradiction_with_a_right_digest_is_refused(tmp_path: Path) -> None:
    file, _ = written(tmp_path)
    table = json.loads(file.path.read_bytes())
    table["state"]["candidate"] = None
    table["sha256"] = digest_of(table["state"])
    file.path.write_text(json.dumps(table))
    with pytest.raises(UnreadableFile, match="canary without a candidate"):
        file.read()


def test_a_place_that_cannot_be_written_freezes_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = RolloutFile(tmp_path / "file" / "rollout.json")
    with pytest.raises(StateError, match="the rollout is frozen"):
        file.change(lambda state: state.enable(ASKED, active=A))


def test_a_write_that_fails_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, state = written(tmp_path)

    def full(path: Path, _data: bytes) -> None:
        path.write_bytes(b"{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("featureplane.release.rollout_file._to_disk", full)
    with pytest.raises(StateError, match="No space left"):
        file.change(lambda state: state.disable(ASKED))
    monkeypatch.undo()
    assert file.read() == state
    assert sorted(one.name for one in file.path.parent.iterdir()) == ["rollout.json", "rollout.json.lock"]


def test_a_refused_step_writes_nothing(tmp_path: Path) -> None:
    file, _ = written(tmp_path)
    stamp = file.stamp()
    with pytest.raises(IllegalTransition):
        file.change(lambda state: state.enable(ASKED))
    assert file.stamp() == stamp


def test_changes_from_several_sides_all_count(tmp_path: Path) -> None:
    file, _ = written(tmp_path)

    def widen(name: str) -> None:
        for _ in range(10):
            file.change(lambda state: state.canary((*state.canary_strategies, name), [], ASKED))

    threads = [threading.Thread(target=widen, args=(f"s{i}",)) for i in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    state = file.read()
    assert state.revision == 3 + 40
    assert set(state.canary_strategies) == {"mm", "s0", "s1", "s2", "s3"}


def test_a_lock_that_somebody_keeps_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, state = written(tmp_path)
    monkeypatch.setattr("featureplane.release.rollout_file._WAIT_NS", 10_000_000)
    with (file.path.parent / "rollout.json.lock").open("w") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)
        with pytest.raises(StateError, match="the rollout is frozen"):
            file.change(lambda one: one.disable(ASKED))
    assert file.read() == state


def test_what_acts_on_a_change_may_refuse_it(tmp_path: Path) -> None:
    file, state = written(tmp_path)

    def refuses(after: RolloutState) -> None:
        assert after.phase is Phase.DISABLED
        raise StateError("no")

    with pytest.raises(StateError, match="no"):
        file.change(lambda one: one.disable(ASKED), refuses)
    assert file.read() == state
    assert sorted(one.name for one in file.path.parent.iterdir()) == ["rollout.json", "rollout.json.lock"]


def test_a_version_knows_where_it_comes_from() -> None:
    version, fset = Version.found("lob_shared_v2")
    assert fset is LOB_SHARED_V2
    assert (version.feature_set_id, version.profile) == ("lob_shared_v2", None)
    assert version.load() is LOB_SHARED_V2
    changed = Version("lob_shared_v2", LOB_SHARED_V1.fingerprint, None, "lob_shared_v2")
    with pytest.raises(Exception, match="was changed since"):
        changed.load()


def test_a_kept_version_is_the_same_set_again(tmp_path: Path) -> None:
    slow = profile_of(LOB_SHARED_V2, "slow", {"ofi_l1_ema8": {"span": 16}})
    kept = KeptVersions(tmp_path / "versions")
    gone = Version.of(slow, str(tmp_path / "gone.toml"))
    with pytest.raises(StateError, match=r"cannot be computed: it is neither kept in .* nor in .*gone\.toml"):
        kept.load(gone)
    state = RolloutState().enable(ASKED, active=gone)
    kept.keep(state, {})  # of a state from before versions were kept
    kept.keep(state, {gone.fingerprint: slow})
    found = kept.load(gone)
    assert (found.feature_set_id, found.fingerprint) == (slow.feature_set_id, slow.fingerprint)
    assert found.specs == slow.specs
    assert kept.load(Version.of(LOB_SHARED_V1, "lob_shared_v1")) is LOB_SHARED_V1


def test_where_a_version_cannot_be_kept_no_step_is_taken(tmp_path: Path) -> None:
    slow = profile_of(LOB_SHARED_V2, "slow", {"ofi_l1_ema8": {"span": 16}})
    (tmp_path / "versions").write_text("a file")
    version = Version.of(slow, "slow.toml")
    with pytest.raises(StateError, match="the rollout is frozen"):
        KeptVersions(tmp_path / "versions").keep(
            RolloutState().enable(ASKED, active=version), {version.fingerprint: slow}
        )
