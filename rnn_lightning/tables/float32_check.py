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
        if (values != rounded)[~np.isnan(values)].any() and (largest <= LARGEST).all():
            order = np.argsort(series, kind="stable") if (np.diff(series) < 0).any() else slice(None)
            missing = max(int(series.max()) + 1 - self._sums.shape[1], 0)
            self._sums = np.pad(self._sums, ((0, 0), (0, missing), (0, 0)))
            self._sums += changes_and_rounding(values[order], series[order], self._sums.shape[1])
        return rounded

    def raise_if_lossy(self, ids: Callable[[], Sequence[str]]) -> None:
        """Raise InputError if float32 is too coarse for the rows that were observed.

        Args:
            ids: returns the names of the series.
        """
        for name, file, largest in zip(self.columns, self._files, self._largest.tolist(), strict=True):
            reaches = f"{file}: column {quoted(name)} reaches {largest:g}"
            if largest > LARGEST:
                raise InputError(f"{reaches}, too large to be squared in float32: divide it by a constant.")
            if 0 < largest < SMALLEST:
                raise InputError(f"{reaches} at most, too small for float32: multiply it by a constant.")
        for index, column in np.argwhere(is_lossy(self._sums))[:1].tolist():
            which = f"column {quoted(self.columns[column])} of series {quoted(ids()[index])}"
            raise InputError(
                f"{which} is too large for its changes in the seven digits of float32: subtract a constant "
                "from it, or forecast its changes."
            )
