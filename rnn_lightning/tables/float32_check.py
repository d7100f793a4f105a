"""Refuse numbers that float32, in which networks compute, cannot hold."""

from collections.abc import Callable, Sequence

import numpy as np

from rnn_lightning.data.series import LARGEST, SMALLEST, changes_and_rounding, is_lossy
from rnn_lightning.errors import InputError, quoted


class Float32Check:
    """Finds columns too large or too small for float32, and series whose changes drown in its rounding.

    Args:
        columns: names of the columns.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns, self._files = columns, [""] * len(columns)
        self._largest = np.zeros(len(columns))
        self._sums = np.zeros((2, 0, len(columns)))
        self._before = np.zeros((0, len(columns)))

    def observe(self, values: np.ndarray, series: np.ndarray, file: str) -> np.ndarray:
        """Take note of some rows of a file, and return them as float32.

        Args:
            values: ``(row, column)``, NaN where not known.
            series: ``(row,)``, the numbers of their series.
            file: the name of the file.
        """
        with np.errstate(over="ignore", under="ignore"):
            rounded = values.astype(np.float32)
        largest = np.nan_to_num(np.abs(values)).max(0, initial=0.0)
        for column in np.flatnonzero(largest > self._largest).tolist():
            self._largest[column], self._files[column] = largest[column], file
        if len(series) and (largest <= LARGEST).all():
            order = np.argsort(series, kind="stable") if (np.diff(series) < 0).any() else slice(None)
            ordered = series[order]
            low, high = int(ordered[0]), int(ordered[-1]) + 1
            missing = max(high - len(self._before), 0)
            self._before = np.pad(self._before, ((0, missing), (0, 0)), constant_values=np.nan)
            self._sums = np.pad(self._sums, ((0, 0), (0, missing), (0, 0)))
            sums = changes_and_rounding(values[order], ordered, self._before[low:high], low)
            self._sums[:, low:high] += sums
        return rounded

    def finish(self, ids: Callable[[], Sequence[str]]) -> list[str]:
        """Return notes on series whose changes float32 loses.

        Args:
            ids: returns the names of the series.

        Raises:
            InputError: if these are all series of a column that change, or it is too large or too small.
        """
        for name, file, largest in zip(self.columns, self._files, self._largest.tolist(), strict=True):
            reaches = f"{file}: column {quoted(name)} reaches {largest:g}"
            if largest > LARGEST:
                raise InputError(f"{reaches}, too large to be squared in float32: divide it by a constant.")
            if 0 < largest < SMALLEST:
                raise InputError(f"{reaches} at most, too small for float32: multiply it by a constant.")
        notes = []
        for name, lossy, change in zip(self.columns, is_lossy(self._sums).T, self._sums[0].T, strict=True):
            if not lossy.any():
                continue
            number, which = int(lossy.sum()), quoted(ids()[int(lossy.argmax())])
            series = f"series {which}" if number == 1 else f"{number:,} series, such as {which},"
            what = f"column {quoted(name)} of {series} is too large for its changes"
            what += " in the seven digits of float32"
            if number == (change > 0).sum():
                raise InputError(f"{what}: subtract a constant from it, or forecast its changes.")
            notes.append(f"{what[0].upper()}{what[1:]}, which are lost: subtract a constant from it.")
        return notes
