"""The teacher-forced loss with the readout at its optimum: a function of the recurrent weights alone.

For given recurrent weights the best readout is a ridge regression on the hidden states. Put in at every
evaluation, it leaves a loss whose gradient reaches the recurrent weights through the hidden states only,
because the loss does not change to first order with a readout that is optimal (Golub and Pereyra 1973;
Kaufman 1975). The regression needs sums over the steps, so that neither memory nor the number of devices
limits it: an evaluation goes through the windows twice, and the devices add up their sums, then their loss
and gradient.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from rnn_lightning.network import RecurrentNetwork
from rnn_lightning.recurrent import recur

Reduce = Callable[[Tensor], Tensor]
"""Adds up a tensor over the devices."""


class Chunk(NamedTuple):
    """Some of the windows, ready for the solver.

    Attributes:
        inputs: ``(batch, context + scored, feature + covariate)``, without gaps.
        target: ``(batch, scored, feature)``, NaN where it is unknown.
        start_step: ``(batch,)``, the step at which each window starts, or None if all are complete.
    """

    inputs: Tensor
    target: Tensor
    start_step: Tensor | None


class Chunks(Protocol):
    """The windows of a device, to be gone through repeatedly; ``complete`` on every device or on none."""

    complete: bool

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Chunk]: ...


class Sums(NamedTuple):
    """Sums over steps of which the readout is a function; of each feature where some targets are unknown.

    Attributes:
        gram: ``(1 or feature, hidden + 1, hidden + 1)``, products of the hidden states and a constant.
        cross: ``(feature, hidden + 1)``, their products with the targets.
        number: ``(feature,)``, number of known targets.
    """

    gram: Tensor
    cross: Tensor
    number: Tensor

    def plus(self, other: "Sums") -> "Sums":
        return Sums(*(mine + its for mine, its in zip(self, other, strict=True)))

    def reduced(self, reduce: Reduce) -> "Sums":
        """Return the sums over all devices, by one call."""
        flat = reduce(torch.cat([part.flatten() for part in self]))
        parts = flat.split([part.numel() for part in self])
        return Sums(*(part.view_as(like) for part, like in zip(parts, self, strict=True)))


def hidden_states(network: RecurrentNetwork, chunk: Chunk) -> Tensor:
    """Return the states ``(batch, scored, hidden)`` from which the targets are predicted."""
    first = chunk.inputs.shape[1] - chunk.target.shape[1] - 1
    inputs = chunk.inputs[:, :-1]
    return recur(network.recurrent, inputs, None, None, first, chunk.start_step)[0]


def normal_sums(hidden: Tensor, target: Tensor, complete: bool) -> Sums:
    """Return the sums of ``hidden (batch, scored, hidden)`` and ``target (batch, scored, feature)``."""
    rows = functional.pad(hidden.flatten(0, 1), (0, 1), value=1.0)  # (row, hidden + 1)
    wanted = target.flatten(0, 1)  # (row, feature)
    if complete:
        number = wanted.new_full((wanted.shape[1],), len(wanted))
        return Sums((rows.T @ rows)[None], wanted.T @ rows, number)
    known = (~wanted.isnan()).to(rows)
    gram = torch.stack([(rows * weight[:, None]).T @ rows for weight in known.unbind(1)])
    return Sums(gram, wanted.nan_to_num(0.0).T @ rows, known.sum(0))


def solve(sums: Sums, ridge: float) -> Tensor:
    """Return the readout ``(feature, hidden + 1)``, its bias last, that minimises the loss with a ridge."""
    number = sums.number.clamp_min(1)
    size = sums.gram.shape[-1]
    matrix = sums.gram / number[: len(sums.gram), None, None] + ridge * torch.eye(size).to(sums.gram)
    right = sums.cross / number[:, None]
    if len(matrix) == 1:
        return torch.linalg.solve(matrix[0], right.T).T
    return torch.linalg.solve(matrix, right)


class Evaluation(NamedTuple):
    """The loss, its gradient in the order of the recurrent parameters, flat, and the mean squared error."""

    loss: float
    gradient: Tensor
    error: float


def evaluate(
    network: RecurrentNetwork,
    chunks: Chunks,
    ridge: float,
    reduce: Reduce = lambda tensor: tensor,
    wants_gradient: bool = True,
) -> Evaluation:
    """Set the readout of the network to its optimum, and return the loss there.

    The loss is the mean over features of the mean squared error of the next step plus ``ridge`` times the sum
    of the squared readout weights.
    """
    parameters, kept, sums = list(network.recurrent.parameters()), None, None
    for chunk in chunks:
        with torch.set_grad_enabled(wants_gradient and len(chunks) == 1):
            hidden = hidden_states(network, chunk)
        kept = hidden if len(chunks) == 1 else None  # one chunk need not be gone through again
        of_chunk = normal_sums(hidden.detach(), chunk.target, chunks.complete)
        sums = of_chunk if sums is None else sums.plus(of_chunk)
    if sums is None:
        raise ValueError("there are no windows.")
    sums = sums.reduced(reduce)
    weights = solve(sums, ridge)
    with torch.no_grad():
        network.readout.weight.copy_(weights[:, :-1])
        network.readout.bias.copy_(weights[:, -1])
    total = weights.new_zeros(1 + sum(parameter.numel() for parameter in parameters))
    for chunk in chunks:
        with torch.set_grad_enabled(wants_gradient):
            hidden = hidden_states(network, chunk) if kept is None else kept
            errors = functional.linear(hidden, weights[:, :-1], weights[:, -1]) - chunk.target
            squares = errors.square() if chunks.complete else errors.nan_to_num(0.0).square()
            loss = (squares.sum((0, 1)) / sums.number.clamp_min(1)).mean()
        total[0] += loss.detach()
        if wants_gradient:
            gradients = torch.autograd.grad(loss, parameters)
            total[1:] += torch.cat([gradient.flatten() for gradient in gradients])
    total = reduce(total)
    penalty = ridge * float(weights.square().sum()) / len(weights)
    return Evaluation(float(total[0]) + penalty, total[1:], float(total[0]))
