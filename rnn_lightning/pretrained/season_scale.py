"""The level and the scale of series with a season, by which the seasonal network sees them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from rnn_lightning.errors import InputError
from rnn_lightning.transforms import Traits, Transform, TransformState, precise

MIN_STEPS, LEVEL_STEPS = 40, 6
"""Steps that the scale and the level are taken from, where four seasons and one season are fewer."""

SCALE_OF_ZEROS, LEAST_OF_RANGE = 1e-9, 1e-3


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
    over the last four seasons; a millionth of the magnitude is the least. Series that were never negative
    come back as never negative. The state is the level, the scale and the lower bound.
    """

    state_size = 3

    def start(self, context: Tensor, traits: Traits) -> TransformState:
        groups = list(season_groups(traits))
        if len(groups) <= 1:
            return self._start(context, groups[0][0] if groups else 1)
        state = tuple(torch.empty_like(context[:, :1]) for _ in range(self.state_size))
        for season, rows in groups:
            for part, values in zip(state, self._start(context[rows], season), strict=True):
                part[rows] = values
        return state

    def _start(self, context: Tensor, season: int) -> TransformState:
        """Return the state ``(batch, 1, feature)`` after contexts ``(batch, time, feature)`` of a season."""
        recent = precise(context)[..., -max(4 * season, MIN_STEPS) :, :]
        neighbours, apart = mean_difference(recent, 1), mean_difference(recent, season)
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


def mean_difference(values: Tensor, lag: int) -> Tensor:
    """Return the mean absolute difference of values ``lag`` steps apart, NaN if there are none."""
    return (values[..., lag:, :] - values[..., :-lag, :]).abs().nanmean(-2, keepdim=True)
