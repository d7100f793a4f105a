"""Invertible transforms of values. Statistics are buffers, so that the units travel with the weights.

A transform has a *state*: what it must know from earlier steps to go on. ``start`` reads it from a context,
``forward`` takes it and returns the next one, so that a series can be transformed in pieces, and ``inverse``
takes it to put a forecast back into the units of the data.

NaN marks a value that is not known, and stays NaN; what depends on it is NaN as well. When the network has
imputed the gaps, ``impute`` puts its predictions back, so that the state can go on.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnn_lightning.errors import InputError

TransformState = tuple[Tensor, ...]


class Transform(nn.Module, ABC):
    """An invertible transform of ``(batch, time, feature)`` values."""

    num_lost: int = 0
    """Number of steps that ``forward`` drops at the start of a series."""

    state_size: int = 0
    """Number of tensors in the state."""

    def fit(self, pieces: Iterable[Tensor]) -> None:
        """Set the statistics from the training values: one ``(time, feature)`` tensor a series."""

    def start(self, context: Tensor) -> TransformState:
        """The state of a series that begins with ``context``, ``(batch, time, feature)``."""
        return ()

    @abstractmethod
    def forward(self, values: Tensor, state: TransformState) -> tuple[Tensor, TransformState]:
        """Transform the steps that follow the state; returns them and the state after them."""

    @abstractmethod
    def inverse(self, transformed: Tensor, state: TransformState) -> Tensor:
        """Back to the units of the input, for the steps that follow the state.

        ``transformed`` may have more leading axes than the state: ``(..., batch, time, feature)``.
        """

    def impute(self, values: Tensor, transformed: Tensor, state: TransformState) -> Tensor:
        """``values`` with what is unknown taken from ``transformed``; ``state`` is that before them."""
        return torch.where(values.isnan(), self.inverse(transformed, state), values)

    def advance(self, values: Tensor, state: TransformState) -> TransformState:
        """The state after ``values``, which follow those of ``state``."""
        return state


class Log(Transform):
    """The natural logarithm, for positive values whose changes are proportional to their level."""

    def forward(self, values: Tensor, state: TransformState) -> tuple[Tensor, TransformState]:
        if bool((values <= 0).any()):
            raise InputError(
                "the log transform needs values above 0, and the smallest is "
                f"{float(values[~values.isnan()].min()):g}: remove log from --model.transforms or shift the "
                "data."
            )
        return values.log(), state

    def inverse(self, transformed: Tensor, state: TransformState) -> Tensor:
        return transformed.exp()


class Difference(Transform):
    """The change from one step to the next: a trend becomes a level, which a bounded network can hold.

    The first step of a series has no predecessor and is dropped. The state is the last value.
    """

    num_lost = 1
    state_size = 1

    def start(self, context: Tensor) -> TransformState:
        return (context[..., :0, :],)

    def forward(self, values: Tensor, state: TransformState) -> tuple[Tensor, TransformState]:
        return torch.cat([state[0], values], dim=-2).diff(dim=-2), self.advance(values, state)

    def inverse(self, transformed: Tensor, state: TransformState) -> Tensor:
        # The sum of a million float32 steps would drift.
        return (state[0].double() + transformed.double().cumsum(-2)).to(transformed.dtype)

    def impute(self, values: Tensor, transformed: Tensor, state: TransformState) -> Tensor:
        """Each gap goes on from the last known value before it; what lies before the first one stays NaN."""
        levels = torch.cat([state[0], values], dim=-2)
        # What lies before the first known value is not known in an outer transform either.
        change = functional.pad(transformed.double().nan_to_num(0.0), (0, 0, 1, 0)).cumsum(-2)
        steps = torch.arange(levels.shape[-2], device=levels.device)[:, None]
        last_known = torch.where(levels.isnan(), 0, steps).cummax(-2).values
        anchor = (levels - change).gather(-2, last_known)
        imputed = torch.where(levels.isnan(), anchor + change, levels.double())
        return imputed[..., state[0].shape[-2] :, :].to(values.dtype)

    def advance(self, values: Tensor, state: TransformState) -> TransformState:
        return (torch.cat([state[0], values], dim=-2)[..., -1:, :],)


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
        self.register_load_state_dict_pre_hook(_without_floor)  # type: ignore[no-untyped-call]

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


def _without_floor(_module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Checkpoints of version 0.1 have no floor."""
    if f"{prefix}scale" in state_dict:
        state_dict.setdefault(f"{prefix}floor", torch.zeros_like(state_dict[f"{prefix}scale"]))


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


class Transforms(nn.Module):
    """Transforms one after another, by name. ``fitted`` says whether the statistics are those of data.

    Args:
        names: any of ``log``, ``difference``, ``standardize`` (by the training split) and
            ``standardize_context`` (by each context), applied in this order; ``difference`` may come more
            than once.
        num_features: number of features.
    """

    fitted: Tensor

    def __init__(self, names: Sequence[str], num_features: int) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.tensor(False))
        kinds: dict[str, Callable[[], Transform]] = {
            "log": Log,
            "difference": Difference,
            "standardize": lambda: Standardize(num_features),
            "standardize_context": lambda: StandardizeContext(num_features),
            "season_scale": SeasonScale,
        }
        for name in names:
            if name not in kinds:
                raise InputError(
                    f"--model.transforms: unknown transform {name!r}; there are {', '.join(kinds)}."
                )
        self.parts = nn.ModuleList(kinds[name]() for name in names)

    @property
    def num_lost(self) -> int:
        """Number of steps that ``forward`` drops at the start of a series."""
        return sum(part.num_lost for part in self._parts())

    @property
    def state_sizes(self) -> list[int]:
        """Number of tensors that each transform remembers."""
        return [part.state_size for part in self._parts()]

    @torch.no_grad()
    def fit(self, series: Iterable[Tensor]) -> None:
        """Set the statistics from pieces ``(time, feature)`` of the training series, iterated repeatedly."""
        for part_index, part in enumerate(self._parts()):
            part.fit(self._through(values, part_index) for values in series)
        for values in series:  # refuse what a transform cannot take before training begins
            self._through(values, len(self.parts))
        self.fitted.fill_(True)

    def _parts(self) -> list[Transform]:
        return cast(list[Transform], list(self.parts))

    def _through(self, values: Tensor, num_parts: int) -> Tensor:
        for part in self._parts()[:num_parts]:
            values = part(values, part.start(values))[0]
        return values

    def start(self, context: Tensor) -> tuple[Tensor, tuple[TransformState, ...]]:
        """Transform the first context of a series; returns it, ``num_lost`` steps shorter, and the state."""
        state = []
        for part in self._parts():
            context, part_state = part(context, part.start(context))
            state.append(part_state)
        return context, tuple(state)

    def forward(
        self, values: Tensor, state: Sequence[TransformState]
    ) -> tuple[Tensor, tuple[TransformState, ...]]:
        """Transform the steps that follow the state, ``(batch, time, feature)``."""
        following = []
        for part, part_state in zip(self._parts(), state, strict=True):
            values, part_state = part(values, part_state)
            following.append(part_state)
        return values, tuple(following)

    def imputed(
        self, values: Tensor, transformed: Tensor, state: Sequence[TransformState] | None
    ) -> tuple[Tensor, tuple[TransformState, ...]]:
        """The values with their gaps imputed by ``transformed``, complete, and the state after them.

        ``state`` is that before the values, None where they start a series.
        """
        levels = []
        for index, part in enumerate(self._parts()):
            before = part.start(values) if state is None else state[index]
            levels.append((values, before))
            values = part(values, before)[0]
        following = []
        for part, (values, before) in zip(reversed(self._parts()), reversed(levels), strict=True):
            transformed = part.impute(values, transformed, before)
            following.append(part.advance(transformed, before))
        return transformed, tuple(reversed(following))

    def inverse(self, transformed: Tensor, state: Sequence[TransformState]) -> Tensor:
        """Back to the units of the data, ``(..., batch, time, feature)``, for the steps after the state."""
        for part, part_state in zip(reversed(self._parts()), reversed(state), strict=True):
            transformed = part.inverse(transformed, part_state)
        return transformed
