"""Time stamps as they are written in tables: read without guessing, remembered to be written alike."""

from typing import Any

import numpy as np
import polars as pl

from rnn_lightning.errors import InputError, quoted
from rnn_lightning.tables.axis import Axis
from rnn_lightning.tables.files import Piece, reason
from rnn_lightning.tables.text_stamps import TextForm

COMPACT = "%Y%m%d"
FIRST_DAY, LAST_DAY = -719_162, 2_932_896
"""From 0001-01-01 to 9999-12-31, counted from 1970-01-01."""
LARGEST = 2**62
"""Differences of integers up to this one are integers of 64 bits."""


class StampReader:
    """Turns the column of time stamps, piece by piece, into ticks of one axis.

    Args:
        column: its name.
        time_format: how text is written, in the notation of ``strftime``; None for ISO and numbers.
        time_zone: where the clocks hang; None to keep the stamps as they are.
        number: the frequency, if it is a number: integers are then no dates, and if it has a fraction, no
            whole numbers.

    Attributes:
        axis: after the first piece.
        notes: what a user should know, a sentence each.
    """

    def __init__(
        self, column: str, time_format: str | None, time_zone: str | None, number: float | None
    ) -> None:
        self.column, self.time_zone, self.number = column, time_zone, number
        self.axis: Axis | None = None
        self.notes: list[str] = []
        self._text = TextForm(time_format, time_zone is not None)
        self._compact = False
        self._seen: set[tuple[int, int]] = set()  # hours that a series has shown once

    @property
    def written(self) -> str | None:
        """How the column is written, in the notation of ``strftime``; None for dates in ISO and numbers."""
        return COMPACT if self._compact else self._text.written

    def read(self, piece: Piece, series: np.ndarray) -> np.ndarray:
        """The ticks of some rows of the given series.

        Raises:
            InputError: names a row that cannot be read.
        """
        raw = piece.frame[self.column]
        piece.refuse(raw.is_null(), self.column, "has no value in", "fill or drop it")
        if raw.dtype == pl.String or self._text.time_format is not None:
            stamps = self._read_text(piece, raw)
        else:
            stamps = self._read_typed(piece, raw)
        if stamps.dtype.is_integer() and self.number is None and self._text.time_format is None:
            stamps = self._compact_dates(piece, stamps)
        if self.axis is None:
            self.axis = self._find_axis(stamps)
        self._require_fit(piece, stamps, self.axis)
        if self.time_zone is not None and zone_of(stamps) is None:
            stamps = self._in_zone(piece, stamps, series, self.time_zone)
        return self.axis.ticks(stamps)

    def _read_typed(self, piece: Piece, raw: pl.Series) -> pl.Series:
        if raw.dtype == pl.Date or isinstance(raw.dtype, pl.Datetime):
            return raw
        if raw.dtype.is_integer():
            return raw.cast(pl.Int64, strict=False).fill_null(2 * LARGEST - 1)
        if not raw.dtype.is_numeric():
            kinds = "dates, timestamps, numbers or text"
            raise InputError(f"column {quoted(self.column)} holds {raw.dtype}: it must hold {kinds}.")
        # the shortest decimals of float32: 0.1 is not 0.10000000149
        numbers = raw.cast(pl.String).cast(pl.Float64) if raw.dtype == pl.Float32 else raw.cast(pl.Float64)
        piece.refuse(~numbers.is_finite(), self.column, "has no finite value in", "fill or drop it")
        return numbers

    def _read_text(self, piece: Piece, raw: pl.Series) -> pl.Series:
        given, holds = self._text.time_format, "holds text, such as {} in"
        if raw.dtype.is_temporal():
            column = f"column {quoted(self.column)} holds {raw.dtype}"
            raise InputError(f"`time_format` is for text, and {column}: drop it.")
        text = raw.cast(pl.String).str.strip_chars()
        if not self._text.form and not self._text.find(text[0]):
            say = "say how it is written by `time_format`, such as %d.%m.%Y"
            raise piece.refusal(
                0, self.column, holds, f"it must hold ISO dates, timestamps or numbers; {say}"
            )
        stamps = self._text.parse(text)
        advice = f"write all stamps like {quoted(text[0])}, or say how by `time_format`"
        if given is not None:
            advice = f"it is not written as `time_format` {given!r} says"
        piece.refuse(stamps.is_null(), self.column, holds, advice)
        in_utc = zone_of(stamps) is None or text.str.contains(r"(Z|[+-]00:?(00)?)$").all()
        if not (in_utc or self.time_zone is not None or self.notes):
            zone = "`time_zone` gives the calendar its zone"
            self.notes.append(f"{quoted(self.column)} has UTC offsets: it is read as UTC ({zone}).")
        return stamps

    def _compact_dates(self, piece: Piece, stamps: pl.Series) -> pl.Series:
        """Integers as dates, if all of the first piece are dates such as 20240131."""
        dates, advice = None, "for numbers, give one as `frequency`"
        if self._compact or (self.axis is None and stamps.is_between(18_000_000, 21_999_999).all()):
            dates = stamps.cast(pl.String).str.to_date(COMPACT, strict=False)
        if self.axis is None and dates is not None and not dates.has_nulls():
            self._compact = True
            self.notes.append(f"{quoted(self.column)} is read as dates YYYYMMDD; {advice}.")
        if not self._compact or dates is None:
            return stamps
        piece.refuse(dates.is_null(), self.column, "holds {} after dates such as 20240131 in", advice)
        return dates

    def _find_axis(self, stamps: pl.Series) -> Axis:
        """The axis of the first stamps."""
        dtype: Any = stamps.dtype
        if self.time_zone is not None:
            option = f"`time_zone` {self.time_zone}"
            if not isinstance(dtype, pl.Datetime):
                column = f"column {quoted(self.column)} holds {dtype}"
                raise InputError(f"{option}: {column}, which has no clock: drop it.")
            try:
                pl.Series([0]).cast(pl.Datetime("us", self.time_zone))
            except pl.exceptions.PolarsError as error:
                raise InputError(f"{option} is no time zone ({reason(error)}).") from error
            return Axis(pl.Datetime(dtype.time_unit, self.time_zone))
        if dtype.is_temporal():
            return Axis(dtype)
        if dtype.is_integer() and (self.number is None or self.number % 1 == 0):
            return Axis(pl.Int64)
        largest: Any = max(1.0, stamps.cast(pl.Float64).abs().max())  # type: ignore[type-var]
        return Axis(pl.Float64, 10 ** int(np.clip(15 - np.ceil(np.log10(largest)), 0, 9)))

    def _require_fit(self, piece: Piece, stamps: pl.Series, axis: Axis) -> None:
        """Stamps must be of the kind of the axis, and within it."""
        dtype, kinds = stamps.dtype, (pl.Date, pl.Datetime, pl.Float64)
        numbers = (
            not axis.day and not dtype.is_temporal() and (axis.dtype == pl.Float64 or dtype.is_integer())
        )
        alike = numbers or [dtype == kind for kind in kinds] == [axis.dtype == kind for kind in kinds]
        if not alike or (zone_of(stamps) is not None and axis.zone is None):
            raise piece.refusal(
                0, self.column, f"holds {axis.dtype} at first and {dtype} in", "make it one kind"
            )
        if axis.day:
            low, high = max(FIRST_DAY * axis.day, -LARGEST), min((LAST_DAY + 1) * axis.day - 1, LARGEST)
            wrong = ~stamps.to_physical().cast(pl.Int64).is_between(low, high)
            years = "1824 to 2115, which nanoseconds can tell," if high == LARGEST else "1 to 9999"
            piece.refuse(wrong, self.column, f"has a year outside {years} in", "correct it")
        else:
            wrong = stamps.cast(pl.Float64).abs() * axis.scale >= LARGEST
            piece.refuse(wrong, self.column, "has {}, too large a number, in", "subtract a constant")

    def _in_zone(self, piece: Piece, stamps: pl.Series, series: np.ndarray, zone: str) -> pl.Series:
        """Clocks read in the zone; the second time that one series shows an hour is the later one."""
        early = stamps.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        late = stamps.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")
        what = f"has {{}}, an hour that clocks in `time_zone` {zone} skip, in"
        piece.refuse(early.is_null(), self.column, what, "drop the option if they are not set forward")
        clocks, again = stamps.to_physical(), []
        for row in (early != late).arg_true().to_list():
            key = int(series[row]), clocks[row]
            again += [row] if key in self._seen else []
            self._seen.add(key)
        return early.scatter(again, late.gather(again)) if again else early


def zone_of(stamps: pl.Series) -> str | None:
    """The time zone of datetimes; None for other stamps."""
    return getattr(stamps.dtype, "time_zone", None)
