"""Time stamps as they are written in tables: read without guessing, remembered to be written alike."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from rnn_lightning.data.table.files import reason
from rnn_lightning.data.times import from_ticks, local_ticks, ticks_of_day
from rnn_lightning.errors import InputError, quoted

ISO_DATE = "%Y-%m-%d"
ISO = [ISO_DATE, *(f"{ISO_DATE}{t}%H:%M{s}{z}" for t in "T " for s in ("", ":%S%.f") for z in ("", "%#z"))]
COMPACT = "%Y%m%d"
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
DAY_PARTS, MONTH_PARTS = r"%-?[dejDFxcsvu+UW]", r"%-?[mbBh]"
CLOCK_PARTS, MINUTE_PARTS = r"%-?[HIklTRXscr+]", r"%-?[MTRXscr+]"
FIRST_DAY, LAST_DAY = -719_162, 2_932_896
"""From 0001-01-01 to 9999-12-31, counted from 1970-01-01."""
LARGEST = 2**62
"""Differences of integers up to this one are integers of 64 bits."""


class Piece(NamedTuple):
    """Some rows of a table.

    Attributes:
        frame: the columns in use.
        numbers: of the rows in the table, from 0.
        name: of the table.
    """

    frame: pl.DataFrame
    numbers: Sequence[int] | np.ndarray
    name: str

    def refuse(self, wrong: pl.Series, column: str, what: str, advice: str) -> None:
        """Raise InputError for the first of the rows that are ``wrong``; ``{}`` in ``what`` is its cell."""
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            cell = self.frame[column][row] if "{}" in what else ""
            what = what.replace("{}", quoted(cell) if isinstance(cell, str) else str(cell))
            place = f"data row {self.numbers[row] + 1} of {self.name}"
            raise InputError(f"column {quoted(column)} {what} {place}: {advice}.")


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
        """The way back."""
        return (
            pl.Series(np.round(ticks / self.scale, 9))
            if self.dtype == pl.Float64
            else from_ticks(ticks, self.dtype)
        )

    def local(self, ticks: np.ndarray) -> np.ndarray:
        """The ticks of what the clocks of the time zone show."""
        return local_ticks(self.stamps(ticks)) if self.zone is not None else ticks


class StampReader:
    """Turns the column of time stamps, piece by piece, into ticks of one axis.

    Args:
        column: its name.
        time_format: how text is written, in the notation of ``strftime``; None for ISO and numbers.
        time_zone: where the clocks hang; None to keep the stamps as they are.
        number: the frequency, if it is a number: integers are then no dates, and a fraction makes them
            fractions.

    Attributes:
        axis: after the first piece.
        written: how the column is written, in the notation of ``strftime``; None for dates in ISO and
            numbers.
        notes: what a user should know, a sentence each.
    """

    def __init__(
        self, column: str, time_format: str | None, time_zone: str | None, number: float | None
    ) -> None:
        self.column, self.time_format, self.time_zone, self.number = column, time_format, time_zone, number
        self.axis: Axis | None = None
        self.written = time_format
        self.notes: list[str] = []
        self._form = ""  # of text: "number", or in the notation of strftime
        self._seen: set[tuple[int, int]] = set()  # hours that a series has shown once

    def read(self, piece: Piece, series: np.ndarray) -> np.ndarray:
        """The ticks of some rows.

        Raises:
            InputError: names a row that cannot be read.
        """
        raw = piece.frame[self.column]
        piece.refuse(raw.is_null(), self.column, "has no value in", "fill or drop it")
        if self.time_format is not None and raw.dtype.is_temporal():
            raise InputError(
                f"--data.series.time_format is for text, and column {quoted(self.column)} holds "
                f"{raw.dtype}: drop it."
            )
        text = raw.dtype == pl.String or self.time_format is not None
        stamps = self._read_text(piece, raw.cast(pl.String)) if text else self._read_typed(piece, raw)
        stamps = self._compact_dates(piece, stamps) if stamps.dtype.is_integer() else stamps
        if self.axis is None:
            self.axis = self._find_axis(stamps)
        return self._ticks(piece, stamps, series, self.axis)

    def _read_typed(self, piece: Piece, raw: pl.Series) -> pl.Series:
        if raw.dtype == pl.Date or isinstance(raw.dtype, pl.Datetime):
            return raw
        if raw.dtype.is_integer():
            stamps = raw.cast(pl.Int64, strict=False)
            wrong = stamps.is_null() | (stamps > LARGEST) | (stamps < -LARGEST)
            piece.refuse(wrong, self.column, "has the number {}, beyond 62 bits, in", "subtract a constant")
            return stamps
        if not raw.dtype.is_numeric():
            raise InputError(
                f"column {quoted(self.column)} holds {raw.dtype}: it must hold dates, timestamps, numbers "
                "or text."
            )
        # the shortest decimals of float32: 0.1 is not 0.10000000149
        numbers = raw.cast(pl.String).cast(pl.Float64) if raw.dtype == pl.Float32 else raw.cast(pl.Float64)
        piece.refuse(~numbers.is_finite(), self.column, "has no finite value in", "fill or drop it")
        return numbers

    def _read_text(self, piece: Piece, raw: pl.Series) -> pl.Series:
        text = raw.str.strip_chars()
        if not self._form:
            self._form = self._find_form(piece, text[0])
        if self._form == "number":
            stamps = text.cast(pl.Int64, strict=False)
            if stamps.null_count():
                stamps = text.cast(pl.Float64, strict=False)
                stamps = stamps.set(~stamps.is_finite(), None)
        else:
            stamps = self._parse(text)
        advice = (
            f"write all stamps like the first one, {quoted(text[0])}, or say how by --data.series.time_format"
        )
        if self.time_format is not None:
            advice = f"it is not written as --data.series.time_format {self.time_format!r} says"
        piece.refuse(stamps.is_null(), self.column, "holds text, such as {} in", advice)
        return stamps

    def _find_form(self, piece: Piece, first: str) -> str:
        """The format of all stamps, by the first one; a month or a year alone gets a day, an hour minutes."""
        if self.time_format is not None:
            form = self.time_format
            if not re.search(DAY_PARTS, form):
                form += (" %m" if not re.search(MONTH_PARTS, form) else "") + " %d"
            return form + " %M" * bool(re.search(CLOCK_PARTS, form) and not re.search(MINUTE_PARTS, form))
        if NUMBER.fullmatch(first):
            return "number"
        for form in ISO:
            if not pl.Series([first]).str.to_datetime(form, strict=False).has_nulls():
                self.written = self._written(form, first) if form != ISO_DATE else None
                return form
        advice = (
            "it must hold ISO dates, timestamps or numbers; say how it is written by "
            "--data.series.time_format, such as %d.%m.%Y"
        )
        first_row = pl.int_range(piece.frame.height, eager=True) == 0
        piece.refuse(first_row, self.column, "holds text, such as {} in", advice)
        raise AssertionError

    def _written(self, form: str, first: str) -> str:
        """The form with as many digits of a second, and the kind of offset, as the first stamp has."""
        fraction = re.search(r"\.(\d{3}|\d{6}|\d{9})(?!\d)", first)
        offset = "%:z" if first[-1] == "Z" or first[-3] == ":" else "%z"
        offset = "Z" if first[-1] == "Z" and self.time_zone is None else offset
        return form.replace("%.f", f"%.{len(fraction[1])}f" if fraction else "%.f").replace("%#z", offset)

    def _parse(self, text: pl.Series) -> pl.Series:
        """Dates or datetimes of text in the form that was found; null where they are not written so."""
        added = self._form[len(self.time_format) :] if self.time_format is not None else ""
        text = text + added.replace("%m", "01").replace("%d", "01").replace("%M", "00") if added else text
        try:
            if not re.search(CLOCK_PARTS, self._form):
                return text.str.to_date(self._form, strict=False)
            stamps = text.str.to_datetime(self._form, time_unit="us", strict=False)
        except pl.exceptions.PolarsError as error:
            raise InputError(
                f"--data.series.time_format {self.time_format!r} is no format ({reason(error)})."
            ) from error
        zoned = getattr(stamps.dtype, "time_zone", None) is not None
        if (
            zoned
            and self.time_zone is None
            and not self.notes
            and not text.str.contains(r"(Z|[+-]00:?(00)?)$").all()
        ):
            zone = "--data.series.time_zone gives the calendar its zone"
            self.notes.append(f"{quoted(self.column)} has UTC offsets: it is read as UTC ({zone}).")
        return stamps

    def _compact_dates(self, piece: Piece, stamps: pl.Series) -> pl.Series:
        """Integers as dates, if all of the first piece are dates such as 20240131."""
        if self.time_format is not None or self.number is not None:
            return stamps
        first = self.axis is None and bool(stamps.is_between(18_000_000, 21_999_999).all())
        if first and not stamps.cast(pl.String).str.to_date(COMPACT, strict=False).has_nulls():
            self.written = COMPACT
            number = "for numbers, give one as --data.series.frequency"
            self.notes.append(f"{quoted(self.column)} is read as dates YYYYMMDD; {number}.")
        if self.written != COMPACT:
            return stamps
        dates = stamps.cast(pl.String).str.to_date(COMPACT, strict=False)
        advice = "for numbers, give one as --data.series.frequency"
        piece.refuse(dates.is_null(), self.column, "holds {} after dates such as 20240131 in", advice)
        return dates

    def _find_axis(self, stamps: pl.Series) -> Axis:
        """The axis of the first stamps."""
        dtype: Any = stamps.dtype
        if self.time_zone is None and dtype.is_temporal():
            return Axis(dtype)
        if self.time_zone is None:
            if dtype.is_integer() and (self.number is None or self.number % 1 == 0):
                return Axis(pl.Int64)
            largest: Any = stamps.abs().max()
            return Axis(pl.Float64, 10 ** int(np.clip(15 - np.ceil(np.log10(max(1.0, largest))), 0, 9)))
        option = f"--data.series.time_zone {self.time_zone}"
        if not isinstance(dtype, pl.Datetime):
            raise InputError(
                f"{option}: column {quoted(self.column)} holds {dtype}, which has no clock: drop it."
            )
        try:
            pl.Series([0]).cast(pl.Datetime("us", self.time_zone))
        except pl.exceptions.PolarsError as error:
            raise InputError(f"{option} is no time zone ({reason(error)}).") from error
        return Axis(pl.Datetime(dtype.time_unit, self.time_zone))

    def _ticks(self, piece: Piece, stamps: pl.Series, series: np.ndarray, axis: Axis) -> np.ndarray:
        """Ticks of stamps that fit the axis."""
        dtype, advice = stamps.dtype, "make it one kind"
        other = dtype.is_temporal() != axis.dtype.is_temporal() or (dtype == pl.Date) != (
            axis.dtype == pl.Date
        )
        zoned = getattr(dtype, "time_zone", None) is not None
        other |= (zoned and axis.zone is None) or (dtype.is_float() and axis.dtype == pl.Int64)
        what = f"holds {axis.dtype} at first and {dtype} in"
        piece.refuse(pl.repeat(other, len(stamps), eager=True), self.column, what, advice)
        if axis.dtype == pl.Float64:
            wrong = stamps.cast(pl.Float64).abs() * axis.scale > LARGEST
            piece.refuse(
                wrong, self.column, "has {}, much larger than the first ones, in", "write whole numbers"
            )
        elif axis.day:
            low, high = max(FIRST_DAY * axis.day, -LARGEST), min((LAST_DAY + 1) * axis.day - 1, LARGEST)
            wrong = ~stamps.to_physical().cast(pl.Int64).is_between(low, high)
            years = "1824 to 2115, which nanoseconds can tell," if high == LARGEST else "1 to 9999"
            piece.refuse(wrong, self.column, f"has a year outside {years} in", "correct it")
        if self.time_zone is not None and not zoned:
            stamps = self._in_zone(piece, stamps, series, self.time_zone)
        return axis.ticks(stamps)

    def _in_zone(self, piece: Piece, stamps: pl.Series, series: np.ndarray, zone: str) -> pl.Series:
        """Clocks read in the zone; the second time that one series shows an hour is the later one."""
        clocks = stamps.to_physical()
        early, late = (
            stamps.dt.replace_time_zone(zone, ambiguous=which, non_existent="null")
            for which in ("earliest", "latest")
        )
        what = f"has {{}}, an hour that clocks in --data.series.time_zone {zone} skip, in"
        piece.refuse(early.is_null(), self.column, what, "drop the option if they are not set forward")
        twice = (early != late).arg_true().to_list()
        again = []
        for row in twice:
            key = int(series[row]), clocks[row]
            again += [row] if key in self._seen else []
            self._seen.add(key)
        return early.scatter(again, late.gather(again)) if again else early
