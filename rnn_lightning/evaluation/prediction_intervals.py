"""Prediction intervals as a callback, calibrated by forecasts of held-out values."""

from collections.abc import Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from rnn_lightning.data.series import SeriesData
from rnn_lightning.data.windows import BatchLoader, Segments, forecast_batch, forecast_starts, split_by_time
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.baselines import ends_before, never_negative, seasons_of
from rnn_lightning.evaluation.interval_widths import (
    KEPT_LEAD_TIMES,
    MIN_RELATIVE_SCALE,
    error_scale,
    floor_of,
    half_widths_at,
    learn_half_widths,
)
from rnn_lightning.evaluation.records import errors_of

LAST_FRACTION, LAST_HORIZONS = 0.25, 2
"""A network that was never trained calibrates on this fraction of a series, at most so many horizons."""

MAX_STEPS, MIN_ORIGINS = 2**15, 64
"""Number of steps in all forecasts of a calibration, and the least number of origins where there are more."""

DEFAULT_LEVELS = (80,)  # percent


REMEDY = "fit with `val_fraction` above 0 and at least one validation."


class PredictionIntervals(L.Callback):
    """Give forecasts prediction intervals, as wide as the errors of earlier forecasts demand.

    Each validation calibrates them on the held-out values, and checkpoints keep the result. A network that
    was never trained is calibrated on the last steps of the series before each test or forecast, and for that
    alone. This callback comes before those that ask it for intervals.

    The widths are calibrated by forecasts of the horizon that was asked for. Another horizon pools the errors
    of other origins and lead times: the point forecasts of a short horizon are the first ones of a long
    horizon, and their intervals are not.

    Attributes:
        horizon: the longest lead time that the calibration has seen; 0 before.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._data: SeriesData | None = None  # whose facts are known
        self._half_widths, self.horizon, self._season = torch.zeros(0), 0, 1
        self._nonnegative, self._is_temporary = torch.zeros(1, dtype=torch.bool), False

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> "PredictionIntervals":
        """Return the intervals that a checkpoint keeps; they are not ``calibrated`` if it keeps none."""
        intervals = cls()
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        intervals.load_state_dict(checkpoint.get("callbacks", {}).get(intervals.state_key, {}))
        return intervals

    def state_dict(self) -> dict[str, Any]:
        """Return what validations have taught; what is true of one table alone is not kept."""
        if not self.calibrated or self._is_temporary:
            return {}
        state = {"half_widths": self._half_widths, "horizon": self.horizon}
        return state | {"season": self._season, "nonnegative": self._nonnegative}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._reset()
        if state_dict:
            self._half_widths, self.horizon = state_dict["half_widths"], int(state_dict["horizon"])
            self._season, self._nonnegative = int(state_dict["season"]), state_dict["nonnegative"]

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Forget the intervals of another network; ``load_state_dict`` follows if the checkpoint has some."""
        self._reset()

    @property
    def calibrated(self) -> bool:
        """Whether there are intervals."""
        return self.horizon > 0

    def choose_levels(self, levels: Sequence[int] | None, num_samples: int | None = None) -> list[int]:
        """Return the levels in percent to give intervals for, ascending.

        Args:
            levels: the levels that were asked for; None for ``DEFAULT_LEVELS`` where there are intervals.
            num_samples: number of sampled paths, which give intervals where the calibration gave none.

        Raises:
            InputError: if a level is not between 0 and 100, or nothing gives the intervals.
        """
        for level in levels or ():
            if not 0 < level < 100:
                raise InputError(f"`levels` must be between 0 and 100 percent, got {level}.")
        if self.calibrated or num_samples is not None:
            chosen = sorted(set(DEFAULT_LEVELS if levels is None else levels))
            if chosen and num_samples == 1:
                raise InputError("`num_samples` 1: an interval needs two sampled paths at least.")
            return chosen
        if levels:
            rule = f"`levels` {list(levels)}: the network was fitted without validation, and has no intervals"
            raise InputError(f"{rule}; {REMEDY}")
        return []

    def interval_bounds(
        self,
        point: Tensor,
        context: Tensor,
        levels: Sequence[float],
        *,
        seasons: Tensor | None = None,
        own_error: Tensor | None = None,
        samples: Tensor | None = None,
    ) -> Tensor:
        """Return the bounds of intervals, ``(2 * level, batch, horizon, feature)``: low, high, low ...

        Args:
            point: ``(batch, horizon, feature)``, the forecast.
            context: ``(batch, time, feature)``, the known steps before it, NaN where unknown.
            levels: levels in percent.
            seasons: ``(batch,)``, the season of each series; that of the calibration if None.
            own_error: ``(batch, feature)``, see ``error_scale``; of a network that gives it.
            samples: ``(sample, batch, horizon, feature)``, which give the bounds if not ``calibrated``.

        Raises:
            InputError: if there are neither intervals nor samples.
        """
        signed = torch.tensor([sign * level / 100 for level in levels for sign in (-1, 1)])
        if self.calibrated or samples is None:
            return self._values_at(signed, point, context, seasons, own_error)
        # torch.quantile takes 16 million numbers at most.
        bounds = np.quantile(samples.cpu().numpy(), (0.5 + signed.double() / 2).tolist(), axis=0)
        return torch.from_numpy(bounds).to(point)

    def table(self, levels: Sequence[int] | None = None) -> dict[str, Any]:
        """Return what ``interval_bounds`` goes by as plain numbers, for an export.

        Args:
            levels: levels in percent, see ``choose_levels``.

        Returns:
            ``levels``; ``half_widths (level, lead time)`` in error scales, constant beyond the last one;
            ``season``, that of the calibration; ``nonnegative (feature,)``; and ``min_relative_scale``.
        """
        chosen = self.choose_levels(levels)
        half_widths = half_widths_at(self._half_widths, torch.tensor(chosen) / 100, KEPT_LEAD_TIMES[-1])
        facts = {"season": self._season, "nonnegative": self._nonnegative.numpy()}
        widths = {"half_widths": half_widths.numpy(), "min_relative_scale": MIN_RELATIVE_SCALE}
        return {"levels": chosen, **widths, **facts}

    def quantiles(
        self,
        number: int,
        point: Tensor,
        context: Tensor,
        *,
        seasons: Tensor | None = None,
        own_error: Tensor | None = None,
    ) -> Tensor:
        """Return equally likely values, ascending, ``(number, batch, horizon, feature)``."""
        signed = (2 * torch.arange(number, dtype=torch.float32) + 1) / number - 1
        return self._values_at(signed, point, context, seasons, own_error)

    def spread_paths(
        self,
        samples: Tensor,
        point: Tensor,
        context: Tensor,
        *,
        seasons: Tensor | None = None,
        own_error: Tensor | None = None,
    ) -> Tensor:
        """Spread sampled paths ``(sample, batch, horizon, feature)`` as wide as the intervals.

        The order of the samples at each step stays, and with it how a path moves from step to step (Schefzik
        et al., *Uncertainty quantification in complex simulation models using ensemble copula coupling*,
        2013). They stay as they are if not ``calibrated``. Arguments as for ``interval_bounds``.
        """
        if not self.calibrated:
            return samples
        ranks = samples.argsort(0).argsort(0)
        known = {"seasons": seasons, "own_error": own_error}
        return self.quantiles(len(samples), point, context, **known).gather(0, ranks)

    def _values_at(
        self,
        signed: Tensor,
        point: Tensor,
        context: Tensor,
        seasons: Tensor | None,
        own_error: Tensor | None,
    ) -> Tensor:
        """Return the ends of intervals of levels from -1, lower end, to 1, ``(level, *point.shape)``."""
        if len(point) == 0:  # a device without forecasts
            return point.new_zeros(len(signed), *point.shape)
        if not self.calibrated:
            raise InputError(f"there are no prediction intervals: {REMEDY}")
        seasons = torch.full((len(context),), self._season) if seasons is None else seasons.cpu()
        scale = error_scale(context, seasons, own_error)[:, None]  # (batch, 1, feature)
        floor, is_common = floor_of(context, self._nonnegative.to(context.device))
        half = half_widths_at(self._half_widths, signed.abs(), point.shape[1]).to(point)  # (level, horizon)
        sign = signed.sign().to(point)[:, None, None, None]
        values = point + sign * half[:, None, :, None] * scale
        values = torch.where((sign < 0) & is_common[:, None], floor[:, None], values)
        return torch.maximum(values, floor[:, None])

    @torch.no_grad()
    def calibrate(
        self,
        forecaster: Any,
        data: SeriesData,
        segments: Segments,
        *,
        context_length: int,
        horizon: int,
        seasons: Tensor,
        min_context_length: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Learn half-widths from forecasts of held-out values, those of all devices; forget earlier ones.

        Args:
            forecaster: the network, in evaluation mode; its ``predict_step`` is called.
            data: the series.
            segments: the steps to forecast, which the network was not trained on.
            context_length: number of known steps before each origin.
            horizon: number of steps to forecast; steps beyond a segment are unknown.
            seasons: ``(series,)``, the season of each series; 1 for none.
            min_context_length: number of steps of a context that must lie within the series; all if None.
            rank: number of this device.
            world_size: number of devices.
        """
        if self._data is not data:  # it takes a pass over all values
            nonnegative = never_negative(data, data.ends.index_put((segments.series,), segments.end))
            self._season, self._nonnegative, self._data = int(seasons.median()), nonnegative, data
        num_origins = max(MIN_ORIGINS, MAX_STEPS // (context_length + horizon))
        origin_step = max(1, ceil(int((segments.end - segments.start).sum()) / num_origins))
        windows = forecast_starts(segments, context_length, horizon, origin_step, min_context_length)
        # Neighbouring origins have similar errors. Of very many series only some are forecast.
        chosen = torch.linspace(0, len(windows) - 1, min(len(windows), 2 * num_origins)).long()
        make_batch = partial(forecast_batch, data, segments, windows, context_length, horizon, None, 0)
        shares = (len(chosen), num_origins, (rank, world_size))
        batches = BatchLoader(lambda items: make_batch(chosen[items]), *shares)
        errors, scale = errors_of(forecaster, batches, seasons)
        self._half_widths, self.horizon = learn_half_widths(errors, scale, origin_step)

    def calibrate_on_last_steps(
        self, forecaster: Any, data: SeriesData, ends: Tensor, *, horizon: int, **settings: Any
    ) -> None:
        """Calibrate a network that was never trained on the last steps before ``ends (series,)``.

        The result is for these series alone; no checkpoint keeps it. Arguments as for ``calibrate``.
        """
        self._reset()
        segments = split_by_time(data.offsets[:-1], ends, LAST_FRACTION, 0.0, LAST_HORIZONS * horizon)["val"]
        self.calibrate(forecaster, data, segments, horizon=horizon, **settings)
        self._is_temporary = True

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule: Any = getattr(trainer, "datamodule", None)
        if hasattr(datamodule, "segments") and is_trained(pl_module) and not trainer.sanity_checking:
            self.calibrate(pl_module, datamodule.data, datamodule.segments["val"], **_settings(trainer))
            self._is_temporary = False

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        datamodule: Any = getattr(trainer, "datamodule", None)
        if hasattr(datamodule, "segments") and not is_trained(pl_module):
            data, is_test = datamodule.data, trainer.state.fn == TrainerFn.TESTING
            ends = ends_before(data, datamodule.segments["test"]) if is_test else data.ends
            self.calibrate_on_last_steps(pl_module, data, ends, **_settings(trainer))

    on_predict_start = on_test_start


def is_trained(forecaster: Any) -> bool:
    """Return False for a pretrained network that was not trained on any data of the user."""
    return bool(getattr(forecaster, "is_trained", True))


def _settings(trainer: L.Trainer) -> dict[str, Any]:
    """Return the sizes and devices of a calibration."""
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    names = ("horizon", "min_context_length")
    sizes = {name: getattr(datamodule, name, None) for name in names}
    sizes["context_length"] = datamodule.forecast_context
    seasons = seasons_of(datamodule.data)
    return {**sizes, "seasons": seasons, "rank": trainer.global_rank, "world_size": trainer.world_size}
