"""Time stamps as text: how they are written, by the first one or as the user says."""

import re

import polars as pl

from rnn_lightning.errors import InputError
from rnn_lightning.tables.files import reason

ISO_DATE = "%Y-%m-%d"
ISO = [ISO_DATE, *(f"{ISO_DATE}{t}%H:%M{s}{z}" for t in "T " for s in ("", ":%S%.f") for z in ("", "%#z"))]
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
DAY_PARTS, MONTH_PARTS = r"%-?[dejDFxcsvu+UW]", r"%-?[mbBh]"
CLOCK_PARTS, MINUTE_PARTS = r"%-?[HIklTRXscr+]", r"%-?[MTRXscr+]"


class TextForm:
    """How text is read as time stamps.

    Args:
        time_format: what the user says, in the notation of ``strftime``; None for ISO and numbers.
        zoned: stamps are converted to a time zone, so that they are written with its offset.

    Attributes:
        form: how text is parsed, or ``number``; empty before ``find``.
        written: how text is written; None for dates in ISO and numbers.
    """

    def __init__(self, time_format: str | None, zoned: bool) -> None:
        self.time_format, self.zoned = time_format, zoned
        self.form, self.written = "", time_format

    def find(self, first: str) -> bool:
        """Find the form of the first stamp; whether there is one.

        A month or a year alone gets a day, and an hour alone its minutes.
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
            found = (form for form in ISO if not text.str.to_datetime(form, strict=False).has_nulls())
            self.form = next(found, "")
            self.written = self._written(first) if self.form not in ("", ISO_DATE) else None
        return bool(self.form)

    def parse(self, text: pl.Series) -> pl.Series:
        """Numbers, dates or datetimes; null where text is written in another way."""
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
            raise InputError(f"{option} is no format ({reason(error)}).") from error

    def _written(self, first: str) -> str:
        """The form with as many digits of a second, and the kind of offset, as the first stamp has."""
        fraction = re.search(r"\.(\d{3}|\d{6}|\d{9})(?!\d)", first)
        offset = "%:z" if first[-1] == "Z" or first[-3] == ":" else "%z"
        offset = "Z" if first[-1] == "Z" and not self.zoned else offset
        seconds = f"%.{len(fraction[1])}f" if fraction else "%.f"
        return self.form.replace("%.f", seconds).replace("%#z", offset)
