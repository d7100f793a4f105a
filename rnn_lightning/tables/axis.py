"""The integers on which a time axis is measured."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from rnn_lightning.tables.calendar import from_ticks, local_ticks, ticks_of_day


class Axis(NamedTuple):
    """What the ticks of a time axis are: the integers behind dates and datetimes, or numbers times a scale.

    Attributes:
        dtype: the polars type of the stamps.
        scale: ticks to 1 of a number.
    """

    dtype: Any
    scale: int = 1

    @property
    def day(self) -> int:
        """Ticks in a day; 0 for numbers."""
        return ticks_of_day(self.dtype) if self.dtype.is_temporal() else 0

    @property
    def zone(self) -> str | None:
        """The time zone whose clocks the stamps follow."""
        return getattr(self.dtype, "time_zone", None)

    def ticks(self, stamps: pl.Series) -> np.ndarray:
        """The ticks of stamps that are known."""
        if self.dtype == pl.Float64:
            return np.rint(stamps.to_numpy() * self.scale).astype(np.int64)
        return stamps.cast(self.dtype).to_physical().to_numpy().astype(np.int64)

    def stamps(self, ticks: np.ndarray) -> pl.Series:
        """The stamps at some ticks."""
        if self.dtype == pl.Float64:
            return pl.Series(np.round(ticks / self.scale, 9))
        return from_ticks(ticks, self.dtype)

    def local(self, ticks: np.ndarray) -> np.ndarray:
        """The ticks of what the clocks of the time zone show."""
        return local_ticks(self.stamps(ticks)) if self.zone is not None else ticks
