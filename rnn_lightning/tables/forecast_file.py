"""The forecast file: from what the devices wrote to one table in the order of the series."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from rnn_lightning.data.series import SeriesData
from rnn_lightning.errors import InputError
from rnn_lightning.files import atomic_file
from rnn_lightning.tables.table_data import TableData, as_table_data

if TYPE_CHECKING:
    import polars as pl

PIECE_ROWS = 2**18
"""Rows of the table that are in memory together."""


class ForecastTable:
    """Forecasts in the order of the series, read as needed from the shares that the devices wrote.

    Args:
        paths: the shares in the order of the devices; series ``i`` is row ``i // n`` of share ``i % n``.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if not path.exists():
                raise InputError(
                    f"{path} is missing: predict on several machines needs a disk for runs that all share."
                )
        self.shares = [np.lib.format.open_memmap(path, "r") for path in paths]
        self.num_series, self.horizon = sum(len(share) for share in self.shares), self.shares[0].shape[1]

    def rows(self, first: int, end: int) -> np.ndarray:
        """The forecasts of series ``first`` to before ``end``, ``(series, horizon, feature, column)``."""
        num = len(self.shares)
        rows = np.empty((end - first, *self.shares[0].shape[1:]), np.float32)
        for number, share in enumerate(self.shares):
            skipped = (number - first) % num  # so many of the rows come before the first one of this share
            mine = rows[skipped::num]
            begin = (first + skipped) // num
            mine[:] = share[begin : begin + len(mine)]
        return rows


def value_columns(features: Sequence[str], levels: Sequence[int], num_paths: int = 0) -> list[str]:
    """The columns of values: each feature, then the ends of its intervals, and sampled paths.

    ``<feature>-lo-80``, ``<feature>-hi-80``, ..., ``<feature>-path-1``, ...
    """
    bounds = [f"-{end}-{level}" for level in levels for end in ("lo", "hi")]
    paths = [f"-path-{number + 1}" for number in range(num_paths)]
    return [feature + suffix for feature in features for suffix in ["", *bounds, *paths]]


def forecast_frame(
    data: SeriesData, series: Sequence[int], values: np.ndarray, levels: Sequence[int], num_paths: int = 0
) -> "pl.DataFrame":
    """A table of forecasts: the columns of the input, and after each feature its intervals and paths.

    Args:
        data: what the forecasts are of.
        series: the number of each series.
        values: ``(series, horizon, feature, column)``, the columns as ``value_columns`` names them.
        levels: the levels of the intervals in percent.
        num_paths: the number of sampled paths.
    """
    import polars as pl

    data = as_table_data(data)
    chosen, horizon = np.asarray(series, dtype=np.int64), values.shape[1]
    parts = _index_columns(data, chosen, data.lengths[chosen].tolist(), horizon)
    for number, feature in enumerate(data.features):
        columns = np.ascontiguousarray(values[:, :, number].reshape(len(chosen) * horizon, -1).T)
        names = value_columns([feature], levels, num_paths)
        parts[feature] = [
            pl.Series(name, column, nan_to_null=True) for name, column in zip(names, columns, strict=True)
        ]
    order = [name for name in data.table_format.column_types if name in parts]
    order += [name for name in parts if name not in data.table_format.column_types]
    return pl.DataFrame([column for name in order for column in parts[name]])


def history_frame(data: SeriesData, series: Sequence[int], num_steps: int) -> "pl.DataFrame":
    """A table of the last ``num_steps`` known steps of some series, or of as many as there are."""
    import polars as pl

    data, frames = as_table_data(data), []
    for index in series:
        length, end = int(data.lengths[index]), int(data.ends[index])
        shown = min(length, num_steps)
        parts = _index_columns(data, np.array([index]), [length - shown], shown)
        columns = [column for part in parts.values() for column in part]
        values = data.values[end - shown : end].numpy()
        columns += [pl.Series(name, values[:, i], nan_to_null=True) for i, name in enumerate(data.features)]
        frames.append(pl.DataFrame(columns))
    return pl.concat(frames, how="vertical_relaxed")


def _index_columns(
    data: TableData, series: np.ndarray, first_steps: Sequence[int], num_steps: int
) -> dict[str, list["pl.Series"]]:
    """The columns of ids and of time stamps, ``num_steps`` rows a series from its first step on."""
    import polars as pl

    from rnn_lightning.tables.calendar import stamp_series

    columns = {}
    if data.id_column is not None:
        ids = pl.Series([data.ids[index] for index in series.tolist()], dtype=pl.String)
        columns[data.id_column] = [ids.gather(np.arange(len(series)).repeat(num_steps)).alias(data.id_column)]
    stamps = stamp_series(data.times, series, first_steps, num_steps)
    columns[data.time_column] = [stamps.alias(data.time_column)]
    return columns


def write_table(
    path: Path, data: SeriesData, table: ForecastTable, levels: Sequence[int], num_paths: int = 0
) -> None:
    """Write the forecasts as CSV or, where ``path`` ends so, as Parquet: in pieces, whole or not at all.

    The columns are those of the input in its order, and after each feature its intervals. Values that are not
    known are empty. A Parquet file has the types of the input as well, but for values of whole numbers, which
    become Float64, and for ids that are neither text, categories nor numbers, which stay text.
    """
    import polars as pl

    data = as_table_data(data)
    parquet = path.suffix == ".parquet"
    written_stamps = {data.time_column: pl.String()} if data.table_format.time_format is not None else {}
    types = _types(data, levels, num_paths) if parquet else written_stamps
    at_once = max(1, PIECE_ROWS // table.horizon)
    pieces = (
        range(first, min(first + at_once, table.num_series)) for first in range(0, table.num_series, at_once)
    )
    frames = (
        _cast(data, frame, types)
        for piece in pieces
        for frame in [forecast_frame(data, piece, table.rows(piece.start, piece.stop), levels, num_paths)]
    )
    with atomic_file(path) as file:
        if parquet:
            _write_parquet(Path(file.name), frames)
        else:
            _write_csv(file, frames, data.table_format.separator)


def with_types(
    data: SeriesData, frame: "pl.DataFrame", levels: Sequence[int], num_paths: int = 0
) -> "pl.DataFrame":
    """A table of forecasts with the types that the input has, as far as it says them."""
    data = as_table_data(data)
    return _cast(data, frame, _types(data, levels, num_paths))


def _types(data: TableData, levels: Sequence[int], num_paths: int) -> dict[Any, Any]:
    """The types of columns in a Parquet file, where the input says them."""
    import polars as pl

    types: dict[Any, Any] = dict(data.table_format.column_types)
    name = data.id_column
    if name in types and not (types[name].is_numeric() or types[name] in (pl.Categorical, pl.Enum)):
        types[name] = pl.String()
    for feature in data.features:
        if feature in types:
            kind = types[feature] if types[feature].is_float() else pl.Float64()
            types |= dict.fromkeys(value_columns([feature], levels, num_paths), kind)
    return types


def _cast(data: TableData, frame: "pl.DataFrame", types: Mapping[str, Any]) -> "pl.DataFrame":
    """The columns in the types that they are to have; time stamps as text are written as in the input."""
    import polars as pl

    columns, time_format = [], data.table_format.time_format
    for column in frame.iter_columns():
        wanted = types.get(column.name, column.dtype)
        if column.dtype.is_temporal() and wanted == pl.String and time_format is not None:
            columns.append(column.dt.strftime(time_format))
        else:
            columns.append(column.cast(wanted))
    return pl.DataFrame(columns)


def _write_csv(file: BinaryIO, frames: Iterator["pl.DataFrame"], separator: str) -> None:
    for number, frame in enumerate(frames):
        frame.write_csv(file, include_header=number == 0, separator=separator)


def _write_parquet(path: Path, frames: Iterator["pl.DataFrame"]) -> None:
    """By the streaming sink of polars, which asks for one frame after another."""
    from polars.io.plugins import register_io_source

    first = next(frames)

    def source(*_: Any) -> Iterator["pl.DataFrame"]:
        yield first
        yield from frames

    register_io_source(source, schema=first.schema).sink_parquet(path, engine="streaming")
