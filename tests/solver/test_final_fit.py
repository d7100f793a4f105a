"""A second fit on all values, for the epochs that did not overfit, from the same initial weights."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, StochasticWeightAveraging
from torch import Tensor

from rnn_lightning import Forecaster, TableDataModule
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.prediction_intervals import PredictionIntervals
from rnn_lightning.losses import TrainingWindows
from rnn_lightning.solver.final_fit import FinalFit

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def make_data(**known: Any) -> TableDataModule:
    values = np.sin(np.arange(200) * 0.3) + 0.1 * np.random.default_rng(0).normal(size=200)
    known = {"final_fit_on_all": True, "val_fraction": 0.2, "test_fraction": 0.1} | known
    return TableDataModule(values, 10, 20, horizon=20, num_batches_per_epoch=5, **known)


class Watch(Forecaster):
    """Notes the first weights of each epoch, its learning rates and the largest value of its windows."""

    def __init__(self) -> None:
        super().__init__(hidden_size=4, transforms=["standardize"], input_noise=0.0)
        self.first: list[Tensor] = []
        self.rates: list[float] = []
        self.steps: list[int] = []

    def on_train_epoch_start(self) -> None:
        self.first.append(self.network.readout.weight.detach().clone())
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.steps.append(int(data.training_segments().end))

    def loss(self, windows: TrainingWindows) -> Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return super().loss(windows)


def fitted(num_epochs: int = 3, callbacks: Any = None, **known: Any) -> tuple[Watch, L.Trainer]:
    torch.manual_seed(0)
    forecaster = Watch()
    trainer = L.Trainer(max_epochs=num_epochs, callbacks=callbacks, enable_checkpointing=False, **QUIET)
    trainer.fit(forecaster, make_data(**known))
    return forecaster, trainer


def final_fit(trainer: L.Trainer) -> FinalFit:
    (found,) = [each for each in trainer.callbacks if isinstance(each, FinalFit)]  # type: ignore[attr-defined]
    return found


def test_the_second_fit_starts_anew_with_the_validation_split() -> None:
    forecaster, trainer = fitted()
    chosen = final_fit(trainer).num_epochs
    assert len(forecaster.steps) == trainer.current_epoch == 3 + chosen
    assert forecaster.steps == [140] * 3 + [180] * chosen
    assert torch.equal(forecaster.first[0], forecaster.first[3])
    num_steps = 5 * chosen
    expected = [forecaster.learning_rate * forecaster.rate(step, num_steps) for step in range(num_steps)]
    assert forecaster.rates[15:] == pytest.approx(expected)
    assert not trainer.datamodule.trains_on_all  # type: ignore[attr-defined]


class Worse(L.Callback):
    """Makes all epochs after the second one look worse."""

    def __init__(self, error: float) -> None:
        self.error = error

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        error = 0.5 if trainer.current_epoch < 2 else self.error
        module.log_dict({"val_rollout_nrmse": error, "val_rollout_nrmse_error": 0.01})


def test_it_has_the_epochs_that_did_not_overfit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forecaster, "on_validation_epoch_end", lambda _: None)
    forecaster, trainer = fitted(5, [Worse(2.0)])
    assert final_fit(trainer).num_epochs == 2
    assert trainer.current_epoch == 7
    assert forecaster.rates[-1] == pytest.approx(forecaster.learning_rate * forecaster.rate(9, 10))
    assert forecaster.rates[9] > 20 * forecaster.rates[-1]  # the same step in a schedule of five epochs
    validated = final_fit(trainer).validated["readout.weight"]
    assert torch.equal(validated, forecaster.first[2])
    _, trainer = fitted(5, [Worse(0.6)])  # an epoch may be lucky
    assert final_fit(trainer).num_epochs == 5


@pytest.mark.parametrize("epoch", [1, 4])
def test_a_resumed_fit_ends_with_the_same_weights(epoch: int, tmp_path: Path) -> None:
    results = []
    for resumed in (False, True):
        torch.manual_seed(0)
        keep = ModelCheckpoint(
            tmp_path / str(resumed), "{epoch}", save_top_k=-1, save_on_train_epoch_end=True
        )
        forecaster = Watch()
        trainer = L.Trainer(max_epochs=3, callbacks=[keep], **QUIET)
        path = tmp_path / "False" / f"epoch={epoch}.ckpt" if resumed else None
        trainer.fit(forecaster, make_data(), ckpt_path=path, weights_only=True)
        results.append((trainer.current_epoch, dict(forecaster.network.state_dict())))
    assert results[0][0] == results[1][0] > 4
    assert all(torch.equal(value, results[1][1][name]) for name, value in results[0][1].items())


def test_nothing_is_fitted_twice_unless_asked() -> None:
    _, trainer = fitted(final_fit_on_all=False)
    assert trainer.current_epoch == 3
    assert not any(isinstance(each, FinalFit) for each in trainer.callbacks)  # type: ignore[attr-defined]


def test_intervals_are_from_before_it_and_anew_in_a_later_fit_without_it() -> None:
    intervals = PredictionIntervals()
    forecaster, trainer = fitted(callbacks=[intervals])
    kept = intervals.state_dict()["half_widths"]
    trainer.validate(forecaster, make_data(), verbose=False)
    assert torch.equal(intervals.state_dict()["half_widths"], kept)
    later = L.Trainer(max_epochs=1, callbacks=[intervals], enable_checkpointing=False, **QUIET)
    later.fit(forecaster, make_data(final_fit_on_all=False))
    assert not torch.equal(intervals.state_dict()["half_widths"], kept)


def test_it_comes_after_early_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forecaster, "on_validation_epoch_end", lambda _: None)
    stop = EarlyStopping("val_rollout_nrmse", patience=1)
    _, trainer = fitted(9, [Worse(2.0), stop])
    assert (final_fit(trainer).num_epochs, trainer.current_epoch) == (2, 2 + 2)


def test_without_a_validation_split_one_fit_trains_on_all() -> None:
    assert fitted(val_fraction=0.0)[1].current_epoch == 3


def test_averaged_weights_are_refused() -> None:
    trainer = L.Trainer(max_epochs=2, callbacks=[StochasticWeightAveraging(0.01)], **QUIET)
    with pytest.raises(InputError, match="`final_fit_on_all` and StochasticWeightAveraging are mutually"):
        trainer.fit(Watch(), make_data())


def test_it_counts_epochs(tmp_path: Path) -> None:
    _, trainer = fitted(2)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    more = L.Trainer(max_epochs=3, enable_checkpointing=False, **QUIET)
    with pytest.raises(InputError, match=r"`max_epochs`: the final fit .* has begun"):
        more.fit(Watch(), make_data(), ckpt_path=tmp_path / "end.ckpt", weights_only=True)
    trainer = L.Trainer(max_steps=5, enable_checkpointing=False, **QUIET)
    with pytest.raises(InputError, match="`final_fit_on_all` counts epochs"):
        trainer.fit(Watch(), make_data())
