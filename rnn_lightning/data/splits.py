"""What of the series is trained on, validates and tests: their steps, windows, and forecasts to make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from rnn_lightning.data.windows import (
    Segments,
    Split,
    Windows,
    rolling_windows,
    scored_windows,
    training_windows,
)

MAX_ORIGINS = 3
"""Forecasts of each series in a test, where no number is given."""


@dataclass(frozen=True)
class Splits:
    """The steps of each split, and how windows and forecasts are cut from them.

    Attributes:
        segments: the steps of each split.
        context_length, scored_length, horizon, stride, min_context_length, num_origins, origin_step: see
            ``SequenceDataModule``.
        seasons: the seasons in steps, shortest first.
        of_whole_series: whole series are in one split.
        trains_on_all: what validates is trained on as well.
    """

    segments: Mapping[Split, Segments]
    context_length: int
    scored_length: int
    horizon: int
    stride: int
    min_context_length: int | None
    num_origins: int | None
    origin_step: int | None
    seasons: Sequence[int]
    of_whole_series: bool
    trains_on_all: bool

    def training_segments(self) -> Segments:
        """What is trained on; of series that are split by time, that is one run in either case."""
        train, val = self.segments["train"], self.segments["val"]
        if not self.trains_on_all:
            return train
        if self.of_whole_series:
            return Segments(*(torch.cat(parts) for parts in zip(train, val, strict=True)))
        return train._replace(end=val.end)

    def training_windows(self) -> Windows:
        """The windows to train on."""
        lengths = (self.context_length, self.scored_length, self.stride, self.min_context_length)
        return training_windows(self.training_segments(), *lengths)

    def forecast_windows(self, split: Split) -> Windows:
        """The forecasts to make of a held-out split: of the last origins to test, else of each step once."""
        segments, horizon = self.segments[split], self.horizon_of(split)
        if split != "test":
            return scored_windows(segments, self.context_length, horizon)
        longest = self._longest(split)
        step = self.origin_step or (horizon if longest >= 2 * horizon else min((*self.seasons, horizon)))
        return rolling_windows(segments, self.context_length, horizon, self.num_origins or MAX_ORIGINS, step)

    def horizon_of(self, split: Split) -> int:
        """The horizon, or where all parts of a held-out split are shorter, the longest of them."""
        return max(1, min(self.horizon, self._longest(split)))

    def counts(self, held_out: Sequence[Split]) -> dict[str, dict[str, int]]:
        """What there is to train on, and to forecast in the held-out splits, for a summary."""
        lengths, length = self._lengths("train"), self.context_length + self.scored_length
        counts = {
            "train": {
                "series": int((lengths > 0).sum()),
                "steps": int(lengths.sum()),
                "windows": len(self.training_windows()),
                "window_length": length,
                "padded_series": int(((lengths >= 2) & (lengths < length)).sum()),
                "unused_series": int((lengths == 1).sum()),
            }
        }
        for split in held_out:
            lengths = self._lengths(split)
            counts[split] = {
                "series": int((lengths > 0).sum()),
                "steps": int(lengths.sum()),
                "forecasts": len(self.forecast_windows(split)),
                "horizon": self.horizon_of(split),
            }
        return counts

    def _lengths(self, split: Split) -> torch.Tensor:
        return self.segments[split].end - self.segments[split].start

    def _longest(self, split: Split) -> int:
        lengths = self._lengths(split)
        return int(lengths.max()) if len(lengths) else 0
