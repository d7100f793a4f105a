"""Generated tables with gaps, short series and several shops: training sees nothing that is held out."""

from collections.abc import Iterable
from itertools import islice

import polars as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rnn_lightning import SequenceDataModule, TableSeries
from rnn_lightning.chain import Transforms
from rnn_lightning.data.batches import ForecastBatch
from rnn_lightning.data.windows import Split

Step = tuple[int, int]
"""The number of a series and a step of it."""

tables = st.lists(
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


def made(steps: list[list[int | None]], changed: set[Step], given: dict[str, object]) -> SequenceDataModule:
    """The value of step ``k`` of series ``i`` is ``1000 i + k``, and ``-1`` where it is changed."""
    rows = []
    for i, of_series in enumerate(steps):
        first = next(k for k, is_known in enumerate(of_series) if is_known)
        for k, is_known in islice(enumerate(of_series), first, None):
            if is_known:
                rows.append((f"s{i}", k, -1.0 if (i, k - first) in changed else 1000.0 * i + k - first))
    table = pl.DataFrame(rows, schema=["unique_id", "ds", "y"], orient="row")
    series = TableSeries(table, frequency=1)
    datamodule = SequenceDataModule(series, num_batches_per_epoch=None, **given)  # type: ignore[arg-type]
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
    if datamodule.summary()["splits"]["train"]["windows"]:
        windows = [batch.values for batch in datamodule.train_dataloader()]
    transforms = Transforms(["difference", "standardize"], 1)
    transforms.fit(datamodule.train_series())
    return windows, list(transforms.buffers())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(tables, st.fixed_dictionaries(options))
def test_no_split_scores_what_another_scores_and_training_sees_nothing_held_out(
    steps: list[list[int | None]], given: dict[str, object]
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
