"""Statistics of time stamps, and the frequency of each series that follows from them in any order of rows."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from rnn_lightning.errors import InputError, quoted
from rnn_lightning.tables.calendar import Axis
from rnn_lightning.tables.frequency import DAY, Frequency
from rnn_lightning.tables.month_rules import find_rules, first_days, months
from rnn_lightning.tables.rows import Rows

FAR = np.iinfo(np.int64).max
NO_DAY = 99

MAX_FEW = 8
"""Stamps of a series that may be too few to show its frequency."""


class StampStatistics:
    """What the rows of each series so far have shown.

    Args:
        num_series: the number of series, which may grow.
        num_targets: the number of the first columns of values, which are to be predicted.
        axis: the axis of the ticks.
    """

    def __init__(self, num_series: int, num_targets: int, axis: Axis) -> None:
        self.axis, self.num_targets = axis, num_targets
        self.has_target = np.zeros((num_series, num_targets), bool)  # whether any row has a value of it
        self.num_rows, self.num_known = np.zeros((2, num_series), np.int64)  # all, those with a known target
        self.low, self.high = np.full((2, num_series), [[FAR], [-FAR]])  # smallest and largest stamp
        self.first, self.last = np.full((2, num_series), [[FAR], [-FAR]])  # of rows with a known target
        self.end = np.full(num_series, -FAR)  # largest stamp of a row with any known value
        self.origin = np.full(num_series, FAR)  # some stamp
        # Greatest common divisors of the distances to the origin in ticks, in ticks of clocks, in months.
        self.ticks, self.local_ticks, self.months = np.zeros((3, num_series), np.int64)
        # Of stamps whole days apart: the largest day of a month, from 0; the smallest one that is not the
        # last of its month; and the largest day of a week, from Monday.
        self.day, self.inner_day, self.weekday = np.full((3, num_series), [[0], [NO_DAY], [0]])

    def resize(self, num_series: int) -> None:
        """Forget the last series, or add some without rows."""
        new = StampStatistics(num_series, self.num_targets, self.axis)
        for name, array in vars(new).items():
            if isinstance(array, np.ndarray):
                old = getattr(self, name)[:num_series]
                array[: len(old)] = old
                setattr(self, name, array)

    def add(self, rows: Rows) -> None:
        """Take note of some rows."""
        series, ticks = rows.series, rows.ticks
        if (num_series := int(series.max()) + 1) > len(self.low):
            self.resize(max(num_series, 2 * len(self.low)))
        np.minimum.at(self.low, series, ticks)
        np.maximum.at(self.high, series, ticks)
        np.add.at(self.num_rows, series, 1)
        self._add_distances(series, ticks)
        known = ~np.isnan(rows.values)  # (row, column)
        for target in range(self.num_targets):
            self.has_target[series[known[:, target]], target] = True
        has_value = known.any(1)
        np.maximum.at(self.end, series[has_value], ticks[has_value])
        has_target = known[:, : self.num_targets].any(1)
        np.add.at(self.num_known, series[has_target], 1)
        np.minimum.at(self.first, series[has_target], ticks[has_target])
        np.maximum.at(self.last, series[has_target], ticks[has_target])

    def _add_distances(self, series: np.ndarray, ticks: np.ndarray) -> None:
        is_new = self.origin[series] == FAR
        self.origin[series[is_new]] = ticks[is_new]
        origin, day_ticks = self.origin[series], self.axis.ticks_per_day
        np.gcd.at(self.ticks, series, ticks - origin)
        if not day_ticks:
            return
        local, origin = self.axis.local(ticks), self.axis.local(origin)
        np.gcd.at(self.local_ticks, series, local - origin)
        daily = self.local_ticks[series] % day_ticks == 0  # once it is not, it never is again
        if daily.any():
            series, day, origin_day = series[daily], local[daily] // day_ticks, origin[daily] // day_ticks
            month, day_of_month = months(day)
            np.gcd.at(self.months, series, month - months(origin_day)[0])
            np.maximum.at(self.day, series, day_of_month)
            is_inner = day + 1 < first_days(month + 1)
            np.minimum.at(self.inner_day, series[is_inner], day_of_month[is_inner])
            np.maximum.at(self.weekday, series, (day + 3) % 7)


class Frequencies(NamedTuple):
    """The frequency of each series.

    Attributes:
        size: ``(series,)``, the number of ticks, days, business days, months or ends of months.
        unit: ``(series,)``: ``ticks``, or that of a ``Frequency``, or ``?`` where one stamp tells nothing.
    """

    size: np.ndarray
    unit: np.ndarray

    @classmethod
    def given(cls, frequency: Frequency, axis: Axis, num_series: int) -> "Frequencies":
        """Return one frequency for all series."""
        size, unit = frequency
        if unit == "number":
            size, unit = (size * axis.scale if axis.scale > 1 else int(size)), "ticks"
        elif unit == "ns":
            size, unit = int(size) * axis.ticks_per_day // DAY, "ticks"
        return cls(np.full(num_series, size), np.full(num_series, unit))

    @classmethod
    def found(cls, statistics: StampStatistics) -> "Frequencies":
        """Return the plainest frequency that has all stamps of a series on its grid."""
        s, axis, day = statistics, statistics.axis, statistics.axis.ticks_per_day
        size, unit = s.ticks.copy(), np.full(len(s.low), "ticks")
        if day:
            daily = (s.local_ticks % day == 0) & (s.low < s.high)
            stamps = s.low, s.high, np.where(s.first < FAR, s.first, s.low)
            low, high, first = (axis.local(ticks) // day for ticks in stamps)
            weekend = (low + 3) // 7 < (high + 3) // 7
            one_day = ((s.inner_day == NO_DAY) | (s.inner_day == s.day)) & (months(first)[1] == s.day)
            for chosen, sizes, name in (
                (daily, s.local_ticks // day, "d"),
                (daily & (s.local_ticks == day) & (s.weekday < 5) & weekend, 1, "bd"),
                (daily & (s.months > 0) & one_day, s.months, "mo"),
                (daily & (s.months > 0) & (s.inner_day == NO_DAY), s.months, "me"),
            ):
                size, unit = np.where(chosen, sizes, size), np.where(chosen, name, unit)
        return cls(size, np.where(s.low == s.high, "?", unit))

    def with_month_rules(self, rows: Iterable[Rows], statistics: StampStatistics) -> "Frequencies":
        """Return the frequencies with days of months for series whose days fill less than half of their grid.

        Args:
            rows: all rows, which are gone through if there is such a series.
            statistics: those of the rows.
        """
        s, axis, day = statistics, statistics.axis, statistics.axis.ticks_per_day
        is_sparse = np.isin(self.unit, ["d", "bd"]) & (s.num_rows > 2)
        is_sparse &= 2 * s.num_rows * np.maximum(self.size, 1) * day < s.high - s.low
        if not is_sparse.any():
            return self
        mine = ((part.series, part.ticks, is_sparse[part.series]) for part in rows)
        rules = find_rules((series[m], axis.local(ticks[m]) // day) for series, ticks, m in mine)
        size, unit = self.size.copy(), self.unit.astype(object)
        for series, rule in rules.items():
            size[series], unit[series] = 1 if "," in rule else s.months[series], rule
        return Frequencies(size, unit.astype(str))

    def fill_in_undecided(self, statistics: StampStatistics, ids: Sequence[str]) -> "Frequencies":
        """Return the frequencies with those of series too short to show their own taken from the others.

        A series of one stamp takes the frequency of all others, and so does one of two or of a few with gaps,
        if its stamps fit. Daily series that go over no weekend take the business days of the others.

        Raises:
            InputError: if the others do not agree.
        """
        (size, unit), s, axis = self, statistics, statistics.axis
        daily = (unit == "d") & (size == 1)
        if daily.any() and (unit == "bd").any():
            monday, friday = (axis.local(ticks[daily]) // axis.ticks_per_day + 3 for ticks in (s.low, s.high))
            if ((friday % 7 < 5) & (monday // 7 == friday // 7)).all():
                unit = np.where(daily, "bd", unit)
        size, unit = self._with_few(size, unit, statistics)
        short = unit == "?"
        others = set(zip(size[~short].tolist(), unit[~short].tolist(), strict=True))
        alone = short & (s.num_rows == 1) & (s.first < FAR)
        if len(others) != 1 and alone.any():
            why = "and those of the others differ" if others else "and no other series shows it"
            raise InputError(
                f"series {quoted(ids[int(alone.argmax())])} has one row: the frequency of its time stamps "
                f"needs at least two, {why}; set it by `frequency`."
            )
        own_size, own_unit = others.pop() if len(others) == 1 else (1, "ticks")
        return Frequencies(np.where(short, own_size, size), np.where(short, own_unit, unit))

    def _with_few(
        self, size: np.ndarray, unit: np.ndarray, s: StampStatistics
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return sizes and units with those of all longer series for a few stamps that fit them."""
        has_many = (s.num_rows > MAX_FEW) & (unit != "?")
        common = set(zip(size[has_many].tolist(), unit[has_many].tolist(), strict=True))
        if len(common) != 1:
            return size, unit
        own_size, own_unit = common.pop()
        day = s.axis.ticks_per_day
        fits = (unit == own_unit) & (size % own_size == 0)
        is_rule = np.char.startswith(unit.astype(str), "mo@")
        fits |= (own_unit == "d") & (own_size == 1) & is_rule
        fits |= (own_unit == "bd") & (own_size == 1) & (unit == "d") & (s.weekday < 5)
        ticks = {"ticks": 1, "d": day, "bd": day}.get(own_unit, 28 * day)  # of a step, at least
        has_gaps = (s.num_rows == 2) | is_rule | (s.num_rows * size * ticks < s.high - s.low)
        few = (s.num_rows > 1) & (s.num_rows <= MAX_FEW) & fits & has_gaps
        return np.where(few, own_size, size), np.where(few, own_unit, unit)

    def written(self, axis: Axis) -> list[int | float | str]:
        """Return each frequency as a number or a text such as ``15m``."""
        pairs = list(zip(self.size.tolist(), self.unit.tolist(), strict=True))
        known = {pair: _written(*pair, axis) for pair in set(pairs)}
        return [known[pair] for pair in pairs]


def _written(size: int | float, unit: str, axis: Axis) -> int | float | str:
    if unit != "ticks":
        return Frequency(size, unit).written
    if axis.ticks_per_day:
        return Frequency(int(size) * (DAY // axis.ticks_per_day), "ns").written
    return size / axis.scale if axis.scale > 1 else size
