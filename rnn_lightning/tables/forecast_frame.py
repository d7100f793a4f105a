"""Forecasts of tables in memory: from a frame to a frame."""

import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as L
import numpy as np
import torch

from rnn_lightning.data.windows import ForecastBatch
from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecast, Forecaster
from rnn_lightning.tables.datamodule import TableDataModule
from rnn_lightning.tables.forecast_checks import closed_series, note_if_covariates_are_far
from rnn_lightning.tables.forecast_file import make_table, with_input_types
from rnn_lightning.tables.forecast_options import (
    ForecastOptions,
    IntervalSource,
    choose_columns,
    find_intervals,
)
from rnn_lightning.tables.pandas_frames import index_as_column
from rnn_lightning.tables.table import table_as_in_fit
from rnn_lightning.tables.table_data import as_table_data

if TYPE_CHECKING:
    import polars as pl

    from rnn_lightning.tables.panels import Frame


def forecast_frame(
    forecaster: Forecaster | str | Path,
    frame: "Frame",
    horizon: int | None = None,
    *,
    levels: Sequence[int] | None = None,
    quantiles: Sequence[float] = (),
    num_samples: int | None = None,
    num_paths: int = 0,
    seed: int = 0,
    skip_incomplete: bool = True,
    intervals: IntervalSource | None = None,
    **options: Any,
) -> "Frame":
    """Forecast the series of a table in memory.

    Args:
        forecaster: a fitted ``Forecaster``, or the path of a checkpoint.
        frame: a polars or pandas frame with the columns of the table that the network was fitted on, or a
            pandas Series. The covariates of the horizon follow the last known values.
        horizon: number of steps to forecast; by default the horizon of the fit.
        levels: levels of the prediction intervals in percent, ``[]`` for no intervals. By default 80 where
            intervals are available: from validation, or from sampled paths.
        quantiles: quantiles between 0 and 1 to return as well, 0.1 as ``<feature>-q-10``; 0.1 and 0.9 are the
            bounds of the level 80, and 0.5 is the point forecast.
        num_samples: number of sampled paths of each series; by default only a point forecast.
        num_paths: number of sampled paths to return, as ``<feature>-path-1`` and so on.
        seed: seed of the sampled paths.
        skip_incomplete: leave out series whose covariates are not known over the whole horizon, with a
            warning. If False, raise InputError.
        intervals: calibrated prediction intervals, such as those of the callback of the fit; by default those
            of ``fit_frame``, or that the checkpoint keeps. A network that was never trained has its own.
        options: arguments of ``TableSeries`` that differ from those of the fit, such as ``id_column``.

    Returns:
        A frame of the kind of ``frame``, with the columns of the forecast file: those of the input, and after
        each feature ``<feature>-lo-80``, ``<feature>-hi-80`` and so on.

    Raises:
        InputError: if the network was not fitted, the table cannot be read, covariates of the horizon are not
            known, or intervals are asked for and not available.
    """
    import polars as pl

    if not isinstance(forecaster, Forecaster):
        forecaster, kept = _load(Path(forecaster))
        intervals = intervals or kept
    forecaster.require_fitted()
    settings: dict[str, Any] = {"num_samples": num_samples, "seed": seed}
    settings |= {} if horizon is None else {"horizon": horizon}
    datamodule = _read_as_in_fit(forecaster.data_facts, frame, options, settings)
    chosen = None if levels is None else [*levels]
    wanted: dict[str, Any] = {"levels": chosen, "quantiles": [*quantiles], "num_paths": num_paths}
    collector = _Collector(ForecastOptions(**wanted, skip_incomplete=skip_incomplete))
    intervals = intervals or getattr(forecaster, "intervals", None) or _new_intervals()
    callbacks: list[Any] = [collector] if intervals is None else [intervals, collector]
    quiet_trainer(forecaster, callbacks).predict(forecaster, datamodule, return_predictions=False)
    data, values = as_table_data(datamodule.data), np.concatenate(collector.values)
    table = make_table(data, range(data.num_series), values, collector.columns)
    table = with_input_types(data, table, collector.columns)
    if isinstance(frame, pl.DataFrame):
        return table
    return _to_pandas(table, index_as_column(frame, data.time_column, *data.features[:1]))


def _read_as_in_fit(
    fitted: Mapping[str, Any], frame: "Frame", options: Mapping[str, Any], settings: Mapping[str, Any]
) -> TableDataModule:
    """Return the data module of a frame, with the options and settings of the fit where none are given."""
    sizes = {name: fitted.get(name, "auto") for name in ("context_length", "season", "horizon")}
    return TableDataModule(table_as_in_fit(fitted, frame, options), **{**sizes, **settings})


class _Collector(L.Callback):
    """Collects the values of all forecasts in memory, as ``ForecastWriter`` does in a file."""

    def __init__(self, options: ForecastOptions) -> None:
        self.options, self.values = options, list[np.ndarray]()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        datamodule.require_frequencies(getattr(pl_module, "data_facts", {}).get("frequencies", []))
        if self.options.skip_incomplete and (note := datamodule.leave_out_incomplete()):
            warnings.warn(note, stacklevel=2)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        intervals = find_intervals(trainer)
        self.columns = choose_columns(self.options, datamodule.num_samples, intervals)
        data = as_table_data(datamodule.data)
        closed_series(data, datamodule.horizon)
        for note in note_if_covariates_are_far(data, pl_module.network, datamodule.horizon):
            warnings.warn(note, stacklevel=2)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Forecast,
        batch: ForecastBatch,
        *_: int,
    ) -> None:
        self.values.append(self.columns.values(outputs, batch))


def _load(path: Path) -> tuple[Forecaster, IntervalSource | None]:
    """Return the network of a checkpoint and its intervals; a class of the user's own must load itself."""
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}.")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    module, _, name = str(checkpoint.get("forecaster_class")).rpartition(".")
    own = module.startswith("rnn_lightning.")
    kind = getattr(importlib.import_module(module), name) if own else Forecaster
    forecaster = kind.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    intervals: Any = _new_intervals()
    return forecaster, None if intervals is None else type(intervals).from_checkpoint(path)


def _new_intervals() -> IntervalSource | None:
    """Return intervals that calibrate a network which was never trained; None without ``evaluation/``."""
    try:
        from rnn_lightning import PredictionIntervals
    except ImportError:
        return None
    return PredictionIntervals()


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep what Lightning says of devices and loaders from the screen."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def quiet_trainer(forecaster: Forecaster, callbacks: list[Any], **settings: Any) -> L.Trainer:
    """Return a Trainer on the device of the network that writes no files and prints nothing."""
    names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet: dict[str, Any] = dict.fromkeys(names, False)
    accelerator = "cpu" if forecaster.device.type == "cpu" else "auto"
    with quiet_lightning():
        return L.Trainer(accelerator=accelerator, devices=1, callbacks=callbacks, **quiet, **settings)


def _to_pandas(table: "pl.DataFrame", given: Any) -> Any:
    """Return a table as a pandas frame, without pyarrow, with the types of ids and stamps as ``given``."""
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]

    columns = {}
    for column in table.iter_columns():
        if column.dtype.is_float():
            columns[column.name] = pd.Series(column.to_numpy())
        else:
            columns[column.name] = pd.Series(column.to_list(), dtype=given[column.name].dtype)
    return pd.DataFrame(columns)
