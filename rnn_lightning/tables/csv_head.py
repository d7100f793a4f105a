"""The first lines of a CSV file: where its table begins, how it is separated, and which columns it has."""

import csv
import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEAD_LINES = 60
SEPARATORS = (",", ";", "\t", "|")


@dataclass
class Head:
    """How the table of a file begins.

    Attributes:
        separator: the character between two columns.
        skipped: lines before the header, such as comments or a title.
        has_units: whether the row after the header has units and no values.
        notes: what a user should know, a sentence each.
    """

    separator: str = ","
    skipped: int = 0
    has_units: bool = False
    notes: list[str] = field(default_factory=list)


def read_head(name: str, separator: str | None, wanted: Sequence[str]) -> Head:
    """Return how the table of a file begins, as far as the ``wanted`` names of columns are a sure sign.

    Args:
        name: the file, plain or by gzip.
        separator: the separator, if it is given.
        wanted: names of columns that the table must have.
    """
    usual = separator or ("\t" if ".tsv" in Path(name).suffixes else ",")
    opener: Any = gzip.open if name.endswith(".gz") else open
    try:
        with opener(name, "rt", encoding="utf-8-sig", newline="") as file:
            lines = [file.readline(100_000) for _ in range(HEAD_LINES)]
    except (OSError, EOFError, UnicodeError):
        return Head(usual)
    for sign in [usual] if separator else dict.fromkeys([usual, *SEPARATORS]):
        rows = [next(csv.reader([line], delimiter=sign), []) for line in lines]
        begin = next((number for number, row in enumerate(rows) if set(wanted) <= set(row)), None)
        if begin is not None:
            break
    else:
        sign, rows = usual, [next(csv.reader([line], delimiter=usual), []) for line in lines]
        begin = next((number for number, line in enumerate(lines) if line[:1] != "#"), 0)
        begin = begin if len(rows[begin]) != len(rows[0]) else 0
        if separator is None and len(rows[begin]) == 1:
            for other in SEPARATORS:
                widths = [
                    len(next(csv.reader([line], delimiter=other), [])) for line in lines[begin : begin + 2]
                ]
                if min(widths) > 1 and len(set(widths)) == 1:
                    sign, rows = other, [next(csv.reader([line], delimiter=other), []) for line in lines]
                    break
    head = Head(sign, begin)
    shown = {"\t": "a tab"}.get(sign, repr(sign))
    head.notes += [f"{name} is separated by {shown}."] if sign != usual else []
    head.notes += [f"Skipped {begin} lines before the header of {name}."] if begin else []
    header, cells, values = (rows[begin + row] if begin + row < len(rows) else [] for row in range(3))
    places = [header.index(each) for each in wanted if each in header]
    if places and len(header) == len(cells) == len(values):
        is_text = not any(re.search(r"\d", cells[place]) for place in places) and any(map(str.strip, cells))
        if is_text and all(re.search(r"\d", values[place]) for place in places):
            head.has_units = True
            head.notes.append(f"Skipped the row of units after the header of {name}.")
    return head
