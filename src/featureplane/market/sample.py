"""The recording that comes with the package: something real to begin with, no file to look for.

346 seconds of ETHUSDT on Binance spot, 2024-08-08: depth, trades and best quotes; see NOTICE.
"""

from __future__ import annotations

from importlib import resources

from featureplane.market.events import EventBatch
from featureplane.market.reading import read_events

__all__ = ["sample_events"]


def sample_events(*, backend: str = "auto") -> EventBatch:
    """The embedded sample as a batch of events, read anew at each call.

    114,922 rows and 24,077 best quotes of one symbol; the snapshot stands in the sixth line, so
    that the book is whole almost from the start.
    """
    folder = resources.files("featureplane") / "sample"
    with (
        resources.as_file(folder / "ethusdt_20240808.gz") as recording,
        resources.as_file(folder / "instruments.toml") as instruments,
    ):
        return read_events(recording, "binance-spot", "ETHUSDT", instruments, backend=backend)
