"""Numbers that stand for missing values, such as -9999, found by how far they lie from all others."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from rnn_lightning.data.series import CHUNK_ROWS
from rnn_lightning.errors import quoted

MIN_COUNT, FAR = 2, 2.0
"""How often a number must occur, and how many ranges of all other values it must be from them."""


def is_fill_value(number: float) -> bool:
    """Return whether a number is one that files have for missing values: nines, or the end of a range."""
    digits = f"{abs(number):g}".replace(".", "")
    return (len(digits) >= 3 and set(digits) == {"9"}) or number in (-32768.0, 32767.0, 1e20, -1e20)


def notes_on_fill_values(values: Tensor, features: Sequence[str]) -> list[str]:
    """Return notes on numbers that probably stand for missing values.

    Args:
        values: ``(row, feature)``, NaN where unknown.
        features: names of the columns.
    """
    notes = []
    for column, name in enumerate(features):
        for number in sorted(filter(is_fill_value, _range(values, column))):
            count = sum(int(np.isclose(part, number, rtol=1e-6).sum()) for part in _chunks(values, column))
            low, high = _range(values, column, without=number)
            is_far = low < high and max(low - number, number - high) > FAR * (high - low)
            if count >= MIN_COUNT and is_far:
                notes.append(
                    f"Column {quoted(name)} has {number:g} {count:,} times, far from all other values: if it "
                    "stands for a missing value, leave it empty."
                )
    return notes


def _range(values: Tensor, column: int, without: float = np.nan) -> tuple[float, float]:
    """Return the least and the greatest value, rounded to seven digits; infinite if there is none."""
    low, high = np.inf, -np.inf
    for part in _chunks(values, column):
        if not np.isnan(without):
            part = np.where(np.isclose(part, without, rtol=1e-6), np.nan, part)
        low, high = np.fmin(low, np.fmin.reduce(part)), np.fmax(high, np.fmax.reduce(part))
    return float(f"{low:.7g}"), float(f"{high:.7g}")


def _chunks(values: Tensor, column: int) -> Iterator[np.ndarray]:
    for first in range(0, len(values), CHUNK_ROWS):
        yield values[first : first + CHUNK_ROWS, column].numpy()
