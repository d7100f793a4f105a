import pytest
import torch

from rnn_lightning.metrics import FreeRunError, ResidualMoments, middle_weights


def test_free_run_error_is_that_of_the_known_values() -> None:
    generated, target = torch.randn(7, 5, 1), torch.randn(7, 5, 1)
    target[2, 3:] = torch.nan
    target[4] = torch.nan
    metric = FreeRunError()
    scale = torch.rand(7, 1) + 0.5
    for rows in (slice(0, 3), slice(3, 3), slice(3, 4), slice(4, 5), slice(5, 7)):
        metric.update(
            generated[rows], target[rows], scale[rows], torch.zeros(rows.stop - rows.start, dtype=torch.long)
        )
    error = (generated - target)[~target.isnan()]
    values = metric.compute()
    assert float(values["rmse"]) == pytest.approx(float(error.square().mean().sqrt()), rel=1e-6)
    scaled = ((generated - target) / scale[:, None])[~target.isnan()].double().square()
    assert float(values["nrmse"]) == pytest.approx(float(scaled.mean().sqrt()), rel=1e-6)
    spread = float(scaled.std(correction=0)) / len(error) ** 0.5
    assert float(values["nrmse_error"]) == pytest.approx(spread / (2 * float(values["nrmse"])), rel=1e-5)
    assert float(values["mae"]) == pytest.approx(float(error.abs().mean()), rel=1e-6)


def test_one_series_or_feature_does_not_rule_the_scaled_error() -> None:
    generated, target, scale = torch.randn(2, 8, 30, 2), torch.zeros(8, 30, 2), torch.ones(8, 2)
    series = torch.arange(8)

    def nrmse(*batches: tuple[torch.Tensor, ...]) -> float:
        metric = FreeRunError()
        for batch in batches:
            metric.update(*batch)
        return float(metric.compute()["nrmse"])

    typical = nrmse(*((values, target, scale, series) for values in generated))
    each = generated.square().mean((0, 2)).sqrt().flatten().sort().values
    assert typical == pytest.approx(float(each[4:12].mean()), rel=1e-5)
    for wrong in (1e9, 0.0, torch.nan, torch.inf):
        generated[:, 3] = wrong
        strange = nrmse(*((values, target, scale, series) for values in generated))
        assert strange == pytest.approx(typical, rel=0.1)


def test_the_middle_half_counts() -> None:
    assert middle_weights(1).tolist() == [1]
    assert middle_weights(2).tolist() == [0.5, 0.5]
    assert middle_weights(3).tolist() == pytest.approx([1 / 6, 2 / 3, 1 / 6])
    assert middle_weights(8).tolist() == [0, 0, 0.25, 0.25, 0.25, 0.25, 0, 0]


def test_residual_moments_are_the_second_moments_of_the_known_errors() -> None:
    predicted, target = torch.randn(6, 9, 3), torch.randn(6, 9, 3)
    target[1, 4:] = torch.nan
    metric = ResidualMoments(3)
    metric.update(target[:2] - predicted[:2])
    metric.update(target[2:] - predicted[2:])
    errors = (target - predicted).double().flatten(0, 1)
    errors = errors[~errors.isnan().any(-1)]
    loss, covariance = metric.compute()
    torch.testing.assert_close(covariance.double(), errors.T @ errors / len(errors), rtol=1e-6, atol=0)
    assert loss.item() == pytest.approx(errors.square().mean().item(), rel=1e-6)


def test_every_known_error_counts_where_no_step_has_all_features() -> None:
    errors = torch.full((1, 4, 2), torch.nan)
    errors[0, ::2, 0] = torch.tensor([1.0, 3.0])
    errors[0, 1, 1] = 2.0
    metric = ResidualMoments(2)
    metric.update(errors)
    loss, covariance = metric.compute()
    assert loss.item() == pytest.approx((1 + 9 + 4) / 3)
    assert covariance.tolist() == [[5.0, 0.0], [0.0, 4.0]]
