"""The forecast file and the callback that writes it."""

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import lightning.pytorch as L
import numpy as np
import polars as pl
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rnn_lightning import Forecaster, Series, SeriesData, TableDataModule, TableSeries
from rnn_lightning.data.series import TimeIndex
from rnn_lightning.errors import InputError
from rnn_lightning.tables.calendar import CalendarIndex
from rnn_lightning.tables.forecast_checks import notes_on_early_ends, notes_on_other_series, warn_if_diverged
from rnn_lightning.tables.forecast_file import ForecastTable, write_table
from rnn_lightning.tables.forecast_options import ForecastColumns, ForecastOptions
from rnn_lightning.tables.forecast_writer import ForecastWriter
from rnn_lightning.tables.panels import find_series
from rnn_lightning.tables.table_data import TableData, TableFormat, as_table_data

POINT, WITH_INTERVAL = ForecastColumns(), ForecastColumns([80])
ODD_IDS = ["plain", "a,b", 'say "hi"', "two\nlines", "🦆 é", "007", " ", "", "=1+1"]
Format = Literal["csv", "parquet"]


def series_of(
    history: pl.DataFrame, frequency: Any, time_format: str | None = None, **settings: Any
) -> TableData:
    """What a table source makes of a regular history in the order of its series."""
    names = history["unique_id"].cast(pl.String).unique(maintain_order=True)
    lengths = history.group_by("unique_id", maintain_order=True).len()["len"].to_numpy()
    features = [name for name in history.columns if name not in ("unique_id", "ds")]
    offsets = np.concatenate([[0], lengths.cumsum()])
    starts, frequencies = history["ds"].gather(offsets[:-1]), [frequency] * len(names)
    is_calendar = history["ds"].dtype.is_temporal()
    return TableData(
        values=torch.from_numpy(history.select(features).cast(pl.Float32).to_numpy().copy()),
        offsets=torch.from_numpy(offsets),
        ids=names.to_list(),
        features=features,
        times=CalendarIndex(starts, frequencies) if is_calendar else TimeIndex(starts, frequencies),
        table_format=TableFormat(dict(history.schema), time_format),
        **settings,
    )


def shares(folder: Path, values: np.ndarray, num: int = 1) -> ForecastTable:
    """The table of ``values (series, horizon, feature, column)`` as ``num`` devices leave it."""
    paths = [folder / f".forecast-{rank}.npy" for rank in range(num)]
    for rank, path in enumerate(paths):
        np.save(path, values[rank::num].astype(np.float32))
    return ForecastTable(paths)


def random_values(
    num_series: int, horizon: int = 3, num_features: int = 1, num_columns: int = 1
) -> np.ndarray:
    return np.random.default_rng(0).random((num_series, horizon, num_features, num_columns), np.float32)


def plain_data(values: torch.Tensor, **settings: Any) -> TableData:
    """Series on a numbered axis, as those of a table."""
    return dataclasses.replace(as_table_data(SeriesData.from_equal(values)), **settings)


def history_of(stamps: "Sequence[Any] | pl.Series", num_series: int = 2, **types: Any) -> pl.DataFrame:
    """A table of series at equal stamps."""
    length = len(stamps)
    frame = pl.DataFrame(
        {
            "unique_id": [f"s{i}" for i in range(num_series) for _ in range(length)],
            "ds": pl.concat([pl.Series(stamps)] * num_series),
            "y": np.arange(num_series * length, dtype=np.float64),
        }
    )
    return frame.cast(types)  # type: ignore[arg-type]


@pytest.mark.parametrize("num", [1, 2, 3])
def test_the_shares_of_devices_give_the_series_in_order(num: int, tmp_path: Path) -> None:
    values = random_values(7)
    table = shares(tmp_path, values, num)
    assert (table.num_series, table.horizon) == (7, 3)
    for first in range(7):
        for end in range(first + 1, 8):
            np.testing.assert_array_equal(table.rows(range(first, end)), values[first:end])


def test_a_missing_share_says_which_disk_is_needed(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"share\.npy is missing: predict on several machines needs a run folder"
    ):
        ForecastTable([tmp_path / "share.npy"])


BERLIN = pl.Series([datetime(2024, 10, 25), datetime(2024, 10, 26)]).dt.replace_time_zone("Europe/Berlin")
KINDS: dict[str, tuple[pl.DataFrame, Any, list[Any]]] = {
    "months": (
        history_of([date(2024, 1, 31), date(2024, 2, 29)]),
        "1me",
        [date(2024, 3, 31), date(2024, 4, 30), date(2024, 5, 31)],
    ),
    "milliseconds": (
        history_of(
            pl.Series([datetime(2024, 1, 1), datetime(2024, 1, 1, 1)], dtype=pl.Datetime("ms")), y=pl.Float32
        ),
        "1h",
        [datetime(2024, 1, 1, hour) for hour in (2, 3, 4)],
    ),
    "the end of summer time": (
        history_of(BERLIN),
        "1d",
        [datetime(2024, 10, day, tzinfo=ZoneInfo("Europe/Berlin")) for day in (27, 28, 29)],
    ),
    "integers": (history_of([1, 3], ds=pl.Int32), 2, [5, 7, 9]),
    "floats": (history_of([0.1, 0.2], unique_id=pl.Categorical), 0.1, [0.3, 0.4, 0.5]),
    "numbers as ids": (
        history_of([1, 2]).with_columns(pl.Series("unique_id", [12, 12, 7, 7], dtype=pl.UInt16)),
        1,
        [3, 4, 5],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_parquet_appends_to_the_history_with_its_types(kind: str, tmp_path: Path) -> None:
    history, frequency, stamps = KINDS[kind]
    data, values = series_of(history, frequency), random_values(2, num_columns=3)
    write_table(tmp_path / "forecast.parquet", data, shares(tmp_path, values), WITH_INTERVAL)
    table = pl.read_parquet(tmp_path / "forecast.parquet")
    assert table.columns == ["unique_id", "ds", "y", "y-lo-80", "y-hi-80"]
    assert table.schema["y-lo-80"] == table.schema["y-hi-80"] == history.schema["y"]
    appended = pl.concat([history, table.select(history.columns)], how="vertical")
    assert appended.schema == history.schema
    assert table["unique_id"].cast(pl.String).to_list() == [name for name in data.ids for _ in range(3)]
    assert table["ds"].to_list() == stamps * 2
    np.testing.assert_allclose(table.select("y", "y-lo-80", "y-hi-80").to_numpy(), values.reshape(-1, 3))


@pytest.mark.parametrize(
    ("stamps", "frequency", "time_format", "following"),
    [
        (["30.01.2024", "31.01.2024"], "1d", "%d.%m.%Y", ["01.02.2024", "02.02.2024", "03.02.2024"]),
        (
            ["31.01.24 22:30", "31.01.24 23:30"],
            "1h",
            "%d.%m.%y %H:%M",
            ["01.02.24 00:30", "01.02.24 01:30", "01.02.24 02:30"],
        ),
        (["2024-02-27", "2024-02-28"], "1d", None, ["2024-02-29", "2024-03-01", "2024-03-02"]),
        (
            ["2024-01-01T22:00:00.000000", "2024-01-01T23:00:00.000000"],
            "1h",
            None,
            [f"2024-01-02T0{hour}:00:00.000000" for hour in range(3)],
        ),
    ],
)
def test_csv_lines_append_to_the_history_file(
    stamps: list[str], frequency: str, time_format: str | None, following: list[str], tmp_path: Path
) -> None:
    written, form = (
        history_of(stamps),
        time_format or ("%Y-%m-%dT%H:%M:%S%.f" if "h" in frequency else "%Y-%m-%d"),
    )
    kind = pl.Datetime if "H" in form else pl.Date
    history = written.with_columns(pl.col("ds").str.strptime(kind, form))
    path = tmp_path / "forecast.csv"
    write_table(path, series_of(history, frequency, time_format), shares(tmp_path, random_values(2)), POINT)
    header, lines = path.read_text().split("\n", 1)
    assert header == "unique_id,ds,y"
    whole = pl.read_csv(f"{written.write_csv()}{lines}".encode())
    assert whole.schema == written.schema
    assert whole["ds"].to_list() == [*stamps * 2, *following * 2]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_ids_come_back_as_they_are(suffix: str, tmp_path: Path) -> None:
    history = pl.DataFrame({"unique_id": np.repeat(ODD_IDS, 2), "ds": [1, 2] * len(ODD_IDS), "y": 0.5})
    path = tmp_path / f"forecast.{suffix}"
    write_table(path, series_of(history, 1), shares(tmp_path, random_values(len(ODD_IDS))), POINT)
    table = (
        pl.read_parquet(path)
        if suffix == "parquet"
        else pl.read_csv(path, schema_overrides={"unique_id": pl.String})
    )
    assert table["unique_id"].to_list() == [name for name in ODD_IDS for _ in range(3)]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_keep_the_order_of_the_table_and_unknown_forecasts_are_empty(
    suffix: str, tmp_path: Path
) -> None:
    history = pl.DataFrame(
        {"z": [1, 2], "ds": [1, 2], "price": [1.0, 2.0], "unique_id": ["a", "a"], "y": [0.5, 1.5]}
    )
    data = series_of(history.select("z", "ds", "unique_id", "y"), 1)
    data = dataclasses.replace(data, table_format=TableFormat(dict(history.schema)))
    values = random_values(1, num_features=2, num_columns=3)
    values[0, 1] = np.nan
    path = tmp_path / f"forecast.{suffix}"
    write_table(path, data, shares(tmp_path, values), WITH_INTERVAL)
    table = pl.read_parquet(path) if suffix == "parquet" else pl.read_csv(path)
    assert table.columns == ["z", "z-lo-80", "z-hi-80", "ds", "unique_id", "y", "y-lo-80", "y-hi-80"]
    assert table.schema["z"] == pl.Float64
    assert table.null_count().row(0) == (1, 1, 1, 0, 0, 1, 1, 1)
    np.testing.assert_allclose(
        table.select("y", "y-lo-80", "y-hi-80").to_numpy()[[0, 2]], values[0, [0, 2], 1], 1e-6
    )


def test_without_ids_and_types_the_columns_are_those_of_the_data(tmp_path: Path) -> None:
    data = plain_data(torch.zeros(1, 4, 2), id_column=None)
    write_table(
        tmp_path / "forecast.parquet", data, shares(tmp_path, random_values(1, num_features=2)), POINT
    )
    table = pl.read_parquet(tmp_path / "forecast.parquet")
    assert table.columns == ["ds", "y0", "y1"]
    assert table["ds"].to_list() == [4, 5, 6]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_of_several_chunks_has_all_series_in_order(suffix: str, tmp_path: Path) -> None:
    """A chunk has a quarter of a million rows."""
    values = random_values(100_000)
    data = plain_data(torch.zeros(len(values), 1, 1))
    write_table(tmp_path / f"forecast.{suffix}", data, shares(tmp_path, values, 3), POINT)
    table = (pl.read_parquet if suffix == "parquet" else pl.read_csv)(tmp_path / f"forecast.{suffix}")
    assert table["unique_id"].cast(pl.Int64).to_list() == [i for i in range(len(values)) for _ in range(3)]
    assert table["ds"].to_list() == [1, 2, 3] * len(values)
    np.testing.assert_allclose(table["y"].to_numpy(), values.flatten(), rtol=1e-6)


class Failing(ForecastTable):
    """Cannot be read after its first chunk."""

    def rows(self, series: range) -> np.ndarray:
        return super().rows(series) if series.start == 0 else 1 / 0  # type: ignore[return-value]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_failure_leaves_the_old_file_and_nothing_else(suffix: str, tmp_path: Path) -> None:
    shares(tmp_path, random_values(100_000))
    path, table = tmp_path / f"forecast.{suffix}", Failing([tmp_path / ".forecast-0.npy"])
    path.write_text("old")
    with pytest.raises((ZeroDivisionError, pl.exceptions.ComputeError), match="division by zero"):
        write_table(path, plain_data(torch.zeros(100_000, 1, 1)), table, POINT)
    assert path.read_text() == "old"
    assert {file.name for file in tmp_path.iterdir()} == {".forecast-0.npy", path.name}


def test_forecasts_far_outside_the_recent_history_get_a_warning(tmp_path: Path) -> None:
    history = torch.rand(5, 50, 1, generator=torch.Generator().manual_seed(0))
    data, values = plain_data(history), random_values(5)
    assert warn_if_diverged(data, shares(tmp_path, values)) == []
    values[1, 2] = 500
    (warning,) = warn_if_diverged(data, shares(tmp_path, values))
    assert "leaves the range of the history by far: '1' (y: history 0.0" in warning
    assert "to 500)" in warning
    other = history.clone()
    other[0], other[1] = 1e6 * history[0], 5.0
    values[0, :], values[1, :] = 5e5, 5000.0
    (warning,) = warn_if_diverged(plain_data(other), shares(tmp_path, values))
    assert "'1' (y: history 5 to 5, forecast 5e+03 to 5e+03)" in warning  # whatever is beside it
    other[1], values[1] = 0.0, 1e-5  # nearly zero after zeros
    assert warn_if_diverged(plain_data(other), shares(tmp_path, values)) == []
    values[:] = -500
    (warning,) = warn_if_diverged(data, shares(tmp_path, values, 2))
    assert "'0' (y" in warning
    assert "and 2 others. The network has diverged" in warning
    values[:] = np.nan
    assert warn_if_diverged(data, shares(tmp_path, values)) == []


class Given(Series):
    """Series that a test has made."""

    def __init__(self, data: SeriesData) -> None:
        self.data, self.num_features = data, len(data.features)

    def load(self) -> SeriesData:
        return self.data


def predict(
    data: SeriesData,
    folder: Path,
    num_samples: int | None = None,
    intervals: L.Callback | None = None,
    **options: Any,
) -> Path:
    """Forecast three steps with random weights; returns the folder that was written."""
    torch.manual_seed(0)
    forecaster = Forecaster(num_features=len(data.features), hidden_size=4)
    forecaster.network.transforms.fit([torch.rand(20, len(data.features))])
    forecaster.network.residual_covariance.copy_(0.01 * torch.eye(len(data.features)))
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        default_root_dir=folder,
        callbacks=[*filter(None, [intervals]), ForecastWriter(ForecastOptions(**options))],
    )
    datamodule = TableDataModule(Given(data), context_length=4, horizon=3, num_samples=num_samples)
    trainer.predict(forecaster, datamodule, return_predictions=False)
    return folder


def test_the_format_chooses_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = SeriesData.from_equal(torch.rand(2, 6, 1))
    formats: tuple[Format, ...] = ("csv", "parquet")
    for name in formats:
        folder = predict(data, tmp_path / name, plot=False, format=name)
        assert [path.name for path in folder.iterdir()] == [f"forecast.{name}"]
    assert f"Forecast: {tmp_path}/parquet/forecast.parquet" in capsys.readouterr().out
    table = pl.read_parquet(tmp_path / "parquet/forecast.parquet")
    assert table["y"].null_count() == 0
    written = pl.read_csv(tmp_path / "csv/forecast.csv")
    np.testing.assert_allclose(table["y"].to_numpy(), written["y"].to_numpy(), rtol=1e-6)
    with pytest.raises(InputError, match=r"`format` must be csv or parquet, got 'xlsx'"):
        ForecastOptions(format="xlsx")  # type: ignore[arg-type]


def test_options_need_no_lightning() -> None:
    code = (
        "import sys; from rnn_lightning.tables.forecast_options import ForecastOptions; ForecastOptions(); "
        "heavy = {'lightning', 'polars', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_output_names_a_table_in_a_folder_that_exists(tmp_path: Path) -> None:
    run = Path("runs/predict_0")
    assert ForecastOptions(format="parquet").path_in(run) == run / "forecast.parquet"
    assert ForecastOptions(output="-").path_in(run) == run / "forecast.csv"
    output = tmp_path / "sales.parquet"
    predict(SeriesData.from_equal(torch.rand(2, 6, 1)), tmp_path / "run", output=str(output))
    assert len(pl.read_parquet(output)) == 6
    assert not list((tmp_path / "run").iterdir())
    with pytest.raises(InputError, match=r"`output` must end in .csv or .parquet, or be -, got sales.xlsx"):
        ForecastOptions(output="sales.xlsx")
    with pytest.raises(InputError, match=r"`output` nowhere/sales.csv: the folder nowhere does not exist"):
        ForecastOptions(output="nowhere/sales.csv")


def test_equal_levels_are_one(tmp_path: Path) -> None:
    folder = predict(
        SeriesData.from_equal(torch.rand(1, 6, 1)), tmp_path, num_samples=5, levels=[50, 50], plot=False
    )
    assert pl.read_csv(folder / "forecast.csv").columns == ["unique_id", "ds", "y", "y-lo-50", "y-hi-50"]


def test_a_feature_named_as_an_interval_is_refused(tmp_path: Path) -> None:
    data = plain_data(torch.rand(1, 6, 2), features=["y", "y-lo-80"])
    predict(data, tmp_path, plot=False)
    with pytest.raises(InputError, match=r"two columns 'y-lo-80': rename that column of your table"):
        predict(data, tmp_path, num_samples=5, plot=False)


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The pictures that are saved."""
    figures: list[Figure] = []
    save: Any = FigureCanvasAgg.print_png

    def noting(canvas: FigureCanvasAgg, *args: Any, **options: Any) -> None:
        figures.append(canvas.figure)
        save(canvas, *args, **options)

    monkeypatch.setattr(FigureCanvasAgg, "print_png", noting)
    return figures


def test_the_picture_has_the_named_or_the_representative_series(
    tmp_path: Path, drawings: list[Figure], capsys: pytest.CaptureFixture[str]
) -> None:
    data = SeriesData.from_equal(torch.arange(30.0)[:, None, None].expand(30, 7, 1))
    # The last two rows of each series have covariates only.
    values = data.values.clone().view(30, 7)
    values[:, 5:] = torch.nan
    data = dataclasses.replace(data, values=values.view(-1, 1), lengths=torch.full((30,), 5))
    predict(data, tmp_path, num_samples=9, num_paths=2)
    assert "forecast.png (4 of 30 series; choose others by `plot_ids`)" in capsys.readouterr().out
    predict(data, tmp_path, plot_ids=["29", 7])
    titles = [[axis.get_title(loc="right") for axis in figure.axes] for figure in drawings]
    assert [title.split("(")[-1] for title in titles[0]] == [
        "largest)",
        "typical)",
        "smallest)",
        "least certain)",
    ]
    assert titles[1] == ["29", "7"]
    table = pl.read_csv(tmp_path / "forecast.csv")
    for axis in drawings[1].axes:
        name = int(axis.get_title(loc="right"))
        known, forecast = (np.asarray(line.get_xydata()) for line in axis.get_lines()[:2])
        np.testing.assert_array_equal(known, [[step, name] for step in range(5)])
        np.testing.assert_array_equal(forecast[0], [4, name])
        np.testing.assert_allclose(forecast[1:], table.filter(unique_id=name).select("ds", "y").to_numpy())


def test_paths_are_written_drawn_and_no_more_than_there_are(tmp_path: Path, drawings: list[Figure]) -> None:
    data = SeriesData.from_equal(torch.rand(2, 6, 1))
    predict(data, tmp_path, num_samples=5, num_paths=2)
    table = pl.read_csv(tmp_path / "forecast.csv")
    assert table.columns[2:] == ["y", "y-lo-80", "y-hi-80", "y-path-1", "y-path-2"]
    path = drawings[0].axes[1].get_lines()[3].get_ydata()
    np.testing.assert_allclose(np.asarray(path)[1:], table.filter(unique_id=1)["y-path-2"].to_numpy())
    with pytest.raises(
        InputError, match=r"`num_paths` 2 is above the number of sampled paths, 0: raise `num_samples`"
    ):
        predict(data, tmp_path, num_paths=2)


def test_of_many_features_the_first_are_drawn(tmp_path: Path, drawings: list[Figure]) -> None:
    predict(SeriesData.from_equal(torch.rand(1, 6, 12)), tmp_path, num_samples=5)
    assert [axis.get_ylabel() for axis in drawings[0].axes] == [f"y{i}" for i in range(8)]
    assert len(pl.read_csv(tmp_path / "forecast.csv").columns) == 2 + 3 * 12


def test_intervals_that_are_not_available_are_refused(tmp_path: Path) -> None:
    data = SeriesData.from_equal(torch.rand(1, 6, 1))
    with pytest.raises(InputError, match=r"`levels` \[80\]: there are no prediction intervals"):
        predict(data, tmp_path, levels=[80], plot=False)
    with pytest.raises(InputError, match="`num_samples` 1: a prediction interval needs at least two"):
        predict(data, tmp_path, num_samples=1, plot=False)
    predict(data, tmp_path, num_samples=1, levels=[], plot=False)
    assert pl.read_csv(tmp_path / "forecast.csv").columns == ["unique_id", "ds", "y"]


class KnownIntervals(L.Callback):
    """Prediction intervals whose half-width is their level."""

    def __init__(self, horizon: int = 2) -> None:
        self.horizon = horizon

    def interval_bounds(
        self, point: torch.Tensor, context: torch.Tensor, levels: Sequence[int], **_: Any
    ) -> torch.Tensor:
        assert len(context) == len(point)
        return torch.stack([point + sign * level for level in levels for sign in (-1, 1)])


def test_series_that_end_before_the_others_are_told() -> None:
    def notes(*lengths: int) -> list[str]:
        days = [pl.date_range(date(2024, 1, 1), date(2024, 1, length), eager=True) for length in lengths]
        frames = [pl.DataFrame({"unique_id": f"s{i}", "ds": d, "y": 1.0}) for i, d in enumerate(days)]
        return notes_on_early_ends(TableSeries(pl.concat(frames)).load())

    (note,) = notes(9, 7, 9)
    assert note.startswith("Note: the forecast of 's1' (2024-01-07) begins where its values end, before ")
    (note,) = notes(9, 9, 7, 8, 9)
    assert note.startswith("Note: the forecast of 2 series, such as 's2' (2024-01-07), begins where ")
    assert notes(9, 9) == notes(3, 9) == []  # as many end early


def test_series_that_came_or_went_since_the_fit_are_told() -> None:
    frame = pl.DataFrame({"unique_id": ["a", "a", "b", "b"], "ds": [1, 2, 1, 2], "y": 1.0})
    data = TableSeries(frame).load()
    assert notes_on_other_series(data, ["b", "a"]) == notes_on_other_series(data, []) == []
    assert notes_on_other_series(data, ["b", "c"]) == [
        "Note: series 'c' of the fit is not in this table.",
        "Note: series 'a' is new since the fit.",
    ]
    assert notes_on_other_series(data, ["c", "d"]) == [
        "Note: 2 series of the fit are not in this table, such as 'c'.",
        "Note: 2 series are new since the fit, such as 'a'.",
    ]


def test_a_callback_gives_the_bounds_of_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = SeriesData.from_equal(torch.rand(2, 6, 1))
    predict(data, tmp_path, levels=[90, 50], plot=False, intervals=KnownIntervals())
    table = pl.read_csv(tmp_path / "forecast.csv")
    assert table.columns[2:] == ["y", "y-lo-50", "y-hi-50", "y-lo-90", "y-hi-90"]
    np.testing.assert_allclose(table["y-lo-50"], table["y"] - 50, rtol=1e-6)
    np.testing.assert_allclose(table["y-hi-90"], table["y"] + 90, rtol=1e-6)
    assert "forecasts were validated up to 2 steps ahead, and `horizon` is 3" in capsys.readouterr().out
    with pytest.raises(InputError, match="there are no prediction intervals"):
        predict(data, tmp_path, levels=[50], plot=False, intervals=KnownIntervals(0))


def test_a_forecast_without_intervals_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, note = (
        SeriesData.from_equal(torch.rand(1, 6, 1)),
        "no validation has calibrated prediction intervals",
    )
    predict(data, tmp_path, plot=False)
    assert note in capsys.readouterr().out
    predict(data, tmp_path, plot=False, levels=[])
    predict(data, tmp_path, plot=False, intervals=KnownIntervals())
    assert note not in capsys.readouterr().out


class NeverNegative(KnownIntervals):
    """Intervals that begin at 5 at least."""

    def interval_bounds(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return super().interval_bounds(*args, **kwargs).clamp_min(5)


@pytest.mark.parametrize("levels", [[1], [1, 80], []])
def test_a_point_forecast_is_inside_its_own_interval(tmp_path: Path, levels: list[int]) -> None:
    data = SeriesData.from_equal(torch.rand(2, 6, 1))
    predict(data, tmp_path, levels=levels, plot=False, intervals=NeverNegative(3))
    table = pl.read_csv(tmp_path / "forecast.csv")
    assert table["y"].to_list() == [5.0] * 6
    for level in levels:
        assert (table["y"] >= table[f"y-lo-{level}"]).all()
        assert (table["y"] <= table[f"y-hi-{level}"]).all()


def test_an_interval_of_few_sampled_paths_holds_the_point_forecast(tmp_path: Path) -> None:
    data = SeriesData.from_equal(torch.rand(40, 6, 1))
    predict(data, tmp_path, num_samples=2, levels=[1], plot=False)
    table = pl.read_csv(tmp_path / "forecast.csv")
    assert (table["y"] >= table["y-lo-1"]).all()
    assert (table["y"] <= table["y-hi-1"]).all()


def test_unknown_ids_are_named_with_close_ones_before_the_forecast(tmp_path: Path) -> None:
    data = plain_data(torch.rand(4, 6, 1), ids=["store-1", "store-2", "depot", "x"])
    wrong = (
        r"`plot_ids`: there is no series 'depott', 'nowhere'; there are 4, such as 'depot', "
        "'store-1', 'store-2'"
    )
    with pytest.raises(InputError, match=wrong):
        predict(data, tmp_path / "run", plot_ids=["x", "depott", "nowhere"])
    assert not (tmp_path / "run").exists()
    predict(data, tmp_path / "run", plot_ids=["depott"], plot=False)
    assert find_series(data.ids, ["x", "depot", "x"]) == [3, 2]
    with pytest.raises(InputError, match="such as 'store-1', 'store-2', 'depot'"):
        find_series(data.ids, ["nowhere"])
    with pytest.raises(InputError, match=r"`plot_ids` must name at most 20 series, got 21"):
        ForecastOptions(plot_ids=[*range(21)])


def test_notes_and_series_left_out_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_out = {"a": "no known value", "b": "no known value"}
    data = plain_data(torch.rand(1, 6, 1), notes=["Hours were summed to days."], left_out=left_out)
    predict(data, tmp_path, plot=False)
    lines = capsys.readouterr().out.splitlines()
    assert "Note: Hours were summed to days." in lines
    assert "Left out: 2 series: 'a', 'b' (no known value)" in lines


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_with_its_columns_in_another_order_can_be_continued(suffix: str, tmp_path: Path) -> None:
    stamps = [datetime(2024, 1, 31, 22), datetime(2024, 1, 31, 23)] * 2
    history = pl.DataFrame(
        {"z": [1.0, 2, 3, 4], "ds": stamps, "unique_id": ["007"] * 2 + ["8"] * 2, "y": [0.5, 1, 2, 3]}
    )
    path, forecast = tmp_path / f"history.{suffix}", tmp_path / f"forecast.{suffix}"
    written = history.with_columns(pl.col("ds").dt.strftime("%Y-%m-%d %H:%M:%S")).write_csv()
    if suffix == "csv":
        path.write_text(written)
    else:
        history.write_parquet(path)
    data = TableSeries(str(path), target_columns=["y", "z"]).load()
    write_table(forecast, data, shares(tmp_path, random_values(2, num_features=2)), POINT)
    if suffix == "csv":
        lines = written + forecast.read_text().split("\n", 1)[1]
        whole = pl.read_csv(lines.encode(), schema_overrides={"unique_id": pl.String})
        whole = whole.with_columns(pl.col("ds").str.to_datetime("%Y-%m-%d %H:%M:%S"))
    else:
        whole = pl.concat([history, pl.read_parquet(forecast)])
    assert whole.schema == history.schema
    assert whole["unique_id"].to_list()[4:] == ["007"] * 3 + ["8"] * 3
    assert whole["ds"].to_list()[4:] == [datetime(2024, 2, 1, hour) for hour in range(3)] * 2
    np.testing.assert_allclose(
        whole["z"][4:], random_values(2, num_features=2)[:, :, 1, 0].reshape(-1), rtol=1e-6
    )


def test_a_forecast_is_separated_as_its_table_was(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("unique_id;ds;y\na,b;1;2\na,b;2;3\nc;1;4\nc;2;5\n")
    data = TableSeries(str(tmp_path / "history.csv"), separator=";").load()
    write_table(tmp_path / "forecast.csv", data, shares(tmp_path, random_values(2)), POINT)
    header, first, *_ = (tmp_path / "forecast.csv").read_text().splitlines()
    assert header == "unique_id;ds;y"
    assert first.startswith("a,b;3;")
