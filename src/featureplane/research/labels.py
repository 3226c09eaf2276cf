"""Labels: what came after each row, for models that are to predict it; null where it is not known.

    rows of one symbol -> time of each -> what stood `horizon` later -> values, and when they were known

The time of a row is when it could be acted on: the latest local time so far, the source's where there is none
(as grids have it, rule 5.6). What stood at an instant is the last row at or before it; it is known only if
there is a later row. Features of a row never depend on later rows; labels do, so a model may be trained on a
row only from `known_ns` on, and a test that begins before that has seen its answers.

Leans on Arrow and NumPy. Knows nothing of stores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featureplane.errors import SettingError
from featureplane.features.sampling import parse_every

__all__ = ["Labels", "forward_return", "leaks", "markout", "row_times", "shuffle_future"]

_BPS: Final = 1e4
_HORIZON_MAX: Final = 10**17  # three years
_FOREVER: Final = np.iinfo(np.int64).max

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Labels:
    """One label a row, in basis points: float64, NaN where `defined` is False; times are UTC nanoseconds.

    `at_ns` is the time of each row, `known_ns` the time from which its label is known.
    """

    values: Floats
    defined: Masks
    at_ns: Times
    known_ns: Times

    def split(
        self, start_ns: int, end_ns: int | None = None, *, embargo: int | str = 0
    ) -> tuple[Masks, Masks]:
        """Rows to train on, and rows of [start, end) to test on; all of them with a label.

        Left out of training is what was not known `embargo` before the test begins, and what begins less
        than `embargo` after the last label of the test is known. `embargo` is nanoseconds or like `500ms`.
        """
        gap = embargo if isinstance(embargo, int) else _period(embargo, "embargo")
        if gap < 0:
            raise SettingError(f"embargo={embargo!r}", hint="0 or more")
        until = _FOREVER if end_ns is None else end_ns
        test = self.defined & (self.at_ns >= start_ns) & (self.at_ns < until)
        last_ns = int(self.known_ns[test].max(initial=until)) if end_ns is not None else _FOREVER
        before = self.known_ns <= start_ns - gap
        behind = self.at_ns >= last_ns + gap if last_ns < _FOREVER - gap else np.zeros(len(test), np.bool_)
        return self.defined & (before | behind) & ~test, test


def row_times(table: pa.Table) -> Times:
    """The time of each row, ascending; raises `SettingError` for rows of several symbols."""
    if len(table) and len(table["symbol"].unique()) > 1:
        raise SettingError("rows of several symbols", hint="make labels symbol by symbol")
    local, source = (np.asarray(table[name].to_numpy()) for name in ("local_ts_ns", "source_ts_ns"))
    taken: Times = np.maximum.accumulate(np.where(local > 0, local, source))
    return taken


def forward_return(table: pa.Table, horizon: int | str, *, mid: str = "mid_price_x2") -> Labels:
    """The return of the mid price over the next `horizon` (nanoseconds, or like `1s`) from each row.

    `(m1 - m0) / m0` in basis points, m0 the mid of the row and m1 the one that stands `horizon` later.
    Undefined where either is undefined or not above 0, and where no later row shows that m1 stood.

    Raises
    ------
    SettingError
        A horizon that is none, a table without that column, rows of several symbols.
    """
    at = row_times(table)
    ahead = _horizon(horizon)
    mids, has_mid = _column(table, mid)
    later, later_has, known = _standing(at, mids, has_mid, at + ahead)
    defined = has_mid & later_has & known & (mids > 0) & (later > 0)
    return _labels(np.where(defined, later - mids, 0), mids, defined, at, ahead)


def markout(
    table: pa.Table,
    times_ns: npt.ArrayLike,
    prices: npt.ArrayLike,
    sides: npt.ArrayLike,
    horizon: int | str,
    *,
    mid: str = "mid_price_x2",
) -> Labels:
    """What fills were worth `horizon` later: `side * (m1 - price) / price` in basis points, one a fill.

    `times_ns` are UTC nanoseconds, `prices` integers in the instrument's scale as `best_bid` has them,
    `sides` +1 for bought and -1 for sold, all of one length. Above 0 the mid went the way of the
    fill. Undefined as `forward_return`, and before the first row. Raises what that raises, and `SettingError`
    for other sides.
    """
    at, paid, side = (np.asarray(given, np.int64) for given in (times_ns, prices, sides))
    if not at.shape == paid.shape == side.shape or at.ndim != 1:
        raise SettingError("times, prices and sides of different lengths", hint="one of each a fill")
    if not np.isin(side, (-1, 1)).all():
        raise SettingError("a side that is neither 1 nor -1", hint="1 for bought, -1 for sold")
    ahead = _horizon(horizon)
    mids, has_mid = _column(table, mid)
    later, later_has, known = _standing(row_times(table), mids, has_mid, at + ahead)
    defined = later_has & known & (later > 0) & (paid > 0)
    gained = np.where(defined, side * (later - 2 * paid), 0)
    return _labels(gained, 2 * paid, defined, at, ahead)


def shuffle_future(table: pa.Table, cut_ns: int, seed: int = 0) -> pa.Table:
    """The table with everything behind an instant in another order; the times of rows stay where they are."""
    at = row_times(table)
    first = int(np.searchsorted(at, cut_ns, side="right"))
    order = np.arange(len(at))
    order[first:] = np.random.default_rng(seed).permutation(order[first:])
    mixed = table.take(order)
    for name in ("symbol", "local_ts_ns", "source_ts_ns"):
        mixed = mixed.set_column(mixed.schema.get_field_index(name), mixed.schema.field(name), table[name])
    return mixed


def leaks(
    compute: Callable[[pa.Table], tuple[Floats, Times]], table: pa.Table, *, cuts: int = 8, seed: int = 0
) -> Masks:
    """Rows whose value depends on what came after the time from which it is said to be known.

    `compute` gives for each row of a table a value and that time: a column of features its row's time, a
    label its `known_ns`. At `cuts` instants everything behind is shuffled, and what was known must not
    change. Empty of True is what an honest computation gives; what shuffling cannot show it does not find.
    """
    values, known = compute(table)
    at = row_times(table)
    wrong = np.zeros(len(values), np.bool_)
    for number in range(1, cuts + 1):
        cut_ns = int(at[len(at) * number // (cuts + 1)])
        again, _ = compute(shuffle_future(table, cut_ns, seed + number))
        same = (again == values) | (np.isnan(again) & np.isnan(values))
        wrong |= (known <= cut_ns) & ~same
    return wrong


def _standing(at: Times, values: Times, has: Masks, when: Times) -> tuple[Times, Masks, Masks]:
    """The value of the last row at or before each instant, whether defined, and whether that is known."""
    if not len(at):
        return np.zeros(len(when), np.int64), np.zeros(len(when), np.bool_), np.zeros(len(when), np.bool_)
    place = np.searchsorted(at, when, side="right") - 1
    shown = np.maximum(place, 0)
    return values[shown], has[shown] & (place >= 0), place < len(at) - 1


def _labels(gained: Times, base: Times, defined: Masks, at: Times, ahead: int) -> Labels:
    values = np.full(len(at), np.nan)
    np.divide(gained * _BPS, base, out=values, where=defined)
    return Labels(values, defined, at, at + ahead)


def _column(table: pa.Table, name: str) -> tuple[Times, Masks]:
    if name not in table.column_names:
        raise SettingError(f"no column {name!r}", hint="`mid` names the column of twice the mid price")
    column: Any = table[name].combine_chunks()
    valid = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    return np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False), np.int64), valid


def _horizon(given: int | str) -> int:
    ahead = given if isinstance(given, int) else _period(given, "horizon")
    if isinstance(given, bool) or not 0 < ahead <= _HORIZON_MAX:
        raise SettingError(f"horizon={given!r}", hint="nanoseconds above 0, or a period such as '1s'")
    return ahead


def _period(text: str, name: str) -> int:
    try:
        period = parse_every(text)
    except SettingError:
        period = None
    if period is None or period.period_ns is None:
        raise SettingError(f"{name}={text!r}", hint="nanoseconds, or a period such as '500ms' or '1s'")
    return period.period_ns
