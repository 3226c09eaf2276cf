"""What a store answers: the rows of a request, opened, and read when somebody asks.

Leans on `store` for reading again what turns out to be damaged. Knows nothing of how days are made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from featureplane.errors import SettingError, UnknownFeature
from featureplane.research.store.dayfile import CLOCK
from featureplane.research.store.grids import sampled
from featureplane.research.store.hot import MappedDay
from featureplane.research.store.manifest import Row
from featureplane.research.store.requests import Request
from featureplane.research.store.shelf import OpenFile
from featureplane.research.tables import table_schema

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["Piece", "StoreEntry"]


@dataclass(slots=True)
class Piece:
    """One day of an entry: mapped or in memory, or a file that is open and not read yet.

    `result` is what the store counted it as.
    """

    day: str
    result: str
    key: str
    mapped: MappedDay | None = None
    stored: tuple[Row, OpenFile] | None = None
    remade: Callable[[], MappedDay] | None = None  # where `stored` turns out to be damaged

    def is_within(self, start_ns: int, end_ns: int) -> bool:
        """Whether all rows of its file have times in [start, end), so that nobody needs to look at them."""
        return (
            self.stored is not None
            and start_ns <= self.stored[0].start_ts
            and end_ns >= self.stored[0].end_ts
        )


class Reader(Protocol):
    """Who reads a day that is not mapped."""

    def read(self, piece: Piece, start_ns: int, end_ns: int, columns: list[str]) -> pa.Table:
        """Rows of [start, end) or around; may map the piece instead."""

    def check(self, piece: Piece) -> None:
        """Make sure that the file of a piece is whole, or map the piece."""


class StoreEntry:
    """The frames of one symbol and set over [start, end), by the clock of rule 5.3.

    Opened, not read: `table`, `to_polars`, `to_pandas` and `scan` read, and only what they need. As long as
    the entry is referred to, what it would read is not evicted. `days` says for each day of the request what
    came of it: `hit`, `miss`, `coalesced`, `corrupt`, `open_day`, `read_only`.

    The object speaks Arrow's C stream interface.
    """

    def __init__(
        self,
        request: Request,
        pieces: Sequence[Piece],
        reader: Reader,
    ) -> None:
        self.request = request
        self._pieces = pieces
        self._reader = reader

    @property
    def days(self) -> dict[str, str]:
        """What came of each day."""
        return {piece.day: piece.result for piece in self._pieces}

    @property
    def keys(self) -> dict[str, str]:
        """The key of each day."""
        return {piece.day: piece.key for piece in self._pieces}

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows in Arrow, columns as `research.tables.table_schema` lists them, or those asked for.

        Over the mapped files where all of it lies in the hot tier. Raises `UnknownFeature` for a column that
        is none.
        """
        if columns is None and len(self._pieces) == 1:
            mapped = self._pieces[0].mapped
            if mapped is not None:
                return mapped.between(self.request.start_ns, self.request.end_ns)
        schema = self._schema(columns)
        tables = [self._of(piece, schema.names) for piece in self._pieces]
        if not tables:
            return schema.empty_table()
        return pa.concat_tables([table.cast(schema) if table.schema != schema else table for table in tables])

    def sampled(self, every: int | str) -> pa.Table:
        """The rows that `every=n` or `every="100ms"` keeps, as `compute` would have kept them (rule 5.6).

        A period adds `grid_ts_ns`. The range counts as the whole stream: what stood before its first row is
        not in flags and masks, and the open interval at its end gives no row. Raises `SettingError` for what
        is no period.
        """
        return sampled(self.table(), self.request.feature_set, every)

    def to_polars(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows in Polars, over the same memory as `table`; needs the `research` extra."""
        polars = _polars()
        frame: pl.DataFrame = polars.from_arrow(self.table(columns), rechunk=False)
        return frame

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows in pandas, with Arrow's types; needs the `research` extra."""
        try:
            import pandas as pd  # noqa: PLC0415 - optional
        except ImportError:
            raise _missing("pandas") from None
        return self.table(columns).to_pandas(types_mapper=pd.ArrowDtype)

    def scan(self) -> pl.LazyFrame:
        """The rows as a lazy frame of Polars, which reads the columns and rows a query needs.

        Needs the `research` extra.
        """
        polars = _polars()
        frames = [self._lazy(piece, polars) for piece in self._pieces]
        if not frames:
            return polars.from_arrow(self.table()).lazy()  # type: ignore[no-any-return]
        return frames[0] if len(frames) == 1 else polars.concat(frames)  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return sum(self._of(piece, []).num_rows for piece in self._pieces)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        stream: object = self.table().__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]
        return stream

    def __repr__(self) -> str:
        asked = self.request
        days = ", ".join(f"{day} {result}" for day, result in self.days.items()) or "no day"
        return f"<{asked.feature_set.feature_set_id} of {asked.symbol}: {days}>"

    def _schema(self, columns: Sequence[str] | None) -> pa.Schema:
        whole = table_schema(self.request.feature_set)
        if columns is None:
            return whole
        unknown = [name for name in columns if name not in whole.names]
        if unknown:
            raise UnknownFeature(unknown[0], whole.names)
        return pa.schema([whole.field(name) for name in columns]).with_metadata(whole.metadata)

    def _of(self, piece: Piece, names: list[str]) -> pa.Table:
        start_ns, end_ns = self.request.start_ns, self.request.end_ns
        if piece.mapped is None:
            all_of_it = piece.is_within(start_ns, end_ns)
            table = self._reader.read(piece, start_ns, end_ns, names if all_of_it else [*names, CLOCK])
            if piece.mapped is None:
                return table if all_of_it else MappedDay.of(piece.key, table).between(start_ns, end_ns)
        return piece.mapped.between(start_ns, end_ns).select(names)

    def _lazy(self, piece: Piece, polars: Any) -> Any:
        start_ns, end_ns = self.request.start_ns, self.request.end_ns
        names = table_schema(self.request.feature_set).names
        if piece.mapped is not None:
            return polars.from_arrow(piece.mapped.between(start_ns, end_ns)).lazy()
        self._reader.check(piece)
        if piece.stored is None or piece.mapped is not None:
            return self._lazy(piece, polars)
        _, opened = piece.stored
        if not opened.has_name:  # polars opens it by its name, and later
            return polars.from_arrow(self._of(piece, names)).lazy()
        lazy = polars.scan_parquet(opened.path)
        if piece.is_within(start_ns, end_ns):
            return lazy.select(names)
        inside = (polars.col(CLOCK) >= start_ns) & (polars.col(CLOCK) < end_ns)
        return lazy.filter(inside).select(names)


def _polars() -> Any:
    try:
        import polars as pl  # noqa: PLC0415 - optional
    except ImportError:
        raise _missing("polars") from None
    return pl


def _missing(package: str) -> SettingError:
    return SettingError(f"{package} is not installed", hint=f"{sys.executable} -m pip install {package}")
