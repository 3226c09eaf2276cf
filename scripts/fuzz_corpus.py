"""Write the seed corpus and the plans of the fuzz targets, from made-up streams and the embedded sample.

    .venv/bin/python -m scripts.fuzz_corpus

An input's first bytes are the choices its target draws (`fuzz/src`), so a seed begins with some: none
is 0. Seeds end in `.seed` and are rewritten here; what a fuzzer found stands beside them under a name
that says what it was, and stays.
"""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featureplane.features import kernels as k
from featureplane.features.catalog import LOB_SHARED_V1, LOB_SHARED_V2
from featureplane.features.frame import FrameLayout
from featureplane.features.kernels.expression import Expression
from featureplane.features.spec import FeatureSet
from featureplane.market.synthetic import Faults, synthetic_events
from featureplane.units import NANOS_PER_MS

FUZZ = Path(__file__).resolve().parents[1] / "fuzz"

SYMBOL_IDS = (1, 2, 3)
"""Those that `fuzz/src/streams.rs` declares."""

Seeds = Iterator[tuple[str, bytes]]


def every_kernel() -> FeatureSet:
    """Each kernel at its smallest, so that windows fill, turn and overflow within a few events."""
    ofi, spread, signed = k.ofi(level=1), k.spread(), k.signed_qty()
    noise = k.ema(k.mid_x2() * k.qty("bid"), span=2)
    rolling: dict[str, Callable[..., Expression]] = {
        "mean": k.mean,
        "std": k.std,
        "zscore": k.zscore,
        "min": k.min,
        "max": k.max,
    }
    timed: dict[str, Callable[..., Expression]] = {"sum": k.sum_over, "mean": k.mean_over, "std": k.std_over}
    features = {
        **{f"price_{side}{level}": k.level_price(side, level) for side in ("bid", "ask") for level in (1, 3)},
        "microprice": k.microprice_x2(),
        "depth_bid": k.depth("bid", 3),
        "imbalance": k.imbalance_ppm(2),
        "vwap": k.vwap_x2(3),
        "slope": k.book_slope(2),
        "ofi_multi": k.ofi_multi(3),
        "deep_flow": k.deep_flow(3),
        "survival": k.tob_survival_ms(),
        "trade_price": k.trade_price(hidden=False),
        "trade_count": k.trade_count(),
        "since_trade": k.ms_since_trade(),
        "intensity": k.trade_intensity(half_life_ms=1),
        "trade_imbalance": k.trade_imbalance(ms=3),
        "vpin": k.vpin(2, bucket=7),
        "kyle": k.kyle_lambda(2),
        "roll": k.roll_spread(3),
        "return_bps": k.return_bps(ms=1),
        "vol": k.realized_vol(ms=2),
        "ema_time": k.ema_time(spread, half_life_ms=1),
        "lag_int": k.lag(ofi, 2),
        "lag_float": k.lag(noise, 1),
        "diff_float": k.diff(noise),
        "min_float": k.min(noise, 2),
        "cumsum": k.cumsum(ofi),
        "autocov": k.autocov(k.diff(k.mid_x2()), lag=1, window=3),
        "clip": k.clip(ofi, -5, 5),
        "abs": k.abs(signed),
        "total": spread + ofi,
        "product": k.depth("bid", 2) * k.depth("ask", 2),
        "quotient": spread / ofi,
        "ratio": k.ratio_ppm(signed, k.trade_count()),
        "fixed": k.fixed(noise, 1000),
        "bucket": k.bucket(spread, [1, 2, 10]),
        "mid_rel": k.mid_rel(ms=2),
        "regime": k.spread_regime(seconds=1),
        **{f"{name}_{n}": make(ofi, n) for name, make in rolling.items() for n in (2, 3)},
        **{f"{name}_over": make(spread, ms=2) for name, make in timed.items()},
        **{f"{name}_flow_over": make(signed, ms=1000) for name, make in timed.items()},
    }
    return FeatureSet("every_kernel", features=features)


def trades_only() -> FeatureSet:
    """A set that never looks at the book, unless the source gives no side."""
    signed = k.signed_qty()
    return FeatureSet(
        "trades_only",
        features={
            "price": k.trade_price(),
            "signed": signed,
            "volume": k.sum_over(k.abs(signed), seconds=1),
            "vpin": k.vpin(3),
            "intensity": k.trade_intensity(half_life_seconds=1),
        },
    )


SETS = (LOB_SHARED_V1, every_kernel(), trades_only(), LOB_SHARED_V2)
"""In the order of `fuzz/src/streams.rs`."""


def stream(count: int, seed: int, *, symbols: int = 1, order_level: bool = False) -> npt.NDArray[np.void]:
    """Made-up events with many accidents, on the symbol ids of the targets."""
    faults = Faults(
        gap_book=20_000, duplicate=20_000, crossed=20_000, clear=5_000, halt=5_000, corrupt=10_000
    )
    events = synthetic_events(count, seed=seed, symbols=symbols, faults=faults, order_level=order_level)
    events = events.copy()
    ids = np.unique(events["symbol_id"])
    events["symbol_id"] = np.asarray(SYMBOL_IDS, np.uint32)[np.searchsorted(ids, events["symbol_id"])]
    return events


def recording(*, futures: bool) -> bytes:
    """A few lines of either market: diffs, a snapshot among them, trades, quotes, and what is skipped."""
    more = {"T": 1723161255300, "pu": 10} if futures else {}
    diff = {"e": "depthUpdate", "E": 1723161255308, "s": "ETHUSDT", "U": 11, "u": 15} | more
    sides = {"b": [["2683.80", "3.0292"], ["2679.00", "0"]], "a": [["2733.70", "0.5"]]}
    trade = {"e": "trade", "E": 1723161255309, "T": 1723161255308, "s": "ETHUSDT", "t": 7, "p": "2683.81"}
    fill = {"q": "0.25", "m": True} | ({"X": "MARKET"} if futures else {})
    quote = {"u": 16, "s": "ETHUSDT", "b": "2683.80", "B": "3.0", "a": "2683.81", "A": "31.4395"}
    whole = {"lastUpdateId": 15, "bids": [["2683.80", "3.0292"]], "asks": [["2683.81", "1"]]}
    enveloped = [
        diff | sides,
        trade | fill,
        quote | ({"e": "bookTicker", "E": 1723161255310, "T": 1723161255310} if futures else {}),
        {**trade, **fill, "e": "aggTrade", "a": 3, "f": 8, "l": 9},
        diff | sides | {"U": 16, "u": 18} | ({"pu": 15} if futures else {}),
        {"e": "kline", "s": "ETHUSDT"},
        trade | fill | {"s": "BTCUSDT"},
    ]
    messages = [{"stream": "ethusdt@any", "data": message} for message in enveloped]
    messages.insert(2, whole | ({"E": 1723161255400, "T": 1723161255399} if futures else {}))
    lines = (json.dumps(message, separators=(",", ":")) for message in messages)
    start = 1723161254024619 * (1 if futures else 1000)
    return "".join(f"{start + 1000 * at} {line}\n" for at, line in enumerate(lines)).encode()


def sample(lines: int) -> bytes:
    """The first lines of the embedded sample, its snapshot with ten levels a side."""
    level = rb'\["[0-9.]+","[0-9.]+"\]'
    with gzip.open(FUZZ.parent / "src" / "featureplane" / "sample" / "ethusdt_20240808.gz") as file:
        head = b"".join(next(file) for _ in range(lines))
    return re.sub(rb"((?:%b,){9}%b)(?:,%b)+" % (level, level, level), rb"\1", head)


def binance_seeds() -> Seeds:
    """Four bytes of options, cuts, a file; one of them packed, in two members."""
    spot, futures = recording(futures=False), recording(futures=True)
    yield "spot", b"\1\2\4\0\0" + spot
    yield "spot_drop", b"\1\1\3\1\1\x40\1" + spot.replace(b'"U":16', b'"U":"x"') + b"17231612540"
    yield "futures", b"\0\2\4\0\2\x10\0\x80\1" + futures
    yield "sample", b"\1\2\4\0\0" + sample(8)
    yield "packed", b"\1\2\4\0\1\x20\0" + packed(spot[:500]) + packed(spot[500:])


def packed(text: bytes) -> bytes:
    """The text as one gzip member without a time in it."""
    return gzip.compress(text, mtime=0)


def gzip_seeds() -> Seeds:
    """A byte for the longest line, cuts, a file."""
    text = recording(futures=False)
    yield "members", b"\xff\1\x50\0" + packed(text[:100]) + packed(b"") + packed(text[100:]) + bytes(5)
    yield "zeros", b"\0\0" + packed(bytes(600_000))
    yield "plain", b"\x20\2\5\0\x60\0" + text[:300]
    yield "cut", b"\x20\0" + packed(text)[:-3]


def decimal_seeds() -> Seeds:
    """One byte of exponent, a text."""
    texts = (
        "0",
        "61800.20",
        "-1.05",
        "-0.00",
        "90071992547409.91",
        "1.0000000000000000000000001",
        "1.",
        "007",
    )
    for at, text in enumerate(texts):
        yield f"text_{at}", bytes([2]) + text.encode()


def book_seeds() -> Seeds:
    """Bytes without a plan of their own: the target reads every byte as a choice."""
    for seed in range(3):
        yield f"walk_{seed}", bytes([seed, 40, 5]) + np.random.default_rng(seed).bytes(1500)


def event_seeds() -> Seeds:
    """Whole streams of events behind the choices of an engine, and moves that make events."""
    choices = [[0, 1, 0, 7, 0, 1, 0], [1, 1, 1, 31, 1, 3, 0], [2, 1, 0, 0, 2, 0, 0], [0, 0, 0, 23, 0, 2, 0]]
    for plan in range(len(SETS)):
        for seed, options in enumerate(choices):
            events = stream(120, 10 * plan + seed, symbols=1 + seed % 2, order_level=seed == 2)
            yield f"stream_{plan}_{seed}", bytes([plan, *options]) + events.tobytes()
        moves = np.random.default_rng(plan).bytes(600)
        yield f"moves_{plan}", bytes([plan, *choices[plan][:-1], 1]) + moves


def state_seeds() -> Seeds:
    """Choices of an engine, changes to its state, a stream."""
    changes = [b"", struct.pack("<hBBB", 20, 3, 50, 7), struct.pack("<hBBBhBBq", 4, 3, 0, 1, 90, 3, 250, -5)]
    for plan in range(len(SETS)):
        for seed, change in enumerate(changes):
            events = stream(160, 70 + 10 * plan + seed, order_level=seed == 1)
            yield (
                f"stream_{plan}_{seed}",
                bytes([plan, 0, 1, 0, 7, 0, seed]) + change + b"\0" + events.tobytes(),
            )


def lobster_seeds() -> Seeds:
    """Both files of a few rows: a trade, a new level, a cancellation, a hidden execution, a halt."""
    messages = b"""34200.017459617,5,0,1,2238200,-1
34200.18960767,1,11885113,21,2238100,1
34200.18960767,1,3911376,20,2239600,-1
34200.189607980,3,11885113,21,2238100,1
34200.2,4,3911376,5,2239600,-1
34200.3,7,0,0,-1,1
"""
    books = b"""2239500,100,2231800,100,2239900,100,2230700,200
2239500,100,2238100,21,2239900,100,2231800,100
2239500,100,2238100,21,2239600,20,2231800,100
2239500,100,2231800,100,2239600,20,2230700,200
2239500,100,2231800,100,2239600,15,2230700,200
2239500,100,2231800,100,2239600,15,2230700,200
"""
    yield "pair", b"\1\0\0\0\0" + messages + b"\0" + books
    yield "drop", b"\1\1\1\1\x40\0\1\x60\0" + messages + b"34200.4,4,1,1\0" + books + b"1,2,3\n"
    yield "alone", b"\0\0\0\0\0" + messages[33:]


def message_seeds() -> Seeds:
    """The same events without choices."""
    for seed in range(2):
        yield f"stream_{seed}", stream(60, 50 + seed, symbols=2, order_level=seed == 1).tobytes()


def frame_seeds() -> Seeds:
    """A frame of every set, one with values and one without."""
    for place, fset in enumerate(SETS):
        layout = FrameLayout.of(fset, {1: "A"})
        head = {"symbol_id": 1, "flags": 3, "seq": 7, "source_ts_ns": 5, "local_ts_ns": 6, "source_seq": 9}
        everything = (1 << len(layout.feature_ids)) - 1
        defined = b"".join(struct.pack("<d" if d == "f64" else "<q", 2) for d in layout.dtypes)
        for name, mask, values in (("defined", everything, defined), ("undefined", 0, layout.undefined)):
            frame = layout.pack(**head, changed=mask, ready=mask, values=values)
            yield f"{name}_{place}", bytes([place]) + frame


def row_seeds() -> Seeds:
    """Rows of hftbacktest: a snapshot in two halves, diffs, trades, a quote, rows to be dropped."""
    dtype = np.dtype(
        {
            "names": ["ev", "exch_ts", "local_ts", "px", "qty", "order_id", "ival", "fval"],
            "formats": ["<u8", "<i8", "<i8", "<f8", "<f8", "<u8", "<i8", "<f8"],
        }
    )
    local, buy, sell = 1 << 30, 1 << 29, 1 << 28
    kinds = [3 | buy, 4 | buy, 3 | sell, 4 | sell, 1 | buy, 1 | sell, 2 | buy, 2, 5 | buy, 5 | sell, 9 | buy]
    rows = np.zeros(len(kinds) * 2, dtype)
    rows["ev"] = [local | kind for kind in kinds] + [
        local * (i % 3 > 0) | kind for i, kind in enumerate(kinds)
    ]
    rows["exch_ts"] = np.repeat(np.arange(4), 6)[: len(rows)] * NANOS_PER_MS
    rows["local_ts"] = rows["exch_ts"] + 105
    rows["px"] = 100 + np.arange(len(rows)) % 7 / 10
    rows["qty"] = np.arange(len(rows)) % 5 / 1000
    rows["ival"][5:9], rows["order_id"][5:9] = 9, 8
    for name, choices in (("plain", b"\1\3\0\5\1\0\0\0"), ("cut", b"\2\3\0\5\0\1\1\3\1\0\4\0\7\0")):
        yield name, choices + rows.tobytes()


def pipeline_seeds() -> Seeds:
    """A plan, six bytes of options, five of the feed, then messages."""
    spot, futures = recording(futures=False), recording(futures=True)
    alone = re.sub(rb"(?m)^\d+ ", b"", futures)
    yield "spot", b"\0\0\0\0\7\0\0" + b"\1\2\4\1\0" + spot
    yield "drop", b"\1\0\1\0\7\0\0" + b"\1\2\4\1\0" + spot.replace(b'"U":16', b'"U":"x"') + b"{"
    yield "alone", b"\3\0\0\0\7\0\0" + b"\0\2\4\0\0" + alone
    yield "several", b"\0\0\1\0\27\0\0" + b"\0\2\4\0\3" + alone + b"{}x\n" + alone


def plan_seeds() -> Seeds:
    """A plan, a zero, a configuration."""
    config = (FUZZ / "plans" / "config.json").read_bytes()
    for fset in SETS:
        yield fset.feature_set_id, fset.plan_json.encode() + b"\0" + config


SEEDS: dict[str, Callable[[], Seeds]] = {
    "binance": binance_seeds,
    "book": book_seeds,
    "decimal": decimal_seeds,
    "engine": event_seeds,
    "frame": frame_seeds,
    "gzip": gzip_seeds,
    "hftbacktest": row_seeds,
    "lobster": lobster_seeds,
    "messages": message_seeds,
    "pipeline": pipeline_seeds,
    "plan": plan_seeds,
    "state": state_seeds,
}


def main() -> None:
    """Write the plans, then the seeds of every target."""
    for fset in SETS:
        path = FUZZ / "plans" / f"{fset.feature_set_id}.json"
        path.write_text(fset.plan_json + "\n", encoding="ascii")
    for target, seeds in SEEDS.items():
        folder = FUZZ / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.seed"):
            path.unlink()
        for name, data in seeds():
            (folder / f"{name}.seed").write_bytes(data)


if __name__ == "__main__":
    main()
