"""Generated series, each deterministic in its own seed."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rnn_lightning.data.series import Series, SeriesData
from rnn_lightning.errors import InputError


def require_positive(**counts: float) -> None:
    """Raise InputError unless every value is above zero; the keywords are the names the user typed."""
    for name, value in counts.items():
        if not value > 0:
            raise InputError(f"`{name}` must be above 0, got {value}.")


class SineSeries(Series):
    """Noisy sines ``amplitude * sin(2 pi t / period + phase) + noise`` of the time ``t``.

    Several series share the period, or go through a list of periods in turn, and differ in their phase.

    Args:
        num_steps: number of steps of each series.
        time_step: time between two steps; 400 steps of 0.2 reach from 0 to 80.
        period: length of one cycle in units of time, one for all series or a list that is repeated over the
            series; the default, 2 pi, is the plain sine of time.
        amplitude: height of the sine.
        phase: phase of the first series in radians; with several series, series ``i`` of ``n`` starts
            ``2 pi i / n`` later.
        noise: the noise is uniform in ``[-noise, noise)``.
        num_series: number of series.
        seed: seed of the noise.
    """

    def __init__(
        self,
        num_steps: int = 400,
        time_step: float = 0.2,
        period: float | list[float] = 2 * math.pi,
        amplitude: float = 1.0,
        phase: float = 0.0,
        noise: float = 0.1,
        num_series: int = 1,
        seed: int = 0,
    ) -> None:
        periods = list(period) if isinstance(period, Sequence) else [period]
        require_positive(num_steps=num_steps, time_step=time_step, num_series=num_series, amplitude=amplitude)
        require_positive(period=min(periods, default=0.0))
        if noise < 0:
            raise InputError(f"`noise` must not be negative, got {noise}.")
        self.num_steps, self.time_step, self.num_series = num_steps, time_step, num_series
        self.periods, self.amplitude, self.phase = periods, amplitude, phase
        self.noise, self.seed = noise, seed

    def clean(self, first_step: int, num_steps: int) -> Tensor:
        """The noise-free values, ``(series, time, 1)``, also beyond the end of the recording."""
        time = torch.arange(first_step, first_step + num_steps, dtype=torch.float64) * self.time_step
        index = torch.arange(self.num_series, dtype=torch.float64)[:, None]
        periods = [self.periods[i % len(self.periods)] for i in range(self.num_series)]
        cycles = time / torch.tensor(periods, dtype=torch.float64)[:, None] + index / self.num_series
        angle = 2 * math.pi * cycles + self.phase
        return (self.amplitude * torch.sin(angle))[..., None]

    def load(self) -> SeriesData:
        clean = self.clean(0, self.num_steps)
        uniform = torch.rand(
            clean.shape, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64
        )
        return SeriesData.from_equal(clean + self.noise * (2 * uniform - 1), frequency=self.time_step)


class RandomSeries(Series):
    """Independent uniform values in [0, 1): nothing but their mean can be predicted, the negative control.

    Args:
        num_series: number of series.
        num_steps: number of steps of each series.
        num_features: number of features.
        seed: seed of the values.
    """

    def __init__(
        self, num_series: int = 1000, num_steps: int = 10, num_features: int = 1, seed: int = 0
    ) -> None:
        require_positive(num_series=num_series, num_steps=num_steps, num_features=num_features)
        self.num_series, self.num_steps, self.num_features, self.seed = (
            num_series,
            num_steps,
            num_features,
            seed,
        )

    def load(self) -> SeriesData:
        generator = torch.Generator().manual_seed(self.seed)
        return SeriesData.from_equal(
            torch.rand(self.num_series, self.num_steps, self.num_features, generator=generator)
        )


class LinearSeries(Series):
    """Arithmetic sequences such as 1, 2, 3, 4, 5, with the start and the slope drawn uniformly from ranges.

    Args:
        num_series: number of series.
        num_steps: number of steps of each series.
        min_start: smallest first value.
        max_start: largest first value.
        min_slope: smallest difference of two steps.
        max_slope: largest difference of two steps.
        seed: seed of the starts and slopes.
    """

    def __init__(
        self,
        num_series: int = 200,
        num_steps: int = 20,
        min_start: float = -10.0,
        max_start: float = 10.0,
        min_slope: float = -2.0,
        max_slope: float = 2.0,
        seed: int = 0,
    ) -> None:
        require_positive(num_series=num_series, num_steps=num_steps)
        for name, low, high in (("start", min_start, max_start), ("slope", min_slope, max_slope)):
            if low > high:
                raise InputError(f"`min_{name}` {low} must not exceed `max_{name}` {high}.")
        self.num_series, self.num_steps, self.seed = num_series, num_steps, seed
        self.min_start, self.max_start = min_start, max_start
        self.min_slope, self.max_slope = min_slope, max_slope

    def load(self) -> SeriesData:
        generator = torch.Generator().manual_seed(self.seed)
        uniform = torch.rand(2, self.num_series, 1, dtype=torch.float64, generator=generator)
        start = self.min_start + (self.max_start - self.min_start) * uniform[0]
        slope = self.min_slope + (self.max_slope - self.min_slope) * uniform[1]
        return SeriesData.from_equal((start + slope * torch.arange(self.num_steps))[..., None])
