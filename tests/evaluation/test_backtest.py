import dataclasses
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from rnn_lightning import BundledForecaster, Forecaster, PretrainedForecaster, SeriesData
from rnn_lightning.data.windows import split_by_time
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.backtest import Backtest, backtest
from rnn_lightning.evaluation.backtest_plot import chosen_forecasts
from rnn_lightning.evaluation.prediction_intervals import PredictionIntervals
from rnn_lightning.tables.calendar import CalendarIndex

HEADER = [
    "unique_id",
    "ds",
    "cutoff",
    "y",
    "rnn",
    "rnn-lo-80",
    "rnn-hi-80",
    "naive",
    "seasonal_naive",
    "drift",
]


def table(*lengths: int, features: int = 1) -> SeriesData:
    """Days with a week in them, of unequal size."""
    rng = np.random.default_rng(0)
    week = np.array([1.0, 2, 3, 4, 5, 9, 8])
    parts = [np.resize(week, n) * (10 ** (i % 3)) + rng.normal(size=n) * 0.3 for i, n in enumerate(lengths)]
    values = torch.from_numpy(np.concatenate(parts)).float()[:, None].repeat(1, features)
    return SeriesData(
        values,
        torch.tensor([0, *np.cumsum(lengths)]),
        [f"s{i}" for i in range(len(lengths))],
        [f"y{i}" for i in range(features)],
        CalendarIndex([date(2024, 1, 1)] * len(lengths), ["1d"] * len(lengths)),
    )


def network(features: int = 1) -> Forecaster:
    """Random weights with the statistics and the noise of a fit."""
    torch.manual_seed(0)
    forecaster = Forecaster(num_features=features, hidden_size=4, transforms=["standardize_context"])
    forecaster.network.transforms.fit([torch.zeros(1, features)])
    forecaster.network.residual_covariance.copy_(0.01 * torch.eye(features))
    forecaster.is_trained = True
    return forecaster


def made(data: SeriesData, **settings: Any) -> Backtest:
    options: dict[str, Any] = {"horizon": 7, "context_length": 28, "num_origins": 3, **settings}
    return backtest(network(data.values.shape[1]), data, **options)


def test_a_result_says_in_a_line_what_it_is() -> None:
    result = made(table(100, 80))
    assert repr(result) == f"Backtest: 6 forecasts of 7 steps; {result.verdict}"


def test_forecasts_follow_their_cutoffs_and_the_truth_is_that_of_the_series() -> None:
    data = table(100, 80, 60)
    result = made(data, num_samples=20)
    assert result.scores.reference == "seasonal_naive"
    frame = result.forecasts
    assert frame.columns == HEADER
    assert frame["unique_id"].unique(maintain_order=True).to_list() == ["s0", "s1", "s2"]
    assert len(frame) == 3 * 3 * 7
    first = frame.row(0, named=True)
    assert (first["cutoff"], first["ds"]) == (date(2024, 3, 19), date(2024, 3, 20))  # step 78 of 100
    assert first["y"] == float(data.series(0)[79])
    assert first["naive"] == float(data.series(0)[78])
    assert first["seasonal_naive"] == float(data.series(0)[72])
    assert first["rnn-lo-80"] < first["rnn-hi-80"]
    context = data.series(0)[51:79].numpy()
    assert first["rnn"] == pytest.approx(float(network().forecast(context, 7)[0, 0]), rel=1e-4)


def test_an_array_is_a_series_of_numbered_steps() -> None:
    values = np.sin(0.4 * np.arange(120.0))
    options: dict[str, Any] = {"horizon": 7, "context_length": 28, "num_origins": 2}
    result = backtest(network(), values, **options).forecasts
    assert result["ds"].to_list() == [*range(106, 120)]
    np.testing.assert_allclose(result["y"], values[-14:], rtol=1e-6)


def test_a_backtest_does_not_depend_on_the_size_of_batches() -> None:
    data = table(100, 80, 9, 1)
    one, other = made(data, num_samples=5, batch_size=2), made(data, num_samples=5)
    for name in ("rnn", "naive", "seasonal_naive", "rnn-hi-80"):
        np.testing.assert_allclose(one.forecasts[name], other.forecasts[name], rtol=1e-4)
    assert set(one.forecasts["unique_id"]) == {"s0", "s1", "s2"}


def test_frames_are_long_tables_of_metrics() -> None:
    result = made(table(100, 80), num_samples=20)
    scores = result.scores_by_series
    assert scores.columns == ["unique_id", "metric", "rnn", "naive", "seasonal_naive", "drift"]
    metrics = ["mae", "rmse", "mase", "rmsse", "smape", "wape", "crps", "coverage-80", "width-80"]
    assert scores["metric"].unique(maintain_order=True).to_list() == metrics
    assert len(scores) == 2 * len(metrics)
    lead_times = result.scores.by_lead_time.filter(pl.col("metric") == "mase")
    assert lead_times["lead_time"].to_list() == [1, 2, 3, 4, 5, 6, 7]
    mean = scores.filter(pl.col("metric") == "mase")["rnn"].mean()
    assert lead_times["rnn"].mean() == pytest.approx(mean)


def test_of_several_features_each_has_its_rows() -> None:
    result = made(table(100, 80, features=2))
    assert result.scores_by_series.columns[:3] == ["unique_id", "feature", "metric"]
    assert result.forecasts.columns[:4] == ["unique_id", "feature", "ds", "cutoff"]
    assert len(result.forecasts) == 2 * 2 * 3 * 7
    assert "of 4 series and features" in result.verdict


def test_ten_lines_and_a_sentence(tmp_path: Path) -> None:
    data = table(*[60] * 10)
    data.values[:60] = 5.0
    result = made(data, num_samples=20)
    lines = result.text.splitlines()
    assert (
        lines[0]
        == "test      30 forecasts of 7 steps from the last origins of 10 series; medians over series"
    )
    assert lines[1].split() == ["rnn", "naive", "seasonal_naive", "drift"]
    assert [line.split()[0] for line in lines[2:8]] == ["MASE", "RMSSE", "sMAPE", "WAPE", "MAE", "80"]
    assert lines[8] == "no scale  1 series, without MASE and RMSSE: 's0'"
    assert lines[9] == f"{result.verdict[0].upper()}{result.verdict[1:]}."
    assert "worse than seasonal naive on " in result.verdict
    assert len(lines) == 10
    paths = result.write(tmp_path)
    assert [path.name for path in paths] == ["scores.csv", "lead_times.csv", "forecasts.csv", "backtest.png"]
    assert pl.read_csv(paths[2]).columns == HEADER
    assert paths[3].stat().st_size > 10_000


def test_the_picture_shows_four_unlike_series() -> None:
    result = made(table(*range(60, 90, 3)))
    shown = chosen_forecasts(result.scores)
    mase = result.scores_by_series.filter(pl.col("metric") == "mase")["rnn"]
    of_series = {reason: series for (series, _), reason in shown.items()}
    assert of_series["worst"] == mase.arg_max()
    assert of_series["best"] == mase.arg_min()
    assert list(of_series)[:2] == ["typical", "worst"]
    assert set(shown) <= set(
        result.scores.table.filter(pl.col("origin") > 50).select("series", "origin").rows()
    )
    assert list(chosen_forecasts(made(table(60)).scores).values()) == ["last origin"]


@pytest.mark.parametrize("lengths", [(60,), (60, 70, 80)])
def test_the_picture_fills_its_grid_and_names_all_that_it_shows(lengths: tuple[int, ...]) -> None:
    figure = made(table(*lengths), num_samples=20).plot()
    figure.canvas.draw()
    (legend,) = figure.legends
    names = {text.get_text() for text in legend.get_texts()}
    assert names == {"observed", "forecast", "naive", "seasonal naive", "drift", "80 % interval"}
    assert all(axis.get_xlabel() and axis.get_ylabel() and axis.get_legend() is None for axis in figure.axes)
    columns = [axis.get_subplotspec().colspan for axis in figure.axes]  # type: ignore[union-attr]
    assert sum(len(each) for each in columns) % 2 == 0


def test_series_without_a_step_after_a_context_are_refused() -> None:
    with pytest.raises(ValueError, match="no series has a step to forecast"):
        made(table(1, 1))


def test_the_network_of_the_package_is_told_the_season_for_as_long_as_it_takes() -> None:
    forecaster, data = PretrainedForecaster(), table(200, 200)
    result = backtest(forecaster, data, horizon=7, context_length=56)
    assert result.scores.relative_error < 1
    assert data.traits == {}
    assert forecaster.training


def test_levels_without_intervals_are_refused_and_none_are_taken_where_there_are_none() -> None:
    assert made(table(100)).scores.levels == ()
    assert made(table(100), num_samples=9).scores.levels == (80,)
    with pytest.raises(InputError, match=r"`levels` \[50\]: the network was fitted without validation"):
        made(table(100), levels=[50])
    with pytest.raises(InputError, match="`num_samples` 1: an interval needs two"):
        made(table(100), num_samples=1)


def test_the_intervals_of_a_fit_are_used_and_stay_as_they_are() -> None:
    data, forecaster, intervals = table(100, 80), network(), PredictionIntervals()
    held_out = split_by_time(data.offsets[:-1], data.ends, 0.3, 0.2)["val"]
    sizes = {"context_length": 28, "horizon": 7, "seasons": torch.tensor([7, 7])}
    intervals.calibrate(forecaster, data, held_out, **sizes)  # type: ignore[arg-type]
    before = {name: torch.as_tensor(value).clone() for name, value in intervals.state_dict().items()}
    settings: dict[str, Any] = {"horizon": 7, "context_length": 28, "season": 7, "levels": [50]}
    result = backtest(forecaster, data, intervals=intervals, **settings)
    with_paths = backtest(forecaster, data, intervals=intervals, num_samples=5, **settings)
    assert with_paths.scores.pooled("crps") == pytest.approx(result.scores.pooled("crps"), nan_ok=True)
    assert result.scores.levels == (50,)
    for name, value in intervals.state_dict().items():
        assert torch.equal(before[name], torch.as_tensor(value))
    first = result.forecasts.row(0, named=True)
    context, point = data.series(0)[None, 51:79], torch.full((1, 7, 1), first["rnn"])
    low, high = intervals.interval_bounds(point, context, [50])[:, 0, 0, 0].tolist()
    assert (first["rnn-lo-50"], first["rnn-hi-50"]) == (
        pytest.approx(low, rel=1e-4),
        pytest.approx(high, rel=1e-4),
    )


def test_a_network_that_was_never_fitted_is_calibrated_by_what_comes_before_the_first_origin() -> None:
    forecaster, data = PretrainedForecaster(), table(200, 200, 200)
    other = dataclasses.replace(data, values=data.values.clone())
    for end in data.ends.tolist():
        other.values[end - 7 : end] += 1000  # forecast by the last origin, known to none
    widths = []
    for series in (other, data):
        result = backtest(forecaster, series, horizon=7, context_length=56)
        widths.append(result.scores_by_series.filter(pl.col("metric") == "width-80")["rnn"])
    assert result.scores.coverage(80) == pytest.approx(0.8, abs=0.12)
    np.testing.assert_allclose(widths[0], widths[1])


def test_backtests_of_frames_take_the_names_of_their_columns() -> None:
    days = pl.date_range(date(2024, 1, 1), date(2024, 4, 9), eager=True)
    frame = pl.DataFrame({"shop": ["a"] * 100, "day": days, "sold": np.resize([1.0, 2, 3, 4, 5, 9, 8], 100)})
    names: dict[str, Any] = {"id_column": "shop", "time_column": "day", "target_columns": "sold"}
    result = backtest(PretrainedForecaster(), frame, horizon=7, **names)
    assert result.forecasts["unique_id"].unique().to_list() == ["a"]
    with pytest.raises(InputError, match="`id_column`: only tables have such options"):
        backtest(network(), table(100, 80), horizon=7, id_column="shop")


def test_a_network_that_was_never_fitted_is_refused_unless_it_is_pretrained() -> None:
    values = np.sin(np.arange(60.0))
    with pytest.raises(InputError, match="has not been fitted"):
        backtest(Forecaster(), values)
    for features in (values, np.stack([values, values + 1], 1)):
        result = backtest(BundledForecaster(), features, 2, horizon=5)
        same = backtest(PretrainedForecaster(), features, 2, horizon=5)
        assert result.forecasts.equals(same.forecasts)


@pytest.mark.parametrize("kind", [BundledForecaster, PretrainedForecaster])
def test_a_season_that_is_given_takes_the_place_of_those_found(kind: Any) -> None:
    data = table(200)
    found, given, wrong = (backtest(kind(), data, 2, horizon=7, season=season) for season in (None, 7, 5))
    own = dataclasses.replace(data, traits={"season": torch.tensor([7])})
    assert given.scores.table.equals(backtest(kind(), own, 2, horizon=7).scores.table)
    assert found.scores.pooled("mae")["rnn"] == pytest.approx(given.scores.pooled("mae")["rnn"], rel=0.1)
    assert wrong.scores.pooled("mae")["rnn"] > 3 * given.scores.pooled("mae")["rnn"]


@pytest.mark.parametrize("count", ["num_origins", "horizon", "origin_step", "context_length", "batch_size"])
def test_counts_below_one_are_refused(count: str) -> None:
    options: Any = {count: -1}
    with pytest.raises(InputError, match=f"`{count}` must be at least 1, got -1"):
        backtest(BundledForecaster(), np.arange(60.0), **options)


def test_intervals_of_sampled_paths_hold_the_point_forecast_as_in_the_forecast_file() -> None:
    data = table(60)
    forecasts = made(data, num_samples=2, levels=[1]).forecasts
    assert (forecasts["rnn-lo-1"] <= forecasts["rnn"]).all()
    assert (forecasts["rnn-hi-1"] >= forecasts["rnn"]).all()
