"""Forecasts of intermittent series: medians, and means whose sum is the demand to expect.

The median of intermittent demand is often zero at every step, whatever its total; the network's forecast lies
between the two. Of other series the mean and the median are taken to be the same.
"""

import numpy as np

from rnn_lightning.pretrained.season_policy import error_ratio, nan_mean
from rnn_lightning.season_strength import strength

MIN_ZEROS = 0.2
"""The part of the known values that is zero from which a series is intermittent."""

MEDIAN_STEPS, MEDIAN_POWER = 18, 8.0
"""Last steps whose median is a forecast; the power of the errors by which it counts beside the network's."""

ALPHA, START_STEPS = 0.2, 12
"""Smoothing factor of the level, which starts at the mean of the first values."""

MIN_PROFILE = 0.05

ZERO_REPEATS, ZERO_SHARE = 7, 0.9
"""Zeros of a phase from which it is always zero, and the part of all zeros that such phases must hold."""


def is_intermittent(values: np.ndarray) -> np.ndarray:
    """Return which rows of ``values (row, time)`` are never negative and often zero, ``(row,)``."""
    zeros, known = (values == 0).sum(1), (~np.isnan(values)).sum(1)
    return (zeros > 0) & (zeros >= MIN_ZEROS * known) & ~(values < 0).any(1)


def zero_phases(values: np.ndarray, season: int) -> np.ndarray:
    """Return the phases at which a series is always zero, ``(season,)``, the phase of the last step last.

    There are none unless they hold nearly all of its zeros, in so many repeats that chance does not explain
    them: such as the nights of solar power.

    Args:
        values: ``(time,)``, NaN where unknown, never negative.
        season: steps of the season.
    """
    rest = np.pad(values, (-len(values) % season, 0), constant_values=np.nan).reshape(-1, season)
    is_always = (np.nan_to_num(rest) == 0).all(0) & ((rest == 0).sum(0) >= ZERO_REPEATS)
    return is_always & ((rest[:, is_always] == 0).sum() >= ZERO_SHARE * (rest == 0).sum())


def recent_medians(values: np.ndarray) -> np.ndarray:
    """Return the median ``(row,)`` of the last steps of ``values (row, time)``, zero if none is known."""
    recent = values[:, -MEDIAN_STEPS:]
    return np.nanmedian(np.where(np.isnan(recent).all(1, keepdims=True), 0.0, recent), axis=1)


def median_weights(
    network_errors: np.ndarray, median_errors: np.ndarray, magnitude: np.ndarray, is_clear: np.ndarray
) -> np.ndarray:
    """Return the weights ``(row,)`` of recent medians beside the network's forecasts.

    Args:
        network_errors: ``(origin, row)``, mean errors of the network from earlier origins, NaN for none.
        median_errors: ``(origin, row)``, those of the median.
        magnitude: ``(row,)``, the mean absolute value of a row.
        is_clear: ``(row,)``, whether the row has a clear season, which no median has.
    """
    odds = error_ratio(network_errors, median_errors, magnitude) ** MEDIAN_POWER
    return np.where(np.isnan(odds), np.where(is_clear, 0.0, 0.5), 1 - 1 / (1 + odds))


def mean_forecasts(values: np.ndarray, seasons: np.ndarray, forecasts: np.ndarray) -> np.ndarray:
    """Return ``forecasts (row, horizon)`` with those of intermittent rows replaced by means.

    A mean is the exponentially smoothed level, shared out by the profile of the season as clearly as the
    values show it.

    Args:
        values: ``(row, time)``, NaN where unknown.
        seasons: ``(row,)``, steps of a season, 1 for none.
        forecasts: ``(row, horizon)``, NaN where nothing is known.
    """
    found, horizon = forecasts.copy(), forecasts.shape[1]
    known = ~np.isnan(values)
    for row in np.flatnonzero(is_intermittent(values)).tolist():
        season = int(seasons[row])
        own = values[row, int(known[row].argmax()) :]
        profile = _profile(own, season)  # (season,), the last step has phase 0
        past = profile[np.arange(1 - len(own), 1) % season]
        found[row] = _level(own, past) * profile[np.arange(1, horizon + 1) % season]
    return found


def _level(values: np.ndarray, profile: np.ndarray) -> float:
    """Return the smoothed level after ``values (time,)`` with the seasonal ``profile (time,)``.

    In a season without demand it is drawn towards the mean.
    """
    pairs = np.stack([values, profile], 1)[~np.isnan(values)]
    level = pairs[:START_STEPS].mean(0)
    for pair in pairs:
        level = level + ALPHA * (pair - level)
    missing = max(MIN_PROFILE - level[1], 0.0)
    return float((level[0] + missing * pairs[:, 0].mean()) / (level[1] + missing))


def _profile(values: np.ndarray, season: int) -> np.ndarray:
    """Return the part of the mean that each phase of a season has, ``(season,)`` with a mean of 1.

    It is drawn towards 1 by the reliability of means of as many values as a phase has.
    """
    share, repeats = strength(values, season)[0] if season > 1 else 0.0, len(values) / season
    total = nan_mean(values, 0)
    if not share > 0 or not total > 0:
        return np.ones(season)
    by_phase = np.pad(values, (-len(values) % season, 0), constant_values=np.nan).reshape(-1, season)
    relative = np.roll(nan_mean(by_phase, 0), 1) / total
    reliability = repeats * share / (1 + (repeats - 1) * share)
    relative = 1 + reliability * (np.where(np.isnan(relative), 1.0, relative) - 1)
    return relative / relative.mean()
