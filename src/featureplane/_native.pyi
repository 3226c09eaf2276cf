# Rust half of featureplane; `featureplane.native` is the only module that imports it.

from typing import Self, TypeAlias, final

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
