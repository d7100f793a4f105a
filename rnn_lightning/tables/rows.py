"""Checked rows of a table in chunks: the number of a series, an integer time and float32 values each."""

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import polars as pl

from rnn_lightning.errors import InputError, quoted
from rnn_lightning.tables.files import Table, TableChunk, table_ids
from rnn_lightning.tables.float32_check import Float32Check
from rnn_lightning.tables.number_text import POINT, SURE_THOUSANDS, find_decimal, has_match, plain_numbers
from rnn_lightning.tables.options import TableOptions
from rnn_lightning.tables.stamps import StampReader
from rnn_lightning.tables.storage import require_memory

UNKNOWN = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "None", ".", "-"]
"""Text that stands for an unknown number in a CSV file."""

LARGEST_EXACT = 2**53
"""Larger integers may have no float64 of their own."""


class Rows(NamedTuple):
    """Checked rows in the order of the table.

    Attributes:
        series: ``(row,)``, the number of the series: ids are numbered as they first appear.
        ticks: ``(row,)``, int64 time stamps, see ``Axis``.
        values: ``(row, column)``, float32: targets, then covariates; NaN where not known.
        file: the number of the table.
        numbers: the number of each row in the table, from 0.
    """

    series: np.ndarray
    ticks: np.ndarray
    values: np.ndarray
    file: int
    numbers: Sequence[int] | np.ndarray


class RowReader:
    """Checks the columns in use and turns them into arrays; to iterate is to go through the tables once.

    Args:
        tables: the files or the frame.
        options: how they are read.
        has_ids: whether they have a column of ids; otherwise each table is one series.

    Attributes:
        stamps: the reader of time stamps.
        dtypes: the polars types of the columns in use.
    """

    def __init__(self, tables: Sequence[Table], options: TableOptions, has_ids: bool) -> None:
        self.tables, self.columns = tables, options.number_columns
        self.id_column = options.id_column if has_ids else None
        self.stamps = StampReader(options)
        self.dtypes: dict[str, Any] = {}
        self._is_given, self._has_thousands = options.decimal is not None, dict.fromkeys(self.columns, False)
        self._decimals = dict[str, str | None](dict.fromkeys(self.columns, options.decimal))
        self._categories = pl.Categories.random()
        # polars forgets the categories that no column holds any more
        self._kept = pl.Series([], dtype=pl.Categorical(self._categories))

    def __iter__(self) -> Iterator[Rows]:
        """Read, check and yield.

        Raises:
            InputError: names the file, column and row that cannot be used.
        """
        names = [*([self.id_column] if self.id_column is not None else []), self.stamps.column, *self.columns]
        check = Float32Check(self.columns)
        for file, table in enumerate(self.tables):
            chunk = None
            for chunk in table.chunks(names):
                self._require_types(chunk)
                series = self._series(chunk, file)
                values = np.column_stack([self._numbers(chunk, name) for name in self.columns])
                values = check.observe(values, series, chunk.name)
                yield Rows(series, self.stamps.read(chunk, series), values, file, chunk.numbers)
            if chunk is None:
                raise InputError(f"`path` {table.name}: has a header but no rows.")
        self.stamps.notes += check.finish(self.ids)

    def _numbers(self, chunk: TableChunk, name: str) -> np.ndarray:
        """Return the numbers of a column, whose first text tells the decimal sign."""
        raw = chunk.frame[name]
        advice = 'give the sign before the decimals by `decimal`, "." or ","'
        has_sign = raw.dtype == pl.String and self._decimals[name] is None and has_match(raw, "[.,]")
        if has_sign:
            text = raw.str.strip_chars()
            self._decimals[name] = decimal = find_decimal(text, self.tables[0].separator)
            for sign, noun in ((",", "comma"), (".", "point")) if decimal is None else ():
                unsure = text.str.contains(sign, literal=True).fill_null(False)
                what = f"has {{}}, whose {noun} can be that of thousands or of decimals, in"
                chunk.refuse(unsure, name, what, advice)
        if raw.dtype == pl.String and not self._is_given and self._decimals[name] == ",":
            text = raw.str.strip_chars()
            self._has_thousands[name] |= has_match(text, SURE_THOUSANDS)
            points = text.str.contains(POINT).fill_null(False)
            what = "has {} beside decimal commas, whose point can be that of thousands or of decimals, in"
            chunk.refuse(points & (not self._has_thousands[name]), name, what, advice)
        return read_numbers(chunk, name, self._decimals[name] or ".")

    def has_decimal_comma(self, column: str) -> bool:
        """Return whether the numbers of a column were read with a decimal comma."""
        return self._decimals[column] == ","

    def ids(self) -> list[str]:
        """Return the ids that were read, in the order in which they first appeared.

        Raises:
            InputError: if two differ by the spaces around them alone.
        """
        if self.id_column is None:
            return table_ids(self.tables)
        ids = pl.Series(self._categories.to_series(), dtype=pl.String)
        plain = ids.str.strip_chars()
        if (twice := plain.is_duplicated()).any():
            first, second = ids.filter(plain == plain.filter(twice)[0])[:2]
            rule = f"{quoted(first)} and {quoted(second)} differ by spaces alone"
            raise InputError(f"column {quoted(self.id_column)}: {rule}: make them one.")
        return ids.to_list()

    def place(self, file: int, number: int) -> str:
        """Return where a row comes from, for a message."""
        return f"data row {number + 1} of {self.tables[file].name}"

    def _require_types(self, chunk: TableChunk) -> None:
        for name, dtype in chunk.frame.schema.items():
            first = self.dtypes.setdefault(name, dtype)
            if first != dtype and not (first.is_numeric() and dtype.is_numeric() and name in self.columns):
                types = f"{dtype} in {chunk.name} and {first} in {self.tables[0].name}"
                raise InputError(f"column {quoted(name)} is {types}: make the files alike.")

    def _series(self, chunk: TableChunk, file: int) -> np.ndarray:
        """Return the number of the series of each row."""
        name = self.id_column
        if name is None:
            return np.full(chunk.frame.height, file, np.int32)
        ids = chunk.frame[name]
        if ids.dtype.is_nested() or ids.dtype in (pl.Binary, pl.Object, pl.Duration):
            raise InputError(f"column {quoted(name)} holds {ids.dtype}: an id must be a text or a number.")
        missing = ids.is_null()
        if ids.dtype == pl.String or ids.dtype.is_float():
            missing |= (ids == "") if ids.dtype == pl.String else ids.is_nan()
        chunk.refuse(missing, name, "has rows without an id, such as", "fill or drop them")
        codes = ids.cast(pl.String).cast(pl.Categorical(self._categories)).to_physical()
        return codes.to_numpy().astype(np.int32)


def read_numbers(chunk: TableChunk, name: str, decimal: str = ".") -> np.ndarray:
    """Return a column as float64 or float32, with NaN for unknown values."""
    raw = numbers = chunk.frame[name]
    if raw.dtype == pl.String:
        text = plain_numbers(raw.str.strip_chars(), decimal)
        numbers = text.cast(pl.Float64, strict=False)
        if (wrong := numbers.is_null() & text.is_not_null()).any():
            advice = f"it must hold numbers, with decimals after {decimal!r}, and nothing where not known"
            if has_match(text.filter(wrong), r"^[\s(]*[-+]?\s*[%€$£¥]|\d\s*[%€$£¥)-]\s*$"):
                advice = "write it without signs such as %, €, brackets or a trailing minus"
            chunk.refuse(wrong & ~text.is_in(UNKNOWN), name, "holds text, such as {} in", advice)
        if (numbers.abs() > LARGEST_EXACT).any():
            raw = text.cast(pl.Int128, strict=False)
    elif not (raw.dtype.is_numeric() or raw.dtype in (pl.Boolean, pl.Null)):
        raise InputError(f"column {quoted(name)} holds {raw.dtype}: it must hold numbers.")
    if numbers.dtype != pl.Float32:
        numbers = numbers.cast(pl.Float64)
    if raw.dtype.is_integer() and (numbers.abs() > LARGEST_EXACT).any():
        rounded = numbers.cast(pl.Int128, strict=False) != raw.cast(pl.Int128)
        advice = "subtract a constant from the column"
        chunk.refuse(rounded.fill_null(False), name, "has {}, more digits than a float64 holds, in", advice)
    infinite = numbers.is_infinite().fill_null(False)
    advice = "every value must be a finite number; leave it empty if it is not known"
    chunk.refuse(infinite, name, "has the value {} in", advice)
    return numbers.fill_null(float("nan")).to_numpy()


class Spool:
    """Rows to go through several times: in memory, or in a temporary file of a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._chunks: list[Rows] = []
        self._num_chunks = self._num_bytes = 0
        self._file: IO[bytes] | None = None
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - gone with the process
            except OSError as error:
                raise InputError(f"`scratch_folder` {folder}: cannot be written to ({error}).") from error

    def add(self, rows: Rows) -> None:
        """Keep some rows."""
        self._num_chunks += 1
        if self._file is None:
            self._num_bytes += sum(array.nbytes for array in rows[:3])
            require_memory(self._num_bytes, "the rows")
            self._chunks.append(rows)
            return
        try:
            pickle.dump(rows, self._file, pickle.HIGHEST_PROTOCOL)
        except OSError as error:
            raise InputError(f"`scratch_folder`: a file of it cannot be written ({error}).") from error

    def __iter__(self) -> Iterator[Rows]:
        if self._file is None:
            yield from self._chunks
            return
        self._file.seek(0)
        for _ in range(self._num_chunks):
            yield pickle.load(self._file)

    def close(self) -> None:
        """Let go of the rows."""
        self._chunks.clear()
        if self._file is not None:
            self._file.close()
