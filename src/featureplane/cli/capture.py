"""`featureplane capture`: any source into our own format, which opens as fast as memory maps."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from featureplane.cli.options import READING, Backend, Json, Paths, Reading, SourceOrGuess, Symbol
from featureplane.cli.terminal import counting, print_facts, print_json
from featureplane.whole_file import check_target

__all__ = ["capture"]

_EXAMPLE = "featureplane capture ethusdt.gz --source binance-spot --out ethusdt.fpcap"

capture = App(
    name="capture",
    help_epilogue=f"Exit status: 0 written, 2 bad input; nothing is written then\n\nExample:\n  {_EXAMPLE}",
)


@capture.default
def run(
    paths: Paths,
    /,
    *,
    out: Annotated[Path, Parameter(help="The capture file to write; it appears when it is whole.")],
    source: SourceOrGuess = None,
    symbol: Symbol = None,
    compression: Annotated[
        Literal["none", "zstd"], Parameter(help="zstd is smaller; none is mapped as it lies.")
    ] = "none",
    backend: Backend = "auto",
    reading: Reading = READING,
    json: Json = False,
) -> int:
    """Write the events of any source into one capture file, in bounded memory."""
    from featureplane.market.reading import iter_events
    from featureplane.market.sources.capture import CaptureWriter
    from featureplane.market.sources.detect import guess_source

    check_target(out, paths)
    batches = iter_events(paths, source or guess_source(paths), symbol, backend=backend, **reading.options())
    first = next(batches)
    dropped = Counter(first.dropped)
    with (
        counting("capturing") as tell,
        CaptureWriter(
            out, first.instruments, first.source, files=first.files, compression=compression
        ) as writer,
    ):
        events = 0
        for batch in chain((first,), batches):
            writer.write(batch)
            events += len(batch)
            dropped += Counter(batch.dropped) if batch is not first else Counter()
            tell(f"{events:,} events")
    answer = {
        "events": events,
        "bytes": out.stat().st_size,
        "dropped": dict(dropped),
        "symbols": [one.symbol for one in first.instruments],
        "out": str(out),
    }
    if json:
        print_json(answer)
    else:
        print_facts(answer)
    return 0
