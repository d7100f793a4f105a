"""The forecast file: from what the devices wrote to one table in the order of the series."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnn_lightning.errors import InputError
from rnn_lightning.series import SeriesData


class ForecastTable:
    """Forecasts in the order of the series, from the shares that the devices wrote; no more is read than is asked for.

    Args:
        paths: the shares in the order of the devices; series ``i`` is row ``i // n`` of share ``i % n``.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if not path.exists():
                raise InputError(f"{path} is missing: predict on several machines needs a disk for runs that all share.")
        self.shares = [np.lib.format.open_memmap(path, "r") for path in paths]
        self.num_series, self.horizon = sum(len(share) for share in self.shares), self.shares[0].shape[1]

    def rows(self, first: int, end: int) -> np.ndarray:
        """The forecasts of series ``first`` to before ``end``, ``(series, horizon, feature, column)``."""
        num = len(self.shares)
        return np.stack([self.shares[index % num][index // num] for index in range(first, end)])


def write_table(path: Path, data: SeriesData, table: ForecastTable, columns: Sequence[str]) -> None:
    """Write the forecasts as CSV, some series at a time, whole or not at all."""
    import polars as pl

    num_series, horizon = table.num_series, table.horizon
    at_once = max(1, 1_000_000 // horizon)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        for first in range(0, num_series, at_once):
            chosen = range(first, min(first + at_once, num_series))
            frame: dict[str, Any] = {}
            if data.id_column is not None:
                frame[data.id_column] = [data.ids[index] for index in chosen for _ in range(horizon)]
            stamps = [data.times.stamps(index, int(data.lengths[index]), horizon) for index in chosen]
            frame[data.time_column] = [stamp for of_series in stamps for stamp in of_series]
            values = table.rows(chosen.start, chosen.stop).reshape(-1, len(columns))
            frame |= {name: values[:, column] for column, name in enumerate(columns)}
            pl.DataFrame(frame).write_csv(file, include_header=first == 0)
    os.replace(temporary, path)
