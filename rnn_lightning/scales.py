"""The transforms that give series a common level and scale."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from rnn_lightning.transforms import Transform, TransformState


def scale_of(deviation: Tensor, mean: Tensor) -> Tensor:
    """The standard deviation; of values that are equal up to rounding, their magnitude, or 1 if that is 0."""
    magnitude = mean.abs()
    return torch.where(deviation > 1e-6 * magnitude, deviation, torch.where(magnitude > 0, magnitude, 1.0))


class Standardize(Transform):
    """Zero mean and unit standard deviation of each feature over the whole training split.

    Where all values are the same, their magnitude takes the place of the deviation, or 1 if they are zero.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))

    def fit(self, pieces: Iterable[Tensor]) -> None:
        zeros = torch.zeros_like(self.mean, dtype=torch.float64)
        count, total, squares, shift = zeros, zeros, zeros, zeros
        for piece in pieces:
            known = ~piece.isnan()
            values = piece.double().nan_to_num(0.0)
            if not bool(count.any()):
                shift = values.sum(0) / known.sum(0).clamp_min(1)
            centred = torch.where(known, values - shift, 0.0)
            count = count + known.sum(0)
            total = total + centred.sum(0)
            squares = squares + centred.square().sum(0)
        mean = total / count.clamp_min(1)
        deviation = (squares / count.clamp_min(1) - mean.square()).clamp_min(0).sqrt()
        self.mean.copy_(mean + shift)
        self.scale.copy_(scale_of(deviation, self.mean))

    def forward(self, values: Tensor, state: TransformState) -> tuple[Tensor, TransformState]:
        return (values - self.mean) / self.scale, state

    def inverse(self, transformed: Tensor, state: TransformState) -> Tensor:
        return transformed * self.scale + self.mean


class StandardizeContext(Standardize):
    """Zero mean and unit standard deviation of each feature over the context of each series or window.

    For many series of different scale. The state is the mean and the scale, which stay those of the context.
    A context may say little of the scale, and the training series say the rest:

    - of fewer than ``min_count`` known values, the scale is the deviation of the median series, relative to
      the magnitude of the values;
    - it is never below a tenth of that, nor below a tenth of the deviation that nine tenths of the series
      exceed, so that what follows a constant is not blown up;
    - nor below a hundredth of the mean, so that rounding errors of a constant, such as the slope of a line,
      are not blown up;
    - where all is zero, it is the deviation of the median series;
    - where nothing is known, the mean is that of the training split.
    """

    state_size = 2
    min_part, min_ratio, calm_quantile = 1e-2, 0.1, 0.1
    min_count = 3
    relative: Tensor
    floor: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.register_buffer("relative", torch.zeros(num_features))
        self.register_buffer("floor", torch.zeros(num_features))

    def fit(self, pieces: Iterable[Tensor]) -> None:
        deviations: list[Tensor] = []
        magnitudes: list[Tensor] = []

        def noted() -> Iterator[Tensor]:
            for piece in pieces:
                values = piece.double()
                deviations.append((values - values.nanmean(0)).square().nanmean(0).sqrt())
                magnitudes.append(values.abs().nanmean(0))
                yield piece

        super().fit(noted())
        deviation = torch.stack(deviations)
        self.relative.copy_(_median(deviation / torch.stack(magnitudes)).nan_to_num(0.0))
        moving = torch.where(deviation > 0, deviation, torch.nan)
        calm, typical = moving.nanquantile(self.calm_quantile, 0), _median(moving)
        self.floor.copy_(self.min_ratio * calm.nan_to_num(0.0))
        self.scale.copy_(torch.where(typical.isnan(), self.scale, typical))

    def start(self, context: Tensor) -> TransformState:
        unknown = context.isnan()
        count = context.shape[-2] - unknown.sum(-2, keepdim=True)
        values = context.double().masked_fill(unknown, 0.0)  # without float64 squares may overflow
        mean, magnitude = values.sum(-2, keepdim=True) / count, values.abs().sum(-2, keepdim=True) / count
        centred = (values - mean).masked_fill(unknown, 0.0)
        deviation = (centred.square().sum(-2, keepdim=True) / count).sqrt()
        usual, few = self.relative * magnitude, count < self.min_count
        least = torch.maximum(self.min_ratio * usual, self.min_part * mean.abs()).maximum(self.floor)
        scale = torch.where(few, usual, deviation).maximum(least)
        scale = torch.where((magnitude > 0) & (scale > 0), scale, self.scale)
        return torch.where(mean.isnan(), self.mean, mean).to(context), scale.to(context)

    def forward(self, values: Tensor, state: TransformState) -> tuple[Tensor, TransformState]:
        mean, scale = state
        return (values - mean) / scale, state

    def inverse(self, transformed: Tensor, state: TransformState) -> Tensor:
        mean, scale = state
        return torch.addcmul(mean, transformed, scale)


def _median(values: Tensor) -> Tensor:
    return values.nanmedian(0).values


class SeasonScale(Transform):
    """The level of the last season of each context, and how much values differ between seasons.

    The scale is the mean absolute difference of values one season apart, and for a quarter of neighbours,
    over the last four seasons; a millionth of the magnitude is the least. What was never negative comes back
    as never negative. The state is the level, the scale and the lower bound.
    """

    state_size = 3
    min_steps = 40
    scale_of_zeros = 1e-9
    season: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("season", torch.tensor(1))

    def start(self, context: Tensor) -> TransformState:
        season = int(self.season)
        recent = context[..., -max(4 * season, self.min_steps) :, :].double()
        neighbours = self._difference(recent, 1)
        apart = self._difference(recent, season)
        scale = 0.75 * torch.where(apart.isnan(), neighbours, apart) + 0.25 * neighbours
        magnitude = recent.abs().nanmean(-2, keepdim=True)
        scale = torch.where(scale.isnan(), magnitude, scale) + 1e-6 * magnitude
        scale = torch.where(scale == 0, self.scale_of_zeros, scale)
        level = recent[..., -max(season, 6) :, :].nanmean(-2, keepdim=True)
        level = torch.where(level.isnan(), recent.nanmean(-2, keepdim=True), level)
        negative = (context < 0).any(-2, keepdim=True)
        bound = torch.where(negative, -torch.inf, 0.0)
        return tuple(part.to(context) for part in (level.nan_to_num(0.0), scale.nan_to_num(1.0), bound))

    @staticmethod
    def _difference(values: Tensor, lag: int) -> Tensor:
        """The mean absolute difference of values ``lag`` steps apart, NaN if there are none."""
        return (values[..., lag:, :] - values[..., :-lag, :]).abs().nanmean(-2, keepdim=True)

    def forward(self, values: Tensor, state: TransformState) -> tuple[Tensor, TransformState]:
        level, scale, _ = state
        return (values - level) / scale, state

    def inverse(self, transformed: Tensor, state: TransformState) -> Tensor:
        level, scale, bound = state
        return torch.maximum(transformed * scale + level, bound)
