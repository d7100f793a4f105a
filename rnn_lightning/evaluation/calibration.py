"""Which forecasts of known values intervals are calibrated by. No Lightning."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rnn_lightning.data.batch_loaders import BatchLoader
from rnn_lightning.data.batches import ForecastBatch, scored_batch
from rnn_lightning.data.series import SeriesData
from rnn_lightning.data.windows import Segments, scored_windows, split_by_time

PART, HORIZONS = 0.25, 2
"""The part of a series, and the horizons at most, that a network which was never trained calibrates on."""

MAX_STEPS, MIN_ORIGINS = 2**15, 64
"""Steps of all contexts and horizons of a calibration, and origins at least, where there are more."""


@dataclass(frozen=True)
class Calibration:
    """Forecasts from origins in given steps of series.

    Origins that follow each other closely have much the same errors: where there are many, some are left out.
    Where series are short, so are contexts, for the sake of more origins.

    Attributes:
        data: the series.
        segments: the steps to forecast, which the network was not trained on.
        context_length: known steps before each origin.
        horizon: steps of a forecast; those beyond a segment are not known.
        season: steps of a season, 1 for none.
        nonnegative: ``(feature,)``, whether no value is negative.
        min_context_length: steps of a context that must lie within the series, where the others may not; at
            most ``context_length``.
        batch_size: forecasts at once.
        rank: number of this device.
        world_size: number of devices.
    """

    data: SeriesData
    segments: Segments
    context_length: int
    horizon: int
    season: int
    nonnegative: Tensor
    min_context_length: int | None = None
    batch_size: int = 256
    rank: int = 0
    world_size: int = 1

    @property
    def origin_step(self) -> int:
        """Steps between two origins: 1 where there are few."""
        total = int((self.segments.end - self.segments.start).sum())
        return max(1, math.ceil(total / self.num_origins))

    @property
    def num_origins(self) -> int:
        """Origins that are worth their cost."""
        return max(MIN_ORIGINS, MAX_STEPS // (self.context_length + self.horizon))

    def loader(self) -> BatchLoader[ForecastBatch]:
        """The forecasts in batches."""
        sizes = (self.context_length, self.horizon)
        windows = scored_windows(self.segments, *sizes, self.origin_step, self.min_context_length)
        # Of series that are more than the origins, each has one, and only some are taken.
        number = min(len(windows), 2 * self.num_origins)
        chosen = torch.linspace(0, len(windows) - 1, number).long()
        make_batch = partial(scored_batch, self.data, self.segments, windows, *sizes, None, None, 0)
        return BatchLoader(
            lambda items: make_batch(chosen[items]), number, self.batch_size, self.rank, self.world_size
        )


def last_steps(first: Tensor, ends: Tensor, horizon: int) -> Segments:
    """What a network that was never trained calibrates on, of series from ``first (series,)`` to ``ends``."""
    return split_by_time(first, ends, PART, 0.0, HORIZONS * horizon)["val"]


def never_negative(pieces: Iterable[Tensor]) -> Tensor:
    """Of which features no value is negative, ``(feature,)``, of pieces ``(time, feature)``."""
    least = [piece.nan_to_num(0.0).amin(0) for piece in pieces if len(piece)]
    return torch.stack(least).amin(0) >= 0
