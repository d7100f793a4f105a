"""The values of a series: loaded once on each machine, validated, and read in chunks."""

import contextlib
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnn_lightning.data.series import CHUNK_ROWS, Series, SeriesData
from rnn_lightning.data.windows import Segments
from rnn_lightning.errors import InputError
from rnn_lightning.tables.storage import PREFIX, lock, remove_stale_files


def load(series: Series) -> SeriesData:
    """The values of a series; a scratch file of values that are refused is removed.

    Raises:
        InputError: see ``SeriesData.validate``, or if there are other numbers of features and covariates than
            the series says.
    """
    data = series.load()
    try:
        data.validate()
        _require_sizes(series, data)
    except InputError:
        data.unlink()
        raise
    return data


def load_once(series: Series, trainer: Any) -> SeriesData:
    """The same where several processes of a machine need them: one loads them into a file, which all map.

    Args:
        series: what to load.
        trainer: the Trainer of this process, which has a strategy to meet the others by.
    """
    path = Path(tempfile.gettempdir(), trainer.strategy.broadcast(f"{PREFIX}{uuid.uuid4().hex}.pt"))
    try:
        with contextlib.ExitStack() as held:
            try:
                if trainer.local_rank == 0:
                    remove_stale_files(path.parent)
                    file = held.enter_context(path.open("xb"))
                    lock(file)  # no file of a run that was killed
                    torch.save(load(series), file)
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
            path.unlink(missing_ok=True)


class RowChunks:
    """Tensors read one after another, no more than a million rows at a time; can be iterated repeatedly.

    Args:
        read: from a slice of rows to a tensor.
        segments: the runs of rows to read.
    """

    def __init__(self, read: Callable[[slice], Any], segments: Segments) -> None:
        self.read, self.segments = read, segments

    def __iter__(self) -> Iterator[Tensor]:
        for start, end in zip(self.segments.start.tolist(), self.segments.end.tolist(), strict=True):
            for first in range(start, end, CHUNK_ROWS):
                yield self.read(slice(first, min(first + CHUNK_ROWS, end)))


def _require_sizes(series: Series, data: SeriesData) -> None:
    covariates = data.covariates_at(data.offsets[:1])
    num_covariates = 0 if covariates is None else covariates.shape[-1]
    for name, given in (("num_features", data.values.shape[1]), ("num_covariates", num_covariates)):
        if given != getattr(series, name):
            raise InputError(
                f"{type(series).__name__}.load() gives {given} {name.removeprefix('num_')}, and "
                f"its {name} says {getattr(series, name)}: correct one of them."
            )
