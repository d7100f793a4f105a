"""The closed loop: a network with its output fed back, as a network of its own.

Every loop here maps its drive ``(batch, time, feature + covariate)`` and the network's state to values
``(batch, time, feature)`` and the state after them, all in transformed units. The drive of a step is the
innovation of its values and, beside it, the covariates of the step after it, scaled, see
``RecurrentNetwork.join``::

    x[t + 1] = readout(h[t]) + innovation[t + 1]        h[t + 1] = cell([x[t + 1], covariates[t + 2]], h[t])

With zero innovations the values are the point forecast, with noise a sampled path, and with the one-step
errors of a series the series itself. ``plain_loop`` is the definition; ``close_loop`` finds the fastest loop
that equals it. See ``docs/method.md``.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from rnn_lightning.model.network import RecurrentNetwork, RecurrentState

ClosedLoop = Callable[[Tensor, RecurrentState], tuple[Tensor, RecurrentState]]

ELMAN_FOLD_ROWS = 32
"""On a CPU the Elman kernel of PyTorch runs an operator at a time: from this many rows on the step loop is faster."""

GRAPH_STEPS = 32
"""Steps in one CUDA graph: enough to hide the launches, few enough to be captured in milliseconds."""


def close_loop(network: RecurrentNetwork) -> ClosedLoop:
    """The closed loop of a network with its present weights.

    One-layer Elman and LSTM networks fold into a network of the same kind, one fused call for any number of
    steps, which passes gradients on to the network's weights. Others step through a tight loop; where a
    gradient is wanted, through the plain one.
    """
    has_gradient = torch.is_grad_enabled() and any(
        parameter.requires_grad for parameter in network.parameters()
    )
    if network.recurrent.num_layers > 1 or network.cell == "gru":
        return (lambda *inputs: plain_loop(network, *inputs)) if has_gradient else StepLoop(network)
    folded = FoldedLoop(network)
    if network.cell == "lstm" or has_gradient or network.readout.weight.is_cuda:
        return folded
    step = StepLoop(network)
    return lambda drive, state: (step if len(drive) >= ELMAN_FOLD_ROWS else folded)(drive, state)


def plain_loop(
    network: RecurrentNetwork, drive: Tensor, state: RecurrentState
) -> tuple[Tensor, RecurrentState]:
    """The definition: one call of the network a step."""
    values = []
    for step in drive.unbind(1):
        value = network.readout(state[0][-1]) + step[:, : network.num_features]
        _, state = network(torch.cat([value, step[:, network.num_features :]], -1)[:, None], state)
        values.append(value)
    return torch.stack(values, 1), state


class FoldedLoop:
    """One-layer Elman and LSTM: substituting ``x = Wo h + bo + e`` leaves a network of the same kind.

    ``h[t + 1] = cell((W_hh + W_xh Wo) h[t] + W_xh e[t + 1] + W_ch c[t + 2] + (b + W_xh bo))``: its input is
    the drive, the innovation ``e`` beside the covariates ``c``.
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

    def __call__(self, drive: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        inputs = drive.transpose(0, 1)
        # The settings: biases, number of layers, dropout, training, bidirectional, batch first.
        settings = (True, 1, 0.0, torch.is_grad_enabled(), False, False)
        following: RecurrentState
        if self.cell == "lstm":
            outputs, *following_list = torch.lstm(inputs, state, self.weights, *settings)
            following = tuple(following_list)
        else:
            kernel = torch.rnn_tanh if self.cell == "rnn_tanh" else torch.rnn_relu
            outputs, hidden = kernel(inputs, state[0], self.weights, *settings)
            following = (hidden,)
        # The readout of h[t] belongs to step t + 1: it starts with that of the given state and needs no last
        # one.
        values = torch.cat([state[0] @ self.readout.weight.T, outputs[:-1] @ self.readout.weight.T])
        return values.transpose(0, 1) + (drive[..., : self.num_features] + self.readout.bias), following


class StepLoop:
    """Any cell and number of layers, step by step, without gradients.

    All is feature first, a column for each row of the batch, and one tensor holds ``[x, c, 1, h_0, 1, h_1, 1,
    ...]``: the input of a layer, a 1 for its bias and its state lie next to each other and make one matrix
    product, and so do the top state and its 1 for the readout. A step writes in place and allocates nothing,
    so that a chunk of steps can be captured and replayed as a CUDA graph where there is one.
    """

    def __init__(self, network: RecurrentNetwork) -> None:
        self.cell = network.cell
        self.num_features, self.num_inputs = network.num_features, network.recurrent.input_size
        self.hidden_size = network.recurrent.hidden_size
        with torch.no_grad():
            self.readout = torch.cat([network.readout.weight, network.readout.bias[:, None]], 1)
            self.weights = [self._arrange(*weights) for weights in network.recurrent.all_weights]

    def _arrange(self, w_input: Tensor, w_hidden: Tensor, b_input: Tensor, b_hidden: Tensor) -> list[Tensor]:
        """The weights of a layer's products, their gates in the order that the step wants.

        LSTM: input, forget, output, new. GRU: reset and update; then the two parts of the new value, from the
        input and from the hidden state, which have to stay apart.
        """
        bias = (b_input + b_hidden)[:, None]
        if self.cell == "gru":
            kept = 2 * self.hidden_size
            return [
                torch.cat([w_input[:kept], bias[:kept], w_hidden[:kept]], 1),
                torch.cat([w_input[kept:], b_input[kept:, None]], 1),
                torch.cat([b_hidden[kept:, None], w_hidden[kept:]], 1),
            ]
        whole = torch.cat([w_input, bias, w_hidden], 1)
        if self.cell == "lstm":
            input_gate, forget_gate, new, output_gate = whole.chunk(4)
            whole = torch.cat([input_gate, forget_gate, output_gate, new])
        return [whole]

    @torch.no_grad()
    def __call__(
        self, drive: Tensor, state: RecurrentState, given: Tensor | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """The loop of this module; values ``given (batch, time, feature)`` take the place of its own where not NaN."""
        steps = drive.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)
        column = steps.new_ones(self.num_inputs + 1 + len(self.weights) * (self.hidden_size + 1), len(drive))
        hidden = column[self.num_inputs + 1 :].view(len(self.weights), self.hidden_size + 1, -1)[:, :-1]
        hidden.copy_(state[0].transpose(1, 2))
        cells = state[-1].transpose(1, 2).clone(memory_format=torch.contiguous_format)
        if given is not None:
            steps[:, : self.num_features] = 0.0
            self._steps(steps, column, cells, given.permute(1, 2, 0))
        elif steps.is_cuda and len(steps) >= 2 * GRAPH_STEPS:
            self._replay(steps, column, cells)
        else:
            self._steps(steps, column, cells)
        following = (hidden.transpose(1, 2).contiguous(), cells.transpose(1, 2).contiguous())
        return steps[:, : self.num_features].permute(2, 0, 1), following[: len(state)]

    def _steps(self, steps: Tensor, column: Tensor, cells: Tensor, given: Tensor | None = None) -> None:
        """Turn the innovations in ``steps`` into values, and advance ``column`` and ``cells``, all in place."""
        size = self.hidden_size
        gates = column.new_empty((1 if self.cell.startswith("rnn") else 4) * size, column.shape[1])
        layers = []
        begin, one = 0, self.num_inputs
        for weights, c in zip(self.weights, cells.unbind(0), strict=True):
            end = one + 1 + size
            pieces = [(column[begin:end], gates)]
            if self.cell == "gru":
                pieces = [
                    (column[begin:end], gates[: 2 * size]),
                    (column[begin : one + 1], gates[2 * size : 3 * size]),
                    (column[one:end], gates[3 * size :]),
                ]
            products = [(weight, *piece) for weight, piece in zip(weights, pieces, strict=True)]
            layers.append((products, column[one + 1 : end], c))
            begin, one = one + 1, end
        advance = self._advance(gates)
        inputs, top = column[: self.num_inputs], column[begin:]
        values, known = (
            steps[:, : self.num_features].unbind(0),
            [None] * len(steps) if given is None else given.unbind(0),
        )
        for value, step, known_value in zip(values, steps.unbind(0), known, strict=True):
            value.addmm_(self.readout, top)
            if known_value is not None:
                torch.where(known_value.isnan(), value, known_value, out=value)
            inputs.copy_(step)
            for products, h, c in layers:
                for weight, source, target in products:
                    torch.mm(weight, source, out=target)
                advance(h, c)

    def _advance(self, gates: Tensor) -> Callable[[Tensor, Tensor], object]:
        """From the products in ``gates`` on to the next ``h`` and ``c``, in place."""
        parts = gates.chunk(len(gates) // self.hidden_size)

        def gru(h: Tensor, _: Tensor) -> None:
            reset, update, new, recalled = parts
            switches.sigmoid_()
            new.addcmul_(reset, recalled).tanh_()
            torch.lerp(new, h, update, out=h)

        def lstm(h: Tensor, c: Tensor) -> None:
            input_gate, forget_gate, output_gate, new = parts
            switches.sigmoid_()
            c.mul_(forget_gate).addcmul_(input_gate, new.tanh_())
            torch.mul(output_gate, torch.tanh(c, out=new), out=h)

        if self.cell == "gru":
            switches = gates[: 2 * self.hidden_size]
            return gru
        if self.cell == "lstm":
            switches = gates[: 3 * self.hidden_size]
            return lstm
        if self.cell == "rnn_tanh":
            return lambda h, _: torch.tanh(gates, out=h)
        return lambda h, _: torch.clamp_min(gates, 0.0, out=h)

    def _replay(self, steps: Tensor, column: Tensor, cells: Tensor) -> None:
        """The same on a GPU: capture ``GRAPH_STEPS`` steps once and replay them, one launch for all their kernels."""
        with torch.cuda.device(steps.device):
            piece = steps[:GRAPH_STEPS].clone()
            current, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
            stream = torch.cuda.Stream()
            stream.wait_stream(current)
            with torch.cuda.stream(stream):  # a capture needs its libraries initialised
                self._steps(piece[:1].clone(), column.clone(), cells.clone())
            current.wait_stream(stream)
            num_replayed = len(steps) // GRAPH_STEPS * GRAPH_STEPS
            try:
                # The capture runs nothing: column and cells stay as they are. Other threads may go on using
                # the GPU.
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    self._steps(piece, column, cells)
            except RuntimeError as error:
                warnings.warn(
                    f"CUDA graph capture failed, stepping without: {error}", RuntimeWarning, stacklevel=2
                )
                num_replayed = 0
            for begin in range(0, num_replayed, GRAPH_STEPS):
                chunk = steps[begin : begin + GRAPH_STEPS]
                piece.copy_(chunk)
                graph.replay()
                chunk.copy_(piece)
            self._steps(steps[num_replayed:], column, cells)
            current.synchronize()  # the graph and its memory must outlive the replays
