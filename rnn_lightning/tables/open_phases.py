"""Phases of the week at which a series can have values: shop hours, Monday to Saturday, weekends alone."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rnn_lightning.data.series import CHUNK_ROWS, TimeIndex
from rnn_lightning.errors import counted, quoted
from rnn_lightning.tables.calendar import DAYS, Axis, OpenPhases, phases_at
from rnn_lightning.tables.rows import Rows

MIN_CHANCES = 8
"""Steps of a phase without any value from which it is closed."""

MAX_PROBABILITY = 1e-3
"""A phase is closed only if gaps at random would leave some phase empty less often than this."""

MAX_PER_DAY, MAX_CLOSED = 86_400, 50
"""Steps of a day of at least a second, and steps for each known value, up to which phases are looked for."""

RARE = 0.02
"""The part of the steps of a phase up to which values are exceptions."""

ROWS_AT_ONCE = 2**22
"""Numbers of phases that are counted together."""


class SeriesSteps(NamedTuple):
    """The steps of each series, ``(series,)`` each.

    Attributes:
        first: the tick of its first step.
        size: the number of ticks, days or business days between two steps.
        unit: ``ticks``, ``d``, ``bd`` or another, without phases.
        lengths: the number of steps up to the last known target.
        num_known: the number of steps with a known target.
    """

    first: np.ndarray
    size: np.ndarray
    unit: np.ndarray
    lengths: np.ndarray
    num_known: np.ndarray


def find_open_phases(
    rows: Iterable[Rows], num_targets: int, axis: Axis, steps: SeriesSteps
) -> OpenPhases | None:
    """Return the phases of the week at which each series can have values; None if all can at all times.

    A phase is closed if the series never had a value at it, or at its time of the day, in eight chances or
    more, and if gaps at random are no explanation. One value in fifty chances is a special session. Each
    series is judged by its own rows alone.

    Args:
        rows: all rows, which are gone through only if a series has gaps enough.
        num_targets: the number of the first columns of values, which are to be predicted.
        axis: the axis of the ticks.
        steps: the steps of each series.
    """
    per_day = _steps_per_day(axis, steps)
    is_candidate = (per_day > 0) & (steps.lengths - steps.num_known >= MIN_CHANCES)
    is_candidate &= steps.lengths >= MIN_CHANCES * per_day
    is_candidate &= steps.num_known * MAX_CLOSED >= steps.lengths  # else a stamp is wrong
    code, known = np.full(len(per_day), -1), dict[tuple[bytes, bool], int]()
    for count in np.unique(per_day[is_candidate]).tolist():
        chosen = np.flatnonzero(is_candidate & (per_day == count))
        number = _values_at_phases(rows, num_targets, axis, steps, chosen, count)
        for part in np.array_split(np.arange(len(chosen)), 1 + number.size // ROWS_AT_ONCE):
            chances = _chances(axis, steps, chosen[part], count)
            has_value = number[part] > RARE * chances
            is_closed = _closed(has_value, chances, steps, chosen[part])
            has_rare = np.any(is_closed & (number[part] > 0), axis=1)
            for row in np.flatnonzero(is_closed.any(1)).tolist():
                kind = (~is_closed[row]).tobytes(), bool(has_rare[row])
                code[chosen[part[row]]] = known.setdefault(kind, len(known))
    if not known:
        return None
    patterns = [np.frombuffer(pattern, bool) for pattern, _ in known]
    return OpenPhases(code, patterns, [rare for _, rare in known])


def describe_open_phases(phases: OpenPhases, ids: Sequence[str], minutes: np.ndarray) -> list[str]:
    """Return notes on the most common kinds of series that are closed at times.

    Args:
        phases: the phases of all series.
        ids: their names.
        minutes: ``(series,)``, the minute of the day of their first stamps.
    """
    notes = []
    for number in np.argsort(-np.bincount(phases.code[phases.code >= 0]), kind="stable").tolist()[:3]:
        series = np.flatnonzero(phases.code == number)
        names = [ids[each] for each in series.tolist()]
        which = quoted(names[0])
        if len(names) > 1:
            which = f"{counted(len(names), 'series')}, such as {which},"
        closed = _closed_text(phases.patterns[number], int(minutes[series[0]]))
        had = "hardly ever had" if phases.has_rare[number] else "never had"
        notes.append(f"{which} {had} a value {closed}: no forecast is written there without `every_step`.")
    return notes


def _closed_text(pattern: np.ndarray, minute: int) -> str:
    """Return when a pattern is closed, such as ``on Sunday and outside 09:00 to 17:30``.

    Args:
        pattern: whether each phase of the week is open.
        minute: that of some stamp: steps of an hour may begin at half past.
    """
    by_day = pattern.reshape(7, -1)  # (day, phase of the day)
    texts = []
    closed = [name for name, day in zip(DAYS, by_day, strict=True) if not day.any()]
    if closed:
        texts.append("on " + " and ".join(filter(None, [", ".join(closed[:-1]), closed[-1]])))
    hours = np.flatnonzero(by_day.any(0))
    if len(hours) < by_day.shape[1]:
        length = 1440 // by_day.shape[1]
        minutes = (hours[[0, -1]] * length + minute % length).tolist()
        first, last = (f"{minute // 60:02}:{minute % 60:02}" for minute in minutes)
        inside = len(hours) == hours[-1] - hours[0] + 1
        texts.append(f"outside {first} to {last}" if inside else f"at times from {last} to {first}")
    return " and ".join(texts) or f"at {counted(int((~pattern).sum()), 'step')} of the week"


def _steps_per_day(axis: Axis, steps: SeriesSteps) -> np.ndarray:
    """Return the number of steps in a day, ``(series,)``; 0 where days have no phases."""
    day = axis.ticks_per_day
    if not day:
        return np.zeros(len(steps.size), np.int64)
    size = np.maximum(steps.size, 1).astype(np.int64)
    is_part = (steps.unit == "ticks") & (size <= day) & (day % size == 0) & (day // size <= MAX_PER_DAY)
    is_daily = np.isin(steps.unit, ["d", "bd"]) & (size == 1)
    return np.where(is_part, day // size, is_daily)


def _values_at_phases(
    rows: Iterable[Rows], num_targets: int, axis: Axis, steps: SeriesSteps, chosen: np.ndarray, per_day: int
) -> np.ndarray:
    """Return the number of values at each phase of the week, ``(chosen series, phase)``."""
    number = np.zeros((len(chosen), 7 * per_day), np.int64)
    place = np.full(len(steps.first), -1)
    place[chosen] = np.arange(len(chosen))
    for chunk in rows:
        mine = (place[chunk.series] >= 0) & ~np.isnan(chunk.values[:, :num_targets]).all(1)
        series = chunk.series[mine]
        phases = phases_at(axis, chunk.ticks[mine], steps.first[series], per_day)
        np.add.at(number, (place[series], phases), 1)
    return number


def _chances(axis: Axis, steps: SeriesSteps, series: np.ndarray, per_day: int) -> np.ndarray:
    """Return how many steps of the series are at each phase of the week, ``(series, phase)``."""
    first = phases_at(axis, steps.first[series], steps.first[series], per_day)[:, None]
    is_business = steps.unit[series] == "bd"
    num_days = np.where(is_business, steps.lengths[series] * 7 // 5, steps.lengths[series])[:, None]
    chances = (num_days - 1 - (np.arange(7 * per_day) - first) % (7 * per_day)) // (7 * per_day) + 1
    chances[is_business, 5 * per_day :] = 0
    return np.maximum(chances, 0)


def _closed(has_value: np.ndarray, chances: np.ndarray, steps: SeriesSteps, series: np.ndarray) -> np.ndarray:
    """Return which phases of the week are closed, ``(series, phase)``."""
    density = steps.num_known[series] / np.maximum((chances * has_value).sum(1), 1)
    miss = np.log(np.clip(1 - density, 1e-9, 1.0))[:, None]

    def is_closed(never: np.ndarray, tries: np.ndarray) -> np.ndarray:
        sure = tries * miss + np.log(has_value.shape[1]) < np.log(MAX_PROBABILITY)
        return never & (tries >= MIN_CHANCES) & sure

    by_day = len(series), 7, -1
    never = ~has_value.reshape(by_day)  # (series, day, phase of the day)
    of_day = is_closed(np.asarray(never.all(axis=1)), chances.reshape(by_day).sum(1))
    closed = is_closed(~has_value, chances).reshape(by_day) | of_day[:, None]
    is_idle = never[:, 5:].reshape(len(series), -1).all(axis=1, keepdims=True)  # a weekend is one phase:
    num_days = chances.reshape(by_day)[:, 5:].max(2).sum(1, keepdims=True)  # of two days a week
    closed[:, 5:] |= is_closed(np.asarray(is_idle), num_days)[:, :, None]
    return closed.reshape(has_value.shape)


def closed_after(times: TimeIndex, sizes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the closed steps that follow the last row of series with rows after their last target.

    Args:
        times: the stamps, with their open phases.
        sizes: ``(series,)``, the number of steps up to the last known value.
        lengths: ``(series,)``, the number of steps up to the last known target.
    """
    phases: OpenPhases = times.open_phases  # type: ignore[attr-defined]
    number = np.zeros(len(sizes), np.int64)
    for series in np.flatnonzero((phases.code >= 0) & (sizes > lengths)).tolist():
        ahead = sizes[series] + np.arange(len(phases.patterns[phases.code[series]]))
        number[series] = times.exist(np.full(len(ahead), series), ahead).argmax()
    return number


def closed_steps(times: TimeIndex, bounds: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield consecutive rows of all series, and which of them are closed, ``(row,)`` each.

    Args:
        times: the stamps.
        bounds: where the rows of each series begin, and the end of the last one.
    """
    end = 0 if getattr(times, "open_phases", None) is None else int(bounds[-1])
    for first in range(0, end, CHUNK_ROWS):
        row = np.arange(first, min(first + CHUNK_ROWS, end))
        series = np.searchsorted(bounds, row, side="right") - 1
        yield row, ~times.exist(series, row - bounds[series])


def fill_forward(covariates: np.ndarray, row: np.ndarray, is_closed: np.ndarray) -> None:
    """Give unknown covariates ``(row, covariate)`` of closed rows the values of the last open one."""
    if covariates.shape[1] and is_closed.any():
        last_open = np.maximum.accumulate(np.where(is_closed, max(row[0] - 1, 0), row))
        for column in covariates.T:
            filled = is_closed & np.isnan(column[row])
            column[row[filled]] = column[last_open[filled]]
