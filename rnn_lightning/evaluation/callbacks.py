"""Callbacks that score a test and a fit against baselines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.backtest import Backtest
from rnn_lightning.evaluation.prediction_intervals import PredictionIntervals
from rnn_lightning.evaluation.records import ForecastRecords, forecast_columns, record
from rnn_lightning.evaluation.refit import Fit, Refits
from rnn_lightning.evaluation.validation import compare, scores_of_split, sentences


class BacktestWriter(L.Callback):
    """Write the scores of a test into the folder of the run, and print them in a few lines.

    ``scores.csv`` has the metrics by series and ``lead_times.csv`` by lead time; ``forecasts.csv`` has the
    forecasts, the observed values and the baselines, in the columns of a Nixtla cross-validation;
    ``backtest.png`` is the picture.

    Args:
        levels: levels of the intervals in percent; by default 80 if there are intervals. A network fitted
            without validation has intervals only with ``num_samples``.
        refit: instead of using the checkpoint, fit a new network at each origin to all values before it,
            which takes one fit per origin; options of the fit, such as its epochs, are those of this command.

    Attributes:
        fit: fits the networks; the command sets it.
    """

    fit: Fit | None = None

    def __init__(self, levels: list[int] | None = None, refit: bool = False) -> None:
        self.levels, self.refit = levels, refit

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        found = (each for each in trainer.callbacks if isinstance(each, PredictionIntervals))  # type: ignore[attr-defined]
        self.intervals, self.refits = next(found, PredictionIntervals()), None
        if self.refit:
            self.refits = self._refits(trainer)
            self.intervals = self.refits.intervals
        self.used_levels = self.intervals.choose_levels(self.levels, sequence_datamodule(trainer).num_samples)
        self.records = ForecastRecords(forecast_columns(self.used_levels))

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        if self.refits is None:
            record(self.records, batch, outputs["forecast"], self.intervals, self.used_levels)
            return
        for part, network, intervals in self.refits.parts(batch):
            record(self.records, part, network.predict_step(part, 0), intervals, self.used_levels)

    def _refits(self, trainer: L.Trainer) -> Refits:
        """Fit a network at each origin of the test."""
        if self.fit is None or trainer.world_size > 1:
            advice = "on one device" if self.fit else "by the command; in Python, backtest takes a function"
            raise InputError(f"`refit` works {advice}.")
        data = sequence_datamodule(trainer)
        windows = data.forecast_starts("test")
        return Refits(self.fit, data.data, data.segments["test"], windows, data.context_length)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule = sequence_datamodule(trainer)
        scores = scores_of_split(self.records, datamodule, "test", self.used_levels)
        pl_module.log("test_mase", scores.pooled("mase")["rnn"], sync_dist=True)
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # all devices have to ask for it
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            result = Backtest(datamodule.data, scores)
            print(f"{result.text}\nBacktest: {', '.join(map(str, result.write(folder)))}")
            if not self.refit and not getattr(datamodule, "was_held_out", True):
                print(
                    "Note: if these are the series of its fit, the network was trained on some of these "
                    "values: fit it with the same `test_fraction` for scores that can be trusted."
                )


class ValidationScores(L.Callback):
    """Compare the best checkpoint of a fit with the baselines on the validation split, in one sentence.

    Each checkpoint keeps the comparison of its own validation as ``checkpoint["validation"]``, with the keys
    ``verdict``, ``forecasts`` (their number) and ``horizon``.

    Args:
        quiet: print no sentence.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.latest: dict[str, Any] = {}
        self.is_sample = False

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.records = ForecastRecords(forecast_columns([]))

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        record(self.records, batch, outputs["forecast"], PredictionIntervals())

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.records.keys:
            self.latest, self.is_sample = compare(self.records, sequence_datamodule(trainer))
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.on_fit_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.latest:
            checkpoint["validation"] = self.latest

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        best = self._of_best_checkpoint(trainer) if trainer.is_global_zero else {}
        if not best or self.quiet:
            return
        advice = ": raise `val_fraction` to choose a network by longer forecasts"
        advice = "" if trainer.state.fn == TrainerFn.VALIDATING else advice  # no network is chosen
        for sentence in sentences(best, self.is_sample, sequence_datamodule(trainer).horizon, advice):
            print(sentence)

    def _of_best_checkpoint(self, trainer: L.Trainer) -> Mapping[str, Any]:
        """Return the comparison of the best checkpoint; without one, that of the network as it is."""
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
                checkpoint = torch.load(callback.best_model_path, map_location="cpu", weights_only=True)
                return checkpoint.get("validation", {})
        return self.latest


def sequence_datamodule(trainer: L.Trainer) -> SequenceDataModule:
    """Return the data module, which must be a ``SequenceDataModule``."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, SequenceDataModule):
        raise InputError("scores beside baselines need a SequenceDataModule.")
    return datamodule
