"""Steps that are days of a month: the 1st and 15th, the third Friday, the last business day.

A rule is written as ``mo@`` and its days in their order: ``mo@1,15``, ``mo@15,last``, ``mo@3fri``,
``mo@lastmon``, ``mo@firstbd`` and ``mo@lastbd``.
"""

from collections.abc import Iterable

import numpy as np
import polars as pl

from rnn_lightning.tables.frequency import WEEKDAYS

MIN_DAYS_APART = 5
"""Days of a month between two of a rule; closer ones are no rule, but dates that were read wrongly."""

MIN_ROWS = 3
"""Rows from which a series shows a rule."""


def first_days(month: np.ndarray) -> np.ndarray:
    """Return days since 1970-01-01 of the first of each month, given in months since 1970."""
    return month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def months(day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return months since 1970 and days since the first of the month, of days since 1970-01-01."""
    month = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return month, day - first_days(month)


def rule_days(rule: str) -> list[str]:
    """Return the days of a rule."""
    return rule.removeprefix("mo@").split(",")


def day_in(month: np.ndarray, name: str) -> np.ndarray:
    """Return the day since 1970-01-01 that a rule names in each month; the 31st is the last at most."""
    first, last = first_days(month), first_days(month + 1) - 1
    if name == "last":
        return last
    if name.isdigit():
        return np.minimum(first + int(name) - 1, last)
    if name == "firstbd":
        return first + np.array([0, 0, 0, 0, 0, 2, 1])[(first + 3) % 7]
    if name == "lastbd":
        return last - np.array([0, 0, 0, 0, 0, 1, 2])[(last + 3) % 7]
    weekday = WEEKDAYS.index(name[-3:])
    if name.startswith("last"):
        return last - (last + 3 - weekday) % 7
    return first + (weekday - first - 3) % 7 + 7 * (int(name[:-3]) - 1)


def steps_between(first: np.ndarray, day: np.ndarray, size: np.ndarray, rule: str) -> np.ndarray:
    """Return the steps of a rule in every ``size``-th month from ``first`` to the last one until ``day``."""
    names = rule_days(rule)
    (begin, _), (month, _) = months(first), months(day)
    start, place = (
        sum((day_in(each, name) <= until).astype(np.int64) for name in names)
        for each, until in ((begin, first), (month, day))
    )
    return (month - begin) // size * len(names) + place - start


def advance_by_rule(day: np.ndarray, steps: np.ndarray, size: int, rule: str) -> np.ndarray:
    """Return the days that lie ``steps`` of a rule in every ``size``-th month after ``day``."""
    names, (month, _) = rule_days(rule), months(day)
    start = sum((day_in(month, name) <= day).astype(np.int64) for name in names) - 1
    turns, place = np.divmod(start + steps, len(names))
    days = [day_in(month + turns * size, name) for name in names]
    return np.choose(place, days)


def find_rules(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[int, str]:
    """Return the rule that all days of a series follow, by the number of the series.

    Args:
        parts: numbers of series and days since 1970-01-01, ``(row,)`` each.
    """
    chunks = [pl.DataFrame({"series": series, "day": day}) for series, day in parts]
    if not chunks or not (rows := pl.concat(chunks).unique()).height:
        return {}
    month, of_month = months(rows["day"].to_numpy())
    last = first_days(month + 1) - first_days(month) - 1
    rows = rows.with_columns(
        month=month,
        of_month=of_month + 1,
        is_last=of_month == last,
        weekday=(rows["day"].to_numpy() + 3) % 7,
        is_last_week=of_month + 7 > last,
    )
    found = rows.group_by("series").agg(
        pl.col("day").sort(),
        pl.col("of_month").filter(~pl.col("is_last")).unique().sort().alias("inner"),
        pl.col("is_last").any(),
        pl.col("weekday").unique(),
        ((pl.col("of_month") - 1) // 7 + 1).unique().alias("week"),
        pl.col("is_last_week").all(),
    )
    rules = {}
    for series, day, *shape in found.iter_rows():
        days = np.array(day)
        kept = (rule for rule in _possible(*shape) if len(days) >= MIN_ROWS and _follow(days, rule))
        if rule := next(kept, None):
            rules[series] = rule
    return rules


def _possible(
    inner: list[int], has_last: bool, weekdays: list[int], weeks: list[int], is_last_week: bool
) -> list[str]:
    """Return the rules that days of such a shape can follow."""
    rules = []
    if len(weekdays) == 1 and (is_last_week or len(weeks) == 1):
        rules.append(f"mo@{'last' if is_last_week else weeks[0]}{WEEKDAYS[weekdays[0]]}")
    if len(inner) > 0 and np.diff([*inner, inner[0] + 30]).min() >= MIN_DAYS_APART:
        names = [*map(str, inner), *(["last"] if has_last and max(inner, default=0) < 28 else [])]
        rules += [f"mo@{','.join(names)}"] if len(names) > 1 else []
    return [*rules, "mo@lastbd", "mo@firstbd"]


def _follow(days: np.ndarray, rule: str) -> bool:
    """Return True if sorted days follow a rule, and fill half of its steps or more."""
    steps = steps_between(np.full(len(days), days[0]), days, np.ones(len(days), np.int64), rule)
    size = max(1, int(np.gcd.reduce(steps)))
    follow = (advance_by_rule(np.full(len(days), days[0]), steps, 1, rule) == days).all()
    return bool(follow and 2 * len(days) > steps[-1] // size)
