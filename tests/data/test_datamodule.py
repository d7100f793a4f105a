import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.series import Series, SeriesData
from rnn_lightning.data.synthetic import SineSeries
from rnn_lightning.errors import InputError


class Counting(Series):
    """Series ``i`` holds ``1000 i, 1000 i + 1, ...``, of the given lengths."""

    def __init__(self, *lengths: int) -> None:
        self.lengths = lengths

    def load(self) -> SeriesData:
        data = SeriesData.from_equal(torch.zeros(len(self.lengths), 1, 1))
        values = torch.cat([1000 * i + torch.arange(float(n)) for i, n in enumerate(self.lengths)])[:, None]
        return SeriesData(
            values, torch.tensor([0, *self.lengths]).cumsum(0), data.ids, data.features, data.times
        )


class Accompanied(Counting):
    """The same with two covariates, known for two more steps: the negative value, and the step modulo 7."""

    num_covariates = 2

    def load(self) -> SeriesData:
        rows = Counting(*[length + 2 for length in self.lengths]).load()
        values = rows.values.clone()
        for end in rows.offsets[1:]:
            values[end - 2 : end] = torch.nan
        return replace(
            rows,
            values=values,
            lengths=torch.tensor(self.lengths),
            covariates=torch.cat([-rows.values, rows.values % 1000 % 7], 1),
            covariate_names=["minus", "weekday"],
            traits={"season": torch.arange(len(self.lengths)) + 1},
        )


def made(stage: str, *lengths: int, **options: Any) -> SequenceDataModule:
    datamodule = SequenceDataModule(Counting(*lengths), **options)
    datamodule.setup(stage)
    return datamodule


def test_training_windows_are_consecutive_steps_of_one_series() -> None:
    datamodule = made(
        "fit",
        30,
        40,
        context_length=4,
        scored_length=3,
        batch_size=5,
        num_batches_per_epoch=None,
        val_fraction=0.2,
    )
    batches = list(datamodule.train_dataloader())
    windows = torch.cat([batch.values for batch in batches])[..., 0]
    assert {batch.context_length for batch in batches} == {4}
    torch.testing.assert_close(windows.diff(dim=1), torch.ones(len(windows), 6))
    # 30 - 3 - 6 = 21 and 40 - 4 - 8 = 28 steps to train on, every window of 7 of them once
    starts = [*range(21 - 6), *(1000 + start for start in range(28 - 6))]
    assert sorted(windows[:, 0].int().tolist()) == starts


def test_order_depends_on_seed_and_position_alone() -> None:
    def order(seed: int, position: int = 0) -> list[int]:
        datamodule = made(
            "fit", 60, context_length=2, scored_length=2, batch_size=4, seed=seed, num_batches_per_epoch=25
        )
        datamodule.load_state_dict({"position": position})
        torch.rand(7)
        return [int(value) for batch in datamodule.train_dataloader() for value in batch.values[:, 0, 0]]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0, position=3)[:40] == order(0)[12:52]


def test_held_out_targets_follow_their_contexts_and_end_in_nan() -> None:
    datamodule = made(
        "fit", 50, 35, context_length=6, horizon=4, test_fraction=0, val_fraction=0.2, batch_size=3
    )
    cases: list[Any] = list(datamodule.val_dataloader())
    context = torch.cat([case.context for case in cases])[..., 0]
    target = torch.cat([case.target for case in cases])[..., 0]
    series = torch.cat([case.series_index for case in cases])
    origin = torch.cat([case.origin for case in cases])
    assert series.tolist() == [0, 0, 0, 1, 1]
    assert origin.tolist() == [39, 43, 47, 27, 31]
    assert context[:, -1].tolist() == [39, 43, 47, 1027, 1031]
    assert target[:2].tolist() == [[40, 41, 42, 43], [44, 45, 46, 47]]
    assert target[2, :2].tolist() == [48, 49]
    assert target[2, 2:].isnan().all()
    assert target[4, :3].tolist() == [1032, 1033, 1034]
    assert target[4, 3:].isnan().all()


def test_a_test_forecasts_every_held_out_step_once_with_the_scale_of_what_came_before() -> None:
    datamodule = made("test", 50, context_length=6, horizon=4, test_fraction=0.3, num_samples=2)
    (case,) = datamodule.test_dataloader()
    assert case.origin.tolist() == [34, 38, 42, 46]
    assert case.target[~case.target.isnan()].tolist() == list(range(35, 50))
    assert case.num_samples == 2
    expected = [torch.arange(float(origin + 1)).std(correction=0) for origin in case.origin]
    torch.testing.assert_close(case.scale[:, 0], torch.stack(expected))


def test_whole_series_are_held_out_by_series() -> None:
    datamodule = made("test", *[10] * 10, context_length=4, horizon=3, split_by="series")
    (case,) = datamodule.test_dataloader()
    assert case.series_index.tolist() == [9, 9]
    assert case.context[:, -1, 0].tolist() == [9003, 9006]
    assert case.target[..., 0].tolist() == [[9004, 9005, 9006], [9007, 9008, 9009]]
    assert {int(series[0, 0]) // 1000 for series in datamodule.train_series()} == set(range(8))


def test_predictions_follow_the_last_value_of_every_series() -> None:
    datamodule = made("predict", 20, 9, context_length=5, horizon=7, num_samples=3, seed=4)
    (case,) = datamodule.predict_dataloader()
    assert case.context[..., 0].tolist() == [[15, 16, 17, 18, 19], [1004, 1005, 1006, 1007, 1008]]
    assert case.horizon == 7
    assert case.target.shape == (2, 0, 1)
    assert case.names == ["0", "1"]
    assert case.origin.tolist() == [19, 8]
    assert (case.num_samples, case.seed) == (3, 4)


def test_a_short_series_has_one_window_filled_up_on_both_sides() -> None:
    options = {
        "context_length": 6,
        "scored_length": 3,
        "num_batches_per_epoch": None,
        "val_fraction": 0,
        "test_fraction": 0,
    }
    datamodule = made("fit", 10, 4, 1, **options)
    batches = list(datamodule.train_dataloader())
    windows = torch.cat([batch.values for batch in batches])[..., 0].nan_to_num(-1).int().tolist()
    assert sorted(windows)[1:] == [[0, 1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8, 9]]
    # Two of its four steps are context, as six of nine are of a whole window.
    assert sorted(windows)[0] == [-1, -1, -1, -1, 1000, 1001, 1002, 1003, -1]
    assert [batch.complete for batch in batches] == [False]


def test_a_context_does_not_reach_beyond_its_series_and_predictions_start_from_what_there_is() -> None:
    datamodule = made("predict", 20, 3, context_length=5, horizon=2, test_fraction=0.34, val_fraction=0)
    (case,) = datamodule.predict_dataloader()
    assert case.context[1, :, 0].nan_to_num(-1).tolist() == [-1, -1, 1000, 1001, 1002]
    assert case.origin.tolist() == [19, 2]
    datamodule.setup("test")
    cases = list(datamodule.test_dataloader())
    short = [(case, row) for case in cases for row in range(len(case.context)) if case.series_index[row] == 1]
    ((case, row),) = short
    assert case.context[row, :, 0].nan_to_num(-1).tolist() == [-1, -1, -1, 1000, 1001]
    assert case.target[row, :, 0].nan_to_num(-1).tolist() == [1002, -1]
    assert case.scale[row].tolist() == [pytest.approx((2 / 3) ** 0.5)]  # of all three values


def test_errors_are_scaled_by_the_deviation_of_the_thousand_values_up_to_the_origin() -> None:
    datamodule = made("test", 1500, 600, context_length=5, horizon=300, test_fraction=0.2, val_fraction=0)
    for case in datamodule.test_dataloader():
        known = torch.where(case.series_index == 0, 1000.0, case.origin + 1.0)
        # n consecutive integers have the variance (n^2 - 1) / 12
        torch.testing.assert_close(case.scale[:, 0], ((known**2 - 1) / 12).sqrt())


def test_covariates_are_those_of_the_same_steps_and_go_on_over_the_horizon() -> None:
    options = {"context_length": 5, "scored_length": 4, "horizon": 2, "test_fraction": 0.2, "val_fraction": 0}
    datamodule = SequenceDataModule(Accompanied(30, 4), **options)  # type: ignore[arg-type]
    datamodule.setup("predict")
    (case,) = datamodule.predict_dataloader()
    assert case.covariates is not None
    assert case.covariates.shape == (2, 7, 2)
    assert case.covariates[0, :, 0].tolist() == [-25, -26, -27, -28, -29, -30, -31]
    assert case.covariates[1, :, 0].nan_to_num(9).tolist() == [9, -1000, -1001, -1002, -1003, -1004, -1005]
    assert case.covariates[0, :, 1].tolist() == [step % 7 for step in range(25, 32)]
    batch = next(iter(datamodule.train_dataloader()))
    assert batch.covariates is not None
    torch.testing.assert_close(batch.covariates[..., :1], -batch.values, equal_nan=True)
    torch.testing.assert_close(batch.covariates[..., 1:], batch.values % 1000 % 7, equal_nan=True)
    test = next(iter(datamodule.test_dataloader()))
    assert test.covariates is not None
    assert test.covariates[0, :, 0].tolist() == [-19, -20, -21, -22, -23, -24, -25]
    chunks = list(datamodule.train_covariates())
    assert [len(chunk) for chunk in chunks] == [24, 3]
    torch.testing.assert_close(chunks[1], torch.tensor([[-1000.0, 0.0], [-1001.0, 1.0], [-1002.0, 2.0]]))


def test_traits_are_those_of_the_series_of_each_window_and_forecast() -> None:
    options: dict[str, Any] = {"context_length": 5, "scored_length": 4, "horizon": 2, "batch_size": 7}
    datamodule = SequenceDataModule(Accompanied(30, 4, 60), **options)
    datamodule.setup("fit")
    for batch in datamodule.train_dataloader():
        series = batch.values.nan_to_num(0.0).amax(1).flatten() // 1000
        assert batch.traits["season"].tolist() == (series + 1).tolist()
    loaders = datamodule.val_dataloader(), datamodule.test_dataloader(), datamodule.predict_dataloader()
    for loader in loaders:
        for case in loader:
            assert case.traits["season"].tolist() == (case.series_index + 1).tolist()
    moved = case.to(torch.device("meta"))
    assert moved.context.is_meta
    assert not moved.traits["season"].is_meta  # networks look at them


def test_a_horizon_beyond_the_known_covariates_is_refused_with_the_series() -> None:
    datamodule = SequenceDataModule(Accompanied(30, 9), horizon=4)
    datamodule.setup("predict")
    with pytest.raises(InputError, match="covariates of series '0' are not known over `horizon` 4"):
        list(datamodule.predict_dataloader())


def test_what_nothing_is_known_of_before_is_not_scored() -> None:
    datamodule = made("test", 40, context_length=4, horizon=4, test_fraction=0.2)
    datamodule.data.values[28:32] = torch.nan
    first, second = next(iter(datamodule.test_dataloader())).target
    assert first.isnan().all()
    assert second[..., 0].tolist() == [36, 37, 38, 39]
    context = next(iter(datamodule.test_dataloader())).context
    assert context.isfinite().all()


def test_training_steps_come_before_the_held_out_ones() -> None:
    datamodule = made("fit", 100, val_fraction=0.1, test_fraction=0.2, context_length=5, scored_length=5)
    assert [series[:, 0].tolist() for series in datamodule.train_series()] == [list(range(70))]


def test_training_values_are_read_in_chunks_as_often_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnn_lightning.data.windows.CHUNK_ROWS", 30)
    datamodule = made("fit", 100, 20, val_fraction=0.1, test_fraction=0.1, context_length=5, scored_length=5)
    series = datamodule.train_series()
    for _ in range(2):
        chunks = [chunk[:, 0].tolist() for chunk in series]
        assert chunks == [[*range(30)], [*range(30, 60)], [*range(60, 80)], [*range(1000, 1016)]]


@pytest.mark.parametrize(
    "name",
    [
        "context_length",
        "scored_length",
        "stride",
        "horizon",
        "batch_size",
        "num_batches_per_epoch",
        "num_samples",
    ],
)
def test_counts_below_one_are_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=f"`{name}` must be at least 1, got 0"):
        SequenceDataModule(SineSeries(), **{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stage", "lengths", "options", "message"),
    [
        ("fit", (1, 1), {}, "no series has two steps to train on"),
        (
            "fit",
            (60, 60),
            {"split_by": "series", "test_fraction": 0.5, "val_fraction": 0.4},
            "no series has two steps to train on: lower `val_fraction` and `test_fraction`",
        ),
        ("fit", (60,), {"val_fraction": 0.001}, "`val_fraction` 0.001 leaves no step to forecast"),
        ("test", (60,), {"test_fraction": 0.0}, "`test_fraction` 0.0 leaves no step to forecast"),
    ],
)
def test_series_that_are_too_short_are_named(
    stage: str, lengths: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        made(stage, *lengths, **options)


def test_a_series_that_lies_about_its_features_or_covariates_is_refused() -> None:
    source = Counting(100)
    source.num_features = 2
    with pytest.raises(
        InputError, match=re.escape("Counting.load() gives 1 features, and its num_features says 2")
    ):
        SequenceDataModule(source).setup("fit")
    accompanied = Accompanied(100)
    accompanied.num_covariates = 1
    with pytest.raises(InputError, match=r"load\(\) gives 2 covariates, and its num_covariates says 1"):
        SequenceDataModule(accompanied).setup("fit")


def test_a_series_of_ones_own_that_returns_an_array_is_told_what_to_return() -> None:
    class Mine(Series):
        num_features = 1

        def load(self) -> Any:
            return np.arange(50.0)

    with pytest.raises(InputError, match=r"Mine\.load must return SeriesData, .*, got ndarray"):
        SequenceDataModule(Mine()).setup("fit")


def test_a_data_module_is_printed_before_and_after_a_setup() -> None:
    datamodule = SequenceDataModule(SineSeries(), 10, 10)
    before = str(datamodule)
    datamodule.setup("fit")
    assert "horizon 24" in before
    assert "1 series, 400 steps" in str(datamodule)


def test_an_array_with_swapped_axes_is_told_the_order() -> None:
    datamodule = SequenceDataModule(np.random.default_rng(0).normal(size=(3, 50)))
    told = pytest.warns(
        UserWarning, match=r"the array has 3 steps of 50 features: the axes are \(time, feature"
    )
    with told, pytest.raises(InputError, match="leaves no step to forecast"):
        datamodule.setup("fit")
