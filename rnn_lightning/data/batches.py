"""From series and window numbers to batches: what is cut from the values and covariates. No Lightning."""

from itertools import zip_longest
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from rnn_lightning.data.series import SeriesData, counted, encode_calendar
from rnn_lightning.data.windows import Segments, Windows
from rnn_lightning.errors import InputError, quoted

SCALE_STEPS = 1000
"""The steps up to the origin whose standard deviation is the scale of a series' errors."""

Bounds = tuple[Tensor, Tensor]
"""The first row and one past the last of each window, ``(batch,)`` each; outside, nothing is known."""


class WindowBatch(NamedTuple):
    """Windows to train on.

    Attributes:
        values: ``(batch, time, feature)`` in the units of the data, NaN where they are not known.
        context_length: number of first steps that warm the state up and are not scored.
        covariates: ``(batch, time, covariate)``, those of the same steps, or None.
        complete: whether all values are known: said where the data are, so that no GPU has to be waited for;
            None leaves it to be found out.
        season: steps of the season of these windows, where it is not that of all.
        block: the windows of several batches made together, of which these are those from ``first`` on.
        first: see ``block``.
    """

    values: Tensor
    context_length: int
    covariates: Tensor | None = None
    complete: bool | None = None
    season: int | None = None
    block: "WindowBatch | None" = None
    first: int = 0

    def rows(self, first: int, end: int) -> "WindowBatch":
        """The windows from ``first`` to before ``end`` as a batch of this block."""
        covariates = None if self.covariates is None else self.covariates[first:end]
        return self._replace(values=self.values[first:end], covariates=covariates, block=self, first=first)

    def whole(self) -> tuple["WindowBatch", int]:
        """The block, and where these windows begin in it; these alone if a hook has replaced them."""
        if self.block is None:
            return self, 0
        for mine, of_block in ((self.values, self.block.values), (self.covariates, self.block.covariates)):
            if mine is not None and (of_block is None or mine.data_ptr() != of_block[self.first].data_ptr()):
                return self, 0
        return self.block, self.first

    def to(self, device: torch.device, **options: Any) -> "WindowBatch":
        """The batch on a device, where its block does not follow."""
        if self.values.device == device:
            return self
        return _moved(self._replace(block=None, first=0), device, options)


class ForecastBatch(NamedTuple):
    """Forecasts to make.

    Attributes:
        context: ``(batch, time, feature)``, the steps up to the origin, NaN where they are not known.
        horizon: number of steps to generate.
        series_index: ``(batch,)``, which series each is of.
        names: the id of that series.
        origin: ``(batch,)``, the last known step of each, counted from the start of its series.
        target: ``(batch, horizon, feature)``, what follows, NaN where it is not known; where nothing follows,
            ``(batch, 0, feature)``.
        scale: ``(batch, feature)``, by which errors are made comparable between series; None without target.
        covariates: ``(batch, time + horizon, covariate)``, those of the context and of the horizon, or None.
        num_samples: number of sampled paths wanted, or None.
        seed: seed of the sampled paths.
    """

    context: Tensor
    horizon: int
    series_index: Tensor
    names: list[str]
    origin: Tensor
    target: Tensor
    scale: Tensor | None = None
    covariates: Tensor | None = None
    num_samples: int | None = None
    seed: int = 0

    def to(self, device: torch.device, **options: Any) -> "ForecastBatch":
        """The batch on a device."""
        return _moved(self, device, options)


AnyBatch = TypeVar("AnyBatch", WindowBatch, ForecastBatch)


def _moved(batch: AnyBatch, device: torch.device, options: dict[str, Any]) -> AnyBatch:
    parts: list[Any] = [part.to(device, **options) if isinstance(part, Tensor) else part for part in batch]
    return type(batch)(*parts)


def training_batch(
    data: SeriesData,
    segments: Segments,
    windows: Windows,
    context_length: int,
    length: int,
    padded: bool,
    items: Tensor,
) -> WindowBatch:
    """The training windows numbered ``items``, of ``length`` steps, some of them ``padded``."""
    segment, start = windows.locate(items)
    steps = start[:, None] + torch.arange(length)
    bounds = (segments.start[segment], segments.end[segment]) if padded else None
    values = values_at(data, steps, bounds)
    # A sum is NaN if any value is: the cheapest way to know.
    complete = bool(values.sum().isfinite())
    return WindowBatch(values, context_length, covariates_at(data, steps, bounds), complete)


def scored_batch(
    data: SeriesData,
    segments: Segments,
    windows: Windows,
    context_length: int,
    horizon: int,
    season: int | None,
    num_samples: int | None,
    seed: int,
    items: Tensor,
) -> ForecastBatch:
    """The forecasts numbered ``items`` of a held-out split; beyond its end the target is NaN.

    With ``season`` None there is no scale.
    """
    segment, start = windows.locate(items)
    series, first = segments.series[segment], segments.first[segment]
    steps = start[:, None] + torch.arange(context_length + horizon)
    values = values_at(data, steps, (first, segments.end[segment]))
    context, target = values[:, :context_length], values[:, context_length:]
    # What nothing is known of before is not scored; any number stands for it.
    unknown = context.isnan().all(1, keepdim=True)
    target.masked_fill_(unknown, torch.nan)
    context.masked_fill_(unknown, 1.0)
    covariates = covariates_at(data, steps, (first, data.offsets[series + 1]))
    origin = start + context_length - 1
    scale = None
    if season is not None:
        past = origin[:, None] + torch.arange(1 - max(SCALE_STEPS, 2 * season), 1)
        history = values_at(data, past, (first, origin + 1))
        scale = _scale(history[:, -SCALE_STEPS:])
    return ForecastBatch(
        context,
        horizon,
        series,
        [data.ids[index] for index in series.tolist()],
        origin - first,
        target,
        scale,
        covariates,
        num_samples,
        seed,
    )


def future_batch(
    data: SeriesData, context_length: int, horizon: int, num_samples: int | None, seed: int, items: Tensor
) -> ForecastBatch:
    """The forecasts of what follows the series numbered ``items``."""
    first, end = data.offsets[items], data.ends[items]
    steps = end[:, None] + torch.arange(-context_length, 0)
    context = values_at(data, steps, (first, end))
    covariates = covariates_at(data, steps, (first, end))
    if covariates is not None:
        covariates = torch.cat([covariates, _future(data, horizon, items)], 1)
    names = [data.ids[index] for index in items.tolist()]
    target, origin = context[:, :0], end - first - 1
    return ForecastBatch(context, horizon, items, names, origin, target, None, covariates, num_samples, seed)


def _scale(history: Tensor) -> Tensor:
    """The standard deviation ``(batch, feature)`` over time; of constants their magnitude, or 1."""
    mean = history.nanmean(1, keepdim=True)
    deviation, magnitude = (history - mean).square().nanmean(1).sqrt(), mean[:, 0].abs()
    return torch.where(deviation > 1e-6 * magnitude, deviation, torch.where(magnitude > 0, magnitude, 1.0))


def values_at(data: SeriesData, steps: Tensor, bounds: Bounds | None) -> Tensor:
    """The values of rows ``steps (batch, time)``, NaN outside of the bounds; None if all lie within."""
    if bounds is None:
        return data.values[steps]
    return data.values[steps.clamp(0, len(data.values) - 1)].masked_fill_(_outside(steps, bounds), torch.nan)


def covariates_at(data: SeriesData, steps: Tensor, bounds: Bounds | None) -> Tensor | None:
    """The covariates of rows ``steps (batch, time)``, NaN outside of the bounds; None without covariates."""
    covariates = data.encoded(steps if bounds is None else steps.clamp(0, len(data.values) - 1))
    if covariates is None or bounds is None:
        return covariates
    return covariates.masked_fill_(_outside(steps, bounds), torch.nan)


def _outside(steps: Tensor, bounds: Bounds) -> Tensor:
    return ((steps < bounds[0][:, None]) | (steps >= bounds[1][:, None]))[..., None]


def _future(data: SeriesData, horizon: int, items: Tensor) -> Tensor:
    """The covariates ``(batch, horizon, covariate)`` of the steps after the last known one of each series."""
    parts = []
    if data.covariates is not None:
        parts.append(data.covariates[data.ends[items][:, None] + torch.arange(horizon)])
    if data.calendar is not None:
        parts.append(encode_calendar(data.future_calendar(items.tolist(), horizon), data.calendar_names))
    return torch.cat(parts, -1)


def incomplete_series(data: SeriesData, horizon: int) -> Tensor:
    """The numbers of the series whose covariates are not all known over the horizon."""
    if data.covariates is None:
        return torch.zeros(0, dtype=torch.long)
    is_missing = data.offsets.diff() - data.lengths < horizon
    long_enough = (~is_missing).nonzero()[:, 0]
    rows = data.ends[long_enough][:, None] + torch.arange(horizon)
    is_missing[long_enough] = data.covariates[rows].isnan().any(-1).any(-1)
    return is_missing.nonzero()[:, 0]


def without_incomplete(data: SeriesData, horizon: int) -> SeriesData:
    """The series whose covariates are known over the horizon, with a note on the others; all if none are."""
    short = incomplete_series(data, horizon)
    if len(short) in (0, data.num_series):
        return data
    is_kept = torch.ones(data.num_series, dtype=torch.bool)
    is_kept[short] = False
    note = (
        f"{len(short):,} of {data.num_series:,} series are not forecast: {_unknown(data, short, horizon)}. "
        "Add rows with them after the last value, or lower the horizon."
    )
    return data.keep(is_kept.nonzero()[:, 0].tolist(), note)


def _unknown(data: SeriesData, short: Tensor, horizon: int) -> str:
    """Which covariates of which series are not known over the horizon."""
    found = [
        f"{quoted(data.ids[index])} ({_unknown_steps(data, index, horizon)})" for index in short[:3].tolist()
    ]
    more = f" and {len(short) - 3:,} more series" if len(short) > 3 else ""
    return (
        f"the covariates {', '.join(data.covariate_names)} are not known over `horizon` {horizon} "
        f"after the last value of {', '.join(found)}{more}"
    )


def _unknown_steps(data: SeriesData, index: int, horizon: int) -> str:
    """How many steps of the horizon lack covariates of a series, and which."""
    assert data.covariates is not None
    stamps = data.times.stamps(index, int(data.lengths[index]), horizon)
    ahead = data.covariates[int(data.ends[index]) : int(data.offsets[index + 1])][:horizon]
    known = (~ahead.isnan()).all(-1).tolist()
    unknown = [str(stamp) for stamp, is_known in zip_longest(stamps, known, fillvalue=False) if not is_known]
    span = unknown[0] if len(unknown) == 1 else f"{unknown[0]} to {unknown[-1]}"
    return f"{counted(len(unknown), 'step')}, {data.time_column} = {span}"


def require_future(data: SeriesData, horizon: int) -> None:
    """Refuse to forecast where covariates of the horizon are not known.

    Raises:
        InputError: names the series and the steps.
    """
    short = incomplete_series(data, horizon)
    if len(short):
        raise InputError(
            f"{_unknown(data, short, horizon)}: add rows with them after the last value, or lower the "
            "horizon."
        )
