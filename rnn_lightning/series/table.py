"""Series from a CSV file."""

from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from rnn_lightning.errors import InputError
from rnn_lightning.series.source import Series, SeriesData
from rnn_lightning.series.times import TimeIndex

if TYPE_CHECKING:
    import polars as pl


class TableSeries(Series):
    """A CSV file in the long format ``unique_id, ds, y``: one row for each series and step.

    Each series must be regular and without gaps. Rows may come in any order; the series keep the order in which their
    ids first appear. Without the id column the file is one series.

    Args:
        path: the CSV file.
        id_column: column that names the series.
        time_column: column of time stamps: ISO dates, timestamps, or numbers.
        target_columns: columns that are predicted, one feature each.
        separator: character between two columns.
    """

    def __init__(
        self,
        path: str,
        id_column: str = "unique_id",
        time_column: str = "ds",
        target_columns: list[str] = ["y"],  # noqa: B006 - read only; None would hide the default from --help
        separator: str = ",",
    ) -> None:
        self.path, self.id_column, self.time_column = path, id_column, time_column
        self.separator = separator
        self.target_columns = list(target_columns)
        self.num_features = len(self.target_columns)

    def load(self) -> SeriesData:
        """Read, check and order the file.

        Raises:
            InputError: names the file and the column, row or id that cannot be used.
        """
        import polars as pl

        frame = self._checked_columns(self._read())
        has_ids = self.id_column in frame.columns
        if not has_ids:
            frame = frame.with_columns(pl.lit(Path(self.path).stem).alias(self.id_column))
        frame = frame.with_columns(pl.col(self.id_column).cast(pl.String))
        order = frame.select(pl.col(self.id_column).unique(maintain_order=True)).with_row_index("series order")
        frame = frame.join(order, on=self.id_column, how="left").sort("series order", self.time_column)
        lengths = frame.group_by("series order", maintain_order=True).len()["len"].to_numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        ids = order[self.id_column].to_list()
        stamps = frame[self.time_column]
        self._require_float32(frame)
        return SeriesData(
            values=torch.from_numpy(frame.select(self.target_columns).cast(pl.Float32).to_numpy(order="c").copy()),
            offsets=torch.from_numpy(offsets),
            ids=ids,
            features=self.target_columns,
            times=TimeIndex(
                starts=[stamps[int(start)] for start in offsets[:-1]],
                intervals=[
                    self._interval(stamps[int(start) : int(end)], name)
                    for name, (start, end) in zip(ids, pairwise(offsets), strict=True)
                ],
            ),
            id_column=self.id_column if has_ids else None,
            time_column=self.time_column,
        )

    def _require_float32(self, frame: "pl.DataFrame") -> None:
        """Refuse values whose changes drown in the rounding of float32, seven digits, in which networks compute."""
        for name in self.target_columns:
            values = frame[name].cast(float).to_numpy()
            with np.errstate(invalid="ignore", over="ignore"):
                rounding = np.abs(values - values.astype(np.float32)).max()
                change = np.abs(np.diff(values)).mean() if len(values) > 1 else 0.0
            if np.isfinite(values).all() and change > 0 and rounding > 1e-2 * change:
                raise InputError(
                    f"{self.path}: column {name!r} reaches {abs(values).max():g}, too large for its changes in the seven "
                    "digits of float32: subtract a constant from it, or divide it by one."
                )

    def _read(self) -> "pl.DataFrame":
        import polars as pl

        path = Path(self.path)
        if not path.is_file():
            raise InputError(f"--data.series.path {self.path}: no such file.")
        try:
            frame = pl.read_csv(
                path,
                separator=self.separator,
                try_parse_dates=True,
                infer_schema_length=None,
                schema_overrides={self.id_column: pl.String},  # 007 is a name
            )
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"--data.series.path {self.path}: not a readable CSV file ({error}).") from error
        if frame.height == 0:
            raise InputError(f"--data.series.path {self.path}: has a header but no rows.")
        return frame

    def _checked_columns(self, frame: "pl.DataFrame") -> "pl.DataFrame":
        """Only the columns in use, after a check of their names and types."""
        import polars as pl

        for option, names in (("time_column", [self.time_column]), ("target_columns", self.target_columns)):
            for name in names:
                if name not in frame.columns:
                    advice = f"name the right one by --data.series.{option}"
                    if len(frame.columns) == 1:
                        advice = "is it separated by something else? set --data.series.separator"
                    raise InputError(f"{self.path} has no column {name!r}: it has {', '.join(frame.columns)}; {advice}.")
        for name in [self.time_column, *self.target_columns]:
            column = frame[name]
            if column.null_count():
                row = int(column.is_null().arg_max() or 0)
                raise InputError(f"{self.path}: column {name!r} has no value in data row {row + 1}: fill or drop it.")
            if column.dtype == pl.String:
                numbers = column.cast(pl.Float64, strict=False)
                row = int(numbers.is_null().arg_max() or 0)
                wanted = "ISO dates, timestamps or numbers" if name == self.time_column else "numbers"
                raise InputError(
                    f"{self.path}: column {name!r} holds text, such as {column[row]!r} in data row {row + 1}: "
                    f"it must hold {wanted}."
                )
        ids = [self.id_column] if self.id_column in frame.columns else []
        if ids and frame[self.id_column].null_count():
            raise InputError(f"{self.path}: column {self.id_column!r} has rows without an id: fill or drop them.")
        return frame.select([*ids, self.time_column, *self.target_columns])

    def _interval(self, stamps: "pl.Series", name: str) -> int | float | str:
        """The interval that reproduces all the sorted time stamps of one series."""
        where = f"{self.path}, series {name!r}"
        if len(stamps) < 2:
            raise InputError(f"{where} has one row: the interval of its time stamps needs at least two.")
        first, second = stamps[0], stamps[1]
        steps = np.arange(len(stamps))
        if isinstance(first, date):
            for interval in calendar_intervals(first, second):
                expected = calendar_stamps(first, interval, steps)
                if expected == stamps.to_list():
                    return interval
        else:
            interval = second - first
            if interval > 0 and np.allclose(stamps.to_numpy(), first + steps * interval, rtol=0, atol=1e-6 * interval):
                return interval
        for previous, following in pairwise(stamps.to_list()):
            if previous == following:
                raise InputError(f"{where} has two rows at {self.time_column} = {previous}: keep one.")
        raise InputError(
            f"{where}: its {self.time_column} is not regular from {first} to {stamps[-1]} (steps such as {first} to "
            f"{second}): every step must have one row; fill the gaps first."
        )


def calendar_stamps(start: date, interval: str, steps: np.ndarray) -> list[object]:
    """Soon gone."""
    return TimeIndex([start], [interval]).stamp_series([0], [0], len(steps)).to_list()


def calendar_intervals(first: date, second: date) -> list[str]:
    """What the distance of two dates or datetimes may mean, the plainest first."""
    distance = second - first
    if distance <= timedelta(0):
        return []
    microseconds = distance // timedelta(microseconds=1)
    units = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "us": 1}
    if not isinstance(first, datetime):
        units = {"d": 86_400_000_000}
    fixed = [f"{microseconds // size}{unit}" for unit, size in units.items() if microseconds % size == 0][:2]
    months = 12 * (second.year - first.year) + second.month - first.month
    # Three ends of quarters may lie 92 days apart: from four weeks on, months are the plainer reading.
    return [f"{months}mo", f"{months}me", *fixed] if distance >= timedelta(days=28) and months else fixed
