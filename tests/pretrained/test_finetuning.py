"""Fine-tuning keeps what helps in validation, and trains on everything after that."""

import contextlib
import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from rnn_lightning import fit_frame, forecast_frame
from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.series import Series, SeriesData
from rnn_lightning.pretrained import finetuning
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.pretrained.finetuning import (
    TUNING_WEIGHTS,
    FineTuning,
    copy_weights,
    forecast_errors,
    interpolate_weights,
)
from rnn_lightning.pretrained.forecaster import PretrainedForecaster

WEEKS: dict[str, Any] = {
    "context_length": 35,
    "scored_length": 6,
    "horizon": 6,
    "batch_size": 4,
    "num_batches_per_epoch": 4,
    "val_fraction": 0.1,
    "test_fraction": 0.0,
}


class Shops(Series):
    """Days of two shops with a week in them, one much larger than the other, never negative."""

    def load(self) -> SeriesData:
        week = 1 + 0.5 * np.sin(2 * np.pi * np.arange(130) / 7)
        noise = np.random.default_rng(0).normal(1, 0.05, (2, 130))
        values = np.array([[3.0], [2000.0]]) * week * noise
        data = SeriesData.from_equal(torch.from_numpy(values[..., None]).float())
        return replace(data, traits={"season": torch.tensor([7, 7])})


class Jumps(Series):
    """A series that one of two covariates tells of; both are known for ten steps more."""

    num_covariates = 2
    jump = np.random.default_rng(0).random(200) < 0.3

    def load(self) -> SeriesData:
        rng = np.random.default_rng(1)
        values = 10 + 5 * self.jump + rng.normal(0, 0.1, 200)
        values[190:] = np.nan
        covariates = np.stack([self.jump, rng.normal(0, 1, 200)], 1)
        data = SeriesData.from_equal(torch.from_numpy(values[None, :, None]).float(), torch.tensor([190]))
        return replace(
            data, covariates=torch.from_numpy(covariates).float(), covariate_names=["jump", "nothing"]
        )


def fit(
    folder: Path,
    tuning: FineTuning,
    *callbacks: L.Callback,
    learning_rate: float = 0.001,
    ckpt_path: Path | None = None,
    **options: Any,
) -> tuple[PretrainedForecaster, SequenceDataModule]:
    """A fit of two epochs of four steps by a script."""
    names = ["logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"]
    settings: dict[str, Any] = {
        **dict.fromkeys(names, False),
        "max_epochs": 2,
        "accelerator": "cpu",
        **options,
    }
    torch.manual_seed(0)
    forecaster, data = PretrainedForecaster(learning_rate=learning_rate), SequenceDataModule(Shops(), **WEEKS)
    trainer = L.Trainer(default_root_dir=folder, callbacks=[tuning, *callbacks], **settings)
    trainer.fit(forecaster, data, ckpt_path=ckpt_path, weights_only=ckpt_path is not None)
    return forecaster, data


class Notes(L.Callback):
    """The number of windows that each epoch trains on, and the epochs that validate."""

    def __init__(self) -> None:
        self.windows: list[int] = []
        self.validated: list[int] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loader: Any = trainer.train_dataloader
        self.windows.append(loader.num_items)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.validated.append(trainer.current_epoch)


def bundled_weights() -> list[Tensor]:
    return [parameter.detach() for parameter in bundled_network().parameters()]


def is_bundled(forecaster: PretrainedForecaster) -> bool:
    return all(map(torch.equal, copy_weights(forecaster), bundled_weights()))


def errors_of(*errors: float) -> Callable[..., tuple[float, int]]:
    """The errors of the pretrained network, of the one halfway and of the fine-tuned one."""
    given = iter(errors)
    return lambda *_: (next(given), 2)


def test_series_are_forecast_without_a_fit() -> None:
    forecaster = PretrainedForecaster()
    values = Shops().load().values.view(2, 130, 1).numpy()
    forecast = forecaster.forecast(values[:, -100:], 14, season=7)[..., 0]
    truth = 1 + 0.5 * np.sin(2 * np.pi * np.arange(130, 144) / 7)
    assert (np.abs(forecast / np.array([[3.0], [2000.0]]) - truth).mean(1) < 0.1).all()


@pytest.mark.parametrize("learning_rate", [1e-9, 1.0])
@pytest.mark.parametrize("num_sanity_val_steps", [0, 2])
def test_what_does_not_help_is_not_kept(
    learning_rate: float, num_sanity_val_steps: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning, notes = FineTuning(), Notes()
    options: dict[str, Any] = {"learning_rate": learning_rate, "num_sanity_val_steps": num_sanity_val_steps}
    forecaster, _ = fit(tmp_path, tuning, notes, **options)
    assert tuning.weight == 0
    assert tuning.verdict in capsys.readouterr().out
    kept = r"Network: pretrained, kept as it is; fine-tuning was not clearly better \(it \w+ .* by (\d+) %"
    match = re.match(kept, tuning.verdict)
    assert match is not None
    assert (abs(float(match[1])) < 1) == (learning_rate < 0.1)
    assert is_bundled(forecaster)
    assert len(notes.windows) == 1  # there was no second stage


def test_what_helps_is_kept_and_trained_on_all_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "forecast_errors", errors_of(0.0, -1.0, -0.5))
    tuning, notes = FineTuning(), Notes()
    forecaster, data = fit(tmp_path, tuning, notes)
    said = capsys.readouterr().out
    assert "halfway between pretrained and fine-tuned (it lowered the error of 2 validation" in said
    assert "forecasts by 63 %)" in said
    assert "then trained on all data" in said
    assert not is_bundled(forecaster)
    assert notes.validated == [0]  # nothing is held out in the second stage
    lengths = [130 - 13, 130]
    assert notes.windows == [2 * (length - 35 - 6 + 1) for length in lengths]
    assert data.trains_on_all


def test_the_second_stage_starts_from_the_pretrained_weights_and_goes_the_chosen_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noting(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
            if trainer.global_step == 4:
                start.append(is_bundled(pl_module))

        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
            if trainer.global_step == 8:
                tuned.extend(copy_weights(pl_module))

    for weight, errors in ((0.5, (0.0, -1.0, -0.5)), (1.0, (0.0, -0.5, -1.0))):
        monkeypatch.setattr(finetuning, "forecast_errors", errors_of(*errors))
        start: list[bool] = []
        tuned: list[Tensor] = []
        tuning = FineTuning()
        forecaster, _ = fit(tmp_path, tuning, Noting())
        assert (tuning.weight, start) == (weight, [True])
        expected = [torch.lerp(*pair, weight) for pair in zip(bundled_weights(), tuned, strict=True)]
        torch.testing.assert_close(copy_weights(forecaster), expected, rtol=0, atol=1e-7)


def test_a_fit_that_is_stopped_in_its_second_stage_goes_on_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Keep(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step == 6:
                trainer.save_checkpoint(tmp_path / "6.ckpt")

    monkeypatch.setattr(finetuning, "forecast_errors", errors_of(0.0, -1.0, -0.5))
    whole, _ = fit(tmp_path, FineTuning(), Keep())
    tuning, notes = FineTuning(), Notes()
    resumed, data = fit(tmp_path, tuning, notes, ckpt_path=tmp_path / "6.ckpt")
    assert tuning.weight == 0.5
    assert data.trains_on_all
    assert notes.validated == []
    torch.testing.assert_close(copy_weights(resumed), copy_weights(whole))


def test_a_fit_that_ends_before_the_validation_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, FineTuning(), max_epochs=4, max_steps=2)
    assert "Stopped before the validation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_epochs": 1}, "without the data of the validation."),
        ({"max_steps": 4}, "without the data of the validation."),
        ({"fast_dev_run": True}, "without the data of the validation."),
        ({"max_epochs": 4, "max_steps": 9}, "then trained on all data for 1 of 2 epochs."),
        ({"max_epochs": 5, "check_val_every_n_epoch": 3}, "then trained on all data."),
        ({"limit_val_batches": 0}, "then trained on all data."),
    ],
)
def test_what_is_said_of_a_fit_is_what_was_saved(
    options: dict[str, Any],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finetuning, "forecast_errors", errors_of(0.0, -0.5, -1.0))
    forecaster, data = fit(tmp_path, FineTuning(), **options)
    printed = capsys.readouterr().out
    assert "Network: fine-tuned (it lowered the error of 2 validation forecasts by 63 %)" in printed
    assert said in printed
    assert data.trains_on_all == ("then trained" in said)
    assert not is_bundled(forecaster)


@pytest.mark.parametrize(
    ("errors", "count", "weight"),
    [
        ((0.0, -0.05, -0.12), 1, 0.0),
        ((0.0, -0.1, -0.3), 1, 1.0),
        ((0.0, -0.1, -0.05), 100, 0.5),
        ((0.0, 0.1, 0.2), 100, 0.0),
        ((0.0, math.nan, math.nan), 100, 0.0),
    ],
)
def test_few_forecasts_must_say_more(errors: tuple[float, ...], count: int, weight: float) -> None:
    tuning = FineTuning()
    tuning._choose(errors, count)
    assert tuning.weight == weight


@pytest.mark.parametrize("weight", TUNING_WEIGHTS)
def test_weights_go_a_part_of_the_way(weight: float) -> None:
    forecaster = PretrainedForecaster()
    tuned = [parameter + 1 for parameter in bundled_weights()]
    interpolate_weights(forecaster, tuned, weight)
    expected = [parameter + weight for parameter in bundled_weights()]
    torch.testing.assert_close(copy_weights(forecaster), expected)


def test_the_validation_error_is_the_geometric_mean_of_scaled_absolute_errors(tmp_path: Path) -> None:
    class Measure(L.Callback):
        def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
            measured.append(forecast_errors(trainer, pl_module))

    measured: list[tuple[float, int]] = []
    forecaster, data = PretrainedForecaster(), SequenceDataModule(Shops(), **WEEKS)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = L.Trainer(default_root_dir=tmp_path, callbacks=[Measure()], enable_model_summary=False, **quiet)
    trainer.validate(forecaster, data, verbose=False)
    errors = []
    with torch.no_grad():
        for case in data.val_dataloader():
            forecast = forecaster(case.context, case.horizon, traits=case.traits)
            errors += ((forecast - case.target).abs().nanmean(1) / case.scale).flatten().tolist()
    expected = float(np.log(np.array(errors) + 1e-3).mean())
    ((error, count),) = measured
    assert error == pytest.approx(expected, rel=1e-4)
    assert count == len(errors) == 6


def test_covariates_find_their_way_in(tmp_path: Path) -> None:
    """A covariate that tells the next value helps, though the pretrained network knows of none."""

    class Effect(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
            if trainer.global_step == 0:
                effects.append(pl_module.network.effect.tolist())

    effects: list[list[list[float]]] = []
    names = ["logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"]
    quiet: dict[str, Any] = dict.fromkeys(names, False)
    sizes = WEEKS | {"scored_length": 10, "horizon": 10, "num_batches_per_epoch": 20, "val_fraction": 0.2}
    data, tuning, forecaster = SequenceDataModule(Jumps(), **sizes), FineTuning(), PretrainedForecaster()
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, callbacks=[tuning, Effect()], **quiet
    )
    trainer.fit(forecaster, data)
    assert tuning.weight
    (((jump, nothing),),) = effects
    assert jump > 0.2
    assert abs(nothing) < 0.1 * jump
    forecasts: Any = trainer.predict(forecaster, data)
    assert np.corrcoef(forecasts[0].point[0, :, 0], Jumps.jump[190:])[0, 1] > 0.9


def promoted(pause: int, effects: dict[str, float]) -> pl.DataFrame:
    """Days of three shops with a week, noise of 1 and promotions, of which the last days may have none."""
    rng, rows = np.random.default_rng(0), []
    for shop in range(3):
        for day in range(214):
            promo = float(rng.random() < 0.15 and not 200 - pause <= day < 200)
            base = 100 + [0, 0, 0, 5, 10, 20, 15][day % 7]
            values = [
                base + effect * promo + rng.normal() if day < 200 else None for effect in effects.values()
            ]
            rows.append((f"shop{shop}", date(2022, 1, 1) + timedelta(day), *values, promo))
    return pl.DataFrame(rows, schema=["unique_id", "ds", *effects, "promo"], orient="row")


def test_an_effect_is_the_same_after_a_time_without_and_another_for_each_target() -> None:
    """It was 8 for 40 after 45 days without a promotion, and 5 and 1 for 40 and -10."""
    effects = {"sold": 40.0, "stock": -10.0}
    with contextlib.redirect_stdout(None):
        columns: Any = {"target_columns": [*effects], "covariate_columns": "promo"}
        forecaster = fit_frame(PretrainedForecaster(), promoted(0, effects), horizon=14, **columns)
    for pause in (0, 45):
        frame = promoted(pause, effects)
        ahead = pl.col("sold").is_null()
        on, off = (
            forecast_frame(forecaster, frame.with_columns(promo=pl.when(ahead).then(size).otherwise("promo")))
            for size in (1.0, 0.0)
        )
        for target, effect in effects.items():
            found: Any = (on[target] - off[target]).mean()
            assert found == pytest.approx(effect, abs=8)
