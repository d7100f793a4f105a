"""Recurrent layers in an ONNX graph: fused nodes for sequences, single steps for loops."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from rnn_lightning.onnx.graph import Graph, Operand, Value, numbers

Weights = Sequence[Tensor]
"""The weights of one layer in the order of PyTorch: input, hidden, and the bias of each."""

GATES = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn_tanh": [0], "rnn_relu": [0]}
"""For each gate of ONNX its place in PyTorch: input, output, forget, new; update, reset, new."""


def fused(
    graph: Graph, cell: str, weights: Weights, inputs: Value, state: list[Value]
) -> tuple[Value, list[Value]]:
    """Run one layer over a sequence by an LSTM, GRU or RNN node.

    Args:
        graph: the graph.
        cell: kind of recurrent cell.
        weights: weights of the layer.
        inputs: ``(time, batch, input)``.
        state: the tensors ``(batch, hidden)`` of the state before the first input.

    Returns:
        The hidden outputs ``(time, batch, hidden)`` and the state after them.
    """
    w_input, w_hidden, b_input, b_hidden = (_arranged(weight, GATES[cell]) for weight in weights)
    hidden_size = w_hidden.shape[1]
    biases = np.concatenate([b_input, b_hidden])
    arguments: list[Operand | None] = [inputs, w_input[None], w_hidden[None], biases[None], None]
    first = [graph.op("Unsqueeze", part, np.array([0])) for part in state]
    settings: dict[str, object] = {"hidden_size": hidden_size}
    if cell == "gru":
        settings["linear_before_reset"] = 1
    elif cell != "lstm":
        settings["activations"] = [cell.removeprefix("rnn_").capitalize()]
    kind = {"lstm": "LSTM", "gru": "GRU"}.get(cell, "RNN")
    outputs, *following = graph.ops(kind, *arguments, *first, num_outputs=1 + len(state), **settings)
    squeezed = [graph.op("Squeeze", part, np.array([0])) for part in following]
    return graph.op("Squeeze", outputs, np.array([1])), squeezed


def step(graph: Graph, cell: str, weights: Weights, inputs: Value, state: list[Value]) -> list[Value]:
    """Return the state of one layer after one step with ``inputs (batch, input)``."""
    w_input, w_hidden, b_input, b_hidden = map(numbers, weights)
    hidden = state[0]
    if cell == "gru":
        of_input = _parts(graph, inputs @ w_input.T + b_input, 3)
        of_hidden = _parts(graph, hidden @ w_hidden.T + b_hidden, 3)
        reset, update = (graph.op("Sigmoid", of_input[i] + of_hidden[i]) for i in range(2))
        new = graph.op("Tanh", of_input[2] + reset * of_hidden[2])
        return [new + update * (hidden - new)]
    total = inputs @ w_input.T + hidden @ w_hidden.T + (b_input + b_hidden)
    if cell != "lstm":
        return [graph.op(cell.removeprefix("rnn_").capitalize(), total)]
    gates = _parts(graph, total, 4)
    enter, forget, leave = (graph.op("Sigmoid", gates[i]) for i in (0, 1, 3))
    memory = forget * state[1] + enter * graph.op("Tanh", gates[2])
    return [leave * graph.op("Tanh", memory), memory]


def _parts(graph: Graph, value: Value, number: int) -> list[Value]:
    return graph.ops("Split", value, num_outputs=number, axis=-1)


def _arranged(weight: Tensor, order: Sequence[int]) -> np.ndarray:
    """Return a weight or bias with its gates reordered."""
    array = numbers(weight)
    return array.reshape(len(order), -1, *array.shape[1:])[list(order)].reshape(array.shape)
