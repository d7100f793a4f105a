"""Metrics of generated dynamics on torchmetrics: how long a forecast holds, how alike two attractors are.

The definitions are those of the field: valid prediction time as in Pathak et al. (2018) with the threshold
0.4 of Vlachas et al. (2020); power-spectrum and state-space distances as in Koppe et al. (2019), Brenner et
al. (2022) and Hemmer and Durstewitz (2025).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

MAX_BINNED = 6
"""Features of a state space that is divided into bins."""


def valid_times(generated: Tensor, target: Tensor, scale: Tensor, threshold: float = 0.4) -> Tensor:
    """Return the steps ``(batch,)`` before the error first exceeds ``threshold`` standard deviations.

    The error and the deviation are norms over the features: ``|e| / sqrt(sum of scale^2)``.

    Args:
        generated: ``(batch, horizon, feature)``; what is not finite is an error.
        target: the truth, of the same shape.
        scale: the standard deviation of each feature, ``(feature,)`` or ``(batch, feature)``.
        threshold: the largest error that is valid.
    """
    errors = (generated - target).double().square().sum(-1).sqrt()  # (batch, horizon)
    size = scale.double().square().sum(-1).sqrt()
    invalid = ~(errors / size[..., None] <= threshold)
    return torch.where(invalid.any(1), invalid.int().argmax(1), invalid.shape[1])


class ValidTime(Metric):
    """The valid prediction time: a quantile over the forecasts of the steps until the error is too large.

    Args:
        threshold: the largest error that is valid, in standard deviations.
        lyapunov_time: steps in a Lyapunov time, the unit of the result; None for steps.
        quantile: the quantile; 0.5 is the median, 0 the worst forecast.
    """

    full_state_update = False
    steps: list[Tensor]

    def __init__(
        self, threshold: float = 0.4, lyapunov_time: float | None = None, quantile: float = 0.5
    ) -> None:
        super().__init__()
        self.threshold, self.lyapunov_time, self.quantile = threshold, lyapunov_time or 1.0, quantile
        self.add_state("steps", [], dist_reduce_fx="cat")

    def update(self, generated: Tensor, target: Tensor, scale: Tensor) -> None:
        """Add forecasts, see ``valid_times``."""
        self.steps.append(valid_times(generated, target, scale, self.threshold))

    def compute(self) -> Tensor:
        """Return the quantile, a scalar."""
        return dim_zero_cat(self.steps).double().quantile(self.quantile) / self.lyapunov_time


class _Mean(Metric):
    """The mean of what is added up in ``total``."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """Return the mean, a scalar; NaN before anything was added, infinite once a generated path was."""
        return self.total / self.count


class NRMSEAtLead(_Mean):
    """The root mean squared error at one lead time, in standard deviations; over batch and features.

    Args:
        lead: the step after the origin; 84 is usual for Mackey-Glass.
    """

    def __init__(self, lead: int = 84) -> None:
        super().__init__()
        self.lead = lead

    def update(self, generated: Tensor, target: Tensor, scale: Tensor) -> None:
        """Add forecasts ``(batch, horizon, feature)``; steps with an unknown target, NaN, do not count."""
        errors = (generated - target)[:, self.lead - 1].double() / scale
        known = ~target[:, self.lead - 1].isnan()
        self.total += torch.where(known, errors, 0.0).square().sum()
        self.count += known.sum()

    def compute(self) -> Tensor:
        """Return the error, a scalar; NaN before any known value."""
        return super().compute().sqrt()


class _MeanDistance(_Mean):
    """The mean of a distance of a generated path to the true one, over pairs of them."""

    def distance(self, generated: Tensor, truth: Tensor) -> Tensor:
        raise NotImplementedError

    def update(self, generated: Tensor, truth: Tensor) -> None:
        """Add a pair of long paths, ``(time, feature)`` each; 10,000 steps are usual."""
        self.total += self.distance(generated.double(), truth.double())
        self.count += 1


class SpectrumDistance(_MeanDistance):
    """D_H: the Hellinger distance of smoothed power spectra, from 0 to 1, the mean over the features.

    Args:
        smoothing: standard deviation of the Gaussian that smooths the spectra, in frequencies.
    """

    def __init__(self, smoothing: float = 20.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def distance(self, generated: Tensor, truth: Tensor) -> Tensor:
        """Return D_H of two paths ``(time, feature)``, of which the longer one is cut."""
        if not bool(generated.isfinite().all()):
            return torch.tensor(1.0, dtype=torch.float64)
        length = min(len(generated), len(truth))
        overlap = (self.spectrum(generated[:length]) * self.spectrum(truth[:length])).sqrt().sum(1)
        return (1 - overlap).clamp_min(0).sqrt().mean()

    def spectrum(self, path: Tensor) -> Tensor:
        """Return the normalised spectrum of each feature, ``(feature, frequency)``."""
        standard = (path - path.mean(0)) / (path.std(0, correction=0) + 1e-12)
        power = torch.fft.rfft(standard.T).abs().square()  # (feature, frequency)
        reach = min(int(4 * self.smoothing + 0.5), power.shape[1])
        weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / self.smoothing).square()).to(power)
        ends = power[:, :reach].flip(1), power[:, power.shape[1] - reach :].flip(1)
        padded = torch.cat([ends[0], power, ends[1]], 1)[:, None]
        smoothed = functional.conv1d(padded, (weights / weights.sum())[None, None])[:, 0]
        return smoothed / smoothed.sum(1, keepdim=True)


class StateSpaceDivergence(_MeanDistance):
    """D_stsp: the Kullback-Leibler divergence of the true from the generated occupation of state space.

    It is NaN for more than six features: of so many bins nearly all are empty, whatever the paths.

    Args:
        num_bins: bins of each feature, over the range of the truth; what lies outside does not count.
        pseudo_count: what is added to the count of each bin.
    """

    def __init__(self, num_bins: int = 30, pseudo_count: float = 1e-5) -> None:
        super().__init__()
        self.num_bins, self.pseudo_count = num_bins, pseudo_count

    def distance(self, generated: Tensor, truth: Tensor) -> Tensor:
        """Return D_stsp of two paths ``(time, feature)``; infinite if none of the generated one is finite."""
        if truth.shape[1] > MAX_BINNED:
            return torch.tensor(math.nan, dtype=torch.float64)
        finite = generated[generated.isfinite().all(1)]
        low, high = truth.amin(0), truth.amax(0)
        inside = finite[((finite >= low) & (finite <= high)).all(1)]
        if len(inside) == 0:
            return torch.tensor(math.inf, dtype=torch.float64)
        points = (torch.cat([truth, inside]) - low) / (high - low)
        bins = (points * self.num_bins).long().clamp_max(self.num_bins - 1)
        _, place = bins.unique(dim=0, return_inverse=True)
        num_used, num_all = int(place.max()) + 1, float(self.num_bins ** truth.shape[1])
        logs, weights = [], []
        for part in (place[: len(truth)], place[len(truth) :]):
            counts = torch.bincount(part, minlength=num_used).double() + self.pseudo_count
            empty = counts.new_full((1,), self.pseudo_count)  # one of the bins without a point of either
            share = torch.cat([counts, empty]) / (len(part) + num_all * self.pseudo_count)
            weights.append(share)
            logs.append(share.log())
        repeats = torch.ones_like(weights[0])
        repeats[-1] = num_all - num_used
        return (repeats * weights[0] * (logs[0] - logs[1])).sum()
