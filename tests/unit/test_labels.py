"""Labels: right, null where nothing is known, and blind to what comes after."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import featureplane as fp
from featureplane.research.labels import forward_return, leaks, markout, row_times, shuffle_future
from tests.stored import SYMBOL

Row = tuple[int, int | None]


def rows(*given: Row, symbols: list[str] | None = None) -> pa.Table:
    times = [time for time, _ in given]
    return pa.table(
        {
            "symbol": pa.array(symbols or [SYMBOL] * len(given)).dictionary_encode(),
            "source_ts_ns": pa.array(times, pa.int64()),
            "local_ts_ns": pa.array([0] * len(given), pa.int64()),
            "mid_price_x2": pa.array([mid for _, mid in given], pa.int64()),
        }
    )


@pytest.fixture(scope="module")
def frames() -> pa.Table:
    table = fp.compute(fp.sample_events(), "lob_shared_v1").to_arrow()
    return table.filter(pc.equal(table["symbol"].cast(pa.string()), table["symbol"][0].as_py()))


def test_the_mid_that_stands_a_horizon_later() -> None:
    labels = forward_return(rows((0, 1_000), (4, 1_010), (10, 1_020), (11, 990), (30, 1_000)), 10)
    assert labels.values[0] == pytest.approx(200.0)  # at 10, the row of that very time stands
    assert labels.values[1] == pytest.approx((990 - 1_010) / 1_010 * 1e4)  # at 14
    assert labels.values[2] == pytest.approx((990 - 1_020) / 1_020 * 1e4)  # at 20
    assert labels.defined.tolist() == [True, True, True, True, False]  # who knows what stands at 40
    assert np.isnan(labels.values[4])
    assert labels.known_ns.tolist() == [10, 14, 20, 21, 40]


def test_undefined_mids_have_no_return_and_give_none() -> None:
    labels = forward_return(rows((0, 1_000), (5, None), (9, 0), (20, 1_000), (31, 1_001), (50, 7)), 10)
    assert labels.defined.tolist() == [False, False, False, True, True, False]


def test_times_are_those_of_arrival_and_never_go_back() -> None:
    table = rows((100, 10), (90, 12), (200, 14))
    assert row_times(table).tolist() == [100, 100, 200]
    late = table.set_column(2, "local_ts_ns", pa.array([150, 160, 220], pa.int64()))
    assert row_times(late).tolist() == [150, 160, 220]


def test_markouts() -> None:
    table = rows((0, 2_000), (10, 2_020), (20, 1_990), (40, 2_000))
    labels = markout(table, [5, 5, 12, -100, 35], [1_000, 1_000, 1_010, 1_000, 1_000], [1, -1, -1, 1, 1], 10)
    assert labels.values[:3].tolist() == pytest.approx([100.0, -100.0, 15 / 1_010 * 1e4])
    assert labels.defined.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda t: forward_return(t, 0), "horizon"),
        (lambda t: forward_return(t, 10**18), "horizon"),
        (lambda t: forward_return(t, "soon"), "horizon"),
        (lambda t: forward_return(t, 5, mid="middle"), "middle"),
        (lambda t: markout(t, [1], [1], [0], 5), "side"),
        (lambda t: markout(t, [1, 2], [1], [1], 5), "lengths"),
        (lambda t: forward_return(t, 5).split(0, embargo=-1), "embargo"),
        (lambda t: forward_return(t, 5).split(0, embargo="7"), "embargo"),
        (lambda _: forward_return(rows((0, 1), (1, 1), symbols=["a", "b"]), 5), "several symbols"),
    ],
)
def test_what_cannot_be_meant(call: Any, says: str) -> None:
    with pytest.raises(fp.FeaturePlaneError, match=says) as caught:
        call(rows((0, 1), (9, 1)))
    assert caught.value.hint


def test_nothing_of_nothing() -> None:
    assert not len(forward_return(rows(), "1s").values)
    assert markout(rows(), [5], [5], [1], 5).defined.tolist() == [False]


@given(
    st.lists(st.integers(0, 60), min_size=2, max_size=40),
    st.integers(1, 25),
    st.integers(0, 60),
    st.integers(1, 30),
    st.integers(0, 20),
)
def test_nobody_trains_on_what_the_test_will_see(
    steps: list[int], horizon: int, start: int, length: int, embargo: int
) -> None:
    at = np.cumsum(steps).tolist()
    labels = forward_return(rows(*((time, 1_000 + time % 7) for time in at)), horizon)
    train, test = labels.split(start, start + length, embargo=embargo)
    assert not (train & test).any()
    assert (labels.defined[train]).all()
    if test.any():
        first, last = labels.at_ns[test].min(), labels.known_ns[test].max()
        before = labels.at_ns[train] < start
        assert (labels.known_ns[train][before] + embargo <= first).all()
        assert (labels.at_ns[train][~before] >= last + embargo).all()
    only, rest = labels.split(start, embargo=embargo)
    assert (labels.known_ns[only] <= start - embargo).all()
    assert (labels.at_ns[rest] >= start).all()


def of_feature(name: str) -> Any:
    def column(table: pa.Table) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        return np.asarray(table[name].cast(pa.float64(), safe=False).to_numpy()), row_times(table)

    return column


def test_labels_do_not_see_what_comes_after_they_are_known(frames: pa.Table) -> None:
    def labelled(table: pa.Table) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        made = forward_return(table, "500ms")
        return made.values, made.known_ns

    made = forward_return(frames, "500ms")
    assert made.defined.sum() > 100
    assert np.nanstd(made.values) > 0
    assert not leaks(labelled, frames).any()


def test_leaks_are_found(frames: pa.Table) -> None:
    def known_too_early(table: pa.Table) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        made = forward_return(table, "500ms")
        return made.values, made.at_ns

    def next_one(table: pa.Table) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        sizes, times = of_feature("l1_bid_qty")(table)
        return np.roll(sizes, -1), times

    assert leaks(known_too_early, frames).any()
    assert not leaks(of_feature("spread_scaled"), frames).any()
    assert leaks(next_one, frames, cuts=50).any()


def test_only_the_future_is_shuffled(frames: pa.Table) -> None:
    at = row_times(frames)
    cut = int(at[len(at) // 2])
    mixed = shuffle_future(frames, cut)
    past = int(np.searchsorted(at, cut, side="right"))
    assert mixed.slice(0, past).equals(frames.slice(0, past))
    assert not mixed.slice(past).equals(frames.slice(past))
    assert row_times(mixed).tolist() == at.tolist()
    assert np.sort(mixed["seq"].to_numpy()).tolist() == np.sort(frames["seq"].to_numpy()).tolist()
