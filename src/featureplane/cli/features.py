"""`featureplane features`: which sets there are, what is in them, how two differ."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from featureplane.cli.options import AllowCode, Json
from featureplane.cli.terminal import print_json, print_table, say
from featureplane.features.catalog import registry
from featureplane.features.loading import resolve_feature_set, to_toml
from featureplane.features.spec import FeatureFlags, FeatureSet, FeatureSpec

__all__ = ["chosen_set", "features", "set_to_run"]

features = App(
    name="features",
    help="Feature sets: list them, show one, compare two.",
    help_epilogue="Example:\n  featureplane features list",
)


def chosen_set(set_or_file: str, *, allow_code: bool) -> FeatureSet:
    """The set of that id or file; a Python file is run, which is said, and talks to standard error."""
    if allow_code and Path(set_or_file).suffix == ".py":
        say(f"running {set_or_file} as code")
    with redirect_stdout(sys.stderr):  # standard output is for data
        return resolve_feature_set(set_or_file, allow_code=allow_code)


def set_to_run(set_or_file: str, *, allow_code: bool) -> FeatureSet:
    """As `chosen_set`; `FeatureSetConflict` for a file that gives the id of a shipped set to another."""
    fset = chosen_set(set_or_file, allow_code=allow_code)
    return registry.register(fset) if fset.feature_set_id in registry else fset


@features.command(
    name="list",
    help_epilogue="Exit status: 0 listed\n\nExample:\n  featureplane features list",
)
def list_sets(*, json: Json = False) -> int:
    """List the shipped feature sets."""
    sets = [registry.get(set_id) for set_id in registry]
    if json:
        print_json({"sets": [_header(fset) for fset in sets]})
        return 0
    table = Table("set", "schema", "features", "fingerprint", box=None, pad_edge=False)
    for fset in sets:
        table.add_row(fset.feature_set_id, str(fset.schema_version), str(len(fset)), fset.fingerprint[:16])
    print_table(table)
    return 0


@features.command(
    help_epilogue="Exit status: 0 shown, 2 no such set or a file that holds none\n\n"
    "Example:\n  featureplane features show lob_shared_v2",
)
def show(
    set_or_file: Annotated[str, Parameter(name="SET_OR_FILE")],
    /,
    *,
    allow_code: AllowCode = False,
    toml: Annotated[bool, Parameter(show_default=False)] = False,
    json: Json = False,
) -> int:
    """Show one set: its features in order, with type, unit, warm-up and definition.

    Parameters
    ----------
    set_or_file
        The id of a shipped set, or a .toml or .py file that holds one.
    toml
        Print the set as a TOML file that can be changed and loaded.
    """
    fset = chosen_set(set_or_file, allow_code=allow_code)
    if toml:
        print(to_toml(fset), end="")  # noqa: T201 - data, for a file
    elif json:
        print_json({**_header(fset), "specs": [_spec(spec) for spec in fset.specs]})
    else:
        print_table(_table(fset))
        say(f"{len(fset)} features, schema {fset.schema_version}, fingerprint {fset.fingerprint}")
    return 0


@features.command(
    help_epilogue="Exit status: 0 the same, 1 they differ, 2 no such set or a file that holds none\n\n"
    "Example:\n  featureplane features diff lob_shared_v1 lob_shared_v2",
)
def diff(
    before: Annotated[str, Parameter(name="SET_OR_FILE")],
    after: Annotated[str, Parameter(name="OTHER")],
    /,
    *,
    allow_code: AllowCode = False,
    json: Json = False,
) -> int:
    """Compare two sets feature by feature.

    Parameters
    ----------
    before
        The id of a shipped set, or a .toml or .py file that holds one.
    after
        The set to compare it with.
    """
    one, other = (chosen_set(name, allow_code=allow_code) for name in (before, after))
    found = one.diff(other)
    same = not found and one.fingerprint == other.fingerprint
    if json:
        rows = [{k: _plain(v) for k, v in asdict(difference).items()} for difference in found]
        print_json({"same": same, "before": _header(one), "after": _header(other), "differences": rows})
        return 0 if same else 1
    for difference in found:
        print(difference)  # noqa: T201 - data
    say("the same" if same else f"{len(found)} differences")
    return 0 if same else 1


def _header(fset: FeatureSet) -> dict[str, object]:
    return {
        "set": fset.feature_set_id,
        "schema_version": fset.schema_version,
        "features": len(fset),
        "fingerprint": fset.fingerprint,
    }


def _spec(spec: FeatureSpec) -> dict[str, object]:
    return {key: _plain(value) for key, value in asdict(spec).items()}


def _plain(value: object) -> object:
    """Flags by name; everything else is JSON already."""
    if isinstance(value, FeatureFlags):
        return [flag.name for flag in FeatureFlags if flag in value]
    return value


def _table(fset: FeatureSet) -> Table:
    table = Table("#", "feature", "type", "unit", "scale", "reads", "warm", box=None, pad_edge=False)
    table.add_column("definition", overflow="fold")
    for spec in fset.specs:
        span = f" and {spec.warmup_min_ns / 1e9:g} s" if spec.warmup_min_ns else ""
        kind = f"{spec.dtype} flow" if spec.kind == "flow" else spec.dtype
        cells = (str(spec.index), spec.feature_id, kind, spec.unit, f"{spec.scale:,}", spec.source_kind)
        table.add_row(*cells, f"{spec.warmup_min_events}{span}", Text(spec.definition))
    return table
