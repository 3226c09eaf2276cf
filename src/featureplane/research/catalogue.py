"""A catalogue: the TOML file that says which files a dataset has, and what they hold.

    source = "binance-usdm"
    instruments = "instruments.toml"

    [[file]]
    path = "btcusdt_20240808.gz"
    symbol = "BTCUSDT"
    days = ["2024-08-08"]

Paths are relative to the catalogue. `symbol` and `days` may be left out: then the files tell.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

from featureplane.errors import UnreadableFile

__all__ = ["DataFile", "Listed", "read_catalogue"]

_OPTIONS: Final = {"on_gap": str, "on_malformed": str, "on_mismatch": str, "seed": str, "seed_after": int}
_BYTES_MAX: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a stream; `days` are those a catalogue says it is of, None where nobody says."""

    path: Path
    symbol: str | None = None
    days: tuple[date, ...] | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """What a catalogue says."""

    files: tuple[DataFile, ...]
    source: str | None = None
    instruments: Path | None = None
    holidays: tuple[date, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def read_catalogue(path: Path) -> Listed:
    """Read a catalogue; raises `UnreadableFile` for one that is missing or cannot be meant."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_BYTES_MAX + 1)
    except OSError as error:
        raise _wrong(path, error.strerror or str(error)) from None
    if len(data) > _BYTES_MAX:
        raise _wrong(path, f"more than {_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise _wrong(path, f"no TOML ({error})") from None
    tables = document.pop("file", None)
    if not isinstance(tables, list) or not tables:
        raise _wrong(path, "no [[file]] table")
    known = {"source": str, "instruments": str, "holidays": list} | _OPTIONS
    _check(path, document, known, "the catalogue")
    return Listed(
        files=tuple(_file(path, table) for table in tables),
        source=document.get("source"),
        instruments=path.parent / document["instruments"] if "instruments" in document else None,
        holidays=_days(path, document.get("holidays", []), "holidays"),
        options={name: document[name] for name in _OPTIONS if name in document},
    )


def _file(catalogue: Path, table: Any) -> DataFile:
    if not isinstance(table, dict) or "path" not in table:
        raise _wrong(catalogue, "a [[file]] table without `path`")
    _check(catalogue, table, {"path": str, "symbol": str, "days": list}, "a [[file]] table")
    days = _days(catalogue, table["days"], "days") if "days" in table else None
    return DataFile(catalogue.parent / table["path"], table.get("symbol"), days)


def _check(path: Path, table: Mapping[str, Any], known: Mapping[str, type], where: str) -> None:
    for name, value in table.items():
        if name not in known:
            raise _wrong(path, f"the key `{name}` in {where}", f"one of {', '.join(known)}")
        if type(value) is not known[name]:
            raise _wrong(path, f"`{name}` = {value!r}", known[name].__name__)


def _days(path: Path, texts: list[Any], name: str) -> tuple[date, ...]:
    found = []
    for text in texts:
        try:
            found.append(text if type(text) is date else date.fromisoformat(text))
        except (TypeError, ValueError):
            raise _wrong(path, f"{text!r} among `{name}`", 'days like "2024-08-08"') from None
    return tuple(found)


def _wrong(path: Path, found: str, expected: str = "a catalogue of files") -> UnreadableFile:
    hint = "docs/concepts/store.md shows a catalogue"
    return UnreadableFile(str(path), found, expected, hint=hint)
