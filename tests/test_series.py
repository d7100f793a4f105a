import math
import re
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from rnn_lightning.errors import InputError
from rnn_lightning.series import LinearSeries, RandomSeries, Series, SeriesData, SineSeries, TableSeries, TimeIndex


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return str(path)


def test_sine_is_the_sine_of_time_with_bounded_uniform_noise() -> None:
    data = SineSeries().load()
    clean = torch.sin(0.2 * torch.arange(400, dtype=torch.float64))[:, None]
    noise = data.values.double() - clean
    assert data.values.shape == (400, 1)
    assert data.times.stamps(0, 399, 2) == [79.8, 80.0]
    assert float(noise.abs().max()) <= 0.1 + 1e-6
    assert float(noise.abs().max()) > 0.09
    assert float(noise.std()) == pytest.approx(0.1 / math.sqrt(3), rel=0.1)


def test_sines_go_through_their_periods_and_differ_in_phase() -> None:
    source = SineSeries(num_series=3, period=[10.0, 20.0], time_step=1.0, noise=0, amplitude=2.0, num_steps=50)
    values = source.load().values.view(3, 50)
    assert values[0, 0] == pytest.approx(0, abs=1e-6)
    assert values[1, 0] == pytest.approx(2 * math.sin(2 * math.pi / 3))
    torch.testing.assert_close(values[0, 10:], values[0, :-10], atol=1e-5, rtol=0)
    torch.testing.assert_close(values[1, 20:], values[1, :-20], atol=1e-5, rtol=0)
    torch.testing.assert_close(source.clean(0, 50)[..., 0].float(), values)


@pytest.mark.parametrize("kind", [SineSeries, RandomSeries, LinearSeries])
def test_values_depend_on_the_own_seed_alone(kind: type[SineSeries]) -> None:
    torch.manual_seed(1)
    first = kind(seed=3).load().values
    state = torch.get_rng_state()
    again = kind(seed=3).load().values
    assert torch.equal(first, again)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, kind(seed=4).load().values)


def test_random_is_uniform_and_of_the_given_shape() -> None:
    data = RandomSeries(num_series=5000, num_steps=10, num_features=2).load()
    assert data.num_series == 5000
    assert data.lengths.tolist() == [10] * 5000
    assert float(data.values.min()) >= 0
    assert float(data.values.max()) < 1
    assert float(data.values.double().var()) == pytest.approx(1 / 12, rel=0.02)


def test_linear_rises_by_its_slope_from_its_start() -> None:
    data = LinearSeries(num_series=50, num_steps=6, min_start=1, max_start=2, min_slope=3, max_slope=4).load()
    values = data.values.view(50, 6).double()
    slopes = values.diff(dim=1)
    torch.testing.assert_close(slopes, slopes[:, :1].expand(-1, 5), atol=1e-5, rtol=0)
    assert 1 <= float(values[:, 0].min()) < float(values[:, 0].max()) <= 2
    assert 3 - 1e-5 <= float(slopes.min()) < float(slopes.max()) <= 4 + 1e-5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SineSeries(num_steps=0), "--data.series.num_steps must be above 0, got 0"),
        (lambda: SineSeries(period=0), "--data.series.period must be above 0"),
        (lambda: SineSeries(noise=-1), "--data.series.noise must not be negative"),
        (lambda: RandomSeries(num_series=-1), "--data.series.num_series must be above 0"),
        (lambda: LinearSeries(min_slope=2, max_slope=1), "--data.series.min_slope 2 must not exceed"),
    ],
)
def test_wrong_arguments_name_the_option(make: type, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()


def test_a_series_class_of_the_user_needs_one_method() -> None:
    class Steps(Series):
        def load(self) -> SeriesData:
            return SeriesData.from_equal(torch.tensor([[[0.0], [1.0]]]))

    data = Steps().load()
    assert (data.ids, data.features, data.values.tolist()) == (["0"], ["y"], [[0.0], [1.0]])


def test_values_that_are_not_finite_are_named_with_series_and_step() -> None:
    values = torch.zeros(2, 5, 1)
    values[1, 3] = torch.inf
    data = SeriesData.from_equal(values, start=10)
    with pytest.raises(InputError, match=r"series '1' has the value inf in 'y' at step 3 \(ds = 13\)"):
        data.validate()
    empty = SeriesData(torch.zeros(0, 1), torch.tensor([0, 0]), ["a"], ["y"], TimeIndex([0], [1]))
    with pytest.raises(InputError, match="series 'a' has no values"):
        empty.validate()


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
    assert data.times.stamps(0, 3, 2) == [date(2020, 4, 30), date(2020, 5, 31)]
    assert data.times.stamps(1, 2, 1) == [date(2020, 1, 3)]


@pytest.mark.parametrize(
    ("stamps", "following"),
    [
        (["1", "2", "3"], 4),
        (["0.0", "0.2", "0.4"], 0.6),
        (["1949-01-01", "1949-02-01", "1949-03-01"], date(1949, 4, 1)),
        (["2019-02-28", "2020-02-28", "2021-02-28"], date(2022, 2, 28)),
        (["2020-01-31", "2020-02-29", "2020-03-31"], date(2020, 4, 30)),
        (["2020-04-30", "2020-05-31", "2020-06-30"], date(2020, 7, 31)),
        (["2020-06-30", "2020-09-30", "2020-12-31"], date(2021, 3, 31)),
        (["2020-01-06", "2020-01-13", "2020-01-20"], date(2020, 1, 27)),
        (["2020-01-01 00:00:00", "2020-01-01 00:15:00", "2020-01-01 00:30:00"], datetime(2020, 1, 1, 0, 45)),
        (["2020-02-28T12:00:00", "2020-02-29T12:00:00", "2020-03-01T12:00:00"], datetime(2020, 3, 2, 12)),
    ],
)
def test_time_goes_on_by_the_calendar(tmp_path: Path, stamps: list[str], following: object) -> None:
    path = write(tmp_path, "ds,y\n" + "".join(f"{stamp},1\n" for stamp in stamps))
    data = TableSeries(path).load()
    assert data.times.stamps(0, 3, 1) == [following]
    assert data.id_column is None
    assert data.ids == ["table"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable CSV file (empty CSV)"),
        ("unique_id,ds,y\n", "has a header but no rows"),
        ("unique_id,ds,x\na,1,2\na,2,2\n", "has no column 'y': it has unique_id, ds, x; name the right one by "),
        ("time,y\n1,2\n", "has no column 'ds': it has time, y; name the right one by --data.series.time_column"),
        ("ds;y\n1;2\n2;3\n", "has no column 'ds': it has ds;y; is it separated by something else? set --data.series.sep"),
        ("ds,y\n1,2\n2,two\n3,3\n", "column 'y' holds text, such as 'two' in data row 2"),
        ("ds,y\n1949-01,2\n1949-02,3\n", "column 'ds' holds text, such as '1949-01' in data row 1: it must hold ISO"),
        ("ds,y\n1,2\n2,\n3,3\n", "column 'y' has no value in data row 2"),
        ("unique_id,ds,y\n,1,2\na,2,3\n", "column 'unique_id' has rows without an id"),
        ("unique_id,ds,y\na,1,2\na,2,3\nb,1,3\n", "series 'b' has one row"),
        ("ds,y\n1,2\n2,3\n2,4\n3,5\n", "has two rows at ds = 2"),
        ("ds,y\n1,2\n2,3\n4,5\n", "its ds is not regular from 1 to 4"),
        ("ds,y\n2020-01-01,2\n2020-01-02,3\n2020-01-04,5\n", "its ds is not regular from 2020-01-01 to 2020-01-04"),
        ("ds,y\n2020-01-01,2\n2020-01-01,3\n", "has two rows at ds = 2020-01-01"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        TableSeries(write(tmp_path, text)).load()


def test_ids_are_names_and_keep_their_zeros(tmp_path: Path) -> None:
    data = TableSeries(write(tmp_path, "unique_id,ds,y\n01,1,2\n01,2,3\n1,1,2\n1,2,3\n")).load()
    assert data.ids == ["01", "1"]


def test_values_that_float32_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"{step},{1e9 + 10 * math.sin(step)}\n" for step in range(50))
    with pytest.raises(InputError, match=r"column 'y' reaches 1e\+09, too large for its changes in the seven digits"):
        TableSeries(write(tmp_path, "ds,y\n" + rows)).load()
    with pytest.raises(InputError, match=r"column 'y' reaches 1e\+39"):
        TableSeries(write(tmp_path, "ds,y\n1,1e39\n2,2\n")).load()
    assert TableSeries(write(tmp_path, "ds,y\n1,0.1\n2,0.1\n3,0.1\n")).load().values.tolist() == [[pytest.approx(0.1)]] * 3


def test_another_separator(tmp_path: Path) -> None:
    assert TableSeries(write(tmp_path, "ds;y\n1;2\n2;3\n"), separator=";").load().values.tolist() == [[2], [3]]


def test_a_missing_file_and_garbage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--data.series.path .*nothing.csv: no such file"):
        TableSeries(str(tmp_path / "nothing.csv")).load()
    garbage = tmp_path / "garbage.csv"
    garbage.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(InputError, match=r"garbage\.csv"):
        TableSeries(str(garbage)).load()


def test_infinite_values_of_a_table_are_refused(tmp_path: Path) -> None:
    data = TableSeries(write(tmp_path, "ds,y\n1,2\n2,inf\n3,3\n")).load()
    with pytest.raises(InputError, match=r"has the value inf in 'y' at step 1 \(ds = 2\)"):
        data.validate()
