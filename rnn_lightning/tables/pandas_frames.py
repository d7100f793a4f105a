"""From pandas to polars."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from rnn_lightning.errors import InputError, quoted

DATE_PARTS = ("year", "quarter", "week", "month", "day", "hour", "minute")
"""Columns that may be joined to a stamp."""

MAX_PLAIN = 3
"""Columns of a frame that may be ids, times and values, whatever their names."""


def pandas_kind(table: Any) -> str:
    """Return ``DataFrame`` or ``Series`` for an object of pandas, without an import; else nothing."""
    names = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(table).__mro__}
    return next((kind for kind in ("DataFrame", "Series") if f"pandas.{kind}" in names), "")


def index_as_column(table: Any, time_column: str = "ds", value_column: str = "y") -> Any:
    """Return a pandas frame whose index, if it has names or dates, is a column; a Series becomes a frame.

    An index of dates without a name is the ``time_column``, unless there is one. The index and the values of
    a Series are the time and the value column, whatever their names, and ids come first in one of two levels.
    """
    levels = table.index.nlevels
    if levels == 2 and None in table.index.names:
        table = _with_named_levels(table, ["unique_id", time_column])
        levels = table.index.nlevels
    if pandas_kind(table) == "Series":
        table = table.rename(value_column)
        return (table if levels > 1 else table.rename_axis(time_column)).reset_index()
    if any(name is not None and name not in table.columns for name in table.index.names):
        return table.reset_index()
    is_dates = str(table.index.dtype).startswith(("datetime64", "period"))
    if is_dates and time_column not in table.columns:
        return table.rename_axis(time_column).reset_index()
    return table


def _with_named_levels(table: Any, names: Sequence[str]) -> Any:
    """Return a table whose levels without a name have one; they are dropped if there is such a column."""
    columns, pairs = getattr(table, "columns", ()), zip(table.index.names, names, strict=True)
    given = [own or (None if name in columns else name) for own, name in pairs]
    table = table.rename_axis(given)
    unnamed = [level for level, name in enumerate(given) if name is None]
    return table.reset_index(level=unnamed, drop=True) if unnamed else table


def from_pandas(table: Any, wanted: Sequence[str]) -> pl.DataFrame:
    """Return a pandas frame without index, see ``index_as_column``, as a polars one, without pyarrow.

    Columns that are not ``wanted`` and no parts of a date are there, but empty where there are more than
    three.
    """
    given = list(map(str, table.columns))
    if twice := [name for name in wanted if given.count(name) > 1]:
        raise InputError(f"the DataFrame has {given.count(twice[0])} columns {quoted(twice[0])}: rename one.")
    empty = pl.repeat(None, len(table), eager=True)
    used = [name in wanted or name.strip().lower() in DATE_PARTS for name in given]
    if len(given) <= MAX_PLAIN:
        used = [True] * len(given)
    return pl.DataFrame(
        {name: from_pandas_column(table.iloc[:, i]) if used[i] else empty for i, name in enumerate(given)}
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
