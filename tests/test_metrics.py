import pytest
import torch

from rnn_lightning.metrics import FreeRunError, ResidualMoments


def test_free_run_error_is_that_of_the_known_values() -> None:
    generated, target = torch.randn(7, 5, 2), torch.randn(7, 5, 2)
    target[2, 3:] = torch.nan
    target[4] = torch.nan
    metric = FreeRunError()
    metric.update(generated[:3], target[:3])
    metric.update(generated[3:4], target[3:4])
    metric.update(generated[4:5], target[4:5])
    metric.update(generated[5:], target[5:])
    error = (generated - target)[~target.isnan()]
    values = metric.compute()
    assert float(values["rmse"]) == pytest.approx(float(error.square().mean().sqrt()), rel=1e-6)
    spread = float(error.double().square().std(correction=0)) / len(error) ** 0.5
    assert float(values["rmse_error"]) == pytest.approx(spread / (2 * float(values["rmse"])), rel=1e-5)
    assert float(values["mae"]) == pytest.approx(float(error.abs().mean()), rel=1e-6)


def test_residual_moments_are_the_second_moments_of_the_known_errors() -> None:
    predicted, target = torch.randn(6, 9, 3), torch.randn(6, 9, 3)
    target[1, 4:] = torch.nan
    metric = ResidualMoments(3)
    metric.update(predicted[:2], target[:2])
    metric.update(predicted[2:], target[2:])
    errors = (target - predicted).double().flatten(0, 1)
    errors = errors[~errors.isnan().any(-1)]
    torch.testing.assert_close(metric.compute(), errors.T @ errors / len(errors))
