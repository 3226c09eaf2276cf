"""The key of a stored day: a hash of everything its bytes follow from, and of nothing else.

Each part has a name and is hashed by itself, so that two keys can be compared part by part; parts are
written with their lengths, so that no two lists of parts read alike.

Leans on `research.contents` for hashes of raw data. Knows nothing of files of the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from featureplane.features.kernels.declarations import KERNEL_ABI
from featureplane.features.spec import FeatureSet
from featureplane.market.days import CALENDAR_VERSION, Day
from featureplane.market.events import StreamOptions
from featureplane.market.instruments import Instrument

__all__ = ["FORMAT_VERSION", "PARTS", "DayKey", "chain_key", "day_key", "digest_of", "reading_key"]

FORMAT_VERSION: Final = 3
"""Rises with any change of what the store writes for the same frames, or of how raw data are read."""

_KEY: Final = "featureplane store key 1"
_CHAIN: Final = "featureplane store book 1"
PARTS: Final = ("raw", "book", "features", "instrument", "kernels", "calendar", "parameters", "format")
"""What a key is made of: raw data, the book of the day before, fingerprint, and so on."""

_NOT_KEYED: Final = ("origin", "inferred")  # where an instrument was read changes nothing


def digest_of(domain: str, fields: Sequence[tuple[str, bytes]]) -> bytes:
    """sha-256 of named fields in their order, 32 bytes; different for any two lists and any two domains.

    >>> digest_of("d", [("a", b"bc")]) == digest_of("d", [("ab", b"c")])
    False
    """
    digest = hashlib.sha256()
    for text in (domain.encode(), len(fields).to_bytes(8, "little")):
        digest.update(len(text).to_bytes(8, "little") + text)
    for name, value in fields:
        written = name.encode()
        digest.update(len(written).to_bytes(8, "little") + written)
        digest.update(len(value).to_bytes(8, "little") + value)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class DayKey:
    """A key in hex, and the hashes of its parts in hex, in the order of `PARTS`."""

    key: str
    parts: tuple[str, ...]

    def differs_from(self, parts: Sequence[str]) -> tuple[str, ...]:
        """The names of the parts in which another key differs."""
        return tuple(name for name, one, two in zip(PARTS, self.parts, parts, strict=True) if one != two)


def day_key(
    *,
    raw: Sequence[bytes],
    book: bytes | None,
    fset: FeatureSet,
    instrument: Instrument,
    day: Day,
    source: str,
    options: StreamOptions,
) -> DayKey:
    """The key of one day of one symbol.

    `raw` has the content hash of each file in their order, `book` the hash of the checkpoint that the day
    starts from, None where it starts from a snapshot of its own.
    """
    parts = {
        "raw": digest_of("raw", [("file", one) for one in raw]),
        "book": digest_of("book", [] if book is None else [("checkpoint", book)]),
        "features": digest_of("features", _set_fields(fset)),
        "instrument": digest_of("instrument", _instrument_fields(instrument)),
        "kernels": digest_of("kernels", [("abi", str(KERNEL_ABI).encode())]),
        "calendar": digest_of("calendar", _calendar_fields(day)),
        "parameters": digest_of("parameters", _parameter_fields(source, options)),
        "format": digest_of("format", [("version", str(FORMAT_VERSION).encode())]),
    }
    key = digest_of(_KEY, [(name, parts[name]) for name in PARTS])
    return DayKey(key.hex(), tuple(parts[name].hex() for name in PARTS))


def chain_key(
    *,
    raw: bytes,
    before: bytes | None,
    reads: str,
    instrument: Instrument,
    source: str,
    options: StreamOptions,
) -> str:
    """The key of the book behind one file, in hex; `before` is the hash of the book it starts from."""
    fields = [
        ("raw", raw),
        ("before", b"" if before is None else before),
        ("reads", reads.encode()),
        ("instrument", digest_of("instrument", _instrument_fields(instrument))),
        ("parameters", digest_of("parameters", _parameter_fields(source, options))),
        ("format", str(FORMAT_VERSION).encode()),
    ]
    return digest_of(_CHAIN, fields).hex()


def reading_key(content: bytes, instrument: Instrument, source: str, options: StreamOptions) -> str:
    """The key of what is found in a file when it is read in this way, in hex."""
    fields = [
        ("content", content),
        ("instrument", digest_of("instrument", _instrument_fields(instrument))),
        ("parameters", digest_of("parameters", _parameter_fields(source, options))),
        ("format", str(FORMAT_VERSION).encode()),
    ]
    return digest_of("featureplane file facts 1", fields).hex()


def _set_fields(fset: FeatureSet) -> list[tuple[str, bytes]]:
    return [
        ("id", fset.feature_set_id.encode()),
        ("schema", str(fset.schema_version).encode()),
        ("fingerprint", fset.fingerprint.encode()),
    ]


def _instrument_fields(instrument: Instrument) -> list[tuple[str, bytes]]:
    """Every field of an instrument that a frame can depend on."""
    told = {name: value for name, value in asdict(instrument).items() if name not in _NOT_KEYED}
    return [(name, _json(told[name])) for name in sorted(told)]


def _parameter_fields(source: str, options: StreamOptions) -> list[tuple[str, bytes]]:
    """How the raw data are read and taken."""
    told: Mapping[str, object] = asdict(options) | {"source": source}
    return [(name, _json(told[name])) for name in sorted(told)]


def _calendar_fields(day: Day) -> list[tuple[str, bytes]]:
    span = [day.start_ns, day.end_ns, day.closes_ns]
    return [
        ("version", str(CALENDAR_VERSION).encode()),
        ("date", day.date.isoformat().encode()),
        ("span", _json(span)),
        ("instants", _json(day.calendar)),
    ]


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
