"""The loss of the seasonal network: every window weighs alike, whatever its size, season and number."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rnn_lightning.losses import TrainingWindows, training_windows
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.pretrained.seasonal_loss import ERROR_FLOOR, MAX_ERROR, geometric_error, seasonal_loss

SEASONS = torch.tensor([4, 1, 7, 4, 12, 7, 1])


def made(num_features: int = 1, num_covariates: int = 0) -> SeasonalNetwork:
    torch.manual_seed(0)
    return SeasonalNetwork(num_features, 8, num_covariates).double()


def windows_of(network: SeasonalNetwork, values: Tensor, season: Tensor, **known: Any) -> TrainingWindows:
    return training_windows(network, values, 40, traits={"season": season}, **known)


@torch.no_grad()
def loss_of(network: SeasonalNetwork, windows: TrainingWindows, free_run_weight: float) -> float:
    return float(seasonal_loss(network, windows, free_run_weight))


def walks(num_rows: int = len(SEASONS), num_features: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num_rows, 52, num_features, generator=generator).double().cumsum(1)


def test_the_geometric_error_is_the_mean_logarithm_of_mean_absolute_errors() -> None:
    predicted, target = torch.randn(3, 5, 2).double(), torch.randn(3, 5, 2).double()
    target[1, 2:, 0] = target[2, :, 1] = torch.nan
    total, count = geometric_error(predicted, target).tolist()
    errors = (predicted - target).abs().nanmean(1).flatten()
    errors = errors[~errors.isnan()]
    assert count == len(errors) == 5
    assert total == pytest.approx(float((errors + ERROR_FLOOR).log().sum()), rel=1e-12)
    assert geometric_error(predicted, torch.full_like(target, torch.nan)).tolist() == [0, 0]
    far = geometric_error(torch.full((1, 2, 1), 1e9), torch.zeros(1, 2, 1))
    assert float(far[0]) == pytest.approx(math.log(MAX_ERROR + ERROR_FLOOR))


def test_the_weight_of_the_free_run_is_that_of_the_free_run() -> None:
    """Values after the context reach the error of the free run alone."""
    network, values = made(), walks()
    values[:, 40:] += 1
    windows = windows_of(network, values, SEASONS)
    other = windows_of(network, torch.cat([values[:, :40], values[:, 40:] + 1], 1), SEASONS)
    next_step, free_run = (loss_of(network, windows, weight) for weight in (0.0, 1.0))
    assert abs(next_step - free_run) > 0.1
    assert loss_of(network, windows, 0.3) == pytest.approx(0.7 * next_step + 0.3 * free_run)
    assert loss_of(network, other, 0.0) == pytest.approx(next_step, rel=1e-12)
    assert loss_of(network, other, 1.0) > free_run + 0.1


@pytest.mark.parametrize(("season", "start", "first"), [(4, 0, 6), (4, 10, 16), (12, 0, 18), (12, 20, 30)])
def test_the_next_step_counts_from_one_and_a_half_seasons_on_or_half_of_the_context(
    season: int, start: int, first: int
) -> None:
    network, values, traits = made(), walks(3), torch.full((3,), season)
    values[:, :start] = torch.nan
    windows = windows_of(network, values, traits)
    context = windows.inputs[:, :40]
    with torch.no_grad():
        predictions = network.encode(context, None, windows.traits).predictions[:, first:-1]
    total, count = geometric_error(predictions, context[:, first + 1 :])
    assert loss_of(network, windows, 0.0) == pytest.approx(float(total / count), rel=1e-12)


def test_the_free_run_part_is_the_error_of_what_is_generated() -> None:
    network, values = made(2, 1), walks(3, 2)
    covariates, traits = walks(3), {"season": torch.full((3,), 4)}
    windows = training_windows(network, values, 40, covariates, traits=traits)
    context, following = windows.inputs[:, :40], windows.inputs[:, 40:].clone()
    following[..., :2] = 0.0
    with torch.no_grad():
        generated, _ = network.free_run(following, network.encode(context, None, traits).state, traits)
    total, count = geometric_error(generated, windows.target)
    assert float(count) == 6
    assert loss_of(network, windows, 1.0) == pytest.approx(float(total / count), rel=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_a_batch_of_several_seasons_weighs_its_windows_alike(weight: float) -> None:
    network, values = made(), walks()
    together = loss_of(network, windows_of(network, values, SEASONS), weight)

    def losses_of(groups: list[Tensor]) -> list[float]:
        return [loss_of(network, windows_of(network, values[rows], SEASONS[rows]), weight) for rows in groups]

    alone = losses_of([torch.tensor([row]) for row in range(len(SEASONS))])
    assert len(set(alone)) == len(alone)
    assert together == pytest.approx(sum(alone) / len(alone), rel=1e-9)
    groups = [(season == SEASONS).nonzero()[:, 0] for season in SEASONS.unique()]
    weighted = sum(len(rows) * loss for rows, loss in zip(groups, losses_of(groups), strict=True))
    assert together == pytest.approx(weighted / len(SEASONS), rel=1e-9)


def test_the_gradient_of_several_seasons_is_that_of_the_windows_alone() -> None:
    network, values = made(), walks()
    weights = list(network.parameters())
    loss = seasonal_loss(network, windows_of(network, values, SEASONS), 0.67)
    together = torch.autograd.grad(loss, weights)
    alone = [torch.zeros_like(weight) for weight in weights]
    for row in range(len(SEASONS)):
        loss = seasonal_loss(
            network, windows_of(network, values[row : row + 1], SEASONS[row : row + 1]), 0.67
        )
        for total, gradient in zip(alone, torch.autograd.grad(loss, weights), strict=True):
            total += gradient / len(SEASONS)
    torch.testing.assert_close(list(together), alone, rtol=1e-8, atol=1e-10)


def test_windows_far_outside_of_the_scale_of_their_context_do_not_count() -> None:
    network, values = made(), walks(3)
    season = torch.full((3,), 4)
    expected = [loss_of(network, windows_of(network, values[:2], season[:2]), w) for w in (0, 1)]
    values[2, 45] = 1e6
    given = [loss_of(network, windows_of(network, values, season), weight) for weight in (0, 1)]
    assert given == pytest.approx(expected, rel=1e-9)


def test_unknown_targets_do_not_count() -> None:
    network, values = made(), walks(3)
    season = torch.full((3,), 4)
    expected = loss_of(network, windows_of(network, values[:2, :48], season[:2]), 1.0)
    values[:2, 48:] = values[2, 40:] = torch.nan
    assert loss_of(network, windows_of(network, values, season), 1.0) == pytest.approx(expected)


def test_a_batch_of_nothing_known_has_no_loss_and_no_gradient() -> None:
    network = made()
    windows = windows_of(network, torch.full((2, 52, 1), torch.nan).double(), torch.tensor([4, 7]))
    loss = seasonal_loss(network, windows, 0.5)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(bool((p.grad == 0).all()) for p in network.parameters() if p.grad is not None)
