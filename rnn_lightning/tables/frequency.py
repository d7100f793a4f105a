"""Finds the interval of each series from facts that do not depend on the order of its rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnn_lightning.errors import InputError, quoted
from rnn_lightning.tables.axis import Axis
from rnn_lightning.tables.calendar import DAY, Interval, first_days, months
from rnn_lightning.tables.rows import Rows

FAR = np.iinfo(np.int64).max
NO_DAY = 99
FILLS = (FAR, -FAR, FAR, -FAR, -FAR, 0, FAR, 0, 0, 0, 0, NO_DAY, 0)


class Facts(NamedTuple):
    """What the rows of each series so far have shown, each ``(series,)``, int64.

    Attributes:
        low: smallest stamp.
        high: largest stamp.
        first: smallest stamp of a row with a known target.
        last: largest stamp of such a row.
        end: largest stamp of a row with any known value.
        rows: number of rows.
        origin: the stamp that was read first.
        ticks: greatest common divisor of the distances to the origin.
        days: the same on the clocks of the time zone; as ticks without one.
        months: greatest common divisor of the months to the origin; valid, as the rest, for whole days alone.
        day: largest day of a month, from 0.
        inner: smallest day of a month that is not its last one; ``NO_DAY`` if all are.
        weekday: largest day of a week, 0 for Monday.
    """

    low: np.ndarray
    high: np.ndarray
    first: np.ndarray
    last: np.ndarray
    end: np.ndarray
    num_rows: np.ndarray
    origin: np.ndarray
    ticks: np.ndarray
    days: np.ndarray
    months: np.ndarray
    day: np.ndarray
    inner: np.ndarray
    weekday: np.ndarray

    @classmethod
    def of(cls, num_series: int) -> "Facts":
        """Of series without rows."""
        return cls(*(np.full(num_series, fill) for fill in FILLS))

    def resized(self, num_series: int) -> "Facts":
        """The same of fewer or more series."""
        more = Facts.of(max(0, num_series - len(self.low)))
        return Facts(*(np.concatenate([old[:num_series], new]) for old, new in zip(self, more, strict=True)))

    def add(self, rows: Rows, axis: Axis, num_targets: int) -> "Facts":
        """The facts with some more rows."""
        num_series = int(rows.series.max()) + 1
        facts = self if num_series <= len(self.low) else self.resized(max(num_series, 2 * len(self.low)))
        facts._add_spans(rows, num_targets)
        facts._add_distances(rows.series, rows.ticks, axis)
        return facts

    def _add_spans(self, rows: Rows, num_targets: int) -> None:
        series, ticks = rows.series, rows.ticks
        np.minimum.at(self.low, series, ticks)
        np.maximum.at(self.high, series, ticks)
        np.add.at(self.num_rows, series, 1)
        known = ~np.isnan(rows.values)
        target, some = known[:, :num_targets].any(1), known.any(1)
        if not some.all():
            series, ticks, target = series[some], ticks[some], target[some]
        np.maximum.at(self.end, series, ticks)
        if not target.all():
            series, ticks = series[target], ticks[target]
        np.minimum.at(self.first, series, ticks)
        np.maximum.at(self.last, series, ticks)

    def _add_distances(self, series: np.ndarray, ticks: np.ndarray, axis: Axis) -> None:
        new = np.flatnonzero(self.origin[series] == FAR)[::-1]  # the first of a series is written last
        self.origin[series[new]] = ticks[new]
        origin = self.origin[series]
        np.gcd.at(self.ticks, series, ticks - origin)
        if not axis.day:
            return
        local, origin = axis.local(ticks), axis.local(origin)
        days = self.ticks
        if axis.zone is not None:
            days = self.days
            np.gcd.at(days, series, local - origin)
        whole = days[series] % axis.day == 0  # once it is not, it never is again
        if whole.any():
            self._add_days(series[whole], local[whole] // axis.day, origin[whole] // axis.day)

    def _add_days(self, series: np.ndarray, day: np.ndarray, origin: np.ndarray) -> None:
        month, day_of_month = months(day)
        np.gcd.at(self.months, series, month - months(origin)[0])
        np.maximum.at(self.day, series, day_of_month)
        inner = day + 1 < first_days(month + 1)
        np.minimum.at(self.inner, series[inner], day_of_month[inner])
        np.maximum.at(self.weekday, series, (day + 3) % 7)


class Steps(NamedTuple):
    """An interval for each series.

    Attributes:
        size: ``(series,)``: of ticks, days, business days, months or ends of months.
        unit: ``(series,)``: ``ticks``, ``d``, ``bd``, ``mo``, ``me``, or ``?`` where one stamp tells nothing.
    """

    size: np.ndarray
    unit: np.ndarray

    @classmethod
    def given(cls, frequency: Interval, axis: Axis, num_series: int) -> "Steps":
        """The frequency of all series."""
        size, unit = frequency
        if unit == "number":
            size, unit = (size * axis.scale if axis.scale > 1 else int(size)), "ticks"
        elif unit == "ns":
            size, unit = int(size) * axis.day // DAY, "ticks"
        return cls(np.full(num_series, size), np.full(num_series, unit))

    @classmethod
    def found(cls, facts: Facts, axis: Axis) -> "Steps":
        """The plainest reading that has all stamps of each series on its grid."""
        size, unit = facts.ticks.copy(), np.full(len(facts.low), "ticks")
        if axis.day:
            days = facts.ticks if axis.zone is None else facts.days
            daily = (days % axis.day == 0) & (facts.low < facts.high)
            stamps = (facts.low, facts.high, np.where(facts.first < FAR, facts.first, facts.low))
            low, high, first = (axis.local(ticks) // axis.day for ticks in stamps)
            over_weekend = (low + 3) // 7 < (high + 3) // 7
            monthly = daily & (facts.months > 0)
            one_day = ((facts.inner == NO_DAY) | (facts.inner == facts.day)) & (months(first)[1] == facts.day)
            readings = (
                (daily, days // axis.day, "d"),
                (daily & (days == axis.day) & (facts.weekday < 5) & over_weekend, 1, "bd"),
                (monthly & one_day, facts.months, "mo"),
                (monthly & (facts.inner == NO_DAY), facts.months, "me"),
            )
            for chosen, sizes, name in readings:
                size, unit = np.where(chosen, sizes, size), np.where(chosen, name, unit)
        return cls(size, np.where(facts.low == facts.high, "?", unit))

    def settled(self, facts: Facts, axis: Axis, ids: Sequence[str]) -> "Steps":
        """With what series too short to tell their interval take from the others.

        A series of one stamp takes the interval of all others; one that goes over no weekend and is daily
        takes the business days of the others.

        Raises:
            InputError: if the others do not agree.
        """
        size, unit = self
        daily = (unit == "d") & (size == 1)
        if daily.any() and (unit == "bd").any():
            monday, friday = (axis.local(facts[i])[daily] // axis.day + 3 for i in (0, 1))
            if ((friday % 7 < 5) & (monday // 7 == friday // 7)).all():
                unit = np.where(daily, "bd", unit)
        short = unit == "?"
        others = set(zip(size[~short].tolist(), unit[~short].tolist(), strict=True))
        if len(others) == 1:
            size, unit = (
                np.where(short, mine, old) for mine, old in zip(others.pop(), (size, unit), strict=True)
            )
        elif (alone := short & (facts.num_rows == 1) & (facts.first < FAR)).any():
            why = "and those of the others differ" if others else "and no other series shows it"
            raise InputError(
                f"series {quoted(ids[int(alone.argmax())])} has one row: the interval of its time stamps "
                f"needs at least two, {why}; set it by `frequency`."
            )
        short = unit == "?"
        return Steps(np.where(short, 1, size), np.where(short, "ticks", unit))

    def written(self, axis: Axis) -> list[int | float | str]:
        """As ``TimeIndex`` takes them."""
        pairs = list(zip(self.size.tolist(), self.unit.tolist(), strict=True))
        return [
            known[pair] for known in [{pair: write(*pair, axis) for pair in set(pairs)}] for pair in pairs
        ]


def write(size: int | float, unit: str, axis: Axis) -> int | float | str:
    """One interval as ``TimeIndex`` takes it."""
    if unit != "ticks":
        return Interval(size, unit).written
    if not axis.day:
        return size / axis.scale if axis.scale > 1 else size
    return Interval(int(size) * (DAY // axis.day), "ns").written
