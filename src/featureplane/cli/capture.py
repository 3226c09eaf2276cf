"""`featureplane capture`: any source into our own format, which opens as fast as memory maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from featureplane.cli.options import READING, Backend, Json, Paths, Reading, Source, Symbol
from featureplane.cli.terminal import print_json, say

__all__ = ["capture"]

_EXAMPLE = "featureplane capture ethusdt.gz --source binance-spot --out ethusdt.fpcap"

capture = App(
    name="capture",
    help_epilogue=f"Exit status: 0 written, 2 bad input; no file is left then\n\nExample:\n  {_EXAMPLE}",
)
