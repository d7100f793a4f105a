"""The callback that turns predictions into a forecast file and a picture."""

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np

from rnn_lightning.data.windows import ForecastBatch
from rnn_lightning.errors import InputError
from rnn_lightning.files import SCRATCH, ScratchArray
from rnn_lightning.forecaster import Forecast
from rnn_lightning.tables.datamodule import TableDataModule
from rnn_lightning.tables.forecast_checks import (
    check_forecast,
    closed_series,
    note_if_covariates_are_far,
    warn_if_diverged,
)
from rnn_lightning.tables.forecast_file import ForecastTable, history_table, make_table, write_table
from rnn_lightning.tables.forecast_options import (
    WITH_INTERVALS,
    ForecastColumns,
    ForecastOptions,
    choose_columns,
    find_intervals,
)
from rnn_lightning.tables.panels import find_series, num_history_steps, representative_series
from rnn_lightning.tables.summary import seasons_text, summarize_seasons
from rnn_lightning.tables.table_data import TableData, as_table_data


class ForecastWriter(L.Callback):
    """Writes ``forecast.csv`` or ``forecast.parquet``, and ``forecast.png``, into the run folder.

    The table has the columns of the input, so that it can be appended to the history, and after each feature
    the bounds of its prediction intervals, ``<feature>-lo-80`` and ``<feature>-hi-80``. Each device writes
    its series to a scratch file of its own; when all have finished, the first device merges these files.

    Args:
        options: what to write.
    """

    def __init__(self, options: ForecastOptions | None = None) -> None:
        super().__init__()
        self.options = options or ForecastOptions()
        self.plot = self.options.plot and self.options.output is None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "predict" and self.options.skip_incomplete:
            _datamodule(trainer).leave_out_incomplete()
        if self.options.point != "auto":
            if not hasattr(pl_module, "point"):
                raise InputError(f"`point`: {type(pl_module).__name__} gives point forecasts of one kind.")
            setattr(pl_module, "point", self.options.point)  # noqa: B010

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule = _datamodule(trainer)
        data, horizon = as_table_data(datamodule.data), datamodule.horizon
        intervals = find_intervals(trainer)
        self.columns = choose_columns(self.options, datamodule.num_samples, intervals)
        plot_ids = [str(name) for name in self.options.plot_ids] if self.plot else []
        self.plotted = dict.fromkeys(find_series(data.ids, plot_ids, "`plot_ids`"), "")
        validated = intervals.horizon if intervals is not None else 0
        notes = check_forecast(data, self.columns, horizon, validated)
        notes = [f"Season: {seasons_text(summarize_seasons(data))}", *notes]
        notes += note_if_covariates_are_far(data, pl_module.network, horizon)
        if self.options.levels is None and not self.columns.levels:
            notes.append(f"Note: no validation has calibrated prediction intervals: {WITH_INTERVALS}.")
        for note in notes if trainer.is_global_zero else []:
            print(note)
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        # One file for each device: machines that write to the same block of a file on a network disk lose
        # rows.
        self.scratch = [self.folder / SCRATCH.format(rank) for rank in range(trainer.world_size)]
        num_series = len(range(trainer.global_rank, data.num_series, trainer.world_size))
        shape = (num_series, horizon, len(data.features), len(self.columns.names([""])))
        self.share = ScratchArray(self.scratch[trainer.global_rank], shape)
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
        # Series i is row i // world_size of device i % world_size, see BatchLoader.
        rows = outputs.series_index.cpu().numpy() // trainer.world_size
        self.share.values[rows] = self.columns.values(outputs, batch)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.share.flush()
        trainer.strategy.barrier("forecasts written")
        if trainer.is_global_zero:
            self._write(as_table_data(_datamodule(trainer).data))
        self.share.close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if hasattr(self, "share"):
            self.share.close()
            self.scratch[trainer.global_rank].unlink(missing_ok=True)

    def _write(self, data: TableData) -> None:
        """Write the table and the picture from the files of all devices."""
        table, path = ForecastTable(self.scratch), self.options.path_in(self.folder)
        write_table(path, data, table, self.columns)
        for scratch in self.scratch:
            with contextlib.suppress(PermissionError):  # Windows: the table keeps them open
                scratch.unlink()
        for warning in warn_if_diverged(data, table):
            print(warning)
        written = str(path)
        if self.plot:
            plotted = self.plotted or _representative(table, self.columns)
            picture = self.folder / "forecast.png"
            _draw(picture, data, table, self.columns, plotted)
            written += f", {picture}"
            if len(plotted) < data.num_series:
                written += f" ({len(plotted)} of {data.num_series:,} series; choose others by `plot_ids`)"
        if self.options.output == "-":
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.__stdout__.buffer)  # type: ignore[union-attr]
        else:
            print(f"Forecast: {written}")


def _datamodule(trainer: L.Trainer) -> TableDataModule:
    datamodule: Any = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, TableDataModule):
        raise InputError("ForecastWriter needs a TableDataModule: pass one to predict.")
    return datamodule


def _representative(table: ForecastTable, columns: ForecastColumns) -> dict[int, str]:
    """Return the series to draw where none are named, by the first feature."""
    means = []
    for chunk in table.chunks():
        values = table.rows(chunk)[:, :, 0]  # (series, horizon, column)
        mean = [np.abs(values[..., 0]).mean(1)]
        if columns.levels:
            low, high = 2 * len(columns.levels) - 1, 2 * len(columns.levels)  # of the widest interval
            mean.append((values[..., high] - values[..., low]).mean(1))
        means.append(np.stack(mean))
    sizes, *widths = np.concatenate(means, 1)
    return representative_series(sizes, widths[0] if widths else None)


def _draw(
    path: Path, data: TableData, table: ForecastTable, columns: ForecastColumns, plotted: Mapping[int, str]
) -> None:
    from rnn_lightning.tables.plots import plot_forecast, save_picture

    closed = closed_series(data, table.horizon)
    plotted = {index: remark for index, remark in plotted.items() if index not in closed}
    if not plotted:
        return
    series = list(plotted)
    values = np.concatenate([table.rows(range(index, index + 1)) for index in series])
    figure = plot_forecast(
        history_table(data, series, num_history_steps(table.horizon)),
        make_table(data, series, values, columns),
        {data.ids[index]: remark for index, remark in plotted.items()},
        features=data.features,
        id_column=data.id_column or "" if data.num_series > 1 else "",  # a single series needs no title
        time_column=data.time_column,
    )
    save_picture(figure, path)
