"""`featureplane rollout`: a feature set or profile from the shadow to everybody, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from featureplane.cli.options import AllowCode, Control, Json
from featureplane.cli.terminal import print_facts, print_json, print_table, say
from featureplane.errors import NoService
from featureplane.services.configuration import CONTROL

__all__ = ["rollout"]

_CONTROL: Final = Path(CONTROL)
_CHANGED: Final = "Exit status: 0 changed, 2 refused, or the state cannot be read or written\n\nExample:\n  "


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What every change is asked with."""

    by: Annotated[str, Parameter(help="Who asks for it; stands in the history.")]
    why: Annotated[str, Parameter(help="Why; stands in the history.")]
    control: Control = _CONTROL
    allow_code: AllowCode = False
    json: Json = False


SetOrFile = Annotated[
    str, Parameter(name="SET_OR_FILE", help="The id of a shipped set, or the file of a set or profile.")
]

rollout = App(
    name="rollout",
    help="Bring a feature set or profile from the shadow to everybody, and back.",
    help_epilogue="A running service is asked and follows at once; where none runs the state file is "
    "changed, and the next start follows it.\n\nExample:\n  featureplane rollout status",
)


@rollout.command(
    name="status",
    help_epilogue="Exit status: 0 told, 2 the state cannot be read\n\n"
    "Example:\n  featureplane rollout status",
)
def status(*, control: Control = _CONTROL, json: Json = False) -> int:
    """Show phase, versions, the evidence beside each criterion, and the history."""
    from featureplane.services.control import ask_service
    from featureplane.services.rollout.steps import about_rollout

    try:
        answer = ask_service(control, "rollout")
    except NoService:
        place = _place()
        answer = about_rollout(place, place.file.read()) | {"service": None}
    if json:
        print_json(answer)
    else:
        _show(answer)
    return 0


@rollout.command(
    name="shadow",
    help_epilogue=f'{_CHANGED}featureplane rollout shadow slow.toml --by ann --why "slower averages"',
)
def shadow(
    candidate: SetOrFile,
    /,
    *,
    beside: Annotated[
        str | None,
        Parameter(help="What it is compared with, where no version is active and no service runs."),
    ] = None,
    again: Annotated[
        bool, Parameter(show_default=False, help="Begin again with a version that was rolled back.")
    ] = False,
    said: Said,
) -> int:
    """Begin with a candidate: it is compared with the active version, and nobody consumes it."""
    return _change("shadow", said, version=_named(candidate), beside=_named(beside), again=again)


@rollout.command(
    name="canary",
    help_epilogue=f'{_CHANGED}featureplane rollout canary --strategy maker --by ann --why "no mismatch"',
)
def canary(
    *,
    strategy: Annotated[
        list[str],
        Parameter(consume_multiple=True, help="Those that consume the candidate, by their names."),
    ],
    symbol: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, help="Of these symbols alone; without it of all."),
    ] = None,
    said: Said,
) -> int:
    """Let listed strategies consume the candidate; it is called back by itself when something is wrong."""
    return _change("canary", said, strategies=tuple(strategy), symbols=tuple(symbol or ()))


@rollout.command(
    name="promote",
    help_epilogue=f'{_CHANGED}featureplane rollout promote --ab maker=ab.json --by ann --why "all reached"',
)
def promote(
    *,
    ab: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            help="[NAME=]FILE: what `featureplane backtest --ab --json` printed, for each of the canary.",
        ),
    ] = None,
    sign: Annotated[
        str, Parameter(help="Who answers for decisions in which the two forms differ, if they do.")
    ] = "",
    said: Said,
) -> int:
    """Make the candidate everybody's version; refused until every criterion is reached."""
    from featureplane.release.reports import read_report

    return _change("promote", said, reports=tuple(read_report(text, sign) for text in ab or ()))


@rollout.command(
    name="rollback",
    help_epilogue=f'{_CHANGED}featureplane rollout rollback --cause kernel --by ann --why "spreads are off"',
)
def rollback(
    *,
    cause: Annotated[
        Literal["data", "kernel", "schema", "config"],
        Parameter(help="What was at fault: what came in, what was computed, types, or resources."),
    ],
    said: Said,
) -> int:
    """Declare the newest version bad: the candidate, or without one the active version.

    The last version in good standing is everybody's then, never one that was rolled back before. Where there
    is none the rollout is disabled, and strategies that read features go on in legacy form or not at all.
    """
    return _change("rollback", said, cause=cause)


@rollout.command(
    name="disable",
    help_epilogue=f'{_CHANGED}featureplane rollout disable --by ann --why "not during the roll of contracts"',
)
def disable(
    *,
    said: Said,
) -> int:
    """Switch the rollout off: everybody is on the active version, and no candidate is computed."""
    return _change("disable", said)


@rollout.command(
    name="enable",
    help_epilogue=f'{_CHANGED}featureplane rollout enable lob_shared_v1 --by ann --why "what runs today"',
)
def enable(
    first: Annotated[
        str | None,
        Parameter(
            name="SET_OR_FILE", help="The first active version, where none is; a service says its own."
        ),
    ] = None,
    /,
    *,
    said: Said,
) -> int:
    """Go on where the rollout was switched off, or begin it."""
    return _change("enable", said, version=_named(first))


def _place() -> Any:
    from featureplane.services.rollout.steps import RolloutPlace
    from featureplane.settings import read_settings

    return RolloutPlace(read_settings().rollout_state_path)


def _named(name: str | None) -> str | None:
    """A file by where it lies: the service may stand elsewhere."""
    path = Path(name or "")
    return str(path.absolute()) if path.suffix in {".toml", ".py"} else name


def _change(action: str, said: Said, **more: Any) -> int:
    """Ask the service that runs, else change the files."""
    from featureplane.clock import SYSTEM
    from featureplane.services.control import ask_service
    from featureplane.services.rollout.steps import Asked, change_files, instant

    asked = Asked(action=action, by=said.by, why=said.why, **more)
    try:
        answer = ask_service(said.control, "rollout", asked.to_json())
    except NoService:
        at = instant(SYSTEM.wall_ns())
        answer = change_files(_place(), asked, at, allow_code=said.allow_code) | {"service": None}
    if said.json:
        print_json(answer)
    else:
        _tell(answer)
    return 0


def _tell(answer: dict[str, Any]) -> None:
    """What a change led to."""
    service = answer["service"]
    candidate = "" if answer["candidate"] is None else f", candidate {_label(answer['candidate'])}"
    say(f"{answer['phase']}: active {_label(answer['active'])}{candidate}")
    if service is None:
        say(f"no service runs here; the next start follows {answer['state_path']}")
    elif service["trouble"]:
        say(f"the service is not there yet: {service['trouble']}")
    elif answer["phase"] in {"shadow", "canary"} and not service["baseline_measured"]:
        say(f"the candidate begins when the baseline is measured: {_until(service['baseline'])}")


def _until(baseline: dict[str, int]) -> str:
    return (
        f"{baseline['messages']:,} of {baseline['messages_min']:,} messages, "
        f"{baseline['samples']:,} of {baseline['samples_min']:,} timed, "
        f"{baseline['minutes']} of {baseline['minutes_min']} minutes"
    )


def _label(version: dict[str, Any] | None) -> str:
    return "none" if version is None else f"{version['feature_set_id']} ({version['fingerprint'][:12]})"


def _named_in(history: list[dict[str, Any]], fingerprint: str) -> str:
    """A version as the history calls it."""
    names = (one["version"] or "" for one in history)
    return next((name for name in names if name.endswith(f"({fingerprint})")), fingerprint)


def _show(answer: dict[str, Any]) -> None:
    canary_ = answer["canary"]
    facts: dict[str, object] = {
        "phase": answer["phase"],
        "active": _label(answer["active"]),
        "candidate": _label(answer["candidate"]),
        "canary strategies": canary_["strategies"] or None,
        "canary symbols": (canary_["symbols"] or "all") if canary_["strategies"] else None,
        "held": answer["held"],
        "good": [_label(one) for one in answer["good"]] or "none",
        "bad": [_named_in(answer["history"], one[:12]) for one in answer["bad"]] or "none",
        "abs_tol": answer["abs_tol"] or None,  # above 0 it is shown, and refuses promotion
        "refused": answer["refused"] or None,
    }
    service = answer["service"]
    if service is not None:
        facts |= {
            "compared in": service["compared_in"] or "nothing",
            "consuming": service["consuming"] or None,
            "baseline": "measured" if service["baseline_measured"] else _until(service["baseline"]),
            "evidence": "gathered by another service: ask there" if service["evidence_elsewhere"] else None,
            "trouble": service["trouble"],
            "frozen": service["frozen"],
        }
        facts |= {f"{who} waits": why for who, why in service["waiting"].items()}
        facts |= {f"{name} parted": count for name, count in service["divergences"].items()}
    facts["state"] = answer["state_path"]
    print_facts(facts)
    if answer["criteria"]:
        print_table(_criteria(answer["criteria"]))
    if answer["history"]:
        print_table(_history(answer["history"]))


def _criteria(verdicts: list[dict[str, Any]]) -> Table:
    table = Table("criterion", "", "found", "asked for", box=None, pad_edge=False)
    for one in verdicts:
        words = one["name"], "reached" if one["reached"] else "missing", one["found"], one["needed"]
        table.add_row(*map(Text, words))
    return table


def _history(lines: list[dict[str, Any]]) -> Table:
    table = Table("", "at", "action", "phase", "version", "by", "why", box=None, pad_edge=False)
    for one in lines:
        action = one["action"] if one["cause"] is None else f"{one['action']} ({one['cause']})"
        phases = f"{one['before']} -> {one['after']}"
        words = str(one["revision"]), one["at"], action, phases, one["version"] or "", one["by"], one["why"]
        table.add_row(*map(Text, words))
        for what, said in one["evidence"].items():
            text = _plainly(said) or ("all" if what == "symbols" else "none")
            table.add_row(*[""] * 6, Text(f"- {what.replace('_', ' ')}: {text}"))
    return table


def _plainly(said: Any) -> str:
    """What the history has beside a step, as text; empty where that is empty."""
    match said:
        case dict():
            return ", ".join(f"{name} {_plainly(one)}" for name, one in said.items() if one is not None)
        case list():
            return "; ".join(map(_plainly, said))
        case bool() | str():
            return str(said)
        case int():
            return f"{said:,}"
        case float():
            return f"{said:g}"
    return ""
