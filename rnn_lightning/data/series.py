"""The contract of a series: values and time stamps of many recordings, flat in memory."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from rnn_lightning.errors import InputError
from rnn_lightning.tables.calendar import CALENDAR, TimeIndex, calendar_codes
from rnn_lightning.tables.precision import LARGEST, SMALLEST
from rnn_lightning.tables.storage import FileArray

if TYPE_CHECKING:
    import polars as pl

PLAIN = (str, int, float, bool, list, tuple, type(None))
"""The kinds of arguments that the ``repr`` of a series shows."""

PIECE_ROWS = 2**20
"""Rows that are looked at together, so that values larger than memory can be."""


@dataclass(frozen=True)
class TableFormat:
    """How a table is written.

    Attributes:
        column_types: the polars types of its columns, in their order.
        time_format: how time stamps are written in a CSV file, in the notation of ``strftime``; None for ISO.
        separator: the character between two columns of a CSV file.
    """

    column_types: Mapping[str, Any] = field(default_factory=dict)
    time_format: str | None = None
    separator: str = ","


@dataclass(frozen=True, repr=False)
class SeriesData:
    """Many series of unequal length, one after another in one array.

    NaN marks a value that is not known. The rows of a series go from its first known step to its last one,
    and on to the last step whose covariates are known.

    Attributes:
        values: ``(row, feature)``, float32: a tensor, or a file where they are larger than memory; the rows
            of series ``i`` are ``values[offsets[i] : offsets[i + 1]]``.
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
        table_format: how the table was written that they were read from, and its forecast will be.
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
    table_format: TableFormat = field(default_factory=TableFormat)

    def __post_init__(self) -> None:
        if self.lengths is None:
            object.__setattr__(self, "lengths", self.offsets.diff())

    @classmethod
    def from_equal(cls, values: Tensor, *, start: float = 0, interval: float = 1) -> "SeriesData":
        """Series of equal length, ``(series, time, feature)``, on a numeric time axis, with ids from 0."""
        num_series, length, num_features = values.shape
        return cls(
            values=values.reshape(-1, num_features).float(),
            offsets=torch.arange(num_series + 1) * length,
            ids=[str(i) for i in range(num_series)],
            features=["y"] if num_features == 1 else [f"y{i}" for i in range(num_features)],
            times=TimeIndex([start] * num_series, [interval] * num_series),
        )

    def __repr__(self) -> str:
        size = f"{counted(self.num_series, 'series', 'series')}, {counted(int(self.lengths.sum()), 'step')}"
        inputs = [*self.covariate_names, *self.calendar_names]
        known = f"; covariates {', '.join(inputs)}" if inputs else ""
        first = self.times.stamps(0, 0, 1)[0]
        return (
            f"SeriesData: {size}, features {', '.join(self.features)}{known}\n"
            f"  {self.ids[0]!r} from {self.time_column} = {first} in steps of {self.times.intervals[0]}"
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

    def keep(self, kept: list[int], note: str) -> "SeriesData":
        """Some of the series, in their order, and a note on the others.

        Nothing is copied: the rows of the others stay, after those of the series before, and no step of a
        series is in them.
        """
        starts = self.times.starts
        return replace(
            self,
            offsets=torch.cat([self.offsets[torch.as_tensor(kept)], self.offsets[-1:]]),
            lengths=self.lengths[torch.as_tensor(kept)],
            ids=[self.ids[index] for index in kept],
            times=TimeIndex(
                [starts[index] for index in kept] if isinstance(starts, Sequence) else starts.gather(kept),
                [self.times.intervals[index] for index in kept],
            ),
            notes=[*self.notes, note],
        )

    def encoded(self, rows: Tensor) -> Tensor | None:
        """The covariates ``(..., covariate)`` of ``rows (...)``, calendar features one-hot, or None."""
        parts = [self.covariates[rows]] if self.covariates is not None else []
        if self.calendar is not None:
            parts.append(encode_calendar(self.calendar[rows], self.calendar_names))
        return torch.cat(parts, -1) if parts else None

    def future_calendar(self, series_indices: Sequence[int], horizon: int) -> Tensor:
        """The calendar of the steps after each series, ``(series, horizon, calendar feature)``, uint8."""
        chosen = torch.as_tensor(series_indices)
        stamps = self.times.stamp_series(chosen.tolist(), self.lengths[chosen].tolist(), horizon)
        codes = calendar_codes(stamps, self.calendar_names)
        return torch.from_numpy(codes).view(len(chosen), horizon, len(self.calendar_names))

    def unlink(self) -> None:
        """Remove the scratch files behind the arrays, once all processes have mapped them."""
        for array in (self.values, self.covariates, self.calendar):
            if isinstance(array, FileArray):
                array.unlink()

    def validate(self) -> None:
        """Refuse what no later part can work with.

        Raises:
            InputError: if there is no series, a series is empty, or a value is infinite, or too large or
                small to be computed with.
        """
        if self.num_series == 0 or int(self.lengths.min()) == 0:
            empty = (
                "the source" if self.num_series == 0 else f"series {self.ids[int(self.lengths.argmin())]!r}"
            )
            raise InputError(f"{empty} has no values: give at least one step for every series.")
        largest = torch.zeros(len(self.features))
        for first in range(0, len(self.values), PIECE_ROWS):
            magnitude = self.values[first : first + PIECE_ROWS].abs().nan_to_num(0.0, posinf=torch.inf)
            largest = torch.maximum(largest, magnitude.amax(0))
            extreme = magnitude > LARGEST
            if bool(extreme.any()):
                row, feature = (int(i) for i in extreme.nonzero()[0])
                index = int(torch.searchsorted(self.offsets, first + row, right=True)) - 1
                step = first + row - int(self.offsets[index])
                raise InputError(
                    f"series {self.ids[index]!r} has the value {float(self.values[first + row][feature]):g} "
                    f"in {self.features[feature]!r} at step {step} ({self.time_column} = "
                    f"{self.times.stamps(index, step, 1)[0]}): every value must be a finite number of at "
                    f"most {LARGEST:g}; leave it empty if it is not known, or give it in a larger unit."
                )
        for name, value in zip(self.features, largest.tolist(), strict=True):
            if 0 < value < SMALLEST:
                raise InputError(
                    f"no value of {name!r} is above {value:g}, too small for numbers of 32 bits (at least "
                    f"{SMALLEST:g}): give the column in a smaller unit."
                )


def encode_calendar(codes: Tensor, names: Sequence[str]) -> Tensor:
    """Calendar features ``(..., calendar feature)`` as one-hot covariates ``(..., covariate)``, float32."""
    columns = [one_hot(codes[..., i].long(), CALENDAR[name]) for i, name in enumerate(names)]
    return torch.cat(columns, -1).float()


def calendar_covariates(stamps: "Sequence[Any] | pl.Series", names: Sequence[str]) -> Tensor:
    """The covariates ``(step, covariate)`` of time stamps, as a fit with calendar features has them.

    Args:
        stamps: dates or datetimes, as a list or a polars Series; those with a time zone are read as its
        clocks show.
        names: the calendar features in the order of the fit: month, weekday, hour.

    Raises:
        InputError: if the stamps are numbers, or a name is none of these.
    """
    import polars as pl

    for name in names:
        if name not in CALENDAR:
            raise InputError(f"{name!r} is no calendar feature: give some of {', '.join(CALENDAR)}.")
    column = stamps if isinstance(stamps, pl.Series) else pl.Series(stamps)
    return encode_calendar(torch.from_numpy(calendar_codes(column, names)), names)


def count_unknown(rows: Any, offsets: Tensor, ends: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """How many of the ``rows (row, column)`` of each series, from its offset to before its end, are NaN.

    Returns:
        Counts of each series ``(series,)`` and of each column ``(column,)``.
    """
    num_columns = rows.shape[1]
    by_series, by_column = (
        torch.zeros(len(ends), dtype=torch.long),
        torch.zeros(num_columns, dtype=torch.long),
    )
    at_once = max(1, PIECE_ROWS // num_columns)
    for first in range(0, len(rows), at_once):
        piece = rows[first : first + at_once]
        before = torch.nn.functional.pad(piece.isnan().cumsum(0), (0, 0, 1, 0))  # of the rows before each one
        low = max(0, int(torch.searchsorted(offsets, first, right=True)) - 1)
        high = int(torch.searchsorted(offsets[:-1], first + len(piece)))
        start, end = (bounds[low:high].clamp(first, first + len(piece)) - first for bounds in (offsets, ends))
        counts = before[end] - before[start]
        by_series[low:high] += counts.sum(1)
        by_column += counts.sum(0)
    return by_series.numpy(), by_column.numpy()


def counted(number: int, one: str, many: str | None = None) -> str:
    """The number and what it counts: ``1 step``, ``1,200 steps``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


class Series(ABC):
    """Where values come from: subclass it with plain, typed arguments and one method, ``load``.

    ``num_features`` and ``num_covariates`` say, before anything is read, how many of them ``load`` returns:
    override them when there are others.
    """

    num_features: int = 1
    num_covariates: int = 0

    def __repr__(self) -> str:
        given = {name: getattr(self, name, ...) for name in inspect.signature(type(self)).parameters}
        plain = [f"{name}={value!r}" for name, value in given.items() if isinstance(value, PLAIN)]
        features = f"{counted(self.num_features, 'feature')}, {counted(self.num_covariates, 'covariate')}"
        return f"{type(self).__name__}: {features}\n  {', '.join(plain)}"

    @abstractmethod
    def load(self) -> SeriesData:
        """Make or read the values. Equal arguments give equal values, whatever the global random state is."""
