"""Missing values are imputed with the network's own prediction, in a closed loop over each gap."""

import torch
from torch import Tensor

from rnn_lightning.native.operator import Recurred, recurrence
from rnn_lightning.network import RecurrentNetwork
from rnn_lightning.recurrent import RecurrentState, begun, is_native, recur, step, weights_of


def first_known(values: Tensor) -> Tensor:
    """The first step of each row with a known feature, ``(batch,)``; the number of steps if there is none."""
    return values.isnan().all(-1).long().cumprod(1).sum(1)


def recur_over_gaps(
    network: RecurrentNetwork,
    inputs: Tensor,
    state: RecurrentState | None = None,
    begin: Tensor | None = None,
    first: int = 0,
) -> Recurred:
    """One step ahead of every input, where missing features (NaN) are imputed with the prediction.

    They are constants for the gradient: no gradient passes from the inputs to the predictions that they were.

    Args:
        network: the network.
        inputs: ``(batch, time, feature + covariate)``, see ``RecurrentNetwork.join``.
        state: the state before the first input, zero if None.
        begin: ``(batch,)``, the step at which each row begins: until then its state stays zero. None if all
            begin before the first input.
        first: the first step whose prediction is wanted.

    Returns:
        The predictions ``(batch, time, feature)`` from ``first`` on, the values without gaps, and the state
        after the last.
    """
    if is_native(network.recurrent, inputs):
        weights = weights_of(network.recurrent, network.readout)
        return recurrence(network.cell, inputs, state, weights, feedback="fill", begin=begin, first=first)
    state = network.initial_state(len(inputs)) if state is None else state
    filled, end = _fill(network, inputs, state, begin)
    if first == inputs.shape[1] and not torch.is_grad_enabled():
        return Recurred(filled[:, first:], filled, end)
    complete = torch.cat([filled, inputs[..., network.num_features :]], -1)
    predictions, end = recur(network.recurrent, complete, state, network.readout, first, begin)
    return Recurred(predictions, filled, end)


@torch.no_grad()
def _fill(
    network: RecurrentNetwork, inputs: Tensor, state: RecurrentState, begin: Tensor | None
) -> tuple[Tensor, RecurrentState]:
    """The values without gaps and the state after the last of them, step by step."""
    filled = []
    for index, inputs_of_step in enumerate(inputs.unbind(1)):
        values, covariates = inputs_of_step.split([network.num_features, network.num_covariates], -1)
        values = torch.where(values.isnan(), network.readout(state[0][-1]), values)
        state = step(network.recurrent, torch.cat([values, covariates], -1), state)
        state = begun(state, begin, index + 1)
        filled.append(values)
    return torch.stack(filled, 1), state
