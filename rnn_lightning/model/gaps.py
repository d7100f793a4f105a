"""Values that are not all known: the network's own prediction takes their place, in a closed loop over each gap."""

from itertools import pairwise

import torch
from torch import Tensor

from rnn_lightning.model.closed_loop import StepLoop
from rnn_lightning.model.network import RecurrentNetwork, RecurrentState


def first_known(values: Tensor) -> Tensor:
    """The first step of each row at which any feature is known, ``(batch,)``; the number of steps if none is."""
    return values.isnan().all(-1).long().cumprod(1).sum(1)


def bridge(
    network: RecurrentNetwork, inputs: Tensor, state: RecurrentState, begin: Tensor | None = None
) -> tuple[Tensor, RecurrentState]:
    """Replace features that are NaN, not known, by what the network predicts for them. No gradient passes through.

    Args:
        network: the network.
        inputs: ``(batch, time, feature + covariate)``, see ``network.join``.
        state: the state before the first input.
        begin: ``(batch,)``, the step at which each row begins: until then its state stays zero. None if all
            begin before the first input.

    Returns:
        The inputs without gaps and the state after the last of them.
    """
    loop, features = StepLoop(network), network.num_features
    filled = []
    for first, end in pairwise(_edges(begin, inputs.shape[1])):
        piece = inputs[:, first:end]
        values, state = loop(piece, state, given=piece[..., :features])
        state = _begun(state, begin, end)
        filled.append(torch.cat([values, piece[..., features:]], -1))
    return torch.cat(filled, 1), state


def recur_from(network: RecurrentNetwork, inputs: Tensor, begin: Tensor) -> tuple[Tensor, RecurrentState]:
    """``network.recur`` over inputs without gaps from the zero state, in which each row stays until its ``begin``."""
    state, outputs = network.initial_state(len(inputs)), []
    for first, end in pairwise(_edges(begin, inputs.shape[1])):
        output, state = network.recur(inputs[:, first:end], state)
        state = _begun(state, begin, end)
        outputs.append(output)
    return torch.cat(outputs, 1), state


def _edges(begin: Tensor | None, num_steps: int) -> list[int]:
    """The steps at which rows begin, and both ends."""
    begins = [] if begin is None else begin.clamp(0, num_steps).tolist()
    return sorted({0, *begins, num_steps})


def _begun(state: RecurrentState, begin: Tensor | None, end: int) -> RecurrentState:
    """The state after the step before ``end``, zero where a row begins at ``end`` or later."""
    if begin is None:
        return state
    begun = (begin < end).to(state[0])[:, None]
    return tuple(part * begun for part in state)
