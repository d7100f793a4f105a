"""What a forecast picture shows: series of two tables with history, forecast, intervals and paths."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rnn_lightning.errors import InputError
from rnn_lightning.tables.pandas_frames import from_pandas

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]
    import polars as pl

    Frame: TypeAlias = pl.DataFrame | pd.DataFrame

NUM_SERIES = 4
"""Number of series in a picture, where none are named."""

BOUND = re.compile(r"(.+)-(lo-(\d+)|hi-(\d+)|path-(\d+))")
"""A column that belongs to another: ``sold-lo-80``, ``sold-hi-80``, ``sold-path-1``."""


@dataclass(frozen=True)
class Panel:
    """One series of a picture.

    Attributes:
        title: the name of the series.
        past: time stamps of ``history``.
        history: ``(time, feature)``, the known values, NaN where one is not known; those after the origin
            are what really happened.
        future: time stamps of ``forecast``.
        forecast: ``(horizon, feature)``, NaN where there is none.
        bands: from the level in percent to ``(2, horizon, feature)``, lower and upper end of the interval.
        paths: sampled paths, each ``(horizon, feature)``.
        num_known: number of steps in ``past`` up to the origin.
    """

    title: str
    past: Sequence[Any]
    history: np.ndarray
    future: Sequence[Any]
    forecast: np.ndarray
    bands: Mapping[int, np.ndarray]
    paths: Sequence[np.ndarray]
    num_known: int


def num_shown(horizon: int) -> int:
    """Steps of the history beside a forecast."""
    return max(2 * horizon, 100)


def as_polars(frame: "Frame") -> "pl.DataFrame":
    """The frame, or a polars frame of a pandas one."""
    import polars as pl

    return frame if isinstance(frame, pl.DataFrame) else from_pandas(frame, [*map(str, frame.columns)])


def with_stamps(frame: "pl.DataFrame", time_column: str, what: str) -> "pl.DataFrame":
    """The frame with time stamps that were read as text as dates."""
    import polars as pl

    if frame[time_column].dtype != pl.String:
        return frame
    try:
        return frame.with_columns(frame[time_column].str.to_datetime())
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"the {what} has text in {time_column!r} that is no ISO date: make dates of it."
        ) from error


def features_of(forecast: "pl.DataFrame", id_column: str, time_column: str) -> list[str]:
    """The columns of a forecast that are predicted: not its ids, stamps, intervals and paths."""
    names = [name for name in forecast.columns if name not in (id_column, time_column)]
    return [name for name in names if not ((bound := BOUND.fullmatch(name)) and bound[1] in names)]


def telling_series(sizes: np.ndarray, doubts: np.ndarray | None, doubt: str) -> dict[int, str]:
    """The series that show most, and what each is: largest, typical, smallest, of most ``doubt``.

    Args:
        sizes: ``(series,)``, NaN where there is no forecast.
        doubts: ``(series,)``, such as a score or the width of an interval, or None.
        doubt: a name for it.
    """
    if len(sizes) <= NUM_SERIES:
        return dict.fromkeys(range(len(sizes)), "")
    order = np.argsort(sizes, kind="stable")
    order = order[~np.isnan(sizes[order])]
    if len(order) == 0:
        return dict.fromkeys(range(NUM_SERIES), "")
    chosen = {int(order[-1]): "largest", int(order[len(order) // 2]): "typical", int(order[0]): "smallest"}
    if doubts is None:
        return chosen
    for index in np.argsort(-np.nan_to_num(doubts, nan=-np.inf), kind="stable").tolist():
        if index not in chosen:
            return {**chosen, index: doubt}
    return chosen


def named_series(ids: Sequence[str], wanted: Sequence[str], option: str = "ids") -> list[int]:
    """The numbers of the series of these names.

    Raises:
        InputError: if there is no series of a name; says which there are.
    """
    names = dict.fromkeys(map(str, wanted))
    found = {name: index for index, name in enumerate(ids) if name in names}
    unknown = [name for name in names if name not in found]
    if unknown:
        there = list(islice(ids, 100_000))  # to compare with more takes seconds
        close = [other for name in unknown for other in difflib.get_close_matches(name, there, 2)]
        shown = ", ".join(map(repr, list(dict.fromkeys([*close, *there[:3]]))[: max(3, len(close))]))
        raise InputError(
            f"{option}: there is no series {', '.join(map(repr, unknown))}; there are {len(ids)}, such as "
            f"{shown}."
        )
    return [found[name] for name in names]


def read_panels(
    history: "pl.DataFrame",
    forecast: "pl.DataFrame",
    ids: Sequence[str] | Mapping[str, str] | None,
    features: Sequence[str],
    columns: tuple[str, str],
    num_steps: int | None,
) -> list[Panel]:
    """The panels of a picture, see ``plot_forecast``; ``columns`` are those of ids and of stamps."""
    import polars as pl

    id_column, time_column = columns
    if id_column not in forecast.columns:
        return [
            _panel("", history.sort(time_column), forecast.sort(time_column), features, columns[1], num_steps)
        ]
    grouped = {
        str(key[0]): part
        for key, part in forecast.partition_by(id_column, as_dict=True, maintain_order=True).items()
    }
    names = list(grouped)
    if ids is None:
        ids = {names[index]: why for index, why in _telling(list(grouped.values()), features[0]).items()}
    chosen = [names[index] for index in named_series(names, list(ids))]
    remarks = ids if isinstance(ids, Mapping) else {}
    texts = history[id_column].cast(pl.String)
    panels = []
    for name in chosen:
        title = f"{name} ({remarks[name]})" if remarks.get(name) else name
        of_series = history.filter(texts == name).sort(time_column)
        if len(of_series) == 0:
            raise InputError(f"the history has no rows of {id_column} {name!r}.")
        future = grouped[name].sort(time_column)
        panels.append(_panel(title, of_series, future, features, time_column, num_steps))
    return panels


def _telling(parts: Sequence["pl.DataFrame"], feature: str) -> dict[int, str]:
    """The most telling of the series whose forecasts are ``parts``."""
    sizes = np.array([_mean(np.abs(_columns(part, [feature]))) for part in parts])
    bounds = [(_belonging(part, [feature], "lo"), _belonging(part, [feature], "hi")) for part in parts]
    if not bounds[0][1]:
        return telling_series(sizes, None, "")
    widest = max(bounds[0][1])
    widths = np.array([_mean(high[widest] - low[widest]) for low, high in bounds])
    return telling_series(sizes, widths / np.maximum(sizes, 1e-30), "least certain")


def _panel(
    title: str,
    history: "pl.DataFrame",
    forecast: "pl.DataFrame",
    features: Sequence[str],
    time_column: str,
    num_steps: int | None,
) -> Panel:
    past, future = history[time_column].to_list(), forecast[time_column].to_list()
    num_past = sum(stamp < future[0] for stamp in past)
    if num_past == 0:
        raise InputError(f"the history of {title or 'the series'} has no step before its forecast.")
    shown = slice(
        max(0, num_past - (num_shown(len(future)) if num_steps is None else num_steps)),
        num_past + sum(stamp <= future[-1] for stamp in past[num_past:]),
    )
    low, high, paths = (_belonging(forecast, features, kind) for kind in ("lo", "hi", "path"))
    return Panel(
        title=title,
        past=past[shown],
        history=_columns(history, features)[shown],
        future=future,
        forecast=_columns(forecast, features),
        bands={level: np.stack([low[level], high[level]]) for level in high if level in low},
        paths=list(paths.values()),
        num_known=num_past - shown.start,
    )


def _belonging(forecast: "pl.DataFrame", features: Sequence[str], kind: str) -> dict[int, np.ndarray]:
    """The columns of one kind by level or number, each ``(horizon, feature)``."""
    numbers = [
        int(match[1])
        for name in forecast.columns
        if (match := re.fullmatch(rf"{re.escape(features[0])}-{kind}-(\d+)", name))
    ]
    return {
        number: _columns(forecast, [f"{name}-{kind}-{number}" for name in features])
        for number in sorted(numbers)
    }


def _columns(frame: "pl.DataFrame", names: Sequence[str]) -> np.ndarray:
    """Columns as float64, ``(step, column)``, NaN where one is empty."""
    import polars as pl

    return np.stack([frame[name].cast(pl.Float64).to_numpy() for name in names], -1)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values[~np.isnan(values)])) if not np.isnan(values).all() else float("nan")
