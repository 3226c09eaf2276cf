"""`featureplane run`: what it refuses, how it ends, what it leaves behind."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane import native
from featureplane.cli.app import main
from featureplane.cli.service_options import Feeding, Trading, Watching
from featureplane.features.frame import FrameLayout
from featureplane.market.instruments import instruments_text, load_instruments
from featureplane.services.configuration import ServiceConfiguration
from featureplane.services.recording import frame_files, raw_files, read_frames
from featureplane.services.replay_source import raw_lines
from featureplane.settings import inherited
from tests.services import INSTRUMENTS, SAMPLE, V1, sample_lines, sample_part

MAKER = "featureplane.strategy.examples.market_maker:SharedMarketMaker"
LEGACY = "featureplane.strategy.examples.market_maker:LegacyMarketMaker"
FORMS = "featureplane.strategy.examples.market_maker:FORMS"
STRATEGIES = """
from featureplane.strategy.api import BaseStrategy

class Curious(BaseStrategy):
    required_features = "lob_shared_v1"

    def on_start(self):
        self.handle = self.ctx.handle("best_bit")

    def on_features(self, frame):
        pass

class Unable(BaseStrategy):
    def on_start(self):
        raise KeyError("account")

    def on_tick(self, event):
        pass

class Losing(BaseStrategy):
    required_features = "lob_shared_v1"

    def on_features(self, frame):
        frame["best_bit"]

class Needy(BaseStrategy):
    def __init__(self, size):
        super().__init__()

    def on_tick(self, event):
        pass
"""


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("featureplane")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.fixture
def part(tmp_path: Path) -> str:
    return f"replay:{sample_part(tmp_path, 4000)}"


def options(source: str, *more: str, **other: str) -> list[str]:
    given = {"source": source, "features": "lob_shared_v1", "strategy": MAKER, "control": "off"} | other
    named = [word for name, value in given.items() if value for word in (f"--{name}", value)]
    return ["run", *named, *more]


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_it_runs_to_the_end_and_says_what_came_of_it(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "record"
    words = options(part, "--symbol", "ETHUSDT", "--venue", "paper", "--record", str(record), "--json")
    assert main(words) == 0
    told = answer(capsys)
    events = fp.read_events(tmp_path / "part.txt", "binance-spot")
    frames = [frame.pack() for frame in fp.FeatureEngine(V1).replay(events)]
    assert (told["messages"], told["frames"]) == (4000, len(frames))
    assert told["strategies"]["SharedMarketMaker"]["submitted"] > 0
    assert told["symbols"] == ["ETHUSDT"]
    layout = FrameLayout.of(V1, {one.symbol_id: one.symbol for one in load_instruments(INSTRUMENTS)})
    assert [frame.pack() for frame in read_frames(frame_files(record), layout)] == frames
    assert main(options(f"replay:{record}", "--json")) == 0
    again = answer(capsys)
    for one in (told, again):
        del one["strategies"]["SharedMarketMaker"]["over_budget"]  # what a busy machine makes of it
    assert again == told


@pytest.mark.parametrize("backend", ["python", pytest.param("rust", marks=pytest.mark.native)])
def test_a_message_nobody_can_read_stops_nothing_even_where_instruments_are_found_in_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], backend: str
) -> None:
    lines = sample_lines(1000)
    broken = lines[500][:90]
    path = tmp_path / "broken.txt"
    path.write_bytes(b"\n".join((*lines[:500], broken, b"no line of ours", *lines[500:])) + b"\n")
    assert main(options(f"replay:{path}", "--json", backend=backend)) == 0
    told = answer(capsys)
    assert told["messages"] == 1002
    assert told["counts"]["dropped"]["malformed"] == 2


def test_a_recording_is_replayed_with_the_instruments_it_was_made_with(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finer, first, second = tmp_path / "finer.toml", tmp_path / "first", tmp_path / "second"
    known = [replace(one, qty_exponent=one.qty_exponent + 1) for one in load_instruments(INSTRUMENTS)]
    finer.write_text(instruments_text(known), encoding="utf-8")
    assert main(options(part, "--record", str(first), instruments=str(finer))) == 0
    assert main(options(f"replay:{first}", "--record", str(second))) == 0
    recorded = [b"".join(path.read_bytes() for path in frame_files(folder)) for folder in (first, second)]
    assert len(recorded[0]) > 0
    assert recorded[0] == recorded[1]
    capsys.readouterr()


def test_what_can_stand_in_the_file_can_be_said_on_the_command_line() -> None:
    said = {one.name for group in (Feeding, Trading, Watching) for one in fields(group)}
    assert said == {one.name for one in fields(ServiceConfiguration)} - {"limits", "settings"}


def test_fees_can_be_said_on_the_command_line(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(part, "--maker-bps", "0.12345", "--check")) == 1
    assert "maker_bps: found '0.12345', expected" in capsys.readouterr().err
    assert main(options(part, "--maker-bps", "-0.5", "--taker-bps", "4", "--record-mb", "1", "--check")) == 0
    assert "nothing would be refused" in capsys.readouterr().err


def test_one_file_can_say_it_all(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "service.toml"
    file.write_text(
        f'source = "{part}"\nsymbol = "ETHUSDT"\nfeatures = "lob_shared_v2"\n'
        f'strategy = ["a={LEGACY}", "b={LEGACY}"]\ninstruments = "{INSTRUMENTS}"\ncontrol = "off"\n'
        '[limits]\norder_qty_max = "0"\n',
        encoding="utf-8",
    )
    assert main(["run", "--config", str(file), "--features", "lob_shared_v1", "--json"]) == 0
    told = answer(capsys)
    assert told["feature_set"] == "lob_shared_v1"
    assert sorted(told["strategies"]) == ["a", "b"]
    assert set(told["refused"]) == {"order_qty"}


def test_it_says_so_where_an_error_of_its_own_stopped_every_strategy(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tmp_path / "losing.py"
    code.write_text(STRATEGIES, encoding="utf-8")
    losing = ["--strategy", f"losing={code}:Losing", "--allow-code", "--json"]
    assert main(options(part, *losing, strategy="")) == 1
    assert "best_bit" in answer(capsys)["strategies"]["losing"]["stopped_by"]
    assert main(options(part, *losing)) == 0  # the other one ran to the end


def test_without_the_engine_legacy_runs_and_shared_is_refused(
    part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HFT_FEATURE_ENGINE_ENABLED", "0")
    assert main(options(part)) == 2
    assert "there is no feature engine" in capsys.readouterr().err
    for strategy in (LEGACY, FORMS):
        assert main(options(part, "--json", strategy=strategy, features="")) == 0
        told = answer(capsys)
        assert told["frames"] == 0
        assert told["feature_set"] is None
        assert sum(one["submitted"] for one in told["strategies"].values()) > 0


CONFLICT = 'id = "lob_shared_v1"\nschema_version = 1\n[features]\nx = "spread()"\n'
BROKEN = 'id = "mine"\nschema_version = 1\n[features]\nx = "sprad()"\n'

REFUSED: dict[str, tuple[dict[str, str], dict[str, str], str, str]] = {
    "a setting out of range": (
        {},
        {"LATENCY_SAMPLE_EVERY": "0"},
        "LATENCY_SAMPLE_EVERY=0",
        "a number from 1",
    ),
    "a setting that is none": ({}, {"ENGINE_ENABLE": "0"}, "ENGINE_ENABLE is no setting", "ENGINE_ENABLED?"),
    "an unknown symbol": ({"symbol": "ETHUSD"}, {}, "symbol 'ETHUSD' is not here", "did you mean ETHUSDT?"),
    "an unknown set": ({"features": "lob_shared_v3"}, {}, "no feature set 'lob_shared_v3'", "lob_shared_v"),
    "an unknown strategy": (
        {"strategy": MAKER[:-1]},
        {},
        "no strategy 'SharedMarketMake'",
        "SharedMarketMaker?",
    ),
    "an unknown module": ({"strategy": "nowhere:Class"}, {}, "nowhere: found no module", "PYTHONPATH"),
    "an unknown feature": (
        {"strategy": "CODE:Curious"},
        {},
        "no feature 'best_bit'",
        "did you mean best_bid?",
    ),
    "an unknown kernel": ({"features": "BROKEN"}, {}, "sprad", ""),
    "a strategy that nobody calls": (
        {"strategy": MAKER.replace("Shared", "")},
        {},
        "MarketMaker in featureplane.strategy.examples.market_maker has no handler",
        "those that can run: LegacyMarketMaker, SharedMarketMaker",
    ),
    "a strategy that cannot start": ({"strategy": "CODE:Unable"}, {}, "cannot start: KeyError", "on_start"),
    "a strategy that needs more": ({"strategy": "CODE:Needy"}, {}, "cannot be made", "defaults"),
    "two sets with one id": ({"features": "CONFLICT"}, {}, "is already defined otherwise", "another id"),
    "another set than required": (
        {"features": "lob_shared_v2"},
        {},
        "SharedMarketMaker requires the features lob_shared_v1, not lob_shared_v2",
        "diff",
    ),
    "a venue that is not configured": (
        {"venue": "papr"},
        {},
        "venue 'papr' is not configured",
        "mean paper?",
    ),
    "a port in use": ({"metrics": "PORT"}, {}, "the port is in use", "another port"),
    "an address of elsewhere": ({"metrics": "0.0.0.0:0"}, {}, "could be reached from elsewhere", "--remote"),
    "no recording": ({"source": "replay:nowhere.gz"}, {}, "nowhere.gz: found nothing", ""),
    "another scheme": ({"source": "live:binance"}, {}, "source: found 'live:binance', ", "replay:PATH"),
    "a path alone": ({"source": __file__}, {}, f"found {__file__!r}", f"did you mean replay:{__file__}?"),
    "no source": ({"source": ""}, {}, "source: found none, expected", "replay:PATH"),
    "messages of nobody": ({"source": f"replay:{__file__}"}, {}, "the source is not clear", "with --feed"),
    "another feed": ({"feed": "binance-spto"}, {}, "feed 'binance-spto'", "did you mean binance-spot?"),
    "a queue without room": ({"queue": "0"}, {}, "queue=0", "a number from 1"),
    "a latency below 0": ({"latency-us": "-1"}, {}, "latency_us=-1", "a number from 0"),
    "a folder that has something else": (
        {"record": "FULL"},
        {},
        "not empty, and no recording",
        "empty folder",
    ),
    "a configuration that is none": ({"config": "nowhere.toml"}, {}, "nowhere.toml", ""),
}


def _given(words: dict[str, str], folder: Path, port: int) -> dict[str, str]:
    files = {
        "CODE:Curious": ("s.py", STRATEGIES),
        "CODE:Needy": ("s.py", STRATEGIES),
        "CODE:Unable": ("s.py", STRATEGIES),
        "CONFLICT": ("c.toml", CONFLICT),
        "BROKEN": ("b.toml", BROKEN),
    }
    out = {}
    for name, value in words.items():
        if value in files:
            path = folder / files[value][0]
            path.write_text(files[value][1], encoding="utf-8")
            out[name] = str(path) + value.removeprefix("CODE") if value.startswith("CODE") else str(path)
        else:
            out[name] = {"PORT": f"127.0.0.1:{port}", "FULL": str(folder)}.get(value, value)
    return out


@pytest.mark.parametrize("what", REFUSED)
def test_refused_before_anything_runs(
    what: str,
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, environment, said, hint = REFUSED[what]
    for name, value in environment.items():
        monkeypatch.setenv(f"HFT_FEATURE_{name}", value)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = _given(words, tmp_path, taken.getsockname()[1])
        line = options(given.pop("source", part), "--allow-code", **given)
        before = sorted(tmp_path.rglob("*"))
        assert main([*line, "--check", "--json"]) == 1
        (refused,) = answer(capsys)["refused"]
        assert said in refused["error"]
        assert hint in (refused["hint"] or "")
        assert main(line) == 2
        told = capsys.readouterr().err
        assert f"error: {refused['error'][:40]}" in told
        assert "running" not in told.replace("running s", "").replace(f"running {tmp_path}", "")
        assert sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in str(path)) == before


def test_a_check_says_everything_at_once(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = options(part, "--check", symbol="ETHUSD", features="lob_shared", venue="real", metrics="8000")
    assert main([*line, "--json"]) == 1
    errors = [one["error"] for one in answer(capsys)["refused"]]
    assert len(errors) == 4
    assert main(line) == 1
    told = capsys.readouterr().err
    assert [text for text in errors if text in told.replace("\n", " ")] == errors


def test_a_check_of_what_would_run_runs_nothing(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, control = tmp_path / "record", tmp_path / "new" / "s.sock"
    more = ("--metrics", "127.0.0.1:0", "--record", str(record), "--check")
    line = options(part, *more, control=str(control))
    before = sorted(tmp_path.rglob("*"))
    assert main(line) == 0
    assert "nothing would be refused" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert main([*line, "--json"]) == 0
    assert answer(capsys) == {"refused": []}


def test_rust_without_the_extension_is_refused(
    part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "_native", None)
    assert main(options(part, "--backend", "rust", "--check")) == 1
    assert "backend 'rust' is not installed" in capsys.readouterr().err
    monkeypatch.setenv("HFT_FEATURE_ENGINE_BACKEND", "rust")
    assert main(options(part)) == 2
    assert "backend 'rust' is not installed" in capsys.readouterr().err


def test_without_the_extra_it_runs_and_metrics_are_refused(
    part: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.chdir(tmp_path)
    assert main(options(part, "--metrics", "127.0.0.1:0")) == 2
    assert "featureplane[ops]" in capsys.readouterr().err
    assert main(options(part, control=str(tmp_path / "s.sock"))) == 2
    assert "featureplane[ops]" in capsys.readouterr().err
    line = options(part, "--json")
    at = line.index("--control")
    assert main([*line[:at], *line[at + 2 :]]) == 0
    assert answer(capsys)["messages"] == 4000


class Child:
    """The command in a process of its own, and the objects it logs."""

    def __init__(self, *words: str, limit: int | None = None) -> None:
        def limited() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        self.process = subprocess.Popen(
            [sys.executable, "-m", "featureplane", *words, "--log-json", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=inherited(),
            preexec_fn=limited,  # noqa: PLW1509 - one thread, and one call
        )
        self.log: list[dict[str, Any]] = []

    def until(self, message: str) -> dict[str, Any]:
        """Read the log until that is said."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(json.loads(line))
            if self.log[-1]["message"] == message:
                return self.log[-1]
        raise AssertionError(f"never said: {message}; {self.log[-3:]}")

    def end(self) -> Any:
        """Wait for the end; what it answered."""
        out, err = self.process.communicate(timeout=60)
        self.log += [json.loads(line) for line in err.splitlines()]
        return json.loads(out) if out else None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_cancels_flushes_and_exits_with_0(number: int, tmp_path: Path) -> None:
    record, control = tmp_path / "record", tmp_path / "s.sock"
    words = options(
        f"replay:{SAMPLE}@30", "--latency-us", "500", "--record", str(record), control=str(control)
    )
    child = Child(*words)
    child.until("order accepted")
    child.until("order accepted")
    child.process.send_signal(number)
    told = child.end()
    assert child.process.returncode == 0
    ends = sum(told["orders"].get(kind, 0) for kind in ("filled", "cancelled", "rejected", "expired"))
    sent = told["strategies"]["SharedMarketMaker"]["submitted"] - sum(told["refused"].values())
    assert ends == sent >= 2
    assert 0 < told["messages"] < len(sample_lines())
    kept = list(raw_lines(raw_files(record)))
    assert kept == sample_lines(told["messages"])
    assert sum(path.stat().st_size for path in frame_files(record)) == told["frames"] * 208
    assert child.log[-1]["message"] == "ended"
    assert not control.exists()


def test_it_is_asked_and_switched_while_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control = tmp_path / "s.sock"
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = options(f"replay:{SAMPLE}@20", "--metrics", address, strategy=f"mm={FORMS}", control=str(control))
    child = Child(*words)
    child.until("order accepted")
    assert main(["strategy", "set", "mm", "legacy", "--control", str(control)]) == 0
    said = child.until("a strategy was switched")
    assert (said["strategy"], said["before"], said["now"]) == ("mm", "shared", "legacy")
    child.until("order accepted")
    assert main(["strategy", "set", "mm", "off", "--control", str(control), "--json"]) == 0
    assert answer(capsys)["changed"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as page:
        text = page.read().decode()
    assert 'strategy_running{strategy="mm"} 0.0' in text
    assert main(options(f"replay:{SAMPLE}", "--check", control=str(control))) == 1
    assert "a service answers there" in capsys.readouterr().err
    child.process.send_signal(signal.SIGTERM)
    told = child.end()
    assert child.process.returncode == 0
    assert told["strategies"]["mm"]["stopped_by"] is None
    assert (
        f'strategy_decisions_total{{kind="submit",strategy="mm"}} {told["strategies"]["mm"]["submitted"]}.0'
        in text
    )


def test_killed_at_any_moment_it_leaves_a_recording_that_can_be_read(tmp_path: Path) -> None:
    lines = sample_lines()
    for number in range(3):
        record = tmp_path / f"record{number}"
        child = Child(*options(f"replay:{SAMPLE}", "--record", str(record), "--log-level", "info"))
        for _ in range(40 * (number + 1)):
            child.until("order accepted")
        child.process.kill()
        child.process.communicate(timeout=60)
        kept = list(raw_lines(raw_files(record)))
        assert 1000 < len(kept) < len(lines)
        assert kept == lines[: len(kept)]
        layout = FrameLayout.of(V1, {one.symbol_id: one.symbol for one in load_instruments(INSTRUMENTS)})
        seqs = [frame.seq for frame in read_frames(frame_files(record), layout)]
        assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) > 100


def test_an_order_can_be_followed_from_its_message_by_one_id(part: str) -> None:
    child = Child(*options(part))
    child.end()
    submits = [one for one in child.log if one["message"] == "order submit" and one["outcome"] == "sent"]
    assert len(submits) > 2
    for one in submits:
        followed = [line for line in child.log if line.get("order") == one["order"] and "ts_ns" in line]
        assert {line["trace"] for line in followed} == {one["trace"]}
        assert one["trace"].startswith("m")
        assert any(line.startswith(str(one["local_ts_ns"]).encode()) for line in sample_lines(4000))


def test_a_full_disk_under_record_stops_the_recording_alone(part: str, tmp_path: Path) -> None:
    record = tmp_path / "record"
    child = Child(*options(part, "--record", str(record)), limit=150_000)
    told = child.end()
    assert child.process.returncode == 0
    assert told["messages"] == 4000
    (said,) = [one for one in child.log if one["message"] == "the recording ends here, the service goes on"]
    assert said["error"] == os.strerror(27)
    kept = list(raw_lines(raw_files(record)))
    assert 0 < len(kept) < 4000
    assert kept == sample_lines(len(kept))


def test_a_recording_damaged_on_the_way_ends_it_with_2(tmp_path: Path) -> None:
    torn = tmp_path / "torn.gz"
    torn.write_bytes(SAMPLE.read_bytes()[:300_000])
    child = Child(*options(f"replay:{torn}", "--instruments", str(INSTRUMENTS), "--log-level", "error"))
    out, err = child.process.communicate(timeout=60)
    assert child.process.returncode == 2
    assert "inside gzip data" in err
    assert out == ""
