"""Series, windows and loaders, put together for the Trainer."""

import tempfile
import uuid
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch import Tensor

from rnn_lightning.errors import InputError
from rnn_lightning.loaders import BatchLoader, ForecastBatch, ShuffledLoader, WindowBatch
from rnn_lightning.series import Series, SeriesData
from rnn_lightning.windows import (
    Segments,
    Split,
    Windows,
    require_fractions,
    scored_windows,
    split_by_series,
    split_by_time,
    training_windows,
)


class SequenceDataModule(L.LightningDataModule):
    """Windows of series to train on, and forecasts to make of them.

    Each series is split by time: its earliest steps are trained on, the next ones validate, the last ones test; no step is
    scored in two splits, only contexts reach back. Short series can be split as wholes instead.

    Args:
        series: where the values come from.
        context_length: known steps that warm the state up, before the loss counts in a window and before generation in
            a forecast.
        scored_length: steps of a training window on which the loss counts, after the context.
        stride: steps between the starts of two training windows of a series.
        horizon: steps to generate in a forecast.
        batch_size: windows or forecasts in a batch, on each device.
        split_by: split each series by time, or the set of series.
        val_fraction: fraction of the steps, or series, to validate on.
        test_fraction: fraction of the steps, or series, to test on: the last ones.
        num_batches_per_epoch: batches in an epoch, after which the fit validates; the windows are gone through in a random
            order, again and again. None for an epoch of one pass over all windows.
        num_samples: sampled paths for each forecast at predict, which give its intervals; none by default.
        seed: seed of the order of the windows and of the sampled paths.
    """

    def __init__(
        self,
        series: Series,
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
        counts: dict[str, int | None] = {
            "context_length": context_length,
            "scored_length": scored_length,
            "stride": stride,
        }
        counts |= {"horizon": horizon, "batch_size": batch_size}
        counts |= {"num_samples": num_samples, "num_batches_per_epoch": num_batches_per_epoch}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise InputError(f"--data.{name} must be at least 1, got {count}.")
        require_fractions(val_fraction, test_fraction)
        self.series, self.num_features = series, series.num_features
        self.context_length, self.scored_length, self.stride = context_length, scored_length, stride
        self.horizon, self.batch_size, self.split_by = horizon, batch_size, split_by
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.num_batches_per_epoch, self.num_samples, self.seed = num_batches_per_epoch, num_samples, seed
        self._data: SeriesData | None = None
        self._position = 0
        # Under the CLI, what makes the series is plain and is kept; an object would make the checkpoint unsafe to load.
        self.save_hyperparameters()
        if isinstance(self.hparams.get("series"), Series):
            del self.hparams["series"]

    @property
    def data(self) -> SeriesData:
        """All values, after ``setup``."""
        if self._data is None:
            raise RuntimeError("call setup() first")
        return self._data

    def setup(self, stage: str) -> None:
        if self._data is None:
            several = self.trainer is not None and self.trainer.num_devices > 1
            self._data = self._load_once(self.trainer) if several else self._load()  # type: ignore[arg-type]
            split = split_by_time if self.split_by == "time" else split_by_series
            self.segments = split(self._data.offsets, self.val_fraction, self.test_fraction)
        if stage == "fit":
            self._require_windows()
        if stage == "predict":
            self._require_context()
        if stage in ("fit", "validate") and self.val_fraction > 0:
            self._require_forecasts("val")
        if stage == "test":
            self._require_forecasts("test")

    def train_series(self) -> list[Tensor]:
        """The training part of every series, each ``(time, feature)``: views."""
        segments = self.segments["train"]
        spans = zip(segments.start.tolist(), segments.end.tolist(), strict=True)
        return [self.data.values[start:end] for start, end in spans if end > start]

    def train_dataloader(self) -> ShuffledLoader[WindowBatch]:
        windows = self._training_windows()

        def make_batch(items: Tensor) -> WindowBatch:
            _, start = windows.locate(items)
            steps = start[:, None] + torch.arange(self.context_length + self.scored_length)
            return WindowBatch(self.data.values[steps], self.context_length)

        loader = ShuffledLoader(
            make_batch,
            len(windows),
            self.batch_size,
            *self._devices(),
            num_batches=self.num_batches_per_epoch,
            seed=self.seed,
        )
        trained = self.trainer.fit_loop.epoch_loop.batch_progress.total if self.trainer is not None else None
        loader.position = max(self._position, trained.processed if trained is not None else 0)  # type: ignore[attr-defined]
        return loader

    def val_dataloader(self) -> BatchLoader[ForecastBatch] | list[Any]:
        return self._forecast_loader("val") if self.val_fraction > 0 else []

    def test_dataloader(self) -> BatchLoader[ForecastBatch]:
        return self._forecast_loader("test")

    def predict_dataloader(self) -> BatchLoader[ForecastBatch]:
        data = self.data

        def make_batch(items: Tensor) -> ForecastBatch:
            steps = data.offsets[items + 1][:, None] + torch.arange(-self.context_length, 0)
            unknown = data.values.new_full((1, 1, 1), torch.nan).expand(len(items), self.horizon, self.num_features)
            origin = data.lengths[items] - 1
            return ForecastBatch(data.values[steps], unknown, items, origin, self.num_samples, self.seed)

        return BatchLoader(make_batch, data.num_series, self.batch_size, *self._devices())

    def state_dict(self) -> dict[str, Any]:
        """The number of batches trained on, so that a resumed fit sees those an uninterrupted one would have seen."""
        if self.trainer is None:
            return {}
        total = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return {"position": total.processed}  # type: ignore[attr-defined]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._position = state_dict.get("position", 0)

    def _load(self) -> SeriesData:
        data = self.series.load()
        data.validate()
        if data.values.shape[1] != self.num_features:
            raise InputError(
                f"{type(self.series).__name__}.load() gives {data.values.shape[1]} features, and its num_features says "
                f"{self.num_features}: correct one of them."
            )
        return data

    def _load_once(self, trainer: L.Trainer) -> SeriesData:
        """One process of each machine loads the values; all of them map its file, gone from disk by then, into memory."""
        path = Path(tempfile.gettempdir(), trainer.strategy.broadcast(f"rnn-lightning-{uuid.uuid4().hex}.pt"))
        try:
            try:
                if trainer.local_rank == 0:
                    torch.save(self._load(), path)
            finally:
                trainer.strategy.barrier("values loaded")
            if not path.exists():
                raise InputError("the first process of this machine could not load the series: see its message.")
            data: SeriesData = torch.load(path, mmap=True, weights_only=False)
            trainer.strategy.barrier("values mapped")
            return data
        finally:
            if trainer.local_rank == 0:
                path.unlink(missing_ok=True)

    def _devices(self) -> tuple[int, int]:
        """The number of this device and of all."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _training_windows(self) -> Windows:
        return training_windows(self.segments["train"], self.context_length + self.scored_length, self.stride)

    def _forecast_windows(self, split: Split) -> Windows:
        return scored_windows(self.segments[split], self.context_length, self._split_horizon(split))

    def _split_horizon(self, split: Split) -> int:
        """The horizon, or where all held-out parts are shorter, the longest of them."""
        segments: Segments = self.segments[split]
        longest = int((segments.end - segments.start).max()) if len(segments.start) else 0
        return max(1, min(self.horizon, longest))

    def _forecast_loader(self, split: Split) -> BatchLoader[ForecastBatch]:
        """Forecasts that score every step of a split once; beyond its end the target is NaN."""
        windows, segments = self._forecast_windows(split), self.segments[split]
        horizon, last = self._split_horizon(split), len(self.data.values) - 1

        def make_batch(items: Tensor) -> ForecastBatch:
            segment, start = windows.locate(items)
            steps = start[:, None] + torch.arange(self.context_length + horizon)
            values = self.data.values[steps.clamp_max(last)]
            values[steps >= segments.end[segment][:, None]] = torch.nan
            context, target = values[:, : self.context_length], values[:, self.context_length :]
            origin = start + self.context_length - 1 - segments.first[segment]
            return ForecastBatch(context, target, segments.series[segment], origin)

        return BatchLoader(make_batch, len(windows), self.batch_size, *self._devices())

    def _require_windows(self) -> None:
        segments = self.segments["train"]
        lengths = segments.end - segments.start
        needed = self.context_length + self.scored_length
        if len(lengths) == 0:
            raise InputError(
                f"--data.val_fraction {self.val_fraction} and --data.test_fraction {self.test_fraction} leave none of the "
                f"{self.data.num_series} series to train on: lower them, or set --data.split_by time."
            )
        short = (lengths < needed).nonzero()[:, 0]
        if len(short):
            index = int(short[0])
            whole = int(self.data.lengths[index])
            raise InputError(
                f"series {self.data.ids[index]!r} has {whole} steps, {int(lengths[index])} of them to train on, fewer than "
                f"one window of --data.context_length {self.context_length} + --data.scored_length {self.scored_length} = "
                f"{needed}: lower these, or --data.val_fraction and --data.test_fraction, or set --data.split_by series "
                f"to split whole series ({len(short)} of {len(lengths)} series are too short)."
            )

    def _require_forecasts(self, split: Literal["val", "test"]) -> None:
        if len(self._forecast_windows(split)) == 0:
            name = f"--data.{split}_fraction"
            raise InputError(
                f"{name} {getattr(self, f'{split}_fraction')} leaves no step to forecast after --data.context_length "
                f"{self.context_length} known ones: raise {name} or lower the context."
            )

    def _require_context(self) -> None:
        lengths = self.data.lengths
        if int(lengths.min()) < self.context_length:
            index = int(lengths.argmin())
            raise InputError(
                f"series {self.data.ids[index]!r} has {int(lengths[index])} steps, fewer than --data.context_length "
                f"{self.context_length}: lower it."
            )
