"""Arguments of another kind than a public function takes: one error of our own, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featureplane as fp
from featureplane.errors import FeaturePlaneError, WrongArgument
from featureplane.market.synthetic import synthetic_events, synthetic_instruments
from tests.parity.streams import SYNTHETIC

V1 = "lob_shared_v1"


def batch() -> fp.EventBatch:
    return fp.EventBatch(synthetic_events(300, seed=1, faults=False), synthetic_instruments(), SYNTHETIC)


def engine() -> fp.FeatureEngine:
    return fp.FeatureEngine(fp.feature_set(V1), "python")


def frame() -> fp.FeatureFrame:
    return next(engine().replay(batch()))


def table() -> fp.FeatureTable:
    return fp.compute(batch(), V1, backend="python")


def book(given: Any) -> fp.LOBEngine:
    return fp.LOBEngine(given, "python")


def given(value: object) -> Any:
    """What no type checker would let through."""
    return value


wrong = given(5)
CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "compute(batch, 5)": (lambda: fp.compute(batch(), wrong), "fset"),
    "compute([5], ...)": (lambda: fp.compute([wrong], V1, source="binance-spot"), "paths[0]"),
    "compute(out=5)": (lambda: fp.compute(batch(), V1, out=wrong), "out"),
    "compute(progress=5)": (lambda: fp.compute(batch(), V1, progress=wrong), "progress"),
    "unpack(b, 5)": (lambda: fp.FeatureFrame.unpack(frame().pack(), wrong), "layout"),
    "unpack(b, a set)": (lambda: fp.FeatureFrame.unpack(b"", given(fp.feature_set(V1))), "layout"),
    "unpack(text)": (lambda: fp.FeatureFrame.unpack(given("frame"), frame().layout), "data"),
    "unpack(5)": (lambda: fp.FeatureFrame.unpack(wrong, frame().layout), "data"),
    "replay(5)": (lambda: list(engine().replay(wrong)), "events"),
    "replay(array)": (lambda: list(engine().replay(given(batch().array))), "events[0]"),
    "replay([5])": (lambda: list(engine().replay([wrong])), "events[0]"),
    "replay(text)": (lambda: list(engine().replay(given("day.gz"))), "events"),
    "columns(5)": (lambda: list(engine().columns(wrong)), "events"),
    "push(5)": (lambda: engine().push(wrong), "events"),
    "push(batch, text)": (lambda: engine().push(batch(), given("a"), 1), "start"),
    "FeatureEngine(5)": (lambda: fp.FeatureEngine(wrong), "fset"),
    "FeatureEngine(bytes)": (lambda: fp.FeatureEngine(given(V1.encode())), "fset"),
    "Pipeline(5, ...)": (lambda: fp.Pipeline(wrong, "binance-spot", []), "fset"),
    "LOBEngine(text)": (lambda: book("ETH"), "instrument"),
    "LOBEngine(5)": (lambda: book(wrong), "instrument"),
    "parity(5, ...)": (lambda: fp.parity(wrong, V1), "events"),
    "parity(array, ...)": (lambda: fp.parity(given(batch().array), V1), "events[0]"),
    "parity(batch, 5)": (lambda: fp.parity(batch(), wrong), "fset"),
    "parity(until=text)": (lambda: fp.parity(batch(), V1, until=given("x")), "until"),
    "parity(executions=5)": (lambda: fp.parity(batch(), V1, executions=wrong), "executions"),
    "read_events(5)": (lambda: fp.read_events(wrong, "binance-spot"), "paths"),
    "read_events([5])": (lambda: fp.read_events([wrong], "binance-spot"), "paths[0]"),
    "read_events(bytes)": (lambda: fp.read_events(given(b"day.gz"), "binance-spot"), "paths"),
    "read_events(instruments=5)": (
        lambda: fp.read_events("day.gz", "binance-spot", instruments=wrong),
        "instruments",
    ),
    "read_events(instruments=[5])": (
        lambda: fp.read_events("day.gz", "binance-spot", instruments=[wrong]),
        "instruments[0]",
    ),
    "iter_events(events_max=0)": (
        lambda: list(fp.iter_events("synthetic:1:100", "synthetic", events_max=0)),
        "events_max",
    ),
    "feature_set(5)": (lambda: fp.feature_set(wrong), "feature_set_id"),
    "feature_set(None)": (lambda: fp.feature_set(given(None)), "feature_set_id"),
    "register(5)": (lambda: fp.registry.register(wrong), "fset"),
    "load_feature_set(5)": (lambda: fp.load_feature_set(wrong), "path"),
    "load_instruments(None)": (lambda: fp.load_instruments(given(None)), "path"),
    "save_instruments(p, 5)": (lambda: fp.save_instruments("x.toml", wrong), "instruments"),
    "save_instruments(5, ...)": (lambda: fp.save_instruments(wrong, synthetic_instruments()), "path"),
    "write_parquet(5)": (lambda: table().write_parquet(wrong), "path"),
    "EventBatch(instruments=5)": (lambda: fp.EventBatch(batch().array, wrong, SYNTHETIC), "instruments"),
    "EventBatch(source=5)": (lambda: fp.EventBatch(batch().array, synthetic_instruments(), wrong), "source"),
    "part(text)": (lambda: batch().part(given("a"), 2), "start"),
    "chunks(0)": (lambda: list(batch().chunks(0)), "events_max"),
    "Dataset(5)": (lambda: fp.Dataset(wrong, "capture"), "paths"),
    "Dataset([5])": (lambda: fp.Dataset([wrong], "capture"), "paths[0]"),
    "FeatureStore(5)": (lambda: fp.FeatureStore(wrong), "root"),
    "FeatureStore(data=5)": (lambda: fp.FeatureStore("root", wrong), "data"),
    "FeatureStore(limits=5)": (lambda: fp.FeatureStore("root", limits=wrong), "limits"),
    "HftAsset.of(5)": (lambda: fp.HftAsset.of(wrong), "batch"),
    "compute_touch(..., 5)": (lambda: fp.compute_touch({}, wrong), "fset"),
}


@pytest.mark.native  # parity needs both
@pytest.mark.parametrize("call", CALLS)
def test_an_argument_of_another_kind_is_named_with_what_to_do(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    act, argument = CALLS[call]
    with pytest.raises(WrongArgument, match=r"^`.*`: found .*, expected ") as caught:
        act()
    assert caught.value.argument == argument
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [{"on_gap": "x"}, {"on_malformed": 5}, {"seed": "y"}])
def test_words_of_a_book_that_are_none_are_refused(words: Any) -> None:
    with pytest.raises(FeaturePlaneError, match=next(iter(words))):
        fp.LOBEngine(synthetic_instruments()[0], **words)


@pytest.mark.parametrize("backend", ["python", pytest.param("rust", marks=pytest.mark.native)])
def test_numbers_of_numpy_are_numbers(backend: str) -> None:
    events, stop = batch(), given(batch().message_ends[0])
    assert events.part(given(np.int64(0)), given(np.int64(3))).messages == 3
    assert sum(len(part) for part in events.chunks(given(np.uint32(7)))) == len(events)
    one, other = (fp.FeatureEngine(fp.feature_set(V1), backend) for _ in range(2))
    assert len(one.push(events, 0, int(stop))) == len(other.push(events, given(np.int64(0)), stop))
