"""Recurrent layers over a sequence and over one step; only this module decides which code runs them.

Unknown values (NaN) are imputed with the network's own prediction, a closed loop over each gap.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from rnn_lightning.devices import has_bfloat16_lstm

try:
    from rnn_lightning.native import layers
except ImportError:  # the folder was deleted: everything works without it, only slower
    layers = None  # type: ignore[assignment]
native = layers

RecurrentState = tuple[Tensor, ...]
"""The hidden state ``(layer, batch, hidden)``, and for an LSTM the cell state of the same shape."""


def recur(
    recurrent: nn.RNNBase,
    inputs: Tensor,
    state: RecurrentState | None = None,
    readout: nn.Linear | None = None,
    first_output_step: int = 0,
    start_step: Tensor | None = None,
) -> tuple[Tensor, RecurrentState]:
    """Run layers of ``torch.nn``, batch first and in one direction, over a sequence.

    Args:
        recurrent: the layers.
        inputs: ``(batch, time, input)``.
        state: the state before the first input, zero if None.
        readout: a linear map of the outputs, if wanted.
        first_output_step: the first step whose output is wanted.
        start_step: ``(batch,)``, the step at which each row starts: until then its state stays zero. None if
            all rows start before the first input.

    Returns:
        The outputs from ``first_output_step`` on, ``(batch, time, hidden)`` or those of the readout, and the
        state after the last input.
    """
    if native is not None and native.runs(recurrent, inputs):
        outputs, _, state = native.run(
            recurrent, readout, inputs, state, "given", start_step, first_output_step
        )
        return outputs, state
    if torch.is_autocast_enabled("cpu") and recurrent.mode == "LSTM" and not has_bfloat16_lstm():
        with torch.autocast("cpu", enabled=False):
            outputs, state = recur(recurrent, inputs.float(), state, None, first_output_step, start_step)
        return outputs if readout is None else readout(outputs), state
    if start_step is None or inputs.device.type == "cpu":
        outputs, state = recur_by_parts(recurrent, inputs, state, start_step)
    else:
        outputs, state = recur_packed(recurrent, inputs, state, start_step)
    outputs = outputs[:, first_output_step:]
    return outputs if readout is None else readout(outputs), state


def recur_by_parts(
    recurrent: nn.RNNBase, inputs: Tensor, state: RecurrentState | None, start_step: Tensor | None
) -> tuple[Tensor, RecurrentState]:
    """Run layers over the parts of a sequence between the steps at which rows start, a call for each."""
    parts = []
    starts = [] if start_step is None else start_step.clamp(0, inputs.shape[1]).tolist()
    for begin, end in pairwise(sorted({0, *starts, inputs.shape[1]})):
        given = state if state is None or recurrent.mode == "LSTM" else state[0]
        outputs, after = recurrent(inputs[:, begin:end], given)  # (batch, end - begin, hidden)
        state = mask_before_start(after if recurrent.mode == "LSTM" else (after,), start_step, end)
        parts.append(outputs)
    assert state is not None
    return torch.cat(parts, 1), state


def recur_packed(
    recurrent: nn.RNNBase, inputs: Tensor, state: RecurrentState | None, start_step: Tensor
) -> tuple[Tensor, RecurrentState]:
    """Run layers by one call: rows packed as if all started together, the longest first.

    An accelerator waits less for it than for many calls; on a CPU its gradient takes longer. A row that never
    starts is still read for one step, and the result is discarded. Outputs before a row starts are zero.
    """
    num_steps, device = inputs.shape[1], inputs.device
    start = start_step.cpu().clamp(0, num_steps - 1)  # the CPU packs
    order, steps = start.argsort(), torch.arange(num_steps)
    rank = order.argsort()  # (batch,), the place of each row among the packed ones
    is_within = steps[:, None] < num_steps - start[order]  # (time, batch)
    sizes = is_within.sum(1)[: num_steps - int(start.min())]
    sources = order * num_steps + start[order] + steps[:, None]  # (time, batch)
    data = inputs.flatten(0, 1)[sources[is_within].to(device)]  # (row and step, input)
    state = None if state is None else mask_before_start(state, start_step, 1)
    given = state if state is None or recurrent.mode == "LSTM" else state[0]
    packed, after = recurrent(PackedSequence(data, sizes, order.to(device), rank.to(device)), given)
    begins = functional.pad(sizes.cumsum(0), (1, 0))
    places = begins[(steps - start[:, None]).clamp_min(0)] + rank[:, None]  # (batch, time)
    outputs = packed.data[places.to(device)] * (steps >= start[:, None])[..., None].to(device)
    after = after if recurrent.mode == "LSTM" else (after,)
    return outputs, mask_before_start(after, start_step, num_steps)


def recur_over_gaps(
    recurrent: nn.RNNBase,
    readout: nn.Linear,
    inputs: Tensor,
    state: RecurrentState | None = None,
    first_output_step: int = 0,
    start_step: Tensor | None = None,
) -> tuple[Tensor, Tensor, RecurrentState]:
    """Predict one step ahead of every input, where unknown values are imputed with the prediction.

    The values come first in the inputs, one for each output of the readout. Imputed values are constants for
    the gradient: none passes through them to the predictions that they were. Arguments as for ``recur``.

    Returns:
        The predictions ``(batch, time, feature)`` from ``first_output_step`` on, the values without gaps
        ``(batch, time, feature)``, and the state after the last input.
    """
    if native is not None and native.runs(recurrent, inputs):
        return native.run(recurrent, readout, inputs, state, "fill", start_step, first_output_step)
    state = zero_state(recurrent, len(inputs)) if state is None else state
    filled, end = _fill(recurrent, readout, inputs, state, start_step)
    if first_output_step == inputs.shape[1] and not torch.is_grad_enabled():
        return filled[:, first_output_step:], filled, end
    complete = torch.cat([filled, inputs[..., readout.out_features :]], -1)
    predictions, end = recur(recurrent, complete, state, readout, first_output_step, start_step)
    return predictions, filled, end


@torch.no_grad()
def _fill(
    recurrent: nn.RNNBase,
    readout: nn.Linear,
    inputs: Tensor,
    state: RecurrentState,
    start_step: Tensor | None,
) -> tuple[Tensor, RecurrentState]:
    """Return the values without gaps and the state after the last of them, step by step."""
    filled = []
    for index, inputs_at_step in enumerate(inputs.unbind(1)):  # (batch, feature + covariate)
        values, covariates = inputs_at_step.tensor_split([readout.out_features], -1)
        values = torch.where(values.isnan(), readout(state[0][-1]), values)
        state = step(recurrent, torch.cat([values, covariates], -1), state)
        state = mask_before_start(state, start_step, index + 1)
        filled.append(values)
    return torch.stack(filled, 1), state


def step(
    recurrent: nn.RNNBase, inputs: Tensor, state: RecurrentState, dropout: float = 0.0
) -> RecurrentState:
    """Return the state after one step with inputs ``(batch, input)``, by the operators of PyTorch.

    With gates in the order of ``torch.nn``: Elman ``h' = tanh(W x + U h + b)``; the formulas of GRU and LSTM
    stand in ``torch.nn.GRU`` and ``torch.nn.LSTM``.
    """
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
        inputs = after[0]  # (batch, hidden)
        layers.append(after)
    return tuple(torch.stack(parts) for parts in zip(*layers, strict=True))


def zero_state(recurrent: nn.RNNBase, batch_size: int) -> RecurrentState:
    """Return the zero state, from which every context starts."""
    shape = (recurrent.num_layers, batch_size, recurrent.hidden_size)
    zeros = recurrent.all_weights[0][0].new_zeros(shape)
    return (zeros, zeros) if recurrent.mode == "LSTM" else (zeros,)


def mask_before_start(state: RecurrentState, start_step: Tensor | None, end: int) -> RecurrentState:
    """Return the state after the step before ``end``, zero where a row starts at ``end`` or later."""
    if start_step is None:
        return state
    has_started = (start_step < end).to(state[0])[:, None]  # (batch, 1)
    return tuple(part * has_started for part in state)


def first_known(values: Tensor) -> Tensor:
    """Return the first step of each row with a known feature, ``(batch,)``, or the number of steps."""
    return values.isnan().all(-1).long().cumprod(1).sum(1)
