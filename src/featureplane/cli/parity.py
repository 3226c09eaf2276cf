"""`featureplane parity`: the Python reference against Rust, byte for byte, over recorded files."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from featureplane import native
from featureplane.cli.features import set_to_run
from featureplane.cli.options import READING, AllowCode, FeatureSetName, Json, Paths, Reading, Source, Symbol
from featureplane.cli.paths import paths_agree
from featureplane.cli.terminal import counting, print_json, say, say_error
from featureplane.errors import BackendUnavailable
from featureplane.features.spec import FeatureSet

if TYPE_CHECKING:
    from featureplane.features.parity import Mismatch, ParityReport

__all__ = ["parity"]

_EXAMPLE = "featureplane parity ethusdt.gz --source binance-spot --features lob_shared_v1"

parity = App(
    name="parity",
    help_epilogue="Exit status: 0 agree, 1 disagree, 2 unreadable, no frame, or a path that cannot run\n\n"
    f"Example:\n  {_EXAMPLE} --until 5000",
)


@parity.default
def run(
    paths: Paths,
    /,
    *,
    source: Source,
    features: FeatureSetName,
    symbol: Symbol = None,
    through: Annotated[
        str | None,
        Parameter(
            name="--paths",
            help="Compare what comes out of these, with commas between: replay, hftbacktest, service.",
        ),
    ] = None,
    until: Annotated[int | None, Parameter(help="Stop after so many events.")] = None,
    reading: Reading = READING,
    allow_code: AllowCode = False,
    json: Json = False,
) -> int:
    """Compare Python and Rust over recordings: every value, mask, flag and error, bit for bit.

    With `--paths` the frames of a replay, of hftbacktest's clock and of a running service are compared.
    """
    where, options = (paths, source, symbol), reading.options()
    if through is None and not native.available():
        raise BackendUnavailable("rust")
    fset = set_to_run(features, allow_code=allow_code)
    command = [*paths, "--source", source, "--features", features, *reading.words()]
    command += [*(() if symbol is None else ("--symbol", symbol)), *(["--allow-code"] if allow_code else [])]
    if through is not None:
        names = through.split(",")
        return paths_agree(names, where, fset, until=until, reading=options, command=command, json=json)
    report = _compared(where, options, fset, until)
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


def _compared(
    where: tuple[list[str], str, str | None], reading: dict[str, Any], fset: FeatureSet, until: int | None
) -> ParityReport:
    from featureplane.features.parity import parity as compare
    from featureplane.market.reading import read_events

    events = read_events(*where, **reading)
    with counting("comparing") as tell:
        return compare(events, fset, until=until, progress=lambda n: tell(f"{n:,} of {len(events):,} events"))


def _answer(report: ParityReport) -> dict[str, object]:
    first, error = report.first_mismatch, report.error
    return {
        "set": report.feature_set_id,
        "fingerprint": report.fingerprint,
        "executions": list(report.executions),
        "events": report.events,
        "frames": report.frames,
        "features": report.features,
        "mismatches": report.mismatches,
        "rate_bound": report.rate_bound,
        "first_mismatch": None if first is None else _mismatch(first),
        "dropped": report.dropped,
        "error": None if error is None else f"{type(error).__name__}: {error}",
    }


def _mismatch(first: Mismatch) -> dict[str, object]:
    return {
        "execution": first.execution,
        "event": first.event,
        "symbol": first.symbol,
        "seq": first.seq,
        "differs": {name: [str(left), str(right)] for name, (left, right) in first.differs.items()},
        "reference": first.reference,
        "other": first.other,
    }


def _tell(report: ParityReport, command: str) -> None:
    counts = f"{report.features} features, {report.events:,} events, {report.frames:,} frames"
    against = " and ".join(report.executions)
    print(f"{counts}, {report.mismatches:,} mismatches between the reference and {against}")  # noqa: T201 - data
    first = report.first_mismatch
    if first is None:
        say(f"zero in {report.frames:,} bounds the rate by {report.rate_bound:.1e} (95 % confidence)")
        return
    say(f"the first is at event {first.event}, {first.symbol} frame {first.seq}, {first.execution}:")
    for name, (left, right) in first.differs.items():
        say(f"  {name}: reference {left}, {first.execution} {right}")
    say(f"reference frame: {first.reference or 'none'}")
    say(f"{first.execution} frame: {first.other or 'none'}")
    say(f"see it again: featureplane parity {command} --until {first.event}")
