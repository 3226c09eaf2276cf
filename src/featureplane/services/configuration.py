"""What a service is asked for: command line over environment over one TOML file, with the same names.

    source = "replay:ethusdt.gz@1"
    symbol = ["ETHUSDT"]
    features = "lob_shared_v1"
    strategy = ["mm=featureplane.strategy.examples.market_maker:SharedMarketMaker"]
    engine_emit_events = true

    [limits]
    order_qty_max = "0.5"

Settings of the environment (`settings.SETTINGS`) stand in the file by their names without the prefix.
Leans on `settings` and `execution.limits`. Opens nothing but that file.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from featureplane.errors import SettingError, UnreadableFile
from featureplane.execution.limits import RiskLimits
from featureplane.research.store.limits import check_store_limits
from featureplane.services.raw_queue import MESSAGES_MAX
from featureplane.services.recording_files import FILE_BYTES_MAX, KEEP_BYTES
from featureplane.settings import SETTINGS, Settings, read_settings

__all__ = [
    "CONTROL",
    "RECORD",
    "SHADOW_LAST",
    "ServiceConfiguration",
    "nearest",
    "plain",
    "read_configuration",
]

SHADOW_LAST: Final = "var/shadow_last.json"
"""Where the last mismatch of each symbol with the shadow is written."""

RECORD: Final = "var/recording"
"""Where `featureplane incident` looks for a recording, unless asked otherwise."""

CONTROL: Final = "var/featureplane.sock"
"""Where a service listens for commands, unless asked otherwise."""

_FILE_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfiguration:
    """What is asked for. `feed` is the venue whose messages they are; None: as the instruments say."""

    source: str = ""
    feed: str | None = None
    symbol: tuple[str, ...] = ()
    features: str | None = None
    strategy: tuple[str, ...] = ()
    venue: str = "paper"
    instruments: str | None = None
    fill: str = "queue"
    latency_us: int = 0
    maker_bps: str = "0"
    taker_bps: str = "0"
    budget_us: int = 1000
    queue: int = MESSAGES_MAX
    metrics: str | None = None
    remote: bool = False
    control: str = CONTROL
    record: str | None = None
    shadow_mode: str = "sample"
    record_mb: int = FILE_BYTES_MAX >> 20
    record_keep_mb: int = KEEP_BYTES >> 20
    log_json: bool = False
    log_level: str = "info"
    backend: str = "auto"
    limits: RiskLimits = field(default_factory=RiskLimits)
    settings: Settings = field(default_factory=Settings)


_LISTS: Final = ("symbol", "strategy")
_NUMBERS: Final = {
    "latency_us": (0, 60_000_000),
    "budget_us": (0, 60_000_000),
    "queue": (1, 1 << 24),
    "record_mb": (1, 1 << 20),
    "record_keep_mb": (1, 1 << 30),
}
_STORE: Final = "feature_store"  # the table of `StoreLimits`: a service reads past it
_SWITCHES: Final = ("remote", "log_json")
_OPTIONS: Final = tuple(one.name for one in fields(ServiceConfiguration) if one.name != "settings")


def read_configuration(
    file: str | Path | None = None,
    given: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> ServiceConfiguration:
    """The configuration of a file, the environment, and what was `given`, which goes before both.

    What is given as None, or as an empty list, was not given. Raises `UnreadableFile` for a file that is
    none, and `SettingError` for a name that is none, with the nearest, and for a value that cannot be meant.
    """
    table = {} if file is None else _table(Path(file))
    known = (*_OPTIONS, _STORE, *(one.field for one in SETTINGS))
    for key in table:
        if key not in known:
            raise SettingError(f"{file}: unknown key {key!r}", hint=nearest(key, known))
    check_store_limits(file, table.pop(_STORE, None))
    limits = table.pop("limits", {})
    in_file = {one.field: table.pop(one.field) for one in SETTINGS if one.field in table}
    chosen = {key: value for key, value in (given or {}).items() if value not in (None, (), [])}
    place = "" if file is None else f"{file}: "
    values = {key: _value(key, value, place) for key, value in table.items()}
    values |= {key: _value(key, value, "") for key, value in chosen.items()}
    settings = read_settings(environment, under=in_file, place=place)
    return ServiceConfiguration(**values, limits=_limits(limits, place), settings=settings)


def plain(asked: ServiceConfiguration) -> dict[str, Any]:
    """What was asked for as JSON has it; there is no secret in it."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(asked), default=str))
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant, and what there is: a hint."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"{f'did you mean {close[0]}? ' if close else ''}there are: {', '.join(names)}"


def _table(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            data = stream.read(_FILE_BYTES_MAX)
        return tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error), "a configuration file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnreadableFile(str(path), f"no TOML ({error})", "a configuration file") from None


def _value(key: str, value: Any, place: str) -> Any:
    if key in _LISTS:
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, (list, tuple)) and all(isinstance(one, str) for one in texts):
            return tuple(texts)
        expected = "a list of names"
    elif key in _NUMBERS:
        least, most = _NUMBERS[key]
        if type(value) is int and least <= value <= most:
            return value
        expected = f"a number from {least:,} to {most:,}"
    elif key in _SWITCHES:
        if isinstance(value, bool):
            return value
        expected = "true or false"
    else:
        if isinstance(value, (str, Path)):
            return str(value)
        expected = "text"
    raise SettingError(f"{place}{key}={value!r}", hint=f"it takes {expected}")


def _limits(given: Any, place: str) -> RiskLimits:
    known = [one.name for one in fields(RiskLimits)]
    if not isinstance(given, dict):
        raise SettingError(f"{place}limits={given!r}", hint="it takes a table: [limits]")
    for key in given:
        if key not in known:
            raise SettingError(f"{place}unknown limit {key!r}", hint=nearest(key, known))
    return RiskLimits(**given)
