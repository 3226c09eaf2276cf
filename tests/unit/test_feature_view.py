"""What a strategy reads while versions change: of each symbol the one shown, in both backends."""

from __future__ import annotations

from typing import Any

import pytest

import featureplane as fp
from featureplane import native
from featureplane.errors import NotReady, StateError, UnknownFeature, UnknownSymbol
from featureplane.features.latest import LatestFrames
from featureplane.features.view import FeatureView
from tests.parity.streams import synthetic

EACH_BACKEND = pytest.mark.parametrize("backend", ("python", "rust") if native.available() else ("python",))
V1, V2 = fp.feature_set("lob_shared_v1"), fp.feature_set("lob_shared_v2")


def behind(events: fp.EventBatch, backend: str, *sets: fp.FeatureSet) -> list[LatestFrames]:
    """The last frames of sets behind these events."""
    out = []
    for fset in sets:
        engine, latest = fp.FeatureEngine(fset, backend), LatestFrames(fset, events.instruments, backend)
        engine.follow(latest)
        start = 0
        for stop in events.message_ends.tolist():
            engine.push(events, start, stop)
            start = stop
        out.append(latest)
    return out


@EACH_BACKEND
def test_names_handles_and_frames_are_those_of_the_version_shown(backend: str) -> None:
    events = synthetic(1_500, seed=5, symbols=2)
    first, second = behind(events, backend, V1, V2)
    view = FeatureView(events.instruments, backend)
    a, b = view.symbols
    view.turn(first)
    read = view.get_feature
    doors = {(symbol, one): view.handle(symbol, one) for symbol in (a, b) for one in V1}
    shown: dict[str, LatestFrames] = {a: first, b: first}
    for symbol, latest in ((a, first), (b, second), (a, second), (a, first), (b, first)):
        view.turn(latest, symbol)
        shown[symbol] = latest
        for one in (a, b):
            assert view.set_id(one) == shown[one].layout.feature_set_id
            assert view.frame(one) == shown[one].frame(one)
            assert view.times(one) == shown[one].times(one)
        for (one, feature_id), door in doors.items():
            value: Any = shown[one].get_feature(one, feature_id, default=None)
            assert read(one, feature_id, default=None) == value
            assert door.is_ready is (value is not None)
            assert (door.symbol, door.feature_id) == (one, feature_id)
            if value is not None:
                assert door() == door.value == read(one, feature_id) == value
                assert type(door.value) is type(value)
            assert view.handle(one, feature_id) is door
    assert view.held(a) == frozenset(V1)
    view.turn(second, b)
    with pytest.raises(StateError, match="lob_shared_v1 and lob_shared_v2"):
        view.set_id()


@EACH_BACKEND
def test_a_handle_never_reads_a_version_that_is_not_shown(backend: str) -> None:
    """Values differ by construction: one of the versions has none yet."""
    events = synthetic(600, seed=5)
    (full,) = behind(events, backend, V2)
    empty = LatestFrames(V1, events.instruments, backend)
    view = FeatureView(events.instruments, backend)
    (symbol,) = view.symbols
    view.turn(full)
    door, own = view.handle(symbol, "best_bid"), view.handle(symbol, "trade_intensity_5s")
    assert door() == full.get_feature(symbol, "best_bid")
    view.turn(empty)
    reads: tuple[Any, ...] = (door, lambda: door.value, lambda: view.get_feature(symbol, "best_bid"))
    for read in reads:
        with pytest.raises(NotReady, match="no frame yet"):
            read()
    assert not own.is_ready
    for read in (own, lambda: own.value):
        with pytest.raises(StateError, match="is not in lob_shared_v1, which is consumed now") as info:
            read()
        assert not isinstance(info.value, NotReady)
        assert "get_feature_set_id" in str(info.value.hint)
    with pytest.raises(UnknownFeature):
        view.get_feature(symbol, "kyle_lambda256", default=0)
    with pytest.raises(UnknownFeature):
        view.handle(symbol, "kyle_lambda256")
    with pytest.raises(UnknownSymbol):
        view.get_feature("NONE", "best_bid", default=0)
    with pytest.raises(UnknownSymbol):
        view.handle("NONE", "best_bid")
    view.turn(full)
    assert door() == full.get_feature(symbol, "best_bid")
    assert own.is_ready is (full.get_feature(symbol, "trade_intensity_5s", default=None) is not None)


@EACH_BACKEND
def test_a_view_has_room_for_so_many_versions_and_shows_old_ones_again(backend: str) -> None:
    events = synthetic(50, seed=5)
    view = FeatureView(events.instruments, backend)
    many = [LatestFrames(V1, events.instruments, backend) for _ in range(65)]
    for latest in (*many[:64], *many[:64]):
        view.turn(latest)
        assert view.of(view.symbols[0]) is latest
    with pytest.raises(StateError, match="64 versions"):
        view.turn(many[64])
    assert view.of(view.symbols[0]) is many[63]
    with pytest.raises(UnknownSymbol):
        view.turn(LatestFrames(V1, synthetic(50, seed=5, symbols=2).instruments, backend))
