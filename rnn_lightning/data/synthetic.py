"""Generated series, each deterministic in its own seed."""

import math

import torch
from torch import Tensor

from rnn_lightning.data.series import Series, SeriesData
from rnn_lightning.errors import InputError


def require_positive(**sizes: float) -> None:
    """Raise InputError unless every value is above zero; the keywords are the argument names."""
    for name, size in sizes.items():
        if not size > 0:
            raise InputError(f"`{name}` must be above 0, got {size}.")


class SineSeries(Series):
    """Noisy sines ``amplitude * sin(2 pi t / period) + noise`` of the time ``t``.

    Several series share one period, or take the periods of a list in turn; series ``i`` of ``n`` starts
    ``i / n`` of its period later.

    Args:
        num_steps: number of steps of each series.
        time_step: time between two steps; 400 steps of 0.2 reach from 0 to 80.
        period: length of a cycle in units of time, one for all series or a list that the series take in turn;
            the default, 2 pi, gives the plain sine of time.
        amplitude: amplitude of the sine.
        noise: half the width of the noise, which is uniform in ``[-noise, noise)``.
        num_series: number of series.
        seed: seed of the noise.
    """

    def __init__(
        self,
        num_steps: int = 400,
        time_step: float = 0.2,
        period: float | list[float] = 2 * math.pi,
        amplitude: float = 1.0,
        noise: float = 0.1,
        num_series: int = 1,
        seed: int = 0,
    ) -> None:
        periods = list(period) if isinstance(period, list | tuple) else [period]
        require_positive(num_steps=num_steps, time_step=time_step, num_series=num_series, amplitude=amplitude)
        require_positive(period=min(periods, default=0.0))
        if not noise >= 0:
            raise InputError(f"`noise` must not be negative, got {noise}.")
        self.num_steps, self.time_step, self.num_series = num_steps, time_step, num_series
        self.periods, self.amplitude, self.noise, self.seed = periods, amplitude, noise, seed

    def clean(self, first_step: int, num_steps: int) -> Tensor:
        """Return the noise-free values, ``(series, time, 1)``, also beyond the end of the recording."""
        time = torch.arange(first_step, first_step + num_steps, dtype=torch.float64) * self.time_step
        index = torch.arange(self.num_series, dtype=torch.float64)[:, None]  # (series, 1)
        periods = [self.periods[i % len(self.periods)] for i in range(self.num_series)]
        cycles = time / torch.tensor(periods, dtype=torch.float64)[:, None] + index / self.num_series
        return (self.amplitude * torch.sin(2 * math.pi * cycles))[..., None]

    def load(self) -> SeriesData:
        clean, generator = self.clean(0, self.num_steps), torch.Generator().manual_seed(self.seed)
        uniform = torch.rand(clean.shape, generator=generator, dtype=torch.float64)
        values = clean + self.noise * (2 * uniform - 1)
        return SeriesData.from_equal(values.float(), frequency=self.time_step)


class RandomSeries(Series):
    """Independent uniform values in [0, 1), a negative control: only their mean can be predicted.

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
        self.num_series, self.num_steps, self.num_features = num_series, num_steps, num_features
        self.seed = seed

    def load(self) -> SeriesData:
        shape, generator = (self.num_series, self.num_steps, self.num_features), torch.Generator()
        return SeriesData.from_equal(torch.rand(shape, generator=generator.manual_seed(self.seed)))


class LinearSeries(Series):
    """Arithmetic sequences such as 1, 2, 3, 4, 5, with the start and the slope drawn uniformly from ranges.

    Args:
        num_series: number of series.
        num_steps: number of steps of each series.
        min_start: smallest first value.
        max_start: largest first value.
        min_slope: smallest change from one step to the next.
        max_slope: largest change from one step to the next.
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
            if not low <= high:
                raise InputError(f"`min_{name}` {low} must not exceed `max_{name}` {high}.")
        self.num_series, self.num_steps, self.seed = num_series, num_steps, seed
        self.min_start, self.max_start = min_start, max_start
        self.min_slope, self.max_slope = min_slope, max_slope

    def load(self) -> SeriesData:
        generator = torch.Generator().manual_seed(self.seed)
        uniform = torch.rand(2, self.num_series, 1, dtype=torch.float64, generator=generator)
        start = self.min_start + (self.max_start - self.min_start) * uniform[0]  # (series, 1)
        slope = self.min_slope + (self.max_slope - self.min_slope) * uniform[1]
        values = start + slope * torch.arange(self.num_steps)  # (series, time)
        return SeriesData.from_equal(values[..., None].float())
