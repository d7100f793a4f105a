"""Time stamps as they are written in tables: read without guessing, remembered to be written alike."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rnn_lightning.data.table.times import COMPACT, compact_dates
from rnn_lightning.data.table.zones import offset_durations
from rnn_lightning.errors import InputError

if TYPE_CHECKING:
    import polars as pl

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
DATETIME = re.compile(
    r"\d{4}-\d{2}-\d{2}([T ])\d{2}:\d{2}(:\d{2})?(\.\d+)?\s?(Z|[+-]\d{2}:?\d{2}|[+-]\d{2})?"
)
OFFSET = r"(Z|[+-]\d{2}:?\d{2}|[+-]\d{2})$"


class MoreRowsNeeded(Exception):
    """What was read so far was understood wrongly, in the light of later rows; says why."""


class StampReader:
    """Turns the column of time stamps, piece by piece, into integers, floats, dates or datetimes.

    Args:
        column: name of the column.
        time_format: how the stamps are written, in the notation of ``strftime``; None for ISO and numbers.
        time_zone: where the clocks hang; None to keep the stamps as they are.
        whole: all pieces are joined: integers may become floats later, and dates by ``settle`` after the last
        one.
        compact: integers that are all dates, such as 20240131, are read as such.

    Attributes:
        written: how the column was written, in the notation of ``strftime``; None for dates in ISO and
        numbers.
        dtype: type of the stamps, after the first piece.
        notes: what a user should know, a sentence each.
    """

    def __init__(
        self,
        column: str,
        time_format: str | None,
        time_zone: str | None,
        whole: bool = False,
        compact: bool = False,
    ) -> None:
        self.column, self.time_format, self.time_zone, self.whole = column, time_format, time_zone, whole
        self._compact = None if compact else False  # None before the first integers
        self.written = time_format
        self.raw_dtype: Any = None
        self.dtype: Any = None
        self._form: str | None = (
            None  # of text: "number", "date", or the strftime notation of all but the offset
        )
        self._has_offset: bool | None = None
        self._first = ""
        self._offsets: set[str] = set()

    @property
    def notes(self) -> list[str]:
        if self._compact:
            return [
                f"{self.column!r} is read as dates YYYYMMDD; for numbers, give one as --data.series.frequency."
            ]
        offsets = {offset if set(offset) & set("123456789") else "Z" for offset in self._offsets}
        if self.time_zone is not None or offsets <= {"Z"}:
            return []
        what = "several UTC offsets" if len(offsets) > 1 else f"the UTC offset {offsets.pop()}"
        zone = "--data.series.time_zone gives the calendar its zone"
        return [f"{self.column!r} has {what}: it is read as UTC ({zone})."]

    def read(self, raw: "pl.Series", place: Callable[[int], str]) -> "pl.Series":
        """The stamps of some rows.

        Args:
            raw: the column.
            place: says where a row of it is.

        Raises:
            InputError: names a row that cannot be read.
            MoreRowsNeeded: if the stamps were integers so far and are floats now, or dates as integers and
                are none now.
        """
        import polars as pl

        self.raw_dtype = raw.dtype if self.raw_dtype is None else self.raw_dtype
        self._refuse(raw, raw.is_null(), place, "has no value in", "fill or drop it")
        if self.time_format is not None and not raw.dtype.is_temporal():
            raw = raw.cast(pl.String)
        elif self.time_format is not None:
            raise InputError(
                f"--data.series.time_format is for text, and column {self.column!r} holds {raw.dtype}: drop it."
            )
        stamps = self._read_text(raw, place) if raw.dtype == pl.String else self._read_typed(raw, place)
        stamps = self._in_zone(stamps)
        stamps = stamps if self.whole else self.settle(stamps)
        if self.dtype == pl.Float64 and stamps.dtype == pl.Int64:
            stamps = stamps.cast(pl.Float64)
        if self.dtype is not None and self.dtype != stamps.dtype:
            if (self.dtype == pl.Int64 or self._compact) and stamps.dtype == pl.Float64:
                if self.whole:
                    self.dtype = pl.Float64
                    return stamps
                raise MoreRowsNeeded(f"{self.column!r} holds fractions after whole numbers")
            raise InputError(
                f"column {self.column!r} is {self.dtype} at first and {stamps.dtype} in {place(0)}: make it one."
            )
        self.dtype = stamps.dtype
        return stamps

    def settle(self, stamps: "pl.Series") -> "pl.Series":
        """Stamps as dates, if they are integers and all of them, and of the pieces before, are dates such as 20240131."""
        import polars as pl

        if self._compact is False or stamps.dtype != pl.Int64:
            return stamps
        dates = compact_dates(stamps)
        if dates is None and self._compact:
            raise MoreRowsNeeded(f"{self.column!r} holds other numbers after dates such as 20240131")
        self._compact = dates is not None
        if dates is None:
            return stamps
        self.dtype, self.written = pl.Date, COMPACT
        return dates

    def _refuse(
        self, raw: "pl.Series", wrong: "pl.Series", place: Callable[[int], str], what: str, advice: str
    ) -> None:
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            text = f", such as {raw[row]!r} in" if what.endswith("text") else ""
            raise InputError(f"column {self.column!r} {what}{text} {place(row)}: {advice}.")

    def _read_typed(self, raw: "pl.Series", place: Callable[[int], str]) -> "pl.Series":
        import polars as pl

        if raw.dtype == pl.Date or isinstance(raw.dtype, pl.Datetime):
            return raw
        if raw.dtype.is_integer():
            return raw.cast(pl.Int64)
        if not raw.dtype.is_numeric():
            raise InputError(
                f"column {self.column!r} holds {raw.dtype}: it must hold dates, timestamps, numbers or text."
            )
        numbers = raw.cast(pl.Float64)
        self._refuse(raw, ~numbers.is_finite(), place, "has no finite value in", "fill or drop it")
        return numbers

    def _read_text(self, text: "pl.Series", place: Callable[[int], str]) -> "pl.Series":
        import polars as pl

        text = text.str.strip_chars()
        if self._form is None:
            self._first = str(text[0]) if len(text) else ""
            self._form = self._find_form(text, place)
        if self.time_format is not None:
            return self._read_format(text, place)
        advice = (
            f"write all stamps like the first one, {self._first!r}, or say how by --data.series.time_format"
        )
        if self._form == "number":
            numbers = text.cast(pl.Int64, strict=False)
            if numbers.null_count():
                numbers = text.cast(pl.Float64, strict=False)
                numbers = numbers.zip_with(numbers.is_finite(), pl.Series([None], dtype=pl.Float64))
        elif self._form == "date":
            numbers = text.str.to_date("%Y-%m-%d", strict=False)
        else:
            return self._read_datetime(text, place, advice)
        self._refuse(text, numbers.is_null(), place, "holds text", advice)
        return numbers

    def _find_form(self, text: "pl.Series", place: Callable[[int], str]) -> str:
        """How the first stamp is written."""
        first = self._first
        if self.time_format is not None or NUMBER.fullmatch(first):
            return "number"
        if DATE.fullmatch(first):
            return "date"
        match = DATETIME.fullmatch(first)
        if match is None:
            raise InputError(
                f"column {self.column!r} holds text, such as {first!r} in {place(0)}: it must hold ISO dates, timestamps or "
                "numbers; say how it is written by --data.series.time_format, such as %d.%m.%Y."
            )
        separator, seconds, fraction, offset = match.groups()
        digits = len(fraction) - 1 if fraction else 0
        form = f"%Y-%m-%d{separator}%H:%M" + ("" if seconds is None else "%S%.f".replace("%S", ":%S"))
        shown = form.replace("%.f", f"%.{digits}f") if digits in (3, 6, 9) else form
        if offset == "Z" and self.time_zone is None:
            shown += "Z"
        elif offset is not None:
            shown += "%:z" if ":" in offset or offset == "Z" else "%z"
        self.written = shown
        return form

    def _read_datetime(self, text: "pl.Series", place: Callable[[int], str], advice: str) -> "pl.Series":
        """Datetimes in ISO: the clock, less the offset where there is one."""
        offsets = text.str.slice(10).str.extract(OFFSET)
        has_offset = offsets.is_not_null()
        self._refuse_mixed_zones(text, has_offset, place)
        if not has_offset.any():
            stamps = text.str.to_datetime(self._form, time_unit="us", strict=False)
            self._refuse(text, stamps.is_null(), place, "holds text", advice)
            return stamps
        self._offsets |= set(offsets.unique())
        clock = text.str.replace(r"\s?" + OFFSET, "").str.to_datetime(
            self._form, time_unit="us", strict=False
        )
        self._refuse(text, clock.is_null(), place, "holds text", advice)
        return (clock - offset_durations(offsets)).dt.replace_time_zone("UTC")

    def _refuse_mixed_zones(
        self, text: "pl.Series", has_offset: "pl.Series", place: Callable[[int], str]
    ) -> None:
        if self._has_offset is None:
            self._has_offset = bool(has_offset[0])
        wrong = has_offset != self._has_offset
        if wrong.any() and DATETIME.fullmatch(text[int(wrong.arg_max() or 0)]):
            row = int(wrong.arg_max() or 0)
            one, other = ("with", "without") if self._has_offset else ("without", "with")
            raise InputError(
                f"column {self.column!r} mixes stamps {one} a time zone, such as {self._first!r}, and {other}, such as "
                f"{text[row]!r} in {place(row)}: write all of them alike."
            )

    def _read_format(self, text: "pl.Series", place: Callable[[int], str]) -> "pl.Series":
        """Dates or datetimes in the format that the user gave; a month or a year alone is its first day."""
        import polars as pl

        given, form = text, str(self.time_format)
        if not re.search(r"%-?[dejDFxcsvu+]|%-?[UW]", form):
            if not re.search(r"%-?[mbBh]", form):
                text, form = text + " 01", form + " %m"
            text, form = text + " 01", form + " %d"
        has_time = re.search(r"%-?[HIklTRXscr+]", form)
        if has_time and not re.search(r"%-?[MTRXscr+]", form):
            text, form = text + " 00", form + " %M"
        stamps = pl.Series([None] * len(text), dtype=pl.Date)
        try:
            if has_time:
                stamps = text.str.to_datetime(form, time_unit="us", strict=False)
            else:
                stamps = text.str.to_date(form, strict=False)
        except pl.exceptions.PolarsError as error:
            option = f"--data.series.time_format {self.time_format!r}"
            raise InputError(f"{option} is no format ({first_line(error)}).") from error
        advice = f"it is not written as --data.series.time_format {self.time_format!r} says"
        self._refuse(given, stamps.is_null(), place, "holds text", advice)
        return stamps

    def _in_zone(self, stamps: "pl.Series") -> "pl.Series":
        """Stamps that have a zone, in the one that the user gave; the others are left to ``declare_zone``."""
        import polars as pl

        if self.time_zone is None:
            return stamps
        if not isinstance(stamps.dtype, pl.Datetime):
            raise InputError(
                f"--data.series.time_zone {self.time_zone}: column {self.column!r} holds {stamps.dtype}, which has no "
                "clock: drop it."
            )
        try:
            zoned = stamps.dt.replace_time_zone("UTC") if stamps.dtype.time_zone is None else stamps
            zoned = zoned.dt.convert_time_zone(self.time_zone)
        except pl.exceptions.PolarsError as error:
            raise InputError(
                f"--data.series.time_zone {self.time_zone!r} is no time zone ({first_line(error)})."
            ) from error
        return stamps if stamps.dtype.time_zone is None else zoned


def first_line(error: Exception) -> str:
    """Polars' messages go on with hints for programmers."""
    return (str(error).splitlines() or ["no reason given"])[0]
