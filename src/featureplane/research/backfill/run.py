"""Backfill: many symbols' days computed and stored, by many workers, each day once.

    plan -> look at files -> roll books -> compute days -> root hash

What is stored already is not computed again, so a backfill that was ended goes on where it was. The root hash
is one of the bytes of all days; it depends on neither engine, number of workers nor order.

Leans on `backfill_plan`, `backfill_engines`. Knows nothing of terminals.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from featureplane.clock import SYSTEM, Clock, seconds_since
from featureplane.errors import SettingError
from featureplane.features.catalog import set_or_id
from featureplane.features.spec import FeatureSet
from featureplane.research.backfill.engines import engine as engine_of
from featureplane.research.backfill.plan import Plan, plan_of
from featureplane.research.backfill.tasks import Job, Outcome
from featureplane.research.datasets import Dataset
from featureplane.research.store.keys import digest_of
from featureplane.research.store.limits import StoreLimits, limits_from
from featureplane.research.store.places import Place, place_of
from featureplane.research.store.root import Root

__all__ = ["Backfill", "BackfillReport"]

_DOMAIN: Final = "featureplane backfill 1"


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """What came of a backfill.

    `computed` days were made by it, `stored` ones were there or somebody else made them. `root_hash` is in
    hex, and None unless every day of the plan is stored. `problems` say, a line each, why one is not.
    """

    computed: int
    stored: int
    bytes: int
    seconds: float
    worker_seconds: float
    root_hash: str | None
    problems: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every day of the plan is stored."""
        return self.root_hash is not None


class Backfill:
    """A backfill of `symbols` on `dates` (session days) from `data` into `root`.

    `workers` are processes, as many as this process may use processors if nobody says. `engine` is
    `process`, `dask` or `ray`, these on the cluster at the address `cluster`, else on a local one. `limits`
    as a `FeatureStore` has them; a backfill that would not fit into them is refused before it begins.

    Raises
    ------
    SettingError
        No symbol, no day, no worker, or more bytes than the store may hold.
    UnknownSymbol, UnknownFeatureSet
        As it says.
    """

    def __init__(
        self,
        data: Dataset,
        symbols: Iterable[str],
        dates: Iterable[date],
        feature_set: FeatureSet | str,
        *,
        root: str | os.PathLike[str] | None = None,
        limits: StoreLimits | Mapping[str, Any] | None = None,
        workers: int | None = None,
        engine: str = "process",
        cluster: str | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.workers = len(os.sched_getaffinity(0)) if workers is None else workers
        if self.workers < 1:
            raise SettingError(f"workers={workers}", hint="at least one")
        chosen = limits if isinstance(limits, StoreLimits) else limits_from(limits)
        place = place_of(root)
        place = Place(place.folder.absolute(), place.url, place.endpoint)
        fset = set_or_id(feature_set, "feature_set")
        self._job = Job(secrets.token_hex(8), place, data, fset, chosen)
        self._engine, self._cluster, self._clock = engine, cluster, clock
        self.plan: Plan = plan_of(self._job, tuple(symbols), dates, self.workers, clock)

    def run(self, progress: Callable[[Outcome], None] | None = None) -> BackfillReport:
        """Do what the plan says; `progress` is told each outcome.

        Raises `SettingError` where the days cannot fit, `ExtraUnavailable` for an engine that is not
        installed, `StoreError` where a worker was ended. What is stored by then stays.
        """
        began = self._clock.monotonic_ns()
        self._check_room()
        outcomes: list[Outcome] = []
        spent = 0.0
        with engine_of(self._engine, self._job, self.workers, self._cluster) as perform:
            for turn in self.plan.turns:
                for outcome in perform(turn):
                    spent += outcome.seconds
                    if outcome.task.kind == "day":
                        outcomes.append(outcome)
                    if progress is not None:
                        progress(outcome)
        return self._report(outcomes, seconds_since(began, self._clock), spent)

    def _check_room(self) -> None:
        most = self._job.limits.bytes_kept
        if self.plan.known and self.plan.bytes > most:
            raise SettingError(
                f"about {self.plan.bytes:,} bytes, and the store keeps {most:,}",
                hint="raise max_cache_size_gb, or days would push each other out",
            )

    def _report(self, outcomes: list[Outcome], seconds: float, spent: float) -> BackfillReport:
        outcomes.sort(key=lambda one: (one.task.symbol, one.task.days))
        problems = [one.problem for one in outcomes if one.problem]
        gone = self._gone(outcomes)
        problems += [f"{one.task.symbol}: {one.task.days[0]} was stored and pushed out again" for one in gone]
        found = None if problems else root_hash(self._job.feature_set, outcomes)
        kept = [one for one in outcomes if one.key]
        return BackfillReport(
            computed=sum(one.result == "computed" for one in kept),
            stored=sum(one.result == "stored" for one in kept),
            bytes=sum(one.bytes for one in kept),
            seconds=seconds,
            worker_seconds=spent,
            root_hash=found,
            problems=tuple(problems),
        )

    def _gone(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Days that had to make room for others."""
        root = Root(self._job.place, self._job.limits, self._clock)
        try:
            return [one for one in outcomes if one.key and root.find(one.key) is None]
        finally:
            root.close()


def root_hash(fset: FeatureSet, outcomes: Iterable[Outcome]) -> str:
    """A hash of the keys and the bytes of all these days, in hex; their order does not matter."""
    told = (
        (f"{one.task.symbol}/{one.task.days[0]}", bytes.fromhex(one.key) + bytes.fromhex(one.digest))
        for one in outcomes
    )
    return digest_of(_DOMAIN, [(fset.feature_set_id, b""), *sorted(told)]).hex()
