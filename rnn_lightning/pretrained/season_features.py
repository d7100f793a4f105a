"""What a network is told of a series with a season: causal features, and the ingredients of a forecast.

Every quantity at a step is made of the values up to it, see ``season_track``. Series are rows, ``(row,
time)``, in units of their own scale.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

QUANTITIES = (
    *("value", "previous"),  # the value of the step, and of the one before
    *("adjusted", "adjusted_before", "adjusted_lag"),  # of the step, the one before, and a season before
    *(
        "lag",
        "lag_before",
        "lag_twice",
    ),  # values: a season before the next step, before this one, two before the next
    *("profile_1", "profile_4", "profile_12"),  # of the next step; zero where there is none yet
    *("level_fast", "level", "level_slow", "mean", "slope_fast", "slope_slow", "drift"),  # smoothed
    *("average", "average_slope"),  # its slope is that over its own length
)
"""What is known of a series at a step, in this order."""

SIMPLE_FORECASTS = (
    ("lag",),
    ("value",),
    ("adjusted", "profile_4"),
    ("level", "profile_4"),
    ("level_slow", "profile_4"),
    ("average", "profile_12"),
    ("level_fast", "slope_fast", "profile_4"),
)
"""Forecasts of the next step whose running errors are features: sums of quantities."""

DIFFERENCES = (
    {"adjusted": 1, "adjusted_before": -1},
    {"value": 1, "previous": -1},
    {"lag": 1, "lag_before": -1},
    {"value": 1, "lag_before": -1},
    {"lag": 1, "lag_twice": -1},
    {"profile_1": 1},
    {"profile_4": 1},
    {"adjusted": 1, "level": -1},
    {"level_fast": 1, "level": -1},
    {"level_slow": 1, "level": -1},
    {"average": 1, "level": -1},
    {"mean": 1, "level": -1},
    {"lag": 1, "level": -1},
    {"slope_fast": 4},
    {"slope_slow": 10},
    {"average_slope": 10},
    {"drift": 10},
    {"value": 0.5},
)
"""The features, before they are squashed: weighted sums of quantities."""

LEVELS = ("adjusted", "level_fast", "level", "level_slow", "average", "mean")
PROFILES = ("profile_1", "profile_4", "profile_12")
SLOPES = ("slope_fast", "slope_slow", "average_slope", "drift")

NUM_COUNTS = 7
NUM_INPUTS = len(DIFFERENCES) + len(SIMPLE_FORECASTS) + NUM_COUNTS
NUM_GATES = len(LEVELS) + len(PROFILES) + 1 + len(SLOPES) + 4


@lru_cache(maxsize=1024)
def table(numbers: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tuple of constants as a tensor, which is copied to a device once; never change it."""
    with torch.inference_mode(False):  # training may use it afterwards
        return torch.tensor(numbers, dtype=dtype, device=device)


class Step(NamedTuple):
    """What is known at a step of each row: tensors ``(row, ...)`` or ``(row, time, ...)``.

    Attributes:
        quantities: ``(..., 20)``, see ``QUANTITIES``.
        errors: ``(..., 7)``, smoothed absolute one-step errors of the simple forecasts.
        has_profile: ``(...)``, whether the next step has a profile.
        counts: ``(..., 6)``, see ``counts``.
    """

    quantities: Tensor
    errors: Tensor
    has_profile: Tensor
    counts: Tensor


def counts(season: int, age: Tensor, free: Tensor) -> Tensor:
    """Features ``(..., 6)`` of the steps ``(...)`` since the first and since the last known value."""
    features = [
        (age + 1 >= season).to(age),
        (age + 1 >= 2 * season).to(age),
        torch.full_like(age, math.log(season) / 4),
        torch.log(age.clamp_min(0) + 2) / 5,
        (free > 0).to(age),
        torch.log1p(free.clamp_max(60)) / 3,
    ]
    return torch.stack(features, -1)


class Ingredients:
    """From steps to the inputs of the network and, by its gates, to forecasts.

    Args:
        like: a tensor of the type and device to work with.
    """

    def __init__(self, like: Tensor) -> None:
        kind = like.dtype, like.device
        of_forecasts = [dict.fromkeys(names, 1) for names in SIMPLE_FORECASTS]
        self._to_forecasts, self._to_differences = (
            table(tuple(tuple(sums.get(name, 0) for sums in part) for name in QUANTITIES), *kind)
            for part in (of_forecasts, DIFFERENCES)
        )
        num_even = len(SIMPLE_FORECASTS) + NUM_COUNTS
        self._signs = table((-1,) * len(DIFFERENCES) + (1,) * num_even, *kind)
        self._mixed, self._seasonal = (
            table(tuple(QUANTITIES.index(name) for name in names), torch.long, like.device)
            for names in ((*LEVELS, *PROFILES, *SLOPES), ("lag", "adjusted", "adjusted_lag"))
        )

    def simple_forecasts(self, quantities: Tensor) -> Tensor:
        """Seven forecasts of the next step ``(..., 7)``, from the last season to smoothed states."""
        return quantities @ self._to_forecasts

    def inputs(self, step: Step) -> Tensor:
        """The features ``(..., NUM_INPUTS)``."""
        differences = torch.asinh(step.quantities @ self._to_differences)
        errors, has_profile = 0.5 * torch.log(step.errors + 0.02), step.has_profile[..., None].to(differences)
        return torch.cat([differences, errors, step.counts[..., :2], has_profile, step.counts[..., 2:]], -1)

    def with_mirrored(self, inputs: Tensor) -> Tensor:
        """The features of the rows and then those of their negatives, ``(2 * row, ..., NUM_INPUTS)``."""
        return torch.cat([inputs, inputs * self._signs])

    def mix_mirrored(self, step: Step, gates: Tensor) -> Tensor:
        """The mean of the forecast and of the negative of that for the negative series, ``(row, ...)``.

        A level, a profile and slopes, each a weighted mean of the candidates, or the value of a season ago
        with part of the change since then; and a free term.

        Args:
            step: what is known of the rows.
            gates: ``(2 * row, ..., NUM_GATES)``, those of the rows and then those of their negatives.
        """
        gates = gates.to(step.quantities).unflatten(0, (2, -1))  # from mixed precision
        sizes = [len(LEVELS), 1 + len(PROFILES), len(SLOPES), 4]
        of_levels, of_profiles, of_slopes, rest = gates.split(sizes, -1)
        quantities = step.quantities
        weights = torch.cat(
            [
                functional.softmax(of_levels, -1),
                functional.softmax(of_profiles, -1)[..., 1:],
                torch.sigmoid(of_slopes - 1.5),
            ],
            -1,
        )
        smooth = (weights * quantities[..., self._mixed]).sum(-1)
        part, change, free, is_free = rest.unbind(-1)
        lag, adjusted, adjusted_lag = quantities[..., self._seasonal].unbind(-1)
        seasonal = lag + torch.sigmoid(change) * (adjusted - adjusted_lag)
        free = free * torch.sigmoid(is_free)
        return torch.lerp(smooth, seasonal, torch.sigmoid(part - 1)).mean(0) + 0.25 * (free[0] - free[1])
