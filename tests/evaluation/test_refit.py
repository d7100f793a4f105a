"""Backtests that fit a network anew at every origin follow a regime that the first fit has not seen."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from rnn_lightning import Forecaster, SeriesData, TableDataModule, backtest, fit_frame
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.callbacks import BacktestWriter
from rnn_lightning.tables.fit_frame import quiet_trainer

CHANGE = 120
"""The step from which the week is another one."""


@pytest.fixture(scope="module")
def sales() -> pl.DataFrame:
    days = pl.date_range(date(2023, 1, 1), date(2023, 10, 27), eager=True)
    rng, weekday = np.random.default_rng(0), days.dt.weekday().to_numpy() - 1
    week = np.array([1.0, 2, 3, 4, 5, 9, 8])[weekday]
    week[CHANGE:] = np.array([9.0, 8, 1, 2, 3, 4, 5])[weekday[CHANGE:]]
    return pl.DataFrame({"ds": days, "y": week + 0.2 * rng.normal(size=len(days))})


def fitted(data: Any) -> Forecaster:
    """Return a small network of the weekday, which needs no context to know the week."""
    torch.manual_seed(0)
    reading: dict[str, Any] = {} if isinstance(data, SeriesData) else {"calendar_features": "weekday"}
    network = Forecaster(cell="gru", hidden_size=8, transforms=["standardize"])
    return fit_frame(network, data, 14, val_fraction=0, max_epochs=8, **reading)


def test_networks_fitted_at_each_origin_follow_the_change(sales: pl.DataFrame) -> None:
    lengths: list[int] = []

    def refit(data: SeriesData) -> Forecaster:
        lengths.append(int(data.lengths[0]))
        return fitted(data)

    network = fitted(sales.head(CHANGE))
    settings: dict[str, Any] = {"horizon": 14, "context_length": 10}
    once, anew = (backtest(network, sales, 2, **settings, refit=each) for each in (None, refit))
    assert sorted(lengths) == [300 - 28, 300 - 14]
    assert anew.forecasts["cutoff"].to_list() == once.forecasts["cutoff"].to_list()
    old, new = (result.scores.pooled("mae")["rnn"] for result in (once, anew))
    assert new < 0.4 * old, (old, new)


def test_no_refit_sees_the_values_that_it_forecasts(sales: pl.DataFrame) -> None:
    changed = sales.with_columns(y=pl.when(pl.int_range(pl.len()) < 286).then("y").otherwise(1000.0))
    network = fitted(sales.head(CHANGE))
    results = [backtest(network, each, 1, horizon=14, refit=fitted) for each in (sales, changed)]
    assert results[0].forecasts["rnn"].equals(results[1].forecasts["rnn"])


def test_the_command_fits_anew_with_its_options(
    rnn_lightning: Callable[..., None], sales: pl.DataFrame
) -> None:
    sales.write_csv("sales.csv")
    options = ["--model.cell=gru", "--model.hidden_size=8", "--model.transforms=[standardize]"]
    options += ["--data.test_fraction=0.6", "--data.horizon=14", "--data.context_length=10"]
    options += ["--data.series.calendar_features=[weekday]", "--data.val_fraction=0.1"]
    lengths = ["--trainer.max_epochs=4", "--data.num_batches_per_epoch=30"]
    rnn_lightning("fit", "sales.csv", *options, *lengths)
    for words in ([], ["--backtest.refit=true"]):
        rnn_lightning("test", "sales.csv", *words, *lengths, "--data.num_origins=2")
    scores = [pl.read_csv(Path(f"runs/sales/test_{number}/scores.csv")) for number in (0, 1)]
    old, new = (each.filter(pl.col("metric") == "mae")["rnn"].item() for each in scores)
    assert new < 0.4 * old, (old, new)
    assert "rnn-lo-80" in pl.read_csv("runs/sales/test_1/forecasts.csv").columns


def test_a_writer_that_cannot_fit_says_so(sales: pl.DataFrame) -> None:
    data = TableDataModule(sales, horizon=7)
    network = fit_frame(Forecaster(hidden_size=2), sales, 7, max_epochs=1)
    with pytest.raises(InputError, match="`refit` works by the command; in Python, backtest takes"):
        quiet_trainer(network, [BacktestWriter(refit=True)]).test(network, data, verbose=False)
