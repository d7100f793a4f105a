import numpy as np
import polars as pl
import pytest

from rnn_lightning import TableSeries

VALUES = np.random.default_rng(0).normal(20, 5, 400)


def notes(number: float, count: int, values: np.ndarray = VALUES) -> list[str]:
    filled = values.copy()
    filled[10 : 10 + count] = number
    return [*TableSeries(pl.DataFrame({"ds": range(len(filled)), "y": filled})).load().notes]


@pytest.mark.parametrize("number", [-9999, -999.9, 999, -99.9, -32768, 1e20])
def test_numbers_that_stand_for_missing_values_are_pointed_out(number: float) -> None:
    """A flux of -18 to 2 with nights of -9999 was forecast as -6726 without a word."""
    (note,) = notes(number, 7)
    assert f"'y' has {number:g} 7 times, far from all other values" in note


def test_numbers_that_are_near_others_or_occur_once_are_not() -> None:
    assert notes(-9999, 1) == notes(99, 7) == notes(-5000, 7) == []
    assert notes(999, 7, np.linspace(0, 600, 400)) == []
    assert notes(9.99, 2, np.zeros(400)) == []
