"""Why a day of a request is there, or is not.

Leans on `resolving` and `root`. Computes no features.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from featureplane.errors import MissingDay
from featureplane.market.days import Day
from featureplane.research.store.hot import open_hot
from featureplane.research.store.manifest import Row
from featureplane.research.store.requests import Request
from featureplane.research.store.resolving import Resolver
from featureplane.research.store.root import Root
from featureplane.research.store.shelf import Damaged, Gone, Unreachable

__all__ = ["explained"]


def explained(resolver: Resolver, root: Root, request: Request, day: Day) -> dict[str, Any]:
    """What the store knows of one day; see `FeatureStore.explain`."""
    told: dict[str, Any] = {"day": str(day), "start_ns": day.start_ns, "end_ns": day.end_ns}
    try:
        resolved = resolver.resolve(request.symbol, day, request.feature_set)
    except MissingDay as error:
        return told | {"stored": False, "cause": "no_data", "says": str(error)}
    key = resolved.key
    told |= {"key": key.key, "files": [file.path.name for file in resolved.files.own]}
    told |= {"rolled": [file.path.name for file in resolved.files.rolled]}
    if day.end_ns > root.clock.wall_ns():
        return told | {"stored": False, "cause": "open_day"}
    row = root.find(key.key)
    if row is not None:
        try:
            tier = _tier(root, row)
        except Unreachable:
            raise
        except Damaged as error:
            if not (isinstance(error, Gone) and root.was_removed(row)):
                return told | {"stored": False, "cause": "corrupt", "path": row.path, "says": str(error)}
        else:
            about = {"rows": row.rows, "bytes": row.bytes, "uses": row.uses, "seconds": row.seconds}
            return told | {"stored": True, "tier": tier, "path": row.path, "pinned": row.pinned} | about
    if root.manifest is None:
        return told | {"stored": False, "cause": "read_only"}
    other = root.other_key(resolved)
    differs = [] if other is None else list(key.differs_from(other.facts.parts))
    return told | {"stored": False, "cause": root.why_missing(resolved), "differs": differs}


def _tier(root: Root, row: Row) -> str:
    """Where a day would be read; raises `Damaged` where it would be found to be that as it is opened."""
    if row.hot_bytes:
        with suppress(Damaged):
            open_hot(root.shelf, row)
            return "hot"
    root.shelf.open(row)
    return "parquet"
