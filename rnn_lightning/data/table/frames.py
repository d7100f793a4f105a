"""Tables in memory: polars frames, and pandas ones, which become such."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import polars as pl

PIECE_ROWS = 2**17
"""Rows of a frame or a Parquet file that are looked at together."""


class Piece(NamedTuple):
    """Some rows of one file."""

    frame: "pl.DataFrame"
    file: int  # its number among the sources
    first_row: int  # data row of the first one, from 0


class Frame(NamedTuple):
    """A table in memory."""

    frame: "pl.DataFrame"
    name: str = "the DataFrame"

    def columns(self) -> list[str]:
        """The names of its columns."""
        return self.frame.columns

    def num_rows(self) -> int:
        """The number of its rows."""
        return self.frame.height

    def pieces(self, chosen: Sequence[str], file: int) -> Iterator[Piece]:
        """The ``chosen`` columns, some rows at a time."""
        rows = self.frame.select(chosen)
        for first_row in range(0, rows.height, PIECE_ROWS):
            yield Piece(rows.slice(first_row, PIECE_ROWS), file, first_row)


def from_pandas(table: Any, wanted: Sequence[str]) -> "pl.DataFrame":
    """A polars frame of a pandas one, column by column, without pyarrow; a named index is a column as well.

    Columns that are not ``wanted`` are there, but empty.
    """
    import polars as pl

    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    names = [str(name) for name in table.columns]
    empty = pl.repeat(None, len(table), eager=True)
    columns = [
        pandas_column(name, table.iloc[:, i]) if name in wanted else empty for i, name in enumerate(names)
    ]
    return pl.DataFrame(dict(zip(names, columns, strict=True)))


def pandas_column(name: str, column: Any) -> "pl.Series":
    """One column; what pandas calls NA, NaN or NaT is null, or NaN in a column of floats."""
    import polars as pl

    zone = getattr(column.dtype, "tz", None)
    if zone is not None:
        stamps = pandas_column(name, column.dt.tz_convert("UTC").dt.tz_localize(None))
        stamps = stamps.dt.replace_time_zone("UTC")
        try:
            return stamps.dt.convert_time_zone(str(zone))
        except pl.exceptions.PolarsError:  # such as UTC+02:00
            return stamps
    if str(column.dtype).startswith("period"):
        return pandas_column(name, column.dt.to_timestamp())
    kind = column.dtype.kind if hasattr(column.dtype, "kind") else "O"
    missing = column.isna().to_numpy()
    if kind in "iuf" and not isinstance(column.dtype, np.dtype):  # Int64, Float64
        column = (
            column.astype("float64")
            if kind == "f" or missing.any()
            else column.astype(column.dtype.name.lower())
        )
    if kind == "M":
        return pl.Series(name, column.to_numpy())
    if kind in "iufb" and isinstance(column.dtype, np.dtype):
        return pl.Series(name, np.ascontiguousarray(column.to_numpy()))
    cells = [None if gone else cell for cell, gone in zip(column.tolist(), missing.tolist(), strict=True)]
    return pl.Series(name, cells, strict=False)
