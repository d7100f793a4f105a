"""From checked rows to series: each on its regular grid of steps, with NaN where a row or a value is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from rnn_lightning.data.series import counted
from rnn_lightning.data.storage import FileArray
from rnn_lightning.data.table.grid import Placed, after_first_value, place_rows, settle_intervals
from rnn_lightning.data.table.growing import GrowingSeries
from rnn_lightning.data.table.intervals import Clock, Intervals
from rnn_lightning.data.table.rows import Rows
from rnn_lightning.data.table.rules import GridRules
from rnn_lightning.data.table.stamps import MoreRowsNeeded
from rnn_lightning.data.table.times import TimeIndex
from rnn_lightning.errors import InputError

if TYPE_CHECKING:
    import polars as pl

HOLD_ROWS = 2**17
"""The rows of the last series in a piece wait for the next piece, up to so many: its interval is found from them."""


@dataclass
class OpenSeries:
    """The last series of the rows so far, of which more rows may follow.

    Attributes:
        name: its id.
        last_tick: its last stamp.
        placed: what is known of it since its first known value; None before.
    """

    name: str
    last_tick: Any
    placed: Placed | None = None


class Built(NamedTuple):
    """All series, as ``SeriesData`` describes them."""

    values: torch.Tensor | FileArray
    covariates: torch.Tensor | FileArray | None
    calendar: torch.Tensor | FileArray | None
    offsets: torch.Tensor
    lengths: torch.Tensor
    ids: list[str]
    times: TimeIndex
    left_out: dict[str, str]
    notes: list[str]


class SeriesBuilder:
    """Puts rows that come piece by piece, series after series and in the order of time, onto the grids of their series.

    Args:
        rules: how rows become steps.
        storage: where the steps go.
        whole: all rows of a series are looked at together, however many there are.
    """

    def __init__(self, rules: GridRules, storage: GrowingSeries, whole: bool) -> None:
        self.rules, self.storage, self.whole = rules, storage, whole
        self.ids: list[str] = []
        self.sizes: list[int] = []  # rows of each series
        self.lengths: list[int] = []  # steps up to the last known one
        self.counts: list[int | float] = []
        self.units: list[int] = []
        self.starts: list[pl.Series] = []
        self.left_out: dict[str, str] = {}
        self.num_gaps = self.num_snapped = 0
        self.long_gaps: list[str] = []
        self._day = 0
        self._seen: set[str] = set()
        self._held: list[Rows] = []
        self._num_held = 0
        self._open: OpenSeries | None = None

    def add(self, rows: Rows) -> None:
        """Take some rows; the last series is held back until it is complete, or long enough to tell its interval.

        Raises:
            InputError: names the series that cannot be used.
            MoreRowsNeeded: if the rows are not in order, or off the grid that was found from the rows before.
        """
        if len(rows) == 0:
            return
        last = last_run(rows.ids)
        same = last == 0 and (not self._held or self._held[0].ids[0] == rows.ids[0])
        if not same:
            self._process(
                Rows.join([*self._held, rows.slice(0, last)]) if last else Rows.join(self._held),
                complete=True,
            )
            self._held, self._num_held, rows = [], 0, rows.slice(last, len(rows))
        self._held.append(rows)
        self._num_held += len(rows)
        if not self.whole and self._num_held >= HOLD_ROWS:
            self._process(Rows.join(self._held), complete=False)
            self._held, self._num_held = [], 0

    def finish(self) -> Built:
        """The series, after the last row.

        Raises:
            InputError: as ``add``, and if there is no series, or the interval of one cannot be known.
        """
        if self._held:
            self._process(Rows.join(self._held), complete=True)
        elif self._open is not None:
            self._close(self._open)
        if not self.ids:
            raise InputError(f"no row has a value of {self.rules.targets}: give at least one.")
        import polars as pl

        starts = pl.concat(self.starts)
        sizes = np.array(self.sizes)
        intervals = Intervals(np.array(self.counts), np.array(self.units, dtype=np.int8))
        intervals = settle_intervals(intervals, Clock.of(starts), sizes, self.ids)
        values, covariates, calendar = (array.finish() for array in self.storage.all)
        return Built(
            values=values,  # type: ignore[arg-type]
            covariates=covariates,
            calendar=calendar,
            offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])),
            lengths=torch.tensor(self.lengths),
            ids=self.ids,
            times=TimeIndex(starts, intervals.written(self._day)),
            left_out=self.left_out,
            notes=self._notes(),
        )

    def _process(self, rows: Rows, complete: bool) -> None:
        """Place rows; ``complete`` says that no more will follow of the last series, as of all the others."""
        names, offsets = runs(rows.ids)
        opened, self._open = self._open, None
        if opened is not None and opened.name != names[0]:
            self._close(opened)
            opened = None
        self._require_new(names if opened is None else names[1:])
        rows = rows.in_zone(self.rules.time_zone, self.rules.place)
        clock = Clock.of(rows.stamps)
        self._day = clock.day
        require_order(
            clock, offsets, names, rows, opened.last_tick if opened is not None else None, self.rules
        )
        self._open = OpenSeries(
            names[-1], clock.ticks[-1], opened.placed if opened and len(names) == 1 else None
        )
        before = opened.placed if opened is not None else None
        kept, chosen, new_offsets = after_first_value(
            rows, offsets, self.rules.num_targets, before is not None
        )
        if len(kept):
            part = rows if len(kept) == len(rows) else rows.take(kept)
            placed = self._place(part, [names[index] for index in chosen], new_offsets, before, complete)
            if chosen[-1] == len(names) - 1:
                self._open.placed = placed
        empty = set(range(len(names))) - set(chosen)
        for index in sorted(empty - {len(names) - 1}):
            self._leave_out(names[index])
        if complete:
            self._close(self._open)
            self._open = None

    def _place(
        self, rows: Rows, names: list[str], offsets: np.ndarray, before: Placed | None, complete: bool
    ) -> Placed:
        """Append the steps of some series, the first of which may go on; what is known of the last one."""
        placed = place_rows(self.rules, rows, names, offsets, before, complete)
        if before is not None:
            self.sizes.pop()
            self.lengths.pop()
        new = slice(0 if before is None else 1, None)
        self.ids += names[new]
        self.counts += placed.intervals.counts[new].tolist()
        self.units += placed.intervals.units[new].tolist()
        self.starts.append(placed.starts[new])
        self.sizes += placed.ends.tolist()
        self.lengths += placed.lengths.tolist()
        self.num_gaps += placed.num_gaps
        self.num_snapped += placed.num_snapped
        self.long_gaps += placed.long_gaps
        self.storage.append(placed.values, placed.stamps)
        return placed.last()

    def _require_new(self, names: list[str]) -> None:
        """The rows of each series must follow each other."""
        before = len(self._seen)
        self._seen.update(names)
        if len(self._seen) < before + len(names):
            raise MoreRowsNeeded("the rows of a series do not follow each other")

    def _close(self, series: OpenSeries) -> None:
        if series.placed is None:
            self._leave_out(series.name)

    def _leave_out(self, name: str) -> None:
        if self.storage.covariates.num_columns:
            raise InputError(
                f"series {name!r} has covariates but no value of {self.rules.targets}: give one or drop it."
            )
        self.left_out[name] = f"has no value of {self.rules.targets}"

    def _notes(self) -> list[str]:
        notes = []
        if self.num_gaps:
            one, many = (
                "step without a row counts as an unknown value.",
                "steps without a row count as unknown values.",
            )
            notes.append(counted(self.num_gaps, one, many))
        if self.num_snapped:
            stamps = counted(self.num_snapped, "time stamp was", "time stamps were")
            notes.append(f"{stamps} moved onto the grid of --data.series.frequency.")
        if self.long_gaps:
            others = len(self.long_gaps) - 1
            notes.append(
                self.long_gaps[0]
                + (f" {others:,} more series {'is' if others == 1 else 'are'} alike." if others else "")
            )
        if self.left_out:
            number, what = len(self.left_out), f"series without a value of {self.rules.targets}"
            some = ", ".join(repr(name) for name in list(self.left_out)[:5])
            notes.append(
                counted(number, f"{what} is left out: {some}.", f"{what} are left out, such as {some}.")
            )
        return notes


def last_run(ids: "pl.Series") -> int:
    """Where the rows of the last series begin."""
    same = (ids == ids[-1]).to_numpy()
    return len(same) - int(np.argmin(same[::-1])) if not same.all() else 0


def runs(ids: "pl.Series") -> tuple[list[str], np.ndarray]:
    """The ids of the series in the order of their rows, and the first row of each, and the end."""
    import polars as pl

    lengths, names = ids.rle().struct.unnest().get_columns()
    offsets = np.zeros(len(names) + 1, dtype=np.int64)
    np.cumsum(lengths.to_numpy(), out=offsets[1:])
    return names.cast(pl.String).to_list(), offsets


def require_order(
    clock: Clock, offsets: np.ndarray, names: Sequence[str], rows: Rows, last_tick: Any, rules: GridRules
) -> None:
    """Stamps must rise within each series, and after those that were there before of the first one."""
    if last_tick is not None and not clock.ticks[0] > last_tick:
        raise MoreRowsNeeded("the rows of a series are not in the order of time")
    rising = clock.ticks[1:] > clock.ticks[:-1]
    rising[offsets[1:-1] - 1] = True
    if rising.all():
        return
    row = int(np.argmin(rising))
    if clock.ticks[row] != clock.ticks[row + 1]:
        raise MoreRowsNeeded("the rows of a series are not in the order of time")
    index = int(np.searchsorted(offsets, row, side="right")) - 1
    raise InputError(
        f"series {names[index]!r} has two rows at {rules.time_column} = {rows.stamps[row]}, {rules.place(rows.places[row])} "
        f"and {rules.place(rows.places[row + 1])}: keep one."
    )
