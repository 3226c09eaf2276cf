"""`featureplane store`: features over history that were computed once; see them, look after them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeAlias

from cyclopts import App, Parameter
from rich.table import Table

from featureplane.cli.features import set_to_run
from featureplane.cli.options import AllowCode, FeatureSetName, Json
from featureplane.cli.terminal import print_facts, print_json, print_table, say
from featureplane.clock import SYSTEM
from featureplane.errors import StoreError
from featureplane.units import NANOS_PER_SECOND

if TYPE_CHECKING:
    from featureplane.research.store.feature_store import FeatureStore
    from featureplane.research.store.places import Place
    from featureplane.services.store_numbers import StoreNumbers

__all__ = ["Config", "Data", "Root", "store"]

_UNITS_S: Final = {"m": 60, "h": 3_600, "d": 86_400}
_WATCH_NS: Final = 5_000_000_000

Root: TypeAlias = Annotated[
    str | None,
    Parameter(help="A folder or s3://BUCKET/PREFIX; else FEATURE_STORE_PATH, else ~/.feature_cache."),
]
Config: TypeAlias = Annotated[
    Path | None, Parameter(help="A configuration whose table feature_store has the limits.")
]
Data: TypeAlias = Annotated[Path, Parameter(help="The catalogue of the dataset.")]
Named: TypeAlias = Annotated[str, Parameter(help="The symbol.")]
Start: TypeAlias = Annotated[str, Parameter(help="From this instant on, with a time zone.")]
End: TypeAlias = Annotated[str, Parameter(help="Before this instant, with a time zone.")]

store = App(
    name="store",
    help="Features over history, computed once: see what is stored, look after it.",
    help_epilogue="Example:\n  featureplane store status",
)


def _opened(root: str | None, config: Path | None, data: Path | None = None) -> FeatureStore:
    from featureplane.research.datasets import Dataset
    from featureplane.research.store.feature_store import FeatureStore
    from featureplane.research.store.limits import limits_of_file
    from featureplane.research.store.places import place_of

    place = place_of(root) if data is not None else _there(root)
    return FeatureStore(str(place), None if data is None else Dataset(data), limits=limits_of_file(config))


def _there(root: str | None) -> Place:
    """The place of a store that somebody has begun; raises `StoreError` for none."""
    from featureplane.research.store.places import place_of

    place = place_of(root)
    if not place.url and not place.folder.is_dir():
        hint = "name it with --root or FEATURE_STORE_PATH; `store warm` and `backfill` begin one"
        raise StoreError(f"{place}: no store", hint=hint)
    return place


@store.command(
    help_epilogue="Exit status: 0 told, 2 no such store\n\nExample:\n  featureplane store status --leases",
)
def status(
    *,
    leases: Annotated[bool, Parameter(help="Show who is computing what.", show_default=False)] = False,
    root: Root = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Show how much is stored, and who is computing."""
    with _opened(root, config) as opened:
        answer = opened.status()
        held = opened.leases() if leases else []
    if json:
        print_json(answer | ({"leases": held} if leases else {}))
        return 0
    print_facts(answer)
    if leases:
        table = Table("key", "holder", "age s", "renewed s", "token", "bytes", box=None, pad_edge=False)
        for one in held:
            ages = f"{one['age_seconds']:.1f}", f"{one['renewed_seconds']:.1f}"
            table.add_row(one["key"][:20], one["holder"], *ages, str(one["token"]), f"{one['reserved']:,}")
        print_table(table)
    return 0


@store.command(
    help_epilogue="Exit status: 0 all of it is stored, 1 something is missing, 2 bad input\n\nExample:\n"
    "  featureplane store explain BTCUSDT --data days.toml --start 2024-08-08T00:00Z --end 2024-08-09T00:00Z",
)
def explain(
    symbol: Named,
    /,
    *,
    data: Data,
    start: Start,
    end: End,
    features: FeatureSetName = "lob_shared_v1",
    allow_code: AllowCode = False,
    root: Root = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Show, day by day, whether a request is stored, or why not."""
    fset = set_to_run(features, allow_code=allow_code)
    with _opened(root, config, data) as opened:
        days = opened.explain(symbol, start, end, fset)
    if json:
        print_json({"symbol": symbol, "set": fset.feature_set_id, "days": days})
    else:
        table = Table("day", "stored", "why", "differs", "key", box=None, pad_edge=False)
        for day in days:
            why = day["tier"] if day["stored"] else day["cause"]
            differs = ", ".join(day.get("differs", []))
            table.add_row(day["day"], "yes" if day["stored"] else "no", why, differs, day.get("key", "")[:20])
        print_table(table)
    return 0 if all(day["stored"] for day in days) else 1


@store.command(
    help_epilogue="Exit status: 0 warm, 2 bad input\n\nExample:\n"
    "  featureplane store warm BTCUSDT --data days.toml --start 2024-08-08T00:00Z --end 2024-08-09T00:00Z",
)
def warm(
    symbols: Annotated[list[str], Parameter(name="SYMBOL", help="The symbols.")],
    /,
    *,
    data: Data,
    start: Start,
    end: End,
    features: FeatureSetName = "lob_shared_v1",
    allow_code: AllowCode = False,
    root: Root = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Compute what is missing and fill the hot tier, before anybody asks."""
    fset = set_to_run(features, allow_code=allow_code)
    with _opened(root, config, data) as opened:
        came = opened.warm(symbols, start, end, fset)
    _tell({"set": fset.feature_set_id, "days": dict(came)}, json=json)
    return 0


@store.command(
    help_epilogue="Exit status: 0 done, 2 no such store\n\nExample:\n  featureplane store cleanup",
)
def cleanup(*, root: Root = None, config: Config = None, json: Json = False) -> int:
    """Remove what nobody has used for long, and what has no room; for a timer."""
    with _opened(root, config) as opened:
        _tell(opened.evict(), json=json)
    return 0


@store.command(
    help_epilogue="Exit status: 0 nothing wrong or it was mended, 1 something is wrong, 2 no such store\n\n"
    "Example:\n  featureplane store fsck --repair",
)
def fsck(
    *,
    repair: Annotated[bool, Parameter(help="Put right what is wrong.", show_default=False)] = False,
    rebuild_manifest: Annotated[
        bool, Parameter(help="Make the manifest anew from the files first.", show_default=False)
    ] = False,
    root: Root = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Hold manifest and files against each other, every byte."""
    if rebuild_manifest:
        with _opened(root, config) as opened:
            say(f"{opened.rebuild_manifest()} days in the manifest")
    with _opened(root, config) as opened:
        report = opened.fsck(repair=repair)
    _tell(asdict(report) | {"clean": report.clean}, json=json)
    return 0 if report.clean or report.mended else 1


@store.command(
    help_epilogue="Exit status: 0 equal, 1 a stored day or its hot copy differs, or none could be computed\n"
    "again, 2 bad input\n\nExample:\n"
    "  featureplane store verify --data catalogue.toml --sample 10",
)
def verify(
    *,
    data: Data,
    sample: Annotated[int, Parameter(help="How many days.")] = 10,
    features: Annotated[
        list[str] | None, Parameter(help="Sets of your own, a file each, beside the shipped ones.")
    ] = None,
    allow_code: AllowCode = False,
    root: Root = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Compute stored days again, by lot, and compare every byte."""
    sets = [set_to_run(one, allow_code=allow_code) for one in features or ()]
    with _opened(root, config, data) as opened:
        report = opened.verify(sample, sets=sets)
    _tell(report, json=json)
    if report["left_out"] and not report["checked"]:
        say("nothing was verified: days of sets of your own need --features, and the files they came from")
        return 1
    return 1 if report["different"] or report["hot"] else 0


@store.command(
    help_epilogue="Exit status: 0 published, 2 it cannot be\n\nExample:\n  featureplane store snapshot",
)
def snapshot(*, root: Root = None, config: Config = None, json: Json = False) -> int:
    """Publish what is stored as manifest.duckdb, for people who ask with DuckDB."""
    with _opened(root, config) as opened:
        published = opened.snapshot()
        days = opened.stats()["days"]
    _tell({"snapshot": str(published), "days": days}, json=json)
    return 0


@store.command(
    help_epilogue="Exit status: 0 done, 1 nothing of it is stored, 2 bad input\n\nExample:\n"
    "  featureplane store pin BTCUSDT --start 2024-08-08T00:00Z --end 2024-08-09T00:00Z",
)
def pin(
    symbol: Named,
    /,
    *,
    start: Start,
    end: End,
    off: Annotated[bool, Parameter(help="Let it go again.", show_default=False)] = False,
    root: Root = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Keep the stored days of a symbol, whatever needs room."""
    with _opened(root, config) as opened:
        count = opened.pin(symbol, start, end, pinned=not off)
    _tell({"symbol": symbol, "days": count, "pinned": not off}, json=json)
    return 0 if count else 1


@store.command(
    help_epilogue="Exit status: 0 stopped, 2 it cannot listen there\n\nExample:\n"
    "  featureplane store serve --listen 127.0.0.1:8000",
)
def serve(
    *,
    listen: Annotated[str, Parameter(help="HOST:PORT for /metrics and /healthz.")] = "127.0.0.1:8000",
    remote: Annotated[
        bool, Parameter(show_default=False, help="Let it be reached from other machines.")
    ] = False,
    root: Root = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Show Prometheus what all processes of the store counted together, until interrupted."""
    from featureplane.research.store.limits import limits_of_file
    from featureplane.research.store.places import place_of
    from featureplane.services.health import WebServer, bind_tcp, require_web
    from featureplane.services.store_numbers import StoreNumbers, store_app

    require_web()
    numbers = StoreNumbers(place_of(root).folder, limits_of_file(config))
    with bind_tcp(listen, remote=remote, option="--listen") as bound:
        host, port = bound.getsockname()[:2]
        web = WebServer(store_app(numbers), bound, "store-metrics")
        numbers.watch()
        web.start()
        if json:
            print_json({"listens": f"{host}:{port}"})
        else:
            say(f"http://{host}:{port}/metrics")
        try:
            _watch(numbers)
        except KeyboardInterrupt:
            return 0
        finally:
            web.stop()


@store.command(
    help_epilogue="Exit status: 0 within the budget, 1 it is spent, 2 no such store, or no time\n\nExample:\n"
    "  featureplane store slo --since 30d",
)
def slo(
    *,
    since: Annotated[
        str, Parameter(help="So long ago (45m, 6h, 30d), or an instant with a time zone.")
    ] = "30d",
    root: Root = None,
    json: Json = False,
) -> int:
    """Show how much of the error budget is spent, and for how many minutes the objective was not met."""
    from featureplane.research.store.objective import budget_since

    budget = budget_since(_there(root).folder, _instant(since))
    told = asdict(budget)
    if json and not budget.minutes:
        told |= dict.fromkeys(("ratio", "spent"))  # NaN is no JSON
    _tell(told, json=json)
    return 1 if budget.spent > 1 else 0


def _instant(text: str) -> int:
    """UTC nanoseconds of an instant, or of one so long ago."""
    from featureplane.services.incident import read_instant

    number, unit = text[:-1], text[-1:]
    if number.isdigit() and unit in _UNITS_S:
        return SYSTEM.wall_ns() - int(number) * _UNITS_S[unit] * NANOS_PER_SECOND
    return read_instant(text, "--since")


def _watch(numbers: StoreNumbers) -> NoReturn:
    never = threading.Event()
    while True:
        SYSTEM.wait(_WATCH_NS, never)
        numbers.watch()


def _tell(answer: Mapping[str, Any], *, json: bool) -> None:
    if json:
        print_json(answer)
    else:
        print_facts(answer)
