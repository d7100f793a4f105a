"""The prior of pretraining: what series of business, economics, nature and counting could look like, drawn at random.

A series is a sum of parts of random strength - levels, trends, seasons, noise, events - in one of several forms: as it
is, exponential, with a season that grows with the level, cut off at zero, as counts. Every part is centred and has a
standard deviation of one over the series before its strength is drawn, so strengths mean the same for 15 steps and for
1,500, for quarters and for half-hours. The sine, the random and the linear sequence are corners of it.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from rnn_lightning.data.series import Series, SeriesData
from rnn_lightning.data.synthetic import require_positive
from rnn_lightning.errors import InputError

Array = np.ndarray
Draw = Callable[[np.random.Generator, int, int], Array]
"""Draws a part: from a generator, the number of series and the number of steps, ``(series, step)``."""


# ------------------------------------------------------------------------------------------------------ chances
def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


def log_uniform(rng: np.random.Generator, low: float, high: float, batch: int) -> Array:
    """One value for each series, ``(batch, 1)``."""
    return np.exp(rng.uniform(math.log(low), math.log(high), (batch, 1))).astype(np.float32)


def choose(rng: np.random.Generator, batch: int, probability: float) -> Array:
    """The indices of the series that have something."""
    return np.flatnonzero(rng.random(batch) < probability)


def unit(x: Array) -> Array:
    """Each row with mean zero and standard deviation one; a constant row is zero."""
    x = x - x.mean(1, keepdims=True)
    return x / (x.std(1, keepdims=True) + 1e-6)


def autoregress(innovations: Array, factor: Array) -> Array:
    """``y[t] = factor * y[t - 1] + innovations[t]``, in log2(steps) passes: 1 / (1 - f) = (1 + f)(1 + f^2)(1 + f^4) ..."""
    y, step = innovations.copy(), 1
    while step < y.shape[1]:
        y[:, step:] += factor * y[:, :-step]
        factor, step = factor * factor, 2 * step
    return y


def wander(rng: np.random.Generator, batch: int, length: int) -> Array:
    """A slow random curve from about zero, with a standard deviation of one at its end."""
    return np.cumsum(normal(rng, batch, length), 1) / np.float32(math.sqrt(length))


# ------------------------------------------------------------------------------------------------------- levels
def random_walk(rng: np.random.Generator, batch: int, length: int) -> Array:
    return np.cumsum(normal(rng, batch, length), 1)


def random_slope(rng: np.random.Generator, batch: int, length: int) -> Array:
    """A level with momentum: its slope forgets itself over a step, over the series, or anything between."""
    memory = log_uniform(rng, 0.7, 3 * length, batch)
    return np.cumsum(autoregress(normal(rng, batch, length), np.exp(-1 / memory)), 1)


def stationary(rng: np.random.Generator, batch: int, length: int) -> Array:
    """An autoregression of first order around a mean, with a memory of one step to a quarter of the series."""
    factor = np.exp(-1 / log_uniform(rng, 0.8, max(5, length / 4), batch))
    return autoregress(normal(rng, batch, 2 * length), factor)[:, length:]


def cycle(rng: np.random.Generator, batch: int, length: int) -> Array:
    """A damped rotation kept up by noise: swings without a calendar, of 4 steps up to more than the series."""
    period = log_uniform(rng, 4, max(8, 1.5 * length), batch)
    rotation = np.exp(2j * np.pi / period - 1 / (period * log_uniform(rng, 0.3, 20, batch)))
    return autoregress(normal(rng, batch, length).astype(np.complex64), rotation.astype(np.complex64)).real


# ------------------------------------------------------------------------------------------------------- trends
def linear(rng: np.random.Generator, batch: int, length: int) -> Array:
    return np.tile(np.arange(length, dtype=np.float32), (batch, 1)) * sign(rng, batch)


def piecewise(rng: np.random.Generator, batch: int, length: int) -> Array:
    """A line that changes its slope up to three times."""
    time = np.arange(length, dtype=np.float32)
    line = time * normal(rng, batch, 1)
    for _ in range(3):
        line += np.maximum(time - length * rng.random((batch, 1), dtype=np.float32), 0) * normal(rng, batch, 1) * 2
    return line


def damped(rng: np.random.Generator, batch: int, length: int) -> Array:
    """A trend that runs out."""
    time = np.arange(length, dtype=np.float32) / length
    return np.exp(-time / log_uniform(rng, 0.1, 1, batch)) * sign(rng, batch)


def exponential(rng: np.random.Generator, batch: int, length: int) -> Array:
    """A trend that gathers speed."""
    time = np.arange(length, dtype=np.float32) / length
    return np.exp(time * log_uniform(rng, 0.5, 4, batch)) * sign(rng, batch)


def sign(rng: np.random.Generator, batch: int) -> Array:
    """Up more often than down."""
    return np.where(rng.random((batch, 1)) < 0.6, 1, -1).astype(np.float32)


# ------------------------------------------------------------------------------------------------------- seasons
def fourier_profile(rng: np.random.Generator, batch: int, season: int) -> Array:
    """The shape of one season, ``(batch, season)``, from up to eight harmonics that fall off at a random rate."""
    harmonics = np.arange(1, max(1, min(season // 2, 8)) + 1, dtype=np.float32)
    size = harmonics ** -log_uniform(rng, 0.4, 3.5, batch) * (harmonics <= rng.integers(1, len(harmonics) + 1, (batch, 1)))
    angle = harmonics[:, None] * np.arange(season, dtype=np.float32) * np.float32(2 * math.pi / season)
    cosines = (normal(rng, batch, len(harmonics)) * size).astype(np.float32) @ np.cos(angle)
    return cosines + (normal(rng, batch, len(harmonics)) * size).astype(np.float32) @ np.sin(angle)


def spiky_profile(rng: np.random.Generator, batch: int, season: int) -> Array:
    """Quiet, but for a few phases."""
    spikes = rng.random((batch, season)) < max(1.5 / season, 0.08)
    return spikes * (2 + normal(rng, batch, season)) * sign(rng, batch) + 0.1 * normal(rng, batch, season)


def smooth_profile(rng: np.random.Generator, batch: int, season: int) -> Array:
    """Independent phases, smoothed around the season: plateaus and humps, as in hours of a day."""
    width = season / 2 * log_uniform(rng, 0.05, 0.5, batch)
    distance = np.minimum(np.arange(season), season - np.arange(season)).astype(np.float32)
    kernel = np.fft.rfft(np.exp(-((distance / width) ** 2)), axis=1)
    return np.fft.irfft(np.fft.rfft(normal(rng, batch, season), axis=1) * kernel, season, axis=1).astype(np.float32)


def profile(rng: np.random.Generator, batch: int, season: int) -> Array:
    """Shapes of one season of mixed kinds, ``(batch, season)``, standardised."""
    kind = rng.random((batch, 1))
    rough = 0.35 if season <= 12 else 0.05
    independent = normal(rng, batch, season)
    shape = np.where(kind < rough, independent, fourier_profile(rng, batch, season))
    shape = np.where(kind > 0.9, spiky_profile(rng, batch, season), shape)
    shape = np.where((kind > 0.65) & (kind <= 0.9), smooth_profile(rng, batch, season), shape)
    return unit(shape + independent * log_uniform(rng, 0.003, 0.5, batch) * min(1, 12 / season))


def week_profile(rng: np.random.Generator, batch: int, season: int) -> Array:
    """Seven days of equal length with a common shape, each of its own height and size, and a different weekend."""
    day = season // 7
    workday, other = profile(rng, batch, day)[:, None], profile(rng, batch, day)[:, None]
    weekend = (np.arange(7) >= 5)[:, None] * rng.uniform(0, 1, (batch, 1, 1)).astype(np.float32)
    size = 1 + log_uniform(rng, 0.02, 0.5, batch)[..., None] * normal(rng, batch, 7, 1)
    offset = log_uniform(rng, 0.05, 1.5, batch)[..., None] * (normal(rng, batch, 7, 1) * 0.4 - weekend)
    week = (workday * (1 - weekend) + weekend * (0.4 * workday + 0.4 * other)) * size + offset
    return unit(week.reshape(batch, season))


def seasonal(rng: np.random.Generator, batch: int, length: int, season: int) -> Array:
    """A repeated shape that may change its form, its size, single phases and its pace."""
    shapes = [profile(rng, batch, season) for _ in range(2)]
    if season % 7 == 0 and season >= 28:
        weekly = choose(rng, batch, 0.8)
        for shape in shapes:
            shape[weekly] = week_profile(rng, len(weekly), season)
    time = np.arange(length) + rng.integers(0, season, (batch, 1))
    cycles, phase = np.divmod(time, season)
    y = np.take_along_axis(shapes[0], phase, 1)
    rows = choose(rng, batch, 0.2)
    angle = wander(rng, len(rows), length) * log_uniform(rng, 0.1, 1.5, len(rows))
    y[rows] = y[rows] * np.cos(angle) + np.take_along_axis(shapes[1][rows], phase[rows], 1) * np.sin(angle)
    rows = choose(rng, batch, 0.15)
    walk = (
        np.cumsum(normal(rng, len(rows), length // season + 2, season), 1)
        * log_uniform(rng, 0.03, 0.4, len(rows))[..., None]
    )
    y[rows] += walk[np.arange(len(rows))[:, None], cycles[rows], phase[rows]]
    rows = choose(rng, batch, 0.2)
    y[rows] *= np.exp(wander(rng, len(rows), length) * log_uniform(rng, 0.1, 1, len(rows)))
    rows = choose(rng, batch, 0.04 if season > 6 else 0)
    y[rows] = drifting(rng, shapes[0][rows], length)
    return y


def drifting(rng: np.random.Generator, shape: Array, length: int) -> Array:
    """A shape repeated at a pace a little off the whole number of steps, and not quite steady."""
    batch, season = shape.shape
    pace = rng.uniform(-0.5, 0.5, (batch, 1)) / season
    time = np.arange(length) * (1 + pace) + wander(rng, batch, length) * log_uniform(rng, 0.01, 0.3, batch) * season
    whole = np.floor(time).astype(int)
    now, after = (np.take_along_axis(shape, (whole + i) % season, 1) for i in (0, 1))
    return now + (after - now) * (time - whole)


# --------------------------------------------------------------------------------------------------------- noise
def noise(rng: np.random.Generator, batch: int, length: int, season: int) -> Array:
    """Gaussian noise; some of it heavy-tailed, a moving average, smooth, of changing size, with outliers."""
    y = normal(rng, batch, length)
    rows = choose(rng, batch, 0.25)
    y[rows] = rng.standard_t(3.5, (len(rows), length))
    rows = choose(rng, batch, 0.25)
    y[rows, 1:] += rng.uniform(-0.7, 0.7, (len(rows), 1)).astype(np.float32) * y[rows, :-1]
    rows = choose(rng, batch, 0.2 if season <= 12 else 0.7)
    memory = log_uniform(rng, 0.5, max(4, season / 4), len(rows))
    y[rows] = autoregress(y[rows], np.exp(-1 / memory))
    rows = choose(rng, batch, 0.2)
    y[rows] *= np.exp(wander(rng, len(rows), length))
    y = unit(y)
    rows = choose(rng, batch, 0.12)
    y[rows] += (rng.random((len(rows), length)) < 0.02) * normal(rng, len(rows), length) * 5
    return y


# --------------------------------------------------------------------------------------------------------- events
def shift(rng: np.random.Generator, batch: int, length: int) -> Array:
    """A new level from some step on."""
    return np.arange(length) >= length * rng.random((batch, 1))


def pulse(rng: np.random.Generator, batch: int, length: int) -> Array:
    """A level that is different for a few steps."""
    start = length * rng.random((batch, 1))
    time = np.arange(length)
    return (time >= start) & (time < start + rng.integers(1, 7, (batch, 1)))


# --------------------------------------------------------------------------------------------------------- series
LEVELS: Sequence[tuple[float, Draw, float, float]] = (
    (0.35, random_walk, 0.05, 4),
    (0.50, random_slope, 0.1, 6),
    (0.30, stationary, 0.05, 1.5),
    (0.15, cycle, 0.1, 2),
    (0.35, linear, 0.2, 30),
    (0.20, piecewise, 0.2, 20),
    (0.12, damped, 0.2, 20),
    (0.12, exponential, 0.2, 20),
)
"""What makes up the level: the probability of a part, the part, its least and its greatest strength."""


def draw_level(rng: np.random.Generator, batch: int, length: int) -> Array:
    level = np.zeros((batch, length), np.float32)
    for probability, draw, low, high in LEVELS:
        rows = choose(rng, batch, probability)
        level[rows] += unit(draw(rng, len(rows), length)) * log_uniform(rng, low, high, len(rows))
    for event, probability in ((shift, 0.1), (shift, 0.1), (pulse, 0.1)):
        rows = choose(rng, batch, probability)
        level[rows] += event(rng, len(rows), length) * sign(rng, len(rows)) * log_uniform(rng, 0.1, 5, len(rows))
    return level


def counts(rng: np.random.Generator, z: Array) -> Array:
    """Numbers of events: Poisson around a rate that follows ``z``; a third of the series intermittent."""
    batch = len(z)
    rate = np.exp(np.clip(z * log_uniform(rng, 0.1, 0.8, batch) + rng.uniform(-1, 3, (batch, 1)), -5, 7))
    sizes = rng.poisson(rate)
    idle = rng.random(z.shape) < rng.uniform(0.2, 0.9, (batch, 1)) * (rng.random((batch, 1)) < 0.33)
    return np.where(idle, 0, sizes)


def draw_series(rng: np.random.Generator, batch: int, length: int, season: int) -> Array:
    """Draw ``batch`` series of ``length`` steps.

    Args:
        rng: the only source of chance.
        batch: number of series.
        length: number of steps, at least two.
        season: steps of a season that most of the series have; 1 for none.

    Returns:
        ``(batch, length)``, float32, finite.
    """
    level = draw_level(rng, batch, length)
    still = choose(rng, batch, 0.25 if season <= 12 else 0.5)
    level[still] *= log_uniform(rng, 0.01, 0.5, len(still))
    swing = np.zeros_like(level)
    if season > 1:
        rows = choose(rng, batch, 0.7 if season <= 12 else 0.9)
        swing[rows] = unit(seasonal(rng, len(rows), length, season)) * log_uniform(rng, 0.15, 6, len(rows))
    noisy = noise(rng, batch, length, season) * log_uniform(rng, 0.05, 1.5, batch)
    calm = choose(rng, batch, 0.4)
    noisy[calm] *= log_uniform(rng, 0.003, 0.5, len(calm))
    form = rng.random(batch)
    total = level + swing + noisy
    z = unit(total)
    y = total + (rng.uniform(-1, 8, (batch, 1)) * total.std(1, keepdims=True))
    rows = np.flatnonzero(form < 0.3)
    y[rows] = np.exp(np.clip(z[rows] * log_uniform(rng, 0.05, 1, len(rows)), -6, 6))
    rows = np.flatnonzero((form >= 0.3) & (form < 0.42))
    floor = np.abs(level[rows] + noisy[rows]).max(1, keepdims=True) * rng.uniform(1.05, 3, (len(rows), 1))
    y[rows] = (level[rows] + noisy[rows] + floor) * np.exp(np.clip(swing[rows] * 0.25, -3, 1.5))
    rows = np.flatnonzero((form >= 0.42) & (form < 0.46))
    y[rows] = np.maximum(z[rows] + normal(rng, len(rows), 1), 0)
    y *= log_uniform(rng, 1, 1000, batch)
    rows = np.flatnonzero(form > 0.95)
    y[rows] = counts(rng, z[rows])
    rows = choose(rng, batch, 0.3)
    grain = np.abs(np.diff(y[rows])).mean(1, keepdims=True) * log_uniform(rng, 0.02, 0.8, len(rows)) + 1e-6
    y[rows] = np.round(y[rows] / grain) * grain
    return np.nan_to_num(y.astype(np.float32), posinf=1e6, neginf=-1e6)


COMMON_SEASONS = {1: 0.18, 4: 0.14, 7: 0.11, 12: 0.23, 24: 0.08, 52: 0.06, 48: 0.03, 168: 0.06, 336: 0.03}
"""Seasons of the calendar and how often they are drawn; the rest are other lengths."""


def draw_shape(rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw the season, the context length and the horizon of a batch; a fifth of the seasons have 48 steps or more.

    Returns:
        ``(season, context_length, horizon)``; one series of the batch has ``context_length + horizon`` steps.
    """
    season = int(rng.choice([*COMMON_SEASONS, 0], p=[*COMMON_SEASONS.values(), 1 - sum(COMMON_SEASONS.values())]))
    if season == 0:
        season = round(math.exp(rng.uniform(math.log(2), math.log(48 if rng.random() < 0.6 else 336))))
    shortest, longest = max(15, 1.6 * season), max(200, 3.5 * season)
    context_length = round(math.exp(rng.uniform(math.log(shortest), math.log(longest))))
    horizon = round(math.exp(rng.uniform(math.log(4), math.log(2 * season + 12))))
    return season, context_length, horizon


class PriorSeries(Series):
    """Random series with levels, trends, seasons, noise and events of many kinds, those that pretraining learns from.

    Args:
        num_series: number of series.
        length: number of steps of each series.
        season: steps of a season; 1 for none.
        seed: seed of everything that is drawn.
    """

    def __init__(self, num_series: int = 100, length: int = 200, season: int = 12, seed: int = 0) -> None:
        require_positive(num_series=num_series, season=season)
        if length < 2:
            raise InputError(f"--data.series.length must be at least 2, got {length}.")
        self.num_series, self.length, self.season, self.seed = num_series, length, season, seed

    def load(self) -> SeriesData:
        values = draw_series(np.random.default_rng(self.seed), self.num_series, self.length, self.season)
        return SeriesData.from_equal(torch.from_numpy(values)[..., None])
