"""The seasons of each series: those that its calendar suggests, unless its own values speak against them."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.data.series import SeriesData
from rnn_lightning.errors import InputError, quoted
from rnn_lightning.season_strength import (
    MAX_REPEATS,
    MIN_STRENGTH,
    detrended,
    line,
    strength,
    strengths,
    trend,
)
from rnn_lightning.tables.frequency import DAY, Frequency
from rnn_lightning.transforms import Traits

MAX_EXAMINED = 10_000
"""Number of series up to which values are examined; in larger tables the calendar alone decides."""

VALUES_TOGETHER = 2**20
"""Values whose strengths are measured together."""

OUTLIER = 5.0
"""Distance from the trend, in robust standard deviations, beyond which a value is an outlier."""

MINUTE, HOUR, WEEK = DAY // 1440, DAY // 24, 7 * DAY
"""In nanoseconds."""

MIN_SHORT_CYCLE, MAX_CANDIDATE = 12, 2016
"""Steps that a minute or an hour must have to count as a season, and longest season to try for a forecast."""

YEAR_OF_DAYS = 365.25
"""Days of a year, which forecasts take as harmonics beside the week."""

MAX_CYCLE = 400
"""Longest cycle in steps to look for without a calendar."""

MIN_SWINGS = 8
"""Number of cycles from which one of varying length is accepted, and one that the calendar does not know."""

CYCLE_TOLERANCE = 0.06
"""Relative distance from a peak of the autocorrelation to search for a cycle."""

CLEAR_CYCLE = 0.8
"""Strength from which a cycle counts that is shorter than the seasons of the calendar."""


def find_seasons(data: SeriesData, ends: Tensor | None = None) -> Traits:
    """Find the seasons of each series, from its own calendar and values alone.

    Args:
        data: the series, of which unknown values are ignored.
        ends: ``(series,)``, one past the last row of each series to examine, such as the end of its training
            part; by default all known rows.

    Returns:
        - ``season (series,)``: steps of the season, 1 for none. It is that of the calendar, unless the values
          speak against it or show another; a longer one, such as the week of hours, where they show it.
        - ``seasons (series, k)``: candidates for a forecast, shortest first, 0 where there are fewer: the
          seasons of the calendar, and the cycle of the values where they show none of these.
        - ``year (series,)``: steps of a year beside them, 0 for none.
    """
    found, candidates = [], []
    ends, frequencies = data.ends if ends is None else ends, data.times.frequencies
    known = {each: (calendar_seasons(each), candidate_seasons(each)) for each in dict.fromkeys(frequencies)}
    suggestions = [known[frequency][0] for frequency in frequencies]
    examined = data.num_series <= MAX_EXAMINED
    accepted = _accepted_first(data, ends, suggestions) if examined else []
    for index, (frequency, suggested) in enumerate(zip(frequencies, suggestions, strict=True)):
        season, cycle = (suggested or (1,))[0], None
        if examined and not (accepted[index] and len(suggested) == 1):
            first, end = int(data.offsets[index]), int(ends[index])
            first = max(first, end - MAX_REPEATS * max((*suggested, MAX_CYCLE)))
            columns = list(data.values[first:end].numpy().astype(np.float64).T)
            season, cycle = find_season(columns, suggested)
        found.append(season)
        candidates.append(sorted({*known[frequency][1], *([cycle] if cycle else [])}))
    width = max(1, *map(len, candidates))
    daily = {frequency for frequency in known if Frequency.parse(frequency) == (1, "d")}
    is_daily = [frequency in daily for frequency in frequencies]
    return {
        "season": torch.tensor(found),
        "seasons": torch.tensor([each + [0] * (width - len(each)) for each in candidates]),
        "year": YEAR_OF_DAYS * torch.tensor(is_daily).float(),
    }


def _accepted_first(data: SeriesData, ends: Tensor, suggestions: Sequence[tuple[int, ...]]) -> list[bool]:
    """Return for each series whether its values clearly have the shortest season of its calendar."""
    seasons = torch.tensor([each[0] if each else 1 for each in suggestions])
    lengths = torch.minimum(ends - data.offsets[:-1], MAX_REPEATS * seasons)
    accepted, num_features = torch.zeros(len(seasons), dtype=torch.bool), data.values.shape[1]
    pairs = torch.stack([seasons, lengths], 1)[(seasons > 1) & (lengths > 0)].unique(dim=0)
    for season, length in pairs.tolist():
        of_length = ((seasons == season) & (lengths == length)).nonzero()[:, 0]
        for some in of_length.split(max(1, VALUES_TOGETHER // (max(1, length) * num_features))):
            steps = ends[some][:, None] + torch.arange(-length, 0)  # (series, time)
            columns = data.values[steps].double().numpy().transpose(0, 2, 1)  # (series, feature, time)
            found = np.stack(strengths(columns.reshape(-1, length), season), 1)
            medians = [_medians(each) for each in found.reshape(len(some), num_features, 2)]
            accepted[some] = torch.tensor([bool(share > threshold) for share, threshold in medians])
    return accepted.tolist()


def find_season(columns: Sequence[np.ndarray], suggested: Sequence[int]) -> tuple[int, int | None]:
    """Return the season of one series, 1 for none, and the cycle of its values if the calendar has no such.

    Args:
        columns: the features of the series, ``(time,)`` each, NaN where unknown.
        suggested: seasons by its calendar, shortest first.
    """
    accepted: list[int] = []
    rest = columns
    for season in suggested:
        tried = rest
        if not _is_accepted(tried, season):
            tried = [_without_outliers(column, season) for column in rest]
            if not _is_accepted(tried, season):
                continue
        accepted.append(season)
        rest = [_without_season(column, season) for column in tried]
    if accepted:  # a longer season comes in place of a shorter one only if it contains that
        return max(season for season in accepted if season % accepted[0] == 0), None
    shortest = suggested[0] if suggested else 1
    cycle = _find_cycle(columns)
    if cycle and (cycle > shortest or _is_clear(columns, cycle)):
        return cycle, cycle
    speaks_for = suggested and _median_strength(columns, shortest)[0] > 0
    return (shortest if speaks_for else 1), None


def given_seasons(season: int | str | Sequence[int] | Mapping[str, int]) -> tuple[int, ...] | None:
    """Return the seasons that a user gave to all series, shortest first; None if they are to be found."""
    if isinstance(season, Mapping):
        for name, steps in season.items():
            if not (isinstance(steps, int) and steps >= 1):
                what = "is a number of steps, 1 for none"
                raise InputError(f"`season` of a series {what}, got {name!r}: {steps!r}.")
        return None
    if season in ("auto", "none"):
        return () if season == "none" else None
    parts = season.split(",") if isinstance(season, str) else np.atleast_1d(season).tolist()
    try:
        seasons = sorted({int(part) for part in parts})
    except (TypeError, ValueError):
        seasons = []
    if not seasons or seasons[0] < 2:
        raise InputError(
            f"`season` must be auto, none, or numbers of steps of at least 2, such as 24,168; got {season}."
        )
    return tuple(seasons)


def given_traits(seasons: Sequence[int], lengths: Tensor) -> Traits:
    """Return the traits of series for which a user gave seasons: one is fixed, several are tried.

    The ``season`` of several is the longest that a series of ``lengths (series,)`` has twice. A series that
    is no longer than a season does not have it, and if none is, that is a warning.
    """
    season, repeats = torch.ones_like(lengths), 1 if len(seasons) == 1 else 2
    for each in seasons:
        season = torch.where((lengths >= repeats * each) & (lengths > each), each, season)
    if seasons and min(seasons) >= int(lengths.max()):
        longest = f"{int(lengths.max()):,} steps"
        warnings.warn(f"no series has `season` {min(seasons):,}: the longest has {longest}.", stacklevel=2)
    candidates = torch.tensor([seasons if len(seasons) > 1 else [0]]).repeat(len(lengths), 1)
    return {"season": season, "seasons": candidates, "year": torch.zeros(len(lengths))}


def with_given(traits: Traits, ids: Sequence[str], seasons: Mapping[str, int]) -> Traits:
    """Return the traits in which the series that are named have the season that a user gave, 1 for none.

    A name without a series is a warning: the table of a forecast may have fewer series than that of the fit.
    """
    if unknown := seasons.keys() - set(ids):
        warnings.warn(
            f"`season` names {quoted(min(unknown))}, which is not a series of the data.", stacklevel=2
        )
    rows = [index for index, name in enumerate(ids) if name in seasons]
    season, candidates, year = (traits[name].clone() for name in ("season", "seasons", "year"))
    season[rows] = torch.tensor([seasons[ids[index]] for index in rows], dtype=season.dtype)
    candidates[rows], year[rows] = 0, 0
    return {**traits, "season": season, "seasons": candidates, "year": year}


def calendar_seasons(frequency: int | float | str) -> tuple[int, ...]:
    """Return the seasons in steps, shortest first, that a frequency suggests; none for a number."""
    size, unit = Frequency.parse(frequency)
    year_of_days = {1: 365, 7: 52, 14: 26, 28: 13}.get(int(size), 0)
    suggested = {
        unit: [12 / size * (unit.count(",") + 1)] if unit.startswith("mo@") else [],
        "mo": [12 / size],
        "me": [12 / size],
        "bd": [5 / size],
        "d": [7 / size, year_of_days],
        "ns": [
            cycle / size
            for cycle in (MINUTE, HOUR, DAY, WEEK)
            if cycle >= DAY or cycle / size >= MIN_SHORT_CYCLE
        ],
    }
    return tuple(int(season) for season in suggested.get(unit, []) if season >= 2 and season == int(season))


def candidate_seasons(frequency: int | float | str) -> list[int]:
    """Return the seasons of the calendar that forecasts try; the year of days is taken as harmonics."""
    unit = Frequency.parse(frequency).unit
    suggested = calendar_seasons(frequency)
    return [season for season in suggested if season <= MAX_CANDIDATE and (unit, season) != ("d", 365)]


def _is_accepted(columns: Sequence[np.ndarray], season: int) -> bool:
    """Return True if the median strength over the features exceeds the median threshold."""
    share, threshold = _median_strength(columns, season)
    return bool(share > threshold)


def _median_strength(columns: Sequence[np.ndarray], season: int) -> np.ndarray:
    """Return the medians of the strengths and thresholds of the features, NaN where none has any."""
    return _medians(np.array([strength(column, season) for column in columns]).reshape(-1, 2))


def _medians(pairs: np.ndarray) -> np.ndarray:
    """Return the medians over the features of strengths and thresholds ``(feature, 2)``, see above."""
    if len(pairs) == 1:
        return pairs[0]
    measured = pairs[~np.isnan(pairs[:, 0])]
    return np.median(measured, 0) if len(measured) else np.full(2, np.nan)


def _without_outliers(values: np.ndarray, season: int) -> np.ndarray:
    """Replace values far from the trend by NaN: a few large ones hide a season."""
    rest = values - trend(values, season)
    if np.isnan(rest).all():
        return values
    distance = np.abs(rest - np.nanmedian(rest))
    limit = OUTLIER * 1.4826 * np.nanmedian(distance)  # 1.4826: from median to standard deviation
    return np.where(distance > limit, np.nan, values) if limit > 0 else values


def _without_season(values: np.ndarray, season: int) -> np.ndarray:
    """Subtract the mean of each phase of the season."""
    rest, phase = detrended(values, season)
    means = np.bincount(phase, rest, minlength=season) / np.bincount(phase, minlength=season).clip(1)
    return values - means[np.arange(len(values)) % season]


def _find_cycle(columns: Sequence[np.ndarray]) -> int | None:
    """Return the cycle near the first clear peak of the autocorrelation of most features, or None.

    The peak of a cycle of varying length, such as that of the sunspots, is ragged. So of the lags near it the
    strongest season is taken.
    """
    peaks = [peak for column in columns if (peak := _first_peak(column))]
    if 2 * len(peaks) <= len(columns):
        return None
    middle = float(np.median(peaks))
    lags = range(max(2, round((1 - CYCLE_TOLERANCE) * middle)), round((1 + CYCLE_TOLERANCE) * middle) + 1)
    best = max(
        lags, key=lambda lag: np.median(np.nan_to_num([strength(column, lag)[0] for column in columns]))
    )
    num_swinging = sum(_swings(column, best) for column in columns)
    return best if _is_accepted(columns, best) or 2 * num_swinging > len(columns) else None


def _is_clear(columns: Sequence[np.ndarray], cycle: int) -> bool:
    """Return True if so much of the values repeats so often that chance or an autoregression hardly does."""
    is_long = len(columns[0]) >= MIN_SWINGS * cycle
    return is_long and bool(_median_strength(columns, cycle)[0] > CLEAR_CYCLE)


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
    rest = np.where(known, values - line(values), 0.0)
    width = 2 * len(values)
    products = np.fft.irfft(np.abs(np.fft.rfft(rest, width)) ** 2, width)
    pairs = np.fft.irfft(np.abs(np.fft.rfft(known.astype(float), width)) ** 2, width)
    correlation = products[: max_lag + 1] / np.maximum(pairs[: max_lag + 1], 1)
    return correlation / correlation[0] if correlation[0] > 0 else np.zeros(0)
