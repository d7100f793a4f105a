"""The prior of pretraining: random series as business, economics, nature and counting could give them.

A series is a sum of parts of random strength - levels, trends, events, a season, noise - in one of several
forms: as it is, exponential, with a season that grows with the level, cut off at zero, as counts. Every
part is centred and has a standard deviation of one over the series before its strength is drawn, so
strengths mean the same for 15 steps and for 1,500, for quarters and for half-hours. Probabilities and
strengths were chosen by the features of real tables, ``benchmarks/prior_features.py``. Sines, random values
and lines are corners of it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rnn_lightning.data.series import Series, SeriesData
from rnn_lightning.data.synthetic import require_positive
from rnn_lightning.data.windows import WindowBatch
from rnn_lightning.errors import InputError
from rnn_lightning.pretrained.prior_parts import (
    Array,
    Generator,
    choose,
    cycle,
    damped,
    exponential,
    linear,
    log_uniform,
    noise,
    piecewise,
    pulse,
    random_slope,
    random_walk,
    repeat,
    shift,
    sign,
    stationary,
    turning,
    unit,
)

LEVELS: Sequence[tuple[float, Callable[[Generator, int, int], Array], float, float]] = (
    (0.35, random_walk, 0.05, 4),
    (0.50, random_slope, 0.1, 6),
    (0.30, stationary, 0.05, 1.5),
    (0.20, cycle, 0.1, 2),
    (0.45, linear, 0.2, 30),
    (0.15, piecewise, 0.2, 20),
    (0.12, damped, 0.2, 20),
    (0.12, exponential, 0.2, 20),
    (0.15, turning, 0.2, 20),
)
"""What makes up a level: the probability of a part, the part, its least and its greatest strength."""

ROUGH = (random_walk, stationary)
"""Parts of a level that are as small as the noise where a series is calm."""

MAX_FREE_RUN = 60
"""The longest free run that is trained on."""

USUAL_STEPS, FREE_RUN_COST, MIN_BATCH = 260, 6, 16
"""Steps of a window in a full batch, those of a free run counted more; the least windows of a batch."""

SEASONS = {0: 0.08, 1: 0.18, 4: 0.14, 7: 0.11, 12: 0.23, 24: 0.08, 48: 0.03, 52: 0.06, 168: 0.06, 336: 0.03}
"""Seasons of the calendar and how often a batch has them; 0 stands for any other."""


def draw_level(rng: Generator, quiet: Array, length: int, season: int) -> Array:
    """Sums of levels, trends and events; some hardly move, more of those that are seen for few seasons."""
    batch = len(quiet)
    level = np.zeros((batch, length), np.float32)
    for probability, draw, low, high in LEVELS:
        rows = choose(rng, batch, probability)
        size = log_uniform(rng, low, high, len(rows)) * (quiet[rows] if draw in ROUGH else 1)
        level[rows] += unit(draw(rng, len(rows), length)) * size
    for event in (shift, shift, pulse):
        rows = choose(rng, batch, 0.1)
        size = log_uniform(rng, 0.1, 5, len(rows)) * sign(rng, len(rows))
        level[rows] += event(rng, len(rows), length) * size
    still = choose(rng, batch, 0.25 if season <= 12 else 0.5)
    level[still] *= log_uniform(rng, 0.01, 0.5, len(still))
    return level


def draw_season(rng: Generator, batch: int, length: int, season: int) -> Array:
    """A repeated shape for most series, and zeros for the others."""
    swing = np.zeros((batch, length), np.float32)
    if season > 1:
        probability, weakest = (0.85, 0.15) if season <= 12 else (0.95, 0.4)
        rows = choose(rng, batch, probability)
        strength = log_uniform(rng, weakest, 6, len(rows))
        swing[rows] = unit(repeat(rng, len(rows), length, season)) * strength
    return swing


def counts(rng: Generator, z: Array) -> Array:
    """Numbers of events around a rate that follows ``z``; a third of the series are idle most of the time."""
    spread, middle = log_uniform(rng, 0.1, 0.8, len(z)), rng.uniform(-1, 3, (len(z), 1))
    number = rng.poisson(np.exp(np.clip(z * spread + middle, -5, 7)))
    idle = rng.uniform(0.2, 0.9, (len(z), 1)) * (rng.random((len(z), 1)) < 0.33)
    return np.where(rng.random(z.shape) < idle, 0, number)


def give_form(rng: Generator, level: Array, swing: Array) -> Array:
    """Put a level and a season together: their sum, above or around zero, or one of four other forms."""
    total = level + swing
    z, form = unit(total), rng.random(len(total))
    y = total + rng.uniform(-1, 8, (len(total), 1)) * total.std(1, keepdims=True)
    rows = np.flatnonzero(form < 0.35)
    y[rows] = np.exp(np.clip(z[rows] * log_uniform(rng, 0.05, 1, len(rows)), -6, 6))
    rows = np.flatnonzero((form >= 0.35) & (form < 0.5))
    floor = np.abs(level[rows]).max(1, keepdims=True) * rng.uniform(1.05, 3, (len(rows), 1))
    y[rows] = (level[rows] + floor) * np.exp(np.clip(swing[rows] * 0.25, -3, 1.5))
    rows = np.flatnonzero((form >= 0.5) & (form < 0.54))
    y[rows] = np.maximum(z[rows] + rng.standard_normal((len(rows), 1)), 0)
    y *= log_uniform(rng, 1, 1000, len(y))
    rows = np.flatnonzero(form >= 0.95)
    y[rows] = counts(rng, z[rows])
    return y


def draw_series(rng: np.random.Generator, batch: int, length: int, season: int) -> np.ndarray:
    """Draw series that have nothing in common but their length and the season that most of them have.

    Args:
        rng: the only source of chance.
        batch: number of series.
        length: number of steps, at least two.
        season: steps of a season; 1 for none.

    Returns:
        ``(batch, length)``, float32, finite.
    """
    quiet, calm = np.ones((batch, 1), np.float32), choose(rng, batch, 0.4)
    quiet[calm] = log_uniform(rng, 0.003, 0.5, len(calm))
    level = draw_level(rng, quiet, length, season)
    level += noise(rng, batch, length, season) * log_uniform(rng, 0.05, 1.5, batch) * quiet
    y = give_form(rng, level, draw_season(rng, batch, length, season))
    rows = choose(rng, batch, 0.3)  # are written with few digits
    grain = np.abs(np.diff(y[rows])).mean(1, keepdims=True) * log_uniform(rng, 0.02, 0.8, len(rows)) + 1e-6
    y[rows] = np.round(y[rows] / grain) * grain
    return y.astype(np.float32)


def draw_shape(rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw the shape of a batch. A fifth of the seasons have 48 steps or more; short contexts are frequent.

    Returns:
        The season, the context length and the horizon, in steps.
    """
    season = int(rng.choice(list(SEASONS), p=list(SEASONS.values())))
    if season == 0:
        season = round(math.exp(rng.uniform(math.log(2), math.log(48 if rng.random() < 0.6 else 336))))
    shortest, longest = max(15, 1.6 * season), max(200, 3.5 * season)
    context_length = round(math.exp(rng.uniform(math.log(shortest), math.log(longest))))
    longest = max(2 * season, min(4 * season + 32, 120))
    horizon = round(math.exp(rng.uniform(math.log(4), math.log(longest))))
    return season, context_length, horizon


class PriorSeries(Series):
    """Random series with levels, trends, events, seasons and noise of many kinds, those of pretraining.

    Args:
        num_series: number of series.
        length: number of steps of each series.
        season: steps of the season that most of the series have; 1 for none.
        seed: seed of all that is drawn.
        fresh: train on new series of a random season and length at every step; those above only validate.
    """

    def __init__(
        self, num_series: int = 100, length: int = 200, season: int = 12, seed: int = 0, fresh: bool = False
    ) -> None:
        require_positive(num_series=num_series, season=season)
        if length < 2:
            raise InputError(f"`length` must be at least 2, got {length}.")
        self.num_series, self.length, self.season, self.seed = num_series, length, season, seed
        self.fresh = fresh

    def load(self) -> SeriesData:
        rng = np.random.default_rng(self.seed)
        values = draw_series(rng, self.num_series, self.length, self.season)
        return SeriesData.from_equal(values[..., None])

    def training_loader(self, data: Any) -> Any:
        """Return the loader of a data module, which draws new series for every batch if ``fresh``."""
        if not self.fresh:
            return data.window_loader()
        prepare = getattr(data.forecaster, "training_windows", None)
        return FreshLoader(
            data.batch_size, data.num_batches_per_epoch or 1, data.devices[0], data.seed, prepare
        )


def draw_batch(batch_size: int, shared: Generator, own: Generator) -> WindowBatch:
    """Draw windows of one random shape: fewer where they are long, so that batches cost about the same.

    Args:
        batch_size: the most windows.
        shared: decides the shape.
        own: decides the series.
    """
    season, context_length, horizon = draw_shape(shared)
    horizon = min(horizon, MAX_FREE_RUN)
    part = USUAL_STEPS / (context_length + FREE_RUN_COST * horizon)
    size = max(min(batch_size, MIN_BATCH), min(batch_size, int(batch_size * part)))
    values = torch.from_numpy(draw_series(own, size, context_length + horizon, season))
    traits = {"season": torch.full((size,), season)}
    return WindowBatch(values[..., None], context_length, complete=True, traits=traits)


@dataclass(eq=False)
class FreshLoader:
    """Loads batches that are drawn afresh, by random numbers that depend on the seed and the position alone.

    Args:
        batch_size: the most windows of a batch.
        num_batches: number of batches in an epoch.
        rank: number of this device; all devices draw windows of the same shape.
        seed: seed of all batches.
        prepare: transforms a batch, if anything.
    """

    batch_size: int
    num_batches: int
    rank: int
    seed: int
    prepare: Callable[[WindowBatch], Any] | None
    position: int = 0

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.num_batches):
            self.position += 1
            key = [self.seed % 2**64, self.position]
            generators = np.random.default_rng(key), np.random.default_rng([*key, self.rank])
            batch = draw_batch(self.batch_size, *generators)
            yield self.prepare(batch) if self.prepare else batch

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the data module keeps the position. Lightning asks for it to resume an epoch."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load nothing, see ``state_dict``."""
