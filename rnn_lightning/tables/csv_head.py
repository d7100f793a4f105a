"""The first lines of a CSV file: where its table begins, how it is separated, and which columns it has."""

import csv
import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from rnn_lightning.errors import counted

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
        name: the file, plain or compressed.
        separator: the separator, if it is given.
        wanted: names of columns that the table must have.
    """
    usual = separator or ("\t" if ".tsv" in Path(name).suffixes else ",")
    try:
        lines = _first_lines(name)
    except (OSError, EOFError, UnicodeError, pl.exceptions.PolarsError):
        return Head(usual)
    for sign in [usual] if separator else dict.fromkeys([usual, *SEPARATORS]):
        rows, starts = _rows(lines, sign)
        begin = next((number for number, row in enumerate(rows) if set(wanted) <= set(row)), None)
        if begin is not None:
            break
    else:
        sign, (rows, starts) = usual, _rows(lines, usual)
        begin = next((number for number, row in enumerate(rows) if row and row[0][:1] != "#"), 0)
        begin = begin if rows and len(rows[begin]) != len(rows[0]) else 0
        for other in SEPARATORS if separator is None and rows and len(rows[begin]) == 1 else ():
            split, _ = _rows(lines, other)
            widths = {len(row) for row in split[begin : begin + 2]}
            if len(widths) == 1 and min(widths) > 1:
                sign, (rows, starts) = other, _rows(lines, other)
                break
        else:
            begin = begin or _first_of_table(rows)
    skipped = starts[begin] if rows else 0
    head = Head(sign, skipped)
    shown = {"\t": "a tab"}.get(sign, repr(sign))
    head.notes += [f"{name} is separated by {shown}."] if sign != usual else []
    head.notes += [f"Skipped {counted(skipped, 'line')} before the header of {name}."] if skipped else []
    header, cells, values = (rows[begin + row] if begin + row < len(rows) else [] for row in range(3))
    places = [header.index(each) for each in wanted if each in header]
    if places and len(header) == len(cells) == len(values):
        is_text = not any(re.search(r"\d", cells[place]) for place in places) and any(map(str.strip, cells))
        if is_text and all(re.search(r"\d", values[place]) for place in places):
            head.has_units = True
            head.notes.append(f"Skipped the row of units after the header of {name}.")
    return head


def _first_lines(name: str) -> list[str]:
    """Return the first lines of a file, plain or compressed."""
    if name.endswith(".zst"):
        whole: Any = {"has_header": False, "separator": "\x1f", "quote_char": None, "infer_schema": False}
        return [f"{line or ''}\n" for line in pl.read_csv(name, n_rows=HEAD_LINES, **whole)[:, 0]]
    opener: Any = gzip.open if name.endswith(".gz") else open
    with opener(name, "rt", encoding="utf-8-sig", newline="") as file:
        return [file.readline(100_000) for _ in range(HEAD_LINES)]


def _first_of_table(rows: Sequence[Sequence[str]]) -> int:
    """Return the first of two rows with something in two cells or more, after titles of one cell."""
    is_wide = [sum(map(bool, map(str.strip, row))) > 1 for row in rows]
    return next((number for number, pair in enumerate(pairwise(is_wide)) if all(pair)), 0)


def _rows(lines: Sequence[str], separator: str) -> tuple[list[list[str]], list[int]]:
    """Return the rows of some lines, and the number of the line at which each begins."""
    reader, rows, starts = csv.reader(lines, delimiter=separator), list[list[str]](), list[int]()
    while True:
        start = reader.line_num
        try:
            rows.append(next(reader))
        except (StopIteration, csv.Error):
            return rows, starts
        starts.append(start)
