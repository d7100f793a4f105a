"""Checkpoints: found, read without running their code, written whole."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from rnn_lightning.cli.run_folders import CHECKPOINTS
from rnn_lightning.errors import InputError
from rnn_lightning.files import atomic_file

MAX_UNPACKED = 2
"""A checkpoint may unpack to this many times the size of its file; torch does not compress."""

PARTS = {"rnn_lightning_version": str, "state_dict": dict, "hyper_parameters": dict}
"""The parts that every checkpoint of this project has."""


def newest_checkpoint(experiment: Path, name: str) -> Path:
    """Return the ``best`` or ``last`` checkpoint of the newest fit; without validation, best means last."""
    paths = [*experiment.glob(f"{CHECKPOINTS}/{name}.ckpt")]
    if name == "best":
        lasts = experiment.glob(f"{CHECKPOINTS}/last.ckpt")
        paths += [path for path in lasts if not path.with_name("best.ckpt").exists()]
    if not paths:
        others = sorted({path.parts[-4] for path in experiment.parent.glob(f"*/{CHECKPOINTS}/*.ckpt")})
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        there_are = f" There are: {', '.join(others[:5])}{more}." if others else ""
        raise InputError(
            f"no {name} checkpoint in {experiment / CHECKPOINTS}: run fit with the same --experiment first, "
            f"or give --ckpt_path.{there_are}"
        )
    return max(paths, key=lambda path: path.stat().st_mtime_ns)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it; an InputError says why it cannot be loaded."""
    if not path.is_file():
        raise InputError(f"--ckpt_path {path}: no such file.")
    try:
        with zipfile.ZipFile(path) as archive:
            num_bytes = sum(member.file_size for member in archive.infolist())
            if num_bytes > MAX_UNPACKED * path.stat().st_size:
                raise ValueError(f"would unpack to {num_bytes:,} bytes, over {MAX_UNPACKED} times its size")
            if damaged := archive.testzip():
                raise ValueError(f"wrong checksum of {damaged!r}")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(checkpoint, dict):
            raise ValueError("no mapping")
        for part, kind in PARTS.items():
            if not isinstance(checkpoint.get(part), kind):
                raise ValueError(f"no {part}")
    except Exception as error:  # whatever the bytes of a damaged file lead to
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        if isinstance(error, pickle.UnpicklingError):  # torch would advise to switch its protection off
            reason = "it holds more than numbers, text and tensors"
        raise InputError(
            f"--ckpt_path {path}: damaged, or not a checkpoint of rnn-lightning ({reason})."
        ) from error
    return checkpoint


class CheckpointIO(TorchCheckpointIO):
    """Write checkpoints whole, so that a kill or a full disk leaves the old one; read them with care.

    Args:
        path: a checkpoint that the command has read already, if any.
        checkpoint: its content, which is handed to Lightning instead of reading the file again.
    """

    def __init__(self, path: Path | None = None, checkpoint: dict[str, Any] | None = None) -> None:
        self.path, self.checkpoint = path, checkpoint

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if self.checkpoint is None or Path(path) != self.path:
            return read_checkpoint(Path(path))
        checkpoint, self.checkpoint = self.checkpoint, None  # Lightning may change it
        return checkpoint
