"""Pictures of forecasts: from two tables to a Figure, and from a Figure to a file."""

from collections.abc import Mapping, Sequence
from datetime import date, tzinfo
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from rnn_lightning.errors import InputError
from rnn_lightning.tables.panels import Panel, derived_numbers, feature_columns, read_table, split_panels

if TYPE_CHECKING:
    import polars as pl

    from rnn_lightning.tables.panels import Frame

MAX_FEATURES = 8

FORECAST_COLOUR = "#0072b2"
"""Blue of the palette of Okabe and Ito, distinct in print and for colour-blind readers."""

DARKEST_SHADE, LIGHTEST_SHADE = 0.5, 0.15
"""Opacity of the narrowest and the widest prediction interval."""

INCHES_PER_DATE = 0.8
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
        InputError: if a column or a series does not exist, or the forecast has no rows.
    """
    for name, frame in (("history", history), ("forecast", forecast)):
        if not hasattr(frame, "columns"):
            raise InputError(f"`{name}` is a {type(frame).__name__}: give a polars or pandas frame.")
    names = [str(name) for name in forecast.columns]
    features = list(features or feature_columns(names, id_column, time_column))[:MAX_FEATURES]
    known = read_table(history, features, time_column, "history")
    future = read_table(forecast, features, time_column, "forecast")
    if len(future) == 0:
        raise InputError("the forecast has no rows: there is nothing to draw.")
    panels = split_panels(known, future, ids, features[0], (id_column, time_column), num_steps)
    return _draw_panels(panels, features, time_column)


def _draw_panels(panels: Sequence[Panel], features: Sequence[str], time_column: str) -> Figure:
    """Draw the series in one column or two, with their features below each other."""
    num_columns = 1 if len(panels) == 1 or (len(panels) <= 6 and len(features) == 1) else 2
    num_rows = ceil(len(panels) / num_columns)
    width = 10.0 if num_columns == 1 else 7.0
    height = 2.6 if len(features) == 1 else 0.3 + 1.8 * len(features)
    figure = Figure(figsize=(width * num_columns, 0.8 + height * num_rows), dpi=120, layout="constrained")
    axes = figure.subplots(num_rows * len(features), num_columns, squeeze=False)
    first = [panel.history[time_column][0] for panel in panels]
    last = [panel.forecast[time_column][-1] for panel in panels]
    end_together = len(set(last)) == 1
    for number, panel in enumerate(panels):
        row, column = divmod(number, num_columns)
        stack = axes[row * len(features) : (row + 1) * len(features), column]
        _draw_series(stack, panel, features, time_column, width)
        _set_limits(stack[0], min(first) if end_together else first[number], last[number])
        if not end_together or number >= len(panels) - num_columns:
            stack[-1].set_xlabel(shortened(time_column, 60), parse_math=False)
        else:
            stack[-1].tick_params(labelbottom=False)
    for empty in axes[-len(features) :, 1:].ravel() if len(panels) % num_columns else []:
        empty.remove()
    figure.align_ylabels()
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper left", frameon=False, fontsize=9, ncols=6, labelcolor=ink())
    return figure


def _draw_series(
    axes: np.ndarray, panel: Panel, features: Sequence[str], time_column: str, width: float
) -> None:
    """Draw the features of one series below each other."""
    first, colour = panel.history[time_column][0], ink()
    for axis, feature in zip(axes, features, strict=True):
        if axis is not axes[0]:
            axis.sharex(axes[0])
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["bottom", "left"]].set_color(colour)
        axis.tick_params(colors=colour, labelbottom=axis is axes[-1])
        axis.xaxis.label.set_color(colour)
        _draw_feature(axis, panel, feature, time_column)
        axis.set_ylabel(shortened(feature, 30), color=colour, parse_math=False)
        if isinstance(first, date):
            show_dates(axis, getattr(first, "tzinfo", None), width)
    axes[0].set_title(shortened(panel.title, 60), fontsize=10, loc="right", color=colour, parse_math=False)


def _draw_feature(axis: Axes, panel: Panel, feature: str, time_column: str) -> None:
    """Draw one feature of one series."""
    past, known = panel.history[time_column].to_list(), _values(panel.history, feature)
    draw_line(axis, past, known, color=ink(), lw=1.2, label="history")
    origin, stamps = past[panel.origin], [past[panel.origin], *panel.forecast[time_column].to_list()]
    is_missing = bool(np.isnan(_values(panel.forecast, feature)).all())
    last = np.nan if is_missing else known[panel.origin]

    def forecast_column(name: str) -> np.ndarray:
        # From the last known value on, so that the forecast of a single step is a line as well.
        return np.array([last, *_values(panel.forecast, name)])

    style: dict[str, Any] = {"color": FORECAST_COLOUR, "lw": 1.8, "zorder": 3}
    draw_line(axis, stamps, forecast_column(feature), label="forecast", **style)
    levels = derived_numbers(panel.forecast.columns, feature, "lo", "hi")
    for order, (level, shade) in enumerate(zip(levels, interval_shades(len(levels)), strict=True)):
        style = {"color": shade, "zorder": 1 - 0.001 * order}
        low, high = (forecast_column(f"{feature}-{bound}-{level}") for bound in ("lo", "hi"))
        axis.fill_between(stamps, low, high, lw=0, label=f"{level} % interval", **style)
        for step in isolated_steps(low):
            axis.vlines(stamps[step], low[step], high[step], lw=6, **style)
    for count, number in enumerate(derived_numbers(panel.forecast.columns, feature, "path")):
        style = {"color": FORECAST_COLOUR, "lw": 0.6, "alpha": 0.7, "zorder": 2}
        label = "_" if count else "sampled paths"
        draw_line(axis, stamps, forecast_column(f"{feature}-path-{number}"), label=label, **style)
    if is_missing:
        axis.text(0.98, 0.5, "no forecast", transform=axis.transAxes, ha="right", color=FORECAST_COLOUR)
    axis.axvline(origin, color=ink(), alpha=0.3, lw=0.8, zorder=0)


def _values(table: "pl.DataFrame", name: str) -> np.ndarray:
    """Return a column as float64, NaN where it is empty."""
    import polars as pl

    return table[name].cast(pl.Float64).to_numpy()


def _set_limits(axis: Axes, first: Any, last: Any) -> None:
    """Limit the time axis to the time stamps drawn, with a small margin where dates allow one."""
    begin, end = axis.convert_xunits([first, last])
    margin = 0.01 * (end - begin)
    limits = begin - margin, end + margin
    if isinstance(first, date):
        limits = tuple(np.clip(limits, *axis.convert_xunits([date.min, date.max])))
    axis.set_xlim(*limits)


def ink() -> str:
    """Return the colour of the history, the axes and the text: dark grey on white, or the style's own."""
    colour = str(rcParams["text.color"])
    return "#333333" if colour == "black" else colour


def interval_shades(number: int) -> list[np.ndarray]:
    """Return opaque mixtures of the forecast's colour with the background, from strong to weak."""
    opacities = np.linspace(DARKEST_SHADE, LIGHTEST_SHADE, number) if number != 1 else [0.3]
    paper = np.array(to_rgb(rcParams["axes.facecolor"]))
    return [paper + opacity * (np.array(to_rgb(FORECAST_COLOUR)) - paper) for opacity in opacities]


def show_dates(axis: Axes, zone: tzinfo | None, width: float) -> None:
    """Label the time axis with dates, in a picture that is ``width`` inches wide.

    Each label has only what changes from tick to tick; the rest of the date is below the end of the axis.
    """
    most, (first, last) = max(3, int(width / INCHES_PER_DATE)), axis.get_xlim()
    least = 4 if last - first > 365 else 2  # two years need months between them
    locator = AutoDateLocator(tz=zone, minticks=min(least, most), maxticks=most)
    axis.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(
        locator,
        tz=zone,
        # By unit of the ticks, year to second: any tick, the first one of a larger unit, the axis end.
        formats=["%Y", "%b", "%d", "%H:%M", "%H:%M", "%S.%f"],
        zero_formats=["", "%Y", "%b", "%d %b", "%H:%M", "%H:%M"],
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
