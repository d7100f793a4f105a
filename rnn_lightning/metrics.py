"""Metrics: exact for any number of devices and any batch size; only known values count.

They have the methods of torchmetrics, which would import matplotlib for every forecast.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_lightning.transforms import precise


class FreeRunError:
    """The error of generated values over all steps, series and features.

    ``rmse``, the root mean squared error, and ``mae``, the mean absolute error, are in the units of the data.
    ``nrmse`` is the interquartile mean over series and features of each ``rmse`` divided by its scale, so
    that neither large series nor a few odd ones dominate it; ``nrmse_error`` is its standard error, as if
    the values were independent.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self.series, self.sums = list[Tensor](), list[Tensor]()

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
        present, place = gathered(self.series).unique(return_inverse=True)
        every = gathered(self.sums)
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


class ResidualMoments:
    """The second moments ``E[e e^T]`` of one-step errors: the covariance of the noise of sampled paths.

    The mean square of all known errors is the loss of a validation.
    """

    def __init__(self, num_features: int) -> None:
        self.num_features = num_features
        self.reset()

    def reset(self) -> None:
        """Forget all errors."""
        size = self.num_features
        shapes: list[tuple[int, ...]] = [(size, size), (size,), (), (size,)]
        self.sums = [torch.zeros(shape) for shape in shapes]  # products, squares, and the number of each

    def update(self, errors: Tensor) -> None:
        """Add errors ``(batch, time, feature)``, NaN where unknown; products take steps with all features."""
        errors = precise(errors.flatten(0, 1))  # (step, feature)
        known = ~errors.isnan()
        complete = known.all(-1, keepdim=True)
        products = torch.where(complete, errors, 0.0)
        sums = (products.T @ products, errors.nan_to_num(0.0).square().sum(0), complete.sum(), known.sum(0))
        self.sums = [part.to(new) + new for part, new in zip(self.sums, sums, strict=True)]

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the loss, a scalar, and the covariance ``(feature, feature)``; NaN before any update.

        Features that are never known together have no covariance with each other.
        """
        products, squares, num_complete, num_known = (gathered([part[None]]).sum(0) for part in self.sums)
        apart = (squares / num_known).diag()
        covariance = torch.where(num_complete > 0, products / num_complete, apart)
        return squares.sum() / num_known.sum(), covariance


def validation_metrics(loss: Tensor, errors: FreeRunError) -> dict[str, Tensor]:
    """Return the metrics of a validation by name, from the loss of the next step and the errors."""
    found = errors.compute()
    free_run = {f"val_rollout_{name}": found[name] for name in ("nrmse", "nrmse_error", "rmse")}
    return {"val_loss": loss, **free_run}


def gathered(parts: Sequence[Tensor]) -> Tensor:
    """Return the rows of tensors, at least one, of this device and all others, in the order of devices."""
    rows = torch.cat(list(parts))
    every = gathered_objects(rows.cpu())
    return torch.cat(every).to(rows.device) if len(every) > 1 else rows


def gathered_objects(value: Any) -> list[Any]:
    """Return what each device gives, in the order of devices."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    every: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(every, value)
    return every


def middle_weights(count: int) -> Tensor:
    """Return the weights of an interquartile mean of ``count`` sorted values."""
    edges = torch.arange(count + 1, dtype=torch.float64) / max(count, 1)
    return 2 * edges.clamp(0.25, 0.75).diff()
