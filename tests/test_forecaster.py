import math
import re
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from rnn_lightning import (
    ArraySeries,
    Forecaster,
    LinearSeries,
    RandomSeries,
    RecurrentNetwork,
    SequenceDataModule,
    SineSeries,
)
from rnn_lightning.data.batches import WindowBatch
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecast
from rnn_lightning.losses import scored, teacher_forced, training_loss
from rnn_lightning.rollout import generate, rollout, warm_up
from rnn_lightning.tables.forecast_writer import ForecastWriter

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


def test_the_loss_counts_the_scored_steps_of_the_next_step_prediction() -> None:
    """On a ramp, a network that repeats its input is wrong by the slope at every step."""
    network = RecurrentNetwork(cell="rnn_relu", hidden_size=1, transforms=[])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.recurrent.weight_ih_l0.fill_(1.0)  # type: ignore[operator]
        network.readout.weight.fill_(1.0)
    ramp = torch.arange(12.0).mul(3).view(1, 12, 1)
    assert training_loss(network, scored(network, ramp, 4)).item() == pytest.approx(9.0)
    ramp[:, :3] = 100.0  # context: not scored, and a repeating network forgets it
    assert training_loss(network, scored(network, ramp, 4)).item() == pytest.approx(9.0)
    ramp[:, -1] = 100.0
    assert training_loss(network, scored(network, ramp, 4)).item() == pytest.approx((7 * 9 + 70**2) / 8)


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "gru", "lstm"])
@pytest.mark.parametrize("transforms", [["standardize"], ["difference", "standardize_context"]])
def test_a_future_value_changes_no_earlier_prediction(cell: Any, transforms: Any) -> None:
    network = RecurrentNetwork(2, cell, hidden_size=5, num_layers=2, transforms=transforms)
    values = torch.randn(3, 20, 2)
    before = teacher_forced(network, scored(network, values, 8))
    values[:, 14] += 1
    after = teacher_forced(network, scored(network, values, 8))
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7], after[:, 7])


def test_the_free_run_loss_is_the_error_of_the_rollout() -> None:
    torch.manual_seed(0)
    network = RecurrentNetwork(hidden_size=6, transforms=["standardize"])
    values = torch.randn(4, 25, 1)
    generated = rollout(network, values[:, :10], 15)
    loss = training_loss(network, scored(network, values, 10), free_run_weight=1.0)
    assert float(loss.detach()) == pytest.approx(
        float((generated - values[:, 10:]).square().mean().detach()), rel=1e-4
    )
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_statistics_are_those_of_the_training_split(
    fitted: tuple[Forecaster, SequenceDataModule, Path],
) -> None:
    forecaster, datamodule, _ = fitted
    differences = np.concatenate([np.diff(series[:, 0].numpy()) for series in datamodule.train_series()])
    assert len(differences) == 3 * 319
    standardize: Any = forecaster.network.transforms.parts[1]
    assert float(standardize.mean) == pytest.approx(float(differences.mean()), abs=1e-6)
    assert float(standardize.scale) == pytest.approx(float(differences.std()), rel=1e-5)


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
            windows = scored(loaded.network, torch.cat([case.context, case.target], 1), 10)
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
    pieces = [single[:4], single[4:8], single[8:10], single[10:12], single[12:16], single[16:]]
    assert logged(4) == pytest.approx([np.mean(piece) for piece in pieces], rel=1e-5)
    assert logged(10, max_steps=3) == pytest.approx([np.mean(single[:3])], rel=1e-5)


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
    assert len(known) == 3 * 3 * 8
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


def test_forecast_is_without_dropout_and_leaves_the_mode() -> None:
    forecaster = Forecaster(num_layers=2, dropout=0.5, transforms=[])
    assert forecaster.training
    context = torch.randn(1, 6, 1)
    with pytest.raises(InputError, match="the network has not been fitted"):
        forecaster.forecast(context, 5)
    forecaster.network.transforms.fit([context[0]])
    assert torch.equal(forecaster.forecast(context, 5), forecaster.forecast(context, 5))
    listed: Any = context[0, :, 0].tolist()
    np.testing.assert_allclose(
        forecaster.forecast(listed, 5), forecaster.forecast(context, 5)[0, :, 0], rtol=1e-5
    )
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
    state = forecaster.warm_up(history, covariates[1:21])
    generated = forecaster.generate(state, 5, covariates=covariates[21:])
    np.testing.assert_allclose(generated.flatten(), changed, rtol=1e-5)
    history[7] = covariates[3, 0] = np.nan  # in the past, that is a gap
    assert np.isfinite(forecaster.forecast(history, 5, covariates=covariates)).all()
    covariates[22, 1] = np.nan
    with pytest.raises(InputError, match="covariates of the horizon must all be known: some are NaN"):
        forecaster.forecast(history, 5, covariates=covariates)


def test_one_series_of_a_batch_without_known_covariates_is_nan_and_the_others_are_not() -> None:
    forecaster = Forecaster(hidden_size=4, num_covariates=1)
    forecaster.network.transforms.fitted.fill_(True)
    forecaster.network.residual_covariance.fill_(0.1)
    rng = np.random.default_rng(0)
    history, covariates = rng.random((3, 20, 1)), rng.random((3, 25, 1))
    expected = forecaster.forecast(history, 5, covariates=covariates)
    covariates[1, 22] = np.nan
    with pytest.warns(UserWarning, match="of series 1 some are NaN"):
        forecast = forecaster.forecast(history, 5, covariates=covariates)
    np.testing.assert_array_equal(forecast[[0, 2]], expected[[0, 2]])
    assert np.isnan(forecast[1]).all()
    with pytest.warns(UserWarning, match="their forecast is NaN"):
        samples = forecaster.forecast(history, 5, covariates=covariates, num_samples=2)
    assert np.isnan(samples).any((0, 2, 3)).tolist() == [False, True, False]


def test_batches_made_together_are_trained_on_as_those_made_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(most: int) -> list[torch.Tensor]:
        monkeypatch.setattr("rnn_lightning.data.datamodule.MAX_TOGETHER", most)
        torch.manual_seed(0)
        forecaster = Forecaster(hidden_size=4)
        data = SequenceDataModule(
            RandomSeries(num_steps=150), batch_size=7, **SMALL | {"num_batches_per_epoch": 37}
        )
        trainer(tmp_path, max_epochs=1).fit(forecaster, data)
        return list(forecaster.parameters())

    torch.testing.assert_close(weights(16), weights(1))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_hook_may_change_what_is_trained_on(
    in_place: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doubled(Forecaster):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if in_place:
                batch.values.mul_(2)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return super().training_step(
                batch if in_place else batch._replace(values=2 * batch.values), batch_idx
            )

    def weights(kind: type[Forecaster], most: int) -> list[torch.Tensor]:
        monkeypatch.setattr("rnn_lightning.data.datamodule.MAX_TOGETHER", most)
        torch.manual_seed(0)
        forecaster = kind(hidden_size=4, transforms=["standardize"])
        data = SequenceDataModule(RandomSeries(num_steps=150), **SMALL)
        trainer(tmp_path, max_epochs=1, limit_val_batches=0).fit(forecaster, data)
        return list(forecaster.parameters())

    changed = weights(Doubled, 16)
    torch.testing.assert_close(changed, weights(Doubled, 1))
    assert not torch.allclose(changed[0], weights(Forecaster, 16)[0])


def test_a_batch_on_another_device_stands_alone() -> None:
    block = WindowBatch(torch.zeros(6, 5, 1), 2, torch.zeros(6, 5, 2), complete=True)
    batch = block.rows(2, 4)
    assert batch.whole() == (block, 2)
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    assert moved.values.is_meta
    assert moved.covariates is not None
    assert moved.covariates.shape == (2, 5, 2)
    assert moved.whole() == (moved, 0)


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
        ({"dropout": 0.5}, "`dropout` 0.5 acts between layers: raise `num_layers`"),
        ({"dropout": 1.0, "num_layers": 2}, "`dropout` must be at least 0 and below 1"),
        (
            {"transforms": ["square"]},
            "`transforms`: unknown transform 'square'; there are log, difference",
        ),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0"),
        ({"schedule": "step"}, "`schedule`: unknown schedule 'step'"),
        ({"free_run_weight": 1.5}, "`free_run_weight` must be from 0 to 1"),
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
    with pytest.raises(
        InputError, match=r"`hidden_size` is 9, and the checkpoint holds a network with 8"
    ):
        trainer(tmp_path).predict(
            Forecaster(hidden_size=9, transforms=["difference", "standardize"]),
            fitted[1],
            ckpt_path=fitted[2],
        )
    with pytest.raises(InputError, match=r"`schedule` cosine needs to know the end"):
        trainer(tmp_path, max_epochs=-1).fit(Forecaster(), SequenceDataModule(SineSeries()))


def test_a_network_of_the_package_has_intervals_from_the_series_that_it_is_given(tmp_path: Path) -> None:
    def widths(scale: float) -> torch.Tensor:
        torch.manual_seed(0)
        walks = scale * torch.randn(20, 60, 1).cumsum(1)
        datamodule = SequenceDataModule(ArraySeries(walks.numpy()), context_length=40, horizon=6)
        predict = trainer(tmp_path, callbacks=[ForecastWriter(plot=False)])
        forecaster = Forecaster(pretrained=True)
        forecasts: Any = predict.predict(forecaster, datamodule)
        assert forecaster.prepare_intervals()
        ends = forecaster.interval_ends(forecasts[0], [80])
        assert ends is not None
        low, high = ends
        return (high - low).mean((0, 2))

    assert bool((widths(1).diff() >= 0).all())
    torch.testing.assert_close(10 * widths(1), widths(10), rtol=0.05, atol=0)
    trained = Forecaster()
    trained.network.transforms.fitted.fill_(True)
    predict = trainer(tmp_path, callbacks=[ForecastWriter(plot=False)])
    predict.predict(trained, SequenceDataModule(SineSeries()))
    assert not trained.intervals.calibrated


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


def test_reprs_say_in_two_lines_what_things_are() -> None:
    data = SequenceDataModule(SineSeries())
    data.setup("fit")
    forecast = Forecast(torch.arange(2), torch.zeros(2, 5, 1), None)
    for thing in (Forecaster(), data, data.series, data.data, forecast):
        first, _ = repr(thing).splitlines()
        assert first.startswith(f"{type(thing).__name__}: ")
    assert "32 units" in repr(Forecaster())
    assert "noise=0.1" in repr(SineSeries(noise=0.1))
