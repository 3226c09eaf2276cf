"""`featureplane data`: what a recording holds, and whether the book built from it is the venue's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

from cyclopts import App
from rich.table import Table
from rich.text import Text

from featureplane.cli.options import READING, Backend, Json, Paths, Reading, SourceOrGuess, Symbol
from featureplane.cli.terminal import counting, print_facts, print_json, print_table, say_error
from featureplane.market.events import EventBatch
from featureplane.market.inspection import Clock, Inspection, SymbolFacts

__all__ = ["data"]

data = App(
    name="data",
    help="Recorded data: what it holds, and whether its book is the venue's.",
    help_epilogue="Example:\n  featureplane data inspect ethusdt.gz --source binance-spot",
)


@data.command(
    help_epilogue="Exit status: 0 looked at, 2 unreadable\n\n"
    "Example:\n  featureplane data inspect ethusdt.gz --source binance-spot",
)
def inspect(
    paths: Paths,
    /,
    *,
    source: SourceOrGuess = None,
    symbol: Symbol = None,
    backend: Backend = "auto",
    reading: Reading = READING,
    json: Json = False,
) -> int:
    """Count what files hold: span, events, gaps, duplicates, late messages, clocks, exponents."""
    from featureplane.market.inspection import inspect_events
    from featureplane.market.reading import iter_events
    from featureplane.market.sources.detect import guess_source

    wrote = source or guess_source(paths)
    with counting("looking") as tell:

        def told(batches: Iterator[EventBatch]) -> Iterator[EventBatch]:
            events = 0
            for batch in batches:
                yield batch
                events += len(batch)
                tell(f"{events:,} events")

        batches = iter_events(paths, wrote, symbol, backend=backend, **reading.options())
        found = inspect_events(told(batches))
    if json:
        print_json(_answer(found))
    else:
        for facts in found.symbols.values():
            print_table(_table(found, facts))
    return 0


@data.command(
    help_epilogue="Exit status: 0 every book agrees, 1 one does not, 2 unreadable or nothing to compare\n\n"
    "Example:\n  featureplane data verify ethusdt.gz --source binance-spot",
)
def verify(
    paths: Paths,
    /,
    *,
    source: SourceOrGuess = None,
    symbol: Symbol = None,
    backend: Backend = "auto",
    reading: Reading = READING,
    json: Json = False,
) -> int:
    """Hold the book against the venue's own best quotes by id, or against LOBSTER's order-book file."""
    from featureplane.errors import BookMismatch
    from featureplane.market.reading import read_events
    from featureplane.market.sources.detect import guess_source
    from featureplane.research.verification import verify_book

    wrote = source or guess_source(paths)
    try:
        with counting("verifying") as tell:
            events = read_events(paths, wrote, symbol, backend=backend, **reading.options())
            tell(f"{len(events):,} events")
            found = verify_book(events, backend=backend)
    except BookMismatch as error:
        say_error(str(error), error.hint)
        return 1
    agree = all(one.agree == one.compared for one in found)
    if json:
        print_json({"agree": agree, "symbols": [asdict(one) for one in found]})
    else:
        for one in found:
            print_facts(asdict(one))
    return 0 if agree else 1


def _answer(found: Inspection) -> dict[str, object]:
    return {
        "source": found.source,
        "sequenced": found.sequenced,
        "local_time": found.local_time,
        "rows": found.rows,
        "dropped": dict(found.dropped),
        "symbols": [_symbol(facts) for facts in found.symbols.values()],
    }


def _symbol(facts: SymbolFacts) -> dict[str, object]:
    one = facts.instrument
    return {
        "symbol": one.symbol,
        "venue": one.venue,
        "symbol_id": one.symbol_id,
        "price_exponent": one.price_exponent,
        "qty_exponent": one.qty_exponent,
        "tick_size": one.tick_size,
        "lot_size": one.lot_size,
        "inferred": one.inferred,
        "events": dict(facts.events),
        "event_flags": dict(facts.flags),
        "channels": {
            name: {
                "messages": channel.messages,
                "snapshots": channel.snapshots,
                "with_ids": channel.with_ids,
                "gaps": channel.gaps,
                "first_gap": None if channel.first_gap is None else list(channel.first_gap),
                "duplicates": channel.duplicates,
                "late": channel.late,
                "overlaps": channel.overlaps,
            }
            for name, channel in facts.channels.items()
        },
        "source_clock": _clock(facts.source_clock),
        "local_clock": _clock(facts.local_clock),
    }


def _clock(clock: Clock) -> dict[str, object]:
    return {
        "first": _time(clock.first),
        "last": _time(clock.last),
        "steps_back": clock.back,
        "largest_step_back_ms": clock.back_most_ns / 1e6,
        "longest_silence_ms": clock.silence_most_ns / 1e6,
    }


def _time(ns: int | None) -> str | None:
    """UTC with nanoseconds, as ISO 8601."""
    if ns is None:
        return None
    whole, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _table(found: Inspection, facts: SymbolFacts) -> Table:
    one = facts.instrument
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, text: str) -> None:
        table.add_row(Text(name), Text(text))

    known = "found in the data" if one.inferred else "declared"
    row("symbol", f"{one.symbol} at {one.venue} ({found.source})")
    row("exponents", f"price {one.price_exponent}, size {one.qty_exponent}; {known}")
    row("tick, lot", f"{one.tick_size or 'unknown'}, {one.lot_size or 'unknown'}")
    for name, clock in (("venue's clock", facts.source_clock), ("our clock", facts.local_clock)):
        if clock.first is not None and (name != "our clock" or found.local_time):
            row(name, f"{_time(clock.first)} to {_time(clock.last)}")
            back = f"{clock.back:,} steps back, at most {clock.back_most_ns / 1e6:,.3f} ms"
            row("", f"{back}; longest silence {clock.silence_most_ns / 1e6:,.0f} ms")
    row("events", ", ".join(f"{count:,} {kind}" for kind, count in facts.events.items()))
    if facts.flags:
        row("marked", ", ".join(f"{count:,} {flag}" for flag, count in facts.flags.items()))
    for name, channel in facts.channels.items():
        row(f"{name} channel", f"{channel.messages:,} messages, {channel.snapshots:,} of them snapshots")
        if channel.with_ids:
            where = f", the first behind id {channel.first_gap[0]}" if channel.first_gap else ""
            counts = (
                f"{channel.duplicates:,} duplicates, {channel.late:,} late, {channel.overlaps:,} overlaps"
            )
            row("", f"{channel.gaps:,} gaps{where}; {counts}")
    if not any(channel.with_ids for channel in facts.channels.values()):
        row("sequences", "none in this feed: gaps, duplicates and late messages cannot be seen")
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in found.dropped.items())
    row("dropped", dropped or "nothing")
    return table
