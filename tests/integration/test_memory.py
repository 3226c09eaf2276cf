"""Bounded memory: a stream ten times as long needs no more of it, and a day's recording not much."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featureplane.market.sources.capture import CaptureWriter
from featureplane.market.sources.hftbacktest_rows import ROW_DTYPE
from featureplane.market.synthetic import synthetic_events, synthetic_instruments
from featureplane.units import NANOS_PER_SECOND
from tests.parity.streams import SYNTHETIC
from tests.shared_data import shared

pytestmark = pytest.mark.native

SHORT = 300_000
MOST_KIB = 300_000  # of the BTCUSDT file

# What a process starts with counts from its own beginning in VmHWM; ru_maxrss keeps its parent's.
PEAK = """
import json, re, sys
from pathlib import Path
{work}
print(json.dumps([frames, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])]))
"""
COMPUTE = """
import featureplane as fp
path, source, symbol, out = sys.argv[1:]
frames = fp.compute(path, "lob_shared_v2", source=source, symbol=symbol, out=out).frames
"""
REPLAY = """
from featureplane.cli import main
import contextlib, io
said = io.StringIO()
with contextlib.redirect_stdout(said):
    assert main(sys.argv[1:]) == 0
frames = json.loads(said.getvalue())["frames"]
"""


def peak(work: str, *arguments: str) -> tuple[int, int]:
    """Frames, and the most memory in KiB, of a process that does this work."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak is read from /proc")
    command = [sys.executable, "-c", PEAK.format(work=work), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    frames, kib = json.loads(done.stdout)
    return frames, kib


def capture(path: Path, times: int, compression: str) -> tuple[str, str]:
    """A made-up day again and again, each time with later ids and times."""
    day = synthetic_events(SHORT, seed=3)
    instruments = synthetic_instruments(1)
    with CaptureWriter(path, instruments, SYNTHETIC, compression=compression) as writer:
        for _ in range(times):
            writer.write(day)
            has_ids = day["seq_last"] > 0
            for name in ("seq_last", "seq_prev"):
                day[name][has_ids] += np.uint64(10**8)
            for name in ("source_ts_ns", "local_ts_ns"):
                day[name] += 10**6 * NANOS_PER_SECOND
    return "capture", instruments[0].symbol


def plain_capture(path: Path, times: int) -> tuple[str, str]:
    return capture(path, times, "none")


def packed_capture(path: Path, times: int) -> tuple[str, str]:
    return capture(path, times, "zstd")


def rows(count: int) -> npt.NDArray[Any]:
    """A book that is touched once a millisecond."""
    i = np.arange(count)
    out = np.zeros(count, ROW_DTYPE)
    out["ev"] = np.where(i % 2, 0x50000001, 0x60000001)
    out["ev"][0] = 0x40000003
    out["exch_ts"] = 1_723_161_255 * NANOS_PER_SECOND + i * 10**6
    out["local_ts"] = out["exch_ts"] + 1_000
    out["px"] = np.where(i % 2, 101 + i % 5, 100 - i % 7)
    out["qty"] = 1 + i % 9
    return out


def parquet(path: Path, times: int) -> tuple[str, str]:
    made = rows(SHORT * times)
    names = ("ev", "exch_ts", "local_ts", "px", "qty")
    table = pa.table({name: pa.array(made[name]) for name in names})
    # Reading Parquet needs memory by the row group, which is the file's; both lengths have the same.
    pq.write_table(table, path, row_group_size=1 << 16)
    return "hftbacktest", "ABC"


def packed_rows(path: Path, times: int) -> tuple[str, str]:
    np.savez_compressed(path, data=rows(SHORT * times))
    return "hftbacktest", "ABC"


def lines(path: Path, times: int) -> tuple[str, str]:
    """A snapshot, then diffs of four levels each."""
    snapshot = '1723161255000000000 {"lastUpdateId":1000,"bids":[["100.0","1"]],"asks":[["101.0","1"]]}'
    told = (
        f'{1_723_161_255_000_000_000 + i * 10**6} {{"stream":"abc@depth@0ms","data":{{"e":"depthUpdate",'
        f'"E":{1_723_161_255_000 + i},"T":{1_723_161_255_000 + i},"s":"ABC","U":{1_000 + i},"u":{1_000 + i},'
        f'"pu":{999 + i},"b":[["{100 - i % 7}.0","{1 + i % 9}"],["{90 - i % 5}.5","{i % 3}"]],'
        f'"a":[["{101 + i % 5}.0","{1 + i % 4}"],["{110 + i % 6}.5","{i % 2}"]]}}}}\n'
        for i in range(1, SHORT // 4 * times)
    )
    with gzip.open(path, "wt", compresslevel=1, encoding="ascii") as file:
        file.write(snapshot + "\n")
        file.writelines(told)
    return "binance-usdm", "ABC"


@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        (lines, ".gz"),
        (plain_capture, ".capture"),
        (packed_capture, ".capture"),
        (parquet, ".parquet"),
        (packed_rows, ".npz"),
    ],
)
def test_ten_times_the_stream_raises_the_peak_by_less_than_five_percent(
    make: Callable[[Path, int], tuple[str, str]], suffix: str, tmp_path: Path
) -> None:
    peaks = []
    for times in (1, 10):
        path = tmp_path / f"{times}{suffix}"
        source, symbol = make(path, times)
        peaks.append(peak(COMPUTE, str(path), source, symbol, f"{path}.out"))
        path.unlink()
    (frames, kib), (frames_long, kib_long) = peaks
    assert frames_long > 9 * frames > 70_000
    assert kib_long < 1.05 * kib, f"{kib} KiB, then {kib_long} KiB"


def test_a_recording_is_replayed_in_less_than_300_mb(tmp_path: Path) -> None:
    path = shared("binance_raw/usdm/btcusdt_20240808.gz")
    words = ["replay", str(path), "--source", "binance-usdm", "--features", "lob_shared_v2", "--json"]
    frames, kib = peak(REPLAY, *words, "--out", str(tmp_path / "day.parquet"))
    assert frames == 27_854
    assert kib < MOST_KIB, f"{kib} KiB"
