"""Each series has its own seasons: the same forecast alone and in any batch, right for known cases."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer

from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.series import Series, SeriesData, TimeIndex
from rnn_lightning.errors import InputError
from rnn_lightning.pretrained.candidate_runs import Contexts, run_network
from rnn_lightning.pretrained.forecaster import PretrainedForecaster
from rnn_lightning.pretrained.intermittent import zero_phases
from rnn_lightning.pretrained.seasonal import SeasonalNetwork

FORECASTER = PretrainedForecaster()
WEEK = np.array([0.0, 3, 5, 4, 2, -18, -25])


def pack(series: Sequence[Any]) -> torch.Tensor:
    """Series of several lengths as ``(batch, time, 1)``, NaN before their start."""
    parts = [torch.as_tensor(np.asarray(part, np.float64)) for part in series]
    padded = torch.nn.utils.rnn.pad_sequence(parts, True, torch.nan, "left")
    return padded[..., None].float()


def forecasts(
    series: Sequence[Any], horizon: int, seasons: Sequence[Sequence[int]], year: float = 0.0
) -> Any:
    """Forecasts ``(batch, horizon)``, with candidate seasons for each series."""
    traits = {"seasons": torch.tensor(seasons), "year": torch.full((len(series),), year)}
    result = FORECASTER.forecast_with_errors(pack(series), horizon, traits=traits)
    return result.point[..., 0].double().numpy()


def daily(num_days: int, amplitude: float = 0.0, noise: float = 2.0, seed: int = 0) -> np.ndarray:
    steps = np.arange(num_days)
    year = amplitude * np.sin(2 * np.pi * steps / 365.25 + seed)
    return 200 + WEEK[steps % 7] + year + np.random.default_rng(seed).normal(0, noise, num_days)


def monthly(num_months: int, noise: float = 1.0, seed: int = 0) -> np.ndarray:
    steps = np.arange(num_months)
    rng = np.random.default_rng(seed)
    return 100 + 0.3 * steps + 20 * np.sin(2 * np.pi * steps / 12) + rng.normal(0, noise, num_months)


@st.composite
def one_series(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    length = draw(st.integers(1, 130))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    season = draw(st.sampled_from([0, 4, 7, 12]))
    kind = draw(st.sampled_from(["walk", "season", "exact", "constant", "zero", "counts"]))
    profile = rng.normal(0, 1, max(season, 1))[np.arange(length) % max(season, 1)]
    values = {
        "walk": rng.normal(0, 1, length).cumsum(),
        "season": 5 + profile + rng.normal(0, 0.3, length),
        "exact": 5 + profile,
        "constant": np.full(length, 3.0),
        "zero": np.zeros(length),
        "counts": rng.poisson(0.4, length).astype(float),
    }[kind]
    if draw(st.booleans()):
        values[rng.random(length) < 0.15] = np.nan
        values[-1] = 1.0
    second = draw(st.sampled_from([0, 24])) if season else 0
    return values * draw(st.sampled_from([1e-6, 1.0, 1e3, 1e9])), [season, second]


@settings(max_examples=25, deadline=None)
@given(st.lists(one_series(), min_size=2, max_size=6), st.integers(1, 20))
def test_a_series_has_the_same_forecast_alone_and_in_any_batch(
    batch: list[tuple[np.ndarray, list[int]]], horizon: int
) -> None:
    together = forecasts([values for values, _ in batch], horizon, [seasons for _, seasons in batch])
    assert np.isfinite(together).all()
    for (values, seasons), forecast in zip(batch, together, strict=True):
        alone = forecasts([values], horizon, [seasons])[0]
        scale = np.nanmax(np.abs(values))
        np.testing.assert_allclose(forecast, alone, rtol=0, atol=1e-5 * scale + 1e-15)


def test_a_new_series_of_one_row_changes_nothing() -> None:
    live = daily(120)
    both = forecasts([live, [1010.0]], 14, [[7], [7]], 365.25)
    np.testing.assert_allclose(both[0], forecasts([live], 14, [[7]], 365.25)[0], rtol=1e-6)
    np.testing.assert_allclose(both[0], 200 + WEEK[np.arange(120, 134) % 7], atol=5)
    np.testing.assert_allclose(both[1], 1010.0)


def test_a_season_is_kept_beside_a_short_series_and_beside_noise() -> None:
    rng = np.random.default_rng(3)
    truth = monthly(144, 0.0)[108:]
    together = forecasts([monthly(108), rng.normal(50, 1, 6), rng.normal(50, 9, 200)], 36, [[12]] * 3)
    assert np.abs(together[0] - truth).mean() < 4  # of a season of 20 and a trend of 11
    assert np.abs(together[2] - 50).mean() < 3


@pytest.mark.parametrize("amplitude", [0, 3, 10, 25])
def test_a_week_within_a_year_is_kept(amplitude: float) -> None:
    errors, repeated = [], []
    for seed in range(3):
        values = daily(1028, amplitude, seed=seed)
        point = forecasts([values[:1000]], 28, [[7]], 365.25)[0]
        truth = daily(1028, amplitude, 0.0, seed)[1000:]
        errors.append(np.abs(point - truth).mean())
        repeated.append(np.abs(np.tile(values[993:1000], 4) - truth).mean())
    assert np.mean(errors) < 1.3
    assert np.mean(errors) < 0.8 * np.mean(repeated)


def test_a_first_day_after_a_week_within_a_year_is_right() -> None:
    steps = np.arange(1001)
    noise = np.random.default_rng(5).normal(0, 2, 1001)
    values = (
        115 - 20 * (steps % 7 == 6) - 10 * (steps % 7 == 5) + 10 * np.cos(2 * np.pi * steps / 365.25) + noise
    )
    first = forecasts([values[:1000]], 28, [[7]], 365.25)[0, 0]
    assert first == pytest.approx(values[1000] - noise[1000], abs=2.5)


def test_constants_and_exact_repeats_go_on() -> None:
    roster = np.tile([4.0, 5, 5, 6, 5, 0, 0], 20)
    point = forecasts([np.full(50, 7.0), roster, np.zeros(60)], 14, [[7]] * 3, 365.25)
    np.testing.assert_allclose(point[0], 7.0, rtol=1e-6)
    np.testing.assert_allclose(point[1], roster[:14], atol=1e-2)
    np.testing.assert_allclose(point[2], 0.0, atol=1e-6)


def test_a_season_is_chosen_unless_the_values_speak_against_it() -> None:
    smooth = [np.random.default_rng(seed).normal(0, 1, 400).cumsum().cumsum() for seed in range(20)]
    traits = {"seasons": torch.full((20, 1), 7)}
    assert (FORECASTER.forecast_with_errors(pack(smooth), 7, traits=traits).season == 1).sum() >= 15
    weeks = [daily(60, seed=seed) for seed in range(20)]
    assert (FORECASTER.forecast_with_errors(pack(weeks), 7, traits=traits).season == 7).all()


def test_chosen_seasons_take_histories_of_several_lengths() -> None:
    histories = pack([daily(50), daily(90), np.arange(40.0), np.ones(1)])
    traits = {"seasons": torch.tensor([[7, 0]] * 3 + [[12, 0]])}
    found = FORECASTER.forecast_with_errors(histories, 7, traits=traits).season
    assert found[:, 0].tolist() == [7, 7, 1, 1]


def test_a_longer_season_beside_a_short_one_is_found() -> None:
    steps = np.arange(24 * 7 * 6)
    weekend = np.where(steps // 24 % 7 >= 5, 0.3, 1.0)
    noise = np.random.default_rng(0).normal(0, 0.02, len(steps))
    hours = 10 + 5 * weekend * np.sin(2 * np.pi * steps / 24) + noise
    known = len(hours) - 48
    point = forecasts([hours[:known]], 48, [[24, 168]])[0]
    assert np.abs(point - hours[known:]).mean() < 0.15
    assert np.abs(hours[known - 24 : known] - hours[known : known + 24]).mean() > 0.3


def test_own_errors_are_those_of_the_last_values() -> None:
    series = [daily(300), 10 * daily(300), daily(20)]
    traits = {"seasons": torch.full((3, 1), 7)}
    errors = FORECASTER.forecast_with_errors(pack(series), 14, traits=traits).own_error[:, 0]
    assert float(errors[0]) == pytest.approx(2 * np.sqrt(2 / np.pi), rel=0.4)  # of normal noise of 2
    assert float(errors[1] / errors[0]) == pytest.approx(10, rel=1e-3)
    assert bool(errors[2].isnan())


def test_features_are_series_of_their_own() -> None:
    forecaster = PretrainedForecaster(num_features=2)
    walk = np.random.default_rng(1).normal(0, 1, 120).cumsum()
    both = np.stack([daily(120), walk], 1)
    point = forecaster.forecast(both, 14, seasons=[7])
    for feature in (0, 1):
        alone = FORECASTER.forecast(both[:, feature], 14, seasons=[7])
        np.testing.assert_allclose(point[:, feature], alone, rtol=1e-5, atol=1e-5)


def test_covariates_go_into_every_candidate() -> None:
    forecaster = PretrainedForecaster(num_covariates=1)
    covariate = np.random.default_rng(2).normal(0, 1, (1, 314, 1))
    values = daily(300)[None, :, None] + 4 * covariate[:, :300]
    _, ((_, scale, _),) = forecaster.network.transforms.start(
        torch.as_tensor(values), {"season": torch.tensor([7])}
    )
    with torch.no_grad():
        forecaster.network.effect.fill_(4.0 / float(scale))
    point = forecaster.forecast(values, 14, seasons=[7], covariates=covariate)[0, :, 0]
    truth = 200 + WEEK[np.arange(300, 314) % 7] + 4 * covariate[0, 300:, 0]
    assert np.abs(point - truth).mean() < 2
    covariate[0, -1] = np.nan
    with pytest.raises(InputError, match="must all be known"):
        forecaster.forecast(values, 14, seasons=[7], covariates=covariate)
    with pytest.raises(InputError, match="must be \\(batch, time \\+ horizon, covariate\\)"):
        forecaster.forecast(values, 14, seasons=[7])


def test_sampled_paths_surround_the_forecast_and_stay_alike_in_any_batch() -> None:
    series = [daily(200), monthly(100)]
    settings: dict[str, Any] = {"seasons": [7, 12], "seed": 3}
    point = FORECASTER.forecast(pack(series), 7, **settings)
    paths = FORECASTER.forecast(pack(series), 7, num_samples=200, **settings)
    assert paths.shape == (200, 2, 7, 1)
    assert bool(((paths.mean(0) - point).abs() < 0.5 * paths.std(0)).all())
    alone = FORECASTER.forecast(pack(series[:1]), 7, num_samples=200, **settings)
    torch.testing.assert_close(alone[:, 0], paths[:, 0], rtol=0, atol=2e-3)


def test_never_negative_series_stay_so() -> None:
    falling = np.maximum(100 - np.arange(60.0), 0.5) + 5 * (np.arange(60) % 7 == 0)
    settings: dict[str, Any] = {"seasons": [7], "num_samples": 50}
    assert FORECASTER.forecast(falling, 40, seasons=[7]).min() >= 0
    assert FORECASTER.forecast(falling, 40, **settings).min() >= 0


def test_nights_without_sun_stay_so() -> None:
    steps, rng = np.arange(24 * 60), np.random.default_rng(0)
    clouds = rng.uniform(0.5, 1, 60).repeat(24)
    sun = np.maximum(np.sin((steps % 24 - 6) / 12 * np.pi), 0) * clouds
    point = forecasts([sun], 48, [[24]])[0]
    is_night = sun[:48] == 0
    assert np.abs(point[is_night]).max() == 0
    assert point[~is_night].min() > 0
    rare = (rng.random(24 * 60) < 0.2) * 3.0  # zero at no hour always
    assert zero_phases(rare, 24).sum() == 0
    assert zero_phases(sun[5:-3], 24).tolist() == (np.roll(sun[:24], 3) == 0).tolist()


def test_hold_outs_can_be_left_out() -> None:
    series, traits = pack([daily(300, seed=seed) for seed in range(3)]), {"seasons": torch.full((3, 1), 7)}
    without = PretrainedForecaster(hold_outs="never").forecast_with_errors(series, 14, traits=traits)
    assert bool(without.own_error.isnan().all())
    truth = torch.as_tensor(200 + WEEK[np.arange(300, 314) % 7])
    assert float((without.point[..., 0] - truth).abs().mean()) < 1.5
    assert not torch.equal(without.point, FORECASTER.forecast_with_errors(series, 14, traits=traits).point)
    with pytest.raises(InputError, match="`hold_outs` must be auto, always or never"):
        PretrainedForecaster(hold_outs="some")  # type: ignore[arg-type]


def test_a_given_season_without_candidates_is_kept() -> None:
    hours = pack([np.sin(2 * np.pi * np.arange(100) / 9)])
    traits = {"seasons": torch.tensor([[0]]), "season": torch.tensor([9])}
    result = FORECASTER.forecast_with_errors(hours, 9, traits=traits)
    assert result.season.tolist() == [[9]]
    truth = torch.sin(2 * torch.pi * torch.arange(100, 109) / 9)
    torch.testing.assert_close(result.point[0, :, 0], truth, rtol=0, atol=0.05)


def test_a_series_without_values_is_named() -> None:
    series = torch.cat([pack([daily(60)]), torch.full((1, 60, 1), torch.nan)])
    traits = {"seasons": torch.full((2, 1), 7)}
    with pytest.warns(RuntimeWarning, match="nothing is known of shop"):
        result = FORECASTER.forecast_with_errors(series, 7, traits=traits, names=["live", "shop"])
    assert bool(result.point[1].isnan().all())
    assert bool(result.point[0].isfinite().all())


def test_wanted_contexts_hold_twenty_seasons_and_eight_years() -> None:
    def wanted(seasons: list[int], horizon: int, **others: list[float]) -> int:
        traits = {name: torch.tensor(values) for name, values in others.items()}
        return FORECASTER.context_wanted({"seasons": torch.tensor([seasons]), **traits}, horizon)

    assert wanted([12], 18) == wanted([0], 18, season=[12]) == 1000
    assert wanted([24, 168], 48) == wanted([0, 0], 48, season=[168]) == 20 * 168
    assert wanted([7], 28, year=[365.25]) == 8 * 365.25
    assert wanted([0], 2000) == 4140
    assert FORECASTER.context_wanted({"season": torch.tensor([12])}, 18) == 0


def test_mean_forecasts_of_intermittent_demand_have_its_sum() -> None:
    rng = np.random.default_rng(0)
    demand = rng.poisson(0.3, (200, 72)).astype(float)
    series, traits = pack(list(demand[:, :60])), {"seasons": torch.full((200, 1), 12)}
    sums = {}
    points: tuple[Literal["median", "mean"], ...] = ("median", "mean")
    for point in points:
        forecaster = PretrainedForecaster(point=point)
        sums[point] = float(forecaster.forecast_with_errors(series, 12, traits=traits).point.sum())
    assert sums["mean"] == pytest.approx(demand[:, 60:].sum(), rel=0.1)
    assert sums["median"] < 0.8 * sums["mean"]
    with pytest.raises(InputError, match="`point` must be median or mean"):
        PretrainedForecaster(point="mode")  # type: ignore[arg-type]


def test_medians_of_intermittent_demand_leave_seasons_alone() -> None:
    rng = np.random.default_rng(0)
    rare = rng.poisson(0.25, (60, 90)).astype(float)
    closed = rng.poisson(6, (60, 90)) * (np.arange(90) % 7 < 5) * 1.0
    series = pack([*rare[:, :76], *closed[:, :76]])
    traits = {"seasons": torch.full((120, 1), 7)}
    point = FORECASTER.forecast_with_errors(series, 14, traits=traits).point[..., 0].numpy()
    error_of_zeros = rare[:, 76:].mean()  # zero is the median; the network alone has 1.14 times its error
    assert np.abs(point[:60] - rare[:, 76:]).mean() < 1.08 * error_of_zeros
    is_open = np.arange(76, 90) % 7 < 5
    assert point[60:, is_open].mean() > 5
    assert point[60:, ~is_open].mean() < 0.5


def test_mean_forecasts_keep_closed_days_and_change_no_other_series() -> None:
    rng = np.random.default_rng(0)
    sales = rng.poisson(4, (20, 140)) * (np.arange(140) % 7 < 5) * 1.0
    traits = {"seasons": torch.full((21, 1), 7)}
    series = pack([*sales, daily(140)])
    mean = PretrainedForecaster(point="mean").forecast_with_errors(series, 14, traits=traits).point[..., 0]
    median = FORECASTER.forecast_with_errors(series, 14, traits=traits).point[..., 0]
    assert torch.equal(mean[20], median[20])
    assert float(mean[:20].sum(1).mean()) == pytest.approx(10 * 4, rel=0.1)
    assert float(mean[:20, [5, 6, 12, 13]].max()) < 0.5


@pytest.mark.parametrize("point", ["median", "mean"])
@pytest.mark.parametrize(("seasons", "year"), [([7], 365.25), ([365], 0.0)])
def test_demand_that_comes_once_a_year_is_forecast_after_months_without_any(
    point: Literal["median", "mean"], seasons: list[int], year: float
) -> None:
    """A stream that is dry for seven months, a garden centre: the forecast was zero all year."""
    days = np.arange(6 * 365 - 30)
    rain = np.random.default_rng(0).normal(0, 3, len(days) + 365)
    flow = np.maximum(30 * np.cos(2 * np.pi * (np.arange(len(rain)) - 100) / 365.25) - 5 + rain, 0)
    forecaster = PretrainedForecaster(point=point)
    found = forecaster.forecast(flow[: len(days)], 365, seasons=seasons, year=year)
    assert found.sum() == pytest.approx(flow[len(days) :].sum(), rel=0.2)


class Sales(Series):
    """Two series of different lengths with the traits of their calendars."""

    def load(self) -> SeriesData:
        parts = [torch.as_tensor(daily(300)).float(), torch.as_tensor(monthly(90)).float()]
        return SeriesData(
            values=torch.cat(parts)[:, None],
            offsets=torch.tensor([0, 300, 390]),
            ids=["days", "months"],
            features=["y"],
            times=TimeIndex([0, 0], [1, 1]),
            traits={"seasons": torch.tensor([[7], [12]]), "year": torch.tensor([365.25, 0.0])},
        )


def test_lightning_predicts_with_candidate_seasons_and_returns_own_errors() -> None:
    data = SequenceDataModule(Sales(), context_length=1000, horizon=12, num_samples=5)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    predictions: Any = trainer.predict(FORECASTER, data)
    (forecast,) = predictions
    traits = data.data.traits
    alone = FORECASTER.forecast_with_errors(pack([daily(300), monthly(90)]), 12, traits=traits)
    torch.testing.assert_close(forecast.point, alone.point, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(forecast.own_error, alone.own_error, rtol=1e-4, atol=1e-4)
    assert alone.season.tolist() == [[7], [12]]
    assert forecast.samples.shape == (5, 2, 12, 1)


@pytest.mark.parametrize("num_covariates", [0, 2])
def test_one_reading_of_a_history_serves_several_origins(num_covariates: int) -> None:
    """Of series that repeat, with their covariates, level and scale are those of origins a season apart."""
    torch.manual_seed(0)
    atol = 1e-4 if num_covariates else 1e-5  # those of the very first step are not known
    network = SeasonalNetwork(hidden_size=8, num_covariates=num_covariates).eval()
    values = torch.rand(3, 4, 1).repeat(1, 12, 1)  # (row, time, feature)
    values[2, :9] = torch.nan  # begins later
    covariates = torch.randn(3, 4, num_covariates).repeat(1, 14, 1)[:, : 48 + 5] if num_covariates else None
    together = run_network(network, Contexts(values, covariates), 5, 4, [0, 4, 12])
    assert together.forecasts.shape == (3, 3, 5, 1)
    for origin, offset in enumerate([0, 4, 12]):
        known = None if covariates is None else covariates[:, : 53 - offset]
        alone = run_network(network, Contexts(values[:, : 48 - offset], known), 5, 4)
        np.testing.assert_allclose(together.forecasts[origin], alone.forecasts[0], atol=atol)
        if offset == 0:
            np.testing.assert_allclose(together.errors, alone.errors, atol=atol)
    known = None if covariates is None else covariates[:, :15]
    short = run_network(network, Contexts(values[:, :10], known), 5, 4, [0, 9])
    assert np.isnan(short.forecasts[1]).all()
    assert not np.isnan(short.forecasts[0, :2]).any()
