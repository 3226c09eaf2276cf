"""Strategies by name: found, refused in words, and never run unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from featureplane.errors import FeaturePlaneError, SettingError, UnknownStrategy, UnreadableFile
from featureplane.strategy.examples.ofi_taker import SharedOfiTaker
from featureplane.strategy.loading import load_strategy

TAKER = "featureplane.strategy.examples.ofi_taker"
MINE = (
    "from dataclasses import dataclass\n"
    "from featureplane.strategy.api import BaseStrategy\n"
    "@dataclass\n"
    "class Note:\n"
    "    text: str\n"
    "class Mine(BaseStrategy):\n"
    "    note = Note('mine')\n"
)


def test_a_class_of_a_module() -> None:
    assert load_strategy(f"{TAKER}:SharedOfiTaker") is SharedOfiTaker


def test_a_class_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE, encoding="utf-8")
    found = load_strategy(f"{file}:Mine", allow_code=True)
    assert found().name == "Mine"


def test_a_file_is_not_run_unasked(tmp_path: Path) -> None:
    file, trace = tmp_path / "mine.py", tmp_path / "trace"
    file.write_text(f"open({str(trace)!r}, 'w').close()\n{MINE}", encoding="utf-8")
    with pytest.raises(SettingError, match="code that is run") as refusal:
        load_strategy(f"{file}:Mine")
    assert "--allow-code" in str(refusal.value.hint)
    assert not trace.exists()
    load_strategy(f"{file}:Mine", allow_code=True)
    assert trace.exists()


@pytest.mark.parametrize(
    ("name", "error", "hint"),
    [
        (f"{TAKER}:SharedOfiTakr", UnknownStrategy, "did you mean SharedOfiTaker? it has: LegacyOfiTaker"),
        (f"{TAKER}:FORMS", UnknownStrategy, "it has: LegacyOfiTaker, OfiTaker, SharedOfiTaker"),
        (f"{TAKER}:BaseStrategy", UnknownStrategy, "it has: LegacyOfiTaker"),
        (f"{TAKER}:Side", UnknownStrategy, "it has: LegacyOfiTaker"),
        (TAKER, SettingError, "module:Class or file.py:Class"),
        (f"{TAKER}:", SettingError, "module:Class"),
        ("nowhere.at.all:Mine", UnreadableFile, "PYTHONPATH"),
        (".relative:Mine", UnreadableFile, "PYTHONPATH"),
    ],
)
def test_what_names_none(name: str, error: type[FeaturePlaneError], hint: str) -> None:
    with pytest.raises(error) as refusal:
        load_strategy(name)
    assert hint in str(refusal.value.hint)


def test_a_file_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("ready = True\n1 / 0\n", encoding="utf-8")
    with pytest.raises(UnreadableFile, match=r"mine\.py:2: .*ZeroDivisionError.* a strategy"):
        load_strategy(f"{file}:Mine", allow_code=True)
    with pytest.raises(UnreadableFile, match="no readable file"):
        load_strategy(f"{tmp_path / 'other.py'}:Mine", allow_code=True)
