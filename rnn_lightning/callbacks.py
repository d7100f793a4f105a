"""What the Trainer is equipped with: a look at the data, a stop at SIGTERM, the best and whole checkpoints."""

import contextlib
import json
import math
import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.summary import as_text

SIGTERM_BATCHES = 10
"""Several processes ask each other every so many batches whether to stop: asking costs 0.3 ms."""


class DataSummary(L.Callback):
    """Prints what the data of a fit are like, and writes it to ``data.json`` in the folder of the run, if it has one."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule: Any = getattr(trainer, "datamodule", None)
        folder = trainer.log_dir if trainer.logger is not None else None  # asks all devices
        if not trainer.is_global_zero or not isinstance(datamodule, SequenceDataModule):
            return
        summary = datamodule.summary()
        print(as_text(summary))
        if folder is not None:
            path = Path(folder, "data.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class StopAtSigterm(L.Callback):
    """Ends a fit soon after any of its processes is sent SIGTERM, as schedulers do before they take a machine.

    All processes leave after the same batch, so that a checkpoint can be written. Lightning's own handler,
    which this one replaces during the fit, calls the other processes from within the signal handler and can
    wait for them for ever.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.asked = False
        # A group of its own on the CPU: a GPU need not be waited for.
        self.group = torch.distributed.new_group(backend="gloo") if trainer.world_size > 1 else None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: Any) -> None:
        self.asked = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.group is None:
            stop = self.asked
        elif batch_idx % SIGTERM_BATCHES == 0:
            num_asked = torch.tensor(int(self.asked))
            torch.distributed.all_reduce(num_asked, group=self.group)
            stop = int(num_asked) > 0
        else:
            stop = False
        if stop:
            raise SIGTERMException


class BestCheckpoint(ModelCheckpoint):
    """Keeps the latest weights whose free-running error on the validation split is not clearly above the lowest so far.

    Not clearly: within one standard error of it (Breiman et al., *Classification and Regression Trees*,
    1984). The error of a short and noisy validation split ranks the networks of a fit by luck, and later ones
    have been trained longer. A resumed fit begins with the best checkpoint so far.
    """

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="val_rollout_nrmse", enable_version_counter=False)
        self.lowest = self.limit = math.inf
        self.before: Path | None = None

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "lowest": self.lowest, "limit": self.limit}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        before = Path(state_dict["best_model_path"])
        if before.is_file():
            self.before, self.best_model_score = before, state_dict["best_model_score"]
            self.lowest, self.limit = state_dict["lowest"], state_dict["limit"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.before is not None:
            mine = Path(str(self.dirpath), "best.ckpt")
            if trainer.is_global_zero:
                mine.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.before, mine)
            self.best_model_path = str(mine)

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        if current is None or not bool(current.isfinite()):
            return False
        value = float(current)
        if value < self.lowest:
            self.lowest, self.limit = (
                value,
                value + float(trainer.callback_metrics["val_rollout_nrmse_error"]),
            )
        return value <= self.limit


class LastCheckpoint(ModelCheckpoint):
    """Keeps the newest state: of the last epoch, or of the step at which a fit was interrupted.

    Not ``save_last`` of the above, which is the last one that was a best one.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.save_on_exception = (
            True  # not earlier: a fit that fails to resume has no optimizer state to save
        )


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the losses, without the number of the run."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=20)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        return {
            name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"
        }


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its final name and renames it, so that a kill or a full disk leaves the old one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
