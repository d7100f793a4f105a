"""Public holidays of a country, as inputs that are known in advance."""

from functools import cache
from typing import Any

import numpy as np
import polars as pl

from rnn_lightning.data.series import TimeIndex
from rnn_lightning.errors import InputError
from rnn_lightning.tables.frequency import DAY, Frequency
from rnn_lightning.tables.options import NUM_HOLIDAY_INPUTS


def step_holidays(country: str, times: TimeIndex, series: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the inputs ``(row, NUM_HOLIDAY_INPUTS)``, uint8, of ``steps (row,)`` of ``series (row,)``.

    A step of several days reaches up to the next stamp; one of ends of months begins after the last stamp.

    Raises:
        InputError: if the stamps are numbers, the steps are years, or there is no such country.
    """
    frequencies = np.asarray(times.frequencies, str)
    inputs = np.zeros((len(steps), NUM_HOLIDAY_INPUTS), np.uint8)
    for written in np.unique(frequencies[series]).tolist():
        rows = np.flatnonzero(frequencies[series] == written)
        size, unit = Frequency.parse(written)
        of_rows = series[rows], steps[rows]
        if unit == "number":
            raise InputError("`holidays` need dates, and the time stamps are numbers.")
        if unit[:2] in ("mo", "me") and size % 12 == 0:
            raise InputError("`holidays`: each year has about the same number of them; leave them out.")
        first = _days(times.stamps_at(*of_rows))
        is_day = unit == "bd" or (unit == "d" and size == 1) or (unit == "ns" and size <= DAY)
        if is_day:
            last = first
        elif unit == "me":
            first, last = _days(times.stamps_at(of_rows[0], of_rows[1] - 1)) + 1, first
        else:
            last = _days(times.stamps_at(of_rows[0], of_rows[1] + 1)) - 1
        inputs[rows] = count_holidays(country, first, last, is_day)
    return inputs


def stamp_holidays(country: str, stamps: pl.Series) -> np.ndarray:
    """Return the inputs ``(step, NUM_HOLIDAY_INPUTS)``, uint8, of stamps of days or parts of days."""
    return count_holidays(country, _days(stamps), _days(stamps), is_day=True)


def count_holidays(country: str, first: np.ndarray, last: np.ndarray, is_day: bool) -> np.ndarray:
    """Return the inputs of steps from their first to their last day, counted from 1970-01-01."""
    inputs = np.zeros((len(first), NUM_HOLIDAY_INPUTS), np.uint8)
    if len(first) == 0:
        return inputs
    days = np.array([first.min() - 1, last.max() + 1]).astype("datetime64[D]").astype("datetime64[Y]")
    begin, end = (days.astype(int) + 1970).tolist()
    known = np.concatenate([_holidays(country, year) for year in range(begin, end + 1)])
    inputs[:, 0] = np.searchsorted(known, last, side="right") - np.searchsorted(known, first)
    if is_day:
        for column, offset in ((1, 1), (2, -1)):
            inputs[:, column] = np.isin(first + offset, known) & (inputs[:, 0] == 0)
    return inputs


@cache
def _holidays(country: str, year: int) -> np.ndarray:
    """Return the public holidays of a year in days since 1970-01-01, ascending."""
    try:
        import holidays
    except ModuleNotFoundError as error:
        raise InputError("`holidays` needs a package: pip install 'rnn-lightning[holidays]'.") from error
    code, _, part = country.partition("-")
    try:
        found: Any = holidays.country_holidays(code, subdiv=part or None, years=year)
    except NotImplementedError as error:
        known = "a code of two letters such as DE, or DE-BY for a part of it"
        raise InputError(
            f"`holidays` {country!r}: there is no such country or part: give {known}."
        ) from error
    return np.array(sorted(found), "datetime64[D]").astype(int)


def _days(stamps: pl.Series) -> np.ndarray:
    """Return the days of stamps since 1970-01-01, as the clocks of their time zone show."""
    return stamps.dt.date().to_physical().to_numpy().astype(int)
