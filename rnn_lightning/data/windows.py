"""From series to batches: the steps of each split, the starts of windows, what is cut there, and loaders."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.data.series import CHUNK_ROWS, SeriesData
from rnn_lightning.devices import copied_to
from rnn_lightning.errors import InputError
from rnn_lightning.transforms import Traits, scale_of

SCALE_STEPS, MIN_SCALE_STEPS = 1000, 30
"""Number of steps up to the origin whose standard deviation is the scale of the errors of a series.

And the first ones that count in any case: of a context of a few steps it would be no scale.
"""

MAX_PERMUTED = 2**22
"""The most windows whose order is held in memory, 16 MB; of more, windows are drawn with replacement."""

Split = Literal["train", "val", "test"]


class Segments(NamedTuple):
    """The steps of one split: for each series a run of rows, which may be empty. All are ``(segment,)``."""

    series: Tensor  # the number of the series
    first: Tensor  # its first row: contexts do not reach further back
    start: Tensor  # the first row of the run
    end: Tensor  # one past its last row

    @property
    def lengths(self) -> Tensor:
        """Number of steps of each run, ``(segment,)``."""
        return self.end - self.start


class Chunks:
    """The rows of segments, read a chunk at a time by ``read(rows)``; can be iterated repeatedly."""

    def __init__(self, read: Callable[[Tensor], Tensor], segments: Segments) -> None:
        self.read, self.segments = read, segments

    def __iter__(self) -> Iterator[Tensor]:
        for start, end in zip(self.segments.start.tolist(), self.segments.end.tolist(), strict=True):
            for first in range(start, end, CHUNK_ROWS):
                yield self.read(torch.arange(first, min(first + CHUNK_ROWS, end)))


def split_by_time(
    first: Tensor, end: Tensor, val_fraction: float, test_fraction: float, max_val: float = math.inf
) -> dict[Split, Segments]:
    """Cut every series, from row ``first (series,)`` to before ``end``, into train, val and test steps.

    At most ``max_val`` steps of a series validate.
    """
    lengths, series = (end - first).double(), torch.arange(len(first))
    test_start = end - (lengths * test_fraction).round().long()
    val_start = test_start - (lengths * val_fraction).round().clamp_max(max_val).long()
    return {
        "train": Segments(series, first, first, val_start),
        "val": Segments(series, first, val_start, test_start),
        "test": Segments(series, first, test_start, end),
    }


def split_by_series(
    first: Tensor, end: Tensor, val_fraction: float, test_fraction: float
) -> dict[Split, Segments]:
    """Train on the first series, validate on whole ones after them, and test on the last ones."""
    num_series = len(first)
    num_test, num_val = round(num_series * test_fraction), round(num_series * val_fraction)
    sizes = (num_series - num_test - num_val, num_val, num_test)
    names: tuple[Split, ...] = ("train", "val", "test")
    parts = zip(torch.arange(num_series).split(sizes), first.split(sizes), end.split(sizes), strict=True)
    return {
        name: Segments(series, low, low, high) for name, (series, low, high) in zip(names, parts, strict=True)
    }


class Windows:
    """The starts of windows: window ``j`` of segment ``i`` starts at ``first[i] + j * stride``."""

    def __init__(self, first: Tensor, counts: Tensor, stride: int) -> None:
        self.first, self.stride, self.ends = first, stride, counts.cumsum(0)
        self.begins = self.ends - counts

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def earlier(self, num_steps: int) -> "Windows":
        """Return windows that start so many steps earlier."""
        return Windows(self.first - num_steps, self.ends - self.begins, self.stride)

    def locate(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the segment and the first row of the windows numbered ``index``, each ``(window,)``."""
        segment = torch.searchsorted(self.ends, index, right=True)
        return segment, self.first[segment] + (index - self.begins[segment]) * self.stride


def training_starts(
    segments: Segments,
    context_length: int,
    scored_length: int,
    stride: int,
    min_context_length: int | None = None,
) -> Windows:
    """Return the windows inside segments, ``stride`` apart: ``(n - length) // stride + 1`` of ``n`` steps.

    A segment of two steps or more that is shorter than a window has one window. The boundary between its
    context and the scored steps divides the segment in the usual proportion; what lies outside is NaN. With
    ``min_context_length`` windows also start before their segment, as long as that many steps of their
    context, or half of the segment, lie within it.
    """
    lengths = segments.lengths
    if min_context_length is None:
        short = lengths < context_length + scored_length
        inside = torch.where(short, _own_context(lengths, context_length, scored_length), context_length)
    else:
        inside = (lengths // 2).clamp(1, max(1, min(min_context_length, context_length)))
    counts = (lengths - inside - scored_length).clamp_min(0).div(stride, rounding_mode="floor") + 1
    return Windows(segments.start - context_length + inside, torch.where(lengths >= 2, counts, 0), stride)


def forecast_starts(
    segments: Segments,
    context_length: int,
    scored_length: int,
    stride: int | None = None,
    min_context_length: int | Tensor | None = None,
) -> Windows:
    """Return windows that score every step of the segments once, ``ceil(n / scored_length)`` each.

    Their contexts reach back before the segment, and before a series that is too short; the last window may
    reach past the end. With a ``stride``, they start so many steps apart instead, up to the last step; with
    ``min_context_length``, perhaps of each segment, so many steps of a context within the series are enough.
    """
    stride = stride or scored_length
    context = _own_context(segments.end - segments.first, context_length, scored_length)
    context = context.clamp_max(context_length if min_context_length is None else min_context_length)
    start = torch.maximum(segments.start, segments.first + context)
    counts = (segments.end - start).clamp_min(0).add(stride - 1).div(stride, rounding_mode="floor")
    return Windows(start - context_length, counts, stride)


def rolling_starts(
    segments: Segments, context_length: int, horizon: int, num_origins: int, origin_step: int
) -> Windows:
    """Return windows of the last origins of segments, ``origin_step`` apart: 1 to ``num_origins`` of each.

    The last one ends where its segment ends, or past the end of one that is shorter than the horizon. Their
    contexts are those of ``short_contexts``.
    """
    context = short_contexts(segments, context_length, horizon)
    start = torch.maximum(segments.start, segments.first + context)
    beyond = segments.end - start - horizon  # steps that are left for further origins
    counts = (beyond.div(origin_step, rounding_mode="floor") + 1).clamp(1, num_origins)
    counts = torch.where(segments.end > start, counts, 0)
    first = torch.where(beyond > 0, segments.end - horizon - (counts - 1) * origin_step, start)
    return Windows(first - context_length, counts, origin_step)


def short_contexts(segments: Segments, context_length: int, horizon: int) -> Tensor:
    """Return the steps that a first forecast must know of each segment, ``(segment,)``.

    What comes before a segment is enough, if it is half of what a short series would have otherwise.
    """
    context = _own_context(segments.end - segments.first, context_length, horizon)
    return torch.minimum(context, torch.maximum(segments.start - segments.first, (context + 1) // 2))


def _own_context(lengths: Tensor, context_length: int, scored_length: int) -> Tensor:
    """Return the context of short series: the same part of their length as of a window."""
    part = (lengths * context_length).div(context_length + scored_length, rounding_mode="floor")
    return part.clamp(1, context_length)


def ends_in_long_gap(context: Tensor, horizon: int) -> Tensor:
    """Return whether the last known value is further back than a horizon, ``(batch, feature)``.

    And than two usual distances between known values. A forecast from there is one of more steps ahead.

    Args:
        context: ``(batch, time, feature)``, NaN where unknown.
        horizon: number of steps to forecast.
    """
    known = ~context.isnan()
    unknown_at_end = (known.flip(1).cumsum(1) == 0).sum(1)
    span = (known.cumsum(1) > 0).sum(1)  # steps from the first known value on
    return unknown_at_end > torch.clamp_min(2 * span / known.sum(1).clamp_min(1), horizon)


class WindowBatch(NamedTuple):
    """Windows to train on, in the units of the data.

    Attributes:
        values: ``(batch, time, feature)``, NaN where they are unknown.
        context_length: number of first steps that warm the state up and are not scored.
        covariates: ``(batch, time, covariate)``, those of the same steps, or None.
        complete: whether all values are known; None if nobody has looked.
        traits: traits of the series, ``(batch, ...)`` each.
    """

    values: Tensor
    context_length: int
    covariates: Tensor | None = None
    complete: bool | None = None
    traits: Traits = {}

    def to(self, device: torch.device) -> "WindowBatch":
        """Return the batch on a device."""
        return moved(self, device)


class ForecastBatch(NamedTuple):
    """Forecasts to make, in the units of the data."""

    context: Tensor  # (batch, time, feature), the steps up to the origin, NaN where they are unknown
    horizon: int  # number of steps to generate
    series_index: Tensor  # (batch,), the number of the series
    names: list[str]  # the id of the series
    origin: Tensor  # (batch,), the last known step, counted from the start of the series
    target: Tensor  # (batch, horizon, feature), what follows, NaN where unknown; no step to predict
    scale: Tensor  # (batch, feature), the unit in which errors of different series are compared
    covariates: Tensor | None = None  # (batch, time + horizon, covariate)
    num_samples: int | None = None  # number of sampled paths wanted
    seed: int = 0  # of the sampled paths
    traits: Traits = {}  # (batch, ...) each

    def to(self, device: torch.device) -> "ForecastBatch":
        """Return the batch on a device."""
        return moved(self, device)


AnyBatch = TypeVar("AnyBatch", WindowBatch, ForecastBatch)


def moved(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """Return a batch with its tensors on a device; traits stay on the CPU, where networks look at them."""
    parts: list[Any] = [copied_to(device, part) if isinstance(part, Tensor) else part for part in batch]
    return type(batch)(*parts)


def scored_windows(batch: ForecastBatch) -> WindowBatch:
    """Return forecasts with what followed them as windows, of which the horizon is scored."""
    values = torch.cat([batch.context, batch.target], 1)  # (batch, context + horizon, feature)
    return WindowBatch(values, batch.context.shape[1], batch.covariates, None, batch.traits)


def are_complete(data: SeriesData, segments: Segments, windows: Windows, length: int) -> bool:
    """Return True if all values are known and no window of ``length`` steps reaches out of its segment."""
    last = windows.first + (windows.ends - windows.begins - 1) * windows.stride
    inside = (windows.first >= segments.start) & (last + length <= segments.end)
    has_none = windows.ends == windows.begins
    chunks = (data.values[first : first + CHUNK_ROWS] for first in range(0, len(data.values), CHUNK_ROWS))
    return bool((inside | has_none).all()) and all(bool(chunk.isfinite().all()) for chunk in chunks)


def window_batch(
    data: SeriesData,
    segments: Segments,
    windows: Windows,
    context_length: int,
    length: int,
    items: Tensor,
    complete: bool = False,
) -> WindowBatch:
    """Cut the training windows numbered ``items``, of ``length`` steps; NaN outside their segment.

    That all are ``complete`` is known, or else looked up. Values on a GPU are cut there.
    """
    segment, start = windows.locate(items)
    bounds = (segments.start[segment], segments.end[segment])
    steps = start[:, None] + torch.arange(length)  # (batch, time)
    covariates = covariates_at(data, steps, *bounds, context_length)
    device = getattr(data.values, "device", steps.device)
    if device != steps.device:
        start, first, end = copied_to(device, torch.stack([start, *bounds])).unbind()  # one copy
        bounds = first, end
        steps = start[:, None] + torch.arange(length, device=device)
    values = values_at(data, steps, *bounds)
    complete = complete or bool(values.sum().isfinite())  # NaN if any value is: the cheapest way to know
    traits = {name: trait[segments.series[segment]] for name, trait in data.traits.items()}
    return WindowBatch(values, context_length, covariates, complete, traits)


def forecast_batch(
    data: SeriesData,
    segments: Segments,
    windows: Windows,
    context_length: int,
    horizon: int,
    num_samples: int | None,
    seed: int,
    items: Tensor,
) -> ForecastBatch:
    """Cut the forecasts numbered ``items`` with what follows them; beyond their segment that is NaN."""
    segment, start = windows.locate(items)
    series, first = segments.series[segment], segments.first[segment]
    steps = start[:, None] + torch.arange(context_length + horizon)  # (batch, time + horizon)
    values = values_at(data, steps, first, segments.end[segment])
    context, target = values[:, :context_length], values[:, context_length:]
    # Steps with nothing known before them are not scored; any number stands for their context.
    unknown = context.isnan().all(1, keepdim=True)
    target.masked_fill_(unknown, torch.nan)
    context.masked_fill_(unknown, 1.0)
    origin = start + context_length - 1
    covariates = covariates_at(data, steps, first, data.offsets[series + 1], context_length)
    known = (horizon, series, [data.ids[index] for index in series.tolist()], origin - first)
    traits = {name: trait[series] for name, trait in data.traits.items()}
    last = torch.minimum(first + MIN_SCALE_STEPS, segments.end[segment]) - 1
    scale = error_scale(data, first, torch.maximum(origin, last))
    return ForecastBatch(context, *known, target, scale, covariates, num_samples, seed, traits)


def future_batch(
    data: SeriesData,
    context_length: int,
    horizon: int,
    num_samples: int | None,
    seed: int,
    series: Tensor,
    uses_covariates: bool = True,
) -> ForecastBatch:
    """Cut the contexts of what follows the series numbered ``series``.

    Raises:
        InputError: if covariates of the horizon are unknown to a network that uses them.
    """
    first, end = data.offsets[series], data.ends[series]
    steps = end[:, None] + torch.arange(-context_length, 0)  # (batch, time)
    context, names = values_at(data, steps, first, end), [data.ids[index] for index in series.tolist()]
    covariates = covariates_at(data, steps, first, end, context_length)
    future = data.future_covariates(series, horizon)
    if covariates is not None and future is not None:
        given = 0 if data.covariates is None else data.covariates.shape[1]
        unknown = future[..., :given].isnan().any(-1).any(-1)  # (batch,)
        if uses_covariates and bool(unknown.any()):
            name = names[int(unknown.int().argmax())]
            raise InputError(f"the covariates of series {name!r} are not known over `horizon` {horizon}.")
        covariates = torch.cat([covariates, future], 1)
    known, scale = (horizon, series, names, end - first - 1), error_scale(data, first, end - 1)
    traits = {name: trait[series] for name, trait in data.traits.items()}
    return ForecastBatch(context, *known, context[:, :0], scale, covariates, num_samples, seed, traits)


def error_scale(data: SeriesData, first: Tensor, origin: Tensor) -> Tensor:
    """Return the standard deviation ``(batch, feature)`` of the last steps up to each origin."""
    num_steps = min(SCALE_STEPS, int((origin - first).max()) + 1 if len(origin) else 1)
    history = values_at(data, origin[:, None] + torch.arange(1 - num_steps, 1), first, origin + 1)
    mean = history.nanmean(1, keepdim=True)
    return scale_of((history - mean).square().nanmean(1).sqrt(), mean[:, 0])


def values_at(data: SeriesData, steps: Tensor, first: Tensor, end: Tensor) -> Tensor:
    """Return the values of rows ``steps (batch, time)``, NaN outside of ``first`` to ``end (batch,)``."""
    values = data.values[steps.clamp(0, len(data.values) - 1)].float()
    return values.masked_fill_(_outside(steps, first, end), torch.nan)


def covariates_at(
    data: SeriesData, steps: Tensor, first: Tensor, end: Tensor, num_known: int
) -> Tensor | None:
    """Return the covariates of rows ``steps (batch, time)``, NaN outside; None without covariates.

    They are those that are known after the first ``num_known`` steps.
    """
    covariates = data.covariates_at(steps.clamp(0, len(data.values) - 1))
    if covariates is None:
        return None
    return data.known_covariates(covariates.masked_fill(_outside(steps, first, end), torch.nan), num_known)


def _outside(steps: Tensor, first: Tensor, end: Tensor) -> Tensor:
    return ((steps < first[:, None]) | (steps >= end[:, None]))[..., None]  # (batch, time, 1)


Batch = TypeVar("Batch")


class BatchLoader(Generic[Batch]):
    """Loads the items in order, a batch of item numbers ``(batch,)`` by one call of ``make_batch``.

    Of ``devices``, the number of this one and of all, every one takes every ``world_size``-th item, and
    nothing is repeated to make the shares equal. A device without items gets one empty batch: it has to take
    part when the devices combine their results.
    """

    def __init__(
        self,
        make_batch: Callable[[Tensor], Batch],
        num_items: int,
        batch_size: int,
        devices: tuple[int, int] = (0, 1),
    ) -> None:
        self.make_batch, self.num_items, self.batch_size = make_batch, num_items, batch_size
        self.rank, self.world_size = devices

    def __len__(self) -> int:
        return max(1, math.ceil(len(range(self.rank, self.num_items, self.world_size)) / self.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        mine = range(self.rank, self.num_items, self.world_size)
        for first in range(0, max(1, len(mine)), self.batch_size):
            yield self.make_batch(torch.tensor(mine[first : first + self.batch_size], dtype=torch.long))


class ShuffledLoader(BatchLoader[Any]):
    """Loads random items in epochs of ``num_batches`` batches, or of one pass.

    Each pass goes over all items in an order of its own; where there are more than ``MAX_PERMUTED``, the
    items of each batch are drawn with replacement. The items of a batch depend on the seed and on
    ``position``, the number of batches before it, alone. The devices share each batch equally; the last of a
    pass is cut down to it. One call makes ``batches_together`` small batches, which are all overhead; its
    result is cut by ``rows(start, end)``.
    """

    position = 0

    def __init__(
        self,
        make_batch: Callable[[Tensor], Any],
        num_items: int,
        batch_size: int,
        devices: tuple[int, int] = (0, 1),
        *,
        num_batches: int | None,
        seed: int,
        batches_together: int = 1,
    ) -> None:
        super().__init__(make_batch, num_items, batch_size, devices)
        if num_items < self.world_size:
            raise InputError(
                f"there are {num_items} training windows for {self.world_size} devices: lower `devices`, "
                "`context_length` or `scored_length`."
            )
        self.num_each = num_items // self.world_size
        self.batches_per_pass = math.ceil(self.num_each / batch_size)
        self.num_batches = num_batches or self.batches_per_pass
        self.seed, self.batches_together = seed, batches_together
        self._order: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Any]:
        begin, block = -1, None
        for _ in range(self.num_batches):
            position, self.position = self.position, self.position + 1
            place = position % self.batches_per_pass % self.batches_together
            if block is None or begin != position - place:
                begin = position - place
                block = self.make_batch(self._items(begin))
            start = place * self.batch_size
            yield block if self.batches_together == 1 else block.rows(start, start + self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the data module keeps the position. Lightning asks for it to resume an epoch."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load nothing, see ``state_dict``."""

    def _items(self, position: int) -> Tensor:
        """Return the items of this device in the batches made together from ``position`` on."""
        if self.num_items > MAX_PERMUTED:
            size, end = self.batch_size * self.world_size, position + self.batches_together
            drawn = [self._random(each).integers(self.num_items, size=size) for each in range(position, end)]
            return torch.from_numpy(np.concatenate(drawn)[self.rank :: self.world_size])
        number, index = divmod(position, self.batches_per_pass)
        if self._order is None or self._order[0] != number:
            order = self._random(number).permutation(np.arange(self.num_items, dtype=np.int32))
            self._order = number, torch.from_numpy(order)
        first = index * self.batch_size
        end = min(first + self.batches_together * self.batch_size, self.num_each)
        mine = slice(first * self.world_size + self.rank, end * self.world_size, self.world_size)
        return self._order[1][mine].long()

    def _random(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed % 2**64, number])
