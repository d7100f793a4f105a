import dataclasses
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch

from rnn_lightning import (
    ArraySeries,
    BundledForecaster,
    CalibratedIntervals,
    Forecaster,
    PredictionIntervals,
    PretrainedForecaster,
    SequenceDataModule,
    SeriesData,
    SineSeries,
)
from rnn_lightning.data.series import TimeIndex
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.interval_widths import learn_half_widths
from rnn_lightning.tables.seasons import given_traits

LEVELS = [50, 80, 95]


def intervals_of_walks(*, season: int = 1, nonnegative: bool = False) -> PredictionIntervals:
    """Calibrated by the errors of random walks with steps of one error scale."""
    errors = torch.randn(400, 30, 1, generator=torch.manual_seed(0)).cumsum(1)
    half_widths, horizon = learn_half_widths(errors, torch.ones(400, 1), origin_step=30)
    intervals = PredictionIntervals()
    facts = {
        "season": season,
        "nonnegative": torch.tensor([nonnegative]),
        "relative": torch.full((1,), torch.nan),
    }
    intervals.load_state_dict({"half_widths": half_widths, "horizon": horizon, **facts})
    return intervals


def walks(number: int, scale: float = 1.0, seed: int = 0) -> SequenceDataModule:
    values = 50 * scale + scale * torch.randn(number, 80, 1, generator=torch.manual_seed(seed)).cumsum(1)
    return SequenceDataModule(ArraySeries(values.numpy()), context_length=40, horizon=6, val_fraction=0.3)


def trainer(*callbacks: L.Callback, **settings: Any) -> L.Trainer:
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return L.Trainer(callbacks=[*callbacks], accelerator="cpu", **{**quiet, **settings})


def width(intervals: PredictionIntervals, context: torch.Tensor | None = None) -> float:
    context = torch.arange(40.0).remainder(2)[None, :, None] if context is None else context
    low, high = intervals.interval_bounds(torch.full((1, 6, 1), 50.0), context, [80])
    return float((high - low).mean())


def test_bounds_are_symmetric_ordered_and_in_units_of_each_series() -> None:
    intervals, point = intervals_of_walks(), torch.randn(2, 24, 1)
    context = torch.tensor([1.0, -1]).repeat(20).cumsum(0)[:, None] * torch.tensor([1.0, 3])[:, None, None]
    bounds = intervals.interval_bounds(point, context, LEVELS)
    half_widths = (bounds[1::2] - bounds[::2]) / 2
    torch.testing.assert_close((bounds[1::2] + bounds[::2]) / 2, point.expand(3, 2, 24, 1))
    torch.testing.assert_close(half_widths[:, 1], 3 * half_widths[:, 0])
    assert bool((half_widths.diff(dim=0) > 0).all())


def test_samples_spread_as_the_intervals_and_keep_their_order() -> None:
    intervals = intervals_of_walks()
    torch.manual_seed(4)
    samples, point, context = (
        torch.randn(999, 2, 24, 1).cumsum(2),
        torch.randn(2, 24, 1),
        torch.randn(2, 60, 1),
    )
    moved = intervals.spread_paths(samples, point, context)
    assert torch.equal(moved.argsort(0), samples.argsort(0))
    quantiles = torch.quantile(moved, torch.tensor([0.1, 0.9]), 0)
    bounds = intervals.interval_bounds(point, context, [80])
    torch.testing.assert_close(quantiles, bounds, rtol=0.03, atol=0.03)
    torch.testing.assert_close(moved.sort(0).values, intervals.quantiles(999, point, context))


def test_series_that_were_never_negative_have_no_negative_intervals() -> None:
    past, point = torch.tensor([[0.0, 3, torch.nan, 1], [-1, 3, 2, 1]])[..., None], torch.ones(2, 20, 1)
    assert float(intervals_of_walks().interval_bounds(point, past, [95])[0, 0].min()) < 0
    intervals = intervals_of_walks(nonnegative=True)
    for values in (
        intervals.interval_bounds(point, past, LEVELS),
        intervals.spread_paths(torch.randn(50, 2, 20, 1), point, past),
    ):
        assert float(values[:, 0].min()) == 0
        assert float(values[:, 1].min()) < 0


def test_intervals_of_intermittent_series_hold_the_value_that_most_of_them_are() -> None:
    intervals, point = intervals_of_walks(nonnegative=True), torch.full((2, 20, 1), 99.0)
    past = torch.tensor([[0.0, 0, 3, 0, torch.nan, 1, 0, 0], [0.0, 0, 3, 2, torch.nan, 1, 1, 0]])[..., None]
    low, high = intervals.interval_bounds(point, past, [80])
    assert low[0].eq(0).all()
    assert low[1].gt(50).all()
    assert high.gt(99).all()
    quantiles = intervals.quantiles(21, point, past)
    torch.testing.assert_close(quantiles[:10, 0], torch.zeros(10, 20, 1))
    assert quantiles[10:].ge(99).all()


def test_what_an_interval_from_zero_misses_lies_above_it() -> None:
    intervals, point = intervals_of_walks(nonnegative=True), torch.full((2, 3, 1), 99.0)
    past = torch.tensor([[0.0, 0, 3, 0, torch.nan, 1, 0, 0], [0.0, 0, 3, 2, torch.nan, 1, 1, 0]])[..., None]
    (median, high) = intervals.values_at([0.5, 0.9], point, past)
    bounds = intervals.interval_bounds(point, past, [80, 90])
    torch.testing.assert_close(median, point)
    torch.testing.assert_close(high[0], bounds[3, 0])  # its interval is from 0 on
    torch.testing.assert_close(high[1], bounds[1, 1])


def test_zeros_of_a_series_are_its_floor_though_others_are_negative() -> None:
    past = torch.tensor([[0.0, 0, 3, 0, 0, 1, 0, 0], [0.0, 0, 3, 2, 1, 1, 1, 0]])[..., None]
    low = intervals_of_walks().interval_bounds(torch.zeros(2, 3, 1), past, [80])[0]
    assert low[0].eq(0).all()
    assert low[1].lt(0).all()


def test_a_new_series_has_widths_like_those_of_the_others() -> None:
    rng, lengths = np.random.default_rng(0), [100] * 20 + [2] * 100
    parts = [torch.from_numpy(rng.normal(100, 10, length)).float() for length in lengths]
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    times = TimeIndex([0] * 120, [1] * 120)
    data = SeriesData(torch.cat(parts)[:, None], offsets, [f"{i}" for i in range(120)], ["y"], times)
    context, point = torch.stack([part[-2:] for part in parts])[..., None], torch.full((120, 3, 1), 100.0)
    intervals, forecaster = CalibratedIntervals(), BundledForecaster()
    data = dataclasses.replace(data, traits=given_traits((), data.lengths))
    sizes: dict[str, Any] = {"context_length": 80, "horizon": 3, "seasons": torch.ones(120, dtype=torch.long)}
    intervals.calibrate_on_last_steps(forecaster, data, data.ends, **sizes, min_context_length=10)
    low, high = intervals.interval_bounds(point, context, [80])[:, 20:]
    truth = torch.from_numpy(rng.normal(100, 10, (100, 3, 1)))
    assert 0.7 < float(((low < truth) & (truth < high)).float().mean()) < 0.9
    assert float((high - low).amin()) > 10


def test_each_series_has_the_season_that_it_is_given_or_that_of_the_calibration() -> None:
    pattern = torch.tensor([0.0, 5, 1, 9]).repeat(10)[None, :, None] + torch.randn(1, 40, 1)
    intervals, point = intervals_of_walks(), torch.zeros(2, 6, 1)
    bounds = intervals.interval_bounds(point, pattern.repeat(2, 1, 1), [80], seasons=torch.tensor([4, 1]))
    assert float(bounds[1, 0].mean()) < 0.5 * float(bounds[1, 1].mean())
    stored = intervals_of_walks(season=4).interval_bounds(point[:1], pattern, [80])
    torch.testing.assert_close(stored, bounds[:, :1])


def test_without_calibration_sampled_paths_give_the_bounds_or_nothing_does() -> None:
    intervals, point, context = PredictionIntervals(), torch.zeros(2, 6, 1), torch.randn(2, 40, 1)
    samples = torch.randn(500, 2, 6, 1)
    assert not intervals.calibrated
    assert intervals.spread_paths(samples, point, context) is samples
    bounds = intervals.interval_bounds(point, context, [50, 80], samples=samples)
    expected = torch.quantile(samples, torch.tensor([0.25, 0.75, 0.1, 0.9]), 0)
    torch.testing.assert_close(bounds, expected)
    for ask in (intervals.interval_bounds, lambda *known: intervals.quantiles(9, *known[:2])):
        with pytest.raises(InputError, match="there are no prediction intervals: fit with `val_fraction`"):
            ask(point, context, [80])
    # A device without forecasts takes part.
    assert intervals.interval_bounds(point[:0], context[:0], [80]).shape == (2, 0, 6, 1)


def test_levels_are_those_that_were_asked_for_or_80_where_there_are_intervals() -> None:
    calibrated, other = intervals_of_walks(), PredictionIntervals()
    assert calibrated.choose_levels(None) == other.choose_levels(None, 9) == [80]
    assert calibrated.choose_levels([90, 50, 90]) == [50, 90]
    assert other.choose_levels(None) == other.choose_levels([]) == calibrated.choose_levels([]) == []
    with pytest.raises(InputError, match=r"`levels` \[50\]: the network was fitted without validation"):
        other.choose_levels([50])
    with pytest.raises(InputError, match="`levels` must be between 0 and 100 percent, got 100"):
        calibrated.choose_levels([50, 100])
    with pytest.raises(InputError, match="`num_samples` 1: an interval needs two sampled paths"):
        other.choose_levels(None, 1)


def test_a_fit_calibrates_and_its_checkpoint_keeps_the_intervals(tmp_path: Path) -> None:
    intervals = PredictionIntervals()
    fit = trainer(intervals, max_epochs=1, limit_train_batches=4)
    fit.fit(Forecaster(hidden_size=4), walks(8))
    fit.save_checkpoint(tmp_path / "a.ckpt")
    assert intervals.calibrated
    assert intervals.horizon == 6
    loaded = PredictionIntervals.from_checkpoint(tmp_path / "a.ckpt")
    assert width(loaded) == width(intervals) > 0
    assert loaded.state_dict()["nonnegative"].tolist() == [True]
    restored = PredictionIntervals()
    trainer(restored).predict(Forecaster(hidden_size=4), walks(8), ckpt_path=tmp_path / "a.ckpt")
    assert width(restored) == width(intervals)
    without = trainer(PredictionIntervals(), max_epochs=1, limit_train_batches=4, limit_val_batches=0)
    without.fit(Forecaster(hidden_size=4), walks(8))
    without.save_checkpoint(tmp_path / "b.ckpt")
    assert not PredictionIntervals.from_checkpoint(tmp_path / "b.ckpt").calibrated
    trainer(restored).predict(Forecaster(hidden_size=4), walks(8), ckpt_path=tmp_path / "b.ckpt")
    assert not restored.calibrated


def test_calibrated_intervals_hold_what_they_say_on_new_series() -> None:
    intervals, forecaster, data = PredictionIntervals(), PretrainedForecaster(), walks(60)
    forecaster.is_trained = True
    trainer(intervals).validate(forecaster, data, verbose=False)
    values = 50 + torch.randn(300, 80, 1, generator=torch.manual_seed(9)).cumsum(1)
    context, truth = values[:, 34:74], values[:, 74:]
    with torch.no_grad():
        point = forecaster(context, 6)
    bounds = intervals.interval_bounds(point, context, LEVELS)
    for level, low, high in zip(LEVELS, bounds[::2], bounds[1::2], strict=True):
        share = float(((truth >= low) & (truth <= high)).float().mean())
        assert share == pytest.approx(level / 100, abs=0.05)


def test_a_network_that_was_never_trained_has_intervals_of_the_present_table_alone() -> None:
    def predict(intervals: PredictionIntervals, data: SequenceDataModule) -> float:
        trainer(intervals).predict(PretrainedForecaster(), data)
        return width(intervals)

    intervals = PredictionIntervals()
    narrow = walks(9)
    noisy = SequenceDataModule(
        ArraySeries(np.random.default_rng(0).standard_cauchy((9, 80, 1))), context_length=40, horizon=6
    )
    fresh = predict(PredictionIntervals(), narrow)
    assert predict(intervals, noisy) != pytest.approx(fresh, rel=0.1)
    assert predict(intervals, narrow) == fresh
    assert intervals.state_dict() == {}
    single = SequenceDataModule(ArraySeries(np.ones((1, 1, 1))), context_length=40, horizon=6)
    trainer(intervals).predict(PretrainedForecaster(), single)
    assert not intervals.calibrated


def test_a_test_of_a_network_that_was_never_trained_does_not_calibrate_on_the_values_it_scores() -> None:
    widths, data = [], walks(9)
    for change in (0.0, 1000.0):
        values = data.series.load().values.view(9, 80, 1).clone()
        values[:, -8:] += change * torch.randn(9, 8, 1)
        intervals, changed = PredictionIntervals(), walks(9)
        changed.series = ArraySeries(values.numpy())
        trainer(intervals).test(PretrainedForecaster(), changed, verbose=False)
        assert intervals.calibrated
        widths.append(width(intervals))
    assert widths[0] == widths[1]


def test_a_network_that_was_trained_keeps_the_intervals_of_its_validation() -> None:
    forecaster, intervals = Forecaster(hidden_size=4), PredictionIntervals()
    forecaster.network.transforms.fitted.fill_(True)
    forecaster.is_trained = True
    trainer(intervals).predict(forecaster, SequenceDataModule(SineSeries()))
    assert not intervals.calibrated
    trainer(intervals).validate(forecaster, walks(9), verbose=False)
    before = width(intervals)
    trainer(intervals).predict(forecaster, walks(9, scale=7.0, seed=3))
    assert width(intervals) == before
