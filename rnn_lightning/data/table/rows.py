"""From pieces of a table to rows that are checked: an id, a stamp and numbers each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnn_lightning.data.table.frames import Piece
from rnn_lightning.data.table.stamps import StampReader
from rnn_lightning.data.table.zones import declare_zone
from rnn_lightning.errors import InputError

if TYPE_CHECKING:
    import polars as pl

UNKNOWN = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
"""What a cell of a text file may hold instead of a number that is not known."""

ROWS_PER_FILE = 2**40


class Columns(NamedTuple):
    """The names of the columns in use."""

    id: str | None
    time: str
    targets: Sequence[str]
    covariates: Sequence[str]

    @property
    def numbers(self) -> list[str]:
        return [*self.targets, *self.covariates]

    @property
    def names(self) -> list[str]:
        return [*([self.id] if self.id is not None else []), self.time, *self.numbers]


@dataclass(frozen=True)
class Rows:
    """Checked rows, in the order in which they were read.

    Attributes:
        ids: of the series, as they are written, never null.
        stamps: integers, floats, dates or datetimes, never null.
        values: ``(row, column)``, float32: the targets, then the covariates; NaN where not known.
        places: where each row comes from, for ``RowReader.place``.
    """

    ids: "pl.Series"
    stamps: "pl.Series"
    values: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def slice(self, first: int, end: int) -> "Rows":
        """The rows from ``first`` to before ``end``: views."""
        ids, stamps = (column.slice(first, end - first) for column in (self.ids, self.stamps))
        return Rows(ids, stamps, self.values[first:end], self.places[first:end])

    def take(self, chosen: np.ndarray) -> "Rows":
        """The ``chosen`` rows."""
        return Rows(
            self.ids.gather(chosen), self.stamps.gather(chosen), self.values[chosen], self.places[chosen]
        )

    def in_zone(self, time_zone: str | None, place: Callable[[int], str]) -> "Rows":
        """The same; clocks without a zone are read in ``time_zone``, if one is given."""
        if time_zone is None or self.stamps.dtype.time_zone is not None:  # type: ignore[attr-defined]
            return self
        stamps = declare_zone(self.ids, self.stamps, time_zone, lambda row: place(int(self.places[row])))
        return replace(self, stamps=stamps)

    def order(self) -> np.ndarray:
        """The order of the rows by series, in the order in which these first appear, and by time."""
        import polars as pl

        names = self.ids.unique(maintain_order=True)
        numbers = self.ids.replace_strict(names, pl.arange(len(names), dtype=pl.Int32, eager=True)).to_numpy()
        return np.lexsort((self.stamps.to_physical().to_numpy(), numbers))

    @staticmethod
    def join(parts: Sequence["Rows"]) -> "Rows":
        """One after another."""
        import polars as pl

        if len(parts) == 1:
            return parts[0]
        return Rows(
            pl.concat([part.ids for part in parts]),
            pl.concat(
                [part.stamps.cast(parts[-1].stamps.dtype) for part in parts]
            ),  # whole numbers, then fractions
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.places for part in parts]),
        )


class Precision:
    """Finds columns whose changes drown in the rounding of float32, seven digits, in which networks compute."""

    def __init__(self, column: str) -> None:
        self.column, self._file = column, ""
        self._rounding = self._largest = self._change = 0.0
        self._num_changes = 0

    def add(self, values: np.ndarray, rounded: np.ndarray, file: str) -> None:
        """Look at some rows of a file, exact and as float32."""
        known = np.isfinite(values)
        if not known.all():
            values, rounded = values[known], rounded[known]
        if len(values):
            largest = max(float(values.max()), -float(values.min()))
            if largest > self._largest:
                self._largest, self._file = largest, file
            self._rounding = max(self._rounding, float(np.abs(values - rounded).max()))
            self._change += float(np.abs(np.diff(values)).sum())
            self._num_changes += len(values) - 1

    def require(self) -> None:
        """Raise InputError where float32 is too coarse."""
        change = self._change / max(1, self._num_changes)
        if self._largest > float(np.finfo(np.float32).max) or (change > 0 and self._rounding > 1e-2 * change):
            raise InputError(
                f"{self._file}: {self.column} reaches {self._largest:g}, too large for its changes in the seven digits of "
                "float32: subtract a constant from it, or divide it by one."
            )


class RowReader:
    """Turns the pieces of a table into rows; the stamps of a file and of all the others must be of one kind.

    Args:
        columns: the columns in use.
        stamps: reads the stamps.
        file_names: the names of the files, for messages.
        file_ids: the id of the rows of each file, where there is no column of ids.
    """

    def __init__(
        self, columns: Columns, stamps: StampReader, file_names: Sequence[str], file_ids: Sequence[str]
    ) -> None:
        self.columns, self.stamps = columns, stamps
        self.file_names, self.file_ids = file_names, file_ids
        self.dtypes: dict[str, Any] = {}
        self.notes: list[str] = []
        self._precision = [Precision(f"column {name!r}") for name in columns.numbers]

    def place(self, place: int) -> str:
        """Where a row comes from, for a message."""
        file, row = divmod(int(place), ROWS_PER_FILE)
        return f"data row {row + 1} of {self.file_names[file]}"

    def read(self, piece: Piece) -> Rows | None:
        """The rows of a piece, None if it has but empty lines.

        Raises:
            InputError: names the file, column and row that cannot be used.
        """
        import polars as pl

        frame, columns = piece.frame, self.columns
        places = piece.file * ROWS_PER_FILE + np.arange(piece.first_row, piece.first_row + frame.height)
        blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
        if blank.any():  # an empty line
            frame, places = frame.filter(~blank), places[~blank.to_numpy()]
        self._require_types(frame, piece.file)
        if frame.height == 0:
            return None
        values = np.empty((frame.height, len(columns.numbers)), dtype=np.float32)

        def place(row: int) -> str:
            return self.place(int(places[row]))

        for index, name in enumerate(columns.numbers):
            exact = self._read_numbers(frame[name], place)
            with np.errstate(over="ignore"):
                values[:, index] = exact
                self._precision[index].add(exact, values[:, index], self.file_names[piece.file])
        if columns.id is None:
            ids = pl.repeat(self.file_ids[piece.file], frame.height, dtype=pl.String, eager=True)
        else:
            ids = self._read_ids(frame[columns.id], place)
        return Rows(ids, self.stamps.read(frame[columns.time], place), values, places)

    def require_precision(self) -> None:
        """Raise InputError for a column whose changes drown in the rounding of float32, once all is read."""
        for precision in self._precision:
            precision.require()

    def _require_types(self, frame: "pl.DataFrame", file: int) -> None:
        for name, dtype in frame.schema.items():
            first = self.dtypes.setdefault(name, dtype)
            if first != dtype and not (
                first.is_numeric() and dtype.is_numeric() and name in self.columns.numbers
            ):
                raise InputError(
                    f"column {name!r} is {dtype} in {self.file_names[file]} and {first} in {self.file_names[0]}: "
                    "make the files alike."
                )

    def _read_ids(self, raw: "pl.Series", place: Callable[[int], str]) -> "pl.Series":
        import polars as pl

        if raw.dtype.is_nested():
            raise InputError(f"column {raw.name!r} holds {raw.dtype}: an id must be a text or a number.")
        ids = raw.cast(pl.String) if isinstance(raw.dtype, pl.Categorical | pl.Enum) else raw
        missing = ids.is_null()
        if ids.dtype == pl.String or ids.dtype.is_float():
            missing |= (ids == "") if ids.dtype == pl.String else ids.is_nan()
        if missing.any():
            raise InputError(
                f"column {raw.name!r} has rows without an id, such as {place(int(missing.arg_max() or 0))}: fill or drop "
                "them."
            )
        return ids

    def _read_numbers(self, raw: "pl.Series", place: Callable[[int], str]) -> np.ndarray:
        """The numbers of a column, NaN where not known."""
        import polars as pl

        if raw.dtype == pl.String:
            text = raw.str.strip_chars()
            numbers = text.cast(pl.Float64, strict=False)
            wrong = numbers.is_null() & text.is_not_null() & ~text.is_in(UNKNOWN)
            if wrong.any():
                row = int(wrong.arg_max() or 0)
                raise InputError(
                    f"column {raw.name!r} holds text, such as {raw[row]!r} in {place(row)}: it must hold numbers, with a "
                    "decimal point, and nothing where a value is not known."
                )
        elif raw.dtype.is_numeric() or raw.dtype in (pl.Boolean, pl.Null):
            numbers = raw if raw.dtype == pl.Float32 else raw.cast(pl.Float64)
        else:
            raise InputError(f"column {raw.name!r} holds {raw.dtype}: it must hold numbers.")
        values = numbers.fill_null(float("nan")).to_numpy()
        infinite = np.isinf(values)
        if infinite.any():
            row = int(infinite.argmax())
            raise InputError(
                f"column {raw.name!r} has the value {values[row]} in {place(row)}: every value must be a finite number; "
                "leave it empty if it is not known."
            )
        return values
