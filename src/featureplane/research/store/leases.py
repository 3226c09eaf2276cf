"""Who computes a missing day: one process at a time, by a lease with a fencing token.

A lease is renewed every five seconds while its holder lives and is dead after fifteen without; whoever
takes it over gets a higher token, and a holder that comes back too late publishes nothing.

Leans on `manifest`. Knows nothing of what is computed.
"""

from __future__ import annotations

import functools
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from featureplane.clock import SYSTEM, Clock
from featureplane.research.store.manifest import LEASE_DEAD_NS, Manifest
from featureplane.units import NANOS_PER_SECOND

__all__ = ["Lease", "LeaseLost", "Leases", "has_ended", "this_process"]

_RENEW_NS: Final = 5 * NANOS_PER_SECOND


@functools.cache
def _here() -> str:
    """The machine since it was started, as far as its processes see each other; empty where nobody tells."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()}/{boot[:8]}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process was started, in a form that means nothing else; empty if there is none."""
    try:
        told = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    state, *rest = told[told.rindex(b")") + 2 :].split()
    return "" if state == b"Z" else rest[18].decode()


def this_process() -> str:
    """Who holds a lease: the machine, the process, and when that was started."""
    pid = os.getpid()
    return f"{_here() or socket.gethostname()}:{pid}:{_started(pid)}"


def has_ended(holder: str) -> bool:
    """Whether a process of this machine is seen not to be there any more."""
    place, pid, started = holder.rsplit(":", 2) if holder.count(":") > 1 else ("", "", "")
    return bool(started) and place == _here() and _started(int(pid)) != started


class LeaseLost(Exception):
    """Somebody else has taken the lease over; what was computed is not published."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as it stands; times are UTC nanoseconds."""

    key: str
    holder: str
    token: int
    taken_ns: int
    renewed_ns: int
    reserved: int = 0  # bytes promised to it

    def is_dead(self, now_ns: int) -> bool:
        """Whether its holder has not been heard of for too long, or is seen to have ended here.

        A lease from the future is dead too: a clock was set.
        """
        return abs(now_ns - self.renewed_ns) > LEASE_DEAD_NS or has_ended(self.holder)


class Leases:
    """The leases of one store in one process."""

    def __init__(self, manifest: Manifest, clock: Clock = SYSTEM) -> None:
        self._manifest = manifest
        self._clock = clock
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._renewing: threading.Thread | None = None
        self._pid = os.getpid()

    def take(self, key: str) -> Lease | None:
        """The lease, if nobody alive has it."""
        now_ns = self._clock.wall_ns()
        with self._manifest.writing() as connection:
            found = _read(connection, key)
            if found is not None and not found.is_dead(now_ns):
                return None
            connection.execute("UPDATE tokens SET last = last + 1")
            token = int(connection.execute("SELECT last FROM tokens").fetchone()[0])
            taken = Lease(key, this_process(), token, now_ns, now_ns)
            told = (taken.key, taken.holder, taken.token, now_ns, now_ns)
            connection.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, 0)", told)
        with self._lock:
            self._keep_renewing()
            self._held[key] = token
        return taken

    @contextmanager
    def held(self, lease: Lease) -> Iterator[None]:
        """Renew it meanwhile; give it back in the end, whatever happens."""
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(lease.key, None)
            # WHY let it pass: what cannot be given back is dead in a quarter of a minute.
            with suppress(sqlite3.Error):
                self._manifest.connection().execute(
                    "DELETE FROM leases WHERE key = ? AND token = ?", (lease.key, lease.token)
                )

    def check(self, lease: Lease, connection: sqlite3.Connection) -> None:
        """Raise `LeaseLost` unless it is still ours, as this transaction sees it."""
        found = _read(connection, lease.key)
        if found is None or found.token != lease.token:
            raise LeaseLost

    def reserve(self, lease: Lease, size: int, most: int) -> int:
        """Promise so many bytes to a lease; how many are missing below `most`, 0 if it is promised.

        Raises `LeaseLost` if it is not ours any more.
        """
        now_ns = self._clock.wall_ns()
        with self._manifest.writing() as connection:
            self.check(lease, connection)
            text = "UPDATE leases SET reserved = ? WHERE key = ? AND token = ?"
            connection.execute(text, (0, lease.key, lease.token))
            missing = self._manifest.taken_bytes(now_ns, connection) + size - most
            if missing <= 0:
                connection.execute(text, (size, lease.key, lease.token))
        return max(missing, 0)

    def find(self, key: str) -> Lease | None:
        """The lease of a key, dead or alive."""
        return _read(self._manifest.connection(), key)

    def all(self) -> list[Lease]:
        """Every lease there is, the oldest first."""
        text = "SELECT key, holder, token, taken_ns, renewed_ns, reserved FROM leases ORDER BY taken_ns, key"
        return [Lease(*told) for told in self._manifest.connection().execute(text)]

    def close(self) -> None:
        """Renew nothing any more; returns when nobody does.

        WHY wait: a connection that is closed while its thread is at work with it ends the process.
        """
        self._stop.set()
        with self._lock:
            renewing, self._renewing = self._renewing, None
        if renewing is not None and self._pid == os.getpid():
            renewing.join()

    def _keep_renewing(self) -> None:
        if self._pid != os.getpid():  # threads do not survive a fork
            self._pid, self._renewing, self._held = os.getpid(), None, {}
        if self._renewing is None:
            self._stop = threading.Event()
            self._renewing = threading.Thread(target=self._renew, name="store-leases", daemon=True)
            self._renewing.start()

    def _renew(self) -> None:
        stop = self._stop
        try:
            self._renew_until(stop)
        finally:
            self._manifest.close_here()

    def _renew_until(self, stop: threading.Event) -> None:
        while not self._clock.wait(_RENEW_NS, stop):
            with self._lock:
                held = list(self._held.items())
            now_ns = self._clock.wall_ns()
            told = [(now_ns, key, token) for key, token in held]
            if told:
                with suppress(sqlite3.Error), self._manifest.writing() as connection:
                    connection.executemany(
                        "UPDATE leases SET renewed_ns = ? WHERE key = ? AND token = ?", told
                    )


def _read(connection: sqlite3.Connection, key: str) -> Lease | None:
    text = "SELECT key, holder, token, taken_ns, renewed_ns FROM leases WHERE key = ?"
    told = connection.execute(text, (key,)).fetchone()
    return None if told is None else Lease(*told)
