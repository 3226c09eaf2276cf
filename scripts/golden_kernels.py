"""What the reference kernels answer, op by op: golden files that the Rust twins are held against.

    .venv/bin/python -m scripts.golden

A file holds one kernel and a few cases; a case, its parameters and a list of ops. An op is a list:

    ["begin", clock]                    a step begins
    ["update", arguments ...]           the kernel advances
    ["trade", fields ..., advanced]     a trade, in the order of `TradeTick`, and whether it advances
    ["settle", value or null, clock]    a step ends (kernels that integrate over time)
    ["reset"]
    ["read", clock, bits, why]          what the cell must be
    ["value", arguments ..., bits, why] the same of a kernel without state
    ["save", bytes]                     what the state must be; the kernel goes on from these bytes

Integers are integers, or {"i128": decimal} where 64 bits may not hold them; a string as an argument is
the bits of a float in hexadecimal, and so are `bits`, those of the value or 0. `bytes` is hexadecimal
too, or "fnv1a64:length:hash" if long.

Cases come as ops without answers from `golden_windows` and its neighbours; `answered` adds them.
"""

from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featureplane.features.kernels.cell import Cell
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.features.kernels.trades import TradeTick

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "kernels"

CASE_MODULES = ("golden_windows", "golden_trades")
"""Neighbours with a `cases()`: by kernel name, its class and its cases."""

LONGEST_STATE = 96
"""Bytes of a saved state that are written out."""

Op = list[Any]


@dataclass(frozen=True)
class Case:
    """Parameters of one kernel, and what happens to it."""

    params: dict[str, Any]
    ops: list[Op] = field(default_factory=list)


class Random:
    """SplitMix64, so that no other library's version decides what stands in a golden file."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def bits(self) -> int:
        """64 of them."""
        self._state = (self._state + 0x9E3779B97F4A7C15) % 2**64
        z = (self._state ^ (self._state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        """0 to `bound` - 1."""
        return self.bits() % bound

    def signed(self, bits_max: int) -> int:
        """Of both signs and a random length in bits, so that every magnitude comes up."""
        magnitude = (self.bits() << 64 | self.bits()) >> (128 - self.below(bits_max + 1))
        return -magnitude if self.below(2) else magnitude


def float_bits(x: float) -> str:
    """A float as an argument of an op."""
    return struct.pack(">d", x).hex()


def argument(word: Any) -> Any:
    """An argument of an op as the kernel takes it."""
    if isinstance(word, dict):
        return int(word["i128"])
    return struct.unpack(">d", bytes.fromhex(word))[0] if isinstance(word, str) else word


def cell_words(cell: Cell) -> list[Any]:
    """Bits in hexadecimal, and why."""
    if cell.value is None:
        return ["0", cell.why]
    bits = struct.pack(">d" if isinstance(cell.value, float) else ">q", cell.value).hex()
    return [bits.lstrip("0") or "0", cell.why]


def state_text(data: bytes) -> str:
    """A saved state, or its length and hash."""
    if len(data) <= LONGEST_STATE:
        return data.hex()
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return f"fnv1a64:{len(data)}:{digest:016x}"


def saved(kernel: Any) -> bytes:
    """The state of a kernel."""
    out = StateWriter()
    kernel.save(out)
    return out.bytes()


def answered(make: type, case: Case) -> Iterator[Op]:
    """The ops of a case with what the reference answers."""
    kernel: Any = make(**case.params)
    for op in case.ops:
        name, *words = op
        arguments = [argument(word) for word in words]
        match name:
            case "read":
                yield [*op, *cell_words(kernel.read(*arguments))]
            case "value":
                yield [*op, *cell_words(kernel.value(*arguments))]
            case "trade":
                yield [*op, kernel.update(TradeTick(*arguments))]
            case "save":
                data = saved(kernel)
                kernel = make(**case.params)
                state = StateReader(data)
                kernel.load(state)
                state.finish()
                yield ["save", state_text(data)]
            case "settle":
                value, clock_ns = arguments
                kernel.settle(Cell.undefined() if value is None else Cell(value, 0), clock_ns)
                yield op
            case _:
                getattr(kernel, name)(*arguments)
                yield op


def kernel_text(name: str, make: type, cases: list[Case]) -> str:
    """One golden file, an op a line."""
    blocks = []
    for case in cases:
        ops = ",\n".join(json.dumps(op, separators=(",", ":")) for op in answered(make, case))
        blocks.append(f'{{"params": {json.dumps(case.params)}, "ops": [\n{ops}\n]}}')
    return f'{{"kernel": "{name}", "cases": [\n' + ",\n".join(blocks) + "\n]}\n"


def golden_texts() -> dict[Path, str]:
    """Every golden file of a kernel and what should stand in it now."""
    texts = {}
    for module in CASE_MODULES:
        for name, (make, cases) in importlib.import_module(f"scripts.{module}").cases().items():
            texts[GOLDEN / f"{name}.json"] = kernel_text(name, make, cases)
    return texts
