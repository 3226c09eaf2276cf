"""A prepared table of best prices: the same bits from both backends, and from the events that made it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featureplane as fp
from benchmarks.bench_table import NINE
from featureplane import native
from featureplane.errors import EmptyStream, MalformedEvent, PlanError, SettingError
from featureplane.features import kernels as k
from featureplane.market.events import EventBatch
from featureplane.market.quality import Quality
from featureplane.research.touch_rows import TABLE, TouchRows
from featureplane.units import MAGNITUDE_LIMIT
from tests.streams import MS, START_NS, Change, as_array, ask, bid, instrument, message, snapshot

needs_native = pytest.mark.native
BACKENDS = ("python", "rust") if native.available() else ("python",)
MOST = MAGNITUDE_LIMIT - 1
NAMES = ("best_bid", "best_ask", "bid_qty", "ask_qty")

_OFI = k.ofi(level=1)
MORE = fp.FeatureSet(
    "more_v1",
    features={
        "bid": k.best_bid(),
        "ask_qty": k.qty("ask", 1),
        "bid_depth": k.depth("bid", 1),
        "ema3": k.ema(_OFI, span=3),
        "ema5": k.ema(k.best_ask(), span=5),
        "ema4": k.ema(k.microprice_x2(), span=4),
        "ema_of_ema": k.ema(k.ema(k.spread(), span=2), span=2),
        "cum_spread": k.cumsum(k.spread()),
        "z": k.zscore(k.spread(), window=5),
        "lagged": k.lag(_OFI, 2),
        "twice": k.mid_x2() * k.constant(2),
        "slope": k.book_slope(1),
        "bucket": k.bucket(k.spread(), (1, 3)),
    },
)
CLOCK = fp.FeatureSet(
    "clock_v1",
    features={
        "mid_x2": k.mid_x2(),
        "ofi_1s": k.sum_over(_OFI, seconds=1),
        "spread_mean": k.mean_over(k.spread(), seconds=1),
        "decayed": k.ema_time(k.mid_x2(), half_life_seconds=1),
        "survival": k.tob_survival_ms(),
    },
)
LANES = fp.FeatureSet(
    "lanes_v1",
    features={
        "bid": k.best_bid(),
        "ask": k.level_price("ask", 1),
        "bid_qty": k.qty("bid", 1),
        "ask_depth": k.depth("ask", 1),
        "bid_cum": k.cumsum(k.best_bid()),
        "imbalance_cum": k.cumsum(k.imbalance_ppm(1)),
        **{f"ema{n}": k.ema(x, span=n) for n, x in enumerate((_OFI, k.best_ask(), k.mid_x2()), 2)},
        **{f"ema{n}": k.ema(x, span=n) for n, x in enumerate((k.qty("ask", 1), k.microprice_x2()), 5)},
    },
)
"""All that is computed many rows at once, and nothing else."""
SETS = (NINE, MORE, CLOCK, LANES)
EACH_SET = pytest.mark.parametrize("fset", SETS, ids=lambda fset: fset.feature_set_id)

Row = tuple[int, int, int, int]

prices = st.one_of(
    st.integers(-4, 4), st.integers(99, 103), st.sampled_from([-MOST, -MOST + 1, MOST - 1, MOST])
)
sizes = st.one_of(st.integers(0, 3), st.integers(1, 10**6), st.sampled_from([MOST - 1, MOST]))
near = st.tuples(st.integers(99, 101), st.integers(102, 104), st.integers(1, 50), st.integers(1, 50))
rows_of_any_kind = st.lists(st.one_of(near, st.tuples(prices, prices, sizes, sizes)), min_size=1, max_size=40)


def table_of(rows: list[Row], *, times: bool = True) -> dict[str, Any]:
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    table: dict[str, Any] = dict(zip(NAMES, columns, strict=True))
    if times:
        table["source_ts_ns"] = START_NS + np.arange(len(rows)) * 300 * MS
    return table


def bits(table: fp.FeatureTable) -> list[Any]:
    """Every column of a table, bit by bit, and what it says of itself."""
    arrow = table.to_arrow()
    columns = [arrow.column(name).combine_chunks() for name in arrow.column_names]
    floats = [column.view(pa.int64()) if column.type == pa.float64() else column for column in columns]
    return [str(column.type) + str(column.to_pylist()) for column in floats] + [arrow.schema.metadata]


@needs_native
@EACH_SET
@given(rows=rows_of_any_kind)
@settings(max_examples=60, deadline=None)
def test_rule_10_1_both_backends_say_the_same(fset: fp.FeatureSet, rows: list[Row]) -> None:
    table = table_of(rows)
    reference = fp.compute_touch(table, fset, backend="python")
    assert bits(fp.compute_touch(table, fset, backend="rust")) == bits(reference)
    assert len(reference) == len(rows)


@needs_native
@EACH_SET
@pytest.mark.parametrize("count", [1, 8, 9, 63, 64, 65, 255, 257, 1_000, 70_000])
def test_rule_10_5_blocks_may_end_anywhere(fset: fp.FeatureSet, count: int) -> None:
    rng = np.random.default_rng(count)
    bids = 1_000 + np.cumsum(rng.integers(-1, 2, count))
    table: dict[str, Any] = {
        "best_bid": bids,
        "best_ask": bids + rng.integers(1, 4, count),
        "bid_qty": rng.integers(1, 10**7, count),
        "ask_qty": rng.integers(1, 10**7, count),
        "source_ts_ns": START_NS + np.cumsum(rng.integers(0, 2 * MS, count)),
    }
    if count > 500:  # moments without a value, and sizes beyond exact floats
        for name, value in [("ask_qty", 0), ("bid_qty", MOST), ("best_bid", MOST)]:
            table[name] = np.where(rng.integers(0, 300, count) == 0, value, table[name])
    got = fp.compute_touch(table, fset, backend="rust")
    stop = 3_000  # the reference takes its time
    part = {name: column[:stop] for name, column in table.items()}
    wanted = fp.compute_touch(part, fset, backend="python").to_arrow()
    assert got.to_arrow().slice(0, len(wanted)).equals(wanted)
    assert len(got) == count
    if count > stop:
        streamed = fp.compute(_whole(table), fset)
        assert streamed.to_arrow().drop_columns("symbol").equals(got.to_arrow().drop_columns("symbol"))


@needs_native
def test_rule_1_2_a_sum_is_lost_where_the_reference_loses_it() -> None:
    count = 8_400  # of 2^50 each: beyond 2^63 after 8,192
    steps = np.arange(count)
    sizes = np.full(count, 1 << 49)
    table = {"best_bid": steps, "best_ask": steps + 1, "bid_qty": sizes, "ask_qty": sizes}
    cum = fp.FeatureSet("cum_v1", features={"cum": k.cumsum(_OFI), "ema": k.ema(_OFI, span=8)})
    wanted = fp.compute_touch(table, cum, backend="python")
    assert bits(fp.compute_touch(table, cum, backend="rust")) == bits(wanted)
    assert wanted.to_arrow()["cum"].null_count > 100


def _whole(table: dict[str, Any]) -> EventBatch:
    one = instrument(reset_at="none", book_levels=1)
    parts = [batch.array for batch in TouchRows.read(table).batches(one)]
    return EventBatch(np.concatenate(parts), (one,), TABLE)


def changes(rows: list[Row]) -> list[list[Any]]:
    """The messages that make these books one out of the other."""
    messages, before = [], {bid: (0, 0), ask: (0, 0)}
    for at, (b, a, p, s) in enumerate(rows):
        events: list[Change] = []
        for side, now in ((bid, (b, p)), (ask, (a, s))):
            old = before[side]
            if old[1] and (old[0] != now[0] or not now[1]):
                events.append(side(old[0], 0))
            if now[1]:
                events.append(side(*now))
            before[side] = now
        make = snapshot if at == 0 and (p or s) else message
        messages.append(make(*(events or [bid(0, 0)]), at=300 * at))
    return messages


@EACH_SET
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("locked", ["crossed", "valid"])
@given(rows=rows_of_any_kind)
@settings(max_examples=25, deadline=None)
def test_a_table_gives_what_the_events_give_that_made_it(
    backend: str, locked: str, fset: fp.FeatureSet, rows: list[Row]
) -> None:
    rows = [(100, 101, 1, 1), *rows]
    one = instrument(locked=locked, book_levels=1, reset_at="00:00")
    events = EventBatch(as_array(changes(rows)), (one,), TABLE)
    wanted = fp.compute(events, fset, backend="python").to_arrow()
    got = fp.compute_touch(table_of(rows), fset, instrument=one, backend=backend).to_arrow()
    assert got.equals(wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_row_says(backend: str) -> None:
    rows = [
        (100, 102, 5, 5),
        (100, 102, 5, 5),
        (101, 102, 5, 0),
        (103, 102, 5, 5),
        (0, 0, 0, 0),
        (100, 102, 7, 5),
    ]
    table = fp.compute_touch(table_of(rows, times=False), NINE, backend=backend)
    arrow = table.to_arrow()
    assert arrow["mid_x2"].to_pylist() == [202, 202, None, None, None, 202]
    assert arrow["ofi"].to_pylist() == [None, 0, None, None, None, 2]
    assert arrow["ofi_cum"].to_pylist() == [None, 0, None, None, None, 2]
    partial, crossed = Quality.PARTIAL_FEATURES, Quality.CROSSED_BOOK
    flags = [Quality.STATE_RESET, 0, partial, crossed, partial, 0]
    assert arrow["quality_flags"].to_pylist() == flags
    assert arrow["seq"].to_pylist() == [1, 2, 3, 4, 5, 6]
    assert arrow["source_seq"].to_pylist() == arrow["source_ts_ns"].to_pylist() == [0] * 6
    assert table.symbols == ("table",)
    assert table.report is not None
    assert (table.report.rows, table.report.frames) == (6, 6)
    assert table.report.flags["CROSSED_BOOK"] == 1
    assert (table.report.resets, table.report.broken) == ({"first": 1}, {})


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_are_chosen_as_frames_are(backend: str) -> None:
    rows = [(100, 102, 5, 5)] * 10 + [(101, 102, 5, 5)] * 10
    table = table_of(rows)
    only = fp.FeatureSet("only_v1", features={"mid_x2": k.mid_x2()})
    assert fp.compute_touch(table, only, backend=backend, emit="change").to_arrow()["seq"].to_pylist() == [
        1,
        2,
        11,
    ]
    assert fp.compute_touch(table, only, backend=backend, every=7).to_arrow()["seq"].to_pylist() == [7, 14]
    sampled = fp.compute_touch(table, only, backend=backend, every="1s").to_arrow()
    assert "grid_ts_ns" in sampled.column_names


def test_tables_of_all_kinds_are_read() -> None:
    rows = [(100, 102, 5, 5), (100, 103, 5, 7), (101, 103, 4, 7)]
    plain = table_of(rows)
    arrow = pa.table(plain)
    narrow = {name: column.astype(np.int32) for name, column in table_of(rows, times=False).items()}
    wanted = bits(fp.compute_touch(plain, NINE, backend="python"))
    stamps = (arrow["source_ts_ns"].to_numpy() // 1_000).astype("datetime64[us]")
    stamped = arrow.set_column(4, "source_ts_ns", pa.array(stamps, pa.timestamp("us", "UTC")))
    pieces = pa.concat_tables([arrow.slice(0, 1), arrow.slice(1)])
    beside = arrow.append_column("note", [["a", "b", "c"]])
    for table in (
        arrow,
        pl.DataFrame(plain),
        pd.DataFrame(plain),
        stamped,
        pieces,
        beside,
        arrow.to_batches()[0],
    ):
        assert bits(fp.compute_touch(table, NINE, backend="python")) == wanted
    lists = {name: column.tolist() for name, column in plain.items()}
    assert bits(fp.compute_touch(lists, NINE, backend="python")) == wanted
    timeless = bits(fp.compute_touch(table_of(rows, times=False), NINE, backend="python"))
    assert bits(fp.compute_touch(narrow, NINE, backend="python")) == timeless


def test_a_null_is_an_empty_side() -> None:
    table = pa.table(
        {"best_bid": [100, None, 100], "best_ask": [102] * 3, "bid_qty": [5] * 3, "ask_qty": [5, 5, None]}
    )
    rows = TouchRows.read(table)
    assert (rows.bid_qty.tolist(), rows.ask_qty.tolist()) == ([5, 0, 5], [5, 5, 0])


@pytest.mark.parametrize(
    ("feature", "times", "words"),
    [
        pytest.param(k.ema(k.signed_qty(), span=3), True, "reads trades", id="trades"),
        pytest.param(k.roll_spread(window=8), True, "reads trades", id="through inputs"),
        pytest.param(k.imbalance_ppm(5), True, "reads 5 levels", id="levels"),
        pytest.param(k.ofi(2) + k.ofi(1), True, "reads 2 levels", id="a level behind"),
        pytest.param(k.sum_over(k.ofi(1), seconds=1), False, "looks at the clock", id="window"),
        pytest.param(k.ema_time(k.spread(), half_life_seconds=1), False, "looks at the clock", id="decay"),
        pytest.param(k.tob_survival_ms(), False, "looks at the clock", id="age"),
    ],
)
def test_more_than_a_table_has_is_refused_by_name(feature: Any, *, times: bool, words: str) -> None:
    fset = fp.FeatureSet("beyond_v1", features={"fine": k.spread(), "beyond": feature})
    with pytest.raises(PlanError, match=words) as raised:
        fp.compute_touch(table_of([(1, 2, 3, 4)], times=times), fset, backend="python")
    assert raised.value.feature_id == "beyond"
    assert ("source_ts_ns" in str(raised.value.hint)) is not times


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        pytest.param(7, SettingError, "a table that is int", id="no table"),
        pytest.param({"best_bid": [1]}, SettingError, "no column best_ask, bid_qty, ask_qty", id="columns"),
        pytest.param({**table_of([(1, 2, 3, 4)]), "ask_qty": [0.5]}, SettingError, "float64", id="floats"),
        pytest.param(
            {**table_of([(1, 2, 3, 4)]), "ask_qty": [[1]]}, SettingError, "2 dimensions", id="shape"
        ),
        pytest.param(
            pa.table({n: pa.array([1.0]) for n in NAMES}), SettingError, "double", id="Arrow floats"
        ),
        pytest.param(
            {**table_of([(1, 2, 3, 4)]), "ask_qty": [1, 2]}, SettingError, "2 rows in ask_qty", id="length"
        ),
        pytest.param(
            table_of([(1, 2, 3, 4), (1, 2, -1, 4)]), MalformedEvent, "bid_qty -1 in row 1", id="below 0"
        ),
        pytest.param(
            table_of([(1, MOST + 1, 3, 4)]), MalformedEvent, "best_ask 9007199254740992 in row 0", id="2^53"
        ),
        pytest.param(
            {**table_of([(1, 2, 3, 4)]), "bid_qty": np.array([1 << 63], np.uint64)},
            MalformedEvent,
            "row 0",
            id="u64",
        ),
        pytest.param(
            pa.table({n: pa.array([1 << 63], pa.uint64()) for n in NAMES}),
            MalformedEvent,
            "best_bid",
            id="Arrow u64",
        ),
        pytest.param(
            {**table_of([(1, 2, 3, 4)]), "source_ts_ns": [-1]},
            MalformedEvent,
            "source_ts_ns -1 in row 0",
            id="time",
        ),
        pytest.param(
            pa.table({**{n: [1] for n in NAMES}, "source_ts_ns": pa.array([None], pa.int64())}),
            MalformedEvent,
            "source_ts_ns null in row 0",
            id="no time",
        ),
        pytest.param(
            pa.table({**{n: [1] for n in NAMES}, "source_ts_ns": pa.array([1 << 60], pa.timestamp("s"))}),
            MalformedEvent,
            "out of bounds",
            id="year",
        ),
        pytest.param(table_of([]), EmptyStream, "a table without rows", id="no rows"),
    ],
)
def test_what_is_no_such_table_is_refused(table: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fp.compute_touch(table, NINE, backend="python")


@needs_native
def test_memory_given_back_is_nobody_elses() -> None:
    """Big columns lie where tables before them have lain; nothing is in use twice."""
    rng = np.random.default_rng(1)

    def table(count: int) -> dict[str, Any]:
        bids = 1_000 + np.cumsum(rng.integers(-1, 2, count))
        sizes = rng.integers(1, 100, (2, count))
        return dict(zip(NAMES, (bids, bids + 1, *sizes), strict=True))

    tables = [table(count) for count in (300_000, 300_000, 600_000, 270_000)]
    wanted = [fp.compute_touch(one, NINE, backend="rust") for one in tables]
    words = [[one.column(name)[0].tobytes() for name in NINE.feature_ids] for one in wanted]

    def again(at: int) -> bool:
        held = [fp.compute_touch(tables[n], NINE, backend="rust") for n in (at, (at + 1) % 4)]
        return all(
            one.column(name)[0].tobytes() == words[n][place]
            for one, n in zip(held, (at, (at + 1) % 4), strict=True)
            for place, name in enumerate(NINE.feature_ids)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(again, [0, 1, 2, 3, 3, 2, 1, 0]))
    for one, known in zip(wanted, words, strict=True):
        assert [one.column(name)[0].tobytes() for name in NINE.feature_ids] == known
