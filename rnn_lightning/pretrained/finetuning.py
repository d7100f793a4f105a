"""Fine-tuning in two stages: how much of it helps is found by validation, then all data are trained on."""

import math
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor

from rnn_lightning.data.batches import ForecastBatch
from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.forecaster import Forecaster
from rnn_lightning.losses import scored, teacher_forced
from rnn_lightning.pretrained.bundled import pretrained_network
from rnn_lightning.pretrained.seasonal import SeasonalNetwork

PARTS = (0.0, 0.5, 1.0)
"""How far the weights may go from the pretrained to the fine-tuned ones."""

RIDGE, MOST_ERROR = 1e-3, 10.0
"""Of the effect of covariates: the penalty, as a part of the largest variance, and the largest error."""

MARGIN, MARGIN_OF_ONE = 0.03, 0.1
"""Fine-tuning counts as better from an error lower by ``MARGIN + MARGIN_OF_ONE / sqrt(forecasts)`` on."""


class FineTuning(L.Callback):
    """Fine-tunes the network of the package in two stages of half of the epochs each.

    The first stage trains on what comes before the validation split. Its forecasts there, and those of the
    pretrained network and of the network halfway between the two (Wortsman et al. 2022, "Robust fine-tuning
    of zero-shot models"), are compared by the geometric mean of their absolute errors. Unless fine-tuning is
    clearly better, the pretrained network is kept and the fit ends. Else the second stage starts anew and
    trains on everything, and its weights are taken as far as was best. Each stage begins with the linear
    effect of covariates, of which the pretrained network knows nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.part: float | None = None
        self.said = ""

    def state_dict(self) -> dict[str, Any]:
        return {"part": self.part, "said": self.said}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.part, self.said = state_dict["part"], state_dict["said"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        forecaster_of(pl_module).num_stages = 2

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A fit that is resumed in its second stage goes on in it."""
        data_of(trainer).trains_on_all = self.part is not None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """At the beginning of each stage covariates have no effect yet."""
        network = forecaster_of(pl_module).network
        if (
            isinstance(network, SeasonalNetwork)
            and network.effect is not None
            and not bool(network.effect.any())
        ):
            with torch.no_grad():
                network.effect.copy_(linear_effect(trainer, network))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """At the end of the first stage, choose: what is validated and calibrated then is what was chosen."""
        if self.part is None and trainer.current_epoch + 1 == stage_epochs(trainer):
            forecaster = forecaster_of(pl_module)
            tuned = weights_of(forecaster)
            errors = []
            for part in PARTS:
                move(forecaster, tuned, part)
                errors.append(forecast_errors(trainer, forecaster))
            self._choose([error for error, _ in errors], [count for _, count in errors])
            move(forecaster, tuned, self.part or 0.0)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        forecaster, epoch = forecaster_of(pl_module), trainer.current_epoch + 1
        if epoch == stage_epochs(trainer) and self.part is not None:
            move(forecaster, weights_of(forecaster), 0.0)
            if self.part == 0.0:
                trainer.should_stop = True
                return
            for optimizer in trainer.optimizers:
                optimizer.state.clear()
            data_of(trainer).trains_on_all = True
        elif epoch == trainer.max_epochs and self.part is not None:
            move(forecaster, weights_of(forecaster), self.part)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            print(self.said or "Stopped before the validation: the network has not been trained on all data.")

    def _choose(self, errors: Sequence[float], counts: Sequence[int]) -> None:
        margin = MARGIN + MARGIN_OF_ONE / math.sqrt(max(counts[0], 1))
        best = min(range(len(PARTS)), key=lambda index: errors[index])
        clear = errors[best] < errors[0] - margin
        self.part = PARTS[best] if clear else 0.0
        change = 100 * (math.exp(errors[best if best else -1] - errors[0]) - 1)
        measured = f"{change:+.0f} % error in {counts[0]} validation forecasts"
        if not self.part:
            self.said = (
                f"Network: pretrained, kept as it is; fine-tuning was not clearly better ({measured})."
            )
        else:
            how = "fine-tuned" if self.part == 1.0 else "halfway between pretrained and fine-tuned"
            self.said = f"Network: {how} ({measured}), then trained on all data."


def stage_epochs(trainer: L.Trainer) -> int:
    """Epochs of each stage."""
    return max(1, (trainer.max_epochs or 0) // 2)


def forecaster_of(module: L.LightningModule) -> Forecaster:
    """The module, which must be a ``Forecaster``."""
    assert isinstance(module, Forecaster)
    return module


def data_of(trainer: L.Trainer) -> SequenceDataModule:
    """The data module, which must be a ``SequenceDataModule``."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    assert isinstance(datamodule, SequenceDataModule)
    return datamodule


def weights_of(forecaster: Forecaster) -> list[Tensor]:
    """Copies of the weights."""
    return [parameter.detach().clone() for parameter in forecaster.network.parameters()]


@torch.no_grad()
def move(forecaster: Forecaster, tuned: list[Tensor], part: float) -> None:
    """Set the weights ``part`` of the way from the pretrained to the tuned ones."""
    network = forecaster.network
    pretrained = pretrained_network(network.num_features, network.num_covariates).parameters()
    for own, start, end in zip(network.parameters(), pretrained, tuned, strict=True):
        own.copy_(torch.lerp(start.to(own), end, part))


@torch.inference_mode()
def linear_effect(trainer: L.Trainer, network: SeasonalNetwork) -> Tensor:
    """The effect ``(covariate,)`` of covariates on what the network does not foresee of the next step.

    Least squares over the windows of an epoch, together with the covariates of the step before, whose effect
    the network has taken for one of the level.
    """
    size, features = 2 * network.num_covariates, network.num_features
    sums = torch.zeros(size, size + 1, dtype=torch.float64, device=network.readout.weight.device)
    for cpu_batch in data_of(trainer).train_dataloader():
        batch = trainer.strategy.batch_to_device(cpu_batch)
        windows = scored(network, batch.values, batch.context_length, batch.covariates, batch.complete)
        errors = windows.target - teacher_forced(network, windows)
        coming, first = windows.inputs[..., features:], windows.context_length - 1
        both = torch.cat([coming[:, first:-1], coming[:, first - 1 : -2]], -1).double()
        for error in errors.double().unbind(-1):
            known = ~(error.isnan() | both.isnan().any(-1))
            inputs, rest = both[known], error[known].clamp(-MOST_ERROR, MOST_ERROR)
            sums += inputs.T @ torch.cat([inputs, rest[:, None]], 1)
    total = trainer.strategy.reduce(sums, reduce_op="sum")
    assert isinstance(total, Tensor)
    ridge = RIDGE * total.diagonal().amax().clamp_min(1e-9) * torch.eye(size).to(total)
    return torch.linalg.solve(total[:, :-1] + ridge, total[:, -1])[: network.num_covariates].float()


@torch.inference_mode()
def forecast_errors(trainer: L.Trainer, forecaster: Forecaster) -> tuple[float, int]:
    """The logarithm of the geometric mean absolute error of the validation forecasts, and their number."""
    sums = torch.zeros(2, dtype=torch.float64, device=forecaster.device)
    for batch in data_of(trainer).val_dataloader():
        if len(batch.context):
            sums += summed_logarithms(forecaster, trainer.strategy.batch_to_device(batch))
    total = trainer.strategy.reduce(sums, reduce_op="sum")
    assert isinstance(total, Tensor)
    return float(total[0] / total[1].clamp_min(1)), int(total[1])


def summed_logarithms(forecaster: Forecaster, batch: ForecastBatch) -> Tensor:
    """The sum of the logarithms of the mean absolute errors of a batch, and their number."""
    assert batch.scale is not None
    generated = forecaster(batch.context, batch.horizon, batch.covariates)
    errors = ((generated - batch.target) / batch.scale[:, None]).abs().double().nanmean(1)
    known = ~errors.isnan()
    logarithms = torch.log(errors[known] + 1e-3)
    return torch.stack([logarithms.sum(), known.sum().double()])
