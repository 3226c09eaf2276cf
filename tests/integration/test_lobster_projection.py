"""Books of N levels seen through k < N: what LOBSTER would have written for k levels (rule 3.11).

Kept are the first row, rows in which one of the best k levels changed, and hidden executions.
"""

from __future__ import annotations

import functools
import gzip
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from featureplane.features import kernels as k
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch
from featureplane.market.reading import read_events
from featureplane.research.compute import compute
from tests.shared_data import shared

pytestmark = pytest.mark.native


class Deep(NamedTuple):
    """A recorded pair: its message file (or package), levels, the name the projected pair gets."""

    file: str
    levels: int
    stem: str


PAIRS = {
    "AAPL 1": Deep("LOBSTER_SampleFile_AAPL_2012-06-21_1.zip", 1, "AAPL_2012-06-21_34200000_57600000"),
    "AMZN 1": Deep("LOBSTER_SampleFile_AMZN_2012-06-21_1.zip", 1, "AMZN_2012-06-21_34200000_57600000"),
    "AMZN 5": Deep("LOBSTER_SampleFile_AMZN_2012-06-21_5.zip", 5, "AMZN_2012-06-21_34200000_57600000"),
    "AAPL 10": Deep("AAPL_2012-06-21_first999rows_message_10.csv.gz", 10, "AAPL_2012-06-21_first999rows"),
}
PROJECTIONS = [(name, levels) for name, pair in PAIRS.items() for levels in range(1, pair.levels)]


def best(levels: int) -> FeatureSet:
    """The best levels of both sides, and how many trades were hidden or not."""
    features = {
        f"{side}{i}_{name}": kernel(side, i)
        for i in range(1, levels + 1)
        for side in ("ask", "bid")
        for name, kernel in (("price", k.level_price), ("qty", k.qty))
    }
    counts = {"trades": k.trade_count(), "visible": k.trade_count(hidden=False)}
    return FeatureSet(f"best{levels}_v1", features=features | counts)


@functools.cache
def recorded(name: str) -> EventBatch:
    return read_events(shared(f"lobster/{PAIRS[name].file}"), "lobster")


def rows(events: EventBatch, levels: int) -> npt.NDArray[np.int64]:
    """Time, the best levels, hidden or not, of each frame; there is one a row."""
    table = compute(events, best(levels))
    assert len(table) == events.messages
    made = {name: np.where(*table.column(name)[::-1], 0) for name in table.feature_set}
    hidden = np.diff(made.pop("trades"), prepend=0) - np.diff(made.pop("visible"), prepend=0)
    time = np.asarray(table.to_arrow()["source_ts_ns"].to_numpy())
    return np.stack([time, *made.values(), hidden], axis=1)


def projected(deep: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """The rows of a deeper file that a shallower one has."""
    kept: npt.NDArray[np.bool_] = deep[:, -1] == 1
    kept[0] = True
    kept[1:] |= (np.diff(deep[:, 1:-1], axis=0) != 0).any(axis=1)
    return kept


def lines_of(name: str) -> tuple[list[str], list[str]]:
    """Message and order-book lines as recorded."""
    path = shared(f"lobster/{PAIRS[name].file}")
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as package:
            names = sorted(one for one in package.namelist() if one.endswith(".csv"))
            book, messages = (package.read(one).decode("ascii").splitlines() for one in reversed(names))
            return messages, book
    book_path = Path(str(path).replace("message", "orderbook"))
    both = (gzip.decompress(one.read_bytes()).decode("ascii") for one in (path, book_path))
    messages, book = (text.splitlines() for text in both)
    return messages, book


def write_pair(folder: Path, name: str, levels: int, kept: npt.NDArray[np.bool_]) -> Path:
    """The recorded pair as one of fewer levels."""
    messages, book = lines_of(name)
    head = (",".join(line.split(",", 4 * levels)[: 4 * levels]) for line in book)
    for kind, lines in (("message", iter(messages)), ("orderbook", head)):
        text = "\n".join(line for line, keep in zip(lines, kept.tolist(), strict=True) if keep)
        (folder / f"{PAIRS[name].stem}_{kind}_{levels}.csv").write_text(text + "\n", encoding="ascii")
    return folder / f"{PAIRS[name].stem}_message_{levels}.csv"


@pytest.mark.parametrize(("name", "levels"), PROJECTIONS)
def test_a_book_of_more_levels_is_the_same_market(name: str, levels: int, tmp_path: Path) -> None:
    deep = rows(recorded(name), levels)
    kept = projected(deep)
    # The reader holds every row of the pair against its messages and would refuse what does not follow.
    flat = read_events(write_pair(tmp_path, name, levels, kept), "lobster")
    assert flat.instrument.book_levels == levels
    assert (rows(flat, levels) == deep[kept]).all()


@pytest.mark.parametrize(("name", "count"), [("AMZN 5", 57_515), ("AAPL 10", 546)])
def test_the_best_level_is_the_file_of_one_level(name: str, count: int) -> None:
    deep = rows(recorded(name), 1)
    kept = deep[projected(deep)]
    assert len(kept) == count
    assert (rows(recorded(f"{name[:4]} 1"), 1)[:count] == kept).all()


@pytest.mark.parametrize("name", PAIRS)
def test_every_level_of_every_row_is_the_book_file(name: str) -> None:
    levels = PAIRS[name].levels
    _, book = lines_of(name)
    expected = np.array([line.split(",") for line in book], np.int64)
    # Ask price, ask size, bid price, bid size, level by level: the order of `best`.
    assert (rows(recorded(name), levels)[:, 1:-1] == expected).all()
