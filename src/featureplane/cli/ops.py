"""`featureplane ops`: what is watched in Prometheus and Grafana, written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from featureplane.cli.options import Json
from featureplane.cli.terminal import print_json, say

__all__ = ["ops"]

Out = Annotated[Path, Parameter(help="The folder to write to; it is made where there is none.")]

ops = App(
    name="ops",
    help="Alert rules for Prometheus and dashboards for Grafana, as files.",
    help_epilogue="Example:\n  featureplane ops rules --out monitoring",
)


@ops.command(
    name="rules",
    help_epilogue="Exit status: 0 written, 2 it cannot be written there\n\n"
    "Example:\n  featureplane ops rules --out monitoring",
)
def rules(*, out: Out, json: Json = False) -> int:
    """Write the alert rules; Prometheus loads them as `rule_files`."""
    from featureplane.ops.shipped import rule_files

    return _written(rule_files, out, json=json)


@ops.command(
    name="dashboards",
    help_epilogue="Exit status: 0 written, 2 it cannot be written there\n\n"
    "Example:\n  featureplane ops dashboards --out monitoring",
)
def dashboards(*, out: Out, json: Json = False) -> int:
    """Write the dashboards; Grafana imports them, or loads them from that folder."""
    from featureplane.ops.shipped import dashboard_files

    return _written(dashboard_files, out, json=json)


def _written(files: Callable[[], Mapping[str, str]], out: Path, *, json: bool) -> int:
    from featureplane.whole_file import WholeFile

    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in files().items():
        with WholeFile(out / name) as file:
            file.part.write_text(text, encoding="utf-8", newline="\n")
        paths.append(str(out / name))
    if json:
        print_json({"written": paths})
    else:
        for one in paths:
            say(f"wrote {one}")
    return 0
