"""From pandas to polars."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from rnn_lightning.errors import InputError, quoted


def from_pandas(table: Any, wanted: Sequence[str]) -> pl.DataFrame:
    """Return a pandas frame as a polars one, without pyarrow; a named index becomes a column.

    Columns that are not ``wanted`` are there, but empty.
    """
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    given = list(map(str, table.columns))
    if twice := [name for name in wanted if given.count(name) > 1]:
        raise InputError(f"the DataFrame has {given.count(twice[0])} columns {quoted(twice[0])}: rename one.")
    empty = pl.repeat(None, len(table), eager=True)
    names = enumerate(given)
    return pl.DataFrame(
        {name: from_pandas_column(table.iloc[:, i]) if name in wanted else empty for i, name in names}
    )


def from_pandas_column(cells: Any) -> pl.Series:
    """Return one column; NA and NaT of pandas become null, NaN stays in a column of floats."""
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
    known = zip(cells.tolist(), missing, strict=True)
    return pl.Series([None if is_missing else cell for cell, is_missing in known], strict=False)
