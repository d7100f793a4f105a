"""The bundled network as a LightningModule: series of any seasons, together and in threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor

from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.series import Series, SeriesData
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecaster
from rnn_lightning.losses import TrainingWindows, context_state, teacher_forced, training_windows
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.pretrained.forecaster import PretrainedForecaster
from rnn_lightning.pretrained.prior import PriorSeries
from rnn_lightning.rollout import generators

SEASONS = torch.tensor([7, 1, 12, 4, 12, 1])
SMALL: dict[str, Any] = {"context_length": 60, "scored_length": 12, "horizon": 12}


def seasonal(num_steps: int = 96, num_features: int = 1) -> np.ndarray:
    """For each of ``SEASONS`` a positive series, ``(series, time, feature)``."""
    rng, steps = np.random.default_rng(0), np.arange(num_steps)
    shapes = [5 * rng.standard_normal((season, num_features))[steps % season] for season in SEASONS.tolist()]
    return np.stack(shapes) + 40 + 0.3 * rng.standard_normal((len(SEASONS), num_steps, num_features))


class Seasonal(Series):
    """Series with seasons of their own as traits."""

    def load(self) -> SeriesData:
        data = SeriesData.from_equal(torch.from_numpy(seasonal()).float())
        return replace(data, traits={"season": SEASONS})


def trainer(folder: Path, **options: Any) -> L.Trainer:
    names = ["logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"]
    quiet: dict[str, Any] = dict.fromkeys(names, False)
    return L.Trainer(default_root_dir=folder, accelerator="cpu", num_sanity_val_steps=0, **quiet, **options)


def perturbed(num_features: int = 1, num_covariates: int = 0) -> PretrainedForecaster:
    """The bundled network with an effect of covariates, as if it had been fine-tuned."""
    torch.manual_seed(0)
    forecaster = PretrainedForecaster(num_features, num_covariates)
    with torch.no_grad():
        for parameter in forecaster.network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return forecaster


def test_arrays_are_forecast_by_their_season() -> None:
    steps = np.arange(60)
    values = 0.2 * steps + np.array([3.0, -1, -4, 2])[steps % 4]
    forecaster = PretrainedForecaster()
    known = forecaster.forecast(values[:52], 8, season=4)
    unknown = forecaster.forecast(values[:52], 8)
    assert np.abs(known - values[52:]).mean() < 0.5 * np.abs(unknown - values[52:]).mean()
    np.testing.assert_array_equal(forecaster.forecast(values[:52], 8, season=1), unknown)


@pytest.mark.parametrize("num_samples", [None, 3])
@pytest.mark.parametrize(("num_features", "num_covariates"), [(1, 0), (2, 2)])
def test_series_of_several_seasons_are_forecast_together_as_alone(
    num_samples: int | None, num_features: int, num_covariates: int
) -> None:
    forecaster, contexts = (
        perturbed(num_features, num_covariates),
        torch.from_numpy(seasonal(96, num_features)),
    )
    contexts[1, :30], contexts[4, 50:53], contexts[2, -1] = torch.nan, torch.nan, torch.nan
    rng = np.random.default_rng(1)
    covariates = torch.from_numpy(rng.standard_normal((len(SEASONS), 106, 2))) if num_covariates else None
    noise = 0.5 * torch.eye(num_features)

    def forecast(rows: list[int]) -> Tensor:
        known: dict[str, Any] = {"traits": {"season": SEASONS[rows]}}
        if covariates is not None:
            known["covariates"] = covariates[rows]
        if num_samples is not None:
            known |= {"num_samples": num_samples, "generator": generators(3, rows), "noise": noise}
        with torch.no_grad():
            return forecaster(contexts[rows], 10, **known)

    together, alone = forecast([*range(6)]), [forecast([row]) for row in range(6)]
    assert together.isfinite().all()
    torch.testing.assert_close(together, torch.cat(alone, -3), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(forecast([*range(6)]), forecaster(contexts, 10, covariates=covariates))


def test_a_warning_names_the_series_of_a_batch_of_several_seasons() -> None:
    contexts = torch.from_numpy(seasonal())
    contexts[3] = torch.nan
    known: dict[str, Any] = {"traits": {"season": SEASONS}}
    with pytest.warns(RuntimeWarning, match="NaN from there: series 3 of the batch at step 1"):
        forecast = PretrainedForecaster()(contexts, 4, **known)
    assert forecast.isnan().any((1, 2)).tolist() == [False, False, False, True, False, False]
    with pytest.warns(RuntimeWarning, match="NaN from there: d at step 1"):
        PretrainedForecaster()(contexts, 4, **known, names=list("abcdef"))


def test_predictions_by_a_trainer_are_those_of_arrays_with_the_traits_of_the_series(tmp_path: Path) -> None:
    forecaster = PretrainedForecaster()
    data = SequenceDataModule(Seasonal(), **SMALL, num_samples=2, seed=5)
    forecasts: Any = trainer(tmp_path).predict(forecaster, data)
    (forecast,) = forecasts
    contexts = seasonal()[:, -60:].astype(np.float32)
    expected = forecaster.forecast(contexts, 12, season=SEASONS.tolist())
    np.testing.assert_allclose(forecast.point, expected, rtol=1e-4, atol=1e-4)
    paths = forecaster.forecast(contexts, 12, season=SEASONS.tolist(), num_samples=2, seed=5)
    np.testing.assert_allclose(forecast.samples, paths, rtol=1e-4, atol=1e-4)
    assert not np.allclose(forecast.point, forecaster.forecast(contexts, 12))


def windows_of(forecaster: PretrainedForecaster, rows: list[int]) -> TrainingWindows:
    values = torch.from_numpy(seasonal())[rows].float()
    values[:, 90:] = torch.nan  # the end of the series
    return training_windows(forecaster.network, values, 70, traits={"season": SEASONS[rows]})


def test_the_loss_of_several_seasons_is_the_mean_of_the_windows_alone() -> None:
    forecaster = perturbed()
    together = forecaster.loss(windows_of(forecaster, [*range(6)]))
    with torch.no_grad():
        alone = [float(forecaster.loss(windows_of(forecaster, [row]))) for row in range(6)]
    assert float(together.detach()) == pytest.approx(sum(alone) / 6, rel=1e-4)
    assert together.requires_grad


def test_the_one_step_errors_of_several_seasons_are_those_of_the_series_alone() -> None:
    forecaster = perturbed()
    with torch.no_grad():
        together = forecaster.one_step_errors(windows_of(forecaster, [*range(6)]))
        alone = [forecaster.one_step_errors(windows_of(forecaster, [row])) for row in range(6)]
    assert together.isnan()[:, 20:].all()
    assert together[:, :20].isfinite().all()
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("row", range(6))
def test_one_step_errors_are_in_units_of_the_noise_of_each_series(row: int) -> None:
    forecaster = perturbed()
    windows, network = windows_of(forecaster, [row]), forecaster.network
    with torch.no_grad():
        scale = network.noise_scale(context_state(network, windows))
        expected = (windows.target - teacher_forced(network, windows)) / scale
        given = forecaster.one_step_errors(windows)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4, equal_nan=True)
    assert not torch.allclose(scale, torch.ones(()), rtol=0.1)


def test_a_fit_over_series_of_several_seasons_validates_each_by_its_own(tmp_path: Path) -> None:
    data = SequenceDataModule(Seasonal(), **SMALL, batch_size=6, num_batches_per_epoch=2, val_fraction=0.2)
    forecaster, fit = PretrainedForecaster(), trainer(tmp_path, max_epochs=1)
    fit.fit(forecaster, data)
    metrics = fit.callback_metrics
    assert bool(torch.stack([metrics[name] for name in ("train_loss", "val_loss")]).isfinite().all())
    assert float(metrics["val_rollout_nrmse"]) < 0.5
    bundled = bundled_network().parameters()
    assert any(not torch.equal(*pair) for pair in zip(forecaster.network.parameters(), bundled, strict=True))
    squares = [
        float((forecaster(case.context, 12, traits=case.traits) - case.target).detach().square().nansum())
        for case in data.val_dataloader()
    ]
    known = sum(int((~case.target.isnan()).sum()) for case in data.val_dataloader())
    assert float(metrics["val_rollout_rmse"]) == pytest.approx((sum(squares) / known) ** 0.5, rel=1e-4)


def test_threads_forecast_series_of_other_seasons_as_one_does() -> None:
    contexts, forecaster = seasonal().astype(np.float32), PretrainedForecaster()
    chosen = [(row, season) for row, season in enumerate(SEASONS.tolist())] + [(0, 12), (2, 7)]
    assert len(chosen) == 8

    def forecast(row: int, season: int) -> np.ndarray:
        state = forecaster.warm_up(contexts[row], season=season)
        generated = forecaster.generate(state, 20).numpy()
        np.testing.assert_allclose(
            generated[0], forecaster.forecast(contexts[row], 20, season=season), rtol=1e-4
        )
        return generated

    expected = [PretrainedForecaster().forecast(contexts[row], 20, season=season) for row, season in chosen]
    begin = threading.Barrier(len(chosen))

    def repeated(row: int, season: int) -> list[np.ndarray]:
        begin.wait()
        return [forecast(row, season) for _ in range(3)]

    with ThreadPoolExecutor(len(chosen)) as pool:
        futures = [pool.submit(partial(repeated, row, season)) for row, season in chosen]
    for future, of_series in zip(futures, expected, strict=True):
        for given in future.result():
            np.testing.assert_allclose(given[0], of_series, rtol=1e-4)


def test_a_stream_goes_on_with_the_season_of_its_warm_up() -> None:
    forecaster, values = PretrainedForecaster(), seasonal()[0]
    first = forecaster.warm_up(values[:80], season=7)
    state = at_once = forecaster.observe(first, values[80:])
    for value in values[80:]:
        first = forecaster.observe(first, value)
    torch.testing.assert_close(first, at_once, rtol=1e-4, atol=1e-4)
    assert state.traits["season"].tolist() == [7]
    generated = forecaster.generate(state, 9)[0].numpy()
    expected = forecaster.forecast(values, 9, season=7)  # by the scale of all values
    assert np.abs(generated - expected).max() < 1
    assert forecaster.generate(state, 9, num_samples=2).shape == (2, 1, 9, 1)


@pytest.mark.parametrize(("season", "shown"), [(0, "0"), ([7, 0], r"\[7, 0\]"), ([7, 7, 7], r"\[7, 7, 7\]")])
def test_seasons_that_do_not_fit_are_refused(season: Any, shown: str) -> None:
    with pytest.raises(
        InputError, match=rf"`season` must be a whole number of steps, .* 2 series or each: got {shown}"
    ):
        PretrainedForecaster().forecast(seasonal()[:2], 5, season=season)


def test_a_checkpoint_of_any_size_is_loaded_by_its_own_class(tmp_path: Path) -> None:
    data = SequenceDataModule(seasonal(96, 2), **SMALL, num_batches_per_epoch=1)
    for number, options in enumerate(({}, {"weights": "random", "hidden_size": 8})):
        forecaster, fit = PretrainedForecaster(**options), trainer(tmp_path, max_steps=1)  # type: ignore[arg-type]
        fit.fit(forecaster, data)
        assert forecaster.network.num_features == 2
        path = tmp_path / f"{number}.ckpt"
        fit.save_checkpoint(path)
        loaded = PretrainedForecaster.load_from_checkpoint(path, weights_only=True)
        contexts = seasonal(96, 2)
        given, expected = (
            each.forecast(contexts, 9, season=SEASONS.tolist()) for each in (loaded, forecaster)
        )
        np.testing.assert_array_equal(given, expected)
        with pytest.raises(
            InputError, match=r"of the class .*PretrainedForecaster, not .*\.Forecaster: load it"
        ):
            Forecaster.load_from_checkpoint(path)
    with pytest.raises(InputError, match="`weights` must be bundled or random, got 'mine'"):
        PretrainedForecaster(weights="mine")  # type: ignore[arg-type]


def test_the_schedule_begins_anew_in_each_stage() -> None:
    forecaster = PretrainedForecaster(warmup_steps=0)
    forecaster.num_stages = 2
    rates = [forecaster.rate(step, 20) for step in range(20)]
    assert rates[:10] == rates[10:]
    assert rates[0] == 1.0
    assert rates[9] < 0.05
    forecaster.num_stages = 1
    assert forecaster.rate(10, 20) == pytest.approx(0.5)


def test_a_network_is_pretrained_on_fresh_series_of_any_season(tmp_path: Path) -> None:
    def weights(seed: int, **options: Any) -> list[Tensor]:
        torch.manual_seed(0)
        forecaster = PretrainedForecaster(weights="random", hidden_size=8)
        series = PriorSeries(num_series=10, length=60, season=4, fresh=True)
        data = SequenceDataModule(
            series, context_length=40, horizon=8, batch_size=4, num_batches_per_epoch=3, seed=seed, **options
        )
        fit = trainer(tmp_path, max_epochs=1, limit_val_batches=1)
        fit.fit(forecaster, data)
        assert bool(fit.callback_metrics["train_loss"].isfinite())
        return [parameter.detach() for parameter in forecaster.network.parameters()]

    one = weights(0)
    torch.testing.assert_close(one, weights(0), rtol=0, atol=0)
    assert any(not torch.equal(*pair) for pair in zip(one, weights(1), strict=True))


def test_pretraining_resumed_in_the_middle_of_an_epoch_equals_uninterrupted(tmp_path: Path) -> None:
    class Keep(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step == 2:
                trainer.save_checkpoint(tmp_path / "2.ckpt")

    def fitted(ckpt_path: Path | None = None, **options: Any) -> list[Tensor]:
        torch.manual_seed(0)
        forecaster = PretrainedForecaster(weights="random", hidden_size=8)
        series = PriorSeries(num_series=10, length=60, season=4, fresh=True)
        data = SequenceDataModule(series, context_length=40, horizon=8, batch_size=4, num_batches_per_epoch=4)
        fit = trainer(tmp_path, max_epochs=1, limit_val_batches=0, **options)
        fit.fit(forecaster, data, ckpt_path=ckpt_path, weights_only=ckpt_path is not None)
        return [parameter.detach() for parameter in forecaster.network.parameters()]

    whole = fitted(callbacks=[Keep()])
    torch.testing.assert_close(fitted(tmp_path / "2.ckpt"), whole, rtol=0, atol=0)
