"""What to do next is said for both doors: the option in Python and the flag of the commands."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import pytest

import featureplane as fp
from featureplane.cli.options import Reading
from featureplane.errors import (
    BookMismatch,
    FeaturePlaneError,
    InputError,
    MissingSnapshot,
    SequenceGap,
    SettingError,
)
from featureplane.features.parity import words_of
from featureplane.market.events import StreamOptions


@pytest.mark.parametrize(
    ("error", "option", "value"),
    [
        (SequenceGap("S", "book", 3, 7), "on_gap", "wait"),
        (BookMismatch("bid", 100, 5, 4), "on_mismatch", "adopt"),
        (MissingSnapshot("S", "binance-spot"), "seed", "increments"),
    ],
    ids=lambda case: type(case).__name__ if isinstance(case, InputError) else None,
)
def test_a_hint_names_the_option_and_the_flag(error: InputError, option: str, value: str) -> None:
    assert f'`{option}="{value}"`' in str(error.hint)
    assert f"`--{option.replace('_', '-')} {value}`" in str(error.hint)
    chosen: dict[str, Any] = {option: value}
    assert getattr(StreamOptions(**chosen), option) == value
    assert option in Reading().options()


def test_a_traceback_ends_with_the_hint() -> None:
    error = FeaturePlaneError("what", hint="do so")
    assert str(error) == "what"
    assert traceback.format_exception(error)[-2:] == [
        "featureplane.errors.FeaturePlaneError: what\n",
        "hint: do so\n",
    ]
    assert not hasattr(FeaturePlaneError("what"), "__notes__")
    assert words_of(error) == {"class": "FeaturePlaneError", "hint": "do so"}


@pytest.mark.parametrize("package", ["polars", "pandas"])
def test_a_library_that_is_absent_comes_with_the_command_that_brings_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = fp.compute(fp.sample_events().part(0, 100), "lob_shared_v1")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingError) as caught:
        getattr(table, f"to_{package}")()
    assert caught.value.hint == f"{sys.executable} -m pip install {package}"
