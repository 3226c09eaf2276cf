"""Running services for tests: the embedded sample, and messages made up."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import featureplane as fp
from featureplane.execution.limits import RiskLimits
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.paper import PaperOptions, PaperVenue
from featureplane.market.feed import MessageFeed
from featureplane.services.marketdata import MarketDataService
from featureplane.services.raw_queue import Item, RawQueue
from featureplane.services.story import Story
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.service import ServiceRunner

FOLDER = Path(fp.__file__).parent / "sample"
SAMPLE = FOLDER / "ethusdt_20240808.gz"
INSTRUMENTS = FOLDER / "instruments.toml"
SYMBOL = "ETHUSDT"
SOURCE = "binance-spot"
V1 = fp.feature_set("lob_shared_v1")


def sample_lines(most: int | None = None) -> list[bytes]:
    """The first lines of the sample."""
    with gzip.open(SAMPLE) as stream:
        lines = stream.read().splitlines()
    return lines[:most]


def sample_part(folder: Path, most: int) -> Path:
    """A recording of the first lines of the sample."""
    path = folder / "part.txt"
    path.write_bytes(b"\n".join(sample_lines(most)) + b"\n")
    return path


class Lines:
    """A feed of lines that are there already: read by the loop, or put into its queue."""

    def __init__(self, lines: Iterable[bytes], *, waits: bool = True) -> None:
        self._lines, self.waits = lines, waits
        self.is_stopped = False

    def items(self) -> Iterator[Item]:
        for line in self._lines:
            yield line, None, None

    def run(self, queue: RawQueue) -> None:
        for line in self._lines:
            if self.is_stopped:
                break
            queue.put(line)
        queue.end()

    def stop(self) -> None:
        self.is_stopped = True


class Frames:
    """A subscriber that keeps the bytes of all frames."""

    name = "frames"

    def __init__(self) -> None:
        self.packed: list[bytes] = []
        self.messages = 0
        self.reconnects: list[tuple[str | None, str]] = []
        self.is_finished = False

    def on_message(self, _data: bytes, _local_ts_ns: int | None, _symbol: str | None) -> None:
        self.messages += 1

    def on_reconnect(self, symbol: str | None, reason: str) -> None:
        self.reconnects.append((symbol, reason))

    def on_frames(self, frames: Sequence[fp.FeatureFrame]) -> None:
        self.packed += [frame.pack() for frame in frames]

    def finish(self) -> None:
        self.is_finished = True


def service(
    *strategies: BaseStrategy,
    fset: fp.FeatureSet | None = V1,
    paper: PaperOptions | None = None,
    limits: RiskLimits | None = None,
    backend: str = "auto",
    budget_ns: int | None = None,
    instruments: Any = INSTRUMENTS,
    source: str = SOURCE,
    **how: Any,
) -> MarketDataService:
    """A service of the sample's instrument, with a paper venue."""
    reading: dict[str, Any] = {"live": False, "on_malformed": "drop", "backend": backend}
    feed = (
        MessageFeed(source, instruments, **reading)
        if fset is None
        else fp.Pipeline(fset, source, instruments, **reading)
    )
    story = how.pop("story", None) or Story()
    settings = how.get("settings")
    runner = ServiceRunner(
        strategies,
        feed.instruments,
        engine=feed,
        venue=PaperVenue(feed.instruments, paper, stream=feed.options),
        risk=RiskCheck(feed.instruments, limits),
        listener=story,
        budget_ns=budget_ns,
        emit_features=settings is None or settings.engine_emit_events,
        backend=backend,
    )
    return MarketDataService(runner, feed, story=story, **how)
