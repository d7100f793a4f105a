"""The callback that turns predictions into a forecast file and a picture."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import MAXYEAR
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import torch

from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.series import SeriesData, counted
from rnn_lightning.errors import InputError
from rnn_lightning.files import SCRATCH, ScratchArray
from rnn_lightning.forecaster import Forecast
from rnn_lightning.tables.forecast_file import (
    PIECE_ROWS,
    ForecastTable,
    forecast_frame,
    history_frame,
    value_columns,
    write_table,
)
from rnn_lightning.tables.panels import named_series, num_shown, telling_series
from rnn_lightning.tables.plausibility import far_outside
from rnn_lightning.tables.summary import remarks

MAX_SERIES = 20
"""The most series that a picture can have."""


class ForecastWriter(L.Callback):
    """Writes ``forecast.csv`` or ``forecast.parquet``, and ``forecast.png``, into the folder of the run.

    The table has the columns of the input, so that it can be appended to the history, and the ends of the
    intervals: ``<feature>-lo-80``, ``<feature>-hi-80``. Every device writes its own
    series into a scratch file of its own in the folder of the run; the first device turns them into the table
    when all have finished.

    Args:
        levels: levels of the intervals in percent; 80 where there are intervals if not given. A network that
            was fitted without validation has intervals with ``num_samples`` only.
        plot: draw the picture; of more than eight features the first ones.
        format: kind of file; Parquet keeps the types of the columns.
        plot_ids: ids of the series in the picture; if none are given and there are more than four, those that
            show most: the largest, a typical one, the smallest, and the one of the widest interval for its
            size.
        num_paths: sampled paths to write, ``<feature>-path-1`` and so on, and to draw.
        phase: draw a second picture, ``phase.png``, of the planes that two features each span.
        theme: draw on white paper, or on a dark screen.
        skip_incomplete: leave out, with a note, the series whose covariates are not known over the horizon;
            refuse to forecast with false.
        output: write the table alone, to this file, .csv or .parquet, or with - to standard output, and leave
            no run folder; ``output`` for short.
    """

    def __init__(
        self,
        levels: list[int] | None = None,
        plot: bool = True,
        format: Literal["csv", "parquet"] = "csv",
        plot_ids: list[str | int] = [],  # noqa: B006
        num_paths: int = 0,
        phase: bool = False,
        theme: Literal["light", "dark"] = "light",
        skip_incomplete: bool = True,
        output: str | None = None,
    ) -> None:
        super().__init__()
        for level in levels or ():
            if not 0 < level < 100:
                raise InputError(f"`levels` must be between 0 and 100 percent, got {level}.")
        if format not in ("csv", "parquet"):
            raise InputError(f"`format` must be csv or parquet, got {format!r}.")
        if len(plot_ids) > MAX_SERIES:
            raise InputError(f"`plot_ids` may name {MAX_SERIES} series at most, got {len(plot_ids)}.")
        if num_paths < 0:
            raise InputError(f"`num_paths` must not be negative, got {num_paths}.")
        if theme not in ("light", "dark"):
            raise InputError(f"`theme` must be light or dark, got {theme!r}.")
        self.levels, self.plot, self.format = levels, plot, format
        self.plot_ids, self.num_paths = [*map(str, plot_ids)], num_paths
        self.phase, self.theme, self.output = phase, theme, output
        self.skip_incomplete = skip_incomplete
        if output is not None:
            self.plot, kind = False, Path(output).suffix.removeprefix(".")
            if output != "-" and kind not in ("csv", "parquet"):
                raise InputError(f"`output` {output}: end it in .csv or .parquet, or give - alone.")
            if not Path(output).parent.is_dir():
                raise InputError(f"`output` {output}: there is no folder {Path(output).parent}.")
            if output != "-":
                self.format = kind  # type: ignore[assignment]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "predict" and self.skip_incomplete:
            _sequence_datamodule(trainer).leave_out_incomplete()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule = _sequence_datamodule(trainer)
        data, num_samples = datamodule.data, datamodule.num_samples
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        self.intervals = next((each for each in callbacks if hasattr(each, "interval_bounds")), None)
        if trainer.is_global_zero:
            validated = 0 if self.intervals is None else self.intervals.horizon
            for remark in [*remarks(data), *_beyond(validated, datamodule.horizon)]:
                print(remark)
        used_levels = [] if self.intervals is None else self.intervals.choose_levels(self.levels, num_samples)
        if self.num_paths > (num_samples or 0):
            raise InputError(
                f"`num_paths` {self.num_paths}: there are {num_samples or 0} sampled paths; raise "
                "`num_samples`."
            )
        if self.phase and len(data.features) < 2:
            raise InputError("`phase` needs two features at least, and there is one.")
        plot_ids = self.plot_ids if self.plot else []
        self.named = dict.fromkeys(named_series(data.ids, plot_ids, "`plot_ids`"), "")
        self.used_levels = used_levels
        _require_calendar(data, datamodule.horizon)
        _require_distinct([data.id_column, data.time_column, *self._columns(data)])
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)
        num_mine = len(range(trainer.global_rank, data.num_series, trainer.world_size))
        num_columns = 1 + 2 * len(self.used_levels) + self.num_paths
        shape = (num_mine, datamodule.horizon, len(data.features), num_columns)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.scratch = [self.folder / SCRATCH.format(rank) for rank in range(trainer.world_size)]
        # A file for each device: machines that write into the same block of a file on a network disk lose
        # rows.
        self.share = ScratchArray(self.scratch[trainer.global_rank], shape)
        self.parent = os.getppid()

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Forecast,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.local_rank > 0 and os.getppid() != self.parent:
            raise RuntimeError(
                "the process that started this one has ended: no one is left to put the forecasts together."
            )
        # Series i is the row i // world_size of device i % world_size, see BatchLoader.
        self.share.values[outputs.series_index.cpu().numpy() // trainer.world_size] = self._values(
            outputs, batch.context
        )

    def _columns(self, data: SeriesData) -> list[str]:
        return value_columns(data.features, self.used_levels, self.num_paths)

    def _values(self, forecast: Forecast, context: torch.Tensor) -> np.ndarray:
        """The point forecast, the ends of the intervals and paths, ``(batch, horizon, feature, column)``."""
        point, samples, columns = forecast.point, forecast.samples, [forecast.point[None]]
        if self.used_levels and self.intervals is not None:
            columns.append(self.intervals.interval_bounds(point, context, self.used_levels, samples=samples))
        if self.num_paths and samples is not None:
            if self.intervals is not None:
                samples = self.intervals.spread_paths(samples, point, context)
            columns.append(samples[: self.num_paths])
        return np.moveaxis(torch.cat(columns).cpu().numpy(), 0, -1)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.share.flush()
        trainer.strategy.barrier("forecasts written")
        if trainer.is_global_zero:
            self._put_together(trainer)
        self.share.close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if hasattr(self, "share"):
            self.share.close()
            self.scratch[trainer.global_rank].unlink(missing_ok=True)

    def _put_together(self, trainer: L.Trainer) -> None:
        """The table and the picture, from what all devices wrote."""
        data = _sequence_datamodule(trainer).data
        table = ForecastTable(self.scratch)
        written = [self.folder / f"forecast.{self.format}"]
        if self.output not in (None, "-"):
            written = [Path(str(self.output))]
        write_table(written[0], data, table, self.used_levels, self.num_paths)
        for path in self.scratch:
            path.unlink()  # the table has them open
        if far := far_outside(data, table):
            more = f" and {len(far) - 3:,} others" if len(far) > 3 else ""
            print(
                f"Warning: the forecast goes far beyond what the series have shown: {', '.join(far[:3])}"
                f"{more}. The network has diverged, or is not trained for this: lower `learning_rate` "
                "or train longer."
            )
        others = ""
        if self.plot:
            drawn = self.named or self._telling(table)
            written += self._draw(data, table, drawn)
            if len(drawn) < data.num_series:
                others = f" ({len(drawn)} of {data.num_series:,} series; others by `plot_ids`)"
        if self.output == "-":
            with written[0].open("rb") as file:
                shutil.copyfileobj(file, sys.__stdout__.buffer)  # type: ignore[union-attr]
            return
        print("Forecast: " + ", ".join(str(path) for path in written) + others)

    def _telling(self, table: ForecastTable) -> dict[int, str]:
        """The series that show most, and what each is."""
        at_once, sizes, widths = max(1, PIECE_ROWS // table.horizon), [], []
        for first in range(0, table.num_series, at_once):
            values = table.rows(first, min(first + at_once, table.num_series))[:, :, 0]
            sizes.append(np.abs(values[..., 0]).mean(1))
            if self.used_levels:
                low, high = 2 * len(self.used_levels) - 1, 2 * len(self.used_levels)
                widths.append((values[..., high] - values[..., low]).mean(1))
        size = np.concatenate(sizes)
        doubt = np.concatenate(widths) / np.maximum(size, 1e-30) if widths else None
        return telling_series(size, doubt, "least certain")

    def _draw(self, data: SeriesData, table: ForecastTable, drawn: Mapping[int, str]) -> list[Path]:
        from rnn_lightning.tables.plots import plot_forecast, plot_phase, save_picture

        series = list(drawn)
        history = history_frame(data, series, num_shown(table.horizon))
        values = np.concatenate([table.rows(index, index + 1) for index in series])
        forecast = forecast_frame(data, series, values, self.used_levels, self.num_paths)
        paths = [self.folder / "forecast.png"]
        columns = {"id_column": data.id_column or "", "time_column": data.time_column}
        if data.num_series == 1:
            columns["id_column"] = ""  # needs no name
        settings: dict[str, Any] = {
            "ids": {data.ids[index]: why for index, why in drawn.items()},
            "features": data.features,
            "theme": self.theme,
            **columns,
        }
        save_picture(plot_forecast(history, forecast, **settings), paths[0])
        if self.phase:
            paths.append(self.folder / "phase.png")
            save_picture(plot_phase(history, forecast, **settings), paths[1])
        return paths


def _require_distinct(columns: Sequence[str | None]) -> None:
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise InputError(f"the forecast would have two columns {twice[0]!r}: rename the one of the table.")


def _beyond(validated: int, horizon: int) -> list[str]:
    """That a horizon is longer than any forecast that was validated."""
    if not 0 < validated < horizon:
        return []
    return [
        f"Note: forecasts were validated up to {counted(validated, 'step')} ahead, and `horizon` is "
        f"{horizon}: nothing has confirmed what lies beyond."
    ]


def _require_calendar(data: SeriesData, horizon: int) -> None:
    """Refuse to forecast beyond the last year that dates can have."""
    last = data.times.stamp_series(range(data.num_series), (data.lengths + horizon - 1).tolist(), 1)
    if last.dtype.is_temporal():
        years = last.dt.year()
        index = int(years.arg_max() or 0)
        if years[index] > MAXYEAR:
            raise InputError(
                f"`horizon` {horizon} leads series {data.ids[index]!r} beyond the year {MAXYEAR}: lower it."
            )


def _sequence_datamodule(trainer: L.Trainer) -> SequenceDataModule:
    datamodule: Any = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, SequenceDataModule):
        raise InputError("ForecastWriter needs predict to be given a SequenceDataModule.")
    return datamodule
