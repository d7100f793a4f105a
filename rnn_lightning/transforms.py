"""Invertible transforms of values. Statistics are buffers, so that the units travel with the weights.

A transform has a *state*: what it must know from earlier steps to go on. ``start`` reads it from a context,
``forward`` takes it and returns the next one, so that a series can be transformed in pieces, and ``inverse``
takes it to put a forecast back into the units of the data.

NaN marks a value that is not known, and stays NaN; what depends on it is NaN as well. When the network has
imputed the gaps, ``impute`` puts its predictions back, so that the state can go on.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

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
                f"{float(values[~values.isnan()].min()):g}: remove log from `transforms` or shift the "
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
