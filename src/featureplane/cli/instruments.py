"""`featureplane instruments`: find what one must know of a market, and hold a file against data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from featureplane.cli.options import Backend, Json, Paths, Source, Symbol
from featureplane.cli.terminal import counting, print_json, say
from featureplane.whole_file import check_target

__all__ = ["instruments"]

instruments = App(
    name="instruments",
    help="Instruments files: find one from data, hold one against data.",
    help_epilogue="Example:\n  featureplane instruments infer ethusdt.gz --source binance-spot",
)

_INFER = "featureplane instruments infer ethusdt.gz --source binance-spot --out instruments.toml"
_CHECK = "featureplane instruments check ethusdt.gz --source binance-spot --instruments instruments.toml"


@instruments.command(
    help_epilogue=f"Exit status: 0 found, 2 bad input, or data that do not tell\n\nExample:\n  {_INFER}"
)
def infer(
    paths: Paths,
    /,
    *,
    source: Source,
    symbol: Symbol = None,
    out: Annotated[Path | None, Parameter(help="The file to write instead of standard output.")] = None,
    backend: Backend = "auto",
) -> int:
    """Find exponents, tick and lot in a first pass over all files, and write them as TOML."""
    from featureplane.market import instruments as files

    if out is not None:
        check_target(out, paths)
    with counting("looking"):
        found = files.infer(paths, source, symbol, backend=backend)
    if out is None:
        sys.stdout.write(files.instruments_text(found))
        return 0
    files.save_instruments(out, found)
    say(f"{out} written, instruments: {len(found)}; complete time zone, sessions and the like by hand")
    return 0


@instruments.command(
    help_epilogue=f"Exit status: 0 they agree, 2 the data contradict the file\n\nExample:\n  {_CHECK}"
)
def check(
    paths: Paths,
    /,
    *,
    source: Source,
    instruments: Annotated[Path, Parameter(help="The instruments file to hold against the data.")],
    symbol: Symbol = None,
    backend: Backend = "auto",
    json: Json = False,
) -> int:
    """Read files by an instruments file; the first contradiction is named with its line."""
    from featureplane.book.shown import ShownLevels
    from featureplane.market.agreement import check_declared
    from featureplane.market.instruments import load_instruments
    from featureplane.market.reading import iter_events

    declared = load_instruments(instruments)
    events, shown = 0, ShownLevels(backend)
    with counting("checking") as tell:
        for batch in iter_events(paths, source, symbol, declared, backend=backend):
            check_declared(batch)
            shown.take(batch)
            events += len(batch)
            tell(f"{events:,} events")
    if json:
        print_json({"agree": True, "events": events, "instruments": [one.symbol for one in declared]})
    else:
        say(f"{events:,} events agree with {instruments}")
    return 0
