"""The command `featureplane` as a whole: its nouns, its errors, its exit status."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter

from featureplane import __version__
from featureplane.cli import interrupt
from featureplane.cli.backfill import backfill
from featureplane.cli.backtest import backtest
from featureplane.cli.bench import bench
from featureplane.cli.capture import capture
from featureplane.cli.convert import convert
from featureplane.cli.data import data
from featureplane.cli.demo import demo
from featureplane.cli.doctor import doctor
from featureplane.cli.features import features
from featureplane.cli.incident import incident
from featureplane.cli.instruments import instruments
from featureplane.cli.ops import ops
from featureplane.cli.parity import parity
from featureplane.cli.reconcile import reconcile
from featureplane.cli.replay import replay
from featureplane.cli.rollout import rollout
from featureplane.cli.run import run
from featureplane.cli.shadow import shadow
from featureplane.cli.store import store
from featureplane.cli.strategy import strategy
from featureplane.cli.terminal import say, say_error
from featureplane.cli.trace import trace
from featureplane.errors import FeaturePlaneError, ParityBreach

__all__ = ["DONE", "NO", "UNABLE", "UNHEARD", "app", "main"]

DONE: Final = 0
NO: Final = 1
UNABLE: Final = 2
UNHEARD: Final = 141  # whoever read the output went away; never 0, which would be an answer

app = App(
    name="featureplane",
    help="Order-book features, bit for bit the same in research, backtest and live.",
    help_epilogue="Any command takes --debug: errors come with their traceback.\n\n"
    "Example:\n  featureplane demo",
    help_format="plaintext",
    version=__version__,
    default_parameter=Parameter(negative=()),
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
app.command(backfill)
app.command(backtest)
app.command(bench)
app.command(capture)
app.command(convert)
app.command(data)
app.command(demo)
app.command(doctor)
app.command(features)
features.command(trace)
app.command(incident)
app.command(instruments)
app.command(ops)
app.command(parity)
app.command(reconcile)
app.command(replay)
app.command(rollout)
app.command(run)
app.command(shadow)
app.command(store)
app.command(strategy)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status; errors end here, in words."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        interrupt.watch()
    debug = "--debug" in tokens
    tokens = [word for word in tokens if word != "--debug"]
    heard: object = sys.stdout  # WHY an object: a process begun without one has None there
    if heard is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it stays
    logging.basicConfig(level=logging.WARNING, format="note: %(message)s", stream=sys.stderr)
    try:
        status = app(tokens)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - the outermost layer: it ends here, in words
        if debug and isinstance(error, Exception):
            traceback.print_exception(error)
        return _end(error)
    status = status if isinstance(status, int) else DONE
    return status if heard is not None or status != DONE else UNHEARD


def _end(error: BaseException) -> int:
    """The exit status for what ended a command, after saying what there is to say."""
    if isinstance(error, KeyboardInterrupt) or interrupt.asked():
        say("interrupted")
        return 128 + (interrupt.asked() or signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        # WHY: the reader (`head`, a pager) has seen enough; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNHEARD
    if isinstance(error, Exception):
        return _explain(error)
    raise error


def _wrong(error: CycloptsError) -> str:
    """What the parser found; an option that is not there at all is not one without its value."""
    text, argument = str(error), error.argument
    if not isinstance(error, MissingArgumentError) or argument is None or "Did you mean" in text:
        return text
    if error.keyword is not None or error.tokens_so_far or argument.tokens:
        return text
    return f"{argument.name} is missing"


def _explain(error: Exception) -> int:
    """Say what went wrong and how to go on; the exit status for it."""
    match error:
        case FeaturePlaneError():
            say_error(str(error), error.hint)
        case CycloptsError():
            command = " ".join(("featureplane", *(error.command_chain or ())))
            say_error(_wrong(error), f"`{command} --help` lists what it takes")
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            hint = "is the path right, and may it be read and written?"
            say_error(f"{place}{error.strerror or error}", hint)
        case _:
            say_error(
                f"{type(error).__name__}: {error}", "this should not happen; --debug shows where it did"
            )
    return NO if isinstance(error, ParityBreach) else UNABLE
