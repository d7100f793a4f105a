"""The seasonal network by the compiled kernel, where there is one: ``seasonal.py`` is the definition."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rnn_lightning.pretrained.season_clock import ERROR_RATE, LEAST_SPREAD, LEVEL_RATES, RATES, SLOPE_RATES
from rnn_lightning.pretrained.season_features import (
    DIFFERENCES,
    LEVELS,
    PROFILES,
    QUANTITIES,
    SIMPLE_FORECASTS,
    SLOPES,
)
from rnn_lightning.pretrained.season_track import PROFILE_SEASONS, kept_steps
from rnn_lightning.recurrent import RecurrentState

try:
    from rnn_lightning.native import seasonal
except ImportError:  # the folder was deleted: everything works without it, only slower
    seasonal = None  # type: ignore[assignment]
native = seasonal

EFFECT, CONSTANT = 4, (3, *range(5, 13))
"""Places in a state: the effect of covariates, and what only known values make up."""


@cache
def tables() -> "seasonal.Tables":
    """Return what the kernel is told of the features: a change of them changes it too."""

    def places(names: Sequence[str]) -> list[int]:
        return [QUANTITIES.index(name) for name in names]

    assert native is not None
    sums: list[Mapping[str, float]] = [*DIFFERENCES]
    sums += [dict.fromkeys(names, 1.0) for names in SIMPLE_FORECASTS]
    kinds: list[Sequence[Any]] = [LEVEL_RATES, SLOPE_RATES, PROFILE_SEASONS, DIFFERENCES, SIMPLE_FORECASTS]
    return native.Tables(
        constants=torch.tensor([*RATES, *PROFILE_SEASONS, ERROR_RATE, LEAST_SPREAD]),
        sums=torch.tensor([[float(weights.get(name, 0)) for name in QUANTITIES] for weights in sums]),
        mixed=[*places(LEVELS), *places(PROFILES), *places(SLOPES)],
        sizes=[len(kind) for kind in (*kinds, LEVELS, SLOPES)],
    )


def runs(inputs: Tensor, weights: Sequence[Tensor]) -> bool:
    """Return True if the kernel runs a network with these weights on these inputs."""
    return native is not None and native.runs(inputs, weights)


def run(
    values: Tensor,
    covariates: Tensor | None,
    effect: Tensor,
    state: RecurrentState | None,
    weights: Sequence[Tensor],
    season: int,
    free: bool = False,
) -> tuple[Tensor, Tensor, RecurrentState]:
    """Return predictions, values without gaps, ``(row, time)``, and the parts of the state ``(row, size)``.

    Args:
        values: ``(row, time)``, NaN where unknown, or innovations with ``free``.
        covariates: ``(row, time, covariate)``, or None.
        effect: ``(row, time)``, what covariates add to the values of the next steps, if there are any.
        state: the state before, as ``SeasonalNetwork`` has it.
        weights: in the order of ``native.seasonal``.
        season: steps of a season, 1 for none.
        free: whether all values are innovations.
    """
    assert native is not None
    given = values
    if covariates is not None:
        first = torch.zeros_like(values[:, :1]) if state is None else state[EFFECT].flatten(0, 1)
        effect = torch.cat([first, effect], 1)  # (row, 1 + time)
        given = values if free else values - effect[:, :-1].detach()
    before = None if state is None else torch.cat([part.to(values) for part in state], -1).flatten(0, 1)
    predictions, taken, after = native.seasonal(given, covariates, before, weights, tables(), season, free)
    last = None
    if covariates is not None:
        taken = taken + effect[:, :-1]
        taken = taken if free else torch.where(values.isnan(), taken, values)
        predictions, last = predictions + effect[:, 1:], effect[:, -1:]
    parts = _parts(after, last, season, hidden_size=weights[1].shape[1], constant=state is None)
    return predictions, taken, parts


def _parts(
    after: Tensor, effect: Tensor | None, season: int, hidden_size: int, constant: bool
) -> RecurrentState:
    """Return a state ``(row, number)`` in its parts, most of which are constants after a context."""
    kept, hidden, errors = kept_steps(season), 2 * hidden_size, len(SIMPLE_FORECASTS)
    profiles = season * len(PROFILE_SEASONS)
    sizes = [hidden, hidden, 1, 1, 1, kept, kept, kept, profiles, season, len(RATES), errors, errors, 1, 1]
    parts = list(after.split(sizes, -1))
    if effect is not None:
        parts[EFFECT] = effect
    if constant and after.requires_grad:
        constants = CONSTANT if effect is not None else (*CONSTANT, EFFECT)
        parts = [part.detach() if index in constants else part for index, part in enumerate(parts)]
    return (*parts[:-2], parts[-2].long(), parts[-1].long())
