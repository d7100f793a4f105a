"""A table becomes series in two passes: the first collects facts of them, the second writes their values."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from rnn_lightning.data.series import SeriesData, TableFormat, count_unknown, counted
from rnn_lightning.errors import InputError, quoted
from rnn_lightning.tables.axis import Axis
from rnn_lightning.tables.calendar import DAY, FORMS, TimeIndex, calendar_codes
from rnn_lightning.tables.files import find_tables, require_columns
from rnn_lightning.tables.frequency import Facts
from rnn_lightning.tables.grid import ROWS_AT_ONCE, Grid
from rnn_lightning.tables.rows import RowReader, Spool
from rnn_lightning.tables.stamps import StampReader
from rnn_lightning.tables.storage import Buffer, require_memory

if TYPE_CHECKING:
    from rnn_lightning.tables.table import TableSeries


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
        with closing(Spool(self.folder)) as rows, ExitStack() as undo:
            grid = self._grid(rows)
            values, covariates, calendar = buffers = self._buffers(int(grid.sizes.sum()), undo)
            grid.fill(values, covariates)
            notes = [*self.reader.stamps.notes, *self._row_notes(grid)]
            notes += self._target_notes(values, grid)
            if self.options.interpolate:
                filled, inside = interpolate(values, grid.bounds), "inside series"
                one, many = (f"unknown {rest}" for rest in (f"value {inside} was", f"values {inside} were"))
                lines = "a straight line" if filled == 1 else "straight lines"
                notes.append(f"{counted(filled, one, many)} filled by {lines}.")
            fill_calendar(calendar, grid.bounds, grid.times, self.options.calendar_features)
            undo.pop_all()
        finished: list[Any] = [buffer.finish() for buffer in buffers]
        return self._data(grid, finished, notes)

    def _data(self, grid: Grid, arrays: Sequence[Any], notes: list[str]) -> SeriesData:
        options, has_ids = self.options, self.reader.id_column is not None
        data = SeriesData(
            values=arrays[0],
            offsets=torch.from_numpy(grid.bounds),
            ids=[grid.ids[series] for series in grid.kept.tolist()],
            features=options.target_columns,
            times=grid.times,
            id_column=options.id_column if has_ids or len(self.tables) > 1 else None,
            time_column=options.time_column,
            lengths=torch.from_numpy(grid.lengths[grid.kept]),
            covariates=arrays[1],
            covariate_names=options.covariate_columns,
            calendar=arrays[2],
            calendar_names=options.calendar_features,
            left_out=dict.fromkeys(grid.left_out, f"has no value of {self.targets}"),
            table_format=self._table_format(grid.axis),
        )
        return replace(data, notes=[*notes, *self._covariate_notes(data)])

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

    def _grid(self, rows: Spool) -> Grid:
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
        if len(grid.kept) == 0:
            raise InputError(f"no row has a value of {self.targets}: give at least one.")
        if options.covariate_columns and grid.left_out:
            name = quoted(grid.left_out[0])
            raise InputError(
                f"series {name} has covariates but no value of {self.targets}: give one or drop it."
            )
        grid.require_dense()
        return grid

    def _require_frequency_fits(self, axis: Axis) -> None:
        """A frequency must be a number for numbers, and of days at least for dates."""
        if self.options.frequency is None:
            return
        size, unit = self.options.frequency
        given = f"`frequency` {self.options.frequency.written}"
        column = f"column {quoted(self.options.time_column)} holds"
        if bool(axis.day) == (unit == "number"):
            kind = f"{axis.dtype}: give {FORMS}" if axis.day else "numbers: give a number"
            raise InputError(f"{given}: {column} {kind}.")
        if (unit == "ns" and size * axis.day % DAY) or (unit == "number" and not size * axis.scale >= 1):
            raise InputError(f"{given}: {column} {axis.dtype}, which is too coarse for it.")

    def _buffers(self, num_steps: int, undo: ExitStack) -> tuple[Buffer, Buffer, Buffer]:
        """The arrays of all steps: values, covariates, calendar."""
        options = self.options
        widths = len(options.target_columns), len(options.covariate_columns), len(options.calendar_features)
        if self.folder is None:
            require_memory(num_steps * (4 * (widths[0] + widths[1]) + widths[2]), f"the {num_steps:,} steps")
        buffers = []
        for width, dtype in zip(widths, ("float32", "float32", "uint8"), strict=True):
            buffers.append(Buffer((num_steps, width), dtype, self.folder))
            undo.callback(buffers[-1].discard)
        return buffers[0], buffers[1], buffers[2]

    def _target_notes(self, values: Buffer, grid: Grid) -> list[str]:
        """What to say of series without a value of one of several targets: a forecast of it would be made up.

        Raises:
            InputError: if no series has one.
        """
        known = np.zeros((len(grid.kept), values.shape[1]), bool)
        for first, end in pieces(grid.bounds):
            bounds = grid.bounds[first : end + 1]
            found = ~np.isnan(values.array[bounds[0] : bounds[-1]])
            known[first:end] = np.logical_or.reduceat(found, bounds[:-1] - bounds[0])
            values.release()
        notes = []
        for column, name in zip(known.T, self.options.target_columns, strict=True):
            name = quoted(name)
            if not column.any():
                raise InputError(f"column {name} has no value: leave it out of `target_columns`.")
            if not column.all():
                some = quoted(grid.ids[grid.kept[column.argmin()]])
                what = f"series without a value of {name}, such as {some}"
                notes.append(
                    f"{counted(int((~column).sum()), what, what)}: its forecast there has no ground."
                )
        return notes

    def _row_notes(self, grid: Grid) -> list[str]:
        """What to say of rows."""
        notes = []
        if grid.num_gaps:
            counts = "counts as an unknown value" if grid.num_gaps == 1 else "count as unknown values"
            notes.append(f"{counted(grid.num_gaps, 'step')} without a row {counts}.")
        if grid.num_snapped:
            stamps = counted(grid.num_snapped, "time stamp was", "time stamps were")
            notes.append(f"{stamps} moved onto the grid of `frequency`.")
        notes += grid.long_gaps()
        if grid.left_out:
            what, some = (
                f"series without a value of {self.targets}",
                ", ".join(map(quoted, grid.left_out[:5])),
            )
            one, many = f"{what} is left out: {some}.", f"{what} are left out, such as {some}."
            notes.append(counted(len(grid.left_out), one, many))
        return notes

    def _covariate_notes(self, data: SeriesData) -> list[str]:
        """How many covariates of the known steps are unknown."""
        if data.covariates is None:
            return []
        _, numbers = count_unknown(data.covariates, data.offsets, data.ends)
        notes = []
        for name, number in zip(data.covariate_names, numbers.tolist(), strict=True):
            of = f"of the covariate {quoted(name)}"
            one, many = f"unknown value {of} counts as its mean.", f"unknown values {of} count as its mean."
            notes += [counted(number, one, many)] if number else []
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
            lines = frame.select(known.interpolate().over("series").fill_null(float("nan")))[
                "value"
            ].to_numpy()
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
