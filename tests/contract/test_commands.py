"""What every command owes: a summary, its exit status, an example that can be pasted."""

from __future__ import annotations

import pytest

from featureplane.cli.app import main
from scripts.commands_page import commands

COMMANDS = list(commands())


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_a_summary_and_an_example(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    usage, summary = (" ".join(part.split()) for part in text.split("\n\n")[:2])
    assert usage.startswith(" ".join(("Usage: featureplane", *command)))
    assert summary.endswith("."), "the summary is one sentence"
    assert f"Example:\n  {' '.join(('featureplane', *command))}" in text
    assert not command or "Exit status: 0 " in text


def test_all_commands_of_the_contract_are_there() -> None:
    assert {" ".join(command) for command in COMMANDS} >= {
        "backtest",
        "bench",
        "capture",
        "convert",
        "data inspect",
        "data verify",
        "demo",
        "doctor",
        "features diff",
        "features list",
        "features show",
        "features trace",
        "instruments check",
        "instruments infer",
        "parity",
        "replay",
        "run",
        "strategy list",
        "strategy set",
    }
