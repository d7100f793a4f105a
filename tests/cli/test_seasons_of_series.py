"""What a table holds beside a series does not change its forecast, by the command."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

Call = Callable[..., None]
DAYS = np.arange(120)
WEEK = np.array([0.0, -3, 2, 5, 8, 30, 25])
LIVE = 1000 + 10 * WEEK[DAYS % 7] + np.random.default_rng(0).normal(0, 10, 120)


def write(name: str, series: dict[str, np.ndarray]) -> None:
    rows = [
        f"{each},{date(2020, 1, 1) + timedelta(step)},{value}"
        for each, values in series.items()
        for step, value in enumerate(values)
    ]
    Path(name).write_text("unique_id,ds,y\n" + "\n".join(rows) + "\n")


def forecast(rnn_lightning: Call, series: dict[str, np.ndarray], horizon: int = 14) -> pl.DataFrame:
    """The forecast of the first series of a table."""
    write("table.csv", series)
    rnn_lightning("predict", "table.csv", f"--data.horizon={horizon}", "--output=forecast.csv")
    return pl.read_csv("forecast.csv").filter(pl.col("unique_id") == next(iter(series)))


@pytest.mark.parametrize(
    "other",
    [np.array([5.0]), np.random.default_rng(1).normal(0, 1, 120), np.full(120, 7.0), np.resize(WEEK, 120)],
    ids=["new", "noise", "constant", "exact"],
)
def test_a_series_is_forecast_as_if_it_were_alone(rnn_lightning: Call, other: np.ndarray) -> None:
    alone = forecast(rnn_lightning, {"live": LIVE})
    beside = forecast(rnn_lightning, {"live": LIVE, "other": other})
    np.testing.assert_allclose(beside["y"].to_numpy(), alone["y"].to_numpy(), rtol=1e-5)
    errors = np.abs(alone["y"].to_numpy() - (1000 + 10 * WEEK[np.arange(120, 134) % 7]))
    assert errors.mean() < 10  # the noise


@pytest.mark.parametrize("other", [np.full(120, 7.0), np.resize(WEEK, 120)], ids=["constant", "exact"])
def test_series_without_noise_do_not_change_the_intervals_of_others(
    rnn_lightning: Call, other: np.ndarray
) -> None:
    alone = forecast(rnn_lightning, {"live": LIVE})
    beside = forecast(rnn_lightning, {"live": LIVE, "other": other})
    widths = [(each["y-hi-80"] - each["y-lo-80"]).to_numpy() for each in (alone, beside)]
    assert 0.5 < np.mean(widths[1] / widths[0]) < 2


def test_the_week_is_not_lost_to_the_year(rnn_lightning: Call, capsys: pytest.CaptureFixture[str]) -> None:
    steps = np.arange(1100 + 28)
    values = 200 + WEEK[steps % 7] + 10 * np.sin(2 * np.pi * steps / 365.25)
    noise = np.random.default_rng(2).normal(0, 2, 1100)
    given = forecast(rnn_lightning, {"days": values[:1100] + noise}, horizon=28)
    assert np.abs(given["y"].to_numpy() - values[1100:]).mean() < 1.5
    assert "Season: 7 steps" in capsys.readouterr().out


def test_predict_says_how_many_series_have_which_season(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    write("table.csv", {"a": LIVE, "b": LIVE + 1, "new": np.array([1.0, 2.0])})
    rnn_lightning("predict", "table.csv", "--output=forecast.csv")
    assert "Season: 7 steps (2 series), none (1 series)" in capsys.readouterr().out


def test_forecasts_of_intermittent_demand_are_medians_or_means(rnn_lightning: Call) -> None:
    rng = np.random.default_rng(3)
    write("table.csv", {str(each): rng.poisson(0.4, 120).astype(float) for each in range(100)})
    totals = {}
    for point in ("median", "mean"):
        rnn_lightning("predict", "table.csv", f"--forecast.point={point}", "--output=forecast.csv")
        totals[point] = pl.read_csv("forecast.csv")["y"].mean()
    assert totals["mean"] == pytest.approx(0.4, rel=0.15)
    assert totals["median"] < 0.8 * totals["mean"]  # type: ignore[operator]


def test_a_network_without_means_refuses_them(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    rnn_lightning("fit", "--trainer.max_epochs=1", "--data.num_batches_per_epoch=2", "--quiet")
    with pytest.raises(SystemExit):
        rnn_lightning("predict", "--forecast.point=mean")
    assert "--forecast.point: Forecaster gives point forecasts of one kind" in capsys.readouterr().err
