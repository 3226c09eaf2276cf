"""Why a day of a request is there, or is not.

Leans on `resolving` and `root`. Computes no features.
"""

from __future__ import annotations

from typing import Any

from featureplane.errors import MissingDay
from featureplane.market.days import Day
from featureplane.research.store.requests import Request
from featureplane.research.store.resolving import Resolver
from featureplane.research.store.root import Root

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
        tier = "hot" if row.hot_bytes else "parquet"
        about = {"rows": row.rows, "bytes": row.bytes, "uses": row.uses, "seconds": row.seconds}
        return told | {"stored": True, "tier": tier, "path": row.path, "pinned": row.pinned} | about
    if root.manifest is None:
        return told | {"stored": False, "cause": "read_only"}
    other = root.other_key(resolved)
    differs = [] if other is None else list(key.differs_from(other.facts.parts))
    return told | {"stored": False, "cause": root.why_missing(resolved), "differs": differs}
