"""Index arithmetic: the steps of each split, the starts of windows, the forecasts to make. No data."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rnn_lightning.errors import InputError

Split = Literal["train", "val", "test"]


class Segments(NamedTuple):
    """The steps of one split: one run for each of its series, as flat positions; a run may be empty.

    Attributes:
        series: ``(segment,)``, the series each run is of.
        first: ``(segment,)``, the first step of that series: contexts do not reach further back.
        start: ``(segment,)``, the first step of the run.
        end: ``(segment,)``, one past its last step.
    """

    series: Tensor
    first: Tensor
    start: Tensor
    end: Tensor


def split_by_time(
    first: Tensor, last: Tensor, val_fraction: float, test_fraction: float, max_val: float = math.inf
) -> dict[Split, Segments]:
    """Cut every series, from ``first (series,)`` to before ``last``, into train, val and test steps.

    At most ``max_val`` steps of a series validate.
    """
    lengths = (last - first).double()
    test_start = last - (lengths * test_fraction).round().long()
    val_start = test_start - (lengths * val_fraction).round().clamp_max(max_val).long()
    series = torch.arange(len(first))
    return {
        "train": Segments(series, first, first, val_start),
        "val": Segments(series, first, val_start, test_start),
        "test": Segments(series, first, test_start, last),
    }


def split_by_series(
    first: Tensor, last: Tensor, val_fraction: float, test_fraction: float
) -> dict[Split, Segments]:
    """Give the first series to train on, then whole ones to validate on, the last ones to test on."""
    num_series = len(first)
    num_test, num_val = round(num_series * test_fraction), round(num_series * val_fraction)
    bounds = [0, num_series - num_test - num_val, num_series - num_test, num_series]
    splits: tuple[Split, ...] = ("train", "val", "test")
    return {
        name: Segments(torch.arange(low, high), first[low:high], first[low:high], last[low:high])
        for name, low, high in zip(splits, bounds[:-1], bounds[1:], strict=True)
    }


class Windows:
    """Where windows of equal length start in the flat values: a closed form, nothing is listed.

    Window ``j`` of segment ``i`` starts at ``first[i] + j * stride``.

    Args:
        first: ``(segment,)``, flat position of the first window of each segment.
        counts: ``(segment,)``, number of windows of each segment.
        stride: steps between two windows of a segment.
    """

    def __init__(self, first: Tensor, counts: Tensor, stride: int) -> None:
        self.first, self.stride = first, stride
        self.ends = counts.cumsum(0)
        self.begins = self.ends - counts

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def locate(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Segment and flat start position of the windows numbered ``index``, each ``(window,)``."""
        segment = torch.searchsorted(self.ends, index, right=True)
        return segment, self.first[segment] + (index - self.begins[segment]) * self.stride


def training_windows(
    segments: Segments,
    context_length: int,
    scored_length: int,
    stride: int,
    min_context_length: int | None = None,
) -> Windows:
    """All windows, ``stride`` apart, inside the segments: ``(n - length) // stride + 1`` of ``n`` steps.

    A shorter segment of at least two steps has one window that reaches beyond it on both sides, so that its
    steps are divided into context and scored ones as those of a whole window are. With ``min_context_length``
    windows also start before their segment, as long as that many steps of their context, or half of the
    segment, lie within it.
    """
    lengths, length = segments.end - segments.start, context_length + scored_length
    if min_context_length is None:
        own = _own_context(lengths, context_length, scored_length)
        inside = torch.where(lengths >= length, context_length, own)
    else:
        least = min(min_context_length, context_length)
        inside = (lengths // 2).clamp(1, max(1, least))
    counts = (lengths - inside - scored_length).clamp_min(0).div(stride, rounding_mode="floor") + 1
    return Windows(segments.start - context_length + inside, torch.where(lengths >= 2, counts, 0), stride)


def scored_windows(
    segments: Segments,
    context_length: int,
    scored_length: int,
    stride: int | None = None,
    min_context_length: int | None = None,
) -> Windows:
    """Windows that score every step of the segments once, ``ceil(n / scored_length)`` each.

    Their contexts reach back before the segment, and before a series too short for a whole window, where
    there is nothing. The first steps of a series are context only. The last window of a segment may reach
    past its end. With a ``stride``, they start so many steps apart instead, up to the last step. With
    ``min_context_length`` so many steps of a context within the series are enough.
    """
    stride = stride or scored_length
    context = _own_context(segments.end - segments.first, context_length, scored_length)
    context = context.clamp_max(min_context_length or context_length)
    start = torch.maximum(segments.start, segments.first + context)
    counts = (segments.end - start).clamp_min(0).add(stride - 1).div(stride, rounding_mode="floor")
    return Windows(start - context_length, counts, stride)


def rolling_windows(
    segments: Segments, context_length: int, horizon: int, num_origins: int, origin_step: int
) -> Windows:
    """Windows of the last origins of the segments, ``origin_step`` apart: one to ``num_origins`` of each.

    The last one ends where its segment ends; one of a segment shorter than the horizon starts where the
    segment starts, and reaches past its end. Contexts are those of ``scored_windows``.
    """
    context = _own_context(segments.end - segments.first, context_length, horizon)
    start = torch.maximum(segments.start, segments.first + context)
    beyond = segments.end - start - horizon  # steps that are left for further origins
    counts = (beyond.div(origin_step, rounding_mode="floor") + 1).clamp(1, num_origins)
    counts = torch.where(segments.end > start, counts, 0)
    first = torch.where(beyond > 0, segments.end - horizon - (counts - 1) * origin_step, start)
    return Windows(first - context_length, counts, origin_step)


def _own_context(lengths: Tensor, context_length: int, scored_length: int) -> Tensor:
    """The context of series of these lengths: where shorter than a window, the same part as of a window."""
    part = (lengths * context_length).div(context_length + scored_length, rounding_mode="floor")
    return part.clamp(1, context_length)


def require_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raise InputError unless both fractions and what they leave for training make sense."""
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 <= fraction < 1:
            raise InputError(f"`{name}` must be at least 0 and below 1, got {fraction}.")
    if val_fraction + test_fraction >= 1:
        raise InputError(
            f"`val_fraction` {val_fraction} and `test_fraction` {test_fraction} leave nothing to "
            "train on: their sum must be below 1."
        )
