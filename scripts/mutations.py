"""Change one line at a time, in either language, and see a comparison go red (rule 10.2).

    python -m scripts.mutations              all of them
    python -m scripts.mutations --pick 6     six, others with every commit
    python -m scripts.mutations --only TEXT  those whose file or description contains the text
    python -m scripts.mutations --list       say which, change nothing

Mutations are made in a copy of the sources, under `target/mutations`, which is kept from run to run so
that Cargo builds only what changed. The copy is first seen to agree as it is. One mutation is caught
when it builds and the executions no longer agree over the streams of `scripts.mutations_check`: a
mutation that does not build, or that keeps the comparison from starting, proves nothing.

Exit status 0 if all are caught, 1 if one survives, 2 if the list is stale or something could not run.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
DIFFERS: Final = 3
"""Exit status of `scripts.mutations_check` when executions disagree; any other failure proves nothing."""

_COPIED: Final = (
    "src",
    "crates",
    "tests",
    "scripts",
    "Cargo.toml",
    "Cargo.lock",
    "pyproject.toml",
    "rust-toolchain.toml",
)
_LEFT_OUT: Final = ("__pycache__", ".so", ".pyd")  # built from what is copied, perhaps from something older
_LIBRARY: Final = "lib_native.so" if sys.platform != "darwin" else "lib_native.dylib"
_CHECK_SECONDS: Final = 300


class Mutation(NamedTuple):
    """One line: what the change is, where it stands, what it says and what it says instead."""

    what: str
    file: str
    before: str
    after: str

    @property
    def is_rust(self) -> bool:
        """Whether the extension has to be built again."""
        return self.file.endswith(".rs")


class CannotRunError(Exception):
    """Nothing was shown, neither that a mutation is caught nor that it survives."""


def read_list() -> list[Mutation]:
    """The mutations of `scripts/mutations.toml`."""
    with (ROOT / "scripts" / "mutations.toml").open("rb") as file:
        return [Mutation(**table) for table in tomllib.load(file)["mutation"]]


def stale(mutations: Iterable[Mutation], root: Path = ROOT) -> list[str]:
    """What is wrong with the list: lines that do not stand exactly once in their file, or do not change."""
    wrong = []
    for one in mutations:
        path = root / one.file
        times = path.read_text(encoding="utf-8").count(one.before) if path.is_file() else 0
        if times != 1:
            wrong.append(f"{one.file}: {one.before!r} stands {times} times, expected once")
        if one.before == one.after or one.before.count("\n") != one.after.count("\n"):
            wrong.append(f"{one.file}: {one.before!r} becomes {one.after!r}, expected one line changed")
    return wrong


# -- which of them


def seed_of(root: Path = ROOT) -> str:
    """The commit's hash; where there is no repository, as in an unpacked archive, that of the sources."""
    command = ["git", "rev-parse", "--show-toplevel", "HEAD"]
    try:
        told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return f"sources {digest_of(root)}"
    top, _, head = told.stdout.strip().partition("\n")
    if told.returncode == 0 and Path(top).resolve() == root.resolve():  # not of a project around this one
        return f"commit {head}"
    return f"sources {digest_of(root)}"


def digest_of(root: Path) -> str:
    """A hash over the names and bytes of the sources."""
    digest = hashlib.sha256()
    for name in sorted(sources(root)):
        digest.update(f"{name}\0{hashlib.sha256((root / name).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def pick(mutations: list[Mutation], count: int, seed: str) -> list[Mutation]:
    """So many of them, others with every seed, half of them in each language."""
    order = sorted(mutations, key=lambda one: hashlib.sha256(f"{seed}{one}".encode()).digest())
    python = [one for one in order if not one.is_rust]
    rust = [one for one in order if one.is_rust]
    half = max(min(len(python), count // 2), count - len(rust))
    return python[:half] + rust[: count - half]


# -- the copy


def sources(root: Path) -> Iterator[str]:
    """Names of the files that are copied, relative to `root`."""
    for name in _COPIED:
        path = root / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not any(file.match(f"*{end}") or end in file.parts for end in _LEFT_OUT):
                yield file.relative_to(root).as_posix()


def mirror(root: Path, tree: Path) -> None:
    """Make the copy what `root` is now; files that are the same keep their time and are not built anew."""
    wanted = set(sources(root))
    for name in set(sources(tree)) - wanted:
        (tree / name).unlink()
    for name in wanted:
        data, path = (root / name).read_bytes(), tree / name
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


class Workshop:
    """A copy of the sources, what is built of it, and the comparison run in it."""

    def __init__(self, place: Path) -> None:
        self.tree = place / "tree"
        self.target = place / "built"
        self.library = self.tree / "src" / "featureplane" / "_native.abi3.so"
        self.environment = os.environ | {
            "CARGO_TARGET_DIR": str(self.target),
            "PYO3_BUILD_EXTENSION_MODULE": "1",
            "PYO3_PYTHON": sys.executable,
            "PYTHONPATH": f"{self.tree / 'src'}{os.pathsep}{self.tree}",
            # Times in compiled files are whole seconds: one of a mutation could pass for the line restored.
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def prepare(self) -> None:
        """Copy, build, and see that the copy agrees as it is."""
        mirror(ROOT, self.tree)
        self.build()
        if told := self.disagreement():
            raise CannotRunError(f"without a mutation: {told}")

    def caught(self, mutation: Mutation) -> str:
        """What the comparison says with the line changed; empty if nothing.

        Raises `CannotRunError` if the changed line does not build or the comparison does not run.
        """
        try:
            with self.changed(mutation):
                return self.disagreement()
        except (CannotRunError, SyntaxError) as error:
            raise CannotRunError(f"{mutation.file}: {mutation.what}: {error}") from None

    @contextlib.contextmanager
    def changed(self, mutation: Mutation) -> Iterator[None]:
        """The copy with the line changed and, if that is in Rust, built so; both are put back."""
        path = self.tree / mutation.file
        text, library = path.read_text(encoding="utf-8"), self.library.read_bytes()
        changed = text.replace(mutation.before, mutation.after)
        try:
            path.write_text(changed, encoding="utf-8")
            if mutation.is_rust:
                self.build()
            else:
                compile(changed, mutation.file, "exec")
            yield
        finally:
            path.write_text(text, encoding="utf-8")
            self.library.write_bytes(library)

    def build(self) -> None:
        """Build the extension of the copy into its package."""
        command = ["cargo", "build", "--quiet", "--profile", "mutation", "--package", "featureplane-py"]
        done = subprocess.run(
            command, cwd=self.tree, env=self.environment, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise CannotRunError(f"it does not build:\n{done.stderr.rstrip()}")
        self.library.unlink(missing_ok=True)  # not written into: a process may have it mapped
        shutil.copy(self.target / "mutation" / _LIBRARY, self.library)

    def disagreement(self) -> str:
        """What the comparison says, empty if everything agrees."""
        command = [sys.executable, "-m", "scripts.mutations_check"]
        try:
            done = subprocess.run(
                command,
                cwd=self.tree,
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=_CHECK_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise CannotRunError(f"the comparison takes longer than {_CHECK_SECONDS} s") from None
        if done.returncode not in {0, DIFFERS}:
            raise CannotRunError(f"the comparison does not run:\n{done.stdout}{done.stderr}".rstrip())
        return done.stdout.strip() if done.returncode == DIFFERS else ""


@contextlib.contextmanager
def open_workshop() -> Iterator[Workshop]:
    """The one under `target/mutations`; a second run at the same time waits."""
    place = ROOT / "target" / "mutations"
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Workshop(place)


# -- the run


def run(chosen: list[Mutation]) -> int:
    """Make each mutation; how many survive."""
    with open_workshop() as workshop:
        began = time.perf_counter()
        workshop.prepare()
        print(f"agrees    {time.perf_counter() - began:5.1f} s  the copy as it is", flush=True)
        survivors = 0
        for one in chosen:
            began = time.perf_counter()
            told = workshop.caught(one)
            survivors += not told
            print(
                f"{'caught' if told else 'SURVIVED':<8}  {time.perf_counter() - began:5.1f} s  "
                f"{one.file}: {one.what}\n{' ' * 19}{told[:160] or 'nothing differs'}",
                flush=True,
            )
    return survivors


def main() -> int:
    """Run the mutations asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pick", type=int, metavar="N", help="only N of them, chosen by the commit's hash")
    parser.add_argument("--only", default="", metavar="TEXT", help="only those of such a file or description")
    parser.add_argument("--list", action="store_true", help="say which, and change nothing")
    options = parser.parse_args()
    mutations = read_list()
    if wrong := stale(mutations):
        print("\n".join(wrong), file=sys.stderr)
        return 2
    chosen = [one for one in mutations if options.only in f"{one.file}: {one.what}"]
    if options.pick is not None:
        seed = seed_of()
        chosen = pick(chosen, options.pick, seed)
        print(f"{len(chosen)} of {len(mutations)} mutations, chosen by {seed}")
    if options.list or not chosen:
        print("\n".join(f"{one.file}: {one.what}" for one in chosen) or "no mutation is called that")
        return 0 if chosen else 2
    try:
        survivors = run(chosen)
    except CannotRunError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(chosen) - survivors} of {len(chosen)} mutations caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())
