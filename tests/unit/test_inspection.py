"""What `data inspect` counts: holes, repeats, late messages, clocks; the same however it is cut."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from featureplane.cli import main
from featureplane.errors import EmptyStream
from featureplane.market.events import EVENT_DTYPE, EventBatch, EventFlag, Kind, SourceInfo
from featureplane.market.inspection import inspect_events
from featureplane.market.instruments import Instrument
from featureplane.market.sample import sample_events
from featureplane.market.sources.hftbacktest_rows import ROW_DTYPE

SYMBOL = Instrument(venue="test", symbol="ABC", price_exponent=2, qty_exponent=3)
SOURCE = SourceInfo("capture", sequenced=True, has_snapshots=True, local_time=True, trade_sides=True)
MS = 1_000_000


def batch(*messages: tuple[Kind, int, int, int, int]) -> EventBatch:
    """Messages of one event each: kind, first id missing before it, its last id, venue ms, our ms."""
    rows = [
        (
            kind,
            1,
            EventFlag.LAST,
            SYMBOL.symbol_id,
            100,
            1,
            0,
            last,
            prev,
            (1000 + venue) * MS,
            (2000 + our) * MS,
        )
        for kind, prev, last, venue, our in messages
    ]
    return EventBatch(np.array(rows, EVENT_DTYPE), (SYMBOL,), SOURCE)


def test_gaps_late_messages_duplicates_and_overlaps() -> None:
    level = Kind.LEVEL
    facts = inspect_events(
        [
            batch(
                (level, 0, 2, 0, 0),
                (level, 2, 4, 1, 1),
                (level, 6, 8, 2, 2),  # 5 and 6 are missing
                (level, 4, 6, 3, 3),  # here they come
                (level, 2, 4, 4, 4),  # again
                (level, 7, 9, 5, 5),  # half of it is known
            )
        ]
    ).symbols[SYMBOL.symbol_id]
    book = facts.channels["book"]
    assert (book.messages, book.gaps, book.first_gap) == (6, 1, (4, 6))
    assert (book.late, book.duplicates, book.overlaps) == (1, 1, 1)


def test_channels_have_sequences_of_their_own() -> None:
    facts = inspect_events(
        [batch((Kind.LEVEL, 0, 5, 0, 0), (Kind.TRADE, 90, 91, 1, 1), (Kind.LEVEL, 5, 6, 2, 2))]
    )
    channels = facts.symbols[SYMBOL.symbol_id].channels
    assert {name: channel.gaps for name, channel in channels.items()} == {"book": 0, "trade": 0}
    assert facts.rows == 3


def test_clocks_count_their_steps_back() -> None:
    facts = inspect_events(
        [batch((Kind.LEVEL, 0, 1, 10, 0), (Kind.LEVEL, 1, 2, 7, 9), (Kind.LEVEL, 2, 3, 8, 5))]
    )
    one = facts.symbols[SYMBOL.symbol_id]
    assert (one.source_clock.back, one.source_clock.back_most_ns) == (1, 3 * MS)
    assert (one.local_clock.back, one.local_clock.silence_most_ns) == (1, 9 * MS)
    assert (one.source_clock.first, one.source_clock.last) == (1007 * MS, 1010 * MS)


@pytest.mark.parametrize("events_max", [1, 1000, 100_000])
def test_the_sample_is_the_same_in_one_piece_and_in_many(events_max: int) -> None:
    events = sample_events()
    events = events.part(0, 3000) if events_max == 1 else events
    whole, pieces = inspect_events([events]), inspect_events(events.chunks(events_max))
    assert asdict(whole) == asdict(pieces)


def test_the_sample_is_sound() -> None:
    found = inspect_events([sample_events()])
    (facts,) = found.symbols.values()
    assert facts.events == {
        "level": 106_814, "trade": 6_106, "clear": 2, "snapshot_level": 2_000, "quote": 2 * 24_077,
    }  # fmt: skip
    assert all(channel.gaps == channel.duplicates == channel.late == 0 for channel in facts.channels.values())
    assert found.dropped == {}


def test_no_batch_is_an_error() -> None:
    with pytest.raises(EmptyStream):
        inspect_events([])


def test_the_command_says_that_a_feed_without_ids_shows_no_gaps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.zeros(2, ROW_DTYPE)
    rows["ev"] = 1 << 31 | 1 << 30 | 1 << 29 | 1  # a bid, told by the venue and to us
    rows["exch_ts"], rows["local_ts"], rows["px"], rows["qty"] = (10**18, 10**18 + 1), 10**18 + 2, 100, 1
    np.save(tmp_path / "feed.npy", rows)
    seen = []
    for words in (
        [str(tmp_path / "feed.npy"), "--source", "hftbacktest", "--symbol", "X"],
        ["synthetic:1:500"],
    ):
        assert main(["data", "inspect", *words]) == 0
        seen.append("cannot be seen" in capsys.readouterr().out)
    assert seen == [True, False]
