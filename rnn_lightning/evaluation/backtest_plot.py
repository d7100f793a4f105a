"""The picture of a backtest: error by lead time, and forecasts beside the truth."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rnn_lightning.data.series import SeriesData
from rnn_lightning.evaluation.scores import Scores

COLOURS = {"rnn": "#0072b2", "naive": "#999999", "seasonal_naive": "#d55e00", "drift": "#e69f00"}
"""The observed values have the colour of the text."""

LABELS = {"y": "observed", "rnn": "forecast", "seasonal_naive": "seasonal naive"}


def plot_backtest(data: SeriesData, scores: Scores) -> Figure:
    """Draw the error of each lead time beside those of the baselines, and below it up to four forecasts.

    Args:
        data: the series.
        scores: metrics of the forecasts.
    """
    shown = chosen_forecasts(scores)
    num_rows = 1 + (len(shown) + 1) // 2
    figure = Figure(figsize=(10, 0.8 + 2.7 * num_rows), dpi=120, layout="constrained")
    grid = figure.add_gridspec(num_rows, 2)
    axes = [figure.add_subplot(grid[0, :])]
    _draw_lead_times(axes[0], scores)
    for place, ((series, origin), reason) in enumerate(shown.items()):
        is_alone = place % 2 == 0 and place == len(shown) - 1
        column = slice(None) if is_alone else place % 2
        axes.append(figure.add_subplot(grid[1 + place // 2, column]))
        _draw_forecast(axes[-1], data, scores, series, origin)
        name = data.ids[series] if data.num_series > 1 else ""
        axes[-1].set_title(
            ": ".join(filter(None, (reason, name[:40]))), fontsize=10, loc="left", parse_math=False
        )
    handles: dict[str, Any] = {}
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside upper left", frameon=False, fontsize=9, ncols=6)
    return figure


def chosen_forecasts(scores: Scores) -> dict[tuple[int, int], str]:
    """Return series and origin of up to four forecasts, and why they are shown.

    They are the last forecasts of a typical, the worst, the largest and the best series.
    """
    last = scores.table.group_by("series").agg(pl.col("origin").max(), pl.col("y").abs().sum()).sort("series")
    mase = scores.by_series.filter(pl.col("metric") == "mase").group_by("series").agg(pl.col("rnn").max())
    ranked = last.join(mase.drop_nulls(), on="series").sort("rnn", "series")
    if len(last) == 1 or len(ranked) == 0:
        return {last.select("series", "origin").row(0): "last origin"}
    chosen: dict[tuple[int, int], str] = {}
    rows = ranked.select("series", "origin")
    largest = int(ranked["y"].arg_max() or 0)
    places = {"typical": len(rows) // 2, "worst": -1, "largest": largest, "best": 0}
    for reason, place in places.items():
        chosen.setdefault(rows.row(place), reason)
    return chosen


def _draw_lead_times(axis: Axes, scores: Scores) -> None:
    """Draw the median scaled error by lead time, a line for each forecaster."""
    table = scores.by_lead_time.filter(pl.col("metric") == "median_mase")
    for name in scores.forecasters:
        _draw_line(axis, table["lead_time"].to_list(), table[name], name)
    several = "" if scores.by_series["series"].n_unique() == 1 else ", median over series"
    axis.set(xlabel="lead time in steps", ylabel="scaled error (MASE)", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axis.set_title(f"error by lead time{several}", fontsize=10, loc="left")


def _draw_forecast(axis: Axes, data: SeriesData, scores: Scores, series: int, origin: int) -> None:
    """Draw the first feature of one forecast beside the truth, after a part of its history."""
    is_wanted = (pl.col("series") == series) & (pl.col("origin") == origin) & (pl.col("feature") == 0)
    table = scores.table.filter(is_wanted).sort("lead_time")
    shown = min(origin + 1, 3 * len(table))  # steps of the history
    steps = np.arange(origin + 1 - shown, origin + 1 + len(table))
    exist = data.times.exist(
        np.full(len(steps), series), steps
    )  # a shop that is closed on Sundays has gaps else
    table, steps = table.filter(pl.Series(exist[shown:])), steps[exist]
    stamps = list(data.times.stamps_at(np.full(len(steps), series), steps))
    first = int(data.offsets[series]) + origin + 1 - shown
    history = data.values[first : first + shown].numpy()[exist[:shown], 0]
    shown = len(history)
    _draw_line(axis, stamps, [*history, *table["y"]], "y")
    if "seasonal_naive" in scores.forecasters:
        _draw_line(axis, stamps[shown:], table["seasonal_naive"], "seasonal_naive")
    _draw_line(axis, stamps[shown:], table["rnn"], "rnn")
    if scores.levels:
        low, high = (table[f"rnn-{end}-{scores.levels[0]}"].to_numpy() for end in ("lo", "hi"))
        label = f"{scores.levels[0]} % interval"
        axis.fill_between(stamps[shown:], low, high, color=COLOURS["rnn"], alpha=0.3, lw=0, label=label)
    axis.axvline(stamps[shown - 1], color="0.75", lw=0.8, zorder=0)
    axis.set(xlabel=getattr(data, "time_column", "step"), ylabel=data.features[0])
    if isinstance(stamps[0], date):
        zone = getattr(stamps[0], "tzinfo", None)
        locator = AutoDateLocator(tz=zone)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))


def _draw_line(axis: Axes, stamps: Sequence[Any], values: Sequence[float] | pl.Series, name: str) -> None:
    """Draw the values of a forecaster, or the truth as ``y``; a single step is a dot."""
    width, marker = 1.6 if name == "rnn" else 1.2, "." if len(values) == 1 else None
    colour = COLOURS.get(name, rcParams["text.color"])
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    axis.plot(stamps, numbers, color=colour, lw=width, marker=marker, label=LABELS.get(name, name))
