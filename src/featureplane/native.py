"""The only module that imports `featureplane._native`; every other one asks here.

Without the extension the package computes with the Python reference.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Literal

from featureplane.errors import BackendUnavailable, SettingError
from featureplane.settings import read_settings

__all__ = ["Backend", "available", "module", "resolve", "why_not"]

Backend = Literal["auto", "rust", "python"]

_native: ModuleType | None
try:
    from featureplane import _native
except ImportError as error:
    _native, _why = None, str(error)
else:
    _why = ""

_log = logging.getLogger("featureplane")
_told = False


def available() -> bool:
    """Whether the Rust backend can be used."""
    return _native is not None


def why_not() -> str:
    """What the import of the extension said; empty when it is there."""
    return _why


def module() -> ModuleType:
    """The extension module; raises `BackendUnavailable` without it."""
    if _native is None:
        raise BackendUnavailable("rust")
    return _native


def resolve(backend: str) -> Literal["rust", "python"]:
    """Turn `auto` into a backend: as `HFT_FEATURE_ENGINE_BACKEND` says, else Rust when installed.

    Else it is Python, with one line saying so. Raises `BackendUnavailable` where Rust is asked for and not
    installed, `SettingError` for a word that is no backend and for settings that are none.
    """
    global _told  # noqa: PLW0603 - said once a process, whoever asks first
    if backend == "auto":
        backend = read_settings().engine_backend
    if backend == "rust":
        module()
        return "rust"
    if backend == "python":
        return "python"
    if backend != "auto":
        raise SettingError(f"backend={backend!r}", hint="choose one of auto, rust, python")
    if _native is not None:
        return "rust"
    if not _told:
        _told = True
        _log.warning("no Rust backend (%s); computing with the Python reference, some 100 x slower", _why)
    return "python"
