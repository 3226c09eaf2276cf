"""A span of a recorded service, taken out: it plays back to the same frames, whatever happened in it."""

from __future__ import annotations

import shutil
import signal
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane.cli.app import main
from featureplane.errors import EmptyStream, SettingError, StateError, UnreadableFile
from featureplane.features.frame import read_head
from featureplane.market.instruments import load_instruments
from featureplane.services import incident
from featureplane.services.diary import Diary
from featureplane.services.incident import export, instant_text, read_instant, read_manifest, verify
from featureplane.services.recorder import STATE_NS, Recorder
from featureplane.services.recording import (
    files_of,
    frame_files,
    is_reconnect,
    json_lines,
    raw_files,
    read_beginnings,
)
from featureplane.services.replay_source import ReplaySource, raw_lines, recorded_states
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.events import BidAskEvent
from tests.binance_lines import backends
from tests.binance_render import SOURCE as USDM
from tests.binance_render import Way, rendered
from tests.incidents import TWO, command, packed, played, record, times
from tests.integration.test_cli_run import LEGACY, Child, answer, options
from tests.integration.test_service_faults import Feed
from tests.services import (
    INSTRUMENTS,
    SAMPLE,
    SOURCE,
    SYMBOL,
    V1,
    Frames,
    sample_lines,
    sample_part,
    service,
)
from tests.versions import FASTER

MINUTE_NS = 60_000_000_000


@backends
@pytest.mark.parametrize("seed", [1, 2])
def test_any_span_of_a_stream_with_accidents_plays_back_to_the_same_frames(
    backend: str, seed: int, tmp_path: Path
) -> None:
    items = list(Way(seed, 2).items(rendered(12_000 if backend == "rust" else 5_000, seed, 2)))
    record(tmp_path / "all", items, backend=backend)
    frames, came = packed(tmp_path / "all"), times(tmp_path / "all")
    assert len(list(read_beginnings(tmp_path / "all"))) >= 3
    first, last = came[0], came[-1]
    for part in range(4):
        out = tmp_path / f"part{part}"
        begin, end = (first + (last - first) * at // 5 for at in (part, part + 2))
        manifest = export(tmp_path / "all", begin, end, out)
        kept = packed(out)
        assert manifest["frames"] == len(kept) > 50
        at = frames.index(kept[0])
        assert kept == frames[at : at + len(kept)]
        assert [read_head(one)[1] >= end for one in frames[at + len(kept) :][:1]] in ([], [True])
        assert read_head(kept[-1])[1] < end
        assert (read_instant(manifest["begins"], "") - begin) <= 1000
        other = "python" if backend == "rust" else "rust"
        assert played(out, backend=backend) == kept
        if part == 1 and fp.native.available():
            assert played(out, backend=other) == kept, "the state is the same in both languages"


class Heard(BaseStrategy):
    """Keeps every book it was shown."""

    def __init__(self) -> None:
        super().__init__("heard")
        self.books: list[tuple[Any, ...]] = []

    def on_bid_ask(self, event: BidAskEvent) -> None:
        self.books.append(event.as_tuple())


@backends
def test_who_looks_at_the_market_sees_it_from_the_first_message_on(backend: str, tmp_path: Path) -> None:
    items = list(Way(6, 2).items(rendered(5_000, 6, 2)))
    folder, first, again = tmp_path / "all", Heard(), Heard()
    running = service(first, instruments=TWO, source=USDM, backend=backend)
    assert isinstance(running.feed, fp.Pipeline)
    running.subscribe(Recorder(folder, USDM, TWO, V1, bytes_max=40_000, states=running.feed.save))
    running.run(Feed(items))
    begin = next(one for one in read_beginnings(folder) if len(one.states) == 2).local_ts_ns
    end = times(folder)[-1]
    export(folder, begin, end, tmp_path / "out")
    other = service(again, instruments=TWO, source=USDM, backend=backend)
    assert isinstance(other.feed, fp.Pipeline)
    other.feed.go_on_from(recorded_states(f"replay:{tmp_path / 'out'}"))
    other.runner.show_books(other.feed.standing_books)
    whole = [other.runner.is_whole(one.symbol) for one in TWO]
    assert any(whole)
    other.run(ReplaySource(raw_files(tmp_path / "out"), None, [one.symbol for one in TWO]))
    shown = again.books
    at = first.books.index(shown[0])
    assert shown == first.books[at : at + len(shown)]
    assert len(shown) > 200


def test_a_span_over_the_end_of_one_service_and_the_start_of_another(tmp_path: Path) -> None:
    items = list(Way(3, 2).items(rendered(9_000, 3, 2)))
    for part in (items[:2_000], items[2_000:2_300], items[2_300:]):
        record(tmp_path / "all", part)
    came = times(tmp_path / "all")
    frames = packed(tmp_path / "all")
    assert [read_head(one)[1] for one in frames] != []
    assert played(tmp_path / "all") == frames, "a recording of three services is one too"
    begin, end = came[1_900], came[2_700]
    manifest = export(tmp_path / "all", begin, end, tmp_path / "out")
    kept = packed(tmp_path / "out")
    seqs = [int.from_bytes(one[16:24], "little") for one in kept]
    assert sum(seq == 1 for seq in seqs) >= 2, "both symbols begin anew"
    assert played(tmp_path / "out") == kept
    lines = list(raw_lines(raw_files(tmp_path / "out")))
    starts = sum(b'"reason":"start"' in line for line in lines)
    said = manifest["messages"] + manifest["messages_before"]
    assert (starts, said) == (2, len(lines) - sum(map(is_reconnect, lines)))


def test_states_come_with_each_file_and_with_time(tmp_path: Path) -> None:
    lines = sample_lines(12_000)
    eth = tuple(load_instruments(INSTRUMENTS))
    record(tmp_path, ((line, None, None) for line in lines), eth, source=SOURCE, bytes_max=1 << 20)
    places = list(read_beginnings(tmp_path))
    assert [one.raw for one in places] == [(path.name, 0) for path in raw_files(tmp_path)[1:]]
    assert all(set(one.states) == {SYMBOL} for one in places)
    shutil.rmtree(tmp_path)
    later = [
        b"%d %s" % (int(line[:19]) + STATE_NS * (at // 4_000 - 50), line[20:])
        for at, line in enumerate(lines)
    ]
    record(tmp_path, ((line, None, None) for line in later), eth, source=SOURCE, bytes_max=1 << 30)
    places = list(read_beginnings(tmp_path))
    assert [one.local_ts_ns for one in places] == [int(later[at][:19]) for at in (4_000, 8_000)]
    assert len({one.raw[0] for one in places}) == 1


def test_where_another_set_became_the_active_one_a_span_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = list(Way(5, 2).items(rendered(12_000, 5, 2)))
    folder, seen = tmp_path / "all", Frames()
    running = service(instruments=TWO, source=USDM, subscribers=[seen])

    def states() -> Any:
        assert isinstance(running.feed, fp.Pipeline)
        return running.feed.save()

    running.subscribe(Recorder(folder, USDM, TWO, V1, states=states))
    at = len(items) // 2
    for number, item in enumerate(items):
        if number == at - 500:
            running.rollout.begin_candidate(FASTER)
        if number == at:
            running.rollout.promote()
        if isinstance(item, tuple):
            running.take(*item)
        else:
            running.reconnect(item.symbol, item.reason)
    running.finish()
    (here,) = [one for one in read_beginnings(folder) if one.about["feature_set"] == FASTER.feature_set_id]
    assert here.states
    came, sides = times(folder), []
    with pytest.raises(StateError, match="from lob_shared_v1 to lob_shared_v1@faster") as caught:
        export(folder, came[at - 600], came[-1], tmp_path / "both")
    assert caught.value.hint == "export until that time, or from it on"
    for name, begin, end in (("a", came[0], here.local_ts_ns), ("b", here.local_ts_ns, came[-1] + 1)):
        out, again = tmp_path / name, tmp_path / f"{name}2"
        assert main([*command(export(folder, begin, end, out)), "--record", str(again)]) == 0
        bytes_ = [b"".join(path.read_bytes() for path in frame_files(one)) for one in (out, again)]
        assert bytes_[0] == bytes_[1]
        sides.append(bytes_[0])
    beside = [b"".join(path.read_bytes() for path in files_of(tmp_path / one, "candidate")) for one in "ab"]
    assert beside[0] == b"".join(path.read_bytes() for path in files_of(folder, "candidate")) != b""
    assert beside[1] == b""
    assert len(sides[1]) > 10_000
    assert b"".join(seen.packed) == b"".join(sides)
    Recorder(folder, USDM, TWO, FASTER).finish()  # a service that begins with what was promoted goes on
    with pytest.raises(SettingError, match="another feature_set"):
        Recorder(folder, USDM, TWO, fp.feature_set("lob_shared_v2"))
    capsys.readouterr()


def test_the_oldest_files_go_and_what_is_left_can_be_played_back(tmp_path: Path) -> None:
    items = [(line, None, None) for line in rendered(20_000, 4, 2)]
    whole, kept = tmp_path / "whole", tmp_path / "kept"
    record(whole, items)
    record(kept, items, keep_bytes=600_000)
    assert len(raw_files(whole)) > len(raw_files(kept)) + 5
    assert sum(path.stat().st_size for path in kept.iterdir()) < 1_100_000
    first = times(kept)[0]
    manifest = export(kept, times(whole)[0], first + 10**15, tmp_path / "out")
    assert read_instant(manifest["begins"], "") >= first // 1000 * 1000
    frames = packed(tmp_path / "out")
    assert played(tmp_path / "out") == frames == packed(whole)[-len(frames) :]
    assert len(frames) > 100


def test_without_features_messages_are_exported_from_the_start_of_the_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = sample_part(tmp_path, 3_000)
    words = ["--strategy", LEGACY, "--control", "off", "--record", str(tmp_path / "all"), "--json"]
    monkeypatch.setenv("HFT_FEATURE_ENGINE_ENABLED", "0")
    assert main(["run", "--source", f"replay:{part}", *words]) == 0
    came = times(tmp_path / "all")
    manifest = export(tmp_path / "all", came[2_000], came[2_500], tmp_path / "out")
    assert manifest["begins_with"] == "the start of the service"
    assert (manifest["messages"], manifest["frames"]) == (500, 0)
    assert "env HFT_FEATURE_ROLLOUT_STATE_PATH" in manifest["replay"]
    assert " HFT_FEATURE_ENGINE_ENABLED=0 featureplane run" in manifest["replay"]
    capsys.readouterr()


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A recording of 4,000 lines of the sample, by the command."""
    source = tmp_path / "part.txt"
    source.write_bytes(b"\n".join(sample_lines(4_000)) + b"\n")
    folder = tmp_path / "recording"
    assert main(options(f"replay:{source}", "--record", str(folder), "--symbol", SYMBOL)) == 0
    return folder


FROM, TO = "2024-08-08T23:54:30Z", "2024-08-09T07:54:40.5+08:00"


def exported(folder: Path, out: Path, *more: str, begin: str = FROM, end: str = TO) -> int:
    words = ["--from", begin, "--to", end, "--record", str(folder), *more]
    return main(["incident", "export", *words, str(out)])


def test_everything_of_a_span_is_packed_and_plays_back(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    out, again = tmp_path / "new" / "incident", tmp_path / "again"
    assert exported(recorded, out, "--json") == 0
    manifest = answer(capsys)
    assert sorted(path.name for path in out.iterdir()) == sorted([*manifest["files"], "manifest.json"])
    begin, end = read_instant(FROM, ""), read_instant(TO, "")
    assert end - begin == 10_500_000_000
    assert manifest["messages"] == sum(begin <= ns < end for ns in times(out)) > 500
    assert manifest["messages_before"] + manifest["messages"] == len(times(out))
    (run,) = json_lines([out / "runs.jsonl"])
    assert (run["version"], run["fingerprint"]) == (fp.__version__, V1.fingerprint)
    assert run["configuration"]["settings"]["latency_sample_every"] == 16
    assert run["configuration"]["symbol"] == [SYMBOL]
    numbers = list(json_lines(sorted(out.glob("metrics-*"))))
    assert [begin <= one["local_ts_ns"] < end for one in numbers] == [False, *[True] * (len(numbers) - 1)]
    assert len(numbers) == manifest["metrics"] >= 2
    taken = [one["metrics"]["messages_total"] for one in numbers]
    assert taken == [[[{}, one["after_message"]]] for one in numbers]
    log = list(json_lines(sorted(out.glob("log-*"))))
    assert len(log) == manifest["log"] > 10
    assert all(begin <= one["local_ts_ns"] < end for one in log)
    assert {"order submit", "order accepted"} <= {one["message"] for one in log}
    assert main([*command(manifest), "--record", str(again)]) == 0
    assert packed(again) == packed(out) != []
    assert [one for one in packed(recorded) if read_head(one)[1] < end] == packed(out)
    assert main(["incident", "verify", str(out)]) == 0


def test_it_works_while_the_service_runs_and_after_it_was_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "recording"
    child = Child(*options(f"replay:{SAMPLE}@20", "--record", str(folder)))
    while (child.until("order accepted").get("ts_ns") or 0) < read_instant("2024-08-08T23:54:50Z", ""):
        pass
    begin, end = "2024-08-08T23:54:20Z", "2024-08-08T23:54:35Z"
    assert exported(folder, tmp_path / "live", begin=begin, end=end) == 0
    child.process.send_signal(signal.SIGKILL)
    child.process.communicate(timeout=60)
    assert exported(folder, tmp_path / "dead", begin=begin, end=end) == 0
    live, dead = (read_manifest(tmp_path / name) for name in ("live", "dead"))
    assert live["files"] == dead["files"]
    assert live["messages"] > 500
    assert live["log"] > 5
    assert played(tmp_path / "live", source=SOURCE) == packed(tmp_path / "live") != []
    capsys.readouterr()


def test_a_set_of_ones_own_comes_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'id = "mine"\nschema_version = 1\n[features]\nx = "ema(spread(), span=8)"\n', encoding="utf-8"
    )
    source = tmp_path / "part.txt"
    source.write_bytes(b"\n".join(sample_lines(4_000)) + b"\n")
    folder, out, again = (tmp_path / name for name in ("recording", "out", "again"))
    line = ["--features", str(mine), "--control", "off"]
    assert main(["run", "--source", f"replay:{source}", *line, "--record", str(folder)]) == 0
    assert exported(folder, out) == 0
    mine.unlink()
    words = command(read_manifest(out))
    assert str(out / "features.toml") in words
    assert main([*words, "--record", str(again)]) == 0
    frames = [b"".join(path.read_bytes() for path in frame_files(one)) for one in (out, again)]
    assert frames[0] == frames[1] != b""
    capsys.readouterr()


REFUSED = {
    "a beginning without a zone": (
        ("2024-08-08T23:54:30", TO),
        "--from 2024-08-08T23:54:30: of which time zone?",
        "23:54:30Z is UTC",
    ),
    "an end without a zone": (
        (FROM, "2024-08-08T23:54:40"),
        "--to 2024-08-08T23:54:40: of which time zone?",
        "+08:00",
    ),
    "no time": (("yesterday", TO), "--from yesterday: no time", "2024-08-08T23:55:00Z"),
    "an end before": (
        (TO, FROM),
        "from 2024-08-08T23:54:40.500000000Z to 2024-08-08T23:54:30",
        "from is before to",
    ),
    "too early": (
        ("2024-08-08T22:00Z", "2024-08-08T23:00Z"),
        "nothing there",
        "from 2024-08-08T23:54:14.024",
    ),
    "too late": (("2025-08-08T22:00Z", "2025-08-08T23:00Z"), "nothing there", "to 2024-08-08T23:54:5"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_span_that_says_nothing_is_refused_and_nothing_is_written(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    (begin, end), said, hint = REFUSED[what]
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert exported(recorded, tmp_path / "out", begin=begin, end=end) == 2
    told = capsys.readouterr().err
    assert said in told
    assert hint in told.partition("hint:")[2]
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_there_stays_and_what_is_no_recording_is_said(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    span = read_instant(FROM, ""), read_instant(TO, "")
    with pytest.raises(SettingError, match="recording is there"):
        export(recorded, *span, recorded)
    with pytest.raises(UnreadableFile, match="no recording"):
        export(tmp_path, *span, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    export(recorded, *span, tmp_path / "empty")
    before = sorted(tmp_path.rglob("*"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(incident, "_log_lines", full)
    with pytest.raises(OSError, match="No space"):
        export(recorded, *span, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before, "the folder appears when it is whole"
    nothing = tmp_path / "nothing"
    Recorder(nothing, SOURCE, load_instruments(INSTRUMENTS), V1).finish()
    with pytest.raises(EmptyStream) as caught:
        export(nothing, *span, tmp_path / "out")
    assert caught.value.hint == "it has nothing"


def test_damage_is_named(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert exported(recorded, out) == 0
    frames, raw, state = (next(iter(out.glob(f"{kind}-*"))) for kind in ("frames", "raw", "state"))
    data = frames.read_bytes()
    frames.write_bytes(data[:99] + bytes([data[99] ^ 1]) + data[100:])
    raw.write_bytes(raw.read_bytes()[:-1])
    state.unlink()
    (out / "note.txt").write_text("mine", encoding="utf-8")
    assert verify(out) == [
        f"{state.name}: not there",
        "note.txt: was not exported",
        f"{frames.name}: other bytes",
        f"{raw.name}: another size",
    ]
    capsys.readouterr()
    assert main(["incident", "verify", str(out), "--json"]) == 1
    assert len(answer(capsys)["wrong"]) == 4
    (out / "manifest.json").write_text("[]", encoding="utf-8")
    assert main(["incident", "verify", str(out)]) == 2
    assert "expected the manifest of an export" in capsys.readouterr().err


def test_a_state_of_another_set_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = ((line, None, None) for line in sample_lines(12_000))
    folder, eth = tmp_path / "long", tuple(load_instruments(INSTRUMENTS))
    record(folder, items, eth, source=SOURCE)
    begin = list(read_beginnings(folder))[2].local_ts_ns
    export(folder, begin + 1000, begin + MINUTE_NS, tmp_path / "out")
    words = ["run", "--source", f"replay:{tmp_path / 'out'}", "--control", "off"]
    assert main([*words, "--features", "lob_shared_v2"]) == 2
    assert "fingerprint" in capsys.readouterr().err
    capsys.readouterr()
    assert main([*words, "--features", "lob_shared_v1", "--strategy", LEGACY, "--json"]) == 0
    told = answer(capsys)
    assert told["strategies"]["LegacyMarketMaker"]["submitted"] > 0, "it saw a book without a snapshot"
    assert not any(b"lastUpdateId" in line for line in raw_lines(raw_files(tmp_path / "out")))
    assert instant_text(begin).startswith(f"{datetime.fromisoformat(instant_text(begin)):%Y-%m-%d}")


def test_a_disk_that_is_full_ends_log_and_numbers_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = service()
    diary = Diary(tmp_path, running.telemetry.publish, {"version": "1"})
    one = Recorder(tmp_path, SOURCE, load_instruments(INSTRUMENTS), V1, diary=diary)
    running.subscribe(one)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with diary, caplog.at_level("INFO", "featureplane"):
        for line in sample_lines(500):
            running.take(line)
        monkeypatch.setattr(diary._metrics, "add", full)
        for line in sample_lines(4_000)[500:]:
            running.take(line)
        running.finish()
    assert len(list(raw_lines(raw_files(tmp_path)))) == running.messages == 4_000
    assert one.has_failed
    assert running.telemetry.picture["subscriber_stopped_total"]["recorder",] == 1
    (said,) = [record for record in caplog.records if "recorded no more" in record.message]
    assert said.__dict__["fields"]["error"] == "No space left on device"
    assert list(json_lines(sorted(tmp_path.glob("metrics-*"))))


def test_what_is_not_entered_writes_nothing(tmp_path: Path) -> None:
    running = service()
    diary = Diary(tmp_path, running.telemetry.publish, {})
    running.subscribe(Recorder(tmp_path, SOURCE, load_instruments(INSTRUMENTS), V1, diary=diary))
    with nullcontext():
        running.run(Feed((line, None, None) for line in sample_lines(1_000)))
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {
        "raw",
        "frames",
        "features",
        "recording.json",
        "instruments.toml",
    }
