"""What commands say and how: data on standard output, talk on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_json", "print_table", "say", "say_error"]


def say(text: str, style: str = "") -> None:
    """One line to people, on standard error."""
    _to_people().print(Text(text, style=style), soft_wrap=True)


def say_error(message: str, hint: str | None = None) -> None:
    """An error and what to do about it, one line each."""
    console = _to_people()
    console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    if hint:
        console.print(Text.assemble(("hint: ", "bold cyan"), hint), soft_wrap=True)


def print_json(answer: Mapping[str, object]) -> None:
    """The one JSON object of a command, on standard output. NaN is no JSON: it is refused."""
    sys.stdout.write(json.dumps(answer, indent=2, allow_nan=False) + "\n")


def print_table(table: Table) -> None:
    """A table on standard output: fitted to a terminal, whole and without padding when piped."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    console.width = 1000
    with console.capture() as captured:
        console.print(table)
    sys.stdout.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())


def _to_people() -> Console:
    return Console(stderr=True, highlight=False)
