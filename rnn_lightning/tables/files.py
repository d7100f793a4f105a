"""Files and frames: found, checked for their columns, and read batch by batch."""

import csv
import glob
import gzip
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from rnn_lightning.errors import InputError, quoted
from rnn_lightning.tables.pandas_frames import from_pandas

TAB_ENDINGS = (".tsv", ".tsv.gz", ".tsv.zst")
TEXT_ENDINGS = (".csv", ".csv.gz", ".csv.zst", *TAB_ENDINGS)
PARQUET_ENDINGS = (".parquet", ".pq")
OTHER_FORMATS = {
    b"PAR1": "a Parquet file: name it .parquet",
    b"PK\x03\x04": "a zip archive, such as an Excel file: save the table as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel file: save the table as CSV",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}
"""What a file is that begins with these bytes and is no CSV file."""

BATCH_ROWS = 2**17
NAMED_COLUMNS = 30
"""So many columns of a table are listed in a message."""


class Table(NamedTuple):
    """A file or a frame.

    Attributes:
        name: of the file, for messages.
        frame: its rows; those of CSV files as text.
        separator: between two columns of a CSV file; None for other kinds.
    """

    name: str
    frame: pl.LazyFrame
    separator: str | None = None

    def columns(self) -> list[str]:
        """The names of its columns."""
        try:
            return self.frame.collect_schema().names()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._damaged(error) from error

    def pieces(self, columns: Sequence[str]) -> Iterator["Piece"]:
        """The chosen columns, some rows at a time, in the order of the file; without empty lines."""
        rows = self.frame.select(columns)
        first, blank = 0, pl.all_horizontal(pl.all().is_null()).alias("blank")
        try:
            for batch in rows.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
                empty = batch.select(blank)["blank"]
                numbers: Sequence[int] | np.ndarray = range(first, first + batch.height)
                first += batch.height
                if empty.any():
                    numbers, batch = np.asarray(numbers)[~empty.to_numpy()], batch.filter(~empty)
                if batch.height:
                    yield Piece(batch, numbers, self.name)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        if self.separator is None:
            return InputError(f"`path` {self.name}: not a readable Parquet file ({reason(error)}).")
        wrong = wrong_row(self.name, self.separator) or f"not a readable CSV file ({reason(error)})"
        return InputError(f"`path` {self.name}: {wrong}.")


class Piece(NamedTuple):
    """Some rows of a table.

    Attributes:
        frame: the columns in use.
        numbers: of the rows in the table, from 0.
        name: of the table.
    """

    frame: pl.DataFrame
    numbers: Sequence[int] | np.ndarray
    name: str

    def refuse(self, wrong: pl.Series, column: str, what: str, advice: str) -> None:
        """Raise ``refusal`` of the first of the rows that are ``wrong``, if there is one."""
        if wrong.any():
            raise self.refusal(int(wrong.arg_max() or 0), column, what, advice)

    def refusal(self, row: int, column: str, what: str, advice: str) -> InputError:
        """Says what is wrong with a row, and what to do; ``{}`` in ``what`` is its cell."""
        cell = self.frame[column][row] if "{}" in what else ""
        what = what.replace("{}", quoted(cell) if isinstance(cell, str) else str(cell))
        return InputError(
            f"column {quoted(column)} {what} data row {self.numbers[row] + 1} of {self.name}: {advice}."
        )


def reason(error: Exception) -> str:
    """What a library says, without its hints for programmers."""
    return (str(error).splitlines() or ["no reason given"])[0][:200]


def wrong_row(name: str, separator: str) -> str | None:
    """Why a CSV file cannot be read, if Python's own reader finds the row."""
    row, width = 0, 0
    zipped = name.endswith(".gz")
    opened = gzip.open(name, "rt", newline="") if zipped else Path(name).open(newline="")  # noqa: SIM115
    try:
        with opened as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            width = len(next(reader, []))
            for row, cells in enumerate(reader, 1):
                if len(cells) > width:
                    return (
                        f"data row {row} has {len(cells)} cells, and the header has {width}: put text that "
                        "holds the separator into quotes, or set `separator`"
                    )
    except csv.Error as error:
        if width and ("unexpected end" in str(error) or "field larger" in str(error)):
            return f"data row {row + 1} has a quote that is not closed"
    except (OSError, EOFError, UnicodeError):
        pass
    return None


def find_tables(path: Any, separator: str | None, wanted: Sequence[str]) -> list[Table]:
    """The frame, the file, or the files of a folder or a glob, sorted by name.

    Args:
        path: as ``TableSeries`` takes it.
        separator: between two columns of a CSV file; None for a comma, or a tab in files that are named .tsv.
        wanted: names of the columns in use.

    Raises:
        InputError: if there is none, or they are of different kinds.
    """
    if isinstance(path, pl.DataFrame):
        return [Table("the DataFrame", path.lazy())]
    if any(
        kind.__name__ == "DataFrame" and kind.__module__.split(".")[0] == "pandas"
        for kind in type(path).__mro__
    ):
        return [Table("the DataFrame", from_pandas(path, wanted).lazy())]
    if not isinstance(path, str | Path):
        kind = type(path).__name__
        raise InputError(f"`path` is a {kind}: give a path or a polars or pandas DataFrame.")
    names = file_names(str(path))
    parquet = [name for name in names if name.endswith(PARQUET_ENDINGS)]
    if parquet and len(parquet) < len(names):
        other = next(name for name in names if name not in parquet)
        raise InputError(
            f"`path` {path}: holds {parquet[0]} and {other}: choose one kind, such as *.parquet."
        )
    if parquet:
        return [Table(name, pl.scan_parquet(name, glob=False)) for name in names]
    return [text_table(name, separator or ("\t" if name.endswith(TAB_ENDINGS) else ",")) for name in names]


def file_names(path: str) -> list[str]:
    """The file, or the files of a folder or a glob, sorted by name."""
    place = Path(path)
    if place.is_file():
        return [path]
    if place.is_dir():
        endings = (*TEXT_ENDINGS, *PARQUET_ENDINGS)
        names = sorted(
            str(file) for file in place.iterdir() if file.name.endswith(endings) and file.name[0] != "."
        )
        if not names:
            raise InputError(f"`path` {path}: a folder without files that end in {', '.join(endings)}.")
        return names
    if place.exists():
        raise InputError(f"`path` {path}: a device or pipe can be read only once: save it to a file first.")
    names = sorted(name for name in glob.glob(path, recursive=True) if Path(name).is_file())  # noqa: PTH207
    if not names:
        wildcard = any(sign in path for sign in "*?[")
        raise InputError(f"`path` {path}: {'matches no file' if wildcard else 'no such file'}.")
    return names


def text_table(name: str, separator: str) -> Table:
    """A CSV file, plain or compressed."""
    try:
        with Path(name).open("rb") as file:
            begin = file.read(4)
    except OSError as error:
        raise InputError(f"`path` {name}: cannot be read ({error.strerror}).") from error
    for mark, what in OTHER_FORMATS.items():
        if begin.startswith(mark):
            raise InputError(f"`path` {name}: {what}.")
    return Table(name, pl.scan_csv(name, separator=separator, infer_schema=False, glob=False), separator)


def table_ids(tables: Sequence[Table]) -> list[str]:
    """Ids of series that are a file each: the stems of the files, or where not unique, their paths."""
    names = [table.name for table in tables]
    stems = [Path(name).name.split(".")[0] if name != "the DataFrame" else "series" for name in names]
    return stems if len(set(stems)) == len(stems) else names


def require_columns(tables: Sequence[Table], options: Sequence[tuple[str, str]]) -> None:
    """Each table must have each of the columns, which are given with their options, and once.

    Raises:
        InputError: names all that a table lacks.
    """
    for table in tables:
        names = table.columns()
        missing = [(option, name) for option, name in options if name not in names]
        if missing:
            lacks = " and ".join(f"{quoted(name)} (`{option}`)" for option, name in missing)
            has = ", ".join(quoted(name)[1:-1] for name in names[:NAMED_COLUMNS])
            has += f" and {len(names) - NAMED_COLUMNS:,} more" if len(names) > NAMED_COLUMNS else ""
            advice = "name the right ones by these options"
            if len(missing) == 1:
                advice = f"name the right one by `{missing[0][0]}`"
                lacks = quoted(missing[0][1])
            if len(names) == 1:
                advice = "is it separated by something else? set `separator`"
            columns = "columns" if len(missing) > 1 else "column"
            raise InputError(f"{table.name} has no {columns} {lacks}: it has {has}; {advice}.")
        for _, name in options:
            copies = [other for other in names if re.fullmatch(re.escape(name) + r"_duplicated_\d+", other)]
            if table.separator and copies:
                raise InputError(f"{table.name} has {len(copies) + 1} columns {quoted(name)}: rename one.")
