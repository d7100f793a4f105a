"""The distance between two time stamps: a number, a duration, or days and months of the calendar."""

import math
import re
from typing import NamedTuple

from rnn_lightning.errors import InputError

NANOSECONDS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}
"""Units of durations, the largest first."""

DAY = 24 * NANOSECONDS["h"]

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

DAY_IN_MONTH = rf"([1-9]|[12]\d|3[01]|last|([1-4]|last)({'|'.join(WEEKDAYS)})|(first|last)bd)"

FORMS = (
    "a number and mo, me (ends of months), d, bd (business days), h, m, s, ms or us, such as 1mo, 7d, 1bd or "
    "15m, or days of months such as 1mo@1,15, 1mo@3fri or 1mo@lastbd"
)


class Frequency(NamedTuple):
    """The distance between two steps.

    Attributes:
        size: the count of the unit.
        unit: ``number``, ``ns``, ``d``, ``bd`` (business days), ``mo``, ``me`` (ends of months), or days of a
            month such as ``mo@1,15``, see ``month_rules.py``.
    """

    size: int | float
    unit: str

    @classmethod
    def parse(cls, given: int | float | str) -> "Frequency":
        """Return the frequency that a number or a text such as ``15m`` stands for.

        Raises:
            InputError: if it stands for none.
        """
        text = str(given).strip()
        if match := re.fullmatch(r"0*([1-9]\d*)(y|q|mo|me|w|d|bd|h|m|s|ms|us|ns)", text):
            count, unit = int(match[1]), match[2]
            if unit in NANOSECONDS:
                return cls(count * NANOSECONDS[unit], "ns")
            factor, unit = {"y": (12, "mo"), "q": (3, "mo"), "w": (7, "d")}.get(unit, (1, unit))
            return cls(count * factor, unit)
        if match := re.fullmatch(rf"0*([1-9]\d*)(mo@{DAY_IN_MONTH}(,{DAY_IN_MONTH})*)", text):
            return cls(int(match[1]), match[2])
        number = float(text) if re.fullmatch(r"[\d.]+([eE][+-]?\d+)?", text) else math.nan
        if not 0 < number < math.inf:
            raise InputError(f"`frequency` {given!r} must be {FORMS}, or a number above 0.")
        return cls(int(number) if number.is_integer() else number, "number")

    @property
    def written(self) -> int | float | str:
        """The number or the text that ``parse`` understands."""
        if self.unit == "number":
            return self.size
        if self.unit != "ns":
            return f"{self.size}{self.unit}"
        unit, size = next((unit, size) for unit, size in NANOSECONDS.items() if self.size % size == 0)
        return f"{self.size // size}{unit}"
