"""Read a table in two passes: one collects statistics of its rows, the other writes their values."""

import re
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from rnn_lightning.errors import InputError, counted, quoted
from rnn_lightning.tables.files import Table, find_tables, require_columns
from rnn_lightning.tables.fill_values import notes_on_fill_values
from rnn_lightning.tables.frequency import DAY, FORMS
from rnn_lightning.tables.grid import CHUNK_ROWS, Grid
from rnn_lightning.tables.number_text import find_decimal, plain_numbers
from rnn_lightning.tables.open_phases import describe_open_phases
from rnn_lightning.tables.options import NUM_HOLIDAY_INPUTS, TableOptions
from rnn_lightning.tables.rows import RowReader, Spool
from rnn_lightning.tables.stamp_statistics import StampStatistics
from rnn_lightning.tables.static_columns import read_static
from rnn_lightning.tables.storage import Buffer, require_memory
from rnn_lightning.tables.table_data import TableData, TableFormat, count_unknown, step_codes
from rnn_lightning.tables.time_columns import with_time_column

ROW_NUMBERS = re.compile(r"$|Unnamed: \d+$|__index_level_\d+__$|index$")
"""The names under which pandas writes the numbers of rows."""


class TableReading:
    """One reading of a table.

    Args:
        path: a file, a folder, a glob or a frame.
        options: how it is read.
    """

    def __init__(self, path: Any, options: TableOptions) -> None:
        folder = options.scratch_folder
        self.folder = None if folder is None else Path(folder)
        share = options.share
        self.tables = find_tables(path, options.separator, [name for _, name in options.columns()], share)
        self.tables, self.found = with_time_column(self.tables, options)
        self.options = options
        if names := find_columns(self.tables[0], options):
            time, value = names
            self.options = options = replace(options, time_column=time, target_columns=[value])
            self.found.append(f"The time stamps are in {quoted(time)} and the values in {quoted(value)}.")
            wanted = [name for _, name in options.columns()]
            self.tables = find_tables(path, options.separator, wanted, share)
            self.tables, _ = with_time_column(self.tables, options)
        self.targets = " or ".join(map(quoted, options.target_columns))
        columns = options.columns()
        self.has_ids = options.id_column != "unique_id" or options.id_column in self.tables[0].columns()
        require_columns(self.tables, columns if self.has_ids else columns[1:])
        self.has_many_files = len(self.tables) > 1 or share[1] > 1
        self.reader = RowReader(self.tables, options, self.has_ids)

    def data(self) -> TableData:
        """Return the series of the table.

        Raises:
            InputError: names the file and the column, row or id that cannot be used.
        """
        options, notes = self.options, self.reader.stamps.notes
        notes += self.found
        notes += [note for table in self.tables[:3] if table.head for note in table.head.notes]
        notes += self._unused_notes()
        with closing(Spool(self.folder)) as rows, ExitStack() as undo:
            grid = self._grid(rows)
            notes += self._target_notes(grid)
            buffers = values, covariates, past, calendar, occupied = self._buffers(
                int(grid.sizes.sum()), undo
            )
            grid.fill(values, covariates, past, occupied)
            occupied.discard()
            notes += self._row_notes(grid)
            if options.interpolate:
                filled = counted(interpolate(values, grid.bounds), "unknown value")
                notes.append(f"Filled {filled} inside series by straight lines.")
            fill_calendar(calendar, grid, options)
            undo.pop_all()
        arrays: list[Any] = [buffer.finish() for buffer in buffers[:4]]
        data = TableData(
            values=arrays[0],
            offsets=torch.from_numpy(grid.bounds),
            ids=[grid.ids[series] for series in grid.kept.tolist()],
            features=options.target_columns,
            times=grid.times,
            id_column=options.id_column if self.has_ids or self.has_many_files else None,
            time_column=options.time_column,
            lengths=torch.from_numpy(grid.lengths[grid.kept]),
            covariates=arrays[1],
            covariate_names=options.covariate_columns,
            past=arrays[2],
            past_names=options.past_covariate_columns,
            static=self._static(grid, notes),
            static_names=options.static_columns,
            calendar=arrays[3],
            calendar_names=options.calendar_features,
            holidays=options.holidays,
            notes=notes,
            left_out=dict.fromkeys(grid.left_out, f"has no value of {self.targets}"),
            table_format=self._table_format(),
        )
        notes += self._covariate_notes(data)
        notes += notes_on_fill_values(data.values, data.features)
        return data

    def _unused_notes(self) -> list[str]:
        """Return a remark on columns that no option names, but for the numbers of rows that pandas writes."""
        used = {name for _, name in self.options.columns()}
        unused = [
            name for name in self.tables[0].columns() if name not in used and not ROW_NUMBERS.match(name)
        ]
        if not unused:
            return []
        names = ", ".join(map(quoted, unused[:5])) + ", ..." * (len(unused) > 5)
        columns = f"column{'s' * (len(unused) > 1)} {names}"
        return [f"Left {columns} unused: to use one as an input, name it in `covariate_columns`."]

    def _covariate_notes(self, data: TableData) -> list[str]:
        """Return remarks on unknown values of covariates."""
        notes = []
        for kind, values, names in (
            ("covariate", data.covariates, data.covariate_names),
            ("past covariate", data.past, data.past_names),
        ):
            unknown = (
                [0] * len(names) if values is None else count_unknown(values, data.offsets, data.ends)[1]
            )
            notes += [
                f"Replaced {counted(int(number), 'unknown value')} of the {kind} {quoted(name)} by its mean."
                for name, number in zip(names, unknown, strict=True)
                if number
            ]
        return notes

    def _grid(self, rows: Spool) -> Grid:
        """Make the first pass."""
        options, reader, statistics = self.options, self.reader, None
        for chunk in reader:
            rows.add(chunk)
            if statistics is None:
                statistics = StampStatistics(0, len(options.target_columns), reader.stamps.axis)
            statistics.add(chunk)
        assert statistics is not None  # a table without rows is refused
        self._require_frequency_fits()
        statistics.resize(len(reader.ids()))
        grid = Grid(rows, statistics, reader, options)
        if len(grid.kept) == 0:
            raise InputError(f"no row has a value of {self.targets}: give at least one.")
        if options.covariate_columns and grid.left_out:
            name = quoted(grid.left_out[0])
            raise InputError(
                f"series {name} has covariates but no value of {self.targets}: give one or drop it."
            )
        grid.require_dense()
        return grid

    def _require_frequency_fits(self) -> None:
        """Refuse a duration for numbers, a number for dates, and steps finer than the stamps."""
        if (frequency := self.options.parsed_frequency) is None:
            return
        axis, (size, unit) = self.reader.stamps.axis, frequency
        day = axis.ticks_per_day
        column = f"`frequency` {frequency.written}: column {quoted(self.options.time_column)} holds"
        if bool(day) == (unit == "number"):
            kind = f"{axis.dtype}: give {FORMS}" if day else "numbers: give a number"
            raise InputError(f"{column} {kind}.")
        if (unit == "ns" and size * day % DAY) or (unit == "number" and not size * axis.scale >= 1):
            raise InputError(f"{column} {axis.dtype}, which is too coarse for it.")

    def _buffers(self, num_steps: int, undo: ExitStack) -> list[Buffer]:
        """Return the arrays of all steps: values, covariates, those of the past, calendar, and rows."""
        options = self.options
        num_calendar = len(options.calendar_features) + NUM_HOLIDAY_INPUTS * (options.holidays is not None)
        widths = [len(options.target_columns), len(options.covariate_columns)]
        widths += [len(options.past_covariate_columns), num_calendar]
        if self.folder is None:
            num_bytes = num_steps * (4 * sum(widths[:3]) + widths[3] + 1)
            require_memory(num_bytes, f"the {num_steps:,} steps")
        buffers = []
        for width, dtype in zip([*widths, 1], [*["float32"] * 3, "uint8", "uint8"], strict=True):
            buffers.append(Buffer((num_steps, width), dtype, self.folder))
            undo.callback(buffers[-1].discard)
        return buffers

    def _static(self, grid: Grid, notes: list[str]) -> torch.Tensor | None:
        """Return the inputs of the static columns, ``(series, input)``, and add notes on them."""
        if not self.options.static_columns:
            return None
        id_column = self.options.id_column if self.has_ids else None
        ids = [grid.ids[series] for series in grid.kept.tolist()]
        static, new = read_static(self.tables, self.options, id_column, ids)
        notes += new
        return torch.from_numpy(static)

    def _row_notes(self, grid: Grid) -> list[str]:
        """Return remarks on steps without a row and on series that are left out."""
        notes = []
        if grid.num_gaps:
            notes.append(f"Treated {counted(grid.num_gaps, 'step')} without a row as unknown.")
        if grid.num_snapped:
            notes.append(f"Moved {counted(grid.num_snapped, 'time stamp')} onto the grid of `frequency`.")
        notes += grid.long_gaps()
        if grid.open_phases is not None:
            minutes = grid.axis.local(grid.first) % grid.axis.ticks_per_day * 1440 // grid.axis.ticks_per_day
            notes += describe_open_phases(grid.open_phases, grid.ids, minutes)
        if grid.left_out:
            some = ", ".join(map(quoted, grid.left_out[:5])) + (", ..." if len(grid.left_out) > 5 else "")
            notes.append(f"Left out {len(grid.left_out):,} series without a value of {self.targets}: {some}.")
        return notes

    def _target_notes(self, grid: Grid) -> list[str]:
        """Return remarks on series that lack one of several targets.

        Raises:
            InputError: if all series lack it.
        """
        notes = []
        for target, name in enumerate(map(quoted, self.options.target_columns)):
            lacking = grid.kept[~grid.statistics.has_target[grid.kept, target]]
            if len(lacking) == len(grid.kept):
                raise InputError(f"column {name} has no value: leave it out of `target_columns`.")
            if len(lacking):
                some = f"{len(lacking):,} series, such as {quoted(grid.ids[lacking[0]])}"
                notes.append(f"{name} has no value in {some}: their forecasts of it are arbitrary.")
        return notes

    def _table_format(self) -> TableFormat:
        """Return the types of the columns in use, in the order of the table, as a forecast has them."""
        options, given, first, stamps = self.options, self.reader.dtypes, self.tables[0], self.reader.stamps
        types: dict[str, Any] = {
            name: pl.Float32 if given[name] == pl.Float32 else pl.Float64 for name in options.target_columns
        }
        raw, dtype = given[options.time_column], stamps.axis.dtype
        is_same = raw == pl.String or (raw.is_integer() and dtype == pl.Int64)
        is_same |= raw.is_float() and dtype == pl.Float64
        types[options.time_column] = raw if first.separator is None and is_same else dtype
        if options.id_column in given:
            types[options.id_column] = given[options.id_column]
        ordered = {name: types[name] for name in first.columns() if name in types}
        commas = any(self.reader.has_decimal_comma(name) for name in options.target_columns)
        return TableFormat(ordered, stamps.written, first.separator or ",", commas)


MIN_RISING = 8
"""Rows of a table of two columns of numbers from which the one that rises is the time."""


def find_columns(table: Table, options: TableOptions) -> tuple[str, str] | None:
    """Return the columns of stamps and values of a table with two columns, whatever their names.

    One holds numbers, which do not rise from row to row if both do. Whether the other one holds stamps is
    seen when it is read. None if the table has the columns of the options, or others are named. A header that
    looks like a row of data is refused.
    """
    names = [name for name in table.columns() if name != options.id_column]
    is_default = (
        options.time_column == "ds" and options.target_columns == ["y"] and not options.covariate_columns
    )
    if not is_default or len(names) != 2 or {"ds", "y"} <= set(names):
        return None
    head = table.first_rows(names, 100).fill_nan(None).drop_nulls()
    columns = [_numbers(head[name]) for name in names]
    are_values = [column is not None for column in columns]
    if all(are_values) and head.height >= MIN_RISING:
        are_values = [column is not None and not _rises(column) for column in columns]
    if sum(are_values) != 1:
        return None
    time, value = names[are_values.index(False)], names[are_values.index(True)]
    if re.match(r"\d", time) and _numbers(pl.Series([value])) is not None:
        raise InputError(
            f"{table.name} has no header: write `ds` and `y` above its first row, {time}, {value}."
        )
    return time, value


def _rises(numbers: pl.Series) -> bool:
    """Return True if all numbers are known and rise from row to row."""
    return not numbers.has_nulls() and bool((numbers.diff()[1:] > 0).all())


def _numbers(cells: pl.Series) -> pl.Series | None:
    """Return cells as numbers, whatever their decimal sign, or None if they are none."""
    if cells.dtype != pl.String:
        return cells if cells.dtype.is_numeric() and len(cells) > 0 else None
    text = cells.str.strip_chars()
    numbers = plain_numbers(text, find_decimal(text, None) or ".").cast(pl.Float64, strict=False)
    return numbers if len(text) > 0 and not numbers.has_nulls() else None


def interpolate(values: Buffer, bounds: np.ndarray) -> int:
    """Fill the gaps inside series by straight lines, feature by feature, and return how many values."""
    num_filled = first = 0
    while first < len(bounds) - 1:  # whole series, about a million rows at a time
        end = max(first + 1, int(np.searchsorted(bounds, bounds[first] + CHUNK_ROWS, side="right")) - 1)
        rows = values.array[bounds[first] : bounds[end]]  # (row, feature)
        series = np.repeat(np.arange(end - first), np.diff(bounds[first : end + 1]))
        for column in rows.T:
            frame = pl.DataFrame({"series": series, "value": np.ascontiguousarray(column)})
            lines = pl.col("value").fill_nan(None).interpolate().over("series").fill_null(float("nan"))
            filled = frame.select(lines)["value"].to_numpy()
            num_filled += int((np.isnan(column) & ~np.isnan(filled)).sum())
            column[:] = filled
        values.release()
        first = end
    return num_filled


def fill_calendar(calendar: Buffer, grid: Grid, options: TableOptions) -> None:
    """Write the calendar features of all steps."""
    for first in range(0, len(calendar.array) if calendar.shape[1] else 0, CHUNK_ROWS):
        rows = np.arange(first, min(first + CHUNK_ROWS, len(calendar.array)))
        series = np.searchsorted(grid.bounds, rows, side="right") - 1
        steps = rows - grid.bounds[series]
        calendar.array[rows] = step_codes(
            grid.times, series, steps, options.calendar_features, options.holidays
        )
        calendar.release()
