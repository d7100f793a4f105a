"""Fills gaps inside series with straight lines."""

import numpy as np
from torch import Tensor

from rnn_lightning.data.storage import FileArray

ROWS_AT_ONCE = 2**20


def interpolate(values: Tensor | FileArray, offsets: np.ndarray, lengths: np.ndarray) -> int:
    """Put the line between the known values before and after it in the place of each unknown value, feature by feature.

    What lies before the first or after the last known value of a feature stays unknown.

    Args:
        values: ``(row, feature)``, changed in place.
        offsets: where the rows of each series begin, and the end.
        lengths: steps of each series up to the last known one.

    Returns:
        How many values were filled.
    """
    array = (
        values.numpy()
        if isinstance(values, Tensor)
        else np.memmap(values.path, values.dtype, "r+", shape=values.shape)
    )
    first, count = 0, 0
    while first < len(lengths):
        end = max(first + 1, int(np.searchsorted(offsets, offsets[first] + ROWS_AT_ONCE, side="right")) - 1)
        begin = int(offsets[first])
        starts, ends = offsets[first:end] - begin, offsets[first:end] + lengths[first:end] - begin
        sizes = np.diff(offsets[first : end + 1])
        for feature in range(array.shape[1]):
            count += fill(
                array[begin : int(offsets[end]), feature], np.repeat(starts, sizes), np.repeat(ends, sizes)
            )
        first = end
    return count


def fill(column: np.ndarray, start: np.ndarray, end: np.ndarray) -> int:
    """Fill one feature of some series, whose first row is ``start`` and whose steps go to before ``end``, for each row."""
    known = ~np.isnan(column)
    if known.all():
        return 0
    rows = np.arange(len(column))
    before = np.maximum.accumulate(np.where(known, rows, -1))
    after = np.minimum.accumulate(np.where(known, rows, len(column))[::-1])[::-1]
    gap = np.flatnonzero(~known & (before >= start) & (after < end))
    low, high = before[gap], after[gap]
    share = (gap - low) / (high - low)
    column[gap] = column[low] * (1 - share) + column[high] * share
    return len(gap)
