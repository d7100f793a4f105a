"""Fine-tuning in two stages: validation finds how much of it helps, then training uses all data."""

import math
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor

from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.windows import ForecastBatch
from rnn_lightning.errors import counted
from rnn_lightning.losses import teacher_forced
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.pretrained.forecaster import PretrainedForecaster
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.pretrained.seasonal_loss import by_season, without_end
from rnn_lightning.transforms import precise

TUNING_WEIGHTS = (0.0, 0.5, 1.0)
"""How far the weights may go from the pretrained to the fine-tuned ones."""

RIDGE, MAX_RESIDUAL = 1e-3, 100.0
"""For the effect of covariates: the penalty, as a part of the largest variance, and the largest error."""

MARGIN, MARGIN_OF_ONE = 0.03, 0.1
"""Fine-tuning counts as better from an error lower by ``MARGIN + MARGIN_OF_ONE / sqrt(forecasts)`` on."""


class FineTuning(L.Callback):
    """Fine-tune the bundled network in two stages of half the epochs each.

    The first stage trains on the values before the validation split. There, forecasts of the fine-tuned
    network, of the pretrained network and of the network halfway between the two (Wortsman et al. 2022,
    "Robust fine-tuning of zero-shot models") are compared by the geometric mean of their absolute errors.
    Unless fine-tuning is clearly better, the pretrained network is kept and the fit ends. Otherwise the
    second stage starts anew and trains on everything, and its weights are interpolated as far as was best.
    Each stage begins with the linear effect of covariates, about which the pretrained network knows nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight: float | None = None
        self.verdict = ""

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight, "verdict": self.verdict}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.weight, self.verdict = state_dict["weight"], state_dict["verdict"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        _forecaster(pl_module).num_stages = 1 if trainer.max_epochs == 1 else 2
        trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]  # for the second stage

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on in the second stage if the fit was interrupted there."""
        _data(trainer).trains_on_all = self.weight is not None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin each stage with the linear effect of covariates."""
        network = _forecaster(pl_module).network
        if network.effect is not None and not bool(network.effect.any()):
            with torch.no_grad():
                network.effect.copy_(linear_effect(trainer, network))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Choose at the end of the first stage; what is validated and calibrated then is what was chosen."""
        is_stage_end = trainer.current_epoch + 1 == stage_epochs(trainer) and not trainer.sanity_checking
        if self.weight is None and is_stage_end:
            self._compare(trainer, _forecaster(pl_module))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        forecaster, data = _forecaster(pl_module), _data(trainer)
        if data.trains_on_all:
            if is_end(trainer):
                interpolate_weights(forecaster, copy_weights(forecaster), self.weight or 0.0)
        elif trainer.current_epoch + 1 == stage_epochs(trainer):
            if self.weight is None:  # no validation was due
                self._compare(trainer, forecaster)
            if not self.weight:
                trainer.should_stop = True
            elif not is_end(trainer):
                interpolate_weights(forecaster, copy_weights(forecaster), 0.0)
                for optimizer in trainer.optimizers:
                    optimizer.state.clear()
                data.trains_on_all = True

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what the weights are now."""
        if not trainer.is_global_zero:
            return
        if self.weight is None:
            print("Stopped before the validation: the network is fine-tuned in part, and was not compared.")
        elif not self.weight:
            print(f"{self.verdict}.")
        elif not _data(trainer).trains_on_all:
            print(f"{self.verdict}, without the data of the validation.")
        else:
            first, epochs = stage_epochs(trainer), trainer.current_epoch
            wanted = max(trainer.max_epochs or 0, epochs) - first
            part = "" if epochs - first == wanted else f" for {epochs - first} of {wanted} epochs"
            test = getattr(_data(trainer), "test_fraction", 0.0)
            data = "all data but those of the test" if test else "all data"
            print(f"{self.verdict}, then trained on {data}{part}.")

    def _compare(self, trainer: L.Trainer, forecaster: PretrainedForecaster) -> None:
        """Choose among the pretrained network, the fine-tuned one and one halfway, and set the weights."""
        tuned, errors = copy_weights(forecaster), []
        for weight in TUNING_WEIGHTS:
            interpolate_weights(forecaster, tuned, weight)
            errors.append(forecast_errors(trainer, forecaster))
        self._choose([error for error, _ in errors], errors[0][1])
        interpolate_weights(forecaster, tuned, self.weight or 0.0)

    def _choose(self, errors: Sequence[float], num_forecasts: int) -> None:
        """Set the weight of the fine-tuned network by the errors with each of ``TUNING_WEIGHTS``."""
        margin = MARGIN + MARGIN_OF_ONE / math.sqrt(max(num_forecasts, 1))
        best = min(range(len(TUNING_WEIGHTS)), key=lambda index: errors[index])
        self.weight = TUNING_WEIGHTS[best] if errors[best] < errors[0] - margin else 0.0
        change = 100 * (math.exp(errors[best if best else -1] - errors[0]) - 1)
        moved = "raised" if change > 0 else "lowered"
        forecasts = counted(num_forecasts, "validation forecast")
        measured = f"it {moved} the error of {forecasts} by {abs(change):.0f} %"
        if not self.weight:
            rejected = f"fine-tuning was not clearly better ({measured})"
            self.verdict = f"Network: pretrained, kept as it is; {rejected}"
        else:
            how = "fine-tuned" if self.weight == 1.0 else "halfway between pretrained and fine-tuned"
            self.verdict = f"Network: {how} ({measured})"


def stage_epochs(trainer: L.Trainer) -> int:
    """Return the number of epochs of each stage."""
    return max(1, (trainer.max_epochs or 0) // 2)


def is_end(trainer: L.Trainer) -> bool:
    """Return True if the fit ends with this epoch."""
    ends = trainer.current_epoch + 1 == trainer.max_epochs or trainer.global_step == trainer.max_steps
    return ends or trainer.should_stop


def _forecaster(module: L.LightningModule) -> PretrainedForecaster:
    assert isinstance(module, PretrainedForecaster)
    return module


def _data(trainer: L.Trainer) -> SequenceDataModule:
    datamodule: Any = getattr(trainer, "datamodule", None)
    assert isinstance(datamodule, SequenceDataModule)
    return datamodule


def copy_weights(forecaster: PretrainedForecaster) -> list[Tensor]:
    """Return copies of the weights."""
    return [parameter.detach().clone() for parameter in forecaster.network.parameters()]


@torch.no_grad()
def interpolate_weights(forecaster: PretrainedForecaster, tuned: list[Tensor], weight: float) -> None:
    """Set the weights to a mean of the pretrained and the tuned ones, in which the tuned have ``weight``."""
    network = forecaster.network
    pretrained = bundled_network(network.num_features, network.num_covariates).parameters()
    for own, start, end in zip(network.parameters(), pretrained, tuned, strict=True):
        own.copy_(torch.lerp(start.to(own), end, weight))


@torch.inference_mode()
def linear_effect(trainer: L.Trainer, network: SeasonalNetwork) -> Tensor:
    """Return the effect ``(feature, covariate)`` of covariates on the next-step errors of the network.

    By least squares over the windows of an epoch, together with the covariates of the step before, whose
    effect the network has taken for one of the level.
    """
    size, features = 2 * network.num_covariates, network.num_features
    sums = precise(network.readout.weight.new_zeros(features, size, size + 1))
    for batch in _data(trainer).train_dataloader():
        for windows, _ in by_season(batch):
            errors = windows.target - teacher_forced(network, without_end(windows, features))
            covariates, first = windows.inputs[..., features:], windows.context_length - 1
            both = precise(torch.cat([covariates[:, first:-1], covariates[:, first - 1 : -2]], -1))
            for own, error in zip(sums, precise(errors).unbind(-1), strict=True):  # (batch, scored)
                known = ~(error.isnan() | both.isnan().any(-1))
                inputs, rest = both[known], error[known].clamp(-MAX_RESIDUAL, MAX_RESIDUAL)
                own += inputs.T @ torch.cat([inputs, rest[:, None]], 1)
    total = trainer.strategy.reduce(sums, reduce_op="sum")
    assert isinstance(total, Tensor)
    products, moments = total[..., :-1], total[..., -1]
    largest = products.diagonal(dim1=1, dim2=2).amax(1).clamp_min(1e-9)[:, None, None]
    ridge = RIDGE * largest * torch.eye(size).to(total)
    return torch.linalg.solve(products + ridge, moments)[:, : network.num_covariates].float()


@torch.inference_mode()
def forecast_errors(trainer: L.Trainer, forecaster: PretrainedForecaster) -> tuple[float, int]:
    """Return the logarithm of the geometric mean absolute error of the validation forecasts, their number."""
    sums = precise(torch.zeros(2, device=forecaster.device))
    for batch in _data(trainer).val_dataloader():
        if len(batch.context):
            sums += summed_logarithms(forecaster, trainer.strategy.batch_to_device(batch))
    total = trainer.strategy.reduce(sums, reduce_op="sum")
    assert isinstance(total, Tensor)
    return float(total[0] / total[1].clamp_min(1)), int(total[1])


def summed_logarithms(forecaster: PretrainedForecaster, batch: ForecastBatch) -> Tensor:
    """Return the sum of the logarithms of the mean absolute errors of a batch, and their number."""
    generated = forecaster.predict_step(batch, 0).point  # (batch, horizon, feature)
    errors = ((generated - batch.target) / batch.scale[:, None]).abs()
    errors = precise(errors).nanmean(1)
    known = ~errors.isnan()
    logarithms = torch.log(errors[known] + 1e-3)
    return torch.stack([logarithms.sum(), known.sum().to(logarithms)])
