"""From bytes to frames in one call: the frames of a replay of the same lines, in both backends."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featureplane as fp
from featureplane import native
from featureplane.errors import (
    FeaturePlaneError,
    InstrumentMismatch,
    MalformedEvent,
    NotReady,
    SequenceGap,
    SettingError,
    StateError,
    UnknownSymbol,
)
from featureplane.features.latest import LatestFrames
from featureplane.features.messages import NativeMessages, ReferenceMessages
from featureplane.market.events import EventBatch, StreamOptions
from featureplane.market.feed import FeedSettings
from featureplane.market.instruments import Instrument
from featureplane.market.sources import find_source
from featureplane.market.sources.binance_plain import local_time
from tests.binance_lines import LOCAL, SYMBOL, diff, envelope, line, quote, snapshot, spot_diff, trade
from tests.parity.streams import V1, V2
from tests.parity.test_recordings import BINANCE, INSTRUMENTS, Recording
from tests.shared_data import shared

BACKENDS = ("python", "rust") if native.available() else ("python",)
EACH_BACKEND = pytest.mark.parametrize("backend", BACKENDS)
SAMPLE = Path(fp.__file__).parent / "sample"
ONE = Instrument(venue="binance-usdm", symbol=SYMBOL, price_exponent=2, qty_exponent=3, vpin_bucket="1")
Message = tuple[bytes, int | None]
OTHER = Instrument(venue="binance-usdm", symbol="ETHUSDT", price_exponent=4, qty_exponent=3)


def usdm(backend: str, *instruments: Instrument, fset: fp.FeatureSet = V1, **options: Any) -> fp.Pipeline:
    return fp.Pipeline(fset, "binance-usdm", instruments or (ONE,), backend=backend, **options)


def session(messages: int, instrument: Instrument = ONE) -> list[bytes]:
    """A snapshot, then diffs that continue it, with trades and quotes between."""
    name = instrument.symbol
    lines = [line(snapshot(symbol=name))]
    for n in range(messages):
        local, time = LOCAL + (n + 1) * 1_000_000, 1723161256502 + n
        bids = [["61800.20", f"{1 + n % 7}"], [f"{61700 + n % 50}.00", f"{n % 3}"]]
        last = {"u": 12 + n, "U": 12 + n, "pu": 11 + n, "E": time, "T": time, "s": name}
        lines.append(line(envelope(diff(**last, b=bids, a=[["61801.00", f"{n % 5}.5"]])), local))
        if n % 3 == 0:
            lines.append(line(trade(s=name, t=100 + n // 3, E=time, T=time, m=n % 2 == 0), local + 1))
        if n % 4 == 0:
            lines.append(line(quote(s=name, u=12 + n), local + 2))
    return lines


def packed(pipeline: fp.Pipeline, lines: Iterable[bytes]) -> list[bytes]:
    return [frame.pack() for text in lines for frame in pipeline.push(text)]


def alone(text: bytes) -> Message:
    """A recorded line as a live feed has it: the message, and when it came."""
    read = local_time(text.rstrip(b"\r\n"))
    assert read is not None
    return read[1], read[0]


def outcome(pipeline: fp.Pipeline, messages: Iterable[Message]) -> dict[str, Any]:
    """All that a pipeline makes of messages, to its error if there is one."""
    seen: dict[str, Any] = {"frames": [], "events": [], "error": None}
    for data, local in messages:
        try:
            seen["frames"] += [frame.pack() for frame in pipeline.push(data, local)]
        except FeaturePlaneError as error:
            seen["error"] = (type(error), str(error), error.hint, getattr(error, "line", None))
            break
        finally:
            seen["pushed"] = [frame.pack() for frame in pipeline.pushed]
            seen["events"].append(pipeline.events.array.tobytes())
    seen["counts"] = pipeline.counts
    return seen


def assert_alike(messages: Iterable[Message], *instruments: Instrument, **options: Any) -> Any:
    """Both backends make the same of messages; what that is."""
    outcomes = [outcome(usdm(backend, *instruments, **options), messages) for backend in BACKENDS]
    assert outcomes[0] == outcomes[-1]
    return outcomes[0]


def lines_of(files: Iterable[Path], most: int | None = None) -> Iterator[bytes]:
    """The lines of recordings, the first so many of each."""
    for path in files:
        with gzip.open(path) as stream:
            yield from itertools.islice(stream, most)


@EACH_BACKEND
@pytest.mark.parametrize("fset", [V1, V2], ids=lambda fset: fset.feature_set_id)
def test_frames_of_the_sample_are_those_of_its_replay(backend: str, fset: fp.FeatureSet) -> None:
    events = fp.sample_events()
    lines = list(lines_of([SAMPLE / "ethusdt_20240808.gz"]))
    lines = lines if backend == "rust" else lines[:3000]
    pipeline = fp.Pipeline(fset, "binance-spot", SAMPLE / "instruments.toml", backend=backend)
    made, taken = [], 0
    for text in lines:
        made += [frame.pack() for frame in pipeline.push(*alone(text))]
        array = pipeline.events.array
        assert array.tobytes() == events.array[taken : taken + len(array)].tobytes()
        taken += len(array)
    assert backend != "rust" or taken == len(events)
    engine = fp.FeatureEngine(fset)
    replayed = [frame.pack() for frame in engine.replay(events)]
    assert made == replayed[: len(made)]
    assert len(made) > (1000 if backend == "rust" else 200)
    assert backend != "rust" or len(made) == len(replayed)


@EACH_BACKEND
@pytest.mark.parametrize("recording", BINANCE.values(), ids=BINANCE)
def test_frames_of_recordings_are_those_of_their_replay(
    recording: Recording, backend: str, tmp_path: Path
) -> None:
    files = [shared(name) for name in recording.files]
    head = tmp_path / "head"
    texts = list(lines_of(files[:1], 4000 if backend == "rust" else 800))
    head.write_bytes(b"".join(texts))
    instruments = INSTRUMENTS / f"{recording.instruments}.toml"
    events = fp.read_events(head, recording.source, recording.symbol, instruments, backend=backend)
    wanted = [frame.pack() for frame in fp.FeatureEngine(V2, backend).replay(events)]
    pipeline = fp.Pipeline(V2, recording.source, instruments, recording.symbol, backend=backend)
    assert packed(pipeline, texts) == wanted
    assert wanted
    again = fp.Pipeline(V2, recording.source, instruments, recording.symbol, backend=backend)
    assert [frame.pack() for text in texts for frame in again.push(*alone(text))] == wanted


@EACH_BACKEND
def test_several_instruments_share_one_feed(backend: str) -> None:
    lines = [text for pair in zip(session(60), session(60, OTHER), strict=True) for text in pair]
    pipeline = usdm(backend, ONE, OTHER)
    frames = [frame.copy() for text in lines for frame in pipeline.push(text)]
    for one in (ONE, OTHER):
        own = packed(usdm(backend, one), [text for text in lines if one.symbol.encode() in text])
        assert [frame.pack() for frame in frames if frame.symbol_id == one.symbol_id] == own
        assert len(own) > 50
    assert pipeline.counts["dropped"] == {}


@EACH_BACKEND
def test_a_nameless_snapshot_and_other_symbols_are_counted(backend: str) -> None:
    pipeline = usdm(backend, ONE, OTHER)
    for message in (snapshot(), trade(s="XRPUSDT"), {"result": None, "id": 1}):
        assert pipeline.push(line(message)) == ()
        assert len(pipeline.events) == 0
    assert pipeline.counts["dropped"] == {"unnamed_snapshot": 1, "other_symbol": 1, "other_stream": 1}
    for one in (ONE, OTHER):
        pipeline.push(*alone(line(snapshot())), one.symbol)
        assert pipeline.events.array["symbol_id"].tolist() == [one.symbol_id] * 5
    pipeline.push(line(trade(s=SYMBOL)), symbol=OTHER.symbol)
    assert pipeline.events.array["symbol_id"].tolist() == [ONE.symbol_id]
    with pytest.raises(UnknownSymbol):
        pipeline.push(line(snapshot()), symbol="XRPUSDT")
    single = usdm(backend, ONE)
    single.push(line(snapshot()))
    assert len(single.events) == 5


BAD = {
    "no JSON": b"x",
    "nothing": b"",
    "a list": b"[]",
    "cut": json.dumps(diff()).encode()[:-9],
    "an id of 0": json.dumps(diff(u=0)).encode(),
    "a bad price": json.dumps(diff(b=[["1.2.3", "1"]])).encode(),
    "a bad trade": json.dumps(trade(p="-")).encode(),
    "a symbol that is none": json.dumps(diff(s=5)).encode(),
    "a diff of spot": json.dumps(spot_diff()).encode(),
    "no UTF-8": b'{"e":"\xff"}',
    "deep": b'{"x":' + b"[" * 200 + b"]" * 200 + b"}",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
@pytest.mark.parametrize("on_malformed", ["raise", "drop"])
@pytest.mark.parametrize("instruments", [(ONE,), (ONE, OTHER)], ids=["one", "two"])
def test_bad_messages_end_alike(data: bytes, on_malformed: str, instruments: tuple[Instrument, ...]) -> None:
    good = [alone(text) for text in session(12)]
    messages = [*good[:6], (data, LOCAL + 5_500_000), *good[6:]]
    seen = assert_alike(messages, *instruments, on_malformed=on_malformed)
    assert seen["frames"]
    if on_malformed == "raise":
        assert seen["error"][0] is MalformedEvent
        assert seen["error"][1].startswith("binance-usdm:7: ")
        assert seen["pushed"] == []
    else:
        assert seen["error"] is None
        assert sum(seen["counts"]["dropped"].values()) >= 1


@EACH_BACKEND
def test_an_oversized_message_is_refused_before_it_is_read(backend: str) -> None:
    source = find_source("binance-usdm").info
    make = NativeMessages if backend == "rust" else ReferenceMessages
    feed = FeedSettings(source, (ONE,), StreamOptions(), bytes_max=40)
    data = b'{"result":null,"id":100000000000000000}'
    assert len(data) == 39
    running = make(V1, feed)
    running.open(data, LOCAL)
    assert running.take(data + b" \n", LOCAL) == ()
    with pytest.raises(MalformedEvent, match="a line without end"):
        running.take(data + b"  ", LOCAL)
    dropping = make(V1, dataclasses.replace(feed, options=StreamOptions(on_malformed="drop")))
    dropping.open(data, LOCAL)
    dropping.take(data * 2, LOCAL)
    room, count = dropping.feed.room, dropping.feed.count
    assert room.array["kind"][:count].tolist() == [0]
    assert room.array["local_ts_ns"][:count].tolist() == [LOCAL]


@settings(max_examples=60, deadline=None)
@given(
    cut=st.integers(0, 400),
    at=st.integers(0, 25),
    junk=st.binary(max_size=12),
    on_malformed=st.sampled_from(["raise", "drop"]),
    recorded=st.booleans(),
    instruments=st.sampled_from([(ONE,), (ONE, OTHER), (OTHER, ONE)]),
)
def test_any_cut_and_any_junk_end_alike(**drawn: Any) -> None:
    cut, junk, recorded = drawn["cut"], drawn["junk"], drawn["recorded"]
    lines = session(8) + session(8, OTHER)
    messages: list[Message] = [(text, None) if recorded else alone(text) for text in lines]
    at = drawn["at"] % len(messages)
    data, local = messages[at]
    messages[at] = (data[:cut] + junk + data[cut + len(junk) :], local)
    messages.insert(3, (data[:cut], local))
    assert_alike(messages, *drawn["instruments"], on_malformed=drawn["on_malformed"])


@EACH_BACKEND
def test_what_cannot_be_read_breaks_the_book_it_was_asked_for_or_every_one(backend: str) -> None:
    pipeline = usdm(backend, ONE, OTHER, on_malformed="drop")
    pipeline.push(b"x", LOCAL)
    assert pipeline.events.array["symbol_id"].tolist() == [ONE.symbol_id, OTHER.symbol_id]
    pipeline.push(b"x", LOCAL, OTHER.symbol)
    assert pipeline.events.array["symbol_id"].tolist() == [OTHER.symbol_id]
    assert pipeline.counts["dropped"] == {"malformed": 3}


def test_a_name_elsewhere_in_a_message_leads_no_reader_astray() -> None:
    message = envelope(trade(s=SYMBOL), stream=OTHER.symbol)
    seen = assert_alike([(line(message), None)], OTHER, ONE)
    assert seen["events"][0][4:8] == ONE.symbol_id.to_bytes(4, "little")


@EACH_BACKEND
def test_what_is_no_message_is_refused_and_nothing_happens(backend: str) -> None:
    pipeline = usdm(backend)
    lines = session(10)
    frames = packed(pipeline, lines[:6])
    wrong: list[tuple[Any, Any]] = [
        ("text", LOCAL),
        (None, LOCAL),
        (bytearray(b"{}"), LOCAL),
        (b"{}", 0),
        (b"{}", -1),
        (b"{}", 1 << 62),
        (b"{}", 1 << 70),
        (b"{}", 1.5),
        (b"{}", "now"),
    ]
    for data, local in wrong:
        with pytest.raises(SettingError):
            pipeline.push(data, local)
    assert frames + packed(pipeline, lines[6:]) == packed(usdm(backend), lines)
    for data, local in wrong:
        with pytest.raises(SettingError):
            usdm(backend).push(data, local)


@EACH_BACKEND
def test_an_error_ends_the_stream_until_it_is_finished(backend: str) -> None:
    pipeline = usdm(backend, on_gap="refuse")
    lines = session(10)
    wanted = packed(pipeline, lines)
    with pytest.raises(SequenceGap):
        pipeline.push(line(diff(U=90, u=95, pu=89)))
    assert pipeline.pushed == ()
    for call in (lambda: pipeline.push(lines[0]), pipeline.reset, pipeline.reconnect):
        with pytest.raises(StateError, match="has ended with an error"):
            call()
    pipeline.finish()
    assert pipeline.counts["resets"]["first"] == 1
    assert packed(pipeline, lines) == wanted


@EACH_BACKEND
def test_a_reset_and_another_connection_are_those_of_an_engine(backend: str, tmp_path: Path) -> None:
    lines = session(30) + session(30)
    (tmp_path / "lines").write_bytes(b"".join(lines))
    events = fp.read_events(tmp_path / "lines", "binance-usdm", instruments=ONE)
    engine, pipeline = fp.FeatureEngine(V2, "python"), usdm(backend, fset=V2)
    with pytest.raises(StateError, match="no stream"):
        pipeline.reset()
    first = 0
    for at, (text, behind) in enumerate(zip(lines, events.message_ends.tolist(), strict=True)):
        if at == 15:
            engine.reset(SYMBOL)
            pipeline.reset(SYMBOL)
        if at == len(lines) // 2:
            engine.reconnect()
            pipeline.reconnect()
        wanted = [frame.pack() for frame in engine.push(events, first, behind)]
        assert [frame.pack() for frame in pipeline.push(text)] == wanted
        first = behind
    assert pipeline.counts == engine.counts
    assert {"explicit", "reconnect"} <= set(pipeline.counts["resets"])
    with pytest.raises(UnknownSymbol):
        pipeline.reset("nothing")


@EACH_BACKEND
def test_frames_and_events_stand_in_room_made_before(backend: str) -> None:
    pipeline = usdm(backend)
    latest = LatestFrames(V1, (ONE,), backend)
    pipeline.follow(latest)
    pipeline.push(session(0)[0])
    (room, _), seen = pipeline.taken, []
    for text in session(20):
        for frame in pipeline.push(text):
            assert pipeline.pushed == (frame,)
            seen.append(frame)
            assert latest.get_feature(SYMBOL, "best_bid") == frame["best_bid"]
        assert (pipeline.taken[0] is room) == (backend == "rust")
    assert len({id(frame) for frame in seen}) == 1
    pipeline.retire()
    with pytest.raises(StateError):
        _ = seen[-1].seq
    many = snapshot(bids=[[f"{n}.5", "1"] for n in range(9000)])
    pipeline.push(line(many))
    assert len(pipeline.events) == 9003
    assert isinstance(pipeline.events, EventBatch)
    pipeline.reconnect(SYMBOL)
    with pytest.raises(NotReady):
        latest.get_feature(SYMBOL, "best_bid")


@EACH_BACKEND
def test_a_price_finer_than_declared_names_the_declaration(backend: str, tmp_path: Path) -> None:
    path = tmp_path / "instruments.toml"
    fp.save_instruments(path, [dataclasses.replace(OTHER, price_exponent=1), ONE])
    pipeline = usdm(backend, *fp.load_instruments(path))
    with pytest.raises(InstrumentMismatch, match="price_exponent"):
        pipeline.push(line(trade(s="ETHUSDT", p="1.25")))


@EACH_BACKEND
def test_dated_hours_begin_with_the_first_message(backend: str) -> None:
    dated = dataclasses.replace(ONE, reset_at="09:00", time_zone="Asia/Taipei")
    lines = session(20)
    assert packed(usdm(backend, dated), lines) == packed(usdm("python", dated), lines)
    with pytest.raises(MalformedEvent, match="a local time"):
        usdm(backend, dated).push(b"{}")


def test_a_pipeline_that_cannot_be_is_refused() -> None:
    inferred = dataclasses.replace(ONE, inferred=True)
    twin = dataclasses.replace(ONE, venue="binance-spot", symbol_id=77)
    cases: list[tuple[tuple[Instrument, ...], dict[str, Any], str]] = [
        ((inferred,), {}, "declared"),
        ((), {}, "without instruments"),
        ((ONE,), {"emit": "sometimes"}, "emit"),
        ((ONE,), {"on_gap": "perhaps"}, "on_gap"),
    ]
    for instruments, options, match in cases:
        with pytest.raises(SettingError, match=match):
            fp.Pipeline(V1, "binance-usdm", instruments, **options)
    with pytest.raises(SettingError, match="one by one"):
        fp.Pipeline(V1, "lobster", ONE)
    with pytest.raises(UnknownSymbol):
        fp.Pipeline(V1, "binance-usdm", ONE, "XRPUSDT")
    assert fp.Pipeline(V1, "binance-usdm", inferred, live=False).instruments == (ONE,)
    assert fp.Pipeline(V1, "binance-usdm", (twin, ONE), SYMBOL).instruments == (ONE,)
