"""Transforms one after another, as the network has them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from rnn_lightning.errors import InputError
from rnn_lightning.scales import SeasonScale, Standardize, StandardizeContext
from rnn_lightning.transforms import Difference, Log, Transform, TransformState

TransformName = Literal["log", "difference", "standardize", "standardize_context"]


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
                raise InputError(f"`transforms`: unknown transform {name!r}; there are {', '.join(kinds)}.")
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
