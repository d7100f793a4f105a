"""What counts in the loss where values are missing, and where covariates enter."""

import pytest
import torch
from torch import Tensor

from rnn_lightning.losses import Scored, free_run, mean_squared_error, scored, teacher_forced
from rnn_lightning.network import RecurrentNetwork
from rnn_lightning.rollout import rollout

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
def losses(network: RecurrentNetwork, windows: Scored) -> list[float]:
    return [
        float(mean_squared_error(function(network, windows), windows))
        for function in (teacher_forced, free_run)
    ]


def test_the_free_run_is_that_of_a_rollout_with_the_same_covariates() -> None:
    network, (values, covariates) = make(), data()
    windows = scored(network, values, 10, covariates)
    state = network.transforms.start(values[:, :10])[1]
    generated = network.transforms.inverse(free_run(network, windows), state)
    torch.testing.assert_close(generated, rollout(network, values[:, :10], 6, covariates=covariates))


def test_a_covariate_acts_on_the_value_of_its_own_step_and_later_ones() -> None:
    network, (values, covariates) = make(), data()
    before = teacher_forced(network, scored(network, values, 8, covariates))
    covariates[:, 11] += 1
    after = teacher_forced(network, scored(network, values, 8, covariates))
    assert torch.equal(before[:, :3], after[:, :3])
    assert bool((before[:, 3:] != after[:, 3:]).any(-1).all())


def test_unknown_targets_do_not_count_and_windows_without_a_context_neither() -> None:
    network, (values, covariates) = make(), data()
    whole = scored(network, values[:1, :14], 10, covariates[:1, :14])
    assert whole.complete
    holed = values.clone()
    holed[0, 14:] = torch.nan  # after the end of the series
    holed[1, :10] = torch.nan  # nothing of the context
    holed[2] = torch.nan  # nothing at all
    windows = scored(network, holed, 10, covariates)
    assert not windows.complete
    assert (~windows.target.isnan()).sum((1, 2)).tolist() == [4 * 2, 0, 0]
    assert losses(network, windows) == pytest.approx(losses(network, whole), rel=1e-12)


def test_a_padded_context_is_that_of_the_short_series() -> None:
    network, (values, covariates) = make(("log", "difference", "standardize_context")), data()
    padded = values.clone()
    padded[:, :6] = torch.nan
    short = scored(network, values[:, 6:], 4, covariates[:, 6:])
    assert losses(network, scored(network, padded, 10, covariates)) == pytest.approx(
        losses(network, short), rel=1e-12
    )


def test_a_batch_of_nothing_known_has_no_loss_and_no_gradient() -> None:
    network, (values, covariates) = make(), data()
    windows = scored(network, torch.full_like(values, torch.nan), 10, covariates)
    loss = mean_squared_error(teacher_forced(network, windows), windows)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is not None and float(p.grad.abs().max()) == 0 for p in network.parameters())


def test_an_unknown_covariate_counts_as_its_mean() -> None:
    network, (values, covariates) = make(), data()
    covariates[1, 5, 0] = network.covariate_scale.mean[0]
    expected = losses(network, scored(network, values, 8, covariates))
    covariates[1, 5, 0] = torch.nan
    assert losses(network, scored(network, values, 8, covariates)) == pytest.approx(expected, rel=1e-12)
