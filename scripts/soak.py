"""Everything that takes longer than a test may, and a page about it: `make soak`.

    python -m scripts.soak                  all of it, half an hour on two cores; writes benchmarks/SOAK.md
    python -m scripts.soak --scale 0.01     a share of it, to see that it works; writes target/soak/SOAK.md
    python -m scripts.soak --only PART      one part of it, likewise

The page is written anew after every part and says until the end that it is not finished. A part fails if
anything in it does, if it was kept from running, if it left something out, or if it compared less than it
has to. Exit status 0 if all parts were run and passed, 1 if one failed, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.results import commit, machine

ROOT: Final = Path(__file__).resolve().parents[1]
_PAGE: Final = ROOT / "benchmarks" / "SOAK.md"
_REHEARSAL: Final = ROOT / "target" / "soak" / "SOAK.md"
_TAIL: Final = 30  # lines of a part that failed
_SYNTHETIC: Final = "tests/parity/test_synthetic.py"
_RECORDINGS: Final = "tests/parity/test_recordings.py"
_SERVICE: Final = "tests/integration/test_service_hour.py"
_STORE: Final = ("tests/integration/test_store_kills.py", "tests/integration/test_store_working_set.py")
_EVENTS: Final = 10_000_000
_KILLS: Final = 1_000
_FEED_SECONDS: Final = 3_600
SERVICE_NUMBERS: Final = (
    "KiB warmed up",
    "KiB at the end",
    "descriptors warmed up",
    "descriptors at the end",
    "most in the queue",
    "frames compared by the shadow",
)
"""What the page has to say of a service that ran for an hour."""


@dataclass
class Part:
    """One command, what it shows, and what came out."""

    name: str
    title: str
    arguments: list[str]
    judge: Callable[[Part], Iterator[str]]  # why it failed although it ended well
    scale: float = 1.0
    report: Path | None = None  # of pytest, where it is pytest that runs
    lines: list[str] = field(default_factory=list)
    status: int | None = None  # none before it has ended
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether it was run to its end and showed what it has to."""
        return self.status == 0 and not self.wrong


# -- what is run


def parts(scale: float, fuzz_seconds: int, jobs: int, folder: Path) -> list[Part]:
    """All parts in their order; what pytest has to say goes into `folder`."""

    def tests(name: str, title: str, judge: Callable[[Part], Iterator[str]], *which: str) -> Part:
        report = folder / f"{name}.xml"
        arguments = ["-m", "pytest", "-m", "soak", "-v", "--durations=5", f"--junitxml={report}"]
        spread = ["-n", str(jobs), "--dist", "worksteal"]
        return Part(name, title, [*arguments, *spread, *which], judge, scale, report)

    others = [*(f"--ignore={one}" for one in (_SYNTHETIC, _RECORDINGS, _SERVICE, *_STORE)), "tests"]
    some = [] if scale == 1 else ["--pick", str(max(2, round(40 * scale)))]
    return [
        tests("synthetic", "Ten million made-up events, all executions", _enough_events, _SYNTHETIC),
        tests("recordings", "Whole recordings, all executions", _some_frames, _RECORDINGS),
        tests("service", "An hour of a feed at 20 times its speed, with faults", _enough_feed, _SERVICE),
        tests(
            "store", "A store killed a thousand times, and one four times too small", _enough_kills, *_STORE
        ),
        tests("tests", "Every other long test", _nothing_left_out, *others),
        Part("mutations", "Every mutation", ["-m", "scripts.mutations", *some], _all_caught, scale),
        Part(
            "fuzz",
            f"Every fuzz target, {fuzz_seconds} s each",
            ["-m", "scripts.fuzz", "--seconds", str(fuzz_seconds), "--jobs", str(jobs)],
            _all_held,
            scale,
        ),
    ]


def _nothing_left_out(part: Part) -> Iterator[str]:
    if not part.counts["tests"]:
        yield "no test was run"
    if part.counts["left out"]:
        yield f"{part.counts['left out']} tests were left out"


def _some_frames(part: Part) -> Iterator[str]:
    yield from _nothing_left_out(part)
    if not part.counts["frames"]:
        yield "no frame was compared"


def _enough_events(part: Part) -> Iterator[str]:
    yield from _some_frames(part)
    least = _EVENTS * part.scale
    if part.counts["events"] < 0.99 * least:  # messages are whole: a stream may end a little before
        yield f"{part.counts['events']:,} events, expected {least:,.0f}"


def _enough_feed(part: Part) -> Iterator[str]:
    yield from _nothing_left_out(part)
    least = min(_FEED_SECONDS, max(60, _FEED_SECONDS * part.scale))
    if part.counts["seconds of feed"] < 0.9 * least:
        yield f"{part.counts['seconds of feed']:,} seconds of a feed, expected {least:,.0f}"
    for name in SERVICE_NUMBERS:
        if name not in part.counts:
            yield f"it does not say: {name}"


def _enough_kills(part: Part) -> Iterator[str]:
    yield from _nothing_left_out(part)
    if part.counts["kills"] < _KILLS * part.scale:
        yield f"{part.counts['kills']:,} kills, expected {_KILLS * part.scale:,.0f}"
    if part.counts["rows stored"] < _EVENTS * part.scale:
        yield f"{part.counts['rows stored']:,} rows stored, expected {_EVENTS * part.scale:,.0f}"


def _all_caught(part: Part) -> Iterator[str]:
    part.counts["caught"] = sum(line.startswith("caught ") for line in part.lines)
    if not part.counts["caught"]:
        yield "no mutation was made"


def _all_held(part: Part) -> Iterator[str]:
    runs = [re.fullmatch(r"  (\S+) +held +([\d,]+) runs in .*", line) for line in part.lines]
    part.counts["targets"] = sum(run is not None for run in runs)
    part.counts["runs"] = sum(int(run[2].replace(",", "")) for run in runs if run is not None)
    if not part.counts["runs"]:
        yield "no target was run"


# -- running it


def run(part: Part) -> None:
    """Run a part, its output shown as it comes."""
    print(f"\n== {part.title}", flush=True)
    environment = os.environ | {"FEATUREPLANE_SOAK_SCALE": str(part.scale), "PYTHONUNBUFFERED": "1"}
    began, cpu_began = time.monotonic(), _cpu_seconds()
    folder = str(ROOT if part.report is None else part.report.parent)
    with subprocess.Popen(
        [sys.executable, *part.arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as running:
        for line in running.stdout or ():
            print(line, end="", flush=True)
            part.lines.append(line.rstrip().replace(folder, ".").replace(str(ROOT), "."))
    part.seconds, part.cpu_seconds = time.monotonic() - began, _cpu_seconds() - cpu_began
    part.status = running.returncode
    if part.report is not None:
        part.counts.update(counted(part.report))
    part.wrong = list(part.judge(part))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def counted(report: Path) -> Counter[str]:
    """What a report of pytest counts: tests, those left out, events and frames that were compared."""
    counts: Counter[str] = Counter()
    if not report.exists():
        return counts
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest wrote it just now
        counts["left out" if case.find("skipped") is not None else "tests"] += 1
        for one in case.iter("property"):
            counts[one.get("name", "")] += int(one.get("value", "0"))
    return counts


# -- the page


@dataclass(frozen=True)
class Run:
    """What is known before anything is run."""

    scale: float
    whole: bool  # all parts of it, and all of each
    commit: str = field(default_factory=lambda: commit() or "not a repository")
    machine: str = field(default_factory=machine)
    began: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))


def page(run: Run, chosen: list[Part], *, stopped: bool) -> str:
    """All that is known so far; nobody shall take a part of it for the whole."""
    ended = [part for part in chosen if part.status is not None]
    failed = [part for part in ended if not part.passed]
    if stopped or len(ended) < len(chosen):
        state = f"**not finished**: {len(ended)} of {len(chosen)} parts were run" + ", stopped" * stopped
    elif failed:
        state = "**FAILED**: " + ", ".join(part.title for part in failed)
    else:
        state = "all parts passed" if run.whole else "passed, but **not the whole**"
    about = {
        "Outcome": state,
        "Share": "all of it" if run.whole else f"{run.scale:g} of {len(chosen)} parts: a rehearsal",
        "Commit": run.commit,
        "Machine": run.machine,
        "Began": f"{run.began:%Y-%m-%d %H:%M} UTC",
        "Took": f"{sum(part.seconds for part in ended) / 60:.1f} minutes",
    }
    lines = ["# The last soak", "", "Written by `make soak`.", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in about.items()]
    columns = ("Part", "Outcome", "Minutes", "of one core", "What was counted")
    lines += ["", f"| {' | '.join(columns)} |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(_row(part))} |" for part in chosen]
    for part in ended:
        lines += ["", f"## {part.title}", "", f"`python {_words(part)}`", "", "```", *_kept(part), "```"]
    return "\n".join(lines) + "\n"


def _row(part: Part) -> tuple[str, ...]:
    if part.status is None:
        return part.title, "not run", "", "", ""
    reasons = [f"exit status {part.status}"] if part.status else []
    verdict = "passed" if part.passed else f"**FAILED**: {'; '.join([*reasons, *part.wrong])}"
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(part.counts.items()))
    return part.title, verdict, f"{part.seconds / 60:.1f}", f"{part.cpu_seconds / 60:.1f}", counts


def _words(part: Part) -> str:
    return " ".join(word for word in part.arguments if not word.startswith("--junitxml"))


def _kept(part: Part) -> list[str]:
    """The lines worth keeping: all of them where they are few, of pytest what it says in the end."""
    lines = [line for line in part.lines if line]
    if part.report is None:
        return lines[-200:]
    if part.passed:
        starts = [at for at, line in enumerate(lines) if "slowest" in line]
        return lines[starts[-1] :] if starts else lines[-1:]
    return lines[-_TAIL:]


def write(text: str, out: Path) -> None:
    """Put the page in the place of the one before, whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_suffix(".part")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(out)


def main() -> int:
    """Run the parts asked for and write the page as they end."""
    options = _options()
    scale = options.scale
    stopped = False
    with tempfile.TemporaryDirectory(prefix="featureplane-soak-") as folder:
        every = parts(scale, options.fuzz_seconds or max(1, round(60 * scale)), options.jobs, Path(folder))
        chosen = [part for part in every if part.name in (options.only or [one.name for one in every])]
        about = Run(scale, whole=scale == 1 and chosen == every)
        out = options.out or (_PAGE if about.whole else _REHEARSAL)
        for part in chosen:
            write(page(about, chosen, stopped=False), out)
            try:
                run(part)
            except KeyboardInterrupt:
                stopped = True
                break
        write(page(about, chosen, stopped=stopped), out)
    for part in chosen:
        print(" | ".join(_row(part)))
    print(f"wrote {out}")
    return 130 if stopped else 0 if all(part.passed for part in chosen) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="a share of it, up to 1")
    parser.add_argument("--fuzz-seconds", type=int, metavar="N", help="for each target  [default: 60 * X]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="at a time")
    names = [part.name for part in parts(1, 1, 1, Path())]
    parser.add_argument("--only", action="append", choices=names, help="this part; may be repeated")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the page goes")
    options = parser.parse_args()
    if not 0 < options.scale <= 1:
        parser.error(f"--scale {options.scale}: above 0, up to 1")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
