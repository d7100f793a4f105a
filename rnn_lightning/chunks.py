"""Long runs in chunks of rows and steps, whose numbers a cache keeps, and a bar of progress."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from tqdm import tqdm

from rnn_lightning.closed_loop import close_loop
from rnn_lightning.gaps import recur_over_gaps
from rnn_lightning.network import RecurrentNetwork
from rnn_lightning.noise import Innovations
from rnn_lightning.pretrained.seasonal import Network
from rnn_lightning.recurrent import RecurrentState, is_native

CHUNK_ELEMENTS = 2**20
"""Numbers in the hidden states of one chunk of a generation: 4 MB of float32, which a cache keeps."""

GPU_CHUNK_FACTOR = 64
"""A GPU takes chunks this much larger: it has no such cache, and each chunk costs it launches."""

MIN_CHUNK_STEPS = 16
"""Below this many steps a chunk is split by rows: the fused call has a cost of its own."""

PROGRESS_STEPS = 2**18
"""Series times steps from which a progress bar is worth the time it costs; no CPU needs seconds for fewer."""


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], object]]:
    """A progress bar, whose making takes as long as a short forecast, where it is worth it."""
    if total < PROGRESS_STEPS:
        yield lambda _: None
        return
    with tqdm(total=total, desc="generate", unit="step", unit_scale=True, delay=3, leave=False) as bar:
        yield bar.update


def generate_in_chunks(
    network: Network,
    innovations: Innovations,
    following: Tensor | None,
    state: RecurrentState,
    horizon: int,
) -> Tensor:
    """The free run ``(batch, horizon, feature)`` from a state, in transformed units.

    In chunks of rows and steps; ``following`` are the scaled covariates of the step after each.
    """
    closed_loop, width = close_loop(network), network.recurrent.hidden_size
    if is_native(network.recurrent, state[0]):
        width = network.recurrent.input_size  # it holds no hidden states
    num_rows = state[0].shape[1]
    elements = CHUNK_ELEMENTS * (GPU_CHUNK_FACTOR if state[0].is_cuda else 1)
    rows = max(1, min(num_rows, elements // (width * min(horizon, MIN_CHUNK_STEPS))))
    steps = max(1, min(horizon, elements // (width * rows)))
    states = [
        tuple(part[:, row : row + rows].contiguous() for part in state) for row in range(0, num_rows, rows)
    ]
    pieces = []
    total = num_rows * horizon
    with _progress(total) as advance:
        for first in range(0, horizon, steps):
            inputs = innovations.draw(min(steps, horizon - first))
            if following is not None:
                repeated = following[:, first : first + steps].repeat(num_rows // len(following), 1, 1)
                inputs = torch.cat([inputs, repeated], -1)
            columns = []
            for index, piece in enumerate(inputs.split(rows)):
                values, states[index] = closed_loop(piece, states[index])
                columns.append(values)
                advance(values.shape[0] * values.shape[1])
            pieces.append(_joined(columns, 0))
    return _joined(pieces, 1)


def _joined(pieces: list[Tensor], dim: int) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)


def recur_in_chunks(
    network: RecurrentNetwork, inputs: Tensor, state: RecurrentState, complete: bool, begin: Tensor | None
) -> tuple[Tensor, RecurrentState]:
    """The values without gaps ``(batch, time, feature)``, and the state after them, in chunks of steps.

    ``complete`` says that no value is unknown; ``begin (batch,)`` is the first known step of each row.
    """
    elements = CHUNK_ELEMENTS * (GPU_CHUNK_FACTOR if inputs.is_cuda else 1)
    steps = max(1, elements // (network.recurrent.hidden_size * len(inputs)))
    filled = []
    for index, piece in enumerate(inputs.split(steps, 1)):
        if complete:
            _, state = network(piece, state, first=piece.shape[1])
        else:
            left = begin - index * steps if begin is not None else None
            _, values_of_piece, state = recur_over_gaps(network, piece, state, left, piece.shape[1])
            filled.append(values_of_piece)
    return inputs[..., : network.num_features] if complete else torch.cat(filled, 1), state
