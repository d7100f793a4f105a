"""Files and frames: find them, check their columns, and read them chunk by chunk."""

import csv
import fnmatch
import glob
import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from rnn_lightning.errors import InputError, quoted
from rnn_lightning.tables.csv_head import Head, read_head
from rnn_lightning.tables.pandas_frames import from_pandas, index_as_column, pandas_kind

TAB_ENDINGS = (".tsv", ".tsv.gz", ".tsv.zst")
PARQUET_ENDINGS = (".parquet", ".pq")
ENDINGS = (".csv", ".csv.gz", ".csv.zst", *TAB_ENDINGS, *PARQUET_ENDINGS)

OTHER_FORMATS = {
    b"PAR1": "a Parquet file: name it .parquet",
    b"PK\x03\x04": "a zip archive, such as an Excel or .npz file: save it as CSV, or an array by np.save",
    b"\xd0\xcf\x11\xe0": "an Excel file: save the table as CSV",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}
"""Files that begin with these bytes are not CSV files."""

JSON = re.compile(rb'\s*(\[\s*[\[{]|\{\s*")')
"""How JSON begins, and hardly any header of a CSV file."""

FRAME = "the DataFrame"

READ_ROWS = 2**17
"""Rows of a chunk that is read from a table."""

NUM_NAMED_COLUMNS = 30
"""Columns of a table that a message lists."""


class Table(NamedTuple):
    """A file or a frame.

    Attributes:
        name: the name of the file, for messages.
        frame: its rows; those of CSV files as text.
        separator: the character between two columns of a CSV file; None for other kinds.
        head: how a CSV file begins.
    """

    name: str
    frame: pl.LazyFrame
    separator: str | None = None
    head: Head | None = None

    def columns(self) -> list[str]:
        """Return the names of its columns."""
        try:
            return self.frame.collect_schema().names()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._damaged(error) from error

    def first_rows(self, columns: Sequence[str], number: int) -> pl.DataFrame:
        """Return the first rows of some columns."""
        try:
            return self.frame.head(number).select(columns).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._damaged(error) from error

    def holds_numbers(self, columns: Sequence[str]) -> bool:
        """Return True if the first row has a number, or nothing, in each of these columns."""
        row = self.first_rows(columns, 1)
        if any(kind.is_temporal() for kind in row.dtypes):
            return False
        return bool(row.cast(pl.Float64, strict=False).null_count().equals(row.null_count()))

    def chunks(self, columns: Sequence[str]) -> Iterator["TableChunk"]:
        """Yield the chosen columns in the order of the file, without empty lines."""
        first, rows = 0, self.frame.select(columns)
        try:
            for frame in rows.collect_batches(chunk_size=READ_ROWS, maintain_order=True):
                blank = frame.select(blank=pl.all_horizontal(pl.all().is_null()))["blank"]
                numbers: Sequence[int] | np.ndarray = range(first, first + frame.height)
                first += frame.height
                if blank.any():
                    numbers, frame = np.asarray(numbers)[~blank.to_numpy()], frame.filter(~blank)
                if frame.height:
                    yield TableChunk(frame, numbers, self.name)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        kind = "Parquet" if self.separator is None else "CSV"
        wrong = (
            None
            if self.separator is None
            else wrong_row(self.name, self.separator, self.head.skipped if self.head else 0)
        )
        advice = ": save it as UTF-8" if "utf-8" in str(error) else ""
        wrong = wrong or f"not a readable {kind} file ({first_line(error)}){advice}"
        return InputError(f"`path` {self.name}: {wrong}.")


class TableChunk(NamedTuple):
    """Some rows of a table.

    Attributes:
        frame: the columns in use.
        numbers: the number of each row in the table, from 0.
        name: the name of the table.
    """

    frame: pl.DataFrame
    numbers: Sequence[int] | np.ndarray
    name: str

    def refuse(self, wrong: pl.Series, column: str, what: str, advice: str) -> None:
        """Raise ``refusal`` for the first row that is ``wrong``, if there is one."""
        if wrong.any():
            raise self.refusal(int(wrong.arg_max() or 0), column, what, advice)

    def refusal(self, row: int, column: str, what: str, advice: str) -> InputError:
        """Return an error that says what is wrong with a row and what to do; ``{}`` stands for its cell."""
        cell = self.frame[column][row] if "{}" in what else ""
        what = what.replace("{}", quoted(cell) if isinstance(cell, str) else str(cell))
        place = f"data row {self.numbers[row] + 1} of {self.name}"
        return InputError(f"column {quoted(column)} {what} {place}: {advice}.")


def first_line(error: Exception) -> str:
    """Return what a library says, without its hints for programmers."""
    return (str(error).splitlines() or ["no reason given"])[0][:200]


def wrong_row(name: str, separator: str, skipped: int = 0) -> str | None:
    """Return why a CSV file cannot be read, if Python's own reader finds the row."""
    opener: Any = gzip.open if name.endswith(".gz") else open
    row, width = 0, 0
    try:
        with opener(name, "rt", newline="") as file:
            reader = csv.reader(islice(file, skipped, None), delimiter=separator, strict=True)
            width = len(next(reader, []))
            for row, cells in enumerate(reader, 1):
                if len(cells) > width:
                    advice = "put text that holds the separator into quotes, or set `separator`"
                    return f"data row {row} has {len(cells)} cells, and the header has {width}: {advice}"
    except csv.Error as error:
        if width and ("unexpected end" in str(error) or "field larger" in str(error)):
            return f"data row {row + 1} has a quote that is not closed"
    except (OSError, EOFError, UnicodeError):
        pass
    return None


def find_tables(
    path: Any, separator: str | None, wanted: Sequence[str], share: tuple[int, int] = (0, 1)
) -> list[Table]:
    """Return the frame, the file, or the files of a folder or a glob, sorted by name.

    Args:
        path: the path of ``TableSeries``.
        separator: the character between two columns of a CSV file; None for a comma, or a tab in .tsv files.
        wanted: names of the columns in use: ids, time stamps, targets and others.
        share: the number of this machine, and of all that share the files.

    Raises:
        InputError: if there is none, or fewer than machines, or they are of different kinds.
    """
    if isinstance(path, pl.DataFrame):
        return [Table(FRAME, path.lazy())]
    if pandas_kind(path):
        return [Table(FRAME, from_pandas(index_as_column(path, *wanted[1:3]), wanted).lazy())]
    if not isinstance(path, str | Path):
        kind = type(path).__name__
        rule = "give a path or a polars or pandas DataFrame, or a Series of pandas"
        raise InputError(f"`path` is a {kind}: {rule}.")
    files = own_files(file_names(str(path)), *share)
    if any(":" in file for file in files):  # polars would ask the network for s3:/a.csv
        files = [str(Path(file).absolute()) for file in files]
    is_parquet = [file.endswith(PARQUET_ENDINGS) for file in files]
    if len(set(is_parquet)) > 1:
        both = f"{files[is_parquet.index(True)]} and {files[is_parquet.index(False)]}"
        raise InputError(f"`path` {path}: holds {both}: choose one kind, such as *.parquet.")
    if is_parquet[0]:
        return [Table(file, pl.scan_parquet(file, glob=False)) for file in files]
    names_sure = [name for name in wanted if name != "unique_id"]
    return [text_table(file, separator, names_sure) for file in files]


def own_files(files: list[str], machine: int, num_machines: int) -> list[str]:
    """Return the files of one machine, neighbours in the order of their names."""
    if len(files) < num_machines:
        raise InputError(f"`share_files`: {len(files)} files cannot be shared by {num_machines} machines.")
    return files[machine * len(files) // num_machines : (machine + 1) * len(files) // num_machines]


def file_names(path: str) -> list[str]:
    """Return the file, or the files of a folder or a glob, sorted by name."""
    place = Path(path)
    if place.is_file():
        return [path]
    if place.is_dir():
        files = [file for file in place.iterdir() if file.name.endswith(ENDINGS) and file.name[0] != "."]
        missing = f"a folder without files that end in {', '.join(ENDINGS)}"
    elif place.exists():
        raise InputError(f"`path` {path}: a device or pipe can be read only once: save it to a file first.")
    else:
        files = [Path(name) for name in glob.glob(path, recursive=True) if Path(name).is_file()]  # noqa: PTH207
        missing = "matches no file" if any(sign in path for sign in "*?[") else "no such file"
    if not files:
        raise InputError(f"`path` {path}: {missing}.")
    return sorted(map(str, files))


def require_apart(output: str, path: Any) -> None:
    """Refuse to write a forecast over a table, or where the next forecast would read it as a part of it."""
    if not isinstance(path, str | Path):
        return
    place, written = Path(path).resolve(), Path(output).resolve()
    is_part = written == place or (
        place.is_dir() and written.parent == place and written.name.endswith(ENDINGS)
    )
    if not place.exists():
        is_part = _matches(written.parts, place.parts)
    if is_part:
        raise InputError(f"`output` {output} is a part of the table {path}: choose another place.")


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return True if the parts of a path match those of a glob, of which ``**`` is any number."""
    if not patterns:
        return not parts
    first, rest = patterns[0], patterns[1:]
    if first == "**":
        return any(_matches(parts[place:], rest) for place in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatch(parts[0], first) and _matches(parts[1:], rest)


def text_table(name: str, separator: str | None, wanted: Sequence[str]) -> Table:
    """Return a CSV file, plain or compressed, whose table must have the ``wanted`` columns."""
    try:
        with Path(name).open("rb") as file:
            begin = file.read(64)
    except OSError as error:
        raise InputError(f"`path` {name}: cannot be read ({error.strerror}).") from error
    for mark, what in OTHER_FORMATS.items():
        if begin.startswith(mark):
            raise InputError(f"`path` {name}: {what}.")
    if JSON.match(begin):
        raise InputError(f"`path` {name}: JSON: save the table as CSV or Parquet.")
    head = read_head(name, separator, wanted)
    settings: dict[str, Any] = {"separator": head.separator, "infer_schema": False, "glob": False}
    settings |= {"skip_lines": head.skipped} if head.skipped else {}
    table = pl.scan_csv(name, **settings, skip_rows_after_header=int(head.has_units))
    return Table(name, _with_plain_names(table, name, settings), head.separator, head)


def _with_plain_names(frame: pl.LazyFrame, name: str, settings: Mapping[str, Any]) -> pl.LazyFrame:
    """Return a frame whose names have the quotes that a header doubles once, which polars leaves doubled."""
    try:
        names = frame.collect_schema().names()
        if not any('""' in name for name in names):
            return frame
        header = pl.scan_csv(name, **settings, has_header=False, n_rows=1).collect().row(0)
    except (pl.exceptions.PolarsError, OSError):
        return frame  # whoever reads the columns says what is wrong
    plain = [cell if '""' in name else name for name, cell in zip(names, header, strict=True)]
    return frame.rename(dict(zip(names, plain, strict=True))) if len(set(plain)) == len(plain) else frame


def table_ids(tables: Sequence[Table]) -> list[str]:
    """Return ids of series that are a file each: the stems of the files, or their paths if some are alike."""
    names = [table.name for table in tables]
    stems = [Path(name).name.split(".")[0] if name != FRAME else "series" for name in names]
    return stems if len(set(stems)) == len(stems) else names


def require_columns(tables: Sequence[Table], columns: Sequence[tuple[str, str]]) -> None:
    """Refuse a table that lacks some of the columns, given as (argument, name), or has one twice.

    Raises:
        InputError: names all that the table lacks.
    """
    for table in tables:
        names = table.columns()
        missing = [(argument, name) for argument, name in columns if name not in names]
        if missing:
            lacks, many = " and ".join(f"{quoted(name)} (`{argument}`)" for argument, name in missing), "s"
            advice = "name the right ones by these options"
            if len(missing) == 1:
                lacks, many, advice = quoted(missing[0][1]), "", f"name the right one by `{missing[0][0]}`"
            if len(names) == 1:
                advice = "is it separated by something else? set `separator`"
            if any(argument == "time_column" for argument, _ in missing):
                advice += ", or set `number_rows` if it has no time"
            is_long = any(argument == "id_column" for argument, _ in columns)
            is_wide = len(names) > 2 and not is_long and table.holds_numbers(names[1:])
            if is_wide and any(each[0] == "target_columns" for each in missing):
                advice += f"; if each column is a series, make the table long: {_unpivot(columns, names)}"
            several = [name for _, name in missing if set(re.split(", *", name)) <= {*names}]
            alike = [other for _, name in missing for other in names if other.lower() == name.lower()]
            parts = {
                part
                for argument, name in missing
                if argument == "id_column"
                for part in name.strip("[]").split(",")
            }
            if len(parts) > 1 and {part.strip() for part in parts} <= {*names}:
                advice = "the ids are in one column: join these into one"
            elif several:
                advice = f"write several columns as a list, such as '[{several[0]}]'"
            elif alike:
                advice = f"{quoted(alike[0])} may be meant"
            has = ", ".join(quoted(name)[1:-1] for name in names[:NUM_NAMED_COLUMNS])
            more = len(names) - NUM_NAMED_COLUMNS
            has += f" and {more:,} more" if more > 0 else ""
            raise InputError(f"{table.name} has no column{many} {lacks}: it has {has}; {advice}.")
        for _, name in columns:
            copies = [other for other in names if re.fullmatch(re.escape(name) + r"_duplicated_\d+", other)]
            if table.separator and copies:
                raise InputError(f"{table.name} has {len(copies) + 1} columns {quoted(name)}: rename one.")


def _unpivot(columns: Sequence[tuple[str, str]], names: Sequence[str]) -> str:
    """Return the calls that make a frame with a column for each series long."""
    wanted = dict(columns)
    time = wanted["time_column"] if wanted["time_column"] in names else names[0]
    value = wanted["target_columns"]
    in_polars = f"frame.unpivot(index={time!r}, variable_name='unique_id', value_name={value!r})"
    return f"{in_polars}, in pandas frame.melt({time!r}, var_name='unique_id', value_name={value!r})"
