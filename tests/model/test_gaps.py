"""Where a value is not known, the network goes on with its own prediction."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rnn_lightning.model.gaps import bridge, first_known, recur_from
from rnn_lightning.model.network import Cell, RecurrentNetwork

CELLS: list[Cell] = ["rnn_tanh", "rnn_relu", "gru", "lstm"]


def make(
    cell: Cell = "lstm", num_features: int = 2, num_covariates: int = 1, num_layers: int = 1
) -> RecurrentNetwork:
    torch.manual_seed(3)
    sizes = {"num_layers": num_layers, "transforms": (), "num_covariates": num_covariates}
    return RecurrentNetwork(num_features, cell, 5, **sizes).double()  # type: ignore[arg-type]


def step_by_step(network: RecurrentNetwork, inputs: Tensor, begin: int) -> tuple[Tensor, Tensor]:
    """The definition, for one row: the outputs and the inputs from ``begin`` on, without gaps."""
    state, outputs, filled = network.initial_state(1), [], []
    for step in inputs[begin:]:
        predicted = network.readout(state[0][-1])[0]
        values = torch.where(step[: network.num_features].isnan(), predicted, step[: network.num_features])
        step = torch.cat([values, step[network.num_features :]])
        output, state = network.recur(step[None, None], state)
        outputs.append(output[0])
        filled.append(step)
    return torch.cat(outputs), torch.stack(filled)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0, 0.9), st.integers(1, 12), st.integers(0, 2))
def test_gaps_are_bridged_as_by_the_definition(
    cell: Cell, num_layers: int, seed: int, missing: float, num_steps: int, num_covariates: int
) -> None:
    network = make(cell, 2, num_covariates, num_layers)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(3, num_steps, 2 + num_covariates, generator=generator).double()
    inputs[..., :2][torch.rand(3, num_steps, 2, generator=generator) < missing] = torch.nan
    begin = first_known(inputs[..., :2])
    with torch.no_grad():
        filled, state = bridge(network, inputs, network.initial_state(3), begin)
        outputs, same_state = recur_from(network, filled, begin)
        torch.testing.assert_close(same_state, state, rtol=1e-12, atol=1e-12)
        for row, first in enumerate(begin.tolist()):
            if first == num_steps:
                assert all(float(part[:, row].abs().max()) == 0 for part in state)
                continue
            expected, expected_inputs = step_by_step(network, inputs[row], first)
            torch.testing.assert_close(outputs[row, first:], expected, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(filled[row, first:], expected_inputs, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(state[0][-1, row], expected[-1], rtol=1e-12, atol=1e-12)


def test_a_state_goes_on_over_a_gap() -> None:
    network, inputs = make(), torch.randn(3, 20, 3).double()
    inputs[1, 7, 0] = inputs[2, 9:13, :2] = torch.nan
    with torch.no_grad():
        whole, state = bridge(network, inputs, network.initial_state(3))
        first, between = bridge(network, inputs[:, :11], network.initial_state(3))
        rest, after = bridge(network, inputs[:, 11:], between)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)
    torch.testing.assert_close(after, state)
    assert torch.equal(whole[0], inputs[0])


def test_one_call_of_the_kernel_for_rows_that_begin_together() -> None:
    network, inputs = make(), torch.randn(3, 20, 3).double()
    calls: list[int] = []
    network.recurrent.register_forward_hook(lambda *_: calls.append(1))
    recur_from(network, inputs, torch.tensor([0, 0, 0]))
    assert len(calls) == 1
    recur_from(network, inputs, torch.tensor([4, 0, 4]))
    assert len(calls) == 3


def test_a_bridge_is_a_constant_for_the_gradient() -> None:
    network, inputs = make("gru"), torch.randn(1, 6, 3).double()
    inputs[0, 3, :2] = torch.nan
    filled, _ = bridge(network, inputs, network.initial_state(1))
    assert not filled.requires_grad
    recur_from(network, filled, torch.tensor([0]))[0].sum().backward()
    assert network.readout.weight.grad is None
    assert network.recurrent.all_weights[0][0].grad is not None


def test_first_known_is_the_first_step_with_any_known_feature() -> None:
    nan = torch.nan
    values = torch.tensor(
        [[[nan, nan], [nan, 1], [2, nan]], [[nan, nan]] * 3, [[1, nan], [nan, nan], [1, 1]]]
    )
    assert first_known(values).tolist() == [1, 3, 0]
