"""Series from tables: CSV and Parquet files, polars and pandas frames."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rnn_lightning.data.series import Series, SeriesData
from rnn_lightning.errors import InputError
from rnn_lightning.tables.calendar import CALENDAR, FORMS, Interval

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]
    import polars as pl

    Table: TypeAlias = str | Path | pl.DataFrame | pd.DataFrame
else:
    Table = str  # the command line knows files alone

CalendarFeature = Literal["month", "weekday", "hour"]


class TableSeries(Series):
    """A table in the long format ``unique_id, ds, y``: one row for each series and step.

    Each series has a regular grid of time stamps of its own. Steps without a row, and empty cells, are
    unknown values. Rows may come in any order; the series keep that in which their ids first appear. Without
    the id column each file is one series.

    Args:
        path: a CSV file, plain or compressed (.gz, .zst), or a Parquet file, or a folder or glob of one kind
            of them; in Python also a polars or pandas DataFrame.
        id_column: column that names the series.
        time_column: column of time stamps: numbers, ISO dates, dates such as 20240131, timestamps with or
            without a time zone, or what time_format says.
        target_columns: columns that are predicted, one feature each.
        covariate_columns: columns that are known in the future as well and help to predict; rows after the
            last known target carry their future values.
        calendar_features: inputs made of the time stamps, also in the future, each as one input per month,
            weekday or hour.
        frequency: distance of two steps, where it cannot be found or is found wrongly: 1d, 1mo, 1h, 15m and
            so on, 1me for ends of months, 1bd for business days, or a number where the time stamps are
            numbers, not dates such as 20240131.
        time_format: how time stamps are written that are not ISO, in the notation of strftime, such as
            %d.%m.%Y or %Y-%m.
        time_zone: time zone of the calendar, such as Europe/Berlin: stamps with a zone or offset are
            converted to it, others are read in it.
        interpolate: fill gaps inside a series by straight lines; otherwise their values stay unknown.
        separator: character between two columns of a CSV file, "tab" for a tab. By default a comma, or a tab
            in files that are named .tsv.
        scratch_folder: a folder for files that hold the values instead of memory, for tables larger than
            memory.
    """

    def __init__(
        self,
        path: Table,
        id_column: str = "unique_id",
        time_column: str = "ds",
        target_columns: list[str] | str = ["y"],  # noqa: B006 - None would hide the default from --help
        covariate_columns: list[str] | str = [],  # noqa: B006
        calendar_features: list[CalendarFeature] | CalendarFeature = [],  # noqa: B006
        frequency: str | float | None = None,
        time_format: str | None = None,
        time_zone: str | None = None,
        interpolate: bool = False,
        separator: str | None = None,
        scratch_folder: str | None = None,
    ) -> None:
        self.path, self.id_column, self.time_column = path, id_column, time_column
        self.target_columns, self.covariate_columns = as_list(target_columns), as_list(covariate_columns)
        self.calendar_features, self.time_format, self.time_zone = (
            as_list(calendar_features),
            time_format,
            time_zone,
        )
        self.interpolate = interpolate
        self.separator = "\t" if separator in ("tab", r"\t") else separator
        self.scratch_folder = Path(scratch_folder) if scratch_folder is not None else None
        self.frequency = parse_frequency(frequency)
        self._require_options()
        self.num_features = len(self.target_columns)
        self.num_covariates = len(self.covariate_columns) + sum(
            CALENDAR[name] for name in self.calendar_features
        )

    def options(self) -> dict[str, Any]:
        """How the table is read: the arguments of this class but ``path``, in plain types."""
        columns = ("id_column", "time_column", "target_columns", "covariate_columns")
        others = ("calendar_features", "time_format", "time_zone", "interpolate")
        frequency = self.frequency.written if self.frequency is not None else None
        return {**{name: getattr(self, name) for name in (*columns, *others)}, "frequency": frequency}

    def load(self) -> SeriesData:
        """Read and check the table, each row onto the grid of its series.

        Raises:
            InputError: names the file and the column, row or id that cannot be used.
        """
        from rnn_lightning.tables.reading import TableReading

        return TableReading(self).data()

    def _require_options(self) -> None:
        if not self.target_columns:
            raise InputError("`target_columns` is empty: name at least one column to predict.")
        roles = [("id_column", self.id_column), ("time_column", self.time_column)]
        roles += [("target_columns", name) for name in self.target_columns]
        roles += [("covariate_columns", name) for name in self.covariate_columns]
        seen: dict[str, str] = {}
        for option, name in roles:
            if name in seen:
                raise InputError(f"`{option}` has {name!r}, which is in `{seen[name]}` already.")
            seen[name] = option
        for name, count in Counter(self.calendar_features).items():
            if name not in CALENDAR or count > 1:
                raise InputError(
                    f"`calendar_features` has {name!r}: give each of {', '.join(CALENDAR)} once."
                )
        if self.separator is not None and len(self.separator.encode()) != 1:
            raise InputError(f"`separator` must be one character, got {self.separator!r}.")


def as_list(names: Sequence[str] | str) -> list[str]:
    """The names of an option that may be a single one."""
    return [names] if isinstance(names, str) else list(names)


def parse_frequency(frequency: str | float | None) -> Interval | None:
    """The interval that a user gave: a number or a duration."""
    if frequency is None:
        return None
    try:
        number = float(frequency)
    except ValueError:
        text = str(frequency).strip()
        if re.fullmatch(r"(-\d+|-?0+)[a-z]+", text):
            raise InputError(f"`frequency` must be above 0, got {text}.") from None
        try:
            return Interval.parse(text)
        except ValueError:
            message = f"`frequency` {frequency!r} must be {FORMS}, or a number above 0."
            raise InputError(message) from None
    if not 0 < number < math.inf:
        rule = "above 0" if number < math.inf else "a finite number"
        raise InputError(f"`frequency` must be {rule}, got {frequency}.")
    return Interval(int(number) if number.is_integer() else number, "number")
