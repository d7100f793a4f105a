"""Prediction intervals, calibrated by forecasts of held-out values. No Lightning."""

from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor

from rnn_lightning.data.batches import SequenceBatches
from rnn_lightning.data.series import SeriesData
from rnn_lightning.data.windows import (
    BatchLoader,
    Segments,
    forecast_batch,
    forecast_starts,
    short_contexts,
    split_by_time,
)
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.baselines import never_negative, seasons_of
from rnn_lightning.evaluation.interval_widths import (
    ENOUGH_CHANGES,
    KEPT_LEAD_TIMES,
    MAX_ENOUGH_CHANGES,
    MIN_RELATIVE_SCALE,
    error_scale,
    floor_of,
    half_widths_at,
    learn_half_widths,
)
from rnn_lightning.evaluation.records import errors_of
from rnn_lightning.metrics import gathered_objects
from rnn_lightning.rollout import path_bounds

LAST_FRACTION, LAST_HORIZONS, LAST_STEPS = 0.25, 2, 16
"""A network that was never trained calibrates on this fraction of a series.

But at most so many horizons, or steps where these are more.
"""

MAX_STEPS, MIN_ORIGINS = 2**15, 64
"""Number of steps in all forecasts of a calibration, and the least number of origins where there are more."""

DEFAULT_LEVELS = (80,)  # percent


REMEDY = "fit with `val_fraction` above 0 and at least one validation."


class CalibratedIntervals:
    """Prediction intervals as wide as the errors of earlier forecasts demand.

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
        self._relative = torch.full((1,), torch.nan)  # (feature,), the usual ``new_scale``

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
        if samples is not None and not self.calibrated:
            return path_bounds(samples, point, levels)
        signed = torch.tensor([sign * level / 100 for level in levels for sign in (-1, 1)])
        return self._values_at(signed, point, context, seasons, own_error)

    def table(self, levels: Sequence[int] | None = None) -> dict[str, Any]:
        """Return what ``interval_bounds`` goes by as plain numbers, for an export.

        Args:
            levels: levels in percent, see ``choose_levels``.

        Returns:
            ``levels``; ``half_widths (level, lead time)`` in error scales, constant beyond the last one;
            ``season``, that of the calibration; ``nonnegative (feature,)``; ``relative (feature,)``;
            ``enough_changes`` and ``min_relative_scale``.
        """
        chosen = self.choose_levels(levels)
        half_widths = half_widths_at(self._half_widths, torch.tensor(chosen) / 100, KEPT_LEAD_TIMES[-1])
        facts: dict[str, Any] = {"season": self._season, "nonnegative": self._nonnegative.numpy()}
        widths = {"half_widths": half_widths.numpy(), "min_relative_scale": MIN_RELATIVE_SCALE}
        facts |= {"relative": self._relative.numpy(), "enough_changes": (ENOUGH_CHANGES, MAX_ENOUGH_CHANGES)}
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
        quantiles = ((torch.arange(number) + 0.5) / number).tolist()
        return self.values_at(quantiles, point, context, seasons=seasons, own_error=own_error)

    def values_at(
        self,
        quantiles: Sequence[float],
        point: Tensor,
        context: Tensor,
        *,
        seasons: Tensor | None = None,
        own_error: Tensor | None = None,
    ) -> Tensor:
        """Return the values at ``quantiles`` from 0 to 1, ``(quantile, batch, horizon, feature)``.

        They are the bounds of intervals, but for series whose intervals end at zero: above the point forecast
        of these lies all that an interval misses. Arguments as for ``interval_bounds``.
        """
        signed = torch.tensor([2 * quantile - 1 for quantile in quantiles])
        return self._values_at(signed, point, context, seasons, own_error, are_quantiles=True)

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
        are_quantiles: bool = False,
    ) -> Tensor:
        """Return the ends of intervals of levels from -1, lower end, to 1, ``(level, *point.shape)``.

        Or, if they are quantiles, values that are exceeded as often as they say where intervals end at zero.
        """
        if len(point) == 0:  # a device without forecasts
            return point.new_zeros(len(signed), *point.shape)
        if not self.calibrated:
            raise InputError(f"there are no prediction intervals: {REMEDY}")
        seasons = torch.full((len(context),), self._season) if seasons is None else seasons.cpu()
        scale = error_scale(context, seasons, own_error, self._relative)[:, None]  # (batch, 1, feature)
        floor, is_common = floor_of(context, self._nonnegative.to(context.device))
        horizon, sign = point.shape[1], signed.sign().to(point)[:, None, None, None]
        half = half_widths_at(self._half_widths, signed.abs(), horizon)[:, None, :, None].to(point)
        if are_quantiles:
            of_one_side = half_widths_at(self._half_widths, (1 + signed) / 2, horizon)[:, None, :, None]
            half = torch.where(is_common[:, None], of_one_side.to(point), half)
        values = point + sign * half * scale
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
            min_context_length: number of steps of a context that must lie within the series; by default
                those of ``short_contexts``.
            rank: number of this device.
            world_size: number of devices.
        """
        if self._data is not data:  # it takes a pass over all values
            nonnegative = never_negative(data, data.ends.index_put((segments.series,), segments.end))
            nonnegative = torch.stack(gathered_objects(nonnegative)).all(0)  # machines may share the files
            self._season, self._nonnegative, self._data = int(seasons.median()), nonnegative, data
        num_origins = max(MIN_ORIGINS, MAX_STEPS // (context_length + horizon))
        origin_step = max(1, ceil(int((segments.end - segments.start).sum()) / num_origins))
        least = min_context_length or short_contexts(segments, context_length, horizon)
        windows = forecast_starts(segments, context_length, horizon, origin_step, least)
        # Neighbouring origins have similar errors. Of very many series only some are forecast.
        chosen = torch.linspace(0, len(windows) - 1, min(len(windows), 2 * num_origins)).long()
        make_batch = partial(forecast_batch, data, segments, windows, context_length, horizon, None, 0)
        shares = (len(chosen), num_origins, (rank, world_size))
        batches = BatchLoader(lambda items: make_batch(chosen[items]), *shares)
        errors, scale, self._relative = errors_of(forecaster, batches, seasons)
        self._half_widths, self.horizon = learn_half_widths(errors, scale, origin_step)

    def calibrate_for(self, forecaster: Any, batches: SequenceBatches, ends: Tensor) -> None:
        """Calibrate an untrained network for the forecasts of ``batches``, by values before ``ends``."""
        self.calibrate_on_last_steps(forecaster, batches.data, ends, **calibration_sizes(batches))

    def calibrate_on_last_steps(
        self, forecaster: Any, data: SeriesData, ends: Tensor, *, horizon: int, **settings: Any
    ) -> None:
        """Calibrate an untrained network on the last steps before ``ends (series,)``.

        The result is valid for these series only, and no checkpoint keeps it. Arguments as for ``calibrate``.
        """
        self._reset()
        most = max(LAST_HORIZONS * horizon, LAST_STEPS)
        segments = split_by_time(data.offsets[:-1], ends, LAST_FRACTION, 0.0, most)["val"]
        self.calibrate(forecaster, data, segments, horizon=horizon, **settings)
        self._is_temporary = True


def is_trained(forecaster: Any) -> bool:
    """Return False for a pretrained network that was not trained on any data of the user."""
    return bool(getattr(forecaster, "is_trained", True))


def calibration_sizes(batches: SequenceBatches) -> dict[str, Any]:
    """Return the sizes, seasons and devices of a calibration for the forecasts of batches."""
    rank, world_size = batches.devices
    least = getattr(batches, "min_context_length", None)
    sizes = {"context_length": batches.forecast_context, "horizon": batches.horizon}
    seasons = {"seasons": seasons_of(batches.data), "min_context_length": least}
    return {**sizes, **seasons, "rank": rank, "world_size": world_size}
