"""`featureplane backfill`: many symbols' days computed and stored, by many workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from cyclopts import App, Parameter

from featureplane.cli.features import set_to_run
from featureplane.cli.options import AllowCode, FeatureSetName, Json
from featureplane.cli.store import Config, Data, Root
from featureplane.cli.terminal import print_facts, print_json, say, say_error, watching
from featureplane.errors import SettingError

if TYPE_CHECKING:
    from featureplane.research.backfill.run import Backfill, BackfillReport
    from featureplane.research.backfill.tasks import Outcome

__all__ = ["backfill", "dates_of"]

_TOLD_MAX: Final = 20
_DAYS_MAX: Final = 36_525

backfill = App(
    name="backfill",
    help_epilogue="Exit status: 0 every day is stored, 1 a day is not, 2 bad input\n\nExample:\n"
    "  featureplane backfill --data days.toml --days 2024-08-08..2024-08-14 --workers 4",
)


Days: TypeAlias = Annotated[
    list[str], Parameter(consume_multiple=True, help="Session days: 2024-08-08, or FIRST..LAST.")
]
Symbols: TypeAlias = Annotated[
    list[str] | None, Parameter(consume_multiple=True, help="The symbols; all there are if left out.")
]
Workers: TypeAlias = Annotated[
    int | None, Parameter(help="Processes; as many as there are processors if left out.")
]
EngineName: TypeAlias = Annotated[Literal["process", "dask", "ray"], Parameter(help="Where the workers are.")]
Cluster: TypeAlias = Annotated[
    str | None, Parameter(help="The address of a running cluster of Dask or Ray; a local one without it.")
]
PlanOnly: TypeAlias = Annotated[
    bool, Parameter(help="Say what would be done, and about how long it takes.", show_default=False)
]


@backfill.default
def run(
    *,
    data: Data,
    days: Days,
    symbols: Symbols = None,
    features: FeatureSetName = "lob_shared_v1",
    workers: Workers = None,
    engine: EngineName = "process",
    cluster: Cluster = None,
    plan: PlanOnly = False,
    allow_code: AllowCode = False,
    root: Root = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Compute and store many days, each once; what is stored already is left as it is."""
    from featureplane.research.backfill.run import Backfill
    from featureplane.research.datasets import Dataset
    from featureplane.research.store.limits import limits_of_file

    dataset = Dataset(data)
    made = Backfill(
        dataset,
        dataset.symbols if symbols is None else symbols,
        dates_of(days),
        set_to_run(features, allow_code=allow_code),
        root=root,
        limits=limits_of_file(config),
        workers=workers,
        engine=engine,
        cluster=cluster,
    )
    answer = {"plan": made.plan.told() | {"workers": made.workers}}
    report = None
    if not plan:
        with _moving(made) as tell:
            report = made.run(tell)
        answer["report"] = asdict(report)
    if json:
        print_json(answer)
    else:
        print_facts(_short(report) if report is not None else answer["plan"])
    return 0 if report is None or report.complete else 1


def dates_of(texts: list[str]) -> list[date]:
    """The dates of `2024-08-08` and `2024-08-08..2024-08-14`, in order; raises `SettingError`.

    >>> len(dates_of(["2024-02-27..2024-03-01", "2024-03-01"]))
    4
    """
    found: set[date] = set()
    for text in texts:
        first, _, last = text.partition("..")
        try:
            begin, end = date.fromisoformat(first), date.fromisoformat(last or first)
        except ValueError:
            raise SettingError(
                f"--days {text}", hint="a day, 2024-08-08, or 2024-08-08..2024-08-14"
            ) from None
        count = (end - begin).days + 1
        if not 0 < count <= _DAYS_MAX:
            raise SettingError(f"--days {text} is {count} days", hint="from the first day to the last")
        found.update(begin + timedelta(days=number) for number in range(count))
    return sorted(found)


@contextmanager
def _moving(made: Backfill) -> Iterator[Callable[[Outcome], None]]:
    """A bar over the bytes that are read, in all three turns."""
    total = sum(task.raw_bytes + 1 for turn in made.plan.turns for task in turn)
    days, done = len(made.plan.days), 0
    with watching("files", total) as move:

        def tell(outcome: Outcome) -> None:
            nonlocal done
            done += outcome.task.kind == "day"
            what = {"look": "files", "roll": "books"}.get(outcome.task.kind, f"{done:,} of {days:,} days")
            move(outcome.task.raw_bytes + 1, what)

        yield tell


def _short(report: BackfillReport) -> dict[str, object]:
    """Without the problems, which are said to people."""
    for problem in report.problems[:_TOLD_MAX]:
        say_error(problem)
    if len(report.problems) > _TOLD_MAX:
        say(f"and {len(report.problems) - _TOLD_MAX:,} more")
    told = asdict(report) | {"problems": len(report.problems)}
    return told | {"seconds": round(report.seconds, 2), "worker_seconds": round(report.worker_seconds, 2)}
