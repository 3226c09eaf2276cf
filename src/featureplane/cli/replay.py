"""`featureplane replay`: recorded files to a table of features."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import App, Parameter

from featureplane.cli.features import set_to_run
from featureplane.cli.options import (
    READING,
    AllowCode,
    Backend,
    FeatureSetName,
    Json,
    Paths,
    Reading,
    Source,
    Symbol,
)
from featureplane.cli.terminal import counting, print_facts, print_json

__all__ = ["replay"]

_COUNT: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_EXAMPLE = "featureplane replay ethusdt.gz --source binance-spot --features lob_shared_v1 --out day.parquet"

replay = App(
    name="replay",
    help_epilogue="Exit status: 0 written, 2 bad input or no frame; nothing is written then\n\n"
    f"Example:\n  {_EXAMPLE}",
)


@replay.default
def run(
    paths: Paths,
    /,
    *,
    source: Source,
    features: FeatureSetName,
    out: Annotated[Path, Parameter(help="The Parquet file to write; it appears when it is whole.")],
    symbol: Symbol = None,
    backend: Backend = "auto",
    every: Annotated[str | None, Parameter(help="Keep one frame a period (100ms, 1s) or every n-th.")] = None,
    emit: Annotated[
        Literal["update", "change"], Parameter(help="All frames, or those in which something changed.")
    ] = "update",
    reading: Reading = READING,
    allow_code: AllowCode = False,
    json: Json = False,
) -> int:
    """Replay recordings into a Parquet file of features, in bounded memory."""
    from featureplane.research.compute import compute
    from featureplane.research.runs import RunReport

    fset = set_to_run(features, allow_code=allow_code)
    with counting("replaying") as tell:

        def progress(run: RunReport) -> None:
            tell(f"{run.events:,} events  {run.frames:,} frames")

        report = compute(
            paths,
            fset,
            source=source,
            symbol=symbol,
            backend=backend,
            every=int(every) if every and _COUNT.fullmatch(every) else every,
            emit=emit,
            out=out,
            progress=progress,
            **reading.options(),
        )
    answer = report.to_json()
    if json:
        print_json(answer)
    else:
        print_facts(answer)
    return 0
