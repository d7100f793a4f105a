"""The parts of the season policy: strength, cycles in values, yearly harmonics, the trend member."""

import numpy as np
import pytest

from rnn_lightning.pretrained.trend_member import trend_forecasts, trend_weights
from rnn_lightning.pretrained.yearly_harmonics import take_out_year
from rnn_lightning.season_strength import strength

RNG = np.random.default_rng


def test_strength_is_the_part_of_the_variance_that_a_season_explains() -> None:
    steps = np.arange(240)
    season = np.sqrt(2) * np.sin(2 * np.pi * steps / 12)
    assert strength(season + RNG(0).normal(0, 1, 240), 12)[0] == pytest.approx(0.5, abs=0.1)
    assert strength(RNG(0).normal(0, 1, 240), 12)[0] == pytest.approx(0.0, abs=0.1)
    assert np.isnan(strength(np.ones(240), 12)[0])
    assert np.isnan(strength(season[:20], 12)[0])


def test_a_year_is_taken_out_and_put_back() -> None:
    steps = np.arange(1200)
    year = 10 * np.sin(2 * np.pi * steps / 365.25) + 4 * np.cos(4 * np.pi * steps / 365.25)
    values = 50 + 5 * (steps % 7 == 0) + year + RNG(0).normal(0, 1, 1200)
    values[RNG(1).random(1200) < 0.1] = np.nan
    values[:50] = np.nan
    rest, ahead = take_out_year(values[:1000], 100, 7, 365.25)
    assert np.abs(ahead - year[1000:1100]).mean() < 0.5
    assert np.isnan(rest[:50]).all()
    np.testing.assert_allclose(np.nanstd(rest[steps[:1000] % 7 != 0]), 1.0, atol=0.1)


def test_no_year_is_taken_out_of_noise_and_constants() -> None:
    values = RNG(0).normal(0, 1, 1000)
    for series in (values, np.full(1000, 3.0)):
        rest, ahead = take_out_year(series, 30, 7, 365.25)
        assert np.array_equal(rest, series)
        assert not ahead.any()


def test_the_trend_member_continues_most_of_a_line() -> None:
    line = np.arange(60.0)[None] - 70
    forecast = trend_forecasts(line, np.array([1]), np.array([0.0]), 10)[0]
    np.testing.assert_allclose(np.diff(forecast), (1 + 1.5 * 0.75) / 2.5)
    assert forecast[0] == pytest.approx(-10, abs=0.2)


def test_the_trend_member_takes_positive_series_in_logarithms_too() -> None:
    growth = 1.05 ** np.arange(61.0)
    settings = (np.array([1]), np.array([0.0]))
    forecast = trend_forecasts(growth[None, :40], *settings, 20)[0]
    line = trend_forecasts(growth[None, :40] - 10, *settings, 20)[0] + 10
    assert growth[39] < line[-1] < forecast[-1] < growth[59]
    # Nothing grows exponentially over more than half of a history.
    np.testing.assert_allclose(trend_forecasts(growth[None, :40], *settings, 21)[0, :20], line, rtol=1e-9)


@pytest.mark.parametrize(("middle", "width", "length"), [(48, 5, 60), (54, 4.5, 60)])
def test_growth_that_levels_off_does_not_go_on_as_it_began(middle: int, width: float, length: int) -> None:
    """The slope of the logarithms of the whole history led to 574 after a value of 76."""
    curve = 100 / (1 + np.exp(-(np.arange(length) - middle) / width))
    forecast = trend_forecasts(curve[None], np.array([1]), np.array([0.0]), length // 5)[0]
    assert forecast[-1] < 3 * curve[-1]


def test_the_trend_member_carries_no_slope_on_that_errors_deny() -> None:
    steps = np.arange(200)
    wave = np.sin(2 * np.pi * steps / 150)[None, :95] * 10  # it has turned
    forecast = trend_forecasts(wave, np.array([1]), np.array([0.0]), 10)[0]
    assert np.abs(np.diff(forecast)).max() < 0.1


@pytest.mark.parametrize("level", [0.0, 300.0])  # a season that is added, one that multiplies
def test_the_trend_member_repeats_a_season(level: float) -> None:
    profile = np.array([1.0, -1, 2, -2])[np.arange(60) % 4]
    values = level + (100 * profile if level == 0 else 20 * profile)
    padded = np.concatenate([np.full(11, np.nan), values[:52]])
    forecast = trend_forecasts(padded[None], np.array([4]), np.array([1.0]), 8)[0]
    np.testing.assert_allclose(forecast, values[52:60], atol=0.02 * np.abs(values).max())


def test_the_trend_member_is_alike_with_padding_and_over_gaps() -> None:
    values = RNG(0).normal(0, 1, 80).cumsum() + 50
    rows = np.stack([np.concatenate([np.full(20, np.nan), values[20:]]), values])
    settings = (np.array([12, 12]), np.array([0.7, 0.7]), 6)
    both = trend_forecasts(rows, *settings)
    np.testing.assert_allclose(
        both[0], trend_forecasts(rows[:1, 20:], settings[0][:1], settings[1][:1], 6)[0]
    )
    line = np.arange(40.0)
    line[[5, 17, 18]] = np.nan
    none = np.array([1]), np.array([0.0])
    np.testing.assert_allclose(
        trend_forecasts(line[None], *none, 5), trend_forecasts(np.arange(40.0)[None], *none, 5)
    )
    assert np.isnan(trend_forecasts(np.full((1, 9), np.nan), *none, 5)).all()


def test_the_weight_of_the_trend_follows_the_errors_of_the_series() -> None:
    walk = RNG(0).normal(0, 1, (4, 60)).cumsum(1)
    walk[3] = RNG(0).poisson(0.3, 60)  # intermittent
    network, member = np.ones((3, 4)), np.array([[0.5, 2.0, np.nan, 0.1]] * 3)
    weights = trend_weights(walk, np.ones(4), np.zeros(4, bool), network, member)
    np.testing.assert_allclose(weights, [0.6, 0.7 / 8 / (1 + 0.7 / 8), 0.7 / 1.7, 0.0], rtol=1e-5)
    weights = trend_weights(walk, np.full(4, 12), np.ones(4, bool), network, member)
    assert weights[2] == 0  # a season, and no earlier origin
    short = np.concatenate([np.full((4, 30), np.nan), walk[:, :30]], 1)
    assert not trend_weights(short, np.full(4, 12), np.ones(4, bool), network, member).any()
