"""Finding checkpoints and reading them before anything is built on them."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from rnn_lightning.errors import InputError


def newest_checkpoint(experiment_folder: Path, name: str) -> Path:
    """The ``best`` or ``last`` checkpoint of the newest fit; where it did not validate, the last one is the best.

    Raises:
        InputError: if there is none.
    """
    found = []
    for folder in experiment_folder.glob("fit_*/checkpoints"):
        names = [name, "last"] if name == "best" else [name]
        found += [path for path in (folder / f"{stem}.ckpt" for stem in names) if path.is_file()][:1]
    if not found:
        raise InputError(
            f"no {name} checkpoint in {experiment_folder}/fit_*/checkpoints: run fit with the same --experiment first, or "
            "give --ckpt_path."
        )
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this project, with its integrity checked.

    Raises:
        InputError: if the file is missing, damaged, or not one of ours.
    """
    if not path.is_file():
        raise InputError(f"--ckpt_path {path}: no such file.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"--ckpt_path {path}: damaged, or not a checkpoint ({reason}).") from error
    if not isinstance(checkpoint, dict) or "rnn_lightning_version" not in checkpoint:
        raise InputError(
            f"--ckpt_path {path}: a file of torch, but not a checkpoint that rnn-lightning wrote."
        )
    return checkpoint
