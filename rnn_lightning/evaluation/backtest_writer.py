"""The callbacks that say what a fit and a test are worth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from rnn_lightning.data.batches import ForecastBatch
from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.series import counted
from rnn_lightning.data.windows import Split
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.backtest import Backtest, record
from rnn_lightning.metrics import ForecastRecords


class BacktestWriter(L.Callback):
    """Writes what a test is worth into the folder of the run, and says it in a few lines.

    ``scores.csv`` has the metrics of each series, ``lead_times.csv`` those of each lead time,
    ``forecasts.csv`` the forecasts themselves beside what came and the baselines, in the columns of a
    cross-validation by the tools of Nixtla; ``backtest.png`` is the picture.

    Args:
        levels: levels of the intervals in percent; those of a network that was fitted without validation need
            ``num_samples``.
    """

    def __init__(self, levels: list[int] = [80]) -> None:  # noqa: B006
        super().__init__()
        for level in levels:
            if not 0 < level < 100:
                raise InputError(f"`levels` must be between 0 and 100 percent, got {level}.")
        self.levels = sorted(set(levels))

    def on_test_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        sampled = sequence_datamodule(trainer).num_samples is not None
        self.used_levels = self.levels if pl_module.prepare_intervals() or sampled else []
        self.records = ForecastRecords().to(pl_module.device)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: ForecastBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        record(self.records, batch, outputs["forecast"], pl_module, self.used_levels)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        result = made_backtest(self.records, sequence_datamodule(trainer), "test", self.used_levels)
        pl_module.log("test_mase", float(result.scores.pooled("mase")[0]), sync_dist=True)
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            paths = result.write(folder)
            print(f"{result.text}\nBacktest: {', '.join(map(str, paths))}")
            if not sequence_datamodule(trainer).was_held_out:
                print(
                    "Note: the network was trained on some of these values, if these are the series of its "
                    "fit: repeat that with the same `test_fraction` for scores that can be trusted."
                )


class ValidationScores(L.Callback):
    """Compares the best checkpoint of a fit with the baselines on the validation split, in a sentence.

    Every checkpoint holds what it was worth when it was written: ``checkpoint["validation"]`` has the
    sentence, and the horizon and number of forecasts that it is from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.latest: dict[str, Any] = {}

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.records = ForecastRecords().to(pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: ForecastBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        record(self.records, batch, outputs["forecast"], pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self.records.update_called:
            result = made_backtest(self.records, sequence_datamodule(trainer), "val")
            number, horizon = result.scores.values.shape[:2]
            self.latest = {"sentence": result.sentence, "forecasts": number, "horizon": horizon}
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.on_fit_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self.latest:
            checkpoint["validation"] = self.latest

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        found = self._of_best(trainer) if trainer.is_global_zero else {}
        if not found:
            return
        text = f"{counted(found['forecasts'], 'forecast')} of {counted(found['horizon'], 'step')}"
        print(f"Validation, {text}: {found['sentence']}.")
        wanted = sequence_datamodule(trainer).horizon
        if found["horizon"] < wanted:
            print(
                f"Validation could look {counted(found['horizon'], 'step')} ahead, fewer than "
                f"`horizon` {wanted}: raise `val_fraction` to choose a network by longer "
                "forecasts."
            )

    def _of_best(self, trainer: L.Trainer) -> Mapping[str, Any]:
        """What the best checkpoint was worth; without one, the network as it is."""
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
                checkpoint = torch.load(callback.best_model_path, map_location="cpu", weights_only=True)
                return checkpoint.get("validation", {})
        return self.latest


def made_backtest(
    records: ForecastRecords, datamodule: SequenceDataModule, split: Split, levels: Sequence[int] = ()
) -> Backtest:
    """A backtest of the forecasts of a held-out split; its errors are scaled by the steps before it."""
    ends, season = datamodule.ends_before(split), datamodule.compared_season
    return Backtest.of_records(records, datamodule.data, ends, season, levels)


def sequence_datamodule(trainer: L.Trainer) -> SequenceDataModule:
    """The data module, which must be one of this package."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, SequenceDataModule):
        raise InputError("scores beside baselines need a SequenceDataModule.")
    return datamodule
