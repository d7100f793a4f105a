"""How strong a season is in the values of a series: shared by the tables and the pretrained network."""

import numpy as np

MAX_REPEATS = 20
"""Number of repeats at the end of a series to examine: earlier seasons may have differed."""

MIN_STRENGTH = 0.3
"""Share of the detrended variance that a season must explain."""


def strength(values: np.ndarray, season: int) -> tuple[float, float]:
    """Return the share of the detrended variance of ``(time,)`` that a season explains, and its threshold.

    The share is the intraclass correlation of the phases (Fisher 1925), which is 0 on average for noise,
    however few the repeats. Both are NaN for less than two repeats and for constant values.
    """
    values = values[-MAX_REPEATS * season :]
    if len(values) < 2 * season:
        return np.nan, np.nan
    rest, phase = detrended(values, season)
    counts = np.bincount(phase, minlength=season)
    num_phases = np.count_nonzero(counts)  # fewer than the season where a series has no Sundays, say
    between, within = num_phases - 1, len(rest) - num_phases  # degrees of freedom
    if within < 1 or between < 1:
        return np.nan, np.nan
    means = np.bincount(phase, rest, minlength=season) / counts.clip(1)
    inner = np.square(rest - means[phase]).sum() / within
    outer = (counts * np.square(means - rest.mean())).sum() / between
    if not outer + inner > 1e-12 * np.nanvar(values):
        return np.nan, np.nan
    repeats = len(rest) / num_phases
    noise = 2 * np.sqrt(2 / between + 2 / within) / repeats  # two standard deviations of the share
    # A random walk may look like two repeats of a season, but hardly ever like five.
    threshold = max(noise, MIN_STRENGTH * repeats / (repeats - 1))
    return float((outer - inner) / (outer + (repeats - 1) * inner)), float(threshold)


def detrended(values: np.ndarray, season: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the known values without their trend, ``(known,)``, and the phase of each."""
    rest = values - trend(values, season)
    known = np.flatnonzero(~np.isnan(rest))
    return rest[known], known % season


def trend(values: np.ndarray, season: int) -> np.ndarray:
    """Return the centred moving average over one season, or a line for less than three seasons."""
    if len(values) < 3 * season:
        return line(values)
    known = ~np.isnan(values)
    level = values[known].mean() if known.any() else 0.0
    sums = _moving_sums(np.where(known, values - level, 0.0), season)
    counts = _moving_sums(known.astype(float), season)
    means = np.full(len(values), np.nan)
    middle = slice(season // 2, season // 2 + len(sums))
    means[middle] = np.where(counts > counts.max() / 2, level + sums / np.maximum(counts, 1), np.nan)
    return means


def line(values: np.ndarray) -> np.ndarray:
    """Return the least-squares line through the known values, or the values if at most two are known."""
    steps, known = np.arange(len(values)), ~np.isnan(values)
    return np.polyval(np.polyfit(steps[known], values[known], 1), steps) if known.sum() > 2 else values


def _moving_sums(values: np.ndarray, season: int) -> np.ndarray:
    """Return the sums over a season around each step; the outermost steps of an even one count half."""
    total = np.r_[0.0, values.cumsum()]
    sums = total[season:] - total[:-season]
    return sums if season % 2 else (sums[1:] + sums[:-1]) / 2
