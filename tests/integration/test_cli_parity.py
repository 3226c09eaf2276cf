"""`featureplane parity`: what it answers and with which exit status."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from featureplane import native
from featureplane.cli import main
from featureplane.features.native_engine import NativeEngine
from featureplane.features.parity import ParityReport
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


@pytest.mark.parametrize("frames", [3, 4, 10, 1_000, 41_250, 10_000_000])
def test_rule_10_4_a_rate_at_the_bound_would_have_shown_itself(frames: int) -> None:
    """Were frames unlike at a rate of 3 / n, n of them would show none in less than 5 % of all cases."""
    report = ParityReport("set", "", ("block",), 16, frames=frames)
    assert report.rate_bound == pytest.approx(3 / frames)
    assert (1 - report.rate_bound) ** frames < 0.05
    assert (1 - 2.9 / frames) ** frames > 0.05 or frames < 1_000


@pytest.mark.parametrize(("frames", "mismatches"), [(0, 0), (1, 0), (2, 0), (1_000, 1), (0, 1)])
def test_rule_10_4_too_few_frames_or_a_mismatch_bound_nothing(frames: int, mismatches: int) -> None:
    report = ParityReport("set", "", ("block",), 16, frames=frames, mismatches=mismatches)
    assert report.rate_bound == 1.0


@pytest.mark.native
def test_rule_10_4_the_bound_stands_beside_the_zero_in_every_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(WORDS) == 0
    told = capsys.readouterr()
    frames = int(told.out.split(" frames, ")[0].split()[-1].replace(",", ""))
    assert "0 mismatches" in told.out
    assert f"zero in {frames:,} bounds the rate by {3 / frames:.1e}" in told.err
    assert main(["demo", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr()
    line = next(line for line in told.out.splitlines() if "frames differ" in line)
    frames = int(line.split(" of ")[1].split()[0].replace(",", ""))
    bound = f"{3 / frames:.1e}"
    assert line.endswith(f"which bounds their rate by {bound}")
    assert f"bounds the rate of differing frames by {bound}" in (tmp_path / "report.html").read_text()


@pytest.mark.native
def test_disagreement_is_1_and_shows_the_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drop one frame of the Rust side on its way to the comparison."""
    whole = NativeEngine.process
    monkeypatch.setattr(NativeEngine, "process", lambda engine, events: list(whole(engine, events))[:-1])
    assert main([*WORDS, "--until", "2000", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    first = answer["first_mismatch"]
    assert first["differs"]
    assert answer["rate_bound"] == 1.0  # one that differs proves no rate
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
