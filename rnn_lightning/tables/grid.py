"""Each series on its regular grid of steps: find where rows belong, and write their values there."""

from collections.abc import Callable

import numpy as np

from rnn_lightning.data.series import TimeIndex
from rnn_lightning.errors import InputError, quoted
from rnn_lightning.tables.calendar import CalendarIndex, OpenPhases, business_days
from rnn_lightning.tables.frequency import Frequency
from rnn_lightning.tables.month_rules import months, steps_between
from rnn_lightning.tables.open_phases import (
    SeriesSteps,
    closed_after,
    closed_steps,
    fill_forward,
    find_open_phases,
)
from rnn_lightning.tables.options import TableOptions
from rnn_lightning.tables.rows import RowReader, Spool
from rnn_lightning.tables.stamp_statistics import FAR, MAX_FEW, Frequencies, StampStatistics
from rnn_lightning.tables.storage import Buffer

SNAP_FRACTION, SNAP_DAYS = 0.1, 0.3
"""Fraction of a step by which a stamp may miss the grid of a given frequency, and of one of several days."""

EVEN_FRACTION = 0.1
"""Fraction of a step, or a last digit if that is more, by which even numbers may miss their grid."""

MIN_NEAR = 0.2
"""The part of rows soon after another from which stamps are days, of which some are closed, and not weeks."""

MAX_SUSPECTS = 100
"""Series of a table that are looked at to see if any has even steps."""

LONG_GAP = 1000
"""Steps without a row that are pointed out if they are more than half of their series."""

MIN_EVEN_ROWS, MIN_ROUNDED_ROWS = 10, 50
"""Rows from which numbers that are even up to rounding have their mean distance as step.

Few numbers that miss it by a last digit may be even by chance.
"""

SAME_STEP = 1e-6
"""Relative difference up to which even steps of several series are one."""

CLOCK_CHANGE = 2 / 24
"""Part of a day in which stamps of days or longer lie that follow clocks with daylight saving time."""

MANY_TWINS = 0.4
"""Fraction of rows with the stamp of the row before from which a table looks like many series."""

CHUNK_ROWS = 2**20
"""Rows of an array that are written together."""


class Grid:
    """The grids of all series.

    Args:
        rows: all rows.
        statistics: the statistics of their stamps.
        reader: has read the rows, and knows the ids and where a row comes from.
        options: give the frequency of all series, or None to find that of each.

    Attributes:
        kept: the series that have a known target; the others get no steps.
        left_out: the ids of the others.
        sizes: ``(series,)``, the number of steps up to the last known value.
        lengths: ``(series,)``, the number of steps up to the last known target.
        offsets: ``(series,)``, the sum of the sizes of the series before.
        bounds: where the steps of each kept series begin, and the end of the last one.
        times: the stamps of the kept series.
        num_gaps: the number of steps without a row, after ``fill``.
        num_snapped: the number of rows that were moved onto the grid, after ``fill``.
    """

    def __init__(
        self, rows: Spool, statistics: StampStatistics, reader: RowReader, options: TableOptions
    ) -> None:
        self.rows, self.statistics, self.axis = rows, statistics, statistics.axis
        self.ids, self.place, self.has_ids = reader.ids(), reader.place, reader.id_column is not None
        self.open_phases: OpenPhases | None = None
        self.time_column, self.frequency = options.time_column, options.parsed_frequency
        ids, known = self.ids, statistics.first < FAR
        self.kept, self.left_out = np.flatnonzero(known), [ids[i] for i in np.flatnonzero(~known).tolist()]
        self.first = np.where(known, statistics.first, statistics.low)
        if self.frequency is None:
            found = Frequencies.found(statistics).with_month_rules(rows, statistics)
            self.frequencies = self._with_even_steps(found).fill_in_undecided(statistics, ids)
        else:
            self.frequencies = Frequencies.given(self.frequency, self.axis, len(ids))
        everyone = np.arange(len(ids))
        self.sizes, self.lengths = (
            np.where(known, self.steps(everyone, np.maximum(ticks, self.first)) + 1, 0)
            for ticks in (statistics.end, statistics.last)
        )
        self.times = self._find_times(options)
        if self.open_phases is not None:
            self.sizes[self.kept] += closed_after(
                self.times, *(a[self.kept] for a in (self.sizes, self.lengths))
            )
        self.offsets = np.cumsum(self.sizes) - self.sizes
        self.bounds = np.append(self.offsets[self.kept], self.sizes.sum())
        self.num_gaps = self.num_snapped = 0

    def _with_even_steps(self, found: Frequencies) -> Frequencies:
        """Return the frequencies with the mean distance for numbers that are even but for their last digits.

        Such are those of ``np.linspace``: no round number divides all distances.
        """
        s = self.statistics
        spans = (s.high - s.low) // np.maximum(found.size, 1)
        is_sparse = (found.unit == "ticks") & (2 * s.num_rows < spans)
        if self.axis.scale == 1 or not is_sparse.any():
            return found
        parts = [(rows.series, rows.ticks) for rows in self.rows]
        series, ticks = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.lexsort((ticks, series))
        bounds = np.searchsorted(series[order], np.arange(len(s.low) + 1))
        suspects, digits = np.flatnonzero(is_sparse), found.size  # the last digits divide all distances
        own = {index: ticks[order[bounds[index] : bounds[index + 1]]] for index in suspects.tolist()}
        sample = suspects[:: max(1, len(suspects) // MAX_SUSPECTS)].tolist()
        if not any(_even_size(own[index], digits[index]) for index in sample):
            return found
        even = {index: size for index, part in own.items() if (size := _even_size(part, digits[index]))}
        sizes, middle = found.size.astype(float), float(np.median([*even.values()]))
        is_common = all(abs(size - middle) < SAME_STEP * middle for size in even.values())
        if is_common:  # the step of the short series too
            on_it = (index for index, part in own.items() if _is_even(part, middle, digits[index]))
            even = dict.fromkeys([*even, *on_it], middle)
        for index, size in even.items():
            sizes[index] = size
        return Frequencies(sizes, found.unit)

    def _find_times(self, options: TableOptions) -> TimeIndex:
        """Return the stamps of the kept series, with the phases of the week at which they can have values."""
        frequencies = Frequencies(*(array[self.kept] for array in self.frequencies)).written(self.axis)
        starts = self.axis.stamps(self.first[self.kept])
        if not self.axis.ticks_per_day:
            return TimeIndex(starts.to_numpy(), frequencies)
        if not options.every_step:
            steps = SeriesSteps(self.first, *self.frequencies, self.lengths, self.statistics.num_known)
            self.open_phases = find_open_phases(self.rows, self.statistics.num_targets, self.axis, steps)
        return CalendarIndex(starts, frequencies, self.open_phases and self.open_phases.keep(self.kept))

    def steps(self, series: np.ndarray, ticks: np.ndarray) -> np.ndarray:
        """Return the number of the step of each row; with a given frequency, of the nearest step."""
        steps, units = np.zeros(len(series), np.int64), np.unique(self.frequencies.unit).tolist()
        for unit in units:
            rows = slice(None)
            if len(units) > 1:
                rows = np.flatnonzero(self.frequencies.unit[series] == unit)  # type: ignore[assignment]
            distance, size = self._distances(series[rows], ticks[rows], unit)
            is_rounded = self.frequency is not None or self.frequencies.size.dtype.kind == "f"
            nearest = is_rounded and unit in ("ticks", "d")
            steps[rows] = np.rint(distance / size) if nearest else distance // size
        return steps

    def _distances(self, series: np.ndarray, ticks: np.ndarray, unit: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the distance of each row to the first step of its series, and of two steps, in one unit."""
        size, first = self.frequencies.size[series], self.first[series]
        if unit == "ticks":
            return ticks - first, size
        ticks, first, day = self.axis.local(ticks), self.axis.local(first), self.axis.ticks_per_day
        if unit == "d":
            return ticks - first, size * day
        if unit == "bd":
            return business_days(ticks // day) - business_days(first // day), size
        if unit.startswith("mo@"):
            return steps_between(first // day, ticks // day, size, unit), np.ones_like(size)
        return months(ticks // day)[0] - months(first // day)[0], size

    def _missed(self, series: np.ndarray, ticks: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return the fraction of a step of the given frequency by which each row misses the grid."""
        unit = str(self.frequencies.unit[0])
        if unit in ("ticks", "d"):
            distance, size = self._distances(series, ticks, unit)
            return np.abs(distance - steps * size) / size
        frequency = Frequency(self.frequencies.size[0], unit)
        expected = self.axis.advance_local(self.axis.local(self.first[series]), frequency, steps)
        return (expected != self.axis.local(ticks)).astype(float)

    def fill(self, values: Buffer, covariates: Buffer, past: Buffer, occupied: Buffer) -> None:
        """Write the values of the rows to their steps, NaN where there is no row.

        Args:
            values: ``(step, target)``.
            covariates: ``(step, covariate)``, those known ahead.
            past: ``(step, covariate)``, those of the past.
            occupied: ``(step, 1)``, zeros, which become ones where there is a row.

        Raises:
            InputError: names the series and rows that are not regular.
        """
        floats = (values, covariates, past)
        ends = np.cumsum([buffer.shape[1] for buffer in floats])[:-1]
        for first in range(0, len(values.array), CHUNK_ROWS):
            for buffer in floats:
                buffer.array[first : first + CHUNK_ROWS] = np.nan
                buffer.release()
        num_written = np.zeros(len(self.ids), np.int64)
        for rows in self.rows:
            step = self.steps(rows.series, rows.ticks)
            inside = (rows.ticks >= self.first[rows.series]) & (step < self.sizes[rows.series])
            series, step, cells = rows.series[inside], step[inside], rows.values[inside]
            if self.frequency is not None:
                missed = self._missed(series, rows.ticks[inside], step)
                if missed.max(initial=0) > self._snap:
                    raise self._off_grid(int(series[missed.argmax()]))
                self.num_snapped += int((missed > 1e-6).sum())
            row = self.offsets[series] + step
            for buffer, part in zip(floats, np.split(cells, ends, axis=1), strict=True):
                buffer.array[row] = part
            occupied.array[row] = 1
            np.add.at(num_written, series, 1)
            for buffer in (*floats, occupied):
                buffer.release()
        num_occupied = np.add.reduceat(occupied.array[:, 0], self.bounds[:-1], dtype=np.int64)
        self.num_gaps = len(values.array) - int(num_occupied.sum())
        for row, is_closed in closed_steps(self.times, self.bounds):
            self.num_gaps -= int((is_closed & (occupied.array[row, 0] == 0)).sum())
            fill_forward(covariates.array, row, is_closed)
        twice = num_written[self.kept] > num_occupied
        if twice.any():
            raise self._twins(int(self.kept[twice.argmax()]))

    def long_gaps(self) -> list[str]:
        """Return a remark on the series with most steps that have no row, if they are mostly one gap."""
        index = int((self.sizes - 2 * self.statistics.num_rows).argmax())
        if self.sizes[index] <= max(LONG_GAP, 2 * self.statistics.num_rows[index]):
            return []
        _, steps, shown = self._rows_of(index)
        gaps = np.where(steps[1:] < self.sizes[index], np.diff(steps), 0)
        row, num_steps = int(gaps.argmax()), int(gaps.max())
        if 2 * num_steps <= self.sizes[index]:
            return []
        gap = f"from {shown(row)} to {shown(row + 1)}, {num_steps:,} steps and more than all others of it"
        return [f"Series {quoted(self.ids[index])} has no row {gap}: is one of them wrong?"]

    def require_dense(self) -> None:
        """Refuse stamps that fill only a small part of their grid: they are not regular."""
        rows, steps = self.statistics.num_rows, self.sizes
        if self.open_phases is not None:
            opened = self.open_phases.open_fraction
            if self.axis.zone == "UTC":  # one row in two hours of each day: stamps of days by other clocks
                opened = np.where((opened <= CLOCK_CHANGE) & (20 * rows < steps), 1.0, opened)
            is_week = self._has_days() & (4 * rows < steps)
            if is_week.any():  # and its weekday moves
                is_week &= self._num_near(is_week) < MIN_NEAR * rows
            opened = np.where(is_week, 1.0, opened)
            steps = (steps * opened).astype(np.int64)
        sparse = 4 * rows < steps
        if self.frequency is not None:
            sparse = (1000 * rows < steps) & (steps > 1_000_000)
        if not sparse.all():  # a few rows beside whole series: products that are sold now and then
            sparse &= (rows > MAX_FEW) | (steps > steps[~sparse].max())
        if not sparse.any():
            return
        index = int(sparse.argmax())
        ticks, _, shown = self._rows_of(index)
        row, advice = int(np.diff(ticks).argmax()), ""
        if self.frequency is None:
            usual = self._usual_days(ticks)
            such_as = f", such as {usual}d," if usual and usual % 7 == 0 else ","
            advice = f" If not, give the distance between two steps by `frequency`{such_as} or aggregate the "
            advice += "rows to regular steps first; steps of unequal length, such as pay days, can be "
            advice += "numbered 1, 2, 3, ... in the time column"
            if self.axis.zone == "UTC":
                advice += ", or set `time_zone` if they follow the clocks of a place"
            advice += "."
        raise InputError(
            f"series {quoted(self.ids[index])}: its {self.time_column} is not regular from "
            f"{self._stamp(ticks[0])} to {self._stamp(ticks[-1])}: most steps of a regular grid would have "
            f"no row, the longest gap is from {shown(row)} to {shown(row + 1)}: is one of them wrong?{advice}"
        )

    def _has_days(self) -> np.ndarray:
        """Return which series have steps of a day or of a business day."""
        size, unit = self.frequencies.size, self.frequencies.unit
        is_one = np.isin(unit, ("d", "bd")) & (size == 1)
        return np.where(unit == "ticks", size == self.axis.ticks_per_day, is_one)

    def _num_near(self, chosen: np.ndarray) -> np.ndarray:
        """Return the rows less than half a week after another, of ``chosen`` series, else 0."""
        parts = [
            (rows.series[mine], rows.ticks[mine]) for rows in self.rows if (mine := chosen[rows.series]).any()
        ]
        series, ticks = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.lexsort((ticks, series))
        series, ticks = series[order], ticks[order]
        is_near = (np.diff(series) == 0) & (2 * np.diff(ticks) < 7 * self.axis.ticks_per_day)
        return np.bincount(series[1:][is_near], minlength=len(chosen))

    def _usual_days(self, ticks: np.ndarray) -> int:
        """Return the days from one of the sorted ``ticks (row,)`` to the next, 0 if they are no days."""
        return int(np.median(np.diff(ticks))) // self.axis.ticks_per_day if self.axis.ticks_per_day else 0

    @property
    def _snap(self) -> float:
        return SNAP_DAYS if str(self.frequencies.unit[0]) == "d" else SNAP_FRACTION

    def _off_grid(self, index: int) -> InputError:
        ticks, steps, shown = self._rows_of(index)
        missed = self._missed(np.full(len(ticks), index), ticks, steps)
        row = int(((missed > self._snap) & (ticks >= self.first[index])).argmax())
        grid = f"the grid of `frequency` {self.frequency.written if self.frequency else ''}"
        return InputError(
            f"series {quoted(self.ids[index])}: {self.time_column} = {shown(row)} is not on {grid} that "
            f"begins with its first stamp, {self._stamp(self.first[index])}."
        )

    def _twins(self, index: int) -> InputError:
        ticks, steps, shown = self._rows_of(index)
        row = int(((np.diff(steps) == 0) & (ticks[:-1] >= self.first[index])).argmax())
        name = f"series {quoted(self.ids[index])}"
        if ticks[row] == ticks[row + 1]:
            other, advice = shown(row + 1).partition(" in ")[2], "keep one"
            if not self.has_ids and np.mean(np.diff(steps) == 0) > MANY_TWINS:
                advice = "name the column that tells series apart by `id_column`, or keep one"
            if self._set_back(ticks, row):
                advice += ", or, if its clocks are set back there, set `time_zone`"
            two = f"two rows at {self.time_column} = {shown(row)} and {other}"
            return InputError(f"{name} has {two}: {advice}.")
        stamp = f"{self.time_column} = {shown(row + 1)}"
        advice = "are the same step of `frequency`: keep one, or aggregate them"
        return InputError(f"{name}: {stamp} and the row before {advice}.")

    def _set_back(self, ticks: np.ndarray, row: int) -> bool:
        """Return True if a stamp that is there twice may be of the hour that clocks show twice, in autumn."""
        hour = self.axis.ticks_per_day // 24
        if not hour or self.axis.zone is not None:
            return False
        day, time = ticks[row] // (24 * hour), ticks[row] % (24 * hour)
        month = months(np.array([day]))[0][0] % 12
        return bool((day + 3) % 7 == 6 and month in (2, 3, 8, 9, 10) and time < 4 * hour)

    def _rows_of(self, index: int) -> tuple[np.ndarray, np.ndarray, Callable[[int], str]]:
        """Return ticks and steps of the rows of a series by time, and a function that shows one of them."""
        parts, places = [], []
        for rows in self.rows:
            mine = np.flatnonzero(rows.series == index)
            parts.append(rows.ticks[mine])
            places += [(rows.file, int(rows.numbers[row])) for row in mine.tolist()]
        ticks = np.concatenate(parts)
        order = ticks.argsort(kind="stable")
        ticks = ticks[order]

        def shown(row: int) -> str:
            return f"{self._stamp(ticks[row])} in {self.place(*places[order[row]])}"

        return ticks, self.steps(np.full(len(ticks), index), ticks), shown

    def _stamp(self, tick: int) -> str:
        return str(self.axis.stamps(np.array([tick]))[0])


def _even_size(ticks: np.ndarray, digit: int) -> float | None:
    """Return the mean distance of sorted ``ticks (row,)`` that lie on a grid up to rounding, else None.

    They are multiples of a ``digit``.
    """
    if len(ticks) < MIN_EVEN_ROWS:
        return None
    distances = np.diff(ticks)
    is_one = np.rint(distances / max(1.0, np.median(distances))) == 1
    num_steps = np.rint((ticks[-1] - ticks[0]) / distances[is_one].mean()) if is_one.any() else 0
    if 4 * len(ticks) < num_steps + 1 or num_steps == 0:
        return None
    size = float((ticks[-1] - ticks[0]) / num_steps)
    return size if _is_even(ticks, size, digit) else None


def _is_even(ticks: np.ndarray, size: float, digit: int) -> bool:
    """Return whether sorted ``ticks (row,)`` lie on the grid from the first of them up to rounding."""
    place = (ticks - ticks[0]) / size
    steps = np.rint(place)
    limit = max(EVEN_FRACTION, digit / size) if len(ticks) >= MIN_ROUNDED_ROWS else EVEN_FRACTION
    return bool(size >= 2 * digit and np.abs(place - steps).max() <= limit and (np.diff(steps) > 0).all())
