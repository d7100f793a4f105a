"""The LightningModule: the loss, the metrics, and generation from batches."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from rnn_lightning.chain import TransformName
from rnn_lightning.data.batches import ForecastBatch, WindowBatch
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.calibration import Calibration
from rnn_lightning.evaluation.intervals import Floor, Intervals
from rnn_lightning.inference import Inference
from rnn_lightning.losses import Scored, one_step_errors, scored, training_loss
from rnn_lightning.metrics import ForecastRecords, FreeRunError, ResidualMoments
from rnn_lightning.network import Cell, RecurrentNetwork
from rnn_lightning.noise import generators
from rnn_lightning.pretrained.bundled import pretrained_network
from rnn_lightning.pretrained.seasonal import Network, SeasonalNetwork
from rnn_lightning.rollout import rollout

ARCHITECTURE = (
    "num_features",
    "num_covariates",
    "cell",
    "hidden_size",
    "num_layers",
    "transforms",
    "seasonal",
)
"""The arguments that a checkpoint's weights depend on."""


class Forecast(NamedTuple):
    """What ``predict_step`` returns, in the units of the data.

    Attributes:
        series_index: ``(batch,)``, which series each forecast is of.
        point: ``(batch, horizon, feature)``, the free run without noise.
        samples: ``(sample, batch, horizon, feature)``, sampled paths, or None.
        spread: ``(batch, feature)``, the unit of the half-widths of intervals; None where there are none.
        floor: what no interval reaches below.
    """

    series_index: Tensor
    point: Tensor
    samples: Tensor | None
    spread: Tensor | None = None
    floor: Floor | None = None

    def __repr__(self) -> str:
        series, horizon, features = self.point.shape
        paths = "no" if self.samples is None else len(self.samples)
        return (
            f"Forecast: {series} series, {horizon} steps, {features} features, {paths} sampled paths\n"
            f"  series {self.series_index.tolist()[:5]}{' ...' if series > 5 else ''}"
        )


class TrainingData(Protocol):
    """What a network asks of a data module before the first batch; ``SequenceDataModule`` has it."""

    num_features: int
    num_covariates: int
    context_length: int

    @property
    def compared_season(self) -> int: ...

    @property
    def table_options(self) -> dict[str, Any]: ...

    def train_series(self) -> Iterable[Tensor]: ...

    def train_covariates(self) -> Iterable[Tensor]: ...


class Forecaster(Inference, L.LightningModule):
    """A recurrent network trained by teacher-forced next-step prediction, which then generates by itself.

    Args:
        num_features: number of features; taken from the data if not given.
        cell: kind of recurrent cell.
        hidden_size: hidden units of each layer.
        num_layers: number of recurrent layers.
        dropout: probability of dropout between recurrent layers.
        transforms: transforms of the values, in this order: ``log``, ``difference``, ``standardize`` (by the
            training split), ``standardize_context`` (by the context of each series).
        learning_rate: learning rate of Adam.
        schedule: the learning rate stays ``constant``, or falls to zero over the whole fit as a half
            ``cosine``.
        warmup_steps: steps over which the learning rate rises to its value at first.
        free_run_weight: weight, 0 to 1, of the error of the network's own free run over the scored steps in
            the loss; the rest is that of the teacher-forced next step.
        num_covariates: number of covariates; taken from the data if not given.
        seasonal: a network for series with seasons: a one-layer LSTM that gates simple forecasts. It has
            units of its own, those of the season in each context, and the loss of ``losses.seasonal_loss``.
        pretrained: start from the weights of the package, those of a seasonal network.

    Attributes:
        num_stages: parts of a fit that each have the whole schedule of the learning rate.
    """

    def __init__(
        self,
        num_features: int | None = None,
        cell: Cell = "lstm",
        hidden_size: int = 32,
        num_layers: int = 1,
        dropout: float = 0.0,
        transforms: list[TransformName] = ["standardize_context"],  # noqa: B006
        learning_rate: float = 0.01,
        schedule: Literal["constant", "cosine"] = "cosine",
        free_run_weight: float = 0.0,
        warmup_steps: int = 0,
        num_covariates: int | None = None,
        seasonal: bool = False,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if not learning_rate > 0:
            raise InputError(f"`learning_rate` must be above 0, got {learning_rate}.")
        if not 0 <= free_run_weight <= 1:
            raise InputError(f"`free_run_weight` must be from 0 to 1, got {free_run_weight}.")
        if schedule not in ("constant", "cosine"):
            raise InputError(f"`schedule`: unknown schedule {schedule!r}; there are constant, cosine.")
        transforms = list(transforms)  # a tuple would differ from what the command line makes of it
        self.save_hyperparameters()
        if warmup_steps < 0:
            raise InputError(f"`warmup_steps` must not be negative, got {warmup_steps}.")
        self.learning_rate, self.schedule, self.free_run_weight = learning_rate, schedule, free_run_weight
        self.warmup_steps, self.num_stages = warmup_steps, 1
        if seasonal and (cell, num_layers, dropout) != ("lstm", 1, 0.0):
            raise InputError("`seasonal` true needs `cell` lstm, one layer and no dropout.")
        self.sizes_given = {"num_features": num_features, "num_covariates": num_covariates}
        self.table_options: dict[str, Any] = {}
        self.seasonal, self.pretrained = seasonal, pretrained
        self._architecture = (cell, hidden_size, num_layers, dropout, transforms)
        self._make_network(1 if num_features is None else num_features, num_covariates or 0)
        self._is_trained = not pretrained
        self.val_rollout, self.test_rollout = FreeRunError(), FreeRunError()
        self._sum_of_losses, self._num_losses = torch.zeros(()), 0
        self._block: WindowBatch | None = None
        self._block_version = 0
        # DDP would send the buffers, equal already (see _require_ready), to all devices before every step: on
        # two CPU processes that takes 0.6 to 1 ms, much of a small step.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes in it which hook runs, 50 times a step: not by way of the checks of nn.Module.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, context: Tensor, horizon: int, covariates: Tensor | None = None) -> Tensor:
        """The point forecast ``(batch, horizon, feature)`` of ``(batch, time, feature)``, see ``rollout``."""
        with self._float32():
            return rollout(self.network, context, horizon, covariates=covariates)

    def training_step(self, batch: WindowBatch, batch_idx: int) -> Tensor:
        if batch.season is not None and isinstance(self.network, SeasonalNetwork):
            self.network.set_season(batch.season)
        loss = training_loss(self.network, self._scored_windows(batch), self.free_run_weight)
        self._sum_of_losses, self._num_losses = self._sum_of_losses + loss.detach(), self._num_losses + 1
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:
            self._log_mean_loss()
        return loss

    def on_before_backward(self, loss: Tensor) -> None:
        """Stop a fit whose loss is NaN or infinite, before that reaches the weights and the checkpoints."""
        # On a GPU, reading the loss waits for it: look only when it is logged.
        if loss.is_cuda and self._num_losses:
            return
        if not math.isfinite(loss.item()):
            kept = ""
            for callback in self.trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint):
                    callback.save_on_exception = False  # the weights may be NaN already
                    has_best = callback.monitor and callback.best_model_path
                    kept = " The best checkpoint so far is kept." if has_best else kept
            raise InputError(
                f"the loss is {loss.item()} at step {self.global_step}: training has diverged. Lower "
                "`learning_rate`, keep `gradient_clip_val` at 1 or below, or look for extreme "
                f"values in the data.{kept}"
            )

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """As ``optimizer.zero_grad()`` does, without its entry in a profile, which costs more."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def on_train_epoch_end(self) -> None:
        if self._num_losses:
            self._log_mean_loss()

    def validation_step(self, batch: ForecastBatch, batch_idx: int) -> dict[str, Forecast]:
        if len(batch.context):
            values = torch.cat([batch.context, batch.target], 1)
            with self._float32():
                windows = scored(self.network, values, batch.context.shape[1], batch.covariates)
                self.residuals.update(one_step_errors(self.network, windows))
        return self._scored(batch, self.val_rollout)

    def on_validation_epoch_end(self) -> None:
        covariance = self.network.residual_covariance
        # torchmetrics returns one number as a scalar.
        covariance.copy_(self.residuals.compute().reshape_as(covariance))
        errors = self.val_rollout.compute()
        # The metrics are those of all devices already; sync_dist tells Lightning that the devices agree.
        self.log("val_loss", covariance.diagonal().mean(), prog_bar=True, sync_dist=True)
        self.log("val_rollout_nrmse", errors["nrmse"], prog_bar=True, sync_dist=True)
        self.log("val_rollout_nrmse_error", errors["nrmse_error"], sync_dist=True)
        self.log("val_rollout_rmse", errors["rmse"], sync_dist=True)
        self.residuals.reset()
        self.val_rollout.reset()
        if self._is_trained:
            self._calibrate()

    def test_step(self, batch: ForecastBatch, batch_idx: int) -> dict[str, Forecast]:
        return self._scored(batch, self.test_rollout)

    def on_test_epoch_end(self) -> None:
        errors = self.test_rollout.compute()
        self.log_dict({f"test_{name}": errors[name] for name in ("rmse", "mae", "nrmse")}, sync_dist=True)
        self.test_rollout.reset()

    def predict_step(self, batch: ForecastBatch, batch_idx: int) -> Forecast:
        context, horizon = batch.context, batch.horizon
        if len(context) == 0:
            return Forecast(batch.series_index, context.new_zeros(0, horizon, context.shape[2]), None)
        known: dict[str, Any] = {"covariates": batch.covariates, "names": batch.names}
        samples = None
        with self._float32():
            point = rollout(self.network, context, horizon, **known)
            if batch.num_samples is not None:
                noise = generators(batch.seed, batch.series_index.tolist())
                known |= {"num_samples": batch.num_samples, "generator": noise}
                samples = rollout(self.network, context, horizon, **known)
        if not self.intervals.calibrated:
            return Forecast(batch.series_index, point, samples)
        spread, floor = self.intervals.spread(context), self.intervals.floor(context)
        if samples is not None:
            samples = self.intervals.reshaped(samples, point, spread, floor)
        return Forecast(batch.series_index, point, samples, spread, floor)

    def calibrate(self, calibration: Calibration) -> None:
        """Set the half-widths of the intervals by forecasts of held-out values, those of all devices.

        Called after each validation of a network in training, and by ``prepare_intervals``. The weights must
        not have been trained on the values that are forecast for it; whatever they are trained on afterwards,
        the intervals stay.
        """
        self.intervals.describe(calibration.season, calibration.nonnegative)
        records = ForecastRecords().to(self.device)
        for cases in calibration.loader():
            batch = self.trainer.strategy.batch_to_device(cases, self.device) if self._trainer else cases
            point = self.predict_step(batch, 0).point
            spread = self.intervals.spread(batch.context)[:, None].expand_as(point)
            records.update(batch.series_index, batch.origin, [batch.target - point, spread])
        if records.update_called:
            errors, spreads = records.compute()[1].unbind(-1)
            self.intervals.calibrate(errors, spreads[:, 0], calibration.origin_step)

    def prepare_intervals(self, calibration: Calibration | None = None) -> bool:
        """Whether forecasts have intervals; a network that was never trained gets them from the data.

        Args:
            calibration: the forecasts to calibrate by; those of the data module of the trainer if None.
        """
        if not self._is_trained:
            self._calibrate(calibration)
        return self.intervals.calibrated

    def interval_ends(self, forecast: Forecast, levels: Sequence[int]) -> Tensor | None:
        """The ends of intervals, ``(2 * level, batch, horizon, feature)``: low, high, low ...; or None.

        By the forecasts of held-out values, or else by the sampled paths.
        """
        if forecast.spread is not None:
            return self.intervals.bounds(forecast.point, forecast.spread, levels, forecast.floor)
        if forecast.samples is None:
            return None
        quantiles = [0.5 + sign * level / 200 for level in levels for sign in (-1, 1)]
        # Not torch.quantile, which takes 16 million numbers at most.
        ends = np.quantile(forecast.samples.cpu().numpy(), quantiles, axis=0)
        return torch.from_numpy(ends).to(forecast.point)

    def configure_optimizers(self) -> Any:
        # Lightning cannot clip the gradients of a fused optimizer under mixed precision.
        fused = not str(self.trainer.precision).endswith("mixed")
        optimizer = torch.optim.Adam(self.network.parameters(), self.learning_rate, fused=fused)
        if self.schedule == "constant" and not self.warmup_steps:
            return optimizer
        num_steps = self.trainer.estimated_stepping_batches
        if self.schedule == "cosine" and not 0 < num_steps < math.inf:
            raise InputError("`schedule` cosine needs to know the end: give `max_steps` or `max_epochs`.")
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self._rate(step, num_steps / self.num_stages)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _rate(self, step: int, num_steps: float) -> float:
        """The part of the learning rate at a step of a fit with stages of ``num_steps``."""
        if self.num_stages > 1 and step < self.num_stages * num_steps:
            step = step % int(num_steps)
        risen = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "constant":
            return risen
        return risen * 0.5 * (1 + math.cos(math.pi * min(step / num_steps, 1)))

    def setup(self, stage: str) -> None:
        if self.trainer.precision in (
            "16-true",
            "bf16-true",
            "transformer-engine",
            "transformer-engine-float16",
        ):
            raise InputError(
                f"`precision` {self.trainer.precision} would round the data and their statistics to "
                "three digits: choose bf16-mixed."
            )
        data: TrainingData | None = getattr(self.trainer, "datamodule", None)
        if data is None:
            return
        self.prepare(data)
        is_new = not bool(self.network.transforms.fitted)
        if isinstance(self.network, SeasonalNetwork):
            is_new = is_new or self.network.ignores_covariates
        if stage == "fit":
            self.table_options = data.table_options
        if stage == "fit" and is_new:
            self.network.transforms.fit(data.train_series())
            self.network.covariate_scale.fit(data.train_covariates())

    def on_train_start(self) -> None:
        self._is_trained = True
        self._require_ready()

    def on_train_end(self) -> None:
        self._block = None

    def on_validation_start(self) -> None:
        self._require_ready()

    def on_test_start(self) -> None:
        self._require_ready()

    def on_predict_start(self) -> None:
        self._require_ready()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        from rnn_lightning import __version__

        checkpoint["rnn_lightning_version"] = __version__
        checkpoint["forecaster_class"] = class_name(type(self))
        checkpoint["table_options"] = self.table_options

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another class or architecture, by their names."""
        saved_class = str(checkpoint.get("forecaster_class", class_name(type(self))))
        if not is_class(saved_class, type(self)):
            raise InputError(
                f"the checkpoint holds a network of the class {saved_class[:100]}, not "
                f"{class_name(type(self))}: load it by its own class."
            )
        self._is_trained = True
        self.table_options = checkpoint.get("table_options", {})
        saved = checkpoint.get("hyper_parameters", {})
        for name in ARCHITECTURE:
            if name in saved and self.hparams.get(name) is not None and saved[name] != self.hparams[name]:
                ours = f"`{name}` is {self.hparams[name]}"
                if name.startswith("num_") and name != "num_layers":
                    ours = f"the data have {self.hparams[name]} {name.removeprefix('num_')}"
                raise InputError(
                    f"{ours}, and the checkpoint holds a network with {saved[name]}: leave the option out, "
                    "or choose another checkpoint."
                )

    def __repr__(self) -> str:
        network = self.network
        kind = "seasonal" if isinstance(network, SeasonalNetwork) else network.cell
        inputs = f"{network.num_features} features, {network.num_covariates} covariates"
        size = f"{sum(parameter.numel() for parameter in network.parameters()):,} parameters"
        fitted = "fitted" if bool(network.transforms.fitted) else "not fitted"
        names = ", ".join(self.table_options.get("target_columns", []))
        return (
            f"Forecaster: {kind}, {network.recurrent.hidden_size} units, {inputs}, {size}\n"
            f"  {fitted}{f' on {names}' if names else ''}; transforms: "
            f"{', '.join(map(str, self.hparams['transforms'])) or 'none'}"
        )

    def prepare(self, data: TrainingData) -> None:
        """Get ready for the data: refuse other sizes than those of the network, and take the season."""
        if not self._is_trained or not bool(self.network.transforms.fitted):
            self._take_sizes(data)
        self._require_match(data)
        if isinstance(self.network, SeasonalNetwork):
            self.network.set_season(data.compared_season)

    def _make_network(self, num_features: int, num_covariates: int) -> None:
        hidden_size = self._architecture[1]
        if self.pretrained:
            network: Network = pretrained_network(num_features, num_covariates)
        elif self.seasonal:
            network = SeasonalNetwork(num_features, hidden_size, num_covariates)
        else:
            network = RecurrentNetwork(num_features, *self._architecture, num_covariates)
        self.network, self.residuals = network, ResidualMoments(num_features)
        self.intervals = Intervals(num_features)

    def _take_sizes(self, data: TrainingData) -> None:
        """Make the network anew where the data have other sizes, and the user has not said which."""
        sizes = {
            name: getattr(data if given is None else self.network, name)
            for name, given in self.sizes_given.items()
        }
        if any(size != getattr(self.network, name) for name, size in sizes.items()):
            self._make_network(**sizes)
        self.hparams.update(sizes)

    def _scored_windows(self, batch: WindowBatch) -> Scored:
        """The batch in transformed units; batches that were made together are transformed together."""
        block, first = batch.whole()
        # A hook may write into them.
        version = sum(part._version for part in (block.values, block.covariates) if part is not None)
        if block is not self._block or version != self._block_version:
            self._block, self._block_version = block, version
            self._scored_block = scored(
                self.network, block.values, block.context_length, block.covariates, block.complete
            )
        return self._scored_block.rows(first, first + len(batch.values))

    def _log_mean_loss(self) -> None:
        """Log the mean since the last time: a call of ``self.log`` costs a third of a small step."""
        self.log("train_loss", self._sum_of_losses / self._num_losses, prog_bar=True, sync_dist=True)
        self._sum_of_losses, self._num_losses = torch.zeros_like(self._sum_of_losses), 0

    def _require_match(self, data: TrainingData) -> None:
        """Refuse data of other sizes than those of the network, or with too short a context."""
        for name in ("num_features", "num_covariates"):
            of_data, of_network = getattr(data, name), getattr(self.network, name)
            if of_data != of_network:
                raise InputError(
                    f"the data have {of_data} {name.removeprefix('num_')} and the network {of_network}: "
                    f"they must be equal; set `{name}`."
                )
        needed = self.network.transforms.num_lost + 1
        if data.context_length < needed:
            raise InputError(
                f"`context_length` {data.context_length} is too short for `transforms`: these "
                f"need at least {needed} steps."
            )

    def _calibrate(self, calibration: Calibration | None = None) -> None:
        if calibration is None and self._trainer is not None:
            calibration = getattr(getattr(self.trainer, "datamodule", None), "calibration", None)
        if calibration is not None:
            self.calibrate(calibration)

    def _scored(self, batch: ForecastBatch, metric: FreeRunError) -> dict[str, Forecast]:
        """The forecasts of a batch with targets, which the metric counts."""
        assert batch.scale is not None
        forecast = self.predict_step(batch, 0)
        metric.update(forecast.point, batch.target, batch.scale, batch.series_index)
        return {"forecast": forecast}

    def _float32(self) -> torch.autocast:
        """No mixed precision: bfloat16 has three digits, and generation feeds its rounding errors back."""
        return torch.autocast(self.device.type, enabled=False)

    def _require_ready(self) -> None:
        """Refuse a network that was never fitted, and give all devices the weights of the first.

        A fit that still runs may have replaced the checkpoint between its reading by two of them.
        """
        self.require_fitted()
        if self.trainer.world_size > 1:
            for tensor in self.network.state_dict().values():
                torch.distributed.broadcast(tensor, 0)


def class_name(kind: type) -> str:
    """Return the full name of a class, as checkpoints hold it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_class(name: str, kind: type) -> bool:
    """Return True if a full name is that of a class, which a script that defines it calls ``__main__``."""
    modules = {name.removesuffix(f".{kind.__qualname__}"), kind.__module__}
    return len(modules) == 1 or ("__main__" in modules and name.endswith(f".{kind.__qualname__}"))
