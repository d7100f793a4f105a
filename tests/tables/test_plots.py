from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import matplotlib.style
import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.dates import date2num, num2date

from rnn_lightning import plot_forecast
from rnn_lightning.errors import InputError
from rnn_lightning.pictures import save_png
from rnn_lightning.tables.panels import representative_series


def table(stamps: Sequence[Any] | pl.Series, **columns: Any) -> pl.DataFrame:
    """A table of one series; ``y_lo_80`` becomes the column ``y-lo-80``."""
    values = {name.replace("_", "-"): np.array(column, float) for name, column in columns.items()}
    return pl.DataFrame({"ds": pl.Series(stamps), **values})


def drawn(history: pl.DataFrame, forecast: pl.DataFrame, **settings: Any) -> Axes:
    """The axis of one series with one feature."""
    (axis,) = plot_forecast(history, forecast, **settings).axes
    return axis


def labels(axis: Axes) -> list[str]:
    """The labels of the ticks in the picture, and that at the end of the axis."""
    axis.figure.draw_without_rendering()  # type: ignore[union-attr]
    begin, end = axis.get_xlim()
    ticks = zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)
    shown = [label.get_text() for tick, label in ticks if begin <= tick <= end]
    return [*shown, axis.xaxis.get_offset_text().get_text()]


def test_history_forecast_and_all_intervals_are_drawn_at_their_times() -> None:
    rng = np.random.default_rng(0)
    past, future = rng.normal(size=(2, 6, 2)), rng.normal(size=(2, 3, 2))
    names = [f"{feature}{end}" for feature in "yz" for end in ("-lo-50", "-hi-50", "-lo-95", "-hi-95")]
    bounds = dict(zip(names, rng.normal(size=(8, 6)), strict=True))
    index = {"unique_id": ["a"] * 6 + ["b"] * 6, "ds": [*range(6)] * 2}
    history = pl.DataFrame({**index, "y": past[..., 0].ravel(), "z": past[..., 1].ravel()})
    index = {"unique_id": ["a"] * 3 + ["b"] * 3, "ds": [*range(6, 9)] * 2}
    forecast = pl.DataFrame({**index, "y": future[..., 0].ravel(), "z": future[..., 1].ravel(), **bounds})
    figure = plot_forecast(history, forecast)
    by_place = np.array(figure.axes).reshape(2, 2)  # a series is a column, a feature a row
    assert [axis.get_title(loc="right") for axis in by_place[0]] == ["a", "b"]
    assert [axis.get_ylabel() for axis in by_place[:, 0]] == ["y", "z"]
    axis = by_place[1, 1]
    known, generated = axis.get_lines()[:2]
    np.testing.assert_array_equal(known.get_xdata(), np.arange(6))
    np.testing.assert_array_equal(known.get_ydata(), past[1, :, 1])
    np.testing.assert_array_equal(generated.get_xdata(), np.arange(5, 9))
    np.testing.assert_array_equal(generated.get_ydata(), [past[1, -1, 1], *future[1, :, 1]])
    narrow, wide = axis.collections
    assert [band.get_label() for band in (narrow, wide)] == ["50 % interval", "95 % interval"]
    for level, band in ((50, narrow), (95, wide)):
        heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
        assert {*bounds[f"z-lo-{level}"][3:], *bounds[f"z-hi-{level}"][3:]} <= set(heights)
    assert narrow.get_facecolor()[0, :3].sum() < wide.get_facecolor()[0, :3].sum()
    assert narrow.zorder > wide.zorder


def test_pandas_frames_and_dates_as_text_can_be_drawn() -> None:
    pd = pytest.importorskip("pandas")
    history = pd.DataFrame({"ds": ["2024-01-01", "2024-01-02"], "y": [1.0, 2.0]})
    forecast = pd.DataFrame({"ds": ["2024-01-03"], "y": [3.0]})
    of_pandas = drawn(history, forecast).get_lines()[1].get_xydata()
    of_polars = drawn(pl.DataFrame(history.to_dict("list")), pl.DataFrame(forecast.to_dict("list")))
    np.testing.assert_array_equal(of_pandas, of_polars.get_lines()[1].get_xydata())
    assert labels(of_polars) == ["Jan", "02", "03", "Jan 2024"]


def test_two_years_have_months_between_them() -> None:
    weeks = pl.date_range(date(2022, 3, 1), date(2024, 3, 1), "1w", eager=True)
    history = pl.DataFrame({"ds": weeks, "y": range(len(weeks))})
    assert labels(drawn(history[:-9], history[-9:]))[:4] == ["Apr", "Jul", "Oct", "2023"]


def test_frames_of_polars_and_pandas_are_drawn_together() -> None:
    pd = pytest.importorskip("pandas")
    history = pl.DataFrame({"ds": [date(2024, 1, 1), date(2024, 1, 2)], "y": [1.0, 2.0]})
    forecast = pd.DataFrame({"ds": pd.to_datetime(["2024-01-03"]), "y": [3.0]})
    np.testing.assert_array_equal(drawn(history, forecast).get_lines()[1].get_ydata(), [2.0, 3.0])


def test_what_really_happened_is_drawn_over_the_forecast() -> None:
    axis = drawn(table(range(9), y=range(9)), table(range(5, 8), y=[0, 0, 0]), num_steps=2)
    np.testing.assert_array_equal(axis.get_lines()[0].get_xdata(), [3, 4, 5, 6, 7])
    np.testing.assert_array_equal(axis.get_lines()[1].get_ydata(), [4, 0, 0, 0])


def test_sampled_paths_are_drawn_and_named_once() -> None:
    paths = {"y_path_1": [1, 2], "y_path_2": [3, 4]}
    axis = drawn(table(range(3), y=[0, 0, 0]), table([3, 4], y=[2, 3], **paths))
    lines: Any = [line.get_ydata() for line in axis.get_lines()[2:4]]
    assert [line.tolist() for line in lines] == [[0, 1, 2], [0, 3, 4]]
    assert axis.get_legend_handles_labels()[1] == ["history", "forecast", "sampled paths"]


def test_of_many_series_representative_ones_are_drawn() -> None:
    index = {"unique_id": [name for name in "abcdef" for _ in range(2)]}
    history = pl.DataFrame({**index, "ds": [0, 1] * 6, "y": np.arange(12.0)})
    size, width = np.array([3, -9, 1, 4, 5, 6]).repeat(2), np.array([1, 1, 0.1, 9, 1, 1]).repeat(2)
    forecast = {**index, "ds": [2, 3] * 6, "y": size, "y-lo-80": size - width, "y-hi-80": size + width}
    figure = plot_forecast(history, pl.DataFrame(forecast))
    titles = [axis.get_title(loc="right") for axis in figure.axes]
    assert titles == ["b (largest)", "e (typical)", "c (smallest)", "d (least certain)"]
    figure = plot_forecast(history, pl.DataFrame(forecast), ids={"f": "worst", "a": ""})
    assert [axis.get_title(loc="right") for axis in figure.axes] == ["f (worst)", "a"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["", "ds"]
    with pytest.raises(InputError, match="there is no series 'x'; there are 6, such as 'a'"):
        plot_forecast(history, pl.DataFrame(forecast), ids=["x"])


def test_series_without_a_forecast_are_not_the_largest_of_many() -> None:
    sizes = np.array([np.nan, 2, 3, 1, np.nan])
    assert representative_series(sizes, None) == {2: "largest", 1: "typical", 3: "smallest"}
    assert list(representative_series(np.full(9, np.nan), None)) == [0, 1, 2, 3]


def test_series_that_end_together_share_the_axis_of_time() -> None:
    history = pl.DataFrame({"unique_id": ["a", "a", "b"], "ds": [0, 1, 1], "y": [1.0, 2.0, 3.0]})
    forecast = pl.DataFrame({"unique_id": ["a", "b"], "ds": [2, 2], "y": [1.0, 1.0]})
    first, second = plot_forecast(history, forecast).axes
    assert first.get_xlim() == second.get_xlim() == pytest.approx((-0.02, 2.02))
    later = forecast.with_columns(pl.Series("ds", [2, 3]))
    first, second = plot_forecast(history, later).axes
    assert (first.get_xlim()[1], second.get_xlim()[1]) == pytest.approx((2.02, 3.02))
    assert first.get_xlabel() == second.get_xlabel() == "ds"
    assert [axis.get_title(loc="right") for axis in (first, second)] == ["a", "b"]
    titles = [axis.get_title(loc="right") for axis in plot_forecast(history, later[::-1]).axes]
    assert titles == ["b", "a"]  # in the order of the forecast, not of time


def test_missing_columns_are_named() -> None:
    with pytest.raises(InputError, match="the history has no column 'z'; it has ds, y"):
        plot_forecast(table([0], y=[1]), table([1], z=[1]))
    with pytest.raises(InputError, match="the history of the series has no step before its forecast"):
        plot_forecast(table([5], y=[1]), table([1], y=[1]))


def test_a_forecast_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="the forecast has no rows"):
        drawn(table(range(5), y=range(5)), table(range(5), y=range(5)).head(0))


def test_gaps_stay_gaps_and_a_value_between_them_is_a_dot() -> None:
    nan = np.nan
    axis = drawn(table(range(7), y=[1, 2, nan, 4, nan, 6, 7]), table([7, 8], y=[8, 9]))
    known, generated = axis.get_lines()[:2]
    np.testing.assert_array_equal(known.get_ydata(), [1, 2, nan, 4, nan, 6, 7])
    assert (known.get_marker(), known.get_markevery()) == (".", [3])
    assert generated.get_marker() == "None"


@pytest.mark.parametrize("kind", [pl.Date, pl.Datetime("us"), pl.Datetime("ns", "Europe/Prague"), pl.String])
def test_the_line_breaks_at_dates_without_a_row(kind: Any) -> None:
    days = pl.Series(
        [date(2024, 3, day) for day in (27, 28, 29, 31)] + [date(2024, 4, day) for day in (1, 2)]
    )
    days = days.cast(kind) if kind == pl.String else days.cast(pl.Datetime).cast(kind)
    if getattr(kind, "time_zone", None):  # over the change to summer time
        days = days.dt.replace_time_zone(None).dt.replace_time_zone("Europe/Prague")
    line = drawn(table(days[:5], y=range(5)), table(days[5:], y=[5])).get_lines()[0]
    np.testing.assert_array_equal(line.get_ydata(), [0, 1, 2, np.nan, 3, 4])


def test_weekends_are_no_gaps_in_business_days_and_irregular_stamps_have_none() -> None:
    days = pl.Series([date(2024, 1, day) for day in (1, 2, 3, 4, 5, 8, 9, 11, 12, 15, 16, 17)])
    values = drawn(table(days[:11], y=range(11)), table(days[11:], y=[5])).get_lines()[0].get_ydata()
    np.testing.assert_array_equal(values, [*range(7), np.nan, *range(7, 11)])
    irregular = drawn(table([0.0, 1.0, 1.7, 2.9], y=range(4)), table([4.0], y=[5])).get_lines()[0]
    np.testing.assert_array_equal(irregular.get_ydata(), range(4))


def test_pictures_are_legible_on_dark_paper() -> None:
    history, forecast = table(range(9), y=range(9)), table([9], y=[9], y_lo_80=[8], y_hi_80=[10])
    with matplotlib.style.context("dark_background"):
        axis = drawn(history, forecast)
    assert axis.get_lines()[0].get_color() == axis.yaxis.label.get_color() == "white"
    band = np.asarray(axis.collections[0].get_facecolor())[0, :3]
    assert band.max() < 0.5


def test_one_known_step_is_a_dot() -> None:
    axis = drawn(table([5], y=[1]), table([6, 7], y=[2, 3]))
    assert axis.get_lines()[0].get_markevery() == [0]
    np.testing.assert_array_equal(axis.get_lines()[1].get_ydata(), [1, 2, 3])
    assert axis.get_xlim() == pytest.approx((4.98, 7.02))


def test_a_forecast_after_an_unknown_value_starts_by_itself() -> None:
    nan, band = np.nan, {"y_lo_80": [1, 2, 3], "y_hi_80": [3, 4, 5]}
    axis = drawn(table(range(3), y=[0, 1, nan]), table(range(3, 6), y=[2, 3, 4], **band))
    np.testing.assert_array_equal(axis.get_lines()[1].get_ydata(), [nan, 2, 3, 4])
    (interval,) = axis.collections
    assert np.asarray(interval.get_paths()[0].vertices)[:, 0].min() == 3
    # A single step is a dot, and its interval a bar.
    axis = drawn(table(range(3), y=[0, 1, nan]), table([3], y=[2], y_lo_80=[1], y_hi_80=[3]))
    assert axis.get_lines()[1].get_markevery() == [1]
    bar = axis.collections[-1]
    np.testing.assert_array_equal(np.asarray(bar.get_paths()[0].vertices), [[3, 1], [3, 3]])


def test_a_series_without_a_forecast_says_so_and_keeps_its_place_in_time() -> None:
    axis = drawn(table(range(11), y=range(11)), table(range(11, 21), y=[np.nan] * 10))
    assert [text.get_text() for text in axis.texts] == ["no forecast"]
    assert np.isnan(axis.get_lines()[1].get_ydata()).all()
    assert axis.get_xlim() == pytest.approx((-0.2, 20.2))


def test_time_axes_show_the_clock_of_the_time_zone() -> None:
    zone = ZoneInfo("America/New_York")
    start = datetime(2024, 1, 31, 12, tzinfo=zone)
    stamps = pl.Series([start + timedelta(hours=hour) for hour in range(8)])
    stamps = stamps.dt.convert_time_zone("America/New_York")
    axis = drawn(table(stamps[:4], y=np.ones(4)), table(stamps[4:], y=np.ones(4)))
    assert axis.get_xlim() == pytest.approx(date2num([stamps[0], stamps[-1]]).tolist(), abs=0.01)
    assert labels(axis) == [*(f"{hour}:00" for hour in range(12, 20)), "31 Jan 2024"]
    days = pl.Series([start + timedelta(days=day) for day in range(60)]).dt.convert_time_zone(str(zone))
    axis = drawn(table(days[:50], y=np.ones(50)), table(days[50:], y=np.ones(10)))
    assert {num2date(tick, zone).hour for tick in axis.get_xticks()} == {0}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (timedelta(hours=2), ["30", "31", "Jan", "02", "Jan 2024"]),
        (timedelta(days=4), ["2024", "Feb", "Mar", "Apr", "May", "Jun", "Jul", ""]),
        (timedelta(days=366), [*map(str, range(2025, 2071, 5)), ""]),
    ],
)
def test_year_and_month_are_on_every_axis_of_dates(step: timedelta, expected: list[str]) -> None:
    stamps = [datetime(2023, 12, 29, 12) + k * step for k in range(50)]
    axis = drawn(table(stamps[:40], y=np.ones(40)), table(stamps[40:], y=np.ones(10)))
    assert labels(axis) == expected


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
    feature = name or "y"
    history = pl.DataFrame({"id": [name] * 3, "t": [0, 1, 2], feature: [1.0] * 3})
    forecast = pl.DataFrame({"id": [name] * 2, "t": [3, 4], feature: [1.0] * 2})
    figure = plot_forecast(history, forecast, id_column="id", time_column="t")
    save_png(figure, tmp_path / "forecast.png")
    assert (tmp_path / "forecast.png").stat().st_size > 5000
    title = figure.axes[0].get_title(loc="right")
    line = " ".join(name.split())
    assert title == (line if len(line) <= 60 else line[:59] + "…")
    assert len(figure.axes[0].get_ylabel()) <= 30


def test_thousands_of_steps_can_be_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    future = {"y": rng.random(1000), "y_lo_80": rng.random(1000), "y_hi_80": rng.random(1000)}
    figure = plot_forecast(table(range(2000), y=rng.random(2000)), table(range(2000, 3000), **future))
    save_png(figure, tmp_path / "forecast.png")
    assert (tmp_path / "forecast.png").stat().st_size > 5000


@pytest.mark.parametrize("first", [date.min, date.max - timedelta(9)])
def test_the_first_and_the_last_days_that_dates_can_tell_can_be_drawn(first: date) -> None:
    days = [first + timedelta(day) for day in range(10)]
    axis = drawn(table(days[:7], y=range(7)), table(days[7:], y=range(3)))
    axis.figure.draw_without_rendering()  # type: ignore[union-attr]
    low, high = axis.get_xlim()
    assert date2num(date.min) <= low <= date2num(days[0])
    assert date2num(days[-1]) <= high <= date2num(date.max)
