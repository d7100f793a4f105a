"""The LightningModule whose readout is solved, and whose recurrent weights are trained by L-BFGS."""

import copy
import math
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any, Literal, cast

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from rnn_lightning.data.windows import BatchLoader
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecaster, class_name
from rnn_lightning.network import Cell, Network
from rnn_lightning.solver.free_run_score import FreeRunScore, Score
from rnn_lightning.solver.least_squares import evaluate
from rnn_lightning.solver.plan import Number, Stage, projection_plan, reservoir_plan
from rnn_lightning.solver.search import Search
from rnn_lightning.solver.window_chunks import WindowChunks
from rnn_lightning.transforms import TransformName

LOSS_SCALE = 1e6
"""What the loss is multiplied by: ``torch.optim.LBFGS`` forgets curvatures below 1e-10."""

HISTORY_SIZE = 50


class VariableProjectionForecaster(Forecaster):
    """``Forecaster`` whose readout is solved in every evaluation of the loss, in float64.

    An epoch is ``iterations`` of L-BFGS on the recurrent weights, each over all training windows, which are
    laid end to end whatever the stride and the batch size of the data. The first epochs try values of
    ``auto`` arguments, the next ones continue with the best, and the last ones train the best network on all
    values. Of all epochs, the network with the best free run on validation data is kept. The best cell is
    ``rnn_tanh``.

    Checkpoints name the network and not the solver: ``Forecaster.load_from_checkpoint`` loads them.

    Args:
        num_features: number of features; taken from the data if not given.
        cell: kind of recurrent cell.
        hidden_size: hidden units of each layer.
        num_layers: number of recurrent layers.
        transforms: transforms of the values, see ``Forecaster``.
        num_covariates: number of covariates; taken from the data if not given.
        solver: train the recurrent weights by ``variable_projection``, or draw them as a ``reservoir``.
            ``auto`` tries a reservoir of 300 units, variable projection with this and with twice this size,
            and Adam, and keeps the best by the validation free run. The command does this; in Python, use
            ``fit_best``.
        iterations: iterations of L-BFGS in an epoch.
        input_noise: standard deviation of fixed noise on inputs in transformed units; ``auto`` tries several.
        ridge: penalty on squared readout weights; ``auto`` tries several, and lowers a large one within the
            fit.
        spectral_radius: largest absolute eigenvalue of the recurrent weights of a reservoir.
        input_scale: largest input weight of a reservoir.
        bias_scale: largest bias of a reservoir.
    """

    refits = True  # on all values, at the end of each fit

    def __init__(
        self,
        num_features: int | None = None,
        cell: Cell = "rnn_tanh",
        hidden_size: int = 64,
        num_layers: int = 1,
        transforms: list[TransformName] = ["standardize"],  # noqa: B006
        num_covariates: int | None = None,
        solver: Literal["variable_projection", "reservoir", "auto"] = "variable_projection",
        iterations: int = 20,
        input_noise: float | Literal["auto"] = "auto",
        ridge: float | Literal["auto"] = "auto",
        spectral_radius: float = 0.6,
        input_scale: float = 0.5,
        bias_scale: float = 0.5,
    ) -> None:
        sizes: dict[str, Any] = {"num_features": num_features, "num_covariates": num_covariates}
        network: dict[str, Any] = {"cell": cell, "hidden_size": hidden_size, "num_layers": num_layers}
        super().__init__(**sizes, **network, transforms=transforms)
        if solver not in ("variable_projection", "reservoir", "auto"):
            raise InputError(f"`solver`: there are variable_projection, reservoir and auto, got {solver!r}.")
        if iterations < 1:
            raise InputError(f"`iterations` must be at least 1, got {iterations}.")
        for name, number in (("input_noise", input_noise), ("ridge", ridge)):
            if number != "auto" and (isinstance(number, str) or not number >= 0):
                raise InputError(f"`{name}` must be auto or a number of at least 0, got {number!r}.")
        self.solver, self.iterations = solver, iterations
        self.given: tuple[Number, Number] = (input_noise, ridge)
        self.of_reservoir = (spectral_radius, input_scale, bias_scale)
        self.automatic_optimization = False
        self.search = Search()
        self.choice = ""  # what was chosen, in one line
        self.advice = "Take more units, lower `input_scale`" if solver == "reservoir" else "Train longer"
        self.is_best = False  # the weights are the best so far: what a checkpoint of the best should keep

    def make_network(self, num_features: int, num_covariates: int) -> Network:
        """Make the network in float64, which it keeps: it is trained and generates in it."""
        network = cast(Any, super().make_network(num_features, num_covariates)).double()
        return cast(Network, network)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit":
            return
        if self.solver == "auto":
            raise InputError("`solver` auto is several fits: call rnn_lightning.solver.choice.fit_best.")
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            raise InputError("the solver goes through all windows: give the Trainer a `SequenceDataModule`.")
        if not isinstance(getattr(self.network, "recurrent", None), nn.RNNBase):
            kind = type(self.network).__name__
            raise InputError(
                f"a solver trains layers of torch.nn, which {kind} lacks: train it by Forecaster."
            )
        if getattr(data, "carry_state", False):
            raise InputError("`carry_state` is for Adam: the solver takes all windows at once.")
        if self.trainer.strategy.root_device.type == "mps":
            raise InputError("a solver needs float64, which this device lacks: give `accelerator` cpu.")
        self.__dict__.pop("plan", None)

    def on_train_start(self) -> None:
        super().on_train_start()
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.score = FreeRunScore(data) if data.val_fraction > 0 else None
        if not self.search.initial:
            if self.solver == "reservoir":
                draw_reservoir(self.network.recurrent, *self.of_reservoir)
            initial = self.trainer.strategy.broadcast(self._weights())
            self.search = Search(initial=initial)
            self._set_weights(initial)

    @cached_property
    def plan(self) -> list[list[Stage]]:
        """The stages of each epoch."""
        if self.solver == "reservoir":
            return reservoir_plan(*self.given)
        limits: list[Any] = [self.trainer.max_epochs, self.trainer.max_steps]
        num_epochs = min((limit for limit in limits if limit is not None and limit > 0), default=0)
        if num_epochs == 0:
            raise InputError("the solver divides the epochs: give `max_epochs`.")
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        validates = data.val_fraction > 0
        return projection_plan(num_epochs, self.iterations, *self.given, validates)

    @property
    def has_seen_validation(self) -> bool:
        """Whether the network was trained on the validation split too."""
        is_fit = self.trainer.state.fn == TrainerFn.FITTING
        stage = self.plan[min(self.trainer.current_epoch, len(self.plan) - 1)][-1] if is_fit else None
        return self.search.is_refit or (stage is not None and stage.is_refit)

    def training_loader(self, data: Any) -> BatchLoader[Tensor]:
        """Return one batch for an epoch, without content: the solver cuts its windows itself."""
        return BatchLoader(lambda items: items, num_items=1, batch_size=1)

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        epoch, before = self.trainer.current_epoch, self.search.best
        if epoch < len(self.plan):
            with torch.autocast(self.device.type, enabled=False):
                for stage in self.plan[epoch]:
                    self._run(stage)
        self.is_best = self.search.best is not before or epoch + 1 >= len(self.plan)
        if epoch + 1 >= len(self.plan):
            self._set_weights(self.search.best)
            self.trainer.should_stop = True

    def _run(self, stage: Stage) -> None:
        """Run a stage, and remember its network if none before it generates better."""
        settings = noise, ridge = self.search.settings(stage)
        start, is_new = stage.start, settings != self.search.present
        if is_new and start == "present":  # the ridge falls
            start = "best"
        if start != "present":
            self._set_weights(self.search.initial if start == "initial" else self.search.best)
        windows, optimizer = self._windows(stage, noise), cast(Any, self.optimizers())
        if is_new or start != "present" or not windows.complete:
            optimizer.optimizer.state.clear()  # the curvatures of another loss
        group = optimizer.param_groups[0]
        group["max_iter"], group["max_eval"] = stage.iterations, stage.iterations * 5 // 4 + 1
        optimizer.step(partial(self._closure, windows, ridge, stage.iterations > 0))
        # The line search may have ended at another point than the last one that it looked at.
        error = evaluate(self.network, windows, ridge, self._add_up, wants_gradient=False).error
        self.last_loss = torch.tensor(error)
        self.log("train_loss", error, prog_bar=True, batch_size=1)
        if math.isfinite(error):
            score = Score(False, 0.0, 0.0) if self.score is None else self.score(self.network)
            self.search = self.search.after(stage, settings, score, self._weights())

    def _windows(self, stage: Stage, noise: float) -> WindowChunks:
        """Return the windows of a stage; gaps are imputed by the network as it is now, once it is trained."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        was = data.trains_on_all
        data.trains_on_all = was or stage.is_refit
        segments = data.training_segments()
        data.trains_on_all = was
        filler = None if stage.start == "initial" else copy.deepcopy(self.network)
        return WindowChunks(self.network, data, segments, noise, filler, data.seed)

    def _closure(self, windows: WindowChunks, ridge: float, is_trained: bool) -> float:
        """Evaluate the loss for L-BFGS, and put its gradient where that looks for it."""
        if not is_trained:  # a reservoir: the step is only counted
            return 0.0
        loss, gradient, _ = evaluate(self.network, windows, ridge, self._add_up)
        parameters = list(self.network.recurrent.parameters())
        parts = gradient.split([parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = LOSS_SCALE * part.view_as(parameter)
        return LOSS_SCALE * loss

    def _add_up(self, tensor: Tensor) -> Tensor:
        """Return the sum over all devices."""
        return cast(Tensor, self.trainer.strategy.reduce(tensor, reduce_op="sum"))

    def _weights(self) -> dict[str, Tensor]:
        """Return a copy of what the solver trains."""
        return {name: value.detach().clone() for name, value in self.network.named_parameters()}

    @torch.no_grad()
    def _set_weights(self, weights: Mapping[str, Tensor]) -> None:
        for name, value in self.network.named_parameters():
            value.copy_(weights[name])

    def on_train_end(self) -> None:
        if self.search.best:  # also where something else has ended the fit
            self._set_weights(self.search.best)
            self.choice = self.search.described(self.score)
        rank_zero_info(self.choice)

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(
            self.network.recurrent.parameters(),
            history_size=HISTORY_SIZE,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

    def checkpoint_class(self) -> str:
        """Return the class that loads the checkpoints: they name the network, not the solver."""
        return class_name(Forecaster)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["solver"] = self.search.state()
        if "hyper_parameters" in checkpoint:  # a number, as the plain network takes
            checkpoint["hyper_parameters"] = {
                **checkpoint["hyper_parameters"],
                "input_noise": self.search.noise,
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if "solver" in checkpoint:
            self.search = Search.from_state(checkpoint["solver"])


@torch.no_grad()
def draw_reservoir(
    recurrent: nn.RNNBase, spectral_radius: float, input_scale: float, bias_scale: float
) -> None:
    """Draw the recurrent weights of an echo state network (Jaeger 2001), which are not trained.

    All are uniform; the recurrent ones get the spectral radius, the others lie within their scale.
    """
    if recurrent.mode != "RNN_TANH":
        raise InputError("`solver` reservoir is for the `cell` rnn_tanh.")
    for w_input, w_hidden, b_input, b_hidden in recurrent.all_weights:
        w_hidden.uniform_(-1, 1)
        w_hidden.mul_(spectral_radius / torch.linalg.eigvals(w_hidden).abs().max())
        w_input.uniform_(-input_scale, input_scale)
        b_input.uniform_(-bias_scale, bias_scale)
        b_hidden.zero_()
