"""Time stamps of a table, read without guessing and written back in the format they came in."""

import re

import numpy as np
import polars as pl

from rnn_lightning.errors import InputError, quoted
from rnn_lightning.tables.calendar import Axis
from rnn_lightning.tables.files import TableChunk, first_line
from rnn_lightning.tables.options import TableOptions
from rnn_lightning.tables.stamp_formats import (
    MONTH_OF_YEAR,
    WrittenForm,
    detect_text_form,
    find_digit_form,
    first_of_century,
    in_century,
    parse,
    shown,
    suggest_form,
    width_of,
)

ISO_DATE = "%Y-%m-%d"
ISO = [ISO_DATE, *(f"{ISO_DATE}{t}%H:%M{s}{z}" for t in "T " for s in ("", ":%S%.f") for z in ("", "%#z"))]
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

FIRST_DAY, LAST_DAY = -719_162, 2_932_896
"""0001-01-01 and 9999-12-31, counted from 1970-01-01."""

NUMBERED_DATES = {
    "Excel's numbers of days": (32_874, 58_440),
    **{
        f"{unit} since 1970": (946_684_800 * 10**power, 2_208_988_800 * 10**power)
        for power, unit in ((0, "seconds"), (3, "milliseconds"), (6, "microseconds"), (9, "nanoseconds"))
    },
}
"""Numbers that stand for days from 1990 to 2059, and for times from 2000 to 2040."""

MISWRITTEN = {
    r"[T ]24:00(:00)?$": "hour 24 is hour 0 of the next day: write it so",
    r"^-?\d+,\d+$": "write times with a decimal point",
    r"^\d{4}[-/]\d\d$": "write the first year of a season of two, such as 2001",
}
"""Text that is no stamp, and what to do about it."""

LARGEST_TICK = 2**62
"""Differences of integers up to this one fit into 64 bits."""


class StampReader:
    """Turns the column of time stamps into the ticks of one axis, chunk by chunk.

    Args:
        options: how the table is read. If the frequency is a number, integers are not dates; if it has a
            fraction, they are not whole numbers either.

    Attributes:
        axis: the axis, after the first chunk.
        notes: what a user should know, a sentence each.
    """

    axis: Axis

    def __init__(self, options: TableOptions) -> None:
        self.column, self.zone, frequency = options.time_column, options.time_zone, options.parsed_frequency
        self.number = frequency.size if frequency is not None and frequency.unit == "number" else None
        self.notes: list[str] = []
        self.is_calendar = frequency is not None and self.number is None
        self._text = TextForm(options.time_format, self.zone is not None)
        self._digits, self._digits_written, self._started, self._told = "", "", False, False
        self._digits_form: WrittenForm | None = None
        self._seen: set[tuple[int, int]] = set()  # hours that clocks show twice, by series

    @property
    def written(self) -> str | None:
        """The format of the column, in the notation of ``strftime``; None for dates in ISO and numbers."""
        return self._digits_written or self._text.written

    def read(self, chunk: TableChunk, series: np.ndarray) -> np.ndarray:
        """Return the ticks of some rows, whose series have the numbers ``series (row,)``.

        Raises:
            InputError: names a row that cannot be read.
        """
        raw, given = chunk.frame[self.column], self._text.time_format is not None
        chunk.refuse(raw.is_null(), self.column, "has no value in", "fill or drop it")
        stamps = self._read_text(chunk, raw) if given or raw.dtype == pl.String else self._typed(chunk, raw)
        if stamps.dtype.is_numeric() and self.number is None and not given:
            stamps = self._digit_dates(chunk, raw, stamps)
        if not self._started:
            self.axis, self._started = self._find_axis(stamps), True
            for what, (low, high) in NUMBERED_DATES.items() if self.number is None else ():
                if stamps.dtype.is_integer() and stamps.is_between(low, high).all():
                    dates = f"if they are {what}, save the column as dates, so that seasons are known"
                    self.notes.append(f"{quoted(self.column)} is read as plain numbers: {dates}.")
        self._require_fit(chunk, stamps)
        if self.zone is not None and zone_of(stamps) is None:
            stamps = self._in_zone(chunk, stamps, series, self.zone)
        return self.axis.ticks(stamps)

    def _typed(self, chunk: TableChunk, raw: pl.Series) -> pl.Series:
        if raw.dtype == pl.Date or isinstance(raw.dtype, pl.Datetime):
            return raw
        if raw.dtype.is_integer():
            return raw.cast(pl.Int64, strict=False).fill_null(2 * LARGEST_TICK - 1)
        if not raw.dtype.is_numeric():
            kinds = "dates, timestamps, numbers or text"
            raise InputError(f"column {quoted(self.column)} holds {raw.dtype}: it must hold {kinds}.")
        # the shortest decimals of float32: 0.1 is not 0.10000000149
        numbers = raw.cast(pl.String).cast(pl.Float64) if raw.dtype == pl.Float32 else raw.cast(pl.Float64)
        chunk.refuse(~numbers.is_finite(), self.column, "has no finite value in", "fill or drop it")
        return numbers

    def _read_text(self, chunk: TableChunk, raw: pl.Series) -> pl.Series:
        given, holds = self._text.time_format, "holds text, such as {} in"
        if raw.dtype.is_temporal():
            column = f"column {quoted(self.column)} holds {raw.dtype}"
            raise InputError(f"`time_format` is for text, and {column}: drop it.")
        text = raw.cast(pl.String).str.strip_chars()
        if not self._text.form and not self._text.detect_format(text):
            advice, form = "it must hold ISO dates, timestamps or numbers", suggest_form(text)
            other = f"; give its format by `time_format`, such as {form}"
            self._refuse_miswritten(chunk, text)
            raise chunk.refusal(0, self.column, holds, advice + (other if form else ", such as 2020-01-31"))
        stamps = self._text.parse(text)
        if stamps.has_nulls():
            self._refuse_miswritten(chunk, text)
        advice = (
            f"write all stamps like {quoted(text[0])}, give their format by `time_format`, or drop the row"
        )
        if given is not None:
            advice = f"it does not have the `time_format` {given!r}"
        chunk.refuse(stamps.is_null(), self.column, holds, advice)
        in_utc = zone_of(stamps) is None or text.str.contains(r"(Z|[+-]00:?(00)?)$").all()
        if not (in_utc or self.zone is not None or self._told):
            self._told = True
            zone = "`time_zone` gives the calendar its zone"
            self.notes.append(f"{quoted(self.column)} has UTC offsets: it is read as UTC ({zone}).")
        return stamps

    def _refuse_miswritten(self, chunk: TableChunk, text: pl.Series) -> None:
        for pattern, remedy in MISWRITTEN.items():
            chunk.refuse(text.str.contains(pattern), self.column, "holds text, such as {} in", remedy)

    def _digit_dates(self, chunk: TableChunk, raw: pl.Series, numbers: pl.Series) -> pl.Series:
        """Return numbers as dates, if those of the first chunk are dates such as 20240131 or 201912."""
        digits = raw.cast(pl.String).str.strip_chars()
        point = ".0" if digits.str.ends_with(".0").all() else ""  # whole numbers that went through floats
        digits = digits.str.strip_suffix(point)
        advice = "for numbers, give one as `frequency`"
        if not self._started and digits.str.contains(r"^(\d{5,}|\d{4}\.\d\d?)$").all():
            self._digits, possible = find_digit_form(digits)
            if possible and not self._digits:
                if not (self.is_calendar and len(possible) == 1):
                    forms = " or ".join(possible)
                    what = (
                        f"has {{}}, which can be a date ({' or '.join(map(shown, possible))}) or a number, in"
                    )
                    raise chunk.refusal(0, self.column, what, f"give `time_format` {forms}; {advice}")
                self._digits = possible[0]
            if self._digits:
                note = f"{quoted(self.column)} is read as dates {shown(self._digits)}; {advice}."
                self.notes.append(note)
        if not self._digits:
            return numbers
        dates = self._text.in_century(
            parse(digits.str.zfill(width_of(self._digits)), self._digits), self._digits
        )
        self._digits_form = self._digits_form or WrittenForm(self._digits)
        self._digits_written = self._digits_form.observe(digits, dates) + point
        chunk.refuse(dates.is_null(), self.column, f"holds {{}} after dates {shown(self._digits)} in", advice)
        return dates

    def _find_axis(self, stamps: pl.Series) -> Axis:
        """Return the axis of the first stamps."""
        dtype = stamps.dtype
        if self.zone is not None:
            option = f"`time_zone` {self.zone}"
            if not isinstance(dtype, pl.Datetime):
                column = f"column {quoted(self.column)} holds {dtype}"
                raise InputError(f"{option}: {column}, which has no time of day: remove this option.")
            try:
                pl.Series([0]).cast(pl.Datetime("us", self.zone))
            except pl.exceptions.PolarsError as error:
                raise InputError(f"{option} is not a time zone ({first_line(error)}).") from error
            return Axis(pl.Datetime(dtype.time_unit, self.zone))
        if dtype.is_temporal():
            return Axis(dtype)
        if dtype.is_integer() and (self.number is None or self.number % 1 == 0):
            return Axis(pl.Int64)
        largest = stamps.cast(pl.Float64).abs().to_numpy().max(initial=1.0)
        return Axis(pl.Float64, 10 ** int(np.clip(15 - np.ceil(np.log10(largest)), 0, 9)))

    def _require_fit(self, chunk: TableChunk, stamps: pl.Series) -> None:
        """Refuse stamps that are not of the kind of the axis, or not within it."""
        axis, dtype, day = self.axis, stamps.dtype, self.axis.ticks_per_day
        fits = dtype.base_type() == axis.dtype.base_type()
        fits |= axis.dtype == pl.Float64 and dtype.is_integer()
        if not fits or (zone_of(stamps) is not None and axis.zone is None):
            what = f"holds {axis.dtype} at first and {dtype} in"
            raise chunk.refusal(0, self.column, what, "make it one kind")
        if day:
            low, high = max(FIRST_DAY * day, -LARGEST_TICK), min((LAST_DAY + 1) * day - 1, LARGEST_TICK)
            wrong = ~stamps.to_physical().cast(pl.Int64).is_between(low, high)
            years = "1824 to 2115, which nanoseconds can tell," if high == LARGEST_TICK else "1 to 9999"
            chunk.refuse(wrong, self.column, f"has a year outside {years} in", "correct it")
        else:
            wrong = stamps.cast(pl.Float64).abs() * axis.scale >= LARGEST_TICK
            chunk.refuse(wrong, self.column, "has {}, too large a number, in", "subtract a constant")

    def _in_zone(self, chunk: TableChunk, stamps: pl.Series, series: np.ndarray, zone: str) -> pl.Series:
        """Read clocks in the zone; the second time that a series shows an hour is the later one."""
        early = stamps.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        late = stamps.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")
        what = f"has {{}}, an hour that clocks in `time_zone` {zone} skip, in"
        chunk.refuse(early.is_null(), self.column, what, "drop the option if they are not set forward")
        clocks, again = stamps.to_physical(), []
        twice = (early != late).arg_true().to_list()
        is_falling = 2 * int((clocks.diff() < 0).sum()) > len(clocks)  # newest first
        for row in reversed(twice) if is_falling else twice:
            key = int(series[row]), clocks[row]
            again += [row] if key in self._seen else []
            self._seen.add(key)
        return early.scatter(again, late.gather(again)) if again else early


def zone_of(stamps: pl.Series) -> str | None:
    """Return the time zone of datetimes; None for other stamps."""
    return getattr(stamps.dtype, "time_zone", None)


class TextForm:
    """The format in which text is read as time stamps.

    Args:
        time_format: the format given by the user, in the notation of ``strftime``; None for ISO and numbers.
        zoned: whether stamps are converted to a time zone, so that they are written with its offset.

    Attributes:
        form: the format to parse, or ``number``; empty before ``detect_format``.
    """

    def __init__(self, time_format: str | None, zoned: bool) -> None:
        self.time_format, self.zoned = time_format, zoned
        self.form, self._written, self.unit = "", time_format, "us"
        self._form: WrittenForm | None = None
        self._century: int | None = None

    @property
    def written(self) -> str | None:
        """The format to write; None for dates in ISO and for numbers."""
        return None if self._written == ISO_DATE and self.time_format is None else self._written

    def detect_format(self, stamps: pl.Series) -> bool:
        """Detect the format of stamps that are text and return whether there is one."""
        first = str(stamps[0])
        if self.time_format is not None:
            self.form = self.time_format
        elif stamps.str.contains(MONTH_OF_YEAR).all():
            self.form = self._written = "%m.%Y"
        elif NUMBER.fullmatch(first):
            self.form = "number"
        else:
            text = pl.Series([first])
            forms = ISO if re.match(r"\d{4}-", first) else ()  # %Y would take years of two digits
            fitting = (form for form in forms if not text.str.to_datetime(form, strict=False).has_nulls())
            self.form = next(fitting, "") or detect_text_form(stamps)
            self._written = self._written_like(first) if self.form else None
        self.unit = "ns" if stamps.str.contains(r":\d\d[.,]\d{6}\d*[1-9]").any() else "us"
        return bool(self.form)

    def parse(self, text: pl.Series) -> pl.Series:
        """Return numbers, dates or datetimes; null where text has another format."""
        if self.form == "number":
            integers = text.cast(pl.Int64, strict=False)
            if not integers.has_nulls():
                return integers
            numbers = text.cast(pl.Float64, strict=False)
            return numbers.set(~numbers.is_finite(), None)
        try:
            stamps = self.in_century(parse(text, self.form, self.unit), self.form)
            if self._written is not None and not stamps.has_nulls():
                self._form = self._form or WrittenForm(self._written)
                self._written = self._form.observe(text, stamps)
            return stamps
        except pl.exceptions.PolarsError as error:
            option = f"`time_format` {self.time_format!r}"
            raise InputError(f"{option} is not a valid format ({first_line(error)}).") from error

    def in_century(self, dates: pl.Series, form: str) -> pl.Series:
        """Return dates with the century that two-digit years of the first chunk are in."""
        if self._century is None:
            self._century = first_of_century(dates, form)
        return dates if self._century is None else in_century(dates, self._century)

    def _written_like(self, first: str) -> str:
        """Return the format with the digits of a second and the kind of offset of the first stamp."""
        fraction = re.search(r"\.(\d{3}|\d{6}|\d{9})(?!\d)", first)
        offset = "%:z" if first[-1] == "Z" or first[-3] == ":" else "%z"
        offset = "Z" if first[-1] == "Z" and not self.zoned else offset
        seconds = f"%.{len(fraction[1])}f" if fraction else "%.f"
        return self.form.replace("%.f", seconds).replace("%#z", offset)
