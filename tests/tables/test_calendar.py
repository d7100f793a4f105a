from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_lightning import calendar_covariates
from rnn_lightning.data.series import TimeIndex
from rnn_lightning.errors import InputError
from rnn_lightning.tables.calendar import CalendarIndex, calendar_codes, stamp_series
from rnn_lightning.tables.frequency import Frequency
from rnn_lightning.tables.options import CALENDAR
from rnn_lightning.tables.table import TableSeries
from rnn_lightning.tables.table_data import TableData

quick = settings(derandomize=True, deadline=None, max_examples=40)


@pytest.mark.parametrize(
    ("start", "frequency", "following"),
    [
        (3, 2, [3, 5, 7]),
        (3, 0.5, [3.0, 3.5, 4.0]),
        (0.1, 0.1, [0.1, 0.2, 0.3]),
        (0.0, 1e-12, [0.0, 1e-12, 2e-12]),
        (date(2020, 1, 31), "1mo", [date(2020, 1, 31), date(2020, 2, 29), date(2020, 3, 31)]),
        (date(2020, 2, 29), "1me", [date(2020, 2, 29), date(2020, 3, 31), date(2020, 4, 30)]),
        (date(2020, 2, 29), "12mo", [date(2020, 2, 29), date(2021, 2, 28), date(2022, 2, 28)]),
        (date(2020, 2, 29), "1y", [date(2020, 2, 29), date(2021, 2, 28), date(2022, 2, 28)]),
        (date(2020, 1, 2), "1bd", [date(2020, 1, 2), date(2020, 1, 3), date(2020, 1, 6)]),
        (date(1969, 12, 25), "2bd", [date(1969, 12, 25), date(1969, 12, 29), date(1969, 12, 31)]),
        (date(2020, 2, 28), "1d", [date(2020, 2, 28), date(2020, 2, 29), date(2020, 3, 1)]),
        (date(2020, 1, 1), "1w", [date(2020, 1, 1), date(2020, 1, 8), date(2020, 1, 15)]),
        (datetime(2020, 1, 31, 8), "1q", [datetime(2020, *day, 8) for day in ((1, 31), (4, 30), (7, 31))]),
        (datetime(2020, 1, 1), "90m", [datetime(2020, 1, 1) + timedelta(minutes=90 * k) for k in range(3)]),
        (datetime(2020, 1, 1), "250us", [datetime(2020, 1, 1, 0, 0, 0, 250 * k) for k in range(3)]),
    ],
)  # fmt: skip
def test_stamps_go_on_by_the_calendar(start: Any, frequency: Any, following: list[Any]) -> None:
    kind: Any = CalendarIndex if isinstance(start, date) else TimeIndex
    assert stamp_series(kind([start], [frequency]), [0], [0], 3).to_list() == following
    assert stamp_series(kind(pl.Series([start]), [frequency]), [0], [1], 2).to_list() == following[1:]


def test_days_of_a_time_zone_follow_its_clocks_and_hours_do_not() -> None:
    start = pl.Series([datetime(2021, 3, 27, 2, 30)]).dt.replace_time_zone("Europe/Berlin")
    days = stamp_series(CalendarIndex(start, ["1d"]), [0], [0], 3)
    assert days.dt.replace_time_zone(None).to_list() == [
        datetime(2021, 3, 27, 2, 30),
        datetime(2021, 3, 28, 3, 30),  # 2:30 does not exist
        datetime(2021, 3, 29, 2, 30),
    ]
    hours = stamp_series(CalendarIndex(start, ["24h"]), [0], [0], 3)
    assert hours.dt.replace_time_zone(None).to_list()[1] == datetime(2021, 3, 28, 3, 30)
    assert hours.diff()[1:].to_list() == [timedelta(hours=24)] * 2
    assert hours.dt.replace_time_zone(None).to_list()[2] == datetime(2021, 3, 29, 3, 30)


@pytest.mark.parametrize(
    "dtype",
    [
        pl.Date,
        pl.Datetime("ms"),
        pl.Datetime("us"),
        pl.Datetime("ns"),
        pl.Datetime("us", "America/New_York"),
        pl.Int64,
        pl.Float64,
    ],
)
def test_stamps_of_many_series_are_those_of_each_in_their_type(dtype: Any) -> None:
    temporal = dtype.is_temporal()
    starts = pl.Series([date(2020, 1, 31), date(2021, 2, 3), date(2021, 2, 3)]).cast(
        pl.Date if temporal else pl.Int32
    )
    starts = (
        starts.cast(pl.Datetime(dtype.time_unit)) if isinstance(dtype, pl.Datetime) else starts.cast(dtype)
    )
    zone = getattr(dtype, "time_zone", None)
    starts = starts.dt.replace_time_zone(zone) if zone else starts
    if temporal:
        times: TimeIndex = CalendarIndex(starts, ["1mo", "1d", "1bd"])
    else:
        times = TimeIndex(starts.to_list(), [2, 3, 2])
    series = stamp_series(times, [2, 0, 1, 0], [0, 2, 5, 1], 4)
    assert series.dtype == dtype
    each = [stamp_series(times, [index], [first], 4) for index, first in ((2, 0), (0, 2), (1, 5), (0, 1))]
    assert series.to_list() == pl.concat(each).to_list()


def test_whole_numbers_and_fractions_together_are_fractions() -> None:
    stamps = stamp_series(TimeIndex([0, 0.5], [1, 0.5]), [0, 1], [0, 0], 2)
    assert stamps.to_list() == [0.0, 1.0, 0.5, 1.0]


def test_calendar_codes_count_from_0() -> None:
    stamps = pl.Series([datetime(2020, 1, 6, 0), datetime(2020, 12, 27, 23)])
    assert calendar_codes(stamps, ["month", "weekday", "hour"]).tolist() == [[0, 0, 0], [11, 6, 23]]
    assert calendar_codes(stamps.dt.date(), ["hour", "month"]).tolist() == [[0, 0], [0, 11]]
    assert calendar_codes(stamps, ["hour"]).dtype == np.uint8
    local = stamps.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
    assert calendar_codes(local, ["hour"]).tolist() == [[9], [8]]
    with pytest.raises(InputError, match=r"`calendar_features` \['hour'\] need dates"):
        calendar_codes(pl.Series([1, 2]), ["hour"])


def test_the_calendar_goes_on_after_each_series() -> None:
    data = TableData(
        values=torch.zeros(7, 1),
        offsets=torch.tensor([0, 3, 7]),
        lengths=torch.tensor([3, 2]),
        ids=["a", "b"],
        features=["y"],
        times=CalendarIndex([date(2020, 11, 1), date(2020, 1, 1)], ["1mo", "1d"]),
        calendar_names=["month", "weekday"],
    )
    codes = data.future_calendar(torch.tensor([1, 0]), 2)
    assert codes.dtype == torch.uint8
    assert codes.tolist() == [[[0, 4], [0, 5]], [[1, 0], [2, 0]]]


@pytest.mark.parametrize("text", ["", "d", "0d", "1x", "-1d", "1.5d", "1d2h", "0", "-2", "inf", "nan"])
def test_other_text_than_a_frequency_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"`frequency` '{text}' must be a number and mo, me"):
        Frequency.parse(text)


@quick
@given(
    start=st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)).map(
        lambda stamp: stamp.replace(microsecond=0)
    ),
    size=st.integers(1, 12),
    unit=st.sampled_from(["mo", "me", "d", "bd", "h", "m", "s", "us"]),
    zone=st.sampled_from([None, "UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    kept=st.lists(st.booleans(), min_size=8, max_size=30),
)
def test_the_frequency_that_is_found_has_all_stamps_on_its_grid(
    start: datetime, size: int, unit: str, zone: str | None, kept: list[bool]
) -> None:
    starts = pl.Series([start]) if zone is None else pl.Series([start]).dt.replace_time_zone(
        zone, ambiguous="earliest", non_existent="null"
    )  # fmt: skip
    if starts.null_count():
        return
    stamps = stamp_series(CalendarIndex(starts, [f"{size}{unit}"]), [0], [1], len(kept))
    stamps = stamps.filter(pl.Series([True, True, *kept[2:]])).unique(maintain_order=True)
    frequency = (
        TableSeries(pl.DataFrame({"ds": stamps, "y": 1.0}, schema_overrides={"y": pl.Float64}))
        .load()
        .times.frequencies[0]
    )
    grid = stamp_series(CalendarIndex(stamps[:1], [frequency]), [0], [0], 20_000 if unit == "bd" else 4000)
    local = grid.dt.replace_time_zone(None)
    assert set(stamps.dt.replace_time_zone(None)) <= set(local)
    if all(kept) and len(stamps) == len(kept) and zone is None and unit not in ("me", "bd", "d", "mo"):
        assert Frequency.parse(frequency).size == Frequency.parse(f"{size}{unit}").size


def test_utc_is_no_special_zone() -> None:
    hours = stamp_series(CalendarIndex([datetime(2020, 1, 1, tzinfo=UTC)], ["1h"]), [0], [1], 1)
    assert hours.to_list() == [datetime(2020, 1, 1, 1, tzinfo=UTC)]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_calendar_covariates_are_those_of_a_fit(zone: str | None) -> None:
    stamps = pl.datetime_range(datetime(2024, 3, 30), datetime(2024, 4, 2), "5h", time_zone=zone, eager=True)
    names: list[Any] = ["hour", "month", "weekday"]
    data = TableSeries(pl.DataFrame({"ds": stamps, "y": 1.0}), calendar_features=names).load()
    encoded = data.covariates_at(torch.arange(len(stamps)))
    assert encoded is not None
    for column in (stamps, stamps.to_list()):
        assert torch.equal(calendar_covariates(column, names), encoded)
    assert calendar_covariates([date(2024, 3, 30)], ["weekday"]).tolist() == [[0, 0, 0, 0, 0, 1, 0]]
    assert calendar_covariates(stamps[:0], list(CALENDAR)).shape == (0, 43)
    with pytest.raises(
        InputError, match="'year' is not a calendar feature: give some of month, weekday, hour"
    ):
        calendar_covariates(stamps, ["year"])
    with pytest.raises(InputError, match="need dates"):
        calendar_covariates([1, 2], ["month"])
