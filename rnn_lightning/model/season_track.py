"""What is known of a series with a season, step by step.

Every quantity at a step is made of the values up to it. ``describe`` has whole contexts at once, ``Tracker``
one step after another; the tests hold them to each other. ``age`` is the number of steps since the first
known value of a row, negative before it, and ``free`` the number of steps since the last known one: what lies
between is the network's own, in a gap as in a forecast.

With ``m`` steps in a season, the *average* is the mean of the last ``m`` values (of some seasons where ``m``
is short), a *profile* the mean deviation of the same phase in the last 1, 4 or 12 seasons from a centred
average, and an *adjusted* value one without its profile. Exponentially smoothed adjusted values and their
changes are the *levels* and *slopes*.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rnn_lightning.model.season_features import SIMPLE_FORECASTS, Ingredients, Step

LEVEL_RATES = (0.6, 0.25, 0.08)
SLOPE_RATES = (0.2, 0.05)
MEAN_RATE = 0.01
ERROR_RATE = 0.06
RATES = (*LEVEL_RATES, MEAN_RATE, *SLOPE_RATES)
"""Smoothing rates of the levels, the mean and the slopes."""

PROFILE_SEASONS = (1, 4, 12)


def average_length(season: int) -> int:
    """Steps of the average: one season, or the whole seasons in eight steps where it is shorter than four."""
    return season if season >= 4 else 8 // season * season


def kept_steps(season: int) -> int:
    """Steps that a track keeps: two seasons back from the next step, and one before the average."""
    return max(2 * season, average_length(season) + 1)


class Track(NamedTuple):
    """All that the following steps need of the past of each row, the row axis first.

    Attributes:
        values, averages, adjusted: ``(row, kept)``, the newest last.
        profiles, counts: ``(row, season, 3)`` and ``(row, season)``, of the phases from half a season ahead
            back.
        smoothed: ``(row, 6)``, the levels, the mean and the slopes.
        errors: ``(row, 7)``.
        forecasts: ``(row, 7)``, the simple forecasts of the next step.
        age, free: ``(row, 1)``.
    """

    values: Tensor
    averages: Tensor
    adjusted: Tensor
    profiles: Tensor
    counts: Tensor
    smoothed: Tensor
    errors: Tensor
    forecasts: Tensor
    age: Tensor
    free: Tensor


def describe(values: Tensor, known: Tensor, season: int) -> tuple[Step, Track]:
    """Everything that is known at each step of contexts.

    Args:
        values: ``(row, time)``, complete from the first known value of each row on.
        known: ``(row, time)``, which of them are known: the others are the network's own.
        season: steps of a season, 1 for none.

    Returns:
        The steps, each attribute ``(row, time, ...)``, and the track after the last of them.
    """
    num_steps, length = values.shape[1], average_length(season)
    steps = torch.arange(num_steps, device=values.device)
    last_known = torch.where(known, steps, -1).cummax(1).values
    age = steps - known.long().argmax(1, keepdim=True).masked_fill(~known.any(1, keepdim=True), num_steps)
    free = torch.where(last_known >= 0, steps - last_known, 0)
    values = torch.where(age >= 0, values, 0.0)
    sums = functional.pad(values.double().cumsum(1), (1, 0))
    count = (age + 1).clamp(1, length)
    average = ((sums[:, 1:] - sums.gather(1, (steps + 1 - count).clamp_min(0))) / count).to(values)
    profiles, counts = _profiles(values, sums, age, season)
    has = counts > 0
    now, following = slice(0, num_steps), slice(1, num_steps + 1)
    adjusted = torch.where(has[:, now], values - profiles[:, now, 1], average)
    changes = torch.where(age > 0, adjusted - _earlier(adjusted, 1), 0.0)
    parts = torch.stack([adjusted, adjusted, adjusted, values, changes, changes], -1)
    smoothed = smooth(parts, _rates(age, known, values.new_tensor(RATES)))
    lag = torch.where(age + 1 >= season, _earlier(values, season - 1), values)
    average_slope = (average - _earlier(average, length)) / length
    first = [
        values,
        torch.where(age > 0, _earlier(values, 1), values),
        adjusted,
        torch.where(age > 0, _earlier(adjusted, 1), adjusted),
        torch.where(age >= season, _earlier(adjusted, season), adjusted),
        lag,
        torch.where(age >= season, _earlier(values, season), values),
        torch.where(age + 1 >= 2 * season, _earlier(values, 2 * season - 1), lag),
    ]
    last = [average, torch.where(age >= 2 * length - 1, average_slope, smoothed[..., 5])]
    quantities = torch.cat(
        [torch.stack(first, -1), profiles[:, following], smoothed, torch.stack(last, -1)], -1
    )
    forecasts = Ingredients(season, values).simple_forecasts(quantities)
    errors = smooth(
        (values[..., None] - _earlier(forecasts, 1)).abs(), error_rate(age, known, values)[..., None]
    )
    foreseen = num_steps - season // 2 + season
    kept = kept_steps(season)
    track = Track(
        _newest(values, kept),
        _newest(average, kept),
        _newest(adjusted, kept),
        _newest(profiles[:, :foreseen], season),
        _newest(counts[:, :foreseen], season),
        smoothed[:, -1],
        errors[:, -1],
        forecasts[:, -1],
        age[:, -1:],
        free[:, -1:],
    )
    return Step(quantities, errors, has[:, following], age, free), track


def _profiles(values: Tensor, sums: Tensor, age: Tensor, season: int) -> tuple[Tensor, Tensor]:
    """The profiles ``(row, time + season, 3)`` of all steps and a season after, and their numbers of seasons.

    A profile is known half a season late, when the centred average is, and first serves a season after its
    own step.
    """
    num_rows, num_steps = values.shape
    half = season // 2
    profiles = values.new_zeros(num_rows, num_steps + season, len(PROFILE_SEASONS))
    counts = values.new_zeros(num_rows, num_steps + season)
    if num_steps < season + 1 - season % 2:
        return profiles, counts
    means = sums[:, season:] - sums[:, :-season]
    if season % 2 == 0:
        means = (means[:, 1:] + means[:, :-1]) / 2
    end = half + means.shape[1]
    deviations = functional.pad(values[:, half:end] - (means / season).to(values), (half, 0))
    counted = (age[:, :end] >= half).to(values)
    limits = values.new_tensor(PROFILE_SEASONS)
    for first in range(0, end, season):
        this = slice(first, min(first + season, end))
        after = slice(this.start + season, this.stop + season)
        counts[:, after] = counts[:, this] + counted[:, this]
        rate = counted[:, this, None] / torch.minimum(counts[:, after, None].clamp_min(1), limits)
        profiles[:, after] = torch.lerp(profiles[:, this], deviations[:, this, None].expand(-1, -1, 3), rate)
    return profiles, counts


def _rates(age: Tensor, known: Tensor, least: Tensor) -> Tensor:
    """Smoothing rates ``(..., 6)`` of the levels, the mean and the slopes: those of a plain mean at first."""
    rates = torch.maximum(least, 1 / (age.clamp_min(0) + 1).to(least)[..., None])
    started, after_first = (age >= 0)[..., None], (age > 0)[..., None]
    used = [started.expand(*age.shape, 3), known[..., None], after_first.expand(*age.shape, 2)]
    return rates * torch.cat(used, -1)


def error_rate(age: Tensor, known: Tensor, values: Tensor) -> Tensor:
    """The smoothing rate ``(...)`` of the errors: the first one counts whole."""
    rate = torch.where(age == 1, 1.0, (1 / (age.clamp_min(0) + 1).to(values)).clamp_min(ERROR_RATE))
    return rate * (known & (age > 0))


def smooth(series: Tensor, rates: Tensor) -> Tensor:
    """Exponential smoothing of ``(row, time, k)`` from zero, with the rates of every step."""
    level, levels = torch.zeros_like(series[:, 0]), []
    for value, rate in zip(series.unbind(1), rates.expand_as(series).unbind(1), strict=True):
        level = torch.lerp(level, value, rate)
        levels.append(level)
    return torch.stack(levels, 1)


def _earlier(series: Tensor, num_steps: int) -> Tensor:
    """The series ``(row, time, ...)`` as it was ``num_steps`` before, zero before its start."""
    padding = (0, 0) * (series.ndim - 2) + (num_steps, 0)
    return functional.pad(series, padding)[:, : series.shape[1]]


def _newest(series: Tensor, number: int) -> Tensor:
    """The last ``number`` of ``(row, time, ...)``, with zeros before where there are fewer."""
    padding = (0, 0) * (series.ndim - 2) + (max(0, number - series.shape[1]), 0)
    return functional.pad(series, padding)[:, -number:]


class Tracker:
    """Goes on from a track one step at a time. Columns are lists over time, to be cheap to differentiate.

    Args:
        track: the past.
        season: steps of a season, 1 for none.
    """

    def __init__(self, track: Track, season: int) -> None:
        self.season, self.half, self.length = season, season // 2, average_length(season)
        self.values, self.averages, self.adjusted = (list(part.unbind(1)) for part in track[:3])
        self.profiles, self.counts = list(track.profiles.unbind(1)), list(track.counts.unbind(1))
        self.smoothed, self.errors, self.forecasts = track.smoothed, track.errors, track.forecasts
        self.age, self.free = track.age[:, 0], track.free[:, 0]
        self.limits, self.least = track.values.new_tensor(PROFILE_SEASONS), track.values.new_tensor(RATES)
        self.ingredients = Ingredients(season, track.values)
        self.sum = track.values[:, -self.length :].sum(1)

    def push(self, value: Tensor, known: Tensor) -> Step:
        """Go on by a ``value (row,)``, ``known`` or the network's own; a row begins with a known one."""
        season, half = self.season, self.half
        self.age = torch.where(known | (self.age >= 0), self.age + 1, self.age)
        self.free = torch.where(known | (self.age < 0), 0, self.free + 1)
        value = torch.where(self.age >= 0, value, 0.0)
        profile, has = self.profiles[half - season], self.counts[half - season] > 0
        self.sum = self.sum + value - self.values[-self.length]
        self.values.append(value)
        average = self.sum / (self.age + 1).clamp(1, self.length)
        adjusted = torch.where(has, value - profile[:, 1], average)
        change = torch.where(self.age > 0, adjusted - self.adjusted[-1], 0.0)
        self.adjusted.append(adjusted)
        self.averages.append(average)
        parts = torch.stack([adjusted, adjusted, adjusted, value, change, change], -1)
        self.smoothed = torch.lerp(self.smoothed, parts, _rates(self.age, known, self.least))
        errors = (value[:, None] - self.forecasts).abs()
        rate = error_rate(self.age, known, value)[:, None]
        self.errors = torch.lerp(self.errors, errors, rate.expand_as(errors))
        self._push_profile()
        quantities = self._quantities()
        self.forecasts = self.ingredients.simple_forecasts(quantities)
        return Step(quantities, self.errors, self.counts[half - season] > 0, self.age, self.free)

    def _push_profile(self) -> None:
        """The deviation of half a season ago, from the average centred on it, which is known by now."""
        season, half = self.season, self.half
        total = self.sum if self.length == season else torch.stack(self.values[-season:], 1).sum(1)
        if season % 2 == 0:
            total = total + (self.values[-season - 1] - self.values[-1]) / 2
        deviation = self.values[-1 - half] - total / season
        counted = (self.age - half >= half).to(deviation)
        count = self.counts[-season] + counted
        rate = counted[:, None] / torch.minimum(count[:, None].clamp_min(1), self.limits)
        before = self.profiles[-season]
        self.profiles.append(torch.lerp(before, deviation[:, None].expand_as(before), rate))
        self.counts.append(count)

    def _quantities(self) -> Tensor:
        season, age, value, adjusted = self.season, self.age, self.values[-1], self.adjusted[-1]
        lag = torch.where(age + 1 >= season, self.values[-season], value)
        first = [
            value,
            torch.where(age > 0, self.values[-2], value),
            adjusted,
            torch.where(age > 0, self.adjusted[-2], adjusted),
            torch.where(age >= season, self.adjusted[-1 - season], adjusted),
            lag,
            torch.where(age >= season, self.values[-1 - season], value),
            torch.where(age + 1 >= 2 * season, self.values[-2 * season], lag),
        ]
        average_slope = (self.averages[-1] - self.averages[-1 - self.length]) / self.length
        average_slope = torch.where(age >= 2 * self.length - 1, average_slope, self.smoothed[:, 5])
        last = [self.averages[-1], average_slope]
        profile = self.profiles[self.half - season]
        return torch.cat([torch.stack(first, -1), profile, self.smoothed, torch.stack(last, -1)], -1)

    def track(self) -> Track:
        """The track after the last step."""
        kept, season = kept_steps(self.season), self.season
        return Track(
            torch.stack(self.values[-kept:], 1),
            torch.stack(self.averages[-kept:], 1),
            torch.stack(self.adjusted[-kept:], 1),
            torch.stack(self.profiles[-season:], 1),
            torch.stack(self.counts[-season:], 1),
            self.smoothed,
            self.errors,
            self.forecasts,
            self.age[:, None],
            self.free[:, None],
        )


def initial_track(like: Tensor, num_rows: int, season: int) -> Track:
    """The track of rows that have not begun."""
    kept = kept_steps(season)
    profiles = like.new_zeros(num_rows, season, len(PROFILE_SEASONS))
    whole = [torch.full((num_rows, 1), start, device=like.device) for start in (-1, 0)]
    sizes = (kept, kept, kept, season, len(RATES), len(SIMPLE_FORECASTS), len(SIMPLE_FORECASTS))
    values, averages, adjusted, counts, *rest = (like.new_zeros(num_rows, size) for size in sizes)
    smoothed, errors, forecasts = rest
    return Track(
        values, averages, adjusted, profiles, counts, smoothed, errors, forecasts, whole[0], whole[1]
    )
