"""Saved state as canonical bytes: 8-byte little-endian words, the same ones in Python and Rust.

A kernel saves what its definition needs (what a window holds), never what an implementation keeps
for speed. Sequences are a count, then the items, oldest first; an optional value is the word 0, or
the word 1 and the value. Leans on nothing. Twin: `kernels/state.rs`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

__all__ = ["StateReader", "StateWriter"]

_WORD = 8


class StateWriter:
    """Collects words.

    >>> out = StateWriter()
    >>> out.i64(-1)
    >>> out.option_i64(None)
    >>> out.bytes().hex(" ", 8)
    'ffffffffffffffff 0000000000000000'
    """

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def u64(self, value: int) -> None:
        """One word, 0 <= value < 2^64."""
        self._parts.append(struct.pack("<Q", value))

    def i64(self, value: int) -> None:
        """One word, two's complement."""
        self._parts.append(struct.pack("<q", value))

    def f64(self, value: float) -> None:
        """One word, the bits of the float."""
        self._parts.append(struct.pack("<d", value))

    def i128(self, value: int) -> None:
        """Two words, low then high, two's complement."""
        self._parts.append(value.to_bytes(2 * _WORD, "little", signed=True))

    def flag(self, value: bool) -> None:  # noqa: FBT001 - a word that happens to be a truth value
        """One word, 0 or 1."""
        self.u64(1 if value else 0)

    def option_u64(self, value: int | None) -> None:
        """The word 0, or 1 and the value."""
        self.flag(value is not None)
        if value is not None:
            self.u64(value)

    def option_i64(self, value: int | None) -> None:
        """The word 0, or 1 and the value."""
        self.flag(value is not None)
        if value is not None:
            self.i64(value)

    def option_f64(self, value: float | None) -> None:
        """The word 0, or 1 and the value."""
        self.flag(value is not None)
        if value is not None:
            self.f64(value)

    def option_i128(self, value: int | None) -> None:
        """The word 0, or 1 and the value's two words."""
        self.flag(value is not None)
        if value is not None:
            self.i128(value)

    def sequence_i64(self, values: Iterable[int]) -> None:
        """The count, then one word each, oldest first."""
        items = list(values)
        self.u64(len(items))
        for item in items:
            self.i64(item)

    def sequence_f64(self, values: Iterable[float]) -> None:
        """The count, then the bits of each, oldest first."""
        items = list(values)
        self.u64(len(items))
        for item in items:
            self.f64(item)

    def raw(self, data: bytes) -> None:
        """Bytes as they are, a whole number of words; the count is the caller's to write."""
        if len(data) % _WORD:
            raise ValueError(f"raw: {len(data)} bytes, expected whole words of {_WORD}")
        self._parts.append(data)

    def bytes(self) -> bytes:
        """All words written so far."""
        return b"".join(self._parts)


class StateReader:
    """Takes the words back in the order in which they were written.

    Raises `ValueError` on bytes that end too early, a truth word other than 0 and 1, a count
    larger than what is left, and from `finish` if something is left.
    """

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def raw(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size < 0 or size > self.left:
            raise ValueError(f"state ends after {len(self._data)} bytes, {size - self.left} too early")
        start, self._at = self._at, self._at + size
        return self._data[start : self._at]

    def u64(self) -> int:
        """One word, 0 <= value < 2^64."""
        return int.from_bytes(self.raw(_WORD), "little")

    def i64(self) -> int:
        """One word, two's complement."""
        return int.from_bytes(self.raw(_WORD), "little", signed=True)

    def f64(self) -> float:
        """One word, the bits of a float."""
        value: float = struct.unpack("<d", self.raw(_WORD))[0]
        return value

    def i128(self) -> int:
        """Two words, low then high, two's complement."""
        return int.from_bytes(self.raw(2 * _WORD), "little", signed=True)

    def flag(self) -> bool:
        """One word, 0 or 1."""
        word = self.u64()
        if word > 1:
            raise ValueError(f"state has {word} where 0 or 1 must stand")
        return word == 1

    def option_u64(self) -> int | None:
        """None, or the value behind the word 1."""
        return self.u64() if self.flag() else None

    def option_i64(self) -> int | None:
        """None, or the value behind the word 1."""
        return self.i64() if self.flag() else None

    def option_f64(self) -> float | None:
        """None, or the value behind the word 1."""
        return self.f64() if self.flag() else None

    def option_i128(self) -> int | None:
        """None, or the value behind the word 1."""
        return self.i128() if self.flag() else None

    def count(self, item_bytes: int = _WORD) -> int:
        """The length of a sequence; refused when its items cannot all be there."""
        count = self.u64()
        if count * item_bytes > self.left:
            raise ValueError(f"state promises {count} items, {self.left} bytes are left")
        return count

    def sequence_i64(self) -> list[int]:
        """A count and that many integers, oldest first."""
        return [self.i64() for _ in range(self.count())]

    def sequence_f64(self) -> list[float]:
        """A count and that many floats, oldest first."""
        return [self.f64() for _ in range(self.count())]

    def finish(self) -> None:
        """Say that nothing more is expected."""
        if self.left:
            raise ValueError(f"state has {self.left} bytes more than expected")
