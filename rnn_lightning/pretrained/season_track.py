"""What is known of a series with a season, step by step.

Every quantity at a step is made of the values up to it. ``describe`` has whole contexts at once, ``Tracker``
one step after another; the tests hold them to each other.

With ``m`` steps in a season, the *average* is the mean of the last ``m`` values (of some seasons where ``m``
is short), a *profile* the mean deviation of the same phase in the last 1, 4 or 12 seasons from a centred
average, and an *adjusted* value one without its profile. Exponentially smoothed adjusted values and their
changes are the *levels* and *slopes*.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rnn_lightning.pretrained.season_clock import RATES, Clock, average_length, clock, for_each_rate
from rnn_lightning.pretrained.season_features import SIMPLE_FORECASTS, Ingredients, Step, table
from rnn_lightning.transforms import precise

PROFILE_SEASONS = (1, 4, 12)


def kept_steps(season: int) -> int:
    """Steps that a track keeps: two seasons back from the next step, and one before the average."""
    return max(2 * season, average_length(season) + 1)


class Track(NamedTuple):
    """All that the following steps need of the past of each row, the row axis first.

    Attributes:
        values, averages, adjusted: ``(row, kept)``, the newest last.
        profiles, counts: ``(row, season, 3)`` and ``(row, season)``, of the phases from half a season ahead
            back.
        smoothed: ``(row, 7)``, the levels, the mean and the slopes, see ``RATES``.
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


def describe(values: Tensor, known: Tensor, season: int) -> tuple[Step, Track, Clock]:
    """Everything that is known at each step of contexts.

    Args:
        values: ``(row, time)``, complete from the first known value of each row on.
        known: ``(row, time)``, which of them are known: the others are the network's own.
        season: steps of a season, 1 for none.

    Returns:
        The steps, each attribute ``(row, time, ...)``, the track after the last of them, and their clock.
    """
    num_steps, length, now = values.shape[1], average_length(season), clock(known, values, season)
    values = torch.where(now.age >= 0, values, 0.0)
    sums = functional.pad(precise(values).cumsum(1), (1, 0))
    begin = (torch.arange(1, num_steps + 1, device=values.device) - now.num_averaged.long()).clamp_min(0)
    average = ((sums[:, 1:] - sums.gather(1, begin)) / now.num_averaged).to(values)
    profiles, counts = _profiles(values, sums, now.age, season)
    has, following = counts > 0, slice(1, num_steps + 1)
    adjusted = torch.where(has[:, :num_steps], values - profiles[:, :num_steps, 1], average)
    changes = torch.where(now.age > 0, adjusted - _earlier(adjusted, 1), 0.0)
    parts = torch.stack(for_each_rate(adjusted, values, changes), -1)
    smoothed = smooth(parts, now.rates)
    past = [_earlier(values, lag) for lag in (0, 1, season - 1, season, 2 * season - 1)]
    of_adjusted = [_earlier(adjusted, lag) for lag in (0, 1, season)]
    average_slope = (average - _earlier(average, length)) / length
    average_slope = torch.where(now.age >= 2 * length - 1, average_slope, smoothed[..., -1])
    quantities = _quantities(now, past, of_adjusted, profiles[:, following], smoothed, average, average_slope)
    forecasts = Ingredients(values).simple_forecasts(quantities)
    errors = smooth((values[..., None] - _earlier(forecasts, 1)).abs(), now.error_rate[..., None])
    foreseen = num_steps - season // 2 + season
    kept = kept_steps(season)
    of_steps = (_newest(part, kept) for part in (values, average, adjusted))
    of_phases = (_newest(part[:, :foreseen], season) for part in (profiles, counts))
    last = (part[:, -1] for part in (smoothed, errors, forecasts))
    ages = (part[:, -1:] for part in (now.age, now.free))
    track = Track(*of_steps, *of_phases, *last, *ages)
    return Step(quantities, errors, has[:, following], now.counts), track, now


def _quantities(
    now: Clock,
    values: Sequence[Tensor],
    adjusted: Sequence[Tensor],
    profile: Tensor,
    smoothed: Tensor,
    average: Tensor,
    average_slope: Tensor,
) -> Tensor:
    """The quantities of a step or of all, see ``QUANTITIES``; the latest value stands for those before all.

    Args:
        now: the clock.
        values: ``(row, [time])``, the value, the one before, a season before the next, a season before this
            one, and two before the next.
        adjusted: the adjusted value, the one before, and that of a season before.
        profile: ``(row, [time,] 3)``, that of the next step.
        smoothed: ``(row, [time,] 7)``, the levels, the mean and the slopes.
        average: ``(row, [time])``.
        average_slope: ``(row, [time])``.
    """
    value, previous, lag, lag_before, lag_twice = values
    lag = torch.where(now.reached[..., 5], lag, value)
    there = [value, previous, *adjusted, lag, lag_before, lag_twice]
    instead = [value, value, *[adjusted[0]] * 3, lag, value, lag]
    first = torch.where(now.reached, torch.stack(there, -1), torch.stack(instead, -1))
    return torch.cat([first, profile, smoothed, torch.stack([average, average_slope], -1)], -1)


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
    limits = table(PROFILE_SEASONS, values.dtype, values.device)
    for first in range(0, end, season):
        this = slice(first, min(first + season, end))
        after = slice(this.start + season, this.stop + season)
        counts[:, after] = counts[:, this] + counted[:, this]
        rate = counted[:, this, None] / torch.minimum(counts[:, after, None].clamp_min(1), limits)
        profiles[:, after] = torch.lerp(profiles[:, this], deviations[:, this, None].expand(-1, -1, 3), rate)
    return profiles, counts


def smooth(series: Tensor, rates: Tensor) -> Tensor:
    """Exponential smoothing of ``(row, time, k)`` from zero, with the rates of every step.

    Blocks of steps are smoothed side by side, and then joined: what a block begins with fades in it.
    """
    num_steps = series.shape[1]
    size = math.ceil(math.sqrt(num_steps))
    padding = (0, 0, 0, -num_steps % size)
    series, rates = (
        functional.pad(part, padding).unflatten(1, (-1, size)) for part in (series, rates.expand_as(series))
    )
    level, levels = torch.zeros_like(series[:, :, 0]), []
    for value, rate in zip(series.unbind(2), rates.unbind(2), strict=True):
        level = torch.lerp(level, value, rate)
        levels.append(level)
    left = (1 - rates).cumprod(2)
    start, starts = torch.zeros_like(level[:, 0]), []
    for end, remaining in zip(level.unbind(1), left[:, :, -1].unbind(1), strict=True):
        starts.append(start)
        start = torch.addcmul(end, remaining, start)
    joined = torch.addcmul(torch.stack(levels, 2), left, torch.stack(starts, 1)[:, :, None])
    return joined.flatten(1, 2)[:, :num_steps]


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
        self.age, self.free = track.age, track.free
        self.limits = table(PROFILE_SEASONS, track.values.dtype, track.values.device)
        self.ingredients = Ingredients(track.values)
        self.sum = track.values[:, -self.length :].sum(1)

    def push(self, value: Tensor, now: Clock) -> Step:
        """Go on by a ``value (row,)``, known or the network's own; zero where a row has not begun."""
        self.age, self.free = now.age[:, None], now.free[:, None]
        has = self.counts[self.half - self.season] > 0
        self.sum = self.sum + value - self.values[-self.length]
        self.values.append(value)
        average = self.sum / now.num_averaged
        adjusted = torch.where(has, value - self.profiles[self.half - self.season][:, 1], average)
        change = torch.where(now.age > 0, adjusted - self.adjusted[-1], 0.0)
        self.adjusted.append(adjusted)
        self.averages.append(average)
        parts = torch.stack(for_each_rate(adjusted, value, change), -1)
        self.smoothed = torch.lerp(self.smoothed, parts, now.rates)
        errors = (value[:, None] - self.forecasts).abs()
        self.errors = torch.lerp(self.errors, errors, now.error_rate[:, None].expand_as(errors))
        self._push_profile(now)
        quantities = self._quantities(now)
        self.forecasts = self.ingredients.simple_forecasts(quantities)
        return Step(quantities, self.errors, self.counts[self.half - self.season] > 0, now.counts)

    def _push_profile(self, now: Clock) -> None:
        """The deviation of half a season ago, from the average centred on it, which is known by now."""
        season = self.season
        total = self.sum if self.length == season else torch.stack(self.values[-season:], 1).sum(1)
        if season % 2 == 0:
            total = total + (self.values[-season - 1] - self.values[-1]) / 2
        deviation = self.values[-1 - self.half] - total / season
        count = self.counts[-season] + now.centred
        rate = now.centred[:, None] / torch.minimum(count[:, None].clamp_min(1), self.limits)
        before = self.profiles[-season]
        self.profiles.append(torch.lerp(before, deviation[:, None].expand_as(before), rate))
        self.counts.append(count)

    def _quantities(self, now: Clock) -> Tensor:
        season, average = self.season, self.averages[-1]
        past = [self.values[-1 - lag] for lag in (0, 1, season - 1, season, 2 * season - 1)]
        adjusted = [self.adjusted[-1 - lag] for lag in (0, 1, season)]
        average_slope = (average - self.averages[-1 - self.length]) / self.length
        average_slope = torch.where(now.age >= 2 * self.length - 1, average_slope, self.smoothed[:, -1])
        profile = self.profiles[self.half - season]
        return _quantities(now, past, adjusted, profile, self.smoothed, average, average_slope)

    def track(self) -> Track:
        """The track after the last step."""
        kept, season = kept_steps(self.season), self.season
        of_steps = (torch.stack(part[-kept:], 1) for part in (self.values, self.averages, self.adjusted))
        of_phases = (torch.stack(part[-season:], 1) for part in (self.profiles, self.counts))
        latest = [self.smoothed, self.errors, self.forecasts, self.age, self.free]
        return Track(*of_steps, *of_phases, *latest)


def initial_track(like: Tensor, num_rows: int, season: int) -> Track:
    """The track of rows that have not begun."""
    kept = kept_steps(season)
    profiles = like.new_zeros(num_rows, season, len(PROFILE_SEASONS))
    whole = [torch.full((num_rows, 1), start, device=like.device) for start in (-1, 0)]
    sizes = (kept, kept, kept, season, len(RATES), len(SIMPLE_FORECASTS), len(SIMPLE_FORECASTS))
    values, averages, adjusted, counts, *rest = (like.new_zeros(num_rows, size) for size in sizes)
    return Track(values, averages, adjusted, profiles, counts, *rest, *whole)
