"""A researcher's day: warm a week, read slices, join labels, fit a model, plot.

    python examples/researchers_day.py                    a synthetic week
    python examples/researchers_day.py --data days.toml --start 2024-08-08T00:00Z --end 2024-08-10T00:00Z

The first run computes the features, the next ones read them. Prints one JSON object and writes a picture.
What the test shows is kept from training, and five seconds more.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import featureplane as fp
from featureplane.market.events import EventBatch, EventFlag, SourceInfo
from featureplane.market.sources.capture import write_capture
from featureplane.market.synthetic import synthetic_events, synthetic_instruments
from featureplane.research.labels import Labels, forward_return
from featureplane.research.store.requests import instant_ns

SET = "lob_shared_v1"
INPUTS = [
    "l1_imbalance_ppm",
    "depth_imbalance_ppm",
    "depth_imbalance_ema8_ppm",
    "ofi_l1_raw",
    "ofi_l1_ema8",
    "spread_scaled",
]
READ = ["symbol", "source_ts_ns", "local_ts_ns", "mid_price_x2", *INPUTS]
DAY_NS = 86_400_000_000_000
MONDAY = "2024-01-08T00:00Z"
NEXT_MONDAY = "2024-01-15T00:00Z"


def synthetic_week(folder: Path, messages: int = 20_000) -> fp.Dataset:
    """Seven captures, some minutes of a made-up market each; a stand-in for a week of recordings."""
    folder.mkdir(parents=True, exist_ok=True)
    about = synthetic_instruments()[0]
    source = SourceInfo("synthetic", sequenced=True, has_snapshots=True, local_time=True, trade_sides=True)
    paths = []
    for day in range(7):
        events = synthetic_events(messages, seed=day, faults=False)
        events = events[: int(np.flatnonzero(events["flags"] & EventFlag.LAST)[-1]) + 1]
        shift = instant_ns(MONDAY) + day * DAY_NS + DAY_NS // 2 - int(events["source_ts_ns"][0])
        events["source_ts_ns"] += shift
        events["local_ts_ns"] += shift
        paths.append(folder / f"{about.symbol}_{day}.fpcap")
        if not paths[-1].exists():  # a file that is written anew is another one to the store
            write_capture(paths[-1], EventBatch(events, (about,), source))
    return fp.Dataset(paths, "capture")


def fitted(
    inputs: npt.NDArray[np.float64], labels: Labels, train: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """A ridge regression on the rows of `train`; what it predicts for all rows."""
    mean, spread = inputs[train].mean(axis=0), inputs[train].std(axis=0)
    scaled = (inputs - mean) / np.where(spread > 0, spread, 1)
    scaled = np.clip(scaled, -5, 5)
    known = scaled[train]
    weights = np.linalg.solve(
        known.T @ known + np.eye(known.shape[1]) * len(known) * 1e-3,
        known.T @ (labels.values[train] - labels.values[train].mean()),
    )
    predicted: npt.NDArray[np.float64] = scaled @ weights + labels.values[train].mean()
    return predicted


def picture(path: Path, predicted: npt.NDArray[np.float64], came: npt.NDArray[np.float64]) -> list[float]:
    """What came, on average, in each tenth of the predictions, as bars; and those averages."""
    order = np.argsort(predicted, kind="stable")
    means = [float(part.mean()) for part in np.array_split(came[order], 10)]
    scale = 100 / max(*map(abs, means), 1e-12)
    bars = [
        f'<rect x="{20 + 36 * n}" y="{120 - max(mean * scale, 0):.1f}" width="28" '
        f'height="{abs(mean) * scale:.1f}" fill="{"#2a7" if mean > 0 else "#c44"}"/>'
        for n, mean in enumerate(means)
    ]
    text = '<text x="20" y="14" font-size="12">mean return in bps, by tenth of the prediction</text>'
    line = '<line x1="10" y1="120" x2="390" y2="120" stroke="#888"/>'
    body = "\n".join([text, *bars, line])
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="240">\n{body}\n</svg>\n')
    return means


def study(data: fp.Dataset, symbol: str, days: tuple[str, str], root: Path, plot: Path) -> dict[str, Any]:
    """The day's work; what came of it."""
    with fp.FeatureStore(root, data) as store:
        warmed = store.warm([symbol], *days, SET)
        entry = store.get_or_compute(symbol, *days, SET)
        table = entry.table(READ)
        middle = datetime.fromtimestamp(table["source_ts_ns"][len(table) // 2].as_py() // 10**9, UTC)
        minute = store.get_or_compute(symbol, middle, middle + timedelta(minutes=1), SET)
        in_a_minute = len(minute.table(["mid_price_x2"]))
    labels = forward_return(table, "1s")
    columns = [np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64) for name in INPUTS]
    inputs = np.stack(columns, axis=1)
    usable = labels.defined & np.isfinite(inputs).all(axis=1)
    rows = np.flatnonzero(usable)
    cut_ns = int(labels.at_ns[rows[len(rows) * 2 // 3]])
    train, test = labels.split(cut_ns, embargo="5s")
    train, test = train & usable, test & usable
    predicted = fitted(np.where(usable[:, None], inputs, 0), labels, train)
    means = picture(plot, predicted[test], labels.values[test])
    moved = np.corrcoef(predicted[test], labels.values[test])[0, 1]
    return {
        "symbol": symbol,
        "days": entry.days,
        "warmed": dict(warmed),
        "rows": len(table),
        "rows_of_a_minute": in_a_minute,
        "train": int(train.sum()),
        "test": int(test.sum()),
        "correlation": round(float(moved), 4),
        "mean_bps_by_tenth": [round(mean, 4) for mean in means],
        "plot": str(plot),
    }


def main() -> None:
    """Read the command line, do the work, print what came of it."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, help="a catalogue; a synthetic week without one")
    ask.add_argument("--symbol", help="the symbol; the first of the dataset without one")
    ask.add_argument("--start", default=MONDAY)
    ask.add_argument("--end", default=NEXT_MONDAY)
    ask.add_argument("--root", type=Path, default=Path(tempfile.gettempdir()) / "researchers_day")
    ask.add_argument("--plot", type=Path, default=Path("researchers_day.svg"))
    given = ask.parse_args()
    data = synthetic_week(given.root / "raw") if given.data is None else fp.Dataset(given.data)
    symbol = given.symbol or data.symbols[0]
    print(json.dumps(study(data, symbol, (given.start, given.end), given.root, given.plot), indent=2))


if __name__ == "__main__":
    main()
