import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch import Trainer

from rnn_lightning import Forecaster
from rnn_lightning.cli.exit_messages import Stopped
from rnn_lightning.errors import InputError
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.pretrained.finetuning import FineTuning, weights_of

Call = Callable[..., None]
QUICK = (
    "--data.num_batches_per_epoch=4",
    "--data.batch_size=4",
    "--data.horizon=6",
    "--trainer.log_every_n_steps=2",
)
LAST = "runs/sales/fit_0/checkpoints/last.ckpt"


@pytest.fixture
def sales(rnn_lightning: Call) -> str:  # noqa: ARG001 - it changes the folder
    """A year of days of two shops with a week in them, one much larger than the other, never negative."""
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 5, 9), eager=True)
    steps = np.arange(len(days))
    week = 1 + 0.5 * np.sin(2 * np.pi * steps / 7)
    noise = np.random.default_rng(0).normal(1, 0.05, (2, len(days)))
    tables = [
        pl.DataFrame({"unique_id": name, "ds": days, "y": size * week * noise[index]})
        for index, (name, size) in enumerate({"small": 3, "big": 2000}.items())
    ]
    pl.concat(tables).write_csv("sales.csv")
    return "sales.csv"


def pretrained_weights() -> list[torch.Tensor]:
    return [parameter.detach() for parameter in bundled_network().parameters()]


def fitted() -> Forecaster:
    return Forecaster.load_from_checkpoint(LAST)


def test_a_file_is_forecast_without_a_fit(
    rnn_lightning: Call, sales: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rnn_lightning("predict", sales, "--forecast.plot=false")
    said = capsys.readouterr().out
    assert "the pretrained one, not fitted" in said
    assert "better than seasonal naive" in said
    forecast = pl.read_csv("runs/sales/predict_0/forecast.csv")
    assert len(forecast) == 2 * 14  # two weeks
    truth = 1 + 0.5 * np.sin(2 * np.pi * np.arange(130, 144) / 7)
    for name, size in {"small": 3, "big": 2000}.items():
        of_shop = forecast.filter(unique_id=name)["y"].to_numpy()
        assert np.abs(of_shop / size - truth).mean() < 0.1


@pytest.mark.parametrize("learning_rate", ["1e-9", "0.3"])
def test_what_does_not_help_is_not_kept(
    rnn_lightning: Call, sales: str, capsys: pytest.CaptureFixture[str], learning_rate: str
) -> None:
    rnn_lightning("fit", sales, *QUICK, f"--model.learning_rate={learning_rate}")
    assert "pretrained, kept" in capsys.readouterr().out
    for own, expected in zip(weights_of(fitted()), pretrained_weights(), strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=0)
    assert torch.load(LAST, weights_only=True)["epoch"] == 0  # there was no second stage


def test_what_helps_is_kept_and_trained_on_all_data(
    rnn_lightning: Call, sales: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnn_lightning.pretrained.finetuning.forecast_errors", helpful())
    rnn_lightning("fit", sales, *QUICK)
    said = capsys.readouterr().out
    assert "halfway between pretrained and fine-tuned (-63 % error in 2 validation forecasts)" in said
    assert "then trained on all data" in said
    weights = weights_of(fitted())
    assert any(bool((a != b).any()) for a, b in zip(weights, pretrained_weights(), strict=True))
    metrics = pl.read_csv("runs/sales/fit_0/metrics.csv")
    assert metrics["val_loss"].drop_nulls().len() == 1  # nothing is held out in the second stage


def test_a_fit_that_is_stopped_in_its_second_stage_goes_on_in_it(
    rnn_lightning: Call, sales: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnn_lightning.pretrained.finetuning.forecast_errors", helpful())
    rnn_lightning("fit", sales, *QUICK)

    def stop(_: FineTuning, trainer: Trainer, *_args: Any) -> None:
        if trainer.global_step == 6:
            raise Stopped(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr("rnn_lightning.pretrained.finetuning.forecast_errors", helpful())
        patched.setattr(FineTuning, "on_train_batch_end", stop)
        with pytest.raises(Stopped):
            rnn_lightning("fit", sales, *QUICK)
    rnn_lightning("fit", sales, "--ckpt_path=runs/sales/fit_1/checkpoints/last.ckpt", *QUICK[3:])
    resumed = Forecaster.load_from_checkpoint("runs/sales/fit_2/checkpoints/last.ckpt")
    for own, expected in zip(weights_of(resumed), weights_of(fitted()), strict=True):
        torch.testing.assert_close(own, expected)


def helpful() -> Callable[..., tuple[float, int]]:
    """Errors of the pretrained network, of the one halfway and of the fine-tuned one."""
    errors = iter([0.0, -1.0, -0.5])
    return lambda *_: (next(errors), 2)


@pytest.mark.parametrize(
    ("errors", "count", "part"),
    [
        ((0.0, -0.05, -0.12), 1, 0.0),
        ((0.0, -0.1, -0.3), 1, 1.0),
        ((0.0, -0.1, -0.05), 100, 0.5),
        ((0.0, 0.1, 0.2), 100, 0.0),
        ((0.0, math.nan, math.nan), 100, 0.0),
    ],
)
def test_few_forecasts_must_say_more(errors: tuple[float, ...], count: int, part: float) -> None:
    tuning = FineTuning()
    tuning._choose(errors, [count] * 3)
    assert tuning.part == part


def test_covariates_find_their_way_in(rnn_lightning: Call) -> None:
    """A covariate that tells the next value helps, though the pretrained network knows of none."""
    rng = np.random.default_rng(0)
    jump = (rng.random(200) < 0.3).astype(float)
    value = 10 + 5 * jump + rng.normal(0, 0.1, 200)
    table = pl.DataFrame({"unique_id": "a", "ds": np.arange(200), "y": value, "jump": jump})
    table.with_columns(y=pl.when(pl.col("ds") < 190).then("y")).write_csv("sales.csv")
    rnn_lightning("fit", "sales.csv", "--data.series.covariate_columns=[jump]", "--data.horizon=10")
    rnn_lightning("predict", "sales.csv", "--forecast.plot=false")
    forecast = pl.read_csv("runs/sales/predict_0/forecast.csv")["y"].to_numpy()
    assert np.corrcoef(forecast, jump[190:])[0, 1] > 0.9
    assert Path(LAST).exists()


def test_the_network_of_the_package_forecasts_arrays_with_their_season() -> None:
    steps = np.arange(60)
    values = 0.2 * steps + np.array([3.0, -1, -4, 2])[steps % 4]
    forecaster = Forecaster(pretrained=True)
    known = forecaster.forecast(values[:52], 8, season=4)
    unknown = forecaster.forecast(values[:52], 8, season=1)
    assert np.abs(known - values[52:]).mean() < 0.5 * np.abs(unknown - values[52:]).mean()
    with pytest.raises(InputError, match="season is that of a seasonal network"):
        Forecaster().forecast(values, 8, season=4)
