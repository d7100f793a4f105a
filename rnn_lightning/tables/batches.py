"""Batches of tables: paths and frames, sizes found in the data, seasons, and what a table lacks."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch

from rnn_lightning.data.batches import SequenceBatches
from rnn_lightning.data.series import Series
from rnn_lightning.data.windows import (
    BatchLoader,
    ForecastBatch,
    Segments,
    Split,
    Windows,
    forecast_starts,
    future_batch,
    rolling_starts,
    short_contexts,
    split_by_time,
    training_starts,
)
from rnn_lightning.errors import InputError, counted, require_counts
from rnn_lightning.tables.default_sizes import BATCH_SIZES, HORIZON, SIZES, VAL_FRACTION, default_sizes
from rnn_lightning.tables.incomplete import require_future, without_incomplete
from rnn_lightning.tables.seasons import find_seasons, given_seasons, given_traits, with_given
from rnn_lightning.tables.storage import require_memory, unlink_scratch
from rnn_lightning.tables.table import TableSeries
from rnn_lightning.transforms import Traits

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]
    import polars as pl

    Source: TypeAlias = Series | str | Path | np.ndarray | pl.DataFrame | pd.DataFrame
else:
    Source = Series  # the command line knows classes alone

Length = int | Literal["auto"]

MIN_CONTEXT = 16
"""The context of a forecast is not cut below this to the length of the longest series."""

MAX_ORIGINS = 3
"""Forecasts of each series in a test, unless a number is given."""

MAX_VALIDATED = 500
"""Forecasts of the validation split, evenly spaced, of a network that was not fitted to the series."""

MAX_COUNT = 2**48
"""The largest number of steps, windows or paths: positions in the data are integers of 64 bits."""


class TableBatches(SequenceBatches):
    """Training windows and forecast batches of the series of a table.

    Each series is split by time: the earliest steps are for training, the next for validation, the last for
    testing. No step is scored in two splits; only contexts reach back. Whole series can be split instead.

    Args:
        series: source of the values; in Python also a polars or pandas DataFrame with the columns
            ``unique_id, ds, y``, the path of such a table, or a NumPy array.
        context_length: number of known steps that warm up the state before the scored steps of a window, or
            before a forecast; ``auto`` for five seasons, at least 100 steps (unknown before the start of a
            series), and in forecasts of the pretrained network for as many as it asks for.
        scored_length: number of scored steps of a training window, after the context; ``auto`` for the
            horizon, at most 48.
        min_context_length: context steps of a training window that must lie within the series; the others may
            be unknown. By default all, and with ``context_length auto`` two seasons.
        stride: steps between the starts of two consecutive training windows of a series.
        horizon: number of steps to forecast; ``auto`` for one season (two if a season has at most 12 steps),
            or 24 steps without a season, but at most a quarter of the longest series.
        season: number of steps after which the values repeat. ``auto`` finds it from the calendar and the
            values of each series, and ``none`` is for no season. A number such as ``24``, or ``24,168`` for a
            day and a week of hours, holds for all series. ``{id: 12, other id: 4}`` gives it for some series,
            1 for none, and finds the others. Series that have the trait ``season`` keep it with ``auto``.
        batch_size: windows per batch on each device; the minimum number of forecasts per batch; ``auto`` for
            the number of series, 12 to 32.
        split_by: ``time`` to split each series, ``series`` to split the set of series.
        val_fraction: fraction of the steps, or series, to validate on; ``auto`` for a quarter of the steps
            of each series, at most two horizons.
        test_fraction: fraction of the steps, or series, to test on: the last ones.
        num_batches_per_epoch: batches per epoch, after which the fit validates; epochs go through the windows
            in random order, again and again. None for one pass over all windows, ``auto`` for the number of
            series, 20 to 60.
        num_origins: number of forecasts of each series in a test, from origins in its held-out part, the last
            one a horizon before the end; by default one for each whole horizon that fits, at most 3.
        origin_step: steps between two origins of a test; by default the horizon, or one season if the
            held-out part is shorter than two horizons.
        num_samples: sampled paths per forecast in predict and test; None for point forecasts only.
        seed: seed of the order of the windows and of the sampled paths.
        final_fit_on_all: train a second time, from the same initial weights and also on the validation split,
            for all epochs that did not overfit. Solvers and fine-tuning always do so.
        carry_state: train on windows that continue each other: each row of a batch goes through consecutive
            windows and carries its state from one to the next, see ``solver/carried_state.py``. The stride
            and the order of the windows then have no meaning.
    """

    def __init__(
        self,
        series: Source,
        context_length: Length = 24,
        scored_length: Length = 24,
        min_context_length: int | None = None,
        stride: int = 1,
        horizon: Length = 24,
        season: int | str | list[int] | dict[str, int] = "auto",
        batch_size: Length = 32,
        split_by: Literal["time", "series"] = "time",
        val_fraction: float | Literal["auto"] = 0.1,
        test_fraction: float = 0.1,
        num_batches_per_epoch: Length | None = 200,
        num_origins: int | None = None,
        origin_step: int | None = None,
        num_samples: int | None = None,
        seed: int = 0,
        final_fit_on_all: bool = False,
        carry_state: bool = False,
    ) -> None:
        if not isinstance(series, Series | np.ndarray):
            series = TableSeries(series)
        if val_fraction == "auto" and split_by == "series":
            raise InputError("`val_fraction` auto is for `split_by` time: give a fraction.")
        lengths = {"context_length": context_length, "scored_length": scored_length, "horizon": horizon}
        sizes = {"batch_size": batch_size, "num_batches_per_epoch": num_batches_per_epoch}
        self._auto = {name for name, size in (lengths | sizes).items() if size == "auto"}
        context_length, scored_length, horizon = (
            HORIZON if length == "auto" else length for length in lengths.values()
        )
        super().__init__(
            series,
            context_length,
            scored_length,
            stride,
            horizon,
            BATCH_SIZES[0] if batch_size == "auto" else batch_size,
            split_by,
            VAL_FRACTION if val_fraction == "auto" else val_fraction,
            test_fraction,
            None if num_batches_per_epoch == "auto" else num_batches_per_epoch,
            num_samples,
            seed,
        )
        require_counts(
            min_context_length=min_context_length, num_origins=num_origins, origin_step=origin_step
        )
        for name in (*SIZES, "stride", "num_samples"):
            if (getattr(self, name, None) or 0) > MAX_COUNT:
                raise InputError(f"`{name}` must be at most {MAX_COUNT:,}, got {getattr(self, name)}.")
        self.min_context_length = min_context_length
        self.num_origins, self.origin_step = num_origins, origin_step
        self._val_is_auto, self._given_seasons = val_fraction == "auto", given_seasons(season)
        self._named_seasons = season if isinstance(season, dict) else {}
        self.final_fit_on_all, self.carry_state = final_fit_on_all, carry_state
        if final_fit_on_all and carry_state:
            raise InputError("`final_fit_on_all` and `carry_state` are mutually exclusive: give one of them.")
        self._found_context: int | None = None  # that ``auto`` found
        self._found_seasons: tuple[torch.Tensor, Traits] | None = None  # before these ends

    def setup(self, stage: str) -> None:
        """Load and split the series, and find their seasons and the ``auto`` sizes."""
        if not hasattr(self, "_loaded"):
            self._loaded = self.load()
            unlink_scratch(self._loaded)
        self.data = self._loaded
        self.segments = self.split()
        self.data = replace(self.data, traits={**self.data.traits, **self._season_traits(stage)})
        if self._auto:
            given = {name: getattr(self, name) for name in SIZES}
            for name, size in default_sizes(self._auto, self.data, self.season, given).items():
                setattr(self, name, size)
            self._found_context = self.context_length if "context_length" in self._auto else None
        self._require_memory(stage)
        if stage == "test" and self.test_fraction == 0:
            raise InputError(
                "a test needs values that were held out, and `test_fraction` is 0: fit with `test_fraction` "
                "0.2, which the checkpoint keeps, then test; or give it to test alone, for values that were "
                "not in the fit."
            )
        super().setup(stage)

    def split(self) -> dict[Split, Segments]:
        if not self._val_is_auto:
            return super().split()
        fractions = self.val_fraction, self.test_fraction
        return split_by_time(self.data.offsets[:-1], self.data.ends, *fractions, 2 * self.horizon)

    @property
    def season(self) -> int:
        """The most common season of the series in steps, 1 for none, after ``setup``."""
        return int(self.data.traits["season"].mode().values)

    @property
    def forecast_context(self) -> int:
        """Known steps before each forecast: with ``auto``, those that the network looks at, if it says so."""
        forecaster = self.forecaster
        if not hasattr(forecaster, "context_wanted") or self.context_length != self._found_context:
            return self.context_length
        wanted = forecaster.context_wanted(self.data.traits, self.horizon)
        return max(self.context_length, min(wanted, int(self.data.lengths.max())))

    def training_starts(self) -> Windows:
        lengths = (self.context_length, self.scored_length, self.stride, self.min_context_length)
        return training_starts(self.training_segments(), *lengths)

    def forecast_starts(self, split: Split) -> Windows:
        """Return the starts of forecasts: of the last origins to test, else of each step once."""
        segments, horizon = self.segments[split], self.horizon_of(split)
        if split != "test":
            least = short_contexts(segments, self.context_length, horizon)
            return forecast_starts(segments, self.context_length, horizon, min_context_length=least)
        longest = int(segments.lengths.max()) if len(segments.series) else 0
        is_short = longest < 2 * horizon and self.season > 1
        step = self.origin_step or (min(self.season, horizon) if is_short else horizon)
        num_origins = self.num_origins or MAX_ORIGINS
        return rolling_starts(segments, self.context_length, horizon, num_origins, step)

    def leave_out_incomplete(self) -> str:
        """After ``setup("predict")``, leave out the series whose covariates are unknown over the horizon.

        They are there again after the next ``setup``.

        Returns:
            A note on them; empty if all series can be forecast, or none.
        """
        if not self.uses_covariates:
            return ""
        self.data, note = without_incomplete(self.data, self.horizon)
        if note:
            self.segments = self.split()
        return note

    def val_dataloader(self) -> BatchLoader[ForecastBatch] | list[Any]:
        """Return the forecasts of the validation split; of a network that was not fitted a sample of them."""
        loader = super().val_dataloader()
        if isinstance(loader, list) or getattr(self.forecaster, "is_trained", True):
            return loader
        chosen = torch.linspace(0, loader.num_items - 1, min(loader.num_items, MAX_VALIDATED)).long()
        return BatchLoader(
            lambda items: loader.make_batch(chosen[items]), len(chosen), loader.batch_size, self.devices
        )

    def predict_dataloader(self) -> BatchLoader[ForecastBatch]:
        if self.uses_covariates:
            require_future(self.data, self.horizon)
        # No more context than there is, because filling it up costs time; but as much as any transform needs.
        context_length = min(self.forecast_context, max(int(self.data.lengths.max()), MIN_CONTEXT))
        settings = (context_length, self.horizon, self.num_samples, self.seed)
        cut = partial(future_batch, self.data, *settings, uses_covariates=self.uses_covariates)
        return self.in_order(cut, self.data.num_series, self.horizon)

    @property
    def uses_covariates(self) -> bool:
        """Whether the network looks at covariates; the bundled one does so when it is fitted to them."""
        return not getattr(getattr(self.forecaster, "network", None), "ignores_covariates", False)

    @property
    def can_validate(self) -> bool:
        """Whether the validation split has anything to forecast, after ``setup``."""
        return self.val_fraction > 0 and len(self.forecast_starts("val")) > 0

    def require_frequencies(self, trained: list[str]) -> None:
        """Refuse series of other frequencies than those of the fit, which are empty if not known."""
        other = sorted(set(self._frequencies()) - set(trained))
        if trained and other:
            raise InputError(
                f"the series have steps of {', '.join(other)}, and the network was trained on steps of "
                f"{', '.join(trained)}: fit one on the new steps, or give `frequency`."
            )

    def _frequencies(self) -> list[str]:
        frequencies = self.data.times.frequencies
        return sorted({step if isinstance(step, str) else "numbers" for step in frequencies})

    def _season_traits(self, stage: str) -> Traits:
        """Return the seasons given, or else those found in what comes before the test split."""
        if self._given_seasons is not None:
            return given_traits(self._given_seasons, self.data.lengths)
        if "season" in self.data.traits:
            return {**given_traits((), self.data.lengths), **self.data.traits}
        ends, test = self.data.ends.clone(), self.segments["test"]
        if stage != "predict":
            ends[test.series] = test.start
        if self._found_seasons is None or not torch.equal(self._found_seasons[0], ends):
            found = find_seasons(self.data, ends)
            given = self._named_seasons
            self._found_seasons = ends, with_given(found, self.data.ids, given) if given else found
        return self._found_seasons[1]

    def _require_memory(self, stage: str) -> None:
        """Refuse a batch that cannot be held, before the system ends a process that tries."""
        longest, total = int(self.data.lengths.max()), int(self.data.lengths.sum())
        context_length = min(self.forecast_context, longest) if stage == "predict" else self.context_length
        length = context_length + max(self.horizon, self.scored_length if stage == "fit" else 0)
        size = min(self.batch_size, total)
        num_bytes = 4 * size * length * (self.num_features + self.num_covariates)
        advice = "lower `context_length`, `horizon` or `batch_size`"
        require_memory(num_bytes, f"{counted(size, 'window')} of {length:,} steps", advice)
