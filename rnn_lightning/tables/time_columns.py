"""Tables without a column of time stamps: join its parts, or number the rows."""

from collections.abc import Sequence

import polars as pl

from rnn_lightning.errors import quoted
from rnn_lightning.tables.files import Table
from rnn_lightning.tables.options import TableOptions
from rnn_lightning.tables.pandas_frames import DATE_PARTS

PARTS = DATE_PARTS[3:]
"""Parts of a stamp after the year, each of which needs those before it."""


def with_time_column(tables: list[Table], options: TableOptions) -> tuple[list[Table], list[str]]:
    """Return tables that have a time column, and notes on how they got it.

    Rows are numbered if that is asked for, or if there is nothing but values and ids. The columns year,
    month, day and so on, or year and quarter or week, are joined. Tables with the column stay as they are.
    """
    names = tables[0].columns()
    time = options.time_column
    if options.number_rows:
        return [_numbered(table, options) for table in tables], []
    if time in names or time != "ds":
        return tables, []
    if {*names} - {options.id_column} == {*options.number_columns}:
        note = f"The table has no time column: its rows are numbered from 1 on, as {quoted(time)}."
        return [_numbered(table, options) for table in tables], [note]
    if not (parts := _parts(names, options)):
        return tables, []
    joined = [
        table._replace(frame=table.frame.with_columns(_joined(parts).alias(time)).drop(parts.values()))
        for table in tables
        if {*parts.values()} <= {*table.columns()}
    ]
    columns = " and ".join([", ".join(map(quoted, [*parts.values()][:-1])), quoted([*parts.values()][-1])])
    return (joined if len(joined) == len(tables) else tables), [f"{quoted(time)} joins {columns}."]


def _numbered(table: Table, options: TableOptions) -> Table:
    """Return a table with the numbers of the rows of each series as its time column."""
    has_ids = options.id_column in table.columns()
    numbers = pl.int_range(1, pl.len() + 1)
    numbers = numbers.over(options.id_column) if has_ids else numbers
    return table._replace(frame=table.frame.with_columns(numbers.alias(options.time_column)))


def _parts(names: Sequence[str], options: TableOptions) -> dict[str, str]:
    """Return the columns of the parts of a stamp by their part, none if they are not enough or in use."""
    by_part = {name.strip().lower(): name for name in names if name not in options.number_columns}
    if "year" not in by_part:
        return {}
    for part in ("quarter", "week"):
        if part in by_part and "month" not in by_part:
            return {each: by_part[each] for each in ("year", part)}
    found = {"year": by_part["year"]}
    for part in PARTS:
        if part not in by_part:
            break
        found[part] = by_part[part]
    return found if len(found) > 1 else {}


def _joined(parts: dict[str, str]) -> pl.Expr:
    """Join parts of stamps into text such as ``2020-01-31``, ``2020-01-31 13:00`` or ``2020Q1``."""
    text = {
        part: pl.col(name).cast(pl.String).str.strip_chars().str.strip_suffix(".0").str.zfill(2)
        for part, name in parts.items()
    }
    if "quarter" in parts:
        return pl.concat_str(text["year"], pl.lit("Q"), pl.col(parts["quarter"]).cast(pl.String).str.tail(1))
    if "week" in parts:
        return pl.concat_str(text["year"], pl.lit("-W"), text["week"])
    days = [text[part] for part in ("year", "month", "day") if part in text]
    clock = [text[part] for part in ("hour", "minute") if part in text]
    stamp = pl.concat_str(days, separator="-")
    return (
        pl.concat_str(stamp, pl.lit(" "), *clock[:1], pl.lit(":"), *(clock[1:] or [pl.lit("00")]))
        if clock
        else stamp
    )
