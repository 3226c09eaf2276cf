"""Feature sets from files: TOML, which is read, and Python, which is run.

A TOML file holds one set. Each feature is an expression of kernel calls by name, names of earlier
features, numbers, `+ - * /` and parentheses; nothing in it is ever evaluated as code:

    id = "my_alpha_v1"
    schema_version = 1

    [features]
    ofi_l1_raw = "ofi(level=1)"
    ofi_1s = "sum_over(ofi_l1_raw, seconds=1)"

    [features.spread_z]
    expression = "zscore(spread(), window=256)"
    name = "spread, z-score"
    flags = ["MODEL_SAFE"]

A profile is a set's features with other parameters:

    base = "lob_shared_v2"          # or a file beside this one
    profile = "slow"

    [parameters]
    ofi_l1_ema8 = { span = 16 }

A Python file is code with all its powers and needs `allow_code=True`; it leaves one `FeatureSet`
among its names. Leans on `spec`, `profiles` and `catalog`.
"""

from __future__ import annotations

import re
import sys
import tomllib
import traceback
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from featureplane.arguments import as_path
from featureplane.errors import FeaturePlaneError, PlanError, SettingError, UnreadableFile
from featureplane.features.catalog import FeatureRegistry, registry
from featureplane.features.kernels.expression import Expression
from featureplane.features.profiles import AT, profile_of
from featureplane.features.spec import NO_FLAGS, Feature, FeatureFlags, FeatureSet
from featureplane.features.syntax import parse_expression

__all__ = ["FILE_BYTES_MAX", "load_feature_set", "resolve_feature_set", "run_file", "to_toml"]

FILE_BYTES_MAX: Final = 4 << 20
_TOP_KEYS: Final = frozenset({"id", "schema_version", "features"})
_PROFILE_KEYS: Final = frozenset({"base", "profile", "parameters"})
_FEATURE_KEYS: Final = frozenset({"expression", "name", "flags", "note"})
_KEY: Final = re.compile(
    r"""\s*(?:\[\s*(?:features|parameters)\s*\.\s*["']?([^"'\]]+)["']?\s*\]|(\w+)\s*=|["']([^"']+)["']\s*=)"""
)


def resolve_feature_set(
    set_or_file: str | Path, *, allow_code: bool = False, known: FeatureRegistry = registry
) -> FeatureSet:
    """A registered set by its id, or the set in a `.toml` or `.py` file.

    Raises
    ------
    UnknownFeatureSet
        No set of that id, and the name is none of a file.
    UnreadableFile, PlanError, SettingError
        As `load_feature_set`.
    """
    if isinstance(set_or_file, str) and set_or_file in known:
        return known.get(set_or_file)
    if Path(set_or_file).suffix in {".toml", ".py"}:
        return load_feature_set(set_or_file, allow_code=allow_code)
    return known.get(str(set_or_file))


def load_feature_set(path: str | Path, *, allow_code: bool = False) -> FeatureSet:
    """The set in a TOML file, or in a Python file that may be run.

    Raises
    ------
    UnreadableFile
        Missing, too large, not UTF-8, not TOML, or code that failed; with file and line.
    PlanError
        The set cannot be compiled; with file, line and feature.
    SettingError
        A Python file without `allow_code=True`; its code was not run.
    """
    path = as_path("path", path)
    if path.suffix == ".py":
        return _from_code(path, allow_code=allow_code)
    if path.suffix != ".toml":
        raise UnreadableFile(str(path), f"a file ending in {path.suffix!r}", "a .toml or .py file")
    return _from_toml(path, _text(path), allow_code=allow_code)


def to_toml(fset: FeatureSet) -> str:
    """The set as text that `load_feature_set` reads back to an equal one.

    A feature that occurs inside a later one is written there by its name. A profile becomes a set of its
    own, with `_` for the `@` of its id.
    """
    lines = [
        f"id = {_quoted(fset.feature_set_id.replace(AT, '_'))}",
        f"schema_version = {fset.schema_version}",
    ]
    names: dict[Expression, str] = {}
    for spec in fset.specs:
        expression = fset.expression(spec.feature_id)
        lines += ["", f"[features.{spec.feature_id}]", f"expression = {_quoted(expression.text(names))}"]
        if spec.name != spec.feature_id:
            lines.append(f"name = {_quoted(spec.name)}")
        if spec.flags:
            flags = (flag.name for flag in FeatureFlags if flag in spec.flags)
            lines.append(f"flags = [{', '.join(_quoted(str(name)) for name in flags)}]")
        if spec.note:
            lines.append(f"note = {_quoted(spec.note)}")
        names.setdefault(expression, spec.feature_id)
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'


def _text(path: Path, what: str = "a feature set") -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UnreadableFile(str(path), f"no readable file ({error.strerror})", what) from error
    if len(data) > FILE_BYTES_MAX:
        raise UnreadableFile(str(path), f"more than {FILE_BYTES_MAX} bytes", f"{what} of at most that")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UnreadableFile(f"{path}:{line}", f"byte 0x{data[error.start]:02x}", "UTF-8 text") from error


class _Places:
    """Where in the file a key stands, as `file:line`; the file alone where that cannot be told."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = str(path)
        self._lines: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if found := _KEY.match(line):
                self._lines.setdefault(next(name for name in found.groups() if name), number)

    def line(self, key: str | None) -> str:
        return f"{self._path}:{self._lines[key]}" if key in self._lines else self._path

    @contextmanager
    def of(self, key: str | None) -> Iterator[None]:
        """Name the place of `key`, or of the feature the error is about, in a `PlanError`."""
        try:
            yield
        except PlanError as error:
            raise error.at(self.line(error.feature_id or key)) from None


def _from_toml(path: Path, text: str, *, allow_code: bool, is_base: bool = False) -> FeatureSet:
    place = _Places(path, text)
    document = _document(path, text)
    if "base" in document or "profile" in document:
        if is_base:
            raise UnreadableFile(str(path), "a profile", "the feature set that a profile is of")
        return _profile(path, document, place, allow_code=allow_code)
    _only_known(document, _TOP_KEYS, place)
    features = document.get("features")
    if not isinstance(features, dict) or not features:
        raise UnreadableFile(str(path), "no [features] table", "features by id, each an expression")
    declared: dict[str, Feature] = {}
    earlier: dict[str, Expression] = {}
    for feature_id, entry in features.items():
        with place.of(feature_id):
            declared[feature_id] = feature = _feature(feature_id, entry, earlier, place)
            earlier[feature_id] = feature.expression
    set_id = document.get("id", "")
    if AT in str(set_id):
        found = f"id {set_id!r}: `{AT}` is for profiles"
        raise UnreadableFile(place.line("id"), found, "`base`, `profile` and [parameters], or another id")
    with place.of(None):
        return FeatureSet(set_id, document.get("schema_version", 1), declared)


def _profile(path: Path, document: Mapping[str, Any], place: _Places, *, allow_code: bool) -> FeatureSet:
    """The profile that a document describes; a base that is a file stands relative to it."""
    _only_known(document, _PROFILE_KEYS, place)
    base, parameters = document.get("base"), document.get("parameters", {})
    if not isinstance(base, str) or not isinstance(parameters, dict):
        expected = "`base`, the id or file of a set, `profile`, a name, and [parameters] by feature"
        raise UnreadableFile(str(path), "a profile without them", expected)
    file = path.parent / base
    if file.suffix == ".toml":
        known = _from_toml(file, _text(file), allow_code=allow_code, is_base=True)
    else:
        known = resolve_feature_set(file if file.suffix == ".py" else base, allow_code=allow_code)
    with place.of("profile"):
        return profile_of(known, document.get("profile", ""), parameters)


def _document(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        where = f"{path}:{line.group(1)}" if line else str(path)
        raise UnreadableFile(where, f"no TOML ({error})", "a feature set in TOML") from error
    except (RecursionError, ValueError) as error:
        found = "arrays or tables too deep, or a number too long"
        raise UnreadableFile(str(path), found, "a feature set in TOML") from error


def _feature(feature_id: str, entry: object, earlier: Mapping[str, Expression], place: _Places) -> Feature:
    if isinstance(entry, str):
        entry = {"expression": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("expression"), str):
        expected = 'an expression as text, or a table with `expression = "..."`'
        raise PlanError(f"a {type(entry).__name__}", expected, feature_id=feature_id)
    _only_known(entry, _FEATURE_KEYS, place)
    flags, given = NO_FLAGS, entry.get("flags", [])
    for flag in given if isinstance(given, list) else [given]:
        if not isinstance(flag, str) or flag not in FeatureFlags.__members__:
            expected = f"one of {', '.join(FeatureFlags.__members__)}"
            raise PlanError(f"flag {flag!r}", expected, feature_id=feature_id)
        flags |= FeatureFlags[flag]
    expression = parse_expression(feature_id, entry["expression"], earlier)
    return Feature(expression, entry.get("name", ""), flags, entry.get("note", ""))


def _only_known(table: Mapping[str, object], known: frozenset[str], place: _Places) -> None:
    for key in table:
        if key not in known:
            raise UnreadableFile(place.line(key), f"key {key!r}", f"one of {', '.join(sorted(known))}")


def run_file(path: Path, name: str, what: str, *, allow_code: bool) -> types.ModuleType:
    """Run a Python file as a module of that name; `what` it should leave, for the error.

    Raises `SettingError` without `allow_code`: nothing was run; `UnreadableFile`, with the line, for a
    file that cannot be read or fails.
    """
    text = _text(path, what)  # nobody is asked to trust what is not there
    if not allow_code:
        raise SettingError(
            f"{path}: a Python file is code that is run",
            hint="if you trust it, pass --allow-code (allow_code=True)",
        )
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # WHY: dataclasses and pickles look their module up by name
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)  # noqa: S102 - what `allow_code` allows
    except PlanError as error:
        raise error.at(_line_in(path, error)) from error
    except FeaturePlaneError:
        raise
    except (Exception, SystemExit) as error:
        found = f"code that fails ({type(error).__name__}: {error})"
        raise UnreadableFile(_line_in(path, error), found, f"code that leaves {what}") from error
    return module


def _from_code(path: Path, *, allow_code: bool) -> FeatureSet:
    module = run_file(path, "featureplane_user_set", "a feature set", allow_code=allow_code)
    sets = {name: value for name, value in vars(module).items() if isinstance(value, FeatureSet)}
    own = {id(fset): fset for fset in sets.values() if fset.feature_set_id not in registry}
    chosen = sets.get("feature_set") or (next(iter(own.values())) if len(own) == 1 else None)
    if chosen is None:
        found = f"{len(own)} feature sets of its own ({', '.join(sets) or 'none'})"
        raise UnreadableFile(
            str(path),
            found,
            "one",
            hint="call the one that is meant `feature_set` and define it in this file",
        )
    return chosen


def _line_in(path: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}" if error.lineno else str(path)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{frames[-1].lineno}" if frames else str(path)
