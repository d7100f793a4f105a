"""Lyapunov exponents: the Jacobian against finite differences, the spectrum against known systems."""

import copy

import numpy as np
import pytest
import torch

from rnn_lightning import Forecaster, PretrainedForecaster
from rnn_lightning.dynamics.lyapunov import closed_loop_jacobians, closed_loop_step, lyapunov_exponents
from rnn_lightning.errors import InputError


def fitted(cell: str, num_layers: int = 1, num_features: int = 2) -> Forecaster:
    torch.manual_seed(0)
    forecaster = Forecaster(num_features, cell, 5, num_layers, transforms=["standardize"])  # type: ignore[arg-type]
    forecaster.network.transforms.fit([torch.randn(50, num_features)])
    return forecaster.double()


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "gru", "lstm"])
def test_jacobians_equal_finite_differences(cell: str, num_layers: int) -> None:
    network = copy.deepcopy(fitted(cell, num_layers).network).requires_grad_(False)
    size = (2 if cell == "lstm" else 1) * num_layers * 5
    states = [torch.randn(3, size).double()]
    for _ in range(2):
        states.append(closed_loop_step(network.recurrent, network.readout, states[-1]))
    jacobians = closed_loop_jacobians(network.recurrent, network.readout, torch.stack(states))
    assert jacobians.shape == (2, 3, size, size)
    for column in range(size):
        moved = torch.zeros(size).double()
        moved[column] = 1e-6
        ends = [
            closed_loop_step(network.recurrent, network.readout, states[1] + sign * moved) for sign in (1, -1)
        ]
        assert torch.allclose(jacobians[1, ..., column], (ends[0] - ends[1]) / 2e-6, atol=1e-8)


def test_the_step_of_the_jacobian_is_that_of_the_rollout() -> None:
    forecaster = fitted("gru", 2)
    network, context = forecaster.network.requires_grad_(False), torch.randn(1, 20, 2).double()
    state = forecaster.warm_up(context)
    flat = torch.stack(state.recurrent).permute(2, 0, 1, 3).flatten(1)
    values = []
    for _ in range(4):
        values.append(network.readout(flat[:, -5:]))
        flat = closed_loop_step(network.recurrent, network.readout, flat)
    path = network.transforms.inverse(torch.stack(values, 1), state.transforms)
    assert torch.allclose(path, forecaster.forecast(context, 4), atol=1e-12)


def test_a_linear_loop_has_the_logarithms_of_its_eigenvalues() -> None:
    forecaster = fitted("rnn_relu")
    network = forecaster.network
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))
    matrix = torch.tensor(rotation @ np.diag([1.0, 0.9, 0.5, 0.2, 0.1]) @ rotation.T)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        network.recurrent.bias_ih_l0.fill_(50.0)  # every unit stays where the cell is linear
        network.recurrent.weight_hh_l0.copy_(matrix)
        network.recurrent.bias_hh_l0.copy_(50.0 - matrix @ torch.full((5,), 100.0).double())
    exponents = lyapunov_exponents(forecaster, torch.zeros(3, 400, 2), 3, num_steps=200, time_step=0.5)
    assert exponents.shape == (3, 3)
    expected = torch.tensor([1.0, 0.9, 0.5]).double().log() / 0.5
    assert torch.allclose(exponents, expected, atol=1e-6)
    assert lyapunov_exponents(forecaster, torch.zeros(400, 2), 3, num_steps=200).shape == (3,)


def test_what_has_no_exponents_is_refused() -> None:
    with pytest.raises(InputError, match="`num_exponents` 6 exceeds the 5"):
        lyapunov_exponents(fitted("gru"), torch.zeros(9, 2), 6)
    with_covariates = Forecaster(1, "gru", 5, num_covariates=1)
    with pytest.raises(InputError, match="covariates"):
        lyapunov_exponents(with_covariates, torch.zeros(9, 1))


def test_a_seasonal_network_is_refused() -> None:
    with pytest.raises(InputError, match="of recurrent layers and a readout alone"):
        lyapunov_exponents(PretrainedForecaster(), np.arange(30.0))
