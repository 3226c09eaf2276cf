"""Messages of Binance as they come, one call each, of one instrument or several.

The reference of `normalize/binance/feed.rs`: the same events, errors and counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from featureplane.market.sources.binance_plain import PlainReader, Refused, overlong

__all__ = ["Lane", "PlainFeed"]

Lane = tuple[str, int, int, int]
"""Symbol, id, decimals of prices and of sizes."""

_GUESS_BYTES: Final = 256


class _LaneReader(PlainReader):
    """Reads messages as those of one instrument; says whose they are if they are another's."""

    def __init__(self, lane: Lane, names: Sequence[str], *, futures: bool, drop_malformed: bool) -> None:
        super().__init__(*lane, futures, drop_malformed, 0)
        self._names = names
        self._named = self._told = False
        self.elsewhere: int | None = None
        self.lost_at: int | None = None

    def read(self, number: int, text: bytes, local_ts_ns: int | None, *, told: bool, bytes_max: int) -> None:
        """Read one message, of this instrument if it was `told`; `take` has its events then."""
        self.elsewhere, self.lost_at = None, None
        self._named, self._told = False, told
        line = text.removesuffix(b"\n")
        try:
            if len(line) > bytes_max:
                raise overlong(local_ts_ns)
            if local_ts_ns is None:
                self._message(line.removesuffix(b"\r"))
            else:
                self._json(local_ts_ns, line.removesuffix(b"\r"))
        except Refused as refused:
            self._settle(refused, number)

    def lose(self, local_ts_ns: int) -> None:
        """A message was lost that may have been one of this instrument's book."""
        super()._lost(local_ts_ns)

    def stand_at(self, local_max: int) -> None:
        """Other instruments' messages came meanwhile, the latest then."""
        self._local_max = local_max

    def _wants(self, symbol: str | None) -> bool:
        if symbol is None and self._told:
            self._named = True
            return True
        if symbol is None and len(self._names) > 1:
            self._counts["unnamed_snapshot"] += 1
            return False
        if symbol is not None and symbol != self._symbol and symbol in self._names:
            self.elsewhere = self._names.index(symbol)
            return False
        self._named = super()._wants(symbol)
        return self._named

    def _lost(self, local: int) -> None:
        if self._named or self._told:
            super()._lost(local)
        else:
            self.lost_at = local


class PlainFeed:
    """Reads messages of the instruments it is given; those of others are counted.

    Raises `MalformedEvent`, with `source` as the file and the message's number, from 1, as the line.
    """

    def __init__(
        self,
        source: str,
        lanes: Sequence[Lane],
        *,
        futures: bool,
        drop_malformed: bool,
        bytes_max: int,
    ) -> None:
        names = [symbol for symbol, *_ in lanes]
        self._readers = [
            _LaneReader(lane, names, futures=futures, drop_malformed=drop_malformed) for lane in lanes
        ]
        for reader in self._readers:
            reader.begin(source)
        self._quoted = [f'"{name}"'.encode() for name in names]
        self._bytes_max = bytes_max
        self._messages = 0
        self.lane = 0
        """Which instrument the last message was read as one of, from 0."""

    def read(self, data: bytes, local_ts_ns: int | None, lane: int | None = None) -> npt.NDArray[np.uint64]:
        """The events of one whole message, eight words each: as recorded, or alone with its local time.

        `lane` is the instrument that was asked for: an answer that names none is that one's.
        """
        self._messages += 1
        told = lane is not None
        reader = self._read_as(self._guess(data) if lane is None else lane, data, local_ts_ns, told=told)
        if reader.elsewhere is not None:
            reader = self._read_as(reader.elsewhere, data, local_ts_ns, told=False)
        if reader.lost_at is None:
            return reader.take()
        for one in self._readers:
            one.lose(reader.lost_at)
        return np.concatenate([one.take() for one in self._readers])

    def _read_as(self, lane: int, data: bytes, local_ts_ns: int | None, *, told: bool) -> _LaneReader:
        before, reader = self._readers[self.lane], self._readers[lane]
        reader.stand_at(before.local_max())
        self.lane = lane
        reader.read(self._messages, data, local_ts_ns, told=told, bytes_max=self._bytes_max)
        return reader

    def _guess(self, data: bytes) -> int:
        start = data[:_GUESS_BYTES]
        return next((at for at, quoted in enumerate(self._quoted) if quoted in start), 0)

    def dropped(self) -> list[tuple[str, int]]:
        """Messages that became no event since the beginning, by reason."""
        sums = Counter[str]()
        for reader in self._readers:
            sums.update(dict(reader.dropped()))
        return list(sums.items())
