"""`featureplane backtest --ab`: both forms of a strategy, and the first decision in which they differ."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from rich.table import Table

from featureplane.cli.features import set_to_run
from featureplane.cli.terminal import counting, print_json, print_table, say, say_error
from featureplane.errors import SettingError
from featureplane.strategy.api import check_features, required_by
from featureplane.strategy.loading import load_forms

if TYPE_CHECKING:
    from featureplane.research.backtest.comparison import Comparison, Divergence, Exchanged
    from featureplane.research.backtest.result import BacktestResult
    from featureplane.strategy.desk import Decision

__all__ = ["compare"]

_EVENTS_SHOWN = 10


def compare(
    name: str,
    features: str | None,
    read: Callable[[], Exchanged],
    *,
    allow_code: bool,
    json: bool,
) -> int:
    """Compare, and say what came of it; 0 where they agree, 1 where not.

    `read` is called when everything was refused that can be before a file is read.
    """
    from featureplane.research.backtest.comparison import compare_forms

    with redirect_stdout(sys.stderr):  # standard output is for data, whatever a strategy prints
        if allow_code and ".py:" in name:
            say(f"running {name.rpartition(':')[0]} as code")
        forms = load_forms(name, allow_code=allow_code)
        shared = forms.shared()
        wanted = features or next(iter(required_by(shared)), None)
        if wanted is None:
            raise SettingError(f"{name}: its shared form requires no features", hint="give --features")
        fset = set_to_run(wanted, allow_code=allow_code)
        check_features(shared, fset)
        check_features(forms.legacy(), None)
        with counting("reading") as tell:
            tell("")
            market = read()
        with counting("comparing") as tell:
            found = compare_forms(forms, market, fset, progress=lambda n: tell(f"{n:,} messages"))
    if json:
        symbol = market.batch().instrument.symbol
        about = {"strategy": name, "form": type(shared).__name__, "fingerprint": fset.fingerprint}
        print_json({"symbol": symbol, "set": fset.feature_set_id, **about} | _answer(found))
    else:
        _tell(found)
    return 0 if found.divergence is None else 1


def _answer(found: Comparison) -> dict[str, object]:
    forms = {"legacy": found.legacy, "shared": found.shared}
    return {
        "same": found.divergence is None,
        "messages": found.shared.messages,
        "decisions": {form: len(one.decisions) for form, one in forms.items()},
        "fills": {form: len(one.fills) for form, one in forms.items()},
        "cpu_ns_per_decision": {form: _cpu_ns(one, len(one.decisions)) for form, one in forms.items()},
        "cpu_ns_per_message": {form: _cpu_ns(one, one.messages) for form, one in forms.items()},
        "first_divergence": None if found.divergence is None else _divergence(found.divergence),
    }


def _divergence(first: Divergence) -> dict[str, object]:
    return {
        "decision": first.number,
        "legacy": _decision(first.legacy),
        "shared": _decision(first.shared),
        "event": _event(first),
        "features": first.features,
    }


def _event(first: Divergence) -> dict[str, object]:
    """The message at which it was decided."""
    from featureplane.market.events import Kind

    decision, events = first.legacy or first.shared, first.events
    return {
        "message": None if decision is None else decision.message,
        "source_ts_ns": int(events["source_ts_ns"][0]),
        "local_ts_ns": int(events["local_ts_ns"][0]),
        "seq_last": int(events["seq_last"][0]),
        "events": [
            {"kind": Kind(kind).name.lower(), "side": side, "price": price, "qty": qty}
            for kind, side, price, qty in events[["kind", "side", "price", "qty"]].tolist()
        ],
    }


def _decision(one: Decision | None) -> dict[str, object] | None:
    return None if one is None else one._asdict()


def _cpu_ns(result: BacktestResult, count: int) -> float | None:
    return round(float(result.cpu_ns) / float(count), 1) if count else None


def _tell(found: Comparison) -> None:
    from featureplane.market.events import Kind

    table = Table("", "legacy", "shared", box=None, pad_edge=False)
    pair = (found.legacy, found.shared)
    table.add_row("decisions", *(f"{len(one.decisions):,}" for one in pair))
    table.add_row("fills", *(f"{len(one.fills):,}" for one in pair))
    for name, counts in (
        ("cpu a decision", [len(one.decisions) for one in pair]),
        ("cpu a message", [one.messages for one in pair]),
    ):
        spent = [_cpu_ns(one, count) for one, count in zip(pair, counts, strict=True)]
        table.add_row(name, *("none" if ns is None else f"{ns / 1e3:,.2f} us" for ns in spent))
    print_table(table)
    first = found.divergence
    if first is None:
        say("every decision is the same, field by field")
        return
    say_error(f"decision {first.number} differs", "the features are those of the frame at that message")
    say(f"  legacy {first.legacy}")
    say(f"  shared {first.shared}")
    event = _event(first)
    say(f"  at message {event['message']}, source time {event['source_ts_ns']}, id {event['seq_last']}:")
    for row in first.events[:_EVENTS_SHOWN]:
        say(f"  {Kind(int(row['kind'])).name.lower()} {row['side']} {row['qty']} @ {row['price']}")
    for feature_id, value in first.features.items():
        say(f"  {feature_id} {'has no value' if value is None else value}")
