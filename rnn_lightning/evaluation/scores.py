"""Scores of forecasts beside baselines: by series, by lead time, pooled, and in one sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rnn_lightning.evaluation.baselines import BASELINES
from rnn_lightning.metrics import middle_weights

NUM_NAMED = 3
"""Number of series that are named where several have no scale."""

CRPS = 2 + len(BASELINES)
"""The column of the CRPS; the ends of the intervals follow it."""

MAX_RATIO = 1000.0
"""The largest ratio of two errors that counts; its inverse is the smallest."""


@dataclass(frozen=True)
class Scores:
    """What forecasts from rolling origins are worth.

    All is by series and feature: a series of two features counts twice. A forecast that is not a finite
    number has an infinite error.

    Attributes:
        ids: the names of all series.
        features: the names of the features.
        series: ``(forecast,)``, which series each forecast is of, in ascending order.
        values: ``(forecast, horizon, feature, column)``: what came, NaN where it is not known; the forecast
            of the network and those of ``BASELINES``; and with ``levels`` the CRPS, then the lower and the
            upper end of the interval of each level.
        levels: levels of the intervals in percent.
        season: steps of the season of the seasonal naive forecast; 1 for none, which leaves it out.
        differences: ``(2, series, feature)``, the scales of MASE and RMSSE, see ``difference_scales``.
    """

    ids: Sequence[str]
    features: Sequence[str]
    series: np.ndarray
    values: np.ndarray
    levels: tuple[int, ...]
    season: int
    differences: np.ndarray

    @property
    def forecasters(self) -> tuple[str, ...]:
        """The network, ``rnn``, and the baselines."""
        return ("rnn", *(name for name in BASELINES if self.season > 1 or name != "seasonal_naive"))

    @property
    def reference(self) -> str:
        """The baseline to compare with: the seasonal naive one, where there is a season."""
        return "seasonal_naive" if self.season > 1 else "naive"

    @cached_property
    def present(self) -> np.ndarray:
        """The series that have forecasts, ``(series,)``."""
        return np.unique(self.series)

    @cached_property
    def truth(self) -> np.ndarray:
        """``(forecast, horizon, feature)``, float64."""
        return self.values[..., 0].astype(np.float64)

    @cached_property
    def by_series(self) -> dict[str, np.ndarray]:
        """Metrics ``(series, feature, forecaster)``; those of intervals have the network alone as forecaster.

        Metrics: ``mae``, ``rmse``, ``mase``, ``rmsse``, ``smape`` (from 0 to 1), ``wape``; with intervals
        ``crps``, and for each level such as ``coverage-80`` and ``width-80``. NaN where a metric would
        divide by zero.
        """
        absolute, known = np.abs(self._errors), ~np.isnan(self.truth)
        count = self._sum(known[..., None])
        size = np.abs(self._forecasts) + np.abs(self.truth)[..., None]
        relative = np.divide(absolute, size, out=np.zeros_like(absolute), where=absolute > 0)
        relative[np.isinf(absolute)] = 1.0
        scale = self.differences[:, self.present, :, None]
        mae, mse = _ratio(self._sum(absolute), count), _ratio(self._sum(np.square(absolute)), count)
        metrics = {
            "mae": mae,
            "rmse": np.sqrt(mse),
            "mase": _ratio(mae, scale[0]),
            "rmsse": np.sqrt(_ratio(mse, scale[1])),
            "smape": _ratio(self._sum(relative), count),
            "wape": _ratio(self._sum(absolute), self._sum(np.where(known, np.abs(self.truth), 0)[..., None])),
        }
        return metrics | {
            name: _ratio(self._sum(column[..., None]), count) for name, column in self._of_intervals.items()
        }

    @cached_property
    def by_lead_time(self) -> dict[str, np.ndarray]:
        """Metrics ``(horizon, forecaster)`` over all series that have a scale; intervals are the network's.

        ``mase`` is the mean over series and ``median_mase`` the median; ``width-80`` is in units of the
        scale of each series, ``coverage-80`` over all values.
        """
        known = ~np.isnan(self.truth)
        counts = np.add.reduceat(known, self._starts, 0)[..., None]
        scale = self.differences[0, self.present][:, None, :, None]
        sums = np.add.reduceat(np.abs(self._errors), self._starts, 0)
        mase = _ratio(_ratio(sums, counts), scale)  # (series, horizon, feature, forecaster)
        mase = mase.transpose(0, 2, 1, 3).reshape(-1, *mase.shape[1:2], mase.shape[3])
        metrics = {"mase": _mean(mase), "median_mase": _median(mase)}
        each = self.differences[0, self.series][:, None]
        for name, column in self._of_intervals.items():
            scaled = column if name.startswith("coverage") else _ratio(column, each)
            scaled = np.where(known, scaled, np.nan).transpose(0, 2, 1).reshape(-1, scaled.shape[1])
            metrics[name] = _mean(scaled)[:, None]
        return metrics

    def interval(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The lower and upper ends ``(forecast, horizon, feature)`` of an interval."""
        first = CRPS + 1 + 2 * number
        return self.values[..., first].astype(np.float64), self.values[..., first + 1].astype(np.float64)

    def covered(self, level: int) -> float:
        """The fraction of all known values that lie in the interval of a level."""
        low, high = self.interval(self.levels.index(level))
        known = ~np.isnan(self.truth)
        return float(((self.truth >= low) & (self.truth <= high))[known].mean()) if known.any() else np.nan

    @cached_property
    def without_scale(self) -> list[str]:
        """Series without MASE and RMSSE: what is known of them before the origins never changes."""
        missing = np.isnan(self.by_series["mase"][..., 0]) & ~np.isnan(self.by_series["mae"][..., 0])
        return [self.ids[self.present[index]] for index in np.flatnonzero(missing.any(-1))]

    @cached_property
    def comparison(self) -> tuple[int, int, int]:
        """The numbers of series and features where the network is better or as good, and of all."""
        mae = self.by_series["mae"]
        own, other = (mae[..., self.forecasters.index(name)].ravel() for name in ("rnn", self.reference))
        both = ~np.isnan(own)
        equal = np.isclose(own, other, rtol=1e-6, atol=0)
        return int((both & (own < other) & ~equal).sum()), int((both & equal).sum()), int(both.sum())

    @cached_property
    def relative_error(self) -> float:
        """The MAE relative to that of the reference, a geometric mean over the middle half of all series."""
        mae = self.by_series["mae"]
        own, other = (mae[..., self.forecasters.index(name)].ravel() for name in ("rnn", self.reference))
        own, other = own[~np.isnan(own)], other[~np.isnan(own)]
        ratios = np.where(own == other, 1.0, _ratio(own, np.maximum(other, np.finfo(float).tiny)))
        logs = np.sort(np.log(ratios.clip(1 / MAX_RATIO, MAX_RATIO)))
        return float(np.exp((logs * middle_weights(len(logs)).numpy()).sum())) if len(logs) else np.nan

    def pooled(self, metric: str) -> np.ndarray:
        """The median over series and features of a metric, ``(forecaster,)``."""
        return _median(self.by_series[metric].reshape(-1, self.by_series[metric].shape[-1]))

    @property
    def sentence(self) -> str:
        """What the forecasts are worth beside the reference."""
        better, equal, total = self.comparison
        if total == 0:
            return "nothing is known to compare the forecasts with"
        metric = "mase" if np.isfinite(self.pooled("mase")).any() else "mae"
        medians = dict(zip(self.forecasters, self.pooled(metric), strict=True))
        of = "series" if len(self.features) == 1 else "series and features"
        name = self.reference.replace("_", " ")
        worse = not self.relative_error <= 1
        count = total - better - equal if worse else better
        verdict = f"{'worse' if worse else 'better'} than {name}"
        if total > 1:
            verdict += f" on {count} of {total} {of}" + (f", as good on {equal}" if equal else "")
        if total > 1 and 2 * count <= total:
            verdict += f", with errors {self.relative_error:.2f} times as large on average"
        text = f"{verdict}; {metric.upper()} {medians['rnn']:.2f} against {medians[self.reference]:.2f}"
        best = min(self.forecasters, key=lambda each: np.nan_to_num(medians[each], nan=np.inf))
        if best not in ("rnn", self.reference):
            text += f", and {medians[best]:.2f} of {best.replace('_', ' ')}"
        return text

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.searchsorted(self.series, self.present)

    @cached_property
    def _forecasts(self) -> np.ndarray:
        chosen = [1 + ("rnn", *BASELINES).index(name) for name in self.forecasters]
        return self.values[..., chosen].astype(np.float64)

    @cached_property
    def _errors(self) -> np.ndarray:
        """``(forecast, horizon, feature, forecaster)``; 0 where unknown, infinite where not forecast."""
        errors = self._forecasts - self.truth[..., None]
        errors[np.isnan(self._forecasts)] = np.inf
        errors[np.isnan(self.truth)] = 0.0
        return errors

    @cached_property
    def _of_intervals(self) -> dict[str, np.ndarray]:
        """Columns ``(forecast, horizon, feature)`` whose mean is a metric; 0 where nothing is known."""
        if not self.levels:
            return {}
        known = ~np.isnan(self.truth)
        columns = {"crps": self.values[..., CRPS].astype(np.float64)}
        for number, level in enumerate(self.levels):
            low, high = self.interval(number)
            columns[f"coverage-{level}"] = ((self.truth >= low) & (self.truth <= high)).astype(np.float64)
            columns[f"width-{level}"] = high - low
        return {name: np.where(known, column, 0.0) for name, column in columns.items()}

    def _sum(self, columns: np.ndarray) -> np.ndarray:
        """Sums over the horizon and the forecasts of each series, ``(series, feature, column)``, float64."""
        return np.add.reduceat(columns.sum(1, dtype=np.float64), self._starts, 0)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """NaN where it would be a division by zero."""
    return np.divide(
        above, below, out=np.full(np.broadcast_shapes(above.shape, below.shape), np.nan), where=below > 0
    )


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis of what is not NaN; NaN where there is nothing."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(0), known.sum(0))


def _median(values: np.ndarray) -> np.ndarray:
    """The median over the first axis of what is not NaN; NaN where there is nothing."""
    some = (~np.isnan(values)).any(0)
    medians = np.full(values.shape[1:], np.nan)
    if some.any():
        medians[some] = np.nanmedian(values[:, some], 0)
    return medians
