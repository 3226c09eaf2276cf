"""A service in which something happens, and what is seen of it from outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from featureplane.services.marketdata import MarketDataService, StrategyForms
from featureplane.services.raw_queue import Item
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.examples import market_maker
from tests.drills.alarms import Phase, check_alarms
from tests.drills.page import Page
from tests.integration.test_service_web import Steps, get, served, until_taken
from tests.services import service

FORMS = {"legacy": market_maker.LegacyMarketMaker, "shared": market_maker.SharedMarketMaker}


def forms(name: str = "mm") -> dict[str, Any]:
    """The example strategy in both forms, as arguments of `service`."""
    return {"forms": {name: StrategyForms(FORMS, "shared")}}


def maker(name: str = "mm") -> BaseStrategy:
    """The example strategy."""
    return market_maker.SharedMarketMaker(name)


@dataclass
class Scene:
    """A running service and its page."""

    running: MarketDataService
    page: Page
    folder: Path
    steps: Steps
    phases: list[Phase] = field(default_factory=list)
    given: int = 0

    def put(self, *lines: bytes) -> None:
        """Let these messages come."""
        for line in lines:
            assert self.steps.queue.put(line)
            self.given += 1

    def feed(self, lines: Iterable[bytes]) -> None:
        """Let these messages come, and wait until they were taken."""
        self.put(*lines)
        until_taken(self.running, self.given)

    def metrics(self, minutes: int = 20, grows: int | None = None) -> str:
        """What `/metrics` says now: a phase of so many minutes; all grows until the end of the first one."""
        _, body = get(f"{self.page.address}/metrics")
        grows = grows or (2 if self.phases else minutes)
        self.phases.append(Phase(body.decode(), minutes, grows))
        return body.decode()

    def value(self, series: str) -> float:
        """The value of a series, as it stands in the last metrics."""
        (line,) = [one for one in self.phases[-1].text.splitlines() if one.startswith(f"{series} ")]
        return float(line.rpartition(" ")[2])

    def readyz(self) -> tuple[int, str]:
        """What `/readyz` says now."""
        status, body = get(f"{self.page.address}/readyz")
        return status, body.decode()

    def alarms(self, *alerts: str, over: bool = True) -> None:
        """These fired in the second phase, not in the first, and are over at the end."""
        assert set(alerts) <= set(self.page.alerts), self.page.alerts
        check_alarms(self.folder, self.phases, *alerts, over=over)

    def say(self, item: Item) -> None:
        """Let anything come."""
        assert not isinstance(item, tuple)
        self.steps.queue.reconnect(item.symbol, item.reason)


@contextmanager
def scene(
    page: str, folder: Path, capsys: pytest.CaptureFixture[str], *strategies: BaseStrategy, **how: Any
) -> Iterator[Scene]:
    """A service that runs in this process, as `run` has one, watched and told."""
    running = service(*strategies, watched=True, **how)
    with served(running, folder) as (address, path, steps):
        yield Scene(running, Page(page, capsys, path, address), folder, steps)
