"""The closed loop: a network with its output fed back, as a network of its own.

Every loop here maps innovations ``(batch, time, feature)`` and the network's state to values ``(batch, time, feature)`` and
the state after them, all in transformed units::

    x[t + 1] = readout(h[t]) + innovation[t + 1]        h[t + 1] = cell(x[t + 1], h[t])

With zero innovations the values are the point forecast, with noise a sampled path, and with the one-step errors of a
series the series itself. ``plain_loop`` is the definition; ``close_loop`` finds the fastest loop that equals it. See
``docs/method.md``.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from rnn_lightning.network import RecurrentNetwork, RecurrentState

ClosedLoop = Callable[[Tensor, RecurrentState], tuple[Tensor, RecurrentState]]


def close_loop(network: RecurrentNetwork) -> ClosedLoop:
    """The closed loop of a network with its present weights.

    One-layer Elman and LSTM networks fold into a network of the same kind, one fused call for any number of steps, which
    passes gradients on to the network's weights. Others step through a tight loop; where a gradient is wanted, through
    the plain one.
    """
    if network.recurrent.num_layers == 1 and network.cell != "gru":
        return FoldedLoop(network)
    if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in network.parameters()):
        return lambda innovations, state: plain_loop(network, innovations, state)
    return StepLoop(network)


def plain_loop(
    network: RecurrentNetwork, innovations: Tensor, state: RecurrentState
) -> tuple[Tensor, RecurrentState]:
    """The definition: one call of the network a step."""
    values = []
    for innovation in innovations.unbind(1):
        value = network.readout(state[0][-1]) + innovation
        _, state = network(value[:, None], state)
        values.append(value)
    return torch.stack(values, 1), state


class FoldedLoop:
    """One-layer Elman and LSTM: substituting ``x = Wo h + bo + e`` leaves a network of the same kind.

    ``h[t + 1] = cell((W_hh + W_xh Wo) h[t] + W_xh e[t + 1] + (b + W_xh bo))``: its input is the innovation ``e``.
    """

    def __init__(self, network: RecurrentNetwork) -> None:
        self.readout = network.readout
        w_input, w_hidden, b_input, b_hidden = network.recurrent.all_weights[0]
        self.weights = [
            w_input,
            w_hidden + w_input @ self.readout.weight,
            b_input + w_input @ self.readout.bias,
            b_hidden,
        ]
        self.cell = network.cell

    def __call__(self, innovations: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        inputs = innovations.transpose(0, 1)
        # The four settings: biases, number of layers, dropout, training, bidirectional, batch first.
        settings = (True, 1, 0.0, torch.is_grad_enabled(), False, False)
        following: RecurrentState
        if self.cell == "lstm":
            outputs, *following_list = torch.lstm(inputs, state, self.weights, *settings)
            following = tuple(following_list)
        else:
            kernel = torch.rnn_tanh if self.cell == "rnn_tanh" else torch.rnn_relu
            outputs, hidden = kernel(inputs, state[0], self.weights, *settings)
            following = (hidden,)
        # The readout of h[t] belongs to step t + 1: it starts with that of the given state and needs no last one.
        values = torch.cat([self.readout(state[0]), self.readout(outputs)[:-1]])
        return values.transpose(0, 1) + innovations, following


class StepLoop:
    """Any cell and number of layers, step by step, without gradients.

    The readout is folded into the input of the first layer, and each layer is one matrix product of the state below it
    and its own: ``[below, h] @ weight``. The part of the innovations is computed for all steps at once. Nothing is
    allocated in a step, so that a chunk of steps is captured and replayed as a CUDA graph where there is one.
    """

    def __init__(self, network: RecurrentNetwork, graph_steps: int = 32) -> None:
        self.cell, self.readout = network.cell, network.readout
        self.hidden_size, self.num_layers = network.recurrent.hidden_size, network.recurrent.num_layers
        self.graph_steps = graph_steps
        with torch.no_grad():
            self.innovation_weight = self._columns(network.recurrent.all_weights[0][0], None)
            self.weights, self.biases = [], []
            for layer, (w_input, w_hidden, b_input, b_hidden) in enumerate(network.recurrent.all_weights):
                bias = self._columns(b_input[:, None], b_hidden[:, None])
                if layer == 0:
                    bias = bias + self._columns((w_input @ self.readout.bias)[:, None], None)
                    w_input = w_input @ self.readout.weight
                below, own = self._columns(w_input, None), self._columns(None, w_hidden)
                # With one layer the state below, fed back, is the layer's own.
                self.weights.append(below + own if self.num_layers == 1 else torch.cat([below, own]))
                self.biases.append(bias[0])

    def _columns(self, from_input: Tensor | None, from_hidden: Tensor | None) -> Tensor:
        """Weights ``(input, gates * hidden)`` of the sum of both, in the order of gates that the step wants.

        LSTM: input, forget, output, new. GRU: reset, update, and the new value's two parts, from the input and from the
        hidden state, which must stay apart.
        """
        given = from_input if from_input is not None else from_hidden
        assert given is not None
        zero = torch.zeros_like(given)
        from_input = zero if from_input is None else from_input
        from_hidden = zero if from_hidden is None else from_hidden
        if self.cell == "gru":
            kept = 2 * self.hidden_size
            total = [from_input[:kept] + from_hidden[:kept], from_input[kept:], from_hidden[kept:]]
        elif self.cell == "lstm":
            input_gate, forget_gate, new, output_gate = (from_input + from_hidden).chunk(4)
            total = [input_gate, forget_gate, output_gate, new]
        else:
            total = [from_input + from_hidden]
        return torch.cat(total).T.contiguous()

    @torch.no_grad()
    def __call__(self, innovations: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        batch_size, num_steps, _ = innovations.shape
        drive = (innovations.transpose(0, 1) @ self.innovation_weight).add_(self.biases[0])
        tops = drive.new_empty(num_steps + 1, batch_size, self.hidden_size)
        tops[0] = state[0][-1]
        state = tuple(part.clone() for part in state)
        if drive.is_cuda and num_steps >= self.graph_steps:
            self._replay(drive, state, tops)
        else:
            self._steps(drive, state, tops)
        return self.readout(tops[:-1]).transpose(0, 1) + innovations, state

    def _steps(self, drive: Tensor, state: RecurrentState, tops: Tensor) -> None:
        """Advance ``state`` in place by the steps of ``drive``, and write the top layer's states to ``tops[1:]``."""
        hidden, cells = state[0].unbind(0), state[-1].unbind(0)
        gates = torch.empty_like(drive[0])
        scratch = torch.empty_like(hidden[0])
        pair = gates.new_empty(gates.shape[0], 2 * self.hidden_size)
        advance = {"gru": self._gru_step, "lstm": self._lstm_step}.get(self.cell, self._rnn_step)
        views = gates.split(self.hidden_size, 1)
        for driven, top in zip(drive.unbind(0), tops[1:].unbind(0), strict=True):
            below = hidden[-1]
            for layer, weight in enumerate(self.weights):
                h = hidden[layer]
                source = h if self.num_layers == 1 else torch.cat((below, h), 1, out=pair)
                torch.addmm(self.biases[layer] if layer else driven, source, weight, out=gates)
                advance(gates, views, h, cells[layer], scratch)
                below = h
            top.copy_(below)

    def _replay(self, drive: Tensor, state: RecurrentState, tops: Tensor) -> None:
        """The same on a GPU: capture ``graph_steps`` steps once and replay them, saving a kernel launch per operation."""
        count = self.graph_steps
        static_drive, static_tops = drive[:count].clone(), tops[: count + 1].clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # a capture needs the libraries initialised
            self._steps(static_drive[:1], tuple(part.clone() for part in state), static_tops[:2])
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._steps(static_drive, state, static_tops)
        except RuntimeError as error:
            warnings.warn(f"CUDA graph capture failed, stepping without: {error}", RuntimeWarning, stacklevel=2)
            return self._steps(drive, state, tops)
        whole = len(drive) // count * count
        for begin in range(0, whole, count):
            static_drive.copy_(drive[begin : begin + count])
            graph.replay()
            tops[begin + 1 : begin + count + 1].copy_(static_tops[1:])
        self._steps(drive[whole:], state, tops[whole:])

    def _rnn_step(self, gates: Tensor, views: tuple[Tensor, ...], h: Tensor, c: Tensor, scratch: Tensor) -> None:
        torch.tanh(gates, out=h) if self.cell == "rnn_tanh" else torch.clamp_min(gates, 0.0, out=h)

    def _gru_step(self, gates: Tensor, views: tuple[Tensor, ...], h: Tensor, c: Tensor, scratch: Tensor) -> None:
        reset, update, from_input, from_hidden = views
        gates[:, : 2 * self.hidden_size].sigmoid_()
        torch.addcmul(from_input, reset, from_hidden, out=scratch).tanh_()
        torch.lerp(scratch, h, update, out=h)

    def _lstm_step(self, gates: Tensor, views: tuple[Tensor, ...], h: Tensor, c: Tensor, scratch: Tensor) -> None:
        input_gate, forget_gate, output_gate, new = views
        gates[:, : 3 * self.hidden_size].sigmoid_()
        c.mul_(forget_gate).addcmul_(input_gate, new.tanh_())
        torch.mul(output_gate, torch.tanh(c, out=scratch), out=h)
