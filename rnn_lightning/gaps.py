"""The recurrence over values that are not all known: the network's own prediction takes their place.

This is the closed loop for the steps of a gap and teacher forcing for the others. Between gaps the fused kernel runs; each
step at which some row of the batch has a gap begins a new call of it.
"""

from itertools import pairwise

import torch
from torch import Tensor

from rnn_lightning.network import RecurrentNetwork, RecurrentState


def first_known(values: Tensor) -> Tensor:
    """The first step of each row at which any feature is known, ``(batch,)``; the number of steps if none is."""
    return values.isnan().all(-1).long().cumprod(1).sum(1)


def recur_over_gaps(
    network: RecurrentNetwork, inputs: Tensor, state: RecurrentState, begin: Tensor | None = None
) -> tuple[Tensor, RecurrentState, Tensor]:
    """``network.recur`` where features may be NaN, not known: they are replaced by what the network predicted for them.

    Args:
        network: the network.
        inputs: ``(batch, time, feature + covariate)``, see ``network.join``.
        state: the state before the first input.
        begin: ``(batch,)``, the step at which each row begins: until then its state stays zero. None if all begin before
            the first input.

    Returns:
        The hidden outputs ``(batch, time, hidden)``, the state after the last input, and the inputs without gaps.
    """
    unknown = inputs[..., : network.num_features].isnan()
    num_steps = inputs.shape[1]
    steps = unknown.any(-1).any(0).nonzero()[:, 0].tolist()
    begins = [] if begin is None else begin.clamp(0, num_steps).tolist()
    outputs, filled = [], []
    for first, end in pairwise(sorted({0, *steps, *begins, num_steps})):
        piece = inputs[:, first:end]
        if bool(unknown[:, first].any()):
            predicted = network.readout(state[0][-1])
            values = torch.where(unknown[:, first], predicted, piece[:, 0, : network.num_features])
            step = torch.cat([values, piece[:, 0, network.num_features :]], -1)
            piece = torch.cat([step[:, None], piece[:, 1:]], 1)
        output, state = network.recur(piece, state)
        if begin is not None:
            begun = (begin < end).to(output)[:, None]
            state = tuple(part * begun for part in state)
        outputs.append(output)
        filled.append(piece)
    return torch.cat(outputs, 1), state, torch.cat(filled, 1)
