"""Fits by variable projection and of reservoirs, by the ordinary Trainer."""

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from processes import results, start_group

from rnn_lightning import ArraySeries, Forecaster, PredictionIntervals, SequenceDataModule
from rnn_lightning.dynamics.lyapunov import lyapunov_exponents
from rnn_lightning.dynamics.metrics import ValidTime
from rnn_lightning.dynamics.systems import LorenzSeries, MackeyGlassSeries
from rnn_lightning.errors import InputError
from rnn_lightning.solver.forecaster import VariableProjectionForecaster
from rnn_lightning.solver.least_squares import Evaluation, evaluate
from rnn_lightning.solver.window_chunks import WindowChunks

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
SMALL: dict[str, Any] = {"hidden_size": 8, "iterations": 5, "input_noise": 1e-3, "ridge": 1e-8}


def make_data(values: Any = None, **known: Any) -> SequenceDataModule:
    values = MackeyGlassSeries(600).clean() if values is None else values
    sizes = {"context_length": 20, "scored_length": 40, "horizon": 30, "test_fraction": 0.0}
    return SequenceDataModule(ArraySeries(values), **(sizes | known))


def fit(
    forecaster: Forecaster, data: SequenceDataModule, num_epochs: int = 4, callbacks: Any = None, **known: Any
) -> L.Trainer:
    known = {"enable_checkpointing": False, **QUIET, **known}
    trainer = L.Trainer(max_epochs=num_epochs, callbacks=callbacks, **known)
    trainer.fit(forecaster, data)
    return trainer


@pytest.fixture(scope="module")
def lorenz() -> VariableProjectionForecaster:
    torch.manual_seed(0)
    forecaster = VariableProjectionForecaster(input_noise=1e-5, ridge=1e-12)
    values = LorenzSeries(4000).clean()
    fit(forecaster, make_data(values, context_length=50, scored_length=100, horizon=200), 5)
    return forecaster


def test_intervals_are_those_before_the_validation_split_is_trained_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, calibrate = [], PredictionIntervals.calibrate

    def watched(intervals: PredictionIntervals, forecaster: Any, *args: Any, **known: Any) -> None:
        seen.append(forecaster.trainer.current_epoch)
        calibrate(intervals, forecaster, *args, **known)

    monkeypatch.setattr(PredictionIntervals, "calibrate", watched)
    forecaster, data = VariableProjectionForecaster(**SMALL), make_data()
    trainer = fit(forecaster, data, 4, [PredictionIntervals()])
    assert seen == [0, 1, 2]  # the last epoch trains on all values
    trainer.validate(forecaster, data, verbose=False)
    assert len(seen) == 3 + (not forecaster.search.is_refit)


def test_lorenz_is_forecast_for_many_lyapunov_times(lorenz: VariableProjectionForecaster) -> None:
    series = LorenzSeries(12_000)
    values, starts = torch.from_numpy(series.clean()), range(5000, 11_000, 500)
    context = torch.stack([values[start : start + 100] for start in starts])
    truth = torch.stack([values[start + 100 : start + 700] for start in starts])
    metric = ValidTime(lyapunov_time=series.lyapunov_time)
    assert metric(lorenz.forecast(context, 600), truth, values.std(0)) > 6.5
    assert "valid for" in lorenz.choice


def test_the_exponents_of_the_learned_lorenz_are_those_of_the_true_one(
    lorenz: VariableProjectionForecaster,
) -> None:
    context = torch.from_numpy(LorenzSeries(2000).clean()).unfold(0, 100, 200).transpose(1, 2)
    exponents = lyapunov_exponents(lorenz, context, 3, num_steps=1500, time_step=0.02).mean(0)
    assert exponents[0].item() == pytest.approx(0.906, rel=0.1)
    assert exponents[1].item() == pytest.approx(0, abs=0.05)
    assert exponents[2].item() == pytest.approx(-14.57, rel=0.1)


def test_a_checkpoint_names_the_network_and_keeps_float64(
    lorenz: VariableProjectionForecaster, tmp_path: Path
) -> None:
    assert lorenz.trainer.precision == "32-true"
    lorenz.trainer.save_checkpoint(tmp_path / "lorenz.ckpt")
    context = LorenzSeries(100).clean()
    for kind in (Forecaster, VariableProjectionForecaster):
        loaded = kind.load_from_checkpoint(tmp_path / "lorenz.ckpt", weights_only=True)
        assert type(loaded) is kind
        assert loaded.network.readout.weight.dtype == torch.float64
        assert np.array_equal(loaded.forecast(context, 50), lorenz.forecast(context, 50))
    validated = L.Trainer(**QUIET).validate(
        Forecaster.load_from_checkpoint(tmp_path / "lorenz.ckpt", weights_only=True),
        make_data(LorenzSeries(4000).clean(), context_length=50, scored_length=100, horizon=200),
        verbose=False,
    )
    logged = lorenz.trainer.callback_metrics["val_rollout_nrmse"].item()
    assert validated[0]["val_rollout_nrmse"] == pytest.approx(logged, rel=1e-4)


@pytest.mark.parametrize("cell", ["rnn_relu", "gru", "lstm"])
def test_every_cell_learns(cell: Any) -> None:
    torch.manual_seed(0)
    trainers = [fit(VariableProjectionForecaster(cell=cell, **SMALL), make_data(), each) for each in (1, 9)]
    first, last = (trainer.callback_metrics["train_loss"] for trainer in trainers)
    assert last < 0.5 * first


def test_a_resumed_fit_ends_with_the_same_weights(tmp_path: Path) -> None:
    results = []
    for resumed in (False, True):
        torch.manual_seed(0)
        keep = ModelCheckpoint(tmp_path / str(resumed), filename="{epoch}", save_top_k=-1, every_n_epochs=1)
        forecaster = VariableProjectionForecaster(**SMALL | {"input_noise": "auto"})
        trainer = L.Trainer(max_epochs=12, callbacks=[keep], **QUIET)
        path = tmp_path / "False" / "epoch=5.ckpt" if resumed else None
        trainer.fit(forecaster, make_data(), ckpt_path=path, weights_only=True)
        results.append((forecaster.search.best, forecaster.choice, trainer.callback_metrics))
    for name, weights in results[0][0].items():
        assert torch.equal(weights, results[1][0][name])
    loaded = Forecaster.load_from_checkpoint(tmp_path / "False" / "epoch=11.ckpt", weights_only=True)
    assert loaded.input_noise == forecaster.search.noise
    assert results[0][1] == results[1][1]
    assert results[0][2]["val_rollout_nrmse"] == results[1][2]["val_rollout_nrmse"]


def test_gaps_and_several_features_are_learned_around() -> None:
    time = np.arange(600)
    values = np.stack([np.sin(0.3 * time), np.cos(0.17 * time)], 1)
    holes = np.random.default_rng(0).random(values.shape) < 0.1
    values[holes] = np.nan
    torch.manual_seed(0)
    forecaster = VariableProjectionForecaster(hidden_size=16, input_noise=1e-2, ridge=1e-6)
    fit(forecaster, make_data(values), 6)
    future = 600 + np.arange(30)
    truth = np.stack([np.sin(0.3 * future), np.cos(0.17 * future)], 1)
    assert np.abs(forecaster.forecast(values[-60:], 30) - truth).max() < 0.3


def test_covariates_are_known_inputs() -> None:
    from rnn_lightning import Series, SeriesData

    class Driven(Series):
        num_covariates = 1

        def load(self) -> SeriesData:
            known = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
            values = known.clone()
            for step in range(1, 500):
                values[step] += 0.8 * values[step - 1]
            data = SeriesData.from_equal(values[None])
            return SeriesData(
                data.values, data.offsets, data.ids, data.features, data.times, data.lengths, known, ["u"]
            )

    torch.manual_seed(0)
    data = SequenceDataModule(Driven(), 20, 40, horizon=25)
    forecaster = VariableProjectionForecaster(hidden_size=16, input_noise=0.0, ridge=1e-8)
    trainer = fit(forecaster, data, 5)
    assert trainer.callback_metrics["val_rollout_rmse"] < 0.1


def test_a_reservoir_solves_its_readout_and_keeps_its_weights() -> None:
    torch.manual_seed(0)
    forecaster = VariableProjectionForecaster(solver="reservoir", hidden_size=100, spectral_radius=0.7)
    trainer = fit(forecaster, make_data(), 5)
    assert trainer.current_epoch == 1
    weights = forecaster.network.recurrent.weight_hh_l0.detach()
    assert torch.linalg.eigvals(weights).abs().max().item() == pytest.approx(0.7)
    assert torch.equal(weights, forecaster.search.initial["recurrent.weight_hh_l0"])
    assert trainer.callback_metrics["val_rollout_nrmse"] < 0.3


class Watch(L.Callback):
    """Notes after which epochs the weights are the best so far."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, bool]] = []

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, VariableProjectionForecaster)
        if not trainer.sanity_checking:
            weights = dict(module.network.named_parameters())
            equal = [torch.equal(weights[name], best) for name, best in module.search.best.items()]
            self.seen.append((module.is_best, all(equal)))


def test_the_best_of_all_epochs_is_kept() -> None:
    torch.manual_seed(0)
    forecaster, watch = VariableProjectionForecaster(**SMALL | {"ridge": "auto"}), Watch()
    fit(forecaster, make_data(), 12, [watch])
    assert len(watch.seen) == 12
    assert watch.seen[0] == watch.seen[-1] == (True, True)
    assert all(said == true for said, true in watch.seen)
    assert (False, False) in watch.seen
    assert forecaster.score is not None
    assert forecaster.score(forecaster.network) == forecaster.search.score
    assert f"ridge {forecaster.search.ridge:g}" in forecaster.choice


def test_without_validation_all_values_are_trained_on() -> None:
    torch.manual_seed(0)
    forecaster = VariableProjectionForecaster(hidden_size=8, iterations=5)
    fit(forecaster, make_data(val_fraction=0.0), 4)
    assert forecaster.choice == "input noise 0.0001, ridge 1e-12, without validation"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "newton"}, "`solver`"),
        ({"ridge": "low"}, "`ridge` must be auto or a number"),
        ({"input_noise": -1.0}, "`input_noise` must be auto or a number"),
        ({"iterations": 0}, "`iterations`"),
    ],
)
def test_wrong_arguments_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        VariableProjectionForecaster(**arguments)


class Look(L.Callback):
    """Evaluates the loss before the fit."""

    found: Evaluation

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, VariableProjectionForecaster)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        chunks = WindowChunks(module.network, data, data.training_segments(), 1e-3)
        self.found = evaluate(module.network, chunks, 1e-8, module._add_up)


def looked_at(**devices: Any) -> tuple[float, torch.Tensor, dict[str, torch.Tensor]]:
    """Fit, and return the loss and the gradient before, and the best weights after it."""
    torch.manual_seed(0)
    forecaster, look = VariableProjectionForecaster(**SMALL), Look()
    trainer = L.Trainer(max_epochs=3, callbacks=[look], enable_checkpointing=False, **QUIET, **devices)
    trainer.fit(forecaster, make_data())
    return look.found.loss, look.found.gradient, dict(forecaster.search.best)


def looked_at_by_two(folder: Path) -> None:
    torch.save(looked_at(strategy="ddp", devices=2), folder / f"{os.environ['RANK']}.pt")


def test_two_devices_evaluate_and_train_as_one(tmp_path: Path) -> None:
    group, one = start_group(2, looked_at_by_two, tmp_path), looked_at()
    assert results(group) == [None, None]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first[0] == pytest.approx(one[0], rel=1e-9)
    assert torch.allclose(first[1], one[1], rtol=1e-9, atol=1e-12)
    for name, weights in first[2].items():
        assert torch.equal(weights, second[2][name])
        assert torch.allclose(weights, one[2][name], rtol=1e-2, atol=1e-3)  # rounding grows in 15 iterations
