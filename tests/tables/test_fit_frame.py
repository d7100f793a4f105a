"""From a frame to a fitted network, whose forecasts and backtests read the frame as the fit did."""

import contextlib
import math
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from rnn_lightning import (
    BundledForecaster,
    Forecaster,
    PretrainedForecaster,
    backtest,
    fit_frame,
    forecast_frame,
)
from rnn_lightning.errors import InputError

ROOT = Path(__file__).parents[2]
READING: dict[str, Any] = {"id_column": "shop", "time_column": "day", "target_columns": "sold"}


@pytest.fixture(scope="module")
def shops() -> pl.DataFrame:
    return pl.read_csv(ROOT / "data/shops.csv", try_parse_dates=True)


@pytest.fixture(scope="module")
def fitted(shops: pl.DataFrame) -> Forecaster:
    network = Forecaster(hidden_size=4)
    assert fit_frame(network, shops, 7, max_epochs=1, test_fraction=0.2, **READING) is network
    return network


def test_a_fitted_network_knows_its_columns_its_horizon_and_its_intervals(
    shops: pl.DataFrame, fitted: Any
) -> None:
    table = forecast_frame(fitted, shops)
    assert table.columns == ["shop", "day", "sold", "sold-lo-80", "sold-hi-80"]
    assert len(table) == 7 * shops["shop"].n_unique()
    assert fitted.intervals.horizon == 7
    width = (table["sold-hi-80"] - table["sold-lo-80"]).mean()
    other = forecast_frame(fitted, shops, intervals=fitted.intervals)
    assert (other["sold-hi-80"] - other["sold-lo-80"]).mean() == width


def test_a_backtest_takes_the_frame_of_the_fit(shops: pl.DataFrame, fitted: Any) -> None:
    result = backtest(fitted, shops, 2, horizon=7)
    assert list(result.data.ids) == shops["shop"].unique(maintain_order=True).to_list()
    assert {"rnn-lo-80", "rnn-hi-80"} <= set(result.forecasts.columns)
    with pytest.raises(InputError, match="has no column 'shop'"):
        backtest(fitted, shops.rename({"shop": "id"}))


def test_covariates_that_the_pretrained_network_cannot_know_are_learned() -> None:
    """Half of the variance comes from a covariate; the rest is a season of 7 days."""
    rng, days = np.random.default_rng(0), np.arange(414)
    promo = (rng.random(414) < 0.3).astype(float)
    sold = 10 + 2 * np.sin(2 * math.pi * days / 7) + 5 * promo + 0.1 * rng.normal(size=414)
    stamps = pl.date_range(date(2023, 1, 1), date(2024, 2, 18), eager=True)
    frame = pl.DataFrame({"ds": stamps, "y": sold, "promo": promo})
    future = frame.with_columns(y=pl.when(pl.int_range(pl.len()) < 400).then("y"))
    errors = []
    tuned = fit_frame(PretrainedForecaster(), future, 14, covariate_columns="promo")
    for network in (PretrainedForecaster(), tuned):
        with contextlib.ExitStack() as stack:
            if network is not tuned:
                stack.enter_context(pytest.warns(UserWarning, match="ignores covariates"))
            point = forecast_frame(network, future, 14, covariate_columns="promo")["y"]
        errors.append(float((point - frame["y"].tail(14)).abs().mean()))  # type: ignore[arg-type]
    assert errors[1] < 0.6 * errors[0]  # measured: 0.49


def test_a_forecaster_that_cannot_be_trained_is_refused(shops: pl.DataFrame) -> None:
    with pytest.raises(InputError, match=r"a BundledForecaster cannot .* give PretrainedForecaster\(\)"):
        fit_frame(BundledForecaster(), shops)  # type: ignore[type-var]


def test_an_option_of_tables_that_is_not_there_is_refused(shops: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="there is no option 'ids'; there are id_column"):
        fit_frame(Forecaster(), shops, ids="shop")
