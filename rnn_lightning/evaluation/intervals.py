"""Intervals that hold: how far forecasts from earlier origins were off, by lead time.

Split conformal prediction (Vovk et al., *Algorithmic learning in a random world*, 2005): the errors of
forecasts of values that the network was not trained on are pooled over series, in units of the spread of
each, and their quantiles are the half-widths of the intervals. Few errors are filled up with those of a
prior, so that one short series has sensible intervals as well.
"""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rnn_lightning.errors import InputError

LEVELS = (*np.arange(0.05, 0.96, 0.05).round(2).tolist(), 0.975, 0.99, 0.998)
"""The levels at which half-widths are kept; others are interpolated."""

LEAD_TIMES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""The lead times in steps at which half-widths are kept; others are interpolated."""

PRIOR_WEIGHT = 8.0
"""As many forecasts the prior counts for."""

GROWTH = 0.3
"""The power of the lead time by which errors grow where nothing is known: of a random walk it is 0.5."""

NEAR = 2.0
"""Errors of lead times that differ by less than this factor are pooled, as if they had grown so."""

MIN_SPREAD = 1e-6
"""The least spread, as a part of the magnitude of a series: float32 has no finer digits."""


class Floor(NamedTuple):
    """What no interval reaches below, ``(batch, feature)`` each.

    Attributes:
        value: 0 where no value was negative, or minus infinity.
        common: at least half of the known values are there, as with intermittent demand. The lower half of
            each interval then ends there: errors say little of values of which most are the same.
    """

    value: Tensor
    common: Tensor


class Intervals(nn.Module):
    """Half-widths of intervals by level and lead time, in units of the spread of each series.

    ``Forecaster`` calls ``describe`` and ``calibrate`` after each validation, with forecasts from origins in
    the held-out part, and keeps the result in its checkpoint; training on all values afterwards leaves it as
    it is. For a network that was never trained, the origins lie inside the table that is to be forecast.
    ``bounds`` gives the ends of the intervals of a forecast, and ``reshaped`` brings sampled paths to the
    same spread.

    Args:
        num_features: number of features.
    """

    half_widths: Tensor
    horizon: Tensor
    season: Tensor
    nonnegative: Tensor

    def __init__(self, num_features: int = 1) -> None:
        super().__init__()
        self.register_buffer("half_widths", torch.zeros(len(LEVELS), len(LEAD_TIMES)))
        self.register_buffer("horizon", torch.tensor(0))
        self.register_buffer("season", torch.tensor(1))
        self.register_buffer("nonnegative", torch.zeros(num_features, dtype=torch.bool))

    @property
    def calibrated(self) -> bool:
        """Whether ``calibrate`` was called, here or before the checkpoint was written."""
        return int(self.horizon) > 0

    def describe(self, season: int, nonnegative: Tensor) -> None:
        """What matters of a table.

        Args:
            season: steps of a season, 1 for none.
            nonnegative: ``(feature,)``, whether no value of the table is negative.
        """
        self.season.fill_(season)
        self.nonnegative.copy_(nonnegative)

    def spread(self, context: Tensor) -> Tensor:
        """The unit of the errors after contexts ``(batch, time, feature)``, see ``spread_of``."""
        return spread_of(context, int(self.season))

    def floor(self, context: Tensor) -> Floor:
        """The least value to expect after contexts ``(batch, time, feature)``."""
        known = ~context.isnan()
        never = self.nonnegative & (context.nan_to_num(0.0).amin(1) >= 0)
        common = never & (2 * (context == 0).sum(1) >= known.sum(1)) & known.any(1)
        return Floor(torch.where(never, 0.0, -torch.inf), common)

    def calibrate(
        self, errors: Tensor, spread: Tensor, origin_step: int = 1, prior_weight: float = PRIOR_WEIGHT
    ) -> None:
        """Learn half-widths from forecasts of values that the network was not trained on.

        They are shrunk towards the quantiles of a distribution that grows with the lead time, whose scale is
        first brought to that of the errors: Student's, for the scale of few errors is uncertain itself. Its
        degrees of freedom are the number of forecasts and two, so that of many it is a normal one.
        Half-widths that were learned before are forgotten.

        Args:
            errors: ``(forecast, horizon, feature)``, NaN where they are not known.
            spread: ``(forecast, feature)``, see ``spread_of``.
            origin_step: steps between two origins of a series: errors of overlapping forecasts are much
                alike, and count the less.
            prior_weight: number of forecasts that the prior counts for.
        """
        scores = (errors.abs() / spread[:, None]).double().transpose(1, 2).flatten(0, 1).cpu()
        scores = scores[(~scores.isnan()).any(1)]
        known = ~scores.isnan()
        longest = int(known.any(0).nonzero().amax()) + 1 if len(scores) else 0
        if longest == 0:
            return
        prior = _normal()
        prior *= _relative_scale(scores, prior)
        half_widths, leads = torch.empty_like(prior), torch.arange(1, scores.shape[1] + 1)
        grown = scores / leads**GROWTH
        for place, lead in enumerate(LEAD_TIMES):
            if place and LEAD_TIMES[place - 1] >= longest:
                half_widths[:, place] = half_widths[:, place - 1] * prior[:, place] / prior[:, place - 1]
                continue
            # Neighbouring lead times are much alike.
            near = grown[:, ceil(lead / NEAR) - 1 : int(lead * NEAR)] * lead**GROWTH
            weights = (~near.isnan()) / (~near.isnan()).sum(1, keepdim=True).clamp_min(1)
            weights = weights * min(1.0, origin_step / lead)
            of_prior = prior[:, place] * _heavier(float(weights.sum()) + 2)
            half_widths[:, place] = _mixed(near.nan_to_num(0.0), weights, of_prior, prior_weight)
        self.half_widths.copy_(half_widths.cummax(0).values)
        self.horizon.fill_(longest)

    def forward(self, levels: Tensor, horizon: int) -> Tensor:
        """Half-widths ``(level, horizon)`` in units of the spread, of levels from 0 to 1 ``(level,)``."""
        if not self.calibrated:
            raise InputError(
                "intervals need forecasts of held-out values, and the network was fitted without: raise "
                "`val_fraction` above 0."
            )
        table = torch.cat([torch.zeros_like(self.half_widths[:1]), self.half_widths])
        leads = torch.arange(1, horizon + 1, device=table.device).clamp_max(LEAD_TIMES[-1]).log()
        table = _interpolated(table.T, torch.tensor(LEAD_TIMES, device=table.device).log(), leads).T
        return _interpolated(table, torch.tensor([0.0, *LEVELS], device=table.device), levels.to(table))

    def bounds(
        self, point: Tensor, spread: Tensor, levels: Sequence[float], floor: Floor | None = None
    ) -> Tensor:
        """The ends of the intervals, ``(2 * level, batch, horizon, feature)``: low, high, low ...

        Args:
            point: ``(batch, horizon, feature)``, the forecast.
            spread: ``(batch, feature)``, see ``spread_of``.
            levels: levels in percent.
            floor: what they do not reach below.
        """
        half = self(torch.tensor(levels, dtype=torch.float32) / 100, point.shape[1])
        half = half[:, None, :, None] * spread[:, None]
        low, high = _above(point - half, floor), _above(point + half, floor)
        if floor is not None:
            low = torch.where(floor.common[:, None], floor.value[:, None], low)
        return torch.stack([low, high], 1).flatten(0, 1)

    def reshaped(self, samples: Tensor, point: Tensor, spread: Tensor, floor: Floor | None = None) -> Tensor:
        """Sampled paths ``(sample, batch, horizon, feature)``, spread at each lead time as the intervals are.

        The order of the samples at each step is kept, and with it how a path moves from step to step
        (Schefzik et al., *Uncertainty quantification in complex simulation models using ensemble copula
        coupling*, 2013).
        Arguments as for ``bounds``.
        """
        return self.quantiles(len(samples), point, spread, floor).gather(0, samples.argsort(0).argsort(0))

    def quantiles(self, number: int, point: Tensor, spread: Tensor, floor: Floor | None = None) -> Tensor:
        """Equally likely values ``(number, batch, horizon, feature)``, ascending; see ``bounds``."""
        signed = (2 * torch.arange(number, dtype=torch.float32) + 1) / number - 1
        half = self(signed.abs(), point.shape[1]) * signed.sign().to(point)[:, None]
        values = _above(point + half[:, None, :, None] * spread[:, None], floor)
        if floor is not None:
            below = (signed < 0).to(point.device)[:, None, None, None] & floor.common[:, None]
            values = torch.where(below, floor.value[:, None], values)
        return values


def _above(values: Tensor, floor: Floor | None) -> Tensor:
    return values if floor is None else torch.maximum(values, floor.value[:, None])


def spread_of(history: Tensor, season: int) -> Tensor:
    """How much series change, ``(batch, feature)``: the unit of their errors.

    The mean absolute change from step to step or from season to season, less its mean, whichever is smaller;
    for a series that never changed a millionth of its magnitude.

    Args:
        history: ``(batch, time, feature)``, the known steps before a forecast, NaN where they are not known.
        season: steps of a season; 1 for none.
    """
    spreads = []
    for lag in {1, season} if history.shape[1] > season else {1}:
        changes = history[:, lag:] - history[:, :-lag]
        count = (~changes.isnan()).sum(1, keepdim=True)
        mean = torch.where(count > 2, changes.nanmean(1, keepdim=True), 0.0)  # of two the mean says nothing
        spreads.append((changes - mean).abs().nanmean(1))
    smallest = torch.stack(spreads).nan_to_num(torch.inf).amin(0)
    magnitude = history.abs().nanmean(1).nan_to_num(0.0)
    return torch.maximum(torch.where(smallest.isinf(), magnitude, smallest), MIN_SPREAD * magnitude)


def _normal() -> Tensor:
    """Quantiles of absolute normal variables that grow with the lead time, ``(level, lead time)``."""
    levels, leads = (torch.tensor(values, dtype=torch.float64) for values in (LEVELS, LEAD_TIMES))
    return torch.special.ndtri(0.5 + levels / 2)[:, None] * leads**GROWTH


def _heavier(degrees: float) -> Tensor:
    """How many times as far out the quantiles of Student's distribution at ``LEVELS`` are as normal ones.

    By the first terms of the expansion in the inverse degrees of freedom (Fisher and Cornish 1960).
    """
    normal = torch.special.ndtri(0.5 + torch.tensor(LEVELS, dtype=torch.float64) / 2)
    square = normal.square()
    first, second = (square + 1) / 4, (5 * square.square() + 16 * square + 3) / 96
    third = (3 * square**3 + 19 * square.square() + 17 * square - 15) / 384
    return 1 + first / degrees + second / degrees**2 + third / degrees**3


def _relative_scale(scores: Tensor, prior: Tensor) -> float:
    """How many times as large ``(forecast, horizon)`` scores are as a prior ``(level, lead time)``."""
    leads = torch.arange(1, scores.shape[1] + 1).clamp_max(LEAD_TIMES[-1]).double().log()
    knots = torch.tensor(LEAD_TIMES).double().log()
    typical = _interpolated(prior[LEVELS.index(0.5)][:, None], knots, leads)[:, 0]
    # Not torch.nanmedian, which takes the lower one of two in the middle.
    return max(float(np.nanmedian((scores / typical).numpy())), 1e-9)


def _mixed(scores: Tensor, weights: Tensor, prior: Tensor, prior_weight: float) -> Tensor:
    """The quantiles at ``LEVELS`` of weighted scores and of the quantiles of a prior, with its weight."""
    edges = torch.tensor([0.0, *LEVELS, 1.0], dtype=torch.float64)
    of_prior = prior_weight * (edges[2:] - edges[:-2]) / 2
    points, order = torch.cat([scores.flatten(), prior]).sort()
    mass = torch.cat([weights.flatten(), of_prior])[order].cumsum(0)
    number = weights.sum()
    # Conformal prediction counts the value to come as one more score; the prior needs no such correction.
    one_more = number / (number + prior_weight)
    wanted = torch.tensor(LEVELS, dtype=torch.float64) * (mass[-1] + one_more)
    return points[torch.searchsorted(mass, wanted).clamp_max(len(points) - 1)]


def _interpolated(table: Tensor, knots: Tensor, at: Tensor) -> Tensor:
    """``table (knot, column)`` linearly between its knots, and constant beyond them, ``(at, column)``."""
    place = torch.searchsorted(knots, at.contiguous()).clamp(1, len(knots) - 1)
    share = ((at - knots[place - 1]) / (knots[place] - knots[place - 1])).clamp(0, 1).to(table)[:, None]
    return table[place - 1] * (1 - share) + table[place] * share
