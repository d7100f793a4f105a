"""The checkpoints of a fit: the best one, and the last one with all that a resumed fit needs."""

import math
import random
import secrets
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as L
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from rnn_lightning.cli.checkpoints import read_checkpoint
from rnn_lightning.errors import InputError
from rnn_lightning.files import atomic_file


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
