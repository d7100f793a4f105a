"""The contract of a series: values and time stamps of many recordings, flat in memory."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.errors import InputError
from rnn_lightning.tables.float32_check import LARGEST_VALUE, SMALLEST_VALUE
from rnn_lightning.tables.storage import FileArray

PLAIN = (str, int, float, bool, list, tuple, type(None))
"""The kinds of arguments that the ``repr`` of a series shows."""

CHUNK_ROWS = 2**20
"""Rows that are looked at together, so that values larger than memory can be."""


class TimeIndex:
    """Regular time stamps: step ``k`` of series ``i`` is at ``starts[i] + k * frequencies[i]``.

    Args:
        starts: the first stamp of each series.
        frequencies: the distance between two steps of each series.
    """

    def __init__(self, starts: Sequence[float], frequencies: Sequence[float]) -> None:
        self.starts: Any = starts  # a subclass has others than numbers
        self.frequencies: Sequence[Any] = frequencies

    def stamps_at(self, series: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return the stamp of each of ``steps (row,)`` of the series numbered ``series (row,)``.

        Whole numbers stay whole. Others keep a billionth of the frequency, which hides rounding errors such
        as that of 0.1 + 2 * 0.1.
        """
        frequencies = np.asarray(self.frequencies)[series]  # (row,)
        stamps = np.asarray(self.starts)[series] + steps * frequencies
        if stamps.dtype.kind in "iu":
            return stamps
        places = np.clip(9 - np.floor(np.log10(frequencies)), 9, 300).astype(int)
        for number in np.unique(places):
            stamps[places == number] = np.round(stamps[places == number], number)
        return stamps

    def stamps(self, series_index: int, first_step: int, num_steps: int) -> list[Any]:
        """Return the stamps of ``num_steps`` steps from ``first_step`` on, which may lie past the end."""
        steps = np.arange(first_step, first_step + num_steps)
        return self.stamps_at(np.full(num_steps, series_index), steps).tolist()


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
        lengths: ``(series,)``, the number of steps up to the last known one; all rows if not given.
        covariates: ``(row, covariate)``, float32, known inputs that are not predicted.
        covariate_names: a name for each covariate.
    """

    values: Tensor  # or a FileArray, which is indexed alike
    offsets: Tensor
    ids: Sequence[str]
    features: Sequence[str]
    times: TimeIndex
    lengths: Tensor = None  # type: ignore[assignment]
    covariates: Tensor | None = None
    covariate_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.lengths is None:
            object.__setattr__(self, "lengths", self.offsets.diff())

    @classmethod
    def from_equal(cls, values: Tensor, *, start: float = 0, frequency: float = 1) -> "SeriesData":
        """Series of equal length, ``(series, time, feature)``, on a numeric time axis, with ids from 0."""
        num_series, length, num_features = values.shape
        return cls(
            values=values.reshape(-1, num_features).float(),
            offsets=torch.arange(num_series + 1) * length,
            ids=[str(i) for i in range(num_series)],
            features=["y"] if num_features == 1 else [f"y{i}" for i in range(num_features)],
            times=TimeIndex([start] * num_series, [frequency] * num_series),
        )

    def __repr__(self) -> str:
        size = f"{counted(self.num_series, 'series', 'series')}, {counted(int(self.lengths.sum()), 'step')}"
        known = f"; covariates {', '.join(self.covariate_names)}" if self.covariate_names else ""
        first = self.times.stamps(0, 0, 1)[0]
        return (
            f"{type(self).__name__}: {size}, features {', '.join(self.features)}{known}\n"
            f"  {self.ids[0]!r} from {first} in steps of {self.times.frequencies[0]}"
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

    def covariates_at(self, rows: Tensor) -> Tensor | None:
        """Return the covariates ``(..., covariate)`` of ``rows (...)``, or None if there are none."""
        return None if self.covariates is None else self.covariates[rows]

    def future_covariates(self, series_indices: Tensor, horizon: int) -> Tensor | None:
        """Return the covariates ``(batch, horizon, covariate)`` of the steps after each of the series."""
        if self.covariates is None:
            return None
        return self.covariates[self.ends[series_indices][:, None] + torch.arange(horizon)]

    def unlink(self) -> None:
        """Remove the scratch files behind the arrays, once all processes have mapped them."""
        for array in self._arrays():
            if isinstance(array, FileArray):
                array.unlink()

    def _arrays(self) -> list[Any]:
        return [self.values, self.covariates]

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
        for first in range(0, len(self.values), CHUNK_ROWS):
            magnitude = self.values[first : first + CHUNK_ROWS].abs().nan_to_num(0.0, posinf=torch.inf)
            largest = torch.maximum(largest, magnitude.amax(0))
            extreme = magnitude > LARGEST_VALUE
            if bool(extreme.any()):
                row, feature = (int(i) for i in extreme.nonzero()[0])
                index = int(torch.searchsorted(self.offsets, first + row, right=True)) - 1
                step = first + row - int(self.offsets[index])
                raise InputError(
                    f"series {self.ids[index]!r} has the value {float(self.values[first + row][feature]):g} "
                    f"in {self.features[feature]!r} at step {step} (time "
                    f"{self.times.stamps(index, step, 1)[0]}): every value must be a finite number of at "
                    f"most {LARGEST_VALUE:g}; leave it empty if it is not known, or give it in a larger unit."
                )
        for name, value in zip(self.features, largest.tolist(), strict=True):
            if 0 < value < SMALLEST_VALUE:
                raise InputError(
                    f"no value of {name!r} is above {value:g}, too small for numbers of 32 bits (at least "
                    f"{SMALLEST_VALUE:g}): give the column in a smaller unit."
                )


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
