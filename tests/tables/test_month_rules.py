"""Steps that are days of a month."""

from calendar import monthrange
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_lightning.tables.calendar import stamp_series
from rnn_lightning.tables.frequency import Frequency
from rnn_lightning.tables.month_rules import advance_by_rule, steps_between
from rnn_lightning.tables.seasons import calendar_seasons
from rnn_lightning.tables.table import TableSeries

EVERY = [date(2015, 1, 1) + timedelta(step) for step in range(3000)]


def last_of(day: date) -> int:
    return monthrange(day.year, day.month)[1]


def is_business(day: date) -> bool:
    return day.weekday() < 5


def is_last_business(day: date) -> bool:
    rest = [day.replace(day=number) for number in range(day.day + 1, last_of(day) + 1)]
    return is_business(day) and not any(map(is_business, rest))


def is_first_business(day: date) -> bool:
    return is_business(day) and not any(is_business(day.replace(day=number)) for number in range(1, day.day))


RULES: dict[str, Callable[[date], bool]] = {
    "1mo@1,15": lambda day: day.day in (1, 15),
    "1mo@1,11,21": lambda day: day.day in (1, 11, 21),
    "1mo@15,last": lambda day: day.day in (15, last_of(day)),
    "1mo@10,20,30": lambda day: day.day in (10, 20, min(30, last_of(day))),
    "1mo@5,12,19,26": lambda day: day.day in (5, 12, 19, 26),
    "1mo@3fri": lambda day: day.weekday() == 4 and 15 <= day.day <= 21,
    "3mo@3fri": lambda day: day.month % 3 == 0 and day.weekday() == 4 and 15 <= day.day <= 21,
    "1mo@1mon": lambda day: day.weekday() == 0 and day.day <= 7,
    "1mo@lastsun": lambda day: day.weekday() == 6 and day.day + 7 > last_of(day),
    "1mo@lastbd": is_last_business,
    "3mo@lastbd": lambda day: day.month % 3 == 0 and is_last_business(day),
    "1mo@firstbd": is_first_business,
}


def load(days: list[date], name: str = "a") -> pl.DataFrame:
    return pl.DataFrame({"unique_id": name, "ds": days, "y": np.arange(float(len(days)))})


@pytest.mark.parametrize("frequency", RULES)
@pytest.mark.parametrize("gap", [0, 1])
def test_days_of_months_go_on_as_they_were(frequency: str, gap: int) -> None:
    days = [day for day in EVERY if RULES[frequency](day)]
    known = days[3:-4] if not gap else [*days[3:8], *days[9:-4]]
    data = TableSeries(load(known[::-1])).load()
    assert data.times.frequencies == [frequency]
    assert stamp_series(data.times, [0], data.lengths, 4).to_list() == days[-4:]
    assert int(data.values.isnan().sum()) == gap
    assert Frequency.parse(frequency).written == frequency
    given_it = TableSeries(load(known), frequency=frequency).load()
    assert stamp_series(given_it.times, [0], given_it.lengths, 4).to_list() == days[-4:]


def test_each_series_has_a_rule_of_its_own_and_others_stay_as_they_are() -> None:
    rules = ["1mo@1,15", "1mo@lastbd"]
    frames = [load([day for day in EVERY if RULES[rule](day)], rule) for rule in rules]
    month = [day for day in EVERY if day.day == 1]
    frames += [load(month, "1mo"), load(EVERY[:300:3], "3d"), load(month[:1], "short")]
    names = [*rules, "1mo", "3d"]
    assert TableSeries(pl.concat(frames[:4])).load().times.frequencies == names
    random = np.random.default_rng(0)
    gaps = [day for day in EVERY[:400] if random.random() < 0.4]
    assert TableSeries(load(gaps)).load().times.frequencies == ["1d"]


def test_a_year_of_a_rule_is_its_season() -> None:
    seasons = [
        calendar_seasons(frequency) for frequency in ("1mo@1,15", "1mo@1,11,21", "1mo@3fri", "3mo@lastbd")
    ]
    assert seasons == [(24,), (36,), (12,), (4,)]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.sampled_from(list(RULES)), st.integers(0, 2000), st.integers(-300, 300))
def test_steps_and_days_are_inverse(frequency: str, begin: int, steps: int) -> None:
    size, rule = Frequency.parse(frequency)
    own = [day for day in EVERY if RULES[frequency](day)]
    first = np.array([(own[begin % len(own)] - date(1970, 1, 1)).days])
    ahead = advance_by_rule(first, np.array([steps]), int(size), rule)
    assert steps_between(first, ahead, np.array([int(size)]), rule).tolist() == [steps]
