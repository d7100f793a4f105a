"""Each series on its regular grid of steps: where rows belong, and their values written there."""

from collections.abc import Callable, Sequence

import numpy as np

from rnn_lightning.errors import InputError, quoted
from rnn_lightning.tables.axis import Axis
from rnn_lightning.tables.calendar import Interval, TimeIndex, advance_local, business_days, months
from rnn_lightning.tables.frequency import FAR, Facts, Steps
from rnn_lightning.tables.rows import Spool
from rnn_lightning.tables.storage import Buffer

SNAP = 0.1
"""By what part of a step of a given frequency a stamp may miss the grid."""

LONG_GAP = 1000
"""Steps without a row that are pointed out, where they are more than all others of the series."""

NO_ROW = np.uint32(0xFFFFFFFF)
"""Bits of the NaN that stands where there is no row: those of empty cells are others."""


ROWS_AT_ONCE = 2**20


class Grid:
    """The grids of all series.

    Args:
        rows: all of them.
        facts: of the rows.
        ids: of the series.
        axis: of the ticks.
        time_column: for messages.
        frequency: of all series; None to find that of each.
        place: says where a row of a file comes from, for messages.

    Attributes:
        kept: the series that have a known target; the others get no steps.
        left_out: ids of the others.
        bounds: where the steps of each kept series begin, and the end.
        times: of the kept series.
        sizes: ``(series,)``, number of steps, up to the last known value.
        lengths: ``(series,)``, steps up to the last known target.
        offsets: ``(series,)``, sum of the sizes of the series before.
        num_gaps: steps without a row, after ``fill``.
        num_snapped: rows that were moved onto the grid, after ``fill``.
    """

    def __init__(
        self,
        rows: Spool,
        facts: Facts,
        ids: Sequence[str],
        axis: Axis,
        time_column: str,
        frequency: Interval | None,
        place: Callable[[int, int], str],
    ) -> None:
        self.rows, self.facts, self.ids, self.axis, self.time_column = rows, facts, ids, axis, time_column
        self.frequency, self.place = frequency, place
        known = facts.first < FAR
        self.kept, self.left_out = np.flatnonzero(known), [ids[i] for i in np.flatnonzero(~known).tolist()]
        self.first = np.where(known, facts.first, facts.low)
        self._local = axis.local(self.first)
        if frequency is None:
            self.interval = Steps.found(facts, axis).settled(facts, axis, ids)
        else:
            self.interval = Steps.given(frequency, axis, len(ids))
        everyone = np.arange(len(ids))
        self.sizes, self.lengths = (
            np.where(known, self.steps(everyone, np.maximum(ticks, self.first)) + 1, 0)
            for ticks in (facts.end, facts.last)
        )
        self.offsets = np.cumsum(self.sizes) - self.sizes
        self.bounds = np.append(self.offsets[self.kept], self.sizes.sum())
        intervals = Steps(*(each[self.kept] for each in self.interval)).written(axis)
        self.times = TimeIndex(axis.stamps(self.first[self.kept]), intervals)
        self.num_gaps = self.num_snapped = 0

    def steps(self, series: np.ndarray, ticks: np.ndarray) -> np.ndarray:
        """The number of the step of each row, or of the nearest one to it."""
        steps, units = np.zeros(len(series), np.int64), np.unique(self.interval.unit)
        for unit in units:
            rows = slice(None) if len(units) == 1 else np.flatnonzero(self.interval.unit[series] == unit)
            mine, now, size = series[rows], ticks[rows], self.interval.size[series[rows]]
            if unit == "ticks":
                distance = now - self.first[mine]
            else:
                local, first = self.axis.local(now), self._local[mine]
                if unit == "d":
                    distance, size = local - first, size * self.axis.day
                else:
                    number = business_days if unit == "bd" else lambda days: months(days)[0]
                    distance = number(local // self.axis.day) - number(first // self.axis.day)
            nearest = self.frequency is not None and unit in ("ticks", "d")
            steps[rows] = np.rint(distance / size) if nearest else distance // size
        return steps

    def missed(self, series: np.ndarray, ticks: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """By what part of a step of the given frequency each row misses the grid."""
        size, unit = self.interval.size[0], str(self.interval.unit[0])
        if unit == "ticks":
            return np.abs(ticks - self.first[series] - steps * size) / size
        local, first = self.axis.local(ticks), self._local[series]
        if unit == "d":
            size = size * self.axis.day
            return np.abs(local - first - steps * size) / size
        return (advance_local(first, Interval(size, unit), steps, self.axis.day) != local).astype(float)

    def fill(self, values: Buffer, covariates: Buffer) -> None:
        """Write the values of the rows to their steps, NaN where there is no row.

        Raises:
            InputError: names the series and rows that are not regular.
        """
        marks = values.array.view(np.uint32)
        for first in range(0, len(marks), ROWS_AT_ONCE):
            marks[first : first + ROWS_AT_ONCE] = NO_ROW
            covariates.array[first : first + ROWS_AT_ONCE] = np.nan
            values.release()
            covariates.release()
        written = 0
        for rows in self.rows:
            step, inside = self._place(rows.series, rows.ticks)
            series, step, cells = rows.series[inside], step[inside], rows.values[inside]
            if self.frequency is not None:
                missed = self.missed(series, rows.ticks[inside], step)
                if missed.max(initial=0) > SNAP:
                    raise self._off_grid(int(series[missed.argmax()]))
                self.num_snapped += int((missed > 1e-6).sum())
            place = self.offsets[series] + step
            values.array[place] = cells[:, : values.array.shape[1]]
            covariates.array[place] = cells[:, values.array.shape[1] :]
            values.release()
            covariates.release()
            written += len(place)
        for first in range(0, len(marks), ROWS_AT_ONCE):
            self.num_gaps += int((marks[first : first + ROWS_AT_ONCE, 0] == NO_ROW).sum())
            values.release()
        if self.num_gaps > len(marks) - written:
            self._refuse_twins()

    def _place(self, series: np.ndarray, ticks: np.ndarray) -> tuple[np.ndarray, np.ndarray | slice]:
        """The step of each row, and which rows are among the steps of their series."""
        step = self.steps(series, ticks)
        inside = (ticks >= self.first[series]) & (step < self.sizes[series])
        return step, slice(None) if inside.all() else inside

    def long_gaps(self) -> list[str]:
        """A remark on series where one gap is longer than all the rest: one of their stamps may be wrong."""
        chosen = np.flatnonzero((self.sizes > LONG_GAP) & (2 * self.facts.num_rows < self.sizes))
        if len(chosen) == 0:
            return []
        series, ticks, places = self._rows_of(chosen)
        step = self.steps(series, ticks)
        gap = np.where((series[1:] == series[:-1]) & (step[1:] < self.sizes[series[1:]]), np.diff(step), 0)
        found = np.flatnonzero((gap > LONG_GAP) & (2 * gap > self.sizes[series[1:]]))
        if len(found) == 0:
            return []
        row, more = found[0], len(np.unique(series[found])) - 1
        where = f"from {self._stamp(ticks, places, row)} to {self._stamp(ticks, places, row + 1)}"
        name = quoted(self.ids[series[row]])
        text = f"Series {name} has no row {where}, {gap[row]:,} steps and more than all others of it: "
        text += "is one of them wrong?"
        return [text + (f" {more:,} more series {'is' if more == 1 else 'are'} alike." if more else "")]

    def _rows_of(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Series, ticks and places (file, number) of the rows of the chosen series, by series and time."""
        wanted = np.isin(np.arange(len(self.ids)), chosen)
        parts = []
        for rows in self.rows:
            mine = np.flatnonzero(wanted[rows.series])
            places = np.stack([np.full(len(mine), rows.file), np.asarray(rows.numbers)[mine]], 1)
            parts.append((rows.series[mine], rows.ticks[mine], places))
        series, ticks, places = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.lexsort((ticks, series))
        return series[order], ticks[order], places[order]

    def _stamp(self, ticks: np.ndarray, places: np.ndarray, row: int) -> str:
        return f"{self._shown(ticks[row])} in {self.place(*places[row].tolist())}"

    def _shown(self, tick: int) -> str:
        return str(self.axis.stamps(np.array([tick]))[0])

    def require_dense(self) -> None:
        """Refuse stamps that fill only a small part of their grid: they are not regular."""
        rows, steps = self.facts.num_rows, self.sizes
        sparse = 4 * rows < steps
        if self.frequency is not None:
            sparse = (1000 * rows < steps) & (steps > 1_000_000)
        if not sparse.any():
            return
        series = int(sparse.argmax())
        _, ticks, places = self._rows_of(np.array([series]))
        row = int(np.diff(ticks).argmax())
        advice = "give the distance of two steps by `frequency`, or aggregate the rows to "
        advice += "regular steps first"
        if self.axis.zone == "UTC":
            advice += ", or set `time_zone` if they follow the clocks of a place"
        raise InputError(
            f"series {quoted(self.ids[series])}: its {self.time_column} is not regular from "
            f"{self._shown(ticks[0])} to {self._shown(ticks[-1])}: most steps of a regular grid would have "
            f"no row, the longest gap is from {self._stamp(ticks, places, row)} to "
            f"{self._stamp(ticks, places, row + 1)}: is one of them wrong?"
            + (f" If not, {advice}." if self.frequency is None else "")
        )

    def _off_grid(self, index: int) -> InputError:
        series, ticks, places = self._rows_of(np.array([index]))
        steps = self.steps(series, ticks)
        row = int(((self.missed(series, ticks, steps) > SNAP) & (ticks >= self.first[index])).argmax())
        return InputError(
            f"series {quoted(self.ids[index])}: {self.time_column} = {self._stamp(ticks, places, row)} is "
            f"not on the grid of `frequency` {self.frequency.written if self.frequency else ''} "
            f"that begins with its first stamp, {self._shown(self.first[index])}."
        )

    def _refuse_twins(self) -> None:
        """Raise InputError for two rows of one step."""
        seen = np.zeros(int(self.sizes.sum()), bool)
        for rows in self.rows:
            step, inside = self._place(rows.series, rows.ticks)
            place, counts = np.unique((self.offsets[rows.series] + step)[inside], return_counts=True)
            twice = place[seen[place] | (counts > 1)]
            seen[place] = True
            if len(twice):
                break
        index = int(np.searchsorted(self.offsets + self.sizes, twice[0], side="right"))
        series, ticks, places = self._rows_of(np.array([index]))
        steps = self.steps(series, ticks)
        row = int(((np.diff(steps) == 0) & (ticks[:-1] >= self.first[index])).argmax())
        name, other = quoted(self.ids[index]), self.place(*places[row + 1].tolist())
        if ticks[row] == ticks[row + 1]:
            raise InputError(
                f"series {name} has two rows at {self.time_column} = {self._stamp(ticks, places, row)} and "
                f"{other}: keep one."
            )
        raise InputError(
            f"series {name}: {self.time_column} = {self._stamp(ticks, places, row + 1)} and the row before "
            "are the same step of `frequency`: keep one, or aggregate them."
        )
