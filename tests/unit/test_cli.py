"""The command line as a whole: what it says, where, and with which exit status."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from cyclopts import App

from featureplane.cli import app as application
from featureplane.cli import main
from featureplane.cli.doctor import examine
from featureplane.errors import ParityBreach, UnknownSymbol, UnreadableFile


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> App:
    """A program whose only command raises what it is given."""
    app = App(
        name="featureplane",
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    monkeypatch.setattr(application, "app", app)
    return app


def test_doctor_names_the_backend(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert status == (0 if answer["usable"] else 1)
    assert "rust backend" in {finding["part"] for finding in answer["findings"]}
    assert all(finding["fix"] for finding in answer["findings"] if finding["state"] != "ok")


def test_doctor_tells_settings_and_what_is_wrong_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> tuple[str, str]:
        return next((one.state, one.found) for one in examine() if one.part == "settings")

    assert found() == ("ok", "as by default")
    monkeypatch.setenv("HFT_FEATURE_LATENCY_SAMPLE_EVERY", "8")
    monkeypatch.setenv("HFT_FEATURE_ENGINE_ENABLED", "0")
    assert found() == ("ok", "HFT_FEATURE_ENGINE_ENABLED=0, HFT_FEATURE_LATENCY_SAMPLE_EVERY=8")
    monkeypatch.setenv("HFT_FEATURE_LATENCY_SAMPLE_EVERY", "0")
    assert found() == ("broken", "HFT_FEATURE_LATENCY_SAMPLE_EVERY=0")


def test_doctor_from_sources_says_that_extras_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featureplane.cli.doctor._requirements", lambda: ([], {}))
    last = examine()[-1]
    assert (last.state, last.found) == ("absent", "not installed, extras unknown")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["doctr"], "Did you mean", id="unknown command"),
        pytest.param(["doctor", "--jsn"], "--json", id="unknown option"),
    ],
)
def test_bad_arguments_exit_2_with_a_hint(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    error, hint = captured.err.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert hint.startswith("hint: `featureplane")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(UnreadableFile("a.gz", "a directory", "a file", hint="look again"), 2, id="bad input"),
        pytest.param(ParityBreach("frame 1", "1", "2", replay="again"), 1, id="disagreement"),
        pytest.param(PermissionError(13, "Permission denied", "a.gz"), 2, id="operating system"),
    ],
)
def test_errors_are_words_and_a_status(
    raising: App, error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    @raising.command
    def fail() -> None:
        raise error

    assert main(["fail"]) == status
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]
    assert main(["fail", "--debug"]) == status, "the answer is the same"
    captured = capsys.readouterr()
    assert captured.err.startswith("Traceback")
    assert captured.err.splitlines()[-2:] == lines


def test_what_is_said_cannot_steer_the_terminal(raising: App, capsys: pytest.CaptureFixture[str]) -> None:
    @raising.command
    def fail() -> None:
        raise UnknownSymbol("ETH", ["BTC\x1b[2J", "A\nB"])

    assert main(["fail"]) == 2
    assert capsys.readouterr().err.splitlines()[1:] == ["hint: these are: BTC\ufffd[2J, A B"]


def test_ctrl_c_exits_130(raising: App, capsys: pytest.CaptureFixture[str]) -> None:
    @raising.command
    def wait() -> None:
        raise KeyboardInterrupt

    assert main(["wait"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_leaves_early_gets_no_traceback_and_no_0() -> None:
    command = (
        f"{sys.executable} -m featureplane features show lob_shared_v2 --json | true; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "141\n"
    assert "Traceback" not in done.stderr


def test_ctrl_c_while_the_commands_load_exits_130_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "featureplane.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "featureplane.cli.app")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    assert main(["doctor"]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")
