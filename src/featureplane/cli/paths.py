"""`featureplane parity --paths`: one recording on every path to a strategy."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featureplane.cli.terminal import counting, print_json, say, say_error
from featureplane.features.spec import FeatureSet

if TYPE_CHECKING:
    from featureplane.ops.paths import PathMismatch, PathReport

__all__ = ["paths_agree"]


def paths_agree(
    names: Sequence[str],
    where: tuple[list[str], str, str | None],
    fset: FeatureSet,
    *,
    until: int | None,
    reading: dict[str, Any],
    command: Sequence[str],
    json: bool,
) -> int:
    """Compare and say what came of it; the exit status. `command` is what reads the same again."""
    from featureplane.ops.paths import Recording, compare_paths

    recording = Recording(*where, until=until, **reading)
    with counting("comparing") as tell:
        report = compare_paths(recording, fset, names, progress=lambda n: tell(f"{n:,} frames"))
    if json:
        print_json(_answer(report))
    else:
        _tell(report, shlex.join(command))
    if report.mismatches:
        return 1
    if report.error is not None:
        say_error(str(report.error), report.error.hint)
        return 2
    return 0


def _answer(report: PathReport) -> dict[str, object]:
    first, error = report.first_mismatch, report.error
    return {
        "set": report.feature_set_id,
        "fingerprint": report.fingerprint,
        "features": report.features,
        "events": report.events,
        "frames": report.frames,
        "mismatches": report.mismatches,
        "rate_bound": report.rate_bound,
        "first_mismatch": None if first is None else _mismatch(first),
        "error": None if error is None else f"{type(error).__name__}: {error}",
    }


def _mismatch(first: PathMismatch) -> dict[str, object]:
    return {
        "path": first.path,
        "number": first.number,
        "symbol": first.symbol,
        "seq": first.seq,
        "differs": {name: [str(left), str(right)] for name, (left, right) in first.differs.items()},
    }


def _tell(report: PathReport, command: str) -> None:
    counts = ", ".join(f"{name} {count:,}" for name, count in report.frames.items())
    what = f"{report.features} features, {report.events:,} events, frames: {counts}"
    print(f"{what}; {report.mismatches:,} mismatches with {report.against}")  # noqa: T201 - data
    first = report.first_mismatch
    if first is None:
        say(f"zero in {report.compared:,} bounds the rate by {report.rate_bound:.1e} (95 % confidence)")
        return
    say(f"the first is frame {first.number} of {first.path}, {first.symbol} {first.seq}:")
    for name, (left, right) in first.differs.items():
        say(f"  {name}: {report.against} {left}, {first.path} {right}")
    if first.seq is not None:
        feature = next((name for name in first.differs if name in report.feature_ids), report.feature_ids[0])
        say(f"how it came about: featureplane features trace {command} --at {first.seq} --feature {feature}")
