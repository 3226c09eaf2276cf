"""Fuzz every parser and decoder for a while (`make fuzz SECONDS=20`).

    .venv/bin/python -m scripts.fuzz [--seconds N] [--jobs N] [--sanitizer none|address] [TARGET ...]

Targets stand in `fuzz/src`, inputs to begin with in `fuzz/corpus` (`scripts/fuzz_corpus.py`). What is
learnt on the way is kept in `.cache/fuzz`, so that the next run goes on from there; what brings a
target down is kept in `fuzz/artifacts` and named. A find becomes a test beside the code it was in, or
an input in `fuzz/corpus` under a name that says what it is.

The toolchain is the stable one: RUSTC_BOOTSTRAP=1 lets it take the one switch that is not.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
FUZZ: Final = ROOT / "fuzz"
CACHE: Final = ROOT / ".cache"
CARGO_FUZZ: Final = "0.13.2"
LIMITS: Final = ("-max_len=16384", "-timeout=30", "-rss_limit_mb=2048", "-print_final_stats=1")


@dataclass(frozen=True)
class Outcome:
    """What became of one target."""

    target: str
    sound: bool
    runs: int
    said: str


def main() -> int:
    """Exit 0 if every target held, 1 if one did not, 2 if none could run."""
    options = _options()
    missing = _missing()
    if missing:
        print(missing, file=sys.stderr)
        return 2 if os.environ.get("CI") else _replay()
    targets = options.targets or sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs"))
    binaries = _build(options.sanitizer)
    print(f"Fuzzing {len(targets)} targets, {options.seconds} s each, {options.jobs} at a time")
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(lambda target: _run(binaries / target, options.seconds), targets))
    failed = [outcome for outcome in outcomes if not outcome.sound]
    for outcome in failed:
        print(f"\n{outcome.target} was brought down:\n{outcome.said}", file=sys.stderr)
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} targets held")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz every parser and decoder")
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("--jobs", type=int, default=max(1, os.cpu_count() or 1), help="targets at a time")
    parser.add_argument("--sanitizer", choices=("none", "address"), default="none")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    return parser.parse_args()


def _missing() -> str:
    if shutil.which("cargo") is None:
        return "No Rust toolchain was found: see `scripts/rust`."
    if shutil.which("c++") is None:
        return "libFuzzer needs a C++ compiler (Debian, Ubuntu: apt install g++); inputs are only replayed."
    return ""


def _replay() -> int:
    """What is left to do without libFuzzer: every committed input once."""
    if shutil.which("cargo") is None:
        return 0
    command = [
        "cargo",
        "test",
        "--quiet",
        "--no-default-features",
        "--manifest-path",
        str(FUZZ / "Cargo.toml"),
    ]
    return subprocess.run(command, check=False).returncode


def _build(sanitizer: str) -> Path:
    tool = CACHE / "cargo-fuzz" / "bin" / "cargo-fuzz"
    version = (
        subprocess.run([tool, "--version"], check=False, capture_output=True, text=True)
        if tool.exists()
        else None
    )
    if version is None or CARGO_FUZZ not in version.stdout:
        print(f"Installing cargo-fuzz {CARGO_FUZZ} into {tool.parent.parent.relative_to(ROOT)}")
        subprocess.run(
            [
                "cargo",
                "install",
                "cargo-fuzz",
                "--version",
                CARGO_FUZZ,
                "--locked",
                "--quiet",
                "--root",
                tool.parent.parent,
            ],
            check=True,
        )
    host = re.search(
        r"^host: (.*)$",
        subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout,
        re.MULTILINE,
    )
    assert host is not None, "rustc names its host"
    out = FUZZ / "target" / f"sanitizer-{sanitizer}"
    print("Building the fuzz targets")
    subprocess.run(
        [tool, "build", "--sanitizer", sanitizer, "--target", host[1], "--target-dir", out],
        check=True,
        cwd=ROOT,
        env=os.environ | {"RUSTC_BOOTSTRAP": "1", "CARGO_TERM_QUIET": "true"},
    )
    return out / host[1] / "release"


def _run(binary: Path, seconds: int) -> Outcome:
    target = binary.name
    learnt, artifacts = CACHE / "fuzz" / target, FUZZ / "artifacts" / target
    for folder in (learnt, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(artifacts.iterdir())
    start = time.monotonic()
    process = subprocess.run(
        [
            binary,
            learnt,
            FUZZ / "corpus" / target,
            f"-max_total_time={seconds}",
            *LIMITS,
            f"-artifact_prefix={artifacts}/",
        ],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"RUST_BACKTRACE": "0"},
    )
    found = re.search(r"number_of_executed_units: (\d+)", process.stderr)
    runs = int(found[1]) if found else 0
    took = time.monotonic() - start
    sound = process.returncode == 0 and runs > 0
    print(
        f"  {target:<12} {'held' if sound else 'BROUGHT DOWN':<12} {runs:>10,} runs in {took:.0f} s",
        flush=True,
    )
    return Outcome(
        target, sound, runs, "" if sound else _told(process.stderr, set(artifacts.iterdir()) - before, binary)
    )


def _told(log: str, artifacts: set[Path], binary: Path) -> str:
    lines = log.splitlines()
    start = next((at for at, line in enumerate(lines) if "panicked at" in line or "ERROR" in line), -12)
    said = "\n".join(f"  {line[:400]}" for line in lines[start:][:12])
    again = "".join(
        f"\n  again: {binary.relative_to(ROOT)} {path.relative_to(ROOT)}" for path in sorted(artifacts)
    )
    return said + again


if __name__ == "__main__":
    sys.exit(main())
