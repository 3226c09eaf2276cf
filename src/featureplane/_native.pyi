# Rust half of featureplane; `featureplane.native` is the only module that imports it.

from typing import Any, Self, TypeAlias, final

import numpy as np
import numpy.typing as npt

from featureplane.errors import MalformedEvent

_Words: TypeAlias = npt.NDArray[np.uint64]  # events or rows of eight words each

__version__: str

@final
class HftbacktestReader:
    def __new__(
        cls,
        symbol_id: int,
        price_exponent: int,
        qty_exponent: int,
        local_shift_ns: int,
        local_time: bool,
        side_inferred: bool,
    ) -> Self: ...
    def feed(self, rows: _Words) -> tuple[_Words, MalformedEvent | None]: ...
    def finish(self) -> _Words: ...
    def dropped(self) -> list[tuple[str, int]]: ...

def hftbacktest_precision(rows: _Words, price_exponent: int, qty_exponent: int) -> tuple[int, int]: ...

@final
class Engine:
    def __new__(cls, plan: str, fingerprint: bytes, config: str) -> Self: ...
    def run_frames(self, events: _Words) -> None: ...
    def run_columns(self, events: _Words) -> None: ...
    def take_frames(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]: ...
    def take_columns(self) -> dict[str, Any]: ...
    def counts(self) -> dict[str, Any]: ...
    @property
    def frame_bytes(self) -> int: ...
