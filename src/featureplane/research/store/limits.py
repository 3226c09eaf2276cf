"""How large a store may grow and how it writes; under `feature_store` in a configuration file.

Leans on `settings`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from featureplane.arguments import expect
from featureplane.errors import SettingError, UnreadableFile
from featureplane.settings import read_store_settings

__all__ = ["StoreLimits", "check_store_limits", "limits_from", "limits_of_file"]

_GB: Final = 1 << 30
_RANGES: Final = {
    "compression_level": (1, 22),
    "max_cache_size_gb": (0.0001, 1e6),
    "cleanup_threshold": (0.01, 1.0),
    "hot_tier_gb": (0.0, 1e6),
    "retention_days": (0, 36_500),
}


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """`max_cache_size_gb` (of 2^30 bytes) holds for both tiers; room is made at `cleanup_threshold` of it.

    `hot_tier_gb` is the part of it that mapped files may take, `retention_days` how long a day stays that
    nobody uses. Raises `SettingError` for a value out of range.
    """

    compression_level: int = 3
    max_cache_size_gb: float = 50.0
    cleanup_threshold: float = 0.90
    hot_tier_gb: float = 4.0
    retention_days: int = 7

    def __post_init__(self) -> None:
        """Check every value."""
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            whole = isinstance(getattr(StoreLimits, name, 0), int) or name in (
                "compression_level",
                "retention_days",
            )
            fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not fits or not least <= value <= most:
                kind = "a whole number" if whole else "a number"
                raise SettingError(f"{name}={value!r}", hint=f"{kind} from {least:g} to {most:g}")

    @property
    def bytes_max(self) -> int:
        """Bytes of both tiers together."""
        return int(self.max_cache_size_gb * _GB)

    @property
    def bytes_kept(self) -> int:
        """Bytes above which room is made."""
        return int(self.bytes_max * self.cleanup_threshold)

    @property
    def hot_max(self) -> int:
        """Bytes of the hot tier."""
        return int(self.hot_tier_gb * _GB)


def limits_from(table: Mapping[str, Any] | None, environment: Mapping[str, str] | None = None) -> StoreLimits:
    """The limits of a configuration's table `feature_store`, under those of the environment.

    Raises `SettingError` for a name that is none and a value that cannot be meant.
    """
    if table is not None:
        expect("limits", table, Mapping, "`StoreLimits` or a table of them")
    known = [field.name for field in fields(StoreLimits)]
    for name in table or {}:
        if name not in known:
            raise SettingError(f"feature_store.{name} is no limit", hint=f"there are: {', '.join(known)}")
    limits = StoreLimits(**(table or {}))
    days = read_store_settings(environment).retention_days
    return limits if days is None else replace(limits, retention_days=days)


def limits_of_file(path: Path | None) -> StoreLimits:
    """The limits of the table `feature_store` of a TOML file, if there is one; see `limits_from`.

    Raises `UnreadableFile` for a file that is none.
    """
    if path is None:
        return limits_from(None)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("feature_store")
    except OSError as error:
        found = error.strerror or str(error)
        raise UnreadableFile(str(path), found, "a configuration file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnreadableFile(str(path), f"no TOML ({error})", "a configuration file") from None
    check_store_limits(path, table)
    return limits_from(table)


def check_store_limits(path: object, table: object) -> None:
    """Raise `SettingError` for what is no table `feature_store` of that file; None: it has none."""
    if table is not None and not isinstance(table, dict):
        raise SettingError(f"{path}: feature_store = {table!r}", hint="a table: [feature_store]")
    limits_from(table)
