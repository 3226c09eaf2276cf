"""Drill: the venue sends what the instruments file does not know, and a strategy meets another set."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from featureplane.cli.app import main
from featureplane.market.instruments import instruments_text, load_instruments
from featureplane.services.control import ask_service
from featureplane.services.recorder import Recorder
from featureplane.services.recording import raw_files
from featureplane.services.replay_source import raw_lines
from tests.drills.page import Page
from tests.drills.scene import scene
from tests.drills.stage import ANN, prepare_rollout, rollout_scene, told
from tests.services import INSTRUMENTS, SOURCE, V1, sample_lines

CONFIG = """
source = "replay:{source}"
symbol = ["ETHUSDT"]
features = "{features}"
instruments = "instruments.toml"
strategy = ["mm=featureplane.strategy.examples.market_maker:SharedMarketMaker"]
control = "off"
"""
_PRICE = re.compile(rb'(\["\d+\.\d\d)0{6}"')


def finer(line: bytes) -> bytes:
    """The same with prices of one more decimal."""
    return _PRICE.sub(rb'\g<1>500000"', line)


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_finer_prices_are_refused_until_they_are_declared(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    lines, known = sample_lines(6_000), load_instruments(INSTRUMENTS)
    changed = [finer(line) for line in lines]
    assert sum(one != other for one, other in zip(changed, lines, strict=True)) > 100
    Path("instruments.toml").write_text(instruments_text(known), encoding="utf-8")
    recorder = Recorder(Path("recording"), SOURCE, known, V1)
    with scene("schema-mismatch", tmp_path, capsys, subscribers=[recorder], instruments=known) as stage:
        stage.feed(lines[:3_000])
        stage.metrics()
        assert stage.readyz()[0] == 200
        stage.feed(changed[3_000:])
        stage.metrics()
        # The symptom.
        refused = stage.value('feature_plane_updates_total{feature_set="lob_shared_v1",result="error"}')
        assert refused > 10
        assert stage.readyz()[0] == 503
        assert stage.value('events_dropped_total{reason="malformed"}') == refused
        assert stage.value('book_broken_total{reason="malformed"}') >= 1
        phases = stage.phases
    lines_told = [one for one in caplog.records if one.getMessage() == "a message cannot be read"]
    assert len(lines_told) == 5
    assert "`price_exponent` is declared as 2, the data have" in lines_told[0].__dict__["fields"]["reason"]
    assert list(raw_lines(raw_files(Path("recording"))))[3_000:] == changed[3_000:]
    # What the page says: the recording tells what there is now.
    page = Page("schema-mismatch", capsys)
    assert "raw-" in page.text
    (recorded,) = raw_files(Path("recording"))
    config = CONFIG.format(source=recorded, features="lob_shared_v1")
    Path("service.toml").write_text(config, encoding="utf-8")
    assert answer(capsys, "run", "--config", "service.toml")["counts"]["dropped"]["malformed"] > 10
    first = next(at for at, line in enumerate(changed[3_000:], 3_001) if line != lines[at - 1])
    said = page.refuse("instruments check", RECORDING=str(recorded))
    assert f"{recorded}:{first}" in said
    before = load_instruments("instruments.toml")[0].price_exponent
    page.run("instruments infer", RECORDING=str(recorded))
    assert load_instruments("instruments.toml")[0].price_exponent == before + 1
    # Its effect, and the recovery.
    page.run("instruments check", RECORDING=str(recorded))
    assert "nothing would be refused" in page.run("run --config service.toml --check")
    told = answer(capsys, "run", "--config", "service.toml")
    assert "malformed" not in told["counts"].get("dropped", {})
    with scene(
        "schema-mismatch", tmp_path, capsys, instruments=load_instruments("instruments.toml")
    ) as stage:
        stage.feed(changed)
        stage.metrics(40)
        assert stage.readyz()[0] == 200
        assert stage.value('feature_plane_updates_total{feature_set="lob_shared_v1",result="error"}') == 0
        stage.phases = [*phases[:2], *stage.phases]
        stage.alarms("MessagesUnreadable")


def test_a_strategy_that_meets_another_set_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = Page("schema-mismatch", capsys)
    Path("instruments.toml").write_text(instruments_text(load_instruments(INSTRUMENTS)), encoding="utf-8")
    Path("part.txt").write_bytes(b"\n".join(sample_lines(3_000)) + b"\n")
    config = CONFIG.format(source="part.txt", features="lob_shared_v2")
    Path("service.toml").write_text(config, encoding="utf-8")
    assert "feature set" in page.look("run --config service.toml --check")
    assert main(["run", "--config", "service.toml"]) == 2
    capsys.readouterr()
    assert "ofi" in page.look("features diff", OTHER="lob_shared_v2")
    Path("service.toml").write_text(config.replace("_v2", "_v1"), encoding="utf-8")
    assert "nothing would be refused" in page.run("run --config service.toml --check")
    assert answer(capsys, "run", "--config", "service.toml")["symbols"] == ["ETHUSDT"]


def test_two_contents_under_one_name_are_told_by_their_fingerprints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one service says of itself, and another with a set of the same name."""
    with scene("schema-mismatch", tmp_path, capsys) as stage:
        one = stage.metrics()
        other = one.replace(V1.fingerprint, "0" * 64).splitlines()
        both = one + "\n".join(line for line in other if line.startswith("feature_set_info{")) + "\n"
        stage.phases = [stage.phases[0], replace(stage.phases[0], text=both), stage.phases[0]]
        stage.alarms("FeatureSetsDiffer")


@pytest.mark.native
def test_a_candidate_that_consumers_do_not_expect_is_refused_by_name_and_taken_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_rollout(tmp_path, monkeypatch)
    lines = sample_lines(9_000)
    with rollout_scene("schema-mismatch", tmp_path, capsys) as stage:
        stage.feed(lines[:3_000])
        told(stage, "enable")
        told(stage, "shadow", "lob_shared_v2")
        stage.feed(lines[3_000:6_000])
        control = ["--control", str(stage.page.control)]
        assert main(["rollout", "canary", "--strategy", "mm", *ANN, *control]) == 2
        assert "mm" in capsys.readouterr().err
        frames = stage.running.frames
        stage.page.run("rollout rollback", NAME="ann")
        stage.feed(lines[6_000:])
        assert stage.running.frames > frames
        answer = ask_service(tmp_path / "s.sock", "rollout")
        assert (answer["phase"], answer["candidate"]) == ("active", None)
        assert answer["history"][-1]["cause"] == "schema"
        assert stage.running.forms() == {"mm": "shared", "other": "shared"}
