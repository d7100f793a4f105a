"""From files and frames to pieces of a table: some rows at a time, only the columns in use, as they are written."""

import contextlib
import csv
import glob
import gzip
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from rnn_lightning.data.table.frames import PIECE_ROWS, Frame, Piece, from_pandas
from rnn_lightning.errors import InputError

if TYPE_CHECKING:
    import polars as pl

PIECE_BYTES = 2**24
"""Bytes of a CSV file that are read together; a longer line is refused."""

TAB_ENDINGS = (".tsv", ".tsv.gz", ".tsv.zst")
TEXT_ENDINGS = (".csv", ".csv.gz", ".csv.zst", *TAB_ENDINGS)
PARQUET_ENDINGS = (".parquet", ".pq")


class TextFile(NamedTuple):
    """A CSV file, plain or compressed by gzip or zstd."""

    name: str
    separator: str

    def columns(self) -> list[str]:
        """The names in the header."""
        blocks = self._blocks()
        try:
            first = next(blocks, b"")
        finally:
            blocks.close()
        if not first:
            raise InputError(f"--data.series.path {self.name}: not a readable CSV file (it is empty).")
        return self._header(first)[0]

    def num_rows(self) -> None:
        """Not known before all is read."""
        return

    def pieces(self, chosen: Sequence[str], file: int) -> Iterator[Piece]:
        """The ``chosen`` columns as text, some megabytes at a time."""
        names: list[str] = []
        header, first_row = b"", 0
        for block in self._blocks():
            if not names:
                names, header = self._header(block)
                block = block[len(header) :]
                header = header if header.endswith(b"\n") else header + b"\n"
            frame = self._parsed(
                header + block, [names.index(name) for name in chosen], len(names), first_row
            )
            yield Piece(frame.rename(dict(zip(frame.columns, chosen, strict=True))), file, first_row)
            first_row += frame.height

    def _header(self, block: bytes) -> tuple[list[str], bytes]:
        line = block[: block.find(b"\n") + 1] or block
        text = line.decode().removeprefix("\ufeff").rstrip("\r\n")
        if not text.strip():
            raise InputError(f"--data.series.path {self.name}: its first line is empty: it has no header.")
        try:
            return next(csv.reader([text], delimiter=self.separator), []), line
        except csv.Error as error:
            raise InputError(
                f"--data.series.path {self.name}: its first line is no header ({error})."
            ) from error

    def _parsed(self, text: bytes, indices: list[int], num_columns: int, first_row: int) -> "pl.DataFrame":
        import polars as pl

        order = sorted(indices)
        try:
            frame = pl.read_csv(text, separator=self.separator, infer_schema=False, columns=order)
        except (pl.exceptions.PolarsError, OSError) as error:
            lines = text.decode().splitlines()
            with contextlib.suppress(csv.Error):
                for row, cells in enumerate(csv.reader(lines[1:], delimiter=self.separator), first_row + 1):
                    if len(cells) > num_columns:
                        raise InputError(
                            f"{self.name}: data row {row} has {len(cells)} cells, and the header has {num_columns}: put "
                            "text that holds the separator into quotes, or set --data.series.separator."
                        ) from error
            reason = str(error).splitlines()[0]
            raise InputError(
                f"--data.series.path {self.name}: not a readable CSV file ({reason})."
            ) from error
        return frame.select([frame.columns[order.index(index)] for index in indices])

    def _blocks(self) -> Generator[bytes, None, None]:
        """Whole lines of UTF-8, some megabytes at a time."""
        rest, lines = b"", 1
        try:
            with self._open() as file:
                while new := file.read(PIECE_BYTES):
                    block = rest + new
                    end = line_end(block)
                    if end == 0 and len(block) >= PIECE_BYTES:
                        raise InputError(
                            f"{self.name}: line {lines} is longer than {PIECE_BYTES >> 20} MB, or has a quote that is not "
                            "closed: is it a CSV file?"
                        )
                    rest = block[end:]
                    if end:
                        yield self._text(block[:end], lines)
                    lines += block.count(b"\n", 0, end)
                if rest:
                    yield self._text(rest, lines)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"--data.series.path {self.name}: cannot be read ({error}).") from error

    def _open(self) -> IO[bytes]:
        if self.name.endswith(".gz"):
            return gzip.open(self.name)  # type: ignore[return-value]
        if self.name.endswith(".zst"):
            return open_zstd(self.name)
        return Path(self.name).open("rb")

    def _text(self, block: bytes, first_line: int) -> bytes:
        """The block, after a check that it is text."""
        if block[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"{self.name} is UTF-16 text: save it as UTF-8.")
        if block[:4] == b"PAR1":
            raise InputError(f"{self.name} is a Parquet file: name it .parquet.")
        if b"\0" in block:
            line = first_line + block.count(b"\n", 0, block.index(b"\0"))
            raise InputError(
                f"{self.name}: line {line} holds a zero byte: it is no CSV file, or a damaged one."
            )
        try:
            block.decode()
        except UnicodeDecodeError as error:
            line = first_line + block.count(b"\n", 0, error.start)
            raise InputError(
                f"{self.name}: line {line} is not UTF-8 text (byte {block[error.start : error.start + 1]!r}): it is no CSV "
                "file, or save it as UTF-8."
            ) from error
        return block


def line_end(block: bytes) -> int:
    """One past the last newline of ``block`` that is not inside quotes; 0 if there is none."""
    end = block.rfind(b"\n") + 1
    inside = block.count(b'"', 0, end) % 2
    while end and inside:
        previous = block.rfind(b"\n", 0, end - 1) + 1
        inside ^= block.count(b'"', previous, end) % 2
        end = previous
    return end


def open_zstd(name: str) -> IO[bytes]:
    """Decompress a file with what is there: Python from 3.14 on, or polars, in memory."""
    import importlib
    import io

    import polars as pl

    try:
        return importlib.import_module("compression.zstd").open(name)
    except ImportError:
        pass
    try:  # each line as one cell: the separator is a byte that text does not hold
        lines = pl.read_csv(
            name, has_header=False, separator="\x01", quote_char=None, infer_schema=False, columns=[0]
        )
    except pl.exceptions.NoDataError:
        return io.BytesIO()
    except pl.exceptions.PolarsError as error:
        raise OSError(str(error).splitlines()[0]) from error
    buffer = io.BytesIO()
    lines.write_csv(buffer, include_header=False, quote_style="never", separator="\x01")
    buffer.seek(0)
    return buffer


class ParquetFile(NamedTuple):
    """A Parquet file."""

    name: str

    def columns(self) -> list[str]:
        """The names of its columns."""
        return list(self._schema())

    def num_rows(self) -> int:
        """The number of rows that its metadata tells."""
        import polars as pl

        self._schema()
        return int(pl.scan_parquet(self.name, glob=False).select(pl.len()).collect().item())

    def pieces(self, chosen: Sequence[str], file: int) -> Iterator[Piece]:
        """The ``chosen`` columns, some rows at a time."""
        import polars as pl

        for first_row in range(0, self.num_rows(), PIECE_ROWS):
            rows = pl.scan_parquet(self.name, glob=False).select(chosen).slice(first_row, PIECE_ROWS)
            try:
                yield Piece(rows.collect(), file, first_row)
            except (pl.exceptions.PolarsError, OSError) as error:
                raise self._damaged(error) from error

    def _schema(self) -> dict[str, Any]:
        import polars as pl

        try:
            return dict(pl.scan_parquet(self.name, glob=False).collect_schema())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        reason = (str(error).splitlines() or ["?"])[0]
        return InputError(f"--data.series.path {self.name}: not a readable Parquet file ({reason}).")


Source = TextFile | ParquetFile | Frame


def find_sources(path: Any, separator: str | None, wanted: Sequence[str]) -> list[Source]:
    """The frame, the file, or the files of a folder or a glob, sorted by name.

    Args:
        path: as ``TableSeries`` takes it.
        separator: character between two columns of a CSV file; None for a comma, or a tab in files that are
        named .tsv.
        wanted: names of the columns in use.

    Raises:
        InputError: if there is none, or they are of different kinds.
    """
    import polars as pl

    if isinstance(path, pl.DataFrame):
        return [Frame(path)]
    if any(
        kind.__name__ == "DataFrame" and kind.__module__.split(".")[0] == "pandas"
        for kind in type(path).__mro__
    ):
        return [Frame(from_pandas(path, wanted))]
    if not isinstance(path, str | Path):
        raise InputError(
            f"--data.series.path is a {type(path).__name__}: give a path or a polars or pandas DataFrame."
        )
    names = file_names(str(path))
    parquet = [name for name in names if name.endswith(PARQUET_ENDINGS)]
    if parquet and len(parquet) < len(names):
        other = next(name for name in names if name not in parquet)
        raise InputError(
            f"--data.series.path {path}: holds {parquet[0]} and {other}: choose one kind, such as *.parquet."
        )
    if parquet:
        return [ParquetFile(name) for name in names]
    return [TextFile(name, separator or ("\t" if name.endswith(TAB_ENDINGS) else ",")) for name in names]


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
            raise InputError(
                f"--data.series.path {path}: a folder without files that end in {', '.join(endings)}."
            )
        return names
    names = sorted(name for name in glob.glob(path, recursive=True) if Path(name).is_file())  # noqa: PTH207
    if not names:
        wildcard = any(sign in path for sign in "*?[")
        raise InputError(f"--data.series.path {path}: {'matches no file' if wildcard else 'no such file'}.")
    return names


def file_ids(sources: Sequence[Source]) -> list[str]:
    """Ids of series that are a file each: their names without folder and ending, or where these are not unique, with."""
    names = [source.name for source in sources]
    stems = [
        "series" if isinstance(source, Frame) else Path(source.name).name.split(".")[0] for source in sources
    ]
    return stems if len(set(stems)) == len(stems) else names
