"""`featureplane parity`: what it answers and with which exit status."""

from __future__ import annotations

import json
import shlex

import pytest

from featureplane import native
from featureplane.cli import main
from featureplane.features.native_engine import NativeEngine
from featureplane.market.synthetic import synthetic_instruments

WORDS = ["parity", "synthetic:3:4000", "--source", "synthetic", "--features", "lob_shared_v1"]


@pytest.mark.native
def test_agreement_is_0_and_says_how_much_it_proves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.keys() >= {"events", "frames", "features", "mismatches", "first_mismatch"}
    assert (answer["mismatches"], answer["first_mismatch"]) == (0, None)
    assert answer["frames"] > 500
    assert answer["rate_bound"] == pytest.approx(3 / answer["frames"])


@pytest.mark.native
def test_disagreement_is_1_and_shows_the_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drop one frame of the Rust side on its way to the comparison."""
    whole = NativeEngine.process
    monkeypatch.setattr(NativeEngine, "process", lambda engine, events: list(whole(engine, events))[:-1])
    assert main([*WORDS, "--until", "2000", "--json"]) == 1
    first = json.loads(capsys.readouterr().out)["first_mismatch"]
    assert first["differs"]
    assert main([*WORDS, "--until", "2000"]) == 1
    told = capsys.readouterr().err
    assert f"--until {first['event']}" in told
    assert f"reference frame: {first['reference']}" in told


@pytest.mark.native
def test_the_command_that_is_told_shows_the_mismatch_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = NativeEngine.process
    monkeypatch.setattr(NativeEngine, "process", lambda engine, events: list(whole(engine, events))[:-1])
    reading = ["--seed", "increments", "--seed-after", "7", "--on-gap", "continue", "--on-malformed", "drop"]
    symbol = ["--symbol", synthetic_instruments(1)[0].symbol]
    assert main([*WORDS, *symbol, *reading, "--allow-code", "--until", "2000"]) == 1
    *_, told = capsys.readouterr().err.splitlines()
    command = shlex.split(told.partition("see it again: featureplane ")[2])
    assert {*reading, *symbol, "--allow-code"} <= {*command}
    assert main(command) == 1
    assert capsys.readouterr().err.splitlines()[-1] == told


@pytest.mark.native
@pytest.mark.parametrize(
    ("until", "said"), [("1", "let `until` reach further"), ("0", "above 0"), ("-5", "above 0")]
)
def test_nothing_to_compare_is_2(until: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--until", until]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert said in hint


def test_without_the_extension_it_is_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_native", None)
    assert main(WORDS) == 2
    assert "doctor" in capsys.readouterr().err
