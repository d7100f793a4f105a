"""Series from tables: CSV and Parquet files, polars and pandas frames."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rnn_lightning.data.series import Series, SeriesData, TableFormat, count_unknown, counted
from rnn_lightning.data.table.build import Built, SeriesBuilder
from rnn_lightning.data.table.files import Source, TextFile, file_ids, find_sources
from rnn_lightning.data.table.frames import PIECE_ROWS
from rnn_lightning.data.table.growing import GrowingSeries
from rnn_lightning.data.table.interpolate import interpolate
from rnn_lightning.data.table.rows import Columns, RowReader, Rows
from rnn_lightning.data.table.rules import GridRules, parse_frequency
from rnn_lightning.data.table.stamps import MoreRowsNeeded, StampReader
from rnn_lightning.data.table.times import CALENDAR
from rnn_lightning.errors import InputError

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
    unknown values. Rows may come in any order; those of large files should be sorted by id and time. The
    series keep the order in which their ids first appear. Without the id column each file is one series.

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
        target_columns: list[str] | str = ["y"],  # noqa: B006 - read only; None would hide the default from --help
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

    def load(self) -> SeriesData:
        """Read, check and order the table.

        Raises:
            InputError: names the file and the column, row or id that cannot be used.
        """
        wanted = [self.id_column, self.time_column, *self.target_columns, *self.covariate_columns]
        sources = find_sources(self.path, self.separator, wanted)
        columns = self._find_columns(sources)
        try:
            built, reader = self._build(sources, columns, whole=False)
        except MoreRowsNeeded as reason:
            if self.scratch_folder is not None:
                raise InputError(
                    f"{sources[0].name}: {reason}: with --data.series.scratch_folder a table must be sorted by "
                    f"{self.id_column!r} and {self.time_column!r}, and a series of more rows than are read at once must "
                    "show its interval in the first ones; sort it, or set --data.series.frequency."
                ) from reason
            built, reader = self._build(sources, columns, whole=True)
        return self._data(built, reader, sources)

    def _require_options(self) -> None:
        if not self.target_columns:
            raise InputError("--data.series.target_columns is empty: name at least one column to predict.")
        roles = [("id_column", self.id_column), ("time_column", self.time_column)]
        roles += [("target_columns", name) for name in self.target_columns]
        roles += [("covariate_columns", name) for name in self.covariate_columns]
        seen: dict[str, str] = {}
        for option, name in roles:
            if name in seen:
                raise InputError(
                    f"--data.series.{option} has {name!r}, which is in --data.series.{seen[name]} already."
                )
            seen[name] = option
        for name, count in Counter(self.calendar_features).items():
            if name not in CALENDAR or count > 1:
                raise InputError(
                    f"--data.series.calendar_features has {name!r}: give each of {', '.join(CALENDAR)} once."
                )
        if self.separator is not None and len(self.separator.encode()) != 1:
            raise InputError(f"--data.series.separator must be one character, got {self.separator!r}.")

    def _find_columns(self, sources: Sequence[Source]) -> Columns:
        """The columns in use, after a check that each file has them."""
        has_ids = None
        for source in sources:
            names = source.columns()
            if has_ids is None:
                has_ids = self.id_column in names or self.id_column != "unique_id"
            options = [("id_column", self.id_column)] if has_ids else []
            options += [("time_column", self.time_column)]
            options += [("target_columns", name) for name in self.target_columns]
            options += [("covariate_columns", name) for name in self.covariate_columns]
            for option, name in options:
                if name not in names:
                    advice = f"name the right one by --data.series.{option}"
                    if len(names) == 1:
                        advice = "is it separated by something else? set --data.series.separator"
                    raise InputError(
                        f"{source.name} has no column {name!r}: it has {', '.join(names)}; {advice}."
                    )
                if names.count(name) > 1:
                    raise InputError(f"{source.name} has {names.count(name)} columns {name!r}: rename one.")
        ids = self.id_column if has_ids else None
        return Columns(ids, self.time_column, self.target_columns, self.covariate_columns)

    def _build(self, sources: Sequence[Source], columns: Columns, whole: bool) -> tuple[Built, RowReader]:
        """The series: from sorted rows piece by piece, or as a ``whole`` from all rows, which are sorted first."""
        compact = self.time_format is None and (self.frequency is None or self.frequency.unit != "number")
        stamps = StampReader(self.time_column, self.time_format, self.time_zone, whole, compact)
        reader = RowReader(columns, stamps, [source.name for source in sources], file_ids(sources))
        counts = [source.num_rows() for source in sources]
        expected = sum(count or 0 for count in counts)
        rules = GridRules(
            time_column=self.time_column,
            targets=" or ".join(repr(name) for name in self.target_columns),
            num_targets=self.num_features,
            has_calendar=bool(self.calendar_features),
            frequency=self.frequency,
            time_zone=self.time_zone,
            place=reader.place,
        )
        storage = GrowingSeries(
            self.num_features,
            len(self.covariate_columns),
            self.calendar_features,
            expected,
            self.scratch_folder,
        )
        builder = SeriesBuilder(rules, storage, whole)
        try:
            for rows in self._sorted_rows(sources, reader) if whole else self._rows(sources, reader):
                rules.require_frequency_fits(rows.stamps.dtype)
                builder.add(rows)
            reader.require_precision()
            return builder.finish(), reader
        except BaseException:
            storage.discard()
            raise

    def _rows(self, sources: Sequence[Source], reader: RowReader) -> Iterator[Rows]:
        for number, source in enumerate(sources):
            empty = True
            for piece in source.pieces(reader.columns.names, number):
                rows = reader.read(piece)
                if rows is not None:
                    empty = False
                    yield rows
            if empty:
                raise InputError(f"--data.series.path {source.name}: has a header but no rows.")

    def _sorted_rows(self, sources: Sequence[Source], reader: RowReader) -> Iterator[Rows]:
        """The series in the order in which they first appear, each in the order of time, after all rows are read."""
        rows = Rows.join(list(self._rows(sources, reader)))
        rows = replace(rows, stamps=reader.stamps.settle(rows.stamps)).in_zone(self.time_zone, reader.place)
        order = rows.order()
        if (order[1:] < order[:-1]).any():
            reader.notes.append(
                f"The rows were not in the order of {self.id_column!r} and {self.time_column!r}: sorted."
            )
        for first in range(0, len(order), PIECE_ROWS):
            yield rows.take(order[first : first + PIECE_ROWS])

    def _data(self, built: Built, reader: RowReader, sources: Sequence[Source]) -> SeriesData:
        notes = [*reader.stamps.notes, *reader.notes, *built.notes, *self._covariate_notes(built)]
        if self.interpolate:
            filled = interpolate(built.values, built.offsets.numpy(), built.lengths.numpy())
            one, many = (
                "value inside series was filled by a straight line",
                "values inside series were filled by straight lines",
            )
            notes.append(f"{counted(filled, f'unknown {one}', f'unknown {many}')}.")
        single = reader.columns.id is None and len(sources) == 1
        return SeriesData(
            values=built.values,  # type: ignore[arg-type]
            offsets=built.offsets,
            ids=built.ids,
            features=self.target_columns,
            times=built.times,
            id_column=None if single else self.id_column,
            time_column=self.time_column,
            lengths=built.lengths,
            covariates=built.covariates,  # type: ignore[arg-type]
            covariate_names=self.covariate_columns,
            calendar=built.calendar,  # type: ignore[arg-type]
            calendar_names=self.calendar_features,
            notes=notes,
            left_out=built.left_out,
            table_format=TableFormat(
                column_types=self._column_types(built, reader, sources[0]),
                time_format=reader.stamps.written,
                separator=sources[0].separator if isinstance(sources[0], TextFile) else ",",
            ),
        )

    def _covariate_notes(self, built: Built) -> list[str]:
        """How many covariates of the known steps are unknown."""
        if built.covariates is None:
            return []
        _, numbers = count_unknown(built.covariates, built.offsets, built.offsets[:-1] + built.lengths)
        notes = []
        for name, number in zip(self.covariate_columns, numbers.tolist(), strict=True):
            what = f"of the covariate {name!r}"
            one, many = (
                f"unknown value {what} counts as its mean.",
                f"unknown values {what} count as its mean.",
            )
            notes += [counted(number, one, many)] if number else []
        return notes

    def _column_types(self, built: Built, reader: RowReader, source: Source) -> dict[str, Any]:
        """The types of the columns in use, in the order of the table: those of a forecast, which may be appended to it."""
        import polars as pl

        given = reader.dtypes
        types = {
            name: pl.Float32 if given[name] == pl.Float32 else pl.Float64 for name in self.target_columns
        }
        types[self.time_column] = stamps = reader.stamps.dtype
        whole = all(isinstance(interval, int) for interval in built.times.intervals)
        if not isinstance(source, TextFile):
            raw = given[self.time_column]
            if (
                raw == pl.String
                or (raw.is_integer() and stamps == pl.Int64 and whole)
                or (raw.is_float() and stamps.is_float())
            ):
                types[self.time_column] = raw
        if self.id_column in given:
            types[self.id_column] = given[self.id_column]
        return {name: types[name] for name in source.columns() if name in types}


def as_list(names: Sequence[str] | str) -> list[str]:
    """The names of an option that may be a single one."""
    return [names] if isinstance(names, str) else list(names)
