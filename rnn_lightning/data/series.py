"""The contract of a series: values and time stamps of many recordings, flat in memory."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.errors import InputError, counted

CHUNK_ROWS = 2**20
"""Rows that are looked at together, so that values larger than memory can be."""

LARGEST, SMALLEST = 1e30, 1e-30
"""Features that reach more, or nowhere as much as this, have squares outside the range of float32."""

DOUBLE_ROUNDING = 2.0**-46
"""Changes up to this part of a value are those of computing in float64, as from 0.3 to 0.1 + 0.2."""

MAX_ROUNDING = 1e-2
"""What numbers may lose in float32, as a part of the mean change from one value to the next other one."""


@dataclass
class TimeIndex:
    """Numbered time stamps: step ``k`` of series ``i`` is at ``starts[i] + k * frequencies[i]``."""

    starts: Any  # (series,)
    frequencies: Any

    def stamps_at(self, series: np.ndarray, steps: np.ndarray) -> Any:
        """Return the stamp of each of ``steps`` of the series in ``series``, both ``(row,)``."""
        first, size = (np.asarray(part)[series] for part in (self.starts, self.frequencies))
        stamps = first + steps * size
        if stamps.dtype.kind in "iu" or len(stamps) == 0:
            return stamps
        # Without rounding errors as in 0.1 + 2 * 0.1: a billionth of a step, at least, is kept.
        digits = np.clip(9 - np.floor(np.log10(size)), 9, 300).astype(int)
        for count in np.unique(digits):
            stamps[digits == count] = np.round(stamps[digits == count], count)
        return stamps

    def exist(self, series: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return whether the series can have values at ``steps``, both ``(row,)``: here at all of them."""
        return np.ones(len(series), bool)

    def keep(self, kept: Sequence[int]) -> "TimeIndex":
        """Return the stamps of some series."""
        first, size = ([part[index] for index in kept] for part in (self.starts, self.frequencies))
        return type(self)(first, size)


@dataclass(frozen=True, repr=False)
class SeriesData:
    """Many series of unequal length, one after another in one array; NaN marks an unknown value.

    The rows of a series go from its first known step to its last one, and on to the last step whose
    covariates are known.

    Attributes:
        values: ``(row, feature)``, the rows of series ``i`` are ``values[offsets[i] : offsets[i + 1]]``; a
            tensor, or anything that is indexed like one, such as an array in a file.
        offsets: ``(series + 1,)``, int64.
        ids: a unique name for each series.
        features: a name for each feature.
        times: the time stamps.
        lengths: ``(series,)``, the number of steps up to the last known one; all rows if not given.
        covariates: ``(row, covariate)``, known inputs that are not predicted.
        covariate_names: a name for each covariate.
        traits: what belongs to each series beside its values, ``(series, ...)`` each, for networks that ask.
    """

    values: Tensor
    offsets: Tensor
    ids: Sequence[str]
    features: Sequence[str]
    times: TimeIndex
    lengths: Tensor = None  # type: ignore[assignment]
    covariates: Tensor | None = None
    covariate_names: Sequence[str] = ()
    traits: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.lengths is None:
            object.__setattr__(self, "lengths", self.offsets.diff())

    @classmethod
    def from_equal(
        cls, values: Any, lengths: Tensor | None = None, *, start: float = 0, frequency: float = 1
    ) -> "SeriesData":
        """Make series of equal length ``(series, time, feature)`` on a numbered axis, with ids from 0.

        A single series may be ``(time,)`` or ``(time, feature)``.
        """
        values = torch.as_tensor(values)
        values = values[:, None] if values.ndim == 1 else values
        values = values[None] if values.ndim == 2 else values
        num_series, length, num_features = values.shape
        return cls(
            values=values.reshape(-1, num_features),
            offsets=torch.arange(num_series + 1) * length,
            ids=[str(i) for i in range(num_series)],
            features=["y"] if num_features == 1 else [f"y{i}" for i in range(num_features)],
            times=TimeIndex([start] * num_series, [frequency] * num_series),
            lengths=lengths,  # type: ignore[arg-type]
        )

    def __repr__(self) -> str:
        size = f"{counted(self.num_series, 'series')}, {counted(int(self.lengths.sum()), 'step')}"
        known = f"; covariates {', '.join(self.covariate_names)}" if self.covariate_names else ""
        return f"{type(self).__name__}: {size}, features {', '.join(self.features)}{known}"

    @property
    def num_series(self) -> int:
        return len(self.ids)

    @property
    def ends(self) -> Tensor:
        """One past the row of the last known step of each series, ``(series,)``."""
        return self.offsets[:-1] + self.lengths

    def series(self, index: int) -> Tensor:
        """Return the values of one series up to its last known step, ``(time, feature)``."""
        return self.values[int(self.offsets[index]) : int(self.ends[index])]

    def covariates_at(self, rows: Tensor) -> Tensor | None:
        """Return the covariates ``(..., covariate)`` of ``rows (...)``, None without covariates."""
        return None if self.covariates is None else self.covariates[rows]

    def future_covariates(self, series: Tensor, horizon: int) -> Tensor | None:
        """Return the covariates ``(batch, horizon, covariate)`` after the last known step of each series."""
        if self.covariates is None:
            return None
        rows = self.ends[series][:, None] + torch.arange(horizon)  # (batch, horizon)
        beyond = rows >= self.offsets[series + 1][:, None]
        return self.covariates[rows.clamp_max(len(self.values) - 1)].masked_fill(beyond[..., None], torch.nan)

    def known_covariates(self, covariates: Tensor, num_steps: int) -> Tensor:
        """Return covariates ``(batch, time, covariate)`` as they are known after the first ``num_steps``.

        All are known ahead, unless a subclass says otherwise.
        """
        return covariates

    def validate(self) -> None:
        """Refuse series without values, and values that float32 cannot compute with.

        Raises:
            InputError: if there is no series, or one is empty, or a value is infinite, too large or small, or
                float32 is too coarse for the changes of the values.
        """
        if self.num_series == 0 or int(self.lengths.min()) == 0:
            empty = f"series {self.ids[int(self.lengths.argmin())]!r}" if self.num_series else "the source"
            raise InputError(f"{empty} has no values: give at least one step for every series.")
        largest = torch.zeros(len(self.features), dtype=torch.float64)
        sums = np.zeros((2, self.num_series, len(self.features)))
        before = np.full(sums.shape[1:], np.nan)
        for first in range(0, len(self.values), CHUNK_ROWS):
            values = self.values[first : first + CHUNK_ROWS]
            magnitude = values.abs().nan_to_num(0.0, posinf=torch.inf)
            if values.dtype not in (torch.float32, torch.float16, torch.bfloat16):
                rows = torch.arange(first, first + len(values))
                series = torch.searchsorted(self.offsets, rows, right=True) - 1
                low, high = int(series[0]), int(series[-1]) + 1
                exact = values.double().numpy()
                sums[:, low:high] += changes_and_rounding(exact, series.numpy(), before[low:high], low)
            largest = torch.maximum(largest, magnitude.amax(0))
            for row, feature in (magnitude > LARGEST).nonzero()[:1].tolist():
                index = int(torch.searchsorted(self.offsets, first + row, right=True)) - 1
                place = np.array([index]), np.array([first + row - int(self.offsets[index])])
                raise InputError(
                    f"series {self.ids[index]!r} has the value {float(self.values[first + row][feature]):g} "
                    f"in {self.features[feature]!r} at {self.times.stamps_at(*place)[0]}: every value must "
                    f"be a finite number of at most {LARGEST:g}; leave it empty if it is unknown, or "
                    "give it in a larger unit."
                )
        for name, value in zip(self.features, largest.tolist(), strict=True):
            if 0 < value < SMALLEST:
                rule = f"too small for numbers of 32 bits (at least {SMALLEST:g}): give it in a smaller unit"
                raise InputError(f"no value of {name!r} is above {value:g}, {rule}.")
        for index, feature in np.argwhere(is_lossy(sums))[:1].tolist():
            what = f"the values of {self.features[feature]!r} in series {self.ids[index]!r}"
            rule = "too large for their changes in the seven digits of float32: subtract a constant"
            raise InputError(f"{what} are {rule}.")


def changes_and_rounding(
    values: np.ndarray, series: np.ndarray, before: np.ndarray, first: int = 0
) -> np.ndarray:
    """Return sums over the changes within each series, ``(2, series, feature)``.

    They are of the absolute changes, and of what the value after each of them loses in float32.

    Args:
        values: ``(row, feature)``, NaN where unknown.
        series: ``(row,)``, the number of the series of each row, in ascending order.
        before: ``(series, feature)``, the value before the first row of each series, NaN for none; becomes
            that before the next rows.
        first: the number of the first series of ``before``.
    """
    sums, place = np.zeros((2, *before.shape)), series - first
    begins = np.flatnonzero(np.diff(place, prepend=-1))  # of the rows of each series
    ends = np.append(begins[1:], len(place)) - 1
    for feature, exact in enumerate(values.T):
        previous = np.append(np.nan, exact[:-1])
        previous[begins] = before[place[begins], feature]
        before[place[ends], feature] = exact[ends]
        with np.errstate(invalid="ignore", over="ignore"):  # infinite numbers are refused elsewhere
            changes, lost = np.abs(exact - previous), np.abs(exact - exact.astype(np.float32))
            is_change = changes > DOUBLE_ROUNDING * np.abs(exact)  # known, and no rounding of float64
        for total, part in zip(sums, (changes, lost), strict=True):
            total[:, feature] = np.bincount(place, np.where(is_change, part, 0.0), len(before))
    return sums


def is_lossy(sums: np.ndarray) -> np.ndarray:
    """Return where float32 is too coarse for the changes, ``(series, feature)``, by their sums."""
    change, rounding = sums
    return rounding > MAX_ROUNDING * change


class Series(ABC):
    """A source of values: subclass it with plain, typed arguments and one method, ``load``.

    ``num_features`` and ``num_covariates`` say, before anything is read, how many of them ``load`` returns:
    override them when there are others.
    """

    num_features: int = 1
    num_covariates: int = 0

    def __repr__(self) -> str:
        given = {name: getattr(self, name, ...) for name in inspect.signature(type(self)).parameters}
        plain = (str, int, float, bool, list, tuple, type(None))
        shown = ", ".join(f"{name}={value!r}" for name, value in given.items() if isinstance(value, plain))
        features = f"{counted(self.num_features, 'feature')}, {counted(self.num_covariates, 'covariate')}"
        return f"{type(self).__name__}: {features}" + (f"\n  {shown}" if shown else "")

    @abstractmethod
    def load(self) -> SeriesData:
        """Make or read the values. Equal arguments give equal values, whatever the global random state is."""


class GivenSeries(Series):
    """Series that are in memory already.

    Args:
        data: the series.
    """

    def __init__(self, data: SeriesData) -> None:
        self.data, self.num_features = data, data.values.shape[1]
        covariates = data.covariates_at(torch.zeros(1, dtype=torch.long))
        self.num_covariates = 0 if covariates is None else covariates.shape[-1]

    def load(self) -> SeriesData:
        return self.data
