"""`featureplane demo`: a real market turned into features, a table and a page that opens offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from featureplane.cli.options import Backend, Json
from featureplane.cli.terminal import print_json, say
from featureplane.clock import SYSTEM, seconds_since

if TYPE_CHECKING:
    from featureplane.ops.demo import Demo

__all__ = ["demo"]

demo = App(
    name="demo",
    help_epilogue="Exit status: 0 made, 1 a check failed: a book or a frame differs, 2 could not be made\n\n"
    "Example:\n  featureplane demo --out out",
)


@demo.default
def run(
    *,
    out: Annotated[Path, Parameter(help="The folder to write report.html and features.parquet to.")] = Path(
        "out"
    ),
    backend: Backend = "auto",
    json: Json = False,
) -> int:
    """Replay the embedded sample, check it, and write a table and a report that opens offline."""
    from featureplane.ops.demo import run_demo
    from featureplane.ops.demo_page import demo_page

    began = SYSTEM.monotonic_ns()
    found = run_demo(backend=backend, tell=say)
    out.mkdir(parents=True, exist_ok=True)
    table, page = out / "features.parquet", out / "report.html"
    say("write")
    found.table.write_parquet(table)
    size = demo_page(found).write(page)
    seconds = seconds_since(began)
    answer = found.to_json() | {"out": str(table), "report": str(page), "report_bytes": size}
    answer["seconds_in_all"] = round(seconds, 3)
    if json:
        print_json(answer)
    else:
        for line in _lines(found):
            print(line)  # noqa: T201 - data
        print(f"{page}, {size / 1e6:.1f} MB, and {table}, in {seconds:.1f} s")  # noqa: T201 - data
        if not found.whole:
            say("this was the first 60 s, on the Python reference; for all of it install Rust")
            say("(https://rustup.rs), then run it again through `make demo`")
    return 0 if found.sound else 1


def _lines(found: Demo) -> Iterator[str]:
    """What came out, a line each."""
    table, book, parity, ns = found.table, found.book, found.parity, found.ns_per_row
    yield f"{len(found.events):,} events of {book.symbol} in {found.events.messages:,} messages"
    fset = table.feature_set
    computed = found.seconds["compute"]
    yield f"{len(table):,} frames of {fset.feature_set_id}, {len(fset)} features, in {computed:.2f} s"
    yield f"{book.agree:,} of {book.compared:,} books equal the exchange's own best quotes"
    if parity is not None:
        bound = f", which bounds their rate by {parity.rate_bound:.1e}" if parity.agrees else ""
        yield f"{parity.mismatches:,} of {parity.frames:,} frames differ between Python and Rust{bound}"
    if "timed" in ns:
        limit = f"; a program written by hand for it: {ns['limit']:.1f}" if "limit" in ns else ""
        yield f"{ns['timed']:.1f} ns a row for lob_shared_v1{limit}"
