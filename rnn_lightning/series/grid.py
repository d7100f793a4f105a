"""Places checked rows on the regular grids of their series."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnn_lightning.errors import InputError
from rnn_lightning.series.intervals import (
    BUSINESS,
    DAYS,
    NONE,
    SNAP,
    Clock,
    Grid,
    Intervals,
    find_intervals,
    place_on_grid,
)
from rnn_lightning.series.rows import Rows
from rnn_lightning.series.stamps import MoreRowsNeeded
from rnn_lightning.series.times import Interval, TimeIndex

if TYPE_CHECKING:
    import polars as pl


class GridRules(NamedTuple):
    """What is asked for.

    Attributes:
        time_column: for messages.
        targets: how messages call the targets.
        num_targets: the first columns of the values; the others are covariates.
        has_calendar: the stamps of all steps are needed.
        frequency: the interval of all series; None to find that of each one.
        time_zone: where clocks without a zone hang.
        place: says where a row comes from.
    """

    time_column: str
    targets: str
    num_targets: int
    has_calendar: bool
    frequency: Interval | None
    time_zone: str | None
    place: Callable[[int], str]


class Placed(NamedTuple):
    """Some series on their grids, the first of which may go on from rows before.

    Attributes:
        starts: the first stamp of each series.
        intervals: of each series.
        num_rows: of each series, with those before.
        last_steps: number of the step of the last row of each series.
        ends: number of rows of each series that are written, with those before.
        lengths: steps of each series up to the last known one.
        values: ``(row, column)``, to write.
        stamps: of these rows, if asked for.
        num_gaps: steps among them that had no row.
        num_snapped: rows that were moved onto the grid.
    """

    starts: "pl.Series"
    intervals: Intervals
    num_rows: np.ndarray
    last_steps: np.ndarray
    ends: np.ndarray
    lengths: np.ndarray
    values: np.ndarray
    stamps: "pl.Series | None"
    num_gaps: int
    num_snapped: int

    def last(self) -> "Placed":
        """The last series, without its values."""
        intervals = Intervals(self.intervals.counts[-1:], self.intervals.units[-1:])
        counts = (self.num_rows[-1:], self.last_steps[-1:], self.ends[-1:], self.lengths[-1:])
        return Placed(self.starts[-1:], intervals, *counts, self.values[:0], None, 0, 0)


def place_rows(
    rules: GridRules, rows: Rows, names: Sequence[str], offsets: np.ndarray, before: Placed | None, complete: bool
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
    starts, intervals = rows.stamps.gather(offsets[:-1]), choose_intervals(rules, clock, offsets)
    num_rows, first_steps = lengths.copy(), np.zeros(len(names), dtype=np.int64)
    if before is not None:
        starts = pl.concat([before.starts, starts[1:]])
        intervals.counts[0], intervals.units[0] = before.intervals.counts[0], before.intervals.units[0]
        num_rows[0] += before.num_rows[0]
        first_steps[0] = before.ends[0]
    if not complete and intervals.units[-1] == NONE:
        raise MoreRowsNeeded(f"series {names[-1]!r} has one row in the first ones")
    grid = place_on_grid(clock, Clock.of(starts), intervals, lengths)
    series = np.repeat(np.arange(len(names)), lengths)
    require_on_grid(rules, rows, names, offsets, grid, series, -1 if before is None else int(before.last_steps[0]))
    last_steps = grid.steps[offsets[1:] - 1]
    require_dense(rules, rows, names, offsets, num_rows, last_steps)
    ends, known = last_useful_steps(rules, rows, grid.steps, offsets)
    ends = np.maximum(ends + 1, first_steps)
    if before is not None:
        known[0] = max(known[0] + 1, before.lengths[0]) - 1
    sizes = ends - first_steps
    values, gaps = values_of_steps(rows, series, grid.steps, first_steps, sizes)
    snapped = int((grid.missed > 1e-6).sum()) if rules.frequency is not None else 0
    stamps = stamps_of_steps(starts, intervals, clock.day, first_steps, sizes) if rules.has_calendar else None
    return Placed(starts, intervals, num_rows, last_steps, ends, known + 1, values, stamps, gaps, snapped)


def choose_intervals(rules: GridRules, clock: Clock, offsets: np.ndarray) -> Intervals:
    """The frequency that the user gave, or what each series shows."""
    if rules.frequency is None:
        return find_intervals(clock, offsets)
    return Intervals.all_alike(rules.frequency, len(offsets) - 1, clock.day)


def last_useful_steps(rules: GridRules, rows: Rows, steps: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last step of each series that has any value, and the last that has a known target; -1 if there is none."""
    found = []
    for values in (rows.values, rows.values[:, : rules.num_targets]):
        known = ~np.isnan(values).all(axis=1)
        ends = known[offsets[1:] - 1].all()
        found.append(steps[offsets[1:] - 1] if ends else np.maximum.reduceat(np.where(known, steps, -1), offsets[:-1]))
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


def require_on_grid(
    rules: GridRules,
    rows: Rows,
    names: Sequence[str],
    offsets: np.ndarray,
    grid: Grid,
    series: np.ndarray,
    last_step: int,
) -> None:
    """Every row must lie on a step of its own; ``last_step`` was the last one of the first series before."""
    import polars as pl

    snap = rules.frequency is not None or rows.stamps.dtype == pl.Float64
    missed = grid.missed > (SNAP if snap else 0)
    if missed.any():
        row = int(missed.argmax())
        if rules.frequency is None and last_step >= 0 and series[row] == 0:
            raise MoreRowsNeeded(f"series {names[0]!r} leaves the grid of its first rows")
        if rules.frequency is None:
            raise irregular(rules, rows, names, offsets, int(series[row]))
        raise InputError(
            f"series {names[series[row]]!r}: {rules.time_column} = {rows.stamps[row]} in {rules.place(rows.places[row])} is "
            f"not on the grid of --data.series.frequency {rules.frequency.written} that begins with its first stamp, "
            f"{rows.stamps[int(offsets[series[row]])]}."
        )
    rising = np.diff(grid.steps, prepend=last_step) > 0
    rising[offsets[:-1][1 if last_step >= 0 else 0 :]] = True
    if not rising.all():
        row = int(np.argmin(rising))
        raise InputError(
            f"series {names[series[row]]!r}: {rules.time_column} = {rows.stamps[row]} in {rules.place(rows.places[row])} "
            "and the row before are the same step of --data.series.frequency: keep one, or aggregate them."
        )


def require_dense(
    rules: GridRules,
    rows: Rows,
    names: Sequence[str],
    offsets: np.ndarray,
    num_rows: np.ndarray,
    last_steps: np.ndarray,
) -> None:
    """Refuse stamps that fill only a small part of their grid: they are not regular."""
    num_steps = last_steps + 1
    sparse = 4 * num_rows < num_steps
    if rules.frequency is not None:
        sparse = (1000 * num_rows < num_steps) & (num_steps > 1_000_000)
    if sparse.any():
        raise irregular(rules, rows, names, offsets, int(sparse.argmax()))


def irregular(rules: GridRules, rows: Rows, names: Sequence[str], offsets: np.ndarray, index: int) -> InputError:
    """What to say of a series whose stamps are on no grid."""
    first, last = int(offsets[index]), int(offsets[index + 1]) - 1
    advice = "give the distance of two steps by --data.series.frequency, or aggregate the rows to regular steps first"
    if rules.frequency is not None:
        advice = "is one of them wrong?"
    elif getattr(rows.stamps.dtype, "time_zone", None) == "UTC":
        advice += ", or set --data.series.time_zone if they follow the clocks of a place"
    return InputError(
        f"series {names[index]!r}: its {rules.time_column} is not regular from {rows.stamps[first]} to {rows.stamps[last]}, "
        f"with steps such as {rows.stamps[first]} to {rows.stamps[min(first + 1, last)]}: most steps of a regular grid "
        f"would have no row; {advice}."
    )


def settle_intervals(intervals: Intervals, starts: Clock, sizes: np.ndarray, names: Sequence[str]) -> Intervals:
    """What series too short to tell their interval take from the others.

    A series of one stamp takes the interval of all others; one that goes over no weekend and is daily takes the business
    days of the others.

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
