"""`featureplane replay`: recordings into a file, or into plain words and no file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import featureplane as fp
from featureplane.cli import main

SAMPLE = str(Path(fp.__file__).parent / "sample" / "ethusdt_20240808.gz")
WORDS = ["replay", SAMPLE, "--source", "binance-spot", "--features", "lob_shared_v1"]


def test_the_file_and_the_answer_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "day.parquet"
    assert main([*WORDS, "--out", str(out), "--every", "1s", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.keys() >= {
        "events", "messages", "frames", "dropped", "flags", "seconds", "rows", "instrument", "undefined_here",
        "resets", "broken", "set", "fingerprint", "version",
    }  # fmt: skip
    assert answer["frames"] == pq.read_metadata(out).num_rows > 300
    assert answer["instrument"]["inferred"] is True
    assert (answer["resets"], answer["broken"]) == ({"daily": 1, "first": 1, "recovery": 1}, {})
    assert list(tmp_path.iterdir()) == [out]


def test_one_frame_in_so_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "day.parquet"
    assert main([*WORDS, "--out", str(out), "--every", "100", "--json"]) == 0
    capsys.readouterr()
    assert pq.read_table(out)["seq"].to_pylist() == list(range(100, 3_401, 100))


def test_an_answer_that_nobody_can_hear_is_none(tmp_path: Path) -> None:
    words = [*WORDS, "--out", str(tmp_path / "day.parquet"), "--json"]
    shell = ["bash", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "featureplane", *words]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_without_json_people_get_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--out", str(tmp_path / "day.parquet")]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert said["set"] == "lob_shared_v1"
    assert said["messages"] == "33,618"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--symbol", "BTCUSDT"], "these are: ETHUSDT", id="another symbol"),
        pytest.param(["--every", "3x"], "a period such as", id="a period that is none"),
        pytest.param(["--features", "nothing"], "there are: lob_shared_v1", id="a set nobody knows"),
        pytest.param(["--instruments", "/nowhere.toml"], "/nowhere.toml", id="no instruments file"),
        pytest.param(["--seed-after", "5"], "increments", id="an option beside its own"),
    ],
)
def test_bad_arguments_leave_nothing(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*WORDS, "--out", str(tmp_path / "day.parquet"), *words]
    if "--features" in words:
        del command[4:6]
    assert main(command) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert said in captured.err
    assert list(tmp_path.iterdir()) == []


def test_a_python_file_that_talks_leaves_one_object_on_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import featureplane as fp\n"
        "from featureplane.features import kernels as k\n"
        "print('here I am')\n"
        "mine = fp.FeatureSet('mine_v1', features={'mid': k.mid_x2()})\n",
        encoding="utf-8",
    )
    words = [*WORDS[:-1], str(mine), "--allow-code", "--out", str(tmp_path / "day.parquet"), "--json"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["set"] == "mine_v1"
    assert "here I am" in captured.err


@pytest.mark.parametrize("command", ["replay", pytest.param("parity", marks=pytest.mark.native)])
def test_a_file_cannot_give_the_id_of_a_shipped_set_to_another(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken.toml"
    taken.write_text('id = "lob_shared_v1"\n[features]\nbest_bid = "best_ask()"\n', encoding="utf-8")
    out = ["--out", str(tmp_path / "day.parquet")] if command == "replay" else []
    assert main([command, *WORDS[1:-1], str(taken), *out]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert "'lob_shared_v1' is already defined otherwise" in error
    assert "another id" in hint
    assert list(tmp_path.iterdir()) == [taken]
    assert main(["features", "diff", "lob_shared_v1", str(taken)]) == 1, "they can still be compared"


@pytest.mark.parametrize(
    ("number", "status"),
    [pytest.param(signal.SIGINT, 130, id="Ctrl-C"), pytest.param(signal.SIGTERM, 143, id="told to end")],
)
def test_an_end_in_the_middle_leaves_nothing_behind(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    out = tmp_path / "day.parquet"
    words = ["replay", "synthetic:1:20000000", "--source", "synthetic", "--features", "lob_shared_v1"]
    command = [sys.executable, "-m", "featureplane", *words, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()):  # the file under another name, until it is whole
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
