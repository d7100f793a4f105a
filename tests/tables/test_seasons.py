from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import polars as pl
import pytest
import torch

from rnn_lightning import (
    LinearSeries,
    PretrainedForecaster,
    RandomSeries,
    SeriesData,
    SineSeries,
    TableDataModule,
    TableSeries,
)
from rnn_lightning.data.array import ArraySeries
from rnn_lightning.errors import InputError
from rnn_lightning.season_strength import strength, strengths
from rnn_lightning.tables.calendar import CalendarIndex
from rnn_lightning.tables.forecast_checks import notes_on_long_seasons
from rnn_lightning.tables.seasons import calendar_seasons, candidate_seasons, find_seasons, given_traits
from rnn_lightning.tables.table_data import as_table_data


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


def found(values: np.ndarray, frequency: str = "1mo") -> int:
    """The season of a single series."""
    return int(find_seasons(table([values], frequency))["season"][0])


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
    assert find_seasons(data)["season"].tolist() == [season] * 3


def test_a_day_within_a_week_is_two_seasons_and_a_day_alone_is_one() -> None:
    rng = np.random.default_rng(0)
    day = np.resize(shape(24, rng), 168 * 6)
    week = np.resize(np.repeat([1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.1], 24), 168 * 6)
    both = week * (5 + day) + 0.1 * rng.normal(size=len(day))
    assert found(both, "1h") == 168
    assert found(day + 0.1 * rng.normal(size=len(day)), "1h") == 24
    assert find_seasons(table([both], "1h"))["seasons"].tolist() == [[24, 168]]


def test_a_week_is_not_lost_to_a_year() -> None:
    rng = np.random.default_rng(0)
    days = np.arange(3 * 365)
    year = 10 * np.sin(2 * np.pi * days / 365.25)
    week = 20.0 * (days % 7 == 0)
    traits = find_seasons(table([week + year + rng.normal(size=len(days))], "1d"))
    assert {name: trait.tolist() for name, trait in traits.items()} == {
        "season": [7],
        "seasons": [[7]],
        "year": [365.25],
    }


def test_series_of_several_calendars_have_their_own_candidates() -> None:
    rng = np.random.default_rng(0)
    parts = [
        table([seasonal(season, 200, rng)], each) for season, each in ((12, "1mo"), (24, "1h"), (4, "3mo"))
    ]
    data = SeriesData(
        values=torch.cat([part.values for part in parts]),
        offsets=torch.tensor([0, 200, 400, 600]),
        ids=["a", "b", "c"],
        features=["y"],
        times=CalendarIndex([parts[0].times.starts[0]] * 3, ["1mo", "1h", "3mo"]),
    )
    traits = find_seasons(data)
    assert traits["season"].tolist() == [12, 24, 4]
    assert traits["seasons"].tolist() == [[12, 0], [24, 168], [4, 0]]


def test_the_calendar_counts_unless_values_speak_against_it() -> None:
    """A weak season counts; of noise about half seems to have one, which does little harm."""
    rng = np.random.default_rng(1)
    weak = [found(0.4 * np.resize(shape(12, rng), 120) + rng.normal(size=120)) for _ in range(20)]
    assert weak.count(12) >= 19
    against = [found(np.resize([1.0, -1, 1, 1, -1], 120) + 0.1 * rng.normal(size=120)) for _ in range(20)]
    assert against.count(12) <= 2


def test_seasonally_adjusted_values_have_none() -> None:
    rng = np.random.default_rng(2)
    values = [seasonal(12, 120, rng) for _ in range(5)]
    assert find_seasons(table(values, "1mo"))["season"].tolist() == [12] * 5
    adjusted = []
    for each in values:
        detrended = each - np.convolve(np.pad(each, 6, mode="edge"), np.full(13, 1 / 13), "valid")
        adjusted.append(each - np.resize([detrended[phase::12].mean() for phase in range(12)], 120))
    assert find_seasons(table(adjusted, "1mo"))["season"].tolist() == [1] * 5


def test_cycles_of_no_calendar() -> None:
    assert find_seasons(SineSeries().load())["season"].unique().tolist() == [31]
    assert find_seasons(RandomSeries().load())["season"].unique().tolist() == [1]
    assert find_seasons(LinearSeries().load())["season"].tolist().count(1) > 12
    rng = np.random.default_rng(3)
    solar = 50 + 40 * np.sin(np.arange(1200) * 2 * np.pi / 132) + 5 * rng.normal(size=1200)
    assert abs(found(solar) - 132) <= 1
    for seed in range(9):  # cycles that wander, as those of the sun do
        rng = np.random.default_rng(seed)
        phase = np.concatenate([np.arange(round(length)) / length for length in rng.normal(132, 9, 22)])
        solar = 90 * np.sin(np.pi * phase) ** 2 + 20 * rng.normal(size=len(phase))
        assert abs(found(solar) - 132) <= 8


def test_cycles_that_drift_apart_are_not_those_of_a_random_walk() -> None:
    for seed in range(9):
        rng = np.random.default_rng(seed)
        lengths = rng.normal(132, 18, 22)
        phase = np.concatenate([np.arange(round(length)) / length for length in lengths])
        solar = np.sin(np.pi * phase) ** 2 + 0.1 * rng.normal(size=len(phase))
        assert abs(found(solar) - 132) <= 12
        noise = rng.normal(size=1500)
        smooth = np.convolve(noise, 0.95 ** np.arange(200))[:1500]
        for other in (noise, smooth, noise.cumsum(), smooth.cumsum()):
            assert found(other) in (1, 12)


def test_series_of_a_table_do_not_decide_for_each_other() -> None:
    rng = np.random.default_rng(4)
    values = [seasonal(12, 72, rng), np.zeros(72), np.arange(5.0), seasonal(12, 72, rng), np.full(30, np.nan)]
    together = find_seasons(table(values, "1mo"))["season"].tolist()
    assert together == [found(each) for each in values] == [12, 1, 1, 12, 1]


def test_gaps_are_left_out() -> None:
    rng = np.random.default_rng(5)
    values = seasonal(12, 96, rng, 0.3)
    values[rng.random(96) < 0.3] = np.nan
    assert found(values) == 12
    assert found(np.full(96, np.nan)) == 1


@pytest.mark.parametrize("days", [6, 2])
def test_a_week_of_closed_days_is_a_season(days: int) -> None:
    rng = np.random.default_rng(0)
    values = seasonal(7, 120, rng)
    assert found(np.where(np.arange(120) % 7 < days, values, np.nan), "1d") == 7


def test_a_few_outliers_do_not_hide_a_season() -> None:
    rng = np.random.default_rng(6)
    values = 100 + 20 * np.sin(np.arange(108) * np.pi / 6) + rng.normal(0, 3, 108)
    values[[13, 40, 77, 78, 101]] = 500
    assert found(values) == 12


def test_less_than_two_seasons_show_none() -> None:
    values = np.resize(shape(12, np.random.default_rng(8)), 24)
    assert found(values[:23]) == 1
    assert found(values) == 12


def test_of_very_many_series_the_calendar_alone_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnn_lightning.tables.seasons.MAX_EXAMINED", 2)
    traits = find_seasons(table([np.zeros(60)] * 3, "1h"))
    assert traits["season"].tolist() == [24] * 3


@pytest.mark.parametrize(("frequency", "cycle"), [("7d", 3), ("7d", 10), ("1d", 2), ("1d", 5)])
def test_a_clear_cycle_shorter_than_the_calendar_is_found(frequency: str, cycle: int) -> None:
    values = 10.0 + 100 * (np.arange(120) % cycle == 0)
    noise = np.random.default_rng(0).normal(size=120)
    assert cycle in find_seasons(table([values + noise], frequency))["seasons"][0].tolist()
    assert cycle not in find_seasons(table([values + 100 * noise], frequency))["seasons"][0].tolist()


def test_what_the_calendar_suggests() -> None:
    given = {"1mo": (12,), "3me": (4,), "12mo": (), "1d": (7, 365), "7d": (52,), "1bd": (5,), "2d": ()}
    given |= {"1h": (24, 168), "30m": (48, 336), "15m": (96, 672), "10s": (360, 8640, 60480)}
    for frequency, seasons in given.items():
        assert calendar_seasons(frequency) == seasons
    assert calendar_seasons(0.5) == ()
    assert candidate_seasons("1d") == [7]
    assert candidate_seasons("10s") == [360]


def test_the_data_module_says_what_it_was_given_or_found() -> None:
    values = np.resize(np.arange(31.0), 310)

    def traits(**settings: object) -> dict[str, list[float]]:
        datamodule = TableDataModule(ArraySeries(values), **settings)  # type: ignore[arg-type]
        datamodule.setup("fit")
        season = int(datamodule.data.traits["season"][0])
        assert datamodule.summary()["seasons"] == [{"season": season, "series": 1}]
        return {name: trait.flatten().tolist() for name, trait in datamodule.data.traits.items()}

    assert traits() == {"season": [31], "seasons": [31], "year": [0]}
    assert traits(season="none") == {"season": [1], "seasons": [0], "year": [0]}
    assert traits(season="168, 24") == traits(season=[24, 168])
    assert traits(season=[24, 168]) == {"season": [24], "seasons": [24, 168], "year": [0]}
    assert traits(season=24) == {"season": [24], "seasons": [0], "year": [0]}
    wrongs: tuple[object, ...] = ("week", 1, "0,24", [])
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"`season` must be auto, none, or numbers of steps"):
            traits(season=wrong)


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
    seasons = []
    for stage in ("fit", "predict"):
        datamodule.setup(stage)
        seasons.append(datamodule.season)
    assert seasons == [1, 20]


def test_a_season_is_given_to_series_by_name() -> None:
    stamps = pl.date_range(pl.date(2015, 1, 1), pl.date(2020, 12, 1), "1mo", eager=True)
    table = pl.concat([pl.DataFrame({"unique_id": name, "ds": stamps}) for name in ("a", "b", "c")])
    table = table.with_columns(y=np.random.default_rng(0).normal(size=len(table)))
    datamodule = TableDataModule(table, season={"b": 5, "c": 1})
    datamodule.setup("predict")
    assert datamodule.data.traits["season"].tolist()[1:] == [5, 1]
    assert datamodule.data.traits["seasons"].tolist() == [[12], [0], [0]]
    with pytest.raises(InputError, match="`season` of a series is a number of steps, 1 for none, got 'b': 0"):
        TableDataModule(table, season={"b": 0})
    with pytest.warns(UserWarning, match="`season` names 'd', which is not a series of the data"):
        TableDataModule(table, season={"d": 5}).setup("predict")


def test_series_keep_a_season_of_their_own() -> None:
    class Known(SineSeries):
        def load(self) -> SeriesData:
            data = super().load()
            return replace(data, traits={"season": torch.full((data.num_series,), 5)})

    datamodule = TableDataModule(Known())
    datamodule.setup("fit")
    assert datamodule.data.traits["seasons"].tolist() == [[0]]
    assert datamodule.data.traits["season"].tolist() == [5]


@pytest.mark.parametrize("length", [1, 25, 40, 300])
def test_a_row_has_the_strength_that_it_has_alone(length: int) -> None:
    random, steps = np.random.default_rng(0), np.arange(length)
    rows = random.normal(size=(6, length)) + 3 * np.sin(2 * np.pi * steps / 12)
    rows[1] = 5.0
    rows[2, random.random(length) < 0.4] = np.nan
    rows[3] = np.nan
    rows[4] = random.normal(size=length)
    shares, thresholds = strengths(rows, 12)
    alone = np.array([strength(row, 12) for row in rows])
    np.testing.assert_allclose(shares, alone[:, 0], rtol=1e-12)
    np.testing.assert_allclose(thresholds, alone[:, 1], rtol=1e-12)
    assert np.isnan(shares[[1, 3]]).all()
    assert np.isnan(shares).all() == (length == 1)
    if length == 300:
        assert shares[0] > 0.7
        assert abs(shares[4]) < 0.2


def test_series_found_together_have_the_seasons_that_they_have_alone() -> None:
    random, steps = np.random.default_rng(1), np.arange(90)
    values = random.normal(size=(8, 90, 2)) + 10
    values[:4] += 4 * np.sin(2 * np.pi * steps / 12)[:, None]
    values[4, :, :1] += 4 * np.sin(2 * np.pi * steps / 9)[:, None]
    values[5, 30] += 400
    lengths = torch.tensor([90, 90, 50, 31, 90, 90, 20, 9])
    data = SeriesData.from_equal(torch.tensor(values).float(), lengths)
    months = ["1mo"] * 8
    data = replace(data, times=CalendarIndex([datetime(2020, 1, 1)] * 8, months))
    together = find_seasons(data)
    for index in range(8):
        alone = SeriesData.from_equal(data.values[index * 90 : index * 90 + int(lengths[index])][None])
        alone = replace(alone, times=CalendarIndex([datetime(2020, 1, 1)], months[:1]))
        assert int(find_seasons(alone)["season"]) == int(together["season"][index])


def test_a_series_without_a_step_before_its_end_has_the_season_of_its_calendar() -> None:
    data = table([np.arange(60.0), np.arange(60.0)], "1d")
    seasons = find_seasons(data, torch.tensor([60, 60]))["season"]  # of the second, nothing comes before
    assert seasons[1] == find_seasons(table([np.full(2, np.nan)], "1d"))["season"]


def test_a_season_that_is_longer_than_every_series_is_told_and_not_taken() -> None:
    lengths = torch.tensor([30, 20])
    assert given_traits([24], lengths)["season"].tolist() == [24, 1]
    with pytest.warns(UserWarning, match="no series has `season` 40: the longest has 30 steps"):
        assert given_traits([40], lengths)["season"].tolist() == [1, 1]


def test_a_year_taken_as_harmonics_is_not_called_untried() -> None:
    days, rng = np.arange(1500), np.random.default_rng(0)
    values = 5 + 3 * np.sin(2 * np.pi * days / 365.25) + rng.normal(0, 0.5, 1500)
    start = np.datetime64("2020-01-01")
    data = as_table_data(TableSeries(pl.DataFrame({"ds": start + days, "y": values})).load())
    data = replace(data, traits=find_seasons(data))
    assert int(data.traits["season"][0]) == 365
    network = PretrainedForecaster().network
    assert notes_on_long_seasons(data, network) == []
    data.traits["year"][:] = 0.0
    assert "a season of 365 steps is too long" in notes_on_long_seasons(data, network)[0]
