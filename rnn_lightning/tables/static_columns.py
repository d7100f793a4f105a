"""Columns with one value for each series: numbers, and categories that become one input each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from rnn_lightning.errors import InputError, counted, quoted
from rnn_lightning.tables.files import Table, find_tables, require_columns, table_ids
from rnn_lightning.tables.number_text import find_decimal, plain_numbers
from rnn_lightning.tables.options import TableOptions
from rnn_lightning.tables.rows import UNKNOWN

MAX_CATEGORIES = 1000
"""Categories that a static column may have: each is an input of the network."""


def find_categories(path: Any, options: TableOptions) -> dict[str, list[str]]:
    """Return the categories of the static columns that hold other things than numbers, sorted.

    Raises:
        InputError: if the table lacks a static column, or one has too many categories.
    """
    columns = [("static_columns", name) for name in options.static_columns]
    tables = find_tables(path, options.separator, [name for _, name in options.columns()])
    require_columns(tables, columns)
    found = {}
    for _, name in columns:
        cells = pl.concat([_cells(table.frame.select(pl.col(name).unique()), name) for table in tables])
        if _numbers(cells, options) is None:
            found[name] = cells.drop_nulls().unique().sort().to_list()
            if len(found[name]) > MAX_CATEGORIES:
                rule = f"has {len(found[name]):,} categories, and at most {MAX_CATEGORIES:,} can be inputs"
                raise InputError(f"`static_columns`: {quoted(name)} {rule}: leave it out.")
    return found


def read_static(
    tables: Sequence[Table], options: TableOptions, id_column: str | None, ids: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """Return the inputs of the static columns of the series with these ids, and notes on them.

    Returns:
        ``(series, input)``, float32: a number, NaN where unknown; for a category a one among zeros, and equal
        parts of it for a category that the options do not know.

    Raises:
        InputError: if a series has two values of a static column, or a number is text.
    """
    columns, notes = list[np.ndarray](), list[str]()
    for name in options.static_columns:
        values = _values(tables, name, id_column)
        cells = pl.Series(name, [values.get(each) for each in ids], dtype=pl.String)
        categories = (options.static_categories or {}).get(name)
        if categories is None:
            numbers = _numbers(cells, options)
            if numbers is None:
                raise InputError(f"`static_columns`: {quoted(name)} holds text, and held numbers in the fit.")
            columns.append(numbers.to_numpy().reshape(-1, 1))
            continue
        codes = cells.to_numpy().reshape(-1, 1) == np.array(categories, object)  # (series, category)
        is_new = ~codes.any(1)
        columns.append(np.where(is_new[:, None], 1 / max(len(categories), 1), codes))
        if is_new.any():
            new = cells.filter(pl.Series(is_new)).unique().sort(nulls_last=True).to_list()
            some = ", ".join("nothing" if each is None else quoted(each) for each in new[:3])
            what = f"{some} in {counted(int(is_new.sum()), 'series')}"
            notes.append(f"{quoted(name)} has {what}, unknown to the fit, which counts as a mixture of all.")
    return np.concatenate(columns, 1).astype(np.float32), notes


def _values(tables: Sequence[Table], name: str, id_column: str | None) -> dict[str, str]:
    """Return the known value of a column, as text, for each id."""
    found: dict[str, str] = {}
    for table, own in zip(tables, table_ids(tables), strict=True):
        names = [name] if id_column is None else [id_column, name]
        rows = table.frame.select(names).unique(maintain_order=True).collect().lazy()
        cells = _cells(rows.select(name), name)
        keys = [own] * len(cells)
        if id_column is not None:
            keys = rows.select(pl.col(id_column).cast(pl.String)).collect()[id_column].to_list()
        for key, cell in zip(keys, cells, strict=True):
            if cell is not None and found.setdefault(key, cell) != cell:
                what = f"{quoted(found[key])} and {quoted(cell)} in series {quoted(key)}"
                raise InputError(f"`static_columns`: {quoted(name)} has {what}: give one for each series.")
    return found


def _cells(rows: pl.LazyFrame, name: str) -> pl.Series:
    """Return a column as text, null where nothing is known."""
    text = pl.col(name).cast(pl.String).str.strip_chars()
    return rows.select(pl.when(~text.is_in(UNKNOWN)).then(text)).collect().to_series()


def _numbers(cells: pl.Series, options: TableOptions) -> pl.Series | None:
    """Return text as numbers, NaN where unknown; None if some of it is none, or nothing is known."""
    decimal = options.decimal or find_decimal(cells.drop_nulls(), None) or "."
    numbers = plain_numbers(cells, decimal).cast(pl.Float64, strict=False)
    is_text = numbers.is_null() & cells.is_not_null()
    return None if is_text.any() else numbers.fill_null(float("nan"))
