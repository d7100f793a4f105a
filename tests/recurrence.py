"""The recurrences written out from their formulas: what the fused modules of ``network.py`` compute.

Nothing here is called in training or generation. It is the definition for a reader to learn from, and the
tests hold the fused modules to it, values and gradients. ``x`` is the input of a step, ``h`` the hidden
state, ``c`` the cell state of an LSTM; ``w_input (gates * hidden, input)`` and ``w_hidden (gates * hidden,
hidden)`` stack the gates as ``torch.nn`` does, and ``b_input`` and ``b_hidden`` are their biases.
"""

import torch
from torch import Tensor, nn


def rnn_step(x: Tensor, h: Tensor, weights: tuple[Tensor, ...], activation: str) -> Tensor:
    """Elman (1990): ``h' = f(W_xh x + b_x + W_hh h + b_h)``, ``f`` being tanh or relu."""
    w_input, w_hidden, b_input, b_hidden = weights
    total = x @ w_input.T + b_input + h @ w_hidden.T + b_hidden
    return torch.tanh(total) if activation == "tanh" else torch.relu(total)


def gru_step(x: Tensor, h: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    """Cho et al. (2014), the reset gate after the product, as cuDNN has it.

    ``r = s(W_xr x + W_hr h)``, ``z = s(W_xz x + W_hz h)``, ``n = tanh(W_xn x + r * (W_hn h))``,
    ``h' = (1 - z) n + z h``, each product with its bias and ``s`` the sigmoid.
    """
    w_input, w_hidden, b_input, b_hidden = weights
    x_reset, x_update, x_new = (x @ w_input.T + b_input).chunk(3, -1)
    h_reset, h_update, h_new = (h @ w_hidden.T + b_hidden).chunk(3, -1)
    reset = torch.sigmoid(x_reset + h_reset)
    update = torch.sigmoid(x_update + h_update)
    new = torch.tanh(x_new + reset * h_new)
    return (1 - update) * new + update * h


def lstm_step(x: Tensor, h: Tensor, c: Tensor, weights: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000).

    ``i, f, o = s(W_x x + W_h h)``, ``g = tanh(W_xg x + W_hg h)``, ``c' = f c + i g``, ``h' = o tanh(c')``,
    each product with its bias and ``s`` the sigmoid.
    """
    w_input, w_hidden, b_input, b_hidden = weights
    total = x @ w_input.T + b_input + h @ w_hidden.T + b_hidden
    input_gate, forget_gate, new, output_gate = total.chunk(4, -1)
    c = torch.sigmoid(forget_gate) * c + torch.sigmoid(input_gate) * torch.tanh(new)
    return torch.sigmoid(output_gate) * torch.tanh(c), c


def run(
    recurrent: nn.RNNBase, inputs: Tensor, hidden: Tensor, cell: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Run a ``torch.nn`` recurrent module by these definitions, step by step, layer by layer, no dropout.

    Args:
        recurrent: the module whose weights and kind are used.
        inputs: ``(batch, time, input)``.
        hidden: ``(layer, batch, hidden)``, the initial hidden state.
        cell: the same for the cell state, of an LSTM only.

    Returns:
        The outputs of the last layer ``(batch, time, hidden)``, the final hidden state, and for an LSTM the
        cell state.
    """
    hiddens = list(hidden)
    cells = list(cell) if cell is not None else []
    outputs = []
    for x in inputs.unbind(1):
        for layer, weights in enumerate(recurrent.all_weights):
            if recurrent.mode == "LSTM":
                hiddens[layer], cells[layer] = lstm_step(x, hiddens[layer], cells[layer], tuple(weights))
            elif recurrent.mode == "GRU":
                hiddens[layer] = gru_step(x, hiddens[layer], tuple(weights))
            else:
                activation = recurrent.mode.removeprefix("RNN_").lower()
                hiddens[layer] = rnn_step(x, hiddens[layer], tuple(weights), activation)
            x = hiddens[layer]
        outputs.append(x)
    finals = (torch.stack(hiddens), torch.stack(cells)) if cells else (torch.stack(hiddens),)
    return torch.stack(outputs, 1), *finals
