"""What counts in the loss, where values are missing, and where covariates enter."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rnn_lightning.losses import (
    TrainingWindows,
    context_state,
    free_run,
    mean_squared_error,
    teacher_forced,
    training_loss,
    training_windows,
)
from rnn_lightning.network import RecurrentNetwork
from rnn_lightning.rollout import rollout, warm_up

pytestmark = pytest.mark.usefixtures("path")


def make(
    transforms: tuple[str, ...] = ("difference", "standardize"), num_covariates: int = 2
) -> RecurrentNetwork:
    torch.manual_seed(0)
    network = RecurrentNetwork(2, "lstm", 6, transforms=transforms, num_covariates=num_covariates).double()
    network.transforms.fit([10 + torch.randn(50, 2).double()])
    network.covariate_scale.fit([5 + 3 * torch.randn(50, num_covariates).double()])
    return network


def data(num_rows: int = 3, num_steps: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    values = 10 + torch.randn(num_rows, num_steps, 2, generator=generator).double()
    return values, 5 + 3 * torch.randn(num_rows, num_steps, 2, generator=generator).double()


@torch.no_grad()
def parts_of_loss(network: RecurrentNetwork, windows: TrainingWindows) -> list[float]:
    return [
        float(mean_squared_error(function(network, windows), windows))
        for function in (teacher_forced, free_run)
    ]


def test_the_loss_counts_the_scored_steps_of_the_next_step_prediction() -> None:
    """On a ramp, a network that repeats its input is wrong by the slope at every step."""
    network = RecurrentNetwork(cell="rnn_relu", hidden_size=1, transforms=[])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.recurrent.weight_ih_l0.fill_(1.0)  # type: ignore[operator]
        network.readout.weight.fill_(1.0)

    def loss(values: Tensor) -> float:
        return training_loss(network, training_windows(network, values, 4)).item()

    ramp = torch.arange(12.0).mul(3).view(1, 12, 1)
    assert loss(ramp) == pytest.approx(9.0)
    ramp[:, :3] = 100.0  # context: not scored, and a repeating network forgets it
    assert loss(ramp) == pytest.approx(9.0)
    ramp[:, -1] = 100.0
    assert loss(ramp) == pytest.approx((7 * 9 + 70**2) / 8)


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "gru", "lstm"])
@pytest.mark.parametrize("transforms", [["standardize"], ["difference", "standardize_context"]])
def test_a_future_value_changes_no_earlier_prediction(cell: Any, transforms: Any) -> None:
    torch.manual_seed(0)
    network = RecurrentNetwork(2, cell, hidden_size=5, num_layers=2, transforms=transforms)
    values = torch.randn(3, 20, 2)
    before = teacher_forced(network, training_windows(network, values, 8))
    values[:, 14] += 1
    after = teacher_forced(network, training_windows(network, values, 8))
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7], after[:, 7])


def test_the_free_run_loss_is_the_error_of_the_rollout() -> None:
    torch.manual_seed(0)
    network = RecurrentNetwork(hidden_size=6, transforms=["standardize"])
    values = torch.randn(4, 25, 1)
    generated = rollout(network, values[:, :10], 15)
    loss = training_loss(network, training_windows(network, values, 10), free_run_weight=1.0)
    expected = (generated - values[:, 10:]).square().mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_weight_of_the_free_run_is_that_of_the_free_run() -> None:
    network, (values, covariates) = make(), data()
    torch.nn.init.normal_(network.readout.weight, 0, 2)
    windows = training_windows(network, values, 10, covariates)
    next_step, generated = parts_of_loss(network, windows)
    assert next_step != pytest.approx(generated, rel=0.1)
    for weight in (0.0, 0.3, 1.0):
        loss = training_loss(network, windows, free_run_weight=weight)
        assert loss.item() == pytest.approx((1 - weight) * next_step + weight * generated, rel=1e-12)


def test_the_state_after_the_contexts_is_that_of_a_warm_up() -> None:
    network, (values, covariates) = make(), data()
    for holed in (values, values.masked_fill(torch.rand(3, 16, 1) < 0.4, torch.nan)):
        state = context_state(network, training_windows(network, holed, 10, covariates))
        expected = warm_up(network, holed[:, :10], covariates[:, 1:11]).recurrent
        torch.testing.assert_close(state, expected, rtol=1e-12, atol=1e-12)


def test_rows_of_windows_are_the_windows_of_those_rows() -> None:
    network, (values, covariates) = make(), data(num_rows=5)
    season = torch.tensor([4, 7, 12, 1, 1])
    windows = training_windows(network, values, 10, covariates, traits={"season": season}).rows(1, 3)
    alone = training_windows(network, values[1:3], 10, covariates[1:3])
    assert windows.traits["season"].tolist() == [7, 12]
    torch.testing.assert_close(windows.inputs, alone.inputs, rtol=0, atol=0)
    torch.testing.assert_close(windows.target, alone.target, rtol=0, atol=0)
    assert (windows.context_length, windows.complete) == (9, True)


def test_windows_on_another_device_leave_their_traits_on_the_cpu() -> None:
    network, (values, covariates) = make(), data()
    windows = training_windows(network, values, 10, covariates, traits={"season": torch.tensor([4, 7, 12])})
    assert windows.to(torch.device("cpu")) is windows
    moved = windows.to(torch.device("meta"))
    assert moved.inputs.is_meta
    assert moved.target.is_meta
    assert moved.traits["season"].tolist() == [4, 7, 12]


def test_the_free_run_is_that_of_a_rollout_with_the_same_covariates() -> None:
    network, (values, covariates) = make(), data()
    windows = training_windows(network, values, 10, covariates)
    state = network.transforms.start(values[:, :10], {})[1]
    generated = network.transforms.inverse(free_run(network, windows), state)
    torch.testing.assert_close(generated, rollout(network, values[:, :10], 6, covariates=covariates))


def test_a_covariate_acts_on_the_value_of_its_own_step_and_later_ones() -> None:
    network, (values, covariates) = make(), data()
    before = teacher_forced(network, training_windows(network, values, 8, covariates))
    covariates[:, 11] += 1
    after = teacher_forced(network, training_windows(network, values, 8, covariates))
    assert torch.equal(before[:, :3], after[:, :3])
    assert bool((before[:, 3:] != after[:, 3:]).any(-1).all())


def test_unknown_targets_do_not_count_and_windows_without_a_context_neither() -> None:
    network, (values, covariates) = make(), data()
    whole = training_windows(network, values[:1, :14], 10, covariates[:1, :14])
    assert whole.complete
    holed = values.clone()
    holed[0, 14:] = torch.nan  # after the end of the series
    holed[1, :10] = torch.nan  # nothing of the context
    holed[2] = torch.nan  # nothing at all
    windows = training_windows(network, holed, 10, covariates)
    assert not windows.complete
    assert (~windows.target.isnan()).sum((1, 2)).tolist() == [4 * 2, 0, 0]
    assert parts_of_loss(network, windows) == pytest.approx(parts_of_loss(network, whole), rel=1e-12)


def test_a_padded_context_is_that_of_the_short_series() -> None:
    network, (values, covariates) = make(("log", "difference", "standardize_context")), data()
    padded = values.clone()
    padded[:, :6] = torch.nan
    short = training_windows(network, values[:, 6:], 4, covariates[:, 6:])
    assert parts_of_loss(network, training_windows(network, padded, 10, covariates)) == pytest.approx(
        parts_of_loss(network, short), rel=1e-12
    )


def test_a_batch_of_nothing_known_has_no_loss_and_no_gradient() -> None:
    network, (values, covariates) = make(), data()
    windows = training_windows(network, torch.full_like(values, torch.nan), 10, covariates)
    loss = mean_squared_error(teacher_forced(network, windows), windows)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is not None and float(p.grad.abs().max()) == 0 for p in network.parameters())


def test_an_unknown_covariate_counts_as_its_mean() -> None:
    network, (values, covariates) = make(), data()
    covariates[1, 5, 0] = network.covariate_scale.mean[0]
    expected = parts_of_loss(network, training_windows(network, values, 8, covariates))
    covariates[1, 5, 0] = torch.nan
    assert parts_of_loss(network, training_windows(network, values, 8, covariates)) == pytest.approx(
        expected, rel=1e-12
    )
