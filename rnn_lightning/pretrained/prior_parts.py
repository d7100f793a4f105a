"""The parts that series of the prior are made of: random levels, trends, events, seasons and noise.

Each function draws one part for a batch of series from a generator, ``(series, step)``, in no particular
unit: who puts the parts together standardises them first. Nothing loops over steps.
"""

import math

import numpy as np

Array = np.ndarray
Generator = np.random.Generator


def normal(rng: Generator, *shape: int) -> Array:
    """Standard normal values, float32."""
    return rng.standard_normal(shape, dtype=np.float32)


def log_uniform(rng: Generator, low: float, high: float, batch: int) -> Array:
    """One value for each series, ``(series, 1)``, whose logarithm is uniform."""
    return np.exp(rng.uniform(math.log(low), math.log(high), (batch, 1))).astype(np.float32)


def sign(rng: Generator, batch: int) -> Array:
    """Up more often than down, ``(series, 1)``."""
    return np.where(rng.random((batch, 1)) < 0.6, 1, -1).astype(np.float32)


def choose(rng: Generator, batch: int, probability: float) -> Array:
    """The indices of the series that have something."""
    return np.flatnonzero(rng.random(batch) < probability)


def unit(x: Array) -> Array:
    """Each row with mean zero and standard deviation one; a constant row is zero."""
    x = x - x.mean(1, keepdims=True)
    return x / (x.std(1, keepdims=True) + 1e-6)


def autoregress(innovations: Array, factor: Array) -> Array:
    """``y[t] = factor * y[t - 1] + innovations[t]``, by 1 / (1 - f) = (1 + f)(1 + f^2)(1 + f^4) ...

    Args:
        innovations: ``(series, step)``, real or complex.
        factor: ``(series, 1)``, at most one in size.
    """
    y, lag = innovations.copy(), 1
    while lag < y.shape[1]:
        y[:, lag:] += factor * y[:, :-lag]
        factor, lag = factor * factor, 2 * lag
    return y


def wander(rng: Generator, batch: int, length: int) -> Array:
    """A slow random curve that starts near zero and has a standard deviation of one at its end."""
    return np.cumsum(normal(rng, batch, length), 1) / np.float32(math.sqrt(length))


# Levels


def random_walk(rng: Generator, batch: int, length: int) -> Array:
    """Steps that nothing foretells."""
    return np.cumsum(normal(rng, batch, length), 1)


def random_slope(rng: Generator, batch: int, length: int) -> Array:
    """A level with momentum: its slope forgets itself over a step, over the series, or between."""
    memory = log_uniform(rng, 0.7, length, batch)
    return np.cumsum(autoregress(normal(rng, batch, length), np.exp(-1 / memory)), 1)


def stationary(rng: Generator, batch: int, length: int) -> Array:
    """A first-order autoregression with a memory of a step to a quarter of the series."""
    memory = log_uniform(rng, 0.8, max(5, length / 4), batch)
    return autoregress(normal(rng, batch, 2 * length), np.exp(-1 / memory))[:, length:]


def cycle(rng: Generator, batch: int, length: int) -> Array:
    """A damped rotation kept up by noise: swings of 4 steps up to more than the series."""
    period = log_uniform(rng, 4, max(8, 1.5 * length), batch)
    rotation = np.exp(2j * np.pi / period - 1 / (period * log_uniform(rng, 0.3, 20, batch)))
    swing = autoregress(normal(rng, batch, length).astype(np.complex64), rotation.astype(np.complex64))
    return swing.real


# Trends


def linear(rng: Generator, batch: int, length: int) -> Array:
    """A straight line."""
    return np.arange(length, dtype=np.float32) * sign(rng, batch)


def piecewise(rng: Generator, batch: int, length: int) -> Array:
    """A line with three bends."""
    time = np.arange(length, dtype=np.float32)
    line = time * normal(rng, batch, 1)
    for _ in range(3):
        since = np.maximum(time - length * rng.random((batch, 1), dtype=np.float32), 0)
        line += 2 * since * normal(rng, batch, 1)
    return line


def damped(rng: Generator, batch: int, length: int) -> Array:
    """A trend that runs out."""
    time = np.arange(length, dtype=np.float32) / length
    return -np.exp(-time / log_uniform(rng, 0.1, 1, batch)) * sign(rng, batch)


def exponential(rng: Generator, batch: int, length: int) -> Array:
    """A trend that gathers speed."""
    time = np.arange(length, dtype=np.float32) / length
    return np.exp(time * log_uniform(rng, 0.5, 4, batch)) * sign(rng, batch)


def turning(rng: Generator, batch: int, length: int) -> Array:
    """A trend that turns: half a wave or a whole one over the series."""
    time = np.arange(length, dtype=np.float32) / length
    waves = rng.uniform(0.4, 1.2, (batch, 1)) * time + rng.random((batch, 1))
    return np.cos(2 * np.pi * waves)


# Events


def shift(rng: Generator, batch: int, length: int) -> Array:
    """A new level from some step on."""
    return np.arange(length) >= length * rng.random((batch, 1))


def pulse(rng: Generator, batch: int, length: int) -> Array:
    """Up to six steps that are different."""
    since = np.arange(length) - length * rng.random((batch, 1))
    return (since >= 0) & (since < rng.integers(1, 7, (batch, 1)))


# Seasons


def fourier_profile(rng: Generator, batch: int, season: int) -> Array:
    """The shape of a season, ``(series, phase)``, of up to eight harmonics that fall off at a random rate."""
    harmonics = np.arange(1, max(1, min(season // 2, 8)) + 1, dtype=np.float32)
    used = harmonics <= rng.integers(1, len(harmonics) + 1, (batch, 1))
    size = harmonics ** -log_uniform(rng, 0.4, 3.5, batch) * used
    angle = harmonics[:, None] * np.arange(season, dtype=np.float32) * np.float32(2 * math.pi / season)
    sines = (normal(rng, batch, len(harmonics)) * size) @ np.sin(angle)
    return sines + (normal(rng, batch, len(harmonics)) * size) @ np.cos(angle)


def spiky_profile(rng: Generator, batch: int, season: int) -> Array:
    """Quiet but for a few phases."""
    spikes = rng.random((batch, season)) < max(1.5 / season, 0.08)
    return spikes * (2 + normal(rng, batch, season)) * sign(rng, batch) + 0.1 * normal(rng, batch, season)


def smooth_profile(rng: Generator, batch: int, season: int) -> Array:
    """Independent phases, smoothed around the season: plateaus and humps, as the hours of a day."""
    width = season / 2 * log_uniform(rng, 0.05, 0.5, batch)
    distance = np.minimum(np.arange(season), season - np.arange(season))
    kernel = np.fft.rfft(np.exp(-((distance / width) ** 2)), axis=1)
    return np.fft.irfft(np.fft.rfft(normal(rng, batch, season), axis=1) * kernel, season, axis=1)


def profile(rng: Generator, batch: int, season: int) -> Array:
    """Shapes of all kinds; those of long seasons are seldom rough."""
    kind = rng.random((batch, 1))
    independent = normal(rng, batch, season)
    shape = np.where(
        kind < (0.25 if season <= 12 else 0.05), independent, fourier_profile(rng, batch, season)
    )
    shape = np.where(kind > 0.65, smooth_profile(rng, batch, season), shape)
    shape = np.where(kind > 0.9, spiky_profile(rng, batch, season), shape)
    rough = log_uniform(rng, 0.003, 0.5, batch) * min(1, 12 / season)
    return unit(unit(shape) + rough * independent).astype(np.float32)


def week_profile(rng: Generator, batch: int, season: int) -> Array:
    """Seven days of a common shape, each of its own size and height, and a different weekend."""
    workday, other = (profile(rng, batch, season // 7)[:, None] for _ in range(2))
    weekend = (np.arange(7) >= 5)[:, None] * rng.random((batch, 1, 1), dtype=np.float32)
    size = 1 + log_uniform(rng, 0.02, 0.5, batch)[..., None] * normal(rng, batch, 7, 1)
    height = log_uniform(rng, 0.05, 1.5, batch)[..., None] * (0.4 * normal(rng, batch, 7, 1) - weekend)
    week = (workday * (1 - 0.6 * weekend) + 0.4 * other * weekend) * size + height
    return unit(week.reshape(batch, season))


def repeat(rng: Generator, batch: int, length: int, season: int) -> Array:
    """A season again and again; some change their shape, single phases, their size or their pace."""
    shapes = [profile(rng, batch, season) for _ in range(2)]
    if season % 7 == 0 and season >= 28:
        rows = choose(rng, batch, 0.8)
        for shape in shapes:
            shape[rows] = week_profile(rng, len(rows), season)
    count, phase = np.divmod(np.arange(length) + rng.integers(0, season, (batch, 1)), season)
    y = np.take_along_axis(shapes[0], phase, 1)
    rows = choose(rng, batch, 0.2)
    angle = wander(rng, len(rows), length) * log_uniform(rng, 0.1, 1.5, len(rows))
    y[rows] = y[rows] * np.cos(angle) + np.take_along_axis(shapes[1][rows], phase[rows], 1) * np.sin(angle)
    rows = choose(rng, batch, 0.15)
    walk = np.cumsum(normal(rng, len(rows), length // season + 2, season), 1)
    walk *= log_uniform(rng, 0.03, 0.4, len(rows))[..., None]
    y[rows] += walk[np.arange(len(rows))[:, None], count[rows], phase[rows]]
    rows = choose(rng, batch, 0.2)
    y[rows] *= np.exp(wander(rng, len(rows), length) * log_uniform(rng, 0.1, 1, len(rows)))
    rows = choose(rng, batch, 0.04 if season > 6 else 0)
    y[rows] = repeat_unsteadily(rng, shapes[0][rows], length)
    return y


def repeat_unsteadily(rng: Generator, shape: Array, length: int) -> Array:
    """A season a little longer or shorter than its whole number of steps, and not quite steady."""
    batch, season = shape.shape
    time = np.arange(length) * (1 + rng.uniform(-0.5, 0.5, (batch, 1)) / season)
    time += wander(rng, batch, length) * log_uniform(rng, 0.01, 0.3, batch) * season
    whole = np.floor(time).astype(int)
    now, after = (np.take_along_axis(shape, (whole + i) % season, 1) for i in (0, 1))
    return now + (after - now) * (time - whole)


# Noise


def noise(rng: Generator, batch: int, length: int, season: int) -> Array:
    """Gaussian noise; some heavy-tailed, a moving average, smooth, of changing size, with outliers."""
    y = normal(rng, batch, length)
    rows = choose(rng, batch, 0.25)
    y[rows] = rng.standard_t(3.5, (len(rows), length))
    rows = choose(rng, batch, 0.25)
    y[rows, 1:] += rng.uniform(-0.7, 0.7, (len(rows), 1)) * y[rows, :-1]
    rows = choose(rng, batch, 0.2 if season <= 12 else 0.7)
    memory = log_uniform(rng, 0.5, max(4, season / 4), len(rows))
    y[rows] = autoregress(y[rows], np.exp(-1 / memory))
    rows = choose(rng, batch, 0.2)
    y[rows] *= np.exp(wander(rng, len(rows), length))
    y = unit(y)
    rows = choose(rng, batch, 0.12)
    y[rows] += 5 * (rng.random((len(rows), length)) < 0.02) * normal(rng, len(rows), length)
    return y
