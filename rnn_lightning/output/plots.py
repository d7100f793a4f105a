"""Pictures: pure functions from values to a Figure, and a Figure to a file."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

HISTORY = "#4d5b6a"
FORECAST = "#d1495b"


@dataclass(frozen=True)
class Panel:
    """One series of a forecast picture.

    Attributes:
        title: the name of the series.
        past: time stamps of ``history``, one at least.
        history: ``(time, feature)``, the known values, NaN where one is not known.
        future: time stamps of ``forecast``.
        forecast: ``(horizon, feature)``, NaN where there is none.
        band: ``(2, horizon, feature)``, lower and upper end of the interval, or None.
    """

    title: str
    past: Sequence[Any]
    history: np.ndarray
    future: Sequence[Any]
    forecast: np.ndarray
    band: np.ndarray | None = None


def plot_forecast(
    panels: Sequence[Panel], features: Sequence[str], time: str = "", level: int | None = None
) -> Figure:
    """Draw history, forecast and interval: one row a series, one column a feature.

    Args:
        panels: the series.
        features: the names of the features.
        time: the name of the time axis.
        level: the level of the band in percent.
    """
    figure = Figure(
        figsize=(10 * len(features) ** 0.5, 1.1 + 2.6 * len(panels)), dpi=120, layout="constrained"
    )
    axes = figure.subplots(len(panels), len(features), squeeze=False)
    for row, panel in zip(axes, panels, strict=True):
        for column, (axis, feature) in enumerate(zip(row, features, strict=True)):
            _draw_panel(axis, panel, column, f"{level} % interval")
            axis.set_title(_shortened(panel.title, 60), fontsize=10, loc="right", parse_math=False)
            axis.set_ylabel(_shortened(feature, 30), parse_math=False)
            axis.spines[["top", "right"]].set_visible(False)
            if isinstance(panel.past[0], date):
                zone = getattr(panel.past[0], "tzinfo", None)
                ticks = AutoDateLocator(tz=zone)
                axis.xaxis.set_major_locator(ticks)
                axis.xaxis.set_major_formatter(ConciseDateFormatter(ticks, tz=zone))
    for axis in axes[-1]:
        axis.set_xlabel(_shortened(time, 60), parse_math=False)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper left", frameon=False, fontsize=9, ncols=3
    )
    return figure


def save_picture(figure: Figure, path: Path) -> None:
    """Write a picture; a sign that the font lacks, such as an emoji in the name of a series, is drawn as a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from|Matplotlib currently does not support", UserWarning
        )
        figure.savefig(path)


def _draw_panel(axis: Axes, panel: Panel, column: int, interval: str) -> None:
    """One feature of one series."""
    _draw_line(axis, panel.past, panel.history[:, column], color=HISTORY, lw=1.2, label="history")
    values = panel.forecast[:, column]
    missing = bool(np.isnan(values).all())
    # From the last known value on, so that a single step is a line as well.
    future, last = [panel.past[-1], *panel.future], np.nan if missing else panel.history[-1, column]
    _draw_line(axis, future, np.array([last, *values]), color=FORECAST, lw=1.6, label="forecast")
    if panel.band is not None:
        low, high = (np.array([last, *bound]) for bound in panel.band[:, :, column])
        axis.fill_between(future, low, high, color=FORECAST, alpha=0.2, lw=0, label=interval)
        for step in _alone(low):
            axis.vlines(future[step], low[step], high[step], color=FORECAST, alpha=0.2, lw=6)
    if missing:
        axis.text(0.98, 0.5, "no forecast", transform=axis.transAxes, ha="right", color=FORECAST)
    axis.axvline(panel.past[-1], color="0.75", lw=0.8, zorder=0)
    start, end = axis.convert_xunits([panel.past[0], panel.future[-1]])
    margin = 0.01 * (end - start)
    axis.set_xlim(start - margin, end + margin)


def _draw_line(axis: Axes, stamps: Sequence[Any], values: np.ndarray, **style: Any) -> None:
    """A line with gaps where values are NaN; a value between two gaps is a dot."""
    if dots := _alone(values):
        style |= {"marker": ".", "markevery": dots}
    axis.plot(stamps, values, **style)


def _alone(values: np.ndarray) -> list[int]:
    """Where a value has none before and after it."""
    known = np.pad(~np.isnan(values), 1)
    return np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]).tolist()


def _shortened(name: str, length: int) -> str:
    """A name in one line of at most ``length`` signs."""
    line = " ".join(name.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
