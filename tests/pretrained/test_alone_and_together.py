"""A forecast is the same alone and in any table."""

from datetime import date, timedelta

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_lightning import PretrainedForecaster, forecast_frame

SAME = 1e-5
"""Difference in standard deviations of a series."""


@st.composite
def series(draw: st.DrawFn) -> np.ndarray:
    """Values of any level, season, trend and noise, or constant, intermittent or with gaps."""
    random, number = np.random.default_rng(draw(st.integers(0, 2**31))), draw(st.integers(1, 60))
    step, period = np.arange(number), draw(st.sampled_from([1, 4, 7]))
    pattern, level = (
        random.standard_normal(period)[step % period],
        draw(st.sampled_from([0.0, 10.0, -1e4, 1e6])),
    )
    kind = draw(st.sampled_from(["plain", "constant", "rare", "gaps"]))
    if kind == "constant":
        return np.full(number, level)
    values = level + max(1.0, abs(level)) * 0.1 * (
        pattern + 0.02 * step + 0.3 * random.standard_normal(number)
    )
    if kind == "rare":
        values = np.where(random.random(number) < 0.7, 0.0, np.abs(values))
    if kind == "gaps":
        values[1:-1][random.random(number)[1:-1] < 0.1] = np.nan
    return values


def table(*parts: np.ndarray) -> pl.DataFrame:
    frames = [
        pl.DataFrame(
            {
                "unique_id": f"id {number}",
                "ds": [date(2024, 1, 1) + timedelta(3 * number + step) for step in range(len(values))],
                "y": values,
            }
        )
        for number, values in enumerate(parts)
    ]
    return pl.concat(frames)


def forecast(frame: pl.DataFrame) -> np.ndarray:
    result = forecast_frame(PretrainedForecaster(), frame, 5, levels=[], frequency="1d")
    first = pl.DataFrame(result).filter(pl.col("unique_id") == "id 0")
    return first["y"].to_numpy()


@settings(derandomize=True, deadline=None, max_examples=8)
@given(series(), st.lists(series(), min_size=1, max_size=4))
def test_a_series_has_the_same_forecast_alone_and_in_any_table(
    own: np.ndarray, others: list[np.ndarray]
) -> None:
    alone, beside = forecast(table(own)), forecast(table(own, *others))
    scale = float(np.nanstd(own)) or max(1.0, abs(float(np.nanmean(own))))
    assert np.abs(alone - beside).max() <= SAME * scale
