"""`featureplane features trace`: why a number is what it is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

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
from featureplane.cli.terminal import counting, print_json, print_table, say

if TYPE_CHECKING:
    from featureplane.features.trace import Level, Moment, NodeMoment, Trace, TracedNode, Word

__all__ = ["trace"]

_EVENTS_SHOWN = 20
_WORDS_SHOWN = 12
_WORDS_FIRST = 4
_WORDS_LAST = 6


trace = App(
    name="trace",
    help_epilogue="Exit status: 0 told, 1 reference and backend disagree, 2 no such frame or feature\n\n"
    "Example:\n  featureplane features trace ethusdt.gz --source binance-spot --features lob_shared_v1 "
    "--at 5000 --feature ofi_l1_ema8",
)


@trace.default
def run(
    paths: Paths,
    /,
    *,
    source: Source,
    features: FeatureSetName,
    at: Annotated[int, Parameter(help="The frame's number, `seq`, from 1.")],
    feature: Annotated[str, Parameter(help="The id of a feature of the set.")],
    symbol: Symbol = None,
    levels: Annotated[int, Parameter(help="Levels of the book to show of each side.")] = 5,
    backend: Backend = "auto",
    reading: Reading = READING,
    allow_code: AllowCode = False,
    json: Json = False,
) -> int:
    """Tell why a number is what it is: message, book, inputs, kernel states, formulas.

    The frame is looked for by the backend, and the message that makes it is computed by the Python
    reference, which has to make the same bytes.
    """
    from featureplane.features.trace import trace as traced
    from featureplane.market.reading import iter_events

    fset = set_to_run(features, allow_code=allow_code)
    fset.index(feature)
    with counting("looking") as tell:
        found = traced(
            iter_events(paths, source, symbol, backend=backend, **reading.options()),
            fset,
            feature,
            at,
            symbol=symbol,
            levels=levels,
            backend=backend,
            progress=lambda n: tell(f"{n:,} events"),
        )
    if json:
        print_json(_answer(found))
    else:
        _tell(found)
    return 0


# -- for programs


def _answer(found: Trace) -> dict[str, object]:
    spec, frame = found.spec, found.frame
    return {
        "feature": spec.feature_id,
        "definition": spec.definition,
        "value": found.value,
        "ready": found.value is not None,
        "reason": found.reason or None,
        "dtype": spec.dtype,
        "unit": spec.unit,
        "scale": spec.scale,
        "warmup_min_events": spec.warmup_min_events,
        "warmup_min_ns": spec.warmup_min_ns,
        "set": frame.feature_set_id,
        "fingerprint": frame.fingerprint,
        "executions": list(found.executions),
        "frame": {
            "symbol": found.instrument.symbol,
            "seq": frame.seq,
            "source_ts_ns": frame.source_ts_ns,
            "local_ts_ns": frame.local_ts_ns,
            "source_seq": frame.source_seq,
            "flags": _flags(found),
            "changed": bool(frame.changed >> spec.index & 1),
            "resets": list(found.resets),
        },
        "instrument": {
            "price_exponent": found.instrument.price_exponent,
            "qty_exponent": found.instrument.qty_exponent,
        },
        "message": _message(found),
        "before": _moment(found.before),
        "after": _moment(found.after),
        "nodes": [_node(node) for node in found.nodes],
    }


def _flags(found: Trace) -> list[str]:
    return [str(flag.name) for flag in found.frame.flags]


def _message(found: Trace) -> dict[str, object]:
    message = found.events
    return {
        "number": found.message,
        "channel": message.channel.value,
        "seq_prev": message.seq_prev,
        "seq_last": message.seq_last,
        "source_ts_ns": message.source_ts_ns,
        "local_ts_ns": message.local_ts_ns,
        "events": [
            {
                "kind": _kind(event.kind),
                "side": event.side,
                "flags": event.flags,
                "price": event.price,
                "qty": event.qty,
                "order_id": event.order_id,
            }
            for event in message.events
        ],
    }


def _kind(kind: int) -> str:
    from featureplane.market.events import Kind

    return Kind(kind).name.lower() if kind in {int(one) for one in Kind} else f"unreadable ({kind})"


def _moment(one: Moment) -> dict[str, object]:
    return {**one._asdict(), "bids": [list(x) for x in one.bids], "asks": [list(x) for x in one.asks]}


def _node(node: TracedNode) -> dict[str, object]:
    return {
        "number": node.number,
        "features": list(node.features),
        "call": node.text,
        "inputs": list(node.inputs),
        "kernel": node.kernel,
        "formula": node.formula,
        "warm": node.warm,
        "advanced": node.advanced,
        "reason": node.reason or None,
        "value_before": node.before.cell.value,
        "value": node.after.cell.value,
        "state": node.state_text or None,
        "state_before": list(node.before.state),
        "state_after": list(node.after.state),
    }


# -- for people


def _tell(found: Trace) -> None:
    print_table(_facts(found))
    print_table(_events(found))
    if found.after.bids or found.after.asks or found.before.bids or found.before.asks:
        print_table(_books(found.before, found.after))
    for node in found.nodes:
        print_table(_node_table(node))
    most = len(found.events.events) - _EVENTS_SHOWN
    if most > 0:
        say(f"{most:,} more events are not shown; --json has them")
    price, qty = found.instrument.price_exponent, found.instrument.qty_exponent
    say(f"prices in units of 10^-{price}, sizes of 10^-{qty}; {' and '.join(found.executions)} agree")


def _grid(*columns: str) -> Table:
    """A table with a blank line before it."""
    return Table(*columns, box=None, pad_edge=False, show_header=bool(columns), title=" ", title_style="")


def _facts(found: Trace) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(found):
        table.add_row(Text(name), Text(value))
    return table


def _lines(found: Trace) -> Iterator[tuple[str, str]]:
    spec, frame, message = found.spec, found.frame, found.events
    scale = f", scale {spec.scale:,}" if spec.scale > 1 else ""
    yield spec.feature_id, f"{_value(found.value)}  ({spec.dtype}, {spec.unit}{scale})"
    yield "definition", spec.definition
    state = "ready" if found.value is not None else "not ready"
    yield "readiness", f"{state}: {found.reason}" if found.reason else state
    span = f" and {spec.warmup_min_ns / 1e9:g} s" if spec.warmup_min_ns else ""
    yield "warm-up", f"{spec.warmup_min_events}{span}"
    yield "frame", f"{found.instrument.symbol} {frame.seq}"
    yield "flags", ", ".join(_flags(found)) or "none"
    if found.resets:
        yield "kernels reset", ", ".join(found.resets)
    yield "message", f"{found.message}, {message.channel.value}, {len(message.events):,} events"
    yield "ids", f"({message.seq_prev}, {message.seq_last}]" if message.has_ids else "none"
    yield "source time", _time(message.source_ts_ns)
    yield "local time", _time(message.local_ts_ns)
    before, after = found.before, found.after
    yield "clock", f"{_time(before.clock_ns)} -> {_time(after.clock_ns)}"
    yield "book", f"{_standing(before)} -> {_standing(after)}"


def _standing(one: Moment) -> str:
    held = f", {one.buffered} held" if one.buffered else ""
    return f"{one.book} up to {one.applied}{held}{'' if one.trading else ', not trading'}"


def _time(time_ns: int | None) -> str:
    if time_ns is None:
        return "none"
    import datetime as dt

    seconds, nanos = divmod(time_ns, 10**9)
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09}Z"


def _events(found: Trace) -> Table:
    from featureplane.market.events import EventFlag

    table = _grid("event", "side", "price", "size", "flags")
    sides = ("", "bid", "ask")
    for event in found.events.events[:_EVENTS_SHOWN]:
        side = sides[event.side] if event.side < len(sides) else str(event.side)
        flags = ", ".join(str(flag.name) for flag in EventFlag(event.flags) if flag is not EventFlag.LAST)
        table.add_row(_kind(event.kind), side, str(event.price), str(event.qty), flags)
    return table


def _books(before: Moment, after: Moment) -> Table:
    table = _grid("level", "bid before", "ask before", "bid after", "ask after")
    sides = zip_longest(before.bids, before.asks, after.bids, after.asks)
    for number, levels in enumerate(sides, 1):
        table.add_row(str(number), *(_level(level) for level in levels))
    return table


def _level(level: Level | None) -> str:
    return "" if level is None else f"{level[1]} @ {level[0]}"


def _node_table(node: TracedNode) -> Table:
    table = _grid()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text(f"#{node.number}"), Text(" = ".join((*node.features, node.text))))
    for name, value in _node_lines(node):
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _node_lines(node: TracedNode) -> Iterator[tuple[str, str]]:
    yield "formula", node.formula
    value = f"{_value(node.before.cell.value)} -> {_value(node.after.cell.value)}"
    yield "value", f"{value}  ({node.reason})" if node.reason else value
    yield "advanced", f"{'yes' if node.advanced else 'no'}; warm after {node.warm}"
    if node.before.state or node.after.state:
        yield "state", node.state_text or "as saved"
        yield "  before", _state(node.before)
        yield "  after", _state(node.after)


def _state(moment: NodeMoment) -> str:
    words = moment.state
    if len(words) <= _WORDS_SHOWN:
        return _words(words)
    first, last = words[:_WORDS_FIRST], words[-_WORDS_LAST:]
    return f"{_words(first)}, .., {_words(last)}  ({len(words):,} words)"


def _words(words: tuple[Word, ...]) -> str:
    return ", ".join(map(_value, words))


def _value(value: Word) -> str:
    return "none" if value is None else str(value)
