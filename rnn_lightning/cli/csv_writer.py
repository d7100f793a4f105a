"""The plain forecast file of numbered steps, for a copy of the package without the folder ``tables``."""

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np

from rnn_lightning.files import atomic_file
from rnn_lightning.metrics import gathered_objects


@dataclass
class CsvOptions:
    """Options of the plain forecast file.

    Args:
        output: write the table to this file, or with - to standard output, and leave no run folder.
    """

    output: str | None = None


class CsvWriter(L.Callback):
    """Write ``forecast.csv``: the columns ``unique_id``, ``ds`` and the features, series in their order."""

    def __init__(self, options: CsvOptions | None = None) -> None:
        self.output = (options or CsvOptions()).output

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.forecasts: dict[int, list[list[float]]] = {}  # (horizon, feature) of each series

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.forecasts |= zip(outputs.series_index.tolist(), outputs.point.tolist(), strict=True)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        gathered = gathered_objects(self.forecasts)
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # asks all devices
        if not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule.data  # type: ignore[attr-defined]
        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["unique_id", "ds", *data.features])
        for index, point in sorted(item for forecasts in gathered for item in forecasts.items()):
            steps = int(data.lengths[index]) + np.arange(len(point))
            stamps = data.times.stamps_at(np.full(len(point), index), steps)
            rows.writerows([data.ids[index], stamp, *row] for stamp, row in zip(stamps, point, strict=True))
        if self.output == "-":
            sys.__stdout__.write(text.getvalue())  # type: ignore[union-attr]
            return
        path = Path(self.output or folder / "forecast.csv")
        with atomic_file(path) as file:
            file.write(text.getvalue().encode())
        print(f"Forecast: {path}")
