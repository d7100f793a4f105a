"""Files of other programs: comments, titles, units, separators, decimal signs, and columns without names."""

import re
from pathlib import Path
from typing import Any

import pytest

from rnn_lightning.errors import InputError
from rnn_lightning.tables.calendar import stamp_series
from rnn_lightning.tables.table import TableSeries

ROWS = "2020-01-01,1\n2020-01-02,2\n2020-01-03,3\n"
FOUND = "The time stamps are in 'date' and the values in 'value'."
SKIPPED = "Skipped 2 lines before the header of table.csv."
UNITS = "Skipped the row of units after the header of table.csv."


def load(tmp_path: Path, text: str, **options: Any) -> tuple[list[float], list[str]]:
    (tmp_path / "table.csv").write_text(text)
    data = TableSeries(tmp_path / "table.csv", **options).load()
    notes = [note.replace(f"{tmp_path}/", "") for note in data.notes]
    return data.values[:, 0].tolist(), notes


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        (f"# Station 12, exported\n# units: kWh\nds,y\n{ROWS}", [SKIPPED]),
        (f"Monthly sales, 2020\n\nds,y\n{ROWS}", [SKIPPED]),
        (f"ds,y\n,kWh\n{ROWS}", [UNITS]),
        (f"ds,y\ndate,kWh\n{ROWS}", [UNITS]),
        (f"ds,y\n{ROWS}".replace(",", ";"), ["table.csv is separated by ';'."]),
        (f"ds,y\n{ROWS}".replace(",", "\t"), ["table.csv is separated by a tab."]),
        (f"ds,y\n{ROWS}".replace(",", "|"), ["table.csv is separated by '|'."]),
        (f"date,value\n{ROWS}", [FOUND]),
        (f"# by hand\n# again\ndate,value\n{ROWS}", [FOUND, SKIPPED]),
        (f"date,value\n{ROWS}".replace(",", ";"), [FOUND, "table.csv is separated by ';'."]),
        (f"Sales report,\n,\ndate,value\n{ROWS}", [FOUND, SKIPPED]),
    ],
)
def test_what_stands_around_a_table_is_passed_over_and_said(
    tmp_path: Path, text: str, notes: list[str]
) -> None:
    assert load(tmp_path, text) == ([1, 2, 3], notes)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_name_over_two_lines_is_one_name(tmp_path: Path, separator: str) -> None:
    text = f'# by hand\nds,"two\nlines"\n{ROWS}'.replace(",", separator)
    values, notes = load(tmp_path, text, target_columns=["two\nlines"])
    assert values == [1, 2, 3]
    assert notes[-1] == "Skipped 1 line before the header of table.csv."


@pytest.mark.parametrize(
    ("cells", "options", "values"),
    [
        (["1,5", "2,25", "1.000,5"], {}, [1.5, 2.25, 1000.5]),
        (["1,500", "2,25", "3"], {}, [1.5, 2.25, 3]),
        (["1,234.5", "2,000", "3"], {}, [1234.5, 2000, 3]),
        (["1,234,567", "2,000", "3"], {}, [1234567, 2000, 3]),
        (["1 234", "2 000,5", "3,5"], {}, [1234, 2000.5, 3.5]),
        (["1,234", "2,345", "3,456"], {"decimal": ","}, [1.234, 2.345, 3.456]),
        (["1,234", "2,345", "3,456"], {"decimal": "."}, [1234, 2345, 3456]),
        (["True", "FALSE", "true"], {}, [1, 0, 1]),
        (["1.5", "2.25", "3"], {}, [1.5, 2.25, 3]),
        (["1.102,5", "2.345", "998,1"], {}, [1102.5, 2345, 998.1]),
        (["2016,9", "2.345", "1,5"], {"decimal": ","}, [2016.9, 2345, 1.5]),
        (["1.5", "1,234", "3"], {}, [1.5, 1234, 3]),
        (["1.234.567", "2,5", "3"], {}, [1234567, 2.5, 3]),
        (["1'234.5", "2\u202f000", "3"], {}, [1234.5, 2000, 3]),
        (["1", ".", "#N/A"], {}, [1]),
        (["0.123", "1.234"], {}, [0.123, 1.234]),
    ],
)
def test_numbers_of_other_countries_are_read_where_they_are_sure(
    tmp_path: Path, cells: list[str], options: dict[str, Any], values: list[float]
) -> None:
    rows = "".join(f"{row};{cell}\n" for row, cell in enumerate(cells))
    assert load(tmp_path, f"ds;y\n{rows}", **options)[0] == pytest.approx(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date,value,other\n2020-01-01,1,2\n", "has no columns 'ds' (`time_column`) and 'y'"),
        ("y,z\n1,2\n2,3\n", "name the right one by `time_column`, or set `number_rows` if it has no time"),
        ("ds;y\n1;101,9\n2;2.345\n", "has '2.345' beside decimal commas"),
        ("ds;y\n1;1.234\n2;1,234\n", "has '1,234', whose comma can be that of thousands or of decimals"),
        ("Month,Sales\n01/02/2019,5\n", "column 'Month' holds text, such as '01/02/2019'"),
        ("Month;Sales\nJan 2019;1,5\n", "column 'Month' holds text, such as 'Jan 2019'"),
        ("ds;y\n1;854\n2;1.189\n", "has '1.189', whose point can be that of thousands or of decimals"),
        ("a,b\n1,2\n2,3\n", "has no columns 'ds' (`time_column`) and 'y' (`target_columns`)"),
        ("#ds,y\n1,2\n2,3\n", "has no column 'ds': it has #ds, y"),
        ("ds,y\n1,2\nx,kWh\n", "in data row 2"),
    ],
)
def test_what_is_not_sure_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("header", "rows", "stamps", "column"),
    [
        ("year,month,day,y", ["2020,2,28,1", "2020,2,29,2"], ["2020-03-01", "2020-03-02"], "ds"),
        ("Year;Month;sales", ["2019;11;1", "2019;12;2"], ["2020-01-01", "2020-02-01"], "ds"),
        ("y,YEAR,Quarter", ["1,2019,Q3", "2,2019,Q4"], ["2020-01-01", "2020-04-01"], "ds"),
        ("year,week,y", ["2020,52,1", "2020,53,2"], ["2021-01-04", "2021-01-11"], "ds"),
        (
            "year,month,day,hour,y",
            ["2020,2,28,22,1", "2020,2,28,23,2"],
            ["2020-02-29 00:00:00", "2020-02-29 01:00:00"],
            "ds",
        ),
        ("y", ["1", "2"], ["3", "4"], "ds"),
        ("unique_id,y", ["a,1", "b,5", "a,2", "b,6"], ["3", "4"], "ds"),
    ],
)
def test_a_table_without_a_time_column_gets_one_from_what_is_sure(
    tmp_path: Path, header: str, rows: list[str], stamps: list[str], column: str
) -> None:
    (tmp_path / "t.csv").write_text("\n".join([header, *rows, ""]))
    data = TableSeries(tmp_path / "t.csv").load()
    assert data.series(0).flatten().tolist() == [1, 2]
    assert [str(each) for each in stamp_series(data.times, [0], [2], 2)] == stamps
    assert data.time_column == column
    assert any("joins" in note or "numbered" in note for note in data.notes)


def test_rows_are_numbered_by_the_option(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("unique_id,y,z\na,1,9\nb,5,9\na,2,9\nb,6,9\n")
    data = TableSeries(tmp_path / "t.csv", number_rows=True).load()
    assert data.values.flatten().tolist() == [1, 2, 5, 6]
    assert list(stamp_series(data.times, [1], [2], 2)) == [3, 4]


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("ds,a,b", {"target_columns": ["a,b"]}, "write several columns as a list, such as '[a,b]'"),
        ("ds,Y,b", {}, "'Y' may be meant"),
    ],
)
def test_a_name_that_is_nearly_right_is_told(
    tmp_path: Path, header: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load(tmp_path, f"{header}\n2020-01-01,1,2\n", **options)


def test_a_row_that_is_too_long_is_named_whatever_the_names_of_the_columns(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data row 4 has 4 cells, and the header has 2"):
        load(tmp_path, f"date,value\n{ROWS}2020-01-04,1,2,3\n")
