"""Numbers that stand for missing values, such as -9999, found by how far they lie from all others."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from rnn_lightning.errors import quoted

MIN_COUNT, FAR = 2, 2.0
"""How often a number must occur, and how many ranges of all other values it must be from them."""

CHUNK_ROWS = 2**20


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
        chunks = [
            part[~np.isnan(part)]
            for first in range(0, len(values), CHUNK_ROWS)
            if len(part := values[first : first + CHUNK_ROWS, column].numpy())
        ]
        ends = {float(f"{end(part):.7g}") for part in chunks if len(part) for end in (np.min, np.max)}
        for number in sorted(each for each in ends if is_fill_value(each)):
            near = [np.isclose(part, number, rtol=1e-6) for part in chunks]
            count = sum(int(part.sum()) for part in near)
            others = [part[~same] for part, same in zip(chunks, near, strict=True) if not same.all()]
            if count < MIN_COUNT or not others:
                continue
            low, high = min(part.min() for part in others), max(part.max() for part in others)
            if max(low - number, number - high) > FAR * (high - low):
                notes.append(
                    f"Column {quoted(name)} has {number:g} {count:,} times, far from all other values: if it "
                    "stands for a missing value, leave it empty."
                )
    return notes
