from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from rnn_lightning.evaluation.scores import Scores

RNG = np.random.default_rng(0)


def made(num_series: int = 3, origins: int = 2, horizon: int = 4, **settings: Any) -> Scores:
    """Random forecasts with 80 % intervals of random series, some values unknown."""
    values = RNG.normal(10, 3, size=(num_series * origins, horizon, 1, 8))
    values[..., 6:] = values[..., [1, 1]] + [-3, 3]
    values[0, -2, 0, 0] = values[3, 0, 0, 0] = np.nan
    return replace(
        Scores(
            ids=[f"s{index}" for index in range(num_series)],
            features=["y"],
            series=np.arange(num_series).repeat(origins),
            values=values,
            levels=(80,),
            season=7,
            differences=RNG.uniform(1, 2, size=(2, num_series, 1)),
        ),
        **settings,
    )


def test_metrics_are_those_of_their_formulas() -> None:
    scores = made()
    names = ("rnn", "naive", "seasonal_naive", "drift")
    assert scores.forecasters == names
    for number in range(3):
        rows = scores.values[scores.series == number].reshape(-1, 8)
        rows = rows[~np.isnan(rows[:, 0])]
        truth = rows[:, 0]
        for place in range(4):
            error = rows[:, 1 + place] - truth
            scale = scores.differences[:, number, 0]
            expected = {
                "mae": np.abs(error).mean(),
                "rmse": np.sqrt((error**2).mean()),
                "mase": np.abs(error).mean() / scale[0],
                "rmsse": np.sqrt((error**2).mean() / scale[1]),
                "smape": (np.abs(error) / (np.abs(truth) + np.abs(rows[:, 1 + place]))).mean(),
                "wape": np.abs(error).sum() / np.abs(truth).sum(),
            }
            for name, value in expected.items():
                assert scores.by_series[name][number, 0, place] == pytest.approx(value)
        assert scores.by_series["crps"][number, 0, 0] == pytest.approx(rows[:, 5].mean())
        assert scores.by_series["coverage-80"][number, 0, 0] == (abs(rows[:, 1] - truth) <= 3).mean()
        assert scores.by_series["width-80"][number, 0, 0] == pytest.approx(6)


def test_metrics_equal_those_of_utilsforecast() -> None:
    losses = pytest.importorskip("utilsforecast.losses")
    scores, history = made(), RNG.normal(10, 3, size=(3, 40))
    season, names = scores.season, list(scores.forecasters)
    lagged = history[:, season:] - history[:, :-season]
    scores = replace(scores, differences=np.stack([np.abs(lagged).mean(1), (lagged**2).mean(1)])[..., None])
    train = pl.DataFrame(
        {"unique_id": np.repeat(scores.ids, 40), "ds": np.tile(np.arange(40), 3), "y": history.ravel()}
    )
    columns = dict(zip(["y", *names], scores.values[..., 0, :5].reshape(-1, 5).T, strict=True))
    columns |= {f"rnn-{end}-80": scores.values[..., 0, 6 + i].ravel() for i, end in enumerate(("lo", "hi"))}
    steps = np.tile(40 + np.arange(8), 3)
    frame = pl.DataFrame({"unique_id": np.repeat(scores.ids, 8), "ds": steps, **columns})
    frame = frame.filter(pl.col("y").is_not_nan())
    for name in ("mae", "rmse", "smape", "wape", "mase", "rmsse"):
        given = {"seasonality": season, "train_df": train} if name.startswith(("mas", "rmss")) else {}
        theirs = getattr(losses, name)(frame, names, **given).sort("unique_id").select(names).to_numpy()
        np.testing.assert_allclose(scores.by_series[name][:, 0], theirs, err_msg=name)
    theirs = losses.coverage(frame, ["rnn"], 80).sort("unique_id")["rnn"].to_numpy()
    np.testing.assert_allclose(scores.by_series["coverage-80"][:, 0, 0], theirs)


def test_by_lead_time_each_series_counts_once_in_units_of_its_scale() -> None:
    scores = made()
    errors = np.abs(scores.values[..., 0, 1:5] - scores.values[..., 0, :1])
    errors = np.nanmean(errors.reshape(3, 2, 4, 4), 1) / scores.differences[0, :, :, None]
    np.testing.assert_allclose(scores.by_lead_time["mase"], np.nanmean(errors, 0))
    np.testing.assert_allclose(scores.by_lead_time["median_mase"], np.nanmedian(errors, 0))
    covered = np.abs(scores.values[..., 0, 1] - scores.values[..., 0, 0]) <= 3
    known = ~np.isnan(scores.values[..., 0, 0])
    expected = [covered[known[:, step], step].mean() for step in range(4)]
    np.testing.assert_allclose(scores.by_lead_time["coverage-80"][:, 0], expected)


def test_series_without_scale_are_named_and_rule_nothing() -> None:
    typical = made(49)
    values, differences = typical.values.copy(), typical.differences.copy()
    values[typical.series == 4] = 0  # all zero
    differences[:, 4] = 0
    values[typical.series == 7, ..., 0] = 0  # closed
    values[typical.series == 9, ..., 1] = np.nan  # the network left the finite numbers
    strange = replace(typical, values=values, differences=differences)
    assert strange.without_scale == ["s4"]
    assert np.isinf(strange.by_series["mae"][9, 0, 0])
    np.testing.assert_allclose(strange.pooled("mase"), typical.pooled("mase"), rtol=0.05)
    assert strange.relative_error == pytest.approx(typical.relative_error, rel=0.05)
    assert strange.comparison[1:] == (1, 49)
    for metric in strange.by_series.values():
        assert not np.isnan(np.delete(metric, [4, 7], 0)[..., 1:]).any()


def test_the_sentence() -> None:
    values = np.zeros((4, 2, 1, 5))
    values[..., 1:] = [0.8, 1.5, 1.02, 2]
    scores = made(4, 1, 2, values=values, levels=(), differences=np.ones((2, 4, 1)))
    assert scores.sentence == "better than seasonal naive on 4 of 4 series; MASE 0.80 against 1.02"
    values[1, ..., 3] = 0.8
    values[0, ..., 3] = 0.1
    mixed = replace(scores, values=values.copy()).sentence
    assert mixed.startswith(
        "better than seasonal naive on 2 of 4 series, as good on 1, with errors 0.89 times as"
    )
    values[2, ..., 3] = 0.1
    mixed = replace(scores, values=values.copy()).sentence
    assert mixed.startswith(
        "worse than seasonal naive on 2 of 4 series, as good on 1, with errors 2.83 times as"
    )
    alone = replace(scores, values=values[:1], series=scores.series[:1], season=1)
    assert alone.sentence == "better than naive; MASE 0.80 against 1.50"
    values[..., 4] = 0.5
    alone = replace(alone, values=values[:1].copy())
    assert alone.sentence == "better than naive; MASE 0.80 against 1.50, and 0.50 of drift"
    assert "seasonal_naive" not in alone.forecasters
    without_scale = replace(alone, differences=np.zeros((2, 4, 1)))
    assert without_scale.sentence == "better than naive; MAE 0.80 against 1.50, and 0.50 of drift"
    nothing = replace(alone, values=np.full((1, 2, 1, 5), np.nan))
    assert nothing.sentence == "nothing is known to compare the forecasts with"
