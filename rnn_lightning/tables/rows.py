"""From tables to batches of checked rows: the code of a series, an integer time and float32 values each."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import polars as pl

from rnn_lightning.errors import InputError, quoted
from rnn_lightning.tables.files import Piece, Table, table_ids
from rnn_lightning.tables.precision import Precision
from rnn_lightning.tables.stamps import StampReader
from rnn_lightning.tables.storage import require_memory

UNKNOWN = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
"""What a cell of a CSV file may hold instead of a number that is not known."""

EXACT = 2**53
"""Larger integers may have no float64 of their own."""


class Rows(NamedTuple):
    """Checked rows in the order of the table.

    Attributes:
        series: ``(row,)``, the number of the series: ids are numbered as they first appear.
        ticks: ``(row,)``, int64 time stamps, see ``Axis``.
        values: ``(row, column)``, float32: targets, then covariates; NaN where not known.
        file: number of the table.
        numbers: of the rows in the table, from 0.
    """

    series: np.ndarray
    ticks: np.ndarray
    values: np.ndarray
    file: int
    numbers: Sequence[int] | np.ndarray


class RowReader:
    """Checks the columns in use and turns them into arrays; iterating goes through the tables once.

    Args:
        tables: the files or the frame.
        id_column: None where each table is one series.
        numbers: columns of targets, then of covariates.
        stamps: reads the column of time stamps.

    Attributes:
        dtypes: polars types of the columns in use.
    """

    def __init__(
        self, tables: Sequence[Table], id_column: str | None, numbers: Sequence[str], stamps: StampReader
    ) -> None:
        self.tables, self.id_column, self.numbers, self.stamps = tables, id_column, numbers, stamps
        self.names = [*([id_column] if id_column is not None else []), stamps.column, *numbers]
        self.dtypes: dict[str, Any] = {}
        self._categories = pl.Categories.random()
        # polars forgets the categories that no column holds any more
        self._kept = pl.Series([], dtype=pl.Categorical(self._categories))
        self._precision = [Precision(name) for name in numbers]

    def __iter__(self) -> Iterator[Rows]:
        """Read, check and yield.

        Raises:
            InputError: names the file, column and row that cannot be used.
        """
        for file, table in enumerate(self.tables):
            empty = True
            for piece in table.pieces(self.names):
                empty = False
                self._require_types(piece)
                yield self._read(piece, file)
            if empty:
                raise InputError(f"`path` {table.name}: has a header but no rows.")
        for precision in self._precision:
            precision.require()

    def ids(self) -> list[str]:
        """The ids that were read, in the order in which they first appeared."""
        return table_ids(self.tables) if self.id_column is None else self._categories.to_series().to_list()

    def place(self, file: int, number: int) -> str:
        """Where a row comes from, for a message."""
        return f"data row {number + 1} of {self.tables[file].name}"

    def _require_types(self, piece: Piece) -> None:
        for name, dtype in piece.frame.schema.items():
            first = self.dtypes.setdefault(name, dtype)
            if first != dtype and not (first.is_numeric() and dtype.is_numeric() and name in self.numbers):
                raise InputError(
                    f"column {quoted(name)} is {dtype} in {piece.name} and {first} in {self.tables[0].name}: "
                    "make the files alike."
                )

    def _read(self, piece: Piece, file: int) -> Rows:
        series = (
            np.full(piece.frame.height, file, np.int32)
            if self.id_column is None
            else self._read_ids(piece, self.id_column)
        )
        values = np.empty((piece.frame.height, len(self.numbers)), np.float32)
        for column, (name, precision) in enumerate(zip(self.numbers, self._precision, strict=True)):
            values[:, column] = precision.add(read_numbers(piece, name), piece.name)
        return Rows(series, self.stamps.read(piece, series), values, file, piece.numbers)

    def _read_ids(self, piece: Piece, name: str) -> np.ndarray:
        """The number of the series of each row."""
        ids = piece.frame[name]
        if ids.dtype.is_nested() or ids.dtype in (pl.Binary, pl.Object, pl.Duration):
            raise InputError(f"column {quoted(name)} holds {ids.dtype}: an id must be a text or a number.")
        missing = ids.is_null()
        if ids.dtype == pl.String or ids.dtype.is_float():
            missing |= (ids == "") if ids.dtype == pl.String else ids.is_nan()
        piece.refuse(missing, name, "has rows without an id, such as", "fill or drop them")
        codes = ids.cast(pl.String).cast(pl.Categorical(self._categories)).to_physical()
        return codes.to_numpy().astype(np.int32)


def read_numbers(piece: Piece, name: str) -> np.ndarray:
    """The numbers of a column, float64 or float32, NaN where not known."""
    raw = numbers = piece.frame[name]
    if raw.dtype == pl.String:
        text = raw.str.strip_chars()
        numbers = text.cast(pl.Float64, strict=False)
        wrong = numbers.is_null() & text.is_not_null()
        if wrong.any():
            advice = "it must hold numbers, with a decimal point, and nothing where a value is not known"
            piece.refuse(wrong & ~text.is_in(UNKNOWN), name, "holds text, such as {} in", advice)
        if (numbers.abs() > EXACT).any():
            raw = text.cast(pl.Int128, strict=False)
    elif not (raw.dtype.is_numeric() or raw.dtype in (pl.Boolean, pl.Null)):
        raise InputError(f"column {quoted(name)} holds {raw.dtype}: it must hold numbers.")
    if numbers.dtype != pl.Float32:
        numbers = numbers.cast(pl.Float64)
    if raw.dtype.is_integer() and (numbers.abs() > EXACT).any():
        rounded = numbers.cast(pl.Int128, strict=False) != raw.cast(pl.Int128)
        advice = "subtract a constant from the column, or divide it by one"
        piece.refuse(rounded.fill_null(False), name, "has {}, more digits than a float64 holds, in", advice)
    infinite = numbers.is_infinite().fill_null(False)
    advice = "every value must be a finite number; leave it empty if it is not known"
    piece.refuse(infinite, name, "has the value {} in", advice)
    # one bit pattern for every unknown value: `Grid` marks steps without a row by another one
    return numbers.fill_nan(None).fill_null(float("nan")).to_numpy()


class Spool:
    """Batches of rows to go through several times: in memory, or in a temporary file of a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._batches: list[Any] = []
        self._num_bytes = 0
        self._file: IO[bytes] | None = None
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - gone with the process
            except OSError as error:
                raise InputError(f"`scratch_folder` {folder}: cannot be written to ({error}).") from error

    def add(self, rows: Rows) -> None:
        """Keep some rows."""
        if self._file is None:
            self._num_bytes += sum(array.nbytes for array in rows[:3])
            require_memory(self._num_bytes, "the rows")
            self._batches.append(rows)
            return
        try:
            for array in rows[:3]:
                np.save(self._file, array)
        except OSError as error:
            raise InputError(f"`scratch_folder`: a file of it cannot be written ({error}).") from error
        self._batches.append(rows[3:])

    def close(self) -> None:
        """Let go of the rows."""
        self._batches = []
        if self._file is not None:
            self._file.close()

    def __iter__(self) -> Iterator[Rows]:
        if self._file is None:
            yield from self._batches
            return
        self._file.seek(0)
        for place in self._batches:
            yield Rows(*(np.load(self._file) for _ in range(3)), *place)
