"""The closed loop: a network with its output fed back, as a network of its own.

Every loop here maps its inputs ``(batch, time, feature + covariate)`` and the network's state to values
``(batch, time, feature)`` and the state after them, all in transformed units. The inputs of a step are the
innovation of its values and, beside it, the covariates of the step after it, scaled, see
``RecurrentNetwork.join``::

    x[t + 1] = readout(h[t]) + innovation[t + 1]        h[t + 1] = cell([x[t + 1], covariates[t + 2]], h[t])

With zero innovations the values are the point forecast, with noise a sampled path, and with the one-step
errors of a series the series itself. ``plain_loop`` is the definition; ``close_loop`` finds the fastest loop
that equals it. See ``docs/method.md``.
"""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rnn_lightning.native.operator import recurrence
from rnn_lightning.network import RecurrentNetwork
from rnn_lightning.pretrained.seasonal import Network, SeasonalNetwork
from rnn_lightning.recurrent import RecurrentState, is_native, step, weights_of

ClosedLoop = Callable[[Tensor, RecurrentState], tuple[Tensor, RecurrentState]]

FOLDABLE = ("rnn_tanh", "rnn_relu", "lstm")
"""Cells that add the recurrent and the input part before anything else, see ``FoldedLoop``."""

GRAPH_STEPS = 32
"""Steps in one CUDA graph: enough to hide the launches, few enough to be captured in milliseconds."""


def close_loop(network: Network) -> ClosedLoop:
    """The closed loop of a network with its present weights; all loops pass gradients on to them.

    On a CPU the native kernel runs it. Elsewhere one-layer Elman and LSTM networks fold into a network of the
    same kind, one fused call for any number of steps, and others step through the plain loop, as seasonal
    networks do through their own.
    """
    if isinstance(network, SeasonalNetwork):
        return network.free_run
    if is_native(network.recurrent, network.readout.weight):
        return partial(native_loop, network)
    if network.recurrent.num_layers == 1 and network.cell in FOLDABLE:
        return FoldedLoop(network)
    if network.readout.weight.is_cuda and not torch.is_grad_enabled():
        return partial(graph_loop, network)
    return partial(plain_loop, network)


def plain_loop(
    network: RecurrentNetwork, inputs: Tensor, state: RecurrentState
) -> tuple[Tensor, RecurrentState]:
    """The definition, step by step."""
    values = []
    dropout = network.recurrent.dropout if network.training else 0.0
    for piece in inputs.unbind(1):
        innovation, covariates = piece.split([network.num_features, network.num_covariates], -1)
        value = network.readout(state[0][-1]) + innovation
        state = step(network.recurrent, torch.cat([value, covariates], -1), state, dropout)
        values.append(value)
    return torch.stack(values, 1), state


def native_loop(
    network: RecurrentNetwork, inputs: Tensor, state: RecurrentState
) -> tuple[Tensor, RecurrentState]:
    """The native kernel, which has the readout and the feedback inside."""
    weights = weights_of(network.recurrent, network.readout)
    recurred = recurrence(network.cell, inputs, state, weights, feedback="free")
    return recurred.outputs, recurred.state


class FoldedLoop:
    """One-layer Elman and LSTM: substituting ``x = Wo h + bo + e`` leaves a network of the same kind.

    ``h[t + 1] = cell((W_hh + W_xh Wo) h[t] + W_xh e[t + 1] + W_ch c[t + 2] + (b + W_xh bo))``: its input is
    the innovation ``e`` beside the covariates ``c``.
    """

    def __init__(self, network: RecurrentNetwork) -> None:
        self.cell, self.readout = network.cell, network.readout
        self.num_features = network.num_features
        w_input, w_hidden, b_input, b_hidden = network.recurrent.all_weights[0]
        w_values = w_input[:, : network.num_features]
        folded = [
            w_input,
            w_hidden + w_values @ self.readout.weight,
            b_input + w_values @ self.readout.bias,
            b_hidden,
        ]
        # In one piece, as cuDNN wants its weights: it would warn, and make a copy at every call.
        pieces = torch.cat([weight.flatten() for weight in folded]).split(
            [weight.numel() for weight in folded]
        )
        self.weights = [piece.view_as(weight) for piece, weight in zip(pieces, folded, strict=True)]

    def __call__(self, inputs: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        by_step = inputs.transpose(0, 1)
        # The settings: biases, number of layers, dropout, training, bidirectional, batch first.
        settings = (True, 1, 0.0, torch.is_grad_enabled(), False, False)
        following: RecurrentState
        if self.cell == "lstm":
            outputs, *following_list = torch.lstm(by_step, state, self.weights, *settings)
            following = tuple(following_list)
        else:
            kernel = torch.rnn_tanh if self.cell == "rnn_tanh" else torch.rnn_relu
            outputs, hidden = kernel(by_step, state[0], self.weights, *settings)
            following = (hidden,)
        # The readout of h[t] belongs to step t + 1: the first is that of the given state.
        values = torch.cat([state[0] @ self.readout.weight.T, outputs[:-1] @ self.readout.weight.T])
        return values.transpose(0, 1) + (inputs[..., : self.num_features] + self.readout.bias), following


@torch.no_grad()
def graph_loop(
    network: RecurrentNetwork, inputs: Tensor, state: RecurrentState
) -> tuple[Tensor, RecurrentState]:
    """The plain loop on a GPU: ``GRAPH_STEPS`` steps are captured once and replayed with one launch."""
    num_replays = inputs.shape[1] // GRAPH_STEPS
    if num_replays < 2:
        return plain_loop(network, inputs, state)
    pieces, graph = [], torch.cuda.CUDAGraph()
    chunk, carried = inputs[:, :GRAPH_STEPS].clone(), tuple(part.clone() for part in state)
    with torch.cuda.device(inputs.device):
        current, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):  # a capture needs its libraries initialised
            plain_loop(network, chunk[:, :1], carried)
        current.wait_stream(stream)
        try:
            # The capture runs nothing. Other threads may go on using the GPU.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                values, following = plain_loop(network, chunk, carried)
                for part, after in zip(carried, following, strict=True):
                    part.copy_(after)
        except RuntimeError as error:
            warnings.warn(
                f"CUDA graph capture failed, stepping without: {error}", RuntimeWarning, stacklevel=2
            )
            return plain_loop(network, inputs, state)
        for index in range(num_replays):
            chunk.copy_(inputs[:, index * GRAPH_STEPS : (index + 1) * GRAPH_STEPS])
            graph.replay()
            pieces.append(values.clone())
        if rest := inputs.shape[1] % GRAPH_STEPS:
            values, carried = plain_loop(network, inputs[:, -rest:], carried)
            pieces.append(values)
        current.synchronize()  # the graph and its memory must outlive the replays
    return torch.cat(pieces, 1), tuple(part.clone() for part in carried)
