"""The packed frame, byte for byte (rule 6)."""

from __future__ import annotations

import copy
import hashlib
import pickle
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.errors import FeatureSetMismatch, MalformedEvent, NotReady, UnknownFeature, UnknownSymbol
from featureplane.features.frame import FRAME_MARKER, FeatureFrame, FeatureUpdateEvent, FrameLayout
from featureplane.market.quality import Quality
from featureplane.units import UNDEFINED_F64_BITS, UNDEFINED_I64

FINGERPRINT = hashlib.sha256(b"a set").hexdigest()
FEATURES = [("bid", "i64"), ("ema", "f64"), ("regime", "u32"), ("ask", "i64")]
LAYOUT = FrameLayout("quoter_v1", 3, FINGERPRINT, FEATURES, {7: "ABC"})
VALUES = struct.pack("<qdqQ", -5, 2.5, 2, 1 << 63)


def packed(layout: FrameLayout = LAYOUT, **fields: Any) -> bytes:
    defaults: dict[str, Any] = {
        "symbol_id": 7,
        "flags": 0x21,
        "seq": 11,
        "source_ts_ns": 12,
        "local_ts_ns": -13,
        "source_seq": 14,
        "changed": 0b1001,
        "ready": 0b0111,
        "values": VALUES,
    }
    return layout.pack(**(defaults | fields))


def test_rule_6_golden_bytes() -> None:
    assert packed() == b"".join(
        [
            b"FUV1",
            (1).to_bytes(2, "little"),
            (4).to_bytes(2, "little"),
            (7).to_bytes(4, "little"),
            (0x21).to_bytes(4, "little"),
            (11).to_bytes(8, "little"),
            (12).to_bytes(8, "little"),
            (-13).to_bytes(8, "little", signed=True),
            bytes.fromhex(FINGERPRINT)[:8],
            (3).to_bytes(4, "little"),
            (1).to_bytes(2, "little"),
            (64).to_bytes(2, "little"),
            (14).to_bytes(8, "little"),
            (0b1001).to_bytes(8, "little"),
            (0b0111).to_bytes(8, "little"),
            bytes.fromhex("fbffffffffffffff 0000000000000440 0200000000000000 0000000000000080"),
        ]
    )


@pytest.mark.parametrize(("features", "size"), [(1, 88), (64, 592), (65, 616), (128, 1120)])
def test_rule_6_size_is_64_and_16_a_mask_word_and_8_a_feature(features: int, size: int) -> None:
    layout = FrameLayout("s", 1, FINGERPRINT, [(f"f{i}", "i64") for i in range(features)], {})
    assert layout.size == size == 64 + 16 * -(-features // 64) + 8 * features
    assert layout.dtype.itemsize == size


def test_a_frame_tells_what_is_in_it() -> None:
    frame = FeatureFrame.unpack(packed(), LAYOUT)
    assert (frame.symbol_id, frame.seq, frame.source_ts_ns, frame.local_ts_ns) == (7, 11, 12, -13)
    assert (frame.source_seq, frame.changed, frame.ready) == (14, 0b1001, 0b0111)
    assert frame.flags == Quality.GAP_DETECTED | Quality.CROSSED_BOOK
    assert (frame.quality_flags, frame.changed_mask, frame.warmup_ready_mask) == (0x21, 0b1001, 0b0111)
    assert frame.values == (-5, 2.5, 2, None)
    assert frame.pack() == packed()


def test_names_are_looked_up_not_stored() -> None:
    frame = FeatureFrame(packed(), LAYOUT)
    assert (frame.symbol, frame.feature_set_id, frame.schema_version) == ("ABC", "quoter_v1", 3)
    assert (frame.marker, frame.feature_ids) == (FRAME_MARKER, ("bid", "ema", "regime", "ask"))
    assert frame.fingerprint == FINGERPRINT
    assert FeatureUpdateEvent is FeatureFrame
    with pytest.raises(UnknownSymbol):
        FeatureFrame(packed(symbol_id=8), LAYOUT).symbol  # noqa: B018 - reading it is the test


def test_rule_7_2_a_feature_without_value_is_none_and_never_0() -> None:
    frame = FeatureFrame(packed(), LAYOUT)
    assert frame["ask"] is None
    assert frame.get_feature("ask", default=4) == 4
    with pytest.raises(NotReady):
        frame.get_feature("ask")
    assert frame.get_feature("bid") == -5
    with pytest.raises(UnknownFeature):
        frame["mid"]


def test_the_view_is_the_bytes_not_a_copy() -> None:
    data = bytearray(packed())
    frame = FeatureFrame(data, LAYOUT)
    view = frame.view
    assert view["values"]["ema"] == 2.5
    assert view["warmup_ready_mask"][0] == 0b0111
    struct.pack_into("<d", data, 64 + 16 + 8, 7.25)
    assert (frame["ema"], view["values"]["ema"]) == (7.25, 7.25)
    with pytest.raises(ValueError, match="read-only"):
        view["seq"] = 1


def test_frames_are_equal_when_their_bytes_are() -> None:
    one, other = FeatureFrame(packed(), LAYOUT), FeatureFrame(packed(), LAYOUT)
    assert one == other
    assert hash(one) == hash(other)
    assert one != FeatureFrame(packed(seq=12), LAYOUT)
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301 - our own bytes
    assert copy.deepcopy(one) == one


def test_a_frame_prints_its_flags_by_name() -> None:
    assert repr(FeatureFrame(packed(), LAYOUT)) == (
        "<FeatureFrame ABC 11 GAP_DETECTED|CROSSED_BOOK: bid=-5, ema=2.5, regime=2, ask=None>"
    )


def test_another_fingerprint_is_refused() -> None:
    other = FrameLayout("quoter_v1", 3, hashlib.sha256(b"another").hexdigest(), FEATURES, {7: "ABC"})
    with pytest.raises(FeatureSetMismatch):
        FeatureFrame.unpack(packed(other), LAYOUT)


def patched(offset: int, data: bytes) -> bytes:
    whole = packed()
    return whole[:offset] + data + whole[offset + len(data) :]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(packed()[:63], id="half a header"),
        pytest.param(packed()[:-8], id="a value short"),
        pytest.param(packed() + bytes(8), id="a value long"),
        pytest.param(patched(0, b"FUV2"), id="magic"),
        pytest.param(patched(4, b"\x02"), id="version"),
        pytest.param(patched(6, b"\x05"), id="features"),
        pytest.param(patched(12, b"\x40"), id="a reserved flag"),
        pytest.param(patched(48, b"\x04"), id="schema"),
        pytest.param(patched(52, b"\x02"), id="mask words"),
        pytest.param(patched(54, b"\x80"), id="header bytes"),
        pytest.param(patched(64, b"\x19"), id="a spare changed bit"),
        pytest.param(patched(72, b"\x17"), id="a spare ready bit"),
        pytest.param(patched(72, b"\x0f"), id="ready without value"),
        pytest.param(patched(72, b"\x03"), id="value without ready"),
        pytest.param(patched(88, struct.pack("<d", -0.0)), id="minus zero"),
        pytest.param(patched(88, struct.pack("<d", float("inf"))), id="infinity"),
        pytest.param(patched(88, struct.pack("<Q", UNDEFINED_F64_BITS + 1)), id="another NaN"),
        pytest.param(patched(96, struct.pack("<q", -1)), id="a negative code"),
    ],
)
def test_bytes_that_are_no_frame_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedEvent):
        FeatureFrame.unpack(data, LAYOUT)


@given(st.binary(max_size=2 * LAYOUT.size))
def test_any_bytes_are_a_frame_or_refused(data: bytes) -> None:
    for one in (data, packed()[: len(data)] + data[len(packed()) :]):
        try:
            frame = FeatureFrame.unpack(one, LAYOUT)
        except (MalformedEvent, FeatureSetMismatch):
            continue
        assert frame.pack() == one


def test_undefined_values_have_their_sentinels() -> None:
    frame = FeatureFrame(packed(ready=0, values=LAYOUT.undefined), LAYOUT)
    assert frame.values == (None,) * 4
    words = np.frombuffer(LAYOUT.undefined, "<i8").tolist()
    assert words == [UNDEFINED_I64, UNDEFINED_F64_BITS, UNDEFINED_I64, UNDEFINED_I64]
