import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_lightning.data.batches import require_fractions
from rnn_lightning.data.windows import (
    Split,
    forecast_starts,
    rolling_starts,
    split_by_series,
    split_by_time,
    training_starts,
)
from rnn_lightning.errors import InputError

HELD_OUT: tuple[Split, Split] = ("val", "test")
lengths = st.lists(st.integers(1, 60), min_size=1, max_size=6)
fractions = st.floats(0, 0.45)


def bounds_of(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The first row of each series, and one past its last."""
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return offsets[:-1], offsets[1:]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(lengths, fractions, fractions, st.integers(1, 12), st.integers(1, 12), st.integers(1, 5))
def test_every_step_is_scored_in_one_split_at_most_and_held_out_ones_once(
    lengths: list[int], val: float, test: float, context: int, scored: int, stride: int
) -> None:
    first, last = bounds_of(lengths)
    segments = split_by_time(first, last, val, test)
    times_scored = {name: torch.zeros(sum(lengths), dtype=torch.int64) for name in segments}
    windows = training_starts(segments["train"], context, scored, stride)
    for segment, start in zip(*windows.locate(torch.arange(len(windows))), strict=True):
        end = min(int(start) + context + scored, int(segments["train"].end[segment]))
        assert segments["train"].start[segment] < start + context < end
        times_scored["train"][start + context : end] += 1
    for name in HELD_OUT:
        windows = forecast_starts(segments[name], context, scored)
        for segment, start in zip(*windows.locate(torch.arange(len(windows))), strict=True):
            end = min(int(start) + context + scored, int(segments[name].end[segment]))
            assert start + context > first[segment]
            times_scored[name][start + context : end] += 1
    scored_somewhere = torch.stack([times > 0 for times in times_scored.values()]).sum(0)
    assert int(scored_somewhere.max()) <= 1
    for name in HELD_OUT:
        for begin, start, end in zip(*segments[name][1:], strict=True):
            own_context = max(1, min(context, int(end - begin) * context // (context + scored)))
            reachable = max(int(start), int(begin) + own_context)
            assert times_scored[name][start:reachable].sum() == 0
            assert (times_scored[name][reachable:end] == 1).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(lengths, st.integers(1, 10), st.integers(1, 10), st.integers(1, 5))
def test_training_windows_are_all_those_inside_the_series(
    lengths: list[int], context: int, scored: int, stride: int
) -> None:
    bounds = bounds_of(lengths)
    windows = training_starts(split_by_time(*bounds, 0, 0)["train"], context, scored, stride)
    listed = []
    for series, (first, end) in enumerate(zip(*bounds, strict=True)):
        starts = list(range(int(first), int(end) - context - scored + 1, stride))
        if (
            not starts and end - first > 1
        ):  # too short: one window, divided like a whole one, reaching beyond the series
            starts = [int(first) + max(1, int(end - first) * context // (context + scored)) - context]
        listed += [(series, start) for start in starts]
    assert len(windows) == len(listed)
    located = windows.locate(torch.arange(len(windows)))
    assert list(zip(located[0].tolist(), located[1].tolist(), strict=True)) == listed


def test_split_by_time_cuts_each_series_at_its_own_fractions() -> None:
    splits = split_by_time(torch.tensor([0, 100]), torch.tensor([100, 110]), 0.1, 0.2)
    assert [(s.start.tolist(), s.end.tolist()) for s in splits.values()] == [
        ([0, 100], [70, 107]),
        ([70, 107], [80, 108]),
        ([80, 108], [100, 110]),
    ]


def test_split_by_series_gives_whole_series() -> None:
    splits = split_by_series(torch.arange(10) * 3, torch.arange(10) * 3 + 3, 0.1, 0.2)
    assert [s.series.tolist() for s in splits.values()] == [[0, 1, 2, 3, 4, 5, 6], [7], [8, 9]]
    assert splits["val"].start.tolist() == [21]
    assert splits["val"].end.tolist() == [24]


@pytest.mark.parametrize(
    ("val", "test", "message"),
    [
        (-0.1, 0.1, "`val_fraction` must be at least 0 and below 1, got -0.1"),
        (0.1, 1.0, "`test_fraction` must be at least 0 and below 1, got 1.0"),
        (0.5, 0.5, "leave nothing to train on"),
    ],
)
def test_fractions_that_make_no_sense_are_refused(val: float, test: float, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        require_fractions(val, test)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(lengths, fractions, st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(1, 6))
def test_the_last_origins_of_a_part_end_with_it(
    lengths: list[int], test: float, context: int, horizon: int, num_origins: int, step: int
) -> None:
    segments = split_by_time(*bounds_of(lengths), 0.1, test)["test"]
    windows = rolling_starts(segments, context, horizon, num_origins, step)
    segment, start = windows.locate(torch.arange(len(windows)))
    for number, (_, first, begin, end) in enumerate(zip(*segments, strict=True)):
        origins = (start[segment == number] + context).tolist()
        own_context = max(1, min(context, int(end - first) * context // (context + horizon)))
        begin = max(int(begin), int(first) + own_context)
        whole = list(range(int(end) - horizon, begin - 1, -step))[:num_origins]
        assert origins == (whole[::-1] or ([begin] if begin < end else []))
