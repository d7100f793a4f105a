"""Pictures: pure functions from tables to a Figure, and a Figure to a file."""

import warnings
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import combinations
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rnn_lightning.errors import InputError
from rnn_lightning.files import atomic_file
from rnn_lightning.tables.dates import show_dates
from rnn_lightning.tables.panels import Panel, as_polars, features_of, read_panels, with_stamps
from rnn_lightning.tables.style import (
    COLOURS,
    Colours,
    Theme,
    add_legend,
    alone,
    draw_line,
    paint,
    set_title,
    shades,
    shortened,
)

if TYPE_CHECKING:
    from rnn_lightning.tables.panels import Frame

MAX_FEATURES = 8
"""The most features that a picture shows."""


def plot_forecast(
    history: "Frame",
    forecast: "Frame",
    ids: Sequence[str] | Mapping[str, str] | None = None,
    *,
    features: Sequence[str] | None = None,
    id_column: str = "unique_id",
    time_column: str = "ds",
    num_steps: int | None = None,
    theme: Theme = "light",
) -> Figure:
    """Draw forecasts beside their histories, a row for each series and feature, on a shared axis of time.

    Args:
        history: a polars or pandas table of the known values. Those after the beginning of a forecast, what
            really happened, are drawn as well.
        forecast: a table in the columns of the forecast file. All intervals in it are drawn,
            ``<feature>-lo-80`` to ``<feature>-hi-80``, and the sampled paths ``<feature>-path-1``, ...
        ids: the series to draw, or a mapping from them to a remark on each. If None, and there are more than
            four, those that show most: the largest, a typical one, the smallest, and the one of the widest
            interval for its size.
        features: the columns to draw, eight at most; the first ones if None.
        id_column: the column of ids; tables of one series need none.
        time_column: the column of time stamps.
        num_steps: steps of the history to draw; twice the horizon, and 100 at least, if None.
        theme: on white paper, or on a dark screen.

    Raises:
        InputError: if a column or a series is missing.
    """
    panels, features = _read(history, forecast, ids, features, (id_column, time_column), num_steps)
    num_columns = 1 if len(panels) == 1 or (len(panels) <= 6 and len(features) == 1) else 2
    num_rows = ceil(len(panels) / num_columns)
    width = 10.0 if num_columns == 1 else 7.0
    height = 2.6 if len(features) == 1 else 0.3 + 1.8 * len(features)
    figure = Figure(figsize=(width * num_columns, 0.8 + height * num_rows), dpi=120, layout="constrained")
    colours = COLOURS[theme]
    figure.set_facecolor(colours.paper)
    axes = figure.subplots(num_rows * len(features), num_columns, squeeze=False)
    shared = len({panel.future[-1] for panel in panels}) == 1
    begin = min(panel.past[0] for panel in panels) if shared else None
    for number, panel in enumerate(panels):
        row, column = divmod(number, num_columns)
        stack = axes[row * len(features) : (row + 1) * len(features), column]
        _draw_series(stack, panel, features, colours, width)
        _set_limits(stack[0], panel.past[0] if begin is None else begin, panel.future[-1])
        if not shared or number >= len(panels) - num_columns:
            stack[-1].set_xlabel(shortened(time_column, 60), parse_math=False)
        else:
            stack[-1].tick_params(labelbottom=False)
    for empty in axes[-len(features) :, 1:].ravel() if len(panels) % num_columns else []:
        empty.remove()
    add_legend(figure, axes[0, 0], colours)
    return figure


def plot_phase(
    history: "Frame",
    forecast: "Frame",
    ids: Sequence[str] | Mapping[str, str] | None = None,
    *,
    features: Sequence[str] | None = None,
    id_column: str = "unique_id",
    time_column: str = "ds",
    num_steps: int | None = None,
    theme: Theme = "light",
) -> Figure:
    """Draw each series in the planes that two of its first three features span; see ``plot_forecast``."""
    panels, features = _read(history, forecast, ids, features, (id_column, time_column), num_steps)
    if len(features) < 2:
        raise InputError(f"a phase picture needs two features at least, and there is {features[0]!r} alone.")
    planes = list(combinations(range(min(3, len(features))), 2))
    size = (4.2 * len(planes), 0.6 + 4.0 * len(panels))
    figure, colours = Figure(figsize=size, dpi=120, layout="constrained"), COLOURS[theme]
    figure.set_facecolor(colours.paper)
    axes = figure.subplots(len(panels), len(planes), squeeze=False)
    for row, panel in zip(axes, panels, strict=True):
        generated = np.concatenate([panel.history[panel.num_known - 1 : panel.num_known], panel.forecast])
        for axis, (x, y) in zip(row, planes, strict=True):
            paint(axis, colours)
            draw_line(
                axis, panel.history[:, x], panel.history[:, y], color=colours.history, lw=0.8, label="history"
            )
            style = {"color": colours.forecast, "lw": 1.6, "label": "forecast"}
            draw_line(axis, generated[:, x], generated[:, y], **style)
            axis.set_xlabel(shortened(features[x], 30), parse_math=False)
            axis.set_ylabel(shortened(features[y], 30), parse_math=False)
        set_title(row[-1], panel.title, colours)
    add_legend(figure, axes[0, 0], colours)
    return figure


def save_picture(figure: Figure, path: Path) -> None:
    """Write a PNG file; a character that the font lacks, such as an emoji, is drawn as a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from|Matplotlib currently does not support", UserWarning
        )
        with atomic_file(path) as file:
            FigureCanvasAgg(figure).print_png(file)  # savefig would draw all twice


def _read(
    history: "Frame",
    forecast: "Frame",
    ids: Sequence[str] | Mapping[str, str] | None,
    features: Sequence[str] | None,
    columns: tuple[str, str],
    num_steps: int | None,
) -> tuple[list[Panel], list[str]]:
    """The panels and the features of a picture."""
    tables = {"history": as_polars(history), "forecast": as_polars(forecast)}
    drawn = list(features or features_of(tables["forecast"], *columns))[:MAX_FEATURES]
    for what, table in tables.items():
        missing = [name for name in (columns[1], *drawn) if name not in table.columns]
        if missing:
            raise InputError(
                f"the {what} has no column {', '.join(map(repr, missing))}; it has "
                f"{', '.join(table.columns)}."
            )
        tables[what] = with_stamps(table, columns[1], what)
    settings = (ids, drawn, columns, num_steps)
    return read_panels(tables["history"], tables["forecast"], *settings), drawn


def _draw_series(
    axes: np.ndarray, panel: Panel, features: Sequence[str], colours: Colours, width: float
) -> None:
    """The features of one series, one below the other."""
    for number, (axis, feature) in enumerate(zip(axes, features, strict=True)):
        if number > 0:
            axis.sharex(axes[0])
        paint(axis, colours)
        _draw_feature(axis, panel, number, colours)
        axis.set_ylabel(shortened(feature, 30), parse_math=False)
        axis.tick_params(labelbottom=axis is axes[-1])
        if isinstance(panel.past[0], date):
            show_dates(axis, getattr(panel.past[0], "tzinfo", None), width)
    set_title(axes[0], panel.title, colours)


def _draw_feature(axis: Axes, panel: Panel, number: int, colours: Colours) -> None:
    """One feature of one series."""
    draw_line(axis, panel.past, panel.history[:, number], color=colours.history, lw=1.2, label="history")
    values, last_step = panel.forecast[:, number], panel.num_known - 1
    missing = bool(np.isnan(values).all())
    # From the last known value on, so that a single step is a line as well.
    future = [panel.past[last_step], *panel.future]
    last = np.nan if missing else panel.history[last_step, number]
    style: dict[str, Any] = {"color": colours.forecast, "lw": 1.8, "zorder": 3}
    draw_line(axis, future, np.array([last, *values]), label="forecast", **style)
    levels = sorted(panel.bands)
    for below, (level, colour) in enumerate(zip(levels, shades(colours, len(levels)), strict=True)):
        style = {"color": colour, "zorder": 1 - 0.001 * below}
        low, high = (np.array([last, *bound]) for bound in panel.bands[level][:, :, number])
        axis.fill_between(future, low, high, lw=0, label=f"{level} % interval", **style)
        for step in alone(low):
            axis.vlines(future[step], low[step], high[step], lw=6, **style)
    for count, path in enumerate(panel.paths):
        style = {"color": colours.forecast, "lw": 0.6, "alpha": 0.7, "zorder": 2}
        style["label"] = "_" if count else "sampled paths"
        draw_line(axis, future, np.array([last, *path[:, number]]), **style)
    if missing:
        axis.text(0.98, 0.5, "no forecast", transform=axis.transAxes, ha="right", color=colours.forecast)
    axis.axvline(panel.past[last_step], color=colours.ink, alpha=0.3, lw=0.8, zorder=0)


def _set_limits(axis: Axes, first: Any, last: Any) -> None:
    """From the first to the last time stamp, with a little room where there are dates."""
    begin, end = axis.convert_xunits([first, last])
    margin = 0.01 * (end - begin)
    limits = begin - margin, end + margin
    if isinstance(first, date):
        limits = tuple(np.clip(limits, *axis.convert_xunits([date.min, date.max])))
    axis.set_xlim(*limits)
