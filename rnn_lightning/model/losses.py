"""The training loss in transformed units: the error of the next step, and that of the free run."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rnn_lightning.model.closed_loop import close_loop
from rnn_lightning.model.gaps import first_known, recur_over_gaps
from rnn_lightning.model.network import RecurrentNetwork
from rnn_lightning.model.recurrent import RecurrentState


class Scored(NamedTuple):
    """Windows in transformed units, ready for the network.

    Attributes:
        inputs: ``(batch, context + scored, feature + covariate)``: those that warm the state up and those
            that follow. From the last one nothing is predicted; its covariates are of no meaning.
        context_length: number of first inputs that warm the state up.
        target: ``(batch, scored, feature)``, NaN where it is not known or where nothing of its context is.
        complete: no value is unknown.
    """

    inputs: Tensor
    context_length: int
    target: Tensor
    complete: bool


def training_loss(network: RecurrentNetwork, windows: Scored, free_run_weight: float = 0.0) -> Tensor:
    """The loss of a fit, a scalar: the error of the next step and, with a weight, that of the free run.

    The weight is from 0 to 1. The free run is computed without mixed precision, whose rounding errors it
    would feed back.
    """
    loss = mean_squared_error(teacher_forced(network, windows), windows)
    if free_run_weight > 0:
        with torch.autocast(windows.inputs.device.type, enabled=False):
            of_free_run = mean_squared_error(free_run(network, windows), windows)
        loss = (1 - free_run_weight) * loss + free_run_weight * of_free_run
    return loss


def scored(
    network: RecurrentNetwork,
    values: Tensor,
    context_length: int,
    covariates: Tensor | None = None,
    complete: bool | None = None,
) -> Scored:
    """Windows for the losses below.

    Args:
        network: the network.
        values: ``(batch, time, feature)`` in the units of the data, NaN where they are not known.
        context_length: number of first steps that are not scored.
        covariates: ``(batch, time, covariate)``, those of the same steps.
        complete: whether all values are known; looked up if None, for which a GPU must be waited for.
    """
    context, memory = network.transforms.start(values[:, :context_length])
    target, _ = network.transforms(values[:, context_length:], memory)
    known, lost = context.shape[1], context_length - context.shape[1]
    following = None
    if covariates is not None:  # of the step after each
        following = torch.cat(
            [covariates[:, lost + 1 :], covariates.new_zeros(len(values), 1, covariates.shape[2])], 1
        )
    if complete is None:
        complete = not bool(values.isnan().any())
    if not complete:
        target = target.masked_fill((first_known(context) == known)[:, None, None], torch.nan)
    inputs = network.join(torch.cat([context, target], 1), following)
    return Scored(inputs, known, target, complete)


def teacher_forced(network: RecurrentNetwork, windows: Scored) -> Tensor:
    """The predictions ``(batch, scored, feature)``, each from the true values before it."""
    inputs, first = windows.inputs[:, :-1], windows.context_length - 1
    if windows.complete:
        return network(inputs, first=first)[0]
    return recur_over_gaps(network, inputs, begin=_begin(network, inputs), first=first).outputs


def free_run(network: RecurrentNetwork, windows: Scored) -> Tensor:
    """The values ``(batch, scored, feature)`` that the network generates from the contexts."""
    state = context_state(network, windows)
    drive = windows.inputs[:, windows.context_length :].clone()
    drive[..., : network.num_features] = 0.0
    return close_loop(network)(drive, state)[0]


def context_state(network: RecurrentNetwork, windows: Scored) -> RecurrentState:
    """The state after the contexts."""
    context = windows.inputs[:, : windows.context_length]
    num_steps = context.shape[1]
    if windows.complete:
        return network(context, first=num_steps)[1]
    return recur_over_gaps(network, context, begin=_begin(network, context), first=num_steps).state


def _begin(network: RecurrentNetwork, inputs: Tensor) -> Tensor:
    return first_known(inputs[..., : network.num_features])


def mean_squared_error(predicted: Tensor, windows: Scored) -> Tensor:
    """The loss over all known targets, a scalar; zero if none is known."""
    if windows.complete:
        return functional.mse_loss(predicted, windows.target)
    known = ~windows.target.isnan()
    errors = torch.where(known, predicted - windows.target, 0.0)
    return errors.square().sum() / known.sum().clamp_min(1)
