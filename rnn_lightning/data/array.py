"""Series from NumPy arrays, in memory or in a file."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rnn_lightning.data.series import CHUNK_ROWS, Series, SeriesData
from rnn_lightning.errors import InputError, counted

if TYPE_CHECKING:
    Array = str | Path | np.ndarray | list[Any]
else:
    Array = str  # the command line knows files alone


class ArraySeries(Series):
    """Series in a .npy file of shape ``(time,)``, ``(time, feature)`` or ``(series, time, feature)``.

    The file is mapped instead of read, so it may be larger than memory. NaN marks an unknown value; shorter
    series end in NaN. The time stamps are 0, 1, 2, ...

    Args:
        path: the file; in Python also an array or a list.
    """

    def __init__(self, path: Array) -> None:
        try:
            self.path = path if isinstance(path, str | Path) else with_nan(np.asanyarray(path))
        except ValueError as error:
            advice = "let shorter series end in NaN"
            raise InputError(f"the series are no array ({str(error)[:80]} ...): {advice}.") from error
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
        except InputError:  # of a kind of file that a subclass opens
            raise
        except (OSError, ValueError, EOFError) as error:
            advice = "np.save writes one, such as of np.loadtxt(file, delimiter=',', skiprows=1)"
            if Path(str(self.path)).suffix == ".npz":
                advice = "save one of its arrays by np.save"
            raise InputError(f"`path` {self.path}: not a readable .npy file ({error}): {advice}.") from error
        name = "the array" if isinstance(self.path, np.ndarray) else str(self.path)
        if array.dtype.kind not in "fiub":
            raise InputError(f"{name} holds {array.dtype}: it must hold real numbers.")
        if array.ndim not in (1, 2, 3) or array.size == 0:
            raise InputError(
                f"{name} has the shape {array.shape}: it must be (time,), (time, feature) or (series, time, "
                "feature), and not empty."
            )
        shape = (1, -1, 1) if array.ndim == 1 else (1, *array.shape) if array.ndim == 2 else array.shape
        array = array.reshape(shape)  # (series, time, feature)
        if array.shape[2] > array.shape[1] > 1:
            steps, features = counted(array.shape[1], "step"), counted(array.shape[2], "feature")
            axes = "the axes are (time, feature), or (series, time, feature), such as values[..., None]"
            warnings.warn(f"{name} has {steps} of {features}: {axes}.", stacklevel=2)
        lengths = [_known_length(values, f"series {index} of {name}") for index, values in enumerate(array)]
        return SeriesData.from_equal(_tensor(array), lengths=torch.tensor(lengths))

    def _open(self) -> np.ndarray:
        # Copy on write: the file is only read, and torch, which would warn otherwise, may write.
        return self.path if isinstance(self.path, np.ndarray) else np.lib.format.open_memmap(self.path, "c")


def real_numbers(values: Any) -> np.ndarray:
    """Return values as float64; NaN where a masked array is masked.

    Raises:
        InputError: if they are no real numbers.
    """
    array = np.asanyarray(values)
    if array.dtype.kind not in "fiub":
        raise InputError(f"the array holds {array.dtype}: it must hold real numbers.")
    return np.array(with_nan(array), np.float64)


def with_nan(array: np.ndarray) -> np.ndarray:
    """Return an array with NaN where it is masked."""
    if not np.ma.is_masked(array):
        return np.asarray(array)
    return np.ma.filled(array.astype(np.float64), np.nan)


def _tensor(array: np.ndarray) -> torch.Tensor:
    """Return the array as a tensor: a file stays mapped where torch knows its type, else it is read."""
    flags, is_known = array.flags, array.dtype.isnative and array.dtype.kind in "fi"
    if not (flags.c_contiguous and flags.writeable and is_known):
        with np.errstate(over="ignore"):  # refused as infinite
            array = array.astype(np.float32)
    return torch.from_numpy(array)


def _known_length(values: np.ndarray, name: str) -> int:
    """Return the number of steps of ``values (time, feature)`` up to the last known one."""
    for end in range(len(values), 0, -CHUNK_ROWS):  # most series end with a known value
        chunk = np.asarray(values[max(0, end - CHUNK_ROWS) : end], np.float64)
        known = np.flatnonzero(~np.isnan(chunk).all(1))
        if len(known):
            return max(0, end - CHUNK_ROWS) + int(known[-1]) + 1
    raise InputError(f"{name} has no known value: leave it out.")
