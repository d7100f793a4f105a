"""Series, splits and batches, put together from plain sizes, without Lightning."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from rnn_lightning.data.array import ArraySeries
from rnn_lightning.data.series import Series, SeriesData
from rnn_lightning.data.windows import (
    BatchLoader,
    Chunks,
    ForecastBatch,
    Segments,
    Split,
    Windows,
    forecast_batch,
    forecast_starts,
    future_batch,
    split_by_series,
    split_by_time,
    training_starts,
)
from rnn_lightning.devices import work_at_once
from rnn_lightning.errors import InputError, require_counts

if TYPE_CHECKING:
    Source = Series | np.ndarray
else:
    Source = Series  # the command line knows classes alone

FORECAST_STEPS = 2**15
"""Steps of contexts, horizons and paths in a batch of forecasts on a CPU, or ``batch_size`` forecasts."""


class SequenceBatches:
    """Training windows and forecast batches of series.

    Each series is split by time: the earliest steps are for training, the next for validation, the last for
    testing. No step is scored in two splits; only contexts reach back. Whole series can be split instead.

    Args:
        series: source of the values; in Python also a NumPy array.
        context_length: number of known steps that warm up the state before the scored steps of a window, or
            before a forecast.
        scored_length: number of scored steps of a training window, after the context.
        stride: steps between the starts of two consecutive training windows of a series.
        horizon: number of steps to forecast.
        batch_size: windows per batch on each device; the minimum number of forecasts per batch.
        split_by: ``time`` to split each series, ``series`` to split the set of series.
        val_fraction: fraction of the steps, or series, to validate on.
        test_fraction: fraction of the steps, or series, to test on: the last ones.
        num_batches_per_epoch: batches per epoch, after which the fit validates; epochs go through the windows
            in random order, again and again. None for one pass over all windows.
        num_samples: sampled paths per forecast in predict and test; None for point forecasts only.
        seed: seed of the order of the windows and of the sampled paths.

    Attributes:
        data: the series, after ``setup``.
        segments: the steps of each split, after ``setup``.
        trains_on_all: train on the validation split too, in loaders made afterwards.
        forecaster: the network that the batches are for, which may ask for more context; None if unknown.
        devices: the index of this device, and the number of all devices.
        device: this device.
        first_series: number of series on the machines before this one, if each has its own.
    """

    data: SeriesData
    segments: dict[Split, Segments]
    trains_on_all = False
    forecaster: Any = None
    devices: tuple[int, int] = (0, 1)
    device = torch.device("cpu")
    first_series = 0

    def __init__(
        self,
        series: Source,
        context_length: int = 24,
        scored_length: int = 24,
        stride: int = 1,
        horizon: int = 24,
        batch_size: int = 32,
        split_by: Literal["time", "series"] = "time",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        num_batches_per_epoch: int | None = 200,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(series, type):
            raise InputError(f"`series` is the class {series.__name__}: give a series, {series.__name__}().")
        self.series = series if isinstance(series, Series) else ArraySeries(series)
        self.num_features, self.num_covariates = self.series.num_features, self.series.num_covariates
        require_counts(
            context_length=context_length,
            scored_length=scored_length,
            stride=stride,
            horizon=horizon,
            batch_size=batch_size,
            num_batches_per_epoch=num_batches_per_epoch,
            num_samples=num_samples,
        )
        if split_by not in ("time", "series"):
            raise InputError(f"`split_by` must be time or series, got {split_by!r}.")
        require_fractions(val_fraction, test_fraction)
        self.context_length, self.scored_length, self.stride = context_length, scored_length, stride
        self.horizon, self.batch_size, self.split_by = horizon, batch_size, split_by
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.num_batches_per_epoch, self.num_samples, self.seed = num_batches_per_epoch, num_samples, seed
        self.keep_arguments()

    def keep_arguments(self) -> None:
        """Keep the arguments for a checkpoint, in a class that is saved in one."""

    def setup(self, stage: str) -> None:
        """Load the series once, split them, and refuse what leaves nothing to do."""
        if not hasattr(self, "data"):
            self.data = self.load()
        self.segments = self.split()
        if stage == "fit" and len(self.training_starts()) == 0:
            raise InputError(
                "no series has two steps to train on: lower `val_fraction` and `test_fraction`, or give more."
            )
        splits: dict[str, Split] = {"fit": "val", "validate": "val", "test": "test"}
        split = splits.get(stage)
        wanted = split and (split == "test" or self.val_fraction > 0)
        if split and wanted and len(self.forecast_starts(split)) == 0:
            name = f"`{split}_fraction`"
            fraction = getattr(self, f"{split}_fraction")
            raise InputError(f"{name} {fraction} leaves no step to forecast after a context: raise {name}.")

    def load(self) -> SeriesData:
        """Load and check the series."""
        data = self.series.load()
        if not isinstance(data, SeriesData):
            rule = "must return SeriesData, such as SeriesData.from_equal(values)"
            raise InputError(f"{type(self.series).__name__}.load {rule}, got {type(data).__name__}.")
        data.validate()
        covariates = data.covariates_at(torch.zeros(1, dtype=torch.long))
        given = {"num_features": data.values.shape[1]}
        given["num_covariates"] = 0 if covariates is None else covariates.shape[-1]
        for name, size in given.items():
            if size != (own := getattr(self.series, name)):
                what = f"{type(self.series).__name__}.load() gives {size} {name.removeprefix('num_')}"
                raise InputError(f"{what}, and its {name} says {own}: correct one of them.")
        return data

    def split(self) -> dict[Split, Segments]:
        """Return the steps of each split."""
        cut = split_by_series if self.split_by == "series" else split_by_time
        return cut(self.data.offsets[:-1], self.data.ends, self.val_fraction, self.test_fraction)

    def training_segments(self) -> Segments:
        """Return the steps to train on."""
        train, val = self.segments["train"], self.segments["val"]
        if not self.trains_on_all:
            return train
        if self.split_by == "time":
            return train._replace(end=val.end)
        return Segments(*(torch.cat(parts) for parts in zip(train, val, strict=True)))

    def training_starts(self) -> Windows:
        """Return the starts of the training windows in ``training_segments``."""
        lengths = (self.context_length, self.scored_length, self.stride)
        return training_starts(self.training_segments(), *lengths)

    def horizon_of(self, split: Split) -> int:
        """Return the horizon or, where all parts of a held-out split are shorter, the longest of them."""
        lengths = self.segments[split].lengths
        return max(1, min(self.horizon, int(lengths.max()) if len(lengths) else 0))

    def forecast_starts(self, split: Split) -> Windows:
        """Return the starts of the forecasts of a held-out split, which score each of its steps once."""
        return forecast_starts(self.segments[split], self.context_length, self.horizon_of(split))

    def num_forecasts(self, split: Split) -> int:
        """Return the number of forecasts of a held-out split, on all machines."""
        return len(self.forecast_starts(split))

    @property
    def forecast_context(self) -> int:
        """Known steps before each forecast, ``context_length`` or more."""
        return self.context_length

    def train_series(self) -> Iterable[torch.Tensor]:
        """Return the training part of every series, in chunks ``(time, feature)``."""
        return Chunks(lambda rows: self.data.values[rows].float(), self.segments["train"])

    def train_covariates(self) -> Iterable[torch.Tensor]:
        """Return the covariates of the training part of every series, in chunks ``(time, covariate)``."""
        read: Any = self.data.covariates_at
        return Chunks(read, self.segments["train"]) if self.num_covariates else ()

    def val_dataloader(self) -> BatchLoader[ForecastBatch] | list[Any]:
        return self.forecast_loader("val") if self.val_fraction > 0 and not self.trains_on_all else []

    def test_dataloader(self) -> BatchLoader[ForecastBatch]:
        return self.forecast_loader("test", self.num_samples)

    def predict_dataloader(self) -> BatchLoader[ForecastBatch]:
        """Return the forecasts of what follows each series."""
        settings = (self.forecast_context, self.horizon, self.num_samples, self.seed)
        cut = partial(future_batch, self.data, *settings)
        return self.in_order(cut, self.data.num_series, self.horizon)

    def forecast_loader(self, split: Split, num_samples: int | None = None) -> BatchLoader[ForecastBatch]:
        """Return the forecasts of a held-out split with what followed them."""
        windows, horizon = self.forecast_starts(split), self.horizon_of(split)
        settings = (self.forecast_context, horizon, num_samples, self.seed)
        windows = windows.earlier(self.forecast_context - self.context_length)
        cut = partial(forecast_batch, self.data, self.segments[split], windows, *settings)
        return self.in_order(cut, len(windows), horizon)

    def in_order(self, cut: Any, num_items: int, horizon: int) -> BatchLoader[ForecastBatch]:
        """Return a loader of forecasts in large batches: a step costs about the same for any batch."""
        num_steps = (self.forecast_context + horizon) * (self.num_samples or 1)
        steps_at_once = work_at_once(FORECAST_STEPS, self.device)
        batch_size = max(self.batch_size, steps_at_once // (num_steps * self.num_features))
        return BatchLoader(cut, num_items, batch_size, self.devices)

    def __repr__(self) -> str:
        what = f"horizon {self.horizon}, context {self.context_length} steps, batches of {self.batch_size}"
        return f"{type(self).__name__}: {what}\n  {getattr(self, 'data', self.series)!r}"


def require_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raise InputError unless both fractions and what they leave for training make sense."""
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 <= fraction < 1:
            raise InputError(f"`{name}` must be at least 0 and below 1, got {fraction}.")
    if val_fraction + test_fraction >= 1:
        raise InputError(
            f"`val_fraction` {val_fraction} and `test_fraction` {test_fraction} leave nothing to train on: "
            "their sum must be below 1."
        )
