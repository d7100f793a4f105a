"""Series, windows and loaders, put together for the Trainer."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor

from rnn_lightning.data.array import ArraySeries
from rnn_lightning.data.batch_loaders import BatchLoader, EndlessLoader, ShuffledLoader
from rnn_lightning.data.batches import (
    ForecastBatch,
    WindowBatch,
    future_batch,
    require_future,
    scored_batch,
    training_batch,
    without_incomplete,
)
from rnn_lightning.data.series import Series, SeriesData, counted
from rnn_lightning.data.splits import Splits
from rnn_lightning.data.windows import (
    Segments,
    Split,
    require_fractions,
    split_by_series,
    split_by_time,
)
from rnn_lightning.errors import InputError
from rnn_lightning.pretrained.prior import PriorSeries
from rnn_lightning.tables.default_sizes import BATCH_SIZES, HORIZON, SIZES, VAL_FRACTION, auto_sizes
from rnn_lightning.tables.load_series import Pieces, load, load_once
from rnn_lightning.tables.seasons import find_seasons, given_seasons
from rnn_lightning.tables.storage import require_memory
from rnn_lightning.tables.table import TableSeries

if TYPE_CHECKING:
    from rnn_lightning.tables.table import Table

    Source: TypeAlias = Series | Table | np.ndarray
else:
    Source = Series  # the command line knows classes alone

MIN_CONTEXT = 16
"""The context of a forecast is not cut below this to the length of the longest series."""

MAX_COUNT = 2**48
"""The most steps, windows and paths that can be asked for: positions in the data are integers of 64 bits."""

BLOCK_NUMBERS, MAX_TOGETHER = 2**18, 16
"""Training batches are made together, up to so many numbers and batches: small ones are all overhead."""

Length = int | Literal["auto"]

FORECAST_STEPS = 2**15
"""Steps of all contexts, horizons and paths in a batch of forecasts, where that is more than a batch of the
size asked for: each step of a batch costs much the same, whatever the number of forecasts."""

HELD_OUT: tuple[Split, Split] = ("val", "test")


class SequenceDataModule(L.LightningDataModule):
    """Windows of series to train on, and forecasts to make of them.

    Each series is split by time: its earliest steps are trained on, the next ones validate, the last ones
    test; no step is scored in two splits, only contexts reach back. Short series can be split as wholes
    instead.

    Args:
        series: where the values come from; in Python also a polars or pandas DataFrame with the columns
            ``unique_id, ds, y``, the path of such a table, or a NumPy array.
        context_length: known steps that warm the state up, before the loss counts in a window and before
            generation in a forecast; ``auto`` for five seasons, at least 100 steps, of which those before the
            start of a series are unknown.
        scored_length: steps of a training window on which the loss counts, after the context; ``auto`` for
            the horizon, at most 48.
        min_context_length: steps of a training window's context that must lie within the series, where the
            others may be unknown; by default all, and two seasons with ``context_length auto``.
        stride: steps between the starts of two training windows of a series.
        horizon: steps to generate in a forecast; ``auto`` for one season, two of at most 12 steps, 24 steps
            without a season, but at most a quarter of the longest series.
        season: steps after which the values repeat: found in the data with ``auto``, ``none``, or given, such
            as ``24`` or ``24,168`` for a day and a week of hours.
        batch_size: windows in a batch, on each device; of forecasts as many at least, more of short ones.
            ``auto`` for as many as there are series, 12 to 32.
        split_by: split each series by time, or the set of series.
        val_fraction: fraction of the steps, or series, to validate on; ``auto`` for a quarter of the steps
            of each series, at most two horizons.
        test_fraction: fraction of the steps, or series, to test on: the last ones.
        num_batches_per_epoch: batches in an epoch, after which the fit validates; the windows are gone
            through in a random order, again and again. None for an epoch of one pass over all windows,
            ``auto`` for as many batches as there are series, 20 to 60.
        num_origins: forecasts of each series in a test, from origins in its held-out part of which the last
            leaves one horizon; by default as many whole horizons as fit, at most 3.
        origin_step: steps between two origins of a test; by default the horizon, or one season where the
            held-out part is shorter than two horizons.
        num_samples: sampled paths for each forecast at predict and test, which give its intervals; none by
            default.
        seed: seed of the order of the windows and of the sampled paths.

    Attributes:
        was_held_out: the test split was held out from the fit of the checkpoint as well.
        trains_on_all: train on the validation split too and do not validate, in loaders made afterwards.
    """

    def __init__(
        self,
        series: Source,
        context_length: Length = 24,
        scored_length: Length = 24,
        min_context_length: int | None = None,
        stride: int = 1,
        horizon: Length = 24,
        season: int | str | list[int] = "auto",
        batch_size: Length = 32,
        split_by: Literal["time", "series"] = "time",
        val_fraction: float | Literal["auto"] = 0.1,
        test_fraction: float = 0.1,
        num_batches_per_epoch: Length | None = 200,
        num_origins: int | None = None,
        origin_step: int | None = None,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(series, Series):
            series = ArraySeries(series) if isinstance(series, np.ndarray) else TableSeries(series)
        require_counts(
            {
                "context_length": context_length,
                "scored_length": scored_length,
                "min_context_length": min_context_length,
                "stride": stride,
                "horizon": horizon,
                "batch_size": batch_size,
                "num_batches_per_epoch": num_batches_per_epoch,
                "num_origins": num_origins,
                "origin_step": origin_step,
                "num_samples": num_samples,
            }
        )
        if val_fraction == "auto" and split_by == "series":
            raise InputError("`val_fraction` auto is for `split_by` time: give a fraction.")
        require_fractions(VAL_FRACTION if val_fraction == "auto" else val_fraction, test_fraction)
        self.series, self.num_features, self.num_covariates = (
            series,
            series.num_features,
            series.num_covariates,
        )
        lengths = {"context_length": context_length, "scored_length": scored_length, "horizon": horizon}
        sizes = {"batch_size": batch_size, "num_batches_per_epoch": num_batches_per_epoch}
        self._auto = {name for name, length in (lengths | sizes).items() if length == "auto"}
        self.context_length, self.scored_length, self.horizon = (
            HORIZON if length == "auto" else length for length in lengths.values()
        )
        self.min_context_length = min_context_length
        self.stride, self.split_by = stride, split_by
        self.batch_size = BATCH_SIZES[0] if batch_size == "auto" else batch_size
        self.val_fraction = VAL_FRACTION if val_fraction == "auto" else val_fraction
        self._val_is_auto, self.test_fraction = val_fraction == "auto", test_fraction
        self.num_origins, self.origin_step = num_origins, origin_step
        self.num_batches_per_epoch = None if num_batches_per_epoch == "auto" else num_batches_per_epoch
        self.num_samples, self.seed = num_samples, seed
        self._given_seasons = given_seasons(season)
        self._seasons: tuple[int, ...] = ()
        self._data: SeriesData | None = None
        self._loaded: SeriesData | None = None
        self._position = 0
        self.was_held_out = True
        self.trains_on_all = False
        # Under the CLI, what makes the series is plain and is kept; an object would make the checkpoint
        # unsafe to load.
        self.save_hyperparameters()
        if isinstance(self.hparams.get("series"), Series):
            del self.hparams["series"]

    @property
    def data(self) -> SeriesData:
        """All values, after ``setup``."""
        if self._data is None:
            raise RuntimeError("call setup() first")
        return self._data

    @property
    def table_options(self) -> dict[str, Any]:
        """How a table was read and what a forecast of it sees, plain; a checkpoint keeps it. Else empty."""
        if not isinstance(self.series, TableSeries):
            return {}
        settings = {name: self.hparams[name] for name in ("context_length", "horizon", "season")}
        return {**self.series.options(), **settings}

    @property
    def seasons(self) -> tuple[int, ...]:
        """The seasons in steps, shortest first, after ``setup``: given, or found without the test split."""
        return self._seasons

    @property
    def compared_season(self) -> int:
        """The season of the seasonal naive forecast: the longest that most series have twice; 1 for none."""
        half = int(self.data.lengths.median()) // 2
        return max((season for season in self.seasons if season <= half), default=1)

    @property
    def splits(self) -> Splits:
        """The steps that are trained on, validate and test, after ``setup``."""
        return Splits(
            segments=self.segments,
            context_length=self.context_length,
            scored_length=self.scored_length,
            horizon=self.horizon,
            stride=self.stride,
            min_context_length=self.min_context_length,
            num_origins=self.num_origins,
            origin_step=self.origin_step,
            seasons=self.seasons,
            of_whole_series=self.split_by == "series",
            trains_on_all=self.trains_on_all,
        )

    def setup(self, stage: str) -> None:
        self._predicts = stage == "predict"
        if self._loaded is None:
            several = self.trainer is not None and self.trainer.num_devices > 1
            self._loaded = load_once(self.series, self.trainer) if several else load(self.series)
            self._loaded.unlink()
        if self._data is not self._loaded:
            self._data = self._loaded
            self.segments = self._split()
        self._seasons = self._find_seasons(stage) if self._given_seasons is None else self._given_seasons
        if self._auto:
            given = {name: getattr(self, name) for name in SIZES}
            for name, size in auto_sizes(self._auto, self.data, self.compared_season, given).items():
                setattr(self, name, size)
                self.hparams[name] = size
        if self._val_is_auto:
            self.segments = self._split()
        self._require_memory(stage)
        if stage == "fit":
            self._require_windows()
        if stage in ("fit", "validate") and self.val_fraction > 0:
            self._require_forecasts("val")
        if stage == "test":
            self._require_forecasts("test")

    @property
    def can_validate(self) -> bool:
        """Whether the validation split has anything to forecast, after ``setup``."""
        return self.val_fraction > 0 and len(self.splits.forecast_windows("val")) > 0

    def train_series(self) -> Pieces:
        """The training part of every series, in pieces ``(time, feature)``."""
        return Pieces(lambda rows: self.data.values[rows], self.segments["train"])

    def train_covariates(self) -> Pieces:
        """The covariates of the training part of every series, in pieces ``(time, covariate)``."""
        segments = self.segments["train"] if self.num_covariates else Segments(*[torch.zeros(0)] * 4)
        return Pieces(lambda rows: self.data.encoded(torch.arange(rows.start, rows.stop)), segments)

    def train_dataloader(self) -> ShuffledLoader[WindowBatch] | EndlessLoader[WindowBatch]:
        rank, world_size = self._devices()
        loader: ShuffledLoader[WindowBatch] | EndlessLoader[WindowBatch]
        if isinstance(self.series, PriorSeries) and self.series.fresh:
            draw = partial(self.series.draw_batch, self.batch_size)
            loader = EndlessLoader(draw, self.num_batches_per_epoch or 1, rank, self.seed)
        else:
            windows, segments = self.splits.training_windows(), self.splits.training_segments()
            length = self.context_length + self.scored_length
            padded = self.min_context_length is not None or bool(
                (segments.end - segments.start < length).any()
            )
            settings = (self.context_length, length, padded)
            make_batch = partial(training_batch, self.data, segments, windows, *settings)
            shares = (len(windows), self.batch_size, rank, world_size)
            numbers = self.batch_size * length * (self.num_features + self.num_covariates)
            loader = ShuffledLoader(
                make_batch,
                *shares,
                num_batches=self.num_batches_per_epoch,
                seed=self.seed,
                together=min(max(1, BLOCK_NUMBERS // numbers), MAX_TOGETHER),
            )
        trained = self.trainer.fit_loop.epoch_loop.batch_progress.total if self.trainer is not None else None
        processed = trained.processed if trained is not None else 0  # type: ignore[attr-defined]
        loader.position = max(self._position, processed)
        return loader

    def val_dataloader(self) -> BatchLoader[ForecastBatch] | list[Any]:
        return self._forecast_loader("val") if self.val_fraction > 0 and not self.trains_on_all else []

    def test_dataloader(self) -> BatchLoader[ForecastBatch]:
        return self._forecast_loader("test")

    def leave_out_incomplete(self) -> str:
        """After ``setup("predict")``, leave out the series whose covariates are not known over the horizon.

        They are there again after the next ``setup``.

        Returns:
            Which they are, the last one of ``data.notes``; empty if all series can be forecast, or none.
        """
        complete = without_incomplete(self.data, self.horizon)
        if complete is self.data:
            return ""
        self._data = complete
        self.segments = self._split()
        return complete.notes[-1]

    def predict_dataloader(self) -> BatchLoader[ForecastBatch]:
        """Forecasts of what follows each series.

        Raises:
            InputError: if covariates of the horizon are not known; see ``leave_out_incomplete``.
        """
        require_future(self.data, self.horizon)
        # No more than there is, to fill it up would cost time; but as much as any transforms need.
        context_length = min(self.context_length, max(int(self.data.lengths.max()), MIN_CONTEXT))
        settings = (context_length, self.horizon, self.num_samples, self.seed)
        make_batch = partial(future_batch, self.data, *settings)
        return self._in_order(
            make_batch, self.data.num_series, context_length + self.horizon, self.num_samples
        )

    def state_dict(self) -> dict[str, Any]:
        """Where a resumed fit goes on, the intervals of the series, and what was held out to test on."""
        if self.trainer is None:
            return {}
        total = self.trainer.fit_loop.epoch_loop.batch_progress.total
        position = total.processed  # type: ignore[attr-defined]
        return {"position": position, "intervals": self._intervals(), "test_fraction": self.test_fraction}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the position; refuse series in other steps than those the network was trained on."""
        self._position = state_dict.get("position", 0)
        self.was_held_out = state_dict.get("test_fraction", self.test_fraction) >= self.test_fraction
        trained: list[str] = state_dict.get("intervals", [])
        other = sorted(set(self._intervals()) - set(trained)) if self._data is not None else []
        if trained and other:
            raise InputError(
                f"the series have steps of {', '.join(other)}, and the network was trained on steps of "
                f"{', '.join(trained)}: "
                "fit one on the new steps, or give `frequency`."
            )

    def _intervals(self) -> list[str]:
        """What steps the series have: those of a calendar, or of numbers."""
        return sorted({step if isinstance(step, str) else "numbers" for step in self.data.times.intervals})

    def summary(self) -> dict[str, Any]:
        """What there is to train and to score on, see ``summary.py``."""
        from rnn_lightning.tables.summary import summarize

        held_out = [name for name in HELD_OUT if getattr(self, f"{name}_fraction") > 0]
        return summarize(self.data, self.splits.counts(held_out), self.horizon, self.seasons)

    def describe(self) -> str:
        """What there is to train and to score on, as the command says it before a fit."""
        from rnn_lightning.tables.summary import as_text

        self.setup("fit")
        return as_text(self.summary())

    def __repr__(self) -> str:
        what = f"horizon {self.horizon}, context {self.context_length} steps, batches of {self.batch_size}"
        data = self.series if self._data is None else self.data
        return f"SequenceDataModule: {what}\n  {repr(data).splitlines()[0]}"

    def _split(self) -> dict[Split, Segments]:
        first, fractions = self.data.offsets[:-1], (self.val_fraction, self.test_fraction)
        if self.split_by == "series":
            return split_by_series(first, self.data.ends, *fractions)
        max_val = 2 * self.horizon if self._val_is_auto else math.inf
        return split_by_time(first, self.data.ends, *fractions, max_val)

    def _find_seasons(self, stage: str) -> tuple[int, ...]:
        ends, test = self.data.ends.clone(), self.segments["test"]
        if stage != "predict":
            ends[test.series] = test.start
        return find_seasons(self.data, ends)

    def _devices(self) -> tuple[int, int]:
        """The number of this device and of all."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _forecast_loader(self, split: Split) -> BatchLoader[ForecastBatch]:
        windows = self.splits.forecast_windows(split)
        sizes = (self.context_length, self.splits.horizon_of(split), self.compared_season)
        num_samples = self.num_samples if split == "test" else None
        settings = (self.segments[split], windows, *sizes, num_samples, self.seed)
        make_batch = partial(scored_batch, self.data, *settings)
        return self._in_order(make_batch, len(windows), sum(sizes[:2]), num_samples)

    def _in_order(
        self,
        make_batch: Callable[[Tensor], ForecastBatch],
        num_items: int,
        num_steps: int,
        num_samples: int | None = None,
    ) -> BatchLoader[ForecastBatch]:
        """Forecasts of ``num_steps`` with their contexts."""
        at_once = self._at_once(num_steps * (num_samples or 1))
        return BatchLoader(make_batch, num_items, at_once, *self._devices())

    def _at_once(self, num_steps: int) -> int:
        """How many forecasts of ``num_steps`` with their contexts and paths make a batch."""
        return max(self.batch_size, FORECAST_STEPS // (num_steps * self.num_features))

    def _require_memory(self, stage: str) -> None:
        """Refuse a batch that cannot be held, before the system ends a process that tries."""
        longest, total = int(self.data.lengths.max()), int(self.data.lengths.sum())
        context_length = min(self.context_length, longest) if stage == "predict" else self.context_length
        length = context_length + max(self.horizon, self.scored_length if stage == "fit" else 0)
        size = min(self.batch_size, total)
        num_bytes = 4 * size * length * (self.num_features + self.num_covariates)
        advice = "lower `context_length`, `horizon` or `batch_size`"
        require_memory(num_bytes, f"{counted(size, 'window')} of {length:,} steps", advice)

    def _require_windows(self) -> None:
        if len(self.segments["train"].start) == 0:
            raise InputError(
                f"`val_fraction` {self.val_fraction} and `test_fraction` {self.test_fraction} "
                f"leave none of the {self.data.num_series} series to train on: lower them, or set "
                "`split_by` time."
            )
        if len(self.splits.training_windows()) == 0:
            index = int(self.data.lengths.argmax())
            raise InputError(
                f"no series has two steps to train on: the longest, {self.data.ids[index]!r}, has "
                f"{int(self.data.lengths[index])} in all. Lower `val_fraction` and "
                "`test_fraction`, or give more."
            )

    def _require_forecasts(self, split: Literal["val", "test"]) -> None:
        if split == "test" and self.test_fraction == 0:
            raise InputError(
                "a test needs values that were held out, and `test_fraction` is 0: fit with "
                "`test_fraction` 0.2, which the checkpoint keeps, then test; or give it to test alone, "
                "for values that the fit did not see."
            )
        if len(self.splits.forecast_windows(split)) == 0:
            name = f"`{split}_fraction`"
            raise InputError(
                f"{name} {getattr(self, f'{split}_fraction')} leaves no step to forecast after a context: "
                f"raise {name}{', or set it to 0 to train without validation' if split == 'val' else ''}."
            )


def require_counts(counts: Mapping[str, Length | None]) -> None:
    """Raise InputError for numbers of steps, windows and the like below 1, or beyond all data."""
    for name, count in counts.items():
        if isinstance(count, int) and not 1 <= count <= MAX_COUNT:
            rule = "at least 1" if count < 1 else f"at most {MAX_COUNT:,}"
            raise InputError(f"`{name}` must be {rule}, got {count}.")
