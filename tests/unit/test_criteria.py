"""Promotion's criteria: each one alone refuses when it is violated, missing or no number."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.errors import SettingError, StateError, UnreadableFile
from featureplane.features.shadow_queue import OTHERS
from featureplane.release.criteria import CRITERIA, Criteria, judge, proof_of, read_criteria
from featureplane.release.evidence import FLAGS, RUNS_MAX, Evidence, Quantiles, Run, Tail
from featureplane.release.reports import Report, read_report
from featureplane.release.rollout import Request, RolloutState, Version

ASKED = Request("ann", "a test", "2026-01-05T10:00:00Z")
A, B = (Version(f"set_{name}", name * 64, None, f"set_{name}.toml") for name in "ab")
RUN = Run(Tail(3, 5_000), Tail(3, 5_000), Tail(10_000, 5_000), Tail(11_000, 5_000))
GOOD = Evidence(
    active=A.fingerprint,
    candidate=B.fingerprint,
    began=2,
    shadow=True,
    abs_tol=0.0,
    features=("mid_price_x2", "spread_scaled"),
    compared=100_000,
    mismatches=dict.fromkeys(("mid_price_x2", "spread_scaled", *OTHERS), 0),
    thirds=(60_000, 40_000, 0),
    flags_active=dict.fromkeys(FLAGS, 100),
    flags_candidate=dict.fromkeys(FLAGS, 205),
    consumed={"mm": 10_000},
    forms={"mm": "Maker"},
    runs=(RUN,),
)
REPORT = Report("mm", B.fingerprint, same=True, decisions=(40, 40), sha256="0" * 64, form="Maker")
NAN = float("nan")


def refused(evidence: Evidence | None, *reports: Report, criteria: Criteria | None = None) -> set[str]:
    verdicts = judge(criteria or Criteria(), evidence, reports, ["mm"])
    assert [one.name for one in verdicts] == list(CRITERIA)
    return {one.name for one in verdicts if not one.reached}


def with_run(**more: Any) -> Evidence:
    return dataclasses.replace(GOOD, runs=(dataclasses.replace(RUN, **more),))


def less(table: Mapping[str, int] | None, name: str) -> dict[str, int]:
    assert table is not None
    return {flag: count for flag, count in table.items() if flag != name}


def test_everything_reached_is_a_proof() -> None:
    assert refused(GOOD, REPORT) == set()
    proof = proof_of(GOOD, judge(Criteria(), GOOD, [REPORT], ["mm"]), reports=["r"])
    assert proof.missing == ()
    assert "bound 3/n 3.0e-05" in proof.summary["mismatches"]
    assert proof.summary["reports"] == ["r"]
    canary = RolloutState().enable(ASKED, active=A).shadow(B, ASKED).canary(["mm"], [], ASKED)
    assert canary.promote(proof, ASKED).active == B


ZEROS = GOOD.mismatches or {}
VIOLATED: list[tuple[str, str, Any]] = [
    ("shadow", "shadow", False),
    ("abs_tol", "abs_tol", 1e-12),
    ("mismatches", "mismatches", {**ZEROS, "mid_price_x2": 1}),
    ("mismatches", "mismatches", {**ZEROS, "_ready": 1}),
    ("canary", "consumed", {"mm": 9_999}),
    ("canary", "consumed", {"other": 100_000}),
    ("ab_report", "forms", {"mm": "Taker"}),
    ("mismatches", "features", ()),
    ("frames", "compared", 99_999),
    ("thirds", "thirds", (100_000, 0, 0)),
    ("thirds", "thirds", (100_000, 9_999, 9_999)),
    *[("flags", "flags_candidate", {**dict.fromkeys(FLAGS, 0), flag: 211}) for flag in FLAGS],
    ("raw_queue_depth", "runs", (dataclasses.replace(RUN, depth_with=Tail(4, 5_000)),)),
    ("pipeline_latency_ns", "runs", (dataclasses.replace(RUN, latency_with=Tail(11_001, 5_000)),)),
    ("pipeline_latency_ns", "runs", (RUN, dataclasses.replace(RUN, latency_with=Tail(11_001, 5_000)), RUN)),
]


@pytest.mark.parametrize(("criterion", "field", "value"), VIOLATED)
def test_each_one_alone_refuses_when_violated(criterion: str, field: str, value: Any) -> None:
    evidence = dataclasses.replace(GOOD, **{field: value})
    assert refused(evidence, REPORT) == {criterion}
    proof = proof_of(evidence, judge(Criteria(), evidence, [REPORT], ["mm"]))
    canary = RolloutState().enable(ASKED, active=A).shadow(B, ASKED).canary(["mm"], [], ASKED)
    with pytest.raises(StateError, match=f"is not proven: {criterion}: "):
        canary.promote(proof, ASKED)


NONE: Any = None
NONE_LIST: list[int] = []
EMPTY: dict[str, int] = {}
MISSING: list[tuple[str, str, Any]] = [
    *[("shadow", "shadow", value) for value in (NONE, 1, "on", NAN)],
    *[("abs_tol", "abs_tol", value) for value in (NONE, NAN, math.inf, -1.0, "0", False)],
    *[
        ("mismatches", "mismatches", value)
        for value in (NONE, EMPTY, {"x": NAN}, {"x": -1}, {"x": None}, 0, NONE_LIST)
    ],
    *[("mismatches", "mismatches", less(ZEROS, name)) for name in ZEROS],
    *[("canary", "consumed", value) for value in (NONE, EMPTY, {"mm": NAN}, {"mm": "9"}, {"mm": 1e9}, 0)],
    *[("ab_report", "forms", value) for value in (NONE, EMPTY, {"mm": None}, 0)],
    *[("thirds", "thirds", value) for value in (NONE, (), (60_000, 40_000), (60_000, 40_000, NAN))],
    *[("thirds", "thirds", (60_000, 40_000, value)) for value in (NONE, -1, "9", 1.0)],
    *[
        ("flags", name, value)
        for name in ("flags_active", "flags_candidate")
        for value in (NONE, EMPTY, 0, NONE_LIST)
    ],
    *[("flags", "flags_active", less(GOOD.flags_active, flag)) for flag in FLAGS],
    *[("flags", "flags_candidate", less(GOOD.flags_candidate, flag)) for flag in FLAGS],
    *[("flags", "flags_candidate", dict.fromkeys(FLAGS, value)) for value in (NAN, None, -1, 1.5)],
    *[("flags", "flags_active", dict.fromkeys(FLAGS, value)) for value in (NAN, math.inf, None, -1)],
]


@pytest.mark.parametrize(("criterion", "field", "value"), MISSING)
def test_each_one_alone_refuses_when_missing_or_no_number(criterion: str, field: str, value: Any) -> None:
    assert refused(dataclasses.replace(GOOD, **{field: value}), REPORT) == {criterion}


@pytest.mark.parametrize("value", [None, NAN, math.inf, -5, "9", 0, 1.0, True])
def test_frames_that_are_none_refuse_all_that_is_counted_in_them(value: Any) -> None:
    found = refused(dataclasses.replace(GOOD, compared=value), REPORT)
    assert "frames" in found
    assert found <= {"frames", "mismatches", "flags"}


@pytest.mark.parametrize("name", ["depth", "latency"])
@pytest.mark.parametrize("side", ["before", "with"])
@pytest.mark.parametrize(
    "tail",
    [Tail(), Tail(None, 5_000), Tail(NAN, 5_000), Tail(math.inf, 5_000), Tail(-1, 5_000), Tail(1, 1_999)]
    + [Tail(1, value) for value in (None, NAN, "9", -3)],  # type: ignore[arg-type]  # what a file may hold
)
def test_a_tail_that_is_missing_or_no_number_refuses(name: str, side: str, tail: Tail) -> None:
    criterion = {"depth": "raw_queue_depth", "latency": "pipeline_latency_ns"}[name]
    assert refused(with_run(**{f"{name}_{side}": tail}), REPORT) == {criterion}


def test_a_run_that_was_too_short_neither_proves_nor_refuses() -> None:
    short = dataclasses.replace(RUN, latency_with=Tail(10**9, 1_999))
    assert refused(dataclasses.replace(GOOD, runs=(RUN, short)), REPORT) == set()
    assert refused(dataclasses.replace(GOOD, runs=()), REPORT) == {"raw_queue_depth", "pipeline_latency_ns"}


def runs(*ratios: float) -> Evidence:
    each = [dataclasses.replace(RUN, latency_with=Tail(10_000 * one, 5_000)) for one in ratios]
    return dataclasses.replace(GOOD, runs=tuple(each))


@pytest.mark.parametrize(
    ("ratios", "enough"),
    [
        ((1.2, 0.9, 1.15, 1.05), True),
        ((1.2, 1.0, 1.15, 1.12), False),
        ((1.0,) * 10 + (3.0,), False),
        ((1.1,) * 3, True),
        ((1.0, 0.0), True),
    ],
)
def test_what_scatters_from_run_to_run_is_judged_over_all_of_them(
    ratios: tuple[float, ...], *, enough: bool
) -> None:
    assert refused(runs(*ratios), REPORT) == (set() if enough else {"pipeline_latency_ns"})
    last = next(one for one in judge(Criteria(), runs(*ratios)) if one.name == "pipeline_latency_ns")
    assert f"over {len(ratios)} runs, the most {10_000 * max(ratios):,.0f} against 10,000" in last.found


def test_what_was_nothing_and_became_something_is_in_no_mean() -> None:
    nothing = dataclasses.replace(RUN, latency_before=Tail(0, 5_000), latency_with=Tail(1, 5_000))
    assert refused(dataclasses.replace(GOOD, runs=(RUN, nothing, RUN)), REPORT) == {"pipeline_latency_ns"}


@pytest.mark.parametrize(
    "report",
    [
        None,
        dataclasses.replace(REPORT, strategy="other"),
        dataclasses.replace(REPORT, fingerprint=A.fingerprint),
        dataclasses.replace(REPORT, fingerprint=None),
        dataclasses.replace(REPORT, decisions=(0, 0)),
        dataclasses.replace(REPORT, decisions=(40, 41)),
        dataclasses.replace(REPORT, decisions=(40,)),
        dataclasses.replace(REPORT, decisions=(40, NAN)),
        dataclasses.replace(REPORT, decisions=()),
        dataclasses.replace(REPORT, same=None),
        dataclasses.replace(REPORT, same=NAN),
        dataclasses.replace(REPORT, same=1),
        dataclasses.replace(REPORT, same=None, signed_by="ann"),
        dataclasses.replace(REPORT, same=False),
        dataclasses.replace(REPORT, same=False, signed_by="  "),
    ],
)
def test_the_report_refuses_alone(report: Report | None) -> None:
    given_ = () if report is None else (report,)
    assert refused(GOOD, *given_) == {"ab_report"}


def test_a_divergence_that_somebody_signed_is_let_through() -> None:
    signed = dataclasses.replace(REPORT, same=False, decisions=(40, 38), signed_by="ann")
    assert refused(GOOD, signed) == set()
    verdict = judge(Criteria(), GOOD, [signed], ["mm"])[-1]
    assert verdict.found == "mm: they differ, signed by ann"


def test_each_strategy_that_consumes_it_has_a_report_of_its_own() -> None:
    verdict = judge(Criteria(), GOOD, [REPORT], ["mm", "taker"])[-1]
    assert (verdict.reached, verdict.found) == (False, "mm: equal in 40 decisions; taker: none")
    assert not judge(Criteria(), GOOD, [REPORT], [])[-1].reached


def test_nothing_at_all_refuses_everything() -> None:
    assert refused(None) == set(CRITERIA)
    assert refused(Evidence()) == set(CRITERIA)
    zero = dataclasses.replace(GOOD, compared=0, thirds=(0, 0, 0), mismatches={})
    assert {"mismatches", "frames", "thirds", "flags"} <= refused(zero, REPORT)


def test_a_verdict_that_is_not_there_is_no_proof() -> None:
    verdicts = judge(Criteria(), GOOD, [REPORT], ["mm"])
    assert proof_of(GOOD, verdicts[1:]).missing == ("shadow: not judged",)
    assert len(proof_of(None, ()).missing) == len(CRITERIA)


WRONG = st.one_of(
    st.none(),
    st.just(NAN),
    st.floats(),
    st.text(max_size=3),
    st.integers(-(10**6), -1),
    st.lists(st.integers(), max_size=4),
    st.dictionaries(st.sampled_from(FLAGS), st.one_of(st.none(), st.just(NAN)), min_size=1),
)
OF_FIELD = {
    "shadow": "shadow",
    "mismatches": "mismatches",
    "compared": "frames",
    "thirds": "thirds",
    "flags_active": "flags",
    "flags_candidate": "flags",
}


@given(st.sampled_from(sorted(OF_FIELD)), WRONG)
def test_whatever_stands_where_a_count_belongs_refuses(field: str, value: Any) -> None:
    assert OF_FIELD[field] in refused(dataclasses.replace(GOOD, **{field: value}), REPORT)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**7))
def test_flags_pass_only_below_twice_the_rate_and_one_in_ten_thousand(a: int, c: int, n: int) -> None:
    counts = dict.fromkeys(FLAGS, 0)
    evidence = dataclasses.replace(
        GOOD,
        compared=n,
        flags_active={**counts, "partial": a},
        flags_candidate={**counts, "partial": c},
    )
    assert ("flags" in refused(evidence, REPORT)) == (10_000 * (c - 2 * a) > n)


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_tail_passes_only_up_to_its_ratio(before: float, with_: float) -> None:
    evidence = with_run(latency_before=Tail(before, 5_000), latency_with=Tail(with_, 5_000))
    assert ("pipeline_latency_ns" in refused(evidence, REPORT)) == (with_ > 1.10 * before)


# -- evidence


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300))
def test_quantiles_are_near_the_true_ones(values: list[int]) -> None:
    quantiles = Quantiles()
    for value in values:
        quantiles.add(value)
    rank = math.ceil(0.99 * len(values))
    true = sorted(values)[rank - 1]
    found = quantiles.at(0.99)
    assert found is not None
    assert found <= true <= found + found // 128
    assert quantiles.count == len(values)
    quantiles.clear()
    assert quantiles.at(0.99) is None


def test_quantiles_take_whatever_integer_comes() -> None:
    for value, found in (
        (-5, 0),
        (0, 0),
        (255, 255),
        (256, 256),
        (257, 256),
        (1 << 53, 1 << 53),
        (1 << 70, 1 << 53),
    ):
        quantiles = Quantiles()
        quantiles.add(value)
        assert quantiles.at(0.99) == found


def test_evidence_adds_up_over_runs_and_forgets_nothing_bad() -> None:
    bad = dataclasses.replace(GOOD, mismatches={"mid_price_x2": 2}, abs_tol=1e-9, shadow=False)
    both = bad + GOOD
    assert both.compared == 200_000
    assert both.thirds == (120_000, 80_000, 0)
    assert both.flags_candidate == dict.fromkeys(FLAGS, 410)
    assert (both.mismatches, both.abs_tol, both.shadow) == ({"mid_price_x2": 2}, 1e-9, False)
    assert both.runs == (RUN, RUN)
    assert (GOOD + dataclasses.replace(GOOD, compared=None)).compared is None
    many = GOOD
    for _ in range(RUNS_MAX + 5):
        many += GOOD
    assert len(many.runs) == RUNS_MAX


def test_what_only_one_run_knows_to_be_zero_is_not_known() -> None:
    old = dataclasses.replace(GOOD, mismatches={"spread_scaled": 0}, consumed={"mm": 3}, forms={})
    both = old + GOOD
    assert both.mismatches == {"spread_scaled": 0}
    assert refused(both, REPORT) == {"mismatches"}
    assert (both.consumed, both.forms) == ({"mm": 10_003}, {"mm": "Maker"})


def test_evidence_survives_a_file() -> None:
    assert Evidence.from_json(json.loads(json.dumps(GOOD.to_json()))) == GOOD
    nothing: Any = []
    for wrong in (
        *(nothing, {"x": 1}, {"thirds": [1]}, {"runs": [3]}, {"runs": [{"depth_with": 3}]}, {"runs": 5}),
        *({"mismatches": 5}, {"divergences": [1]}, {"consumed": None}, {"forms": {"mm": 3}}, {"began": "2"}),
        *({"mismatches": {"best_bid": [1]}}, {"compared": "many"}, {"compared": NAN}, {"compared": True}),
        *({"features": "best_bid"}, {"features": [1]}, {"thirds": [1, 2, None]}, {"shadow": 1}),
        *({"flags_active": {"gap": NAN}}, {"abs_tol": "0"}, {"active": None}, {"since": 3}),
    ):
        with pytest.raises((TypeError, ValueError, AttributeError)):
            Evidence.from_json(wrong)


# -- the file of criteria


def test_criteria_by_default_are_those_of_the_issue(tmp_path: Path) -> None:
    criteria = read_criteria(tmp_path / "none.toml")
    assert criteria == Criteria()
    assert (criteria.frames_min, criteria.thirds_min) == (100_000, 2)
    assert (criteria.flag_ratio_max, criteria.flag_slack_per_10000) == (2.0, 1.0)
    assert (criteria.queue_p99_ratio_max, criteria.latency_p99_ratio_max) == (1.10, 1.10)
    guard = criteria.guard
    assert (guard.mismatches, guard.mismatch_minutes) == (3, 5)
    assert (guard.p99_ratio_max, guard.p99_minutes) == (1.25, 5)
    assert (criteria.queue_p99_floor, guard.queue_p99_floor, criteria.baseline_minutes) == (1, 1, 10)


def test_criteria_are_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "criteria.toml"
    path.write_text("frames_min = 500\nqueue_p99_ratio_max = 2\n[guard]\nmismatches = 1\n")
    criteria = read_criteria(path)
    assert (criteria.frames_min, criteria.queue_p99_ratio_max, criteria.guard.mismatches) == (500, 2.0, 1)
    assert criteria.samples_min == Criteria().samples_min


@pytest.mark.parametrize(
    "text",
    [
        "frames_min = 0",
        "frames_min = 1.5",
        "frames_min = true",
        'frames_min = "many"',
        "frames_mni = 5",
        "thirds_min = 4",
        "flag_ratio_max = nan",
        "queue_p99_ratio_max = inf",
        "latency_p99_ratio_max = 0.5",
        "guard = 3",
        "[guard]\nmismatches = 0",
        "[guard]\nframes_min = 1",
        "[guard.guard]",
    ],
)
def test_a_criterion_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "criteria.toml"
    path.write_text(text)
    with pytest.raises(SettingError) as raised:
        read_criteria(path)
    assert raised.value.hint


def test_a_criteria_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "criteria.toml"
    path.write_text("frames_min = ")
    with pytest.raises(UnreadableFile):
        read_criteria(path)
    with pytest.raises(UnreadableFile):
        read_criteria(tmp_path)


# -- reports


def test_a_report_is_what_the_backtest_printed(tmp_path: Path) -> None:
    path = tmp_path / "ab.json"
    said = {
        "strategy": "some.module:FORMS",
        "form": "MarketMaker",
        "fingerprint": B.fingerprint,
        "same": True,
        "decisions": {"legacy": 4, "shared": 4},
    }
    path.write_text(json.dumps(said))
    report = read_report(str(path))
    assert (report.strategy, report.form) == ("MarketMaker", "MarketMaker")
    assert report.against(B.fingerprint, "MarketMaker") == (True, "equal in 4 decisions")
    assert read_report(f"mm={path}").strategy == "mm"
    path.write_text(json.dumps({**said, "same": False}))
    assert not read_report(str(path)).against(B.fingerprint, "MarketMaker")[0]
    signed = read_report(f"taker={path}", "ann")
    assert signed.against(B.fingerprint, "MarketMaker") == (True, "they differ, signed by ann")
    assert signed.against(B.fingerprint, "Taker") == (
        False,
        "about MarketMaker, and in the canary it is Taker",
    )
    assert not signed.against(B.fingerprint, None)[0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"same": true}', "[" * 100_000])
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ab.json"
    path.write_text(text)
    with pytest.raises(UnreadableFile, match="--ab --json"):
        read_report(str(path))
