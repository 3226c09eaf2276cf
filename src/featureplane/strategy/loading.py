"""Strategies by name: a class in a module that can be imported, or in a Python file that may be run.

Leans on `strategy.api`, `strategy.compatibility` and `features.loading`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

from featureplane.errors import FeaturePlaneError, SettingError, UnknownStrategy, UnreadableFile
from featureplane.features.loading import run_file
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.compatibility import Forms

__all__ = ["load_either", "load_forms", "load_strategy", "make"]

_FILE_MODULE: Final = "featureplane_user_strategy"
_BEGINS: Final = ("on_tick", "on_bid_ask", "on_lob_stats", "on_features")


def load_strategy(name: str, *, allow_code: bool = False) -> type[BaseStrategy]:
    """The class that `module:Class` or `file.py:Class` names.

    Raises
    ------
    UnknownStrategy
        No such class there, or one that is no `BaseStrategy`; the hint has the nearest name.
    UnreadableFile
        A module that cannot be imported, or a file that cannot be read or fails; with its line.
    SettingError
        A name without a colon, a Python file without `allow_code=True`, whose code was not run, or a class
        without a handler that begins anything; the hint names those there that have one.
    """
    return _class_in(*_place_of(name, allow_code=allow_code))


def load_forms(name: str, *, allow_code: bool = False) -> Forms:
    """The two forms of which `name` is one, or the `Forms` that it names: `module:FORMS`.

    Raises what `load_strategy` raises; `UnknownStrategy` has the classes that have two forms.
    """
    return _forms_in(*_place_of(name, allow_code=allow_code))


def load_either(name: str, *, allow_code: bool = False) -> Forms | type[BaseStrategy]:
    """The two forms of which `name` is one, else the class that it names; a file is run once.

    Raises what `load_strategy` raises.
    """
    module, place, wanted = _place_of(name, allow_code=allow_code)
    try:
        return _forms_in(module, place, wanted)
    except UnknownStrategy:
        return _class_in(module, place, wanted)


def make(maker: Callable[[], BaseStrategy], name: str) -> BaseStrategy:
    """A strategy of that class or form; raises `SettingError` for one that cannot be made so."""
    try:
        strategy = maker()
    except FeaturePlaneError:
        raise
    except Exception as error:
        hint = "it is made without arguments here: give them defaults"
        raise SettingError(f"{name} cannot be made: {type(error).__name__}: {error}", hint=hint) from error
    if not hasattr(strategy, "name"):
        why = f"{name}: its `__init__` leaves out that of BaseStrategy"
        raise SettingError(why, hint="begin it with `super().__init__()`")
    return strategy


def _class_in(module: ModuleType, place: str, wanted: str) -> type[BaseStrategy]:
    found = getattr(module, wanted, None)
    if not isinstance(found, type) or not issubclass(found, BaseStrategy) or found is BaseStrategy:
        raise UnknownStrategy(wanted, place, _strategies_of(module))
    if not _begins(found):
        able = ", ".join(one for one in _strategies_of(module) if _begins(getattr(module, one)))
        hint = f"one of {', '.join(_BEGINS)} has to be there; those that can run: {able or 'none'}"
        raise SettingError(f"{wanted} in {place} has no handler that would begin anything", hint=hint)
    return found


def _begins(cls: type[BaseStrategy]) -> bool:
    """Whether the market calls it: a gap, and what becomes of orders, come behind that."""
    return any(getattr(cls, name) is not getattr(BaseStrategy, name) for name in _BEGINS)


def _forms_in(module: ModuleType, place: str, wanted: str) -> Forms:
    found = getattr(module, wanted, None)
    pairs = [value for value in vars(module).values() if isinstance(value, Forms)]
    if isinstance(found, Forms):
        return found
    for forms in pairs:
        if found is not None and (found is forms.legacy or found is forms.shared):
            return forms
    names = {id(value): key for key, value in vars(module).items()}
    known = {names.get(id(one), "") for forms in pairs for one in (forms, forms.legacy, forms.shared)}
    raise UnknownStrategy(wanted, place, sorted(known - {""}), kind="strategy in two forms")


def _place_of(name: str, *, allow_code: bool) -> tuple[ModuleType, str, str]:
    """The module, what it was called, and the name in it."""
    place, colon, wanted = name.rpartition(":")
    if not colon or not place or not wanted:
        hint = "module:Class or file.py:Class, like featureplane.strategy.examples.ofi_taker:SharedOfiTaker"
        raise SettingError(f"strategy {name!r}", hint=hint)
    if Path(place).suffix != ".py":
        return _imported(place), place, wanted
    return run_file(Path(place), _FILE_MODULE, "a strategy", allow_code=allow_code), place, wanted


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except FeaturePlaneError:
        raise
    except Exception as error:
        found = f"no module to import ({type(error).__name__}: {error})"
        hint = "is it installed, or on PYTHONPATH? a file is named with its .py"
        raise UnreadableFile(name, found, "a module with a strategy", hint=hint) from error


def _strategies_of(module: ModuleType) -> list[str]:
    """Those defined there, not those it imports."""
    return sorted(
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, BaseStrategy) and value.__module__ == module.__name__
    )
