"""Forecasts of tables in memory: from a frame to a frame."""

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rnn_lightning.errors import InputError
from rnn_lightning.rollout import evaluating
from rnn_lightning.tables.batches import TableBatches
from rnn_lightning.tables.forecast_checks import closed_series, notes_on_covariates
from rnn_lightning.tables.forecast_file import make_table, with_input_types
from rnn_lightning.tables.forecast_options import (
    ForecastColumns,
    ForecastOptions,
    choose_columns,
    if_calibrated,
)
from rnn_lightning.tables.pandas_frames import index_as_column
from rnn_lightning.tables.table import table_as_in_fit
from rnn_lightning.tables.table_data import as_table_data

if TYPE_CHECKING:
    import polars as pl

    from rnn_lightning import BundledForecaster, CalibratedIntervals, Forecaster
    from rnn_lightning.tables.panels import Frame


def forecast_frame(
    forecaster: "Forecaster | BundledForecaster | str | Path | None",
    frame: "Frame",
    horizon: int | None = None,
    *,
    levels: Sequence[int] | int | None = None,
    quantiles: Sequence[float] = (),
    num_samples: int | None = None,
    num_paths: int = 0,
    seed: int = 0,
    skip_incomplete: bool = True,
    intervals: "CalibratedIntervals | None" = None,
    **options: Any,
) -> "Frame":
    """Forecast the series of a table in memory.

    Args:
        forecaster: a fitted ``Forecaster``, or the path of a checkpoint; None for the bundled network, which
            was not fitted to these series and needs no Lightning.
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
            of ``fit_frame``, or those in the checkpoint of the network. A network that was never trained has
            its own.
        options: arguments of ``TableSeries`` that differ from those of the fit, such as ``id_column``.

    Returns:
        A frame of the kind of ``frame``, with the columns of the forecast file: those of the input, and after
        each feature ``<feature>-lo-80``, ``<feature>-hi-80`` and so on.

    Raises:
        InputError: if the network was not fitted, the table is a path or cannot be read, covariates of the
            horizon are not known, or intervals are asked for and not available.
    """
    import polars as pl

    if isinstance(frame, str | Path):
        advice = "read the file first, such as by pl.read_csv(path, try_parse_dates=True)"
        raise InputError(f"`frame` is the path {frame}: {advice}, or call the command predict.")
    if isinstance(frame, pl.LazyFrame):
        raise InputError("`frame` is a LazyFrame: give frame.collect().")
    if isinstance(frame, np.ndarray):
        advice = "give a frame with a column of times, or call Forecaster.forecast(array, horizon)"
        raise InputError(f"`frame` is an array: {advice}.")
    if isinstance(forecaster, type):
        raise InputError(f"`forecaster` is the class {forecaster.__name__}: give {forecaster.__name__}().")
    network: Any = forecaster
    if forecaster is None:
        from rnn_lightning import BundledForecaster

        network = BundledForecaster()
    elif isinstance(forecaster, str | Path):
        network = _load(Path(forecaster))
    if hasattr(network, "require_fitted"):
        network.require_fitted()
    settings: dict[str, Any] = {"num_samples": num_samples, "seed": seed}
    settings |= {} if horizon is None else {"horizon": horizon}
    fitted = network.data_facts
    sizes = {name: fitted.get(name, "auto") for name in ("context_length", "season", "horizon")}
    batches = TableBatches(table_as_in_fit(fitted, frame, options), **{**sizes, **settings})
    batches.forecaster = network
    batches.setup("predict")
    batches.require_frequencies(fitted.get("frequencies", []))
    if skip_incomplete and (note := batches.leave_out_incomplete()):
        warnings.warn(note, stacklevel=2)
    chosen = [levels] if isinstance(levels, int) else None if levels is None else [*levels]
    columns_wanted: dict[str, Any] = {"levels": chosen, "quantiles": [*quantiles], "num_paths": num_paths}
    wanted = ForecastOptions(**columns_wanted, skip_incomplete=skip_incomplete)
    if chosen == [] and not quantiles and num_samples is None:  # to calibrate costs more than the forecast
        intervals = None
    else:
        intervals = intervals or _own_intervals(network)
    network.take_sizes(batches)
    with evaluating(network):
        columns, values = _forecast(network, batches, wanted, intervals)
    data = as_table_data(batches.data)
    table = make_table(data, range(data.num_series), values, columns)
    table = with_input_types(data, table, columns)
    if isinstance(frame, pl.DataFrame):
        return table
    return _to_pandas(table, index_as_column(frame, data.time_column, *data.features[:1]))


def _forecast(
    forecaster: Any, batches: TableBatches, options: ForecastOptions, intervals: Any
) -> tuple[ForecastColumns, np.ndarray]:
    """Return the columns of the forecasts of all series, and their values in the order of the series."""
    if hasattr(intervals, "calibrate_for") and not forecaster.is_trained:
        intervals.calibrate_for(forecaster, batches, batches.data.ends)
    columns = choose_columns(options, batches.num_samples, if_calibrated(intervals))
    if options.levels is None and not columns.levels and not forecaster.is_trained:
        warnings.warn("there are too few values to calibrate prediction intervals.", stacklevel=3)
    data = as_table_data(batches.data)
    closed_series(data, batches.horizon)
    for note in notes_on_covariates(data, forecaster.network, batches.horizon):
        warnings.warn(note, stacklevel=3)
    values = []
    for batch in batches.predict_dataloader():
        batch = batch.to(forecaster.device)
        values.append(columns.values(forecaster.predict_step(batch, 0), batch))
    return columns, np.concatenate(values)


def _load(path: Path) -> "Forecaster":
    """Return the network of a checkpoint; a class of the user's own must load itself."""
    from rnn_lightning.forecaster import Forecaster

    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of torch, zip or pickle
        what = " ".join(str(error).split())[:100]
        raise InputError(f"{path} is no checkpoint, or a damaged one ({what}).") from error
    if not isinstance(checkpoint, dict) or "hyper_parameters" not in checkpoint:
        raise InputError(f"{path} is no checkpoint of a forecaster: it has no hyperparameters.")
    module, _, name = str(checkpoint.get("forecaster_class")).rpartition(".")
    own = module.startswith("rnn_lightning.")
    kind = getattr(importlib.import_module(module), name) if own else Forecaster
    return kind.load_from_checkpoint(path, map_location="cpu", weights_only=True)


def _own_intervals(forecaster: Any) -> "CalibratedIntervals | None":
    """Return the intervals of the fit, or new ones for a network that was never trained."""
    try:
        if not forecaster.is_trained:  # not the callback, which needs Lightning
            from rnn_lightning import CalibratedIntervals

            return CalibratedIntervals()
        from rnn_lightning import PredictionIntervals

        return PredictionIntervals.of(forecaster)
    except ImportError:  # without ``evaluation/``
        return None


def _to_pandas(table: "pl.DataFrame", given: Any) -> Any:
    """Return a table as a pandas frame, without pyarrow, with the types of ids and stamps as ``given``."""
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]

    types = {str(name): dtype for name, dtype in given.dtypes.items()}
    columns = {}
    for column in table.iter_columns():
        own = types.get(column.name)  # none of stamps that the reader made
        if column.dtype.is_float():
            columns[column.name] = pd.Series(column.to_numpy())
        elif column.dtype.is_temporal() and not str(own).startswith(("datetime64", "period", "object")):
            columns[column.name] = pd.Series(pd.to_datetime(column.to_list()))
        else:
            cells = column.to_list()
            is_new = own == "category" and not {*cells} <= {*own.categories}  # stamps
            columns[column.name] = pd.Series(cells, dtype=None if is_new else own)
    return pd.DataFrame(columns)
