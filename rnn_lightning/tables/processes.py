"""Several processes and machines of one run: they agree, share what they load, or read files of their own."""

import contextlib
import hashlib
import json
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from rnn_lightning import __version__
from rnn_lightning.data.series import SeriesData
from rnn_lightning.data.windows import ForecastBatch
from rnn_lightning.errors import InputError, quoted
from rnn_lightning.files import open_locked
from rnn_lightning.metrics import gathered_objects
from rnn_lightning.tables.files import file_names
from rnn_lightning.tables.options import TableOptions
from rnn_lightning.tables.storage import PREFIX, remove_stale_files

HASHED_BYTES = 2**28
"""Files of more bytes together are compared by their names and sizes alone."""

TRAINER_OPTIONS = (
    *("max_epochs", "max_steps", "max_time", "gradient_clip_val", "accumulate_grad_batches", "precision"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
    *("val_check_interval", "check_val_every_n_epoch", "overfit_batches", "log_every_n_steps"),
)

IDS_TOGETHER = 2**22
"""About so many ids of all machines are compared at a time."""


def require_same_run(datamodule: Any) -> None:
    """Refuse, in all processes, a run in which one has another version, other options or other files.

    They would meet in the wrong order, or average what does not belong together, without an error.
    """
    trainer, series = datamodule.trainer, datamodule.series
    reading = series.options() if isinstance(series, TableOptions) else repr(series)
    options: list[Any] = [{name: value for name, value in datamodule.hparams.items() if name != "series"}]
    options += [reading, dict(trainer.lightning_module.hparams)]
    options += [getattr(trainer, name, None) for name in TRAINER_OPTIONS]
    facts: dict[str, Any] = {
        "versions of rnn-lightning or torch": (__version__, torch.__version__),
        "options": options,
        "checkpoints": _digest(path) if (path := Path(trainer.ckpt_path or "")).is_file() else "",
        "files": _files(series),
    }
    # Sorted, because options come in another order where sets of names were joined; objects count by class.
    settings: dict[str, Any] = {"sort_keys": True, "default": lambda value: type(value).__name__}
    texts = [json.dumps(fact, **settings) for fact in facts.values()]
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    for what, *of_processes in zip(facts, *gathered_objects(digests), strict=True):
        others = [rank for rank, digest in enumerate(of_processes) if digest != of_processes[0]]
        if others:
            raise InputError(
                f"the processes {', '.join(map(str, [0, *others]))} of this run have other {what}."
            )


def _files(series: Any) -> list[tuple[str, int, str]] | str:
    """Return the name, the size and the digest of each file of a series, wherever a machine keeps them."""
    path = getattr(series, "path", None)
    if not isinstance(path, str | Path):
        return []
    try:
        files = [Path(name) for name in file_names(str(path))]
    except InputError as error:  # for all processes to know
        return str(error)
    is_hashed = sum(file.stat().st_size for file in files) <= HASHED_BYTES
    return [(file.name, file.stat().st_size, _digest(file) if is_hashed else "") for file in files]


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


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


def prepare_share(datamodule: Any, stage: str) -> None:
    """Tell the series of a data module which files are those of this machine; refuse fits and tests."""
    trainer = datamodule.trainer
    if stage not in ("predict", "validate"):
        raise InputError(
            "`share_files` is for predict and validate: to fit and to test, every machine reads all files."
        )
    datamodule.series.share = trainer.node_rank, trainer.num_nodes


def first_series(datamodule: Any) -> int:
    """Return the number of series on the machines before this one.

    Raises:
        InputError: if machines found other columns or another horizon, or a series is on two of them.
    """
    data, trainer = datamodule.data, datamodule.trainer
    columns = [*data.features, *data.covariate_names], data.id_column, data.time_column
    found = [(columns, data.table_format, datamodule.horizon), data.num_series]
    machines = gathered_objects(found)[:: trainer.num_devices]
    for number, (facts, _) in enumerate(machines):
        if facts != machines[0][0]:
            raise InputError(
                f"`share_files`: machine {number} found other columns, time stamps or sizes than machine 0."
            )
    _require_own_ids(data.ids if trainer.local_rank == 0 else [])
    return sum(num_series for _, num_series in machines[: trainer.node_rank])


def sum_over_machines(datamodule: Any, number: int) -> int:
    """Return the sum of a number of each machine."""
    return sum(gathered_objects(number)[:: datamodule.trainer.num_devices])


def numbered_from(first: int, batch: ForecastBatch) -> ForecastBatch:
    """Return a batch whose series are numbered over all machines: the noise of paths depends on it."""
    return batch._replace(series_index=batch.series_index + first)


def _require_own_ids(ids: Any) -> None:
    """Refuse a series that is on two machines; their ids are compared by hashes, a part of them at a time."""
    hashes = pl.Series(list(ids), dtype=pl.String).hash().to_numpy()
    num_parts = 1 + sum(gathered_objects(len(hashes))) // IDS_TOGETHER
    for part in range(num_parts):
        every = np.concatenate(gathered_objects(hashes[hashes % num_parts == part]))
        values, counts = np.unique(every, return_counts=True)
        same = np.flatnonzero(np.isin(hashes, values[counts > 1]))
        seen = set[str]()
        for names in gathered_objects([ids[index] for index in same.tolist()]):
            if shared := seen & set(names):
                raise InputError(
                    f"`share_files`: series {quoted(min(shared))} is in the files of two machines: sort the "
                    "table by series before it is cut into files."
                )
            seen |= set(names)
