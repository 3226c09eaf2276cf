"""Object storage on this machine: moto's server, an emulator of what S3 does, not S3."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.prometheus import free_port

BUCKET = "features"
PROGRAM = "import sys; from moto.server import main; main(sys.argv[1:])"


@contextmanager
def object_storage() -> Iterator[str]:
    """The address of a server with one empty bucket; loopback alone."""
    address = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", PROGRAM, "-H", "127.0.0.1", "-p", address.rpartition(":")[2]]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{address}/moto-api/"):  # noqa: S310 - our own server
                    break
            except OSError:
                assert server.poll() is None, "moto's server has ended"
                assert time.monotonic() < until, "moto's server does not answer"
                time.sleep(0.05)
        asked(f"{address}/{BUCKET}", "PUT")
        yield address
    finally:
        server.kill()
        server.wait()


def asked(url: str, method: str, data: bytes | None = None) -> bytes:
    """What a server answers."""
    told = urllib.request.Request(url, data=data, method=method)  # noqa: S310 - our own server
    with urllib.request.urlopen(told) as answer:  # noqa: S310 - as above
        found: bytes = answer.read()
        return found


@contextmanager
def refusing() -> Iterator[str]:
    """The address of a server that lets nobody in."""

    class Refuse(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403)
            self.end_headers()

        do_GET = do_PUT = do_HEAD  # noqa: N815 - their names there

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def use(patch: pytest.MonkeyPatch, address: str, folder: object) -> None:
    """Let stores of this process, and of those it starts, find a server."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "FEATURE_STORE_ENDPOINT": address,
        "FEATURE_STORE_LOCAL_PATH": str(folder),
    }.items():
        patch.setenv(name, value)
