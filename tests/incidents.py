"""Recorded services for tests, and what is played back of them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import featureplane as fp
from featureplane.features.frame import FrameLayout
from featureplane.market.instruments import Instrument, load_instruments
from featureplane.services.marketdata import MarketDataService
from featureplane.services.raw_queue import Item
from featureplane.services.recorder import Recorder
from featureplane.services.recording import frame_files, raw_files, read_frames
from featureplane.services.replay_source import ReplaySource, parse_replay, raw_lines, recorded_states
from tests.binance_render import SOURCE as USDM
from tests.binance_render import instruments as made_up
from tests.integration.test_service_faults import Feed
from tests.services import V1, Frames, service

TWO = made_up(2)


def record(
    folder: Path,
    items: Iterable[Item],
    instruments: tuple[Instrument, ...] = TWO,
    *,
    source: str = USDM,
    backend: str = "auto",
    **how: Any,
) -> MarketDataService:
    """A recorded service that takes these items; its files are small, so that there are many of them."""
    running = service(instruments=instruments, source=source, backend=backend)
    assert isinstance(running.feed, fp.Pipeline)
    more: dict[str, Any] = {"bytes_max": 40_000, "states": running.feed.save, **how}
    running.subscribe(Recorder(folder, source, instruments, V1, **more))
    running.run(Feed(items))
    return running


def packed(folder: Path) -> list[bytes]:
    about = load_instruments(folder / "instruments.toml")
    layout = FrameLayout.of(V1, {one.symbol_id: one.symbol for one in about})
    return [frame.pack() for frame in read_frames(frame_files(folder), layout)]


def played(folder: Path, *, source: str = USDM, backend: str = "auto") -> list[bytes]:
    """The frames of a folder, played back."""
    known = load_instruments(folder / "instruments.toml")
    seen, (paths, _) = Frames(), parse_replay(f"replay:{folder}")
    running = service(instruments=known, source=source, backend=backend, subscribers=[seen])
    assert isinstance(running.feed, fp.Pipeline)
    running.feed.go_on_from(recorded_states(f"replay:{folder}"))
    running.run(ReplaySource(paths, None, [one.symbol for one in known]))
    return seen.packed


def command(manifest: dict[str, Any]) -> list[str]:
    """What a manifest says that plays it back."""
    words = shlex.split(str(manifest["replay"]))
    at = words.index("featureplane")
    assert words[:at] == ["env", f"HFT_FEATURE_ROLLOUT_STATE_PATH={words[at + 3][7:]}.rollout.json"]
    return words[at + 1 :]


def times(folder: Path) -> list[int]:
    return [int(line[:19]) for line in raw_lines(raw_files(folder)) if line[:19].isdigit()]
