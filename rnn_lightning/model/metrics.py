"""Metrics on torchmetrics: sums over known values only, exact for any number of devices and any batch size."""

import torch
from torch import Tensor
from torchmetrics import Metric


class FreeRunError(Metric):
    """The error of generated values over all steps, series and features.

    ``rmse``, the root of the mean squared error, and ``mae``, the mean absolute error, are in the units of
    the data. ``nrmse`` is the ``rmse`` of errors that are each divided by the scale of their series and
    feature, so that large series do not outweigh small ones; ``nrmse_error`` is its standard error, as if the
    values were independent.
    """

    full_state_update = False
    squares: Tensor
    scaled: Tensor
    fourths: Tensor
    absolutes: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("squares", "scaled", "fourths", "absolutes", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, generated: Tensor, target: Tensor, scale: Tensor) -> None:
        """Add ``(batch, horizon, feature)`` values; those whose target is NaN, because it is unknown, do not count.

        ``scale (batch, feature)`` is that of the series.
        """
        known = ~target.isnan()
        errors = (generated - target).double()
        scaled = (errors / scale[:, None])[known].square()
        self.squares += errors[known].square().sum()
        self.scaled += scaled.sum()
        self.fourths += scaled.square().sum()
        self.absolutes += errors[known].abs().sum()
        self.count += known.sum()

    def compute(self) -> dict[str, Tensor]:
        """``rmse``, ``mae``, ``nrmse`` and ``nrmse_error``; NaN before any known value."""
        mean = self.scaled / self.count
        spread = (self.fourths / self.count - mean.square()).clamp_min(0).sqrt() / self.count.sqrt()
        return {
            "rmse": (self.squares / self.count).sqrt().float(),
            "mae": (self.absolutes / self.count).float(),
            "nrmse": mean.sqrt().float(),
            "nrmse_error": (spread / (2 * mean.sqrt())).nan_to_num().float(),
        }


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
        self.add_state(
            "products", torch.zeros(num_features, num_features, dtype=torch.float64), dist_reduce_fx="sum"
        )
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
