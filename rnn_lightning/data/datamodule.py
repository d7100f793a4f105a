"""The data module: batches for the Trainer, and the position at which a fit goes on."""

from dataclasses import replace
from functools import partial
from typing import Any

import lightning.pytorch as L
import torch

from rnn_lightning.data.batches import SequenceBatches
from rnn_lightning.data.windows import ShuffledLoader, are_complete, window_batch
from rnn_lightning.devices import held_on

NUMBERS_TOGETHER, MAX_BATCHES_TOGETHER = 2**18, 16
"""Small training batches are made together, up to so many numbers and batches."""


class SequenceDataModule(SequenceBatches, L.LightningDataModule):
    """``SequenceBatches`` for the Trainer: the arguments and attributes are the same."""

    _position = 0

    def keep_arguments(self) -> None:
        self.save_hyperparameters()
        if not isinstance(self.hparams.get("series"), dict):  # plain under the command line, else an object
            self.hparams.pop("series", None)

    @property
    def forecaster(self) -> Any:
        """The module of the Trainer."""
        return None if self.trainer is None else self.trainer.lightning_module

    @property
    def devices(self) -> tuple[int, int]:  # type: ignore[override]
        """The number of this device, and of all."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The device of the module of the Trainer."""
        return getattr(self.forecaster, "device", super().device)

    def __str__(self) -> str:
        return repr(self)  # that of Lightning goes through the loaders

    def train_dataloader(self) -> Any:
        """Return the loader of the module or of the series, if one trains in a way of its own."""
        own: Any = [each for each in (self.forecaster, self.series) if hasattr(each, "training_loader")]
        loader = own[0].training_loader(self) if own else self.window_loader()
        progress: Any = self.trainer and self.trainer.fit_loop.epoch_loop.batch_progress.total
        loader.position = max(self._position, progress.processed if progress else 0)
        return loader

    def window_loader(self) -> ShuffledLoader:
        """Return shuffled training windows, which the module transforms several batches at a time."""
        prepare = getattr(self.forecaster, "training_windows", None)
        segments, windows = self.training_segments(), self.training_starts()
        length, data = self.context_length + self.scored_length, self.data
        complete = False  # not known
        if prepare and self.device.type != "cpu":  # where looking would be to wait
            complete = are_complete(data, segments, windows, length)
            data = replace(data, values=held_on(self.device, data.values))
        settings = (data, segments, windows, self.context_length, length)
        cut = partial(window_batch, *settings, complete=complete)
        numbers = self.batch_size * length * (self.num_features + self.num_covariates)
        together = min(max(1, NUMBERS_TOGETHER // numbers), MAX_BATCHES_TOGETHER) if prepare else 1
        make_batch = (lambda items: prepare(cut(items))) if prepare else cut
        order: dict[str, Any] = {"num_batches": self.num_batches_per_epoch, "seed": self.seed}
        sizes = (len(windows), self.batch_size, self.devices)
        return ShuffledLoader(make_batch, *sizes, **order, batches_together=together)

    def state_dict(self) -> dict[str, Any]:
        """Return the position at which a resumed fit goes on."""
        if self.trainer is None:
            return {}
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return {"position": progress.processed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._position = state_dict.get("position", 0)
