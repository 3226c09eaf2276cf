"""`featureplane convert`: any source into the arrays of another program."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from featureplane.cli.options import READING, Backend, Json, Paths, Reading, SourceOrGuess, Symbol
from featureplane.cli.terminal import print_facts, print_json, say
from featureplane.whole_file import check_ending, check_target

__all__ = ["convert"]

_EXAMPLE = "featureplane convert ethusdt.gz --source binance-spot --to hftbacktest --out ethusdt.npz"

convert = App(
    name="convert",
    help_epilogue=f"Exit status: 0 written, 2 bad input; nothing is written then\n\nExample:\n  {_EXAMPLE}",
)


@convert.default
def run(
    paths: Paths,
    /,
    *,
    to: Annotated[Literal["hftbacktest"], Parameter(help="hftbacktest: an .npz of its event array.")],
    out: Annotated[Path, Parameter(help="The file to write; it appears when it is whole.")],
    source: SourceOrGuess = None,
    symbol: Symbol = None,
    local_time: Annotated[
        Literal["refuse", "hold"],
        Parameter(help="Local times that go back: stop with an error, or put the latest before there."),
    ] = "refuse",
    backend: Backend = "auto",
    reading: Reading = READING,
    json: Json = False,
) -> int:
    """Write one instrument's events of any source as hftbacktest's array, ids and true times with it."""
    from featureplane.market.hftbacktest_export import save_hftbacktest
    from featureplane.market.reading import read_events
    from featureplane.market.sources.detect import guess_source

    check_target(out, paths)
    check_ending(out, ".npz")
    batch = read_events(paths, source or guess_source(paths), symbol, backend=backend, **reading.options())
    array = save_hftbacktest(out, batch, local_time=local_time)
    answer = {
        "to": to,
        "events": len(batch),
        "rows": len(array.rows),
        "local_shift_ns": array.local_shift_ns,
        "held": array.held,
        "bytes": out.stat().st_size,
        "dropped": dict(Counter(batch.dropped)),
        "symbols": [one.symbol for one in batch.instruments],
        "out": str(out),
    }
    if json:
        print_json(answer)
        return 0
    print_facts(answer)
    if array.local_shift_ns:
        say(f"our clock was behind the venue's: {array.local_shift_ns} ns were added, and stand in the file")
    return 0
