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

__all__ = ["HFTBACKTEST", "Peers", "gather"]

HFTBACKTEST: Final = "2.4.4"
_PEER_ENVIRONMENT: Final = CACHE / "peer"
_PEER_PACKAGES: Final = (f"hftbacktest=={HFTBACKTEST}", "pandas>=2.3", "polars>=1.30")


@dataclass
class Peers:
    """Who runs beside us; a missing one has a reason in `absent`."""

    limit: Worker | None = None
    hftbacktest: Worker | None = None
    python: Path | None = None  # an interpreter with hftbacktest, numba, polars and pandas
    absent: dict[str, str] = field(default_factory=dict)
    running: ExitStack = field(default_factory=ExitStack)  # ends whatever was started

    def start(self, module: str, *arguments: str) -> Worker | None:
        """A module of ours in the peers' environment, or None where that could not be made."""
        if self.python is None:
            return None
        return self.running.enter_context(Worker([str(self.python), "-m", module, *arguments]))

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
            peers.absent["hftbacktest"] = peers.absent["tables"] = "left out of a smoke run"
        yield peers


def _gather_outside(peers: Peers, recording: Recording) -> None:
    try:
        peers.python = _peer_python()
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        reason = f"not installed: {said[-1] if said else error}"
        peers.absent["hftbacktest"] = peers.absent["tables"] = reason
        return
    if recording.path is None or recording.source != "binance-usdm":
        peers.absent["hftbacktest"] = "no recording that its converter reads (set FEATUREPLANE_SHARED_DATA)"
        return
    arguments = [str(recording.path), str(CACHE), "--rows", str(recording.rows)]
    peers.hftbacktest = peers.start("benchmarks.peer_hftbacktest", *arguments)


def _build(cargo: str, crate: str) -> Path:
    folder = ROOT / "benchmarks" / crate
    subprocess.run([cargo, "build", "--release", "--quiet"], cwd=folder, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", folder / "target"))
    return target / "release" / crate


def _peer_python() -> Path:
    """The interpreter of an environment of their own: they want another NumPy than we do."""
    python = _PEER_ENVIRONMENT / "bin" / "python"
    stamp = _PEER_ENVIRONMENT / ".installed"
    if not stamp.exists() or stamp.read_text("utf-8") != " ".join(_PEER_PACKAGES):
        print(f"Installing {', '.join(_PEER_PACKAGES)} into {_PEER_ENVIRONMENT}", file=sys.stderr)
        for command in (
            [sys.executable, "-m", "venv", str(_PEER_ENVIRONMENT)],
            [str(python), "-m", "pip", "install", "--quiet", *_PEER_PACKAGES],
        ):
            subprocess.run(command, check=True, capture_output=True)
        stamp.write_text(" ".join(_PEER_PACKAGES), "utf-8")
    return python
