"""The peers of a prepared table: Polars, pandas, NumPy and a numba loop, on one core.

Runs in the environment of `peer_hftbacktest`, with the protocol of `benchmarks/limit`. Nine features of
the touch over four columns of integers: twice the mid, spread, twice the microprice, imbalance, OFI,
its sum, and EMAs over 8 rows of OFI, spread and imbalance.

The numba loop is what someone has to write by hand to be fast; its sums equal ours. The libraries'
moving averages multiply out differently and differ in the last bits.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["POLARS_MAX_THREADS"] = "1"

import numpy as np
import pandas as pd
import polars as pl
from numba import njit

from benchmarks.harness import checksum, now

ALPHA = 2.0 / 9.0
WARM = 8
UNDEFINED = np.iinfo(np.int64).min
NAMES = ("bid", "ask", "bid_qty", "ask_qty")


@njit
def numba_loop(table: Any, integers: Any, floats: Any) -> Any:
    """All nine in one pass, into memory its caller keeps."""
    bid, ask, bid_qty, ask_qty = table
    rows = len(bid)
    cum = 0
    ofi_ema, spread_ema, imbalance_ema = 0.0, 0.0, 0.0
    for i in range(rows):
        b, a, p, s = bid[i], ask[i], bid_qty[i], ask_qty[i]
        spread = a - b
        imbalance = int(np.rint((p - s) * 1e6 / (p + s)))
        integers[0, i] = b + a
        integers[1, i] = spread
        integers[2, i] = 2 * b + int(np.rint(2.0 * spread * p / (p + s)))
        integers[3, i] = imbalance
        if i == 0:
            integers[4, i] = UNDEFINED
            integers[5, i] = UNDEFINED
            spread_ema, imbalance_ema = float(spread), float(imbalance)
        else:
            flow = 0
            if b >= bid[i - 1]:
                flow += p
            if b <= bid[i - 1]:
                flow -= bid_qty[i - 1]
            if a <= ask[i - 1]:
                flow -= s
            if a >= ask[i - 1]:
                flow += ask_qty[i - 1]
            cum += flow
            integers[4, i] = flow
            integers[5, i] = cum
            ofi_ema = float(flow) if i == 1 else ofi_ema + ALPHA * (flow - ofi_ema)
            spread_ema += ALPHA * (spread - spread_ema)
            imbalance_ema += ALPHA * (imbalance - imbalance_ema)
        floats[0, i] = ofi_ema if i >= WARM else np.nan
        floats[1, i] = spread_ema if i >= WARM - 1 else np.nan
        floats[2, i] = imbalance_ema if i >= WARM - 1 else np.nan
    return integers, floats


def numpy_table(table: dict[str, Any]) -> list[Any]:
    """Six by NumPy; it has no recursion, so the means are pandas'."""
    bid, ask, bid_qty, ask_qty = (table[name] for name in NAMES)
    spread, total = ask - bid, bid_qty + ask_qty
    imbalance = np.rint((bid_qty - ask_qty) * 1e6 / total).astype(np.int64)
    micro = 2 * bid + np.rint(2 * spread * bid_qty / total).astype(np.int64)
    ofi = np.where(bid[1:] >= bid[:-1], bid_qty[1:], 0)
    ofi -= np.where(bid[1:] <= bid[:-1], bid_qty[:-1], 0)
    ofi -= np.where(ask[1:] <= ask[:-1], ask_qty[1:], 0)
    ofi += np.where(ask[1:] >= ask[:-1], ask_qty[:-1], 0)
    means = [
        pd.Series(x).ewm(alpha=ALPHA, adjust=False, min_periods=WARM).mean() for x in (ofi, spread, imbalance)
    ]
    return [bid + ask, spread, micro, imbalance, ofi, np.cumsum(ofi), *means]


def pandas_table(table: Any) -> Any:
    """All nine by pandas."""
    bid, ask, bid_qty, ask_qty = (table[name] for name in NAMES)
    spread, total = ask - bid, bid_qty + ask_qty
    imbalance = ((bid_qty - ask_qty) * 1e6 / total).round().astype("int64")
    ofi = bid_qty.where(bid >= bid.shift(), 0) - bid_qty.shift().where(bid <= bid.shift(), 0)
    ofi = ofi - ask_qty.where(ask <= ask.shift(), 0) + ask_qty.shift().where(ask >= ask.shift(), 0)

    def mean(x: Any) -> Any:
        return x.ewm(alpha=ALPHA, adjust=False, min_periods=WARM).mean()

    return pd.DataFrame(
        {
            "mid_x2": bid + ask,
            "spread": spread,
            "microprice_x2": 2 * bid + (2 * spread * bid_qty / total).round().astype("int64"),
            "imbalance_ppm": imbalance,
            "ofi": ofi,
            "ofi_cum": ofi.cumsum(),
            "ofi_ema8": mean(ofi),
            "spread_ema8": mean(spread),
            "imbalance_ema8": mean(imbalance),
        }
    )


def polars_table(table: pl.DataFrame) -> pl.DataFrame:
    """All nine by Polars, one thread."""
    bid, ask, bid_qty, ask_qty = (pl.col(name) for name in NAMES)
    ofi = (
        pl.when(bid >= bid.shift()).then(bid_qty).otherwise(0)
        - pl.when(bid <= bid.shift()).then(bid_qty.shift()).otherwise(0)
        - pl.when(ask <= ask.shift()).then(ask_qty).otherwise(0)
        + pl.when(ask >= ask.shift()).then(ask_qty.shift()).otherwise(0)
    )
    first = table.select(
        mid_x2=bid + ask,
        spread=ask - bid,
        microprice_x2=2 * bid + (2 * (ask - bid) * bid_qty / (bid_qty + ask_qty)).round().cast(pl.Int64),
        imbalance_ppm=((bid_qty - ask_qty) * 1e6 / (bid_qty + ask_qty)).round().cast(pl.Int64),
        ofi=ofi,
    )

    def mean(name: str) -> pl.Expr:
        return pl.col(name).ewm_mean(alpha=ALPHA, adjust=False, min_samples=WARM)

    return first.with_columns(
        ofi_cum=pl.col("ofi").cum_sum(),
        ofi_ema8=mean("ofi"),
        spread_ema8=mean("spread"),
        imbalance_ema8=mean("imbalance_ppm"),
    )


def main() -> int:
    """Serve requests until the input ends; the argument is the table, four columns, as `.npy`."""
    columns = np.load(Path(sys.argv[1]))
    table = {name: np.ascontiguousarray(column) for name, column in zip(NAMES, columns.T, strict=True)}
    integers, floats = np.empty((6, len(columns)), np.int64), np.empty((3, len(columns)), np.float64)
    as_pandas, as_polars = pd.DataFrame(table), pl.DataFrame(table)
    jobs: dict[str, Callable[[], Any]] = {
        "numba": lambda: numba_loop(tuple(table.values()), integers, floats),
        "numpy": lambda: numpy_table(table),
        "pandas": lambda: pandas_table(as_pandas),
        "polars": lambda: polars_table(as_polars),
    }
    for line in sys.stdin:
        job, runs = line.split()
        seconds = []
        made: Any = None
        for _ in range(int(runs)):
            start = now()
            made = jobs[job]()
            seconds.append(now() - start)
        total = checksum([*made[0], *made[1]]) if job == "numba" else ""
        answer = {
            "job": job,
            "units": len(columns),
            "frames": len(columns),
            "checksum": total,
            "seconds": seconds,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
