"""Debian's Prometheus for tests: its checkers, and servers of our own on this machine alone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

START_S = 30.0
ALERTMANAGER = "prometheus-alertmanager"
PACKAGES = {"amtool": ALERTMANAGER, ALERTMANAGER: ALERTMANAGER}


def executable(name: str) -> str:
    """Path of a program of Prometheus; without it a skip, and where everything must run a failure."""
    if found := shutil.which(name):
        return found
    reason = f"no {name}; Debian, Ubuntu: apt install {PACKAGES.get(name, 'prometheus')}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def promtool(*words: str) -> str:
    """What it prints; where it is not content the test fails with that."""
    done = subprocess.run(
        [executable("promtool"), *words], capture_output=True, text=True, check=False, timeout=120
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def amtool(*words: str) -> str:
    """As `promtool`, of Alertmanager; without what it says to people."""
    done = subprocess.run(
        [executable("amtool"), *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def alertmanager(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """An Alertmanager with that configuration, by its address; it ends with the block."""
    address, written = f"127.0.0.1:{free_port()}", folder / "alertmanager.yml"
    written.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    words = [executable(ALERTMANAGER), f"--config.file={written}", f"--storage.path={folder / 'am'}"]
    words += [f"--web.listen-address={address}", "--cluster.listen-address=", "--log.level=warn"]
    with running(words, folder / "alertmanager.log", address):
        yield address


class Server:
    """A Prometheus that answers."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **given: str) -> Any:
        """The `data` of an answer; an error of a query fails with what Prometheus says of it."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(given)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                said = json.load(error)
        assert said["status"] == "success", (given, said)
        return said["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return found


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def server(folder: Path, targets: Mapping[str, str], *rules: Path) -> Iterator[Server]:
    """A Prometheus that scrapes those addresses by job, every half second, and ends with the block."""
    program, address = executable("prometheus"), f"127.0.0.1:{free_port()}"
    jobs = [{"job_name": job, "static_configs": [{"targets": [one]}]} for job, one in targets.items()]
    every = {"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "500ms"}
    config = {"global": every, "scrape_configs": jobs, "rule_files": [str(one) for one in rules]}
    written = folder / "prometheus.yml"
    written.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    words = [program, f"--config.file={written}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    words += [f"--web.listen-address={address}", "--log.level=warn"]
    with running(words, folder / "prometheus.log", address):
        yield Server(address)


@contextmanager
def running(words: Sequence[str], log: Path, address: str) -> Iterator[None]:
    """A program that answers at that address."""
    with log.open("w+b") as said:
        program = subprocess.Popen(words, stdout=said, stderr=said, cwd=log.parent)
        try:
            until_ready(address, program, log)
            yield
        finally:
            program.terminate()
            program.wait(START_S)


def until_ready(address: str, program: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until it answers, or fail with what it said."""
    ends = time.monotonic() + START_S
    while True:
        assert program.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < ends, log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
