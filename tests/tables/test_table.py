import gzip
import math
import re
import tracemalloc
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from equal_series import same
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_lightning.errors import InputError
from rnn_lightning.tables.calendar import stamp_series
from rnn_lightning.tables.stamp_formats import write as write_stamps
from rnn_lightning.tables.storage import FileArray, unlink_scratch
from rnn_lightning.tables.table import TableSeries
from rnn_lightning.tables.table_data import TableData

quick = settings(derandomize=True, deadline=None, max_examples=40)
nan = math.nan


def write(tmp_path: Path, text: str, name: str = "table.csv") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def rows_of(data: TableData, index: int) -> list[Any]:
    """The rows of one series, None where not known."""
    rows = data.values[int(data.offsets[index]) : int(data.offsets[index + 1])].tolist()
    cells = [[None if math.isnan(cell) else cell for cell in row] for row in rows]
    return [row[0] for row in cells] if data.values.shape[1] == 1 else cells


def test_table_of_several_series_keeps_order_of_ids_and_sorts_time(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "unique_id,ds,y,z\n"
        '"b, ""x""",2020-01-31,1,10\n'
        "a,2020-01-02,6,60\n"
        '"b, ""x""",2020-02-29,2,20\n'
        "a,2020-01-01,5,50\n"
        '"b, ""x""",2020-03-31,3,30\n',
    )
    data = TableSeries(path, target_columns=["z", "y"]).load()
    assert data.ids == ['b, "x"', "a"]
    assert data.features == ["z", "y"]
    assert data.values.tolist() == [[10, 1], [20, 2], [30, 3], [50, 5], [60, 6]]
    assert stamp_series(data.times, [0], [3], 2).to_list() == [date(2020, 4, 30), date(2020, 5, 31)]
    assert stamp_series(data.times, [1], [2], 1).to_list() == [date(2020, 1, 3)]
    assert data.notes == []


@pytest.mark.parametrize(
    ("stamps", "frequency", "following"),
    [
        (["1", "2", "3"], 1, 4),
        (["10", "14", "20"], 2, 22),
        (["0.0", "0.2", "0.4"], 0.2, 0.6),
        (["0", "0.5", "1"], 0.5, 1.5),
        (["0", "0.2", "0.5"], 0.1, 0.6),
        (["0.1", "0.2", "0.30000000000000004", "0.6"], 0.1, 0.7),
        (["1949-01-01", "1949-02-01", "1949-03-01"], "1mo", date(1949, 4, 1)),
        (["2019-02-28", "2020-02-28", "2021-02-28"], "12mo", date(2022, 2, 28)),
        (["2020-01-31", "2020-02-29", "2020-03-31"], "1me", date(2020, 4, 30)),
        (["2020-01-30", "2020-02-29", "2020-03-30"], "1mo", date(2020, 4, 30)),
        (["2020-04-30", "2020-05-31", "2020-06-30"], "1me", date(2020, 7, 31)),
        (["2020-06-30", "2020-09-30", "2020-12-31"], "3me", date(2021, 3, 31)),
        (["2020-01-01", "2020-03-01", "2020-04-01"], "1mo", date(2020, 5, 1)),
        (["2020-01-06", "2020-01-13", "2020-01-20"], "7d", date(2020, 1, 27)),
        (["2020-01-01", "2020-01-29", "2020-02-26"], "28d", date(2020, 3, 25)),
        (["2020-01-02", "2020-01-03", "2020-01-06"], "1bd", date(2020, 1, 7)),
        (["2020-01-06", "2020-01-07", "2020-01-09"], "1d", date(2020, 1, 10)),
        (["2020-01-03", "2020-01-04", "2020-01-06"], "1d", date(2020, 1, 7)),
        (
            ["2020-01-01 00:00:00", "2020-01-01 00:15:00", "2020-01-01 00:30:00"],
            "15m",
            datetime(2020, 1, 1, 0, 45),
        ),
        (
            ["2020-02-28T12:00:00", "2020-02-29T12:00:00", "2020-03-01T12:00:00"],
            "1d",
            datetime(2020, 3, 2, 12),
        ),
        (["2020-01-01 00:00", "2020-01-01 01:00", "2020-01-01 03:00"], "1h", datetime(2020, 1, 1, 4)),
        (
            ["2020-01-01T00:00:00.5", "2020-01-01T00:00:01", "2020-01-01T00:00:02"],
            "500ms",
            datetime(2020, 1, 1, 0, 0, 2, 500000),
        ),
    ],
)
def test_time_goes_on_by_the_calendar(
    tmp_path: Path, stamps: list[str], frequency: Any, following: object
) -> None:
    path = write(tmp_path, "ds,y\n" + "".join(f"{stamp},1\n" for stamp in stamps))
    data = TableSeries(path).load()
    assert data.times.frequencies == [pytest.approx(frequency) if isinstance(frequency, float) else frequency]
    after = stamp_series(data.times, [0], [int(data.lengths[0])], 1).to_list()
    assert after == [pytest.approx(following) if isinstance(following, float) else following]
    assert data.id_column is None
    assert data.ids == ["table"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "not a readable CSV file (empty CSV)"),
        ("unique_id,ds,y\n", {}, "has a header but no rows"),
        ("unique_id,ds,y\n\n\n", {}, "has a header but no rows"),
        (
            "unique_id,ds,x\na,1,2\n",
            {},
            "it has unique_id, ds, x; name the right one by `target_columns`",
        ),
        (
            "unique_id,ds,y\na,1,2\n",
            {"covariate_columns": ["x"]},
            "has no column 'x': it has unique_id, ds, y; name the right one by `covariate_columns`",
        ),
        (
            "ds,y\n1,2\n",
            {"id_column": "name"},
            "has no column 'name': it has ds, y; name the right one by `id_column`",
        ),
        (
            "time,y\n1,2\n",
            {},
            "has no column 'ds': it has time, y; name the right one by `time_column`",
        ),
        ("ds:y\n1:2\n2:3\n", {}, "it has ds:y; is it separated by something else? set `separator`"),
        ('ds,y\n1,"1,234"\n2,"2,345"\n', {}, "give the sign before the decimals by `decimal`"),
        ('ds,y\n1,"1,5"\n2,2.345\n', {}, "has '2.345' beside decimal commas, whose point can be"),
        ("ds,y\r1,2\r2,3\r", {}, r"has no column 'y': it has ds, y\r1, 2\r2, 3;"),
        ("\n\n\n", {}, "table.csv: not a readable CSV file (empty CSV)"),
        ("ds,y,y\n1,2,3\n", {}, "has 2 columns 'y': rename one"),
        ("ds,y\n1,2\n2,two\n3,3\n", {}, "column 'y' holds text, such as 'two' in data row 2 of "),
        ("ds,y\n1,2\n\n2,two\n3,3\n", {}, "column 'y' holds text, such as 'two' in data row 3 of "),
        (
            "ds,y,x\n1,2,1\n2,3,1.2.3\n",
            {"covariate_columns": ["x"]},
            "column 'x' holds text, such as '1.2.3' in data row 2 of ",
        ),
        ("ds,y\n1,2\n2,3,4\n", {}, "data row 2 has 3 cells, and the header has 2"),
        ("ds,y\n1949-13,2\n1949-02,3\n", {}, "column 'ds' holds text, such as '1949-13' in data row 1 of "),
        (
            "ds,y\n01.02.2020,2\n02.02.2020,3\n",
            {},
            "give its format by `time_format`, such as %d.%m.%Y",
        ),
        (
            "ds,y\n2020-02-28,2\n2020-02-30,3\n",
            {},
            "column 'ds' holds text, such as '2020-02-30' in data row 2 of ",
        ),
        ("ds,y\n2020-02-28,2\n2020-02-29 12:00,3\n", {}, "write all stamps like '2020-02-28'"),
        ("ds,y\n1,2\n2020-02-29,3\n", {}, "column 'ds' holds text, such as '2020-02-29' in data row 2 of "),
        ("ds,y\n1.5,2\nnan,3\n", {}, "column 'ds' holds text, such as 'nan' in data row 2 of "),
        (
            "ds,y\n01.02.2020,2\n2020-02-02,3\n",
            {"time_format": "%d.%m.%Y"},
            "it does not have the `time_format` '%d.%m.%Y'",
        ),
        ("ds,y\n2020-01-01,2\n", {"time_format": "%Y"}, "holds text, such as '2020-01-01' in data row 1 of "),
        (
            "ds,y\n20200101,2\n20200201,2\n",
            {"frequency": "1h"},
            "`frequency` 1h: column 'ds' holds Date",
        ),
        ("ds,y\n1,2\n,3\n", {}, "column 'ds' has no value in data row 2 of "),
        (
            "ds,y\n2020-01-01T00:00Z,2\n2020-01-01T01:00,3\n",
            {},
            "such as '2020-01-01T01:00' in data row 2 of ",
        ),
        (
            "ds,y\n2020-01-01T00:00,2\n2020-01-01T01:00+01:00,3\n",
            {},
            "such as '2020-01-01T01:00+01:00' in data row 2 of ",
        ),
        (
            "unique_id,ds,y\na,1,2\n,2,3\n",
            {},
            "column 'unique_id' has rows without an id, such as data row 2 of ",
        ),
        (
            "unique_id,ds,y\na,1,2\na,2,3\nb,1,3\nb,3,3\nc,1,3\n",
            {},
            "series 'c' has one row: the frequency of its time stamps needs at least two, and those",
        ),
        ("ds,y\n1,2\n", {}, "series 'table' has one row"),
        ("ds,y\n1,2\n2,3\n2,4\n3,5\n", {}, "series 'table' has two rows at ds = 2 in data row 2 of "),
        (
            "unique_id,ds,y\na,1,2\nb,1,3\nb,2,1\na,1,5\n",
            {},
            "series 'a' has two rows at ds = 1 in data row 1 of ",
        ),
        ("ds,y\n2020-01-01,2\n2020-01-01,3\n", {}, "has two rows at ds = 2020-01-01"),
        ("ds,y\n1,2\n2,3\n100,5\n", {}, "series 'table': its ds is not regular from 1 to 100"),
        ("ds,y\n1,2\n2,3\n100,5\n", {}, "the longest gap is from 2 in data row 2 of "),
        (
            "ds,y\n0.1,2\n0.25,3\n9.17,5\n",
            {},
            "give the distance between two steps by `frequency`, or aggregate",
        ),
        ("ds,y\n0,2\n1,3\n2.7182818284590455,5\n", {}, "its ds is not regular from 0"),
        (
            "ds,y\n2020-01-01 00:00:00,2\n2020-01-01 00:00:01,3\n2020-01-02 00:00:00,5\n",
            {},
            "is not regular from 2020-01-01 00:00:00",
        ),
        ("ds,y\n1,2\n2,inf\n3,3\n", {}, "column 'y' has the value 'inf' in data row 2 of "),
        ("ds,y\n1,\n2,NA\n", {}, "no row has a value of 'y'"),
        (
            "unique_id,ds,y,x\na,1,2,1\na,2,2,1\nb,1,,1\n",
            {"covariate_columns": ["x"]},
            "series 'b' has covariates but no value of 'y'",
        ),
        (
            "ds,y\n1,2\n2,3\n",
            {"calendar_features": ["month"]},
            "`calendar_features` ['month'] need dates",
        ),
        (
            "ds,y\n1,2\n2,3\n",
            {"frequency": "1d"},
            "`frequency` 1d: column 'ds' holds numbers: give a number",
        ),
        (
            "ds,y\n2020-01-01,2\n",
            {"frequency": "1"},
            "`frequency` 1: column 'ds' holds Date: give a number and mo",
        ),
        ("ds,y\n2020-01-01,2\n", {"frequency": "1h"}, "holds Date, which is too coarse for it"),
        ("ds,y\n2020-01-01,2\n2020-01-04,3\n", {"frequency": "2d"}, "ds = 2020-01-04 in data row 2 of "),
        (
            "ds,y\n2020-01-01,2\n2020-01-04,3\n",
            {"frequency": "1bd"},
            "is not on the grid of `frequency` 1bd",
        ),
        (
            "ds,y\n2020-01-01,2\n2020-03-02,3\n",
            {"frequency": "1mo"},
            "is not on the grid of `frequency` 1mo",
        ),
        ("ds,y\n0,2\n1,3\n1.05,3\n", {"frequency": "1"}, "are the same step of `frequency`"),
        ("ds,y\n0,2\n1,3\n3000000,3\n", {"frequency": "1"}, "is one of them wrong?"),
        (
            "ds,y\n2020-01-01,2\n",
            {"time_zone": "Europe/Berlin"},
            "column 'ds' holds Date, which has no time of day: remove this option",
        ),
        (
            "ds,y\n2020-01-01 00:00,2\n",
            {"time_zone": "Mars/X"},
            "`time_zone` Mars/X is not a time zone",
        ),
        ("ds,y\n2021-03-28 01:30,2\n2021-03-28 02:30,2\n", {"time_zone": "Europe/Berlin"}, "data row 2 of "),
        ('ds,y\n"1,2\n2,3\n', {}, "table.csv: data row 1 has a quote that is not closed"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_by_name(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        TableSeries(write(tmp_path, text), **options).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_columns": []}, "`target_columns` is empty"),
        (
            {"target_columns": ["y", "y"]},
            "`target_columns` has 'y', which is in `target_columns`",
        ),
        (
            {"target_columns": ["ds"]},
            "`target_columns` has 'ds', which is in `time_column` already",
        ),
        (
            {"covariate_columns": ["y"]},
            "`covariate_columns` has 'y', which is in `target_columns`",
        ),
        ({"covariate_columns": ["unique_id"]}, "which is in `id_column` already"),
        (
            {"calendar_features": ["year"]},
            "`calendar_features` has 'year': give each of month, weekday, hour once",
        ),
        ({"calendar_features": ["hour", "hour"]}, "`calendar_features` has 'hour'"),
        ({"frequency": "daily"}, "`frequency` 'daily' must be a number and mo"),
        ({"frequency": "-1d"}, "`frequency` '-1d' must be a number and mo"),
        ({"frequency": "inf"}, "`frequency` 'inf' must be a number and mo"),
        ({"frequency": "0"}, "`frequency` '0' must be a number and mo"),
        ({"separator": ""}, "`separator` must be one character"),
    ],
)
def test_options_that_cannot_be_used_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        TableSeries("nothing.csv", **options)


def test_missing_files(tmp_path: Path) -> None:
    for path, message in (
        ("nothing.csv", "no such file"),
        ("*.csv", "matches no file"),
        (".", "a folder without files that end in .csv"),
    ):
        with pytest.raises(InputError, match=rf"`path` .*: {re.escape(message)}"):
            TableSeries(str(tmp_path / path)).load()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", np.random.default_rng(0).bytes(1000), "a.csv has no columns 'ds' "),
        ("a.csv", b"ds,y\n1,2\n2,\0\n", r"column 'y' holds text, such as '\x00' in data row 2 of"),
        ("a.csv", "ds,y\nä,2\n".encode("latin-1"), "a.csv: not a readable CSV file (invalid utf-8"),
        ("a.csv", "ds,y\n1,2\n".encode("utf-16"), "a.csv: UTF-16 text: save it as UTF-8"),
        ("a.csv", b"PAR1\0\0", "a.csv: a Parquet file: name it .parquet"),
        (
            "a.xlsx",
            b"PK\x03\x04\x14\0",
            "a.xlsx: a zip archive, such as an Excel or .npz file: save it as CSV",
        ),
        (
            "a.csv",
            b'ds,y\n1,2\n"2,3\n' + b"1,2\n" * 100_000,
            "a.csv: data row 2 has a quote that is not closed",
        ),
        (
            "a.csv.gz",
            gzip.compress(b"ds,y\n" + bytes(range(50, 90)) * 20, mtime=0)[:-20],
            "a.csv.gz: not a readable CSV file (unexpected end of file)",
        ),
        (
            "a.csv.gz",
            gzip.compress(b"ds,y\n1,2\n2,3,4\n", mtime=0),
            "a.csv.gz: data row 2 has 3 cells, and the header has 2",
        ),
        (
            "a.csv.zst",
            b"\x28\xb5\x2f\xfd garbage",
            "a.csv.zst: not a readable CSV file (Data corruption detected)",
        ),
        ("a.parquet", b"ds,y\n1,2\n", "a.parquet: not a readable Parquet file"),
        ("a.parquet", b"", "a.parquet: not a readable Parquet file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)):
        TableSeries(str(tmp_path / name)).load()


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"ds": range(1000), "y": np.random.default_rng(0).random(1000)}).write_parquet(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = b"\xff" * (len(content) // 2 - len(content) // 3)
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable Parquet file"):
        TableSeries(str(path)).load()


def test_missing_steps_and_empty_cells_are_unknown(tmp_path: Path) -> None:
    text = "unique_id,ds,y,z\na,1,,\na,2,,5\na,3,3,NA\na,6,nan,6\na,7,N/A,null\n"
    text += "b,1,1,1\nb,2,,\nb,3,3,None\nc,1,,\nc,2,,\n"
    data = TableSeries(write(tmp_path, text), target_columns=["y", "z"]).load()
    assert data.ids == ["a", "b"]
    assert rows_of(data, 0) == [[None, 5], [3, None], [None, None], [None, None], [None, 6]]
    assert rows_of(data, 1) == [[1, 1], [None, None], [3, None]]
    assert data.lengths.tolist() == [5, 3]
    assert stamp_series(data.times, [0], [0], 1).to_list() == [2]
    assert data.left_out == {"c": "has no value of 'y' or 'z'"}
    assert data.notes == [
        "Treated 2 steps without a row as unknown.",
        "Left out 1 series without a value of 'y' or 'z': 'c'.",
    ]


def test_rows_after_the_last_target_stay_if_they_carry_covariates(tmp_path: Path) -> None:
    text = "unique_id,ds,y,x\na,1,,9\na,2,2,5\na,3,,\na,4,4,\na,5,,7\na,7,,8\na,8,,\nb,1,1,1\nb,2,2,2\n"
    source = TableSeries(write(tmp_path, text), covariate_columns=["x"])
    data = source.load()
    assert source.num_covariates == 1
    assert data.covariates is not None
    assert rows_of(data, 0) == [2, None, 4, None, None, None]
    assert data.covariates[:6, 0].nan_to_num(-1).tolist() == [5, -1, -1, 7, -1, 8]
    assert data.lengths.tolist() == [3, 2]
    assert data.offsets.tolist() == [0, 6, 8]
    without = TableSeries(write(tmp_path, text)).load()
    assert without.offsets.tolist() == [0, 3, 5]
    assert without.covariates is None


def test_calendar_features_are_those_of_the_steps_also_of_missing_ones(tmp_path: Path) -> None:
    text = "ds,y\n2020-01-31 06:00,1\n2020-01-31 18:00,2\n2020-02-01 18:00,3\n"
    source = TableSeries(write(tmp_path, text), calendar_features=["hour", "weekday", "month"])
    data = source.load()
    assert source.num_covariates == 24 + 7 + 12
    assert data.calendar is not None
    assert data.calendar.dtype == torch.uint8
    assert data.calendar[:].tolist() == [[6, 4, 0], [18, 4, 0], [6, 5, 1], [18, 5, 1]]
    encoded = data.covariates_at(torch.arange(4))
    assert encoded is not None
    assert encoded.shape == (4, 43)
    assert data.future_calendar(torch.tensor([0]), 1).tolist() == [[[6, 6, 1]]]


def test_interpolation_fills_gaps_inside_series_alone(tmp_path: Path) -> None:
    text = "unique_id,ds,y,z\na,1,1,\na,2,,7\na,4,4,\na,5,5,\nb,1,,2\nb,2,8,\nb,3,9,4\n"
    source = TableSeries(write(tmp_path, text), target_columns=["y", "z"], interpolate=True)
    data = source.load()
    assert rows_of(data, 0) == [[1, None], [2, 7], [3, None], [4, None], [5, None]]
    assert rows_of(data, 1) == [[None, 2], [8, 3], [9, 4]]
    assert "Filled 3 unknown values inside series by straight lines." in data.notes
    source.scratch_folder = str(tmp_path / "scratch")
    same(source.load(), data)


@pytest.mark.parametrize(
    ("stamps", "frequency", "rows", "following"),
    [
        (["1", "3", "5"], "1", [1, None, 2, None, 3], 6),
        (["1", "2", "3"], "0.5", [1, None, 2, None, 3], 3.5),
        (["0.0", "0.99", "2.02"], "1", [1, 2, 3], 3.0),
        (["2020-01-31", "2020-02-29"], "1mo", [1, 2], date(2020, 3, 31)),
        (["2020-02-29", "2020-04-30"], "1me", [1, None, 2], date(2020, 5, 31)),
        (["2020-01-01", "2020-01-15"], "1w", [1, None, 2], date(2020, 1, 22)),
        (["2020-01-03", "2020-01-07"], "1bd", [1, None, 2], date(2020, 1, 8)),
        (["2020-01-01", "2020-01-03"], "1d", [1, None, 2], date(2020, 1, 4)),
        (["2020-01-01 00:00", "2020-01-01 01:03"], "1h", [1, 2], datetime(2020, 1, 1, 2)),
        (["0", "3"], 1.5, [1, None, 2], 4.5),
        (["2020-01-01 00:00"], "15m", [1], datetime(2020, 1, 1, 0, 15)),
    ],
)
def test_the_frequency_that_is_given_holds(
    tmp_path: Path, stamps: list[str], frequency: Any, rows: list[Any], following: Any
) -> None:
    text = "ds,y\n" + "".join(f"{stamp},{row + 1}\n" for row, stamp in enumerate(stamps))
    data = TableSeries(write(tmp_path, text), frequency=frequency).load()
    assert rows_of(data, 0) == rows
    assert stamp_series(data.times, [0], [len(rows)], 1).to_list() == [following]
    snapped = [note for note in data.notes if "onto the grid" in note]
    assert snapped == (
        ["Moved 2 time stamps onto the grid of `frequency`."] if "0.99" in stamps else
        ["Moved 1 time stamp onto the grid of `frequency`."]
        if "2020-01-01 01:03" in stamps
        else []
    )  # fmt: skip


def test_series_too_short_to_show_their_frequency_take_that_of_the_others(tmp_path: Path) -> None:
    text = "unique_id,ds,y\na,2020-01-06,1\na,2020-01-07,1\nb,2020-01-03,1\nb,2020-01-06,2\n"
    text += "b,2020-01-07,2\nc,2020-01-03,1\n"
    data = TableSeries(write(tmp_path, text)).load()
    assert data.times.frequencies == ["1bd"] * 3
    assert stamp_series(data.times, [2], [1], 1).to_list() == [date(2020, 1, 6)]


@pytest.mark.parametrize(
    ("stamps", "time_format", "first", "following"),
    [
        (["31.12.2020", "01.01.2021"], "%d.%m.%Y", date(2020, 12, 31), date(2021, 1, 2)),
        (["2020-01", "2020-02"], "%Y-%m", date(2020, 1, 1), date(2020, 3, 1)),
        (["2020", "2021"], "%Y", date(2020, 1, 1), date(2022, 1, 1)),
        (["Jan 2020", "Feb 2020"], "%b %Y", date(2020, 1, 1), date(2020, 3, 1)),
        (["20200131", "20200201"], "%Y%m%d", date(2020, 1, 31), date(2020, 2, 2)),
        (
            ["1/2/20 11 PM", "1/3/20 12 AM"],
            "%m/%d/%y %I %p",
            datetime(2020, 1, 2, 23),
            datetime(2020, 1, 3, 1),
        ),
    ],
)
def test_stamps_are_read_in_the_time_format(
    tmp_path: Path, stamps: list[str], time_format: str, first: Any, following: Any
) -> None:
    text = "ds,y\n" + "".join(f"{stamp},1\n" for stamp in stamps)
    data = TableSeries(write(tmp_path, text), time_format=time_format).load()
    assert stamp_series(data.times, [0], [0], 1).to_list() == [first]
    assert stamp_series(data.times, [0], [2], 1).to_list() == [following]
    written = stamp_series(data.times, [0], [0], len(stamps))
    assert write_stamps(written, str(data.table_format.time_format)).to_list() == stamps


@pytest.mark.parametrize(
    "stamp",
    [
        "2020-01-01 00:00",
        "2020-01-01T00:00:00",
        "2020-01-01 07:08:09.500",
        "2020-01-01T00:00:00Z",
        "2020-01-01 00:00:00.123456Z",
        "2020-01-01T00:00+00:00",
        "2020-01-01T00:00:00.25",
    ],
)
def test_stamps_are_written_as_they_were(tmp_path: Path, stamp: str) -> None:
    data = TableSeries(write(tmp_path, f"ds,y\n{stamp},1\n"), frequency="1h").load()
    stamps = stamp_series(data.times, [0], [0], 1)
    again = stamps.dt.strftime(str(data.table_format.time_format)).to_list()[0]
    assert again.rstrip("0") == stamp.rstrip("0")
    assert data.table_format.column_types["ds"] == stamps.dtype


def test_dates_and_numbers_need_no_format(tmp_path: Path) -> None:
    assert (
        TableSeries(write(tmp_path, "ds,y\n2020-01-01,1\n2020-01-02,1\n")).load().table_format.time_format
        is None
    )
    assert TableSeries(write(tmp_path, "ds,y\n1,1\n2,1\n")).load().table_format.time_format is None


COMPACT_NOTE = "'ds' is read as dates YYYYMMDD; for numbers, give one as `frequency`."


@pytest.mark.parametrize(
    ("stamps", "frequency", "following"),
    [
        ([20240130, 20240131, 20240201], "1d", date(2024, 2, 2)),
        ([20240131, 20240229, 20240331], "1me", date(2024, 4, 30)),
        ([18000101, 21991231], "146096d", date(2599, 12, 30)),
        ([20240130, 20240131, 20240132], 1, 20240133),
        ([17991230, 17991231], 1, 17991232),
        ([22000101, 22000102], 1, 22000103),
        ([1, 2, 3], 1, 4),
    ],
)
def test_compact_dates_are_no_numbers(
    tmp_path: Path, stamps: list[int], frequency: Any, following: Any
) -> None:
    frame = pl.DataFrame({"ds": stamps, "y": 1.0})
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    for table in (
        frame,
        frame[::-1],
        frame.cast({"ds": pl.String}),
        tmp_path / "a.csv",
        tmp_path / "a.parquet",
    ):
        data = TableSeries(table).load()
        is_date = isinstance(following, date)
        assert data.times.frequencies == [frequency]
        assert stamp_series(data.times, [0], [int(data.lengths[0])], 1).to_list() == [following]
        assert data.table_format.time_format == ("%Y%m%d" if is_date else None)
        assert (COMPACT_NOTE in data.notes) == is_date
        text = isinstance(table, pl.DataFrame) and table["ds"].dtype == pl.String
        assert data.table_format.column_types["ds"] == (
            pl.String if text else pl.Date if is_date else pl.Int64
        )


def test_compact_dates_are_all_dates_unless_a_number_is_the_frequency(tmp_path: Path) -> None:
    dates = pl.DataFrame({"ds": [20240130, 20240131, 20240201, 20240202], "y": 1.0})
    assert TableSeries(dates, frequency=1).load().times.frequencies == [1]
    assert stamp_series(TableSeries(dates, frequency="1bd").load().times, [0], [4], 1).to_list() == [
        date(2024, 2, 5)
    ]
    for number in (
        "20240132",
        "20240131.5",
    ):  # among other numbers no date; in a file after dates it is refused
        stamps = ["20240130", "20240131", number]
        assert len(TableSeries(pl.DataFrame({"ds": stamps, "y": 1.0})).load().ids) == 1
        write(tmp_path, "unique_id,ds,y\na,20240130,1\na,20240131,1\n", "1.csv")
        write(tmp_path, f"unique_id,ds,y\na,{number},1\n", "2.csv")
        with pytest.raises(InputError, match=r"column 'ds' holds .* in data row 1 of .*2.csv"):
            TableSeries(tmp_path).load()


def test_unknown_covariates_of_the_past_are_counted(tmp_path: Path) -> None:
    text = "unique_id,ds,y,x,z\na,1,1,,1\na,2,2,5,1\na,4,4,,1\na,5,,,\na,6,,7,7\nb,1,1,1,1\nb,2,2,2,1\n"
    notes = TableSeries(write(tmp_path, text), covariate_columns=["x", "z"]).load().notes
    assert notes == [
        "Treated 1 step without a row as unknown.",
        "Replaced 3 unknown values of the covariate 'x' by its mean.",
        "Replaced 1 unknown value of the covariate 'z' by its mean.",
    ]


def test_columns_that_no_option_names_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "unique_id,ds,y,promo,price\na,1,1,0,2\na,2,2,1,2\n")
    (note,) = TableSeries(path).load().notes
    assert note.startswith("Left columns 'promo', 'price' unused: ")
    (note,) = TableSeries(path, covariate_columns=["promo"]).load().notes
    assert note.startswith("Left column 'price' unused: ")
    assert TableSeries(path, covariate_columns=["promo"], static_columns=["price"]).load().notes == []
    assert TableSeries(write(tmp_path, ",ds,y\n0,1,1\n1,2,2\n")).load().notes == []  # the numbers of pandas


def test_utc_offsets_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "ds,y\n2021-03-27T00:00+02:00,1\n2021-03-28T00:00+02:00,2\n")
    note = "'ds' has UTC offsets: it is read as UTC (`time_zone` gives the calendar its zone)."
    assert TableSeries(path).load().notes == [note]
    assert TableSeries(path, time_zone="Europe/Berlin", frequency="1h").load().notes[:1] != [note]
    assert (
        TableSeries(write(tmp_path, "ds,y\n2021-03-27T00:00+00:00,1\n2021-03-28T00:00Z,2\n")).load().notes
        == []
    )


def days_with_a_typo(num_days: int) -> pl.DataFrame:
    days = pl.date_range(date(2024, 1, 1), date(2024, 1, 1) + timedelta(num_days - 1), "1d", eager=True)
    return pl.DataFrame({"ds": [*days, date(2204, 2, 10)], "y": 1.0})


def test_a_wrong_stamp_is_named() -> None:
    table = days_with_a_typo(40)
    stamps = "from 2024-02-09 in data row 40 of the DataFrame to 2204-02-10 in data row 41 of"
    with pytest.raises(
        InputError, match=rf"not regular from .*, the longest gap is {stamps} the DataFrame: is one of th"
    ):
        TableSeries(table).load()
    notes = TableSeries(table, frequency="1d").load().notes
    assert [note for note in notes if "has no row" in note] == [
        f"Series 'series' has no row {stamps} the DataFrame, 65,744 steps and more than all others of it: "
        "is one of "
        "them wrong?"
    ]
    two = pl.concat([table.with_columns(unique_id=pl.lit(name)) for name in "ab"])
    assert TableSeries(two, frequency="1d").load().notes[-1].startswith("Series 'a' has no row from 2024-")


def test_rows_before_the_first_known_value_are_on_no_step() -> None:
    stamps = [date(2024, 1, 2), date(2024, 1, 6), date(2024, 3, 6)]
    data = TableSeries(pl.DataFrame({"ds": stamps, "y": [None, 1.0, 2.0]}), frequency="2mo").load()
    assert data.values.tolist() == [[1], [2]]
    data = TableSeries(pl.DataFrame({"ds": [0.7, 1.0, 2.0], "y": [None, 1.0, 2.0]}), frequency=1).load()
    assert data.values.tolist() == [[1], [2]]


def test_gaps_of_long_series_are_not_named() -> None:
    table = pl.DataFrame({"ds": [*range(2000), *range(3500, 4000)], "y": 1.0})
    assert TableSeries(table, frequency=1).load().notes == ["Treated 1,500 steps without a row as unknown."]
    empty = pl.DataFrame({"ds": [1, 2, 9000], "y": [1.0, 1.0, None]})
    assert TableSeries(empty, frequency=1).load().notes == []


def test_offsets_are_read_as_utc_or_in_the_zone_that_is_given(tmp_path: Path) -> None:
    path = write(
        tmp_path, "ds,y\n2021-03-27T00:00+01:00,1\n2021-03-28T00:00+01:00,2\n2021-03-29T00:00+02:00,3\n"
    )
    local = TableSeries(path, time_zone="Europe/Berlin").load()
    assert local.times.frequencies == ["1d"]
    assert local.values.tolist() == [[1], [2], [3]]
    assert stamp_series(local.times, [0], [0], 1).to_list()[0].isoformat() == "2021-03-27T00:00:00+01:00"
    assert stamp_series(local.times, [0], [2], 1).dt.strftime(
        str(local.table_format.time_format)
    ).to_list() == ["2021-03-29T00:00+02:00"]
    assert local.notes == []
    with pytest.raises(InputError, match=r"not regular .* or set `time_zone` if they follow the clocks"):
        TableSeries(path).load()
    path = write(
        tmp_path, "ds,y\n2021-10-31T02:00+0200,1\n2021-10-31T02:00+0100,2\n2021-10-31T03:00+0100,3\n"
    )
    absolute = TableSeries(path).load()
    assert absolute.times.frequencies == ["1h"]
    assert absolute.times.starts[0].isoformat() == "2021-10-31T00:00:00+00:00"
    assert absolute.notes[0].startswith("'ds' has UTC offsets: it is read as UTC")


def test_clocks_without_a_zone_are_read_in_the_zone_that_is_given(tmp_path: Path) -> None:
    clocks = ["2021-10-31 01:00", "2021-10-31 02:00", "2021-10-31 02:00", "2021-10-31 03:00"]
    path = write(tmp_path, "ds,y\n" + "".join(f"{stamp},{row}\n" for row, stamp in enumerate(clocks)))
    data = TableSeries(path, time_zone="Europe/Berlin").load()
    assert data.times.frequencies == ["1h"]
    assert data.values[:, 0].tolist() == [0, 1, 2, 3]
    assert stamp_series(data.times, [0], [0], 5).dt.strftime(
        str(data.table_format.time_format)
    ).to_list() == [
        *clocks,
        "2021-10-31 04:00",
    ]
    ids = "unique_id,ds,y\n" + "".join(
        f"{name},{stamp},{row}\n" for row, stamp in enumerate(clocks) for name in "ab"
    )
    several = TableSeries(write(tmp_path, ids), time_zone="Europe/Berlin").load()
    assert several.values[:, 0].tolist() == [0, 1, 2, 3] * 2
    days = pl.DataFrame(
        {"ds": [datetime(2021, 3, 27), datetime(2021, 3, 28), datetime(2021, 3, 29)], "y": [1, 2, 3]}
    )
    assert TableSeries(days, time_zone="Europe/Berlin").load().times.frequencies == ["1d"]


def test_names_keep_every_character(tmp_path: Path) -> None:
    names = ["007", "7", "NA", "=1+1", 'a,"b"', "two\nlines", "🎉 é", " padded ", "null"]
    frame = pl.DataFrame(
        {"unique_id": [name for name in names for _ in range(2)], "ds": [1, 2] * 9, "y": range(18)}
    )
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    for path in ("a.csv", "a.parquet"):
        data = TableSeries(str(tmp_path / path)).load()
        assert data.ids == names
        assert data.values[:, 0].tolist() == list(range(18))


ODD_COLUMNS = ['"A": (US)', '"', 'say "hi"', "two\nlines", "a,b", " lead", "#1", "~", "null", "[kWh]"]


@pytest.mark.parametrize("name", ODD_COLUMNS)
@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".tsv"])
def test_column_names_keep_every_character(tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / "a.csv"
    separator = "\t" if ending == ".tsv" else ","
    pl.DataFrame({"ds": [1, 2], name: [3, 4]}).write_csv(path, separator=separator)
    file = compressed(path, ".gz") if ending == ".csv.gz" else str(path.rename(tmp_path / f"a{ending}"))
    data = TableSeries(file, target_columns=[name]).load()
    assert data.features == [name]
    assert data.values[:, 0].tolist() == [3, 4]
    assert list(data.table_format.column_types) == ["ds", name]


@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt8, pl.String, pl.Categorical, pl.Enum(["7", "8"])])
def test_types_of_columns_are_kept(tmp_path: Path, dtype: Any) -> None:
    ids = pl.Series(["7", "7", "8", "8"]).cast(pl.String if not dtype.is_integer() else dtype).cast(dtype)
    frame = pl.DataFrame({"unique_id": ids, "ds": pl.Series([1, 2, 1, 2], dtype=pl.Int32), "y": [1, 2, 3, 4]})
    frame = frame.with_columns(z=pl.col("y").cast(pl.Float32))
    frame.write_parquet(tmp_path / "a.parquet")
    for table in (frame, str(tmp_path / "a.parquet")):
        data = TableSeries(table, target_columns=["y", "z"]).load()
        assert data.ids == ["7", "8"]
        assert list(data.table_format.column_types) == frame.columns
        assert data.table_format.column_types == {
            "unique_id": ids.dtype,
            "ds": pl.Int32,
            "y": pl.Float64,
            "z": pl.Float32,
        }


def test_text_of_other_kinds_of_columns_is_refused() -> None:
    stamps = [1, 2]
    for frame, message in (
        ({"ds": stamps, "y": [date(2020, 1, 1)] * 2}, "column 'y' holds Date: it must hold numbers"),
        ({"ds": [timedelta(1)] * 2, "y": [1, 2]}, "column 'ds' holds Duration"),
        ({"ds": stamps, "y": [1, 2], "unique_id": [[1], [2]]}, "column 'unique_id' holds List"),
        (
            {"ds": [1.0, math.inf], "y": [1, 2]},
            "column 'ds' has no finite value in data row 2 of the DataFrame",
        ),
        ({"ds": [1, None], "y": [1, 2]}, "column 'ds' has no value in data row 2 of the DataFrame"),
        (
            {"ds": stamps, "y": [1, 2], "unique_id": [1.0, nan]},
            "rows without an id, such as data row 2 of the DataFrame",
        ),
        ({"ds": stamps[:0], "y": []}, "the DataFrame: has a header but no rows"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            TableSeries(pl.DataFrame(frame)).load()
    with pytest.raises(InputError, match=r"`time_format` is for text, and column 'ds' holds Date"):
        TableSeries(pl.DataFrame({"ds": [date(2020, 1, 1)], "y": [1]}), time_format="%Y").load()


def test_several_files_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", "unique_id,ds,y\nb,1,1\nb,2,2\n", "2.csv")
    write(tmp_path / "sub", "unique_id,ds,y\na,1,3\na,2,4\nb,3,3\n", "10.csv")
    write(tmp_path / "sub", "not a table", "note.txt")
    expected = TableSeries(
        pl.DataFrame({"unique_id": list("aabbb"), "ds": [1, 2, 1, 2, 3], "y": [3.0, 4, 1, 2, 3]})
    ).load()
    same(TableSeries(str(tmp_path / "sub")).load(), expected)
    same(TableSeries(str(tmp_path / "sub" / "*.csv")).load(), expected)
    with gzip.open(tmp_path / "sub" / "x.csv.gz", "wt") as file:
        file.write("y,extra,ds,unique_id\nbad,2,3,c\n")
    with pytest.raises(InputError, match=r"such as 'bad' in data row 1 of .*x.csv.gz"):
        TableSeries(str(tmp_path / "sub")).load()
    pl.DataFrame({"ds": [1]}).write_parquet(tmp_path / "sub" / "z.parquet")
    with pytest.raises(InputError, match=r"holds .*z.parquet and .*10.csv: choose one kind"):
        TableSeries(str(tmp_path / "sub")).load()


def test_files_without_ids_are_a_series_each(tmp_path: Path) -> None:
    write(tmp_path, "ds,y\n1,1\n2,2\n", "a.csv")
    write(tmp_path, "ds,y\n1,3\n2,4\n", "b.csv")
    data = TableSeries(str(tmp_path)).load()
    assert data.ids == ["a", "b"]
    assert data.id_column == "unique_id"
    for folder in "cd":
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "ds,y\n1,3\n2,4\n", "a.csv")
    assert TableSeries(str(tmp_path / "[cd]" / "a.csv")).load().ids == [
        str(tmp_path / folder / "a.csv") for folder in "cd"
    ]


def test_parquet_files_must_be_alike(tmp_path: Path) -> None:
    pl.DataFrame({"ds": [1, 2], "y": [1.0, 2.0]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"ds": ["1", "2"], "y": [1.0, 2.0]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(
        InputError, match=r"column 'ds' is String in .*b.parquet and Int64 in .*a.parquet: make"
    ):
        TableSeries(str(tmp_path)).load()
    pl.DataFrame({"ds": [1, 2], "x": [1.0, 2.0]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b.parquet has no column 'y': it has ds, x"):
        TableSeries(str(tmp_path)).load()


def compressed(path: Path, ending: str) -> str:
    text = path.read_bytes()
    other = path.with_name(path.name + ending)
    if ending == ".gz":
        other.write_bytes(gzip.compress(text))
    else:
        pl.read_csv(path, infer_schema=False).lazy().sink_csv(other, compression="zstd")
    return str(other)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_compressed_files_are_read_alike(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path, 'unique_id,ds,y\n"a\nb, c",1,1\n"a\nb, c",2,\n"a\nb, c",3,4\n')
    same(TableSeries(compressed(Path(path), ending)).load(), TableSeries(path).load())
    path = write(tmp_path, "unique_id;ds;y\na;1;1.5\na;2;3\n")
    same(TableSeries(compressed(Path(path), ending)).load(), TableSeries(path).load())


@pytest.mark.parametrize("digits", [3, 6, 18])
@pytest.mark.parametrize("end", [40.0, 7 * np.pi])
def test_times_that_are_even_but_for_their_last_digits_are_regular(
    tmp_path: Path, digits: int, end: float
) -> None:
    times = np.delete(np.linspace(0, end, 500), [7, 8, 100])
    path = write(tmp_path, "ds,y\n" + "".join(f"{time:.{digits}f},{time:.3f}\n" for time in times))
    data = TableSeries(path).load()
    assert data.lengths.tolist() == [500]
    assert data.values.isnan().flatten().nonzero().flatten().tolist() == [7, 8, 100]
    assert float(data.times.frequencies[0]) == pytest.approx(end / 499, rel=1e-3)


@pytest.mark.parametrize(("step", "start"), [(1 / 360, 0), (1 / 256, 0), (1 / 128, 0), (1 / 365.25, 2015)])
def test_times_rounded_to_a_third_of_a_step_are_regular(step: float, start: float) -> None:
    """They were spread over a grid of thousandths, most of whose steps had no row."""
    times = np.round(start + np.arange(3000) * step, 3)
    data = TableSeries(pl.DataFrame({"ds": times, "y": np.arange(3000)})).load()
    assert data.lengths.tolist() == [3000]
    assert float(data.times.frequencies[0]) == pytest.approx(step, rel=1e-3)


@pytest.mark.parametrize("part", [0.3, 0.45, 0.6])
def test_times_of_which_many_are_missing_keep_their_grid(part: float) -> None:
    kept = np.flatnonzero(np.random.default_rng(0).random(3000) < part)
    data = TableSeries(pl.DataFrame({"ds": kept / 10, "y": kept})).load()
    assert data.lengths.tolist() == [kept[-1] - kept[0] + 1]


def test_rounded_times_may_have_a_gap_and_few_random_ones_are_not_even() -> None:
    times = np.round(np.delete(np.arange(400), slice(50, 60)) / 300, 3)
    data = TableSeries(pl.DataFrame({"ds": times, "y": np.arange(390)})).load()
    assert data.lengths.tolist() == [400]
    for seed in range(20):
        times = np.round(np.cumsum(np.random.default_rng(seed).choice([0.2, 0.3, 0.4], 15)), 1)
        data = TableSeries(pl.DataFrame({"ds": times, "y": np.arange(15)})).load()
        assert data.times.frequencies[0] == pytest.approx(0.1)


def test_weekends_of_half_a_year_are_days() -> None:
    days = [date(2020, 1, 1) + timedelta(day) for day in range(1500)]
    open_days = [day for day in days if day.weekday() > 4 and 4 <= day.month <= 10]
    data = TableSeries(pl.DataFrame({"ds": open_days, "y": range(len(open_days))})).load()
    assert "never had a value on Monday" in data.notes[-1]


@pytest.mark.parametrize("shift", ["holiday", "jitter"])
def test_weeks_whose_weekday_moves_are_no_days(shift: str) -> None:
    """They were forecast for two days of each week, and the others were called closed."""
    rng, weeks = np.random.default_rng(0), np.arange(200)
    moved = -1 * (weeks % 50 == 12) if shift == "holiday" else rng.integers(-1, 2, 200)
    days = np.datetime64("2016-01-08") + 7 * weeks + moved
    frame = pl.DataFrame({"ds": days, "y": rng.random(200)})
    with pytest.raises(InputError, match=r"is not regular .* `frequency`, such as 7d, or aggregate"):
        TableSeries(frame).load()
    assert TableSeries(frame, frequency="7d").load().lengths.tolist() == [200]


def test_each_series_has_even_steps_of_its_own_and_clusters_are_none(tmp_path: Path) -> None:
    times = {"a": np.linspace(0, 7, 60), "b": np.arange(80.0), "c": np.linspace(3, 40, 90)}
    rows = [(name, time) for name, part in times.items() for time in part]
    path = write(tmp_path, "unique_id,ds,y\n" + "".join(f"{name},{float(time)!r},1\n" for name, time in rows))
    data = TableSeries(path).load()
    assert data.lengths.tolist() == [60, 80, 90]
    assert data.times.frequencies == pytest.approx([7 / 59, 1.0, 37 / 89], rel=1e-9)
    shorter = [("a", times["c"]), ("b", times["c"][:8]), ("c", times["c"][7:]), ("d", times["c"][-1:])]
    rows = [(name, time) for name, part in shorter for time in part]
    path = write(tmp_path, "unique_id,ds,y\n" + "".join(f"{name},{float(time)!r},1\n" for name, time in rows))
    data = TableSeries(path).load()
    assert data.lengths.tolist() == [90, 8, 83, 1]
    assert len(set(data.times.frequencies)) == 1
    bursts = [i * 3 + k * 0.0131 for i in range(40) for k in range(5)]
    far = [*np.arange(10.5), *np.arange(1000.5, 1011)]
    for part in (bursts, far):
        path = write(tmp_path, "ds,y\n" + "".join(f"{time!r},1\n" for time in map(float, part)))
        with pytest.raises(InputError, match="its ds is not regular"):
            TableSeries(path).load()


@pytest.mark.parametrize("as_text", [True, False])
def test_days_by_clocks_that_are_set_back_are_not_read_as_hours(as_text: bool, tmp_path: Path) -> None:
    zone = pl.Datetime("us", "Europe/Berlin")
    days = pl.date_range(date(2024, 1, 15), date(2024, 5, 13), eager=True).cast(pl.Datetime("us"))
    frame = pl.DataFrame({"ds": days.dt.replace_time_zone("Europe/Berlin"), "y": np.arange(120.0) % 7})
    assert TableSeries(frame).load().lengths.tolist() == [120]
    other: Any = frame.with_columns(pl.col("ds").dt.convert_time_zone("UTC"))
    if as_text:
        other = write(
            tmp_path, frame.with_columns(pl.col("ds").cast(zone).dt.strftime("%F %T%:z")).write_csv()
        )
    with pytest.raises(InputError, match=r"not regular .* or set `time_zone` if they follow the clocks"):
        TableSeries(other).load()


def test_of_two_columns_of_numbers_the_one_that_rises_is_the_time(tmp_path: Path) -> None:
    rows = [(5 + number % 3, 1980 + number) for number in range(9)]
    path = write(tmp_path, "qty,year\n" + "".join(f"{qty},{year}\n" for qty, year in rows))
    data = TableSeries(path).load()
    assert (data.time_column, data.features) == ("year", ["qty"])
    assert data.values[:, 0].tolist() == [qty for qty, _ in rows]
    both = "t,count\n" + "".join(f"{0.5 * step},{3 * step}\n" for step in range(20))
    for text in ("a,b\n" + "1,2\n2,3\n" * 5, "volt,amp\n1,5\n2,4\n3,2\n", both):
        with pytest.raises(InputError, match="has no column"):
            TableSeries(write(tmp_path, text)).load()


def test_ids_that_differ_by_spaces_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "unique_id,ds,y\nA,1,5\nA ,2,3\nB,1,4\n")
    with pytest.raises(
        InputError, match="column 'unique_id': 'A' and 'A ' differ by spaces alone: make them"
    ):
        TableSeries(path).load()


@pytest.mark.parametrize(("begin", "unit"), [(1_700_000_000, "seconds"), (1_700_000_000_000, "milliseconds")])
def test_times_since_1970_are_told(tmp_path: Path, begin: int, unit: str) -> None:
    path = write(tmp_path, "ds,y\n" + "".join(f"{begin + 60 * step},{step}\n" for step in range(5)))
    (note,) = [note for note in TableSeries(path).load().notes if "plain numbers" in note]
    assert f"if they are {unit} since 1970, save the column as dates" in note


def test_notes_stand_beside_each_other(tmp_path: Path) -> None:
    days = "".join(f"2024-01-{day:02}T00:00:00+09:00,{day},3\n" for day in range(1, 20))
    notes = TableSeries(write(tmp_path, "ds,y,extra\n" + days)).load().notes
    assert any("'ds' has UTC offsets" in note for note in notes)
    assert any("column 'extra' unused" in note for note in notes)


def test_json_is_no_table(tmp_path: Path) -> None:
    for text in ('{"ds": 1, "y": 2}\n', '[{"ds": 1}]', ' [\n  {"ds": 1}]'):
        with pytest.raises(InputError, match="JSON: save the table as CSV or Parquet"):
            TableSeries(write(tmp_path, text, "a.csv")).load()
    path = write(tmp_path, "[Station 1]\n[ds],[y]\n1,2\n2,3\n")
    assert TableSeries(path, time_column="[ds]", target_columns="[y]").load().lengths.tolist() == [2]


def test_days_of_excel_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "ds,y\n45290,5\n45291,3\n45292,4\n")
    assert any("if they are Excel's numbers of days" in note for note in TableSeries(path).load().notes)
    path = write(tmp_path, "ds,y\n1,5\n2,3\n3,4\n")
    assert not any("Excel" in note for note in TableSeries(path).load().notes)


@pytest.mark.parametrize("cell", ["9.8%", "€ 9.5", "$9", "(1.5)", "1.51-"])
def test_signs_of_money_and_of_parts_are_to_be_left_out(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path, f"ds,y\n1,5\n2,{cell}\n3,4\n")
    with pytest.raises(InputError, match="write it without signs such as %, €, brackets or a trailing minus"):
        TableSeries(path).load()


def test_spaces_of_thousands_leave_a_decimal_comma(tmp_path: Path) -> None:
    path = write(tmp_path, "ds;y\n1;9\u202f848,74\n2;1 234 567,5\n")
    assert TableSeries(path).load().values[:, 0].tolist() == pytest.approx([9848.74, 1234567.5])


def test_line_endings_and_marks_of_other_programs(tmp_path: Path) -> None:
    plain = TableSeries(write(tmp_path, "ds,y\n1,2\n2,3\n")).load()
    same(TableSeries(write(tmp_path, "\ufeffds,y\r\n1,2\r\n2,3\r\n\r\n")).load(), plain)
    same(TableSeries(write(tmp_path, "ds;y\n1;2\n2;3"), separator=";").load(), plain)
    same(TableSeries(write(tmp_path, "y\tds\n 2 \t1\n3\t2\n"), separator="\t").load(), plain)


def test_the_separator_is_a_tab_in_tsv_files_or_if_it_is_given(tmp_path: Path) -> None:
    plain = TableSeries(write(tmp_path, "ds,y\n1,2\n2,3\n")).load()
    path = write(tmp_path, "ds\ty\n1\t2\n2\t3\n", "table.tsv")
    same(TableSeries(path).load(), plain)
    same(TableSeries(compressed(Path(path), ".gz")).load(), plain)
    for separator in ("\t", r"\t", "tab"):
        same(TableSeries(write(tmp_path, "ds\ty\n1\t2\n2\t3\n"), separator=separator).load(), plain)
    same(TableSeries(write(tmp_path, "ds,y\n1,2\n2,3\n", "table.tsv"), separator=",").load(), plain)


@pytest.mark.parametrize("path", [pl.LazyFrame({"ds": [1]}), {"ds": [1]}, None, pl.Series([1])])
def test_other_tables_than_paths_and_frames_are_refused(path: Any) -> None:
    with pytest.raises(
        InputError, match=rf"a {type(path).__name__}: give a path or a polars or pandas DataFrame"
    ):
        TableSeries(path).load()


@pytest.mark.parametrize("order", ["unique_id", "ds"])
def test_series_that_float32_loses_beside_others_are_named(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A meter of 1e8 was rounded to steps of 8 in silence beside sales of 1e10."""
    monkeypatch.setattr("rnn_lightning.tables.files.READ_ROWS", 30)  # a chunk may hold one row of a series
    values = {
        "meter": [1e8 + 3.0 * (day % 7) for day in range(50)],
        "sales": [1e10 * (day % 9) for day in range(50)],
        "noise": [0.3 if day % 2 else 0.1 + 0.2 for day in range(50)],
    }
    parts = [pl.DataFrame({"unique_id": name, "ds": range(50), "y": y}) for name, y in values.items()]
    data = TableSeries(pl.concat(parts).sort(order, maintain_order=True)).load()
    (note,) = data.notes
    assert note.startswith("Column 'y' of series 'meter' is too large for its changes")


def test_a_file_without_a_header_is_refused(tmp_path: Path) -> None:
    """Its first row was the header."""
    path = write(tmp_path, "".join(f"2024-01-{day:02},{100 + day}\n" for day in range(1, 30)))
    with pytest.raises(
        InputError, match=r"has no header: write `ds` and `y` above its first row, 2024-01-01, 101"
    ):
        TableSeries(path).load()


@pytest.mark.parametrize(
    ("stamps", "few", "frequency"),
    [
        (pl.date_range(date(2020, 1, 1), date(2022, 6, 1), "1mo", eager=True), [0, 8, 24], "1mo"),
        (pl.date_range(date(2020, 1, 31), date(2022, 5, 31), "1mo", eager=True), [0, 2, 6], "1me"),
        (pl.date_range(date(2024, 1, 1), date(2024, 3, 1), "1d", eager=True), [0, 7, 30], "1d"),
        (pl.date_range(date(2024, 1, 1), date(2024, 3, 1), "1d", eager=True), [0, 7], "1d"),
        (pl.date_range(date(2024, 1, 1), date(2024, 3, 1), "1d", eager=True), [0, 7, 14, 21], "7d"),
    ],
)
def test_a_few_rows_beside_others_have_their_steps(stamps: pl.Series, few: list[int], frequency: str) -> None:
    """Rows only where something was sold: eight months from step to step were a frequency of their own."""
    parts = [pl.DataFrame({"unique_id": name, "ds": days, "y": range(len(days))})
             for name, days in (("all", stamps), ("few", stamps.gather(few)))]  # fmt: skip
    data = TableSeries(pl.concat(parts)).load()
    assert data.times.frequencies[1] == frequency


def test_a_decimal_sign_is_that_of_the_first_cell_with_one(tmp_path: Path) -> None:
    """Whole numbers in the first file said that 1,125 is 1125."""
    (tmp_path / "a.csv").write_text("ds;y\n1;2\n2;3\n")
    (tmp_path / "b.csv").write_text("ds;y\n1;0,025\n2;1,125\n3;1,5E+02\n")
    data = TableSeries(str(tmp_path)).load()
    assert data.series(1)[:, 0].tolist() == pytest.approx([0.025, 1.125, 150])
    (tmp_path / "b.csv").write_text("ds;y\n1;10.013.000\n2;11.013.000\n")
    assert TableSeries(str(tmp_path)).load().series(1)[:, 0].tolist() == [10_013_000, 11_013_000]


def test_values_that_float32_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"{step},{1e9 + 10 * math.sin(step)}\n" for step in range(50))
    with pytest.raises(
        InputError,
        match=r"column 'y' of series 'table' is too large for its changes in the seven digits",
    ):
        TableSeries(write(tmp_path, "ds,y\n" + rows)).load()
    with pytest.raises(InputError, match=r"table.csv: column 'y' reaches 1e\+39"):
        TableSeries(write(tmp_path, "ds,y\n1,1e39\n2,2\n")).load()
    assert (
        TableSeries(write(tmp_path, "ds,y\n1,0.1\n2,0.1\n3,0.1\n")).load().values.tolist()
        == [[pytest.approx(0.1)]] * 3
    )


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1)
CELLS = st.one_of(st.none(), st.integers(-99, 99).map(float))


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    """Long tables of several series in order, with gaps, empty cells and future rows."""
    kind = draw(st.sampled_from(["int", "float", "date", "datetime", "zone"]))
    frames: list[pl.DataFrame] = []
    for name in draw(st.lists(NAMES, unique=True, min_size=1, max_size=4)):
        steps = [0, 1, *sorted(draw(st.sets(st.integers(2, 7), max_size=6)))]
        number = pl.Series(steps, dtype=pl.Int64) + draw(st.integers(-50, 50))
        if kind == "int":
            stamps = number * draw(st.integers(1, 5))
        elif kind == "float":
            stamps = (number * draw(st.sampled_from([0.1, 0.25, 1.5]))).round(6)
        elif kind == "date":
            stamps = (number * draw(st.integers(1, 9))).cast(pl.Int32).cast(pl.Date)
        else:
            stamps = (number * draw(st.sampled_from([60, 3600, 86400])) * 1_000_000).cast(pl.Datetime("us"))
            stamps = stamps.dt.replace_time_zone("UTC") if kind == "zone" else stamps
        numbers = {
            column: pl.Series(
                draw(st.lists(CELLS, min_size=len(steps), max_size=len(steps))), dtype=pl.Float64
            )
            for column in ("y", "z", "x")
        }
        frame = pl.DataFrame({"unique_id": [name] * len(steps), "ds": stamps, **numbers})
        first, known = pl.int_range(pl.len()) == 0, ["y", "z"] if not frames else ["y"]
        frames.append(frame.with_columns(pl.when(first).then(1.0).otherwise(pl.col(known)).name.keep()))
    return pl.concat(frames)


OPTIONS: dict[str, Any] = {"target_columns": ["y", "z"], "covariate_columns": ["x"]}


@quick
@given(table=tables(), seed=st.integers(0, 9))
def test_csv_parquet_frames_and_any_order_of_rows_give_the_same_series(
    tmp_path_factory: pytest.TempPathFactory, table: pl.DataFrame, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    data = TableSeries(table, **OPTIONS).load()
    table.write_parquet(folder / "a.parquet")
    same(TableSeries(str(folder / "a.parquet"), **OPTIONS).load(), data)
    table.write_csv(folder / "a.csv")
    same(TableSeries(str(folder / "a.csv"), **OPTIONS).load(), data)
    first = table.group_by("unique_id", maintain_order=True).head(1)
    shuffled = pl.concat(
        [
            first,
            table.join(first, on=["unique_id", "ds"], how="anti").sample(fraction=1, shuffle=True, seed=seed),
        ]
    )
    same(TableSeries(shuffled, **OPTIONS).load(), data)
    in_files = TableSeries(table, scratch_folder=str(folder / "scratch"), **OPTIONS).load()
    assert isinstance(in_files.values, FileArray)
    same(in_files, data)
    unlink_scratch(in_files)
    assert list((folder / "scratch").iterdir()) == []


@quick
@given(table=tables())
def test_every_cell_is_at_its_step_and_all_others_are_unknown(table: pl.DataFrame) -> None:
    data = TableSeries(
        table, calendar_features=["weekday"] if table["ds"].dtype.is_temporal() else [], **OPTIONS
    ).load()
    assert data.covariates is not None
    num_known = 0
    for index, ((name,), rows) in enumerate(table.group_by("unique_id", maintain_order=True)):
        assert data.ids[index] == name
        begin, end = int(data.offsets[index]), int(data.offsets[index + 1])
        stamps = stamp_series(data.times, [index], [0], end - begin)
        place = {stamp: begin + step for step, stamp in enumerate(stamps)}
        for _, stamp, *cells in rows.iter_rows():
            known = [cell for cell in cells if cell is not None]
            num_known += len(known)
            if known:
                row = place[stamp]
                found = [*data.values[row].tolist(), *data.covariates[row].tolist()]
                assert [cell if cell is not None else nan for cell in cells] == pytest.approx(
                    found, nan_ok=True
                )
        last = rows.filter(pl.col("y").is_not_null() | pl.col("z").is_not_null())["ds"][-1]
        assert begin + int(data.lengths[index]) - 1 == place[last]
        if data.calendar is not None:
            assert (data.calendar[begin:end][:, 0].numpy() + 1).tolist() == stamps.dt.weekday().to_list()
    assert int((~data.values.isnan()).sum() + (~data.covariates.isnan()).sum()) == num_known
    data.validate()


@quick
@given(table=tables(), rows=st.integers(1, 7))
def test_a_table_in_many_files_gives_the_same_series(
    tmp_path_factory: pytest.TempPathFactory, table: pl.DataFrame, rows: int
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    for first in range(0, table.height, rows):
        table[first : first + rows].write_parquet(folder / f"{first:02}.parquet")
    same(TableSeries(str(folder), **OPTIONS).load(), TableSeries(table, **OPTIONS).load())


def test_a_table_of_many_batches_in_any_order(tmp_path: Path) -> None:
    names, length = ['a"\n,b', "c", "\n\n", *map(str, range(7))], 40_000
    series, steps = np.divmod(np.arange(len(names) * length), length)
    stamps = pl.Series(steps * 3_600_000_000).cast(pl.Datetime("us"))
    table = pl.DataFrame(
        {"unique_id": pl.Series(names).gather(series), "ds": stamps, "y": steps * 1.0, "x": series}
    )
    table.write_csv(tmp_path / "a.csv")
    data = TableSeries(str(tmp_path / "a.csv"), covariate_columns="x").load()
    assert data.ids == names
    assert data.covariates is not None
    assert data.values[:, 0].tolist() == steps.tolist()
    assert data.covariates[:, 0].tolist() == series.tolist()
    assert data.times.frequencies == ["1h"] * len(names)
    shuffled = table.sample(fraction=1, shuffle=True, seed=1)
    for folder in (None, str(tmp_path / "scratch")):
        other = TableSeries(
            shuffled, covariate_columns="x", scratch_folder=folder, calendar_features="hour"
        ).load()
        of_id = {name: number for number, name in enumerate(names)}
        for number, name in enumerate(other.ids):
            rows = slice(number * length, (number + 1) * length)
            assert other.values[rows, 0].tolist() == list(range(length))
            assert other.covariates is not None
            assert other.calendar is not None
            assert set(other.covariates[rows, 0].tolist()) == {of_id[name]}
            assert torch.equal(other.calendar[rows, 0].long(), torch.arange(length) % 24)


def test_a_scratch_folder_is_left_empty_after_an_error(tmp_path: Path) -> None:
    for table in (
        {"ds": [1, 3, 2, 3], "y": [1, 2, 3, 4]},
        {"ds": [1, 2, None], "y": [1, 2, 3]},
        {"ds": [1, 2, 3], "y": [1.0, 2.0, 1e38]},
    ):
        with pytest.raises(InputError):
            TableSeries(pl.DataFrame(table), scratch_folder=str(tmp_path / "scratch")).load()
        assert list((tmp_path / "scratch").iterdir()) == []
    write(tmp_path, "", "file")
    with pytest.raises(InputError, match=r"`scratch_folder` .*file: cannot be written to"):
        TableSeries(pl.DataFrame(table), scratch_folder=str(tmp_path / "file")).load()


def test_rows_that_do_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda _: 1000)
    table = pl.DataFrame({"ds": range(100_000), "y": 1.0})
    with pytest.raises(InputError, match=r"the rows take .*keep them in files by `scratch_folder`"):
        TableSeries(table).load()


def test_values_larger_than_memory_or_disk_are_refused_before_they_are_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = pl.Series([0, 864_000 * 1_000_000] * 200_000).cast(pl.Datetime("us"))
    ids = pl.Series(np.repeat(np.arange(200_000), 2))
    table = pl.DataFrame({"unique_id": ids, "ds": stamps, "y": 1.0})
    monkeypatch.setattr("os.sysconf", lambda _: 2**18)  # 32 GiB are half of the memory
    tracemalloc.start()
    with pytest.raises(InputError, match=r"the 17,280,020,000 steps take 80\.5 GiB"):
        TableSeries(table[:40_000], frequency="1s").load()
    assert tracemalloc.get_traced_memory()[1] < 1e8
    tracemalloc.stop()
    source = TableSeries(table, frequency="1s")
    with pytest.raises(
        InputError, match=r"the 172,800,200,000 steps take .*keep them in files by `scratch_folder`"
    ):
        source.load()
    source.scratch_folder = str(tmp_path)
    with pytest.raises(InputError, match=r"a file of 644 GiB cannot be written \(.* GiB are free\)"):
        source.load()
    assert list(tmp_path.iterdir()) == []


def test_frames_of_pandas() -> None:
    pd = pytest.importorskip("pandas")
    stamps = pd.date_range("2021-03-27", periods=3, freq="D", tz="Europe/Berlin")
    frame = pd.DataFrame(
        {"unique_id": pd.Categorical(["a"] * 3), "ds": stamps, "y": pd.array([1, None, 3], dtype="Int64")}
    )
    data = TableSeries(frame).load()
    assert rows_of(data, 0) == [1, None, 3]
    assert data.times.frequencies == ["1d"]
    assert data.ids == ["a"]
    indexed = frame.set_index("ds")
    same(TableSeries(indexed).load(), data)


def test_two_columns_of_one_name_in_a_frame_of_pandas_are_refused() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([[1, 2.0, 3.0, 4.0]], columns=["ds", "y", "y", "z"])
    with pytest.raises(InputError, match="the DataFrame has 2 columns 'y': rename one"):
        TableSeries(frame).load()
    frame = pandas.DataFrame([[1, 2.0, 3.0, 4.0], [2, 2.0, 3.0, 4.0]], columns=["ds", "y", "z", "z"])
    assert len(TableSeries(frame).load().values) == 2


def test_the_hour_that_clocks_show_twice_names_the_time_zone() -> None:
    hours = [f"2022-10-30 {hour:02}:00" for hour in (0, 1, 2, 2, 3)]
    with pytest.raises(InputError, match="or, if its clocks are set back there, set `time_zone`"):
        TableSeries(pl.DataFrame({"ds": hours, "y": 1.0})).load()
    data = TableSeries(pl.DataFrame({"ds": hours, "y": 1.0}), time_zone="Europe/Berlin").load()
    assert data.lengths.tolist() == [5]
    with pytest.raises(InputError, match=r"keep one\.$"):
        TableSeries(pl.DataFrame({"ds": ["2022-06-01 02:00"] * 2, "y": 1.0}), frequency="1h").load()


@pytest.mark.parametrize("folder", ["s3:", "http:", "file:"])
def test_a_local_folder_named_like_an_address_is_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(folder).mkdir()
    table = pl.DataFrame({"ds": [1, 2], "y": [3, 4]})
    table.write_csv(Path(folder).absolute() / "a.csv")
    table.write_parquet(Path(folder).absolute() / "a.parquet")
    for path in (f"{folder}/a.csv", f"{folder}/a.parquet", f"{folder}/*.csv"):
        assert TableSeries(path).load().ids == ["a"]


def test_the_global_random_state_is_left_alone() -> None:
    table = pl.DataFrame({"ds": [1, 2, 3], "y": [1.0, 2.0, 3.0]})
    state = torch.get_rng_state()
    TableSeries(table).load()
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            {"y": pl.Series([2**63 + 1, 2**63 + 2], dtype=pl.UInt64)},
            "'y' has 9223372036854775809, more digits than",
        ),
        (
            {"y": ["9223372036854775809", "9223372036854775810"]},
            "'y' has '9223372036854775809', more digits than",
        ),
        ({"y": [1e37, 2.0]}, "column 'y' reaches 1e+37, too large to be squared in float32: divide it"),
        ({"y": [1e-300, 0.0]}, "column 'y' reaches 1e-300 at most, too small for float32: multiply it"),
        ({"unique_id": [timedelta(1)] * 2}, "column 'unique_id' holds Duration"),
        ({"unique_id": [b"\xff", b"a"]}, "column 'unique_id' holds Binary: an id must be a text or a number"),
        (
            {"ds": pl.Series([1, 2**64 - 1], dtype=pl.UInt64)},
            "column 'ds' has 18446744073709551615, too large a number, in data row 2",
        ),
        (
            {"ds": pl.Series([1, 2**100], dtype=pl.Int128)},
            "too large a number, in data row 2 of the DataFrame",
        ),
        (
            {"ds": pl.Series([0, 2**62]).cast(pl.Datetime("us"))},
            "'ds' has a year outside 1 to 9999 in data row 2",
        ),
        (
            {"ds": pl.Series([-(2**30), 0], dtype=pl.Int32).cast(pl.Date)},
            "'ds' has a year outside 1 to 9999 in",
        ),
        ({"ds": ["0000-01-01", "0000-01-02"]}, "'ds' has a year outside 1 to 9999 in data row 1"),
        ({"ds": [1.0, 1e300]}, "column 'ds' has 1e+300, too large a number, in data row 2"),
        ({"unique_id": ["a" * 10**6] * 2, "ds": [1, 1]}, "aaaa' has two rows at ds = 1 in data row 1"),
        ({"unique_id": ["\x1b[2J"] * 2, "ds": [1, 1]}, r"series '\x1b[2J' has two rows at ds = 1"),
    ],
)
def test_what_cannot_be_represented_is_refused(frame: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        TableSeries(pl.DataFrame({"ds": [1, 2], "y": [1, 2]} | frame)).load()
    assert len(str(caught.value)) < 500


def test_large_integers_that_float64_holds_are_numbers() -> None:
    values = [2**60, 2**61, 2**62]
    data = TableSeries(pl.DataFrame({"ds": [1, 2, 3], "y": values})).load()
    assert data.values[:, 0].tolist() == values


def test_a_target_without_any_value_is_refused_and_one_without_a_value_in_a_series_is_told() -> None:
    table = pl.DataFrame(
        {"unique_id": list("aabb"), "ds": [1, 2, 1, 2], "y": 1.0, "z": [1.0, 2.0, None, None]}
    )
    data = TableSeries(table, target_columns=["y", "z"]).load()
    assert data.notes == ["'z' has no value in 1 series, such as 'b': their forecasts of it are arbitrary."]
    with pytest.raises(InputError, match=r"column 'z' has no value: leave it out of `target_columns`"):
        TableSeries(table[2:], target_columns=["y", "z"]).load()


def test_all_wrong_columns_are_named_at_once_before_values_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "unique_id,ds,sales\na,1,wrong\n" + "a,1,2,3\n")
    with pytest.raises(
        InputError, match=r"has no columns 'y' \(`target_columns`\) and 'x' \(`covariate_columns`"
    ):
        TableSeries(path, covariate_columns=["x"]).load()
    wide = pl.DataFrame({f"column {index}": [1] for index in range(1000)})
    with pytest.raises(InputError, match="column 29 and 970 more; name the right ones") as caught:
        TableSeries(wide).load()
    assert len(str(caught.value)) < 800


def test_devices_are_refused_with_the_way_out() -> None:
    with pytest.raises(
        InputError, match="/dev/null: a device or pipe can be read only once: save it to a file"
    ):
        TableSeries("/dev/null").load()


def test_stamps_of_pandas_in_seconds() -> None:
    pd = pytest.importorskip("pandas")
    stamps = pd.Series(pd.date_range("2024-01-01", periods=30)).astype("datetime64[s]")
    for column in (stamps, stamps.dt.tz_localize("Europe/Prague")):
        data = TableSeries(pd.DataFrame({"ds": column, "y": range(30)})).load()
        assert str(stamp_series(data.times, [0], [29], 2).to_list()[1])[:10] == "2024-01-31"


def test_a_series_of_pandas_is_a_table_of_its_index_and_values() -> None:
    pd = pytest.importorskip("pandas")
    months = pd.date_range("2020-01-01", periods=30, freq="MS")
    expected = TableSeries(pd.DataFrame({"ds": months, "y": range(30)})).load()
    for index in (months, months.rename("month"), pd.period_range("2020-01", periods=30, freq="M")):
        given = pd.Series(range(30), index=index, name="passengers")
        same(TableSeries(given).load(), expected)
        same(TableSeries(given.to_frame("y").rename_axis(None)).load(), expected)
    numbered = TableSeries(pd.Series([1.0, 2.0, 3.0])).load()
    assert rows_of(numbered, 0) == [1, 2, 3]


def test_a_frame_with_a_column_for_each_series_is_told_how_to_become_long() -> None:
    frame = pl.DataFrame({"ds": range(9), "a": range(9), "b": range(9, 18)})
    with pytest.raises(InputError, match="if each column is a series, make the table long: ") as raised:
        TableSeries(frame).load()
    (call,) = re.findall(r"long: (frame\.unpivot\(.*?\))", str(raised.value))
    data = TableSeries(eval(call, {"frame": frame})).load()
    assert [rows_of(data, index) for index in (0, 1)] == [list(range(9)), list(range(9, 18))]
    pandas = pytest.importorskip("pandas")
    (call,) = re.findall(r"pandas (frame\.melt\(.*?\))", str(raised.value))
    same(TableSeries(eval(call, {"frame": pandas.DataFrame(frame.to_dict(as_series=False))})).load(), data)
    with pytest.raises(InputError, match=r"unpivot\(index='day'"):
        TableSeries(frame.rename({"ds": "day"})).load()
    with pytest.raises(InputError) as raised:  # a long table with another name of its values
        TableSeries(frame.with_columns(unique_id=pl.lit("a"))).load()
    assert "unpivot" not in str(raised.value)
