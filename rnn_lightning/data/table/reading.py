"""A table becomes series in two passes: the first collects facts of them, the second writes their values."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from rnn_lightning.data.series import SeriesData, TableFormat, count_unknown, counted
from rnn_lightning.data.storage import Buffer
from rnn_lightning.data.table.files import find_tables, require_columns
from rnn_lightning.data.table.grid import ROWS_AT_ONCE, Grid
from rnn_lightning.data.table.intervals import Facts
from rnn_lightning.data.table.rows import RowReader, Spool
from rnn_lightning.data.table.stamps import Axis, StampReader
from rnn_lightning.data.times import DAY, FORMS, TimeIndex, calendar_codes
from rnn_lightning.errors import InputError, quoted

if TYPE_CHECKING:
    from rnn_lightning.data.table.table import TableSeries


class TableReading:
    """One reading of a table.

    Args:
        options: what is asked for.
    """

    def __init__(self, options: "TableSeries") -> None:
        self.options, self.folder = options, options.scratch_folder
        self.targets = " or ".join(map(quoted, options.target_columns))
        numbers = [*options.target_columns, *options.covariate_columns]
        wanted = [options.id_column, options.time_column, *numbers]
        self.tables = find_tables(options.path, options.separator, wanted)
        id_column = self._require_columns()
        frequency = options.frequency
        number = frequency.size if frequency is not None and frequency.unit == "number" else None
        stamps = StampReader(options.time_column, options.time_format, options.time_zone, number)
        self.reader = RowReader(self.tables, id_column, numbers, stamps)

    def data(self) -> SeriesData:
        """The series of the table.

        Raises:
            InputError: names the file and the column, row or id that cannot be used.
        """
        with closing(Spool(self.folder)) as rows:
            return self._data(rows)

    def _data(self, rows: Spool) -> SeriesData:
        options, reader = self.options, self.reader
        grid, axis = self._grid(rows)
        buffers = self._buffers(int(grid.sizes.sum()))
        values, covariates, calendar = buffers
        kept = np.flatnonzero(grid.known)
        intervals = grid.interval.written(axis)
        times = TimeIndex(axis.stamps(grid.first[kept]), [intervals[series] for series in kept.tolist()])
        offsets = np.append(grid.offsets[kept], grid.sizes.sum())
        try:
            grid.fill(values, covariates)
            self._require_known_columns(values)
            filled = interpolate(values, offsets) if options.interpolate else 0
            fill_calendar(calendar, offsets, times, options.calendar_features)
        except BaseException:
            for buffer in buffers:
                buffer.discard()
            raise
        finished: list[Any] = [buffer.finish() for buffer in buffers]
        left_out = [grid.ids[series] for series in np.flatnonzero(~grid.known).tolist()]
        data = SeriesData(
            values=finished[0],
            offsets=torch.from_numpy(offsets),
            ids=[grid.ids[series] for series in kept.tolist()],
            features=options.target_columns,
            times=times,
            id_column=options.id_column if reader.id_column is not None or len(self.tables) > 1 else None,
            time_column=options.time_column,
            lengths=torch.from_numpy(grid.lengths[kept]),
            covariates=finished[1],
            covariate_names=options.covariate_columns,
            calendar=finished[2],
            calendar_names=options.calendar_features,
            left_out=dict.fromkeys(left_out, f"has no value of {self.targets}"),
            table_format=self._table_format(axis),
        )
        notes = [*reader.stamps.notes, *self._notes(grid, left_out), *self._value_notes(data, filled)]
        return replace(data, notes=notes)

    def _require_columns(self) -> str | None:
        """The column of ids, if there is one, after a check that each table has the columns in use."""
        options = self.options
        has_ids = options.id_column != "unique_id" or options.id_column in self.tables[0].columns()
        used = [("id_column", options.id_column)] if has_ids else []
        used += [("time_column", options.time_column)]
        used += [("target_columns", name) for name in options.target_columns]
        used += [("covariate_columns", name) for name in options.covariate_columns]
        require_columns(self.tables, used)
        return options.id_column if has_ids else None

    def _grid(self, rows: Spool) -> tuple[Grid, Axis]:
        """The first pass."""
        options, reader = self.options, self.reader
        facts, num_targets = Facts.of(0), len(options.target_columns)
        for some in reader:
            axis: Axis = reader.stamps.axis  # type: ignore[assignment]
            rows.add(some)
            facts = facts.add(some, axis, num_targets)
        self._require_frequency_fits(axis)
        ids = reader.ids()
        grid = Grid(
            rows, facts.resized(len(ids)), ids, axis, options.time_column, options.frequency, reader.place
        )
        if not grid.known.any():
            raise InputError(f"no row has a value of {self.targets}: give at least one.")
        if options.covariate_columns and not grid.known.all():
            name = quoted(ids[int(grid.known.argmin())])
            raise InputError(
                f"series {name} has covariates but no value of {self.targets}: give one or drop it."
            )
        return grid, axis

    def _require_frequency_fits(self, axis: Axis) -> None:
        """A frequency must be a number for numbers, and of days at least for dates."""
        if self.options.frequency is None:
            return
        size, unit = self.options.frequency
        given = f"--data.series.frequency {self.options.frequency.written}"
        column = f"column {quoted(self.options.time_column)} holds"
        if bool(axis.day) == (unit == "number"):
            kind = f"{axis.dtype}: give {FORMS}" if axis.day else "numbers: give a number"
            raise InputError(f"{given}: {column} {kind}.")
        if (unit == "ns" and size * axis.day % DAY) or (unit == "number" and not size * axis.scale >= 1):
            raise InputError(f"{given}: {column} {axis.dtype}, which is too coarse for it.")

    def _buffers(self, num_steps: int) -> tuple[Buffer, Buffer, Buffer]:
        """The arrays of all steps: values, covariates, calendar."""
        options = self.options
        widths = len(options.target_columns), len(options.covariate_columns), len(options.calendar_features)
        needed = num_steps * (4 * (widths[0] + widths[1]) + widths[2])
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if self.folder is None and needed > memory / 2:
            raise InputError(
                f"the {num_steps:,} steps take {needed / 2**30:.3g} GiB, more than half of the "
                f"{memory / 2**30:.3g} GiB of memory: keep them in files by --data.series.scratch_folder, "
                "or check the time stamps for a wrong one."
            )
        buffers: list[Buffer] = []
        try:
            for width, dtype in zip(widths, ("float32", "float32", "uint8"), strict=True):
                buffers.append(Buffer((num_steps, width), dtype, self.folder))
        except BaseException:
            for buffer in buffers:
                buffer.discard()
            raise
        return buffers[0], buffers[1], buffers[2]

    def _require_known_columns(self, values: Buffer) -> None:
        """Each target must have a value: a forecast of it would be made up."""
        unknown = [True] * values.shape[1]
        for first in range(0, len(values.array), ROWS_AT_ONCE):
            piece = values.array[first : first + ROWS_AT_ONCE]
            unknown = [gone and bool(np.isnan(piece[:, i]).all()) for i, gone in enumerate(unknown)]
            values.release()
        names = [
            quoted(name) for name, gone in zip(self.options.target_columns, unknown, strict=True) if gone
        ]
        if names:
            what = "column" if len(names) == 1 else "columns"
            raise InputError(
                f"{what} {', '.join(names)} {'has' if len(names) == 1 else 'have'} no value: leave out of "
                "--data.series.target_columns what is not known."
            )

    def _notes(self, grid: Grid, left_out: list[str]) -> list[str]:
        """What to say of rows."""
        notes = []
        if grid.num_gaps:
            one, many = (
                "step without a row counts as an unknown value.",
                "steps without a row count as unknown values.",
            )
            notes.append(counted(grid.num_gaps, one, many))
        if grid.num_snapped:
            stamps = counted(grid.num_snapped, "time stamp was", "time stamps were")
            notes.append(f"{stamps} moved onto the grid of --data.series.frequency.")
        notes += grid.long_gaps()
        if left_out:
            what, some = f"series without a value of {self.targets}", ", ".join(map(quoted, left_out[:5]))
            one, many = f"{what} is left out: {some}.", f"{what} are left out, such as {some}."
            notes.append(counted(len(left_out), one, many))
        return notes

    def _value_notes(self, data: SeriesData, filled: int) -> list[str]:
        """What to say of values that are not known."""
        notes = []
        for name, series in unknown_targets(data):
            what = f"series without a value of {quoted(name)}, such as {quoted(data.ids[series[0]])}"
            notes.append(f"{counted(len(series), what, what)}: its forecast there has no ground.")
        if data.covariates is not None:
            _, numbers = count_unknown(data.covariates, data.offsets, data.ends)
            for name, number in zip(data.covariate_names, numbers.tolist(), strict=True):
                of = f"of the covariate {quoted(name)}"
                one, many = (
                    f"unknown value {of} counts as its mean.",
                    f"unknown values {of} count as its mean.",
                )
                notes += [counted(number, one, many)] if number else []
        if self.options.interpolate:
            one, many = (
                "unknown value inside series was filled by a straight line.",
                "unknown values inside series were filled by straight lines.",
            )
            notes.append(counted(filled, one, many))
        return notes

    def _table_format(self, axis: Axis) -> TableFormat:
        """The types of the columns in use, in the order of the table, as a forecast has them."""
        options, given, first = self.options, self.reader.dtypes, self.tables[0]
        types: dict[str, Any] = {
            name: pl.Float32 if given[name] == pl.Float32 else pl.Float64 for name in options.target_columns
        }
        raw = given[options.time_column]
        same = raw == pl.String or (raw.is_integer() and axis.dtype == pl.Int64) or raw.is_float()
        types[options.time_column] = raw if first.separator is None and same else axis.dtype
        if options.id_column in given:
            types[options.id_column] = given[options.id_column]
        return TableFormat(
            column_types={name: types[name] for name in first.columns() if name in types},
            time_format=self.reader.stamps.written,
            separator=first.separator or ",",
        )


def pieces(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Whole series, about a million rows at a time: the first one and the one after the last."""
    first = 0
    while first < len(offsets) - 1:
        end = max(first + 1, int(np.searchsorted(offsets, offsets[first] + ROWS_AT_ONCE, side="right")) - 1)
        yield first, end
        first = end


def interpolate(values: Buffer, offsets: np.ndarray) -> int:
    """Put straight lines into the gaps inside series, feature by feature; how many values were filled."""
    filled = 0
    for first, end in pieces(offsets):
        rows = values.array[offsets[first] : offsets[end]]
        series = pl.Series("series", np.repeat(np.arange(end - first), np.diff(offsets[first : end + 1])))
        for column in rows.T:
            frame = pl.DataFrame({"series": series, "value": np.ascontiguousarray(column)})
            known = pl.col("value").fill_nan(None)
            lines = (
                frame.select(known.interpolate().over("series").fill_null(float("nan")))
                .to_series()
                .to_numpy()
            )
            filled += int((np.isnan(column) & ~np.isnan(lines)).sum())
            column[:] = lines
        values.release()
    return filled


def fill_calendar(calendar: Buffer, offsets: np.ndarray, times: TimeIndex, names: list[Any]) -> None:
    """Write the calendar features of all steps."""
    if not names:
        return
    for first in range(0, len(calendar.array), ROWS_AT_ONCE):
        rows = np.arange(first, min(first + ROWS_AT_ONCE, len(calendar.array)))
        series = np.searchsorted(offsets, rows, side="right") - 1
        calendar.array[rows] = calendar_codes(times.stamps_at(series, rows - offsets[series]), names)
        calendar.release()


def unknown_targets(data: SeriesData) -> Iterator[tuple[str, list[int]]]:
    """Targets that some series have no value of, and these series; each series has one of another target."""
    if len(data.features) == 1:
        return
    known = np.zeros((data.num_series, len(data.features)), bool)
    offsets = data.offsets.numpy()
    for first, end in pieces(offsets):
        found = ~data.values[int(offsets[first]) : int(offsets[end])].isnan().numpy()
        known[first:end] = np.logical_or.reduceat(found, offsets[first:end] - offsets[first])
    for column, name in enumerate(data.features):
        if not known[:, column].all():
            yield name, np.flatnonzero(~known[:, column]).tolist()
