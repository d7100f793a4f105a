"""A last fit on all values, after validation has chosen the number of epochs."""

import copy
import math
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from rnn_lightning.errors import InputError

STATE = ("max_epochs", "first_epochs", "num_epochs", "is_final", "lowest", "initial", "validated")

MAX_EXCESS = 1.25
"""The last epochs count as good up to this multiple of the lowest free-run error, which is a lucky one."""


class FinalFit(L.Callback):
    """Train once more on all values but those of the test split, for as many epochs as validation allows.

    The first fit validates as always; the epoch chosen is the latest one whose free-run error is at most a
    quarter above the lowest one: usually the last, unless the network overfits. The second fit starts from
    the same initial weights, does not validate, and has a schedule of its own, whose learning rate falls to
    its end. What a validation has measured beside the weights, such as the noise of sampled paths, stays as
    it was at the chosen epoch.
    Solvers and fine-tuning refit by themselves.

    Attributes:
        num_epochs: the number of epochs chosen so far.
        validated: the state of the network after them.
        is_final: whether the second fit has begun.
    """

    def __init__(self) -> None:
        self.max_epochs = self.first_epochs = self.num_epochs = 0
        self.is_final = False
        self.lowest = math.inf
        self.initial: dict[str, Tensor] = {}
        self.validated: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if trainer.max_epochs in (None, -1) or trainer.max_steps != -1:
            raise InputError(
                "`final_fit_on_all` counts epochs: set it to false, or give `max_epochs` and no `max_steps`."
            )
        if any(isinstance(each, StochasticWeightAveraging) for each in trainer.callbacks):  # type: ignore[attr-defined]
            raise InputError("`final_fit_on_all` and StochasticWeightAveraging are mutually exclusive.")
        trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]  # for the second fit

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on in the second fit if it was interrupted there."""
        for each in trainer.early_stopping_callbacks:
            each._check_on_train_epoch_end = (
                False  # but where it validates: before this callback, and not after
            )
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        data.trains_on_all = self.is_final
        if self.is_final and (trainer.max_epochs or 0) > self.max_epochs:
            raise InputError(
                "`max_epochs`: the final fit on all values has begun, the first one cannot go on: fit anew."
            )
        if self.is_final:
            self._schedule(trainer)
            self._extend(trainer, pl_module)
        else:
            self.max_epochs = trainer.max_epochs or 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.initial:
            network: Any = pl_module.network
            self.initial = {name: each.detach().clone() for name, each in network.named_parameters()}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.is_fitted_on_all = self.is_final  # type: ignore[assignment]
        is_first_of_second = self.is_final and trainer.current_epoch == self.first_epochs
        if is_first_of_second:  # now the number of its batches is known
            self._schedule(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or self.is_final or trainer.state.fn != TrainerFn.FITTING:
            return
        error = float(trainer.callback_metrics["val_rollout_nrmse"])
        if error < self.lowest:
            self.lowest = error
        if error <= MAX_EXCESS * self.lowest:
            self.num_epochs = trainer.current_epoch + 1
            self.validated = copy.deepcopy(pl_module.network.state_dict())  # type: ignore[union-attr]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        is_last = trainer.current_epoch + 1 >= (trainer.max_epochs or 0) or trainer.should_stop
        if self.is_final:
            pl_module.is_best = is_last  # type: ignore[assignment]
        elif is_last and self.num_epochs:
            self._begin(trainer, pl_module)

    @torch.no_grad()
    def _begin(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the fit back to its start, but for the data and what a validation has measured."""
        network: Any = pl_module.network
        network.load_state_dict({**self.validated, **self.initial})
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.is_final = data.trains_on_all = True
        self.first_epochs = trainer.current_epoch + 1
        trainer.should_stop = False
        self._extend(trainer, pl_module)
        rank_zero_info(f"Final fit: {self.num_epochs} epochs on the validation split too.")

    def _schedule(self, trainer: L.Trainer) -> None:
        """Make the optimizers anew, with a schedule over the epochs of the second fit."""
        trainer.fit_loop.max_epochs = self.num_epochs
        trainer.strategy.setup_optimizers(trainer)
        trainer.fit_loop.max_epochs = self.first_epochs + self.num_epochs

    def _extend(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.fit_loop.max_epochs = self.first_epochs + self.num_epochs
        pl_module.is_best = False  # type: ignore[assignment]  # until the end

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        data.trains_on_all = False
