"""Time stamps as text, in the format of the first one or the one that the user gives."""

import re

import polars as pl

from rnn_lightning.errors import InputError
from rnn_lightning.tables.files import first_line

ISO_DATE = "%Y-%m-%d"
ISO = [ISO_DATE, *(f"{ISO_DATE}{t}%H:%M{s}{z}" for t in "T " for s in ("", ":%S%.f") for z in ("", "%#z"))]
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
DAY_PARTS, MONTH_PARTS = r"%-?[dejDFxcsvu+UW]", r"%-?[mbBh]"
CLOCK_PARTS, MINUTE_PARTS = r"%-?[HIklTRXscr+]", r"%-?[MTRXscr+]"


class TextForm:
    """The format in which text is read as time stamps.

    Args:
        time_format: the format given by the user, in the notation of ``strftime``; None for ISO and numbers.
        zoned: whether stamps are converted to a time zone, so that they are written with its offset.

    Attributes:
        form: the format to parse, or ``number``; empty before ``detect_format``.
        written: the format to write; None for dates in ISO and for numbers.
    """

    def __init__(self, time_format: str | None, zoned: bool) -> None:
        self.time_format, self.zoned = time_format, zoned
        self.form, self.written = "", time_format

    def detect_format(self, first: str) -> bool:
        """Detect the format of the first stamp and return whether there is one.

        A month or a year alone gets a day, and an hour alone gets minutes.
        """
        if self.time_format is not None:
            self.form = self.time_format
            if not re.search(DAY_PARTS, self.form):
                self.form += (" %m" if not re.search(MONTH_PARTS, self.form) else "") + " %d"
            if re.search(CLOCK_PARTS, self.form) and not re.search(MINUTE_PARTS, self.form):
                self.form += " %M"
        elif NUMBER.fullmatch(first):
            self.form = "number"
        else:
            text = pl.Series([first])
            fitting = (form for form in ISO if not text.str.to_datetime(form, strict=False).has_nulls())
            self.form = next(fitting, "")
            self.written = self._written_like(first) if self.form not in ("", ISO_DATE) else None
        return bool(self.form)

    def parse(self, text: pl.Series) -> pl.Series:
        """Return numbers, dates or datetimes; null where text has another format."""
        if self.form == "number":
            integers = text.cast(pl.Int64, strict=False)
            if not integers.has_nulls():
                return integers
            numbers = text.cast(pl.Float64, strict=False)
            return numbers.set(~numbers.is_finite(), None)
        if self.time_format is not None and (added := self.form[len(self.time_format) :]):
            text = text + added.replace("%m", "01").replace("%d", "01").replace("%M", "00")
        try:
            if not re.search(CLOCK_PARTS, self.form):
                return text.str.to_date(self.form, strict=False)
            return text.str.to_datetime(self.form, time_unit="us", strict=False)
        except pl.exceptions.PolarsError as error:
            option = f"`time_format` {self.time_format!r}"
            raise InputError(f"{option} is not a valid format ({first_line(error)}).") from error

    def _written_like(self, first: str) -> str:
        """Return the format with the digits of a second and the kind of offset of the first stamp."""
        fraction = re.search(r"\.(\d{3}|\d{6}|\d{9})(?!\d)", first)
        offset = "%:z" if first[-1] == "Z" or first[-3] == ":" else "%z"
        offset = "Z" if first[-1] == "Z" and not self.zoned else offset
        seconds = f"%.{len(fraction[1])}f" if fraction else "%.f"
        return self.form.replace("%.f", seconds).replace("%#z", offset)
