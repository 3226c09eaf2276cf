"""Text out of files that come in chunks cut anywhere: unpacked, then line by line.

Twins of `normalize/inflate.rs` and `normalize/lines.rs`; plain text is passed on as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from featureplane.errors import UnreadableFile

__all__ = ["LINE_BYTES_MAX", "PIECE_BYTES", "Line", "Lines", "Unpacker"]

LINE_BYTES_MAX: Final = 64 << 20
"""Longest line that is read."""

PIECE_BYTES: Final = 1 << 18
"""Most bytes handed on at once; it bounds what a few packed bytes can become."""

_FIRST: Final = b"\x1f"
_SECOND: Final = 0x8B
_WINDOW_BITS: Final = 31  # gzip, 32 KiB


class Unpacker:
    """One file after another, each plain or gzip of any number of members.

    Raises `UnreadableFile` for packed data that are damaged or end too early.
    """

    def __init__(self) -> None:
        self._file = ""
        self.begin("")

    def begin(self, file: str) -> None:
        """Begin a file, which errors will name."""
        self._file = file
        self._plain = False
        self._taken = 0
        self._packed = False
        self._held = b""  # a first byte of gzip whose second has not come
        self._inflate: zlib._Decompress | None = None

    def step(self, data: bytes) -> tuple[bytes, int]:
        """A piece of text and how many bytes of `data`, of which there are some, it came from."""
        piece, used = self._step(data)
        self._taken += used
        return piece, used

    def _step(self, data: bytes) -> tuple[bytes, int]:
        if self._plain:
            piece = data[:PIECE_BYTES]
            return piece, len(piece)
        if self._inflate is not None:
            return self._unpack(self._inflate, data)
        if self._packed and not self._held:
            zeros = len(data) - len(data.lstrip(b"\0"))
            if zeros:
                return b"", zeros
        if not self._held and data.startswith(_FIRST):
            self._held = _FIRST
            return b"", 1
        if self._held and data[0] == _SECOND:
            self._inflate = zlib.decompressobj(wbits=_WINDOW_BITS)
            self._packed = True
            self._inflate.decompress(self._held)
            self._held = b""
            return b"", 0
        if self._packed:
            raise self._damaged("other bytes behind its gzip data")
        self._plain = True
        held, self._held = self._held, b""
        return held, 0

    def _unpack(self, inflate: zlib._Decompress, data: bytes) -> tuple[bytes, int]:
        try:
            piece = inflate.decompress(data, PIECE_BYTES)
        except zlib.error:
            raise self._damaged("damaged gzip data") from None
        left = len(inflate.unconsumed_tail)
        if inflate.eof:
            left = len(inflate.unused_data)
            self._inflate = None
        return piece, len(data) - left

    def finish(self) -> bytes:
        """End the file; the last bytes of text, if any."""
        if self._inflate is not None:
            raise self._damaged(f"its end at byte {self._taken} inside gzip data")
        if self._held and self._packed:
            raise self._damaged("other bytes behind its gzip data")
        held, self._held = self._held, b""
        return held

    def _damaged(self, found: str) -> UnreadableFile:
        return UnreadableFile(self._file, found, "a whole gzip file")


class Line(NamedTuple):
    """One line without its end; `text` is None for one beyond the limit, `tail` one that was not ended."""

    number: int
    text: bytes | None
    tail: bool = False


class Lines:
    """Splits pieces of text into lines; holds at most one unfinished line."""

    def __init__(self, bytes_max: int = LINE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._number = 0
        self._carry = b""
        self._overlong = False

    def feed(self, piece: bytes) -> Iterator[Line]:
        """Every line that ends in `piece`."""
        *ended, rest = piece.split(b"\n")
        for part in ended:
            self._number += 1
            overlong, self._overlong = self._overlong, False
            text, self._carry = self._carry + part, b""
            if overlong:
                continue
            if len(text) > self._bytes_max:
                yield Line(self._number, None)
            else:
                yield Line(self._number, text.removesuffix(b"\r"))
        if self._overlong:
            return
        self._carry += rest
        if len(self._carry) > self._bytes_max:
            self._overlong, self._carry = True, b""
            yield Line(self._number + 1, None)

    def finish(self) -> Iterator[Line]:
        """What was left without a line feed; counts from 1 again."""
        number, text = self._number + 1, self._carry
        self._number, self._carry, self._overlong = 0, b"", False
        if text:
            yield Line(number, text.removesuffix(b"\r"), tail=True)
