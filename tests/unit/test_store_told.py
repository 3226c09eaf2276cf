"""What a store says of itself: lines of the log that a runbook greps, causes, settings, what is refused."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from pathlib import Path

import pytest

import featureplane as fp
from featureplane.cli.app import main
from featureplane.errors import StoreError
from featureplane.features.loading import to_toml
from featureplane.market.sources.capture_layout import HEADER_BYTES
from featureplane.research.store.ledger import FOLDER, merged
from featureplane.research.store.manifest import Manifest
from featureplane.settings import read_store_settings
from tests import stored
from tests.stored import OTHER, SET, SYMBOL, at, whole


@pytest.fixture
def data(tmp_path: Path) -> fp.Dataset:
    return stored.dataset(tmp_path / "raw")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """As any formatter shows them: without the fields beside the text."""
    found = [one.getMessage() for one in caplog.records if one.name == "featureplane.store"]
    caplog.clear()
    return found


def changed(data: fp.Dataset) -> fp.Dataset:
    """The same dataset with another byte in its first file."""
    stored.flip(data.files[0].path, HEADER_BYTES + 64 * 20 + 8)
    return fp.Dataset([file.path for file in data.files], "capture")


def test_lines_of_the_log_say_what_and_why(
    data: fp.Dataset, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "featureplane.store")
    with fp.FeatureStore(root, data) as store:
        whole(store)
        keys = [day["key"][:16] for day in store.explain(SYMBOL, at(0), at(2), SET)]
        whole(store)
    said = [
        f"Cache MISS {keys[0]} {SYMBOL} 2024-01-08 {SET.feature_set_id}: new_symbol",
        f"Cache MISS {keys[1]} {SYMBOL} 2024-01-09 {SET.feature_set_id}: new_symbol",
    ]
    asked = f"get_or_compute {SYMBOL} 2024-01-08 to 2024-01-09 {SET.feature_set_id}: "
    assert lines(caplog) == [*said, f"{asked}2 miss", f"{asked}2 hit"]


def test_a_key_that_another_process_had_is_told_when_it_is_none_any_more(
    data: fp.Dataset, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "featureplane.store")
    with fp.FeatureStore(root, data) as store:
        whole(store)
        before = store.explain(SYMBOL, at(0), at(1), SET)[0]["key"][:16]
    lines(caplog)
    with fp.FeatureStore(root, changed(data)) as store:
        whole(store)
        after = store.explain(SYMBOL, at(0), at(1), SET)[0]["key"][:16]
        told = [one for one in lines(caplog) if "invalidated" in one]
        whole(store, fset=OTHER)
        assert not [one for one in lines(caplog) if "invalidated" in one], "another set invalidates nothing"
    assert told[0] == f"Cache key {before} invalidated: {SYMBOL} 2024-01-08 is {after} now (raw)"
    assert len(told) == len({re.split(" ", one)[2] for one in told})


def test_a_symbol_is_as_new_on_its_second_day_as_on_its_first(data: fp.Dataset, root: Path) -> None:
    """Else whoever asks for a new symbol's month seems to have had twenty-nine days of churn."""
    with fp.FeatureStore(root, data) as store:
        whole(store)
        whole(store, fset=OTHER)
        assert store.stats()["misses"] == {"new_symbol": 2, "new_features": 2}
    with fp.FeatureStore(root, changed(data)) as store:
        whole(store)
        assert set(store.stats()["misses"]) == {"new_data"}
    counts = merged(root / FOLDER)
    told = {name: counts[f"misses|{name}"] for name in ("new_symbol", "new_features")}
    assert told == {"new_symbol": 2, "new_features": 2}


def test_one_symbol_may_be_warmed_by_its_name(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        assert store.warm(SYMBOL, at(0), at(2), SET) == {"warm": 2}


def test_sets_of_ones_own_are_verified(
    data: fp.Dataset, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fp.FeatureStore(root, data) as store:
        whole(store)
        assert store.verify()["checked"] == 2
    with fp.FeatureStore(root, data) as store:
        assert store.verify() == {"checked": 0, "equal": 0, "different": [], "hot": [], "left_out": 2}
        assert store.verify(sets=[SET])["equal"] == 2
    files = "".join(f'[[file]]\npath = "{file.path}"\n' for file in data.files)
    (tmp_path / "days.toml").write_text(f'source = "capture"\n{files}', encoding="utf-8")
    (tmp_path / "mine.toml").write_text(to_toml(SET), encoding="utf-8")
    words = ["store", "verify", "--data", str(tmp_path / "days.toml"), "--root", str(root)]
    assert main([*words, "--features", str(tmp_path / "mine.toml")]) == 0
    capsys.readouterr()
    assert main(words) == 1, "who verifies nothing has not found it well"
    assert "--features" in capsys.readouterr().err


def test_a_home_is_a_home_where_no_shell_says_so() -> None:
    found = read_store_settings({"FEATURE_STORE_PATH": "~/features"}).path
    assert Path(found) == Path.home() / "features"


@pytest.mark.parametrize(
    "words", [["slo"], ["status"], ["cleanup"], ["fsck"], ["fsck", "--rebuild-manifest"], ["snapshot"]]
)
def test_a_root_that_is_not_there_is_said_and_not_made(
    words: list[str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", *words, "--root", str(root)]) == 2
    assert "no store" in capsys.readouterr().err
    assert not root.exists()


def test_a_service_and_a_store_may_share_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('source = "replay:nothing"\n[feature_store]\nhot_tier_gb = 2\n', encoding="utf-8")
    assert main(["run", "--config", str(config)]) == 2
    assert "feature_store" not in capsys.readouterr().err
    config.write_text("[feature_store]\nhot = 2\n", encoding="utf-8")
    assert main(["run", "--config", str(config)]) == 2
    assert "feature_store.hot" in capsys.readouterr().err


def test_a_newer_root_is_refused_also_where_it_cannot_be_written(
    data: fp.Dataset, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fp.FeatureStore(root, data) as store:
        whole(store)
    with sqlite3.connect(root / "manifest.sqlite") as manifest:
        manifest.execute("PRAGMA user_version = 99")
    manifest.close()

    def no_room(*_: object, **__: object) -> Manifest:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("featureplane.research.store.root.opened_manifest", no_room)
    with pytest.raises(StoreError, match="format 99"):
        fp.FeatureStore(root, data)


def test_a_smaller_hot_tier_is_one_as_soon_as_it_is_cleaned(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        store.warm(SYMBOL, at(0), at(2), SET)
        hot = store.stats()["hot_bytes"]
    with fp.FeatureStore(root, data, limits={"hot_tier_gb": 0.6 * hot / (1 << 30)}) as store:
        assert store.evict()["removed"] == 0
        assert (store.stats()["hot_days"], store.stats()["days"]) == (1, 2)
    with fp.FeatureStore(root, data, limits={"hot_tier_gb": 0}) as store:
        store.evict()
        assert (store.stats()["hot_bytes"], store.stats()["days"]) == (0, 2)
        assert set(whole(store).days.values()) == {"hit"}


def test_a_budget_of_which_nobody_asked_anything_is_json_too(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root.mkdir()
    assert main(["store", "slo", "--root", str(root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["minutes"], told["ratio"], told["spent"]) == (0, None, None)


def test_what_would_be_found_damaged_is_explained_as_that(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        whole(store)
        paths = [root / day["path"] for day in store.explain(SYMBOL, at(0), at(2), SET)]
        paths[0].unlink()
        paths[1].write_bytes(paths[1].read_bytes()[:-1])
        told = store.explain(SYMBOL, at(0), at(2), SET)
        assert [(day["stored"], day.get("cause")) for day in told] == [(False, "corrupt")] * 2
        assert all(day["says"] for day in told)
        assert set(whole(store).days.values()) == {"corrupt"}
        store.warm(SYMBOL, at(0), at(2), SET)
        paths[0].unlink()
        told = store.explain(SYMBOL, at(0), at(2), SET)
        assert [day["tier"] for day in told] == ["hot", "hot"], "which is what will be read"
        assert set(whole(store).days.values()) == {"hit"}
