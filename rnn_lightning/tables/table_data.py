"""The series of a table: values, and what a table adds to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from rnn_lightning.data.series import SeriesData, TimeIndex
from rnn_lightning.errors import InputError
from rnn_lightning.tables.options import CALENDAR

if TYPE_CHECKING:
    import polars as pl

COUNTED_CELLS = 2**20
"""Cells in which unknown values are counted together, so that arrays may be larger than memory."""


@dataclass(frozen=True)
class TableFormat:
    """How a table is written.

    Attributes:
        column_types: the polars types of its columns, in their order.
        time_format: the format of time stamps in a CSV file, in the notation of ``strftime``; None for ISO.
        separator: the character between two columns of a CSV file.
        decimal_comma: whether numbers in a CSV file have a decimal comma.
    """

    column_types: Mapping[str, Any] = field(default_factory=dict)
    time_format: str | None = None
    separator: str = ","
    decimal_comma: bool = False


@dataclass(frozen=True, repr=False)
class TableData(SeriesData):
    """Series with the names and the format of their table, and with the calendar of their time stamps.

    Their covariates are those of the columns known ahead, the calendar, the static columns, and the columns
    of the past: for each the value of the step before, and whether it is known.

    Attributes:
        id_column: the name of the column of ids; None if a single series needs none.
        time_column: the name of the column of time stamps.
        calendar: ``(row, calendar feature)``, uint8, such as the month, counted from 0; then, with holidays,
            their inputs, see ``step_holidays``.
        calendar_names: the calendar features, keys of ``CALENDAR``.
        holidays: the country of the holidays, if they are inputs.
        static: ``(series, input)``, the inputs of the static columns, NaN where unknown.
        static_names: the static columns.
        past: ``(row, covariate)``, covariates that are known up to the origin of a forecast alone.
        past_names: a name for each of them.
        notes: what a user should know about how the values were made, a sentence each.
        left_out: ids of series that could not be used, and the reason for each.
        table_format: how the table was written, and how its forecast will be.
    """

    id_column: str | None = "unique_id"
    time_column: str = "ds"
    calendar: Tensor | None = None
    calendar_names: Sequence[str] = ()
    holidays: str | None = None
    static: Tensor | None = None
    static_names: Sequence[str] = ()
    past: Tensor | None = None
    past_names: Sequence[str] = ()
    notes: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    table_format: TableFormat = field(default_factory=TableFormat)

    def covariates_at(self, rows: Tensor) -> Tensor | None:
        """Return the covariates ``(..., covariate)`` of ``rows (...)``, calendar features one-hot."""
        parts = [super().covariates_at(rows)]
        if self.calendar is not None:
            parts.append(encode_calendar(self.calendar[rows], self.calendar_names))
        if self.static is not None:
            series = torch.searchsorted(self.offsets, rows, right=True) - 1  # (...)
            parts.append(self.static[series.clamp(0, self.num_series - 1)])
        if self.past is not None:
            is_first = torch.isin(rows, self.offsets)[..., None]
            before = self.past[(rows - 1).clamp_min(0)]
            parts.append(with_flags(before.masked_fill(is_first, torch.nan)))
        return joined(parts)

    def future_covariates(self, series_indices: Tensor, horizon: int) -> Tensor | None:
        """Return the covariates ``(batch, horizon, covariate)`` of the steps after each of the series."""
        parts = [super().future_covariates(series_indices, horizon)]
        if self.calendar is not None:
            parts.append(encode_calendar(self.future_calendar(series_indices, horizon), self.calendar_names))
        if self.static is not None:
            parts.append(self.static[series_indices][:, None].expand(-1, horizon, -1))
        if self.past is not None:
            last = self.past[self.ends[series_indices] - 1][:, None]  # (batch, 1, covariate)
            parts.append(with_flags(pad(last, (0, 0, 0, horizon - 1), value=torch.nan)))
        return joined(parts)

    def known_covariates(self, covariates: Tensor, num_steps: int) -> Tensor:
        """Return covariates ``(batch, time, covariate)`` with those of the past unknown after the origin.

        The first step after it has the values of the origin.
        """
        if self.past is None:
            return covariates
        size = self.past.shape[1]
        others, values = covariates[..., : -2 * size], covariates[..., -2 * size : -size].clone()
        values[:, num_steps + 1 :] = torch.nan
        return torch.cat([others, with_flags(values)], -1)

    def future_calendar(self, series_indices: Tensor, horizon: int) -> Tensor:
        """Return the calendar after each of the series, ``(batch, horizon, calendar feature)``, uint8."""
        steps = self.lengths[series_indices][:, None] + torch.arange(horizon)  # (batch, horizon)
        series = series_indices.repeat_interleave(horizon).numpy()
        codes = step_codes(self.times, series, steps.flatten().numpy(), self.calendar_names, self.holidays)
        return torch.from_numpy(codes).view(len(series_indices), horizon, codes.shape[1])

    def keep(self, kept: list[int], note: str) -> "TableData":
        """Return some of the series, in their order, with a note on the others.

        Nothing is copied: the rows of the others stay in the arrays, after those of the series before, and no
        step of a series is in them.
        """
        chosen = torch.as_tensor(kept)
        return replace(
            self,
            offsets=torch.cat([self.offsets[chosen], self.offsets[-1:]]),
            lengths=self.lengths[chosen],
            static=None if self.static is None else self.static[chosen],
            traits={name: trait[chosen] for name, trait in self.traits.items()},
            ids=[self.ids[index] for index in kept],
            times=self.times.keep(kept),
            notes=[*self.notes, note],
        )


def with_flags(values: Tensor) -> Tensor:
    """Return values ``(..., covariate)``, and for each whether it is known."""
    return torch.cat([values, (~values.isnan()).float()], -1)


def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Return covariates side by side, None where there are none."""
    given = [part for part in parts if part is not None]
    return torch.cat(given, -1) if given else None


def as_table_data(data: SeriesData) -> TableData:
    """Return the series as those of a table, with the default names of its columns if they have none."""
    if isinstance(data, TableData):
        return data
    given = {each.name: getattr(data, each.name) for each in fields(SeriesData)}
    return TableData(**given)


def encode_calendar(codes: Tensor, names: Sequence[str]) -> Tensor:
    """Return calendar features ``(..., calendar feature)`` as one-hot covariates ``(..., covariate)``.

    Columns after those of the ``names`` are numbers, and stay as they are.
    """
    columns = [one_hot(codes[..., i].long(), CALENDAR[name]) for i, name in enumerate(names)]
    return torch.cat([*columns, codes[..., len(names) :]], -1).float()


def step_codes(
    times: TimeIndex, series: np.ndarray, steps: np.ndarray, names: Sequence[str], holidays: str | None
) -> np.ndarray:
    """Return the calendar ``(row, calendar feature)``, uint8, of ``steps (row,)`` of ``series (row,)``."""
    from rnn_lightning.tables.calendar import calendar_codes

    codes = np.zeros((len(steps), 0), np.uint8)
    if names:
        codes = calendar_codes(times.stamps_at(series, steps), names)
    if holidays is None:
        return codes
    from rnn_lightning.tables.holidays import step_holidays

    return np.concatenate([codes, step_holidays(holidays, times, series, steps)], 1)


def calendar_covariates(
    stamps: "Sequence[Any] | pl.Series", names: Sequence[str], holidays: str | None = None
) -> Tensor:
    """Return the covariates ``(step, covariate)`` that a fit with calendar features makes of time stamps.

    Args:
        stamps: dates or datetimes, as a list or a polars Series; those with a time zone count as its clocks
            show.
        names: the calendar features in the order of the fit: month, weekday, hour.
        holidays: the country of a fit with ``holidays``, for stamps of days or parts of days.

    Raises:
        InputError: if the stamps are numbers, or a name is not a calendar feature.
    """
    import polars as pl

    from rnn_lightning.tables.calendar import calendar_codes

    for name in names:
        if name not in CALENDAR:
            raise InputError(f"{name!r} is not a calendar feature: give some of {', '.join(CALENDAR)}.")
    codes = calendar_codes(pl.Series(stamps), names)
    if holidays is not None:
        from rnn_lightning.tables.holidays import stamp_holidays

        codes = np.concatenate([codes, stamp_holidays(holidays, pl.Series(stamps))], 1)
    return encode_calendar(torch.from_numpy(codes), names)


def count_unknown(rows: Any, offsets: Tensor, ends: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Count the NaN among ``rows (row, column)`` from the offset of each series to before its end.

    Returns:
        Counts of each series ``(series,)`` and of each column ``(column,)``.
    """
    by_series, by_column = np.zeros(len(ends), np.int64), np.zeros(rows.shape[1], np.int64)
    at_once = max(1, COUNTED_CELLS // rows.shape[1])
    for first in range(0, len(rows), at_once):
        unknown = rows[first : first + at_once].isnan().numpy()  # (row, column)
        row = np.arange(first, first + len(unknown))
        series = np.searchsorted(offsets[:-1].numpy(), row, side="right") - 1
        unknown &= ((series >= 0) & (row < ends.numpy()[series]))[:, None]
        np.add.at(by_series, series, unknown.sum(1))
        by_column += unknown.sum(0)
    return by_series, by_column
