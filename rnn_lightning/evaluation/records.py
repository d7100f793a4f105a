"""Forecasts of all devices, recorded beside the truth."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_lightning.data.windows import ForecastBatch, ends_in_long_gap
from rnn_lightning.evaluation.interval_widths import error_scale, is_like_others, new_scale
from rnn_lightning.metrics import gathered

CRPS_QUANTILES = 99
"""Number of equally likely values by which intervals give a CRPS."""


class ForecastRecords:
    """Collect the forecasts of all devices.

    Args:
        columns: the names of what is recorded of each forecast, such as ``y`` and ``rnn``.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.keys, self.values = list[Tensor](), list[Tensor]()

    def update(self, series_index: Tensor, origin: Tensor, columns: Mapping[str, Tensor]) -> None:
        """Add forecasts ``(batch,)``; each of the columns is ``(batch, horizon, feature)``, maybe empty."""
        values = torch.stack([columns[name] for name in self.columns], -1)
        self.keys.append(torch.stack([series_index, origin], -1).to(values.device))
        self.values.append(values)

    def collect(self) -> dict[str, Tensor]:
        """Return the forecasts of all devices, on the CPU, in the order of series and origins.

        By name ``series_index`` and ``origin``, ``(forecast,)``, and the columns, ``(forecast, horizon,
        feature)``.
        """
        return self._in_order(gathered(self.keys).cpu(), gathered(self.values).cpu())

    def collect_own(self) -> dict[str, Tensor]:
        """Return those of this device, likewise."""
        return self._in_order(torch.cat(self.keys).cpu(), torch.cat(self.values).cpu())

    def _in_order(self, keys: Tensor, values: Tensor) -> dict[str, Tensor]:
        """Sort ``keys (forecast, 2)`` and ``values (forecast, horizon, feature, column)``."""
        by_origin = keys[:, 1].argsort(stable=True)
        order = by_origin[keys[by_origin, 0].argsort(stable=True)]
        names = ("series_index", "origin", *self.columns)
        return dict(zip(names, (*keys[order].unbind(-1), *values[order].unbind(-1)), strict=True))


def forecast_columns(levels: Sequence[int]) -> list[str]:
    """Return what is recorded of each forecast: the truth, the forecast, and with levels its intervals."""
    return ["y", "rnn", *(["crps", *bound_columns(levels)] if levels else [])]


def record(
    records: ForecastRecords, batch: ForecastBatch, forecast: Any, intervals: Any, levels: Sequence[int] = ()
) -> None:
    """Add the forecasts of a batch to records with the columns of ``forecast_columns(levels)``."""
    point, samples = forecast.point, forecast.samples
    columns = {"y": batch.target, "rnn": point}
    if levels:
        seasons = batch.traits.get("season")
        known = {"seasons": seasons, "own_error": forecast.own_error}
        bounds = intervals.interval_bounds(point, batch.context, levels, samples=samples, **known)
        if intervals.calibrated or samples is None:  # an empty batch has no samples
            samples = intervals.quantiles(CRPS_QUANTILES, point, batch.context, **known)
        columns |= {
            "crps": crps(samples, batch.target),
            **dict(zip(bound_columns(levels), bounds, strict=True)),
        }
    records.update(batch.series_index, batch.origin, columns)


def errors_of(
    forecaster: Any, batches: Iterable[ForecastBatch], seasons: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the errors ``(forecast, horizon, feature)`` of all devices, their scale, and the usual scale.

    The last is the median of ``new_scale``, ``(feature,)``. Errors of series that are constant, dead or
    repeat exactly are NaN, unless all series are, and so are errors after long gaps.

    Args:
        forecaster: the network, in evaluation mode; its ``predict_step`` is called.
        batches: the forecasts of this device, with targets.
        seasons: ``(series,)``, the season of each series; 1 for none.
    """
    records = ForecastRecords(["error", "error_scale", "usual", "counts", "stale"])
    for case in batches:
        batch = case.to(forecaster.device)
        forecast = forecaster.predict_step(batch, 0)
        error, own_seasons = batch.target - forecast.point, seasons[case.series_index]
        columns = {
            "error_scale": error_scale(batch.context, own_seasons, forecast.own_error),
            "usual": new_scale(batch.context, own_seasons),
            "counts": is_like_others(batch.context, own_seasons).to(error),
            "stale": ends_in_long_gap(batch.context, batch.horizon).to(error),
        }
        columns = {name: column[:, None].expand_as(error) for name, column in columns.items()}
        records.update(batch.series_index, batch.origin, {"error": error, **columns})
    found = records.collect()
    scale, fresh = found["error_scale"], found["stale"] == 0
    counts = (found["counts"] > 0) & fresh
    error = torch.where(fresh | ~fresh.any(), found["error"], torch.nan)
    relative = torch.where(counts, found["usual"], torch.nan)[:, 0]  # (forecast, feature)
    usual = (
        relative.nanmedian(0).values if len(relative) else relative.new_full(relative.shape[1:], torch.nan)
    )
    return torch.where(counts | ~counts.any(), error, torch.nan), scale[:, 0], usual


def bound_columns(levels: Sequence[int]) -> list[str]:
    """Return the names of the bounds of intervals: ``rnn-lo-80``, ``rnn-hi-80`` and so on."""
    return [f"rnn-{end}-{level}" for level in levels for end in ("lo", "hi")]


def crps(samples: Tensor, target: Tensor) -> Tensor:
    """Return the continuous ranked probability score ``(...)`` of samples ``(sample, ...)``.

    It is ``E|X - y| - E|X - X'| / 2`` over the samples (Gneiting and Raftery, *Strictly proper scoring rules,
    prediction, and estimation*, 2007). That of torchmetrics averages over all targets, and its memory grows
    with the square of the number of samples.
    """
    number = len(samples)
    rank = torch.arange(1, number + 1, dtype=samples.dtype, device=samples.device)
    weights = (2 * rank - number - 1).view(-1, *[1] * target.ndim) / number**2
    return (samples - target).abs().mean(0) - (weights * samples.sort(0).values).sum(0)
