"""Series from tables: CSV and Parquet files, polars and pandas frames."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rnn_lightning.data.series import Series
from rnn_lightning.errors import InputError
from rnn_lightning.tables.options import TableOptions
from rnn_lightning.tables.table_data import TableData

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]
    import polars as pl

    Table: TypeAlias = str | Path | pl.DataFrame | pd.DataFrame | pd.Series
else:
    Table = str  # the command line knows files alone


@dataclass(repr=False, eq=False)
class TableSeries(Series, TableOptions):
    """A table in the long format ``unique_id, ds, y``: one row for each series and step.

    Each series has its own regular grid of time stamps. Steps without a row and empty cells are unknown
    values. Rows may come in any order; the series keep the order in which their ids first appear. Without
    the id column, each file is one series.

    Args:
        path: a CSV file, plain or compressed (.gz, .zst), or a Parquet file, or a folder or glob of one kind
            of them; in Python also a polars or pandas DataFrame, or a pandas Series.
    """

    path: Table

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.static_columns and self.static_categories is None:  # the number of inputs depends on them
            from rnn_lightning.tables.static_columns import find_categories

            self.static_categories = find_categories(self.path, self)
            self.num_covariates += self.num_static - len(self.static_columns)

    def load(self) -> TableData:
        """Read and check the table, and put each row onto the grid of its series.

        Raises:
            InputError: names the file and the column, row or id that cannot be used.
        """
        from rnn_lightning.tables.reading import TableReading

        return TableReading(self.path, self).data()


COLUMN_LISTS = ("target_columns", "covariate_columns", "past_covariate_columns", "static_columns")
"""Options that name the inputs of a network."""


def table_as_in_fit(fitted: Mapping[str, Any], table: Any, options: Mapping[str, Any]) -> TableSeries:
    """Return the series of a table, read as in a fit but for the ``options`` that are given.

    Args:
        fitted: facts of the fit, see ``TableDataModule.facts``.
        table: a path, a frame or a pandas Series.
        options: arguments of ``TableSeries``.
    """
    names = [each.name for each in fields(TableOptions)]
    if unknown := [name for name in options if name not in names]:
        raise InputError(f"there is no option {unknown[0]!r}; there are {', '.join(names)}.")
    reading = {name: value for name, value in fitted.items() if name in names}
    require_order(fitted, options)
    return TableSeries(table, **{**reading, **options})


def require_order(fitted: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse columns of a fit in another order: a network knows them by their places.

    Args:
        fitted: options of the fit, which may have more.
        options: those given.
    """
    for name in COLUMN_LISTS:
        before, now = ([*(each.get(name) or ())] for each in (fitted, options))
        if isinstance(options.get(name), str):
            now = [options[name]]
        if before != now and sorted(before) == sorted(now):
            raise InputError(f"`{name}` {now} are in another order than in the fit: give {before}.")
