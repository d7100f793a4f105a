import pytest
import torch

from rnn_lightning.model.metrics import FreeRunError, ResidualMoments


def test_free_run_error_is_that_of_the_known_values() -> None:
    generated, target = torch.randn(7, 5, 2), torch.randn(7, 5, 2)
    target[2, 3:] = torch.nan
    target[4] = torch.nan
    metric = FreeRunError()
    scale = torch.rand(7, 2) + 0.5
    for rows in (slice(0, 3), slice(3, 4), slice(4, 5), slice(5, 7)):
        metric.update(generated[rows], target[rows], scale[rows])
    error = (generated - target)[~target.isnan()]
    values = metric.compute()
    assert float(values["rmse"]) == pytest.approx(float(error.square().mean().sqrt()), rel=1e-6)
    scaled = ((generated - target) / scale[:, None])[~target.isnan()].double().square()
    assert float(values["nrmse"]) == pytest.approx(float(scaled.mean().sqrt()), rel=1e-6)
    spread = float(scaled.std(correction=0)) / len(error) ** 0.5
    assert float(values["nrmse_error"]) == pytest.approx(spread / (2 * float(values["nrmse"])), rel=1e-5)
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
