"""The integers on which time stamps are measured, and how a calendar goes on in them."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from rnn_lightning.tables.frequency import DAY, Frequency

TICKS_PER_DAY = {"ms": DAY // 10**6, "us": DAY // 1000, "ns": DAY}


class Axis(NamedTuple):
    """A type of time stamps and its ticks: the integers behind dates and datetimes, or scaled numbers.

    Attributes:
        dtype: the polars type of the stamps.
        scale: number of ticks to 1, for numbers.
    """

    dtype: Any
    scale: int = 1

    @property
    def ticks_per_day(self) -> int:
        """The number of ticks in a day; 0 for numbers."""
        return TICKS_PER_DAY.get(getattr(self.dtype, "time_unit", ""), int(self.dtype == pl.Date))

    @property
    def zone(self) -> str | None:
        """The time zone whose clocks the stamps follow."""
        return getattr(self.dtype, "time_zone", None)

    def ticks(self, stamps: pl.Series) -> np.ndarray:
        """Return the ticks of known stamps."""
        if self.dtype == pl.Float64:
            return np.rint(stamps.to_numpy() * self.scale).astype(np.int64)
        return stamps.cast(self.dtype).to_physical().to_numpy().astype(np.int64)

    def stamps(self, ticks: np.ndarray) -> pl.Series:
        """Return the stamps at some ticks."""
        if self.dtype == pl.Float64:
            return pl.Series(np.round(ticks / self.scale, 9))
        stamps = pl.Series(ticks)
        return (stamps.cast(pl.Int32) if self.dtype == pl.Date else stamps).cast(self.dtype)

    def local(self, ticks: np.ndarray) -> np.ndarray:
        """Return the ticks that the clocks of the time zone show."""
        if self.zone is None:
            return ticks
        return self.stamps(ticks).dt.replace_time_zone(None).to_physical().to_numpy()

    def from_local(self, local: np.ndarray) -> np.ndarray:
        """Return the ticks at which clocks show ``local``; an hour that they skip becomes the next one."""
        if self.zone is None:
            return local
        clocks = pl.Series(local).cast(pl.Datetime(self.dtype.time_unit))
        settings: Any = {"time_zone": self.zone, "ambiguous": "earliest", "non_existent": "null"}
        stamps = clocks.dt.replace_time_zone(**settings)
        if stamps.has_nulls():
            later = clocks.dt.offset_by("1h").dt.replace_time_zone(**settings)
            stamps = stamps.zip_with(stamps.is_not_null(), later)
        return stamps.to_physical().to_numpy()

    def advance(self, ticks: np.ndarray, frequency: Frequency, steps: np.ndarray) -> np.ndarray:
        """Return the ticks that lie ``steps`` durations, days or months after ``ticks``."""
        if frequency.unit == "ns":
            return ticks + steps * (int(frequency.size) * self.ticks_per_day // DAY)
        return self.from_local(self.advance_local(self.local(ticks), frequency, steps))

    def advance_local(self, local: np.ndarray, frequency: Frequency, steps: np.ndarray) -> np.ndarray:
        """Return what clocks show ``steps`` days, business days or months after they show ``local``.

        The day of the month is kept where the month has it: the 31st stays the end of the month.
        """
        count, unit = int(frequency.size), frequency.unit
        day, time = np.divmod(local, self.ticks_per_day)
        if unit == "d":
            day = day + steps * count
        elif unit == "bd":
            week, weekday = np.divmod(business_days(day) + steps * count, 5)
            day = week * 7 + weekday - 3
        else:
            month, day_of_month = months(day)
            first, last = (first_days(month + steps * count + more) - more for more in (0, 1))
            day = last if unit == "me" else np.minimum(first + day_of_month, last)
        return day * self.ticks_per_day + time


def months(day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return months since 1970 and days since the first of the month, of days since 1970-01-01."""
    month = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return month, day - first_days(month)


def first_days(month: np.ndarray) -> np.ndarray:
    """Return days since 1970-01-01 of the first of each month, given in months since 1970."""
    return month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def business_days(day: np.ndarray) -> np.ndarray:
    """Return business days since Monday, 1969-12-29, of days since 1970-01-01; weekends count as Fridays."""
    week, weekday = np.divmod(day + 3, 7)
    return week * 5 + np.minimum(weekday, 4)
