"""A service that runs with a rollout in it, its commands, and a candidate that computes wrongly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane.cli.app import main
from featureplane.features.kernels.averages import Ema
from featureplane.features.messages import ReferenceMessages
from featureplane.services.configuration import read_configuration
from featureplane.services.marketdata import MarketDataService
from featureplane.services.preparation import prepare
from featureplane.services.rollout.pilot import RolloutPilot
from tests.integration.test_rollout import CRITERIA, SLOW
from tests.integration.test_service_web import Steps, served, until_taken
from tests.services import INSTRUMENTS, SYMBOL, sample_lines, sample_part

MAKER = "SharedMarketMaker"
ALONE = """\
from featureplane.strategy.examples.market_maker import SharedMarketMaker
from featureplane.strategy.examples.ofi_taker import SharedOfiTaker

class Maker(SharedMarketMaker):
    pass

class Taker(SharedOfiTaker):
    pass
"""
FORMS = "featureplane.strategy.examples.market_maker:FORMS"
PLACE = Path("var/feature_rollout.json")


@dataclass
class Live:
    """A service that runs, its commands, and the lines it is given."""

    service: MarketDataService
    control: Path
    steps: Steps
    lines: Iterator[bytes]
    given: int = 0

    @property
    def pilot(self) -> RolloutPilot:
        assert self.service.pilot is not None
        return self.service.pilot

    def more(self, count: int) -> None:
        for _ in range(count):
            self.steps.queue.put(next(self.lines))
        self.given += count
        until_taken(self.service, self.given)
        self.service.ask(lambda: None, 20)

    def rollout(self, *words: str, status: int = 0) -> None:
        assert main(["rollout", *words, "--control", str(self.control)]) == status

    def told(self, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
        capsys.readouterr()
        self.rollout("status", "--json")
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, value in (("PARITY", "1"), ("SAMPLE_EVERY", "2")):
        monkeypatch.setenv(f"HFT_FEATURE_SHADOW_{name}", value)
    monkeypatch.setenv("HFT_FEATURE_LATENCY_SAMPLE_EVERY", "4")
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "feature_rollout.criteria.toml").write_text(CRITERIA)
    (tmp_path / "slow.toml").write_text(SLOW)
    (tmp_path / "alone.py").write_text(ALONE)  # without legacy forms, which have to be in step first
    return tmp_path


@contextmanager
def running(
    folder: Path, *strategies: str, backend: str = "auto", features: str | None = "lob_shared_v1"
) -> Iterator[Live]:
    given = {
        "backend": backend,
        "source": f"replay:{sample_part(folder, 50)}",
        "feed": "binance-spot",
        "instruments": str(INSTRUMENTS),
        "strategy": list(strategies) or [f"{MAKER}=alone.py:Maker"],
        "features": features,
    }
    service = prepare(read_configuration(None, given), allow_code=True).service
    with served(service, folder) as (_, control, steps):
        yield Live(service, control, steps, iter(sample_lines()))


def consumed(live: Live, strategy: str = MAKER) -> str:
    ctx = live.service.runner.states[strategy].strategy.ctx
    return ctx.get_feature_set_id(SYMBOL)


class WrongEma(Ema):
    """With something added to each input."""

    __slots__ = ()

    def update(self, x: float, clock_ns: int) -> None:
        super().update(x + 1, clock_ns)


def changed_ema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Averages of candidates, in Python, are wrong from now on."""
    successor = fp.Pipeline.successor

    def other(self: fp.Pipeline, fset: fp.FeatureSet) -> fp.Pipeline:
        made = successor(self, fset)
        assert isinstance(made._running, ReferenceMessages)
        for one in made.instruments:
            for node in made._running.symbol(one.symbol_id).nodes.all:
                if isinstance(node.kernel, Ema):
                    node.kernel.__class__ = WrongEma
        return made

    monkeypatch.setattr(fp.Pipeline, "successor", other)


def number(count: object) -> int:
    assert isinstance(count, int)
    return count
