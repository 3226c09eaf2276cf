"""A recording held against itself: its messages are taken again, and the frames compared with those it has.

Leans on `recording`, `frame_match`, and on a service as it runs, without strategies. Changes nothing in the
folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import Final

from featureplane.errors import EmptyStream, SettingError, UnreadableFile
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.paper import PaperVenue
from featureplane.features.catalog import registry
from featureplane.features.frame import FrameLayout
from featureplane.features.loading import load_feature_set
from featureplane.features.pipeline import Pipeline
from featureplane.features.spec import FeatureSet
from featureplane.market.instruments import Instrument, load_instruments
from featureplane.market.sources.binance_plain import is_cut
from featureplane.services.frame_match import Divergence, FrameMatch, Reconciliation
from featureplane.services.marketdata import MarketDataService
from featureplane.services.recording import (
    EXPORTED_FEATURES,
    INSTRUMENTS,
    Beginning,
    beginnings,
    features_file,
    frame_files,
    is_reconnect,
    is_recording,
    raw_files,
    reconnected,
)
from featureplane.services.story import Story
from featureplane.strategy.service import ServiceRunner

__all__ = ["Divergence", "Reconciliation", "reconcile"]

_CHUNK_FRAMES: Final = 1024


@dataclass(frozen=True, slots=True)
class _Stretch:
    """From one place where a replay can begin to the next one."""

    begins: Beginning
    ends: Beginning | None

    @property
    def fingerprint(self) -> str | None:
        """Of the set that was the active one."""
        found: str | None = self.begins.about["fingerprint"]
        return found

    @property
    def ends_service(self) -> bool:
        """Whether another service begins behind it, or nothing."""
        return self.ends is None or not self.ends.states


def reconcile(folder: Path, *, backend: str = "auto", allow_code: bool = False) -> Reconciliation:
    """Take the messages of a recording again and compare the frames byte by byte with those it has.

    What is written while this runs is left to the next time. Each frame is held against that of the same
    symbol, set and sequence number. Where another set became the active one, it goes on from the state that
    was recorded there; where the oldest files are gone, it begins with the first state that is left. A
    damaged frame is one that differs. Frames of candidates, which were not the active set's, are not looked
    at.

    Raises
    ------
    SettingError
        No recording, or one without features.
    EmptyStream
        Nothing was recorded, or no state is left from which it could go on.
    UnreadableFile
        Files that are none.
    """
    if not is_recording(folder):
        raise SettingError(f"{folder}: no recording", hint="a folder that `featureplane run --record` wrote")
    instruments = load_instruments(folder / INSTRUMENTS)
    sizes = {path.name: path.stat().st_size for path in raw_files(folder)}
    places: Iterator[Beginning | None] = chain(_places(folder, sizes), (None,))
    stretches = (_Stretch(here, there) for here, there in pairwise(places) if here is not None)
    found = Reconciliation()
    match = FrameMatch(found)
    for fingerprint, part in groupby(stretches, key=lambda one: one.fingerprint):
        first = next(part)
        fset = _feature_set(folder, fingerprint, allow_code=allow_code)
        name: str = first.begins.about["feature_set"]
        if name not in found.feature_sets:
            found.feature_sets.append(name)
        service = _service(_feed(fset, first.begins, instruments, backend), match)
        found.backend = service.feed.backend
        layout = FrameLayout.of(fset, {one.symbol_id: one.symbol for one in instruments})
        for stretch in chain((first,), part):
            match.begin(fset, name, layout, _frames(folder, stretch, layout.size))
            _take(service, _lines(folder, stretch, sizes))
            if match.error is not None:
                raise match.error
            match.end(
                of_service=stretch.ends_service, goes_on=stretch.ends is None and _goes_on(folder, sizes)
            )
        service.finish()
    if not found.frames:
        raise EmptyStream(f"frames in {folder}", hint="was anything received?")
    return found


def _feed(fset: FeatureSet, begins: Beginning, instruments: tuple[Instrument, ...], backend: str) -> Pipeline:
    source: str = begins.about["source"]
    feed = Pipeline(fset, source, instruments, backend=backend, live=False, on_malformed="drop")
    if begins.states:
        feed.go_on_from(begins.states)
    return feed


def _service(feed: Pipeline, match: FrameMatch) -> MarketDataService:
    runner = ServiceRunner(
        [],
        feed.instruments,
        engine=feed,
        venue=PaperVenue(feed.instruments, None, stream=feed.options),
        risk=RiskCheck(feed.instruments, None),
        listener=Story(),
        backend=feed.backend,
    )
    return MarketDataService(runner, feed, story=Story(), subscribers=[match])


def _take(service: MarketDataService, lines: Iterator[bytes]) -> None:
    for line in lines:
        if is_reconnect(line):
            service.reconnect(*reconnected(line))
        else:
            service.take(line)
        if service.story.news:
            service.story.tell()


def _feature_set(folder: Path, fingerprint: str | None, *, allow_code: bool) -> FeatureSet:
    """The set of that fingerprint: as it was recorded, as an export has it, or one that is shipped."""
    if fingerprint is None:
        raise SettingError(f"{folder}: recorded without features", hint="there are no frames to compare")
    for path in (features_file(folder, fingerprint), folder / EXPORTED_FEATURES):
        if path.exists():
            fset = load_feature_set(path, allow_code=allow_code)
            if fset.fingerprint == fingerprint:
                return fset
    for name in registry:
        if registry.get(name).fingerprint == fingerprint:
            return registry.get(name)
    path = features_file(folder, fingerprint)
    raise UnreadableFile(str(path), "nothing, or another set", f"the set of fingerprint {fingerprint[:16]}")


# -- what is there


def _goes_on(folder: Path, sizes: Mapping[str, int]) -> bool:
    """Whether messages were written since."""
    return any(path.stat().st_size > sizes.get(path.name, 0) for path in raw_files(folder))


def _places(folder: Path, sizes: Mapping[str, int]) -> Iterator[Beginning]:
    """Where a replay can begin; of two that are the same place the later one counts."""
    last: Beginning | None = None
    for here in beginnings(folder):
        if here.raw[1] > sizes.get(here.raw[0], -1):  # written since
            break
        if last is not None and here.raw != last.raw:
            yield last
        last = here
    if last is not None:
        yield last


def _between(
    paths: list[Path], begins: tuple[str, int], ends: tuple[str, int] | None
) -> Iterator[tuple[Path, int, int | None]]:
    """Files from one place to another, each with the bytes at which to begin and to end."""
    for path in paths:
        if path.name < begins[0] or (ends is not None and path.name > ends[0]):
            continue
        start = begins[1] if path.name == begins[0] else 0
        yield path, start, ends[1] if ends is not None and path.name == ends[0] else None


def _lines(folder: Path, stretch: _Stretch, sizes: Mapping[str, int]) -> Iterator[bytes]:
    """Lines as they were recorded, without a last one that is cut off by the end of its file.

    WHY up to `sizes`: a service may be writing, and frames are read later than what they were made of.
    """
    ends = None if stretch.ends is None else stretch.ends.raw
    for path, at, stop in _between([folder / name for name in sizes], stretch.begins.raw, ends):
        try:
            with path.open("rb") as stream:
                stream.seek(at)
                most = sizes[path.name] if stop is None else stop
                while (left := most - stream.tell()) > 0 and (line := stream.readline(left)):
                    text = line.rstrip(b"\r\n")
                    if text and (line.endswith(b"\n") or not is_cut(text)):
                        yield text
        except OSError as error:
            raise UnreadableFile(str(path), error.strerror or str(error), "messages") from None


def _frames(folder: Path, stretch: _Stretch, size: int) -> Iterator[bytes]:
    """What has the length of a frame of that set, whatever is in it."""
    ends = None if stretch.ends is None else stretch.ends.frames
    for path, at, stop in _between(frame_files(folder), stretch.begins.frames, ends):
        try:
            with path.open("rb") as stream:
                stream.seek(at)
                left = (path.stat().st_size if stop is None else stop) - at
                while left >= size and (data := stream.read(min(left, size * _CHUNK_FRAMES))):
                    left -= len(data)
                    for start in range(0, len(data) - size + 1, size):
                        yield data[start : start + size]
        except OSError as error:
            raise UnreadableFile(str(path), error.strerror or str(error), "frames") from None
