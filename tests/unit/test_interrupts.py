"""Ctrl-C at any line: nothing half-written is left, and none meets a library that cannot bear it."""

from __future__ import annotations

import functools
import inspect
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest

import featureplane as fp
from featureplane.cli import interrupt
from featureplane.market import instruments
from featureplane.market.sources import capture
from featureplane.research import tables


@functools.cache
def events() -> fp.EventBatch:
    return fp.read_events("synthetic:3:400", "synthetic")


@functools.cache
def table() -> fp.FeatureTable:
    return fp.compute(events(), "lob_shared_v1", backend="python")


@contextmanager
def interrupted_at(line: int, module: ModuleType) -> Iterator[None]:
    """Raise `KeyboardInterrupt` at the n-th line of a module that is run."""
    left, file = line, inspect.getfile(module)

    def at_line(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal left
        left -= event == "line"
        if event == "line" and left == 0:
            raise KeyboardInterrupt
        return at_line

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: at_line if frame.f_code.co_filename == file else None)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of files that were about to be closed
@pytest.mark.parametrize(
    ("module", "write"),
    [
        pytest.param(tables, lambda path: table().write_parquet(path), id="table"),
        pytest.param(capture, lambda path: capture.write_capture(path, events()), id="capture"),
        pytest.param(
            instruments,
            lambda path: instruments.save_instruments(path, events().instruments),
            id="instruments",
        ),
    ],
)
def test_an_interrupt_at_any_line_leaves_the_whole_file_or_none(
    module: ModuleType, write: Callable[[Path], object], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    write(target)
    whole = target.read_bytes()
    lines, stopped = 0, True
    while stopped:
        target.unlink(missing_ok=True)
        lines, stopped = lines + 1, False
        try:
            with interrupted_at(lines, module):
                write(target)
        except KeyboardInterrupt:
            stopped = True
        assert list(tmp_path.iterdir()) in ([], [target]), f"interrupted at line {lines} of those it runs"
        assert not target.exists() or len(target.read_bytes()) == len(whole)
    assert lines > 20
    assert target.exists()


@pytest.fixture
def watched() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupt.watch()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interrupt._numbers.clear()
    interrupt._raised.clear()


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("room", ["numpy.lib._version", "importlib._bootstrap"])
def test_an_interrupt_waits_until_a_library_is_left_that_cannot_bear_it(room: str) -> None:
    place: dict[str, Any] = {"__name__": room, "signal": signal}
    exec("def inside():\n    signal.raise_signal(signal.SIGINT)\n    return 'done'", place)  # noqa: S102 - our own
    said: list[str] = []

    def stay() -> None:
        said.append(place["inside"]())
        time.sleep(30)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stay()
    assert said == ["done"]
    assert time.monotonic() - began < 20
    assert interrupt.asked() == signal.SIGINT


@pytest.mark.usefixtures("watched")
def test_an_interrupt_elsewhere_is_raised_where_it_stands() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert interrupt.asked() == signal.SIGTERM
    signal.raise_signal(signal.SIGINT)  # while the command cleans up
    assert interrupt.asked() == signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):
        interrupt.check()
