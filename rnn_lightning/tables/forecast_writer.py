"""The callback that turns predictions into a forecast file and a picture."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as L

from rnn_lightning.data.windows import ForecastBatch
from rnn_lightning.errors import InputError
from rnn_lightning.files import SCRATCH
from rnn_lightning.rollout import Forecast
from rnn_lightning.tables.datamodule import TableDataModule
from rnn_lightning.tables.forecast_file import join_tables
from rnn_lightning.tables.forecast_options import ForecastOptions, find_intervals
from rnn_lightning.tables.table_writer import TableWriter


class ForecastWriter(L.Callback):
    """Writes ``forecast.csv`` or ``forecast.parquet``, and ``forecast.png``, into the run folder.

    The table has the columns of the input, so that it can be appended to the history, and after each feature
    the bounds of its prediction intervals, ``<feature>-lo-80`` and ``<feature>-hi-80``. Each device writes
    its series to a scratch file of its own; when all have finished, the first device merges these files.

    Args:
        options: what to write.

    Attributes:
        quiet: print no notes, only the paths of the files.
    """

    quiet = False

    def __init__(self, options: ForecastOptions | None = None) -> None:
        super().__init__()
        self.options = options or ForecastOptions()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "predict" and self.options.skip_incomplete:
            _datamodule(trainer).leave_out_incomplete()
        if self.options.point != "auto":
            if not hasattr(pl_module, "point"):
                raise InputError(f"`point`: {type(pl_module).__name__} gives point forecasts of one kind.")
            setattr(pl_module, "point", self.options.point)  # noqa: B010

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule, intervals = _datamodule(trainer), find_intervals(trainer)
        options, self.shares = self.options, datamodule.shares_files
        if self.shares:  # the first machine alone draws
            options = replace(options, plot=options.plot and trainer.node_rank == 0)
        self.writer = TableWriter(options, datamodule, pl_module.network, intervals)
        for note in self.writer.notes() if trainer.is_global_zero and not self.quiet else []:
            print(note)
        machine = f"{trainer.node_rank}-" if self.shares else ""
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        self.writer.open(folder, machine, datamodule.first_series)
        self.parent_process = os.getppid()

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Forecast,
        batch: ForecastBatch,
        *_: int,
    ) -> None:
        if trainer.local_rank > 0 and os.getppid() != self.parent_process:
            raise RuntimeError(
                "the process that started this one has ended: no process is left to merge the forecasts."
            )
        self.writer.add(outputs, batch)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.writer.share.flush()
        trainer.strategy.barrier("forecasts written")
        if self.shares:
            self._join(trainer)
        elif trainer.is_global_zero:
            self.writer.write()
        self.writer.share.close()

    def _join(self, trainer: L.Trainer) -> None:
        """Write a table on each machine, and join them on the first."""
        path = self.options.path_in(self.writer.folder)
        names = (SCRATCH.format(f"{machine}{path.suffix}") for machine in range(trainer.num_nodes))
        parts = [self.writer.folder / name for name in names]
        if trainer.local_rank == 0:
            self.writer.write_table(parts[trainer.node_rank], header=trainer.node_rank == 0)
        trainer.strategy.barrier("tables written")
        if trainer.is_global_zero:
            join_tables(parts, path)
            self.writer.finish(path)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if hasattr(self, "writer") and hasattr(self.writer, "share"):
            self.writer.discard()


def _datamodule(trainer: L.Trainer) -> TableDataModule:
    datamodule: Any = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, TableDataModule):
        raise InputError("ForecastWriter needs a TableDataModule: pass one to predict.")
    return datamodule
