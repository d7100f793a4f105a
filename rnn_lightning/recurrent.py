"""Recurrent layers over a sequence and over one step; only this module decides which code runs them."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnn_lightning.native import library
from rnn_lightning.native.calls import CELLS
from rnn_lightning.native.operator import recurrence

RecurrentState = tuple[Tensor, ...]
"""The hidden state ``(layer, batch, hidden)``, and for an LSTM the cell state of the same shape."""


MAX_NATIVE_HIDDEN = 512
"""Hidden units up to which the native kernel has been the faster, see ``benchmarks/results/native.md``."""


def is_native(recurrent: nn.RNNBase, inputs: Tensor) -> bool:
    """Whether the native kernel runs these layers: on a CPU, wherever it can (``benchmarks/native.py``)."""
    return (
        recurrent.mode.lower() in CELLS
        and inputs.device.type == "cpu"
        and inputs.dtype in (torch.float32, torch.float64)
        and recurrent.hidden_size <= MAX_NATIVE_HIDDEN
        and not torch.is_autocast_enabled("cpu")
        and not (recurrent.training and recurrent.dropout > 0)
        and not torch.compiler.is_exporting()
        and library.load() is not None
    )


def weights_of(recurrent: nn.RNNBase, readout: nn.Linear | None = None) -> list[Tensor]:
    """The weights in the order of ``recurrence``."""
    weights: list[Tensor] = [weight for layer in recurrent.all_weights for weight in layer]
    return weights if readout is None else [*weights, readout.weight, readout.bias]


def recur(
    recurrent: nn.RNNBase,
    inputs: Tensor,
    state: RecurrentState | None = None,
    readout: nn.Linear | None = None,
    first: int = 0,
    begin: Tensor | None = None,
) -> tuple[Tensor, RecurrentState]:
    """Layers of ``torch.nn``, batch first and in one direction, over a sequence.

    Args:
        recurrent: the layers.
        inputs: ``(batch, time, input)``.
        state: the state before the first input, zero if None.
        readout: what the outputs are read by, if anything.
        first: the first step whose output is wanted.
        begin: ``(batch,)``, the step at which each row begins: until then its state stays zero. None if all
            begin before the first input.

    Returns:
        The outputs from ``first`` on, ``(batch, time, hidden)`` or of the readout, and the state after the
        last input.
    """
    if is_native(recurrent, inputs):
        weights = weights_of(recurrent, readout)
        outputs, _, state = recurrence(
            recurrent.mode.lower(), inputs, state, weights, begin=begin, first=first
        )
        return outputs, state
    pieces = []
    begins = [] if begin is None else begin.clamp(0, inputs.shape[1]).tolist()
    for start, end in pairwise(sorted({0, *begins, inputs.shape[1]})):
        given = state if state is None or recurrent.mode == "LSTM" else state[0]
        outputs, following = recurrent(inputs[:, start:end], given)
        state = begun(following if recurrent.mode == "LSTM" else (following,), begin, end)
        pieces.append(outputs)
    assert state is not None
    outputs = torch.cat(pieces, 1)[:, first:]
    return outputs if readout is None else readout(outputs), state


def begun(state: RecurrentState, begin: Tensor | None, end: int) -> RecurrentState:
    """The state after the step before ``end``, zero where a row begins at ``end`` or later."""
    if begin is None:
        return state
    has_begun = (begin < end).to(state[0])[:, None]
    return tuple(part * has_begun for part in state)


def step(
    recurrent: nn.RNNBase, inputs: Tensor, state: RecurrentState, dropout: float = 0.0
) -> RecurrentState:
    """The state after one step with inputs ``(batch, input)``, by the operators of PyTorch."""
    layers = []
    for layer, (weights, *before) in enumerate(zip(recurrent.all_weights, *state, strict=True)):
        if layer > 0:
            inputs = functional.dropout(inputs, dropout)
        if recurrent.mode == "LSTM":
            after: tuple[Tensor, ...] = torch.lstm_cell(inputs, before, *weights)
        elif recurrent.mode == "GRU":
            after = (torch.gru_cell(inputs, *before, *weights),)
        elif recurrent.mode == "RNN_TANH":
            after = (torch.rnn_tanh_cell(inputs, *before, *weights),)
        else:
            after = (torch.rnn_relu_cell(inputs, *before, *weights),)
        inputs = after[0]
        layers.append(after)
    return tuple(torch.stack(parts) for parts in zip(*layers, strict=True))
