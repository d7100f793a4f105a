"""The compiled recurrence as an operator of PyTorch with a gradient, ``torch.ops.rnn_lightning.recurrence``.

Autograd, ``torch.compile``, distributed training and the profiler see an ordinary operator. It has no second derivative.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from rnn_lightning.model.native import library
from rnn_lightning.model.native.library import Task

CELLS = ("rnn_tanh", "rnn_relu", "gru", "lstm")
GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}
FEEDBACKS = ("given", "fill", "free")
Feedback = Literal["given", "fill", "free"]


class Recurred(NamedTuple):
    """What ``recurrence`` returns.

    Attributes:
        outputs: of the steps from ``first`` on: the readout ``(batch, time, output)``, without one the hidden state
            of the last layer ``(batch, time, hidden)``; of a free run, the values.
        filled: ``(batch, time, output)``, with ``fill`` the values without gaps, constants for the gradient; else
            empty.
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
    feedback: Feedback = "given",
    begin: Tensor | None = None,
    first: int = 0,
) -> Recurred:
    """A stack of recurrent layers and its readout over a sequence, on a CPU.

    Args:
        cell: kind of recurrent cell.
        inputs: ``(batch, time, input)``, float32 or float64.
        state: the state before the first input, each part ``(layer, batch, hidden)``; zero if None.
        weights: of each layer ``w_input, w_hidden, b_input, b_hidden`` as ``torch.nn`` has them, then, if there is one,
            ``weight, bias`` of the readout.
        feedback: what the first inputs of a step, as many as outputs of the readout, are: ``given``; or, where they
            are NaN, to be replaced by the readout of the state before, with ``fill``; or innovations that are added to
            it, with ``free``.
        begin: ``(batch,)`` int64, the step at which each row begins: until then its state stays zero.
        first: the first step whose output is wanted.

    Raises:
        TypeError: if the tensors are not all float32 or all float64, or ``begin`` is not int64.
        ValueError: if a shape, a device or an option does not fit the rest.
    """
    hidden, memory = (None, None) if state is None else (state[0], state[1] if len(state) > 1 else None)
    settings = (cell, feedback, first)
    if torch.is_grad_enabled() and any(
        part is not None and part.requires_grad for part in (inputs, hidden, memory, *weights)
    ):
        outputs, filled, *following, _ = _Recurrence.apply(inputs, hidden, memory, begin, settings, *weights)
    else:
        outputs, filled, *following, _ = FORWARD(inputs, hidden, memory, weights, begin, *settings, False)
    return Recurred(outputs, filled, tuple(following) if cell == "lstm" else (following[0],))


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        inputs: Tensor,
        hidden: Tensor | None,
        memory: Tensor | None,
        begin: Tensor | None,
        settings: tuple[str, str, int],
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        results = FORWARD(inputs, hidden, memory, weights, begin, *settings, True)
        outputs, filled, *_, saved = results
        gaps = inputs.isnan() if settings[1] == "fill" and inputs.requires_grad else None
        ctx.save_for_backward(saved, begin, gaps, *weights)
        ctx.settings, ctx.shape = settings, inputs.shape
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(filled, saved)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the native recurrence has no second derivative: take gradients without create_graph, or set the "
                f"environment variable {library.SWITCH}=0 for the operators of PyTorch."
            )
        outputs, _, hidden, memory, _ = gradients
        saved, begin, gaps, *weights = ctx.saved_tensors
        needs_inputs, needs_hidden, needs_memory = ctx.needs_input_grad[:3]
        of_inputs, of_hidden, of_memory, *of_weights = BACKWARD(
            saved, weights, begin, outputs, hidden, memory, *ctx.shape, *ctx.settings, needs_inputs
        )
        if gaps is not None:
            of_inputs = of_inputs.masked_fill(gaps, 0.0)
        return (
            of_inputs if needs_inputs else None,
            of_hidden if needs_hidden else None,
            of_memory if needs_memory else None,
            None,
            None,
            *of_weights,
        )


_LIBRARY = torch.library.Library("rnn_lightning", "DEF")
_LIBRARY.define(
    "recurrence(Tensor inputs, Tensor? hidden, Tensor? memory, Tensor[] weights, Tensor? begin, str cell, str feedback, "
    "int first, bool keep) -> (Tensor outputs, Tensor filled, Tensor hidden, Tensor memory, Tensor saved)"
)
_LIBRARY.define(
    "recurrence_backward(Tensor saved, Tensor[] weights, Tensor? begin, Tensor? outputs, Tensor? hidden, Tensor? memory, "
    "int rows, int steps, int inputs, str cell, str feedback, int first, bool needs_inputs) -> Tensor[]"
)
FORWARD = torch.ops.rnn_lightning.recurrence.default
BACKWARD = torch.ops.rnn_lightning.recurrence_backward.default


def _forward(
    inputs: Tensor,
    hidden: Tensor | None,
    memory: Tensor | None,
    weights: list[Tensor],
    begin: Tensor | None,
    cell: str,
    feedback: str,
    first: int,
    keep: bool,
) -> tuple[Tensor, ...]:
    _check(inputs, hidden, memory, weights, begin, cell, feedback, first)
    inputs, hidden, memory, begin = (_contiguous(part) for part in (inputs, hidden, memory, begin))  # type: ignore[assignment]
    weights = [weight.contiguous() for weight in weights]
    task = _task(inputs.shape, weights, begin, cell, feedback, first, inputs.element_size())
    results = _results(inputs, task, keep)
    task.x, task.h0, task.c0 = inputs.data_ptr(), _pointer(hidden), _pointer(memory)
    task.y, task.filled, task.h, task.c, task.saved = (
        part.data_ptr() if part.numel() else None for part in results
    )
    _run("rnn_forward", task)
    return results


def _backward(
    saved: Tensor,
    weights: list[Tensor],
    begin: Tensor | None,
    outputs: Tensor | None,
    hidden: Tensor | None,
    memory: Tensor | None,
    rows: int,
    steps: int,
    inputs: int,
    cell: str,
    feedback: str,
    first: int,
    needs_inputs: bool,
) -> list[Tensor]:
    outputs, hidden, memory, begin = (_contiguous(part) for part in (outputs, hidden, memory, begin))
    weights = [weight.contiguous() for weight in weights]
    results = _gradients(saved, weights, rows, steps, inputs, cell, needs_inputs)
    task = _task((rows, steps, inputs), weights, begin, cell, feedback, first, saved.element_size())
    task.saved, task.dy, task.dh = saved.data_ptr(), _pointer(outputs), _pointer(hidden)
    task.dc = _pointer(memory) if cell == "lstm" else None
    task.dx, task.dh0, task.dc0 = (part.data_ptr() if part.numel() else None for part in results[:3])
    task.dweights = _pointers(results[3:])
    _run("rnn_backward", task)
    return results


def _fake_forward(
    inputs: Tensor,
    hidden: Tensor | None,
    memory: Tensor | None,
    weights: list[Tensor],
    begin: Tensor | None,
    cell: str,
    feedback: str,
    first: int,
    keep: bool,
) -> tuple[Tensor, ...]:
    task = _task(inputs.shape, weights, None, cell, feedback, first, inputs.element_size(), pointers=False)
    return _results(inputs, task, keep)


def _fake_backward(
    saved: Tensor,
    weights: list[Tensor],
    begin: Tensor | None,
    outputs: Tensor | None,
    hidden: Tensor | None,
    memory: Tensor | None,
    rows: int,
    steps: int,
    inputs: int,
    cell: str,
    feedback: str,
    first: int,
    needs_inputs: bool,
) -> list[Tensor]:
    return _gradients(saved, weights, rows, steps, inputs, cell, needs_inputs)


_LIBRARY.impl("recurrence", _forward, "CPU")
_LIBRARY.impl("recurrence_backward", _backward, "CPU")
torch.library.register_fake("rnn_lightning::recurrence", _fake_forward, lib=_LIBRARY)
torch.library.register_fake("rnn_lightning::recurrence_backward", _fake_backward, lib=_LIBRARY)


def _results(inputs: Tensor, task: Task, keep: bool) -> tuple[Tensor, ...]:
    """Empty tensors for what a forward pass returns."""
    new, state = inputs.new_empty, (task.layers, task.rows, task.hidden)
    saved = library.find().rnn_saved(task) if keep else 0  # type: ignore[union-attr]
    return (
        new(task.rows, task.steps - task.first, task.outputs or task.hidden),
        new((task.rows, task.steps, task.outputs) if FEEDBACKS[task.feedback] == "fill" else 0),
        new(state),
        new(state if CELLS[task.cell] == "lstm" else 0),
        new(saved),
    )


def _gradients(
    saved: Tensor, weights: list[Tensor], rows: int, steps: int, inputs: int, cell: str, needs_inputs: bool
) -> list[Tensor]:
    """Tensors for what a backward pass returns: of the inputs, the state and the weights."""
    state = (len(weights) // 4, rows, weights[1].shape[1])
    return [
        saved.new_empty((rows, steps, inputs) if needs_inputs else 0),
        saved.new_empty(state),
        saved.new_empty(state if cell == "lstm" else 0),
        *(torch.zeros_like(weight, memory_format=torch.contiguous_format) for weight in weights),
    ]


def _task(
    shape: Sequence[int],
    weights: list[Tensor],
    begin: Tensor | None,
    cell: str,
    feedback: str,
    first: int,
    size: int,
    pointers: bool = True,
) -> Task:
    outputs = weights[-2].shape[0] if len(weights) % 4 else 0
    return Task(
        CELLS.index(cell),
        FEEDBACKS.index(feedback),
        size,
        torch.get_num_threads(),
        *map(int, shape),
        weights[1].shape[1],
        len(weights) // 4,
        outputs,
        first,
        begin=_pointer(begin),
        weights=_pointers(weights) if pointers else None,
    )


def _run(name: str, task: Task) -> None:
    if getattr(library.find(), name)(task):
        raise MemoryError("the native recurrence found no memory for its work.")


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _pointers(tensors: Sequence[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def _check(
    inputs: Tensor,
    hidden: Tensor | None,
    memory: Tensor | None,
    weights: list[Tensor],
    begin: Tensor | None,
    cell: str,
    feedback: str,
    first: int,
) -> None:
    """Raise for what the compiled code could not bear."""
    if cell not in CELLS or feedback not in FEEDBACKS:
        raise ValueError(f"cell must be one of {CELLS} and feedback one of {FEEDBACKS}, got {cell!r} and {feedback!r}.")
    if inputs.ndim != 3 or len(weights) < 4 or len(weights) % 4 not in (0, 2) or weights[1].ndim != 2:
        raise ValueError(
            "the inputs must be (batch, time, input), and the weights four for each layer and two for a readout, got "
            f"{tuple(inputs.shape)} and {len(weights)} weights."
        )
    rows, steps, num_inputs = inputs.shape
    num_layers, size = len(weights) // 4, weights[1].shape[1]
    if min(num_inputs, size) < 1:
        raise ValueError(f"there must be inputs and hidden units, got {num_inputs} and {size}.")
    gates = GATES[cell] * size
    expected: list[tuple[int, ...]] = []
    for layer in range(num_layers):
        expected += [(gates, size if layer else num_inputs), (gates, size), (gates,), (gates,)]
    if len(weights) % 4:
        expected += [(len(weights[-1]), size), (len(weights[-1]),)]
    state = (num_layers, rows, size)
    given = [weight.shape for weight in weights]
    if hidden is not None:
        expected.append(state)
        given.append(hidden.shape)
    if memory is not None:
        expected.append(state)
        given.append(memory.shape)
    if begin is not None:
        expected.append((rows,))
        given.append(begin.shape)
    if given != expected:
        raise ValueError(
            f"for inputs {tuple(inputs.shape)} the weights of a {cell} with {num_layers} layers, its state and the "
            f"beginnings must have the shapes {expected}, got {[tuple(shape) for shape in given]}."
        )
    if (memory is None) != (hidden is None or cell != "lstm"):
        raise ValueError(f"the state of a {cell} has {2 if cell == 'lstm' else 1} tensors.")
    tensors = [part for part in (inputs, hidden, memory, *weights) if part is not None]
    if inputs.dtype not in (torch.float32, torch.float64) or any(part.dtype != inputs.dtype for part in tensors):
        raise TypeError(f"all tensors must be float32, or all float64, got {[part.dtype for part in tensors]}.")
    if begin is not None and begin.dtype != torch.int64:
        raise TypeError(f"begin must be int64, got {begin.dtype}.")
    if any(part.device != inputs.device for part in [*tensors, *([] if begin is None else [begin])]):
        raise ValueError("all tensors must be on the CPU.")
    if not 0 <= first <= steps:
        raise ValueError(f"first must be a step from 0 to {steps}, got {first}.")
    if feedback != "given" and (len(weights) % 4 == 0 or not 1 <= len(weights[-1]) <= num_inputs):
        raise ValueError(f"{feedback} needs a readout of at least one output and at most one for each of {num_inputs} inputs.")
    if feedback == "free" and first > 0:
        raise ValueError("a free run has all its outputs: first must be 0.")
