"""Runs of the network on many contexts of one season: forecasts and one-step errors from one encoding."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.devices import work_at_once
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.recurrent import first_known
from rnn_lightning.rollout import State, generate
from rnn_lightning.transforms import with_covariates

MIN_CONTEXT, CONTEXT_SEASONS = 140, 5
"""Steps and seasons of history that a run reads, whichever is longer."""

CHUNK_STEPS = 2**16
"""Steps of contexts that a CPU encodes together, padding included."""


class Contexts(NamedTuple):
    """Contexts of one season, which end at the same step.

    Attributes:
        values: ``(row, time, feature)`` in the units of the data, NaN where unknown.
        covariates: ``(row, time + horizon, covariate)``, or None.
    """

    values: Tensor
    covariates: Tensor | None


class Runs(NamedTuple):
    """What the network makes of contexts, in the units of the data.

    Attributes:
        forecasts: ``(origin, row, horizon, feature)``, NaN from origins that leave no context.
        errors: ``(row, time, feature)``, absolute one-step errors, NaN where a value is unknown.
    """

    forecasts: np.ndarray
    errors: np.ndarray


def context_length(season: int) -> int:
    """Return the number of last steps that a run of a season reads."""
    return max(MIN_CONTEXT, CONTEXT_SEASONS * season)


def cut_contexts(
    values: np.ndarray, end: int, length: int, horizon: int, covariates: np.ndarray | None
) -> Contexts:
    """Cut the ``length`` steps before ``end`` from ``values (row, time, feature)``, NaN before the first."""

    def cut(source: np.ndarray, last: int) -> Tensor:
        missing = max(length - end, 0)
        taken = source[:, max(end - length, 0) : last]
        return torch.from_numpy(np.pad(taken, ((0, 0), (missing, 0), (0, 0)), constant_values=np.nan))

    return Contexts(cut(values, end), None if covariates is None else cut(covariates, end + horizon))


@torch.no_grad()
def run_network(
    network: SeasonalNetwork, contexts: Contexts, horizon: int, season: int, offsets: Sequence[int] = (0,)
) -> Runs:
    """Forecast ``horizon`` steps from origins ``offsets`` before the end, and collect one-step errors.

    A context is read once, in the scale of its end, and each origin has the state at its step. Rows without a
    known value are NaN. Contexts of similar length share a batch.

    Args:
        network: the network.
        contexts: the contexts.
        horizon: number of steps.
        season: the season of all of them.
        offsets: steps of the origins before the end, in rising order.
    """
    num_rows, length, num_features = contexts.values.shape
    forecasts = np.full((len(offsets), num_rows, horizon, num_features), np.nan)
    errors = np.full((num_rows, length, num_features), np.nan)
    weight = network.readout.weight
    for rows, start in _chunks(contexts.values, work_at_once(CHUNK_STEPS, weight.device)):
        values = contexts.values[rows, start:].to(weight)
        covariates = None if contexts.covariates is None else contexts.covariates[rows, start:].to(weight)
        usable = [offset for offset in offsets if length - start - offset >= 2]
        of_rows = _run(network, values, covariates, horizon, season, usable)
        forecasts[: len(usable), rows], errors[rows, start + 1 :] = (
            part.cpu().double().numpy() for part in of_rows
        )
    return Runs(forecasts, errors)


def _run(
    network: SeasonalNetwork,
    values: Tensor,
    covariates: Tensor | None,
    horizon: int,
    season: int,
    offsets: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Return forecasts ``(origin, row, horizon, feature)`` and errors ``(row, time - 1, feature)``."""
    num_rows, num_steps = values.shape[:2]
    traits = {"season": torch.full((num_rows,), season)}
    following = None if covariates is None else covariates[:, 1 : num_steps + 1]
    seen = None if network.ignores_covariates else following
    transformed, scale = network.transforms.start(values, with_covariates(traits, seen))
    inputs = network.join(transformed, following)
    begin, state, states, predictions, future = 0, None, [], [], []
    for end in (num_steps - offset for offset in reversed(offsets)):
        if end > begin:
            encoded = network.encode(inputs[:, begin:end], state, traits)
            begin, state = end, encoded.state
            predictions.append(encoded.predictions)
        states.append(state)
        if covariates is not None:
            future.append(covariates[:, end + 1 : end + horizon])
    one_step = network.transforms.inverse(torch.cat(predictions, 1)[:, :-1], scale)
    count = len(offsets)
    origins = State(
        tuple(torch.cat(parts, 1) for parts in zip(*states, strict=True)),
        tuple(tuple(part.repeat(count, 1, 1) for part in each) for each in scale),
        {"season": torch.full((count * num_rows,), season)},
    )
    forecasts = generate(network, origins, horizon, covariates=torch.cat(future) if future else None)
    return forecasts.unflatten(0, (count, num_rows)).flip(0), (values[:, 1:] - one_step).abs()


def _chunks(values: Tensor, max_steps: int) -> Iterator[tuple[np.ndarray, int]]:
    """Go through rows of ``values (row, time, feature)`` in batches of at most ``max_steps`` steps.

    With each batch comes the first step that it needs.
    """
    length, first = values.shape[1], first_known(values).numpy()
    order = np.argsort(-first, kind="stable")  # the shortest contexts first
    order = order[first[order] < length]
    while len(order):
        num_steps = (length - first[order]) * np.arange(1, len(order) + 1)  # of the rows up to each
        rows, order = np.split(order, [max(1, int(num_steps.searchsorted(max_steps, "right")))])
        yield rows, min(int(first[rows[-1]]), length - 2)
