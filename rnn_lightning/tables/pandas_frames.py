"""From pandas to polars."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl


def from_pandas(table: Any, wanted: Sequence[str]) -> pl.DataFrame:
    """A polars frame of a pandas one, column by column, without pyarrow; a named index is a column as well.

    Columns that are not ``wanted`` are there, but empty.
    """
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    empty = pl.repeat(None, len(table), eager=True)
    columns = {}
    for number, name in enumerate(map(str, table.columns)):
        columns[name] = from_pandas_column(table.iloc[:, number]) if name in wanted else empty
    return pl.DataFrame(columns)


def from_pandas_column(cells: Any) -> pl.Series:
    """One column; what pandas calls NA, NaN or NaT is null, or NaN in a column of floats."""
    if zone := getattr(cells.dtype, "tz", None):
        stamps = from_pandas_column(cells.dt.tz_convert("UTC").dt.tz_localize(None))
        stamps = stamps.dt.replace_time_zone("UTC")
        try:
            return stamps.dt.convert_time_zone(str(zone))
        except pl.exceptions.PolarsError:  # such as UTC+02:00
            return stamps
    if str(cells.dtype).startswith("period"):
        cells = cells.dt.to_timestamp()
    if str(cells.dtype) == "datetime64[s]":  # polars has no seconds
        cells = cells.astype("datetime64[ms]")
    if isinstance(cells.dtype, np.dtype) and cells.dtype.kind in "iufbM":
        return pl.Series(np.ascontiguousarray(cells.to_numpy()))
    missing = cells.isna().tolist()
    return pl.Series(
        [None if gone else cell for cell, gone in zip(cells.tolist(), missing, strict=True)], strict=False
    )
