"""Several processes of one run must agree on what they do and on what they read."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from rnn_lightning import __version__
from rnn_lightning.errors import InputError
from rnn_lightning.metrics import gathered_objects
from rnn_lightning.tables.files import file_names
from rnn_lightning.tables.options import TableOptions

HASHED_BYTES = 2**28
"""Files of more bytes together are compared by their names and sizes alone."""

TRAINER_OPTIONS = (
    *("max_epochs", "max_steps", "max_time", "gradient_clip_val", "accumulate_grad_batches", "precision"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
    *("val_check_interval", "check_val_every_n_epoch", "overfit_batches", "log_every_n_steps"),
)


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
