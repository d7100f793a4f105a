"""How wide prediction intervals are: quantiles of the errors of earlier forecasts. Plain PyTorch.

Split conformal prediction (Vovk et al., *Algorithmic learning in a random world*, 2005): errors of forecasts
of held-out values are divided by the error scale of their series and pooled, and their quantiles are the
half-widths of the intervals. A prior fills in where there are few errors, so that one short series has
sensible intervals as well.
"""

from math import ceil

import numpy as np
import torch
from torch import Tensor

KEPT_LEVELS = (*np.arange(0.05, 0.96, 0.05).round(2).tolist(), 0.975, 0.99, 0.998)
"""Levels for which half-widths are kept; others are interpolated."""

KEPT_LEAD_TIMES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Lead times in steps for which half-widths are kept; others are interpolated."""

PRIOR_FORECASTS = 8.0
"""Number of forecasts that the prior counts for."""

GROWTH_POWER = 0.3
"""Where nothing is known, errors grow with this power of the lead time; those of a random walk with 0.5."""

POOLING_FACTOR = 2.0
"""Errors whose lead times differ by less than this factor are pooled, after removing the growth."""

OWN_ERROR_POWER = 0.25
"""Part that the errors of earlier forecasts of a series have in the logarithm of its error scale."""

MIN_OF_ERROR = 0.25
"""Least error scale, as a part of the errors of earlier forecasts of a series."""

TAIL_LEVEL = 0.95
"""Level from which half-widths grow whatever the errors."""

ENOUGH_CHANGES, MAX_ENOUGH_CHANGES = 8, 24
"""Changes from which the error scale of a series is its own alone: those of a season within these limits."""

MIN_RELATIVE_CHANGE = 1e-4
"""Change relative to the magnitude of a series below which its errors say nothing of those of others."""

MIN_RELATIVE_SCALE = 1e-6
"""Lowest error scale relative to the magnitude of a series: float32 resolves no less."""


def floor_of(context: Tensor, nonnegative: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower limit of intervals, and whether most values equal it, ``(batch, feature)`` each.

    The limit is 0 for series that are never negative, if no other one of the table is or if most of their
    known values are zero; else minus infinity. Where at least half of these equal it, as with intermittent
    demand, errors say little, and the lower half of an interval ends there.

    Args:
        context: ``(batch, time, feature)``, the known steps before a forecast, NaN where unknown.
        nonnegative: ``(feature,)``, whether values of the table are never negative.
    """
    known = ~context.isnan()
    excess = 2 * (context == 0).sum(1) - known.sum(1)  # (batch, feature)
    is_limited = (nonnegative | (excess > 0)) & (context.nan_to_num(0.0).amin(1) >= 0)
    return torch.where(is_limited, 0.0, -torch.inf), is_limited & (excess >= 0) & known.any(1)


def error_scale(
    context: Tensor, seasons: Tensor, own_error: Tensor | None = None, relative: Tensor | None = None
) -> Tensor:
    """Return the unit of the errors of each series, ``(batch, feature)``.

    It is the mean absolute change from step to step, or from season to season where that is smaller, after
    removing the mean change. For a series that never changed it is a millionth of its magnitude. A series of
    a few steps has it in part from the others.

    Args:
        context: ``(batch, time, feature)``, the known steps before a forecast, NaN where unknown.
        seasons: ``(batch,)``, the season of each series in steps; 1 for none.
        own_error: ``(batch, feature)``, the mean absolute error of earlier forecasts of each series, which is
            a part of its scale; NaN where unknown.
        relative: ``(feature,)``, the usual ``new_scale`` of other series; NaN where unknown.
    """
    scale = _mean_change(context, 1)
    for season in seasons.unique().tolist():
        if 1 < season < context.shape[1]:
            rows = seasons == season
            scale[rows] = torch.fmin(scale[rows], _mean_change(context[rows], season))
    magnitude = context.abs().nanmean(1).nan_to_num(0.0)
    scale = torch.where(scale.isnan(), magnitude, scale)
    if relative is not None:
        enough = seasons.to(scale).clamp(ENOUGH_CHANGES, MAX_ENOUGH_CHANGES)[:, None]
        part = (~context.diff(dim=1).isnan()).sum(1) / enough  # (batch, feature)
        typical, least = relative.to(scale) * magnitude, MIN_RELATIVE_SCALE * magnitude
        mixed = scale.maximum(least) ** part * typical ** (1 - part)
        scale = torch.where((part < 1) & (typical > 0), mixed, scale)
    if own_error is not None:
        error = torch.where(own_error.isnan(), scale, own_error.to(scale))
        scale = scale ** (1 - OWN_ERROR_POWER) * error**OWN_ERROR_POWER
        scale = torch.maximum(scale, MIN_OF_ERROR * error)
    return torch.maximum(scale, MIN_RELATIVE_SCALE * magnitude)


def new_scale(context: Tensor, seasons: Tensor) -> Tensor:
    """Return how much a series changes if its season is not known yet, ``(batch, feature)``.

    It is the mean change from step to step, or over half a season where that is larger, relative to the
    magnitude of the series. Arguments as for ``error_scale``.
    """
    change = _mean_change(context, 1)
    for season in seasons.unique().tolist():
        if 3 < season < context.shape[1]:
            rows = seasons == season
            change[rows] = torch.fmax(change[rows], _mean_change(context[rows], season // 2))
    return change / context.abs().nanmean(1)


def is_like_others(context: Tensor, seasons: Tensor) -> Tensor:
    """Return whether the errors of a series say something of those of others, ``(batch, feature)``.

    Those of constant, dead and exactly repeating series do not.
    """
    return error_scale(context, seasons) > MIN_RELATIVE_CHANGE * context.abs().nanmean(1).nan_to_num(0.0)


def _mean_change(context: Tensor, lag: int) -> Tensor:
    """Return the mean absolute deviation of changes over ``lag`` steps, ``(batch, feature)``, or NaN."""
    changes = context[:, lag:] - context[:, :-lag]
    count = (~changes.isnan()).sum(1, keepdim=True)
    mean = torch.where(count > 2, changes.nanmean(1, keepdim=True), 0.0)  # two changes say nothing of a trend
    return (changes - mean).abs().nanmean(1)


def learn_half_widths(errors: Tensor, scale: Tensor, origin_step: int = 1) -> tuple[Tensor, int]:
    """Learn half-widths from forecasts of values that the network was not trained on.

    They are quantiles of the scaled errors, shrunk towards a prior that grows with the lead time and has the
    scale of the errors. The scale of few errors is uncertain, so the prior is Student's distribution, with
    two degrees of freedom more than there are forecasts.

    Args:
        errors: ``(forecast, horizon, feature)``, NaN where unknown.
        scale: ``(forecast, feature)``, see ``error_scale``.
        origin_step: steps between two origins of a series: overlapping forecasts have similar errors, and
            count for less.

    Returns:
        Half-widths ``(level, lead time)`` in error scales, for ``KEPT_LEVELS`` and ``KEPT_LEAD_TIMES``, and
        the longest lead time with a known error; that is 0 if no error is known.
    """
    errors = torch.where(scale[:, None] > 0, errors, torch.nan)  # after nothing but zeros there is no unit
    scores = (errors.abs() / scale[:, None]).double().transpose(1, 2).flatten(0, 1).cpu()
    scores = scores[(~scores.isnan()).any(1)]  # (forecast and feature, horizon)
    longest = int((~scores.isnan()).any(0).nonzero().amax()) + 1 if len(scores) else 0
    levels, leads = (torch.tensor(kept, dtype=torch.float64) for kept in (KEPT_LEVELS, KEPT_LEAD_TIMES))
    prior = torch.special.ndtri(0.5 + levels / 2)[:, None] * leads**GROWTH_POWER  # of normal errors
    half_widths = torch.zeros_like(prior)
    if longest == 0:
        return half_widths.float(), 0
    prior *= _relative_scale(scores, prior)
    without_growth = scores / torch.arange(1, scores.shape[1] + 1) ** GROWTH_POWER
    for place, lead in enumerate(KEPT_LEAD_TIMES):
        if place and KEPT_LEAD_TIMES[place - 1] >= longest:
            half_widths[:, place] = half_widths[:, place - 1] * prior[:, place] / prior[:, place - 1]
            continue
        pooled = without_growth[:, ceil(lead / POOLING_FACTOR) - 1 : int(lead * POOLING_FACTOR)]
        pooled = pooled * lead**GROWTH_POWER
        known = ~pooled.isnan()
        weights = known / known.sum(1, keepdim=True).clamp_min(1) * min(1.0, origin_step / lead)
        own_prior = prior[:, place] * _student_factor(float(weights.sum()) + 2)
        half_widths[:, place] = _mixed_quantiles(pooled.nan_to_num(0.0), weights, own_prior)
    half_widths = half_widths.cummax(0).values
    # Few errors say nothing of their largest ones: there the widths grow at least as the root of the prior.
    for place in range(KEPT_LEVELS.index(TAIL_LEVEL) + 1, len(KEPT_LEVELS)):
        growth = (prior[place] / prior[place - 1]).sqrt()
        half_widths[place] = half_widths[place].maximum(growth * half_widths[place - 1])
    return half_widths.float(), longest


def half_widths_at(half_widths: Tensor, levels: Tensor, horizon: int) -> Tensor:
    """Interpolate kept half-widths, ``(level, horizon)``, at ``levels (level,)`` from 0 to 1."""
    table = torch.cat([torch.zeros_like(half_widths[:1]), half_widths])  # (kept level, kept lead time)
    leads = torch.arange(1, horizon + 1).clamp_max(KEPT_LEAD_TIMES[-1]).log()
    table = _interpolated(table.T, torch.tensor(KEPT_LEAD_TIMES).log(), leads).T
    return _interpolated(table, torch.tensor([0.0, *KEPT_LEVELS]), levels.to(table))


def _student_factor(degrees: float) -> Tensor:
    """Return the ratio of Student's to normal quantiles at ``KEPT_LEVELS``, ``(level,)``.

    By the first terms of the expansion in the inverse degrees of freedom (Fisher and Cornish 1960).
    """
    normal = torch.special.ndtri(0.5 + torch.tensor(KEPT_LEVELS, dtype=torch.float64) / 2)
    square = normal.square()
    first, second = (square + 1) / 4, (5 * square.square() + 16 * square + 3) / 96
    third = (3 * square**3 + 19 * square.square() + 17 * square - 15) / 384
    return 1 + first / degrees + second / degrees**2 + third / degrees**3


def _relative_scale(scores: Tensor, prior: Tensor) -> float:
    """Return the ratio of scores ``(forecast, horizon)`` to a prior ``(level, lead time)``."""
    leads = torch.arange(1, scores.shape[1] + 1).clamp_max(KEPT_LEAD_TIMES[-1]).double().log()
    knots = torch.tensor(KEPT_LEAD_TIMES).double().log()
    typical = _interpolated(prior[KEPT_LEVELS.index(0.5)][:, None], knots, leads)[:, 0]
    # torch.nanmedian would take the lower one of two values in the middle.
    return max(float(np.nanmedian((scores / typical).numpy())), 1e-9)


def _mixed_quantiles(scores: Tensor, weights: Tensor, prior: Tensor) -> Tensor:
    """Return quantiles at ``KEPT_LEVELS`` of weighted scores mixed with the quantiles of a prior."""
    edges = torch.tensor([0.0, *KEPT_LEVELS, 1.0], dtype=torch.float64)
    prior_mass = PRIOR_FORECASTS * (edges[2:] - edges[:-2]) / 2
    points, order = torch.cat([scores.flatten(), prior]).sort()
    mass = torch.cat([weights.flatten(), prior_mass])[order].cumsum(0)
    # Conformal prediction counts the coming value as one more score; the prior needs no such correction.
    one_more = weights.sum() / (weights.sum() + PRIOR_FORECASTS)
    wanted = torch.tensor(KEPT_LEVELS, dtype=torch.float64) * (mass[-1] + one_more)
    return points[torch.searchsorted(mass, wanted).clamp_max(len(points) - 1)]


def _interpolated(table: Tensor, knots: Tensor, at: Tensor) -> Tensor:
    """Interpolate ``table (knot, column)`` linearly, constant beyond its knots, ``(at, column)``."""
    place = torch.searchsorted(knots, at.contiguous()).clamp(1, len(knots) - 1)
    share = ((at - knots[place - 1]) / (knots[place] - knots[place - 1])).clamp(0, 1).to(table)[:, None]
    return table[place - 1] * (1 - share) + table[place] * share
