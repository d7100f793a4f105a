"""Refuse numbers that float32, in which networks compute, cannot hold."""

import numpy as np

from rnn_lightning.data.series import LARGEST, MAX_ROUNDING, SMALLEST
from rnn_lightning.errors import InputError, quoted


class Float32Check:
    """Finds columns that are too large or too small for float32, or whose changes drown in its rounding."""

    def __init__(self, column: str) -> None:
        self.column, self._file = column, ""
        self._largest = self._rounding = self._change = 0.0
        self._num_changes = 0

    def observe(self, values: np.ndarray, file: str) -> np.ndarray:
        """Take note of some rows of a file, NaN where not known, and return them as float32."""
        with np.errstate(over="ignore", under="ignore"):
            rounded = values.astype(np.float32)
        known = np.isfinite(values)
        exact, coarse = (values, rounded) if known.all() else (values[known], rounded[known])
        if len(exact) == 0:
            return rounded
        largest = max(float(exact.max()), -float(exact.min()))
        if largest > self._largest:
            self._largest, self._file = largest, file
        if values.dtype != np.float32 and largest <= LARGEST:
            self._rounding = max(self._rounding, float(np.abs(exact - coarse).max()))
            changes = np.abs(np.diff(exact))
            self._change += float(changes.sum())
            self._num_changes += int(np.count_nonzero(changes))
        return rounded

    def raise_if_lossy(self) -> None:
        """Raise InputError if float32 is too coarse for the rows that were observed."""
        change = self._change / max(1, self._num_changes)
        reaches = f"{self._file}: column {quoted(self.column)} reaches {self._largest:g}"
        if self._largest > LARGEST:
            raise InputError(f"{reaches}, too large to be squared in float32: divide it by a constant.")
        if 0 < self._largest < SMALLEST:
            raise InputError(f"{reaches} at most, too small for float32: multiply it by a constant.")
        if change > 0 and self._rounding > MAX_ROUNDING * change:
            raise InputError(
                f"{reaches}, too large for its changes in the seven digits of float32: subtract a constant "
                "from it, or forecast its changes."
            )
