"""Invertible transforms of values; their statistics are buffers, so the units travel with the weights.

A transform has a *state*: what it must know of earlier steps to go on. ``start`` reads it from a context,
``forward`` takes it and returns the next one, so that a series can be transformed in parts, and ``inverse``
takes it to put a forecast back into the units of the data.

NaN marks an unknown value and stays NaN. After the network has imputed the gaps, ``impute`` puts its
predictions back, so that the state can go on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnn_lightning.errors import InputError

TransformName = Literal["log", "difference", "standardize", "standardize_context"]
TransformState = tuple[Tensor, ...]
Traits = Mapping[str, Tensor]
"""What belongs to each series beside its values, ``(batch, ...)`` on the CPU, for networks that ask."""

NEXT_COVARIATES = "next_covariates"


def with_covariates(traits: Traits, following: Tensor | None) -> Traits:
    """Return traits for ``start`` with the covariates ``(batch, time, covariate)`` after each value."""
    return traits if following is None else {**traits, NEXT_COVARIATES: following}


def precise(values: Tensor) -> Tensor:
    """Return values in float64, or as they are on a device that has none, Apple's ``mps``."""
    return values if values.device.type == "mps" else values.double()


class Transform(nn.Module):
    """An invertible transform of ``(batch, time, feature)`` values; on its own it leaves them as they are."""

    num_lost: int = 0  # steps that ``forward`` drops at the start of a series
    state_size: int = 0  # tensors in the state

    def fit(self, chunks: Iterable[Tensor]) -> None:
        """Set the statistics from the training values, ``(time, feature)`` tensors, iterated repeatedly."""

    def start(self, context: Tensor, traits: Traits) -> TransformState:
        """Return the state of a series that begins with ``context (batch, time, feature)``."""
        return ()

    def forward(self, values: Tensor, state: TransformState) -> tuple[Tensor, TransformState]:
        """Transform the steps that follow the state; return them and the state after them."""
        return values, self.advance(values, state)

    def inverse(self, transformed: Tensor, state: TransformState) -> Tensor:
        """Put ``(..., batch, time, feature)`` values that follow the state back into the units of before."""
        return transformed

    def impute(self, values: Tensor, transformed: Tensor, state: TransformState) -> Tensor:
        """Return ``values`` with the unknown ones taken from ``transformed``; both follow the state."""
        return torch.where(values.isnan(), self.inverse(transformed, state), values)

    def advance(self, values: Tensor, state: TransformState, known: Tensor | None = None) -> TransformState:
        """Return the state after ``values`` that follow it; ``known`` are they with their gaps."""
        return state


class Log(Transform):
    """The natural logarithm, for positive values whose changes are proportional to their level."""

    def forward(self, values: Tensor, state: TransformState) -> tuple[Tensor, TransformState]:
        if bool((values <= 0).any()):
            raise InputError(
                "the log transform needs values above 0, and the smallest is "
                f"{float(values[~values.isnan()].min()):g}: remove log from `transforms` or shift the data."
            )
        return values.log(), state

    def inverse(self, transformed: Tensor, state: TransformState) -> Tensor:
        return transformed.exp()


class Difference(Transform):
    """The change from one step to the next: a trend becomes a level, which a bounded network can hold.

    The first step of a series has no predecessor and is dropped. The state is the last value, NaN where it is
    unknown, and the last level, which is imputed there: a change is one of known values, levels go on.
    """

    num_lost = 1
    state_size = 1

    def start(self, context: Tensor, traits: Traits) -> TransformState:
        return (context[..., :0, :],)

    def forward(self, values: Tensor, state: TransformState) -> tuple[Tensor, TransformState]:
        return torch.cat([state[0][..., :1, :], values], dim=-2).diff(dim=-2), self.advance(values, state)

    def inverse(self, transformed: Tensor, state: TransformState) -> Tensor:
        # Float64, because the sum of a million float32 steps would drift.
        return (precise(state[0][..., -1:, :]) + precise(transformed).cumsum(-2)).to(transformed.dtype)

    def impute(self, values: Tensor, transformed: Tensor, state: TransformState) -> Tensor:
        """Continue each gap from the last known value before it; steps before the first one stay NaN."""
        before = state[0][..., -1:, :]
        levels = torch.cat([before, values], dim=-2)  # (batch, 1 + time, feature)
        change = functional.pad(precise(transformed).nan_to_num(0.0), (0, 0, 1, 0)).cumsum(-2)
        steps = torch.arange(levels.shape[-2], device=levels.device)[:, None]
        last_known = torch.where(levels.isnan(), 0, steps).cummax(-2).values  # (batch, 1 + time, feature)
        anchor = (levels - change).gather(-2, last_known)
        imputed = torch.where(levels.isnan(), anchor + change, precise(levels))
        return imputed[..., before.shape[-2] :, :].to(values.dtype)

    def advance(self, values: Tensor, state: TransformState, known: Tensor | None = None) -> TransformState:
        before = state[0][..., :1, :], state[0][..., -1:, :]
        ends = zip(before, (values if known is None else known, values), strict=True)
        return (torch.cat([torch.cat(parts, dim=-2)[..., -1:, :] for parts in ends], dim=-2),)


class Standardize(Transform):
    """Zero mean and unit standard deviation of each feature over the training split, see ``scale_of``."""

    mean: Tensor  # (feature,)
    scale: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))

    def fit(self, chunks: Iterable[Tensor]) -> None:
        zeros = torch.zeros(self.mean.shape, dtype=torch.float64)  # on the CPU, where the series are
        count, total, squares, shift = zeros, zeros, zeros, zeros
        for chunk in chunks:
            known = ~chunk.isnan()
            values = chunk.double().nan_to_num(0.0)
            if not bool(count.any()):  # shifted sums do not cancel where the mean is large
                shift = values.sum(0) / known.sum(0).clamp_min(1)
            centred = torch.where(known, values - shift, 0.0)
            count = count + known.sum(0)
            total = total + centred.sum(0)
            squares = squares + centred.square().sum(0)
        mean = total / count.clamp_min(1)
        deviation = (squares / count.clamp_min(1) - mean.square()).clamp_min(0).sqrt()
        self.mean.copy_(mean + shift)
        self.scale.copy_(scale_of(deviation, mean + shift))

    def forward(self, values: Tensor, state: TransformState) -> tuple[Tensor, TransformState]:
        return (values - self.mean) / self.scale, state

    def inverse(self, transformed: Tensor, state: TransformState) -> Tensor:
        return transformed * self.scale + self.mean


class StandardizeContext(Standardize):
    """Zero mean and unit standard deviation of each feature over the context of each series or window.

    For many series of different scale. The state is the mean and the scale, which stay those of the context.
    A context may say little about the scale; then the training series say the rest. For fewer than
    ``min_count`` known values the scale is the deviation of the median training series, relative to the
    magnitude of the values. It is never below a tenth of that, nor of the deviation that nine tenths of the
    training series exceed, nor below a hundredth of the mean: the steps after a constant are not blown up.
    """

    state_size = 2
    min_part, min_ratio, calm_quantile, min_count = 1e-2, 0.1, 0.1, 3
    relative: Tensor  # (feature,)
    floor: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.register_buffer("relative", torch.zeros(num_features))
        self.register_buffer("floor", torch.zeros(num_features))

    def fit(self, chunks: Iterable[Tensor]) -> None:
        deviations: list[Tensor] = []
        magnitudes: list[Tensor] = []

        def observed() -> Iterator[Tensor]:
            for chunk in chunks:
                values = chunk.double()
                deviations.append((values - values.nanmean(0)).square().nanmean(0).sqrt())
                magnitudes.append(values.abs().nanmean(0))
                yield chunk

        super().fit(observed())
        deviation = torch.stack(deviations)  # (chunk, feature)
        self.relative.copy_((deviation / torch.stack(magnitudes)).nanmedian(0).values.nan_to_num(0.0))
        moving = torch.where(deviation > 0, deviation, torch.nan)
        calm, typical = moving.nanquantile(self.calm_quantile, 0), moving.nanmedian(0).values
        self.floor.copy_(self.min_ratio * calm.nan_to_num(0.0))
        self.scale.copy_(torch.where(typical.isnan(), self.scale, typical))

    def start(self, context: Tensor, traits: Traits) -> TransformState:
        unknown = context.isnan()
        count = context.shape[-2] - unknown.sum(-2, keepdim=True)  # (batch, 1, feature)
        values = precise(context).masked_fill(unknown, 0.0)  # squares of float32 may overflow
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


class Transforms(nn.Module):
    """Transforms one after another. ``fitted`` says whether their statistics come from data.

    Args:
        parts: the transforms, in the order in which they are applied; see ``named_transforms``.
    """

    fitted: Tensor
    parts: Any  # an nn.ModuleList of them

    def __init__(self, parts: Sequence[Transform]) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.tensor(False))
        self.parts = nn.ModuleList(parts)
        self.num_lost = sum(part.num_lost for part in parts)  # steps that ``start`` drops
        self.state_sizes = [part.state_size for part in parts]

    @torch.no_grad()
    def fit(self, series: Iterable[Tensor]) -> None:
        """Set the statistics from chunks ``(time, feature)`` of the training series, iterated repeatedly."""
        device = self.fitted.device
        self.cpu()  # where the series are
        for index, part in enumerate(self.parts):
            part.fit(self._through(values, index) for values in series)
        for values in series:  # refuse what a transform cannot take before training begins
            self._through(values, len(self.parts))
        self.fitted.fill_(True)
        self.to(device)

    def start(self, context: Tensor, traits: Traits) -> tuple[Tensor, tuple[TransformState, ...]]:
        """Transform the context of a series; return it, ``num_lost`` steps shorter, and the last states."""
        states = []
        for part in self.parts:
            context, state = part(context, part.start(context, traits))
            states.append(state)
        return context, tuple(states)

    def forward(
        self, values: Tensor, states: Sequence[TransformState]
    ) -> tuple[Tensor, tuple[TransformState, ...]]:
        """Transform ``values (batch, time, feature)`` that follow the states."""
        following = []
        for part, state in zip(self.parts, states, strict=True):
            values, state = part(values, state)
            following.append(state)
        return values, tuple(following)

    def imputed(
        self, values: Tensor, transformed: Tensor, states: Sequence[TransformState] | None, traits: Traits
    ) -> tuple[Tensor, tuple[TransformState, ...]]:
        """Return the values with their gaps imputed from ``transformed``, and the states after them.

        ``states`` are those before the values, None where they start a series.
        """
        levels = []
        for index, part in enumerate(self.parts):
            before = part.start(values, traits) if states is None else states[index]
            levels.append((values, before))
            values = part(values, before)[0]
        following = []
        for part, (values, before) in zip(reversed(self.parts), reversed(levels), strict=True):
            transformed = part.impute(values, transformed, before)
            following.append(part.advance(transformed, before, values))
        return transformed, tuple(reversed(following))

    def inverse(self, transformed: Tensor, states: Sequence[TransformState]) -> Tensor:
        """Put ``(..., batch, time, feature)`` values that follow the states back into units of the data."""
        for part, state in zip(reversed(self.parts), reversed(states), strict=True):
            transformed = part.inverse(transformed, state)
        return transformed

    def _through(self, values: Tensor, num_parts: int) -> Tensor:
        for part in self.parts[:num_parts]:
            values = part(values, part.start(values, {}))[0]
        return values


def named_transforms(names: Sequence[str], num_features: int) -> Transforms:
    """Make the transforms of these names, which are applied in this order; ``difference`` may be repeated."""
    kinds: dict[str, Callable[[], Transform]] = {
        "log": Log,
        "difference": Difference,
        "standardize": lambda: Standardize(num_features),
        "standardize_context": lambda: StandardizeContext(num_features),
    }
    if isinstance(names, str):
        raise InputError(f"`transforms` must be a list of names, such as [{names!r}].")
    for name in names:
        if name not in kinds:
            raise InputError(f"`transforms`: unknown transform {name!r}; there are {', '.join(kinds)}.")
    return Transforms([kinds[name]() for name in names])


def scale_of(deviation: Tensor, mean: Tensor) -> Tensor:
    """Return the deviation; for values that are equal up to rounding their magnitude, or 1 if that is 0."""
    magnitude = mean.abs()
    return torch.where(deviation > 1e-6 * magnitude, deviation, torch.where(magnitude > 0, magnitude, 1.0))
