"""Series from arrays of NumPy, in memory or in a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.data.series import CHUNK_ROWS, Series, SeriesData, TimeIndex
from rnn_lightning.errors import InputError
from rnn_lightning.tables.float32_check import Float32Check
from rnn_lightning.tables.storage import FileArray

if TYPE_CHECKING:
    Array = str | Path | np.ndarray | list[Any]
else:
    Array = str  # the command line knows files alone

MAPPED = ("float32", "float64", "float16", "int8", "int16", "int32", "int64")
"""Types of numbers that stay in their file; others are read into memory."""


class ArraySeries(Series):
    """Numbers in a .npy file: a series ``(time,)`` or ``(time, feature)``, or ``(series, time, feature)``.

    The file is not read but mapped, so that it may be larger than memory. NaN marks an unknown value; series
    of unequal length end in NaN. The time stamps are 0, 1, 2, ...

    Args:
        path: the file; in Python also an array or a list.
    """

    def __init__(self, path: Array) -> None:
        try:
            self.path = path if isinstance(path, str | Path) else np.asanyarray(path)
        except ValueError as error:
            raise InputError(f"`path` is no array ({error}).") from error
        try:
            shape = self._open().shape
        except (OSError, ValueError, EOFError):  # load says what is wrong
            shape = ()
        self.num_features = shape[-1] if len(shape) in (2, 3) else 1

    def load(self) -> SeriesData:
        """Map the file.

        Raises:
            InputError: if it is missing, no .npy file, or of another shape or type.
        """
        try:
            array = self._open()
        except FileNotFoundError as error:
            raise InputError(f"`path` {self.path}: no such file.") from error
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"`path` {self.path}: not a readable .npy file ({error}).") from error
        name = "the array" if isinstance(self.path, np.ndarray) else str(self.path)
        if array.dtype.kind not in "fiub":
            raise InputError(f"{name} holds {array.dtype}: it must hold real numbers.")
        if array.ndim not in (1, 2, 3) or array.size == 0:
            raise InputError(
                f"{name} has the shape {array.shape}: it must be (time,), (time, feature) or (series, time, "
                "feature), and not empty."
            )
        shape = (1, -1, 1) if array.ndim == 1 else (1, *array.shape) if array.ndim == 2 else array.shape
        require_digits(array.reshape(shape)[0, :CHUNK_ROWS], name)
        num_series, length, num_features = array.reshape(shape).shape
        values = rows_of(array, num_series * length, num_features)
        data = SeriesData(
            values=values,  # type: ignore[arg-type]
            offsets=torch.arange(num_series + 1) * length,
            ids=[str(index) for index in range(num_series)],
            features=["y"] if num_features == 1 else [f"y{index}" for index in range(num_features)],
            times=TimeIndex([0] * num_series, [1] * num_series),
            lengths=known_lengths(values, num_series, length, name),
        )
        if isinstance(values, Tensor):  # those of a file are looked at before they are used
            data.validate()
        return data

    def _open(self) -> np.ndarray:
        if isinstance(self.path, np.ndarray):
            return self.path
        return np.lib.format.open_memmap(self.path, "r")


def rows_of(array: np.ndarray, num_rows: int, num_features: int) -> Tensor | FileArray:
    """The rows of all series; they stay in the file if they are contiguous and of a type torch knows."""
    as_it_is = array.flags.c_contiguous and array.dtype.isnative and array.dtype.name in MAPPED
    if as_it_is and isinstance(array, np.memmap):
        path = Path(str(array.filename))
        return FileArray(path, array.dtype.name, (num_rows, num_features), array.offset)
    with np.errstate(over="ignore"):  # refused as infinite
        return torch.from_numpy(np.array(array, dtype=np.float32).reshape(num_rows, num_features))


def known_lengths(values: Any, num_series: int, length: int, name: str) -> Tensor:
    """Steps of each series up to its last known value, ``(series,)``."""
    lengths = torch.full((num_series,), length)
    for index in range(num_series):
        end = (index + 1) * length
        while lengths[index] > 0:
            first = max(index * length, end - CHUNK_ROWS if end < (index + 1) * length else end - 1)
            known = (~values[first:end].isnan()).any(dim=1).nonzero()
            if len(known):
                lengths[index] = first + int(known[-1]) + 1 - index * length
                break
            lengths[index] = first - index * length
            end = first
        if lengths[index] == 0:
            raise InputError(f"series {index} of {name} has no known value: leave it out.")
    return lengths


def require_digits(rows: np.ndarray, name: str) -> None:
    """Refuse numbers that float32 cannot hold, by the first ones."""
    for feature in range(rows.shape[1]):
        check = Float32Check(str(feature))
        values = rows[:, feature]
        check.observe(values if values.dtype == np.float32 else values.astype(np.float64), name)
        check.raise_if_lossy()
