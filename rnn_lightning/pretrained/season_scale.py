"""The level and the scale of series with a season, by which the seasonal network sees them."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from rnn_lightning.errors import InputError
from rnn_lightning.transforms import NEXT_COVARIATES, Traits, Transform, TransformState, precise

MIN_STEPS, LEVEL_STEPS = 40, 6
"""Steps that the scale and the level are taken from, where four seasons and one season are fewer."""

SCALE_OF_ZEROS, LEAST_OF_RANGE = 1e-9, 1e-3

LEAST_WEIGHT, UNKNOWN_DISTANCE = 0.01, 100.0
"""The weight of a difference between steps with different covariates, and the distance of unknown ones."""


def season_groups(traits: Traits) -> Iterator[tuple[int, Tensor]]:
    """Go through the seasons in steps, 1 for none, and the rows of a batch that have each."""
    if "season" in traits:
        for season in traits["season"].unique().tolist():
            yield season, (traits["season"] == season).nonzero()[:, 0]


def season_of(traits: Traits) -> int:
    """Return the steps of the season that all series of a batch share, 1 for none.

    Raises:
        InputError: if they have several, or a season is below 1.
    """
    seasons = [season for season, _ in season_groups(traits)] or [1]
    if len(seasons) > 1:
        raise InputError(
            f"series of one batch have the seasons {seasons}: give those of one season at a time."
        )
    if seasons[0] < 1:
        raise InputError(f"`season` must be at least 1, got {seasons[0]}.")
    return seasons[0]


class SeasonScale(Transform):
    """The level of the last season of each context, and how much values differ between seasons.

    The scale is the mean absolute difference of values one season apart, and for a quarter of neighbours,
    over the last four seasons; a millionth of the magnitude is the least. Differences between steps with
    like covariates count most: a scale that promotions raise would forecast a smaller effect of the next one
    after a time without any. Series that were never negative come back as never negative. The state is the
    level, the scale and the lower bound.
    """

    state_size = 3

    def start(self, context: Tensor, traits: Traits) -> TransformState:
        groups, covariates = list(season_groups(traits)), traits.get(NEXT_COVARIATES)
        if len(groups) <= 1:
            return self._start(context, groups[0][0] if groups else 1, covariates)
        state = tuple(torch.empty_like(context[:, :1]) for _ in range(self.state_size))
        for season, rows in groups:
            own = None if covariates is None else covariates[rows]
            for part, values in zip(state, self._start(context[rows], season, own), strict=True):
                part[rows] = values
        return state

    def _start(self, context: Tensor, season: int, next_covariates: Tensor | None) -> TransformState:
        """Return the state ``(batch, 1, feature)`` after contexts ``(batch, time, feature)`` of a season."""
        recent = precise(context)[..., -max(4 * season, MIN_STEPS) :, :]
        covariates = None
        if next_covariates is not None:
            covariates = functional.pad(precise(next_covariates)[:, :-1], (0, 0, 1, 0), value=torch.nan)
            covariates = standardized(covariates[:, -recent.shape[1] :])
        neighbours, apart = (mean_difference(recent, lag, covariates) for lag in (1, season))
        scale = 0.75 * torch.where(apart.isnan(), neighbours, apart) + 0.25 * neighbours
        magnitude = recent.abs().nanmean(-2, keepdim=True)
        scale = torch.where(scale.isnan(), magnitude, scale) + 1e-6 * magnitude
        # A jump across a gap is in no difference, and would be a million scales.
        highest, lowest = (recent.nan_to_num(-torch.inf).amax(-2), recent.nan_to_num(torch.inf).amin(-2))
        scale = torch.maximum(scale, LEAST_OF_RANGE * (highest - lowest).clamp_min(0)[..., None, :])
        scale = torch.where(scale == 0, SCALE_OF_ZEROS, scale)
        level = recent[..., -max(season, LEVEL_STEPS) :, :].nanmean(-2, keepdim=True)
        level = torch.where(level.isnan(), recent.nanmean(-2, keepdim=True), level)
        negative = (context < 0).any(-2, keepdim=True)
        bound = torch.where(negative, -torch.inf, 0.0)
        return tuple(part.to(context) for part in (level.nan_to_num(0.0), scale.nan_to_num(1.0), bound))

    def forward(self, values: Tensor, state: TransformState) -> tuple[Tensor, TransformState]:
        level, scale, _ = state
        return (values - level) / scale, state

    def inverse(self, transformed: Tensor, state: TransformState) -> Tensor:
        level, scale, bound = state
        return torch.maximum(transformed * scale + level, bound)


def standardized(covariates: Tensor) -> Tensor:
    """Return ``covariates (batch, time, covariate)`` with mean 0 and deviation 1 over the time."""
    rest = covariates - covariates.nanmean(1, keepdim=True)
    deviation = rest.square().nanmean(1, keepdim=True).sqrt()
    return rest / torch.where(deviation > 0, deviation, 1.0)


def mean_difference(values: Tensor, lag: int, covariates: Tensor | None = None) -> Tensor:
    """Return the mean absolute difference of values ``lag`` steps apart, NaN if there are none.

    Args:
        values: ``(..., time, feature)``, NaN where unknown.
        lag: number of steps.
        covariates: ``(batch, time, covariate)``, standardized; like ones weigh most.
    """
    differences = (values[..., lag:, :] - values[..., :-lag, :]).abs()
    if covariates is None:
        return differences.nanmean(-2, keepdim=True)
    distance = (
        (covariates[:, lag:] - covariates[:, :-lag]).square().nan_to_num(UNKNOWN_DISTANCE).sum(-1, True)
    )
    weights = torch.exp(-2 * distance).clamp_min(LEAST_WEIGHT) * ~differences.isnan()
    return (weights * differences.nan_to_num(0.0)).sum(-2, keepdim=True) / weights.sum(-2, keepdim=True)
