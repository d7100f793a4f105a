"""Generated series with gaps, short and long ones: training sees nothing that is held out."""

from collections.abc import Iterable
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.series import Series, SeriesData, TimeIndex
from rnn_lightning.data.windows import ForecastBatch, Split
from rnn_lightning.transforms import named_transforms

Step = tuple[int, int]
"""The number of a series and a step of it."""

sources = st.lists(
    st.lists(st.one_of(st.none(), st.just(1)), min_size=3, max_size=40).filter(
        lambda steps: sum(map(bool, steps)) > 1
    ),
    min_size=1,
    max_size=4,
)
"""For each series, which of its steps are known."""

options = {
    "context_length": st.integers(1, 8),
    "scored_length": st.integers(1, 8),
    "horizon": st.integers(1, 6),
    "val_fraction": st.floats(0, 0.45),
    "test_fraction": st.floats(0, 0.45),
    "split_by": st.sampled_from(["time", "series"]),
}


class Generated(Series):
    """The value of step ``k`` of series ``i`` is ``1000 i + k``, and ``-1`` where it is changed."""

    def __init__(self, steps: list[list[int | None]], changed: set[Step]) -> None:
        self.steps, self.changed = steps, changed

    def load(self) -> SeriesData:
        values, lengths = [], []
        for i, is_known in enumerate(self.steps):
            known = [k for k, step in enumerate(is_known) if step]
            lengths.append(known[-1] + 1 - known[0])
            values += [
                (-1.0 if (i, k) in self.changed else 1000.0 * i + k) if step else torch.nan
                for k, step in enumerate(is_known[known[0] : known[-1] + 1])
            ]
        count = len(lengths)
        offsets, times = torch.tensor([0, *lengths]).cumsum(0), TimeIndex([0] * count, [1] * count)
        return SeriesData(
            torch.tensor(values)[:, None], offsets, [str(i) for i in range(count)], ["y"], times
        )


def made(steps: list[list[int | None]], changed: set[Step], given: dict[str, Any]) -> SequenceDataModule:
    datamodule = SequenceDataModule(Generated(steps, changed), num_batches_per_epoch=None, **given)
    datamodule.setup("predict")
    return datamodule


def steps_of(values: Tensor) -> set[Step]:
    return {divmod(int(value), 1000) for value in values[~values.isnan()]}


def held_out(datamodule: SequenceDataModule, split: Split) -> set[Step]:
    segments, found = datamodule.segments[split], set()
    for series, first, start, end in zip(*segments, strict=True):
        found |= {(int(series), step) for step in range(int(start - first), int(end - first))}
    return found


def training(datamodule: SequenceDataModule) -> tuple[list[Tensor], list[Tensor]]:
    """All windows, and the statistics that transforms take from the training split."""
    windows = []
    if len(datamodule.training_starts()):
        windows = [batch.values for batch in datamodule.train_dataloader()]
    transforms = named_transforms(["difference", "standardize"], 1)
    transforms.fit(datamodule.train_series())
    return windows, list(transforms.buffers())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(sources, st.fixed_dictionaries(options))
def test_no_split_scores_what_another_scores_and_training_sees_nothing_held_out(
    steps: list[list[int | None]], given: dict[str, Any]
) -> None:
    datamodule = made(steps, set(), given)
    known = steps_of(datamodule.data.values)
    assert len(known) == sum(bool(is_known) for of_series in steps for is_known in of_series)
    context = datamodule.context_length
    windows, statistics = training(datamodule)
    scored = {"train": set().union(*(steps_of(values[:, context:]) for values in windows))}
    loaders: dict[Split, Iterable[ForecastBatch]] = {
        "val": datamodule.val_dataloader(),
        "test": datamodule.test_dataloader(),
    }
    for name, loader in loaders.items():
        targets = [batch.target for batch in loader if len(batch.target)]
        scored[name] = set().union(*(steps_of(target) for target in targets))
        assert scored[name] <= held_out(datamodule, name)
        assert sum(int((~target.isnan()).sum()) for target in targets) == len(scored[name])
    assert sum(map(len, scored.values())) == len(set().union(*scored.values()))
    secret = held_out(datamodule, "val") | held_out(datamodule, "test")
    assert not secret & set().union(*(steps_of(values) for values in windows))
    other_windows, other_statistics = training(made(steps, secret, given))
    for one, other in zip([*windows, *statistics], [*other_windows, *other_statistics], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
