"""Bounded memory: a stream ten times as long needs no more of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from featureplane import iter_events
from featureplane.market.sources.capture import CaptureWriter

PEAK = """
import resource, sys
import featureplane as fp
report = fp.compute(sys.argv[1], "lob_shared_v2", source="capture", out=sys.argv[2])
print(report.frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def captured(folder: Path, events: int) -> Path:
    path = folder / f"{events}.capture"
    batches = iter_events(f"synthetic:3:{events}", source="synthetic", events_max=1 << 16)
    first = next(batches)
    with CaptureWriter(path, first.instruments, first.source, compression="zstd") as writer:
        writer.write(first)
        for batch in batches:
            writer.write(batch)
    return path


def peak(path: Path) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(path.with_suffix(".parquet"))],
        capture_output=True,
        text=True,
        check=True,
    )
    frames, kib = done.stdout.split()
    return int(frames), int(kib)


@pytest.mark.native
def test_ten_times_the_stream_raises_the_peak_by_less_than_five_percent(tmp_path: Path) -> None:
    frames, kib = peak(captured(tmp_path, 100_000))
    frames_long, kib_long = peak(captured(tmp_path, 1_000_000))
    assert frames_long > 9 * frames > 0
    assert kib_long < 1.05 * kib, f"{kib} KiB, then {kib_long} KiB"
