"""What commands say and how: data on standard output, talk on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from featureplane.cli import interrupt

__all__ = ["counting", "print_facts", "print_json", "print_table", "say", "say_error", "watching"]


def say(text: str, style: str = "") -> None:
    """One line to people, on standard error."""
    _to_people().print(Text(_harmless(text), style=style), soft_wrap=True)


def say_error(message: str, hint: str | None = None) -> None:
    """An error and what to do about it, one line each."""
    console = _to_people()
    console.print(Text.assemble(("error: ", "bold red"), _harmless(message)), soft_wrap=True)
    if hint:
        console.print(Text.assemble(("hint: ", "bold cyan"), _harmless(hint)), soft_wrap=True)


def _harmless(text: str) -> str:
    """The text in one line, without what could steer a terminal: names and symbols come from anywhere."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


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


def print_facts(answer: Mapping[str, object]) -> None:
    """Names and values as a table of two columns; what is inside another thing gets dotted names."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _flat(answer):
        table.add_row(Text(name), Text(value))
    print_table(table)


def _flat(answer: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in answer.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            numbered = {str(number): item for number, item in enumerate(value)}
            yield from _flat(numbered, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, str(value) if name.endswith("_id") else _said(value)


def _said(value: object) -> str:
    if isinstance(value, (list, tuple)):  # commas stand between items, so not in numbers
        nested = (f"({_said(item)})" if isinstance(item, (list, tuple)) else str(item) for item in value)
        return ", ".join(nested)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


@contextmanager
def counting(what: str) -> Iterator[Callable[[str], None]]:
    """A line that moves while work goes on and takes what there is to count; silent where nobody watches."""
    console = _to_people()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)

        def tell(counts: str) -> None:
            interrupt.check()
            progress.update(task, description=f"{what}  {counts}")

        yield tell


@contextmanager
def watching(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A bar that is moved by so much, and says what is done now and how long it will take."""
    console = _to_people()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)

        def move(by: int, now: str) -> None:
            interrupt.check()
            progress.update(task, advance=by, description=now)

        yield move


def _to_people() -> Console:
    return Console(stderr=True, highlight=False)
