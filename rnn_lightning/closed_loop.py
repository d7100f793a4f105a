"""The closed loop: a network with its output fed back, as a network of its own.

Every loop maps inputs ``(batch, time, feature + covariate)`` and the state of recurrent layers to values
``(batch, time, feature)`` and the state after them, all in transformed units. The inputs of a step are the
innovation of its values and, beside it, the covariates of the step after it, see ``RecurrentNetwork.join``::

    x[t + 1] = readout(h[t]) + innovation[t + 1]        h[t + 1] = cell([x[t + 1], covariates[t + 2]], h[t])

With zero innovations the values are the point forecast, with noise a sampled path, and with the one-step
errors of a series the series itself. ``plain_loop`` is the definition; ``closed_loop`` chooses the fastest
loop that equals it. See ``docs/method.md``.
"""

import torch
from torch import Tensor, nn

from rnn_lightning.recurrent import RecurrentState, native, step

FOLDABLE = ("RNN_TANH", "RNN_RELU", "LSTM")
"""Cells that add the recurrent and the input part before anything else, see ``FoldedLoop``."""


def plain_loop(
    recurrent: nn.RNNBase, readout: nn.Linear, inputs: Tensor, state: RecurrentState
) -> tuple[Tensor, RecurrentState]:
    """Generate step by step: the readable definition."""
    values = []
    dropout = recurrent.dropout if recurrent.training else 0.0
    for inputs_at_step in inputs.unbind(1):  # (batch, feature + covariate)
        innovation, covariates = inputs_at_step.tensor_split([readout.out_features], -1)
        value = readout(state[0][-1]) + innovation  # (batch, feature)
        state = step(recurrent, torch.cat([value, covariates], -1), state, dropout)
        values.append(value)
    return torch.stack(values, 1), state


def closed_loop(
    recurrent: nn.RNNBase, readout: nn.Linear, inputs: Tensor, state: RecurrentState
) -> tuple[Tensor, RecurrentState]:
    """Generate by the fastest loop; every loop passes gradients on to the weights.

    On a CPU the native kernel has the readout and the feedback inside. Elsewhere one-layer Elman and LSTM
    networks fold into a network of the same kind, one fused call for any number of steps.
    """
    if native is not None and native.runs(recurrent, inputs):
        values, _, state = native.run(recurrent, readout, inputs, state, "free")
        return values, state
    if recurrent.num_layers == 1 and recurrent.mode in FOLDABLE:
        return FoldedLoop(recurrent, readout)(inputs, state)
    return plain_loop(recurrent, readout, inputs, state)


class FoldedLoop:
    """One-layer Elman and LSTM: substituting ``x = Wo h + bo + e`` leaves a network of the same kind.

    ``h[t + 1] = cell((W_hh + W_xh Wo) h[t] + W_xh e[t + 1] + W_ch c[t + 2] + (b + W_xh bo))``: its input is
    the innovation ``e`` beside the covariates ``c``.
    """

    def __init__(self, recurrent: nn.RNNBase, readout: nn.Linear) -> None:
        self.mode, self.readout = recurrent.mode, readout
        w_input, w_hidden, b_input, b_hidden = recurrent.all_weights[0]
        w_values = w_input[:, : readout.out_features]  # (gate * hidden, feature)
        folded = [w_input, w_hidden + w_values @ readout.weight, b_input + w_values @ readout.bias, b_hidden]
        # In one piece, as cuDNN wants its weights: it would warn, and make a copy at every call.
        flat = torch.cat([weight.flatten() for weight in folded]).split([weight.numel() for weight in folded])
        self.weights = [part.view_as(weight) for part, weight in zip(flat, folded, strict=True)]

    def __call__(self, inputs: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        by_step = inputs.transpose(0, 1)  # (time, batch, feature + covariate)
        # The settings: biases, number of layers, dropout, training, bidirectional, batch first.
        settings = (True, 1, 0.0, torch.is_grad_enabled(), False, False)
        after: RecurrentState
        if self.mode == "LSTM":
            outputs, hidden, memory = torch.lstm(by_step, state, self.weights, *settings)
            after = (hidden, memory)
        else:
            kernel = torch.rnn_tanh if self.mode == "RNN_TANH" else torch.rnn_relu
            outputs, hidden = kernel(by_step, state[0], self.weights, *settings)
            after = (hidden,)
        before = torch.cat([state[0], outputs[:-1]])  # (time, batch, hidden), the state that each step reads
        values = before @ self.readout.weight.T
        return values.transpose(0, 1) + (inputs[..., : values.shape[-1]] + self.readout.bias), after
