"""The contract of a series: values and time stamps of many recordings, flat in memory."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.errors import InputError


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
    """Many series of unequal length, one after another in one tensor.

    Attributes:
        values: ``(time, feature)``, float32, the steps of all series; series ``i`` is
            ``values[offsets[i] : offsets[i + 1]]``.
        offsets: ``(series + 1,)``, int64.
        ids: a name for each series, unique.
        features: a name for each feature.
        times: the time stamps.
        id_column: the name of the column of ids, None if there is none because there is one series.
        time_column: the name of the column of time stamps.
    """

    values: Tensor
    offsets: Tensor
    ids: Sequence[str]
    features: Sequence[str]
    times: TimeIndex
    id_column: str | None = "unique_id"
    time_column: str = "ds"

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
    def lengths(self) -> Tensor:
        """Number of steps of each series, ``(series,)``."""
        return self.offsets.diff()

    def series(self, index: int) -> Tensor:
        """The values of one series, ``(time, feature)``: a view."""
        return self.values[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def validate(self) -> None:
        """Refuse what no later part can work with.

        Raises:
            InputError: if there is no series, a series is empty, or a value is NaN or infinite.
        """
        if self.num_series == 0 or int(self.lengths.min()) == 0:
            empty = "the source" if self.num_series == 0 else f"series {self.ids[int(self.lengths.argmin())]!r}"
            raise InputError(f"{empty} has no values: give at least one step for every series.")
        finite = torch.isfinite(self.values)
        if not bool(finite.all()):
            position, feature = (int(i) for i in (~finite).nonzero()[0])
            index = int(torch.searchsorted(self.offsets, position, right=True)) - 1
            step = position - int(self.offsets[index])
            raise InputError(
                f"series {self.ids[index]!r} has the value {float(self.values[position, feature])} in "
                f"{self.features[feature]!r} at step {step} ({self.time_column} = "
                f"{self.times.stamps(index, step, 1)[0]}): every value must be a finite number; fill or drop it."
            )


class Series(ABC):
    """Where values come from. To add a source, write a subclass with plain, typed arguments and one method, ``load``.

    ``num_features`` says, before anything is read, how many features ``load`` returns: override it when it is not one.
    """

    num_features: int = 1

    @abstractmethod
    def load(self) -> SeriesData:
        """Make or read the values. Equal arguments give equal values, whatever the global random state is."""
