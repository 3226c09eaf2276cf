"""`featureplane bench`: time the project against its limit and its peers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter

from featureplane.cli.options import Json
from featureplane.errors import SettingError
from featureplane.settings import inherited

__all__ = ["bench"]

_CHECKOUT: Final = Path(__file__).resolve().parents[3]


bench = App(
    name="bench",
    help_epilogue="Exit status: 0 measured, 1 two that had to compute the same did not, 2 could not run\n\n"
    "Example:\n  featureplane bench --only v1 --only book",
)


@bench.default
def run(
    *,
    only: Annotated[list[str] | None, Parameter(help="This job; may be repeated.")] = None,
    turns: Annotated[int, Parameter(help="How often everybody has a turn.")] = 7,
    runs: Annotated[int, Parameter(help="Runs in a turn; their median counts.")] = 3,
    smoke: Annotated[bool, Parameter(help="A short recording, once, nobody from outside.")] = False,
    json: Json = False,
) -> int:
    """Time everything in turn with a hand-written limit and with hftbacktest beside it.

    Writes benchmarks/RESULTS.md, unless --only, --smoke or --json is given.
    """
    if not (_CHECKOUT / "benchmarks" / "run.py").exists():
        raise SettingError(
            "the benchmarks are not part of the installed package",
            hint="run `make bench` in a checkout of the project",
        )
    words = ["--turns", str(turns), "--runs", str(runs)]
    words += [word for name in only or () for word in ("--only", name)]
    words += ["--smoke"] * smoke + ["--json"] * json
    path = os.pathsep.join([str(_CHECKOUT / "src"), *filter(None, [inherited().get("PYTHONPATH")])])
    command = [sys.executable, "-m", "benchmarks.run", *words]
    done = subprocess.run(command, cwd=_CHECKOUT, env=inherited(PYTHONPATH=path), check=False)  # noqa: S603 - our own module
    return done.returncode
