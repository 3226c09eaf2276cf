"""A live engine with and without a shadow: the same frames, and what the shadow said."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import featureplane as fp
from featureplane.clock import SYSTEM, seconds_since
from featureplane.features.shadow import Shadow
from featureplane.market.events import EventBatch
from featureplane.units import NANOS_PER_MS
from scripts.mutations import Mutation

WAIT_S = 60.0
"""Far longer than a shadow takes, on any machine that these tests run on."""


def messages(events: EventBatch) -> Iterator[tuple[int, int]]:
    """Where each begins and ends."""
    ends = events.message_ends.tolist()
    yield from zip([0, *ends[:-1]], ends, strict=True)


def frames(
    events: EventBatch,
    fset: fp.FeatureSet,
    backend: str,
    shadow: Shadow | None = None,
    *,
    drain_every: int = 50,
    between: Callable[[int, fp.FeatureEngine], None] | None = None,
) -> list[bytes]:
    """The frames of a stream pushed message by message; all is compared every so many messages, 0: never."""
    engine = fp.FeatureEngine(fset, backend)
    engine.watch(shadow)
    made: list[bytes] = []
    for at, (start, stop) in enumerate(messages(events)):
        made += [frame.pack() for frame in engine.push(events, start, stop)]
        if between is not None:
            between(at, engine)
        if shadow is not None and drain_every and at % drain_every == 0:
            assert shadow.drain(WAIT_S)
    if shadow is not None and drain_every:
        assert shadow.drain(WAIT_S)
    engine.finish()
    return made


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    began_ns, never = SYSTEM.monotonic_ns(), threading.Event()
    while not holds():
        assert seconds_since(began_ns) < WAIT_S
        SYSTEM.wait(NANOS_PER_MS, never)


@contextmanager
def closing(shadow: Shadow) -> Iterator[Shadow]:
    """Ends its process, come what may."""
    try:
        yield shadow
    finally:
        shadow.close(0.0)


def mutated(mutation: Mutation, place: Path) -> Path:
    """Where a copy of the package stands in which one line is another; for `Shadow(package=...)`."""
    source = Path(fp.__file__).resolve().parent
    shutil.copytree(source, place / "featureplane", ignore=shutil.ignore_patterns("__pycache__", "sample"))
    file = place / Path(mutation.file).relative_to("src")
    text = file.read_text(encoding="utf-8")
    assert text.count(mutation.before) == 1
    file.write_text(text.replace(mutation.before, mutation.after), encoding="utf-8")
    return place
