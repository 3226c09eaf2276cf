"""Instruments files for what lies recorded and no source reads: each number is one of its table's grid."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from featureplane.market.decimals import BadDecimal, scaled
from featureplane.market.instruments import Instrument, load_instruments
from featureplane.units import MAGNITUDE_LIMIT
from tests.recorded_numbers import FOLDER, HEAD, RECORDED, tables
from tests.shared_data import ROOT, shared

FILES = sorted(FOLDER.glob("*.toml"))
MOST = 20_000
"""Numbers of a file that are looked at one by one."""


@pytest.fixture(scope="module")
def root() -> Path:
    return shared("README.md").parent


def declared(stem: str) -> dict[str, Instrument]:
    return {one.symbol: one for one in load_instruments(FOLDER / f"{stem}.toml")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_loads_with_a_venue_of_its_own(path: Path) -> None:
    found = load_instruments(path)
    assert found
    if path.stem in RECORDED:
        assert {one.venue for one in found} == {RECORDED[path.stem].venue}


def test_files_found_in_data_are_those_that_say_so() -> None:
    found = {path.stem for path in FILES if path.read_text(encoding="utf-8").startswith(HEAD)}
    assert found == set(RECORDED)


OUTSIZED = {("kucoin", "CAPP-BTC"), ("gateio", "INK_USDT")}
"""Sizes with eight decimals and more, and others so large that no integer of rule 1.2 holds both."""


@pytest.mark.parametrize("stem", RECORDED)
def test_recorded_numbers_are_whole_numbers_of_their_table(stem: str, root: Path) -> None:
    known, seen, outsized = declared(stem), 0, set[tuple[str, str]]()
    for number in RECORDED[stem].numbers(root, MOST):
        one = known[number.symbol]
        if number.price:
            price = scaled(number.price, one.price_exponent)
            assert number.free or price % (one.tick or 1) == 0, number
        if number.qty:
            try:
                assert scaled(number.qty, one.qty_exponent, size=True) % (one.lot or 1) == 0, number
            except BadDecimal:
                assert Decimal(number.qty).scaleb(one.qty_exponent) >= MAGNITUDE_LIMIT, number
                outsized.add((stem, number.symbol))
        seen += 1
    assert seen >= 20
    assert outsized == {pair for pair in OUTSIZED if pair[0] == stem}


@pytest.mark.parametrize("stem", RECORDED)
def test_a_file_is_what_all_of_its_data_say(stem: str, root: Path) -> None:
    """Every symbol of the data has its table, and no exponent, tick or lot is finer than they ask for."""
    assert tables(stem, root) == (FOLDER / f"{stem}.toml").read_text(encoding="utf-8")


def test_every_folder_with_prices_has_a_file(root: Path) -> None:
    """`fi2010` has none: its prices are z-scores, and its stocks have no names."""
    ours = {"lobster": "lobster/*", "taifex": "taifex/*", "binance_raw": "binance_raw/[scu]*/*"}
    read = {path for one in RECORDED.values() for name in one.files for path in root.glob(name)}
    read |= {path for pattern in ours.values() for path in root.glob(pattern)}
    there = {path for path in root.rglob("*") if path.is_file() and path.parent != root}
    left = {path.parent.name for path in there - read}
    assert left == {"fi2010", "reference", "dbn_schemas"}
    assert {path.suffix for path in there - read if path.parent.name == "dbn_schemas"} == {".dbz"}
    assert root == ROOT
