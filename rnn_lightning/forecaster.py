"""The LightningModule: the loss, the metrics, and generation from batches and from scripts."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, overload

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from rnn_lightning.data.batches import ForecastBatch, WindowBatch
from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.errors import InputError
from rnn_lightning.model.losses import free_run, mean_squared_error, scored, teacher_forced
from rnn_lightning.model.metrics import FreeRunError, ResidualMoments
from rnn_lightning.model.network import Cell, RecurrentNetwork
from rnn_lightning.model.rollout import State, generate, observe, rollout, warm_up

Transform = Literal["log", "difference", "standardize", "standardize_context"]
Array = TypeVar("Array", np.ndarray, Tensor)

ARCHITECTURE = ("num_features", "num_covariates", "cell", "hidden_size", "num_layers", "transforms")
"""The arguments that a checkpoint's weights depend on."""


class Forecast(NamedTuple):
    """What ``predict_step`` returns, in the units of the data.

    Attributes:
        series_index: ``(batch,)``, which series each forecast is of.
        point: ``(batch, horizon, feature)``, the free run without noise.
        samples: ``(sample, batch, horizon, feature)``, sampled paths, or None.
    """

    series_index: Tensor
    point: Tensor
    samples: Tensor | None


class Forecaster(L.LightningModule):
    """A recurrent network trained by teacher-forced next-step prediction, which then generates by itself.

    Args:
        num_features: number of features; the command line takes it from the data.
        cell: kind of recurrent cell.
        hidden_size: hidden units of each layer.
        num_layers: number of recurrent layers.
        dropout: probability of dropout between recurrent layers.
        transforms: transforms of the values, in this order: ``log``, ``difference``, ``standardize`` (by the
            training split), ``standardize_context`` (by the context of each series).
        learning_rate: learning rate of Adam.
        schedule: the learning rate stays ``constant``, or falls to zero over the whole fit as a half
        ``cosine``.
        free_run_weight: weight, 0 to 1, of the error of the network's own free run over the scored steps in
            the loss; the rest is that of the teacher-forced next step.
        num_covariates: number of covariates; the command line takes it from the data.
    """

    def __init__(
        self,
        num_features: int = 1,
        cell: Cell = "lstm",
        hidden_size: int = 32,
        num_layers: int = 1,
        dropout: float = 0.0,
        transforms: list[Transform] = ["standardize_context"],  # noqa: B006
        learning_rate: float = 0.01,
        schedule: Literal["constant", "cosine"] = "cosine",
        free_run_weight: float = 0.0,
        num_covariates: int = 0,
    ) -> None:
        super().__init__()
        if not learning_rate > 0:
            raise InputError(f"--model.learning_rate must be above 0, got {learning_rate}.")
        if not 0 <= free_run_weight <= 1:
            raise InputError(f"--model.free_run_weight must be from 0 to 1, got {free_run_weight}.")
        if schedule not in ("constant", "cosine"):
            raise InputError(f"--model.schedule: unknown schedule {schedule!r}; there are constant, cosine.")
        transforms = list(transforms)  # a tuple would differ from what the command line makes of it
        self.save_hyperparameters()
        self.learning_rate, self.schedule, self.free_run_weight = learning_rate, schedule, free_run_weight
        self.network = RecurrentNetwork(
            num_features, cell, hidden_size, num_layers, dropout, transforms, num_covariates
        )
        self.residuals = ResidualMoments(num_features)
        self.val_rollout, self.test_rollout = FreeRunError(), FreeRunError()
        self._losses: list[Tensor] = []
        # DDP would send the buffers to all devices before every step, 0.9 ms: they are equal already, see
        # _require_ready.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the name of each hook it calls, 40 times a step; the way through nn.Module is 0.1 ms
        # a step.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, context: Tensor, horizon: int, covariates: Tensor | None = None) -> Tensor:
        """The point forecast ``(batch, horizon, feature)`` of contexts ``(batch, time, feature)``, see ``rollout``."""
        with self._float32():
            return rollout(self.network, context, horizon, covariates=covariates)

    def training_step(self, batch: WindowBatch, batch_idx: int) -> Tensor:
        loss = self._loss(batch)
        # A call of self.log costs as much as a step of a small network: log the mean since the last time.
        self._losses.append(loss.detach())
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:
            self.log("train_loss", torch.stack(self._losses).mean(), prog_bar=True, sync_dist=True)
            self._losses.clear()
        return loss

    def on_before_backward(self, loss: Tensor) -> None:
        """Stop a fit whose loss is NaN or infinite, before that reaches the weights and the checkpoints."""
        # On a GPU, reading the loss waits for it: look only when it is logged.
        if loss.is_cuda and self._losses:
            return
        if not math.isfinite(loss.item()):
            for callback in self.trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint):
                    callback.save_on_exception = False  # the weights may be NaN already
            raise InputError(
                f"the loss is {loss.item()} at step {self.global_step}: training has diverged. Lower "
                "--model.learning_rate, keep --trainer.gradient_clip_val at 1 or below, or look for extreme values in the "
                "data. The best checkpoint so far is kept."
            )

    def validation_step(self, batch: ForecastBatch, batch_idx: int) -> None:
        if len(batch.context) == 0:
            return
        values = torch.cat([batch.context, batch.target], 1)
        with self._float32():
            windows = scored(self.network, values, batch.context.shape[1], batch.covariates)
            self.residuals.update(teacher_forced(self.network, windows), windows.target)
        self.val_rollout.update(*self._generated(batch))

    def on_validation_epoch_end(self) -> None:
        covariance = self.network.residual_covariance
        covariance.copy_(
            self.residuals.compute().reshape_as(covariance)
        )  # torchmetrics returns one number as a scalar
        errors = self.val_rollout.compute()
        # The metrics are those of all devices already; sync_dist tells Lightning that the devices agree.
        self.log("val_loss", covariance.diagonal().mean(), prog_bar=True, sync_dist=True)
        self.log("val_rollout_nrmse", errors["nrmse"], prog_bar=True, sync_dist=True)
        self.log("val_rollout_nrmse_error", errors["nrmse_error"], sync_dist=True)
        self.log("val_rollout_rmse", errors["rmse"], sync_dist=True)
        self.residuals.reset()
        self.val_rollout.reset()

    def test_step(self, batch: ForecastBatch, batch_idx: int) -> None:
        if len(batch.context) == 0:
            return
        self.test_rollout.update(*self._generated(batch))

    def on_test_epoch_end(self) -> None:
        errors = self.test_rollout.compute()
        self.log_dict({f"test_{name}": errors[name] for name in ("rmse", "mae", "nrmse")}, sync_dist=True)
        self.test_rollout.reset()

    def predict_step(self, batch: ForecastBatch, batch_idx: int) -> Forecast:
        if len(batch.context) == 0:
            return Forecast(batch.series_index, batch.target, None)
        horizon = batch.target.shape[1]
        names = None
        if isinstance(datamodule := self._datamodule(), SequenceDataModule):
            names = [datamodule.data.ids[index] for index in batch.series_index.tolist()]
        samples = None
        with self._float32():
            known: dict[str, Any] = {"covariates": batch.covariates, "names": names}
            point = rollout(self.network, batch.context, horizon, **known)
            if batch.num_samples is not None:
                noise = sampling(batch.num_samples, batch.seed, batch.series_index.tolist())
                samples = rollout(self.network, batch.context, horizon, **noise, **known)
        return Forecast(batch.series_index, point, samples)

    def configure_optimizers(self) -> Any:
        # Lightning cannot clip the gradients of a fused optimizer under mixed precision.
        fused = not str(self.trainer.precision).endswith("mixed")
        optimizer = torch.optim.Adam(self.network.parameters(), self.learning_rate, fused=fused)
        if self.schedule == "constant":
            return optimizer
        num_steps = self.trainer.estimated_stepping_batches
        if not 0 < num_steps < math.inf:
            raise InputError(
                "--model.schedule cosine needs to know the end: give --trainer.max_steps or --trainer.max_epochs."
            )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / num_steps, 1)))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def setup(self, stage: str) -> None:
        if self.trainer.precision in (
            "16-true",
            "bf16-true",
            "transformer-engine",
            "transformer-engine-float16",
        ):
            raise InputError(
                f"--trainer.precision {self.trainer.precision} would round the data and their statistics to three digits: "
                "choose bf16-mixed."
            )
        datamodule = self._datamodule()
        if not isinstance(datamodule, SequenceDataModule):
            return
        for name in ("num_features", "num_covariates"):
            of_data, of_network = getattr(datamodule, name), getattr(self.network, name)
            if of_data != of_network:
                what = name.removeprefix("num_")
                raise InputError(
                    f"the data have {of_data} {what} and the network {of_network}: they must be equal; set --model.{name}."
                )
        needed = self.network.transforms.num_lost + 1
        if datamodule.context_length < needed:
            raise InputError(
                f"--data.context_length {datamodule.context_length} is too short for --model.transforms: these need at "
                f"least {needed} steps."
            )
        if stage == "fit" and not bool(self.network.transforms.fitted):
            self.network.transforms.fit(datamodule.train_series())
            self.network.covariate_scale.fit(datamodule.train_covariates())

    def on_train_start(self) -> None:
        self._require_ready()

    def on_validation_start(self) -> None:
        self._require_ready()

    def on_test_start(self) -> None:
        self._require_ready()

    def on_predict_start(self) -> None:
        self._require_ready()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        from rnn_lightning import __version__

        checkpoint["rnn_lightning_version"] = __version__

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another architecture, by the names of its arguments."""
        saved = checkpoint.get("hyper_parameters", {})
        for name in ARCHITECTURE:
            if name in saved and saved[name] != self.hparams[name]:
                ours = f"--model.{name} is {self.hparams[name]}"
                if name.startswith("num_") and name != "num_layers":
                    ours = f"the data have {self.hparams[name]} {name.removeprefix('num_')}"
                raise InputError(
                    f"{ours}, and the checkpoint holds a network with {saved[name]}: leave the option out, or choose "
                    "another checkpoint."
                )

    def forecast(
        self,
        context: Array,
        horizon: int,
        *,
        covariates: np.ndarray | Tensor | None = None,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> Array:
        """Forecast from a NumPy array or a tensor in the units of the data.

        Args:
            context: the known steps, all of which are used: ``(time,)`` of one series with one feature,
                ``(time, feature)`` of one series, or ``(batch, time, feature)``; NaN is a value that is not
                known. The last ``--data.context_length`` steps give what ``predict`` gives.
            horizon: number of steps to generate.
            covariates: those of the known steps and of the horizon, ``(time + horizon, covariate)`` or
                ``(batch, time + horizon, covariate)``, for a network trained with covariates; over the
                horizon all must be known.
            num_samples: number of sampled paths; None for the point forecast.
            seed: seed of the sampled paths.

        Returns:
            Of the kind of ``context`` and with its axes, ``horizon`` in the place of ``time``; the samples
            are a first axis.

        Raises:
            InputError: see ``rollout``.
        """
        if not isinstance(context, Tensor):
            context = np.ascontiguousarray(context)
        batch = self._as_batch(context)
        known = self._as_batch(covariates)
        if known is not None and bool(known[:, batch.shape[1] :].isnan().any()):
            raise InputError(
                f"the covariates of the horizon, the last {horizon} steps, must all be known: some are NaN."
            )
        with torch.inference_mode():
            noise = sampling(num_samples, seed, range(len(batch)))
            values = self._evaluated(rollout, batch, horizon, covariates=known, **noise)
        values = values.clone()  # an ordinary tensor again
        if context.ndim < 3:
            values = values.squeeze(-3)
        if context.ndim < 2:
            values = values.squeeze(-1)
        if isinstance(context, Tensor):
            return values.to(context if context.is_floating_point() else context.device)
        return values.cpu().numpy().astype(context.dtype if context.dtype.kind == "f" else np.float32)

    def warm_up(self, history: np.ndarray | Tensor, covariates: np.ndarray | Tensor | None = None) -> State:
        """The state after a history, with axes as for ``forecast``; see ``rollout.warm_up``."""
        return self._evaluated(warm_up, self._as_batch(history), self._as_batch(covariates))

    def observe(
        self, state: State, values: np.ndarray | Tensor, covariates: np.ndarray | Tensor | None = None
    ) -> State:
        """The state after new values that follow it, with axes as for ``forecast``; see ``rollout.observe``."""
        return self._evaluated(observe, state, self._as_batch(values), self._as_batch(covariates))

    def generate(
        self,
        state: State,
        horizon: int,
        *,
        covariates: np.ndarray | Tensor | None = None,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Generate ``([sample,] batch, horizon, feature)`` from a state, left as it is; see ``rollout.generate``."""
        noise = sampling(num_samples, seed, range(state.recurrent[0].shape[1]))
        with torch.inference_mode():
            values = self._evaluated(generate, state, horizon, covariates=self._as_batch(covariates), **noise)
        return values.clone()

    def _loss(self, batch: WindowBatch) -> Tensor:
        windows = scored(self.network, batch.values, batch.context_length, batch.covariates, batch.complete)
        loss = mean_squared_error(teacher_forced(self.network, windows), windows)
        if self.free_run_weight > 0:
            with self._float32():
                of_free_run = mean_squared_error(free_run(self.network, windows), windows)
            loss = (1 - self.free_run_weight) * loss + self.free_run_weight * of_free_run
        return loss

    def _generated(self, batch: ForecastBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Generated values, what is known of them, and the scales of their series."""
        assert batch.scale is not None
        return self(batch.context, batch.target.shape[1], batch.covariates), batch.target, batch.scale

    def _float32(self) -> torch.autocast:
        """No mixed precision: bfloat16 has three digits, and generation feeds its rounding errors back."""
        return torch.autocast(self.device.type, enabled=False)

    def _datamodule(self) -> Any:
        return getattr(self.trainer, "datamodule", None)

    def _require_ready(self) -> None:
        """Refuse a network that was never fitted, and see to it that all devices have the weights of the first.

        A fit that still runs may have replaced the checkpoint between its reading by two of them.
        """
        self._require_fitted()
        if self.trainer.world_size > 1:
            for tensor in self.network.state_dict().values():
                torch.distributed.broadcast(tensor, 0)

    def _require_fitted(self) -> None:
        if not bool(self.network.transforms.fitted):
            raise InputError(
                "the network has not been fitted: load a checkpoint, or fit it with a SequenceDataModule first."
            )

    @overload
    def _as_batch(self, values: np.ndarray | Tensor) -> Tensor: ...

    @overload
    def _as_batch(self, values: None) -> None: ...

    def _as_batch(self, values: np.ndarray | Tensor | None) -> Tensor | None:
        if values is None:
            return None
        tensor = (
            values
            if isinstance(values, Tensor)
            else torch.from_numpy(np.array(values, np.float64, order="C"))
        )
        tensor = tensor.to(self.network.readout.weight)
        if tensor.ndim == 1:
            tensor = tensor[:, None]
        return tensor if tensor.ndim > 2 else tensor[None]

    def _evaluated(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``function(network, ...)`` without dropout and gradients."""
        self._require_fitted()
        training = self.network.training
        self.network.eval()
        try:
            with torch.no_grad():
                return function(self.network, *args, **kwargs)
        finally:
            self.network.train(training)


def sampling(num_samples: int | None, seed: int, series_index: Sequence[int]) -> dict[str, Any]:
    """The arguments of ``rollout`` for sampled paths: the noise of a series depends on the seed and its index alone."""
    if num_samples is None:
        return {}
    generators = [torch.Generator().manual_seed(seed * 1_000_003 + index) for index in series_index]
    return {"num_samples": num_samples, "generator": generators}
