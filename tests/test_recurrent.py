"""Where a value is unknown, recurrent layers go on with the prediction of the network."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rnn_lightning.network import Cell, RecurrentNetwork
from rnn_lightning.recurrent import (
    RecurrentState,
    first_known,
    recur,
    recur_by_parts,
    recur_over_gaps,
    recur_packed,
    zero_state,
)

pytestmark = pytest.mark.usefixtures("path")
CELLS: list[Cell] = ["rnn_tanh", "rnn_relu", "gru", "lstm"]


def make(
    cell: Cell = "lstm", num_features: int = 2, num_covariates: int = 1, num_layers: int = 1
) -> RecurrentNetwork:
    torch.manual_seed(3)
    sizes = {"num_layers": num_layers, "transforms": (), "num_covariates": num_covariates}
    return RecurrentNetwork(num_features, cell, 5, **sizes).double()  # type: ignore[arg-type]


def layers(network: RecurrentNetwork) -> tuple[nn.RNNBase, nn.Linear]:
    return network.recurrent, network.readout


def read(
    network: RecurrentNetwork, inputs: Tensor, state: RecurrentState | None = None
) -> tuple[Tensor, RecurrentState]:
    """Inputs without gaps: the predictions and the state."""
    return recur(network.recurrent, inputs, state, network.readout)


def step_by_step(network: RecurrentNetwork, inputs: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """The definition, for one row: the outputs and the inputs from ``start`` on, without gaps."""
    state, outputs, filled = zero_state(network.recurrent, 1), [], []
    for step in inputs[start:]:
        predicted = network.readout(state[0][-1])[0]
        values = torch.where(step[: network.num_features].isnan(), predicted, step[: network.num_features])
        step = torch.cat([values, step[network.num_features :]])
        output, state = read(network, step[None, None], state)
        outputs.append(output[0])
        filled.append(step)
    return torch.cat(outputs), torch.stack(filled)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0, 0.9), st.integers(1, 12), st.integers(0, 2))
def test_gaps_are_imputed_as_by_the_definition(
    cell: Cell, num_layers: int, seed: int, missing: float, num_steps: int, num_covariates: int
) -> None:
    network = make(cell, 2, num_covariates, num_layers)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(3, num_steps, 2 + num_covariates, generator=generator).double()
    inputs[..., :2][torch.rand(3, num_steps, 2, generator=generator) < missing] = torch.nan
    start_step = first_known(inputs[..., :2])
    with torch.no_grad():
        outputs, filled, state = recur_over_gaps(*layers(network), inputs, start_step=start_step)
        for row, first in enumerate(start_step.tolist()):
            if first == num_steps:
                assert all(float(part[:, row].abs().max()) == 0 for part in state)
                continue
            expected, expected_inputs = step_by_step(network, inputs[row], first)
            torch.testing.assert_close(outputs[row, first:], expected, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(filled[row, first:], expected_inputs[:, :2], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(network.readout(state[0][-1, row]), expected[-1])


def test_a_state_goes_on_over_a_gap() -> None:
    network, inputs = make(), torch.randn(3, 20, 3).double()
    inputs[1, 7, 0] = inputs[2, 9:13, :2] = torch.nan
    with torch.no_grad():
        _, whole, state = recur_over_gaps(*layers(network), inputs)
        _, first, between = recur_over_gaps(*layers(network), inputs[:, :11])
        predictions, rest, after = recur_over_gaps(*layers(network), inputs[:, 11:], between, 5)
    assert predictions.shape == (3, 4, 2)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)
    torch.testing.assert_close(after, state)
    assert torch.equal(whole[0], inputs[0, :, :2])


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_an_imputed_value_is_a_constant_for_the_gradient(cell: Cell, num_layers: int) -> None:
    """The gradient is that over the same inputs without gaps, also where rows start late."""
    network, inputs = make(cell, num_layers=num_layers), torch.randn(3, 9, 3).double()
    inputs[0, 3:5, :2] = inputs[1, 6, 1] = inputs[1, :2, :2] = inputs[2, :, :2] = torch.nan
    start_step = first_known(inputs[..., :2])
    predictions, filled, state = recur_over_gaps(*layers(network), inputs, start_step=start_step)
    assert not filled.requires_grad
    weights = list(network.parameters())
    loss = predictions[:2, 2:].square().sum() + sum(part.square().sum() for part in state)
    gradients = torch.autograd.grad(loss, weights)
    complete = torch.cat([filled, inputs[..., 2:]], -1)
    alone, late = read(network, complete[:1]), read(network, complete[1:2, 2:])
    loss = torch.cat([alone[0][:, 2:], late[0]]).square().sum()
    loss = loss + sum(part.square().sum() for part in (*alone[1], *late[1]))
    torch.testing.assert_close(gradients, torch.autograd.grad(loss, weights))


def test_first_known_is_the_first_step_with_any_known_feature() -> None:
    nan = torch.nan
    values = torch.tensor(
        [[[nan, nan], [nan, 1], [2, nan]], [[nan, nan]] * 3, [[1, nan], [nan, nan], [1, 1]]]
    )
    assert first_known(values).tolist() == [1, 3, 0]


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("starts", [[0, 4, 9, 2, 7, 4], [0] * 6, [3] * 6, [9] * 6])
def test_rows_that_start_late_are_packed_to_one_call(cell: Cell, num_layers: int, starts: list[int]) -> None:
    """Results and gradients are those of calls part by part, also with a state before the first input."""
    recurrent, calls = make(cell, num_layers=num_layers).recurrent, list[int]()
    inputs, start_step = torch.randn(6, 9, 3).double(), torch.tensor(starts)
    has_started = (torch.arange(9) >= start_step[:, None])[..., None]
    before = tuple(torch.randn_like(part) for part in zero_state(recurrent, 6))
    for state in (None, before):
        found = []
        for way in (recur_by_parts, recur_packed):
            hook = recurrent.register_forward_hook(lambda *_: calls.append(1))
            calls.clear()
            outputs, after = way(recurrent, inputs, state, start_step)
            hook.remove()
            outputs = outputs * has_started
            loss = outputs.square().sum() + sum(part.square().sum() for part in after)
            found.append((outputs, *after, *torch.autograd.grad(loss, list(recurrent.parameters()))))
        assert len(calls) == 1
        torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)
