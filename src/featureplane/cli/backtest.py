"""`featureplane backtest`: a strategy over recordings, its numbers and a page that opens offline."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from featureplane.cli.features import set_to_run
from featureplane.cli.options import READING, AllowCode, Backend, Json, Reading, Source, Symbol
from featureplane.cli.terminal import counting, print_json, print_table, say, say_error
from featureplane.clock import SYSTEM, seconds_since
from featureplane.errors import SettingError
from featureplane.features.spec import FeatureSet
from featureplane.units import NANOS_PER_MS
from featureplane.whole_file import check_ending, check_target

if TYPE_CHECKING:
    from featureplane.execution.venues.paper import PaperOptions
    from featureplane.market.events import EventBatch
    from featureplane.ops.backtest_numbers import Numbers
    from featureplane.research.backtest.adapter import HftBacktestAdapter
    from featureplane.research.backtest.assets import HftAsset
    from featureplane.research.backtest.library import HftMarket
    from featureplane.research.backtest.result import BacktestResult
    from featureplane.strategy.api import BaseStrategy

__all__ = ["backtest"]

_EXAMPLE = (
    "featureplane backtest featureplane.strategy.examples.market_maker:SharedMarketMaker "
    "--data ethusdt.gz --source binance-spot --features lob_shared_v1"
)
_BPS_PLACES = 4
_SAMPLE_NS = 100 * NANOS_PER_MS

Mode = Literal["lob_feature", "stats_only", "replay"]
Fill = Literal["touch", "queue", "through"]
Strategy = Annotated[
    str, Parameter(name="STRATEGY", help="module:Class, or file.py:Class with --allow-code.")
]
Data = Annotated[
    list[str], Parameter(consume_multiple=True, help="Files that continue each other, in order of time.")
]

backtest = App(
    name="backtest",
    help_epilogue="Exit status: 0 run, 1 the strategy was stopped by an error of its own, or forms differ, "
    "2 refused or bad input\n\n"
    f"Example:\n  {_EXAMPLE}",
)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Market:
    """How orders are treated."""

    mode: Annotated[
        Mode,
        Parameter(
            help="Who plays the market: replay is our paper venue; in lob_feature hftbacktest keeps clock, "
            "queue and fills, and stats_only is that without features."
        ),
    ] = "replay"
    fill: Annotated[
        Fill,
        Parameter(
            help="What a trade at the price does to a waiting order: fill it, move its queue, nothing."
        ),
    ] = "queue"
    latency_us: Annotated[
        int, Parameter(help="Microseconds an order takes to the venue, and its answer back.")
    ] = 0
    maker_bps: Annotated[str, Parameter(help="Fee of a waiting order in basis points.")] = "0"
    taker_bps: Annotated[str, Parameter(help="Fee of an order that takes.")] = "0"

    def check(self) -> None:
        """Raise `SettingError` for what no market has."""
        if self.latency_us < 0:
            raise SettingError(
                f"--latency-us: found {self.latency_us}, expected microseconds, an integer from 0",
                hint="0 is a venue beside you",
            )
        self.paper()

    def paper(self) -> PaperOptions:
        """As options of the paper venue; raises `SettingError` for a fee or a latency that is none."""
        from featureplane.execution.money import amount
        from featureplane.execution.venues.desk import terms_of
        from featureplane.execution.venues.paper import PaperOptions

        for option, fee in (("--maker-bps", self.maker_bps), ("--taker-bps", self.taker_bps)):
            if amount(fee, _BPS_PLACES) is None:
                expected = f"decimal text of at most {_BPS_PLACES} decimals"
                raise SettingError(
                    f"{option}: found {fee!r}, expected {expected}", hint="basis points, like 2.5 or -0.5"
                )
        return PaperOptions(**terms_of(self))


MARKET = Market()


@dataclass(frozen=True, slots=True)
class _Given:
    """Where the events come from, and who reads and computes."""

    where: tuple[list[str], str, str | None]  # paths, source, symbol
    reading: Reading
    backend: str


@backtest.default
def run(
    strategy: Strategy,
    /,
    *,
    data: Data,
    source: Source,
    features: Annotated[
        str | None,
        Parameter(help="The id of a shipped set, or a .toml or .py file that holds one; not in stats_only."),
    ] = None,
    symbol: Symbol = None,
    market: Market = MARKET,
    out: Annotated[Path, Parameter(help="The HTML page to write.")] = Path("backtest.html"),
    backend: Backend = "auto",
    ab: Annotated[
        bool,
        Parameter(show_default=False, help="Compare the strategy's legacy and shared form; no page then."),
    ] = False,
    reading: Reading = READING,
    allow_code: AllowCode = False,
    json: Json = False,
) -> int:
    """Run a strategy over recordings: PnL, fills, markouts, and a page that opens offline."""
    given = _Given((data, source, symbol), reading, backend)
    if ab:
        return _compare(strategy, features, market, given, allow_code=allow_code, json=json)
    began = SYSTEM.monotonic_ns()
    with redirect_stdout(sys.stderr):  # standard output is for data, whatever a strategy prints
        check_target(out, data)
        check_ending(out, ".html")
        made, fset = _checked(strategy, features, market, out, allow_code=allow_code)
        result, events, numbers = _run(made, fset, market, given)
        setting = _setting(strategy, fset, market, source)
        size = _draw(out, result, events, numbers, setting)
    seconds = seconds_since(began)
    if json:
        about = {**setting, "symbol": events.instrument.symbol, "latency_us": market.latency_us}
        page = {"report": str(out), "report_bytes": size, "seconds": round(seconds, 3)}
        print_json(about | _answer(fset, result, numbers) | page)
    else:
        print_table(_table(numbers))
        say(f"{out}, {size / 1e6:.1f} MB, in {seconds:.1f} s")
    error = result.states[0].error
    if error is not None:
        say_error(f"{strategy} was stopped: {type(error).__name__}: {error}", "numbers are those until then")
        return 1
    return 0


def _compare(
    strategy: str, features: str | None, market: Market, given: _Given, *, allow_code: bool, json: bool
) -> int:
    from featureplane.cli.comparison import compare
    from featureplane.research.backtest.comparison import Exchanged, InHftbacktest, Replayed
    from featureplane.research.backtest.library import library

    market.check()
    if market.mode == "stats_only":
        hint = "--mode lob_feature runs the legacy form in stats_only, and the shared form with features"
        raise SettingError("--ab with --mode stats_only", hint=hint)
    if market.mode == "lob_feature":
        library()

    def read() -> Exchanged:
        events = _read(given)
        if market.mode == "replay":
            return Replayed(events, market.paper(), given.backend)
        return InHftbacktest(_asset(given, events), _hft_market(market), given.backend)

    return compare(strategy, features, read, allow_code=allow_code, json=json)


def _read(given: _Given) -> EventBatch:
    from featureplane.market.reading import read_events

    return read_events(*given.where, backend=given.backend, **given.reading.options())


def _draw(
    out: Path, result: BacktestResult, events: EventBatch, numbers: Numbers, setting: dict[str, str]
) -> int:
    """Write the page; its size."""
    from featureplane.ops.backtest_page import backtest_page

    with counting("drawing") as tell:
        tell("")
        return backtest_page(result, events, numbers, setting).write(out)


def _answer(fset: FeatureSet | None, result: BacktestResult, numbers: Numbers) -> dict[str, object]:
    error = result.states[0].error
    return {
        "fingerprint": None if fset is None else fset.fingerprint,
        **numbers.to_json(),
        "stopped_by": None if error is None else f"{type(error).__name__}: {error}",
    }


def _checked(
    name: str, features: str | None, market: Market, out: Path, *, allow_code: bool
) -> tuple[BaseStrategy, FeatureSet | None]:
    """The strategy and its features, with everything refused that can be before a file is read."""
    from featureplane.research.backtest.library import library
    from featureplane.strategy.api import check_features, required_by
    from featureplane.strategy.loading import load_strategy, make

    market.check()
    if not out.parent.is_dir():
        raise SettingError(f"--out {out}: no such folder", hint="make it first, or name another place")
    if allow_code and ".py:" in name:
        say(f"running {name.rpartition(':')[0]} as code")
    cls = load_strategy(name, allow_code=allow_code)
    if market.mode == "stats_only" and features is not None:
        raise SettingError(
            "--features with --mode stats_only",
            hint="it computes none: --mode lob_feature does, or leave --features out",
        )
    required = required_by(cls) if market.mode != "stats_only" else ()
    wanted = features or next(iter(required), None)
    fset = None if wanted is None else set_to_run(wanted, allow_code=allow_code)
    if market.mode == "lob_feature" and fset is None:
        raise SettingError(
            "--mode lob_feature without features", hint="give --features, or use --mode stats_only"
        )
    made = make(cls, name)
    if market.mode == "stats_only" and required_by(made):
        hint = "--mode lob_feature computes them; stats_only runs a strategy's legacy form"
        raise SettingError(f"{name} requires features, and --mode stats_only has none", hint=hint)
    check_features(made, fset)
    if market.mode != "replay":
        library()
    return made, fset


def _run(
    strategy: BaseStrategy, fset: FeatureSet | None, market: Market, given: _Given
) -> tuple[BacktestResult, EventBatch, Numbers]:
    """Read, run, and add up."""
    from featureplane.ops.backtest_numbers import numbers_of
    from featureplane.research.backtest.hft import hft_backtest
    from featureplane.research.backtest.replay import replay_backtest

    paper = market.paper()
    with counting("reading") as tell:
        tell("")
        events = _read(given)
    total = events.messages
    with counting("backtest") as tell:

        def progress(messages: int) -> None:
            tell(f"{messages:,} of {total:,} messages")

        if market.mode != "replay":
            adapter = _adapter(fset, market, given, events)
            result = hft_backtest([strategy], adapter, sample_ns=_SAMPLE_NS, progress=progress)
        else:
            result = replay_backtest(
                [strategy],
                events,
                fset=fset,
                paper=paper,
                sample_ns=_SAMPLE_NS,
                backend=given.backend,
                progress=progress,
            )
    return result, events, numbers_of(result, events.instrument)


def _adapter(
    fset: FeatureSet | None, market: Market, given: _Given, events: EventBatch
) -> HftBacktestAdapter:
    from featureplane.research.backtest.adapter import HftBacktestAdapter

    mode: Literal["stats_only", "lob_feature"] = "stats_only" if fset is None else "lob_feature"
    return HftBacktestAdapter(
        _asset(given, events), fset, feature_mode=mode, market=_hft_market(market), backend=given.backend
    )


def _asset(given: _Given, events: EventBatch) -> HftAsset:
    """The same recording for hftbacktest; its own arrays go in as they are."""
    from featureplane.research.backtest.assets import HftAsset

    paths, source, symbol = given.where
    if source == "hftbacktest":
        return HftAsset.read(paths, symbol, backend=given.backend, **given.reading.options())
    return HftAsset.of(events)


def _hft_market(market: Market) -> HftMarket:
    from featureplane.execution.venues.desk import terms_of
    from featureplane.research.backtest.library import HftMarket

    return HftMarket(**terms_of(market))


def _setting(strategy: str, fset: FeatureSet | None, market: Market, source: str) -> dict[str, str]:
    """How it was run."""
    return {
        "strategy": strategy,
        "mode": market.mode,
        "fill": market.fill,
        "latency": f"{market.latency_us} us each way",
        "maker_bps": market.maker_bps,
        "taker_bps": market.taker_bps,
        "source": source,
        "set": "none" if fset is None else fset.feature_set_id,
    }


def _table(numbers: Numbers) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    for name, value, note in _rows(numbers):
        table.add_row(Text(name), Text(value), Text(note))
    return table


def _rows(numbers: Numbers) -> Iterator[tuple[str, str, str]]:
    yield "pnl", _signed(numbers.pnl), f"quote currency, fees of {numbers.fees:,.4f} paid"
    yield "fills", f"{numbers.fills:,}", f"{numbers.maker_fills:,} of them while waiting"
    rate = "none" if numbers.fill_rate is None else f"{numbers.fill_rate:.1%}"
    yield "fill rate", rate, f"of {numbers.sent:,} orders; {numbers.refused:,} more refused by the risk check"
    for horizon, move in numbers.markouts.items():
        yield f"markout {horizon} ms", _signed(move), "in price, a unit of size, against the mid"
    yield "inventory", f"{numbers.inventory:+,g}", f"at the end; at most {numbers.inventory_most:,g}"
    yield "cpu", f"{numbers.cpu_ns_per_message / 1e3:,.2f} us", f"a message, of {numbers.messages:,}"


def _signed(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:+,.6f}" if abs(value) < 1 else f"{value:+,.6g}"
