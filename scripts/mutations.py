"""Change one line at a time, in either language, and see a comparison go red (rule 10.2).

    python -m scripts.mutations              all of them
    python -m scripts.mutations --pick 6     six, chosen by the commit's hash

Each mutation is made in a copy of the tree. One in Python runs against the extension as it is built;
one in Rust is built first. It is caught when the executions no longer agree over the streams of
`scripts.mutations_check`. Exit status 1 if one survives.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
_COPIED: Final = ("src", "crates", "tests", "scripts", "Cargo.toml", "Cargo.lock", "pyproject.toml")
_LIBRARY: Final = "lib_native.so" if sys.platform != "darwin" else "lib_native.dylib"


class Mutation(NamedTuple):
    """One line: what the change is, where it stands, what it says and what it says instead."""

    what: str
    file: str
    before: str
    after: str


def read_list() -> list[Mutation]:
    """The mutations of `scripts/mutations.toml`."""
    with (ROOT / "scripts" / "mutations.toml").open("rb") as file:
        return [Mutation(**table) for table in tomllib.load(file)["mutation"]]


def stale(mutations: list[Mutation]) -> list[str]:
    """Mutations whose line no longer stands exactly once in its file."""
    wrong = []
    for one in mutations:
        times = (ROOT / one.file).read_text(encoding="utf-8").count(one.before)
        if times != 1:
            wrong.append(f"{one.file}: {one.before!r} stands {times} times, expected once")
    return wrong


def pick(mutations: list[Mutation], count: int) -> list[Mutation]:
    """So many of them, others with every commit, both languages among them."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    seed = head.stdout.strip() or "no commit"
    order = sorted(mutations, key=lambda one: hashlib.sha256(f"{seed}{one}".encode()).digest())
    python = [one for one in order if one.file.endswith(".py")]
    rust = [one for one in order if one.file.endswith(".rs")]
    half = min(len(python), count // 2)
    return python[:half] + rust[: count - half]


def survives(mutation: Mutation, tree: Path, target: Path) -> bool:
    """Whether everything still agrees with the line changed."""
    path = tree / mutation.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutation.before, mutation.after), encoding="utf-8")
    library = tree / "src" / "featureplane" / "_native.abi3.so"
    kept = library.read_bytes()
    try:
        if mutation.file.endswith(".rs"):
            build(tree, target)
        return run(tree, "-m", "scripts.mutations_check")
    finally:
        path.write_text(text, encoding="utf-8")
        library.write_bytes(kept)


def build(tree: Path, target: Path) -> None:
    """Build the extension of a tree into its package."""
    command = ["cargo", "build", "--quiet", "--profile", "mutation", "--package", "featureplane-py"]
    environment = os.environ | {"CARGO_TARGET_DIR": str(target)}
    subprocess.run(command, cwd=tree, env=environment, check=True)
    shutil.copy(target / "mutation" / _LIBRARY, tree / "src" / "featureplane" / "_native.abi3.so")


def run(tree: Path, *arguments: str) -> bool:
    """Whether Python, in a tree, ends well."""
    environment = os.environ | {"PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode == 0


def main() -> int:
    """Run the mutations asked for; 1 if one survives or the list is stale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pick", type=int, metavar="N", help="only N of them, chosen by the commit's hash")
    wanted = parser.parse_args().pick
    mutations = read_list()
    if wrong := stale(mutations):
        print("\n".join(wrong))
        return 1
    chosen = mutations if wanted is None else pick(mutations, wanted)
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="featureplane-mutations-") as folder:
        tree = Path(folder)
        for name in _COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name)
        target = ROOT / "target" / "mutations"
        build(tree, target)
        if not run(tree, "-m", "scripts.mutations_check"):
            print("the unchanged tree does not agree with itself: `python -m scripts.mutations_check`")
            return 1
        for one in chosen:
            began = time.perf_counter()
            alive = survives(one, tree, target)
            survivors += alive
            verdict = "SURVIVED" if alive else "caught"
            print(f"{verdict}  {time.perf_counter() - began:5.1f} s  {one.file}: {one.what}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutations caught")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    raise SystemExit(main())
