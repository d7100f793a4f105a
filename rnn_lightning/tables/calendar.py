"""Regular time stamps on a calendar: the integers behind them, how they go on, and what date they are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from rnn_lightning.data.series import TimeIndex
from rnn_lightning.errors import InputError
from rnn_lightning.tables.frequency import DAY, Frequency
from rnn_lightning.tables.month_rules import advance_by_rule, first_days, months

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

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
        elif unit.startswith("mo@"):
            day = advance_by_rule(day, steps, count, unit)
        else:
            month, day_of_month = months(day)
            first, last = (first_days(month + steps * count + more) - more for more in (0, 1))
            day = last if unit == "me" else np.minimum(first + day_of_month, last)
        return day * self.ticks_per_day + time


def business_days(day: np.ndarray) -> np.ndarray:
    """Return business days since Monday, 1969-12-29, of days since 1970-01-01; weekends count as Fridays."""
    week, weekday = np.divmod(day + 3, 7)
    return week * 5 + np.minimum(weekday, 4)


def phases_at(axis: Axis, ticks: np.ndarray, first: np.ndarray, per_day: int) -> np.ndarray:
    """Return the phase of the week, from Monday, at each of ``ticks (row,)`` by the clocks of the zone.

    Args:
        axis: the axis of the ticks.
        ticks: stamps.
        first: ``(row,)``, the first stamp of each series, from which its steps are counted.
        per_day: number of phases of a day.
    """
    day = axis.ticks_per_day
    size = day // per_day
    after = (
        axis.local(ticks) + 3 * day - axis.local(first) % size + size // 4
    )  # stamps may miss a step by a bit
    return after // size % (7 * per_day)


class OpenPhases(NamedTuple):
    """Phases of the week at which series can have values.

    Attributes:
        code: ``(series,)``, the number of the pattern of each series; -1 for one that is open at all times.
        patterns: whether each phase of the week from Monday on is open, ``(7 * phases of a day,)`` each.
        has_rare: whether there are exceptional values at closed phases of a pattern.
    """

    code: np.ndarray
    patterns: Sequence[np.ndarray]
    has_rare: Sequence[bool]

    def keep(self, kept: Any) -> "OpenPhases":
        """Return those of some series."""
        return self._replace(code=self.code[kept])

    @property
    def open_fraction(self) -> np.ndarray:
        """The fraction of steps at which each series is open, ``(series,)``."""
        return np.array([*(pattern.mean() for pattern in self.patterns), 1.0])[self.code]

    def exist(self, axis: Axis, ticks: np.ndarray, first: np.ndarray, series: np.ndarray) -> np.ndarray:
        """Return whether each of ``ticks (row,)`` is open, of series that begin at ``first (row,)``."""
        is_open, code = np.ones(len(ticks), bool), self.code[series]
        for number in np.unique(code[code >= 0]).tolist():
            rows, pattern = np.flatnonzero(code == number), self.patterns[number]
            is_open[rows] = pattern[phases_at(axis, ticks[rows], first[rows], len(pattern) // 7)]
        return is_open


class CalendarIndex(TimeIndex):
    """Regular dates or datetimes: step ``k`` of series ``i`` is ``k`` frequencies after ``starts[i]``.

    Args:
        starts: the first stamp of each series: dates or datetimes, as a list or a polars Series.
        frequencies: the distance between two steps of each series: ``15m``, ``1d``, ``1bd`` for business
            days, ``1mo``, ``1me`` for ends of months and so on. Days and months are those of the time zone of
            the stamps.
        open_phases: phases of the week at which a series can have values; None if it can at all.
    """

    def __init__(
        self,
        starts: Sequence[Any] | pl.Series,
        frequencies: Sequence[Any],
        open_phases: OpenPhases | None = None,
    ) -> None:
        super().__init__([], frequencies)
        self.starts, self.open_phases = pl.Series(starts), open_phases
        self._distinct, self._code = np.unique(np.asarray(frequencies, str), return_inverse=True)

    def stamps_at(self, series: np.ndarray, steps: np.ndarray) -> pl.Series:
        """Return the stamp of each of ``steps (row,)`` of the series numbered ``series (row,)``."""
        axis, code = Axis(self.starts.dtype), self._code[series]
        ticks = axis.ticks(self.starts.gather(series))  # (row,)
        present = np.bincount(code).nonzero()[0].tolist()
        for number in present:
            rows = slice(None) if len(present) == 1 else np.flatnonzero(code == number)
            frequency = Frequency.parse(str(self._distinct[number]))
            ticks[rows] = axis.advance(ticks[rows], frequency, steps[rows])
        return axis.stamps(ticks)

    def keep(self, kept: Sequence[int]) -> "CalendarIndex":
        frequencies = [self.frequencies[index] for index in kept]
        return CalendarIndex(self.starts[kept], frequencies, self.open_phases and self.open_phases.keep(kept))

    def exist(self, series: np.ndarray, steps: np.ndarray) -> np.ndarray:
        is_open = np.ones(len(series), bool)
        if self.open_phases is not None and len(rows := np.flatnonzero(self.open_phases.code[series] >= 0)):
            axis, own = Axis(self.starts.dtype), series[rows]
            ticks, first = (
                axis.ticks(each) for each in (self.stamps_at(own, steps[rows]), self.starts.gather(own))
            )
            is_open[rows] = self.open_phases.exist(axis, ticks, first, own)
        return is_open


def steps_that_exist(times: TimeIndex, series: Any, first_steps: Any, num_steps: int) -> np.ndarray | None:
    """Return which steps of ``stamp_series`` can have values, ``(series * step,)``; None for all."""
    if getattr(times, "open_phases", None) is None:
        return None
    steps = np.asarray(first_steps, np.int64).reshape(-1, 1) + np.arange(num_steps)  # (series, step)
    numbers = np.repeat(np.asarray(series, np.int64), num_steps)
    exist = times.exist(numbers, steps.reshape(-1))
    return None if exist.all() else exist


def steps_until_open(times: TimeIndex, lengths: Any, horizon: int) -> int:
    """Return the closed steps after the longest closed series; 0 if all open again within the horizon."""
    first = np.asarray(lengths, np.int64)
    exist = steps_that_exist(times, range(len(first)), first, horizon)
    if exist is None or not len(closed := np.flatnonzero(~exist.reshape(-1, horizon).any(1))):
        return 0
    week = max(len(pattern) for pattern in times.open_phases.patterns)  # type: ignore[attr-defined]
    ahead = steps_that_exist(times, closed, first[closed], horizon + week)
    return 0 if ahead is None else int(ahead.reshape(len(closed), -1).argmax(1).max())


def stamp_series(times: TimeIndex, series: Any, first_steps: Any, num_steps: int) -> pl.Series:
    """Return the stamps of many series, ``num_steps`` each from its own first step, series after series."""
    steps = np.asarray(first_steps, np.int64).reshape(-1, 1) + np.arange(num_steps)  # (series, step)
    stamps = times.stamps_at(np.repeat(np.asarray(series, np.int64), num_steps), steps.reshape(-1))
    return stamps if isinstance(stamps, pl.Series) else pl.Series(stamps)


def calendar_codes(stamps: Any, names: Sequence[str]) -> np.ndarray:
    """Return calendar features ``(step, calendar feature)``, uint8, each counted from 0.

    Args:
        stamps: a polars Series of dates or datetimes; those with a time zone count as its clocks show.
        names: keys of ``CALENDAR``.

    Raises:
        InputError: if the stamps are numbers.
    """
    if not (isinstance(stamps, pl.Series) and stamps.dtype.is_temporal()):
        raise InputError(f"`calendar_features` {list(names)} need dates, and the time stamps are numbers.")
    codes = np.zeros((len(stamps), len(names)), dtype=np.uint8)
    for column, name in enumerate(names):
        if name == "hour":
            codes[:, column] = 0 if stamps.dtype == pl.Date else stamps.dt.hour().to_numpy()
        else:
            codes[:, column] = (stamps.dt.month() if name == "month" else stamps.dt.weekday()).to_numpy() - 1
    return codes
