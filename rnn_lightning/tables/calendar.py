"""Time stamps on a regular calendar: how they go on, and what month, weekday and hour they are in."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnn_lightning.errors import InputError

if TYPE_CHECKING:
    import polars as pl

CALENDAR = {"month": 12, "weekday": 7, "hour": 24}
"""The calendar features and the number of their values; weekday 0 is Monday."""

NANOSECONDS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
DAY = 86_400_000_000_000
FORMS = (
    "a number and mo, me (ends of months), d, bd (business days), h, m, s, ms or us, "
    "such as 1mo, 7d, 1bd or 15m"
)


class Interval(NamedTuple):
    """The distance of two steps: ``size`` numbers, nanoseconds, (business) days, months or ends of months."""

    size: int | float
    unit: str  # "number", "ns", "d", "bd", "mo" or "me"

    @classmethod
    def parse(cls, given: int | float | str) -> "Interval":
        """The interval that a number or a text such as ``15m`` stands for.

        Raises:
            ValueError: if it stands for none.
        """
        if not isinstance(given, str):
            return cls(given, "number")
        match = re.fullmatch(r"(\d+)(y|q|mo|me|w|d|bd|h|m|s|ms|us|ns)", given)
        if match is None or int(match[1]) == 0:
            raise ValueError(f"{given!r} is no interval: it is {FORMS}")
        count, unit = int(match[1]), match[2]
        if unit in NANOSECONDS:
            return cls(count * NANOSECONDS[unit], "ns")
        factor, unit = {"y": (12, "mo"), "q": (3, "mo"), "w": (7, "d")}.get(unit, (1, unit))
        return cls(count * factor, unit)

    @property
    def written(self) -> int | float | str:
        """The number, or the text that ``parse`` understands."""
        if self.unit == "number":
            return self.size
        if self.unit != "ns":
            return f"{self.size}{self.unit}"
        unit, size = next((unit, size) for unit, size in NANOSECONDS.items() if self.size % size == 0)
        return f"{self.size // size}{unit}"


@dataclass(frozen=True, eq=False)
class TimeIndex:
    """Regular time stamps: step ``k`` of series ``i`` is at ``starts[i] + k * intervals[i]``.

    Args:
        starts: the first stamp of every series: numbers, dates or datetimes, as a list or a polars Series.
        intervals: the distance of two steps of every series: a number, or for dates and datetimes a duration
            in the notation of polars' ``offset_by``, such as ``15m``, ``1d`` or ``1mo``, and also ``1me`` for
            the ends of months and ``1bd`` for business days. Days and months are those of the time zone of
            the stamps.
    """

    starts: "Sequence[Any] | pl.Series"
    intervals: Sequence[int | float | str]

    def stamps(self, series_index: int, first_step: int, num_steps: int) -> Sequence[Any]:
        """Time stamps of ``num_steps`` steps from ``first_step`` on, also past the end of the series."""
        return self.stamp_series([series_index], [first_step], num_steps).to_list()

    def stamp_series(
        self, series_indices: Sequence[int], first_steps: Sequence[int], num_steps: int
    ) -> "pl.Series":
        """Time stamps of many series, each ``num_steps`` steps from its own first one, series after series.

        Args:
            series_indices: the series; tensors and arrays of integers are fine as well.
            first_steps: a step for each of them.
            num_steps: how many steps of each.
        """
        chosen = np.asarray(series_indices, dtype=np.int64).reshape(-1)
        steps = np.asarray(first_steps, dtype=np.int64).reshape(-1, 1) + np.arange(num_steps)
        return self.stamps_at(np.repeat(chosen, num_steps), steps.reshape(-1))

    def stamps_at(self, series: np.ndarray, steps: np.ndarray) -> "pl.Series":
        """The stamp of each of ``steps`` of the series in ``series``, both ``(row,)``."""
        import polars as pl

        chosen, rows = np.unique(series, return_inverse=True)
        if isinstance(self.starts, pl.Series):
            starts = self.starts.gather(chosen)
        else:
            starts = pl.Series([self.starts[index] for index in chosen.tolist()], strict=False)
        known: dict[int | float | str, int] = {}
        codes = np.array(
            [known.setdefault(self.intervals[index], len(known)) for index in chosen.tolist()], dtype=np.int64
        )
        if len(known) <= 1:
            return advance(starts.gather(rows), Interval.parse(next(iter(known), 1)), steps)
        parts, places = [], []
        for code, interval in enumerate(known):
            place = np.flatnonzero(codes[rows] == code)
            parts.append(advance(starts.gather(rows[place]), Interval.parse(interval), steps[place]))
            places.append(place)
        if len({part.dtype for part in parts}) > 1:  # whole numbers and fractions
            parts = [part.cast(pl.Float64) for part in parts]
        return pl.concat(parts).gather(np.argsort(np.concatenate(places), kind="stable"))


def advance(starts: "pl.Series", interval: Interval, steps: np.ndarray) -> "pl.Series":
    """The stamps ``steps`` intervals after each start, so that the 31st stays the end of the month."""
    import polars as pl

    if interval.unit == "number":
        stamps = starts.to_numpy() + steps * interval.size
        return pl.Series(stamps if stamps.dtype.kind in "iu" else round_stamps(stamps, interval.size))
    ticks = ticks_of_day(starts.dtype)
    if interval.unit == "ns":
        count, rest = divmod(int(interval.size) * ticks, DAY)
        if rest:
            raise ValueError(f"{starts.dtype} cannot hold steps of {interval.written}")
        return from_ticks(starts.to_physical().to_numpy() + steps * count, starts.dtype)
    return from_local_ticks(advance_local(local_ticks(starts), interval, steps, ticks), starts.dtype)


def advance_local(start: np.ndarray, interval: Interval, steps: np.ndarray, ticks: int) -> np.ndarray:
    """Wall-clock ticks, ``ticks`` a day, that lie ``steps`` days, business days or months after ``start``."""
    count, unit = int(interval.size), interval.unit
    if unit == "d":
        return start + steps * (count * ticks)
    day, time = np.divmod(start, ticks)
    if unit == "bd":
        business = np.divmod(business_days(day) + steps * count, 5)
        return (business[0] * 7 + business[1] - 3) * ticks + time
    month, day_of_month = months(day)
    month = month + steps * count
    first, last = first_days(month), first_days(month + 1) - 1
    return (last if unit == "me" else np.minimum(first + day_of_month, last)) * ticks + time


def months(day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Months since 1970 and the days since the month's first, of days since 1970-01-01."""
    month = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return month, day - first_days(month)


def first_days(month: np.ndarray) -> np.ndarray:
    """Days since 1970-01-01 of the first of each month."""
    return month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def business_days(day: np.ndarray) -> np.ndarray:
    """Business days since 1969-12-29, a Monday, of days since 1970-01-01; a weekend counts as its Friday."""
    week, weekday = np.divmod(day + 3, 7)
    return week * 5 + np.minimum(weekday, 4)


def ticks_of_day(dtype: Any) -> int:
    """How many units of the integers behind dates or datetimes make a day."""
    import polars as pl

    if not isinstance(dtype, pl.Datetime):
        return 1
    return {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}[dtype.time_unit]


def local_ticks(stamps: "pl.Series") -> np.ndarray:
    """The integers behind dates or datetimes as a clock on the wall of their time zone shows them."""
    import polars as pl

    if isinstance(stamps.dtype, pl.Datetime) and stamps.dtype.time_zone is not None:
        stamps = stamps.dt.replace_time_zone(None)
    return stamps.to_physical().to_numpy().astype(np.int64, copy=False)


def from_ticks(ticks: np.ndarray, dtype: Any) -> "pl.Series":
    """Numbers, dates or datetimes from the integers behind them."""
    import polars as pl

    stamps = pl.Series(ticks)
    return stamps.cast(pl.Int32).cast(pl.Date) if dtype == pl.Date else stamps.cast(dtype)


def from_local_ticks(ticks: np.ndarray, dtype: Any) -> "pl.Series":
    """Dates or datetimes from a clock on the wall; where it skips an hour, the one after it is taken."""
    import polars as pl

    zone = dtype.time_zone if isinstance(dtype, pl.Datetime) else None
    if zone is None:
        return from_ticks(ticks, dtype)
    wall = from_ticks(ticks, pl.Datetime(dtype.time_unit))
    stamps = wall.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    if stamps.null_count():
        later = wall.dt.offset_by("1h").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        stamps = stamps.zip_with(stamps.is_not_null(), later)
    return stamps


def round_stamps(stamps: np.ndarray, interval: float) -> np.ndarray:
    """Without rounding errors as in 0.1 + 2 * 0.1: a billionth of the interval, at least, is kept."""
    places = 9 + max(0, -int(np.floor(np.log10(interval))))
    return np.round(stamps, min(places, 300))


def calendar_codes(stamps: "pl.Series", names: Sequence[str]) -> np.ndarray:
    """The calendar features of dates or datetimes, ``(step, calendar feature)``, uint8, each counted from 0.

    Args:
        stamps: dates or datetimes; those with a time zone are read as its clocks show.
        names: keys of ``CALENDAR``.

    Raises:
        InputError: if the stamps are numbers.
    """
    import polars as pl

    if not stamps.dtype.is_temporal():
        raise InputError(f"`calendar_features` {list(names)} need dates, and the time stamps are numbers.")
    codes = np.zeros((len(stamps), len(names)), dtype=np.uint8)
    for column, name in enumerate(names):
        if name == "hour":
            if stamps.dtype != pl.Date:  # a date is midnight
                codes[:, column] = stamps.dt.hour().to_numpy()
        else:
            codes[:, column] = (stamps.dt.month() if name == "month" else stamps.dt.weekday()).to_numpy() - 1
    return codes
