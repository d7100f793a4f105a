"""Dates in digits, quarters, weeks and other forms: they go on, and are written as they were."""

import re
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rnn_lightning.errors import InputError
from rnn_lightning.tables.calendar import stamp_series
from rnn_lightning.tables.stamp_formats import suggest_form, write
from rnn_lightning.tables.table import TableSeries


def following(stamps: list[str], tmp_path: Path, number: int = 3, **options: Any) -> list[str]:
    """The next stamps of a CSV file as they are written."""
    path = tmp_path / "table.csv"
    path.write_text("ds,y\n" + "".join(f"{stamp},{row}\n" for row, stamp in enumerate(stamps)))
    data = TableSeries(path, **options).load()
    stamps_ahead = stamp_series(data.times, [0], [int(data.lengths[0])], number)
    form = data.table_format.time_format
    return (stamps_ahead.cast(pl.String) if form is None else write(stamps_ahead, form)).to_list()


def days(first: date, number: int, form: str, step: int = 1) -> list[str]:
    return [(first + timedelta(step * day)).strftime(form) for day in range(number)]


MONTHS = [f"{year}{month:02}" for year in (2018, 2019) for month in range(1, 13)]
QUARTERS = [f"{year}{quarter}" for year in (2018, 2019) for quarter in range(1, 5)]


@pytest.mark.parametrize(
    ("stamps", "wanted"),
    [
        (MONTHS, ["202001", "202002", "202003"]),
        (MONTHS[:5] + MONTHS[6:], ["202001", "202002", "202003"]),
        ([f"{month[:4]}.{month[4:]}" for month in MONTHS], ["2020.01", "2020.02", "2020.03"]),
        (QUARTERS, ["20201", "20202", "20203"]),
        (days(date(2019, 1, 1), 32, "%y%m%d"), ["190202", "190203", "190204"]),
        (days(date(2005, 1, 25), 15, "%y%m%d"), ["050209", "050210", "050211"]),
        ([str(int(day)) for day in days(date(2005, 1, 25), 15, "%y%m%d")], ["50209", "50210", "50211"]),
        (days(date(2018, 12, 1), 396, "%Y%j"), ["2020001", "2020002", "2020003"]),
        (days(date(2018, 11, 5), 59, "%G%V", 7), ["201952", "202001", "202002"]),
        (["2019010122", "2019010123"], ["2019010200", "2019010201", "2019010202"]),
        (["201901012330", "201901012345"], ["201901020000", "201901020015", "201901020030"]),
        (["20190101235950", "20190101235955"], ["20190102000000", "20190102000005", "20190102000010"]),
        (["19010122", "19010123", "19010200"], ["19010201", "19010202", "19010203"]),
        # numbers
        (["201898", "201899", "201900"], ["201901", "201902", "201903"]),
        (["20180", "20185", "20190"], ["20195", "20200", "20205"]),
        (["100000", "200000", "300000"], ["400000", "500000", "600000"]),
        (["43829", "43830", "43831"], ["43832", "43833", "43834"]),
        (["1577836800", "1577840400"], ["1577844000", "1577847600", "1577851200"]),
        (["1900", "1901", "1902"], ["1903", "1904", "1905"]),
    ],
)
def test_dates_in_digits_go_on_as_dates_and_numbers_as_numbers(
    stamps: list[str], wanted: list[str], tmp_path: Path
) -> None:
    assert following(stamps, tmp_path) == wanted
    assert following(stamps[::-1], tmp_path) == wanted


@pytest.mark.parametrize(
    ("stamps", "forms", "wanted"),
    [
        (MONTHS[12:], ["%Y%m", "%G%V"], ["202001", "202002", "202003"]),
        (QUARTERS[:4], ["%Y%q"], ["20191", "20192", "20193"]),
        (days(date(2019, 1, 1), 28, "%y%m%d"), ["%y%m%d", "%d%m%y", "%G%V"], ["190129", "190130", "190131"]),
        (days(date(2019, 1, 1), 365, "%Y%j"), ["%Y%j"], ["2020001", "2020002", "2020003"]),
    ],
)
def test_digits_that_are_dates_or_numbers_are_refused_until_one_is_said(
    stamps: list[str], forms: list[str], wanted: list[str], tmp_path: Path
) -> None:
    message = f"give `time_format` {' or '.join(forms)}; for numbers, give one as `frequency`"
    with pytest.raises(InputError, match=re.escape(message)):
        following(stamps, tmp_path)
    assert following(stamps, tmp_path, time_format=forms[0]) == wanted
    numbers = [str(int(stamps[-1]) + step) for step in (1, 2, 3)]
    assert following(stamps, tmp_path, frequency=1) == numbers


def test_digits_in_frames_are_dates_as_in_files() -> None:
    for dtype in (pl.Int64, pl.Float64, pl.String):
        frame = pl.DataFrame({"ds": pl.Series(MONTHS).cast(dtype), "y": 1.0})
        data = TableSeries(frame).load()
        assert data.times.frequencies == ["1mo"]
        assert stamp_series(data.times, [0], [24], 1).to_list() == [date(2020, 1, 1)]
        note = "'ds' is read as dates YYYYMM; for numbers, give one as `frequency`."
        assert data.notes == [note]


@pytest.mark.parametrize(
    ("stamps", "wanted"),
    [
        (["2001Q3", "2001Q4"], ["2002Q1", "2002Q2", "2002Q3"]),
        (["2001-Q3", "2001-Q4"], ["2002-Q1", "2002-Q2", "2002-Q3"]),
        (["Q3 2001", "Q4 2001"], ["Q1 2002", "Q2 2002", "Q3 2002"]),
        (["3Q2001", "4Q2001"], ["1Q2002", "2Q2002", "3Q2002"]),
        (["2001H1", "2001H2"], ["2002H1", "2002H2", "2003H1"]),
        (["2018-W51", "2018-W52"], ["2019-W01", "2019-W02", "2019-W03"]),
        (["2020W52", "2020W53"], ["2021W01", "2021W02", "2021W03"]),
        (["2018-W52-6", "2018-W52-7"], ["2019-W01-1", "2019-W01-2", "2019-W01-3"]),
        (["1749-01", "1749-02"], ["1749-03", "1749-04", "1749-05"]),
        (["2018-364", "2018-365"], ["2019-001", "2019-002", "2019-003"]),
        (["2018/1/9", "2018/1/10"], ["2018/1/11", "2018/1/12", "2018/1/13"]),
        (["2018-1-9", "2018-1-10"], ["2018-1-11", "2018-1-12", "2018-1-13"]),
    ],
)
def test_dates_of_one_meaning_need_no_format_and_are_written_as_they_were(
    stamps: list[str], wanted: list[str], tmp_path: Path
) -> None:
    assert following(stamps, tmp_path) == wanted


@pytest.mark.parametrize(
    ("stamps", "form", "wanted"),
    [
        (["Jan 1 2000", "Feb 1 2000"], "%b %d %Y", ["Mar 1 2000", "Apr 1 2000", "May 1 2000"]),
        (["1/1/1981", "1/2/1981"], "%m/%d/%Y", ["1/3/1981", "1/4/1981", "1/5/1981"]),
        (["09/1/1981", "09/02/1981"], "%m/%d/%Y", ["09/03/1981", "09/04/1981", "09/05/1981"]),
        (["01JAN2000", "02JAN2000"], "%d%b%Y", ["03JAN2000", "04JAN2000", "05JAN2000"]),
        (
            ["1-jan-2000 9:00", "1-jan-2000 10:00"],
            "%d-%b-%Y %H:%M",
            [f"1-jan-2000 {h}:00" for h in (11, 12, 13)],
        ),
        (["2018-W51", "2018-W52"], "%G-W%V", ["2019-W01", "2019-W02", "2019-W03"]),
        (["2018-51", "2018-52"], "%Y-%W", ["2018-53", "2019-01", "2019-02"]),
        (["2018 Q3", "2018 Q4"], "%Y Q%q", ["2019 Q1", "2019 Q2", "2019 Q3"]),
    ],
)
def test_stamps_in_a_given_format_are_written_byte_for_byte(
    stamps: list[str], form: str, wanted: list[str], tmp_path: Path
) -> None:
    assert following(stamps, tmp_path, time_format=form) == wanted


@pytest.mark.parametrize(
    ("years", "wanted"),
    [((64, 66), 1966), ((68, 72), 1972), ((98, 103), 2003), ((19, 21), 2021)],
)
def test_two_digit_years_are_in_one_century_and_not_far_ahead(
    years: tuple[int, int], wanted: int, tmp_path: Path
) -> None:
    stamps = [f"{month}-{year % 100:02}" for year in range(*years) for month in ("Jan", "Jul")]
    path = tmp_path / "table.csv"
    path.write_text("ds,y\n" + "".join(f"{stamp},1\n" for stamp in stamps))
    data = TableSeries(path, time_format="%b-%y").load()
    assert stamp_series(data.times, [0], [len(stamps)], 1).to_list() == [date(wanted, 1, 1)]


def test_stamps_finer_than_a_microsecond_differ(tmp_path: Path) -> None:
    stamps = [f"2020-01-01T00:00:00.{number:09}" for number in (100, 200, 300)]
    assert following(stamps, tmp_path, 1) == ["2020-01-01T00:00:00.000000400"]


@pytest.mark.parametrize(
    ("stamps", "form"),
    [
        (["31.12.2020"], "%d.%m.%Y"),
        (["1/2/2020", "1/13/2020"], "%m/%d/%Y"),
        (["1/2/2020", "13/2/2020"], "%d/%m/%Y"),
        (["Jan 1 2000"], "%b %d %Y"),
        (["Jan-65"], "%b-%y"),
        (["1 January 2000 10:30"], "%d %B %Y %H:%M"),
        (["1/2/20 11:05 PM"], "%m/%d/%y %I:%M %p or %d/%m/%y %I:%M %p"),
        (["soon"], ""),
    ],
)
def test_the_format_that_a_message_suggests_is_that_of_the_stamps(stamps: list[str], form: str) -> None:
    assert suggest_form(pl.Series(stamps)) == form


@pytest.mark.parametrize(
    ("form", "style", "following"),
    [
        ("%b %d %Y", lambda day: f"{day:%b} {day.day} {day.year}", "Jul 4 2015"),
        ("%m/%d/%Y", lambda day: f"{day.month}/{day.day}/{day.year}", "7/4/2015"),
        ("%d.%B %Y", lambda day: f"{day:%d.%B %Y}", "04.July 2015"),
        (None, lambda day: f"{day.year}-{day.month}-{day.day}", "2015-7-4"),
    ],
)
def test_files_of_a_few_rows_are_written_as_all_are(
    tmp_path: Path, form: str | None, style: Any, following: str
) -> None:
    for number in range(11):
        days = [style(date(2015, 5, 10) + timedelta(5 * number + step)) for step in range(5)]
        rows = "".join(f"a;{day};1\n" for day in days)
        (tmp_path / f"{number:02}.csv").write_text(f"unique_id;ds;y\n{rows}")
    data = TableSeries(tmp_path, time_format=form).load()
    ahead = stamp_series(data.times, [0], data.lengths, 1)
    assert data.table_format.time_format is not None
    assert write(ahead, data.table_format.time_format).to_list() == [following]


def of_months(form: str, number: int = 30) -> list[str]:
    return [date(2014 + month // 12, month % 12 + 1, 1).strftime(form) for month in range(number)]


@pytest.mark.parametrize(
    ("stamps", "wanted"),
    [
        ([f"{2001 + i // 4}/{i % 4 + 1}" for i in range(14)], ["2004/3", "2004/4", "2005/1"]),
        ([f"{2001 + i // 4}:{i % 4 + 1}" for i in range(14)], ["2004:3", "2004:4", "2005:1"]),
        ([f"{i % 4 + 1}/{2001 + i // 4}" for i in range(14)], ["3/2004", "4/2004", "1/2005"]),
        ([f"{2001 + i // 4}.{i % 4 + 1}" for i in range(14)], ["2004.3", "2004.4", "2005.1"]),
        ([f"{2001 + i // 2}-{i % 2 + 1}" for i in range(9)], ["2005-2", "2006-1", "2006-2"]),
        ([f"H{i % 2 + 1} {2001 + i // 2}" for i in range(9)], ["H2 2005", "H1 2006", "H2 2006"]),
        ([f"{i % 2 + 1}H{2001 + i // 2}" for i in range(9)], ["2H2005", "1H2006", "2H2006"]),
        ([f"FY{2001 + i // 4}Q{i % 4 + 1}" for i in range(14)], ["FY2004Q3", "FY2004Q4", "FY2005Q1"]),
        ([f"{i % 4 + 1}Q{8 + i // 4:02}" for i in range(14)], ["3Q11", "4Q11", "1Q12"]),
        ([f"2019/{week:02}" for week in range(30, 52)], ["2019/52", "2020/01", "2020/02"]),
        ([f"KW {week}/2019" for week in range(5, 52)], ["KW 52/2019", "KW 1/2020", "KW 2/2020"]),
        ([f"2020W{week}" for week in range(1, 53)], ["2020W53", "2021W1", "2021W2"]),
        (of_months("%m/%Y"), ["07/2016", "08/2016", "09/2016"]),
        (of_months("%YM%m"), ["2016M07", "2016M08", "2016M09"]),
        (of_months("%d%m%y"), ["010716", "010816", "010916"]),
        (of_months("%d%m%Y"), ["01072016", "01082016", "01092016"]),
        (days(date(2019, 11, 20), 50, "%d%m%Y"), ["09012020", "10012020", "11012020"]),
        (days(date(2019, 11, 20), 50, "%m%d%Y"), ["01092020", "01102020", "01112020"]),
        (days(date(2019, 11, 20), 50, "%d%m%y"), ["090120", "100120", "110120"]),
        (days(date(2019, 11, 20), 50, "%Y%m%d.0"), ["20200109.0", "20200110.0", "20200111.0"]),
        (days(date(2019, 11, 20), 50, "%Y.%m.%d"), ["2020.01.09", "2020.01.10", "2020.01.11"]),
        (days(date(2019, 11, 20), 50, "%Y年%-m月%-d日"), ["2020年1月9日", "2020年1月10日", "2020年1月11日"]),
        (
            ["20191231T220000Z", "20191231T230000Z"],
            ["20200101T000000Z", "20200101T010000Z", "20200101T020000Z"],
        ),
        (["2019-12-31 22", "2019-12-31 23"], ["2020-01-01 00", "2020-01-01 01", "2020-01-01 02"]),
    ],
)
def test_more_notations_of_one_meaning_go_on(tmp_path: Path, stamps: list[str], wanted: list[str]) -> None:
    assert following(stamps, tmp_path) == wanted


def test_days_or_months_first_in_digits_are_refused_where_both_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give `time_format` %d%m%Y or %m%d%Y"):
        following(of_months("%d%m%Y", 12), tmp_path)


def test_nanoseconds_after_a_first_whole_second_differ(tmp_path: Path) -> None:
    stamps = [f"2020-01-01T00:00:00.{step * 125:09}" for step in range(5)]
    assert following(stamps, tmp_path)[0] == "2020-01-01T00:00:00.000000625"


@pytest.mark.parametrize(
    ("stamp", "remedy"),
    [
        ("2024-01-01 24:00", "hour 24 is hour 0 of the next day"),
        ("0,004", "write times with a decimal point"),
    ],
)
def test_what_is_miswritten_is_told_with_its_remedy(tmp_path: Path, stamp: str, remedy: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        f"ds;y\n2024-01-01 23:00;1\n{stamp};2\n" if ":" in stamp else f"ds;y\n0,000;1\n{stamp};2\n"
    )
    with pytest.raises(InputError, match=remedy):
        TableSeries(path).load()


def test_months_with_points_and_minutes_in_ten_digits_are_dates() -> None:
    """They were the number 1.2024, and steps of 100."""
    months = pl.DataFrame({"ds": ["01.2024", "02.2024", "03.2024"], "y": range(3)})
    assert TableSeries(months).load().times.frequencies == ["1mo"]
    hours = [f"240101{hour:02}00" for hour in range(24)] + [f"240102{hour:02}00" for hour in range(24)]
    data = TableSeries(pl.DataFrame({"ds": hours, "y": range(48)})).load()
    assert data.lengths.tolist() == [48]
    assert data.times.frequencies == ["1h"]


@pytest.mark.parametrize("step", [1, -1])
def test_the_hour_that_clocks_show_twice_is_in_the_order_of_the_rows(step: int) -> None:
    clocks = pl.datetime_range(
        datetime(2024, 10, 26), datetime(2024, 10, 28, 22), "1h", time_zone="Europe/Berlin", eager=True
    ).dt.replace_time_zone(None)
    frame = pl.DataFrame({"ds": clocks, "y": range(len(clocks))})[::step]
    values = TableSeries(frame, time_zone="Europe/Berlin").load().values[:, 0]
    assert values.tolist() == list(range(len(clocks)))


def test_seasons_of_two_years_are_no_months() -> None:
    seasons = [f"{year}/{(year + 1) % 100:02}" for year in range(1998, 2012)]
    with pytest.raises(InputError, match="write the first year of a season of two"):
        TableSeries(pl.DataFrame({"ds": seasons, "y": range(14)})).load()


@pytest.mark.parametrize(
    ("stamps", "forms"),
    [
        ([f"{day:02}-01-24" for day in range(1, 32)], "such as %d-%m-%y."),
        ([f"{month:02}-01-23" for month in range(1, 13)], "such as %m-%d-%y or %d-%m-%y."),
        ([f"24-01-{day:02}" for day in range(1, 32)], "such as %d-%m-%y or %y-%m-%d."),
        ([f"Q{1 + i % 4}.{2005 + i // 4}" for i in range(40)], "such as Q%q.%Y."),
    ],
)
def test_two_digit_years_and_quarters_are_not_guessed(stamps: list[str], forms: str) -> None:
    """The first three were years of antiquity, the last one was to be read as months."""
    frame = pl.DataFrame({"ds": stamps, "y": range(len(stamps))})
    with pytest.raises(InputError, match=re.escape(forms)):
        TableSeries(frame).load()


@pytest.mark.parametrize("stamp", ["Day 1", "t1", "2001 II", "12:30"])
def test_no_format_is_suggested_that_would_be_wrong(tmp_path: Path, stamp: str) -> None:
    with pytest.raises(InputError, match="must hold ISO dates, timestamps or numbers, such as 2020-01-31"):
        following([stamp], tmp_path)
