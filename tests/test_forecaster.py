import math
import re
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from rnn_lightning import (
    Forecaster,
    LinearSeries,
    RandomSeries,
    SequenceDataModule,
    SineSeries,
)
from rnn_lightning.data.array import ArraySeries
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import class_name, is_class
from rnn_lightning.losses import TrainingWindows, teacher_forced, training_windows
from rnn_lightning.rollout import generate, generators, warm_up

SMALL: dict[str, Any] = {"context_length": 10, "scored_length": 10, "horizon": 8, "num_batches_per_epoch": 10}


def trainer(folder: Path, **options: Any) -> L.Trainer:
    names = ["logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"]
    quiet: dict[str, Any] = dict.fromkeys(names, False)
    return L.Trainer(default_root_dir=folder, accelerator="cpu", num_sanity_val_steps=0, **quiet, **options)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Forecaster, SequenceDataModule, Path]:
    """A network fitted for an epoch by a script, and its checkpoint."""
    folder = tmp_path_factory.mktemp("fitted")
    torch.manual_seed(0)
    forecaster = Forecaster(hidden_size=8, transforms=["difference", "standardize"])
    datamodule = SequenceDataModule(SineSeries(num_series=3), **SMALL)
    fit = trainer(folder, max_epochs=1)
    fit.fit(forecaster, datamodule)
    fit.save_checkpoint(folder / "fitted.ckpt")
    return forecaster, datamodule, folder / "fitted.ckpt"


def test_a_network_and_its_forecast_say_in_a_line_what_they_are(
    fitted: tuple[Forecaster, SequenceDataModule, Path],
) -> None:
    forecaster, datamodule, folder = fitted
    sizes = "1 feature, 0 covariates; 361 weights"
    assert repr(forecaster) == f"Forecaster: lstm, 1 layer of 8 units; {sizes}"
    fresh = Forecaster(cell="gru", num_layers=2, num_covariates=3)
    assert repr(fresh).startswith("Forecaster: gru, 2 layers of 32 units; 1 feature, 3 covariates; ")
    assert repr(fresh).endswith(" weights, not fitted")
    datamodule.num_samples = 5
    (forecast,) = trainer(folder).predict(forecaster, datamodule)  # type: ignore[misc]
    datamodule.num_samples = None
    assert repr(forecast) == "Forecast: 3 series, 8 steps, 1 feature, 5 sampled paths"
    figure = forecast.plot()  # type: ignore[union-attr]
    drawn = [axis.lines[0].get_ydata() for axis in figure.axes]
    np.testing.assert_array_equal(drawn, forecast.point[..., 0])  # type: ignore[union-attr]
    assert [axis.get_ylabel() for axis in figure.axes] == ["series 0", "series 1", "series 2"]


def test_statistics_are_those_of_the_training_split(
    fitted: tuple[Forecaster, SequenceDataModule, Path],
) -> None:
    forecaster, datamodule, _ = fitted
    differences = np.concatenate([np.diff(series[:, 0].numpy()) for series in datamodule.train_series()])
    assert len(differences) == 3 * 319
    standardize: Any = forecaster.network.transforms.parts[1]
    assert float(standardize.mean) == pytest.approx(float(differences.mean()), abs=1e-6)
    assert float(standardize.scale) == pytest.approx(float(differences.std()), rel=1e-5)


@pytest.mark.parametrize("transforms", [["standardize"], ["difference", "standardize"]])
def test_a_second_fit_on_values_of_another_scale_is_told(transforms: list[Any], tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(200)
    forecaster = Forecaster(hidden_size=4, transforms=transforms)

    def fit(array: np.ndarray) -> None:
        trainer(tmp_path, max_steps=1).fit(forecaster, SequenceDataModule(ArraySeries(array), **SMALL))

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the values are about")
        fit(values)
        fit(2 * values + 1)
    message = "standard deviations from those of the fit, whose units the network keeps: make a new"
    with pytest.warns(UserWarning, match=message):
        fit(1000 * values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision_is_refused(dtype: torch.dtype) -> None:
    forecaster = Forecaster(hidden_size=4)
    forecaster.network.transforms.fit([torch.rand(50, 1)])
    with pytest.raises(InputError, match=f"the network is in {dtype}, which rounds to three digits"):
        forecaster.to(dtype).forecast(np.arange(50.0), 3)
    assert forecaster.float().forecast(np.arange(50.0), 3).shape == (3,)


def test_logged_validation_metrics_are_those_of_the_definition(
    fitted: tuple[Forecaster, SequenceDataModule, Path], tmp_path: Path
) -> None:
    forecaster, datamodule, path = fitted
    loaded = Forecaster.load_from_checkpoint(path)
    (logged,) = trainer(tmp_path).validate(loaded, datamodule, verbose=False)
    squares, count, losses, known = 0.0, 0, 0.0, 0
    with torch.no_grad():
        for case in datamodule.val_dataloader():
            error = loaded(case.context, case.target.shape[1]) - case.target
            squares, count = squares + float(error.square().nansum()), count + int((~error.isnan()).sum())
            windows = training_windows(loaded.network, torch.cat([case.context, case.target], 1), 10)
            losses += float((teacher_forced(loaded.network, windows) - windows.target).square().nansum())
            known += int((~windows.target.isnan()).sum())
    assert count == known == 3 * 40
    assert logged["val_rollout_rmse"] == pytest.approx(math.sqrt(squares / count), rel=1e-5)
    assert logged["val_loss"] == pytest.approx(losses / known, rel=1e-5)
    assert float(forecaster.network.residual_covariance) == pytest.approx(losses / known, rel=1e-5)


def test_the_training_loss_is_logged_in_fits_of_any_length(tmp_path: Path) -> None:
    def logged(every: int, max_steps: int = 20) -> list[float]:
        torch.manual_seed(0)
        logger = CSVLogger(tmp_path, name=None, version=f"{every}-{max_steps}")
        fit = trainer(tmp_path, max_steps=max_steps, log_every_n_steps=every)
        fit.logger = logger
        fit.fit(Forecaster(hidden_size=4, schedule="constant"), SequenceDataModule(SineSeries(), **SMALL))
        losses = np.genfromtxt(Path(logger.log_dir, "metrics.csv"), delimiter=",", names=True)["train_loss"]
        return losses[~np.isnan(losses)].tolist()

    single = logged(1)
    assert len(single) == 20
    assert logged(4) == pytest.approx([single[step - 1] for step in (4, 8, 10, 12, 16, 20)], rel=1e-5)
    assert logged(10, max_steps=3) == pytest.approx([single[2]], rel=1e-5)


def test_test_metrics_are_in_the_units_of_the_data(
    fitted: tuple[Forecaster, SequenceDataModule, Path], tmp_path: Path
) -> None:
    forecaster, datamodule, _ = fitted
    (logged,) = trainer(tmp_path).test(forecaster, datamodule, verbose=False)
    with torch.no_grad():
        errors = torch.cat(
            [
                forecaster(case.context, case.target.shape[1]) - case.target
                for case in datamodule.test_dataloader()
            ]
        )
    known = errors[~errors.isnan()]
    assert len(known) == 3 * 40
    assert logged["test_rmse"] == pytest.approx(float(known.square().mean().sqrt()), rel=1e-5)
    assert logged["test_mae"] == pytest.approx(float(known.abs().mean()), rel=1e-5)


def test_checkpoint_is_safe_to_load_and_forecasts_the_same(
    fitted: tuple[Forecaster, SequenceDataModule, Path], tmp_path: Path
) -> None:
    forecaster, datamodule, path = fitted
    assert torch.serialization.get_unsafe_globals_in_checkpoint(path) == []
    loaded = Forecaster.load_from_checkpoint(path)
    context = datamodule.data.series(1)[-10:].numpy()
    np.testing.assert_array_equal(loaded.forecast(context, 8), forecaster.forecast(context, 8))
    predictions: Any = trainer(tmp_path).predict(loaded, datamodule)
    np.testing.assert_allclose(predictions[0].point[1], forecaster.forecast(context, 8), rtol=1e-5, atol=1e-6)
    assert predictions[0].samples is None


def test_forecast_returns_what_it_is_given(fitted: tuple[Forecaster, SequenceDataModule, Path]) -> None:
    forecaster, datamodule, _ = fitted
    series = datamodule.data.values.view(3, 400)[:, -10:]
    batch = forecaster.forecast(series[..., None], 5)
    assert isinstance(batch, torch.Tensor)
    assert batch.shape == (3, 5, 1)
    flat = forecaster.forecast(series[1].numpy(), 5)
    assert isinstance(flat, np.ndarray)
    np.testing.assert_allclose(flat, batch[1, :, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        forecaster.forecast(series[1].double().numpy()[:, None], 5)[:, 0], flat, rtol=1e-6
    )
    paths = forecaster.forecast(series[..., None], 5, num_samples=7, seed=3)
    assert paths.shape == (7, 3, 5, 1)
    first = forecaster.forecast(series[0].numpy(), 5, num_samples=7, seed=3)
    np.testing.assert_allclose(first, paths[:, 0, :, 0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(first, forecaster.forecast(series[0].numpy(), 5, num_samples=7, seed=4))


def test_lists_of_numbers_are_forecast_as_arrays() -> None:
    forecaster = Forecaster(hidden_size=4, transforms=["standardize"], num_covariates=1)
    forecaster.network.transforms.fit([torch.rand(30, 1)])
    history, covariates = np.random.default_rng(0).random(9), np.random.default_rng(1).random((14, 1))
    listed, expected = history.tolist(), forecaster.forecast(history, 5, covariates=covariates)
    forecast = forecaster.forecast(listed, 5, covariates=covariates.tolist())
    np.testing.assert_allclose(forecast, expected, rtol=1e-5)
    state = forecaster.warm_up(listed[:8], covariates[:9].tolist())
    state = forecaster.observe(state, listed[8], covariates[9].tolist())
    generated = forecaster.generate(state, 5, covariates=covariates[10:].tolist())
    np.testing.assert_allclose(generated.flatten(), expected, rtol=1e-4)


def test_a_table_is_refused_with_what_to_call() -> None:
    with pytest.raises(InputError, match="forecast takes numbers: call forecast_frame with a table"):
        Forecaster().forecast(pl.DataFrame({"y": [1.0, 2.0]}), 5)


def test_the_noise_of_paths_may_be_given(fitted: tuple[Forecaster, SequenceDataModule, Path]) -> None:
    forecaster, datamodule, _ = fitted
    context = datamodule.data.series(0)[-10:]
    paths = forecaster.forecast(context, 5, num_samples=3, noise=torch.zeros(1, 1))
    torch.testing.assert_close(paths, forecaster.forecast(context, 5).expand(3, -1, -1))


def test_forecast_is_without_dropout_and_leaves_the_mode() -> None:
    forecaster = Forecaster(num_layers=2, dropout=0.5, transforms=[])
    assert forecaster.training
    context = torch.randn(1, 6, 1)
    with pytest.raises(InputError, match="the network has not been fitted"):
        forecaster.forecast(context, 5)
    forecaster.network.transforms.fit([context[0]])
    assert torch.equal(forecaster.forecast(context, 5), forecaster.forecast(context, 5))
    assert forecaster.network.training


def test_a_stream_is_warmed_up_observed_and_generated_from(
    fitted: tuple[Forecaster, SequenceDataModule, Path],
) -> None:
    forecaster, datamodule, _ = fitted
    values = datamodule.data.series(0)[:50, 0].numpy()
    state = forecaster.warm_up(values[:40])
    for value in values[40:]:
        state = forecaster.observe(state, value[None])
    whole = forecaster.warm_up(values)
    torch.testing.assert_close(state, whole, rtol=1e-5, atol=1e-6)
    expected = generate(
        forecaster.network, warm_up(forecaster.network, torch.tensor(values)[None, :, None]), 9
    )
    torch.testing.assert_close(forecaster.generate(whole, 9), expected.detach(), rtol=1e-5, atol=1e-6)


def test_linear_series_go_on_for_slopes_and_starts_never_trained_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    forecaster = Forecaster(hidden_size=4, cell="rnn_tanh", transforms=["difference", "standardize_context"])
    source = LinearSeries(num_series=50, min_slope=0.5, max_slope=1)
    datamodule = SequenceDataModule(
        source, context_length=5, scored_length=5, horizon=5, split_by="series", num_batches_per_epoch=50
    )
    trainer(tmp_path, max_epochs=2).fit(forecaster, datamodule)
    for start, slope in ((1.0, 1.0), (-300.0, 7.0), (0.0, -0.01)):
        values = start + slope * np.arange(1006)
        forecast = forecaster.forecast(values[:5], 1001)
        np.testing.assert_allclose(forecast - values[4], values[5:] - values[4], rtol=0.01)


def test_a_fit_learns_that_random_values_have_only_a_mean(tmp_path: Path) -> None:
    torch.manual_seed(0)
    forecaster = Forecaster(hidden_size=4, cell="rnn_tanh", transforms=["standardize"])
    datamodule = SequenceDataModule(
        RandomSeries(num_series=500), context_length=4, scored_length=6, horizon=6, split_by="series"
    )
    fit = trainer(tmp_path, max_epochs=3)
    fit.fit(forecaster, datamodule)
    (logged,) = fit.test(forecaster, datamodule, verbose=False)
    assert 0.9 < logged["test_rmse"] ** 2 / (1 / 12) < 1.15


def test_a_script_forecasts_with_covariates_that_are_known() -> None:
    torch.manual_seed(0)
    forecaster = Forecaster(hidden_size=4, num_covariates=2)
    forecaster.network.transforms.fit([torch.rand(30, 1)])
    history, covariates = np.random.default_rng(0).random(20), np.random.default_rng(1).random((25, 2))
    forecast = forecaster.forecast(history, 5, covariates=covariates)
    assert forecast.shape == (5,)
    covariates[-1] += 1
    changed = forecaster.forecast(history, 5, covariates=covariates)
    assert np.array_equal(changed[:4], forecast[:4])
    assert changed[4] != forecast[4]
    state = forecaster.warm_up(history, covariates[:21])
    generated = forecaster.generate(state, 5, covariates=covariates[21:])
    np.testing.assert_allclose(generated.flatten(), changed, rtol=1e-5)
    history[7] = covariates[3, 0] = np.nan  # in the past, that is a gap
    assert np.isfinite(forecaster.forecast(history, 5, covariates=covariates)).all()
    covariates[22, 1] = np.nan
    with pytest.raises(InputError, match="covariates of the horizon must all be known: some are NaN"):
        forecaster.forecast(history, 5, covariates=covariates)


def test_predicted_paths_depend_on_the_seed_and_on_the_number_of_their_series(
    fitted: tuple[Forecaster, SequenceDataModule, Path], tmp_path: Path
) -> None:
    forecaster, datamodule, _ = fitted
    values = datamodule.data.series(1).numpy()[None].repeat(3, 0)

    def paths(seed: int) -> torch.Tensor:
        data = SequenceDataModule(values, context_length=10, horizon=6, num_samples=4, seed=seed)
        forecasts: Any = trainer(tmp_path).predict(forecaster, data)
        assert forecasts[0].samples.shape == (4, 3, 6, 1)
        return forecasts[0].samples

    given = paths(5)
    context = torch.from_numpy(values[:, -10:])
    with torch.no_grad():
        expected = forecaster(context, 6, num_samples=4, generator=generators(5, range(3)))
    torch.testing.assert_close(given, expected)
    assert not torch.allclose(given[:, 0], given[:, 1])
    assert not torch.allclose(given, paths(6))


def test_batches_made_together_are_trained_on_as_those_made_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(most: int) -> list[torch.Tensor]:
        monkeypatch.setattr("rnn_lightning.data.datamodule.MAX_BATCHES_TOGETHER", most)
        torch.manual_seed(0)
        forecaster = Forecaster(hidden_size=4)
        data = SequenceDataModule(
            RandomSeries(num_steps=150), batch_size=7, **SMALL | {"num_batches_per_epoch": 37}
        )
        trainer(tmp_path, max_epochs=1).fit(forecaster, data)
        return list(forecaster.parameters())

    torch.testing.assert_close(weights(16), weights(1))


def test_a_subclass_trains_by_a_loss_of_its_own_on_transformed_windows(tmp_path: Path) -> None:
    class Absolute(Forecaster):
        def loss(self, windows: TrainingWindows) -> torch.Tensor:
            kinds.add(type(windows))
            return (teacher_forced(self.network, windows) - windows.target).abs().mean()

    def weights(kind: type[Forecaster]) -> list[torch.Tensor]:
        torch.manual_seed(0)
        forecaster = kind(hidden_size=4, transforms=["standardize"])
        data = SequenceDataModule(RandomSeries(num_steps=150), **SMALL)
        trainer(tmp_path, max_epochs=1, limit_val_batches=0).fit(forecaster, data)
        return list(forecaster.parameters())

    kinds: set[type] = set()
    assert not torch.allclose(weights(Absolute)[0], weights(Forecaster)[0])
    assert kinds == {TrainingWindows}


def test_a_loss_that_is_no_number_ends_the_fit_before_the_weights(tmp_path: Path) -> None:
    class Diverging(Forecaster):
        def loss(self, windows: TrainingWindows) -> torch.Tensor:
            return super().loss(windows) * (torch.nan if self.global_step == 2 else 1)

    forecaster = Diverging(hidden_size=4)
    with pytest.raises(InputError, match=r"the loss is nan at step 2: training has diverged\. Lower"):
        trainer(tmp_path, max_steps=5).fit(forecaster, SequenceDataModule(SineSeries(), **SMALL))
    assert all(bool(parameter.isfinite().all()) for parameter in forecaster.parameters())


def test_resumed_in_the_middle_of_an_epoch_equals_uninterrupted(tmp_path: Path) -> None:
    def fit(ckpt_path: Path | None = None, **options: Any) -> tuple[Forecaster, L.Trainer]:
        torch.manual_seed(0)
        forecaster = Forecaster(hidden_size=4)
        fitting = trainer(tmp_path, **options)
        fitting.fit(forecaster, SequenceDataModule(SineSeries(), batch_size=4, **SMALL), ckpt_path=ckpt_path)
        return forecaster, fitting

    whole, _ = fit(max_epochs=3)

    class Stop(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step == self.step:
                trainer.save_checkpoint(tmp_path / f"{self.step}.ckpt")

        def __init__(self, step: int) -> None:
            self.step = step

    for step in (7, 10, 25):
        fit(max_epochs=3, callbacks=[Stop(step)])
        resumed, _ = fit(tmp_path / f"{step}.ckpt", max_epochs=3)
        for expected, given in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
            assert torch.equal(expected, given)


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"cell": "gru"}, {}),
        ({"hidden_size": 5}, {}),
        ({"num_layers": 2}, {}),
        ({"dropout": 0.5, "num_layers": 2}, {"num_layers": 2}),
        ({"transforms": ["difference"]}, {}),
        ({"learning_rate": 0.02}, {}),
        ({"schedule": "constant"}, {}),
        ({"free_run_weight": 0.5}, {}),
        ({"warmup_steps": 2}, {}),
    ],
)
def test_every_argument_changes_the_fit(
    tmp_path: Path, changed: dict[str, Any], same: dict[str, Any]
) -> None:
    def fit(options: dict[str, Any]) -> torch.Tensor:
        torch.manual_seed(0)
        forecaster = Forecaster(**{"cell": "rnn_tanh", "hidden_size": 4, **options})
        trainer(tmp_path, max_steps=3).fit(forecaster, SequenceDataModule(SineSeries(), **SMALL))
        return forecaster.forecast(torch.linspace(0, 1, 10), 5)

    assert not torch.equal(fit(changed), fit(same))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "elman"}, "`cell`: unknown cell 'elman'; there are rnn_tanh, rnn_relu, gru, lstm"),
        ({"hidden_size": 0}, "`hidden_size` must be at least 1, got 0"),
        ({"num_layers": 0}, "`num_layers` must be at least 1, got 0"),
        ({"num_features": 0}, "`num_features` must be at least 1, got 0"),
        ({"dropout": 0.5}, "`dropout` 0.5 acts between layers: it needs `num_layers`"),
        ({"dropout": 1.0, "num_layers": 2}, "`dropout` must be at least 0 and below 1"),
        (
            {"transforms": ["square"]},
            "`transforms`: unknown transform 'square'; there are log, difference",
        ),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0"),
        ({"schedule": "step"}, "`schedule`: unknown schedule 'step'"),
        ({"free_run_weight": 1.5}, "`free_run_weight` must be from 0 to 1"),
        ({"warmup_steps": -1}, "`warmup_steps` must not be negative, got -1"),
        ({"num_covariates": -1}, "`num_covariates` must not be negative, got -1"),
    ],
)
def test_wrong_arguments_name_the_option(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Forecaster(**options)


def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, fitted: tuple[Forecaster, SequenceDataModule, Path]
) -> None:
    two = SequenceDataModule(RandomSeries(num_features=2, num_steps=40), **SMALL)
    with pytest.raises(InputError, match="the data have 2 features and the network 1"):
        trainer(tmp_path, max_epochs=1).fit(Forecaster(num_features=1), two)
    short = SequenceDataModule(SineSeries(), context_length=2)
    with pytest.raises(InputError, match=r"`context_length` 2 is too short for `transforms`: .* at least 3"):
        trainer(tmp_path, max_epochs=1).fit(Forecaster(transforms=["difference", "difference"]), short)
    with pytest.raises(InputError, match="the network has not been fitted"):
        trainer(tmp_path).predict(Forecaster(), SequenceDataModule(SineSeries()))
    with pytest.raises(InputError, match="the data have 2 features and the network 1"):
        trainer(tmp_path, max_epochs=1).fit(Forecaster.load_from_checkpoint(fitted[2]), two)
    with pytest.raises(InputError, match="`precision` bf16-true would round the data"):
        trainer(tmp_path, max_epochs=1, precision="bf16-true").fit(Forecaster(), fitted[1])
    with pytest.raises(InputError, match=r"`schedule` cosine needs to know the end"):
        trainer(tmp_path, max_epochs=-1).fit(Forecaster(), SequenceDataModule(SineSeries()))


def test_sizes_that_are_not_given_are_those_of_the_data(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 60, 3))
    forecaster, fit = Forecaster(hidden_size=4), trainer(tmp_path, max_epochs=1, limit_train_batches=2)
    fit.fit(forecaster, SequenceDataModule(values))
    assert forecaster.network.num_features == 3
    fit.save_checkpoint(tmp_path / "model.ckpt")
    loaded = Forecaster.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    np.testing.assert_array_equal(loaded.forecast(values, 4), forecaster.forecast(values, 4))


def test_one_vector_of_several_features_is_one_step() -> None:
    forecaster = Forecaster(num_features=3, hidden_size=4)
    forecaster.network.transforms.fit([torch.rand(9, 3)])
    state, vector = forecaster.warm_up(torch.rand(20, 3)), torch.rand(3)
    one, whole = (forecaster.observe(state, values) for values in (vector, vector[None]))
    assert torch.equal(forecaster.generate(one, 5), forecaster.generate(whole, 5))


@pytest.mark.parametrize(
    ("name", "value", "saved"),
    [
        ("hidden_size", 9, "8"),
        ("cell", "gru", "lstm"),
        ("num_layers", 2, "1"),
        ("transforms", ["difference"], r"\['difference', 'standardize'\]"),
    ],
)
def test_weights_of_another_architecture_are_refused_by_the_name_of_the_argument(
    name: str, value: Any, saved: str, fitted: tuple[Forecaster, SequenceDataModule, Path], tmp_path: Path
) -> None:
    _, datamodule, path = fitted
    same: dict[str, Any] = {"hidden_size": 8, "transforms": ["difference", "standardize"]}
    with pytest.raises(InputError, match=rf"`{name}` is .*, and the checkpoint holds a network with {saved}"):
        trainer(tmp_path).predict(
            Forecaster(**{**same, name: value}), datamodule, ckpt_path=path, weights_only=True
        )
    trainer(tmp_path).predict(Forecaster(**same), datamodule, ckpt_path=path, weights_only=True)


class Scaled(Forecaster):
    """A forecaster with an argument of its own."""

    def __init__(self, factor: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.factor = factor

    def loss(self, windows: TrainingWindows) -> torch.Tensor:
        return self.factor * super().loss(windows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "rnn_relu"}, "`cell` is rnn_relu, and the checkpoint holds a network with lstm"),
        ({"hidden_size": 9}, "`hidden_size` is 9, and the checkpoint holds a network with 8"),
        ({"num_features": 3}, "there are 3 features, and the checkpoint holds a network with 1"),
        ({"transforms": ["log"]}, "`transforms` is ['log'], and the checkpoint holds a network with"),
    ],
)
def test_a_checkpoint_is_not_loaded_into_another_network(
    fitted: tuple[Forecaster, SequenceDataModule, Path], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Forecaster.load_from_checkpoint(fitted[2], **arguments)


class OwnLoss(Forecaster):
    def loss(self, windows: Any) -> Any:
        return None


class OwnNetwork(Forecaster):
    def make_network(self, num_features: int, num_covariates: int) -> Any:
        return torch.nn.LSTM(num_features, 4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda _: Forecaster(transforms="standardize"), "`transforms` must be a list of names"),  # type: ignore[arg-type]
        (lambda _: OwnNetwork(), "LSTM lacks num_features, num_covariates, transforms"),
        (lambda it: it.forecast(1.0, 3), "a single number is no context"),
        (
            lambda it: it.forecast(it.warm_up(np.arange(30.0)), 3),
            "call generate(state, horizon) with a state",
        ),
        (lambda it: it.observe(0.1, it.warm_up(np.arange(30.0))), "call observe(state, values) with a state"),
        (lambda it: it.observe(it.warm_up(np.arange(30.0)), None), "and at least one value"),
        (
            lambda it: it.loss(torch.zeros(3, 4, 1)),
            "call training_windows(batch) with a batch of a data module, got Tensor",
        ),
        (lambda _: SequenceDataModule(SineSeries), "the class SineSeries: give a series, SineSeries()"),  # type: ignore[arg-type]
        (
            lambda _: trainer(Path(), max_steps=1).fit(OwnLoss(), SequenceDataModule(SineSeries())),
            "`loss` must return a scalar tensor, got None",
        ),
    ],
)
def test_a_slip_is_answered_by_what_to_write(
    fitted: tuple[Forecaster, SequenceDataModule, Path], wrong: Callable[[Forecaster], Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        wrong(fitted[0])


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_several_loaders_are_one_and_tensors_are_no_forecasts(
    fitted: tuple[Forecaster, SequenceDataModule, Path], tmp_path: Path, stage: str
) -> None:
    forecaster, data, _ = fitted
    data.setup("validate")
    load = data.predict_dataloader if stage == "predict" else data.val_dataloader
    run = getattr(trainer(tmp_path), stage)
    assert len(run(forecaster, [load(), load()])) == 2
    with pytest.raises(InputError, match=r"batches must be the forecasts of a data module.*got Tensor"):
        run(forecaster, torch.utils.data.DataLoader(torch.zeros(4, 30, 1)))  # type: ignore[arg-type]


def test_a_context_in_other_units_than_those_of_the_fit_is_told() -> None:
    forecaster = Forecaster(hidden_size=4, transforms=["standardize"])
    forecaster.network.transforms.fit([torch.rand(50, 1)])
    with pytest.warns(UserWarning, match="the values are about .* standard deviations from those of the fit"):
        forecaster.forecast(1e5 + np.arange(50.0), 3)
    with pytest.warns(UserWarning, match="a context has no known value"):
        forecaster.forecast(np.full(9, np.nan), 3)


def test_a_checkpoint_is_loaded_by_its_own_class_alone(
    fitted: tuple[Forecaster, SequenceDataModule, Path], tmp_path: Path
) -> None:
    _, datamodule, path = fitted
    forecaster, fit = Scaled(3.0, hidden_size=4), trainer(tmp_path, max_steps=2)
    fit.fit(forecaster, datamodule)
    own = tmp_path / "own.ckpt"
    fit.save_checkpoint(own)
    loaded = Scaled.load_from_checkpoint(own, weights_only=True)
    assert loaded.factor == 3.0
    context = datamodule.data.series(0)[-10:]
    assert torch.equal(loaded.forecast(context, 5), forecaster.forecast(context, 5))
    of_other = r"a network of the class test_forecaster\.Scaled, not .*\.Forecaster: load it by its own class"
    with pytest.raises(InputError, match=of_other):
        Forecaster.load_from_checkpoint(own)
    with pytest.raises(InputError, match=r"of the class rnn_lightning\.forecaster\.Forecaster, not "):
        Scaled.load_from_checkpoint(path)
    with pytest.raises(InputError, match=of_other):
        trainer(tmp_path).predict(Forecaster(hidden_size=4), datamodule, ckpt_path=own, weights_only=True)


def test_a_class_of_a_script_is_the_same_when_it_is_imported() -> None:
    assert is_class(class_name(Scaled), Scaled)
    assert is_class("__main__.Scaled", Scaled)
    for other in ("__main__.Forecaster", "elsewhere.Scaled", "Scaled", class_name(Forecaster)):
        assert not is_class(other, Scaled)


def run_in_threads(calls: list[Callable[[], Any]]) -> list[Any]:
    """The results of calls that begin at once, each in a thread of its own."""
    begin = threading.Barrier(len(calls))

    def called(call: Callable[[], Any]) -> Any:
        begin.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(called, call) for call in calls]]


def test_eight_threads_forecast_as_one_in_training_mode_with_dropout() -> None:
    torch.manual_seed(0)
    forecaster = Forecaster(cell="gru", num_layers=2, hidden_size=8, dropout=0.5).train()
    forecaster.network.transforms.fit([torch.rand(30, 1)])
    forecaster.network.residual_covariance.fill_(0.1)
    contexts = torch.rand(8, 40, 1).numpy()

    def forecast(index: int) -> list[np.ndarray]:
        state = forecaster.warm_up(contexts[index][:30])
        state = forecaster.observe(state, contexts[index][30:])
        return [
            forecaster.forecast(contexts[index], 20),
            forecaster.forecast(contexts[index], 20, num_samples=3, seed=index),
            forecaster.generate(state, 20).numpy(),
        ]

    expected = [forecast(index) for index in range(8)]
    for _ in range(5):
        given = run_in_threads([partial(forecast, index) for index in range(8)])
        for one, other in zip(given, expected, strict=True):
            for part, expected_part in zip(one, other, strict=True):
                np.testing.assert_allclose(part, expected_part, rtol=1e-5, atol=1e-6)
    assert forecaster.network.training


def test_a_thread_that_ends_does_not_switch_dropout_on_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    forecaster = Forecaster(num_layers=2, dropout=0.5).train()
    forecaster.network.transforms.fit([torch.rand(30, 1)])
    context, free_run = torch.rand(1, 9, 1), forecaster.network.free_run
    expected = forecaster.forecast(context, 5)
    is_running, others_have_ended = threading.Event(), threading.Event()

    def slow(*args: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            is_running.set()
            assert others_have_ended.wait(60)
        return free_run(*args)

    monkeypatch.setattr(forecaster.network, "free_run", slow)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(forecaster.forecast, context, 5)
        assert is_running.wait(60)
        assert torch.equal(forecaster.forecast(context, 5), expected)
        others_have_ended.set()
        assert torch.equal(future.result(), expected)
    assert forecaster.network.training


def test_covariates_of_a_warm_up_are_those_of_the_history_and_of_the_next_step() -> None:
    forecaster = Forecaster(hidden_size=4, transforms=["standardize"], num_covariates=1)
    forecaster.network.transforms.fit([torch.rand(30, 1)])
    history, covariates = np.random.default_rng(0).random(9), np.random.default_rng(1).random((10, 1))
    with pytest.raises(InputError, match="must be those of the 9 steps and of the next one: got 9"):
        forecaster.warm_up(history, covariates[:9])
    state = forecaster.warm_up(history, covariates)
    assert forecaster.generate(state, 1).shape == (1, 1, 1)  # which needs no more of them


def test_what_numpy_reads_is_forecast_and_nothing_else() -> None:
    forecaster = Forecaster(hidden_size=4, transforms=["standardize"])
    forecaster.network.transforms.fit([torch.rand(30, 1)])
    values = np.random.default_rng(0).random(9)
    expected = forecaster.forecast(values, 3)
    for same in (tuple(values), pl.Series(values), values.tolist()):
        np.testing.assert_allclose(forecaster.forecast(same, 3), expected, rtol=1e-6)
    holed = np.where(np.arange(9) == 4, np.nan, values)
    masked = np.ma.masked_array(np.nan_to_num(holed, nan=1e9), np.isnan(holed))
    np.testing.assert_allclose(forecaster.forecast(masked, 3), forecaster.forecast(holed, 3))
    assert SequenceDataModule(masked).series.load().values.isnan().sum() == 1
    for wrong in (np.arange(9).astype("M8[D]"), values + 1j):
        with pytest.raises(InputError, match="it must hold real numbers"):
            forecaster.forecast(wrong, 3)
    with pytest.raises(InputError, match=r"`horizon` must be a whole number, got 2\.5"):
        forecaster.forecast(values, 2.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the state must be one of `warm_up` or `observe`, got Tensor"):
        forecaster.generate(torch.zeros(3), 3)  # type: ignore[arg-type]


def test_a_first_fit_needs_the_data_module_and_later_ones_take_its_loaders(tmp_path: Path) -> None:
    data = SequenceDataModule(SineSeries(), num_batches_per_epoch=2)
    data.setup("fit")
    quiet: dict[str, Any] = dict.fromkeys(["logger", "enable_progress_bar", "enable_checkpointing"], False)

    def trainer() -> L.Trainer:
        return L.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **quiet)

    forecaster = Forecaster(hidden_size=4)
    with pytest.raises(InputError, match=r"needs the data module, not its loaders: fit\(forecaster, data\)"):
        trainer().fit(forecaster, data.train_dataloader(), data.val_dataloader())
    trainer().fit(forecaster, data)
    before = forecaster.network.readout.weight.clone()
    loader = SequenceDataModule(SineSeries(), num_batches_per_epoch=2)
    loader.setup("fit")
    trainer().fit(forecaster, loader.train_dataloader(), loader.val_dataloader())
    assert not torch.equal(before, forecaster.network.readout.weight)
