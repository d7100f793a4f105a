"""The compiled recurrence as an operator of PyTorch with a gradient, ``torch.ops.rnn_lightning.recurrence``.

Autograd, ``torch.compile``, distributed training and the profiler see an ordinary operator. It has no second
derivative.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from rnn_lightning.native import calls
from rnn_lightning.native.library import SWITCH

_LIBRARY = torch.library.Library("rnn_lightning", "DEF")
_LIBRARY.define(
    "recurrence(Tensor inputs, Tensor? hidden, Tensor? memory, Tensor[] weights, Tensor? begin, str cell, "
    "str feedback, int first, bool keep) "
    "-> (Tensor outputs, Tensor filled, Tensor hidden, Tensor memory, Tensor saved)"
)
_LIBRARY.define(
    "recurrence_backward(Tensor saved, Tensor[] weights, Tensor? begin, Tensor? outputs, Tensor? hidden, "
    "Tensor? memory, int[] sizes, str cell, str feedback, int first, bool needs_inputs) -> Tensor[]"
)
_LIBRARY.impl("recurrence", calls.forward, "CPU")
_LIBRARY.impl("recurrence_backward", calls.backward, "CPU")
# Not by ``register_fake``, which looks through all modules for its caller: 3 % of the import of torch.
_LIBRARY.impl("recurrence", calls.fake_forward, "Meta")
_LIBRARY.impl("recurrence_backward", calls.fake_backward, "Meta")
_FORWARD = torch.ops.rnn_lightning.recurrence.default
_BACKWARD = torch.ops.rnn_lightning.recurrence_backward.default


class Recurred(NamedTuple):
    """What ``recurrence`` returns.

    Attributes:
        outputs: of the steps from ``first`` on: the readout ``(batch, time, output)``, without one the hidden
            state of the last layer ``(batch, time, hidden)``; of a free run, the values.
        filled: ``(batch, time, output)``, with ``fill`` the values without gaps, constants for the gradient;
            otherwise empty.
        state: the state after the last step, each part ``(layer, batch, hidden)``.
    """

    outputs: Tensor
    filled: Tensor
    state: tuple[Tensor, ...]


def recurrence(
    cell: str,
    inputs: Tensor,
    state: Sequence[Tensor] | None,
    weights: Sequence[Tensor],
    *,
    feedback: Literal["given", "fill", "free"] = "given",
    begin: Tensor | None = None,
    first: int = 0,
) -> Recurred:
    """A stack of recurrent layers and its readout over a sequence, on a CPU.

    Args:
        cell: kind of recurrent cell: ``rnn_tanh``, ``rnn_relu``, ``gru`` or ``lstm``.
        inputs: ``(batch, time, input)``, float32 or float64.
        state: the state before the first input, each part ``(layer, batch, hidden)``; zero if None.
        weights: of each layer ``w_input, w_hidden, b_input, b_hidden`` as ``torch.nn`` has them, then, if
            there is one, ``weight, bias`` of the readout.
        feedback: what the first inputs of a step, as many as the readout has outputs, are: ``given``; or,
            where they are NaN, to be replaced by the readout of the state before, with ``fill``; or
            innovations that are added to it, with ``free``.
        begin: ``(batch,)`` int64, the step at which each row begins: until then its state stays zero.
        first: the first step whose output is wanted.

    Raises:
        TypeError: if the tensors are not all float32 or all float64, or ``begin`` is not int64.
        ValueError: if a shape or an option does not fit the rest.
        NotImplementedError: if a tensor is not on the CPU.
        MemoryError: if there is no memory for the work.
    """
    hidden, *memory = (None, None) if state is None else (*state, None)[:2]
    settings = (cell, feedback, first)
    tensors = (inputs, hidden, *memory, *weights)
    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in tensors):
        results = _Recurrence.apply(  # type: ignore[no-untyped-call]
            inputs, hidden, *memory, begin, settings, *weights
        )
    else:
        results = _FORWARD(inputs, hidden, *memory, weights, begin, *settings, False)
    outputs, filled, *following, _ = results
    return Recurred(outputs, filled, tuple(following) if cell == "lstm" else (following[0],))


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        hidden: Tensor | None,
        memory: Tensor | None,
        begin: Tensor | None,
        settings: tuple[str, str, int],
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        results = _FORWARD(inputs, hidden, memory, weights, begin, *settings, True)
        _, filled, *_, saved = results
        gaps = inputs.isnan() if settings[1] == "fill" and inputs.requires_grad else None
        ctx.save_for_backward(saved, begin, gaps, *weights)
        ctx.settings, ctx.sizes = settings, inputs.shape
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(filled, saved)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the native recurrence has no second derivative: take gradients without create_graph, or set "
                f"the environment variable {SWITCH}=0 for the operators of PyTorch."
            )
        outputs, _, hidden, memory, _ = gradients
        saved, begin, gaps, *weights = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        of_inputs, of_hidden, of_memory, *of_weights = _BACKWARD(
            saved, weights, begin, outputs, hidden, memory, ctx.sizes, *ctx.settings, needs[0]
        )
        if gaps is not None:
            of_inputs = of_inputs.masked_fill(gaps, 0.0)
        parts = zip(needs, (of_inputs, of_hidden, of_memory), strict=True)
        return (*(part if is_needed else None for is_needed, part in parts), None, None, *of_weights)
