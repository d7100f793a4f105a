"""Forecasts that need no training, from any origin, and the scale of errors that they give."""

import torch
from torch import Tensor

from rnn_lightning.data.series import CHUNK_ROWS, SeriesData

BASELINES = ("naive", "seasonal_naive", "drift")
"""The last value, the last season, and the line through the first and the last value."""


def baseline_forecasts(history: Tensor, horizon: int, season: int) -> Tensor:
    """The forecasts of ``BASELINES``, ``(baseline, batch, horizon, feature)``.

    Args:
        history: ``(batch, time, feature)``, the steps up to the origin, NaN where they are not known.
        horizon: number of steps to forecast.
        season: steps of a season; 1 for none.
    """
    naive = seasonal_naive(history, horizon, 1)
    return torch.stack([naive, seasonal_naive(history, horizon, season), drift(history, horizon)])


def seasonal_naive(history: Tensor, horizon: int, season: int) -> Tensor:
    """Repeat the last season ``(batch, horizon, feature)``.

    A phase whose last value is not known takes that of the season before, and so on, and the last known
    value of all if there is none; NaN if nothing is known.
    """
    missing = -history.shape[1] % season
    padded = torch.nn.functional.pad(history, (0, 0, missing, 0), value=torch.nan)
    seasons = padded.unflatten(1, (-1, season))
    last = _last_known(seasons)
    if season > 1:
        last = torch.where(last.isnan(), _last_known(history[:, :, None]), last)
    return last[:, torch.arange(horizon) % season]


def drift(history: Tensor, horizon: int) -> Tensor:
    """Continue the line through the first and the last known value, ``(batch, horizon, feature)``."""
    known = ~history.isnan()
    steps = torch.arange(history.shape[1])[:, None].expand_as(history)
    first = torch.where(known, steps, history.shape[1] - 1).amin(1, keepdim=True)
    last = torch.where(known, steps, 0).amax(1, keepdim=True)
    start, end = history.gather(1, first), history.gather(1, last)
    slope = (end - start) / (last - first).clamp_min(1)
    ahead = history.shape[1] - last + torch.arange(horizon)[:, None]
    return end + slope * ahead


def difference_scales(data: SeriesData, ends: Tensor, season: int) -> tuple[Tensor, Tensor]:
    """The mean absolute and mean squared difference of values one season apart, ``(series, feature)``.

    By these MASE and RMSSE scale the errors of a series (Hyndman and Koehler, *Another look at measures of
    forecast accuracy*, 2006). A series that has no two known values one season apart takes neighbours. NaN
    where it has no such either.

    Args:
        data: the series.
        ends: ``(series,)``, one past the last row of each series that counts.
        season: steps of a season; 1 for none.
    """
    absolutes, squares, counts = _difference_sums(data, ends, season)
    if season > 1 and bool((counts == 0).any()):
        nearby = _difference_sums(data, ends, 1)
        absolutes, squares, counts = (
            torch.where(counts == 0, other, own)
            for own, other in zip((absolutes, squares, counts), nearby, strict=True)
        )
    return absolutes / counts, squares / counts


def _last_known(values: Tensor) -> Tensor:
    """The last known of values ``(batch, time, phase, feature)``, ``(batch, phase, feature)``, or NaN."""
    steps = torch.arange(values.shape[1])[:, None, None]
    last = torch.where(values.isnan(), 0, steps).amax(1, keepdim=True)
    return values.gather(1, last)[:, 0]


def _difference_sums(data: SeriesData, ends: Tensor, season: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of absolute and squared differences, and their number, ``(series, feature)``, float64."""
    shape = (data.num_series, data.values.shape[1])
    absolutes, squares, counts = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
    for first in range(season, len(data.values), CHUNK_ROWS):
        last = min(first + CHUNK_ROWS, len(data.values))
        difference = data.values[first:last].double() - data.values[first - season : last - season]
        rows = torch.arange(first, last)
        series = torch.searchsorted(data.offsets, rows, right=True) - 1
        counted = (rows - season >= data.offsets[series]) & (rows < ends[series])
        known = ~difference.isnan() & counted[:, None]
        difference = difference.masked_fill_(~known, 0.0)
        absolutes.index_add_(0, series, difference.abs())
        squares.index_add_(0, series, difference.square())
        counts.index_add_(0, series, known.double())
    return absolutes, squares, counts
