"""From forecasts to a forecast file and a picture: a file of values for each device, merged by the first."""

import contextlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lightning.data.batches import SequenceBatches
from rnn_lightning.data.windows import ForecastBatch
from rnn_lightning.files import SCRATCH, ScratchArray
from rnn_lightning.tables.files import require_apart
from rnn_lightning.tables.forecast_checks import (
    check_forecast,
    closed_series,
    notes_on_covariates,
    notes_on_long_seasons,
    notes_on_other_series,
    warn_if_diverged,
)
from rnn_lightning.tables.forecast_file import ForecastTable, history_table, make_table, write_table
from rnn_lightning.tables.forecast_options import (
    WITH_INTERVALS,
    ForecastColumns,
    ForecastOptions,
    choose_columns,
)
from rnn_lightning.tables.panels import find_series, num_history_steps, representative_series
from rnn_lightning.tables.summary import seasons_text, summarize_seasons
from rnn_lightning.tables.table_data import TableData, as_table_data

if TYPE_CHECKING:
    from rnn_lightning import CalibratedIntervals


class TableWriter:
    """Collects the forecasts of this device, and writes those of all devices as a table and a picture.

    Args:
        options: what to write.
        batches: the series and the sizes of the forecasts.
        network: the network that forecasts.
        intervals: calibrated prediction intervals, or None.
    """

    def __init__(
        self,
        options: ForecastOptions,
        batches: SequenceBatches,
        network: Any,
        intervals: "CalibratedIntervals | None",
    ) -> None:
        if options.output not in (None, "-"):
            require_apart(str(options.output), getattr(batches.series, "path", None))
        self.options, self.batches, self.network = options, batches, network
        self.plot = options.plot and options.output is None
        data = as_table_data(batches.data)
        self.columns = choose_columns(options, batches.num_samples, intervals)
        plot_ids = [str(name) for name in options.plot_ids] if self.plot else []
        self.plotted = dict.fromkeys(find_series(data.ids, plot_ids, "`plot_ids`"), "")
        validated = intervals.horizon if intervals is not None else 0
        self.remarks = check_forecast(data, self.columns, batches.horizon, validated)

    def notes(self) -> list[str]:
        """Return what to know of the forecast before it is made."""
        data = as_table_data(self.batches.data)
        notes = [f"Season: {seasons_text(summarize_seasons(data))}", *self.remarks]
        notes += notes_on_long_seasons(data, self.network)
        notes += notes_on_other_series(data, getattr(self.batches, "ids_of_fit", ()))
        notes += notes_on_covariates(data, self.network, self.batches.horizon)
        if self.options.levels is None and not self.columns.levels:
            notes.append(f"Note: no validation has calibrated prediction intervals: {WITH_INTERVALS}.")
        return notes

    def open(self, folder: Path, machine: str = "", first_series: int = 0) -> None:
        """Make the file of values of this device in the folder of the run.

        Machines that have series of their own give their name, and the number of their first series.
        """
        (rank, self.world_size), data = self.batches.devices, as_table_data(self.batches.data)
        self.folder, self.first_series = folder, first_series
        folder.mkdir(parents=True, exist_ok=True)
        # One file for each device: machines that write to the same block of a file on a network disk lose
        # rows.
        self.scratch = [folder / SCRATCH.format(f"{machine}{each}.npy") for each in range(self.world_size)]
        num_series = len(range(rank, data.num_series, self.world_size))
        num_columns = len(self.columns.names([""]))
        shape = (num_series, self.batches.horizon, len(data.features), num_columns)
        self.share = ScratchArray(self.scratch[rank], shape)

    def add(self, forecast: Any, batch: ForecastBatch) -> None:
        """Keep the forecasts of a batch."""
        # Series i is row i // world_size of device i % world_size, see BatchLoader.
        rows = (forecast.series_index.cpu().numpy() - self.first_series) // self.world_size
        self.share.values[rows] = self.columns.values(forecast, batch)

    def discard(self) -> None:
        """Remove the file of this device."""
        self.share.close()
        self.scratch[self.batches.devices[0]].unlink(missing_ok=True)

    def write(self) -> None:
        """Write the table and the picture from the files of all devices."""
        path = self.options.path_in(self.folder)
        self.write_table(path)
        self.finish(path)

    def write_table(self, path: Path, header: bool = True) -> None:
        """Write the table from the files of all devices that have the same series."""
        data, self.table = as_table_data(self.batches.data), ForecastTable(self.scratch)
        write_table(path, data, self.table, self.columns, header)
        for scratch in self.scratch:
            with contextlib.suppress(PermissionError):  # Windows: the table keeps them open
                scratch.unlink()
        for warning in warn_if_diverged(data, self.table):
            print(warning)

    def finish(self, path: Path) -> None:
        """Draw the picture, and say where everything is."""
        data, table, written = as_table_data(self.batches.data), self.table, str(path)
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


def _representative(table: ForecastTable, columns: ForecastColumns) -> dict[int, str]:
    """Choose the series to draw by the first feature, if none are named."""
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
    from rnn_lightning.pictures import save_png
    from rnn_lightning.tables.plots import plot_forecast

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
    save_png(figure, path)
