"""Frames and states are compared bit by bit; what is unlike is named by feature."""

from __future__ import annotations

import struct

import numpy as np
import pytest

import featureplane as fp
from featureplane.features import kernels as k
from featureplane.features.frame import FeatureFrame, FrameLayout
from featureplane.features.reference import ReferenceEngine
from featureplane.features.shadow_compare import Comparison, in_order, left_out, transplanted
from featureplane.features.spec import FeatureSet
from featureplane.features.symbol import SymbolRun
from featureplane.market.synthetic import synthetic_instruments
from featureplane.units import UNDEFINED_F64_BITS
from tests.parity.streams import TRADES, V1, V2, synthetic

EVENTS = synthetic(3_000, seed=2, faults=False)
STREAM = EVENTS.instruments, EVENTS.source, EVENTS.options
SYMBOL_ID = synthetic_instruments(1)[0].symbol_id


def fresh(fset: FeatureSet) -> SymbolRun:
    return ReferenceEngine(fset, *STREAM).symbol(SYMBOL_ID)


def comparison(live: FeatureSet, shadow: FeatureSet | None = None, abs_tol: float = 0.0) -> Comparison:
    return Comparison(live, shadow or live, abs_tol=abs_tol, fresh=fresh)


def last_of(fset: FeatureSet) -> tuple[bytes, bytes]:
    """The last frame of the stream, and the state behind it."""
    engine = ReferenceEngine(fset, *STREAM)
    frame = [frame.pack() for frame, _ in engine.process(EVENTS.array)][-1]
    return frame, engine.snapshot(SYMBOL_ID)


FRAME, STATE = last_of(V1)


def changed(frame: bytes, feature_id: str, word: bytes) -> bytes:
    layout = FrameLayout.of(V1, {})
    at = layout.values_at + 8 * layout.feature_ids.index(feature_id)
    return frame[:at] + word + frame[at + 8 :]


def test_equal_frames_and_states_do_not_differ() -> None:
    assert comparison(V1).frames(FRAME, FRAME) == {}
    assert comparison(V1).states(STATE, STATE, {}) == {}


@pytest.mark.parametrize("feature_id", ["best_bid", "ofi_l1_ema8"])
def test_one_bit_of_a_value_is_named(feature_id: str) -> None:
    layout = FrameLayout.of(V1, {})
    at = layout.values_at + 8 * layout.feature_ids.index(feature_id)
    other = changed(FRAME, feature_id, bytes([FRAME[at] ^ 1]) + FRAME[at + 1 : at + 8])
    assert list(comparison(V1).frames(FRAME, other) or {}) == [feature_id]


def test_every_field_of_the_head_is_looked_at() -> None:
    for at, name in ((12, "_flags"), (16, "_frame"), (24, "_frame"), (32, "_frame"), (56, "_frame")):
        other = FRAME[:at] + bytes([FRAME[at] ^ 1]) + FRAME[at + 1 :]
        assert list(comparison(V1).frames(FRAME, other) or {}) == [name]
    for at, name in ((64, "_changed"), (72, "_ready")):
        other = FRAME[:at] + bytes([FRAME[at] ^ 1]) + FRAME[at + 1 :]
        assert list(comparison(V1).frames(FRAME, other) or {}) == [name]
    assert comparison(V1).frames(FRAME, None) == {"_frame": ("there", "missing")}


def test_a_tolerance_is_for_floats_that_both_have() -> None:
    mean, bid = (
        FeatureFrame(FRAME, FrameLayout.of(V1, {})).get_feature(one) for one in ("ofi_l1_ema8", "best_bid")
    )
    near = struct.pack("<d", mean + 0.25)
    undefined = UNDEFINED_F64_BITS.to_bytes(8, "little")
    loose = comparison(V1, abs_tol=0.5)
    assert loose.frames(FRAME, changed(FRAME, "ofi_l1_ema8", near)) == {}
    tight = comparison(V1, abs_tol=0.125).frames(FRAME, changed(FRAME, "ofi_l1_ema8", near))
    assert list(tight or {}) == ["ofi_l1_ema8"]
    assert list(loose.frames(FRAME, changed(FRAME, "ofi_l1_ema8", undefined)) or {}) == ["ofi_l1_ema8"]
    one_more = struct.pack("<q", bid + 1)
    many = comparison(V1, abs_tol=1e6).frames(FRAME, changed(FRAME, "best_bid", one_more))
    assert list(many or {}) == ["best_bid"]


def test_undefined_is_compared_by_its_bits() -> None:
    undefined = UNDEFINED_F64_BITS.to_bytes(8, "little")
    other_nan = (UNDEFINED_F64_BITS | 1).to_bytes(8, "little")
    left = changed(FRAME, "ofi_l1_ema8", undefined)
    for abs_tol in (0.0, 1e6):
        same = comparison(V1, abs_tol=abs_tol)
        assert same.frames(left, left) == {}
        assert list(same.frames(left, changed(FRAME, "ofi_l1_ema8", other_nan)) or {}) == ["ofi_l1_ema8"]


def test_a_state_names_the_features_that_are_computed_from_what_differs() -> None:
    run = fresh(V1)
    engine = ReferenceEngine(V1, *STREAM)
    engine.restore(SYMBOL_ID, STATE)
    nodes = {one.kernel: at for at, one in enumerate(V1.plan.nodes)}
    node = engine.symbol(SYMBOL_ID).nodes.all[nodes["cumsum"]]
    node.kernel.update(5, 0)
    assert list(comparison(V1).states(STATE, engine.snapshot(SYMBOL_ID), {})) == ["ofi_l1_cum"]
    engine.restore(SYMBOL_ID, STATE)
    engine.symbol(SYMBOL_ID).book.bids.set(1, 1)
    assert list(comparison(V1).states(STATE, engine.snapshot(SYMBOL_ID), {})) == ["_state"]
    assert list(comparison(V1).states(STATE, b"no state", {})) == ["_state"]
    assert run.seq == 0


def test_levels_in_no_order_are_put_in_order() -> None:
    engine = ReferenceEngine(V1, *STREAM)
    engine.restore(SYMBOL_ID, STATE)
    bids = engine.symbol(SYMBOL_ID).book.bids.levels()
    first = np.array([len(bids), bids[0][0], bids[0][1]], np.int64).tobytes()
    book = STATE.index(first)
    levels = np.frombuffer(STATE, np.int64).copy()
    at = book // 8
    part = levels[at + 1 : at + 1 + 2 * len(bids)].reshape(-1, 2)
    part[:] = part[::-1].copy()
    assert levels.tobytes() != STATE
    assert in_order(levels.tobytes(), book) == STATE
    assert in_order(STATE, 0) is STATE


def test_what_is_left_out_says_why() -> None:
    other = FeatureSet(
        "other",
        features={
            "best_bid": k.best_bid(),
            "best_ask": k.best_bid(),
            "spread_mean30s": k.mean_over(k.spread(), seconds=30),
        },
    )
    out = left_out(V2, other)
    assert "best_bid" not in out
    assert out["best_ask"].startswith("another definition")
    assert out["spread_mean30s"] == "moves with a clock that other messages move"
    assert out["mid_rel"] == "not in other"
    assert left_out(V1, V2) == {}


def test_a_candidate_need_not_make_a_frame_of_every_message() -> None:
    assert comparison(V2, V1).frames(last_of(V2)[0], None) is None
    assert comparison(V1, V2).frames(FRAME, None) == {"_frame": ("there", "missing")}
    assert comparison(TRADES, V2).frames(last_of(TRADES)[0], None) is None


def test_a_transplanted_state_goes_on_as_the_live_one() -> None:
    half = int(EVENTS.message_ends[len(EVENTS.message_ends) // 2])
    live, shadow = ReferenceEngine(V1, *STREAM), ReferenceEngine(V2, *STREAM)
    list(live.process(EVENTS.array[:half]))
    state = transplanted(live.snapshot(SYMBOL_ID), fresh(V1), fresh(V2), (V1.plan, V2.plan))
    shadow.restore(SYMBOL_ID, state)
    left = {f.local_ts_ns: f.pack() for f, _ in live.process(EVENTS.array[half:])}
    right = {f.local_ts_ns: f.pack() for f, _ in shadow.process(EVENTS.array[half:])}
    both = comparison(V1, V2)
    assert len(left) > 50
    assert [both.frames(frame, right[at]) for at, frame in left.items()] == [{}] * len(left)
    own = [fp.FeatureFrame(one, FrameLayout.of(V2, {}))["signed_qty_1s"] for one in right.values()]
    assert own[0] is None
    assert own[-1] is not None
