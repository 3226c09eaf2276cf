"""Strategies by name: found, refused in words, and never run unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from featureplane.errors import FeaturePlaneError, SettingError, UnknownStrategy, UnreadableFile
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.examples.ofi_taker import FORMS, SharedOfiTaker
from featureplane.strategy.loading import load_either, load_strategy, make

TAKER = "featureplane.strategy.examples.ofi_taker"
MINE = (
    "from dataclasses import dataclass\n"
    "from featureplane.strategy.api import BaseStrategy\n"
    "@dataclass\n"
    "class Note:\n"
    "    text: str\n"
    "class Mine(BaseStrategy):\n"
    "    note = Note('mine')\n"
    "    def on_tick(self, event): ...\n"
    "class Mute(BaseStrategy):\n"
    "    def on_gap(self, event): ...\n"
    "    def on_fill(self, event): ...\n"
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
        (f"{TAKER}:OfiTaker", SettingError, "those that can run: LegacyOfiTaker, SharedOfiTaker"),
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


def test_a_class_that_the_market_never_calls_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE, encoding="utf-8")
    for load in (load_strategy, load_either):
        with pytest.raises(SettingError, match=r"Mute in .* no handler that would begin") as refusal:
            load(f"{file}:Mute", allow_code=True)
        assert str(refusal.value.hint).endswith("those that can run: Mine")


def test_a_file_is_run_once_where_either_will_do(tmp_path: Path) -> None:
    file, runs = tmp_path / "mine.py", tmp_path / "runs"
    counting = f"with open({str(runs)!r}, 'a') as noted:\n    noted.write('!')\n"
    file.write_text(counting + MINE, encoding="utf-8")
    found = load_either(f"{file}:Mine", allow_code=True)
    assert isinstance(found, type)
    assert found().name == "Mine"
    assert runs.read_text(encoding="utf-8") == "!"
    assert load_either(f"{TAKER}:SharedOfiTaker") is FORMS


@pytest.mark.parametrize("error", [TypeError("size is missing"), ValueError("no account"), KeyError("x")])
def test_what_cannot_be_made_is_refused_in_words(error: Exception) -> None:
    def maker() -> BaseStrategy:
        raise error

    with pytest.raises(SettingError, match=f"a:B cannot be made: {type(error).__name__}") as refusal:
        make(maker, "a:B")
    assert refusal.value.__cause__ is error


def test_a_constructor_that_forgets_its_base_is_told_so() -> None:
    class Forgets(BaseStrategy):
        def __init__(self) -> None:
            pass

    with pytest.raises(SettingError, match="a:B: its `__init__` leaves out") as refusal:
        make(Forgets, "a:B")
    assert "super().__init__()" in str(refusal.value.hint)


def test_a_file_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("ready = True\n1 / 0\n", encoding="utf-8")
    with pytest.raises(UnreadableFile, match=r"mine\.py:2: .*ZeroDivisionError.* a strategy"):
        load_strategy(f"{file}:Mine", allow_code=True)
    with pytest.raises(UnreadableFile, match="no readable file"):
        load_strategy(f"{tmp_path / 'other.py'}:Mine", allow_code=True)
