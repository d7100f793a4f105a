"""Loading series once on each machine, where several processes need them."""

import contextlib
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rnn_lightning.data.series import SeriesData
from rnn_lightning.errors import InputError
from rnn_lightning.files import open_locked
from rnn_lightning.tables.storage import PREFIX, FileArray, remove_stale_files


def load_shared(load: Callable[[], SeriesData], trainer: Any) -> SeriesData:
    """Load series in one process of a machine into a file, which all processes map.

    Args:
        load: loads the series.
        trainer: the Trainer of this process, whose strategy meets the others.
    """
    path = Path(tempfile.gettempdir(), trainer.strategy.broadcast(f"{PREFIX}{uuid.uuid4().hex}.pt"))
    try:
        with contextlib.ExitStack() as held:
            try:
                if trainer.local_rank == 0:
                    remove_stale_files(path.parent)
                    file = held.enter_context(open_locked(path))
                    torch.save(load(), file)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            finally:
                trainer.strategy.barrier("values loaded")
            if not path.exists():
                raise InputError(
                    "the first process of this machine could not load the series: see its message."
                )
            data: SeriesData = torch.load(path, mmap=True, weights_only=False)
            trainer.strategy.barrier("values mapped")
            return data
    finally:
        if trainer.local_rank == 0:
            with contextlib.suppress(PermissionError):  # Windows, while it is mapped
                path.unlink(missing_ok=True)


def unlink_scratch(data: SeriesData) -> None:
    """Remove the scratch files behind the arrays of a table, once they are mapped."""
    arrays = [data.values, data.covariates, *(getattr(data, name, None) for name in ("calendar", "past"))]
    for array in arrays:
        if isinstance(array, FileArray):
            array.unlink()
