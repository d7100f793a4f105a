"""What a network has learned of a dynamical system: valid time, error growth, attractor and spectrum."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rnn_lightning.data.windows import ForecastBatch, forecast_batch, forecast_starts
from rnn_lightning.dynamics.metrics import SpectrumDistance, StateSpaceDivergence, valid_times
from rnn_lightning.rollout import rollout

NUM_FORECASTS, MAX_STEPS = 40, 10_000
"""Forecasts that start all over the test split, and the longest free run."""


@dataclass(frozen=True)
class Measured:
    """What a network has learned of a dynamical system.

    Attributes:
        errors: ``(forecast, horizon)``, the norm of each error in standard deviations; NaN where unknown.
        valid: ``(forecast,)``, steps before an error exceeds 0.4 standard deviations.
        lyapunov_time: steps in a Lyapunov time, or None if it is not known.
        truth: ``(horizon, feature)``, what followed the forecast of median valid time.
        forecast: that forecast, of the same shape.
        recording: ``(time, feature)``, the series.
        generated: ``(time, feature)``, one long free run.
        features: names of the features.
    """

    errors: Tensor
    valid: Tensor
    lyapunov_time: float | None
    truth: Tensor
    forecast: Tensor
    recording: Tensor
    generated: Tensor
    features: list[str]

    @property
    def distances(self) -> tuple[float, float]:
        """D_stsp and D_H of the long free run from the recording."""
        divergence, spectrum = StateSpaceDivergence(), SpectrumDistance()
        pair = self.generated, self.recording
        return float(divergence.distance(*pair)), float(spectrum.distance(*pair))

    def text(self) -> str:
        """Return the numbers in two lines."""
        steps, horizon = float(self.valid.double().median()), self.errors.shape[1]
        times = f" ({steps / self.lyapunov_time:.2f} Lyapunov times)" if self.lyapunov_time else ""
        held = int((self.valid == horizon).sum())
        end = f", {held} of them to the end of their {horizon} steps" if held else ""
        divergence, spectrum = self.distances
        of_attractor = "no D_stsp" if math.isnan(divergence) else f"D_stsp {divergence:.2f}"
        return (
            f"Dynamics: forecasts hold for {self.valid_text}{times}, the median of {len(self.valid)}{end}.\n"
            f"A free run of {len(self.generated):,} steps: {of_attractor}, D_H {spectrum:.3f}, the "
            "distances of its attractor and of its power spectrum from those of the series."
        )

    @property
    def valid_text(self) -> str:
        """The median valid time, ``at least`` where forecasts end before it."""
        steps = float(self.valid.double().median())
        return f"{'at least ' if steps == self.errors.shape[1] else ''}{steps:g} steps"


@torch.no_grad()
def measure(network: Any, data: Any) -> Measured:
    """Return what a fitted network has learned of the one series of a data module, after its ``setup``."""
    batch = spread_forecasts(data).to(network.readout.weight.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a free run that leaves the finite numbers
        generated = rollout(network, batch.context, batch.horizon, traits=batch.traits).double().cpu()
        num_steps, traits = min(MAX_STEPS, len(data.data.values)), batch.traits
        first = {name: trait[:1] for name, trait in traits.items()}
        long = rollout(network, batch.context[:1], num_steps, traits=first)[0].double().cpu()
    target, scale = batch.target.double().cpu(), batch.scale.double().cpu()
    size = scale.square().sum(-1).sqrt()[:, None]  # (forecast, 1)
    errors = (generated - target).square().sum(-1).sqrt() / size
    valid = valid_times(generated, target, scale)
    middle = int(valid.argsort()[len(valid) // 2])
    recording = data.data.series(0)[:MAX_STEPS].double()
    known = recording[~recording.isnan().any(1)]
    return Measured(
        errors.masked_fill(target.isnan().any(-1), torch.nan),
        valid,
        data.series.lyapunov_time,
        target[middle],
        generated[middle],
        known,
        long,
        list(data.data.features),
    )


def spread_forecasts(data: Any) -> ForecastBatch:
    """Return forecasts that start all over the test split and are half as long as it."""
    segments = data.segments["test"]
    horizon = max(1, min(int(segments.lengths.max()) // 2, MAX_STEPS))
    last = torch.maximum(segments.end - horizon, segments.start) + 1  # forecasts that end in the split
    every = forecast_starts(segments._replace(end=last), data.context_length, horizon, 1)
    items = torch.linspace(0, len(every) - 1, min(NUM_FORECASTS, len(every))).round().long()
    return forecast_batch(data.data, segments, every, data.context_length, horizon, None, 0, items)
