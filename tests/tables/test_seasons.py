import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from rnn_lightning import LinearSeries, RandomSeries, SeriesData, SineSeries, TableDataModule
from rnn_lightning.data.array import ArraySeries
from rnn_lightning.tables.calendar import CalendarIndex
from rnn_lightning.tables.seasons import calendar_seasons, find_seasons


def table(values: Sequence[np.ndarray], frequency: str) -> SeriesData:
    """Series of one feature in steps of a calendar."""
    from datetime import datetime

    lengths = [len(each) for each in values]
    return SeriesData(
        values=torch.from_numpy(np.concatenate(values)[:, None]).float(),
        offsets=torch.tensor([0, *np.cumsum(lengths)]),
        ids=[str(index) for index in range(len(values))],
        features=["y"],
        times=CalendarIndex([datetime(2020, 1, 1)] * len(values), [frequency] * len(values)),
    )


def shape(season: int, rng: np.random.Generator) -> np.ndarray:
    """A random season of mean 0 and variance 1."""
    each = rng.normal(size=season)
    return (each - each.mean()) / each.std()


def seasonal(season: int, length: int, rng: np.random.Generator, noise: float = 0.5) -> np.ndarray:
    """A season on a random walk that trends and moves by 0.7 a season, with noise."""
    walk = (1 / season + rng.normal(size=length) * 0.7 / season**0.5).cumsum()
    repeated = np.resize(shape(season, rng), length)
    return 100 + walk + repeated + noise * rng.normal(size=length)


@pytest.mark.parametrize(
    ("frequency", "season", "length"),
    [
        ("1mo", 12, 40),
        ("1me", 12, 144),
        ("3mo", 4, 60),
        ("7d", 52, 200),
        ("1d", 7, 100),
        ("1d", 365, 1200),
        ("1bd", 5, 60),
        ("1h", 24, 240),
        ("30m", 48, 300),
        ("15m", 96, 400),
        ("1m", 60, 300),
    ],
)
def test_a_season_of_the_calendar_is_found(frequency: str, season: int, length: int) -> None:
    rng = np.random.default_rng(season)
    data = table([seasonal(season, length, rng, 0.4) for _ in range(3)], frequency)
    assert find_seasons(data) == (season,)


def test_a_day_within_a_week_is_two_seasons_and_a_day_alone_is_one() -> None:
    rng = np.random.default_rng(0)
    day = np.resize(shape(24, rng), 168 * 6)
    week = np.resize(np.repeat([1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.1], 24), 168 * 6)
    assert find_seasons(table([week * (5 + day) + 0.1 * rng.normal(size=len(day))], "1h")) == (24, 168)
    assert find_seasons(table([day + 0.1 * rng.normal(size=len(day))], "1h")) == (24,)


def test_values_without_a_season_have_none() -> None:
    """Of noise, random walks and their sums, at most one in twenty seems to have a season."""
    rng = np.random.default_rng(1)
    found = 0
    for length in (24, 36, 60, 200):
        for times_summed in range(3):
            for _ in range(20):
                values = rng.normal(size=length)
                for _ in range(times_summed):
                    values = values.cumsum()
                found += find_seasons(table([values], "1mo")) != ()
    assert found <= 12


def test_seasonally_adjusted_values_have_none() -> None:
    rng = np.random.default_rng(2)
    values = [seasonal(12, 120, rng) for _ in range(5)]
    assert find_seasons(table(values, "1mo")) == (12,)
    adjusted = []
    for each in values:
        detrended = each - np.convolve(np.pad(each, 6, mode="edge"), np.full(13, 1 / 13), "valid")
        adjusted.append(each - np.resize([detrended[phase::12].mean() for phase in range(12)], 120))
    assert find_seasons(table(adjusted, "1mo")) == ()


def test_cycles_of_no_calendar() -> None:
    assert find_seasons(SineSeries().load()) == (31,)
    assert find_seasons(RandomSeries().load()) == ()
    assert find_seasons(LinearSeries().load()) == ()
    rng = np.random.default_rng(3)
    solar = 50 + 40 * np.sin(np.arange(1200) * 2 * np.pi / 132) + 5 * rng.normal(size=1200)
    assert abs(find_seasons(table([solar], "1mo"))[0] - 132) <= 1
    for seed in range(9):  # cycles that wander, as those of the sun do
        rng = np.random.default_rng(seed)
        phase = np.concatenate([np.arange(round(length)) / length for length in rng.normal(132, 9, 22)])
        solar = 90 * np.sin(np.pi * phase) ** 2 + 20 * rng.normal(size=len(phase))
        assert abs(find_seasons(table([solar], "1mo"))[0] - 132) <= 8


def test_cycles_that_drift_apart_are_not_those_of_a_random_walk() -> None:
    for seed in range(9):
        rng = np.random.default_rng(seed)
        lengths = rng.normal(132, 18, 22)
        phase = np.concatenate([np.arange(round(length)) / length for length in lengths])
        solar = np.sin(np.pi * phase) ** 2 + 0.1 * rng.normal(size=len(phase))
        assert abs(find_seasons(table([solar], "1mo"))[0] - 132) <= 12
        noise = rng.normal(size=1500)
        smooth = np.convolve(noise, 0.95 ** np.arange(200))[:1500]
        for other in (noise, smooth, noise.cumsum(), smooth.cumsum()):
            assert find_seasons(table([other], "1mo")) == ()


def test_most_series_decide() -> None:
    rng = np.random.default_rng(4)
    with_season = [seasonal(12, 72, rng) for _ in range(3)]
    without = [rng.normal(size=72).cumsum() for _ in range(5)]
    constant, short = [np.zeros(72)] * 9, [np.arange(5.0)] * 9
    assert find_seasons(table(with_season + without[:2] + constant + short, "1mo")) == (12,)
    assert find_seasons(table(with_season + without, "1mo")) == ()


def test_gaps_are_left_out() -> None:
    rng = np.random.default_rng(5)
    values = seasonal(12, 96, rng, 0.3)
    values[rng.random(96) < 0.3] = np.nan
    assert find_seasons(table([values], "1mo")) == (12,)
    assert find_seasons(table([np.full(96, np.nan)], "1mo")) == ()


def test_a_few_outliers_do_not_hide_a_season() -> None:
    rng = np.random.default_rng(6)
    values = 100 + 20 * np.sin(np.arange(108) * np.pi / 6) + rng.normal(0, 3, 108)
    values[[13, 40, 77, 78, 101]] = 500
    assert find_seasons(table([values], "1mo")) == (12,)
    values = rng.standard_t(2, 108)
    assert find_seasons(table([values], "1mo")) == ()


def test_less_than_two_seasons_show_none() -> None:
    values = np.resize(shape(12, np.random.default_rng(8)), 24)
    assert find_seasons(table([values[:23]], "1mo")) == ()
    assert find_seasons(table([values], "1mo")) == (12,)


def test_ten_thousand_series_are_cheap() -> None:
    rng = np.random.default_rng(6)
    data = table([np.resize(shape(24, rng), 400) + rng.normal(size=400) for _ in range(100)] * 100, "1h")
    begin = time.process_time()
    assert find_seasons(data) == (24,)
    assert time.process_time() - begin < 1


def test_what_the_calendar_suggests() -> None:
    given = {"1mo": (12,), "3me": (4,), "12mo": (), "1d": (7, 365), "7d": (52,), "1bd": (5,), "2d": ()}
    given |= {"1h": (24, 168), "30m": (2, 48, 336), "15m": (4, 96, 672), "10s": (6, 360, 8640, 60480)}
    for frequency, seasons in given.items():
        assert calendar_seasons(frequency) == seasons
    assert calendar_seasons(0.5) == ()


def test_the_data_module_says_what_it_was_given_or_found() -> None:
    values = np.resize(np.arange(31.0), 310)

    def seasons(**settings: object) -> tuple[int, ...]:
        datamodule = TableDataModule(ArraySeries(values), **settings)  # type: ignore[arg-type]
        datamodule.setup("fit")
        assert datamodule.summary()["seasons"] == list(datamodule.seasons)
        return datamodule.seasons

    assert seasons() == (31,)
    assert seasons(season="none") == ()
    assert seasons(season="168, 24") == seasons(season=[24, 168]) == (24, 168)
    assert seasons(season=24) == (24,)
    wrongs: tuple[object, ...] = ("week", 1, "0,24", [])
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"`season` must be auto, none, or numbers of steps"):
            seasons(season=wrong)


def test_the_season_of_one_data_module_is_not_that_of_another_with_the_same_source() -> None:
    class Kept(SineSeries):
        def load(self) -> SeriesData:
            return data

    data = SineSeries().load()
    first, second = (TableDataModule(Kept(), season=season) for season in (7, 12))
    for datamodule in (first, second):
        datamodule.setup("fit")
    assert first.data.traits["season"].tolist() == [7]
    assert second.data.traits["season"].tolist() == [12]
    assert data.traits == {}


def test_the_test_split_does_not_decide() -> None:
    rng = np.random.default_rng(7)
    values = np.r_[rng.normal(size=200), 50 * np.resize(shape(20, rng), 400)]
    datamodule = TableDataModule(ArraySeries(values), test_fraction=2 / 3)
    found = []
    for stage in ("fit", "predict"):
        datamodule.setup(stage)
        found.append(datamodule.seasons)
    assert found == [(), (20,)]
