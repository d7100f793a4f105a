import re
from typing import Any

import numpy as np
import pytest
import torch

from rnn_lightning import SequenceDataModule
from rnn_lightning.data.windows import ShuffledLoader, WindowBatch
from rnn_lightning.errors import InputError
from rnn_lightning.pretrained.prior import (
    MAX_FREE_RUN,
    MIN_BATCH,
    FreshLoader,
    PriorSeries,
    draw_batch,
    draw_series,
    draw_shape,
)
from rnn_lightning.pretrained.prior_parts import autoregress, repeat_unsteadily


@pytest.mark.parametrize(
    ("length", "season"), [(2, 1), (2, 7), (15, 12), (200, 1), (200, 4), (150, 48), (700, 336)]
)
def test_draws_are_finite_and_varied(length: int, season: int) -> None:
    y = draw_series(np.random.default_rng(0), 64, length, season)
    assert y.shape == (64, length)
    assert y.dtype == np.float32
    assert np.isfinite(y).all()
    assert len(np.unique(y, axis=0)) > 50
    assert (y.std(1) > 0).mean() > 0.8


def test_draws_depend_on_the_generator_alone() -> None:
    np.random.seed(1)  # noqa: NPY002 - the global state, which must not matter
    first = draw_series(np.random.default_rng((3, 5)), 8, 60, 12)
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(draw_series(np.random.default_rng((3, 5)), 8, 60, 12), first)
    assert not np.array_equal(draw_series(np.random.default_rng((3, 6)), 8, 60, 12), first)


@pytest.mark.parametrize("season", [4, 12, 24, 168])
def test_most_series_repeat_after_a_season_and_not_after_another_lag(season: int) -> None:
    y = np.diff(draw_series(np.random.default_rng(0), 400, 6 * season, season).astype(np.float64))
    y -= y.mean(1, keepdims=True)

    def correlation(lag: int) -> np.ndarray:
        return (y[:, lag:] * y[:, :-lag]).sum(1) / ((y**2).sum(1) + 1e-12)

    assert np.median(correlation(season) - correlation(season + season // 2)) > 0.15


def test_the_forms_of_series_all_appear() -> None:
    y = draw_series(np.random.default_rng(0), 1000, 100, 12)
    never_negative = (y >= 0).all(1)
    zeros = (y == 0).mean(1)
    whole = (y == y.round()).all(1)
    trending = np.abs(np.corrcoef(np.arange(100), y + 1e-3 * np.arange(100))[0, 1:])
    assert 0.5 < never_negative.mean() < 0.98
    assert 0.03 < (never_negative & (zeros > 0.1)).mean() < 0.2
    assert (whole & never_negative & (zeros > 0.5)).any()
    assert 0.1 < (trending > 0.9).mean() < 0.5
    assert 0.2 < (trending < 0.5).mean() < 0.8


@pytest.mark.parametrize("factor", [0.5, 1.0, 0.99 * np.exp(0.3j)])
def test_an_autoregression_equals_its_loop(factor: complex) -> None:
    innovations = np.random.default_rng(0).standard_normal((3, 50)).astype(complex)
    expected = innovations.copy()
    for t in range(1, 50):
        expected[:, t] += factor * expected[:, t - 1]
    np.testing.assert_allclose(autoregress(innovations, np.full((3, 1), factor)), expected, rtol=1e-10)


def test_an_unsteady_season_runs_through_its_shape() -> None:
    shape = np.tile(np.sin(2 * np.pi * np.arange(20) / 20), (30, 1))
    y = repeat_unsteadily(np.random.default_rng(0), shape, 400)
    spectrum = np.abs(np.fft.rfft(y, axis=1))[:, 1:]
    assert y.min() >= -1
    assert y.max() <= 1
    assert np.median(spectrum.argmax(1) + 1) == pytest.approx(400 / 20, abs=2)


def test_shapes_of_batches_favour_the_calendar_and_short_contexts() -> None:
    rng = np.random.default_rng(0)
    season, context_length, horizon = np.array([draw_shape(rng) for _ in range(4000)]).T
    assert season.min() == 1
    assert season.max() <= 336
    assert (season >= 48).mean() == pytest.approx(0.2, abs=0.03)
    assert (season == 12).mean() > 0.2
    assert len(np.unique(season)) > 60
    assert context_length.min() == 15
    assert (context_length >= 1.5 * season).all()
    assert (context_length[season == 12] < 40).mean() > 0.2
    assert horizon.min() == 4
    assert (horizon <= np.maximum(2 * season, 120)).all()
    assert (horizon > season)[season > 1].mean() > 0.2


def test_prior_series_depend_on_their_own_seed_alone() -> None:
    data = PriorSeries(num_series=5, length=30, season=7, seed=3).load()
    assert data.values.shape == (150, 1)
    assert data.lengths.tolist() == [30] * 5
    torch.manual_seed(1)
    assert torch.equal(PriorSeries(num_series=5, length=30, season=7, seed=3).load().values, data.values)
    assert not torch.equal(PriorSeries(num_series=5, length=30, season=7, seed=4).load().values, data.values)
    assert not torch.equal(PriorSeries(num_series=5, length=30, season=1, seed=3).load().values, data.values)


@pytest.mark.parametrize(("argument", "value"), [("num_series", 0), ("season", 0), ("length", 1)])
def test_prior_series_refuse_what_cannot_be_drawn(argument: str, value: int) -> None:
    with pytest.raises(InputError, match=re.escape(f"`{argument}` must be")):
        PriorSeries(**{argument: value})  # type: ignore[arg-type]


def test_fresh_batches_have_a_season_as_their_trait_and_cost_about_the_same() -> None:
    rng, sizes, steps = np.random.default_rng(0), [], []
    for _ in range(60):
        batch = draw_batch(64, rng, rng)
        size, length, _ = batch.values.shape
        scored = length - batch.context_length
        assert bool(batch.values.isfinite().all())
        assert batch.complete
        assert 4 <= scored <= MAX_FREE_RUN
        assert batch.traits["season"].shape == (size,)
        assert len(batch.traits["season"].unique()) == 1
        sizes.append(size)
        steps.append(size * (length + 5 * scored))
    assert min(sizes) >= MIN_BATCH
    assert max(sizes) == 64
    assert np.quantile(steps, 0.9) < 4 * np.quantile(steps, 0.1)


def test_a_fresh_batch_depends_on_the_seed_and_its_position_alone() -> None:
    def batches(seed: int = 0, position: int = 0, rank: int = 0) -> list[WindowBatch]:
        loader = FreshLoader(4, 3, rank, seed, lambda batch: batch)
        loader.position = position
        assert len(loader) == 3
        return list(loader)

    def same(one: WindowBatch, other: WindowBatch) -> bool:
        return one.values.shape == other.values.shape and torch.equal(one.values, other.values)

    first, again = batches(), batches()
    assert all(map(same, first, again))
    assert not any(map(same, first, batches(seed=1)))
    assert not any(map(same, first, batches(seed=-1)))
    assert same(batches(position=2)[0], first[2])
    for one, other in zip(first, batches(rank=1), strict=True):
        assert one.values.shape == other.values.shape  # devices share the shape, and draw their own series
        assert torch.equal(one.traits["season"], other.traits["season"])
        assert not torch.equal(one.values, other.values)


def test_a_loader_of_fresh_series_is_there_if_wanted() -> None:
    settings: dict[str, Any] = {"batch_size": 4, "num_batches_per_epoch": None, "seed": 7}
    cut = SequenceDataModule(PriorSeries(num_series=3), **settings)
    cut.setup("fit")
    assert isinstance(cut.train_dataloader(), ShuffledLoader)
    fresh = SequenceDataModule(PriorSeries(fresh=True), **settings)
    loader = fresh.train_dataloader()
    assert (len(loader), loader.rank, loader.seed, loader.position) == (1, 0, 7, 0)
    (batch,) = loader
    assert len(batch.values) <= 4
