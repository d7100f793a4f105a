"""Pictures: pure functions from values to a Figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

HISTORY = "#4d5b6a"
FORECAST = "#d1495b"


@dataclass(frozen=True)
class Panel:
    """One series of a forecast picture.

    Attributes:
        title: the name of the series.
        past: time stamps of ``history``.
        history: ``(time, feature)``, the known values.
        future: time stamps of ``forecast``.
        forecast: ``(horizon, feature)``.
        band: ``(2, horizon, feature)``, lower and upper end of the interval, or None.
    """

    title: str
    past: Sequence[Any]
    history: np.ndarray
    future: Sequence[Any]
    forecast: np.ndarray
    band: np.ndarray | None = None


def plot_forecast(panels: Sequence[Panel], features: Sequence[str], time: str = "", level: int | None = None) -> Figure:
    """Draw history, forecast and interval: one row a series, one column a feature.

    Args:
        panels: the series.
        features: the names of the features.
        time: the name of the time axis.
        level: the level of the band in percent.
    """
    figure = Figure(figsize=(10 * len(features) ** 0.5, 1.1 + 2.6 * len(panels)), dpi=120, layout="constrained")
    axes = figure.subplots(len(panels), len(features), squeeze=False)
    for row, panel in zip(axes, panels, strict=True):
        for column, (axis, feature) in enumerate(zip(row, features, strict=True)):
            axis.plot(panel.past, panel.history[:, column], color=HISTORY, lw=1.2, label="history")
            # From the last known value on, so that a single step is a line as well.
            future, last = [panel.past[-1], *panel.future], panel.history[-1, column]
            axis.plot(future, [last, *panel.forecast[:, column]], color=FORECAST, lw=1.6, label="forecast")
            if panel.band is not None:
                low, high = ([last, *bound] for bound in panel.band[:, :, column])
                axis.fill_between(future, low, high, color=FORECAST, alpha=0.2, lw=0, label=f"{level} % interval")
            axis.axvline(panel.past[-1], color="0.75", lw=0.8, zorder=0)
            axis.set_title(panel.title, fontsize=10, loc="right", parse_math=False)
            axis.set_ylabel(feature, parse_math=False)
            axis.spines[["top", "right"]].set_visible(False)
            axis.margins(x=0.01)
            if isinstance(panel.past[0], date):
                ticks = AutoDateLocator()
                axis.xaxis.set_major_locator(ticks)
                axis.xaxis.set_major_formatter(ConciseDateFormatter(ticks))
    for axis in axes[-1]:
        axis.set_xlabel(time, parse_math=False)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper left", frameon=False, fontsize=9, ncols=3)
    return figure
