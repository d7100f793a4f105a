"""Finds the distance of two steps in time stamps, for all series at once, and the number of the step of each stamp."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnn_lightning.data.table.times import (
    DAY,
    Interval,
    advance_local,
    business_days,
    first_days,
    local_ticks,
    months,
    ticks_of_day,
)

if TYPE_CHECKING:
    import polars as pl

UNITS = ("number", "ns", "d", "bd", "mo", "me")
NONE, NUMBER, FIXED, DAYS, BUSINESS, MONTHS, ENDS = -1, 0, 1, 2, 3, 4, 5
"""Codes of the units: their place in ``UNITS``; a series of one stamp has none."""

SNAP = 0.1
"""By what part of a step a stamp may miss the grid."""


class Clock(NamedTuple):
    """Stamps as the numbers behind them.

    Attributes:
        ticks: ``(row,)``, int64, or float64 for floats.
        local: the same on the clocks of the time zone.
        day: ticks in a day; 0 for numbers.
    """

    ticks: np.ndarray
    local: np.ndarray
    day: int

    @classmethod
    def of(cls, stamps: "pl.Series") -> "Clock":
        """The clock of integers, floats, dates or datetimes."""
        ticks = stamps.to_physical().to_numpy()
        if not stamps.dtype.is_temporal():
            return cls(ticks, ticks, 0)
        ticks = ticks.astype(np.int64, copy=False)
        zoned = getattr(stamps.dtype, "time_zone", None) is not None
        return cls(ticks, local_ticks(stamps) if zoned else ticks, ticks_of_day(stamps.dtype))

    def at(self, rows: np.ndarray) -> "Clock":
        """The chosen rows."""
        ticks = self.ticks[rows]
        return Clock(ticks, self.local[rows] if self.local is not self.ticks else ticks, self.day)


class Intervals(NamedTuple):
    """An interval for each series.

    Attributes:
        counts: ``(series,)``, of numbers, ticks, days or months.
        units: ``(series,)``, int8, codes of the units.
    """

    counts: np.ndarray
    units: np.ndarray

    @classmethod
    def all_alike(cls, interval: Interval, num_series: int, day: int) -> "Intervals":
        """One interval for all series."""
        count = interval.size * day // DAY if interval.unit == "ns" else interval.size
        return cls(np.full(num_series, count), np.full(num_series, UNITS.index(interval.unit), dtype=np.int8))

    def written(self, day: int) -> list[int | float | str]:
        """As ``TimeIndex`` takes them; any for a series of one stamp, which has one step."""
        known: dict[tuple[int | float, int], int | float | str] = {}
        pairs = list(zip(self.counts.tolist(), self.units.tolist(), strict=True))
        for count, unit in set(pairs):
            size = count * (DAY // day) if unit == FIXED else count
            known[count, unit] = Interval(size, UNITS[unit]).written if unit != NONE else "1d" if day else 1
        return [known[pair] for pair in pairs]


def steps_between(numbers: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The difference to the next row; 0 in the last row of each series."""
    steps = np.zeros_like(numbers)
    np.subtract(numbers[1:], numbers[:-1], out=steps[:-1])
    steps[offsets[1:] - 1] = 0
    return steps


def find_intervals(clock: Clock, offsets: np.ndarray) -> Intervals:
    """The plainest reading that has all stamps of a series on its grid.

    Args:
        clock: of stamps that rise within each series.
        offsets: ``(series + 1,)``: the rows of series ``i`` are ``offsets[i]`` to before ``offsets[i + 1]``;
            none is empty.
    """
    first = offsets[:-1]
    steps = steps_between(clock.ticks, offsets)
    if clock.ticks.dtype.kind == "f":
        return float_intervals(clock.ticks, steps, offsets)
    counts = np.gcd.reduceat(steps, first)
    single = counts == 0
    if clock.day == 0:
        return Intervals(counts, np.where(single, NONE, NUMBER).astype(np.int8))
    units = np.full(len(first), FIXED, dtype=np.int8)
    days = (
        counts if clock.local is clock.ticks else np.gcd.reduceat(steps_between(clock.local, offsets), first)
    )
    whole = days % clock.day == 0
    counts, units[whole] = np.where(whole, days // clock.day, counts), DAYS
    shortest = np.minimum.reduceat(np.where(steps == 0, np.iinfo(np.int64).max, steps), first)
    intervals = Intervals(counts, units)
    refine(clock, offsets, intervals, whole & (counts == 1), business_intervals)
    refine(
        clock, offsets, intervals, ~single & (shortest >= 27 * clock.day), month_intervals
    )  # less an hour by the clock
    units[single] = NONE
    return intervals


def refine(
    clock: Clock,
    offsets: np.ndarray,
    intervals: Intervals,
    chosen: np.ndarray,
    find: Callable[[Clock, np.ndarray], Intervals],
) -> None:
    """Write the intervals that ``find`` sees in the ``chosen`` series over the others."""
    if not chosen.any():
        return
    lengths = np.diff(offsets)
    part = clock.at(np.repeat(chosen, lengths)) if not chosen.all() else clock
    counts, units = find(part, np.concatenate([[0], np.cumsum(lengths[chosen])]))
    series = np.flatnonzero(chosen)[units != NONE]
    intervals.counts[series], intervals.units[series] = counts[units != NONE], units[units != NONE]


def business_intervals(clock: Clock, offsets: np.ndarray) -> Intervals:
    """Business days, where a daily series has no stamp on any weekend that it goes over."""
    week, weekday = np.divmod(clock.local // clock.day + 3, 7)
    worked = np.maximum.reduceat(weekday, offsets[:-1]) < 5
    found = worked & (week[offsets[1:] - 1] > week[offsets[:-1]])
    return Intervals(np.ones(len(found), dtype=np.int64), np.where(found, BUSINESS, NONE).astype(np.int8))


def month_intervals(clock: Clock, offsets: np.ndarray) -> Intervals:
    """Ends of months, or months that keep the day of the first stamp where they have it."""
    first, lengths = offsets[:-1], np.diff(offsets)
    day, time = np.divmod(clock.local, clock.day)
    month, day_of_month = months(day)
    num_days = first_days(month + 1) - first_days(month)
    counts = np.gcd.reduceat(steps_between(month, offsets), first)
    same_time = np.logical_and.reduceat(time == np.repeat(time[first], lengths), first) & (counts > 0)
    ends = np.logical_and.reduceat(day_of_month == num_days - 1, first)
    kept = day_of_month == np.minimum(np.repeat(day_of_month[first], lengths), num_days - 1)
    units = np.where(ends, ENDS, np.where(np.logical_and.reduceat(kept, first), MONTHS, NONE))
    return Intervals(counts, np.where(same_time, units, NONE).astype(np.int8))


def float_intervals(stamps: np.ndarray, steps: np.ndarray, offsets: np.ndarray) -> Intervals:
    """The distances of floats, which may be rounded."""
    counts, units = np.zeros(len(offsets) - 1), np.full(len(offsets) - 1, NONE, dtype=np.int8)
    for series, (first, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        if end - first > 1:
            counts[series], units[series] = float_interval(stamps[first:end], steps[first : end - 1]), NUMBER
    return Intervals(counts, units)


def float_interval(stamps: np.ndarray, steps: np.ndarray) -> float:
    """The distance of rising floats: the smallest one or, where gaps are no multiples of it, what divides all of them."""
    shortest = steps.min()
    base = steps[steps < 1.5 * shortest].mean()  # a better estimate where stamps are rounded to few digits
    places = next((places for places in range(10) if np.array_equal(np.round(stamps, places), stamps)), None)
    rounding = 10.0**-places if places is not None else 0.0
    tolerance = max(1e-6 * base, rounding if rounding <= SNAP * base else 0.0)
    multiples = np.rint(steps / base)
    numbers = np.concatenate([[0], np.cumsum(multiples)])
    interval = (stamps[-1] - stamps[0]) / numbers[-1]
    offset = stamps - stamps[0]
    if np.abs(offset - numbers * interval).max() <= tolerance:
        digits = (np.round(interval, d) for d in range(16))
        return float(
            next((d for d in digits if d > 0 and np.abs(offset - numbers * d).max() <= tolerance), interval)
        )
    if places is None:
        return float(shortest)  # refused later: the stamps are not on its grid
    return float(np.gcd.reduce(np.rint(steps / rounding).astype(np.int64)) * rounding)


class Grid(NamedTuple):
    """Where stamps lie on the grids of their series.

    Attributes:
        steps: ``(row,)``, int64, the number of the step.
        missed: ``(row,)``, by how much of a step the stamp is off, from 0 to 1.
    """

    steps: np.ndarray
    missed: np.ndarray


def place_on_grid(clock: Clock, starts: Clock, intervals: Intervals, lengths: np.ndarray) -> Grid:
    """The number of the step of each stamp, counted from the start of its series.

    Args:
        clock: of the stamps.
        starts: of the first stamp of each series, ``(series,)``.
        intervals: of each series.
        lengths: rows of each series.
    """
    grid = Grid(np.zeros(len(clock.ticks), dtype=np.int64), np.zeros(len(clock.ticks)))
    used = np.unique(intervals.units)
    for unit in used.tolist():
        chosen = intervals.units == unit
        rows: np.ndarray | slice = (
            slice(None) if len(used) == 1 else np.flatnonzero(np.repeat(chosen, lengths))
        )
        series = np.repeat(np.flatnonzero(chosen), lengths[chosen])
        counts = intervals.counts[series]
        if unit in (NUMBER, FIXED, DAYS):
            now, start = (clock.local, starts.local) if unit == DAYS else (clock.ticks, starts.ticks)
            size = counts * clock.day if unit == DAYS else counts
            distance = now[rows] - start[series]
            steps = np.rint(distance / size).astype(np.int64)
            grid.steps[rows], grid.missed[rows] = steps, np.abs(distance - steps * size) / size
        elif unit != NONE:
            steps, on_grid = calendar_steps(
                clock.local[rows], starts.local[series], counts, UNITS[unit], clock.day
            )
            grid.steps[rows], grid.missed[rows] = steps, ~on_grid
    return grid


def calendar_steps(
    now: np.ndarray, start: np.ndarray, counts: np.ndarray, unit: str, day: int
) -> tuple[np.ndarray, np.ndarray]:
    """Steps of business days or months, and whether the stamps lie on them."""
    number = business_days if unit == "bd" else lambda days: months(days)[0]
    steps = (number(now // day) - number(start // day)) // counts
    on_grid = advance_local(start, Interval(1, unit), steps * counts, day) == now
    return steps, on_grid
