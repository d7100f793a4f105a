"""Seasons of a table: those its calendar suggests and its values confirm, or else a cycle of the values."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from rnn_lightning.data.series import SeriesData
from rnn_lightning.errors import InputError
from rnn_lightning.tables.frequency import DAY, Frequency

MAX_SERIES = 100
"""Number of series to examine; of more, evenly spaced ones."""

MAX_REPEATS = 20
"""Number of repeats at the end of a series to examine: earlier seasons may have differed."""

MIN_STRENGTH = 0.3
"""Share of the detrended variance that a season must explain."""

OUTLIER = 5.0
"""Distance from the trend, in robust standard deviations, beyond which a value is an outlier."""

CYCLES = (60 * 10**9, 3600 * 10**9, DAY, 7 * DAY)
"""A minute, an hour, a day and a week in nanoseconds."""

MAX_CYCLE = 400
"""Longest cycle in steps to look for without a calendar."""

MIN_SWINGS = 8
"""Number of cycles from which a cycle of varying length is accepted, though its phases explain little."""

CYCLE_TOLERANCE, MAX_TRIED = 0.06, 20
"""Relative distance from a peak of the autocorrelation to search for a cycle, and number of series to try."""


def find_seasons(data: SeriesData, ends: Tensor | None = None) -> tuple[int, ...]:
    """Find the seasons of a table in steps, shortest first; none if its values do not repeat.

    The most common frequency of the series suggests seasons, such as 24 and 168 for hours. A season is
    accepted if its phase means explain enough of the variance without trend and shorter seasons, in the
    median over the series, with or without outliers. If none is accepted, the first clear peak of the
    autocorrelation is tested in the same way.

    Args:
        data: the series, of which unknown values are ignored.
        ends: ``(series,)``, one past the last row of each series to examine, such as the end of its training
            part; by default all known rows.
    """
    frequency, count = Counter(data.times.frequencies).most_common(1)[0]
    alike = [index for index, each in enumerate(data.times.frequencies) if each == frequency]
    candidates = calendar_seasons(frequency)
    max_steps = MAX_REPEATS * max((*candidates, MAX_CYCLE))
    columns: list[np.ndarray] = []  # each feature of each series, (time,)
    for place in np.linspace(0, count - 1, min(count, MAX_SERIES)):
        index = alike[int(place)]
        end = int((data.ends if ends is None else ends)[index])
        start = max(int(data.offsets[index]), end - max_steps)
        columns += list(data.values[start:end].numpy().astype(np.float64).T)
    found, rest = [], columns
    for season in candidates:
        tried = rest
        if not _is_accepted(tried, season):
            tried = [_without_outliers(column, season) for column in rest]
            if not _is_accepted(tried, season):
                continue
        found.append(season)
        rest = [_without_season(column, season) for column in tried]
    if not found and (cycle := _find_cycle(columns)):
        found.append(cycle)
    return tuple(found)


def given_seasons(season: int | str | Sequence[int]) -> tuple[int, ...] | None:
    """Return the seasons that a user gave, shortest first; None if they are to be found."""
    if season in ("auto", "none"):
        return () if season == "none" else None
    parts = season.split(",") if isinstance(season, str) else np.atleast_1d(season).tolist()
    try:
        seasons = sorted({int(part) for part in parts})
    except (TypeError, ValueError):
        seasons = []
    if not seasons or seasons[0] < 2:
        raise InputError(
            f"`season` must be auto, none, or numbers of steps from 2 on such as 24,168, got {season}."
        )
    return tuple(seasons)


def calendar_seasons(frequency: int | float | str) -> tuple[int, ...]:
    """Return the seasons in steps, shortest first, that a frequency suggests; none for a number."""
    size, unit = Frequency.parse(frequency)
    year_of_days = {1: 365, 7: 52, 14: 26, 28: 13}.get(int(size), 0)
    suggested = {
        "mo": [12 / size],
        "me": [12 / size],
        "bd": [5 / size],
        "d": [7 / size, year_of_days],
        "ns": [cycle / size for cycle in CYCLES],
    }
    return tuple(int(season) for season in suggested.get(unit, []) if season >= 2 and season == int(season))


def strength(values: np.ndarray, season: int) -> tuple[float, float]:
    """Return the share of the detrended variance of ``(time,)`` that a season explains, and its threshold.

    The share is the intraclass correlation of the phases (Fisher 1925), which is 0 on average for noise,
    however few the repeats. Both are NaN for less than two repeats and for constant values.
    """
    values = values[-MAX_REPEATS * season :]
    if len(values) < 2 * season:
        return np.nan, np.nan
    rest, phase = _detrended(values, season)
    counts = np.bincount(phase, minlength=season)
    between, within = season - 1, len(rest) - season  # degrees of freedom
    if within < 1 or not counts.all():
        return np.nan, np.nan
    means = np.bincount(phase, rest) / counts
    inner = np.square(rest - means[phase]).sum() / within
    outer = (counts * np.square(means - rest.mean())).sum() / between
    if not outer + inner > 1e-12 * np.nanvar(values):
        return np.nan, np.nan
    repeats = len(rest) / season
    noise = 2 * np.sqrt(2 / between + 2 / within) / repeats  # two standard deviations of the share
    # A random walk may look like two repeats of a season, but hardly ever like five.
    threshold = max(noise, MIN_STRENGTH * repeats / (repeats - 1))
    return float((outer - inner) / (outer + (repeats - 1) * inner)), float(threshold)


def _is_accepted(columns: Sequence[np.ndarray], season: int) -> bool:
    """Return True if the median strength exceeds the median threshold, of the columns long enough."""
    strengths = np.array([strength(column, season) for column in columns]).reshape(-1, 2)
    measured = strengths[~np.isnan(strengths[:, 0])]
    return len(measured) > 0 and bool(np.greater(*np.median(measured, 0)))


def _detrended(values: np.ndarray, season: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the known values without their trend, ``(known,)``, and the phase of each."""
    rest = values - _trend(values, season)
    known = np.flatnonzero(~np.isnan(rest))
    return rest[known], known % season


def _trend(values: np.ndarray, season: int) -> np.ndarray:
    """Return the centred moving average over one season, or a line for less than three seasons."""
    if len(values) < 3 * season:
        return _line(values)
    known = ~np.isnan(values)
    level = values[known].mean() if known.any() else 0.0
    sums = _moving_sums(np.where(known, values - level, 0.0), season)
    counts = _moving_sums(known.astype(float), season)
    means = np.full(len(values), np.nan)
    middle = slice(season // 2, season // 2 + len(sums))
    means[middle] = np.where(counts > season / 2, level + sums / np.maximum(counts, 1), np.nan)
    return means


def _line(values: np.ndarray) -> np.ndarray:
    """Return the least-squares line through the known values, or the values if at most two are known."""
    steps, known = np.arange(len(values)), ~np.isnan(values)
    return np.polyval(np.polyfit(steps[known], values[known], 1), steps) if known.sum() > 2 else values


def _moving_sums(values: np.ndarray, season: int) -> np.ndarray:
    """Return the sums over a season around each step; the outermost steps of an even one count half."""
    total = np.r_[0.0, values.cumsum()]
    sums = total[season:] - total[:-season]
    return sums if season % 2 else (sums[1:] + sums[:-1]) / 2


def _without_outliers(values: np.ndarray, season: int) -> np.ndarray:
    """Replace values far from the trend by NaN: a few large ones hide a season."""
    rest = values - _trend(values, season)
    if np.isnan(rest).all():
        return values
    distance = np.abs(rest - np.nanmedian(rest))
    limit = OUTLIER * 1.4826 * np.nanmedian(distance)  # 1.4826: from median to standard deviation
    return np.where(distance > limit, np.nan, values) if limit > 0 else values


def _without_season(values: np.ndarray, season: int) -> np.ndarray:
    """Subtract the mean of each phase of the season."""
    rest, phase = _detrended(values, season)
    means = np.bincount(phase, rest, minlength=season) / np.bincount(phase, minlength=season).clip(1)
    return values - means[np.arange(len(values)) % season]


def _find_cycle(columns: list[np.ndarray]) -> int | None:
    """Return the cycle near the first clear peak of the autocorrelation of most series, or None.

    The peak of a cycle of varying length, such as that of the sunspots, is ragged. So of the lags near it the
    strongest season is taken.
    """
    peaks = [peak for column in columns if (peak := _first_peak(column))]
    if 2 * len(peaks) <= len(columns):
        return None
    middle = float(np.median(peaks))
    tried = [column for column in columns if len(column) >= 4 * middle][:MAX_TRIED]
    lags = range(max(2, round((1 - CYCLE_TOLERANCE) * middle)), round((1 + CYCLE_TOLERANCE) * middle) + 1)
    best = max(lags, key=lambda lag: np.median(np.nan_to_num([strength(column, lag)[0] for column in tried])))
    num_swinging = sum(_swings(column, best) for column in columns)
    return best if _is_accepted(tried, best) or 2 * num_swinging > len(columns) else None


def _swings(values: np.ndarray, cycle: int) -> bool:
    """Return True if values are opposite half a cycle apart and alike a whole one apart, for many cycles.

    So are cycles of varying length, whose phases drift apart, but neither random walks nor autoregressive
    series of that length.
    """
    correlation = _autocorrelation(values, cycle)
    opposite = len(correlation) > 0 and correlation.min() < -MIN_STRENGTH
    return bool(opposite and correlation[-1] > MIN_STRENGTH and len(values) >= MIN_SWINGS * cycle)


def _first_peak(values: np.ndarray) -> int | None:
    """Return the lag of the first high peak of the autocorrelation after it was negative."""
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
    # The peak may be ragged: take the highest lag up to where the correlation is negative again.
    end = next((lag for lag in range(first, last + 1) if correlation[lag] < 0), last + 1)
    peak = first + int(np.argmax(correlation[first:end]))
    return peak if correlation[peak + 1] < correlation[peak] else None


def _autocorrelation(values: np.ndarray, max_lag: int) -> np.ndarray:
    """Return the autocorrelation without a line, ``(max_lag + 1,)``; empty for few or constant values."""
    known = ~np.isnan(values)
    if known.sum() < 12:
        return np.zeros(0)
    rest = np.where(known, values - _line(values), 0.0)
    width = 2 * len(values)
    products = np.fft.irfft(np.abs(np.fft.rfft(rest, width)) ** 2, width)
    pairs = np.fft.irfft(np.abs(np.fft.rfft(known.astype(float), width)) ** 2, width)
    correlation = products[: max_lag + 1] / np.maximum(pairs[: max_lag + 1], 1)
    return correlation / correlation[0] if correlation[0] > 0 else np.zeros(0)
