"""Lyapunov exponents of what was learned, from the exact Jacobian of the closed loop.

The method is that of Benettin et al. (1980): a basis of small errors is carried along the free run by the
Jacobian and made orthogonal again; the exponents are the mean logarithms of its growth.
"""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from rnn_lightning.errors import InputError, require_counts
from rnn_lightning.forecaster import Forecaster
from rnn_lightning.recurrent import RecurrentState, step

CHUNK_STEPS = 256
"""Steps whose Jacobians are held at once."""


def lyapunov_exponents(
    forecaster: Forecaster,
    context: Any,
    num_exponents: int = 1,
    num_steps: int = 10_000,
    num_skipped: int = 500,
    time_step: float = 1.0,
) -> Tensor:
    """Return the largest Lyapunov exponents of the closed loop, in falling order.

    Args:
        forecaster: a fitted network without covariates.
        context: the known steps, with axes as for ``Forecaster.forecast``, from which the free run starts.
        num_exponents: number of exponents, at most the size of the recurrent state.
        num_steps: steps of the free run over which growth is measured.
        num_skipped: steps before them, in which the run finds the attractor and the basis its directions.
        time_step: time between two steps; exponents are per unit of time, or per step if it is 1.

    Returns:
        ``(exponent,)``, or ``(batch, exponent)`` for a batch of contexts.
    """
    require_counts(num_exponents=num_exponents, num_steps=num_steps)
    if num_skipped < 0:
        raise InputError(f"`num_skipped` must not be negative, got {num_skipped}.")
    if not time_step > 0:
        raise InputError(f"`time_step` must be above 0, got {time_step}.")
    network = forecaster.network
    if not isinstance(getattr(network, "recurrent", None), nn.RNNBase) or hasattr(network, "inner"):
        raise InputError("Lyapunov exponents are of a closed loop of recurrent layers and a readout alone.")
    if network.num_covariates:
        raise InputError("Lyapunov exponents are of a system that goes on by itself: there are covariates.")
    with torch.no_grad():
        state = _flat(forecaster.warm_up(context).recurrent).double()  # (batch, state)
        recurrent, readout = _double(network.recurrent), _double(network.readout)
        if num_exponents > state.shape[1]:
            raise InputError(f"`num_exponents` {num_exponents} exceeds the {state.shape[1]} of the state.")
        basis = torch.eye(state.shape[1], num_exponents).to(state).expand(len(state), -1, -1)
        growth, done, total = state.new_zeros(len(state), num_exponents), 0, num_skipped + num_steps
        while done < total:
            states = _trajectory(recurrent, readout, state, min(CHUNK_STEPS, total - done))
            for jacobian in closed_loop_jacobians(recurrent, readout, states):  # (batch, state, state)
                basis, triangle = torch.linalg.qr(jacobian @ basis)
                if done >= num_skipped:
                    growth += triangle.diagonal(dim1=-2, dim2=-1).abs().log()
                done += 1
            state = states[-1]
        exponents = growth / (num_steps * time_step)
    return exponents[0] if np.ndim(context) < 3 else exponents


def closed_loop_jacobians(recurrent: nn.RNNBase, readout: nn.Linear, states: Tensor) -> Tensor:
    """Return the Jacobian of the step after each of all ``states (time + 1, batch, state)`` but the last.

    ``(time, batch, state, state)``. That of one Elman layer ``h' = tanh(M h + ...)`` is ``diag(1 - h'^2) M``;
    those of other cells are derived from the plain step.
    """
    if recurrent.mode == "RNN_TANH" and recurrent.num_layers == 1:
        w_input, w_hidden = recurrent.all_weights[0][:2]
        loop = w_hidden + w_input @ readout.weight  # (hidden, hidden)
        return (1 - states[1:].square())[..., None] * loop
    before = states[:-1]
    of_one = jacrev(lambda flat: closed_loop_step(recurrent, readout, flat[None])[0])
    jacobians: Tensor = vmap(of_one)(before.flatten(0, 1))
    return jacobians.unflatten(0, before.shape[:2])


def closed_loop_step(recurrent: nn.RNNBase, readout: nn.Linear, flat: Tensor) -> Tensor:
    """Return the state ``(batch, state)`` after one step with the output fed back."""
    sizes = (-1, recurrent.num_layers, recurrent.hidden_size)
    state = flat.unflatten(1, sizes).permute(1, 2, 0, 3).unbind(0)
    return _flat(step(recurrent, readout(state[0][-1]), state))


def _trajectory(recurrent: nn.RNNBase, readout: nn.Linear, state: Tensor, num_steps: int) -> Tensor:
    """Return a state and the next ones, ``(time + 1, batch, state)``."""
    states = [state]
    for _ in range(num_steps):
        states.append(closed_loop_step(recurrent, readout, states[-1]))
    return torch.stack(states)


def _flat(state: RecurrentState) -> Tensor:
    """Return a state of parts ``(layer, batch, hidden)`` as ``(batch, part * layer * hidden)``."""
    return torch.stack(state).permute(2, 0, 1, 3).flatten(1)


def _double(module: Any) -> Any:
    """Return a copy in float64, without gradients."""
    return copy.deepcopy(module).double().requires_grad_(False)
