"""A real browser, driven by its own protocol over a pipe: no driver, no port, no network."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

import pytest

SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)


def executable() -> str:
    """Path of a Chromium; without one a skip, and where everything must run a failure."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    reason = "no Chromium; Debian, Ubuntu: apt install chromium"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Page:
    """One page: what it logs, what it asks the network for, what its script says."""

    def __init__(self, commands: BinaryIO, answers: BinaryIO) -> None:
        self._commands, self._answers = commands, answers
        self._unread, self._next, self._session = b"", 0, ""
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def attach(self) -> Self:
        """Begin to listen to a new, empty page."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        return self

    def show(self, path: Path, *, width: int, height: int, scheme: str = "dark", ratio: float = 1) -> None:
        """Open a file in a window of that size and wait until its script has run."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=ratio,
            mobile=False,
        )
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + 30
        while self.run("document.readyState") != "complete" or self.run("location.protocol") != "file:":
            assert time.monotonic() < deadline, "the page did not load in 30 s"
            time.sleep(0.02)
        self.settle()

    def settle(self) -> None:
        """Wait for two pictures, so that what was asked for is drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are waited for."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def shades(self, canvas: str) -> int:
        """How many different colours a canvas shows."""
        return int(
            self.run(
                f"""(() => {{
                  const canvas = document.querySelector({canvas!r});
                  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
                  return new Set(new Uint32Array(data.buffer)).size;
                }})()"""
            )
        )

    def mouse(self, kind: str, x: float, y: float, **more: object) -> None:
        """One mouse event: mouseMoved, mousePressed, mouseReleased or mouseWheel."""
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def picture(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])

    def ask(self, method: str, **params: object) -> dict[str, Any]:
        """Send one command and wait for its answer, noting what the page says meanwhile."""
        self._next += 1
        message: dict[str, object] = {"id": self._next, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self._next:
                assert "error" not in answer, (method, answer)
                return dict(answer["result"])
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], 60)
            assert ready, "the browser said nothing for 60 s"
            part = os.read(self._answers.fileno(), 1 << 20)
            assert part, "the browser went away"
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in (
            "error",
            "warning",
            "assert",
        ):
            self.complaints.append(json.dumps(params["args"]))
        elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"][:200])


@contextmanager
def page() -> Iterator[Page]:
    """A page in a browser of its own, which ends with the block."""
    program = executable()
    commands_read, commands_write = os.pipe()
    answers_read, answers_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # WHY: the browser expects its pipe at descriptors 3 and 4, and only a shell renumbers them.
        process = subprocess.Popen(
            [
                "bash",
                "-c",
                f'exec "$@" 3<&{commands_read} 4>&{answers_write}',
                "bash",
                program,
                *SWITCHES,
                f"--user-data-dir={profile}",
            ],
            pass_fds=(commands_read, answers_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands_read)
        os.close(answers_write)
        try:
            with (
                os.fdopen(commands_write, "wb") as commands,
                os.fdopen(answers_read, "rb", buffering=0) as answers,
            ):
                yield Page(commands, answers).attach()
        finally:
            process.terminate()
            process.wait(timeout=20)
