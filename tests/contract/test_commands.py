"""What every command owes: a summary, its exit status, an example that can be pasted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cyclopts import App

from featureplane.cli.app import app, main


def commands(node: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command that does something, and of the program itself."""
    names = [name for name in node if not name.startswith("-")]
    if not names or not path:
        yield path
    for name in names:
        yield from commands(node[name], (*path, name))


COMMANDS = list(commands(app))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_a_summary_and_an_example(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    usage, summary = [line for line in text.splitlines() if line.strip()][:2]
    assert usage.startswith(" ".join(("Usage: featureplane", *command)))
    assert summary.rstrip().endswith("."), "the summary is one sentence"
    assert f"Example:\n  {' '.join(('featureplane', *command))}" in text
    assert not command or "Exit status: 0 " in text


def test_all_commands_of_the_contract_are_there() -> None:
    assert {" ".join(command) for command in COMMANDS} >= {"doctor"}
