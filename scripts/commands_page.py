"""docs/reference/commands.md: the help of every command, as it is printed."""

from __future__ import annotations

import io
from collections.abc import Iterator

from cyclopts import App
from rich.console import Console

from featureplane.cli.app import app

__all__ = ["commands", "commands_page"]

INTRODUCTION = """\
Data go to standard output, everything said to people to standard error; `--json` prints one object.
Errors are two lines, `error:` and `hint:`, without a traceback unless `--debug` is given. Exit status of
every command: 0 done; 1 the answer is no (disagreement, a check that failed); 2 it could not be done (bad
input, bad arguments); 130 after Ctrl-C, 143 when told to end, with nothing left
behind; 141 when the reader of the output went away before the answer was out."""


def commands(node: App = app, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command that does something, the program itself first."""
    names = [name for name in node if not name.startswith("-")]
    if not names or not path:
        yield path
    for name in names:
        yield from commands(node[name], (*path, name))


def help_text(command: tuple[str, ...]) -> str:
    """What `--help` prints, 100 columns wide, without colour."""
    console = Console(file=io.StringIO(), width=100, color_system=None, force_terminal=False)
    app.help_print([*command], console=console)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().strip().splitlines())


def commands_page() -> Iterator[str]:
    """The page, line by line."""
    yield from ("# Commands", "", INTRODUCTION)
    for command in commands():
        yield from (
            "",
            f"## `{' '.join(('featureplane', *command))}`",
            "",
            "```text",
            help_text(command),
            "```",
        )
    yield ""
