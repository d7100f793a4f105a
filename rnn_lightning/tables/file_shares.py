"""A table in many files of which each machine reads its own, so that none holds all series."""

from typing import Any

import numpy as np
import polars as pl

from rnn_lightning.data.windows import ForecastBatch
from rnn_lightning.errors import InputError, quoted
from rnn_lightning.metrics import gathered_objects

IDS_TOGETHER = 2**22
"""About so many ids of all machines are compared at a time."""


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
