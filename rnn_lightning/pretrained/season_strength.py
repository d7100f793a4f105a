"""The season that the values of a series show, and how strong a season is."""

import numpy as np

NUM_SEASONS = 20
"""The last seasons of a series that are looked at: earlier ones may have differed."""

MIN_STRENGTH = 0.3
"""The share of the variance, without the trend, that a season has to explain."""

MAX_CYCLE = 400
"""The longest cycle in steps that is looked for."""

OUTLIER = 5.0
"""Deviations from the trend from which a value is an outlier."""

MIN_SWINGS = 8
"""A cycle whose length varies is accepted from this many repeats on, even if its phases explain little."""

NEAR = 0.06
"""How far from a peak of the autocorrelation, relatively, a cycle is looked for."""


def seasons_in_values(values: np.ndarray) -> list[int]:
    """Return the season of a series that its values show, ``[]`` if they show none.

    It is near the first clear peak of the autocorrelation of ``values (time,)``, NaN where unknown. Where a
    cycle wanders, such as that of the sunspots, the peak is ragged, and the strongest season near it counts.
    """
    values = values[-NUM_SEASONS * MAX_CYCLE :]
    peak = _first_peak(values)
    if peak is None:
        return []
    lags = range(max(2, round((1 - NEAR) * peak)), round((1 + NEAR) * peak) + 1)
    best = max(lags, key=lambda lag: np.nan_to_num(strength(values, lag)[0]))
    for tried in (values, _without_outliers(values, best)):
        share, least = strength(tried, best)
        if share > least:
            return [best]
    return [best] if _swings(values, best) else []


def strength(values: np.ndarray, season: int) -> tuple[float, float]:
    """The share of the variance of detrended ``values (time,)`` that a season explains, and its threshold.

    The intraclass correlation of the phases (Fisher 1925): 0 on average for noise, however few the
    seasons. NaN for less than two seasons and for constants.
    """
    values = values[-NUM_SEASONS * season :]
    if len(values) < 2 * season:
        return np.nan, np.nan
    rest = values - _trend(values, season)
    known = ~np.isnan(rest)
    rest, phase = rest[known], np.flatnonzero(known) % season
    counts = np.bincount(phase, minlength=season)
    num_phases = int((counts > 0).sum())
    between, within = num_phases - 1, len(rest) - num_phases
    if between < 1 or within < 1 or num_phases < season:
        return np.nan, np.nan
    means = np.bincount(phase, rest) / counts
    inner = np.square(rest - means[phase]).sum() / within
    outer = (counts * np.square(means - rest.mean())).sum() / between
    if not outer + inner > 1e-12 * np.nanvar(values):
        return np.nan, np.nan
    repeats = len(rest) / season
    noise = 2 * np.sqrt(2 / between + 2 / within) / repeats
    # A random walk may look like two seasons, hardly ever like five.
    least = max(noise, MIN_STRENGTH * repeats / (repeats - 1))
    return float((outer - inner) / (outer + (repeats - 1) * inner)), float(least)


def _trend(values: np.ndarray, season: int) -> np.ndarray:
    """The moving average over one season, centred, or a straight line for fewer than three seasons."""
    known = ~np.isnan(values)
    if len(values) < 3 * season:
        steps = np.arange(len(values))
        return np.polyval(np.polyfit(steps[known], values[known], 1), steps) if known.sum() > 2 else values
    level = values[known].mean() if known.any() else 0.0
    sums, counts = _sums(np.where(known, values - level, 0.0), season), _sums(known.astype(float), season)
    means = np.full(len(values), np.nan)
    half = season // 2
    means[half : half + len(sums)] = np.where(
        counts > season / 2, level + sums / np.maximum(counts, 1), np.nan
    )
    return means


def _sums(values: np.ndarray, season: int) -> np.ndarray:
    """The sums over a season around each step; an even season counts its two outermost steps half."""
    total = np.r_[0.0, values.cumsum()]
    sums = total[season:] - total[:-season]
    return sums if season % 2 else (sums[1:] + sums[:-1]) / 2


def _without_outliers(values: np.ndarray, season: int) -> np.ndarray:
    """The values but for those far from the trend: a few large ones hide a season. They become NaN."""
    rest = values - _trend(values, season)
    known = ~np.isnan(rest)
    if not known.any():
        return values
    distance = np.abs(rest - np.median(rest[known]))
    limit = OUTLIER * 1.4826 * np.median(distance[known])  # of a normal distribution, in deviations
    return np.where(known & (distance > limit), np.nan, values) if limit > 0 else values


def _swings(values: np.ndarray, cycle: int) -> bool:
    """Whether values swing that often about so long, where the phases of the cycles drift apart.

    Half a cycle apart they are opposite, and a whole one apart alike; random walks and autoregressive series
    of many times that length are not.
    """
    correlation = _autocorrelation(values, cycle)
    opposite = len(correlation) > 0 and correlation.min() < -MIN_STRENGTH
    return bool(opposite and correlation[-1] > MIN_STRENGTH and len(values) >= MIN_SWINGS * cycle)


def _first_peak(values: np.ndarray) -> int | None:
    """The lag of the first high peak of the autocorrelation, once negative."""
    last = min(len(values) // 4, MAX_CYCLE)
    correlation = _autocorrelation(values, last + 1)
    negative = np.flatnonzero(correlation < 0)
    if len(negative) == 0:
        return None
    start = max(int(negative[0]), 2)
    highest = correlation[start : last + 1].max(initial=0.0)
    if highest < MIN_STRENGTH:
        return None
    first = start + int(np.argmax(correlation[start : last + 1] >= 0.8 * highest))
    # The whole of the first hill: it may be ragged.
    end = next((lag for lag in range(first, last + 1) if correlation[lag] < 0), last + 1)
    peak = first + int(np.argmax(correlation[first:end]))
    return peak if correlation[peak + 1] < correlation[peak] else None


def _autocorrelation(values: np.ndarray, last: int) -> np.ndarray:
    """That without a straight line at the lags from 0 to ``last``; empty for too few values and constants."""
    known = ~np.isnan(values)
    if known.sum() < 12:
        return np.zeros(0)
    steps = np.arange(len(values))
    line = np.polyval(np.polyfit(steps[known], values[known], 1), steps)
    rest = np.where(known, values - line, 0.0)
    width = 2 * len(values)
    products = np.fft.irfft(np.abs(np.fft.rfft(rest, width)) ** 2, width)
    pairs = np.fft.irfft(np.abs(np.fft.rfft(known.astype(float), width)) ** 2, width)
    correlation = products[: last + 1] / np.maximum(pairs[: last + 1], 1)
    return correlation / correlation[0] if correlation[0] > 0 else np.zeros(0)
