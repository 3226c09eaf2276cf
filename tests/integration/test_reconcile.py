"""A recorded service with accidents is computed again: equal, or the first event that differs is named."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane.cli.app import main
from featureplane.features.frame import FeatureFrame, FrameLayout, read_head
from featureplane.research.store.ledger import FOLDER, merged
from featureplane.services.incident import export
from featureplane.services.reconcile import reconcile
from featureplane.services.recorder import Recorder
from featureplane.services.recording import frame_files, raw_files, read_about
from tests.binance_lines import backends
from tests.binance_render import SOURCE as USDM
from tests.binance_render import Way, rendered
from tests.incidents import TWO, packed, record, times
from tests.services import V1, service
from tests.versions import FASTER


@backends
def test_a_day_with_faults_is_what_was_emitted(backend: str, tmp_path: Path) -> None:
    items = list(Way(1, 2).items(rendered(6_000, 1, 2)))
    record(tmp_path / "all", items, backend=backend)
    found = reconcile(tmp_path / "all", backend="python" if backend == "rust" else "auto")
    assert found.first is None
    assert found.equal == found.frames == len(packed(tmp_path / "all")) > 500
    assert (found.ratio, found.cut_off) == (1.0, 0)
    assert found.messages > 1_000


def test_the_first_event_that_differs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, root = tmp_path / "all", tmp_path / "root"
    record(folder, Way(1, 2).items(rendered(6_000, 1, 2)))
    frames = packed(folder)
    size = read_head(frames[0])[0]
    path = frame_files(folder)[0]
    data = bytearray(path.read_bytes())
    data[100 * size + 16] ^= 1  # of its sequence number (rule 6)
    path.write_bytes(data)
    assert main(["reconcile", str(folder), "--root", str(root), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["frames"] - said["equal"] == 1
    assert said["first"]["differs"].keys() == {"_frame"}
    assert 100 < said["first"]["message"] <= said["messages"]
    assert said["first"]["text"][:19].isdigit() or said["first"]["text"].startswith("{")
    counts = merged(root / FOLDER)
    assert (counts["consistency|different"], counts["consistency|equal"]) == (1, said["equal"])


def test_frames_that_are_missing_differ_and_those_cut_off_by_the_end_do_not(tmp_path: Path) -> None:
    record(tmp_path, Way(1, 2).items(rendered(3_000, 1, 2)))
    path, size = frame_files(tmp_path)[-1], read_head(packed(tmp_path)[0])[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: -40 * size])
    found = reconcile(tmp_path)
    assert found.frames - found.equal == 40
    assert found.first is not None
    assert found.first.differs == {"_frame": ("missing", "there")}
    path.write_bytes(whole + whole[-size:])
    found = reconcile(tmp_path)
    assert found.frames - found.equal == 1
    assert found.first is not None


def test_no_recording_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconcile", str(tmp_path)]) == 2
    assert "no recording" in capsys.readouterr().err


def with_two_sets(folder: Path) -> None:
    """A recording in which a candidate, computed for a while, became the active set; and then the old one."""
    running = service(instruments=TWO, source=USDM)

    def states() -> Any:
        assert isinstance(running.feed, fp.Pipeline)
        return running.feed.save()

    running.subscribe(Recorder(folder, USDM, TWO, V1, bytes_max=40_000, states=states))
    engines = running.rollout
    work: dict[int, Callable[[], object]] = {
        2_000: lambda: engines.begin_candidate(FASTER),
        2_500: engines.promote,
        4_000: lambda: engines.activate(V1),
    }
    for number, item in enumerate(Way(5, 2).items(rendered(9_000, 5, 2))):
        if number in work:
            work[number]()
        if isinstance(item, tuple):
            running.take(*item)
        else:
            running.reconnect(item.symbol, item.reason)
    running.finish()


def places(folder: Path) -> list[tuple[Path, int, int]]:
    """Every frame of a recording: its file, its first byte there, and how many it has."""
    found: list[tuple[Path, int, int]] = []
    for path in frame_files(folder):
        data, at = path.read_bytes(), 0
        while at < len(data):
            found.append((path, at, read_head(data[at : at + 64])[0]))
            at += found[-1][2]
    return found


def change(path: Path, at: int, mask: int = 0x80) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.write_bytes(data)


def test_where_another_set_became_the_active_one_it_goes_on(tmp_path: Path) -> None:
    with_two_sets(tmp_path)
    frames = places(tmp_path)
    found = reconcile(tmp_path)
    assert found.first is None
    assert found.equal == found.frames == len(frames) > 1_000
    assert found.messages == len(times(tmp_path))
    assert found.feature_sets == ["lob_shared_v1", "lob_shared_v1@faster"]
    path, at, size = next(one for one in reversed(frames) if set_of(one) == FASTER.fingerprint[:16])
    change(path, at + size - 1)
    found = reconcile(tmp_path)
    assert found.frames - found.equal == 1
    assert found.first is not None
    assert found.first.feature_set == "lob_shared_v1@faster"


def set_of(place: tuple[Path, int, int]) -> str:
    path, at, _ = place
    return path.read_bytes()[at + 40 : at + 48].hex()


@pytest.mark.parametrize("byte", [0, 5, 6, 8, 12, 20, 30, 40, 48, 52, 54, 60, 64, 80])
def test_a_damaged_frame_differs_whatever_is_damaged_and_no_other_does(byte: int, tmp_path: Path) -> None:
    record(tmp_path, Way(1, 2).items(rendered(3_000, 1, 2)))
    frames = packed(tmp_path)
    path, at, _ = places(tmp_path)[200]
    change(path, at + byte)
    found = reconcile(tmp_path)
    assert found.frames - found.equal == 1
    assert found.frames == len(frames)
    assert found.first is not None
    right = FeatureFrame(frames[200], FrameLayout.of(V1, {}))
    assert (found.first.seq, found.first.local_ts_ns) == (right.seq, right.local_ts_ns)
    assert found.first.differs


def test_frames_that_are_missing_or_surplus_move_no_other(tmp_path: Path) -> None:
    record(tmp_path, Way(1, 2).items(rendered(6_000, 1, 2)))
    frames, layout = packed(tmp_path), FrameLayout.of(V1, {})
    path, at, size = places(tmp_path)[300]
    whole = path.read_bytes()
    assert len(whole) > at + 25 * size
    path.write_bytes(whole[:at] + whole[at + 20 * size :])
    missing = reconcile(tmp_path)
    assert missing.first is not None
    assert (missing.frames, missing.frames - missing.equal) == (len(frames), 20)
    assert missing.first.differs == {"_frame": ("missing", "there")}
    assert missing.first.seq == FeatureFrame(frames[300], layout).seq
    again = bytearray(whole[at : at + size])
    again[22] = 1  # a sequence number that no frame has
    path.write_bytes(whole[:at] + bytes(again) + whole[at:])
    surplus = reconcile(tmp_path)
    assert surplus.first is not None
    assert (surplus.frames, surplus.frames - surplus.equal) == (len(frames) + 1, 1)
    assert surplus.first.differs == {"_frame": ("there", "missing")}
    assert surplus.first.message == missing.first.message


def test_services_one_after_the_other_are_one_recording_and_each_may_have_been_killed(tmp_path: Path) -> None:
    items = list(Way(3, 2).items(rendered(9_000, 3, 2)))
    ends = 2_299
    for begin, end in ((0, 2_000), (2_000, ends), (ends, len(items))):
        record(tmp_path, items[begin:end])
        if end == ends:
            path, came = frame_files(tmp_path)[-1], times(tmp_path)[-1]
    frames = packed(tmp_path)
    found = reconcile(tmp_path)
    assert found.first is None
    assert found.equal == found.frames == len(frames)
    # The second service was killed before it wrote the frames of its last message.
    made = times_of(path, len(frames[0]))
    cut = made.count(came)
    assert cut
    path.write_bytes(path.read_bytes()[: -cut * len(frames[0])])
    found = reconcile(tmp_path)
    assert (found.first, found.equal, found.cut_off) == (None, len(frames) - cut, cut)


def times_of(path: Path, size: int) -> list[int]:
    data = path.read_bytes()
    return [read_head(data[at : at + size])[1] for at in range(0, len(data), size)]


def test_what_is_left_of_a_recording_and_a_span_of_it_are_held_too(tmp_path: Path) -> None:
    kept, out = tmp_path / "kept", tmp_path / "out"
    items = [(line, None, None) for line in rendered(20_000, 4, 2)]
    record(kept, items, keep_bytes=600_000)
    assert not raw_files(kept)[0].name.endswith("-000001.txt")
    found = reconcile(kept)
    assert found.first is None
    assert found.equal == found.frames > 100
    came = times(kept)
    export(kept, came[0], came[-1], out)
    exported = reconcile(out)
    assert exported.first is None
    assert exported.equal == exported.frames > 100
    # Files of both kinds are not removed at the same time.
    for paths in (frame_files(kept)[:2], raw_files(kept)[:4]):
        for path in paths:
            path.unlink()
        found = reconcile(kept)
        assert found.first is None
        assert found.equal == found.frames > 100


def test_a_set_that_is_the_active_one_before_the_first_message_is_what_was_recorded(tmp_path: Path) -> None:
    running = service(instruments=TWO, source=USDM)
    running.subscribe(Recorder(tmp_path, USDM, TWO, V1, states=lambda: None))
    running.rollout.activate(FASTER)
    for item in Way(5, 2).items(rendered(2_000, 5, 2)):
        if isinstance(item, tuple):
            running.take(*item)
    running.finish()
    assert read_about(tmp_path)["feature_set"] == "lob_shared_v1@faster"
    found = reconcile(tmp_path)
    assert found.first is None
    assert found.feature_sets == ["lob_shared_v1@faster"]
    assert found.equal == found.frames > 100


def test_frames_that_cannot_be_read_are_an_error_and_not_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path, Way(1, 2).items(rendered(3_000, 1, 2)))
    path = frame_files(tmp_path)[-1]
    path.unlink()
    path.mkdir()
    assert main(["reconcile", str(tmp_path)]) == 2
    assert path.name in capsys.readouterr().err
    shutil.rmtree(path)


def test_while_the_service_runs_what_it_has_written_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every night, of a recording that goes on: messages and frames come while it is read."""
    monkeypatch.setattr("featureplane.services.recorder._HELD_BYTES", 1)
    items = list(Way(1, 2).items(rendered(6_000, 1, 2)))
    running = service(instruments=TWO, source=USDM)
    assert isinstance(running.feed, fp.Pipeline)
    running.subscribe(Recorder(tmp_path, USDM, TWO, V1, bytes_max=40_000, states=running.feed.save))
    begun, over = threading.Event(), threading.Event()

    def work() -> None:
        for number, item in enumerate(items):
            if isinstance(item, tuple):
                running.take(*item)
            else:
                running.reconnect(item.symbol, item.reason)
            if number > 400:
                begun.set()
                over.wait(0.002)
        running.finish()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(60)
    held = []
    while thread.is_alive():
        held.append(reconcile(tmp_path))
        if len(held) == 8:
            over.set()
    thread.join()
    assert [one.first for one in held] == [None] * len(held)
    assert [one.equal for one in held] == [one.frames for one in held]
    assert len({one.frames for one in held}) > 4
    assert reconcile(tmp_path).equal == len(packed(tmp_path))


def test_what_was_said_then_is_not_said_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = list(Way(3, 2).items(rendered(3_000, 3, 2)))
    record(tmp_path, items[:600])
    record(tmp_path, items[600:])
    caplog.clear()
    assert reconcile(tmp_path).first is None
    assert "reconnected" in caplog.messages
    caplog.clear()
    assert main(["reconcile", str(tmp_path)]) == 0
    assert caplog.messages == []
