"""Metrics on torchmetrics: exact for any number of devices and any batch size; only known values count."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from rnn_lightning.transforms import precise


class FreeRunError(Metric):
    """The error of generated values over all steps, series and features.

    ``rmse``, the root mean squared error, and ``mae``, the mean absolute error, are in the units of the data.
    ``nrmse`` is the interquartile mean over series and features of each ``rmse`` divided by its scale, so
    that neither large series nor a few strange ones dominate it; ``nrmse_error`` is its standard error, as if
    the values were independent.
    """

    full_state_update = False
    series: list[Tensor]
    sums: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("series", "sums"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, generated: Tensor, target: Tensor, scale: Tensor, series_index: Tensor) -> None:
        """Add ``(batch, horizon, feature)`` values; those whose target is NaN, unknown, do not count.

        ``scale (batch, feature)`` is that of the series numbered ``series_index (batch,)``.
        """
        known = ~target.isnan()
        errors = precise(generated - target).masked_fill(~known, 0.0)
        scaled = (errors / scale[:, None]).square()
        sums = (errors.square(), errors.abs(), scaled, scaled.square(), known.to(errors))
        self.series.append(series_index.to(errors.device))
        self.sums.append(torch.stack([each.sum(1) for each in sums], -1))  # (batch, feature, 5)

    def compute(self) -> dict[str, Tensor]:
        """Return ``rmse``, ``mae``, ``nrmse`` and ``nrmse_error``; NaN before any known value."""
        present, place = dim_zero_cat(self.series).unique(return_inverse=True)
        every = dim_zero_cat(self.sums)
        sums = every.new_zeros(len(present), *every.shape[1:]).index_add_(0, place, every).flatten(0, 1)
        squares, absolutes, scaled, fourths, count = sums[sums[:, -1] > 0].unbind(1)  # (series * feature,)
        mean = scaled / count
        spread = (fourths / count - mean.square()).clamp_min(0).sqrt() / count.sqrt()
        nrmse, order = mean.sqrt().nan_to_num(torch.inf).sort()
        weights = middle_weights(len(nrmse)).to(nrmse)
        error = (weights * (spread / (2 * mean.sqrt())).nan_to_num()[order]).square().sum().sqrt()
        middle = torch.where(weights > 0, weights * nrmse, 0.0).sum()
        return {
            "rmse": (squares.sum() / count.sum()).sqrt().float(),
            "mae": (absolutes.sum() / count.sum()).float(),
            "nrmse": (middle if len(nrmse) else middle + torch.nan).float(),
            "nrmse_error": error.float(),
        }


class ResidualMoments(Metric):
    """The second moments of one-step errors: their mean is the loss, and they are the noise of paths."""

    full_state_update = False
    products: Tensor
    count: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        products = torch.zeros(num_features, num_features)
        self.add_state("products", products, dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, errors: Tensor) -> None:
        """Add errors ``(batch, time, feature)``; steps with an unknown feature, NaN, do not count."""
        errors = errors.flatten(0, 1)
        errors = precise(errors[~errors.isnan().any(-1)])
        self.products += errors.T @ errors
        self.count += len(errors)

    def compute(self) -> Tensor:
        """Return ``E[e e^T]``, ``(feature, feature)``; NaN before any update."""
        return self.products / self.count


def middle_weights(count: int) -> Tensor:
    """Return the weights of an interquartile mean of ``count`` sorted values."""
    edges = torch.arange(count + 1, dtype=torch.float64) / max(count, 1)
    return 2 * edges.clamp(0.25, 0.75).diff()
