"""Which source wrote a file, where its beginning or its name tells; for looking at data by hand.

A guess is a convenience of the commands that only look. What computes is told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from featureplane.errors import SettingError
from featureplane.market.sources.capture_layout import MAGIC
from featureplane.market.sources.files import unpacked_start

__all__ = ["guess_source"]

_DEPTH: Final = re.compile(rb'"e":"depthUpdate","E":\d+(,"T":\d+)?,"s":"[^"]*"(,"ps":)?')
# Futures have a transaction time beside the event time, coin-margined ones the pair as well.
_BINANCE: Final = {
    (False, False): "binance-spot",
    (True, False): "binance-usdm",
    (True, True): "binance-coinm",
    (False, True): None,
}
_LOBSTER: Final = re.compile(r"LOBSTER_|_(message|orderbook)_\d+\.csv(\.gz)?$")
_ARRAYS: Final = {".npy", ".npz", ".parquet"}


def guess_source(paths: Sequence[str], *, option: str = "--source") -> str:
    """The source of files that all come from the same one; `option` is what names it where it cannot be told.

    Raises
    ------
    SettingError
        It cannot be told, or it differs from file to file.
    UnreadableFile
        A file cannot be opened.
    """
    guesses = {path: _guess(path) for path in paths}
    found = set(guesses.values())
    if len(found) == 1 and (source := found.pop()) is not None:
        return source
    told = ", ".join(f"{path}: {guess or 'unknown'}" for path, guess in guesses.items())
    hint = f"name it with {option}, if these are the right files"
    raise SettingError(f"the source is not clear ({told})", hint=hint)


def _guess(text: str) -> str | None:
    if text.startswith("synthetic:"):
        return "synthetic"
    path = Path(text)
    start = unpacked_start(path)
    if start.startswith(MAGIC):
        return "capture"
    if path.suffix in _ARRAYS:
        return "hftbacktest"
    if _LOBSTER.search(path.name):
        return "lobster"
    match = _DEPTH.search(start)
    return _BINANCE[bool(match[1]), bool(match[2])] if match else None
