"""The callback that turns predictions into a forecast file and a picture."""

import difflib
import os
from collections.abc import Sequence
from datetime import MAXYEAR
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np

from rnn_lightning.data import SeriesData
from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.summary import remarks
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecast
from rnn_lightning.output.forecast_file import ForecastTable, value_columns, write_table

NUM_SERIES = 4
"""Number of series in a forecast picture, where none are named."""

MAX_SERIES, MAX_FEATURES = 20, 8
"""The most series and features that a picture can have."""


class ForecastWriter(L.Callback):
    """Writes ``forecast.csv`` or ``forecast.parquet``, and ``forecast.png``, into the folder of the run.

    The table has the columns of the input, so that it can be appended to the history, and the ends of the
    intervals where paths were sampled: ``<feature>-lo-80``, ``<feature>-hi-80``. Every device writes its own
    series into a scratch file of its own in the folder of the run; the first device turns them into the table
    when all have finished.

    Args:
        levels: levels of the intervals in percent; they need ``--data.num_samples``.
        plot: draw the picture; of more than eight features the first ones.
        format: kind of file; Parquet keeps the types of the columns.
        plot_ids: ids of the series in the picture; the first four if none are given.
    """

    def __init__(
        self,
        levels: list[int] = [80],  # noqa: B006
        plot: bool = True,
        format: Literal["csv", "parquet"] = "csv",
        plot_ids: list[str | int] = [],  # noqa: B006
    ) -> None:
        super().__init__()
        for level in levels:
            if not 0 < level < 100:
                raise InputError(f"--forecast.levels must be between 0 and 100 percent, got {level}.")
        if format not in ("csv", "parquet"):
            raise InputError(f"--forecast.format must be csv or parquet, got {format!r}.")
        if len(plot_ids) > MAX_SERIES:
            raise InputError(
                f"--forecast.plot_ids may name {MAX_SERIES} series at most, got {len(plot_ids)}."
            )
        self.levels, self.plot, self.format, self.plot_ids = (
            sorted(set(levels)),
            plot,
            format,
            [*map(str, plot_ids)],
        )

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule = _sequence_datamodule(trainer)
        data, num_samples = datamodule.data, datamodule.num_samples
        if num_samples is None and self.levels != [80]:
            raise InputError(
                f"--forecast.levels {self.levels} are those of sampled paths: give --data.num_samples as well."
            )
        if num_samples == 1:
            raise InputError("--data.num_samples 1: an interval needs two sampled paths at least.")
        self.drawn = drawn_series(data, self.plot_ids) if self.plot else []
        self.used_levels = self.levels if num_samples is not None else []
        self.quantiles = [0.5 + sign * level / 200 for level in self.used_levels for sign in (-1, 1)]
        _require_calendar(data, datamodule.horizon)
        _require_distinct([data.id_column, data.time_column, *value_columns(data.features, self.used_levels)])
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)
        num_mine = len(range(trainer.global_rank, data.num_series, trainer.world_size))
        shape = (num_mine, datamodule.horizon, len(data.features), 1 + len(self.quantiles))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.scratch = [self.folder / f".forecast-{rank}.npy" for rank in range(trainer.world_size)]
        # A file for each device: machines that write into the same block of a file on a network disk lose
        # rows.
        self.share = np.lib.format.open_memmap(self.scratch[trainer.global_rank], "w+", np.float32, shape)
        self.share[:] = np.nan
        self.parent = os.getppid()
        if trainer.is_global_zero:
            for remark in remarks(data):
                print(remark)

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
        self.share[outputs.series_index.cpu().numpy() // trainer.world_size] = self._values(outputs)

    def _values(self, forecast: Forecast) -> np.ndarray:
        """The point forecast and the ends of the intervals, ``(batch, horizon, feature, column)``."""
        values = forecast.point[None].cpu().numpy()
        if forecast.samples is not None:
            # Not torch.quantile, which takes 16 million numbers at most.
            bounds = np.quantile(forecast.samples.cpu().numpy(), self.quantiles, axis=0)
            values = np.concatenate([values, bounds])
        return np.moveaxis(values, 0, -1)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.share.flush()
        del self.share
        trainer.strategy.barrier("forecasts written")
        if not trainer.is_global_zero:
            return
        data = _sequence_datamodule(trainer).data
        table = ForecastTable(self.scratch)
        written = [self.folder / f"forecast.{self.format}"]
        write_table(written[0], data, table, self.used_levels)
        for path in self.scratch:
            path.unlink()  # the table has them open
        if self.plot:
            written.append(self.folder / "forecast.png")
            self._draw(written[1], data, table)
        print("Forecast: " + ", ".join(str(path) for path in written))

    def _draw(self, path: Path, data: SeriesData, table: ForecastTable) -> None:
        from rnn_lightning.output.plots import Panel, plot_forecast, save_picture

        panels = []
        for index in self.drawn:
            length, end = int(data.lengths[index]), int(data.ends[index])
            shown = min(length, max(2 * table.horizon, 100))
            values = table.rows(index, index + 1)[0, :, :MAX_FEATURES]
            panels.append(
                Panel(
                    title=data.ids[index] if data.num_series > 1 else "",
                    past=data.times.stamps(index, length - shown, shown),
                    history=data.values[end - shown : end].numpy()[:, :MAX_FEATURES],
                    future=data.times.stamps(index, length, table.horizon),
                    forecast=values[..., 0],
                    band=np.moveaxis(values[..., 1:3], -1, 0) if self.used_levels else None,
                )
            )
        level = self.used_levels[0] if self.used_levels else None
        save_picture(plot_forecast(panels, data.features[:MAX_FEATURES], data.time_column, level), path)


def drawn_series(data: SeriesData, ids: Sequence[str]) -> list[int]:
    """The numbers of the series in the picture: those named, else the first ones.

    Raises:
        InputError: if there is no series of that name; says which there are.
    """
    if not ids:
        return list(range(min(NUM_SERIES, data.num_series)))
    wanted = dict.fromkeys(ids)
    found = {name: index for index, name in enumerate(data.ids) if name in wanted}
    unknown = [name for name in wanted if name not in found]
    if unknown:
        there = list(islice(data.ids, 100_000))  # to compare with more takes seconds
        close = [other for name in unknown for other in difflib.get_close_matches(name, there, 2)]
        shown = ", ".join(map(repr, list(dict.fromkeys([*close, *there[:3]]))[: max(3, len(close))]))
        raise InputError(
            f"--forecast.plot_ids: there is no series {', '.join(map(repr, unknown))}; there are {data.num_series}, such as "
            f"{shown}."
        )
    return [found[name] for name in wanted]


def _require_distinct(columns: Sequence[str | None]) -> None:
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise InputError(f"the forecast would have two columns {twice[0]!r}: rename the one of the table.")


def _require_calendar(data: SeriesData, horizon: int) -> None:
    """Refuse to forecast beyond the last year that dates can have."""
    last = data.times.stamp_series(range(data.num_series), (data.lengths + horizon - 1).tolist(), 1)
    if last.dtype.is_temporal():
        years = last.dt.year()
        index = int(years.arg_max() or 0)
        if years[index] > MAXYEAR:
            raise InputError(
                f"--data.horizon {horizon} leads series {data.ids[index]!r} beyond the year {MAXYEAR}: lower it."
            )


def _sequence_datamodule(trainer: L.Trainer) -> SequenceDataModule:
    datamodule: Any = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, SequenceDataModule):
        raise InputError("ForecastWriter needs predict to be given a SequenceDataModule.")
    return datamodule
