from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.dates import date2num, num2date

from rnn_lightning.output.plots import Panel, plot_forecast, save_picture


def drawn(panel: Panel) -> Axes:
    """The axes of one series with one feature."""
    axis: Axes = plot_forecast([panel], ["y"], "ds", 80).axes[0]
    return axis


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_the_picture_draws_history_forecast_and_band_at_their_times() -> None:
    rng = np.random.default_rng(0)
    history, forecast, band = rng.normal(size=(6, 2)), rng.normal(size=(3, 2)), rng.normal(size=(2, 3, 2))
    panels = [Panel(name, range(6), history, range(6, 9), forecast, band) for name in ("a", "b")]
    figure = plot_forecast(panels, ["y", "z"], "ds", 80)
    assert len(figure.axes) == 4
    assert [axis.get_title(loc="right") for axis in figure.axes] == ["a", "a", "b", "b"]
    assert [axis.get_ylabel() for axis in figure.axes] == ["y", "z", "y", "z"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["", "", "ds", "ds"]
    known, generated = figure.axes[1].get_lines()[:2]
    np.testing.assert_array_equal(known.get_xdata(), np.arange(6))
    np.testing.assert_array_equal(known.get_ydata(), history[:, 1])
    np.testing.assert_array_equal(generated.get_xdata(), np.arange(5, 9))
    np.testing.assert_array_equal(generated.get_ydata(), [history[-1, 1], *forecast[:, 1]])
    (interval,) = figure.axes[1].collections
    assert interval.get_label() == "80 % interval"
    heights = np.asarray(interval.get_paths()[0].vertices)[:, 1]
    assert set(band[:, :, 1].ravel()) <= set(heights)


def test_without_a_band_none_is_drawn() -> None:
    axis = drawn(Panel("a", range(2), np.zeros((2, 1)), range(2, 4), np.ones((2, 1))))
    assert not axis.collections
    assert not axis.texts


def test_gaps_stay_gaps_and_a_value_between_them_is_a_dot() -> None:
    nan = np.nan
    axis = drawn(Panel("a", range(7), column(1, 2, nan, 4, nan, 6, 7), range(7, 9), column(8, 9)))
    known, generated = axis.get_lines()[:2]
    np.testing.assert_array_equal(known.get_ydata(), [1, 2, nan, 4, nan, 6, 7])
    assert (known.get_marker(), known.get_markevery()) == (".", [3])
    assert generated.get_marker() == "None"


def test_one_known_step_is_a_dot() -> None:
    axis = drawn(Panel("a", [5], column(1), [6, 7], column(2, 3)))
    assert axis.get_lines()[0].get_markevery() == [0]
    np.testing.assert_array_equal(axis.get_lines()[1].get_ydata(), [1, 2, 3])
    assert axis.get_xlim() == pytest.approx((4.98, 7.02))


def test_a_forecast_after_an_unknown_value_starts_by_itself() -> None:
    nan, band = np.nan, np.array([column(1, 2, 3), column(3, 4, 5)])
    axis = drawn(Panel("a", range(3), column(0, 1, nan), range(3, 6), column(2, 3, 4), band))
    np.testing.assert_array_equal(axis.get_lines()[1].get_ydata(), [nan, 2, 3, 4])
    (interval,) = axis.collections
    assert np.asarray(interval.get_paths()[0].vertices)[:, 0].min() == 3
    # A single step is a dot, and its interval a bar.
    axis = drawn(Panel("a", range(3), column(0, 1, nan), [3], column(2), band[:, :1]))
    assert axis.get_lines()[1].get_markevery() == [1]
    bar = axis.collections[-1]
    np.testing.assert_array_equal(np.asarray(bar.get_paths()[0].vertices), [[3, 1], [3, 3]])


def test_a_series_without_a_forecast_says_so_and_keeps_its_place_in_time() -> None:
    axis = drawn(Panel("a", range(11), column(*range(11)), range(11, 21), np.full((10, 1), np.nan)))
    assert [text.get_text() for text in axis.texts] == ["no forecast"]
    assert np.isnan(axis.get_lines()[1].get_ydata()).all()
    assert axis.get_xlim() == pytest.approx((-0.2, 20.2))


def test_time_axes_show_the_clock_of_the_time_zone() -> None:
    zone = ZoneInfo("America/New_York")
    start = datetime(2024, 1, 31, 12, tzinfo=zone)
    stamps = [start + timedelta(hours=hour) for hour in range(8)]
    axis = drawn(Panel("a", stamps[:4], np.ones((4, 1)), stamps[4:], np.ones((4, 1))))
    assert axis.get_xlim() == pytest.approx(date2num([stamps[0], stamps[-1]]).tolist(), abs=0.01)
    ticks = axis.xaxis.get_major_formatter().format_ticks(date2num(stamps).tolist())
    assert ticks[:3] == ["12:00", "13:00", "14:00"]
    days = [start + timedelta(days=day) for day in range(60)]
    axis = drawn(Panel("a", days[:50], np.ones((50, 1)), days[50:], np.ones((10, 1))))
    assert {num2date(tick, zone).hour for tick in axis.get_xticks()} == {0}


ODD: dict[str, Any] = {
    "emoji": "🦆 duck",
    "Arabic": "مرحبا",
    "mathematics": "$\\frac$ $",
    "lines": "two\nlines\tand a tab",
    "long": "name " * 100,
    "nothing": "",
}


@pytest.mark.parametrize("name", ODD.values(), ids=ODD.keys())
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    panel = Panel(name, range(3), np.ones((3, 1)), range(3, 5), np.ones((2, 1)))
    figure = plot_forecast([panel], [name or "y"], name)
    save_picture(figure, tmp_path / "forecast.png")
    assert (tmp_path / "forecast.png").stat().st_size > 5000
    title = figure.axes[0].get_title(loc="right")
    line = " ".join(name.split())
    assert title == (line if len(line) <= 60 else line[:59] + "…")
    assert len(figure.axes[0].get_ylabel()) <= 30


def test_thousands_of_steps_can_be_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    panel = Panel(
        "a",
        range(2000),
        rng.random((2000, 1)),
        range(2000, 3000),
        rng.random((1000, 1)),
        rng.random((2, 1000, 1)),
    )
    save_picture(plot_forecast([panel], ["y"], "ds", 80), tmp_path / "forecast.png")
    assert (tmp_path / "forecast.png").stat().st_size > 5000
