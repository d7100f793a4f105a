"""From a frame to a frame: what follows the series of a table in memory."""

import inspect
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import lightning.pytorch as L
import numpy as np
import torch

from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.prediction_intervals import PredictionIntervals
from rnn_lightning.tables.forecast_file import forecast_frame as frame_of
from rnn_lightning.tables.forecast_file import with_types
from rnn_lightning.tables.table import TableSeries

if TYPE_CHECKING:
    import polars as pl

    from rnn_lightning.forecaster import Forecaster
    from rnn_lightning.tables.panels import Frame

READING = (*inspect.signature(TableSeries.__init__).parameters,)[2:]
"""How a table is read: the options of ``TableSeries`` but its path."""


def forecast_frame(
    forecaster: "Forecaster",
    frame: "Frame",
    horizon: int | None,
    num_samples: int | None,
    levels: Sequence[int] | None,
    num_paths: int,
    seed: int,
    skip_incomplete: bool,
    options: Mapping[str, Any],
    intervals: PredictionIntervals | None = None,
) -> "Frame":
    """See ``Forecaster.forecast_frame``."""
    import polars as pl

    unknown = set(options) - set(READING)
    if unknown:
        raise InputError(f"there is no option {unknown.pop()!r}; there are {', '.join(READING)}.")
    trained = forecaster.table_options
    reading = {name: value for name, value in trained.items() if name in READING}
    settings: dict[str, Any] = {"num_samples": num_samples, "seed": seed}
    settings |= {name: trained.get(name, "auto") for name in ("context_length", "season", "horizon")}
    if horizon is not None:
        settings["horizon"] = horizon
    if num_paths > (num_samples or 0):
        raise InputError(f"num_paths {num_paths}: raise num_samples, which is {num_samples or 0}.")
    data = SequenceDataModule(TableSeries(frame, **{**reading, **options}), **settings)
    intervals = intervals or PredictionIntervals()
    callbacks = [intervals, Preparation(skip_incomplete)]
    forecasts: Any = quiet_trainer(forecaster, callbacks).predict(forecaster, data)
    bounds = intervals.choose_levels(levels, num_samples)
    values = []
    for forecast, batch in zip(forecasts, data.predict_dataloader(), strict=True):
        point, samples, context = forecast.point, forecast.samples, batch.context
        parts = [point[None]]
        if bounds:
            parts.append(intervals.interval_bounds(point, context, bounds, samples=samples))
        if num_paths:
            parts.append(intervals.spread_paths(samples, point, context)[:num_paths])
        values.append(torch.cat(parts).movedim(0, -1).cpu().numpy())
    series = range(data.data.num_series)
    table = frame_of(data.data, series, np.concatenate(values), bounds, num_paths)
    table = with_types(data.data, table, bounds, num_paths)
    return table if isinstance(frame, pl.DataFrame) else to_pandas(table, frame)


class Preparation(L.Callback):
    """Sees to series that cannot be forecast.

    Args:
        skip_incomplete: leave out, with a warning, series whose covariates are not known over the horizon.
    """

    def __init__(self, skip_incomplete: bool) -> None:
        self.skip_incomplete = skip_incomplete

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        if self.skip_incomplete and (note := datamodule.leave_out_incomplete()):
            warnings.warn(note, stacklevel=2)


def quiet_trainer(forecaster: "Forecaster", callbacks: list[L.Callback]) -> L.Trainer:
    """A Trainer on the device of the network, which writes and says nothing."""
    said = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = said.level
    said.setLevel(logging.ERROR)
    names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    device = "cpu" if forecaster.device.type == "cpu" else "auto"
    try:
        quiet: dict[str, Any] = dict.fromkeys(names, False)
        return L.Trainer(accelerator=device, devices=1, callbacks=callbacks, **quiet)
    finally:
        said.setLevel(level)


def to_pandas(table: "pl.DataFrame", frame: Any) -> Any:
    """A pandas frame, made without pyarrow; its ids and stamps have the types of those in ``frame``."""
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]

    given = frame.reset_index() if any(name is not None for name in frame.index.names) else frame
    columns = {}
    for column in table.iter_columns():
        wanted = given[column.name].dtype if column.name in given.columns else None
        zone = getattr(column.dtype, "time_zone", None)
        if column.dtype.is_float():
            cells = pd.Series(column.to_numpy())
        elif not column.dtype.is_temporal() or str(wanted) == "object":
            cells = pd.Series(column.to_list(), dtype=wanted)
        elif zone is None:
            cells = pd.Series(column.to_numpy()).astype(wanted)
        else:
            cells = pd.Series(column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy())
            cells = cells.dt.tz_localize("UTC").dt.tz_convert(zone)
            cells = cells.astype(wanted) if hasattr(wanted, "tz") else cells
        columns[column.name] = cells
    return pd.DataFrame(columns)
