"""What the Trainer is equipped with: a data summary, stops at signals, lines and bars of progress."""

import contextlib
import json
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.profilers import PassThroughProfiler

from rnn_lightning.cli.exit_messages import handle_stop_signals, stop_now
from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.files import atomic_file
from rnn_lightning.tables.summary import as_text

SIGNAL_BATCHES = 10
"""Several processes ask each other every so many batches whether to stop: asking costs 0.3 ms."""


class DataSummary(L.Callback):
    """Prints a summary of the data of a fit, and writes it to ``data.json`` in the folder of the run.

    Args:
        quiet: do not print it.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule: Any = getattr(trainer, "datamodule", None)
        folder = trainer.log_dir if trainer.logger is not None else None  # asks all devices
        if not trainer.is_global_zero or not isinstance(datamodule, SequenceDataModule):
            return
        summary = datamodule.summary()
        if not self.quiet:
            print(as_text(summary))
        if folder is not None:
            text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
            with atomic_file(Path(folder, "data.json")) as file:
                file.write(text.encode(errors="backslashreplace"))


class StopAtSignal(L.Callback):
    """Ends a fit at the first optimizer step after Ctrl-C, SIGTERM (sent by schedulers) or SIGHUP.

    Of several processes all leave after the same step, so that a checkpoint can be written. A second signal
    ends the process at once, as the first does outside of a fit. Lightning's own handler of SIGTERM, which
    this one replaces, calls the other processes from within the signal handler and can wait for them
    forever.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        handle_stop_signals(stop_now)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.asked, self.agreed, self.step = 0, 0, trainer.global_step
        # A group of its own on the CPU: a GPU need not be waited for.
        self.group = torch.distributed.new_group(backend="gloo") if trainer.world_size > 1 else None
        handle_stop_signals(self._ask)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        handle_stop_signals(stop_now)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            stop_now(number)
        self.asked = number

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        before, self.step = self.step, trainer.global_step
        if self.group is None:
            self.agreed = self.asked
        elif batch_idx % SIGNAL_BATCHES == 0 and not self.agreed:
            highest = torch.tensor(self.asked)
            torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX, group=self.group)
            self.agreed = int(highest)
        # Between two steps gradients are accumulated that no checkpoint holds.
        if self.agreed and self.step != before:
            stop_now(self.agreed)


class Unprofiled(PassThroughProfiler):
    """No profile. Lightning's own way to have none goes through a generator 60 times a step."""

    def profile(self, action_name: str) -> Any:
        return contextlib.nullcontext()


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the losses, without the number of the run."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=20)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        return {
            name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"
        }


class EpochLines(L.Callback):
    """A line for each epoch of a fit, where no terminal shows a bar: step, losses, and the time left."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started, self.first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        done, last = trainer.current_epoch + 1, trainer.max_epochs or -1
        of_all = f"/{last}" if last > 0 else ""
        values = [f"{name} {float(value):.4g}" for name, value in trainer.progress_bar_metrics.items()]
        shown = [f"epoch {done}{of_all}", f"step {trainer.global_step}", *values]
        if last > 0:
            each = (time.monotonic() - self.started) / (done - self.first)
            shown.append(f"{each * (last - done):.0f} s left")
        print("  ".join(shown), flush=True)
