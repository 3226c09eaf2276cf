"""`featureplane incident`: a span of a recorded service, taken out and looked at again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter

from featureplane.cli.options import Json
from featureplane.cli.terminal import print_facts, print_json, say
from featureplane.services.configuration import RECORD

__all__ = ["incident"]

_RECORD: Final = Path(RECORD)
_EXAMPLE: Final = (
    "featureplane incident export --from 2024-08-08T23:55:00Z --to 2024-08-08T23:57:00Z var/incident"
)

incident = App(
    name="incident",
    help="What a recorded service took, computed and said in a span of time.",
    help_epilogue=f"Example:\n  {_EXAMPLE}",
)


@incident.command(
    help_epilogue="Exit status: 0 written, 2 refused, or nothing was received in that span; nothing is "
    f"written then\n\nExample:\n  {_EXAMPLE}",
)
def export(
    out: Annotated[Path, Parameter(name="DIR", help="The folder to write; it appears when it is whole.")],
    /,
    *,
    from_: Annotated[
        str, Parameter(name="--from", help="A date and time with its zone: 2024-08-08T23:55:00Z.")
    ],
    to: Annotated[str, Parameter(help="Likewise; messages of this very time are left out.")],
    record: Annotated[
        Path, Parameter(help="The folder that `featureplane run --record` writes, or wrote.")
    ] = _RECORD,
    json: Json = False,
) -> int:
    """Pack messages, frames, numbers, log and settings of a span into a folder that can be played back.

    Times are those at which messages were received. It does not matter whether the service runs; what came
    in its last second may not be written yet.
    """
    from featureplane.services.incident import export as write
    from featureplane.services.incident import read_instant

    manifest = write(record, read_instant(from_, "--from"), read_instant(to, "--to"), out)
    answer = {**manifest, "files": sorted(manifest["files"])}
    if json:
        print_json(answer)
    else:
        print_facts(answer)
    return 0


@incident.command(
    help_epilogue="Exit status: 0 all of it is as it was exported, 1 something is not, 2 no export\n\n"
    "Example:\n  featureplane incident verify var/incident",
)
def verify(
    folder: Annotated[Path, Parameter(name="DIR", help="A folder that `incident export` wrote.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Hold every file against the sha-256 in the manifest."""
    from featureplane.services.incident import read_manifest
    from featureplane.services.incident import verify as look

    wrong = look(folder)
    if json:
        print_json({"files": len(read_manifest(folder)["files"]), "wrong": wrong})
    else:
        for one in wrong:
            say(one)
        if not wrong:
            say("every file is as it was exported")
    return 1 if wrong else 0
