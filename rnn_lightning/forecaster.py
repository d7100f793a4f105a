"""The LightningModule: the teacher-forced loss, the metrics, and generation from batches and arrays."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor

from rnn_lightning.data.array import real_numbers
from rnn_lightning.data.windows import ForecastBatch, WindowBatch, scored_windows
from rnn_lightning.errors import InputError, counted
from rnn_lightning.losses import (
    TrainingWindows,
    teacher_forced,
    training_loss,
    training_windows,
    with_input_noise,
)
from rnn_lightning.metrics import FreeRunError, ResidualMoments, validation_metrics
from rnn_lightning.network import Cell, Network, RecurrentNetwork
from rnn_lightning.rollout import Forecast, State, evaluating, generate, generators, observe, rollout, warm_up
from rnn_lightning.transforms import TransformName

ARCHITECTURE = ("cell", "hidden_size", "num_layers", "transforms")
"""The arguments that the weights of a checkpoint depend on."""

MAX_DISTANCE, LOOKED_AT = 20, 64
"""Standard deviations of the fit by which later values may differ without a warning; steps to look at."""


class Forecaster(L.LightningModule):
    """Recurrent network that is trained by teacher-forced next-step prediction and then generates freely.

    Args:
        num_features: number of features; taken from the data if not given.
        cell: kind of recurrent cell.
        hidden_size: hidden units of each layer.
        num_layers: number of recurrent layers.
        dropout: probability of dropout between recurrent layers.
        transforms: transforms of the values, applied in this order: ``log``, ``difference``, ``standardize``
            (by the training split), ``standardize_context`` (by the context of each series).
        learning_rate: learning rate of Adam.
        schedule: ``constant`` learning rate, or ``cosine`` decay to zero over the fit.
        free_run_weight: weight in the loss, from 0 to 1, of the error of the network's own free run over the
            scored steps; the teacher-forced next step has the rest.
        warmup_steps: number of initial steps over which the learning rate rises to its value.
        num_covariates: number of covariates; taken from the data if not given.
        input_noise: standard deviation of noise on the inputs of training windows, in transformed units.
    """

    network: Any  # a Network

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
        input_noise: float = 0.0,
    ) -> None:
        super().__init__()
        if not learning_rate > 0:
            raise InputError(f"`learning_rate` must be above 0, got {learning_rate}.")
        if not 0 <= free_run_weight <= 1:
            raise InputError(f"`free_run_weight` must be from 0 to 1, got {free_run_weight}.")
        if schedule not in ("constant", "cosine"):
            raise InputError(f"`schedule`: unknown schedule {schedule!r}; there are constant, cosine.")
        if warmup_steps < 0:
            raise InputError(f"`warmup_steps` must not be negative, got {warmup_steps}.")
        if not input_noise >= 0:
            raise InputError(f"`input_noise` must not be negative, got {input_noise}.")
        self.input_noise = input_noise
        if not isinstance(transforms, list | tuple):
            rule = "`transforms` must be a list of names, such as ['standardize']"
            raise InputError(f"{rule}, got {transforms!r}.")
        transforms = list(transforms)  # a tuple would differ from what the command line makes of it
        self.save_hyperparameters()
        self.learning_rate, self.schedule, self.free_run_weight = learning_rate, schedule, free_run_weight
        self.warmup_steps = warmup_steps
        self.architecture = (cell, hidden_size, num_layers, dropout, transforms)
        self.sizes_given = {"num_features": num_features, "num_covariates": num_covariates}
        self.data_facts: dict[str, Any] = {}  # plain facts of the data of the fit, kept in the checkpoint
        self.callback_states: dict[str, Any] = {}  # those of the checkpoint that was loaded
        self.is_trained = self.is_fitted_on_all = False
        self.last_loss: Tensor | None = None
        self._set_network(1 if num_features is None else num_features, num_covariates or 0)
        self.val_rollout, self.test_rollout = FreeRunError(), FreeRunError()

    def __repr__(self) -> str:
        network, layers = self.network, getattr(self.network, "recurrent", None)
        kind = type(network).__name__
        if isinstance(layers, torch.nn.RNNBase):
            shape = f"{counted(layers.num_layers, 'layer')} of {layers.hidden_size} units"
            kind = f"{layers.mode.lower()}, {shape}"
        sizes = f"{counted(network.num_features, 'feature')}, {counted(network.num_covariates, 'covariate')}"
        num_weights = sum(weight.numel() for weight in network.parameters())
        state = "" if bool(network.transforms.fitted) else ", not fitted"
        return f"{type(self).__name__}: {kind}; {sizes}; {counted(num_weights, 'weight')}{state}"

    def make_network(self, num_features: int, num_covariates: int) -> Network:
        """Make the network; override it to train another one."""
        return RecurrentNetwork(num_features, *self.architecture, num_covariates)

    def _set_network(self, num_features: int, num_covariates: int) -> None:
        self.network = self.make_network(num_features, num_covariates)
        wanted = [*Network.__annotations__, "initial_state", "join", "encode", "free_run"]
        if missing := [name for name in wanted if not hasattr(self.network, name)]:
            rule = "`make_network` must return a module with all that the protocol Network has"
            raise InputError(f"{rule}: {type(self.network).__name__} lacks {', '.join(missing)}.")
        self.residuals = ResidualMoments(num_features)

    def setup(self, stage: str) -> None:
        """Take the sizes of the data, and before a first fit the statistics of the training split."""
        if str(self.trainer.precision) in ("16-true", "bf16-true", "transformer-engine"):
            rule = "would round the data and their statistics to three digits: choose bf16-mixed"
            raise InputError(f"`precision` {self.trainer.precision} {rule}.")
        data: Any = getattr(self.trainer, "datamodule", None)
        if data is None:
            if stage == "fit" and not bool(self.network.transforms.fitted):
                raise InputError("a first fit needs the data module, not its loaders: fit(forecaster, data).")
            return
        self.take_sizes(data)
        if stage == "fit":
            self.data_facts = getattr(data, "facts", {})
            if not bool(self.network.transforms.fitted):
                self.network.transforms.fit(data.train_series())
                self.network.covariate_scale.fit(data.train_covariates())
            elif self._keeps_units:
                self._warn_if_far(next(iter(data.train_series()))[None].to(self.device))

    @property
    def _keeps_units(self) -> bool:
        return "standardize" in self.architecture[-1]

    def _warn_if_far(self, values: Tensor) -> None:
        """Warn of ``values (batch, time, feature)`` in other units than those of the fit."""
        if values.shape[1] > self.network.transforms.num_lost:
            distance = float(self.network.transforms.start(values, {})[0].abs().nanmedian())
            if MAX_DISTANCE < distance < math.inf:
                far = f"the values are about {distance:,.0f} standard deviations from those of the fit"
                warnings.warn(f"{far}, whose units the network keeps: make a new one.", stacklevel=3)

    def take_sizes(self, data: Any) -> None:
        """Make a network that was never trained anew for the sizes of the data; refuse other sizes."""
        sizes = {name: getattr(data, name) for name in self.sizes_given}
        wanted = {name: sizes[name] if given is None else given for name, given in self.sizes_given.items()}
        if not self.is_trained and any(wanted[name] != getattr(self.network, name) for name in wanted):
            self._set_network(**wanted)
        for name, size in sizes.items():
            if size != (own := getattr(self.network, name)):
                advice = "make a new one" if self.is_trained else f"set `{name}`"
                raise InputError(f"the data have {size} {name[4:]} and the network {own}: {advice}.")
        self.hparams.update(sizes)
        if data.context_length <= (lost := self.network.transforms.num_lost):
            rule = f"is too short for `transforms`: these need at least {lost + 1} steps"
            raise InputError(f"`context_length` {data.context_length} {rule}.")

    def forward(self, context: Tensor, horizon: int, **known: Any) -> Tensor:
        """Generate ``([sample,] batch, horizon, feature)`` after ``(batch, time, feature)``, see ``rollout``.

        Without mixed precision: bfloat16 has three digits, and generation feeds its rounding errors back.
        """
        with torch.autocast(self.device.type, enabled=False):
            return rollout(self.network, context, horizon, **known)

    def configure_callbacks(self) -> list[Any]:
        """Return the callbacks that the data bring for this network."""
        data: Any = getattr(self.trainer, "datamodule", None)
        return data.callbacks_of(self) if hasattr(data, "callbacks_of") else []

    def training_windows(self, batch: WindowBatch) -> TrainingWindows:
        """Transform windows; the data module calls it for several batches at a time."""
        return training_windows(self.network, **batch.to(self.device)._asdict())

    def loss(self, windows: TrainingWindows) -> Tensor:
        """Return the training loss, a scalar; override it to train by another one."""
        if not isinstance(windows, TrainingWindows):
            rule = "call training_windows(batch) with a batch of a data module"
            raise InputError(f"`loss` takes TrainingWindows: {rule}, got {type(windows).__name__}.")
        return training_loss(self.network, windows, self.free_run_weight)

    def one_step_errors(self, windows: TrainingWindows) -> Tensor:
        """Return the next-step errors ``(batch, scored, feature)`` in units of the noise of the network."""
        return windows.target - teacher_forced(self.network, windows)

    def training_step(self, batch: TrainingWindows | WindowBatch, batch_idx: int) -> Tensor:
        trainer = self.trainer
        if isinstance(batch, WindowBatch):  # of a loader that was made without this module
            batch = self.training_windows(batch)
        if self.input_noise:  # other draws in every step and on every device, the same in a resumed fit
            number = trainer.fit_loop.total_batch_idx * trainer.world_size + trainer.global_rank
            seed = (torch.initial_seed() + number) % 2**63
            batch = with_input_noise(batch, self.network.num_features, self.input_noise, seed)
        loss = self.loss(batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            given = f"{tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            raise InputError(f"`loss` must return a scalar tensor, got {given}.")
        every, last = trainer.log_every_n_steps, trainer.num_training_batches - 1  # type: ignore[attr-defined]
        if batch_idx == last or (every and (self.global_step + 1) % every == 0):  # it costs a third of a step
            self.log("train_loss", loss.detach(), prog_bar=True, sync_dist=True)
        self.last_loss = loss.detach()
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the last loss also where the loggers take no metrics of that step: short fits have one too."""
        self._require_finite(self.last_loss)
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and self.global_step % every and self.last_loss is not None:
            self.log("train_loss", self.last_loss, prog_bar=True, sync_dist=True)

    def on_before_backward(self, loss: Tensor) -> None:
        """Stop a fit whose loss is NaN or infinite; a GPU is only waited for at every fiftieth step."""
        if loss.device.type == "cpu" or self.global_step % 50 == 0:
            self._require_finite(loss)

    def _require_finite(self, loss: Tensor | None) -> None:
        if loss is not None and not math.isfinite(loss.item()):
            raise InputError(
                f"the loss is {loss.item()} at step {self.global_step}: training has diverged. Lower "
                "`learning_rate`, keep `gradient_clip_val` at 1 or below, or look for extreme values in the "
                "data."
            )

    def validation_step(
        self, batch: ForecastBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Forecast]:
        _require_forecasts(batch)
        if len(batch.context):
            with torch.autocast(self.device.type, enabled=False):
                windows = self.training_windows(scored_windows(batch))
                self.residuals.update(self.one_step_errors(windows))
        return self._forecast_and_score(batch, self.val_rollout)

    def on_validation_epoch_end(self) -> None:
        loss, covariance = self.residuals.compute()
        self.network.residual_covariance.copy_(covariance)
        # The metrics are those of all devices already; sync_dist tells Lightning that the devices agree.
        for name, value in validation_metrics(loss, self.val_rollout).items():
            self.log(name, value, prog_bar=name in ("val_loss", "val_rollout_nrmse"), sync_dist=True)
        self.residuals.reset()
        self.val_rollout.reset()

    def test_step(self, batch: ForecastBatch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Forecast]:
        return self._forecast_and_score(batch, self.test_rollout)

    def on_test_epoch_end(self) -> None:
        errors = self.test_rollout.compute()
        self.log_dict({f"test_{name}": errors[name] for name in ("rmse", "mae", "nrmse")}, sync_dist=True)
        self.test_rollout.reset()

    def predict_step(self, batch: ForecastBatch, batch_idx: int, dataloader_idx: int = 0) -> Forecast:
        _require_forecasts(batch)
        if len(batch.context) == 0:  # a device without a series
            return Forecast(
                batch.series_index, batch.context.new_zeros(0, batch.horizon, batch.context.shape[2]), None
            )
        known: dict[str, Any] = {"covariates": batch.covariates, "traits": batch.traits, "names": batch.names}
        point, samples = self(batch.context, batch.horizon, **known), None
        if batch.num_samples is not None:
            known |= {"generator": generators(batch.seed, batch.series_index.tolist())}
            samples = self(batch.context, batch.horizon, num_samples=batch.num_samples, **known)
        return Forecast(batch.series_index, point, samples)

    def _forecast_and_score(self, batch: ForecastBatch, metric: FreeRunError) -> dict[str, Forecast]:
        forecast = self.predict_step(batch, 0)
        metric.update(forecast.point, batch.target, batch.scale, batch.series_index)
        return {"forecast": forecast}

    def configure_optimizers(self) -> Any:
        # Lightning cannot clip the gradients of a fused optimizer under mixed precision.
        fused = not str(self.trainer.precision).endswith("mixed")
        optimizer = torch.optim.Adam(self.network.parameters(), self.learning_rate, fused=fused)
        num_steps = self.trainer.estimated_stepping_batches
        if self.schedule == "cosine" and not 0 < num_steps < math.inf:
            advice = "give `max_steps` or `max_epochs`, or choose constant"
            raise InputError(f"`schedule` cosine needs to know the end: {advice}.")
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate(step, num_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def rate(self, step: int, num_steps: float) -> float:
        """Return the part of the learning rate at a step of a fit of ``num_steps``."""
        risen = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "constant":
            return risen
        return risen * 0.5 * (1 + math.cos(math.pi * min(step / num_steps, 1)))

    def require_fitted(self) -> None:
        """Refuse a network that was never fitted, so that the units of its data are not set."""
        if not bool(self.network.transforms.fitted):
            raise InputError("the network has not been fitted: load a checkpoint, or fit it first.")
        if (dtype := self.network.readout.weight.dtype).itemsize < 4:
            raise InputError(
                f"the network is in {dtype}, which rounds to three digits: call `float()` first."
            )

    on_validation_start = on_test_start = on_predict_start = require_fitted

    def on_train_start(self) -> None:
        self.is_trained, self.callback_states = True, {}
        self.is_fitted_on_all = False  # until a final fit says so

    @property
    def has_seen_validation(self) -> bool:
        """Whether the network was trained on the validation split too."""
        return self.is_fitted_on_all

    def checkpoint_class(self) -> str:
        """Return the name of the class that loads the checkpoints; override it to train the same network."""
        return class_name(type(self))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        from rnn_lightning import __version__

        self._require_finite(self.last_loss)
        checkpoint["rnn_lightning_version"], checkpoint["data_facts"] = __version__, self.data_facts
        checkpoint["forecaster_class"] = self.checkpoint_class()
        names = {*ARCHITECTURE, *self.sizes_given} & self.hparams.keys()
        checkpoint["architecture"] = {name: self.hparams[name] for name in names}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another class: what that class adds would be lost."""
        saved, own = checkpoint.get("forecaster_class"), self.checkpoint_class()
        if saved != own and not is_class(str(saved), type(self)):
            held = f"the checkpoint holds a network of the class {saved}"
            raise InputError(f"{held}, not {own}: load it by its own class.")
        kept = checkpoint["architecture"]  # as it was saved: arguments of load_from_checkpoint change others
        sizes = {name: kept[name] or 0 for name in self.sizes_given}
        for name, value in (kept | sizes).items():
            given = self.sizes_given.get(name) if name in sizes else self.hparams.get(name)
            if given not in (None, value):
                what = f"there are {given} {name[4:]}" if name in sizes else f"`{name}` is {given}"
                raise InputError(f"{what}, and the checkpoint holds a network with {value}.")
        if any(size != getattr(self.network, name) for name, size in sizes.items()):
            self._set_network(**sizes)
        self.data_facts, self.is_trained = checkpoint["data_facts"], True
        self.callback_states = checkpoint.get("callbacks", {})
        self.network.to(checkpoint["state_dict"]["network.readout.weight"].dtype)  # float64 is kept

    def forecast(
        self, context: Any, horizon: int, *, num_samples: int | None = None, seed: int = 0, **known: Any
    ) -> Any:
        """Forecast from a NumPy array or a tensor in the units of the data.

        Args:
            context: the known steps, ``(time,)``, ``(time, feature)`` or ``(batch, time, feature)``, NaN if
                unknown; also what NumPy can read as such. The last ``context_length`` steps give what
                ``predict`` gives.
            horizon: number of steps to generate.
            num_samples: number of sampled paths; None for the point forecast.
            seed: seed of the sampled paths.
            known: ``covariates`` of the known steps and of the horizon, for a network trained with them;
                ``traits`` of the series, ``(batch, ...)`` each.

        Returns:
            Of the kind of ``context`` and with its axes, ``horizon`` in the place of ``time``; samples are a
            first axis.

        Raises:
            InputError: see ``rollout``.
        """
        if isinstance(context, State):
            raise InputError("`forecast` takes the known values: call generate(state, horizon) with a state.")
        context = as_array(context)
        batch, covariates = self._as_batch(context), self._as_batch(known.get("covariates"))
        if self.device.type == "cpu" and batch.ndim == 3 and batch.shape[-1] == self.network.num_features:
            if self._keeps_units:
                self._warn_if_far(batch[:LOOKED_AT, -LOOKED_AT:])
            if covariates is None and bool(batch.isnan().flatten(1).all(1).any()):
                warnings.warn("a context has no known value: its forecast is meaningless.", stacklevel=2)
        if covariates is not None and bool(covariates[:, batch.shape[1] :].isnan().any()):
            raise InputError("the covariates of the horizon must all be known: some are NaN.")
        noise = _sampling(num_samples, seed, len(batch))
        values: Tensor = self._evaluate(self, context, horizon, **known, **noise)
        values = values.squeeze(-3) if np.ndim(context) < 3 else values
        values = values.squeeze(-1) if np.ndim(context) < 2 else values
        if isinstance(context, Tensor):
            return values.to(context if context.is_floating_point() else context.device)
        kind = context.dtype
        return values.cpu().numpy().astype(kind if kind.kind == "f" else np.float32)

    def warm_up(self, history: Any, covariates: Any = None, traits: Any = None) -> State:
        """Return the state after a history, with axes as for ``forecast``.

        ``covariates (time + 1, covariate)`` are those of the history and of the step after it, which the
        state predicts.
        """
        history, known = as_array(history), self._as_batch(covariates)
        if known is not None:
            num_steps = self._as_batch(history).shape[1]
            if known.shape[1] != num_steps + 1:
                rule = f"the covariates must be those of the {counted(num_steps, 'step')} and of the next one"
                raise InputError(f"{rule}: got {known.shape[1]}.")
            known = known[:, 1:]
        return self._evaluate(partial(warm_up, self.network), history, known, traits)

    def observe(self, state: State, values: Any, covariates: Any = None) -> State:
        """Return the state after new values, of which one step may be a number or a vector of features.

        ``covariates`` are those of the step after each of the values.
        """
        if not isinstance(state, State) or values is None:
            raise InputError("call observe(state, values) with a state of `warm_up` and at least one value.")
        sizes = (self.network.num_features, self.network.num_covariates)
        steps, known = (_as_steps(part, size) for part, size in zip((values, covariates), sizes, strict=True))
        return self._evaluate(partial(observe, self.network), state, steps, known)

    def generate(
        self,
        state: State,
        horizon: int,
        *,
        covariates: Any = None,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Generate ``([sample,] batch, horizon, feature)`` from a state; see ``rollout.generate``."""
        noise = {} if num_samples is None else _sampling(num_samples, seed, state.recurrent[0].shape[1])
        return self._evaluate(partial(generate, self.network), state, horizon, covariates=covariates, **noise)

    def _evaluate(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function with arrays as batches, without dropout and gradients, in any number of threads."""
        self.require_fitted()
        args = tuple(map(self._as_batch, args))
        if "covariates" in kwargs:
            kwargs["covariates"] = self._as_batch(kwargs["covariates"])
        with evaluating(self):
            return function(*args, **kwargs)

    def _as_batch(self, values: Any) -> Any:
        """Return an array as ``(batch, time, feature)`` in the precision of the network, others unchanged."""
        if hasattr(values, "columns"):
            raise InputError("forecast takes numbers: call forecast_frame with a table.")
        if not isinstance(values, np.ndarray | Tensor | list):
            return values
        if np.ndim(values) == 0:
            raise InputError("a single number is no context: give an array (time,) or (time, feature).")
        tensor = torch.as_tensor(values if isinstance(values, Tensor) else real_numbers(values))
        tensor = tensor.to(self.network.readout.weight)
        tensor = tensor[:, None] if tensor.ndim == 1 else tensor
        return tensor if tensor.ndim > 2 else tensor[None]


def _require_forecasts(batch: Any) -> None:
    if not isinstance(batch, ForecastBatch):
        rule = "batches must be the forecasts of a data module, such as data.predict_dataloader()"
        raise InputError(f"{rule}, got {type(batch).__name__}.")


def class_name(kind: type) -> str:
    """Return the name by which a class is imported."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_class(name: str, kind: type) -> bool:
    """Return True if a name is that of a class, whose own script calls it ``__main__.<class>``."""
    modules = {name.removesuffix(f".{kind.__qualname__}"), kind.__module__}
    return len(modules) == 1 or ("__main__" in modules and name.endswith(f".{kind.__qualname__}"))


def as_array(values: Any) -> Any:
    """Return what NumPy reads as an array; tensors as they are, and frames, which ``_as_batch`` refuses."""
    return values if isinstance(values, Tensor) or hasattr(values, "columns") else np.asanyarray(values)


def _as_steps(values: Any, size: int) -> Any:
    """Return a number, or a vector of several features, as one step ``(time, feature)``."""
    array: Any = values if values is None or isinstance(values, Tensor) else np.asarray(values, np.float64)
    is_step = array is not None and (array.ndim == 0 or (array.ndim == 1 and size > 1))
    return array.reshape(1, -1) if is_step else array


def _sampling(num_samples: int | None, seed: int, batch_size: int) -> dict[str, Any]:
    """Return the arguments of ``rollout`` for sampled paths of the series 0, 1, ... of a batch."""
    if num_samples is None:
        return {}
    return {"num_samples": num_samples, "generator": generators(seed, range(batch_size))}
