"""The picture of a backtest: error by lead time, and four forecasts over what came."""

from datetime import date

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnn_lightning.data.series import SeriesData
from rnn_lightning.evaluation.scores import Scores
from rnn_lightning.tables.plots import (
    FORECAST_COLOUR,
    INK,
    draw_line,
    interval_shades,
    shortened,
    show_dates,
)

COLOUR_OF = {"rnn": FORECAST_COLOUR, "naive": "#999999", "seasonal_naive": "#d55e00", "drift": "#e69f00"}
WIDTH = 10.0


def plot_backtest(data: SeriesData, origin: np.ndarray, scores: Scores) -> Figure:
    """Draw the error of each lead time beside those of the baselines, and below it four forecasts.

    Args:
        data: the series.
        origin: ``(forecast,)``, the last known step of each forecast, counted from the start of its series.
        scores: what the forecasts are worth.
    """
    shown = chosen_forecasts(scores)
    num_rows = 1 + (len(shown) + 1) // 2
    figure = Figure(figsize=(WIDTH, 0.6 + 2.7 * num_rows), dpi=120, layout="constrained")
    grid = figure.add_gridspec(num_rows, 2)
    _draw_lead_times(figure.add_subplot(grid[0, :]), scores)
    for place, (forecast, why) in enumerate(shown.items()):
        wide = len(shown) == 1
        axis = figure.add_subplot(grid[1 + place // 2, :] if wide else grid[1 + place // 2, place % 2])
        _draw_forecast(axis, data, origin, scores, forecast, why)
    return figure


def chosen_forecasts(scores: Scores) -> dict[int, str]:
    """The numbers of four forecasts and why they are shown: typical, worst, largest and best series.

    Of each series its last forecast.
    """
    mase = scores.by_series["mase"][..., 0]
    mase = np.where(np.isnan(mase), np.nan, np.where(np.isinf(mase), 1e9, mase)).max(-1)
    if not np.isfinite(mase).any():
        return {int(np.flatnonzero(scores.series == scores.present[0])[-1]): "last origin"}
    size = np.nan_to_num(np.abs(scores.truth)).sum((1, 2))
    sizes = np.add.reduceat(size, np.searchsorted(scores.series, scores.present))
    order = [int(place) for place in np.argsort(mase) if not np.isnan(mase[place])]
    names: dict[int, str] = {}
    for place, name in (
        (order[len(order) // 2], "typical"),
        (order[-1], "worst"),
        (int(sizes.argmax()), "largest"),
        (order[0], "best"),
    ):
        names.setdefault(place, name)
    last = {place: int(np.flatnonzero(scores.series == scores.present[place])[-1]) for place in names}
    return {last[place]: "" if len(scores.present) == 1 else name for place, name in names.items()}


def _draw_lead_times(axis: Axes, scores: Scores) -> None:
    """The median error of each lead time in units of the scale of each series, a line for each forecaster."""
    errors = scores.by_lead_time["median_mase"]
    steps = np.arange(1, len(errors) + 1)
    marker = "." if len(steps) == 1 else None
    for name, values in zip(scores.forecasters, errors.T, strict=True):
        width = 1.8 if name == "rnn" else 1.2
        axis.plot(steps, values, color=COLOUR_OF[name], lw=width, marker=marker, label=name.replace("_", " "))
    axis.set(xlabel="lead time in steps", ylabel="scaled error", ylim=(0, None))
    axis.set_title(
        "error by lead time" + ("" if len(scores.present) == 1 else ", median over series"),
        fontsize=10,
        loc="left",
    )
    axis.legend(frameon=False, fontsize=9, ncols=4, loc="upper left")
    axis.spines[["top", "right"]].set_visible(False)


def _draw_forecast(
    axis: Axes, data: SeriesData, origin: np.ndarray, scores: Scores, forecast: int, why: str
) -> None:
    """The first feature of one forecast over what came, after a part of its history."""
    series, last, horizon = int(scores.series[forecast]), int(origin[forecast]), scores.values.shape[1]
    shown = min(last + 1, 3 * horizon)
    stamps = data.times.stamps(series, last + 1 - shown, shown + horizon)
    values = scores.values[forecast, :, 0]
    first = int(data.offsets[series]) + last + 1 - shown
    history = data.values[first : first + shown].numpy()[:, 0]
    draw_line(axis, stamps, np.array([*history, *values[:, 0]]), color=INK, lw=1.2, zorder=3)
    future = stamps[shown:]
    marker = "." if horizon == 1 else None
    if "seasonal_naive" in scores.forecasters:
        axis.plot(future, values[:, 3], color=COLOUR_OF["seasonal_naive"], lw=1, marker=marker)
    axis.plot(future, values[:, 1], color=FORECAST_COLOUR, lw=1.6, marker=marker)
    if scores.levels:
        low, high = (end[forecast, :, 0] for end in scores.interval(0))
        axis.fill_between(future, low, high, color=interval_shades(1)[0], lw=0)
    axis.axvline(stamps[shown - 1], color="0.75", lw=0.8, zorder=0)
    name = data.ids[series] if data.num_series > 1 else ""
    title = ": ".join(part for part in (why, shortened(name, 40)) if part)
    axis.set_title(title, fontsize=10, loc="left", parse_math=False)
    axis.spines[["top", "right"]].set_visible(False)
    if isinstance(stamps[0], date):
        show_dates(axis, getattr(stamps[0], "tzinfo", None), WIDTH / 2)
