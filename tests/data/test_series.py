import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from rnn_lightning.data.datamodule import SequenceDataModule
from rnn_lightning.data.series import Series, SeriesData, TimeIndex
from rnn_lightning.data.synthetic import LinearSeries, RandomSeries, SineSeries
from rnn_lightning.errors import InputError, quoted


def test_sine_is_the_sine_of_time_with_bounded_uniform_noise() -> None:
    data = SineSeries().load()
    clean = torch.sin(0.2 * torch.arange(400, dtype=torch.float64))[:, None]
    noise = data.values.double() - clean
    assert data.values.shape == (400, 1)
    assert data.times.stamps_at(np.array([0, 0]), np.array([399, 400])).tolist() == [79.8, 80.0]
    assert float(noise.abs().max()) <= 0.1 + 1e-6
    assert float(noise.abs().max()) > 0.09
    assert float(noise.std()) == pytest.approx(0.1 / math.sqrt(3), rel=0.1)


def test_sines_go_through_their_periods_and_differ_in_phase() -> None:
    source = SineSeries(
        num_series=3, period=[10.0, 20.0], time_step=1.0, noise=0, amplitude=2.0, num_steps=50
    )
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
        (lambda: SineSeries(num_steps=0), "`num_steps` must be above 0, got 0"),
        (lambda: SineSeries(period=0), "`period` must be above 0"),
        (lambda: SineSeries(noise=-1), "`noise` must not be negative"),
        (lambda: RandomSeries(num_series=-1), "`num_series` must be above 0"),
        (lambda: LinearSeries(min_slope=2, max_slope=1), "`min_slope` 2 must not exceed"),
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
    with pytest.raises(InputError, match=r"series '1' has the value inf in 'y' at 13: every value must be"):
        data.validate()
    empty = SeriesData(torch.zeros(0, 1), torch.tensor([0, 0]), ["a"], ["y"], TimeIndex([0], [1]))
    with pytest.raises(InputError, match="series 'a' has no values"):
        empty.validate()


def test_changes_that_float32_cannot_tell_are_refused() -> None:
    values = np.random.default_rng(0).normal(size=(1, 500, 2))
    SeriesData.from_equal(values).validate()
    values[..., 1] += 1e7
    with pytest.raises(InputError, match="the values of 'y1' in series '0' are too large for their changes"):
        SeriesData.from_equal(values).validate()
    SeriesData.from_equal(values.astype(np.float32)).validate()  # what is lost, was lost before
    with pytest.raises(InputError, match="too large for their changes"):
        SeriesData.from_equal(33_000_000 + np.arange(50) % 5).validate()
    price = np.where(np.arange(8760) < 4000, 1234.57, 1240.02)
    SeriesData.from_equal(price).validate()  # changes once
    rng = np.random.default_rng(0)
    panel = np.stack([1e9 + 1e6 * rng.normal(size=200), 10 + rng.random(200)])
    SeriesData.from_equal(panel[..., None]).validate()  # of each its own changes count


def test_values_outside_of_the_range_of_float32_are_refused() -> None:
    with pytest.raises(InputError, match=r"has the value -2e\+30 in 'y' at 1"):
        SeriesData.from_equal(torch.tensor([[[0.0], [-2e30], [torch.nan]]])).validate()
    with pytest.raises(InputError, match=r"no value of 'y' is above 1e-31, too small for numbers of 32 bits"):
        SeriesData.from_equal(torch.tensor([[[0.0], [1e-31], [torch.nan]]])).validate()
    SeriesData.from_equal(torch.tensor([[[0.0, 2.0], [0.0, -1e30]]])).validate()


def test_time_stamps_go_on_without_rounding_errors() -> None:
    times = TimeIndex([0, 0.1, 1e6], [2, 0.1, 1e-9])
    series, steps = np.array([1, 1, 0, 2]), np.array([1, 2, 5, 3])
    assert times.stamps_at(series, steps).tolist() == [0.2, 0.3, 10, 1_000_000.000000003]
    whole = TimeIndex([5, 0], [2, 3]).stamps_at(np.array([0, 1]), np.array([1, 4]))
    assert whole.dtype.kind == "i"
    assert whole.tolist() == [7, 12]


def test_series_know_their_values_ends_and_future_covariates() -> None:
    values = torch.arange(12.0).view(2, 6, 1)
    values[0, 4:] = torch.nan
    covariates = torch.arange(12.0)[:, None]
    data = replace(SeriesData.from_equal(values, torch.tensor([4, 6])), covariates=covariates)
    assert data.ends.tolist() == [4, 12]
    assert data.series(0)[:, 0].tolist() == [0, 1, 2, 3]
    future = data.future_covariates(torch.tensor([1, 0]), 3)
    assert future is not None
    assert future[..., 0].nan_to_num(-1).tolist() == [[-1, -1, -1], [4, 5, -1]]
    assert SeriesData.from_equal(values).future_covariates(torch.tensor([0]), 3) is None


def test_reprs_say_in_a_line_or_two_what_things_are() -> None:
    data = SequenceDataModule(SineSeries(num_series=3, noise=0.2), horizon=7)
    data.setup("fit")
    assert repr(data.data) == "SeriesData: 3 series, 1,200 steps, features y"
    first, second = repr(data.series).splitlines()
    assert first == "SineSeries: 1 feature, 0 covariates"
    assert "num_series=3" in second
    assert "noise=0.2" in second
    first, second = repr(data).splitlines()
    assert first == "SequenceDataModule: horizon 7, context 24 steps, batches of 32"
    assert second.strip() == repr(data.data)


def test_messages_show_control_characters_as_escapes() -> None:
    assert str(InputError("one\x1b[2Jtwo\u202e\nthree é")) == "one\\x1b[2Jtwo\\u202e\nthree é"
    assert quoted("a" * 50 + "b" * 10**6, 10) == "'aaaaa...bbbbb'"
    assert quoted("a'b") == repr("a'b")
