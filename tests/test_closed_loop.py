"""Every fast loop equals the plain one, which goes step by step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rnn_lightning.closed_loop import FoldedLoop, closed_loop, plain_loop
from rnn_lightning.network import Cell, RecurrentNetwork
from rnn_lightning.recurrent import RecurrentState, recur, zero_state

pytestmark = pytest.mark.usefixtures("path")
CELLS: list[Cell] = ["rnn_tanh", "rnn_relu", "gru", "lstm"]
FOLDABLE: list[Cell] = ["rnn_tanh", "rnn_relu", "lstm"]
NUM_STEPS = 200

sizes = {
    "num_features": st.integers(1, 3),
    "hidden_size": st.integers(1, 20),
    "batch_size": st.integers(1, 4),
    "seed": st.integers(0, 1000),
}
few = settings(max_examples=12, deadline=None, derandomize=True)


def contracting(
    cell: Cell,
    num_features: int,
    hidden_size: int,
    seed: int,
    num_layers: int = 1,
    dtype: torch.dtype = torch.float64,
) -> RecurrentNetwork:
    """A network, often with covariates, whose closed loop forgets its state: rounding does not grow."""
    torch.manual_seed(seed)
    sizes = (num_features, cell, hidden_size, num_layers)
    network = RecurrentNetwork(*sizes, transforms=(), num_covariates=seed % 3).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "bias" not in name:
                parameter.div_(torch.linalg.matrix_norm(parameter, 2).clamp_min(0.5) * 2)
    return network


def random_state(network: RecurrentNetwork, batch_size: int) -> RecurrentState:
    return tuple(torch.randn_like(part) for part in zero_state(network.recurrent, batch_size))


def inputs_of(network: RecurrentNetwork, batch_size: int, num_steps: int = NUM_STEPS) -> Tensor:
    """Random innovations and, beside them, random covariates."""
    return torch.randn(
        batch_size, num_steps, network.recurrent.input_size, dtype=network.readout.weight.dtype
    )


def layers(network: RecurrentNetwork) -> tuple[nn.RNNBase, nn.Linear]:
    return network.recurrent, network.readout


def assert_near(ours: Tensor, plain: Tensor, relative: float) -> None:
    """Relative to the size of the values: where one crosses zero, a relative error means nothing."""
    assert float((ours - plain).abs().max()) <= relative * float(plain.abs().max())


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("cell", FOLDABLE)
@few
@given(**sizes)
def test_fold_equals_plain_loop(
    cell: Cell,
    dtype: torch.dtype,
    relative: float,
    num_features: int,
    hidden_size: int,
    batch_size: int,
    seed: int,
) -> None:
    network = contracting(cell, num_features, hidden_size, seed, dtype=dtype)
    innovations, state = inputs_of(network, batch_size), random_state(network, batch_size)
    with torch.no_grad():
        for driven in (innovations, torch.zeros_like(innovations)):
            values, following = FoldedLoop(*layers(network))(driven, state)
            expected, expected_following = plain_loop(*layers(network), driven, state)
            assert_near(values, expected, relative)
            for part, expected_part in zip(following, expected_following, strict=True):
                assert_near(part, expected_part, relative)


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
@settings(few, max_examples=4)
@given(**sizes)
def test_the_closed_loop_equals_the_plain_loop(
    cell: Cell,
    num_layers: int,
    dtype: torch.dtype,
    relative: float,
    num_features: int,
    hidden_size: int,
    batch_size: int,
    seed: int,
) -> None:
    network = contracting(cell, num_features, hidden_size, seed, num_layers, dtype)
    innovations, state = inputs_of(network, batch_size, 60), random_state(network, batch_size)
    before = tuple(part.clone() for part in state)
    with torch.no_grad():
        values, following = closed_loop(*layers(network), innovations, state)
        expected, expected_following = plain_loop(*layers(network), innovations, state)
    assert_near(values, expected, relative)
    for part, expected_part in zip(following, expected_following, strict=True):
        assert_near(part, expected_part, relative)
    torch.testing.assert_close(state, before, rtol=0, atol=0)  # the state can be used again


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_fed_with_one_step_errors_the_closed_loop_is_the_open_loop(cell: Cell, num_layers: int) -> None:
    network = contracting(cell, 2, 8, seed=1, num_layers=num_layers)
    inputs, state = inputs_of(network, 3), random_state(network, 3)
    series, covariates = inputs[..., :2], inputs[..., 2:]
    with torch.no_grad():
        predictions, open_state = recur(network.recurrent, inputs, state, network.readout)
        first = network.readout(state[0][-1])[:, None]
        errors = series - torch.cat([first, predictions[:, :-1]], 1)
        values, closed_state = closed_loop(*layers(network), torch.cat([errors, covariates], -1), state)
    torch.testing.assert_close(values, series, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(closed_state, open_state, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
@settings(few, max_examples=4)
@given(**sizes)
def test_gradients_are_those_through_the_plain_loop(
    cell: Cell, num_layers: int, num_features: int, hidden_size: int, batch_size: int, seed: int
) -> None:
    network = contracting(cell, num_features, hidden_size, seed, num_layers)
    innovations = inputs_of(network, batch_size, 30).requires_grad_()
    state = tuple(part.requires_grad_() for part in random_state(network, batch_size))
    target = inputs_of(network, batch_size, 30)[..., :num_features]
    wanted = [*network.parameters(), innovations, *state]
    runs = [loop(*layers(network), innovations, state) for loop in (closed_loop, plain_loop)]
    if num_layers == 1 and cell in FOLDABLE:
        runs.append(FoldedLoop(*layers(network))(innovations, state))
    ours, *others = (
        torch.autograd.grad((values - target).square().mean() + sum(part.sum() for part in after), wanted)
        for values, after in runs
    )
    for other in others:
        torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-12)
    # A unit of relu can be silent at every step; the innovation of a step reaches its value in any case.
    reached = ours if cell != "rnn_relu" else ours[-1 - len(state) : -len(state)]
    assert all(float(gradient.abs().max()) > 0 for gradient in reached)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_free_run_of_a_counting_network_counts(num_layers: int) -> None:
    """``h = relu(x)`` in every layer and ``readout = h + 1``: each value is one more than the last."""
    network = RecurrentNetwork(1, "rnn_relu", 1, num_layers, transforms=())
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.fill_(1.0 if "weight_ih" in name or "readout" in name else 0.0)
        values, state = closed_loop(*layers(network), torch.zeros(1, 6, 1), zero_state(network.recurrent, 1))
        assert values.flatten().tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        values, _ = closed_loop(*layers(network), torch.tensor([[[0.0], [10.0], [0.0]]]), state)
    assert values.flatten().tolist() == [7.0, 18.0, 19.0]


def test_the_loop_has_the_present_weights() -> None:
    network = contracting("lstm", 1, 4, seed=3)
    state, still = random_state(network, 1), torch.zeros(1, 3, 1).double()
    with torch.no_grad():
        before = closed_loop(*layers(network), still, state)[0]
        network.readout.bias.add_(1.0)
        after = closed_loop(*layers(network), still, state)[0]
        expected = plain_loop(*layers(network), still, state)[0]
    torch.testing.assert_close(after, expected)
    assert not torch.allclose(before, after)


def test_dropout_between_layers_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    network = RecurrentNetwork(1, "gru", 8, num_layers=2, dropout=0.5, transforms=())
    still, state = torch.zeros(2, 6, 1), random_state(network, 2)
    with torch.no_grad():
        runs = {}
        for is_training in (True, False):
            network.train(is_training)
            runs[is_training] = [closed_loop(*layers(network), still, state)[0] for _ in range(2)]
    assert torch.equal(*runs[False])
    assert not torch.equal(*runs[True])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_the_closed_loop_on_a_gpu_equals_the_plain_loop(cell: Cell, num_layers: int) -> None:
    """The state goes on from one call to the next."""
    network = contracting(cell, 2, 8, seed=6, num_layers=num_layers)
    innovations, state = inputs_of(network, 3, 60), random_state(network, 3)
    with torch.no_grad():
        expected, expected_state = plain_loop(*layers(network), innovations, state)
        network.cuda()
        on_gpu = tuple(part.cuda() for part in state)
        first, on_gpu = closed_loop(*layers(network), innovations[:, :1].cuda(), on_gpu)
        rest, on_gpu = closed_loop(*layers(network), innovations[:, 1:].cuda(), on_gpu)
    values, last = torch.cat([first, rest], 1).cpu(), tuple(part.cpu() for part in on_gpu)
    torch.testing.assert_close(values, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(last, expected_state, rtol=1e-10, atol=1e-10)
