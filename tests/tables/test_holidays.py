"""Holidays of a country as inputs: counted in steps of any length, known ahead, and of use."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from rnn_lightning import Forecaster, TableSeries, fit_frame, forecast_frame
from rnn_lightning.errors import InputError
from rnn_lightning.tables.table_data import calendar_covariates

pytest.importorskip("holidays")
NOTHING: dict[str, Any] = {}
CHRISTMAS = [[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]]  # 24 to 27 December in Germany


def inputs(stamps: Any, country: str = "DE", horizon: int = 0, **options: Any) -> list[list[int]]:
    """Return the inputs of the steps of one series, and of a horizon after it."""
    frame = pl.DataFrame({"ds": stamps, "y": np.arange(float(len(stamps)))})
    data = TableSeries(frame, holidays=country, **options).load()
    past: Any = data.covariates_at(torch.arange(len(stamps)))
    ahead: Any = data.future_covariates(torch.tensor([0]), horizon)
    return torch.cat([past, ahead[0]]).int().tolist()


def test_days_know_whether_they_or_their_neighbours_are_holidays() -> None:
    days = pl.date_range(date(2023, 12, 17), date(2023, 12, 27), eager=True)
    assert inputs(days)[-4:] == CHRISTMAS
    assert inputs(days.head(7), horizon=4)[-4:] == CHRISTMAS
    fridays = [date(2023, 4, day) for day in (3, 4, 5, 6, 7, 10, 11)]
    assert inputs(fridays, frequency="1bd") == [*[[0, 0, 0]] * 3, [0, 1, 0], *[[1, 0, 0]] * 2, [0, 0, 1]]
    names = calendar_covariates(days.tail(4), ["weekday"], "DE")
    assert names[:, 7:].int().tolist() == CHRISTMAS


def test_hours_have_the_day_of_their_own_clocks() -> None:
    hours = pl.datetime_range(datetime(2023, 12, 24, 22), datetime(2023, 12, 25, 1), "1h", eager=True)
    in_utc = hours.dt.replace_time_zone("UTC")
    assert [row[0] for row in inputs(hours)] == [0, 0, 1, 1]
    assert [row[0] for row in inputs(in_utc, time_zone="Europe/Berlin")] == [0, 1, 1, 1]


def test_longer_steps_count_their_holidays() -> None:
    """In April and May 2023, Germany had Easter on the 7th and 10th, and the 1st, 18th and 29th of May."""
    starts = pl.date_range(date(2023, 1, 1), date(2023, 6, 1), "1mo", eager=True)
    assert [row[0] for row in inputs(starts)] == [1, 0, 0, 2, 3, 0]
    ends = starts.dt.month_end()
    assert [row[0] for row in inputs(ends, frequency="1me")] == [1, 0, 0, 2, 3, 0]
    weeks = pl.date_range(date(2023, 4, 3), date(2023, 5, 29), "1w", eager=True)
    assert [row[0] for row in inputs(weeks)] == [1, 1, 0, 0, 1, 0, 1, 0, 1]
    assert [row[0] for row in inputs(starts, "DE-BY")] == [2, 0, 0, 2, 3, 1]


def test_what_cannot_be_is_refused_in_one_line() -> None:
    days = pl.date_range(date(2023, 1, 1), date(2023, 1, 9), eager=True)
    years = pl.date_range(date(2000, 1, 1), date(2012, 1, 1), "1y", eager=True)
    with pytest.raises(InputError, match="`holidays` 'XX': there is no such country or part: give a code"):
        inputs(days, "XX")
    with pytest.raises(InputError, match="`holidays` 'DE-XX': there is no such country or part"):
        inputs(days, "DE-XX")
    with pytest.raises(InputError, match="`holidays`: each year has about the same number"):
        inputs(years)
    with pytest.raises(InputError, match="`holidays` need dates, and the time stamps are numbers"):
        inputs(range(9))


@pytest.fixture(scope="module")
def sales() -> pl.DataFrame:
    """Sales of two years with a week, which are halved on holidays and doubled on the days before."""
    days = pl.date_range(date(2022, 1, 1), date(2024, 4, 8), eager=True)
    is_holiday, is_before, _ = np.array(inputs(days)).T
    week = np.array([10.0, 9, 9, 10, 12, 14, 5])[days.dt.weekday().to_numpy() - 1]
    noise = 0.2 * np.random.default_rng(0).normal(size=len(days))
    return pl.DataFrame({"ds": days, "y": week - 5 * is_holiday + 10 * is_before + noise})


def test_holidays_improve_the_forecast_of_what_depends_on_them(sales: pl.DataFrame) -> None:
    """The last 14 days hold Good Friday and Easter Monday of 2024."""
    known, coming = sales.head(-14), sales["y"].tail(14)
    errors = []
    for options in (NOTHING, {"holidays": "DE"}):
        torch.manual_seed(0)
        network = fit_frame(
            Forecaster(cell="gru", hidden_size=8), known, 14, calendar_features="weekday", **options
        )
        errors.append(float((forecast_frame(network, known, 14)["y"] - coming).abs().mean()))  # type: ignore[arg-type]
    assert errors[1] < 0.2 * errors[0]  # measured: 2.19 and 0.18


def test_the_country_travels_with_the_checkpoint(sales: pl.DataFrame, tmp_path: Path) -> None:
    network = fit_frame(Forecaster(hidden_size=3), sales, 7, max_epochs=1, holidays="DE")
    network.trainer.save_checkpoint(tmp_path / "sales.ckpt")
    assert network.network.num_covariates == 3
    expected = forecast_frame(network, sales)
    assert forecast_frame(tmp_path / "sales.ckpt", sales)["y"].equals(expected["y"])
