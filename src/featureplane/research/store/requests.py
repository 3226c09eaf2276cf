"""What a store is asked for: a symbol, a feature set, and instants with a time zone.

Knows nothing of files.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

from featureplane.errors import SettingError
from featureplane.features.catalog import set_or_id
from featureplane.features.spec import FeatureSet

__all__ = ["Instant", "Request", "instant_ns", "request_for"]

Instant: TypeAlias = datetime | str
"""A `datetime` with a time zone (one of pandas too), or ISO text with an offset: `2024-08-08T09:00Z`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Request(NamedTuple):
    """One symbol and set over [start, end), UTC nanoseconds."""

    symbol: str
    start_ns: int
    end_ns: int
    feature_set: FeatureSet


def instant_ns(instant: Instant, name: str = "instant") -> int:
    """UTC nanoseconds since 1970; raises `SettingError` for a naive instant and for what is none.

    >>> instant_ns("1970-01-01T01:00:00+01:00")
    0
    """
    given = instant
    if isinstance(instant, str):
        try:
            instant = datetime.fromisoformat(instant)
        except ValueError:
            instant = ""
    if not isinstance(instant, datetime):
        raise SettingError(f"{name}={given!r}", hint="an instant, such as 2024-08-08T09:00:00Z")
    try:
        since = instant - _EPOCH
    except TypeError:
        hint = f"say which time zone is meant, such as {instant.isoformat()}+00:00"
        raise SettingError(f"{name}={given!s} has no time zone", hint=hint) from None
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return micros * 1_000 + (0 if given is not instant else int(getattr(instant, "nanosecond", 0)))


def request_for(symbol: str, start: Instant, end: Instant, feature_set: FeatureSet | str) -> Request:
    """A checked request; raises `SettingError` for instants that cannot be meant, `UnknownFeatureSet`."""
    start_ns, end_ns = instant_ns(start, "start"), instant_ns(end, "end")
    if end_ns < start_ns:
        raise SettingError(
            f"end={end!s} is before start={start!s}", hint="[start, end) is half-open; swap them"
        )
    fset = set_or_id(feature_set, "feature_set")
    return Request(symbol, start_ns, end_ns, fset)
