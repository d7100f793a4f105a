from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torchmetrics.functional.regression import continuous_ranked_probability_score

from rnn_lightning.evaluation.records import ForecastRecords, crps
from rnn_lightning.evaluation.scores import Scores

RNG = np.random.default_rng(0)
FORECASTERS = ("rnn", "naive", "seasonal_naive", "drift")


def scored(
    columns: Mapping[str, np.ndarray], scales: np.ndarray | None = None, *, origins: int = 1, **settings: Any
) -> Scores:
    """Scores of columns ``(forecast, horizon)`` with ``origins`` forecasts of each series."""
    number, horizon = columns["y"].shape
    series = np.arange(number) // origins
    scales = np.ones((2, number // origins)) if scales is None else scales
    keys = {"series": series, "origin": np.arange(number), "feature": np.zeros(number, int)}
    keys |= {"absolute_scale": scales[0][series], "squared_scale": scales[1][series]}
    flat: dict[str, Any] = {name: values.repeat(horizon) for name, values in keys.items()}
    flat |= {"lead_time": np.tile(np.arange(1, horizon + 1), number)}
    flat |= {name: values.ravel() for name, values in columns.items()}
    ids = [f"s{index}" for index in range(number // origins)]
    return Scores(pl.DataFrame(flat, nan_to_null=True), ids, ["y"], **settings)


def random_columns(num_series: int = 3) -> dict[str, np.ndarray]:
    """Two forecasts of each series over four steps, with 80 % intervals; some values are unknown."""
    columns = {name: RNG.normal(10, 3, (2 * num_series, 4)) for name in ("y", *FORECASTERS, "crps")}
    columns |= {"rnn-lo-80": columns["rnn"] - 3, "rnn-hi-80": columns["rnn"] + 3}
    columns["y"][0, -2] = columns["y"][3, 0] = np.nan
    return columns


def metric_of(scores: Scores, metric: str, forecaster: str = "rnn") -> np.ndarray:
    return scores.by_series.filter(pl.col("metric") == metric)[forecaster].to_numpy()


def test_metrics_are_those_of_their_formulas() -> None:
    columns, scales = random_columns(), RNG.uniform(1, 2, (2, 3))
    scores = scored(columns, scales, origins=2, levels=(80,))
    assert tuple(scores.forecasters) == FORECASTERS
    for number in range(3):
        rows = {name: values[2 * number : 2 * number + 2].ravel() for name, values in columns.items()}
        known = ~np.isnan(rows["y"])
        truth = rows["y"][known]
        for name in FORECASTERS:
            error = rows[name][known] - truth
            expected = {
                "mae": np.abs(error).mean(),
                "rmse": np.sqrt((error**2).mean()),
                "mase": np.abs(error).mean() / scales[0, number],
                "rmsse": np.sqrt((error**2).mean() / scales[1, number]),
                "smape": (np.abs(error) / (np.abs(truth) + np.abs(rows[name][known]))).mean(),
                "wape": np.abs(error).sum() / np.abs(truth).sum(),
            }
            for metric, value in expected.items():
                assert metric_of(scores, metric, name)[number] == pytest.approx(value)
        assert metric_of(scores, "crps")[number] == pytest.approx(rows["crps"][known].mean())
        inside = np.abs(rows["rnn"][known] - truth) <= 3
        assert metric_of(scores, "coverage-80")[number] == inside.mean()
        assert metric_of(scores, "width-80")[number] == pytest.approx(6)
    known = ~np.isnan(columns["y"])
    assert scores.coverage(80) == (np.abs(columns["rnn"] - columns["y"])[known] <= 3).mean()


def test_metrics_equal_those_of_utilsforecast() -> None:
    losses = pytest.importorskip("utilsforecast.losses")
    columns, history = random_columns(), RNG.normal(10, 3, size=(3, 40))
    season, names = 7, list(FORECASTERS)
    lagged = history[:, season:] - history[:, :-season]
    scales = np.stack([np.abs(lagged).mean(1), (lagged**2).mean(1)])
    scores = scored(columns, scales, origins=2, levels=(80,))
    train = pl.DataFrame(
        {"unique_id": np.repeat(scores.ids, 40), "ds": np.tile(np.arange(40), 3), "y": history.ravel()}
    )
    steps = np.tile(40 + np.arange(8), 3)
    flat = {name: values.ravel() for name, values in columns.items()}
    frame = pl.DataFrame({"unique_id": np.repeat(scores.ids, 8), "ds": steps, **flat})
    frame = frame.filter(pl.col("y").is_not_nan())
    for name in ("mae", "rmse", "smape", "wape", "mase", "rmsse"):
        given = {"seasonality": season, "train_df": train} if name.startswith(("mas", "rmss")) else {}
        theirs = getattr(losses, name)(frame, names, **given).sort("unique_id").select(names).to_numpy()
        ours = np.stack([metric_of(scores, name, each) for each in names], 1)
        np.testing.assert_allclose(ours, theirs, err_msg=name)
    theirs = losses.coverage(frame, ["rnn"], 80).sort("unique_id")["rnn"].to_numpy()
    np.testing.assert_allclose(metric_of(scores, "coverage-80"), theirs)


def test_by_lead_time_each_series_counts_once_in_units_of_its_scale() -> None:
    columns, scales = random_columns(), RNG.uniform(1, 2, (2, 3))
    by_lead_time = scored(columns, scales, origins=2, levels=(80,)).by_lead_time
    for name in FORECASTERS:
        errors = np.abs(columns[name] - columns["y"]).reshape(3, 2, 4)
        errors = np.nanmean(errors, 1) / scales[0][:, None]
        for metric, expected in (("mase", np.nanmean(errors, 0)), ("median_mase", np.nanmedian(errors, 0))):
            found = by_lead_time.filter(pl.col("metric") == metric)
            assert found["lead_time"].to_list() == [1, 2, 3, 4]
            np.testing.assert_allclose(found[name], expected)
    known, inside = ~np.isnan(columns["y"]), np.abs(columns["rnn"] - columns["y"]) <= 3
    expected = [inside[known[:, step], step].mean() for step in range(4)]
    np.testing.assert_allclose(by_lead_time.filter(pl.col("metric") == "coverage-80")["rnn"], expected)
    scaled = (6 / scales[0]).repeat(2)[:, None] * np.where(known, 1, np.nan)
    widths = by_lead_time.filter(pl.col("metric") == "width-80")["rnn"]
    np.testing.assert_allclose(widths, np.nanmean(scaled, 0))


def test_series_without_scale_are_named_and_rule_nothing() -> None:
    columns, scales = random_columns(49), RNG.uniform(1, 2, (2, 49))
    typical = scored(columns, scales, origins=2, levels=(80,))
    strange = {name: values.copy() for name, values in columns.items()}
    for values in strange.values():
        values[8:10] = 0  # series 4 is zero, and so are its forecasts
    strange["y"][14:16] = 0
    strange["rnn"][18:20] = np.nan  # the network has diverged
    scales = scales.copy()
    scales[:, 4] = 0
    scores = scored(strange, scales, origins=2, levels=(80,))
    assert scores.without_scale == ["s4"]
    assert np.isinf(metric_of(scores, "mae")[9])
    assert scores.pooled("mase") == pytest.approx(typical.pooled("mase"), rel=0.05)
    assert scores.relative_error == pytest.approx(typical.relative_error, rel=0.05)
    assert scores.comparison[1:] == (1, 49)
    others = scores.by_series.filter(~pl.col("series").is_in([4, 7])).drop("rnn")
    errors = others.filter(pl.col("metric").is_in(["mae", "rmse", "mase", "rmsse", "smape", "wape"]))
    assert errors.null_count().sum_horizontal().item() == 0


def constant(*errors: tuple[float, float, float, float], **settings: Any) -> Scores:
    """Forecasts of zeros, over two steps, that are off by given errors, a series in each row."""
    columns = {name: np.full((len(errors), 2), np.nan) for name in FORECASTERS}
    for number, row in enumerate(errors):
        for name, value in zip(FORECASTERS, row, strict=True):
            columns[name][number] = value
    return scored({"y": np.zeros((len(errors), 2)), **columns}, **settings)


def test_the_verdict_compares_with_the_reference_and_names_the_best_baseline() -> None:
    usual = (0.8, 1.5, 1.02, 2.0)
    better = constant(usual, usual, usual, usual)
    assert better.verdict == "better than seasonal naive on 4 of 4 series; MASE 0.80 against 1.02"
    mixed = constant((0.8, 1.5, 0.1, 2), (0.8, 1.5, 0.8, 2), usual, usual).verdict
    assert mixed.startswith(
        "better than seasonal naive on 2 of 4 series, as good on 1, with errors 0.89 times"
    )
    mixed = constant((0.8, 1.5, 0.1, 2), (0.8, 1.5, 0.8, 2), (0.8, 1.5, 0.1, 2), usual).verdict
    assert mixed.startswith("worse than seasonal naive on 2 of 4 series, as good on 1, with errors 2.83")
    alone = constant(usual, has_seasons=False)
    assert alone.verdict == "better than naive; MASE 0.80 against 1.50"
    assert "seasonal_naive" not in alone.forecasters
    with_drift = constant((0.8, 1.5, 1.02, 0.5), has_seasons=False)
    expected = "better than naive; MASE 0.80 against 1.50, and 0.50 for drift, the best baseline"
    assert with_drift.verdict == expected
    assert constant((0.8, 0.9, 1.02, 2)).verdict.endswith(
        "against 1.02, and 0.90 for naive, the best baseline"
    )
    without_scale = constant((0.8, 1.5, 1.02, 0.5), has_seasons=False, scales=np.zeros((2, 1)))
    assert without_scale.verdict == expected.replace("MASE", "MAE")
    unknown = scored(dict.fromkeys(("y", *FORECASTERS), np.full((1, 2), np.nan)))
    assert unknown.verdict == "nothing is known to compare the forecasts with"


def test_what_is_equal_to_the_digits_shown_is_called_equal() -> None:
    assert constant((0.652, 1, 0.648, 1)).verdict == "as good as seasonal naive; MASE 0.65 for both"
    assert constant((0.648, 1, 0.652, 1)).verdict == "as good as seasonal naive; MASE 0.65 for both"
    assert constant((0.0123, 1, 0.0118, 1)).verdict == "as good as seasonal naive; MASE 0.012 for both"
    assert constant((0.013, 1, 0.011, 1)).verdict.startswith(
        "worse than seasonal naive; MASE 0.013 against 0.011"
    )
    on_average = constant((0.652, 1, 0.65, 1), (0.648, 1, 0.65, 1), (0.65, 1, 0.65, 1)).verdict
    expected = (
        "as good as seasonal naive on average, better on 1 of 3 series, as good on 1; MASE 0.65 for both"
    )
    assert on_average == expected
    by_median = constant((0.9, 2, 1.04, 2), (1.04, 2, 0.9, 2), (1, 2, 1.01, 2)).verdict
    assert by_median == "better than seasonal naive on 2 of 3 series; MASE 1.00 against 1.01"
    by_median = constant((0.501, 2, 0.5, 2), (1, 2, 1.04, 2), (2.08, 3, 2, 3)).verdict
    assert by_median == "better than seasonal naive on 1 of 3 series; MASE 1.00 against 1.04"
    same_median = constant((0.65, 1, 0.65, 1), (0.3, 1, 0.6, 1), (0.7, 1, 1.4, 1)).verdict
    assert same_median.startswith(
        "better than seasonal naive on 2 of 3 series, as good on 1, with errors 0.5"
    )
    assert same_median.endswith("MASE 0.65 for both")


def test_records_come_in_the_order_of_series_and_origins() -> None:
    metric = ForecastRecords(["y", "rnn"])
    columns = {"rnn": torch.rand(4, 3, 1), "y": torch.rand(4, 3, 1)}
    series, origin = torch.tensor([1, 0, 0, 1]), torch.tensor([9, 8, 4, 5])
    for rows in (slice(0, 1), slice(1, 1), slice(1, 4)):
        metric.update(series[rows], origin[rows], {name: part[rows] for name, part in columns.items()})
    found = metric.collect()
    assert found["series_index"].tolist() == [0, 0, 1, 1]
    assert found["origin"].tolist() == [4, 8, 5, 9]
    for name, part in columns.items():
        assert torch.equal(found[name], part[[2, 1, 3, 0]])
    metric = ForecastRecords(metric.columns)
    metric.update(series[:1], origin[:1], {name: part[:1, :1] for name, part in columns.items()})
    assert [part.shape for part in metric.collect().values()] == [(1,), (1,), (1, 1, 1), (1, 1, 1)]


def test_crps_is_that_of_torchmetrics_for_each_target() -> None:
    samples, target = torch.randn(7, 3, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    found = crps(samples, target)
    for place in np.ndindex(3, 2):
        theirs = continuous_ranked_probability_score(samples[:, *place][None], target[place][None])
        torch.testing.assert_close(found[place], theirs)
