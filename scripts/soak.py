"""Everything that takes longer than a test may: writes benchmarks/SOAK.md from what it printed.

    python -m scripts.soak [--fuzz-seconds 60]

Ten million made-up events and whole recordings through all executions, every mutation, every fuzz
target for longer. Exit status 1 if any part failed; the page is written all the same.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
_PAGE: Final = ROOT / "benchmarks" / "SOAK.md"
_LINES: Final = 40


class Part(NamedTuple):
    """One command and what it shows."""

    title: str
    arguments: tuple[str, ...]


def parts(fuzz_seconds: int) -> tuple[Part, ...]:
    """What is run, in this order."""
    tests = ("-m", "pytest", "-m", "soak", "-n", "auto", "-q", "--durations=5", "tests")
    return (
        Part("Ten million events and whole recordings, all executions", tests),
        Part("Every mutation", ("-m", "scripts.mutations")),
        Part(
            "Every fuzz target, longer", ("-m", "scripts.fuzz", "--seconds", str(fuzz_seconds), "--jobs", "2")
        ),
    )


def run(part: Part) -> tuple[bool, str]:
    """Run one part, its output shown as it comes; whether it ended well, and its section."""
    print(f"== {part.title}", flush=True)
    began = time.monotonic()
    command = [sys.executable, *part.arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        lines: list[str] = []
        for line in running.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    minutes = (time.monotonic() - began) / 60
    kept = [re.sub(re.escape(str(ROOT)), ".", line) for line in lines if line][-_LINES:]
    verdict = "passed" if running.returncode == 0 else f"FAILED, exit status {running.returncode}"
    words = " ".join(["python", *part.arguments])
    section = (
        f"## {part.title}: {verdict}\n\n`{words}`, {minutes:.1f} minutes.\n\n```\n"
        + "\n".join(kept)
        + "\n```\n"
    )
    return running.returncode == 0, section


def main() -> int:
    """Run all parts and write the page."""
    parser = argparse.ArgumentParser(description="Run everything that takes longer than a test may.")
    parser.add_argument("--fuzz-seconds", type=int, default=60, metavar="N", help="seconds a fuzz target")
    results = [run(part) for part in parts(parser.parse_args().fuzz_seconds)]
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    today = dt.datetime.now(dt.UTC).date()
    about = (
        f"Commit {head.stdout.strip()}, {today}, {platform.machine()}, Python {platform.python_version()}."
    )
    page = f"# The last soak\n\nWritten by `make soak`. {about}\n\n" + "\n".join(text for _, text in results)
    _PAGE.write_text(page, encoding="utf-8")
    print(f"wrote {_PAGE.relative_to(ROOT)}")
    return 0 if all(good for good, _ in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
