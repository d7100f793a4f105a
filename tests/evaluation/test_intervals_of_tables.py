"""How wide the intervals of the bundled network are for tables of all kinds."""

import warnings
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from rnn_lightning import BundledForecaster, forecast_frame
from rnn_lightning.errors import InputError


def forecast(horizon: int, levels: list[int] | None = None, **series: np.ndarray) -> pl.DataFrame:
    """The forecast of daily series."""
    days = [date(2020, 1, 1) + timedelta(days=day) for day in range(max(map(len, series.values())))]
    parts = [
        pl.DataFrame({"unique_id": name, "ds": days[: len(y)], "y": y}).fill_nan(None)
        for name, y in series.items()
    ]
    return forecast_frame(BundledForecaster(), pl.concat(parts), horizon, levels=levels)


def widths(found: pl.DataFrame) -> np.ndarray:
    return (found["y-hi-80"] - found["y-lo-80"]).to_numpy()


@pytest.mark.parametrize(("begin", "end", "length"), [(130, 190, 200), (68, 140, 150), (20, 57, 60)])
def test_a_long_gap_does_not_widen_the_intervals_after_it(begin: int, end: int, length: int) -> None:
    """Forecasts from inside a gap are of more steps ahead than they say."""
    values = 100 + np.arange(length) + np.random.default_rng(0).standard_normal(length)
    whole = widths(forecast(14, y=values))[-1]
    values[begin:end] = np.nan
    assert widths(forecast(14, y=values))[-1] < 8 * whole


def test_short_horizons_have_intervals_by_as_many_forecasts_as_long_ones() -> None:
    """Two forecasts of a step say little of errors."""
    noise = np.random.default_rng(0).standard_normal((12, 60)) + 10
    found = np.array([widths(forecast(1, y=values))[0] for values in noise])
    assert found.min() > 1.3  # 2.6 would be right
    assert found.max() < 6.5


def test_after_nothing_but_zeros_there_is_no_unit_of_errors() -> None:
    rare = np.r_[np.zeros(59), 5.0]
    with pytest.warns(UserWarning, match="too few values to calibrate"):
        assert forecast(6, y=rare).columns == ["unique_id", "ds", "y"]
    together = forecast(6, a=rare, b=np.random.default_rng(0).standard_normal(60) + 10)
    assert together.null_count().sum_horizontal().item() == 0
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(
            InputError, match=r"no prediction intervals, .* no earlier values that tell its errors"
        ),
    ):
        forecast(6, levels=[80], y=np.zeros(60))


def test_a_new_series_is_as_uncertain_as_one_that_has_not_seen_its_season() -> None:
    """Beside series whose week is known, it had intervals as narrow as theirs."""
    rng, days = np.random.default_rng(0), np.arange(300)
    long = {
        f"long{i}": 10 * (1 + 0.3 * np.sin(2 * np.pi * days / 7)) + rng.normal(0, 0.3, 300) for i in range(20)
    }
    found = forecast(7, None, **long, new=long["long0"][-1:])
    own, new = (widths(found.filter(pl.col.unique_id == name)).mean() for name in ("long0", "new"))
    assert own < 2
    assert new > 4  # the week is 6 wide
