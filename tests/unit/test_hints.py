"""What to do next is said for both doors: the option in Python and the flag of the commands."""

from __future__ import annotations

from typing import Any

import pytest

from featureplane.cli.options import Reading
from featureplane.errors import BookMismatch, InputError, MissingSnapshot, SequenceGap
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
