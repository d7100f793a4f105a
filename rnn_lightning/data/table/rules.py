"""How rows become steps, and what is refused on the way."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_lightning.data.series import counted
from rnn_lightning.data.table.intervals import SNAP, Clock, Grid, Intervals, find_intervals
from rnn_lightning.data.table.rows import Rows
from rnn_lightning.data.table.stamps import MoreRowsNeeded
from rnn_lightning.data.table.times import DAY, FORMS, Interval, ticks_of_day
from rnn_lightning.errors import InputError

LONG_GAP = 1000
"""Steps without a row that are pointed out, where they are more than all others of the series."""


class Part(NamedTuple):
    """Rows of some series, the first of which may go on from rows before.

    Attributes:
        rows: in order; without those before the first known value of a series.
        names: ids of the series.
        offsets: where the rows of each begin, and the end.
        series: the number of the series of each row.
        previous: the row before the first one, if the first series goes on.
    """

    rows: Rows
    names: Sequence[str]
    offsets: np.ndarray
    series: np.ndarray
    previous: Rows | None

    @property
    def begins(self) -> np.ndarray:
        """The first rows of the series that begin here."""
        return self.offsets[:-1][0 if self.previous is None else 1 :]

    def distances(self, steps: np.ndarray, last_step: int) -> np.ndarray:
        """Steps from the row before to each one; 0 for the first of a series."""
        distances = np.diff(steps, prepend=last_step)
        distances[self.begins] = 0
        return distances


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

    def intervals(self, clock: Clock, offsets: np.ndarray) -> Intervals:
        """The frequency that the user gave, or what each series shows."""
        if self.frequency is None:
            return find_intervals(clock, offsets)
        return Intervals.all_alike(self.frequency, len(offsets) - 1, clock.day)

    def require_frequency_fits(self, dtype: Any) -> None:
        """A frequency must be a number for numbers, and of days at least for dates."""
        if self.frequency is None:
            return
        count, unit = self.frequency
        given = f"--data.series.frequency {self.frequency.written}"
        if dtype.is_temporal() == (unit == "number"):
            kind = f"{dtype}: give {FORMS}" if dtype.is_temporal() else "numbers: give a number"
            raise InputError(f"{given}: column {self.time_column!r} holds {kind}.")
        if unit == "ns" and count * ticks_of_day(dtype) % DAY:
            raise InputError(
                f"{given}: column {self.time_column!r} holds {dtype}, which is too coarse for it."
            )

    def require_on_grid(self, part: Part, grid: Grid, distances: np.ndarray) -> None:
        """Every row must lie on a step of its own, ``distances`` after the row before."""
        rows, names, series = part.rows, part.names, part.series
        snap = self.frequency is not None or rows.stamps.dtype.is_float()
        missed = grid.missed > (SNAP if snap else 0)
        if missed.any():
            row = int(missed.argmax())
            if self.frequency is None and part.previous is not None and series[row] == 0:
                raise MoreRowsNeeded(f"series {names[0]!r} leaves the grid of its first rows")
            if self.frequency is None:
                raise self._irregular(part, int(series[row]), distances)
            raise InputError(
                f"series {names[series[row]]!r}: {self.time_column} = {self._stamp(part, row)} is not on the grid of "
                f"--data.series.frequency {self.frequency.written} that begins with its first stamp, "
                f"{rows.stamps[int(part.offsets[series[row]])]}."
            )
        same = distances <= 0
        same[part.begins] = False
        if same.any():
            row = int(same.argmax())
            raise InputError(
                f"series {names[series[row]]!r}: {self.time_column} = {self._stamp(part, row)} and the row before are the "
                "same step of --data.series.frequency: keep one, or aggregate them."
            )

    def require_dense(
        self, part: Part, num_rows: np.ndarray, num_steps: np.ndarray, distances: np.ndarray
    ) -> None:
        """Refuse stamps that fill only a small part of their grid: they are not regular."""
        sparse = 4 * num_rows < num_steps
        if self.frequency is not None:
            sparse = (1000 * num_rows < num_steps) & (num_steps > 1_000_000)
        if sparse.any():
            raise self._irregular(part, int(sparse.argmax()), distances)

    def long_gaps(self, part: Part, num_steps: np.ndarray, distances: np.ndarray) -> list[str]:
        """What to say of the series where one gap is longer than all the rest: one of its stamps may be wrong."""
        longest = np.maximum.reduceat(distances, part.offsets[:-1])
        return [
            f"Series {part.names[index]!r} has no row {self._longest(part, index, distances)}, "
            f"{counted(int(longest[index]), 'step')} and more than all others of it: is one of them wrong?"
            for index in np.flatnonzero((longest > LONG_GAP) & (2 * longest > num_steps)).tolist()
        ]

    def _irregular(self, part: Part, index: int, distances: np.ndarray) -> InputError:
        """What to say of a series whose stamps are on no grid."""
        stamps = part.rows.stamps
        first, last = int(part.offsets[index]), int(part.offsets[index + 1]) - 1
        advice = "give the distance of two steps by --data.series.frequency, or aggregate the rows to regular steps first"
        if getattr(stamps.dtype, "time_zone", None) == "UTC":
            advice += ", or set --data.series.time_zone if they follow the clocks of a place"
        return InputError(
            f"series {part.names[index]!r}: its {self.time_column} is not regular from {stamps[first]} to {stamps[last]}: "
            f"most steps of a regular grid would have no row, the longest gap is {self._longest(part, index, distances)}: "
            f"is one of them wrong?{'' if self.frequency is not None else f' If not, {advice}.'}"
        )

    def _longest(self, part: Part, index: int, distances: np.ndarray) -> str:
        """The two rows around the longest gap of a series."""
        first = int(part.offsets[index])
        row = first + int(distances[first : part.offsets[index + 1]].argmax())
        return f"from {self._stamp(part, row - 1)} to {self._stamp(part, row)}"

    def _stamp(self, part: Part, row: int) -> str:
        rows, row = (part.rows, row) if row >= 0 or part.previous is None else (part.previous, 0)
        return f"{rows.stamps[row]} in {self.place(int(rows.places[row]))}"


def parse_frequency(frequency: str | float | None) -> Interval | None:
    """The interval that a user gave: a number or a duration."""
    if frequency is None:
        return None
    try:
        number = float(frequency)
        interval = Interval(int(number) if number == int(number) else number, "number")
    except (ValueError, OverflowError):
        try:
            interval = Interval.parse(str(frequency).strip())
        except ValueError as error:
            raise InputError(
                f"--data.series.frequency {frequency!r} must be {FORMS}, or a number above 0."
            ) from error
    if not interval.size > 0:
        raise InputError(f"--data.series.frequency must be above 0, got {frequency}.")
    return interval
