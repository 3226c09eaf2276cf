"""A page of the runbook, and the commands that stand on it: a drill does what the page says."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from featureplane.cli.app import main
from tests.contract.project import ROOT
from tests.integration.test_service_web import get

PAGES = ROOT / "docs" / "runbooks"

_FENCE = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CURL = re.compile(r"curl -s http://127\.0\.0\.1:8000(/\w+)(?: \| grep -E '(.*)')?")
_BY_SOCKET = ("strategy", "shadow", "rollout")


@dataclass
class Page:
    """One page; `control` and `address` are where the service of the drill is asked.

    `used` are the commands that the drill has run, as they stand on the page.
    """

    name: str
    capsys: pytest.CaptureFixture[str]
    control: Path | None = None
    address: str = ""
    used: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of it."""
        return (PAGES / f"{self.name}.md").read_text(encoding="utf-8")

    @property
    def commands(self) -> list[str]:
        """Its commands, in order."""
        blocks = [found[1].replace("\\\n", " ") for found in _FENCE.finditer(self.text)]
        return [" ".join(line.split()) for block in blocks for line in block.splitlines() if line.strip()]

    def _find(self, begins: str) -> str:
        found = [one for one in self.commands if one.startswith(begins)]
        assert found, f"{self.name}.md does not say `{begins} ...`, but: {self.commands}"
        self.used += found[:1]
        return found[0]

    def run(self, begins: str, *more: str, **named: str) -> str:
        """Run the first command of the page that begins so; what it said, data and talk.

        `named` is put in the place of what stands there in capitals, or of a path or time. `more` is what a
        command is told about where, which no page can know.
        """
        status, said, told = self._done(begins, more, named)
        assert status == 0, told
        return said + told

    def look(self, begins: str, *more: str, **named: str) -> str:
        """As `run`, for a question that may be answered with no (1)."""
        status, said, told = self._done(begins, more, named)
        assert status in {0, 1}, told
        return said + told

    def refuse(self, begins: str, *more: str, **named: str) -> str:
        """As `run`, for a command that is refused: what it said."""
        status, _, told = self._done(begins, more, named)
        assert status == 2, told
        return told

    def ask(self, begins: str, *more: str, **named: str) -> Any:
        """As `run`, with `--json`: what it answered."""
        status, said, told = self._done(begins, (*more, "--json"), named)
        assert status == 0, told
        return json.loads(said)

    def _done(self, begins: str, more: Sequence[str], named: dict[str, str]) -> tuple[int, str, str]:
        words = shlex.split(self._find(f"featureplane {begins}"))[1:]
        unnamed = set(named) - set(words)
        assert not unnamed, f"{self.name}.md: {words} names no {unnamed}"
        words = [named.get(word, word) for word in words]
        if words[0] in _BY_SOCKET and self.control is not None:
            more = (*more, "--control", str(self.control))
        self.capsys.readouterr()
        status = main([*words, *more])
        told = self.capsys.readouterr()
        return status, told.out, told.err

    def curl(self, path: str) -> tuple[int, str]:
        """What the page's `curl` of that path shows, of the lines it greps for."""
        found = [one for one in map(_CURL.match, self.commands) if one is not None and one[1] == path]
        assert found, f"{self.name}.md does not say `curl ...{path}`"
        self.used += [one[0] for one in found]
        status, body = get(self.address + path)
        lines = body.decode().splitlines()
        for pattern in filter(None, (one[2] for one in found)):
            assert any(re.search(pattern, line) for line in lines), f"{self.name}.md greps {pattern}: nothing"
        shown = [one[2] for one in found if one[2]]
        return status, "\n".join(
            line for line in lines if not shown or any(re.search(pattern, line) for pattern in shown)
        )

    @property
    def alerts(self) -> Sequence[str]:
        """The alerts that lead here."""
        head = self.text.partition("## What you see")[0]
        return re.findall(r"`([A-Z]\w+)`", head)
