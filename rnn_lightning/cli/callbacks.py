"""The callbacks of a run: checkpoints, the summary of the data, stops at signals and progress."""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from rnn_lightning.cli.checkpoints import read_checkpoint
from rnn_lightning.cli.exit_messages import handle_stop_signals, stop_now
from rnn_lightning.errors import InputError
from rnn_lightning.files import atomic_file

MAX_NRMSE = 1.1
"""Errors in standard deviations, which few values underestimate, from which a fit has failed."""

SIGNAL_BATCHES = 10
"""Several processes ask each other every so many batches whether to stop: asking costs 0.3 ms."""

say = rank_zero_only(print)


class BestCheckpoint(ModelCheckpoint):
    """Keep the latest weights whose free-run error on the validation split is close to the lowest so far.

    Close means within one standard error (Breiman et al., *Classification and Regression Trees*, 1984). A
    short and noisy validation split ranks the networks of a fit by luck, and later ones were trained longer.

    A resumed fit starts with the best checkpoint so far: ``best.ckpt`` beside the checkpoint that is resumed.
    No path that a checkpoint holds is used.
    """

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="val_rollout_nrmse", enable_version_counter=False)
        self.lowest = self.limit = math.inf

    def state_dict(self) -> dict[str, Any]:
        return {"best_model_score": self.best_model_score, "lowest": self.lowest, "limit": self.limit}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Leave the state to ``on_train_start``, which has the best checkpoint."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        best = Path(trainer.ckpt_path or "none").with_name("best.ckpt")
        if trainer.ckpt_path is None or not best.is_file():
            return
        state = read_checkpoint(best).get("callbacks", {}).get(self.state_key, {})
        self.lowest, self.limit = state.get("lowest", math.inf), state.get("limit", math.inf)
        self.best_model_score = state.get("best_model_score")
        self.best_model_path = str(Path(str(self.dirpath), "best.ckpt"))
        if trainer.is_global_zero:
            Path(str(self.dirpath)).mkdir(parents=True, exist_ok=True)
            with atomic_file(self.best_model_path) as file:
                file.write(best.read_bytes())

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        if current is None or not bool(current.isfinite()):
            return False
        is_best: bool | None = getattr(trainer.lightning_module, "is_best", None)
        if is_best is not None:  # a solver has chosen
            return is_best
        error = float(current)
        if error < self.lowest:
            standard_error = float(trainer.callback_metrics["val_rollout_nrmse_error"])
            self.lowest, self.limit = error, error + standard_error
        return error <= self.limit


class LastCheckpoint(ModelCheckpoint):
    """Keep the newest state: of the last epoch, or of the step at which a fit was interrupted.

    It has the state of torch's random generators, so that a resumed fit draws the same dropout, and not
    Lightning's state, by which a path in a checkpoint would name a file to remove.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self.resumed: Mapping[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return {"torch": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.resumed = state_dict

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.resumed:
            torch.set_rng_state(self.resumed["torch"])
            if len(self.resumed["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(self.resumed["cuda"])
        # Not earlier: a fit that fails to resume has no optimizer state to save.
        self.save_on_exception = True

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Save the state, unless training has diverged."""
        if not isinstance(exception, InputError):
            super().on_exception(trainer, pl_module, exception)


class DataSummary(L.Callback):
    """Print a summary of the data of a fit unless ``quiet``, and write it to ``data.json``."""

    def __init__(self, as_text: Callable[[Mapping[str, Any]], str], quiet: bool = False) -> None:
        self.as_text, self.quiet = as_text, quiet

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        folder = trainer.log_dir if trainer.logger is not None else None  # asks all devices
        if not trainer.is_global_zero:
            return
        summary = trainer.datamodule.summary()  # type: ignore[attr-defined]
        if not self.quiet:
            print(self.as_text(summary))
        if folder is not None:
            text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
            with atomic_file(Path(folder, "data.json")) as file:
                file.write(text.encode(errors="backslashreplace"))


class StopAtSignal(L.Callback):
    """End a fit at the first optimizer step after Ctrl-C, SIGTERM (sent by schedulers) or SIGHUP.

    All processes leave after the same step, so that a checkpoint can be written. A second signal ends the
    process at once, as the first one does outside of a fit. This handler replaces Lightning's own handler of
    SIGTERM, which calls the other processes from within the signal handler and can wait for them forever.
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


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the losses, without the number of the run."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num" and is_new(name, trainer)}


def is_new(name: str, trainer: L.Trainer) -> bool:
    """Return True if a metric is of this epoch: while all values are trained on, nothing validates."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return not (name.startswith("val_") and getattr(data, "trains_on_all", False))


class EpochLines(L.Callback):
    """Print a line for each epoch of a fit, where no terminal shows a bar: step, losses, and time left."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started, self.first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        done, last = trainer.current_epoch + 1, trainer.max_epochs or -1
        metrics = trainer.progress_bar_metrics.items()
        values = [f"{name} {float(value):.4g}" for name, value in metrics if is_new(name, trainer)]
        shown = [f"epoch {done}{f'/{last}' if last > 0 else ''}", f"step {trainer.global_step}", *values]
        if last > 0:
            seconds = (time.monotonic() - self.started) / (done - self.first)
            shown.append(f"{seconds * (last - done):.0f} s left")
        print("  ".join(shown), flush=True)


def describe_fit(trainer: L.Trainer, part: str = "") -> None:
    """Print where the checkpoints are, how good the best one is, and what speaks against the fit.

    Those of one of several fits in a run, in its folder ``part``, were copied to the folder above.
    """
    if trainer.ckpt_path is not None and not trainer.callback_metrics:
        say("Note: nothing was trained, for the fit had come to its end; to go on, raise `max_epochs`.")
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
            value = callback.best_model_score  # None if a resumed fit has found no better one
            score = f" ({callback.monitor} {value:.4g})" if value is not None else ""
            path = Path(os.path.relpath(callback.best_model_path))
            say(f"Saved: {Path(*(name for name in path.parts if name != part))}{score}")
    error = float(trainer.callback_metrics.get("val_rollout_nrmse", 0))
    if not error <= MAX_NRMSE:
        advice = getattr(trainer.lightning_module, "advice", "Train longer, lower `learning_rate`")
        say(
            f"Warning: the errors on the validation split (val_rollout_nrmse {error:.3g}) are larger than "
            f"the standard deviation of the series: a forecast of the mean would be better. {advice}, or "
            "look at the data."
        )
