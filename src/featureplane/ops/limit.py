"""The hand-written limit program, where a checkout has built it: what the same numbers cost at least."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from featureplane.market.events import EventBatch

__all__ = ["limit_ns_per_row"]

_PROGRAM: Final = (
    Path(__file__).resolve().parents[3] / "benchmarks" / "limit" / "target" / "release" / "limit"
)
_SECONDS_MOST: Final = 20


def limit_ns_per_row(events: EventBatch, runs: int) -> float | None:
    """Best of `runs` for the book and `lob_shared_v1`, per row; None where the program is not built."""
    if not _PROGRAM.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "events"
        events.array.tofile(dump)
        done = subprocess.run(  # noqa: S603 - our own program
            [str(_PROGRAM), str(dump), str(dump), "--serve"],
            input=f"v1 {runs}\n",
            capture_output=True,
            text=True,
            timeout=_SECONDS_MOST,
            check=False,
        )
    if done.returncode:
        return None
    answer = json.loads(done.stdout)
    return float(min(answer["seconds"])) / events.rows * 1e9 if "seconds" in answer else None
