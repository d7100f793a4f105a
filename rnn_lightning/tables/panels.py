"""The content of a forecast picture: which series it shows, and the values of each."""

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

NUM_PANELS = 4
"""Number of series in a picture if none are named."""

DERIVED_COLUMN = re.compile(r"(.+)-(lo|hi|path)-(\d+)")
"""A column that belongs to a feature: ``sold-lo-80``, ``sold-hi-80``, ``sold-path-1``."""


@dataclass(frozen=True)
class Panel:
    """One series of a picture.

    Attributes:
        title: name of the series.
        past: time stamps of ``history``.
        history: ``(time, feature)``, known values, NaN where unknown. Those after the origin are the actual
            values of the forecast steps.
        future: time stamps of ``forecast``.
        forecast: ``(horizon, feature)``, NaN where there is none.
        bands: for each level in percent ``(2, horizon, feature)``, low and high bound of the interval.
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


def num_history_steps(horizon: int) -> int:
    """Return the number of history steps to draw beside a forecast."""
    return max(2 * horizon, 100)


def feature_columns(columns: Sequence[str], id_column: str, time_column: str) -> list[str]:
    """Return the predicted columns of a forecast: not its ids, time stamps, interval bounds and paths."""
    names = [name for name in columns if name not in (id_column, time_column)]
    matches = {name: DERIVED_COLUMN.fullmatch(name) for name in names}
    return [name for name, match in matches.items() if match is None or match[1] not in names]


def representative_series(sizes: np.ndarray, uncertainty: np.ndarray | None) -> dict[int, str]:
    """Choose the largest, a typical, the smallest and the least certain of many series.

    Args:
        sizes: ``(series,)``, mean magnitude of each forecast, NaN where there is none.
        uncertainty: ``(series,)``, width of the prediction interval of each forecast, or None.

    Returns:
        A remark for each chosen series; empty remarks if there are so few series that all are chosen.
    """
    if len(sizes) <= NUM_PANELS:
        return dict.fromkeys(range(len(sizes)), "")
    order = np.argsort(sizes, kind="stable")
    order = order[~np.isnan(sizes[order])].tolist()
    if not order:
        return dict.fromkeys(range(NUM_PANELS), "")
    chosen = {order[-1]: "largest", order[len(order) // 2]: "typical", order[0]: "smallest"}
    if uncertainty is not None:
        relative = np.nan_to_num(uncertainty / np.maximum(sizes, 1e-30), nan=-np.inf)
        by_uncertainty = np.argsort(-relative, kind="stable").tolist()
        chosen[next(index for index in by_uncertainty if index not in chosen)] = "least certain"
    return chosen


def find_series(ids: Sequence[str], wanted: Sequence[str], option: str = "ids") -> list[int]:
    """Return the indices of the series with the wanted ids.

    Raises:
        InputError: if an id does not exist; the message suggests similar ones.
    """
    names = dict.fromkeys(map(str, wanted))
    found = {name: index for index, name in enumerate(ids) if name in names}
    unknown = [name for name in names if name not in found]
    if unknown:
        existing = list(islice(ids, 100_000))  # comparing more takes seconds
        close = [other for name in unknown for other in difflib.get_close_matches(name, existing, 2)]
        suggested = list(dict.fromkeys([*close, *existing[:3]]))[: max(3, len(close))]
        raise InputError(
            f"{option}: there is no series {', '.join(map(repr, unknown))}; there are {len(ids)}, such as "
            f"{', '.join(map(repr, suggested))}."
        )
    return [found[name] for name in names]


def read_table(frame: "Frame", features: Sequence[str], time_column: str, what: str) -> "pl.DataFrame":
    """Return a table as a polars frame, with time stamps that are text parsed as ISO dates.

    Raises:
        InputError: if a column is missing, or text in the time column is not an ISO date.
    """
    import polars as pl

    table = frame if isinstance(frame, pl.DataFrame) else from_pandas(frame, [*map(str, frame.columns)])
    missing = ", ".join(repr(name) for name in (time_column, *features) if name not in table.columns)
    if missing:
        raise InputError(f"the {what} has no column {missing}; it has {', '.join(table.columns)}.")
    if table[time_column].dtype != pl.String:
        return table
    try:
        return table.with_columns(table[time_column].str.to_datetime())
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"the column {time_column!r} of the {what} has text that is not an ISO date: convert it to dates."
        ) from error


def read_panels(
    history: "pl.DataFrame",
    forecast: "pl.DataFrame",
    ids: Sequence[str] | Mapping[str, str] | None,
    features: Sequence[str],
    id_column: str,
    time_column: str,
    num_steps: int | None,
) -> list[Panel]:
    """Return the panels of a picture; for the arguments see ``plot_forecast``."""
    import polars as pl

    history, forecast = history.sort(time_column), forecast.sort(time_column)
    if id_column not in forecast.columns:
        return [_panel("", history, forecast, features, time_column, num_steps)]
    parts = {
        str(key[0]): part
        for key, part in forecast.partition_by(id_column, as_dict=True, maintain_order=True).items()
    }
    names = list(parts)
    if ids is None:
        remarks = _representative(list(parts.values()), features[0])
        ids = {names[index]: remark for index, remark in remarks.items()}
    remarks_by_id = ids if isinstance(ids, Mapping) else dict.fromkeys(ids, "")
    history_ids = history[id_column].cast(pl.String)
    panels = []
    for name in [names[index] for index in find_series(names, list(ids))]:
        known = history.filter(history_ids == name)
        if len(known) == 0:
            raise InputError(f"the history has no rows of {id_column} {name!r}.")
        title = f"{name} ({remark})" if (remark := remarks_by_id.get(name)) else name
        panels.append(_panel(title, known, parts[name], features, time_column, num_steps))
    return panels


def _panel(
    title: str,
    history: "pl.DataFrame",
    forecast: "pl.DataFrame",
    features: Sequence[str],
    time_column: str,
    num_steps: int | None,
) -> Panel:
    """Return the panel of one series, whose tables are sorted by time."""
    past, future = history[time_column].to_list(), forecast[time_column].to_list()
    num_past = sum(stamp < future[0] for stamp in past)
    if num_past == 0:
        raise InputError(f"the history of {title or 'the series'} has no step before its forecast.")
    num_shown = num_history_steps(len(future)) if num_steps is None else num_steps
    num_actual = sum(stamp <= future[-1] for stamp in past[num_past:])
    shown = slice(max(0, num_past - num_shown), num_past + num_actual)
    low, high, paths = (_derived_values(forecast, features, kind) for kind in ("lo", "hi", "path"))
    return Panel(
        title=title,
        past=past[shown],
        history=_values(history, features)[shown],
        future=future,
        forecast=_values(forecast, features),
        bands={level: np.stack([low[level], high[level]]) for level in high if level in low},
        paths=list(paths.values()),
        num_known=num_past - shown.start,
    )


def _representative(parts: Sequence["pl.DataFrame"], feature: str) -> dict[int, str]:
    """Return the series to draw of forecasts ``parts``, by one feature."""
    sizes = np.array([_mean(np.abs(_values(part, [feature]))) for part in parts])
    bounds = [[_derived_values(part, [feature], kind) for kind in ("lo", "hi")] for part in parts]
    levels = bounds[0][1]
    if not levels:
        return representative_series(sizes, None)
    widest = max(levels)
    return representative_series(sizes, np.array([_mean(high[widest] - low[widest]) for low, high in bounds]))


def _derived_values(forecast: "pl.DataFrame", features: Sequence[str], kind: str) -> dict[int, np.ndarray]:
    """Return the columns of one kind, ``(horizon, feature)`` for each level or number, ascending."""
    matches = [DERIVED_COLUMN.fullmatch(name) for name in forecast.columns]
    numbers = sorted(int(match[3]) for match in matches if match and match.group(1, 2) == (features[0], kind))
    return {number: _values(forecast, [f"{name}-{kind}-{number}" for name in features]) for number in numbers}


def _values(frame: "pl.DataFrame", names: Sequence[str]) -> np.ndarray:
    """Return columns as float64, ``(step, column)``, NaN where they are empty."""
    import polars as pl

    return np.stack([frame[name].cast(pl.Float64).to_numpy() for name in names], -1)


def _mean(values: np.ndarray) -> float:
    """Return the mean of the known values, NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
