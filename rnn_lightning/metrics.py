"""Metrics on torchmetrics: sums over known values only, exact for any number of devices and any batch size."""

import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection


class FreeRunError(MetricCollection):
    """``rmse`` and ``mae`` of generated values, over all steps, series and features, in the units of the data.

    Args:
        prefix: put before the names, such as ``test_``.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__({"rmse": MeanSquaredError(squared=False), "mae": MeanAbsoluteError()}, prefix=prefix)

    def update(self, generated: Tensor, target: Tensor) -> None:
        """Add ``(batch, horizon, feature)`` values; steps whose target is NaN, because it is unknown, do not count."""
        known = ~target.isnan()
        if bool(known.any()):
            super().update(generated[known], target[known])


class ResidualMoments(Metric):
    """The second moments of the one-step errors: their mean is the loss, the whole is the noise of sampled paths.

    Args:
        num_features: number of features.
    """

    full_state_update = False
    products: Tensor
    count: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.add_state("products", torch.zeros(num_features, num_features, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add one-step predictions ``(batch, time, feature)``; steps with an unknown feature, NaN, do not count."""
        errors = (target - predicted).flatten(0, 1)
        errors = errors[~errors.isnan().any(-1)].double()
        self.products += errors.T @ errors
        self.count += len(errors)

    def compute(self) -> Tensor:
        """``E[e e^T]``, ``(feature, feature)``; NaN before any update."""
        return self.products / self.count
