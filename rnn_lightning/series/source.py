"""The contract of a series: values and time stamps of many recordings, flat in memory."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from rnn_lightning.errors import InputError
from rnn_lightning.series.storage import FileArray

PIECE_ROWS = 2**20
"""Rows that are looked at together, so that values larger than memory can be."""


@dataclass(frozen=True)
class TimeIndex:
    """Regular time stamps: step ``k`` of series ``i`` is at ``starts[i] + k * intervals[i]``.

    Args:
        starts: the first stamp of every series: numbers, dates or datetimes.
        intervals: the distance of two steps of every series: a number, or for dates and datetimes a duration in the
            notation of polars' ``offset_by``, such as ``15m``, ``1d`` or ``1mo``, and ``1me`` for the ends of months.
    """

    starts: Sequence[Any]
    intervals: Sequence[int | float | str]

    def stamps(self, series_index: int, first_step: int, num_steps: int) -> Sequence[Any]:
        """Time stamps of ``num_steps`` steps from ``first_step`` on, also past the end of the series."""
        start, interval = self.starts[series_index], self.intervals[series_index]
        steps = np.arange(first_step, first_step + num_steps)
        if isinstance(interval, str):
            return calendar_stamps(start, interval, steps)
        if isinstance(start, int) and isinstance(interval, int):
            return (start + steps * interval).tolist()
        return np.round(start + steps * interval, 9).tolist()


def calendar_stamps(start: date, interval: str, steps: np.ndarray) -> Sequence[Any]:
    """The dates ``steps`` intervals after ``start``, each counted from ``start``, so that the 31st stays the month's end."""
    import polars as pl

    count, unit = int(interval.rstrip("abcdefghijklmnopqrstuvwxyz")), interval.lstrip("0123456789")
    offsets = (pl.Series(steps) * count).cast(pl.String) + unit.replace("me", "mo")
    stamps = pl.lit(start).dt.offset_by(pl.lit(offsets))
    return pl.select(stamps.dt.month_end() if unit == "me" else stamps).to_series().to_list()


@dataclass(frozen=True)
class SeriesData:
    """Many series of unequal length, one after another in one array.

    NaN marks a value that is not known. The rows of a series go from its first known step to its last one, and on to the
    last step whose covariates are known.

    Attributes:
        values: ``(row, feature)``, float32: a tensor, or a file where they are larger than memory; the rows of series
            ``i`` are ``values[offsets[i] : offsets[i + 1]]``.
        offsets: ``(series + 1,)``, int64.
        ids: a name for each series, unique.
        features: a name for each feature.
        times: the time stamps.
        id_column: the name of the column of ids, None if there is none because there is one series.
        time_column: the name of the column of time stamps.
        lengths: ``(series,)``, the number of steps up to the last known one; all rows if not given.
        covariates: ``(row, covariate)``, float32, known inputs that are not predicted.
        covariate_names: a name for each covariate.
        calendar: ``(row, calendar feature)``, uint8, such as the month, counted from 0.
        calendar_names: which calendar features, keys of ``CALENDAR``.
        notes: what a user should know of how the values were made, a sentence each.
        left_out: ids of series that could not be used, and why.
        column_types: the polars types of the columns of a table, which its forecast gets as well.
        time_format: how time stamps are written in a CSV file, in the notation of ``strftime``; None for ISO.
    """

    values: Tensor  # or a FileArray, which is indexed alike
    offsets: Tensor
    ids: Sequence[str]
    features: Sequence[str]
    times: TimeIndex
    id_column: str | None = "unique_id"
    time_column: str = "ds"
    lengths: Tensor = None  # type: ignore[assignment]
    covariates: Tensor | None = None
    covariate_names: Sequence[str] = ()
    calendar: Tensor | None = None
    calendar_names: Sequence[str] = ()
    notes: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    column_types: Mapping[str, Any] = field(default_factory=dict)
    time_format: str | None = None

    def __post_init__(self) -> None:
        if self.lengths is None:
            object.__setattr__(self, "lengths", self.offsets.diff())

    @classmethod
    def from_equal(cls, values: Tensor, *, start: float = 0, interval: float = 1) -> "SeriesData":
        """Series of equal length, ``(series, time, feature)``, on one numeric time axis, named ``0``, ``1``, ..."""
        num_series, length, num_features = values.shape
        return cls(
            values=values.reshape(-1, num_features).float(),
            offsets=torch.arange(num_series + 1) * length,
            ids=[str(i) for i in range(num_series)],
            features=["y"] if num_features == 1 else [f"y{i}" for i in range(num_features)],
            times=TimeIndex([start] * num_series, [interval] * num_series),
        )

    @property
    def num_series(self) -> int:
        return len(self.ids)

    @property
    def ends(self) -> Tensor:
        """One past the row of the last known step of each series, ``(series,)``."""
        return self.offsets[:-1] + self.lengths

    def series(self, index: int) -> Tensor:
        """The values of one series up to its last known step, ``(time, feature)``."""
        return self.values[int(self.offsets[index]) : int(self.ends[index])]

    def encoded(self, rows: Tensor) -> Tensor | None:
        """The covariates of ``rows (...)``, ``(..., covariate)``, calendar features one-hot; None if there are none."""
        parts = [self.covariates[rows]] if self.covariates is not None else []
        if self.calendar is not None:
            parts.append(encode_calendar(self.calendar[rows], self.calendar_names))
        return torch.cat(parts, -1) if parts else None

    def unlink(self) -> None:
        """Remove the scratch files behind the arrays, once all processes have mapped them."""
        for array in (self.values, self.covariates, self.calendar):
            if isinstance(array, FileArray):
                array.unlink()

    def validate(self) -> None:
        """Refuse what no later part can work with.

        Raises:
            InputError: if there is no series, a series is empty, or a value is infinite.
        """
        if self.num_series == 0 or int(self.lengths.min()) == 0:
            empty = "the source" if self.num_series == 0 else f"series {self.ids[int(self.lengths.argmin())]!r}"
            raise InputError(f"{empty} has no values: give at least one step for every series.")
        for first in range(0, len(self.values), PIECE_ROWS):
            infinite = self.values[first : first + PIECE_ROWS].isinf()
            if bool(infinite.any()):
                row, feature = (int(i) for i in infinite.nonzero()[0])
                index = int(torch.searchsorted(self.offsets, first + row, right=True)) - 1
                step = first + row - int(self.offsets[index])
                raise InputError(
                    f"series {self.ids[index]!r} has the value {float(self.values[first + row][feature])} in "
                    f"{self.features[feature]!r} at step {step} ({self.time_column} = "
                    f"{self.times.stamps(index, step, 1)[0]}): every value must be a finite number; leave it empty "
                    "if it is not known."
                )


CALENDAR = {"month": 12, "weekday": 7, "hour": 24}
"""The calendar features and the number of their values; weekday 0 is Monday."""


def encode_calendar(codes: Tensor, names: Sequence[str]) -> Tensor:
    """Calendar features ``(..., calendar feature)`` as one-hot covariates ``(..., covariate)``, float32."""
    columns = [one_hot(codes[..., i].long(), CALENDAR[name]) for i, name in enumerate(names)]
    return torch.cat(columns, -1).float()


class Series(ABC):
    """Where values come from. To add a source, write a subclass with plain, typed arguments and one method, ``load``.

    ``num_features`` and ``num_covariates`` say, before anything is read, how many of them ``load`` returns: override them
    when there are others.
    """

    num_features: int = 1
    num_covariates: int = 0

    @abstractmethod
    def load(self) -> SeriesData:
        """Make or read the values. Equal arguments give equal values, whatever the global random state is."""
