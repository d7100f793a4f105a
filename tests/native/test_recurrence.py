"""The definitions of ``recurrence.py`` against the fused modules, and those against finite differences."""

import pytest
import torch
from recurrence import run
from torch import Tensor, nn

KINDS = ["rnn_tanh", "rnn_relu", "gru", "lstm"]


def module(kind: str, num_features: int, hidden_size: int, num_layers: int) -> nn.RNNBase:
    torch.manual_seed(hidden_size)
    sizes = (num_features, hidden_size, num_layers)
    if kind == "lstm":
        return nn.LSTM(*sizes, batch_first=True).double()
    if kind == "gru":
        return nn.GRU(*sizes, batch_first=True).double()
    return nn.RNN(*sizes, batch_first=True, nonlinearity=kind.removeprefix("rnn_")).double()


def initial(recurrent: nn.RNNBase, batch_size: int) -> tuple[Tensor, ...]:
    shape = (recurrent.num_layers, batch_size, recurrent.hidden_size)
    num_parts = 2 if recurrent.mode == "LSTM" else 1
    return tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(num_parts))


def fused(recurrent: nn.RNNBase, inputs: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
    outputs, following = recurrent(inputs, state if len(state) == 2 else state[0])
    return (outputs, *(following if len(state) == 2 else (following,)))


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_definition_and_fused_module_agree_in_values_and_gradients(kind: str, num_layers: int) -> None:
    recurrent = module(kind, 2, 5, num_layers)
    inputs = torch.randn(3, 7, 2, dtype=torch.float64, requires_grad=True)
    state = initial(recurrent, 3)
    differentiated = [inputs, *state, *recurrent.parameters()]
    written, called = run(recurrent, inputs, *state), fused(recurrent, inputs, *state)
    # Different weights on all results, so that no two errors cancel.
    factors = [torch.randn_like(result) for result in written]
    gradients = [
        torch.autograd.grad(
            [(result * factor).sum() for result, factor in zip(results, factors, strict=True)], differentiated
        )
        for results in (written, called)
    ]
    torch.testing.assert_close(written, called, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm"])
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    recurrent = module(kind, 1, 2, 2)
    inputs = torch.randn(1, 3, 1, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in recurrent.named_parameters()]

    def of_weights(inputs: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        state, weights = rest[: -len(names)], rest[-len(names) :]
        replaced = dict(zip(names, weights, strict=True))
        arguments = (inputs, state if len(state) == 2 else state[0])
        outputs, following = torch.func.functional_call(recurrent, replaced, arguments)
        return (outputs, *(following if len(state) == 2 else (following,)))

    assert torch.autograd.gradcheck(of_weights, (inputs, *initial(recurrent, 1), *recurrent.parameters()))


def test_one_elman_step_by_hand() -> None:
    recurrent = module("rnn_relu", 1, 1, 1)
    for parameter, value in zip(recurrent.parameters(), (2.0, 3.0, 0.5, 0.25), strict=True):
        nn.init.constant_(parameter, value)
    outputs, final = run(
        recurrent, torch.tensor([[[1.0], [-4.0]]]).double(), torch.full((1, 1, 1), 10.0).double()
    )
    # relu(2 * 1 + 0.5 + 3 * 10 + 0.25) = 32.75, then relu(2 * -4 + 0.5 + 3 * 32.75 + 0.25) = 91
    assert outputs.flatten().tolist() == [32.75, 91.0]
    assert final.item() == 91.0
