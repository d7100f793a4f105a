"""A second forecaster beside the network: exponential smoothing with the slope of the whole history.

It is akin to the Theta methods. The network carries the latest slope on; this member remembers the long one,
of positive series both in their own units and in logarithms, whose forecasts it averages. It counts as much
as its forecasts from earlier origins of a series deserve.
"""

import numpy as np

from rnn_lightning.pretrained.season_policy import error_ratio, nan_mean

SLOPE_PART, SLOPE_MEMORY = 0.75, 1.5
"""The part of the slope that goes on without one-step errors, and its weight beside what these say."""

MAX_HISTORY, HISTORY_SEASONS = 1000, 5
"""The last steps, or seasons where these are longer, that the member looks at."""

ALPHAS = np.array([0.05, *np.arange(0.1, 1.01, 0.1)])
"""Smoothing factors of the level, of which the best one step ahead counts."""

MULTIPLICATIVE_FROM = 0.05
"""A season multiplies where the least value is above this part of the mean."""

MIN_INDEX = 0.01

LOG_HISTORY, MAX_LOG_RISE, RECENT_STEPS = 2, 7.0, 5
"""Logarithms need so many horizons of history, and rise at most this far above the highest value.

And their slope is at most the growth of so many last steps, as far as these tell it.
"""

ERROR_POWER, PRIOR, MAX_WEIGHT = 3.0, 0.7, 0.6
"""The odds of the member are the prior times this power of the network's error over its own."""

MAX_UNCHANGED = 0.2
"""The part of steps without a change above which a series does without the member."""

MIN_HISTORY, MIN_SEASONS = 10, 3


def trend_forecasts(values: np.ndarray, seasons: np.ndarray, shares: np.ndarray, horizon: int) -> np.ndarray:
    """Forecast ``horizon`` steps after each row, ``(row, horizon)``; NaN for rows without a known value.

    Args:
        values: ``(row, time)``, NaN where unknown, aligned at the last step.
        seasons: ``(row,)``, steps of a season, 1 for none.
        shares: ``(row,)``, the part of the season that is taken out before and put back after.
        horizon: number of steps.
    """
    forecasts = np.full((len(values), horizon), np.nan)
    for season in np.unique(seasons).tolist():
        rows = np.flatnonzero((seasons == season) & ~np.isnan(values).all(1))
        if len(rows):
            recent = values[rows, -max(MAX_HISTORY, HISTORY_SEASONS * season) :]
            forecasts[rows] = _forecast_both(_without_gaps(recent), season, shares[rows], horizon)
    return forecasts


def trend_weights(
    values: np.ndarray,
    seasons: np.ndarray,
    has_season: np.ndarray,
    network_errors: np.ndarray,
    member_errors: np.ndarray,
) -> np.ndarray:
    """Return the weights ``(row,)`` of the member, at most ``MAX_WEIGHT``.

    Series that often stand still and short ones do without it, and so do those with a season but no earlier
    origin.

    Args:
        values: ``(row, time)``.
        seasons: ``(row,)``, steps of a season.
        has_season: ``(row,)``, whether the network's forecast has it.
        network_errors: ``(origin, row)``, mean errors of the network from earlier origins, NaN for none.
        member_errors: ``(origin, row)``, those of the member.
    """
    ratio = error_ratio(network_errors, member_errors, nan_mean(np.abs(values), 1))
    odds = PRIOR * ratio**ERROR_POWER
    without_origin = np.where(has_season, 0.0, PRIOR / (1 + PRIOR))
    weights = np.where(np.isnan(odds), without_origin, np.minimum(odds / (1 + odds), MAX_WEIGHT))
    known = ~np.isnan(values)
    lengths = np.where(known.any(1), values.shape[1] - known.argmax(1), 0)
    unchanged = (np.diff(values) == 0).sum(1) > MAX_UNCHANGED * np.maximum(lengths - 1, 1)
    is_short = lengths < np.maximum(MIN_HISTORY, MIN_SEASONS * np.where(has_season, seasons, 1))
    return np.where(unchanged | is_short, 0.0, weights)


def _forecast_both(values: np.ndarray, season: int, shares: np.ndarray, horizon: int) -> np.ndarray:
    """Forecast rows ``(row, time)`` of one season, positive ones in logarithms too, and average."""
    lengths, lowest, mean = (~np.isnan(values)).sum(1), np.nanmin(values, 1), np.nanmean(values, 1)
    multiplies = (lowest > 0) & (lowest > MULTIPLICATIVE_FROM * mean)
    logs = np.flatnonzero((lowest > 0) & (lengths >= LOG_HISTORY * horizon))
    forecasts = _forecast(
        np.concatenate([values, np.log(values[logs])]),
        season,
        np.concatenate([shares, shares[logs]]),
        np.concatenate([multiplies, np.zeros(len(logs), bool)]),
        horizon,
        len(logs),
    )
    plain, of_logs = forecasts[: len(values)], forecasts[len(values) :]
    highest = np.log(np.nanmax(values[logs], 1, keepdims=True))
    plain[logs] = (plain[logs] + np.exp(np.minimum(of_logs, highest + MAX_LOG_RISE))) / 2
    return plain


def _forecast(
    values: np.ndarray, season: int, shares: np.ndarray, multiplies: np.ndarray, horizon: int, num_logs: int
) -> np.ndarray:
    """Forecast rows ``(row, time)``, NaN before their start only, whose season is added or ``multiplies``.

    The last ``num_logs`` are logarithms, which grow no faster than of late: a curve that levels off does not
    go on as it began.
    """
    lengths, ahead = (~np.isnan(values)).sum(1), np.arange(1, horizon + 1)
    past = future = np.where(multiplies, 1.0, 0.0)[:, None]
    if season > 1:
        used = np.where(lengths > 2 * season, shares, 0.0)[:, None]
        indices = _season_indices(values, season, multiplies)  # (row, phase), the last step has phase 0
        indices = np.where(multiplies[:, None], np.maximum(indices, MIN_INDEX) ** used, indices * used)
        past, future = indices[:, np.arange(1 - values.shape[1], 1) % season], indices[:, ahead % season]
    rest = np.where(multiplies[:, None], values / np.where(multiplies[:, None], past, 1.0), values - past)
    level, slope, alpha = _level_and_slope(rest, lengths)
    growth = slope[len(slope) - num_logs :]
    np.minimum(growth, _recent_growth(rest[len(rest) - num_logs :]), out=growth)
    first_steps = (1 - (1 - alpha) ** lengths) / alpha
    line = level[:, None] + slope[:, None] * (ahead - 1 + first_steps[:, None])
    return np.where(multiplies[:, None], line * future, line + future)


def _season_indices(values: np.ndarray, season: int, multiplies: np.ndarray) -> np.ndarray:
    """Return the classical indices ``(row, phase)`` of a season relative to a centred moving average."""
    num_rows, length = values.shape
    known, half = ~np.isnan(values), season // 2
    level = np.nanmean(values, 1, keepdims=True)
    sums = np.cumsum(np.pad(np.where(known, values - level, 0.0), ((0, 0), (1, 0))), 1)
    averages = np.full((num_rows, length), np.nan)
    windows = (sums[:, season:] - sums[:, :-season]) / season
    windows = windows if season % 2 else (windows[:, 1:] + windows[:, :-1]) / 2
    averages[:, half : half + windows.shape[1]] = level + windows
    begins = known.argmax(1)[:, None]
    averages = np.where(np.arange(length) >= begins + half, averages, np.nan)
    safe = np.where(averages > 0, averages, np.nan)
    relative = np.where(multiplies[:, None], values / safe, values - averages)
    padded = np.pad(relative, ((0, 0), (-length % season, 0)), constant_values=np.nan)
    by_phase = nan_mean(padded.reshape(num_rows, -1, season), 1)  # the last step is the last phase
    by_phase = np.roll(by_phase, 1, 1)
    none = np.where(multiplies, 1.0, 0.0)[:, None]
    by_phase = np.where(np.isnan(by_phase), none, by_phase)
    center = by_phase.mean(1, keepdims=True)
    return np.where(
        multiplies[:, None], by_phase / np.where(multiplies[:, None], center, 1.0), by_phase - center
    )


def _level_and_slope(values: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the last level of exponential smoothing, the slope that goes on, and the factor of each row.

    The part of the slope is the least-squares one of the one-step errors, drawn towards ``SLOPE_PART``; the
    smoothing factor is the one whose errors are then smallest.
    """
    num_steps, begins = values.shape[1], values.shape[1] - lengths
    start = values[np.arange(len(values)), begins]
    steps = np.where(np.isnan(values), 0.0, values - start[:, None]).T  # (time, row)
    slopes = _running_slopes(values - start[:, None]).T
    alphas = ALPHAS[:, None]
    memories = (1 - (1 - alphas) ** np.arange(num_steps)) / alphas  # (alpha, steps before)
    level = np.zeros((len(ALPHAS), len(values)))  # (alpha, row)
    errors, products, squares = np.zeros_like(level), np.zeros_like(level), np.zeros_like(level)
    for step in range(int(begins.min()) + 1, num_steps):
        num_before = np.maximum(step - begins, 0)
        error = np.where(num_before > 0, steps[step] - level, 0.0)
        drift = np.where(num_before > 2, slopes[step - 1], 0.0) * memories[:, num_before]
        errors += error * error
        products += error * drift
        squares += drift * drift
        level += alphas * error
    best_parts = (products + SLOPE_MEMORY * SLOPE_PART * squares) / np.maximum(
        (1 + SLOPE_MEMORY) * squares, np.finfo(float).tiny
    )
    parts = np.clip(best_parts, 0.0, 1.0)
    best = (errors - 2 * parts * products + parts * parts * squares).argmin(0)
    rows = np.arange(len(values))
    return start + level[best, rows], parts[best, rows] * slopes[-1], ALPHAS[best]


def _recent_growth(values: np.ndarray) -> np.ndarray:
    """Return the mean of the last changes of each row, and twice its standard error above it."""
    changes = np.diff(values)[:, -RECENT_STEPS:]
    count = np.maximum((~np.isnan(changes)).sum(1), 1)
    mean = nan_mean(changes, 1)
    variance = nan_mean(np.square(changes - mean[:, None]), 1)
    return mean + 2 * np.sqrt(variance / count)


def _running_slopes(values: np.ndarray) -> np.ndarray:
    """Return the slope of the least-squares line of each row up to each step, 0 up to its first value."""
    known = ~np.isnan(values)
    count = known.cumsum(1)
    steps, values = np.where(known, count, 0.0), np.where(known, values, 0.0)
    spread = count * np.square(steps).cumsum(1) - np.square(steps.cumsum(1))
    moment = count * (steps * values).cumsum(1) - steps.cumsum(1) * values.cumsum(1)
    return np.where(count > 1, moment / np.maximum(spread, 1.0), 0.0)


def _without_gaps(values: np.ndarray) -> np.ndarray:
    """Interpolate the gaps of rows linearly from their first known value on."""
    known = ~np.isnan(values)
    begins = known.argmax(1)
    gaps = np.flatnonzero(known.sum(1) < values.shape[1] - begins)
    filled, steps = values.copy(), np.arange(values.shape[1])
    for row in gaps.tolist():
        own = steps[begins[row] :]
        filled[row, begins[row] :] = np.interp(own, steps[known[row]], values[row, known[row]])
    return filled
