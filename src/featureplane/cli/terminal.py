"""What commands say and how: data on standard output, talk on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

__all__ = ["Counts", "counting", "print_facts", "print_json", "print_table", "say", "say_error"]


class Counts(Protocol):
    """What a run tells while it goes on."""

    events: int
    frames: int


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
        elif isinstance(value, (list, tuple)):
            for number, item in enumerate(value):
                inside = item if isinstance(item, Mapping) else {"": item}
                yield from _flat(inside, f"{prefix}{name}.{number}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield (prefix + name).rstrip("."), f"{value:,}"
        elif value is not None:
            yield (prefix + name).rstrip("."), str(value)


@contextmanager
def counting(what: str) -> Iterator[Callable[[Counts], None] | None]:
    """A line that counts events and frames while work goes on; None where nobody watches."""
    console = _to_people()
    if not console.is_terminal:
        yield None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def show(counts: Counts) -> None:
            text = f"{what}  {counts.events:,} events  {counts.frames:,} frames"
            progress.update(task, description=text)

        yield show


def _to_people() -> Console:
    return Console(stderr=True, highlight=False)
