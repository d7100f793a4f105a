"""The content of a forecast picture: which series it shows, and the rows of each."""

import difflib
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from rnn_lightning.errors import InputError
from rnn_lightning.tables.calendar import stamp_series
from rnn_lightning.tables.pandas_frames import from_pandas, index_as_column
from rnn_lightning.tables.table import TableSeries

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]
    import polars as pl

    Frame: TypeAlias = pl.DataFrame | pd.DataFrame

NUM_PANELS = 4
"""Number of series in a picture if none are named."""

DERIVED_COLUMN = re.compile(r"(.+)-(?:(lo|hi|path)-(\d+)|q-[\d.]+)")
"""A column that belongs to a feature: ``sold-lo-80``, ``sold-hi-80``, ``sold-q-10``, ``sold-path-1``."""


class Panel(NamedTuple):
    """One series of a picture.

    Attributes:
        title: name of the series.
        history: rows of the known values to draw; those after the origin are the actual values.
        forecast: rows of the forecast.
        origin: row of ``history`` that the forecast starts from.
    """

    title: str
    history: "pl.DataFrame"
    forecast: "pl.DataFrame"
    origin: int


def num_history_steps(horizon: int) -> int:
    """Return the number of history steps to draw beside a forecast."""
    return max(2 * horizon, 100)


def feature_columns(columns: Sequence[str], id_column: str, time_column: str) -> list[str]:
    """Return the predicted columns of a forecast: not its ids, time stamps, interval bounds and paths."""
    names = [name for name in columns if name not in (id_column, time_column)]
    matches = {name: DERIVED_COLUMN.fullmatch(name) for name in names}
    return [name for name, match in matches.items() if match is None or match[1] not in names]


def derived_numbers(columns: Sequence[str], feature: str, *kinds: str) -> list[int]:
    """Return the levels, or numbers of paths, that have ``<feature>-<kind>-<number>`` for all kinds."""
    matches = [match for name in columns if (match := DERIVED_COLUMN.fullmatch(name)) and match[1] == feature]
    numbers = [{int(match[3]) for match in matches if match[2] == kind} for kind in kinds]
    return sorted(set.intersection(*numbers))


def representative_series(sizes: np.ndarray, widths: np.ndarray | None) -> dict[int, str]:
    """Choose the largest, a typical, the smallest and the least certain of many series.

    Args:
        sizes: ``(series,)``, mean magnitude of each forecast, NaN where there is none.
        widths: ``(series,)``, mean width of the prediction interval of each forecast, or None.

    Returns:
        A remark for each chosen series, empty if there are so few that all are chosen.
    """
    if len(sizes) <= NUM_PANELS:
        return dict.fromkeys(range(len(sizes)), "")
    order = np.argsort(sizes, kind="stable")
    order = order[~np.isnan(sizes[order])].tolist()
    if not order:
        return dict.fromkeys(range(NUM_PANELS), "")
    chosen = {order[-1]: "largest", order[len(order) // 2]: "typical", order[0]: "smallest"}
    if widths is not None:
        uncertainty = np.nan_to_num(widths / np.maximum(sizes, 1e-30), nan=-np.inf)
        by_uncertainty = np.argsort(-uncertainty, kind="stable").tolist()
        chosen[next(index for index in by_uncertainty if index not in chosen)] = "least certain"
    return chosen


def find_series(ids: Sequence[str], wanted: Sequence[str], argument: str = "ids") -> list[int]:
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
            f"{argument}: there is no series {', '.join(map(repr, unknown))}; there are {len(ids)}, such as "
            f"{', '.join(map(repr, suggested))}."
        )
    return [found[name] for name in names]


def read_table(frame: "Frame", features: Sequence[str], time_column: str, what: str) -> "pl.DataFrame":
    """Return a table as a polars frame, with ISO dates that are text as dates.

    Raises:
        InputError: if a column is missing, or text in the time column is not an ISO date.
    """
    import polars as pl

    if isinstance(frame, pl.DataFrame):
        table = frame
    else:
        given = index_as_column(frame, time_column, *features[:1])
        table = from_pandas(given, [*map(str, given.columns)])
    missing = ", ".join(repr(name) for name in (time_column, *features) if name not in table.columns)
    if missing:
        advice = "name the right ones by `time_column`, `id_column` and `features`"
        raise InputError(f"the {what} has no column {missing}; it has {', '.join(table.columns)}: {advice}.")
    try:
        if table[time_column].dtype == pl.String:
            table = table.with_columns(table[time_column].str.to_datetime())
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"the column {time_column!r} of the {what} has text that is not an ISO date: convert it to dates."
        ) from error
    return table


def split_panels(
    history: "pl.DataFrame",
    forecast: "pl.DataFrame",
    ids: Sequence[str] | Mapping[str, str] | None,
    feature: str,
    columns: tuple[str, str],
    num_steps: int | None,
) -> list[Panel]:
    """Return the panels of a picture, see ``plot_forecast``.

    Without ``ids``, representative series are chosen by ``feature``. ``columns`` are ids and time stamps.
    """
    import polars as pl

    id_column, time_column = columns
    kinds = history[time_column].dtype, forecast[time_column].dtype
    if pl.Date in kinds and any(kind == pl.Datetime for kind in kinds):  # of a polars and a pandas frame
        history, forecast = (
            frame.with_columns(pl.col(time_column).cast(pl.Datetime("us"))) for frame in (history, forecast)
        )
    if id_column not in forecast.columns:
        return [_panel("", history, forecast, time_column, num_steps)]
    history, forecast = (table.cast({id_column: pl.String}) for table in (history, forecast))
    names = forecast[id_column].unique(maintain_order=True).to_list()
    if ids is None:
        ids = {
            names[index]: remark for index, remark in _representative(forecast, feature, columns[0]).items()
        }
    remarks = ids if isinstance(ids, Mapping) else dict.fromkeys(ids, "")
    panels = []
    for name in [names[index] for index in find_series(names, list(ids))]:
        known, future = (table.filter(pl.col(id_column) == name) for table in (history, forecast))
        if len(known) == 0:
            raise InputError(f"the history has no rows of {id_column} {name!r}.")
        title = f"{name} ({remark})" if (remark := remarks.get(name)) else name
        panels.append(_panel(title, known, future, time_column, num_steps))
    return panels


def _representative(forecast: "pl.DataFrame", feature: str, id_column: str) -> dict[int, str]:
    """Choose representative series by one feature and its widest prediction interval."""
    import polars as pl

    point = pl.col(feature).cast(pl.Float64).fill_nan(None)
    means = [point.abs().mean().alias("size")]
    if levels := derived_numbers(forecast.columns, feature, "lo", "hi"):
        low, high = (pl.col(f"{feature}-{bound}-{levels[-1]}").cast(pl.Float64) for bound in ("lo", "hi"))
        means.append((high - low).fill_nan(None).mean().alias("width"))
    sizes, *widths = (
        forecast.group_by(id_column, maintain_order=True).agg(means).drop(id_column).iter_columns()
    )
    return representative_series(sizes.to_numpy(), widths[0].to_numpy() if widths else None)


def _panel(
    title: str, history: "pl.DataFrame", forecast: "pl.DataFrame", time_column: str, num_steps: int | None
) -> Panel:
    history = _with_missing_steps(history.sort(time_column), time_column)
    forecast = forecast.sort(time_column)
    stamps, future = history[time_column].to_list(), forecast[time_column].to_list()
    num_past = sum(stamp < future[0] for stamp in stamps)
    if num_past == 0:
        raise InputError(f"the history of {title or 'the series'} has no step before its forecast.")
    num_known = sum(stamp <= future[-1] for stamp in stamps)
    start = max(0, num_past - (num_history_steps(len(future)) if num_steps is None else num_steps))
    return Panel(title, history[start:num_known], forecast, num_past - 1 - start)


def _with_missing_steps(history: "pl.DataFrame", time_column: str) -> "pl.DataFrame":
    """Add a row of nulls for each step of the calendar that has none, so that a line breaks there.

    Stamps that are on no regular grid, of which no step can be missing, are returned as they are.
    """
    import polars as pl

    name = f"{time_column}-row"
    rows = history.select(pl.col(time_column), pl.int_range(pl.len()).alias(name))
    try:
        data = TableSeries(rows, time_column=time_column, target_columns=name).load()
    except InputError:
        return history
    stamps = stamp_series(data.times, [0], [0], int(data.lengths[0])).cast(history[time_column].dtype)
    complete = stamps.alias(time_column).to_frame().join(history, on=time_column, how="left")
    is_on_grid = history[time_column].is_in(stamps.implode()).all()
    return complete.select(history.columns) if is_on_grid else history
