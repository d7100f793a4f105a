"""Time stamps of series on a calendar, and the month, weekday and hour of each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from rnn_lightning.data.series import TimeIndex
from rnn_lightning.errors import InputError
from rnn_lightning.tables.axis import Axis
from rnn_lightning.tables.frequency import Frequency


class CalendarIndex(TimeIndex):
    """Regular dates or datetimes: step ``k`` of series ``i`` is ``k`` frequencies after ``starts[i]``.

    Args:
        starts: the first stamp of each series: dates or datetimes, as a list or a polars Series.
        frequencies: the distance between two steps of each series: ``15m``, ``1d``, ``1bd`` for business
            days, ``1mo``, ``1me`` for ends of months and so on. Days and months are those of the time zone of
            the stamps.
    """

    starts: pl.Series

    def __init__(self, starts: Sequence[Any] | pl.Series, frequencies: Sequence[Any]) -> None:
        super().__init__(pl.Series(starts), frequencies)  # type: ignore[arg-type]
        self._distinct, self._code = np.unique(np.asarray(frequencies, str), return_inverse=True)

    def stamps_at(self, series: np.ndarray, steps: np.ndarray) -> pl.Series:  # type: ignore[override]
        """Return the stamp of each of ``steps (row,)`` of the series numbered ``series (row,)``."""
        axis, code = Axis(self.starts.dtype), self._code[series]
        ticks = axis.ticks(self.starts.gather(series))  # (row,)
        present = np.bincount(code).nonzero()[0].tolist()
        for number in present:
            rows = slice(None) if len(present) == 1 else np.flatnonzero(code == number)
            frequency = Frequency.parse(str(self._distinct[number]))
            ticks[rows] = axis.advance(ticks[rows], frequency, steps[rows])
        return axis.stamps(ticks)

    def stamps(self, series_index: int, first_step: int, num_steps: int) -> list[Any]:
        return stamp_series(self, [series_index], [first_step], num_steps).to_list()


def stamp_series(times: TimeIndex, series: Any, first_steps: Any, num_steps: int) -> pl.Series:
    """Return the stamps of many series, ``num_steps`` each from its own first step, series after series."""
    steps = np.asarray(first_steps, np.int64).reshape(-1, 1) + np.arange(num_steps)  # (series, step)
    stamps = times.stamps_at(np.repeat(np.asarray(series, np.int64), num_steps), steps.reshape(-1))
    return stamps if isinstance(stamps, pl.Series) else pl.Series(stamps)


def calendar_codes(stamps: Any, names: Sequence[str]) -> np.ndarray:
    """Return calendar features ``(step, calendar feature)``, uint8, each counted from 0.

    Args:
        stamps: a polars Series of dates or datetimes; those with a time zone count as its clocks show.
        names: keys of ``CALENDAR``.

    Raises:
        InputError: if the stamps are numbers.
    """
    if not (isinstance(stamps, pl.Series) and stamps.dtype.is_temporal()):
        raise InputError(f"`calendar_features` {list(names)} need dates, and the time stamps are numbers.")
    codes = np.zeros((len(stamps), len(names)), dtype=np.uint8)
    for column, name in enumerate(names):
        if name == "hour":
            codes[:, column] = 0 if stamps.dtype == pl.Date else stamps.dt.hour().to_numpy()
        else:
            codes[:, column] = (stamps.dt.month() if name == "month" else stamps.dt.weekday()).to_numpy() - 1
    return codes
