"""`featureplane backtest`: the numbers of the library, refusals in words, and a page that draws."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane.cli import main
from featureplane.execution.money import shown
from featureplane.execution.venues.paper import PaperOptions
from featureplane.research.backtest.assets import HftAsset
from featureplane.research.backtest.hft import hft_backtest
from featureplane.research.backtest.library import HftMarket
from featureplane.research.backtest.replay import BacktestResult, replay_backtest
from featureplane.strategy.examples.market_maker import LegacyMarketMaker, SharedMarketMaker
from tests.browser import page

pytestmark = pytest.mark.native

SAMPLE = str(Path(fp.__file__).parent / "sample" / "ethusdt_20240808.gz")
DATA = ["--data", SAMPLE, "--source", "binance-spot"]
MAKER = "featureplane.strategy.examples.market_maker"
SHARED, LEGACY = f"{MAKER}:SharedMarketMaker", f"{MAKER}:LegacyMarketMaker"
V1 = ["--features", "lob_shared_v1"]
US = 1_000
KEYS = {
    "strategy", "mode", "fill", "latency", "latency_us", "maker_bps", "taker_bps", "source", "symbol", "set",
    "fingerprint", "messages", "decisions", "orders_sent", "orders_refused", "fills", "maker_fills",
    "fill_rate", "volume", "pnl", "equity_low", "equity_high", "fees", "markouts", "inventory",
    "inventory_most", "cpu_ns_per_message", "stopped_by", "report", "report_bytes", "seconds",
}  # fmt: skip


def answer(out: Path, capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    assert main(["backtest", *words, *DATA, "--out", str(out), "--json"]) == status
    return dict(json.loads(capsys.readouterr().out))


def check(found: dict[str, Any], result: BacktestResult) -> None:
    """The numbers of the command are those of the library call."""
    assert found.keys() == KEYS
    assert found["messages"] == result.messages > 1_000
    assert found["decisions"] == len(result.decisions) > 100
    assert (found["orders_sent"], found["orders_refused"]) == (result.sent, result.refused)
    assert found["fills"] == len(result.fills) > 10
    assert found["fill_rate"] == result.fill_rate
    assert result.pnl is not None
    assert found["pnl"] == float(shown(result.pnl)) != 0
    assert found["fees"] == float(shown(result.fees))
    assert found["inventory"] == float(shown(result.equity[-1].inventory[0], 5))
    for horizon, value in found["markouts"].items():
        assert value == (result.markout(int(horizon)) or 0) / 100
    assert found["markouts"].keys() == {"100", "500", "1000"}


def sample() -> fp.EventBatch:
    """Read as the command reads it: exponents are found in the data."""
    return fp.read_events(SAMPLE, "binance-spot")


@pytest.mark.parametrize("fill", ["touch", "queue", "through"])
def test_a_replay_has_the_numbers_of_the_library(
    fill: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [SHARED, *V1, "--fill", fill, "--latency-us", "250", "--maker-bps", "1"]
    found = answer(tmp_path / "page.html", capsys, *words)
    paper = PaperOptions(fill=fill, entry_ns=250 * US, response_ns=250 * US, maker_bps="1")
    events = sample()
    check(
        found,
        replay_backtest([SharedMarketMaker()], events, fset=fp.feature_set("lob_shared_v1"), paper=paper),
    )
    assert (found["mode"], found["fill"], found["set"]) == ("replay", fill, "lob_shared_v1")
    assert (events.instrument.price_exponent, events.instrument.qty_exponent) == (2, 5)


@pytest.mark.parametrize(
    ("mode", "fill"),
    [("lob_feature", "touch"), ("stats_only", "queue")],
)
def test_hftbacktest_has_the_numbers_of_the_library(
    mode: str, fill: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_features = mode == "lob_feature"
    words = [SHARED, *V1] if with_features else [LEGACY]
    words += ["--mode", mode, "--fill", fill, "--latency-us", "250"]
    found = answer(tmp_path / "page.html", capsys, *words)
    market = HftMarket(fill=fill, entry_ns=250 * US, response_ns=250 * US)
    asset = HftAsset.of(sample())
    adapter = (
        fp.HftBacktestAdapter(asset, "lob_shared_v1", market=market)
        if with_features
        else fp.HftBacktestAdapter(asset, feature_mode="stats_only", market=market)
    )
    strategy = SharedMarketMaker() if with_features else LegacyMarketMaker()
    check(found, hft_backtest([strategy], adapter))
    assert (found["mode"], found["fill"]) == (mode, fill)
    assert found["set"] == ("lob_shared_v1" if with_features else "none")


def test_touch_and_through_are_the_bounds_of_the_queue_in_hftbacktest_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = []
    for fill in ("through", "queue", "touch"):
        found = answer(tmp_path / "page.html", capsys, SHARED, "--mode", "lob_feature", "--fill", fill)
        rates.append(found["maker_fills"])
    assert 0 < rates[0] < rates[1] < rates[2]


def test_the_page_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    found = answer(out, capsys, SHARED, *V1)
    assert found["report_bytes"] == out.stat().st_size < 5_000_000
    assert list(tmp_path.iterdir()) == [out]
    with page() as window:
        window.show(out, width=1440, height=1000)
        assert window.complaints == []
        assert window.requests == [out.resolve().as_uri()]
        assert window.shades("#book") > 100
        names = window.run(
            "[...document.querySelectorAll('.panel select')].map(s => s.selectedOptions[0].text)"
        )
        assert names == ["equity", "inventory"]
        for number in (1, 2):
            assert window.shades(f".panel:nth-child({number}) canvas") > 2
        assert window.run("document.querySelectorAll('.legend .fill').length") == 2
        colour = "getComputedStyle(document.documentElement).getPropertyValue('--bought').trim()"
        assert window.run(colour) == "#3df29b"
        assert pixels(window, 0x3D, 0xF2, 0x9B) > 100, "what we bought is on the book"
        assert pixels(window, 0xFF, 0x4F, 0xA3) > 100, "and what we sold"
        assert window.run("document.documentElement.scrollWidth") <= 1440
        text = window.run("document.body.innerText")
        assert f"{found['fills']} fills of {found['orders_sent']} orders" in text
        assert "8 August 2024, 23:5" in text


def pixels(window: Any, red: int, green: int, blue: int) -> int:
    """How many pixels of the book have that colour."""
    want = 255 << 24 | blue << 16 | green << 8 | red
    return int(
        window.run(
            f"""(() => {{
              const canvas = document.querySelector("#book"), want = {want};
              const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
              return new Uint32Array(data.buffer).filter(pixel => pixel === want).length;
            }})()"""
        )
    )


def test_without_json_people_get_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main(["backtest", SHARED, *DATA, "--out", str(out)]) == 0, "the set is the strategy's own"
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    for name in ("pnl", "fills", "fill rate", "markout 100 ms", "markout 1000 ms", "inventory"):
        assert any(line.startswith(name) for line in lines)
    assert str(out) in captured.err


@pytest.mark.parametrize(
    ("strategy", "words", "said"),
    [
        pytest.param(f"{MAKER}:SharedMarketMakr", V1, "did you mean SharedMarketMaker?", id="strategy"),
        pytest.param("nowhere:Mine", V1, "is it installed", id="module"),
        pytest.param(SHARED, ["--features", "lob_shard_v1"], "did you mean lob_shared_v1?", id="set"),
        pytest.param(SHARED, ["--features", "lob_shared_v2"], "features diff", id="another set"),
        pytest.param(SHARED, [*V1, "--symbol", "ETHUSDC"], "did you mean ETHUSDT?", id="symbol"),
        pytest.param(
            SHARED,
            ["--mode", "stats_only"],
            "--mode lob_feature computes",
            id="features that nobody computes",
        ),
        pytest.param(LEGACY, ["--mode", "stats_only", *V1], "--mode lob_feature does", id="features unused"),
        pytest.param(LEGACY, ["--mode", "lob_feature"], "give --features", id="no features"),
        pytest.param(SHARED, ["--latency-us", "-1"], "from 0", id="latency"),
        pytest.param(SHARED, ["--maker-bps", "much"], "decimal text", id="fee"),
        pytest.param(SHARED, ["--fill", "magic"], "--help", id="fill model"),
    ],
)
def test_what_is_refused(
    strategy: str, words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert main(["backtest", strategy, *DATA, "--out", str(out), *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert said in captured.err
    assert list(tmp_path.iterdir()) == []


def test_no_page_into_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backtest", SHARED, *DATA, "--out", str(tmp_path / "no" / "page.html")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_no_page_where_a_folder_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backtest", SHARED, *DATA, "--out", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert f"{tmp_path}: cannot be written (it is a folder)" in captured.err.replace("\n", "")
    assert list(tmp_path.parent.glob(".*.partial")) == []


def test_an_option_that_is_not_there_is_told_from_one_without_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["backtest", SHARED, "--data", "any.gz"]) == 2
    assert "error: --source is missing\n" in capsys.readouterr().err
    assert main(["backtest", SHARED, "--data", "any.gz", "--source"]) == 2
    assert "--source requires an argument" in capsys.readouterr().err
    assert main(["backtest", SHARED, "--data", "any.gz", "--sorce", "binance-spot"]) == 2
    assert "Did you mean --source instead of --sorce?" in capsys.readouterr().err


def test_hftbacktest_is_asked_for_before_a_file_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hftbacktest", None)
    words = ["backtest", SHARED, "--data", "/nowhere", "--source", "binance-spot", "--mode", "lob_feature"]
    assert main([*words, "--out", str(tmp_path / "page.html")]) == 2
    assert "pip install 'featureplane[backtest]'" in capsys.readouterr().err


STOPPING = (
    "from featureplane.strategy.api import BaseStrategy\n"
    "class Stopping(BaseStrategy):\n"
    "    def on_lob_stats(self, event):\n"
    "        print('one book')\n"
    "        raise ValueError('enough')\n"
    "class Wanting(BaseStrategy):\n"
    "    required_features = 'lob_shared_v1'\n"
    "    def on_start(self):\n"
    "        self.ctx.handle('best_bidd')\n"
    "    def on_features(self, frame): pass\n"
    "class Asking(BaseStrategy):\n"
    "    def __init__(self, much): pass\n"
    "    def on_tick(self, event): pass\n"
)


def test_a_strategy_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "mine.py", tmp_path / "page.html"
    file.write_text(STOPPING, encoding="utf-8")
    assert main(["backtest", f"{file}:Stopping", *DATA, "--out", str(out)]) == 2
    assert "--allow-code" in capsys.readouterr().err
    for name, said in (("Wanting", "did you mean best_bid?"), ("Asking", "give them defaults")):
        assert main(["backtest", f"{file}:{name}", *DATA, "--out", str(out), "--allow-code"]) == 2
        assert said in capsys.readouterr().err
    assert not out.exists()
    found = answer(out, capsys, f"{file}:Stopping", "--allow-code", status=1)
    assert found["stopped_by"] == "ValueError: enough"
    assert (found["decisions"], found["fill_rate"], found["markouts"]["100"]) == (0, None, None)
    assert out.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("FORMS", []),
        ("SharedMarketMaker", ["--fill", "touch"]),
        ("LegacyMarketMaker", []),
        ("FORMS", ["--mode", "lob_feature"]),
        ("FORMS", ["--mode", "lob_feature", "--fill", "touch", "--latency-us", "500"]),
    ],
)
def test_both_forms_decide_alike(name: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backtest", f"{MAKER}:{name}", *DATA, "--ab", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same"] is True
    assert found["first_divergence"] is None
    assert found["decisions"]["legacy"] == found["decisions"]["shared"] > 500
    assert found["fills"]["legacy"] == found["fills"]["shared"] > 50
    assert all(ns > 0 for ns in found["cpu_ns_per_decision"].values())


DIFFERING = (
    "from featureplane.strategy.compatibility import Forms\n"
    "from featureplane.strategy.examples.market_maker import LegacyMarketMaker, SharedMarketMaker\n"
    "class Other(LegacyMarketMaker):\n"
    "    def decide(self, symbol, bid, *rest):\n"
    "        if len(self.ctx.working) or self.ctx.position(symbol):\n"
    "            bid -= 1\n"
    "        super().decide(symbol, bid, *rest)\n"
    "FORMS = Forms(legacy=Other, shared=SharedMarketMaker)\n"
)


@pytest.mark.parametrize("mode", ["replay", "lob_feature"])
def test_the_first_divergence_is_told_with_its_event_and_features(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.py"
    file.write_text(DIFFERING, encoding="utf-8")
    words = ["backtest", f"{file}:Other", *DATA, "--ab", "--allow-code", "--mode", mode]
    assert main([*words, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["same"] is False
    first = found["first_divergence"]
    assert first["legacy"] != first["shared"]
    message = min(one["message"] for one in (first["legacy"], first["shared"]) if one)
    events, last = sample(), None
    decision = first["legacy"] or first["shared"]
    for frame in fp.FeatureEngine(fp.feature_set("lob_shared_v1")).replay(events):
        if (frame.local_ts_ns, frame.source_ts_ns) == (decision["local_ts_ns"], decision["ts_ns"]):
            last = frame
    assert last is not None
    assert first["event"]["message"] == message
    assert first["event"]["local_ts_ns"] == decision["local_ts_ns"]
    assert first["event"]["events"][0]["kind"] in {"level", "trade"}
    assert first["features"] == dict(zip(last.feature_ids, last.values, strict=True))
    assert first["features"]["best_bid"] is not None
    assert main(words) == 1
    said = capsys.readouterr()
    assert "decisions" in said.out
    assert f"decision {first['decision']} differs" in said.err
    assert "microprice_x2" in said.err


@pytest.mark.parametrize(
    ("strategy", "words", "said"),
    [
        pytest.param(f"{MAKER}:FORM", [], "did you mean FORMS?", id="no forms"),
        pytest.param(f"{MAKER}:MarketMaker", [], "it has: FORMS, LegacyMarketMaker", id="no form"),
        pytest.param(f"{MAKER}:FORMS", ["--mode", "stats_only"], "--mode lob_feature", id="mode"),
        pytest.param(f"{MAKER}:FORMS", ["--features", "lob_shared_v2"], "features diff", id="set"),
    ],
)
def test_what_cannot_be_compared(
    strategy: str, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backtest", strategy, *DATA, "--ab", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
