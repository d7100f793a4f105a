"""The operators on a CPU: check, allocate, call the library. ``operator.py`` documents the arguments."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_lightning.native import library
from rnn_lightning.native.library import Task

CELLS = ("rnn_tanh", "rnn_relu", "gru", "lstm")
FEEDBACKS = ("given", "fill", "free")
GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}


def forward(
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
    """The operator ``recurrence``; ``keep`` what the backward pass needs."""
    _check(inputs, hidden, memory, weights, begin, cell, feedback, first)
    arrays = [_contiguous(part) for part in (inputs, hidden, memory, begin)]
    weights = [weight.contiguous() for weight in weights]
    task = _task(inputs.shape, weights, cell, feedback, first, inputs.element_size())
    results = _results(inputs, task, keep)
    task.weights = pointers(weights)
    task.x, task.h0, task.c0, task.begin = map(pointer, arrays)
    task.y, task.filled, task.h, task.c, task.saved = map(pointer, results)
    run("rnn_forward", task)
    return results


def backward(
    saved: Tensor,
    weights: list[Tensor],
    begin: Tensor | None,
    outputs: Tensor | None,
    hidden: Tensor | None,
    memory: Tensor | None,
    sizes: list[int],
    cell: str,
    feedback: str,
    first: int,
    needs_inputs: bool,
) -> list[Tensor]:
    """The operator ``recurrence_backward``: gradients of the inputs, the state and the weights."""
    arrays = [_contiguous(part) for part in (begin, outputs, hidden, memory if cell == "lstm" else None)]
    weights = [weight.contiguous() for weight in weights]
    results = _gradients(saved, weights, sizes, cell, needs_inputs)
    task = _task(sizes, weights, cell, feedback, first, saved.element_size())
    task.weights, task.saved = pointers(weights), pointer(saved)
    task.begin, task.dy, task.dh, task.dc = map(pointer, arrays)
    task.dx, task.dh0, task.dc0 = map(pointer, results[:3])
    task.dweights = pointers(results[3:])
    run("rnn_backward", task)
    return results


def fake_forward(inputs: Tensor, *others: Any) -> tuple[Tensor, ...]:
    """The shapes of what ``forward`` returns."""
    _, _, weights, _, cell, feedback, first, keep = others
    return _results(inputs, _task(inputs.shape, weights, cell, feedback, first, inputs.element_size()), keep)


def fake_backward(saved: Tensor, weights: list[Tensor], *others: Any) -> list[Tensor]:
    """The shapes of what ``backward`` returns."""
    *_, sizes, cell, _, _, needs_inputs = others
    return _gradients(saved, weights, sizes, cell, needs_inputs)


def _task(
    sizes: Sequence[int], weights: Sequence[Tensor], cell: str, feedback: str, first: int, size: int
) -> Task:
    """All of a task but its pointers."""
    outputs = weights[-2].shape[0] if len(weights) % 4 else 0
    kind = (CELLS.index(cell), FEEDBACKS.index(feedback), size, torch.get_num_threads())
    return Task(*kind, *map(int, sizes), weights[1].shape[1], len(weights) // 4, outputs, first)


def _results(inputs: Tensor, task: Task, keep: bool) -> tuple[Tensor, ...]:
    new, state = inputs.new_empty, (task.layers, task.rows, task.hidden)
    return (
        new(task.rows, task.steps - task.first, task.outputs or task.hidden),
        new((task.rows, task.steps, task.outputs) if FEEDBACKS[task.feedback] == "fill" else 0),
        new(state),
        new(state if CELLS[task.cell] == "lstm" else 0),
        new(require_library().rnn_saved(task) if keep else 0),
    )


def _gradients(
    saved: Tensor, weights: Sequence[Tensor], sizes: Sequence[int], cell: str, needs_inputs: bool
) -> list[Tensor]:
    state = (len(weights) // 4, sizes[0], weights[1].shape[1])
    return [
        saved.new_empty(sizes if needs_inputs else 0),
        saved.new_empty(state),
        saved.new_empty(state if cell == "lstm" else 0),
        *(torch.zeros_like(weight, memory_format=torch.contiguous_format) for weight in weights),
    ]


def require_library() -> ctypes.CDLL:
    """Return the library.

    Raises:
        RuntimeError: if it was not built.
    """
    found = library.find()
    if found is None:
        raise RuntimeError(
            "the native kernel was not built: install a C compiler and reinstall rnn-lightning."
        )
    return found


def run(function: str, task: ctypes.Structure) -> None:
    """Call a function of the library.

    Raises:
        MemoryError: if there is no memory for its work.
    """
    if getattr(require_library(), function)(task):
        raise MemoryError("there is no memory for the work of the native kernel.")


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def pointer(tensor: Tensor | None) -> int | None:
    """Return the address of the numbers of a contiguous tensor, None if there are none."""
    return None if tensor is None else tensor.data_ptr() or None


def pointers(tensors: Sequence[Tensor]) -> Any:
    """Return the addresses of several tensors as the library takes them."""
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
    """Raise for what the library could not bear."""
    if cell not in CELLS or feedback not in FEEDBACKS:
        raise ValueError(f"cell must be of {CELLS} and feedback of {FEEDBACKS}, got {cell!r}, {feedback!r}.")
    if inputs.ndim != 3 or len(weights) < 4 or len(weights) % 4 not in (0, 2) or weights[1].ndim != 2:
        raise ValueError(
            "the inputs must be (batch, time, input), and the weights four for each layer and two for a "
            f"readout, got {tuple(inputs.shape)} and {len(weights)} weights."
        )
    if (memory is None) != (hidden is None or cell != "lstm"):
        raise ValueError(f"the state of a {cell} has {2 if cell == 'lstm' else 1} tensors.")
    state, rows = (len(weights) // 4, len(inputs), weights[1].shape[1]), (len(inputs),)
    wanted = [(hidden, state), (memory, state), (begin, rows)]
    given = [part.shape for part in (*weights, hidden, memory, begin) if part is not None]
    expected = _shapes(inputs, weights, cell) + [shape for part, shape in wanted if part is not None]
    if given != expected or min(inputs.shape[2], *weights[1].shape) < 1:
        raise ValueError(
            f"for inputs {tuple(inputs.shape)} the weights of a {cell}, its state {state} and the steps at "
            f"which rows begin must have the shapes {expected}, got {[tuple(shape) for shape in given]}."
        )
    floats = [part for part in (inputs, hidden, memory, *weights) if part is not None]
    if inputs.dtype not in (torch.float32, torch.float64) or any(
        part.dtype != inputs.dtype for part in floats
    ):
        raise TypeError(
            f"all tensors must be float32, or all float64, got {[part.dtype for part in floats]}."
        )
    if begin is not None and begin.dtype != torch.int64:
        raise TypeError(f"begin must be int64, got {begin.dtype}.")
    if not 0 <= first <= inputs.shape[1] or (feedback == "free" and first > 0):
        raise ValueError(
            f"first must be from 0 to the {inputs.shape[1]} steps, 0 in a free run, got {first}."
        )
    if feedback != "given" and (len(weights) % 4 == 0 or not 1 <= len(weights[-1]) <= inputs.shape[2]):
        raise ValueError(f"{feedback} needs a readout with an output for each of the first inputs.")


def _shapes(inputs: Tensor, weights: list[Tensor], cell: str) -> list[tuple[int, ...]]:
    """The shapes that the weights must have."""
    size = weights[1].shape[1]
    gates, shapes = GATES[cell] * size, []
    for layer in range(len(weights) // 4):
        shapes += [(gates, size if layer else inputs.shape[2]), (gates, size), (gates,), (gates,)]
    if len(weights) % 4:
        outputs = weights[-1].shape[0] if weights[-1].ndim else 0
        shapes += [(outputs, size), (outputs,)]
    return shapes
