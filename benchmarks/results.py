"""What came out, for people and for programs: a table on the terminal, `RESULTS.md`, JSON."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Goal, Outcome, Spread
from benchmarks.recording import ROOT, Recording

__all__ = ["PATH", "Summary", "commit", "machine", "show"]

PATH: Final = ROOT / "benchmarks" / "RESULTS.md"
_NOTES: Final = ROOT / "benchmarks" / "distance.md"
_SAID: Final = {True: "reached", False: "missed", None: "not measured"}


def show(console: Console, outcome: Outcome) -> None:
    """One job as a table."""
    job = outcome.job
    table = Table(title=f"{job.title} [{job.unit}]", title_justify="left", expand=False)
    for name in ("who", "least", "middle", "most", f"x {job.baseline}"):
        table.add_column(name, justify="left" if name == "who" else "right")
    for who in outcome.turns:
        time = outcome.time(who)
        ratio = _ratio(outcome, who)
        table.add_row(who, *(_figure(one) for one in (time.least, time.middle, time.most)), _short(ratio))
    console.print(table)
    for line in _remarks(outcome):
        console.print(f"  {line}")


def _figure(value: float) -> str:
    return f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"


def _short(ratio: Spread | None) -> str:
    return "" if ratio is None else f"{ratio.middle:.2f}"


def _ratio(outcome: Outcome, who: str) -> Spread | None:
    baseline = outcome.job.baseline
    return outcome.ratio(who, baseline) if baseline in outcome.turns else None


def _goal(outcome: Outcome, goal: Goal) -> str:
    reached = outcome.reached(goal)
    if reached is None:
        return f"goal {goal}: {_SAID[None]}"
    if goal.than is None:
        return f"goal {goal}: {_SAID[reached]}, {_figure(outcome.time(goal.who).middle)}"
    ratio = outcome.ratio(goal.who, goal.than)
    if goal.times < 1:
        turned = Spread(1 / ratio.most, 1 / ratio.middle, 1 / ratio.least)
        return f"goal {goal}: {_SAID[reached]}, {turned:.1f} x"
    return f"goal {goal}: {_SAID[reached]}, {ratio:.2f} x"


def _remarks(outcome: Outcome) -> list[str]:
    lines = [_goal(outcome, goal) for goal in outcome.job.goals]
    if outcome.agree is not None:
        lines.append("checksums agree" if outcome.agree else f"checksums DISAGREE: {outcome.checksums}")
    lines += [f"{claim}: {'yes' if holds else 'NO'}" for claim, holds in outcome.proofs.items()]
    lines += [f"absent: {reason}" for reason in outcome.job.absent]
    if outcome.job.note:
        lines.append(outcome.job.note)
    return lines


@dataclass(frozen=True)
class Summary:
    """All of one run."""

    recording: Recording
    outcomes: Sequence[Outcome]
    turns: int
    runs: int
    machine: str
    commit: str
    rustc: str

    @classmethod
    def of(cls, recording: Recording, outcomes: Sequence[Outcome], *, turns: int, runs: int) -> Self:
        """With what must stand beside the figures."""
        return cls(recording, outcomes, turns, runs, machine(), commit(), _said("rustc", "--version"))

    @property
    def status(self) -> int:
        """Exit status of the run."""
        if not self.outcomes:
            return 2
        wrong = [one for one in self.outcomes if one.agree is False or not all(one.proofs.values())]
        return int(bool(wrong))

    def as_json(self) -> dict[str, Any]:
        """Everything, unrounded."""
        return {
            "recording": self.recording.name,
            "rows": self.recording.rows,
            "machine": self.machine,
            "commit": self.commit,
            "rustc": self.rustc,
            "turns": self.turns,
            "runs": self.runs,
            "jobs": [_job_json(outcome) for outcome in self.outcomes],
        }

    def write(self) -> None:
        """Replaces `RESULTS.md`; where the distance goes is told in `distance.md` and copied in."""
        PATH.write_text("\n".join(self._lines()) + "\n", "utf-8")

    def _lines(self) -> list[str]:
        name, rows = self.recording.name, self.recording.rows
        head = [
            "# Results",
            "",
            "Written by `make bench`; do not edit. How it is measured: [README](README.md).",
            "",
            f"- recording: {name}, {rows:,} rows, {len(self.recording.events):,} events with quotes",
            f"- machine: {self.machine}; one core",
            f"- commit: {self.commit}",
            f"- {self.rustc}; extension and limit: opt-level 3, one codegen unit, target x86-64 as shipped",
            *(["- clock: processor time, not the wall's"] if os.environ.get("BENCH_CLOCK") == "cpu" else []),
            f"- {self.turns} turns of {self.runs} runs; the middle (least to most) of the turns' medians",
            "- ratios are taken turn by turn",
        ]
        body = [line for outcome in self.outcomes for line in _section(outcome)]
        tail = _NOTES.read_text("utf-8").splitlines() if _NOTES.exists() else []
        return [*head, *body, "", *tail]


def _section(outcome: Outcome) -> list[str]:
    job = outcome.job
    lines = [
        "",
        f"## {job.title}",
        "",
        f"| {job.unit} | middle (least to most) | x {job.baseline} |",
        "|---|---|---|",
    ]
    for who in outcome.turns:
        time, ratio = outcome.time(who), _ratio(outcome, who)
        spread = f"{_figure(time.middle)} ({_figure(time.least)} to {_figure(time.most)})"
        times = "" if ratio is None else "1" if who == job.baseline else f"{ratio:.2f}"
        lines.append(f"| {who} | {spread} | {times} |")
    remarks = [f"- {line}" for line in _remarks(outcome)]
    return [*lines, "", *remarks] if remarks else lines


def _job_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "job": outcome.job.name,
        "unit": outcome.job.unit,
        "baseline": outcome.job.baseline,
        "turns": outcome.turns,
        "checksums": outcome.checksums,
        "agree": outcome.agree,
        "proofs": outcome.proofs,
        "goals": {str(goal): outcome.reached(goal) for goal in outcome.job.goals},
        "absent": list(outcome.job.absent),
    }


def machine() -> str:
    """Processor, cores, load, system and Python, in a line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = {}
        for line in cpuinfo.read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
        model = fields.get("model name", model)
        if "cpu family" in fields:
            model += f" (family {fields['cpu family']}, model {fields['model']})"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{model}, {os.cpu_count()} cores{load}, {platform.system()}, Python {platform.python_version()}"


def commit() -> str:
    """The commit, and whether anything differs from it; empty where there is no repository."""
    head = _said("git", "rev-parse", "--short=12", "HEAD")
    changes = _said("git", "status", "--porcelain", "--untracked-files=no")
    return f"{head} with changes" if changes else head


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
