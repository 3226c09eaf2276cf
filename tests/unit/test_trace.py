"""`featureplane features trace`: what it says of a number is how the number came about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import featureplane as fp
from featureplane import native
from featureplane.cli import main
from featureplane.errors import EmptyStream, ParityBreach, SettingError, UnknownFeature, UnknownSymbol
from featureplane.features import kernels as k
from featureplane.features.reference import ReferenceEngine
from featureplane.features.trace import Trace, TracedNode, trace
from featureplane.market.events import EventBatch
from featureplane.market.reading import read_events
from featureplane.market.sample import sample_events
from featureplane.units import half_even_div

SAMPLE = str(Path(fp.__file__).parent / "sample" / "ethusdt_20240808.gz")
WORDS = ["features", "trace", SAMPLE, "--source", "binance-spot", "--features", "lob_shared_v1"]
V1, V2 = fp.feature_set("lob_shared_v1"), fp.feature_set("lob_shared_v2")


@pytest.fixture(scope="module")
def head() -> EventBatch:
    return sample_events().part(0, 3_000)


@pytest.fixture(scope="module")
def accidents() -> EventBatch:
    return read_events("synthetic:5:6000", "synthetic")


def frames_of(events: EventBatch, fset: fp.FeatureSet) -> list[fp.FeatureFrame]:
    return list(fp.FeatureEngine(fset).replay(events))


def node(found: Trace, feature_id: str) -> TracedNode:
    return next(one for one in found.nodes if feature_id in one.features)


@pytest.mark.parametrize("feature_id", V2.feature_ids)
def test_every_feature_has_the_value_of_its_frame(feature_id: str, head: EventBatch) -> None:
    frames = frames_of(head, V2)
    for seq in (1, 2, 400, len(frames)):
        found = trace(head, V2, feature_id, seq)
        frame = frames[seq - 1]
        assert found.frame == frame
        assert found.value == frame[feature_id]
        assert (found.value is None) is bool(found.nodes[-1].after.cell.value is None)
        assert (found.value is None) <= bool(found.reason)
        assert feature_id in found.nodes[-1].features
        assert all(number < one.number for one in found.nodes for number in one.inputs)


@pytest.mark.parametrize("seq", [2, 9, 277])
def test_numbers_can_be_worked_out_from_what_it_prints(seq: int, head: EventBatch) -> None:
    found = trace(head, V1, "ofi_l1_ema8", seq)
    flow, ema = node(found, "ofi_l1_raw"), node(found, "ofi_l1_ema8")
    assert ema.inputs == (flow.number,)
    if flow.advanced:
        (_, b, p, a, s) = (int(str(word)) for word in flow.before.state)
        (_, b1, p1, a1, s1) = (int(str(word)) for word in flow.after.state)
        worked_out = p1 * (b1 >= b) - p * (b1 <= b) - s1 * (a1 <= a) + s * (a1 >= a)
        assert flow.after.cell.value == worked_out
        assert found.after.bids[0] == (b1, p1)
        assert found.after.asks[0] == (a1, s1)
        before, x = float(str(ema.before.state[1])), float(worked_out)
        assert ema.after.state[1] == (before + 2 / 9 * (x - before) if ema.before.state[0] else x)
    else:
        assert ema.after == ema.before
    assert (found.value is None) is (seq < 9)


def test_the_book_before_is_changed_by_the_message_to_the_book_after(head: EventBatch) -> None:
    found = trace(head, V1, "microprice_x2", 200, levels=1000)
    for side, before, after in (
        (1, found.before.bids, found.after.bids),
        (2, found.before.asks, found.after.asks),
    ):
        levels = dict(before)
        for event in found.events.events:
            if event.side == side and event.qty:
                levels[event.price] = event.qty
            elif event.side == side:
                levels.pop(event.price, None)
        assert sorted(levels.items(), reverse=side == 1)[:50] == list(after)[:50]
    (bid, p), (ask, s) = found.after.bids[0], found.after.asks[0]
    assert found.value == half_even_div(2 * (ask * p + bid * s), p + s)


@pytest.mark.native
@pytest.mark.skipif(not native.available(), reason="no extension")
@pytest.mark.parametrize("seq", [1, 60, 700])
@pytest.mark.parametrize(
    "feature_id", ["ofi_l1_30s", "mid_rel", "vpin50_ppm", "kyle_lambda256", "spread_z256"]
)
def test_a_saved_state_in_between_changes_nothing(
    feature_id: str, seq: int, head: EventBatch, accidents: EventBatch
) -> None:
    for events in (head, accidents):
        restored = trace(events, V2, feature_id, seq, backend="rust")
        walked = trace(events, V2, feature_id, seq, backend="python")
        assert restored.executions == ("reference", "block")
        assert walked.executions == ("reference",)
        assert restored.nodes == walked.nodes
        assert restored.before == walked.before
        assert (restored.after, restored.message) == (walked.after, walked.message)
        assert [event.pack() for event in restored.events.events] == [
            event.pack() for event in walked.events.events
        ]


def test_frames_undefined_as_a_whole_say_so(accidents: EventBatch) -> None:
    gap = next(
        frame
        for frame in frames_of(accidents, V1)
        if frame.flags & fp.Quality.GAP_DETECTED and not frame.ready
    )
    found = trace(accidents, V1, "best_bid", gap.seq)
    assert (found.value, found.after.book) == (None, "broken")
    assert found.reason
    healed = next(frame for frame in frames_of(accidents, V1) if frame.seq > gap.seq and frame.ready)
    after = trace(accidents, V1, "best_bid", healed.seq)
    assert (after.before.book, after.after.book) == ("broken", "whole")
    assert after.before.buffered > 0 or after.events.snapshot


def test_it_tells_what_was_reset(head: EventBatch) -> None:
    assert "first" in trace(head, V1, "best_bid", 1).resets
    assert trace(head, V1, "best_bid", 200).resets == ()


def test_reasons(head: EventBatch, accidents: EventBatch) -> None:
    assert trace(head, V1, "ofi_l1_ema8", 3).reason == "not warm"
    narrow = fp.FeatureSet("narrow_v1", features={"far": k.imbalance_ppm(levels=1000)})
    assert "fewer levels" in trace(accidents, narrow, "far", 1).reason


def test_one_of_several_symbols() -> None:
    events = read_events("synthetic:5:6000:3", "synthetic")
    for one in events.instruments:
        frames = [frame for frame in frames_of(events, V1) if frame.symbol == one.symbol]
        found = trace(events, V1, "spread_ema8_scaled", 50, symbol=one.symbol)
        assert found.frame == frames[49]
        assert {event.symbol_id for event in found.events.events} == {one.symbol_id}
    with pytest.raises(UnknownSymbol):
        trace(events, V1, "best_bid", 1, symbol="nobody")


@pytest.mark.native
@pytest.mark.skipif(not native.available(), reason="no extension")
def test_a_reference_that_makes_other_bytes_is_a_breach(
    head: EventBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ReferenceEngine.pack
    monkeypatch.setattr(ReferenceEngine, "pack", lambda *them: honest(*them)[:-8] + bytes(8))
    with pytest.raises(ParityBreach):
        trace(head, V1, "best_bid", 10, backend="rust")


def test_what_is_not_there_is_refused(head: EventBatch) -> None:
    last = len(frames_of(head, V1))
    with pytest.raises(SettingError) as refused:
        trace(head, V1, "best_bid", last + 1)
    assert f"the nearest, the last, is {last}" in str(refused.value.hint)
    with pytest.raises(SettingError):
        trace(head, V1, "best_bid", 0)
    with pytest.raises(SettingError):
        trace(head, V1, "best_bid", 1, levels=0)
    with pytest.raises(UnknownFeature):
        trace(head, V1, "best_bit", 1)
    with pytest.raises(EmptyStream):
        trace(head.part(0, 1), V1, "best_bid", 1)
    with pytest.raises(EmptyStream):
        trace([], V1, "best_bid", 1)


# -- the command


def test_the_command_in_words_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, "--at", "500", "--feature", "ofi_l1_ema8"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "ofi_l1_ema8 = ema(ofi_l1_raw, span=8)" in said
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert str(answer["value"]) in said
    assert answer["value"] == answer["nodes"][-1]["value"] is not None
    assert answer["frame"]["seq"] == 500
    assert len(answer["before"]["bids"]) == len(answer["after"]["asks"]) == 5
    assert answer["nodes"][0]["formula"].startswith("p' [b' >= b]")
    assert answer["nodes"][0]["state"].startswith("0, or 1 and price")


def test_a_set_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'id = "mine_v1"\nschema_version = 1\n\n[features]\n'
        'edge = "microprice_x2() - mid_x2()"\nedge_ema = "ema(edge, span=3)"\n',
        encoding="utf-8",
    )
    words = [*WORDS[:-1], str(mine), "--at", "40", "--feature", "edge_ema", "--levels", "2", "--json"]
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)
    calls = {node["call"]: node["value"] for node in answer["nodes"]}
    assert calls["#0 - #1"] == calls["microprice_x2()"] - calls["mid_x2()"]
    assert calls["ema(edge, span=3)"] == answer["value"]
    assert len(answer["after"]["bids"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(
            ["--at", "900000", "--feature", "best_bid"], "the nearest, the last, is", id="no such frame"
        ),
        pytest.param(["--at", "0", "--feature", "best_bid"], "numbered from 1", id="frame 0"),
        pytest.param(["--at", "5", "--feature", "best_bit"], "did you mean best_bid?", id="no such feature"),
        pytest.param(
            ["--at", "5", "--feature", "best_bid", "--symbol", "BTCUSDT"],
            "these are: ETHUSDT",
            id="another symbol",
        ),
    ],
)
def test_refusals_have_a_hint(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
