"""Baseline forecasts, which need no training, and the error scales of MASE and RMSSE."""

from collections.abc import Iterator

import torch
from torch import Tensor

from rnn_lightning.data.series import SeriesData
from rnn_lightning.data.windows import Segments, values_at

BASELINES = ("naive", "seasonal_naive", "drift")
"""The last value, the last season, and the line through the first and the last value."""

HISTORY_STEPS = 1000
"""Number of steps before an origin that baselines look at; at least two seasons."""

ROUNDING = 1e-12
"""Mean difference, relative to the mean absolute value, up to which differences are rounding errors."""

ROWS_AT_ONCE = 2**20
"""Number of values or rows in memory at a time, so that data may be larger than memory."""


def seasons_of(data: SeriesData) -> Tensor:
    """Return the season of each series, ``(series,)``: its trait, or 1 for none."""
    return data.traits.get("season", torch.ones(data.num_series, dtype=torch.long))


def ends_before(data: SeriesData, held_out: Segments) -> Tensor:
    """Return the end of each series before its held-out steps; its own if none or all are held out."""
    ends = data.ends.clone()
    is_part = held_out.start > held_out.first
    ends[held_out.series] = torch.where(is_part, held_out.start, held_out.end)
    return ends


def baseline_forecasts(
    data: SeriesData, series_index: Tensor, origin: Tensor, horizon: int, seasons: Tensor
) -> Tensor:
    """Return the forecasts of ``BASELINES``, ``(baseline, batch, horizon, feature)``.

    Args:
        data: the series.
        series_index: ``(batch,)``, the number of the series of each forecast.
        origin: ``(batch,)``, the last known step, counted from the start of the series.
        horizon: number of steps to forecast.
        seasons: ``(series,)``, the season of each series; 1 for none.
    """
    num_features = data.values.shape[1]
    forecasts = torch.empty(len(BASELINES), len(origin), horizon, num_features)
    season_of_row = seasons[series_index]
    for season in season_of_row.unique().tolist():
        length = max(HISTORY_STEPS, 2 * season)
        rows = (season_of_row == season).nonzero()[:, 0]
        for some in rows.split(max(1, ROWS_AT_ONCE // (length * num_features))):
            first = data.offsets[series_index[some]]
            last = first + origin[some]
            steps = last[:, None] + torch.arange(1 - length, 1)  # (batch, time)
            history = values_at(data, steps, first, last + 1)
            naive = seasonal_naive(history, horizon, 1)
            seasonal = naive if season == 1 else seasonal_naive(history, horizon, season)
            forecasts[:, some] = torch.stack([naive, seasonal, drift(history, horizon)])
    return forecasts


def seasonal_naive(history: Tensor, horizon: int, season: int) -> Tensor:
    """Repeat the last season, ``(batch, horizon, feature)``.

    Where the last value of a step of the season is unknown, the value one season earlier is taken, and so on;
    the last known value of all if there is none; NaN if nothing is known.

    Args:
        history: ``(batch, time, feature)``, the steps up to the origin, NaN where unknown.
        horizon: number of steps to forecast.
        season: steps of a season; 1 repeats the last value.
    """
    missing = -history.shape[1] % season
    padded = torch.nn.functional.pad(history, (0, 0, missing, 0), value=torch.nan)
    last = _last_known(padded.unflatten(1, (-1, season)))  # (batch, season, feature)
    if season > 1:
        last = torch.where(last.isnan(), _last_known(history[:, :, None]), last)
    return last[:, torch.arange(horizon) % season]


def drift(history: Tensor, horizon: int) -> Tensor:
    """Continue the line through the first and the last known value, ``(batch, horizon, feature)``."""
    known = ~history.isnan()
    steps = torch.arange(history.shape[1])[:, None].expand_as(history)  # (batch, time, feature)
    first = torch.where(known, steps, history.shape[1] - 1).amin(1, keepdim=True)
    last = torch.where(known, steps, 0).amax(1, keepdim=True)
    start, end = history.gather(1, first), history.gather(1, last)  # (batch, 1, feature)
    slope = (end - start) / (last - first).clamp_min(1)
    ahead = history.shape[1] - last + torch.arange(horizon)[:, None]  # (batch, horizon, feature)
    return end + slope * ahead


def difference_scales(data: SeriesData, ends: Tensor, seasons: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean absolute and mean squared seasonal difference, ``(series, feature)`` each.

    They are the denominators of MASE and RMSSE (Hyndman and Koehler, *Another look at measures of forecast
    accuracy*, 2006). Where no two known values are one season apart, neighbouring steps count; NaN if there
    are none either. Differences that are all rounding errors of a series that repeats exactly are zero.

    Args:
        data: the series.
        ends: ``(series,)``, one past the last row of each series that counts.
        seasons: ``(series,)``, the season of each series; 1 for none.
    """
    sums = _difference_sums(data, ends, seasons)  # (4, series, feature)
    is_missing = (sums[2] == 0) & (seasons > 1)[:, None]
    if bool(is_missing.any()):
        sums = torch.where(is_missing, _difference_sums(data, ends, torch.ones_like(seasons)), sums)
    sums[:2] *= sums[0] > ROUNDING * sums[3]
    return sums[0] / sums[2], sums[1] / sums[2]


def never_negative(data: SeriesData, ends: Tensor) -> Tensor:
    """Return for each feature whether no value before ``ends (series,)`` is negative, ``(feature,)``."""
    is_negative = [(data.values[rows] < 0).any(0) for rows, _ in _chunks(data, ends)]
    return ~torch.stack(is_negative).any(0)


def _difference_sums(data: SeriesData, ends: Tensor, seasons: Tensor) -> Tensor:
    """Return sums of absolute and squared differences, their number, and the sum of absolute values.

    They are one tensor ``(4, series, feature)``.
    """
    sums = torch.zeros(4, data.num_series, data.values.shape[1], dtype=torch.float64)
    for rows, series in _chunks(data, ends):
        earlier = rows - seasons[series]
        has_earlier = earlier >= data.offsets[series]
        rows, earlier, series = rows[has_earlier], earlier[has_earlier], series[has_earlier]
        values = data.values[rows].double()  # (row, feature)
        difference = values - data.values[earlier]
        known = ~difference.isnan()
        difference = difference.masked_fill_(~known, 0.0)
        parts = torch.stack(
            [difference.abs(), difference.square(), known.double(), values.abs().nan_to_num(0.0)]
        )
        sums.index_add_(1, series, parts)
    return sums


def _chunks(data: SeriesData, ends: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the numbers of rows before ``ends (series,)`` and their series, ``(row,)`` each."""
    for first in range(int(data.offsets[0]), len(data.values), ROWS_AT_ONCE):
        rows = torch.arange(first, min(first + ROWS_AT_ONCE, len(data.values)))
        series = torch.searchsorted(data.offsets, rows, right=True) - 1
        counts = rows < ends[series]
        yield rows[counts], series[counts]


def _last_known(values: Tensor) -> Tensor:
    """Return the last known of ``(batch, time, phase, feature)``, ``(batch, phase, feature)``, or NaN."""
    steps = torch.arange(values.shape[1])[:, None, None]
    last = torch.where(values.isnan(), 0, steps).amax(1, keepdim=True)
    return values.gather(1, last)[:, 0]
