"""`featureplane store`: what it says, and what its exit status means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane.cli.app import main
from tests import stored
from tests.stored import SYMBOL, at

RANGE = ["--start", at(0), "--end", at(2), "--features", "lob_shared_v1"]


@pytest.fixture
def place(tmp_path: Path) -> list[str]:
    """Options that name a root; the dataset has a catalogue beside it."""
    stored.dataset(tmp_path / "raw")
    files = "\n".join(
        f'[[file]]\npath = "raw/{SYMBOL}_{n}.fpcap"\nsymbol = "{SYMBOL}"\ndays = ["2024-01-0{8 + n}"]'
        for n in range(2)
    )
    (tmp_path / "catalogue.toml").write_text(f'source = "capture"\n{files}\n')
    return ["--root", str(tmp_path / "root"), "--json"]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    status = main(["store", *arguments])
    out = capsys.readouterr().out
    return status, json.loads(out) if out else {}


def data(tmp_path: Path) -> list[str]:
    return ["--data", str(tmp_path / "catalogue.toml")]


def test_from_missing_to_warm_to_clean(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [SYMBOL, *data(tmp_path), *RANGE, *place]
    status, told = said(capsys, "explain", *asked)
    assert (status, [day["cause"] for day in told["days"]]) == (1, ["new_symbol", "new_symbol"])
    assert said(capsys, "warm", *asked) == (0, {"set": "lob_shared_v1", "days": {"warm": 2}})
    status, told = said(capsys, "explain", *asked)
    assert (status, [day["tier"] for day in told["days"]]) == (0, ["hot", "hot"])
    status, told = said(capsys, "status", "--leases", *place)
    assert (status, told["days"], told["hot_days"], told["leases"]) == (0, 2, 2, [])
    assert told["holds"][0]["symbol"] == SYMBOL
    assert said(capsys, "verify", *data(tmp_path), *place)[0] == 0
    status, told = said(capsys, "pin", SYMBOL, *RANGE[:4], *place)
    assert (status, told["days"]) == (0, 2)
    assert said(capsys, "status", *place)[1]["pinned"] == 2
    assert said(capsys, "cleanup", *place) == (0, {"removed": 0, "bytes": 0})
    status, told = said(capsys, "snapshot", *place)
    assert (status, told["days"], Path(told["snapshot"]).name) == (0, 2, "manifest.duckdb")
    assert said(capsys, "fsck", *place)[1]["clean"]


def test_fsck_says_what_is_wrong_and_mends_it(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "warm", SYMBOL, *data(tmp_path), *RANGE, *place)
    path = next((tmp_path / "root").glob("*/*/*/*.parquet"))
    stored.flip(path, 500)
    status, told = said(capsys, "fsck", *place)
    assert (status, len(told["damaged"])) == (1, 1)
    assert said(capsys, "fsck", "--repair", *place)[0] == 0
    assert said(capsys, "fsck", *place)[0] == 0
    assert said(capsys, "fsck", "--rebuild-manifest", *place)[1]["days"] == 1


def test_in_words(place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = place[:-1]
    assert main(["store", "explain", SYMBOL, *data(tmp_path), *RANGE, *words]) == 1
    assert "new_symbol" in capsys.readouterr().out
    assert main(["store", "status", "--leases", *words]) == 0
    assert "max_cache_size_gb" in capsys.readouterr().out


def test_what_cannot_be_meant(place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    naive = [SYMBOL, *data(tmp_path), "--start", "2024-01-08", "--end", at(1), *place]
    assert main(["store", "explain", *naive]) == 2
    assert "time zone" in capsys.readouterr().err
    config = tmp_path / "config.toml"
    wrong = {"[feature_store]\nhot = 1": "no limit", "feature_store = 3": "a table", "=": "no TOML"}
    for text, says in wrong.items():
        config.write_text(text)
        assert main(["store", "status", "--config", str(config), *place]) == 2
        assert says in capsys.readouterr().err
    config.write_text("[feature_store]\nhot_tier_gb = 0.5\n")
    status, told = said(capsys, "status", "--config", str(config), *place)
    assert (status, told["limits"]["hot_tier_gb"]) == (0, 0.5)
    assert said(capsys, "pin", "NOBODY", *RANGE[:4], *place)[0] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"no \[\[file\]\] table"),
        ('[[file]]\nname = "x"', "without `path`"),
        ('[[file]]\npath = "x"\nday = 1', "the key `day`"),
        ("[[file]]\npath = 1", "`path` = 1"),
        ('[[file]]\npath = "x"\ndays = ["Monday"]', "'Monday' among `days`"),
        ('sauce = "capture"\n[[file]]\npath = "x"', "the key `sauce`"),
        ("=", "no TOML"),
    ],
)
def test_catalogues_that_cannot_be_meant(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(text)
    with pytest.raises(fp.FeaturePlaneError, match=says) as caught:
        fp.Dataset(path)
    assert caught.value.hint


def test_a_catalogue_that_says_other_days_than_the_file(place: list[str], tmp_path: Path) -> None:
    del place
    catalogue = tmp_path / "catalogue.toml"
    catalogue.write_text(catalogue.read_text().replace("2024-01-09", "2024-01-19"))
    with (
        fp.FeatureStore(tmp_path / "root", fp.Dataset(catalogue)) as store,
        pytest.raises(fp.FeaturePlaneError, match="which is not of 2024-01-19"),
    ):
        store.get_or_compute(SYMBOL, at(11), at(12), "lob_shared_v1")
