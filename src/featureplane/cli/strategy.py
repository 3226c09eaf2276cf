"""`featureplane strategy`: the strategies of a running service, seen and switched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import App, Parameter

from featureplane.cli.options import Control, Json
from featureplane.cli.terminal import print_facts, print_json, say
from featureplane.services.configuration import CONTROL

__all__ = ["strategy"]

_CONTROL: Final = Path(CONTROL)

strategy = App(
    name="strategy",
    help="Strategies of a running service: see them, switch their form.",
    help_epilogue="Example:\n  featureplane strategy list",
)


@strategy.command(
    name="list",
    help_epilogue="Exit status: 0 listed, 2 no service answers\n\nExample:\n  featureplane strategy list",
)
def list_forms(*, control: Control = _CONTROL, json: Json = False) -> int:
    """List the strategies of a running service, each with the form it runs in."""
    from featureplane.services.control import ask_service

    answer = ask_service(control, "strategies")
    if json:
        print_json(answer)
    else:
        print_facts(answer["strategies"])
    return 0


@strategy.command(
    name="set",
    help_epilogue="Exit status: 0 it runs so now, or did already, 2 refused, or no service answers\n\n"
    "Example:\n  featureplane strategy set SharedMarketMaker legacy",
)
def set_form(
    name: Annotated[str, Parameter(name="NAME", help="As `featureplane strategy list` has it.")],
    form: Annotated[Literal["legacy", "shared", "off"], Parameter(name="FORM")],
    /,
    *,
    control: Control = _CONTROL,
    json: Json = False,
) -> int:
    """Let a strategy go on in another form, or not at all, between two messages.

    Its working orders are cancelled, and its positions go over.

    Parameters
    ----------
    form
        legacy computes its features itself, shared reads them, off does nothing.
    """
    from featureplane.services.control import ask_service

    answer = ask_service(control, f"strategies/{name}", {"form": form})
    if json:
        print_json(answer)
    else:
        say(f"{name}: {form}" if answer["changed"] else f"{name}: {form} already")
    return 0
