"""What the Trainer is equipped with: a data summary, stops at signals, the best and the last checkpoint."""

import contextlib
import json
import math
import random
import secrets
import signal
import threading
import time
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import lightning.pytorch as L
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.profilers import PassThroughProfiler
from torch import Tensor

from rnn_lightning.checkpoints import read_checkpoint
from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.summary import as_text
from rnn_lightning.errors import InputError
from rnn_lightning.files import atomic_file

SIGNAL_BATCHES = 10
"""Several processes ask each other every so many batches whether to stop: asking costs 0.3 ms."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(SystemExit):
    """The process was asked to stop by a signal; the exit code is 128 and its number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


def stop_now(number: int, _: FrameType | None = None) -> None:
    """A signal handler that ends the process by an exception."""
    raise Stopped(number)


def handle_stop_signals(handler: Any) -> None:
    """Give the signals that ask a process to stop to a handler, where this thread may."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, handler)


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
        stepped, self.step = trainer.global_step != self.step, trainer.global_step
        if self.group is None:
            self.agreed = self.asked
        elif batch_idx % SIGNAL_BATCHES == 0 and not self.agreed:
            highest = torch.tensor(self.asked)
            torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX, group=self.group)
            self.agreed = int(highest)
        # Between two steps gradients are accumulated that no checkpoint holds.
        if self.agreed and stepped:
            stop_now(self.agreed)


def random_state() -> dict[str, Any]:
    """The state of all random generators, in types that a checkpoint may hold."""
    of_numpy: Any = np.random.get_state()  # noqa: NPY002
    version, numbers, following = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [torch.from_numpy(of_numpy[1].astype(np.int64)), *of_numpy[2:]],
        "python": [version, torch.tensor(numbers), following],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put the random generators into a state.

    Raises:
        InputError: if it is damaged.
    """
    try:
        torch.set_rng_state(state["torch"])
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        keys, *rest = state["numpy"]
        np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
        version, numbers, following = state["python"]
        random.setstate((version, tuple(numbers.tolist()), following))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError("the state of the random generators in the checkpoint is damaged.") from error


class BestCheckpoint(ModelCheckpoint):
    """Keeps the latest weights whose error on the validation split is close to the lowest so far.

    The error is that of the free run; close is within one standard error (Breiman et al., *Classification and
    Regression Trees*, 1984). The error of a short and noisy validation split ranks the networks of a fit by
    luck, and later ones have been trained longer.

    A resumed fit begins with the best checkpoint so far: ``best.ckpt`` beside the checkpoint that is resumed,
    if both say the same of the errors so far. No path that a checkpoint holds is used.
    """

    @cached_property
    def state_key(self) -> str:  # Lightning asks for it six times a step
        return super().state_key

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="val_rollout_nrmse", enable_version_counter=False)
        self.lowest = self.limit = math.inf
        self.fit = secrets.token_hex(8)
        self.resumed: Mapping[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        score = self.best_model_score
        return {"fit": self.fit, "best_model_score": score, "lowest": self.lowest, "limit": self.limit}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.resumed = state_dict

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        state, self.resumed = self.resumed, None
        if state is None or trainer.ckpt_path is None:
            return
        self.fit = str(state.get("fit", self.fit))[:64]
        before = Path(trainer.ckpt_path).with_name("best.ckpt")
        errors = _errors(state)
        problem = self._adopt(before, errors, trainer) if errors is not None else ""
        if problem and trainer.is_global_zero:
            warnings.warn(f"{problem}: the best checkpoint is chosen anew from here on.", stacklevel=2)

    def _adopt(self, before: Path, errors: "Errors", trainer: L.Trainer) -> str:
        """Begin with the checkpoint ``before``; says why not where it is not the best one of the same fit."""
        if not before.is_file():
            return f"there is no {before}"
        try:
            best = read_checkpoint(before)
        except InputError as error:
            return str(error).rstrip(".").removeprefix("--ckpt_path ")
        state = best.get("callbacks", {}).get(self.state_key, {})
        best_errors = _errors(state)
        # A kill between the writing of the two leaves a best checkpoint that is ahead of the last one.
        is_ahead = state.get("fit") == self.fit and best.get("global_step", 0) > trainer.global_step
        if best_errors is None or not (best_errors == errors or is_ahead):
            return f"{before} is not the best checkpoint of the fit that is resumed"
        mine = Path(str(self.dirpath), "best.ckpt")
        if trainer.is_global_zero:
            mine.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(mine) as file:
                file.write(before.read_bytes())
        self.best_model_path, self.best_model_score = str(mine), torch.tensor(best_errors.score)
        self.lowest, self.limit = errors.lowest, errors.limit
        return ""

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


class Errors(NamedTuple):
    """The errors of a BestCheckpoint: of the best one, the lowest, and the highest that may replace it."""

    score: float
    lowest: float
    limit: float


def _errors(state: Mapping[str, Any]) -> Errors | None:
    """The errors in the state of a BestCheckpoint; None where it has seen none."""
    try:
        return Errors(*(float(state[name]) for name in ("best_model_score", "lowest", "limit")))
    except (KeyError, TypeError, ValueError, RuntimeError):
        return None


class LastCheckpoint(ModelCheckpoint):
    """Keeps the newest state: of the last epoch, or of the step at which a fit was interrupted.

    Not ``save_last`` of the above, which is the last one that was a best one. The state of the random
    generators is in it, so that a resumed fit draws the same dropout; nothing of Lightning's, which would
    remove what a path in a checkpoint names.
    """

    @cached_property
    def state_key(self) -> str:  # Lightning asks for it six times a step
        return super().state_key

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self.restored: Mapping[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"random": random_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.restored = state_dict

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if "random" in self.restored:
            set_random_state(self.restored["random"])
        # Not earlier: a fit that fails to resume has no optimizer state to save.
        self.save_on_exception = True


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


class AtomicCheckpoints(TorchCheckpointIO):
    """Atomic checkpoints: a kill or a full disk leaves the old one. They are read with care."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return read_checkpoint(Path(path))
