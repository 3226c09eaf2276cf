"""An hour of a recorded feed at 20 times its speed, with faults and a shadow: nothing grows, all ends well.

Whole in `make soak`, where it takes three minutes; a minute of feed in every run of the tests.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from featureplane import native
from featureplane.services.raw_queue import MESSAGES_MAX
from featureplane.services.recording import files_of, is_reconnect, json_lines, raw_files
from featureplane.settings import inherited
from scripts.soak import SERVICE_NUMBERS
from tests.feeds import Feed, recorded_feed
from tests.services import SAMPLE, SYMBOL
from tests.shared_data import shared
from tests.soak import SCALE

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="a shadow on the other backend needs both"),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]

SPEED = 20
HOUR_S = 3_600
SAMPLE_EVERY = 64
MAKER = "featureplane.strategy.examples.market_maker:SharedMarketMaker"

FLAT = 1.05
"""What memory may grow by between warmed up and the end.

Half a million messages come between the two: a service of 80 MB that kept nine bytes of each would be found.
"""


@dataclass
class Watched:
    """What was seen of a process from outside, once a second."""

    rss_kib: list[int] = field(default_factory=list)
    shadow_kib: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    depth: list[float] = field(default_factory=list)
    series: dict[tuple[str, str], float] = field(default_factory=dict)

    def look(self, pid: int, address: str) -> None:
        """Note everything once more."""
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as page:
            text = page.read().decode()
        self.series = {
            (one.name, next((v for k, v in one.labels.items() if k != "feature_set"), "")): one.value
            for family in parsed(text)
            for one in family.samples
        }
        self.depth.append(self.series["raw_queue_depth", ""])
        self.rss_kib.append(_kib(pid))
        self.shadow_kib += [_kib(child) for child in _children(pid)]
        self.descriptors.append(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))


def _kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    return int(found[1]) if found else 0


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in listed for word in path.read_text(encoding="ascii").split()]


@contextmanager
def running(feed: Feed, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The service in a process of its own, and where it is watched."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["--source", f"replay:{feed.path}@{SPEED}", "--feed", "binance-spot", "--symbol", SYMBOL]
    words += ["--features", "lob_shared_v1", "--strategy", MAKER, "--control", str(folder / "s.sock")]
    words += ["--metrics", address, "--record", str(folder / "record"), "--record-mb", "4"]
    words += ["--record-keep-mb", "24", "--log-level", "warning", "--log-json", "--json"]
    environment = inherited(HFT_FEATURE_SHADOW_PARITY="1", HFT_FEATURE_SHADOW_SAMPLE_EVERY=str(SAMPLE_EVERY))
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "featureplane", "run", *words],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        try:
            yield child, address
        finally:
            child.kill()
            child.communicate()


def play(feed: Feed, folder: Path) -> tuple[Watched, dict[str, Any]]:
    """Let it run nearly to its end, and end it; what was seen, and what it answered."""
    seen = Watched()
    with running(feed, folder) as (child, address):
        until = time.monotonic() + feed.seconds / SPEED + 60
        while seen.series.get(("messages_total", ""), 0) < 0.9 * feed.messages:
            assert child.poll() is None, (folder / "log").read_text(encoding="utf-8")[-2_000:]
            assert time.monotonic() < until
            time.sleep(0.5 if feed.seconds > 600 else 0.1)
            try:
                seen.look(child.pid, address)
            except OSError:
                assert not seen.rss_kib, "it answers no more"
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0, (folder / "log").read_text(encoding="utf-8")[-2_000:]
    return seen, json.loads(out)


def check(feed: Feed, folder: Path, seen: Watched, told: dict[str, Any]) -> None:
    """What holds however short it was."""
    assert all(feed.did[what] for what in ("drop", "duplicate", "reorder", "corrupt", "reconnect")), feed.did
    *_, last = json_lines(files_of(folder / "record", "metrics"))  # written behind the end of the shadow
    checks = {one["result"]: count for one, count in last["metrics"]["feature_shadow_parity_checks_total"]}
    assert checks["mismatch"] == 0
    assert checks["match"] > 0.8 * (told["frames"] // SAMPLE_EVERY) > 0
    assert told["queue_dropped"] == 0
    assert max(seen.depth) < MESSAGES_MAX
    assert told["counts"]["dropped"]["malformed"] > 0
    assert told["reconnects"] >= feed.did["reconnect"] - 3
    assert told["strategies"]["SharedMarketMaker"]["stopped_by"] is None
    assert told["strategies"]["SharedMarketMaker"]["submitted"] > 0
    assert told["frames"] > told["messages"] / 30
    log = [json.loads(line) for line in (folder / "log").read_text(encoding="utf-8").splitlines()]
    assert not [one for one in log if one["level"] == "error"]
    assert not (folder / "s.sock").exists()
    assert sum(path.stat().st_size for path in (folder / "record").iterdir()) < (24 + 5 * 4 + 4) << 20
    assert raw_files(folder / "record")


def test_a_minute_of_a_feed_at_20_times_its_speed(tmp_path: Path) -> None:
    feed = recorded_feed([SAMPLE], SYMBOL, 60, tmp_path / "feed.txt", seed=3)
    check(feed, tmp_path, *play(feed, tmp_path))


def test_recordings_are_repeated_with_later_times_and_other_connections(tmp_path: Path) -> None:
    feed = recorded_feed([SAMPLE], SYMBOL, 400, tmp_path / "feed.txt")
    lines = feed.path.read_bytes().splitlines()
    times = [int(line[:19]) for line in lines if line[:19].isdigit() and len(line) > 20]
    assert feed.seconds == pytest.approx(400, abs=1)
    assert max(times) - min(times) == pytest.approx(400e9, abs=1e9)
    assert sum(b < a for a, b in pairwise(times)) <= 2 * feed.did["reorder"]
    assert sum(map(is_reconnect, lines)) == 1 + feed.did["reconnect"]


@pytest.mark.soak
def test_an_hour_of_a_feed_at_20_times_its_speed(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    recordings = [shared(f"binance_raw/spot/ethusdt_2024080{day}.gz") for day in (8, 9)]
    feed = recorded_feed(recordings, SYMBOL, max(60, HOUR_S * SCALE), tmp_path / "feed.txt", seed=3)
    seen, told = play(feed, tmp_path)
    feed.path.unlink()
    check(feed, tmp_path, seen, told)
    sixth = max(1, len(seen.rss_kib) // 6)
    warm, end = (statistics.median(part) for part in (seen.rss_kib[sixth : 2 * sixth], seen.rss_kib[-sixth:]))
    numbers = {
        "seconds of feed": round(feed.seconds),
        "messages": told["messages"],
        "frames": told["frames"],
        "KiB warmed up": round(warm),
        "KiB at the end": round(end),
        "KiB of the shadow at most": max(seen.shadow_kib),
        # WHY the least: a file that is being written at one look is no leak, and a leak is in every look.
        "descriptors warmed up": min(seen.descriptors[sixth : 2 * sixth]),
        "descriptors at the end": min(seen.descriptors[-sixth:]),
        "descriptors at most": max(seen.descriptors),
        "most in the queue": round(max(seen.depth)),
        "frames compared by the shadow": round(seen.series["feature_shadow_parity_checks_total", "match"]),
    }
    assert set(SERVICE_NUMBERS) <= set(numbers)
    for name, number in numbers.items():
        record_property(name, number)
    if feed.seconds < 600:
        return  # WHY: nothing is warm by then
    assert end <= FLAT * warm, numbers
    assert statistics.median(seen.shadow_kib[-sixth:]) <= FLAT * statistics.median(
        seen.shadow_kib[sixth:][:sixth]
    )
    assert numbers["descriptors at the end"] <= numbers["descriptors warmed up"], numbers
    assert numbers["descriptors at most"] <= 2 * numbers["descriptors warmed up"], numbers
