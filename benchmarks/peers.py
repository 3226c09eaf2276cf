"""The programs beside us: built or installed when first needed, and told from those that cannot come.

Leans on `harness`. Whoever is absent is named with the reason; nothing is left out in silence.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.harness import Contestant, Worker
from benchmarks.recording import CACHE, ROOT, Recording

__all__ = ["HFTBACKTEST", "NAUTILUS", "Peers", "gather"]

HFTBACKTEST: Final = "2.4.4"
NAUTILUS: Final = "1.221.0"
_PEER_PACKAGES: Final = (f"hftbacktest=={HFTBACKTEST}", "pandas>=2.3", "polars>=1.30")
_NAUTILUS_PACKAGES: Final = (f"nautilus_trader=={NAUTILUS}",)


@dataclass
class Peers:
    """Who runs beside us; a missing one has a reason in `absent`."""

    limit: Worker | None = None
    hftbacktest: Worker | None = None
    python: Path | None = None  # an interpreter with hftbacktest, numba, polars and pandas
    nautilus: Path | None = None  # one with nautilus_trader
    absent: dict[str, str] = field(default_factory=dict)
    running: ExitStack = field(default_factory=ExitStack)  # ends whatever was started

    def start(self, module: str, *arguments: str) -> Worker | None:
        """A module of ours in the peers' environment, or None where that could not be made."""
        return None if self.python is None else self.start_with(self.python, module, *arguments)

    def start_with(self, python: Path, module: str, *arguments: str) -> Worker:
        """A module of ours, run by an interpreter."""
        return self.running.enter_context(Worker([str(python), "-m", module, *arguments]))

    def contestants(self, *wanted: tuple[str, str, str, bool]) -> tuple[Contestant, ...]:
        """Those of (name, worker, job, equal) that are there."""
        workers = {"limit": self.limit, "hftbacktest": self.hftbacktest}
        there = []
        for name, of, job, equal in wanted:
            worker = workers[of]
            if worker is not None:
                there.append(worker.contestant(name, job, equal=equal))
        return tuple(there)

    def missing(self, *names: str) -> tuple[str, ...]:
        """Sentences about those of `names` that are absent."""
        return tuple(f"{name}: {self.absent[name]}" for name in names if name in self.absent)


@contextmanager
def gather(recording: Recording, *, outside: bool = True) -> Iterator[Peers]:
    """Starts whoever can come; `outside=False` leaves out those that are not built from this tree."""
    peers = Peers()
    with peers.running:
        cargo = shutil.which("cargo")
        if cargo is None:
            peers.absent["limit"] = "no Rust toolchain"
        else:
            program = _build(cargo, "limit")
            files = [str(path) for path in recording.captures]
            peers.limit = peers.running.enter_context(Worker([str(program), *files, "--serve"]))
        if outside:
            _gather_outside(peers, recording)
        else:
            for name in ("hftbacktest", "tables", "nautilus_trader"):
                peers.absent[name] = "left out of a smoke run"
        yield peers


def _gather_outside(peers: Peers, recording: Recording) -> None:
    peers.nautilus = _made(peers, "nautilus", _NAUTILUS_PACKAGES, "nautilus_trader")
    peers.python = _made(peers, "peer", _PEER_PACKAGES, "hftbacktest", "tables")
    if peers.python is None:
        return
    if recording.path is None or recording.source != "binance-usdm":
        peers.absent["hftbacktest"] = "no recording that its converter reads (set FEATUREPLANE_SHARED_DATA)"
        return
    arguments = [str(recording.path), str(CACHE), "--rows", str(recording.rows)]
    peers.hftbacktest = peers.start("benchmarks.peer_hftbacktest", *arguments)


def _made(peers: Peers, folder: str, packages: tuple[str, ...], *names: str) -> Path | None:
    """The interpreter of an environment; where it cannot be made, `names` are absent."""
    try:
        return _environment(CACHE / folder, packages)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        for name in names:
            peers.absent[name] = f"not installed: {said[-1] if said else error}"
        return None


def _build(cargo: str, crate: str) -> Path:
    folder = ROOT / "benchmarks" / crate
    subprocess.run([cargo, "build", "--release", "--quiet"], cwd=folder, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", folder / "target"))
    return target / "release" / crate


def _environment(place: Path, packages: tuple[str, ...]) -> Path:
    """The interpreter of an environment of their own: they want another NumPy than we do."""
    python, stamp = place / "bin" / "python", place / ".installed"
    if not stamp.exists() or stamp.read_text("utf-8") != " ".join(packages):
        print(f"Installing {', '.join(packages)} into {place}", file=sys.stderr)
        for command in (
            [sys.executable, "-m", "venv", str(place)],
            [str(python), "-m", "pip", "install", "--quiet", *packages],
        ):
            subprocess.run(command, check=True, capture_output=True)
        stamp.write_text(" ".join(packages), "utf-8")
    return python
