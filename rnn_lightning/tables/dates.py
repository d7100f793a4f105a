"""An axis of dates on which year and month cannot be mistaken."""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Any

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, num2date
from matplotlib.ticker import Formatter

INCHES_OF_A_DATE = 1.2
"""The room for a label such as 28 Sep 2024 at ten points, and some air."""


class DateFormatter(Formatter):
    """Labels of two lines: what changes from tick to tick, and below it the rest of the date, once.

    Such as ``Nov``, ``Dec``, ``Jan`` above ``2024`` and ``2025``, or hours above ``28 Sep 2024``.
    """

    def __init__(self, zone: tzinfo | None) -> None:
        self.zone = zone

    def __call__(self, value: float, position: int | None = None) -> str:
        moment: datetime = num2date(value, self.zone)
        return moment.strftime("%d %b %Y" if _is_midnight(moment) else "%d %b %Y %H:%M")

    def format_ticks(self, values: Any) -> list[str]:
        moments = [num2date(value, self.zone) for value in values]
        begin, end = sorted(self.axis.get_view_interval())  # type: ignore[union-attr]
        upper, lower = _parts(moments)
        labels, shown = [], ""
        for value, moment in zip(values, moments, strict=True):
            if not begin <= value <= end:  # has no label, so the next one is the first
                labels.append("")
                continue
            rest = _written(moment, lower)
            labels.append(_written(moment, upper) + (f"\n{rest}" if rest != shown else ""))
            shown = rest
        return labels


def show_dates(axis: Axes, zone: tzinfo | None, width: float) -> None:
    """Ticks and labels of dates on the time axis of a picture that is ``width`` inches wide."""
    ticks = AutoDateLocator(tz=zone, minticks=2, maxticks=max(3, int(width / INCHES_OF_A_DATE)))
    axis.xaxis.set_major_locator(ticks)
    axis.xaxis.set_major_formatter(DateFormatter(zone))


def _parts(moments: Sequence[datetime]) -> tuple[str, str]:
    """The formats of the two lines of the labels."""
    if not all(map(_is_midnight, moments)):
        if any(moment.microsecond for moment in moments):
            return "%H:%M:%S.%f", "%-d %b %Y"
        seconds = any(moment.second for moment in moments)
        return ("%H:%M:%S" if seconds else "%H:%M"), "%-d %b %Y"
    if any(moment.day != 1 for moment in moments):
        return "%-d", "%b %Y"
    return ("%Y", "") if all(moment.month == 1 for moment in moments) else ("%b", "%Y")


def _written(moment: datetime, form: str) -> str:
    """As ``strftime``, with days without a zero before them on every system, and years of four digits."""
    form = form.replace("%-d", str(moment.day)).replace("%Y", f"{moment.year:04d}")
    return moment.strftime(form)


def _is_midnight(moment: datetime) -> bool:
    return (moment.hour, moment.minute, moment.second, moment.microsecond) == (0, 0, 0, 0)
