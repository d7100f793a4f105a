"""Seasons of a table: those that its calendar suggests, or else the values, if the values repeat so."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from rnn_lightning.data.series import SeriesData
from rnn_lightning.errors import InputError
from rnn_lightning.tables.frequency import DAY, Frequency

NUM_LOOKED_AT = 100
"""Series that are looked at where there are more: evenly spread ones."""

NUM_SEASONS = 20
"""The last seasons of a series that are looked at: earlier ones may have been others."""

MIN_STRENGTH = 0.3
"""The share of the variance, without the trend, that a season has to explain."""

OUTLIER = 5.0
"""Deviations from the trend from which a value is an outlier."""

CYCLES = (60 * 10**9, 3600 * 10**9, DAY, 7 * DAY)
"""A minute, an hour, a day and a week in nanoseconds."""

MAX_CYCLE = 400
"""The longest cycle in steps that is looked for without a calendar."""

MIN_SWINGS = 8
"""As many cycles that differ in length are accepted, though their phases explain little."""

NEAR, NUM_TRIED = 0.06, 20
"""How far from a peak of the autocorrelation, relatively, a cycle is looked for, and in how many series."""


def find_seasons(data: SeriesData, ends: Tensor | None = None) -> tuple[int, ...]:
    """The seasons of a table in steps, shortest first; none for values that do not repeat.

    The calendar of the time stamps suggests seasons, such as 24 and 168 for hours. One is accepted if, in
    the median over the series, the means of its phases explain enough of the variance that is left without
    the trend and the shorter seasons, or of that which is left without outliers too. Where it has none, the
    first clear peak of the autocorrelation is tested alike.

    Args:
        data: the series; gaps are left out.
        ends: ``(series,)``, one past the last row of each series to look at, such as that of its training
            part; by default all known ones.
    """
    interval, count = Counter(data.times.frequencies).most_common(1)[0]
    chosen = [index for index, of_series in enumerate(data.times.frequencies) if of_series == interval]
    chosen = [chosen[int(place)] for place in np.linspace(0, count - 1, min(count, NUM_LOOKED_AT))]
    candidates = calendar_seasons(interval)
    longest = NUM_SEASONS * max((*candidates, MAX_CYCLE))
    columns = []
    for index in chosen:
        end = int((data.ends if ends is None else ends)[index])
        start = max(int(data.offsets[index]), end - longest)
        columns += list(data.values[start:end].numpy().astype(np.float64).T)
    found, rest = [], columns
    for season in candidates:
        tried = rest
        if not _accepted([strength(column, season) for column in tried]):
            tried = [_without_outliers(column, season) for column in rest]
            if not _accepted([strength(column, season) for column in tried]):
                continue
        found.append(season)
        rest = [_without(column, season) for column in tried]
    if not found and (cycle := _cycle(columns)):
        found.append(cycle)
    return tuple(found)


def given_seasons(season: int | str | Sequence[int]) -> tuple[int, ...] | None:
    """The seasons that ``season`` gives, shortest first; None for those to be found.

    Raises:
        InputError: if it is neither ``auto`` nor ``none`` nor whole numbers from 2 on.
    """
    if season in ("auto", "none"):
        return () if season == "none" else None
    parts = (
        season.split(",") if isinstance(season, str) else season if isinstance(season, Sequence) else [season]
    )
    try:
        seasons = sorted({int(part) for part in parts})
    except (TypeError, ValueError):
        seasons = []
    if not seasons or seasons[0] < 2:
        raise InputError(
            f"`season` must be auto, none, or numbers of steps from 2 on such as 24,168, got {season}."
        )
    return tuple(seasons)


def calendar_seasons(interval: int | float | str) -> tuple[int, ...]:
    """The seasons in steps, shortest first, that the calendar suggests for an interval such as ``1h``.

    Steps of numbers have none.
    """
    size, unit = Frequency.parse(interval)
    if unit in ("mo", "me"):
        seasons = [12 / size]
    elif unit == "bd":
        seasons = [5 / size]
    elif unit == "d":
        year = {1: 365, 7: 52, 14: 26, 28: 13}
        seasons = [7 / size, year.get(int(size), 0)]
    elif unit == "ns":
        seasons = [cycle / size for cycle in CYCLES]
    else:
        seasons = []
    return tuple(int(season) for season in seasons if season >= 2 and season == int(season))


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


def _accepted(strengths: list[tuple[float, float]]) -> bool:
    """Whether the median strength is that of a season, not of noise, and most series are long enough."""
    found = np.array(strengths).reshape(-1, 2)
    measured = found[~np.isnan(found[:, 0])]
    if len(measured) == 0:
        return False
    explained, least = np.median(measured, 0)
    return bool(explained > least)


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


def _without(values: np.ndarray, season: int) -> np.ndarray:
    """The values without the mean of each phase of the season."""
    rest = values - _trend(values, season)
    known = ~np.isnan(rest)
    phase = np.arange(len(values)) % season
    counts = np.bincount(phase[known], minlength=season)
    means = np.bincount(phase[known], rest[known], minlength=season) / np.maximum(counts, 1)
    return values - means[phase]


def _cycle(columns: list[np.ndarray]) -> int | None:
    """About the lag of the first clear peak of the autocorrelation of most series, if it passes for a season.

    Of a cycle that wanders, such as that of the sunspots, the peak is ragged: the lag near it whose season is
    the strongest counts.
    """
    peaks = [peak for column in columns if (peak := _first_peak(column))]
    if 2 * len(peaks) <= len(columns):
        return None
    middle = float(np.median(peaks))
    long_enough = [column for column in columns if len(column) >= 4 * middle][:NUM_TRIED]
    strengths = {
        lag: [strength(column, lag) for column in long_enough]
        for lag in range(max(2, round((1 - NEAR) * middle)), round((1 + NEAR) * middle) + 1)
    }
    best = max(strengths, key=lambda lag: np.median(np.nan_to_num([found for found, _ in strengths[lag]])))
    swings = sum(_swings(column, best) for column in columns)
    return best if _accepted(strengths[best]) or 2 * swings > len(columns) else None


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
