"""Options of a forecast, and the value columns that follow from them. No Lightning."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.errors import InputError
from rnn_lightning.rollout import path_bounds

if TYPE_CHECKING:
    from rnn_lightning import CalibratedIntervals
    from rnn_lightning.data.windows import ForecastBatch
    from rnn_lightning.rollout import Forecast

DEFAULT_LEVELS = (80,)
"""Levels in percent of the prediction intervals, if none are given."""

WITH_INTERVALS = "fit with `val_fraction` above 0 and at least one validation"
"""What gives a network prediction intervals."""

MAX_PLOT_IDS = 20
"""Largest number of series in one picture."""


@dataclass
class ForecastOptions:
    """Options of the forecast file and its picture.

    Args:
        point: ``median``, which may be zero at every step of intermittent demand, or ``mean``, whose sum over
            the horizon is right; ``auto`` for the network's own choice.
        levels: levels of the prediction intervals in percent, ``[]`` for no intervals. By default 80 where
            intervals are available: from validation, or from sampled paths (``num_samples``).
        quantiles: quantiles between 0 and 1 to write as well, such as 0.1 as ``<feature>-q-10``; 0.1 and 0.9
            are the bounds of the level 80, except the upper one of intermittent demand, and 0.5 is the point
            forecast.
        plot: draw ``forecast.png``, with at most eight features.
        format: format of the forecast file. Parquet preserves the column types.
        plot_ids: ids of the series to draw. By default all of up to four series; of more, the largest, a
            typical one, the smallest, and the least certain one, whose interval is the widest for its size.
        num_paths: number of sampled paths to write, as ``<feature>-path-1`` and so on, and to draw.
        skip_incomplete: leave out series whose covariates are not known over the whole horizon, and print
            a note. If false, refuse to forecast.
        output: write only the table, to this .csv or .parquet file or with - to standard output, and create
            no run folder. ``--output`` is short for it.
    """

    point: Literal["auto", "median", "mean"] = "auto"
    levels: list[int] | None = None
    quantiles: list[float] = field(default_factory=list)
    plot: bool = True
    format: Literal["csv", "parquet"] = "csv"
    plot_ids: list[str | int] = field(default_factory=list)
    num_paths: int = 0
    skip_incomplete: bool = True
    output: str | None = None

    def __post_init__(self) -> None:
        for level in self.levels or []:
            if not 1 <= level < 100:
                raise InputError(f"`levels` are percentages from 1 to 99, such as 80, got {level}.")
        for quantile in self.quantiles:
            if not 0 < quantile < 1:
                raise InputError(f"`quantiles` must be between 0 and 1, such as 0.9, got {quantile}.")
        if self.point not in ("auto", "median", "mean"):
            raise InputError(f"`point` must be auto, median or mean, got {self.point!r}.")
        if self.format not in ("csv", "parquet"):
            raise InputError(f"`format` must be csv or parquet, got {self.format!r}.")
        if len(self.plot_ids) > MAX_PLOT_IDS:
            raise InputError(f"`plot_ids` must name at most {MAX_PLOT_IDS} series, got {len(self.plot_ids)}.")
        if self.num_paths < 0:
            raise InputError(f"`num_paths` must not be negative, got {self.num_paths}.")
        if self.output not in (None, "-"):
            path = Path(str(self.output))
            if path.suffix not in (".csv", ".parquet"):
                raise InputError(f"`output` must end in .csv or .parquet, or be -, got {path}.")
            if not path.parent.is_dir():
                raise InputError(f"`output` {path}: the folder {path.parent} does not exist.")
            try:  # before the work, not after it
                tempfile.TemporaryFile(dir=path.parent).close()
            except OSError as error:
                raise InputError(f"`output` {path}: cannot be written ({error.strerror}).") from error

    def path_in(self, folder: Path) -> Path:
        """Return the path of the forecast file, in the run folder unless ``output`` names a file."""
        return Path(self.output) if self.output not in (None, "-") else folder / f"forecast.{self.format}"


def find_intervals(trainer: Any) -> "CalibratedIntervals | None":
    """Return the calibrated prediction intervals among the callbacks of a run, or None."""
    found = [callback for callback in trainer.callbacks if hasattr(callback, "interval_bounds")]
    return if_calibrated(found[0]) if found else None


def if_calibrated(intervals: "CalibratedIntervals | None") -> "CalibratedIntervals | None":
    """Return prediction intervals if there are any."""
    return intervals if intervals is not None and intervals.horizon > 0 else None


@dataclass(frozen=True)
class ForecastColumns:
    """The value columns of each feature: point forecast, bounds of intervals, quantiles, sampled paths.

    The bounds of the ``levels`` (in percent) come from ``intervals``, or else from the sampled paths. A
    quantile is one bound of a level.
    """

    levels: Sequence[int] = ()
    quantiles: Sequence[float] = ()
    num_paths: int = 0
    intervals: "CalibratedIntervals | None" = None

    def names(self, features: Sequence[str]) -> list[str]:
        """Return ``<feature>``, ``<feature>-lo-80``, ``<feature>-q-10``, ``<feature>-path-1`` and so on."""
        bounds = [f"-{bound}-{level}" for level in self.levels for bound in ("lo", "hi")]
        quantiles = [f"-q-{100 * quantile:g}" for quantile in self.quantiles]
        paths = [f"-path-{number + 1}" for number in range(self.num_paths)]
        return [feature + suffix for feature in features for suffix in ["", *bounds, *quantiles, *paths]]

    def values(self, forecast: "Forecast", batch: "ForecastBatch") -> np.ndarray:
        """Return the values of all columns, ``(batch, horizon, feature, column)``."""
        if len(forecast.point) == 0:  # a device without series in this batch
            return np.empty((*forecast.point.shape, len(self.names([""]))), np.float32)
        point, samples = forecast.point, forecast.samples
        known = {"seasons": batch.traits.get("season"), "own_error": forecast.own_error}
        columns = [point[None]]
        if self.intervals is not None:
            levels = self.levels or DEFAULT_LEVELS
            bounds = self.intervals.interval_bounds(point, batch.context, levels, **known)
            # Values that are never negative have intervals from 0 on, and so the point forecast as well.
            columns = [torch.maximum(point, bounds[0])[None], bounds[: 2 * len(self.levels)]]
            if self.quantiles:
                columns.append(self.intervals.values_at(self.quantiles, point, batch.context, **known))
            if samples is not None:
                samples = self.intervals.spread_paths(samples, point, batch.context, **known)
        elif samples is not None and (self.levels or self.quantiles):
            of_quantiles = [abs(200 * quantile - 100) for quantile in self.quantiles]
            columns += self._chosen(path_bounds(samples, point, [*self.levels, *of_quantiles]), point)
        if self.num_paths and samples is not None:
            columns.append(samples[: self.num_paths])
        return np.moveaxis(torch.cat(columns).cpu().numpy(), 0, -1)

    def _chosen(self, bounds: Tensor, point: Tensor) -> list[Tensor]:
        """Return the bounds of the levels, and one bound or the point forecast for each quantile."""
        pairs = bounds.unflatten(0, (-1, 2))[len(self.levels) :]  # (quantile, 2, batch, horizon, feature)
        chosen = zip(self.quantiles, pairs, strict=False)
        quantiles = [point if each == 0.5 else pair[int(each > 0.5)] for each, pair in chosen]
        return [bounds[: 2 * len(self.levels)], *(each[None] for each in quantiles)]


def choose_columns(
    options: ForecastOptions, num_samples: int | None, intervals: "CalibratedIntervals | None"
) -> ForecastColumns:
    """Return the columns of a forecast; raise InputError if intervals or paths are not available."""
    levels, quantiles = options.levels, sorted(set(options.quantiles))
    if levels is None:
        levels = [*DEFAULT_LEVELS] if intervals is not None or num_samples is not None else []
    if (levels or quantiles) and intervals is None and num_samples is None:
        asked = f"`levels` {levels}" if levels else f"`quantiles` {quantiles}"
        raise InputError(
            f"{asked}: there are no prediction intervals, for the network was fitted without validation, or "
            f"the table has no earlier values that tell its errors; {WITH_INTERVALS}."
        )
    if (levels or quantiles) and num_samples == 1:
        raise InputError("`num_samples` 1: a prediction interval needs at least two sampled paths.")
    if options.num_paths > (num_samples or 0):
        raise InputError(
            f"`num_paths` {options.num_paths} is above the number of sampled paths, {num_samples or 0}: raise"
            " `num_samples`."
        )
    return ForecastColumns(sorted(set(levels)), quantiles, options.num_paths, intervals)
