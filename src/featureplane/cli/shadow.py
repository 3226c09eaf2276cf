"""`featureplane shadow`: what a running service is compared with, seen and set."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from featureplane.cli.options import Control, Json
from featureplane.cli.terminal import print_facts, print_json, say
from featureplane.errors import StateError
from featureplane.services.configuration import CONTROL, SHADOW_LAST

__all__ = ["shadow"]

_CONTROL: Final = Path(CONTROL)

shadow = App(
    name="shadow",
    help="What a running service is compared with: see it, set it.",
    help_epilogue="Example:\n  featureplane shadow last",
)


@shadow.command(
    name="status",
    help_epilogue="Exit status: 0 told, 2 no service answers, or it has no shadow\n\n"
    "Example:\n  featureplane shadow status",
)
def status(*, control: Control = _CONTROL, json: Json = False) -> int:
    """Show what is compared with a running service, and what came of it."""
    from featureplane.services.control import ask_service

    answer = ask_service(control, "shadow")
    if json:
        print_json(answer)
    else:
        by_name, left_out = answer.pop("by_name"), answer.pop("left_out")
        print_facts(answer)
        for name, count in by_name.items():
            say(f"  {name}: {count} mismatches")
        for name, why in left_out.items():
            say(f"  {name}: not compared, {why}")
    return 0


@shadow.command(
    name="last",
    help_epilogue="Exit status: 0 shown, 1 there is none, 2 no service answers and none was written\n\n"
    "Example:\n  featureplane shadow last --symbol ETHUSDT",
)
def last(
    *,
    symbol: Annotated[str | None, Parameter(help="Of this symbol; else of all.")] = None,
    control: Control = _CONTROL,
    json: Json = False,
) -> int:
    """Show the last mismatch: both frames, and the commands that replay to it.

    Of a service that has ended it is read from the file it wrote.
    """
    from featureplane.services.control import ask_service

    written: Path | None = None
    try:
        where = "shadow/last" if symbol is None else f"shadow/last/{symbol}"
        found = ask_service(control, where)["last"]
    except StateError:
        written = Path(SHADOW_LAST)
        found = _written(written, symbol)
        if found is None:
            raise
    if json:
        print_json({"last": found, "written_to": None if written is None else str(written)})
    elif found is None:
        say("no mismatch")
    else:
        if written is not None:
            say(f"from {written}: no service with a shadow answers, this is what an earlier one left")
        _show(found)
    return 0 if found is not None else 1


@shadow.command(
    name="set",
    help_epilogue="Exit status: 0 set, 2 refused, or no service answers\n\n"
    "Example:\n  featureplane shadow set --sample-every 64",
)
def set_sampling(
    *,
    sample_every: Annotated[int, Parameter(help="Compare every so manieth computed frame of a symbol.")],
    control: Control = _CONTROL,
    json: Json = False,
) -> int:
    """Let a running service compare more often, or less."""
    from featureplane.services.control import ask_service

    answer = ask_service(control, "shadow", {"sample_every": sample_every})
    if json:
        print_json(answer)
    else:
        say(f"every {answer['sample_every']}")
    return 0


def _written(path: Path, symbol: str | None) -> dict[str, Any] | None:
    """What a service wrote that has ended."""
    try:
        by_symbol: dict[str, dict[str, Any]] = json_.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return by_symbol.get(symbol) if symbol is not None else next(reversed(by_symbol.values()), None)


def _show(found: dict[str, Any]) -> None:
    facts = ("at", "pid", "symbol", "seq", "until", "feature_set", "shadow_set")
    print_facts({name: found.get(name) for name in facts} | {"pid": str(found.get("pid"))})
    for name, (left, right) in found["differs"].items():
        say(f"  {name}: live {left}, shadow {right}")
    for side in ("live", "shadow"):
        values = ", ".join(f"{name}={value}" for name, value in found[f"{side}_values"].items())
        say(f"{side} frame: {values}")
        say(f"  {found[side]}")
    say("see it again:")
    for command in found["replay"]:
        say(f"  {command}")
