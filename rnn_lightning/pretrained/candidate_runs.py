"""Runs of the network on many contexts of one season: forecasts and one-step errors from one encoding."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.recurrent import first_known
from rnn_lightning.rollout import State, generate

MIN_CONTEXT, CONTEXT_SEASONS = 100, 5
"""Steps and seasons of history that a run reads, whichever is longer."""

CHUNK_STEPS = 2**16
"""Steps of contexts that are encoded together, padding included."""


class Contexts(NamedTuple):
    """Contexts of one season, which all end at their origin.

    Attributes:
        values: ``(row, time, feature)`` in the units of the data, NaN where unknown.
        covariates: ``(row, time + horizon, covariate)``, or None.
    """

    values: Tensor
    covariates: Tensor | None


class Runs(NamedTuple):
    """What the network makes of contexts, in the units of the data.

    Attributes:
        forecasts: ``(row, horizon, feature)``.
        errors: ``(row, time, feature)``, absolute one-step errors, NaN where a value is unknown.
    """

    forecasts: np.ndarray
    errors: np.ndarray


def context_length(season: int) -> int:
    """Return the number of last steps that a run of a season reads."""
    return max(MIN_CONTEXT, CONTEXT_SEASONS * season)


def cut_contexts(
    values: np.ndarray, ends: np.ndarray, length: int, horizon: int, covariates: np.ndarray | None
) -> Contexts:
    """Cut the ``length`` steps before ``ends (row,)`` from ``values (row, time, feature)``.

    Steps before the start of ``values`` are NaN.
    """

    def cut(source: np.ndarray, num_after: int) -> Tensor:
        steps = ends[:, None] + np.arange(-length, num_after)  # (row, time)
        taken = source[np.arange(len(ends))[:, None], np.maximum(steps, 0)]
        return torch.from_numpy(np.where(steps[..., None] < 0, np.nan, taken))

    return Contexts(cut(values, 0), None if covariates is None else cut(covariates, horizon))


@torch.no_grad()
def run_network(network: SeasonalNetwork, contexts: Contexts, horizon: int, season: int) -> Runs:
    """Forecast ``horizon`` steps after each context and collect its one-step errors.

    Rows without a known value are NaN. Contexts of similar length share a batch.
    """
    num_rows, length, num_features = contexts.values.shape
    forecasts = np.full((num_rows, horizon, num_features), np.nan)
    errors = np.full((num_rows, length, num_features), np.nan)
    weight = network.readout.weight
    for rows, start in _chunks(contexts.values):
        values = contexts.values[rows, start:].to(weight)
        covariates = None if contexts.covariates is None else contexts.covariates[rows, start:].to(weight)
        of_rows = _run(network, values, covariates, horizon, season)
        forecasts[rows], errors[rows, start + 1 :] = (part.cpu().double().numpy() for part in of_rows)
    return Runs(forecasts, errors)


def _run(
    network: SeasonalNetwork, values: Tensor, covariates: Tensor | None, horizon: int, season: int
) -> tuple[Tensor, Tensor]:
    """Return forecasts ``(row, horizon, feature)`` and one-step errors ``(row, time - 1, feature)``."""
    num_steps, traits = values.shape[1], {"season": torch.full((len(values),), season)}
    transformed, states = network.transforms.start(values, traits)
    known = future = None
    if covariates is not None:
        known, future = covariates[:, 1 : num_steps + 1], covariates[:, num_steps + 1 :]
    encoded = network.encode(network.join(transformed, known), None, traits)
    predictions = network.transforms.inverse(encoded.predictions[:, :-1], states)
    forecasts = generate(network, State(encoded.state, states, traits), horizon, covariates=future)
    return forecasts, (values[:, 1:] - predictions).abs()


def _chunks(values: Tensor) -> Iterator[tuple[np.ndarray, int]]:
    """Go through rows of ``values (row, time, feature)`` in batches, with the first step that each needs."""
    length, first = values.shape[1], first_known(values).numpy()
    order = np.argsort(-first, kind="stable")  # the shortest contexts first
    order = order[first[order] < length]
    while len(order):
        num_steps = (length - first[order]) * np.arange(1, len(order) + 1)  # of the rows up to each
        rows, order = np.split(order, [max(1, int(num_steps.searchsorted(CHUNK_STEPS, "right")))])
        yield rows, min(int(first[rows[-1]]), length - 2)
