"""Places checked rows on the regular grids of their series."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnn_lightning.data.table.intervals import BUSINESS, DAYS, NONE, Clock, Intervals, place_on_grid
from rnn_lightning.data.table.rows import Rows
from rnn_lightning.data.table.rules import GridRules, Part
from rnn_lightning.data.table.stamps import MoreRowsNeeded
from rnn_lightning.data.table.times import TimeIndex
from rnn_lightning.errors import InputError

if TYPE_CHECKING:
    import polars as pl


class Placed(NamedTuple):
    """Some series on their grids, the first of which may go on from rows before.

    Attributes:
        starts: the first stamp of each series.
        intervals: of each series.
        num_rows: of each series, with those before.
        last_steps: number of the step of the last row of each series.
        ends: number of rows of each series that are written, with those before.
        lengths: steps of each series up to the last known one.
        last_row: of the last series.
        values: ``(row, column)``, to write.
        stamps: of these rows, if asked for.
        num_gaps: steps among them that had no row.
        num_snapped: rows that were moved onto the grid.
        long_gaps: what to say of gaps that may be mistakes.
    """

    starts: "pl.Series"
    intervals: Intervals
    num_rows: np.ndarray
    last_steps: np.ndarray
    ends: np.ndarray
    lengths: np.ndarray
    last_row: Rows
    values: np.ndarray
    stamps: "pl.Series | None"
    num_gaps: int
    num_snapped: int
    long_gaps: list[str]

    def last(self) -> "Placed":
        """The last series, without its values."""
        return self._replace(
            starts=self.starts[-1:],
            intervals=Intervals(self.intervals.counts[-1:], self.intervals.units[-1:]),
            num_rows=self.num_rows[-1:],
            last_steps=self.last_steps[-1:],
            ends=self.ends[-1:],
            lengths=self.lengths[-1:],
            values=self.values[:0],
            stamps=None,
        )


def place_rows(
    rules: GridRules,
    rows: Rows,
    names: Sequence[str],
    offsets: np.ndarray,
    before: Placed | None,
    complete: bool,
) -> Placed:
    """The steps of some series, with NaN where there is no row.

    Args:
        rules: what is asked for.
        rows: in order; without those before the first known value of a series.
        names: ids of the series.
        offsets: where the rows of each begin, and the end.
        before: the first series, if it goes on.
        complete: no rows will follow of the last series.

    Raises:
        InputError: names the series that is not regular.
        MoreRowsNeeded: if the interval of a series that comes in pieces is not the one that was found first.
    """
    import polars as pl

    clock, lengths = Clock.of(rows.stamps), np.diff(offsets)
    starts, intervals = rows.stamps.gather(offsets[:-1]), rules.intervals(clock, offsets)
    num_rows, first_steps = lengths.copy(), np.zeros(len(names), dtype=np.int64)
    if before is not None:
        starts = pl.concat([before.starts, starts[1:]])
        intervals.counts[0], intervals.units[0] = before.intervals.counts[0], before.intervals.units[0]
        num_rows[0] += before.num_rows[0]
        first_steps[0] = before.ends[0]
    if not complete and intervals.units[-1] == NONE:
        raise MoreRowsNeeded(f"series {names[-1]!r} has one row in the first ones")
    series = np.repeat(np.arange(len(names)), lengths)
    part = Part(rows, names, offsets, series, before.last_row if before is not None else None)
    grid = place_on_grid(clock, Clock.of(starts), intervals, lengths)
    last_steps = grid.steps[offsets[1:] - 1]
    distances = part.distances(grid.steps, int(before.last_steps[0]) if before is not None else 0)
    rules.require_on_grid(part, grid, distances)
    rules.require_dense(part, num_rows, last_steps + 1, distances)
    ends, known = last_useful_steps(rules, rows, grid.steps, offsets)
    ends = np.maximum(ends + 1, first_steps)
    if before is not None:
        known[0] = max(known[0] + 1, before.lengths[0]) - 1
    sizes = ends - first_steps
    values, gaps = values_of_steps(rows, series, grid.steps, first_steps, sizes)
    snapped = int((grid.missed > 1e-6).sum()) if rules.frequency is not None else 0
    return Placed(
        starts=starts,
        intervals=intervals,
        num_rows=num_rows,
        last_steps=last_steps,
        ends=ends,
        lengths=known + 1,
        last_row=rows.take(np.array([len(rows) - 1])),
        values=values,
        stamps=stamps_of_steps(starts, intervals, clock.day, first_steps, sizes)
        if rules.has_calendar
        else None,
        num_gaps=gaps,
        num_snapped=snapped,
        long_gaps=rules.long_gaps(part, ends, np.where(grid.steps < ends[series], distances, 0)),
    )


def last_useful_steps(
    rules: GridRules, rows: Rows, steps: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The last step of each series that has any value, and the last that has a known target; -1 if there is none."""
    found = []
    for values in (rows.values, rows.values[:, : rules.num_targets]):
        known = ~np.isnan(values).all(axis=1)
        ends = known[offsets[1:] - 1].all()
        found.append(
            steps[offsets[1:] - 1] if ends else np.maximum.reduceat(np.where(known, steps, -1), offsets[:-1])
        )
    return found[0], found[1].copy()


def values_of_steps(
    rows: Rows, series: np.ndarray, steps: np.ndarray, first_steps: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, int]:
    """The values of ``sizes`` steps of each series, from its ``first_steps`` on, and how many of them have no row."""
    written = steps < (first_steps + sizes)[series]
    num_steps = int(sizes.sum())
    if num_steps == len(rows) and written.all():
        return rows.values, 0
    place = (np.cumsum(sizes) - sizes - first_steps)[series] + steps
    values = np.full((num_steps, rows.values.shape[1]), np.nan, dtype=np.float32)
    values[place[written]] = rows.values[written]
    return values, num_steps - int(written.sum())


def stamps_of_steps(
    starts: "pl.Series", intervals: Intervals, day: int, first_steps: np.ndarray, sizes: np.ndarray
) -> "pl.Series":
    """The stamps of ``sizes`` steps of each series, from its ``first_steps`` on."""
    series = np.repeat(np.arange(len(sizes)), sizes)
    steps = np.arange(len(series)) - np.repeat(np.cumsum(sizes) - sizes - first_steps, sizes)
    return TimeIndex(starts, intervals.written(day)).stamps_at(series, steps)


def settle_intervals(
    intervals: Intervals, starts: Clock, sizes: np.ndarray, names: Sequence[str]
) -> Intervals:
    """What series too short to tell their interval take from the others.

    A series of one stamp takes the interval of all others; one that goes over no weekend and is daily takes
    the business days of the others.

    Raises:
        InputError: if the others do not agree.
    """
    counts, units = intervals
    daily = (units == DAYS) & (counts == 1)
    if daily.any() and (units == BUSINESS).any():
        within_week = (starts.local // starts.day + 3) % 7 + sizes <= 5
        if within_week[daily].all():
            units[daily] = BUSINESS
    single = units == NONE
    if single.any():
        others = set(zip(counts[~single].tolist(), units[~single].tolist(), strict=True))
        if len(others) != 1:
            why = "and those of the others differ" if others else "and no other series shows it"
            raise InputError(
                f"series {names[int(single.argmax())]!r} has one row: the interval of its time stamps needs at least two, "
                f"{why}; set it by --data.series.frequency."
            )
        counts[single], units[single] = others.pop()
    return intervals


def after_first_value(
    rows: Rows, offsets: np.ndarray, num_targets: int, started: bool
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Without what comes before the first known value of each series.

    Args:
        rows: of several series.
        offsets: where each begins.
        num_targets: the first columns of the values.
        started: the first series had a known value before.

    Returns:
        The rows that are left, the series of which there are any, and their offsets in these rows.
    """
    num_rows, first = len(rows), offsets[:-1]
    known = ~np.isnan(rows.values[:, :num_targets]).all(axis=1)
    if started:
        known[0] = True
    numbers = np.arange(num_rows)
    if known[first].all():
        return numbers, list(range(len(first))), offsets
    begins = np.minimum.reduceat(np.where(known, numbers, num_rows), first)
    lengths = np.maximum(offsets[1:] - begins, 0)
    kept = np.flatnonzero(numbers >= np.repeat(begins, np.diff(offsets)))
    chosen = np.flatnonzero(lengths)
    return kept, chosen.tolist(), np.concatenate([[0], np.cumsum(lengths[chosen])])
