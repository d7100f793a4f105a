"""The forecast file: one table, in the order of the series, of the forecasts that all devices made."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lightning.errors import InputError
from rnn_lightning.files import atomic_file
from rnn_lightning.tables.forecast_options import ForecastColumns
from rnn_lightning.tables.table_data import TableData

if TYPE_CHECKING:
    import polars as pl

CHUNK_ROWS = 2**18
"""Number of table rows that are in memory at a time."""


class ForecastTable:
    """Forecasts in the order of the series, read in chunks from the files that the devices wrote.

    Args:
        paths: one file for each device, in the order of the devices. Series ``i`` is row ``i // n`` of file
            ``i % n``.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        _require_shared_disk(paths)
        self.shares = [np.lib.format.open_memmap(path, "r") for path in paths]
        self.num_series, self.horizon = sum(len(share) for share in self.shares), self.shares[0].shape[1]

    def chunks(self, rows_per_series: int | None = None) -> Iterator[range]:
        """Yield ranges of series with at most ``CHUNK_ROWS`` rows, by default of their forecasts."""
        size = max(1, CHUNK_ROWS // (rows_per_series or self.horizon))
        for first in range(0, self.num_series, size):
            yield range(first, min(first + size, self.num_series))

    def rows(self, series: range) -> np.ndarray:
        """Return the forecasts of consecutive series, ``(series, horizon, feature, column)``."""
        num_shares = len(self.shares)
        rows = np.empty((len(series), *self.shares[0].shape[1:]), np.float32)
        for number, share in enumerate(self.shares):
            skipped = (number - series.start) % num_shares  # rows before the first one of this device
            target = rows[skipped::num_shares]
            begin = (series.start + skipped) // num_shares
            target[:] = share[begin : begin + len(target)]
        return rows


def _require_shared_disk(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise InputError(
                f"{path} is missing: predict on several machines needs a run folder on a shared disk."
            )


def make_table(
    data: TableData,
    series: Sequence[int],
    values: np.ndarray,
    columns: ForecastColumns,
    first_steps: Sequence[int] | None = None,
) -> "pl.DataFrame":
    """Return a table with the columns of the input, and after each feature the others that belong to it.

    It has no rows at steps at which a series never has values, such as Sundays.

    Args:
        data: the known series.
        series: the indices of the series in the table.
        values: ``(series, step, feature, column)``.
        columns: the last axis of ``values``.
        first_steps: the first step of each series; by default the one after its last known step.
    """
    import polars as pl

    from rnn_lightning.tables.calendar import stamp_series, steps_that_exist

    chosen, num_steps = np.asarray(series, dtype=np.int64), values.shape[1]
    first_steps = data.lengths[chosen].tolist() if first_steps is None else first_steps
    parts = {}
    if data.id_column is not None:
        ids = pl.Series(data.id_column, [data.ids[index] for index in chosen.tolist()], dtype=pl.String)
        parts[data.id_column] = [ids.gather(np.arange(len(chosen)).repeat(num_steps))]
    stamps = stamp_series(data.times, chosen, first_steps, num_steps)
    parts[data.time_column] = [stamps.alias(data.time_column)]
    for index, feature in enumerate(data.features):
        by_column = np.ascontiguousarray(values[:, :, index].reshape(len(chosen) * num_steps, -1).T)
        named = zip(columns.names([feature]), by_column, strict=True)
        parts[feature] = [pl.Series(name, column, nan_to_null=True) for name, column in named]
    input_order = [name for name in data.table_format.column_types if name in parts]
    table = pl.DataFrame([column for name in dict.fromkeys([*input_order, *parts]) for column in parts[name]])
    exist = steps_that_exist(data.times, chosen, first_steps, num_steps)
    return table if exist is None else table.filter(pl.Series(exist))


def history_table(data: TableData, series: Sequence[int], num_steps: int) -> "pl.DataFrame":
    """Return a table of the last ``num_steps`` known steps of some series, fewer of shorter ones."""
    import polars as pl

    frames = []
    for index in series:
        length, end = int(data.lengths[index]), int(data.ends[index])
        values = data.values[end - min(length, num_steps) : end].numpy()[None, ..., None]
        frames.append(make_table(data, [index], values, ForecastColumns(), [length - values.shape[1]]))
    return pl.concat(frames, how="vertical_relaxed")


def write_table(
    path: Path, data: TableData, table: ForecastTable, columns: ForecastColumns, header: bool = True
) -> None:
    """Write the forecasts in chunks as CSV, or as Parquet if ``path`` ends in .parquet.

    The file appears when it is complete, or not at all. Unknown values are empty. A Parquet file has the
    column types of the input, see ``with_input_types``.
    """
    frames = (make_table(data, chunk, table.rows(chunk), columns) for chunk in table.chunks())
    with atomic_file(path) as file:
        if path.suffix == ".parquet":
            _write_parquet(Path(file.name), (with_input_types(data, frame, columns) for frame in frames))
        else:
            frames = (_with_text_stamps(data, frame) for frame in frames)
            form = data.table_format
            for number, frame in enumerate(frames):
                style: dict[str, Any] = {"separator": form.separator, "decimal_comma": form.decimal_comma}
                frame.write_csv(file, include_header=header and number == 0, **style)


def join_tables(parts: Sequence[Path], path: Path) -> None:
    """Join tables that the machines of a run wrote, of which the first alone has a header."""
    import polars as pl

    _require_shared_disk(parts)
    with atomic_file(path) as file:
        if path.suffix == ".parquet":
            frames = [pl.scan_parquet(part, glob=False) for part in parts]
            pl.concat(frames).sink_parquet(Path(file.name), engine="streaming")
        else:
            for part in parts:
                with part.open("rb") as lines:
                    shutil.copyfileobj(lines, file)
    for part in parts:
        part.unlink()


def with_input_types(data: TableData, frame: "pl.DataFrame", columns: ForecastColumns) -> "pl.DataFrame":
    """Return a table of forecasts with the column types of the input.

    Columns of whole numbers become Float64. Ids stay text unless they were categories or numbers.
    """
    import polars as pl

    types: dict[str, Any] = {}
    for name, kind in data.table_format.column_types.items():
        if name in data.features:
            types |= dict.fromkeys(columns.names([name]), kind if kind.is_float() else pl.Float64())
        elif name == data.time_column or kind.is_numeric() or kind in (pl.Categorical, pl.Enum):
            types[name] = kind
    if types.get(data.time_column) == pl.String:
        frame = _with_text_stamps(data, frame)
    return frame.cast({name: types[name] for name in frame.columns if name in types})


def _with_text_stamps(data: TableData, frame: "pl.DataFrame") -> "pl.DataFrame":
    """Return the table with dates as text in the format of the input, if it had one of its own."""
    from rnn_lightning.tables.stamp_formats import write

    form, name = data.table_format.time_format, data.time_column
    if form is None or not frame.schema[name].is_temporal():
        return frame
    return frame.with_columns(write(frame[name], form))


def _write_parquet(path: Path, frames: Iterator["pl.DataFrame"]) -> None:
    """Write the frames one after another by the streaming sink of polars."""
    from polars.io.plugins import register_io_source

    first = next(frames)

    def source(*_: Any) -> Iterator["pl.DataFrame"]:
        yield first
        yield from frames

    register_io_source(source, schema=first.schema).sink_parquet(path, engine="streaming")
