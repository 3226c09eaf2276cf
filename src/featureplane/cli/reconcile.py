"""`featureplane reconcile`: a recording computed again and held against what was emitted."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from featureplane.cli.options import AllowCode, Json
from featureplane.cli.terminal import print_facts, print_json
from featureplane.telemetry import log_to

__all__ = ["reconcile"]


reconcile = App(
    name="reconcile",
    help_epilogue="Exit status: 0 every frame is equal, 1 one is not, 2 no recording\n\n"
    "Example:\n  featureplane reconcile var/record",
)


@reconcile.default
def run(
    folder: Annotated[Path, Parameter(name="DIR", help="A folder that `featureplane run --record` wrote.")],
    /,
    *,
    backend: Annotated[Literal["auto", "rust", "python"], Parameter(help="What computes it again.")] = "auto",
    root: Annotated[
        str | None,
        Parameter(help="A feature store whose `feature_consistency_ratio` is to count it."),
    ] = None,
    allow_code: AllowCode = False,
    json: Json = False,
) -> int:
    """Compute a recording's messages again and compare every frame with the one that was emitted."""
    from featureplane.research.store.measures import Measures
    from featureplane.research.store.places import place_of
    from featureplane.services.reconcile import reconcile as hold

    with log_to(sys.stderr, as_json=False, level="error"):  # what was lost and came again was said then
        found = hold(folder, backend=backend, allow_code=allow_code)
    if root is not None:
        measures = Measures(place_of(root).folder)
        measures.compared(found.frames, found.equal)
        measures.close()
    answer = asdict(found) | {"feature_consistency_ratio": found.ratio}
    if json:
        print_json(answer)
    else:
        first = answer.pop("first")
        print_facts(answer | ({} if first is None else {f"first_{name}": one for name, one in first.items()}))
    return 0 if found.equal == found.frames else 1
