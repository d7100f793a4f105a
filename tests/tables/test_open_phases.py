"""Stamps that can exist: shop hours, Monday to Saturday, weekends alone."""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from rnn_lightning import PretrainedForecaster, TableDataModule, backtest, forecast_frame
from rnn_lightning.errors import InputError
from rnn_lightning.tables.calendar import stamp_series, steps_that_exist
from rnn_lightning.tables.table import TableSeries
from rnn_lightning.tables.table_data import TableData, as_table_data

Call = Callable[..., None]
MONDAY = datetime(2023, 1, 2)
WEEK = [100.0, 110, 120, 130, 140, 150, 160]


def stamps(step: timedelta, number: int, is_open: Callable[[datetime], bool]) -> list[datetime]:
    return [stamp for i in range(number) if is_open(stamp := MONDAY + i * step)]


def table(opened: list[datetime], name: str = "shop", **more: Any) -> pl.DataFrame:
    noise = np.random.default_rng(0).standard_normal(len(opened))
    values = [WEEK[stamp.weekday()] + stamp.hour for stamp in opened]
    return pl.DataFrame({"unique_id": name, "ds": opened, "y": np.round(values + noise, 2), **more})


def ahead(data: TableData, horizon: int, series: int = 0) -> list[datetime]:
    """The stamps of the horizon that a forecast file has."""
    first = data.lengths[[series]]
    following = stamp_series(data.times, [series], first, horizon)
    exist = steps_that_exist(data.times, [series], first, horizon)
    kept: list[datetime] = (following if exist is None else following.filter(pl.Series(exist))).to_list()
    return kept


def no_sunday(stamp: datetime) -> bool:
    return stamp.weekday() < 6


def test_a_forecast_of_monday_to_saturday_has_no_sunday(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    days = stamps(timedelta(1), 363, no_sunday)
    table(days).drop("unique_id").with_columns(pl.col("ds").dt.date()).write_csv("t.csv")
    rnn_lightning("predict", "t.csv", "--data.horizon", "14")
    assert "never had a value on Sunday: no forecast is written there" in capsys.readouterr().out
    written = pl.read_csv("runs/t/predict_0/forecast.csv", try_parse_dates=True)
    assert written["ds"].to_list() == [date(2024, 1, 1) + timedelta(i) for i in range(13) if i != 6]
    assert [round(value, -1) for value in written["y"].to_list()] == 2 * WEEK[:6]
    assert Path("runs/t/predict_0/forecast.png").exists()
    rnn_lightning("predict", "t.csv", "--data.horizon", "14", "--data.series.every_step", "true")
    whole = pl.read_csv("runs/t/predict_1/forecast.csv", try_parse_dates=True)
    assert len(whole) == 14
    assert whole.join(written, on="ds", how="semi").equals(written)


@pytest.mark.parametrize(
    ("step", "number", "is_open"),
    [
        (timedelta(hours=1), 24 * 60, lambda s: 9 <= s.hour < 18 and s.weekday() < 6),
        (timedelta(minutes=30), 48 * 60, lambda s: time(9, 30) <= s.time() < time(16) and s.weekday() < 5),
        (timedelta(minutes=15), 96 * 60, lambda s: 8 <= s.hour < (12 if s.weekday() == 5 else 17)),
        (timedelta(hours=1), 24 * 60, lambda s: s.hour >= 22 or s.hour < 4),
        (timedelta(1), 300, lambda s: s.weekday() >= 5),
        (timedelta(1), 100, lambda s: s.weekday() in (0, 3)),
        (timedelta(1), 100, lambda s: s.weekday() in (0, 1, 3, 4)),
        (timedelta(hours=1), 24 * 30, lambda s: 9 <= s.hour < 18 and s.weekday() < 5),
    ],
)
def test_only_stamps_that_exist_are_forecast(
    step: timedelta, number: int, is_open: Callable[[datetime], bool]
) -> None:
    known, following = stamps(step, number, is_open), stamps(step, 2 * number, is_open)
    data = TableSeries(table(known)).load()
    wanted = following[len(known) : len(known) + 10]
    horizon = (wanted[-1] - known[-1]) // step
    if data.times.frequencies == ["1bd"]:
        horizon = len([day for day in range(1, horizon + 1) if (known[-1] + day * step).weekday() < 5])
    assert ahead(data, horizon) == wanted
    assert not any("without a row" in note for note in data.notes)


def test_clocks_of_a_time_zone_open_and_close() -> None:
    opened = stamps(timedelta(hours=1), 24 * 80, lambda s: 9 <= s.hour < 17)
    local = table(opened).with_columns(pl.col("ds").dt.replace_time_zone("Europe/Berlin"))
    data = TableSeries(
        local.with_columns(pl.col("ds").dt.convert_time_zone("UTC")), time_zone="Europe/Berlin"
    ).load()
    following = ahead(data, 24 * 10)
    assert {stamp.hour for stamp in following} == set(range(9, 17))  # over the change of 26 March as well


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.8, 0.97])
def test_gaps_at_random_are_no_closed_phases(kept: float) -> None:
    random = np.random.default_rng(1)
    for step, number in ((timedelta(1), 120), (timedelta(hours=1), 24 * 70)):
        for _ in range(10):
            known = [stamp for stamp in stamps(step, number, lambda _: True) if random.random() < kept]
            data = TableSeries(table(known)).load()
            assert len(ahead(data, 168)) == 168


def test_seven_sundays_are_too_few_to_know() -> None:
    for weeks, number in ((7, 14), (8, 12)):
        data = TableSeries(table(stamps(timedelta(1), 7 * weeks + 6, no_sunday))).load()
        assert len(ahead(data, 14)) == number


def test_a_special_session_does_not_open_its_weekday() -> None:
    days = stamps(timedelta(1), 7 * 100, no_sunday)
    sunday = MONDAY + timedelta(7 * 50 + 6)
    data = TableSeries(table(sorted([*days, sunday]))).load()
    assert len(ahead(data, 14)) == 12
    assert "'shop' hardly ever had a value on Sunday" in data.notes[-1]
    assert int(data.values.isnan().sum()) == 98  # the session keeps its value
    more = [sunday + timedelta(7 * week) for week in range(3)]
    assert len(ahead(TableSeries(table(sorted([*days, *more]))).load(), 14)) == 14


def test_each_series_has_hours_of_its_own() -> None:
    always = table(stamps(timedelta(1), 200, lambda _: True), "always")
    data = TableSeries(pl.concat([always, table(stamps(timedelta(1), 200, no_sunday))])).load()
    assert [len(ahead(data, 14, series)) for series in (0, 1)] == [14, 12]
    (note,) = data.notes
    assert note.startswith("'shop' never had a value on Sunday")
    assert len(ahead(data.keep([1], ""), 14)) == 12


def test_hours_from_half_past_are_named_by_their_stamps() -> None:
    halves = [stamp + timedelta(minutes=30) for stamp in stamps(timedelta(hours=1), 24 * 70, is_trading)]
    (note,) = TableSeries(table(halves)).load().notes
    assert "on Saturday and Sunday and outside 09:30 to 15:30" in note


def is_trading(stamp: datetime) -> bool:
    return stamp.weekday() < 5 and 9 <= stamp.hour < 16


def test_closed_steps_need_no_covariates() -> None:
    days = stamps(timedelta(1), 7 * 20 + 13, no_sunday)  # the last one is a Saturday
    offer = [float(i % 5 == 0) for i in range(len(days))]
    frame = table(days, c=offer).with_columns(y=pl.when(pl.int_range(pl.len()) < 120).then("y"))
    data = TableSeries(frame, covariate_columns=["c"]).load()
    assert data.future_covariates(data.offsets[:1], 14).isfinite().all()  # type: ignore[union-attr]
    assert not any("Replaced" in note for note in data.notes)
    sundays = data.covariates.flatten()[6::7]  # type: ignore[union-attr]
    assert sundays.tolist() == data.covariates.flatten()[5::7].tolist()  # type: ignore[union-attr]


def test_a_horizon_of_closed_steps_is_refused_or_told(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = table(stamps(timedelta(1), 7 * 20 - 1, no_sunday))
    with pytest.raises(InputError, match="`horizon` 1 reaches no step at which a series ever has values"):
        forecast_frame(PretrainedForecaster(), shop, 1)
    always = table(stamps(timedelta(1), 7 * 20 - 1, lambda _: True), "always")
    pl.concat([shop, always]).write_csv("t.csv")
    rnn_lightning("predict", "t.csv", "--data.horizon", "1")
    assert "reaches no step of 1 series, such as 'shop'" in capsys.readouterr().out
    assert pl.read_csv("runs/t/predict_0/forecast.csv")["unique_id"].to_list() == ["always"]


def test_the_horizon_of_auto_reaches_over_a_closed_weekend() -> None:
    opened = stamps(timedelta(hours=1), 24 * 61, lambda s: 10 <= s.hour <= 16 and s.weekday() < 5)
    assert opened[-1].weekday() == 4
    data = TableDataModule(TableSeries(table(opened)), horizon="auto")
    data.setup("predict")
    assert [stamp.weekday() for stamp in ahead(as_table_data(data.data), data.horizon)][:7] == [0] * 7


def test_a_backtest_scores_and_draws_open_days() -> None:
    data = TableSeries(table(stamps(timedelta(1), 300, no_sunday))).load()
    result = backtest(PretrainedForecaster(), data, horizon=14)
    assert result.forecasts["ds"].dt.weekday().unique().to_list() == [1, 2, 3, 4, 5, 6]
    assert not result.forecasts["rnn"].has_nulls()
    lines = result.plot().axes[1].get_lines()
    assert all(np.isfinite(np.asarray(line.get_ydata(), float)).all() for line in lines)
