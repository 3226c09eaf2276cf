"""The book a recording ends with: its size and best levels, as another computation found them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

import pytest

from featureplane import native
from featureplane.book.engine import LOBEngine
from featureplane.market.reading import read_events
from tests.shared_data import shared

SOURCES: Final = {
    "spot_ethusdt_202408": "binance-spot",
    "usdm_btcusdt_20240808": "binance-usdm",
    "usdm_btcusdt_202304": "binance-usdm",
    "cm_ethusd_perp_202408": "binance-coinm",
}
BACKENDS = ("python", "rust") if native.available() else ("python",)


def expected(name: str) -> dict[str, Any]:
    told = json.loads(shared("reference/binance_raw.json").read_text(encoding="utf-8"), parse_float=Decimal)
    recording: dict[str, Any] = told[name]
    return recording


def test_every_recording_that_the_reference_covers_is_held() -> None:
    told = json.loads(shared("reference/binance_raw.json").read_text(encoding="utf-8"))
    assert {name for name, recording in told.items() if "final_book" in recording} == set(SOURCES)


def check(name: str, backend: str) -> None:
    recording = expected(name)
    paths = [shared(f"binance_raw/{file}") for file in recording["files"]]
    events = read_events(paths, source=SOURCES[name])
    book = LOBEngine(events.instrument, backend)
    book.process_events(events.array)
    one, final = events.instrument, recording["final_book"]
    for side in ("bid", "ask"):
        levels = book.levels()[side == "ask"]
        scaled = [
            (int(Decimal(price).scaleb(one.price_exponent)), int(Decimal(qty).scaleb(one.qty_exponent)))
            for price, qty in final[f"best_{side}s"]
        ]
        assert len(levels) == final[f"{side}_levels"] > 1_000
        assert levels[:5] == scaled
        assert len(scaled) == 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_spot_pair_ends_with_the_book_of_the_reference(backend: str) -> None:
    check("spot_ethusdt_202408", backend)


@pytest.mark.native
@pytest.mark.parametrize("name", [name for name in SOURCES if not name.startswith("spot")])
def test_recordings_of_futures_end_with_the_book_of_the_reference(name: str) -> None:
    check(name, "rust")
