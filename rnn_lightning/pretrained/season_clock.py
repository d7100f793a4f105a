"""How long a series is known, step by step: what depends on that, and not on its values.

``age`` is the number of steps since the first known value of a row, -1 before it, and ``free`` the number of
steps since the last known one: what lies between is the network's own, in a gap as in a forecast.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from rnn_lightning.pretrained.season_features import counts, table

LEVEL_RATES = (0.6, 0.25, 0.08)
SLOPE_RATES = (0.2, 0.05, 0.0)  # the last is the mean change since the start
MEAN_RATE = 0.01
ERROR_RATE = 0.06
LEAST_SPREAD = 1e-3
"""The least scale of the noise of a series, in its own units."""

RATES = (*LEVEL_RATES, MEAN_RATE, *SLOPE_RATES)
"""Smoothing rates of the levels, the mean and the slopes."""

Part = TypeVar("Part")


def for_each_rate(level: Part, mean: Part, slope: Part) -> list[Part]:
    """Return what the levels, the mean and the slopes have, one for each of ``RATES``."""
    return [*[level] * len(LEVEL_RATES), mean, *[slope] * len(SLOPE_RATES)]


def average_length(season: int) -> int:
    """Steps of the average: one season, or the whole seasons in eight steps where it is shorter than four."""
    return season if season >= 4 else 8 // season * season


class Clock(NamedTuple):
    """What features depend on beside the values: tensors ``(row, time, ...)``, of one step ``(row, ...)``.

    Attributes:
        age, free: ``(...)``, see above.
        counts: ``(..., 6)``, as features, see ``counts``.
        rates: ``(..., 7)``, of the smoothing of the levels, the mean and the slopes.
        error_rate: ``(...)``, of the smoothing of the errors.
        num_averaged: ``(...)``, the values that the average has so far.
        centred: ``(...)``, 1 where half a season ago is far enough from the start to have a profile.
        reached: ``(..., 8)``, which of the first quantities there are.
    """

    age: Tensor
    free: Tensor
    counts: Tensor
    rates: Tensor
    error_rate: Tensor
    num_averaged: Tensor
    centred: Tensor
    reached: Tensor

    def steps(self) -> Iterator["Clock"]:
        """One step after the other."""
        return (Clock(*parts) for parts in zip(*(part.unbind(1) for part in self), strict=True))


def clock(
    known: Tensor, like: Tensor, season: int, age: Tensor | None = None, free: Tensor | None = None
) -> Clock:
    """The clock of steps whose value is known or not.

    Args:
        known: ``(row, time)``; a row begins with its first known value.
        like: a tensor of the type to work with.
        season: steps of a season, 1 for none.
        age: ``(row, 1)``, that of the step before; None for rows that have not begun.
        free: ``(row, 1)``, likewise.
    """
    steps = torch.arange(known.shape[1], device=known.device)
    last_known = torch.where(known, steps, -1).cummax(1).values
    before = torch.full_like(steps[:1], -1) if age is None else age
    started = (last_known >= 0) | (before >= 0)
    age = before + started.cumsum(1)
    since = 0 if free is None else free + steps + 1
    free = torch.where(last_known >= 0, steps - last_known, torch.where(started, since, 0))
    number, length = (age + 1).to(like), average_length(season)
    plain_mean = 1 / number.clamp_min(1)
    rates = torch.maximum(table(RATES, like.dtype, like.device), plain_mean[..., None])
    used = torch.stack(for_each_rate(started, known, age > 0), -1)
    error_rate = torch.where(age == 1, 1.0, plain_mean.clamp_min(ERROR_RATE)) * (known & (age > 0))
    least = (-1, 1, -1, 1, season, season - 1, season, 2 * season - 1)
    return Clock(
        age,
        free,
        counts(season, age.to(like), free.to(like)),
        rates * used,
        error_rate,
        number.clamp(1, length),
        (age - season // 2 >= season // 2).to(like),
        age[..., None] >= table(least, age.dtype, age.device),
    )
