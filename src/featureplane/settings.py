"""Every setting of the environment, declared once; no other module opens the environment.

    HFT_FEATURE_ENGINE_BACKEND=python featureplane replay ...

`docs/reference/settings.md` is generated from here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from featureplane.errors import SettingError

__all__ = [
    "PREFIX",
    "SETTINGS",
    "STORE_SETTINGS",
    "Setting",
    "Settings",
    "StoreSettings",
    "inherited",
    "keep_ray_here",
    "read_settings",
    "read_store_settings",
]

PREFIX: Final = "HFT_FEATURE_"
"""What every setting begins with; a variable that begins so and is none is an error."""

_ALIKE: Final = 0.6  # what difflib calls close
_DECIMAL: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?(e-?[0-9]{1,2})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: a switch (0 or 1), a word of `words`, a path, or a number from `least` to `most`.

    Its default says which, and whether a number is whole.
    """

    name: str
    default: bool | float | str | Path
    default_text: str
    says: str
    words: tuple[str, ...] = ()
    least: int = 1
    most: int = 1_000_000

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return PREFIX + self.name

    @property
    def field(self) -> str:
        """Its name in `Settings`."""
        return self.name.lower()

    @property
    def expected(self) -> str:
        """What it can be, in words."""
        if isinstance(self.default, bool):
            return "0 or 1"
        if isinstance(self.default, Path):
            return "the name of a file"
        if isinstance(self.default, float):
            return f"a decimal number from 0 to {self.most:,}"
        return " or ".join(self.words) if self.words else f"a number from {self.least:,} to {self.most:,}"

    def read(self, text: str, called: str | None = None) -> bool | float | str | Path:
        """The value that a text means; raises `SettingError` for one that means none, as `check` does."""
        value: bool | float | str | Path = text
        if isinstance(self.default, bool):
            value = {"0": False, "1": True}.get(text, text)
        elif isinstance(self.default, Path):
            value = Path(text) if text.strip() and "\0" not in text else text
        elif isinstance(self.default, float):
            value = float(text) if _DECIMAL.fullmatch(text) else text
        elif not self.words and text.isascii() and text.isdigit() and len(text) <= len(str(self.most)):
            value = int(text)
        self.check(value, called)
        return value

    def check(self, value: object, called: str | None = None) -> None:
        """Refuse, with `SettingError`, a value that it cannot have; `called` is what it was given as."""
        fits = type(value) is type(self.default) and (not self.words or value in self.words)
        if isinstance(value, int | float) and not isinstance(value, bool):
            fits = fits and (0 if isinstance(value, float) else self.least) <= value <= self.most
        if not fits:
            shown = str(value) if isinstance(value, Path) else repr(value)
            raise SettingError(f"{called or self.variable}={shown}", hint=f"it takes {self.expected}")


SETTINGS: Final = (
    Setting(
        "ENGINE_ENABLED",
        default=True,
        default_text="1",
        says="0: no engine and no frames; strategies that require features are refused at start, those in "
        "legacy form run",
    ),
    Setting(
        "ENGINE_BACKEND",
        default="auto",
        default_text="`rust` if installed, else `python`",
        says="what computes book, guard and kernels wherever `auto` is asked for; asking for `rust` without "
        "the extension is an error, never a silent fall-back",
        words=("auto", "rust", "python"),
    ),
    Setting(
        "ENGINE_EMIT_EVENTS",
        default=True,
        default_text="1",
        says="0: no `on_features`, pull only",
    ),
    Setting(
        "METRICS_SAMPLE_EVERY",
        default=16,
        default_text="16",
        says="counters stay exact and are published every so many frames, ten times a second at most, and "
        "at each scrape",
    ),
    Setting(
        "LATENCY_SAMPLE_EVERY",
        default=16,
        default_text="16",
        says="one message in so many is timed",
    ),
    Setting(
        "SHADOW_PARITY",
        default=False,
        default_text="0",
        says="1: a second engine computes in the shadow of the live one and is compared with it",
    ),
    Setting(
        "SHADOW_BACKEND",
        default="auto",
        default_text="`auto`: the other one",
        says="what the shadow computes with; the same set on the same backend is refused",
        words=("auto", "rust", "python"),
    ),
    Setting(
        "SHADOW_SAMPLE_EVERY",
        default=256,
        default_text="256",
        says="every so manieth computed frame of a symbol is compared; `featureplane shadow set` changes it "
        "while running",
    ),
    Setting(
        "SHADOW_WARN_EVERY",
        default=100,
        default_text="100",
        says="one line is logged for so many mismatches",
    ),
    Setting(
        "SHADOW_ABS_TOL",
        default=0.0,
        default_text="0",
        says="by how much values of `f64` features may differ in the shadow; above 0 nothing is promoted",
    ),
    Setting(
        "ROLLOUT_STATE_PATH",
        default=Path("var/feature_rollout.json"),
        default_text="`var/feature_rollout.json`",
        says="where the state of the rollout is kept, with its history; its evidence and its criteria stand "
        "beside it",
    ),
)
"""Every setting there is."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A value for every setting; raises `SettingError` for one out of range."""

    engine_enabled: bool = True
    engine_backend: str = "auto"
    engine_emit_events: bool = True
    metrics_sample_every: int = 16
    latency_sample_every: int = 16
    shadow_parity: bool = False
    shadow_backend: str = "auto"
    shadow_sample_every: int = 256
    shadow_warn_every: int = 100
    shadow_abs_tol: float = 0.0
    rollout_state_path: Path = Path("var/feature_rollout.json")

    def __post_init__(self) -> None:
        """Check every value."""
        for setting in SETTINGS:
            setting.check(getattr(self, setting.field))


def read_settings(
    environment: Mapping[str, str] | None = None,
    *,
    under: Mapping[str, object] | None = None,
    place: str = "",
) -> Settings:
    """The settings of an environment, that of the process by default; what is not set has its default.

    `under` has values by field, of a file say, that hold where the environment has none; a switch may be 0 or
    1 there too. `place` stands before a field whose value is refused.

    Raises `SettingError` for a variable that begins with `HFT_FEATURE_` and is no setting, naming the
    nearest if one is near, and for a value that a setting cannot have.
    """
    given = os.environ if environment is None else environment
    said = tuple(sorted([(name, given[name]) for name in given if name.startswith(PREFIX)]))
    settings = _read(said)
    return settings if under is None else _above(settings, {name for name, _ in said}, under, place)


def _above(settings: Settings, said: set[str], under: Mapping[str, object], place: str) -> Settings:
    """The settings with values from below where nothing was said."""
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        if setting.field in under and setting.variable not in said:
            value = under[setting.field]
            if isinstance(setting.default, bool) and isinstance(value, int) and value in {0, 1}:
                value = bool(value)
            elif isinstance(setting.default, Path) and isinstance(value, str):
                value = setting.read(value, place + setting.field)
            setting.check(value, place + setting.field)
            values[setting.field] = value
    return replace(settings, **values)


@lru_cache(maxsize=1)  # every engine asks, and nearly always reads what the last one read
def _read(given: tuple[tuple[str, str], ...]) -> Settings:
    by_variable = {setting.variable: setting for setting in SETTINGS}
    values: dict[str, Any] = {}
    for variable, text in given:
        setting = by_variable.get(variable)
        if setting is None:
            raise SettingError(f"{variable} is no setting", hint=_hint(variable, list(by_variable)))
        values[setting.field] = setting.read(text)
    return Settings(**values)


STORE_SETTINGS: Final = {
    "FEATURE_STORE_PATH": (
        "the name of a folder, or `s3://BUCKET/PREFIX`",
        "`~/.feature_cache`",
        "where features over history are stored",
    ),
    "FEATURE_STORE_ENDPOINT": (
        "`http://HOST:PORT` or `https://HOST`",
        "that of AWS",
        "the server of a store on object storage",
    ),
    "FEATURE_STORE_LOCAL_PATH": (
        "the name of a folder",
        "`~/.feature_objects`",
        "below it lie manifest, hot files and books of stores on object storage, each in a folder of its own",
    ),
    "FEATURE_CACHE_RETENTION_DAYS": (
        "a number from 0 to 36,500",
        "7",
        "a stored day that nobody has used for so long is removed",
    ),
}
"""The settings of the store, which have no prefix: what they take, their default, and what they say."""

_RETENTION_MAX: Final = 36_500
_ENDPOINT: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/?", re.ASCII)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What the environment says of the store.

    `path` is a folder or the address of a bucket's prefix. `retention_days` is None where it says nothing.
    """

    path: str
    retention_days: int | None = None
    endpoint: str = ""
    local_path: Path = Path("~/.feature_objects")


def read_store_settings(environment: Mapping[str, str] | None = None) -> StoreSettings:
    """The settings of the store; raises `SettingError` for a value that cannot be meant."""
    given = os.environ if environment is None else environment
    said = given.get("FEATURE_STORE_PATH", "")
    path = said or "~/.feature_cache"
    if path.startswith("~"):  # a unit of systemd has no shell that does
        path = str(Path(path).expanduser())
    days = given.get("FEATURE_CACHE_RETENTION_DAYS", "")
    if days and not (days.isascii() and days.isdigit() and len(days) < 6 and int(days) <= _RETENTION_MAX):
        hint = f"it takes a number of days from 0 to {_RETENTION_MAX:,}"
        raise SettingError(f"FEATURE_CACHE_RETENTION_DAYS={days!r}", hint=hint)
    endpoint = given.get("FEATURE_STORE_ENDPOINT", "")
    if endpoint and not _ENDPOINT.fullmatch(endpoint):
        hint = "it takes http://HOST:PORT or https://HOST"
        raise SettingError(f"FEATURE_STORE_ENDPOINT={endpoint!r}", hint=hint)
    local = Path(given.get("FEATURE_STORE_LOCAL_PATH") or "~/.feature_objects").expanduser()
    return StoreSettings(path, int(days) if days else None, endpoint.rstrip("/"), local)


def inherited(**more: str) -> dict[str, str]:
    """The environment for a program that we start: ours and what is given here."""
    return {**os.environ, **more}


def keep_ray_here() -> None:
    """Let a cluster of Ray that this process starts listen on loopback alone, and tell nobody of its use.

    Ray has no argument for either, and reads both when it is imported; who set them keeps what they set.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # else on all addresses of the machine
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _hint(variable: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415 - for an error alone, and every start passes here

    # What all begin with would make any two names alike.
    meant = variable.removeprefix(PREFIX).upper()
    alike = {name: difflib.SequenceMatcher(None, meant, name.removeprefix(PREFIX)).ratio() for name in known}
    near = max(known, key=alike.__getitem__)
    return f"{f'did you mean {near}? ' if alike[near] >= _ALIKE else ''}there are: {', '.join(known)}"
