"""Pictures of forecasts: from two tables to a Figure, and from a Figure to a file."""

import warnings
from collections.abc import Mapping, Sequence
from datetime import date, tzinfo
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from rnn_lightning.files import atomic_file
from rnn_lightning.tables.panels import Panel, feature_columns, read_panels, read_table

if TYPE_CHECKING:
    from rnn_lightning.tables.panels import Frame

MAX_FEATURES = 8
"""Largest number of features in a picture."""

INK = "#333333"
"""Colour of the history, the axes and the text."""

FORECAST_COLOUR = "#0072b2"
"""Blue of the palette of Okabe and Ito, distinct in print and for colour-blind readers."""

DARKEST_SHADE, LIGHTEST_SHADE = 0.5, 0.15
"""Opacity of the narrowest and the widest prediction interval."""

INCHES_PER_DATE = 1.1
"""Room for a date label such as 12:00, and some space around it."""


def plot_forecast(
    history: "Frame",
    forecast: "Frame",
    ids: Sequence[str] | Mapping[str, str] | None = None,
    *,
    features: Sequence[str] | None = None,
    id_column: str = "unique_id",
    time_column: str = "ds",
    num_steps: int | None = None,
) -> Figure:
    """Draw forecasts beside their histories: a row for each series and feature, on a shared time axis.

    Args:
        history: a polars or pandas frame of the known values. Actual values of forecast steps are drawn as
            well.
        forecast: a polars or pandas frame with the columns of the forecast file. All of its prediction
            intervals and sampled paths are drawn.
        ids: the series to draw, or a mapping from ids to remarks. By default all of up to four series, and of
            more the largest, a typical one, the smallest, and the least certain one: that with the widest
            interval for its size.
        features: the columns to draw, at most eight; by default the first ones.
        id_column: the column of ids; not needed for a single series.
        time_column: the column of time stamps.
        num_steps: number of history steps to draw; by default twice the horizon, and at least 100.

    Raises:
        InputError: if a column or a series does not exist.
    """
    names = [str(name) for name in forecast.columns]
    features = list(features or feature_columns(names, id_column, time_column))[:MAX_FEATURES]
    known = read_table(history, features, time_column, "history")
    future = read_table(forecast, features, time_column, "forecast")
    panels = read_panels(known, future, ids, features, id_column, time_column, num_steps)
    return _draw_panels(panels, features, time_column)


def save_picture(figure: Figure, path: Path) -> None:
    """Write a PNG file; characters that the font lacks, such as emoji, are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from|Matplotlib currently does not support", UserWarning
        )
        with atomic_file(path) as file:
            FigureCanvasAgg(figure).print_png(file)  # savefig would draw everything twice


def _draw_panels(panels: Sequence[Panel], features: Sequence[str], time_column: str) -> Figure:
    """Draw the series in one column or two, with their features below each other."""
    num_columns = 1 if len(panels) == 1 or (len(panels) <= 6 and len(features) == 1) else 2
    num_rows = ceil(len(panels) / num_columns)
    width = 10.0 if num_columns == 1 else 7.0
    height = 2.6 if len(features) == 1 else 0.3 + 1.8 * len(features)
    figure = Figure(figsize=(width * num_columns, 0.8 + height * num_rows), dpi=120, layout="constrained")
    axes = figure.subplots(num_rows * len(features), num_columns, squeeze=False)
    end_together = len({panel.future[-1] for panel in panels}) == 1
    begin = min(panel.past[0] for panel in panels)
    for number, panel in enumerate(panels):
        row, column = divmod(number, num_columns)
        stack = axes[row * len(features) : (row + 1) * len(features), column]
        _draw_series(stack, panel, features, width)
        _set_limits(stack[0], begin if end_together else panel.past[0], panel.future[-1])
        if not end_together or number >= len(panels) - num_columns:
            stack[-1].set_xlabel(shortened(time_column, 60), parse_math=False)
        else:
            stack[-1].tick_params(labelbottom=False)
    for empty in axes[-len(features) :, 1:].ravel() if len(panels) % num_columns else []:
        empty.remove()
    add_legend(figure, axes[0, 0])
    return figure


def _draw_series(axes: np.ndarray, panel: Panel, features: Sequence[str], width: float) -> None:
    """Draw the features of one series, one below the other."""
    for number, (axis, feature) in enumerate(zip(axes, features, strict=True)):
        if number > 0:
            axis.sharex(axes[0])
        style_axis(axis)
        _draw_feature(axis, panel, number)
        axis.set_ylabel(shortened(feature, 30), parse_math=False)
        axis.tick_params(labelbottom=axis is axes[-1])
        if isinstance(panel.past[0], date):
            show_dates(axis, getattr(panel.past[0], "tzinfo", None), width)
    set_title(axes[0], panel.title)


def _draw_feature(axis: Axes, panel: Panel, number: int) -> None:
    """Draw one feature of one series."""
    draw_line(axis, panel.past, panel.history[:, number], color=INK, lw=1.2, label="history")
    values, origin = panel.forecast[:, number], panel.num_known - 1
    is_missing = bool(np.isnan(values).all())
    # Lines start at the last known value, so that the forecast of a single step is a line as well.
    stamps = [panel.past[origin], *panel.future]
    last = np.nan if is_missing else panel.history[origin, number]
    style: dict[str, Any] = {"color": FORECAST_COLOUR, "lw": 1.8, "zorder": 3}
    draw_line(axis, stamps, np.array([last, *values]), label="forecast", **style)
    levels = sorted(panel.bands)
    for order, (level, shade) in enumerate(zip(levels, interval_shades(len(levels)), strict=True)):
        style = {"color": shade, "zorder": 1 - 0.001 * order}
        low, high = (np.array([last, *bound]) for bound in panel.bands[level][:, :, number])
        axis.fill_between(stamps, low, high, lw=0, label=f"{level}% interval", **style)
        for step in isolated_steps(low):
            axis.vlines(stamps[step], low[step], high[step], lw=6, **style)
    for count, path in enumerate(panel.paths):
        style = {"color": FORECAST_COLOUR, "lw": 0.6, "alpha": 0.7, "zorder": 2}
        style["label"] = "_" if count else "sampled paths"
        draw_line(axis, stamps, np.array([last, *path[:, number]]), **style)
    if is_missing:
        axis.text(0.98, 0.5, "no forecast", transform=axis.transAxes, ha="right", color=FORECAST_COLOUR)
    axis.axvline(panel.past[origin], color=INK, alpha=0.3, lw=0.8, zorder=0)


def _set_limits(axis: Axes, first: Any, last: Any) -> None:
    """Limit the time axis to the time stamps drawn, with a small margin where dates allow one."""
    begin, end = axis.convert_xunits([first, last])
    margin = 0.01 * (end - begin)
    limits = begin - margin, end + margin
    if isinstance(first, date):
        limits = tuple(np.clip(limits, *axis.convert_xunits([date.min, date.max])))
    axis.set_xlim(*limits)


def interval_shades(number: int) -> list[np.ndarray]:
    """Return opaque mixtures of the forecast's colour with white, from dark to light."""
    opacities = np.linspace(DARKEST_SHADE, LIGHTEST_SHADE, number) if number != 1 else [0.3]
    return [1 - opacity * (1 - np.array(to_rgb(FORECAST_COLOUR))) for opacity in opacities]


def style_axis(axis: Axes) -> None:
    """Draw an axis without a box around it, in the colour of the ink."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["bottom", "left"]].set_color(INK)
    axis.tick_params(colors=INK)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set_color(INK)


def set_title(axis: Axes, title: str) -> None:
    """Write the name of a series above its axis, on the right."""
    axis.set_title(shortened(title, 60), fontsize=10, loc="right", color=INK, parse_math=False)


def add_legend(figure: Figure, axis: Axes) -> None:
    """Write what is drawn on an axis above the picture."""
    handles = axis.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper left", frameon=False, fontsize=9, ncols=6, labelcolor=INK)


def show_dates(axis: Axes, zone: tzinfo | None, width: float) -> None:
    """Label the time axis with dates, in a picture that is ``width`` inches wide.

    Each label has only what changes from tick to tick; the rest of the date is below the end of the axis.
    """
    locator = AutoDateLocator(tz=zone, minticks=2, maxticks=max(3, int(width / INCHES_PER_DATE)))
    axis.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(
        locator,
        tz=zone,
        # By unit of the ticks, year to second: any tick, the first one of a larger unit, the axis end.
        formats=["%Y", "%b", "%d", "%H:%M", "%H:%M", "%S.%f"],
        zero_formats=["", "%b\n%Y", "%d\n%b", "%H:%M\n%d %b", "%H:%M", "%H:%M"],
        offset_formats=["", "%Y", "%b %Y", "%d %b %Y", "%d %b %Y", "%d %b %Y %H:%M"],
    )
    axis.xaxis.set_major_formatter(formatter)


def draw_line(axis: Axes, stamps: Sequence[Any] | np.ndarray, values: np.ndarray, **style: Any) -> None:
    """Draw a line with gaps where values are NaN, and a dot for a value between two gaps."""
    if dots := isolated_steps(values):
        style |= {"marker": ".", "markevery": dots}
    axis.plot(stamps, values, **style)


def isolated_steps(values: np.ndarray) -> list[int]:
    """Return the steps of known values with no known value before or after them."""
    known = np.pad(~np.isnan(values), 1)
    return np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]).tolist()


def shortened(name: str, length: int) -> str:
    """Return a name in one line of at most ``length`` characters."""
    line = " ".join(name.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
