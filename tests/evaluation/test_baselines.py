import pytest
import torch

from rnn_lightning import SeriesData
from rnn_lightning.data.series import TimeIndex
from rnn_lightning.data.windows import Segments
from rnn_lightning.evaluation.baselines import (
    BASELINES,
    HISTORY_STEPS,
    baseline_forecasts,
    difference_scales,
    drift,
    ends_before,
    never_negative,
    seasonal_naive,
)

NAN = torch.nan


def history(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[None, :, None]


def test_the_last_season_is_repeated() -> None:
    forecast = seasonal_naive(history(9, 9, 9, 1, 2, 3), 7, 3)
    assert forecast.flatten().tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert seasonal_naive(history(7, 8, 1, 2, 3), 4, 3).flatten().tolist() == [1, 2, 3, 1]


def test_an_unknown_phase_is_taken_from_the_season_before_or_is_the_last_value() -> None:
    forecast = seasonal_naive(history(9, 8, NAN, 1, NAN, NAN), 3, 3)
    assert forecast.flatten().tolist() == [1, 8, 1]
    assert seasonal_naive(history(4, 5), 3, 3).flatten().tolist() == [5, 4, 5]
    assert bool(seasonal_naive(history(NAN, NAN), 3, 2).isnan().all())


def test_the_line_through_the_first_and_the_last_known_value_goes_on() -> None:
    assert drift(history(1, 9, 5), 2).flatten().tolist() == [7, 9]
    assert drift(history(NAN, 1, NAN, 5, NAN), 2).flatten().tolist() == [9, 11]
    assert drift(history(NAN, 4, NAN), 2).flatten().tolist() == [4, 4]
    assert bool(drift(history(NAN, NAN), 2).isnan().all())


def data_of(*series: torch.Tensor) -> SeriesData:
    """Series ``(time, feature)`` on numbered steps."""
    lengths = torch.tensor([0, *map(len, series)])
    names = [f"s{index}" for index in range(len(series))]
    times = TimeIndex([0] * len(series), [1] * len(series))
    features = [f"y{index}" for index in range(series[0].shape[1])]
    return SeriesData(torch.cat(series), lengths.cumsum(0), names, features, times)


def test_each_series_is_forecast_by_its_own_season_from_its_own_past() -> None:
    series = [torch.randn(length, 2) for length in (30, 8, 2 * HISTORY_STEPS)]
    series[0][torch.rand(30, 2) < 0.3] = NAN
    data, seasons = data_of(*series), torch.tensor([4, 1, 600])
    index, origin = torch.tensor([2, 0, 1, 0]), torch.tensor([1700, 19, 0, 29])
    together = baseline_forecasts(data, index, origin, 9, seasons)
    assert together.shape == (len(BASELINES), 4, 9, 2)
    for row, (number, last) in enumerate(zip(index.tolist(), origin.tolist(), strict=True)):
        season = int(seasons[number])
        past = series[number][None, : last + 1][:, -max(HISTORY_STEPS, 2 * season) :]
        expected = [seasonal_naive(past, 9, 1), seasonal_naive(past, 9, season), drift(past, 9)]
        torch.testing.assert_close(together[:, row], torch.cat(expected), equal_nan=True)
        alone = baseline_forecasts(data, index[[row]], origin[[row]], 9, seasons)
        torch.testing.assert_close(alone[:, 0], together[:, row], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(together[0, 2], together[1, 2])  # without a season


def test_where_known_values_end_before_a_split_and_which_features_are_never_negative() -> None:
    data = data_of(torch.tensor([[1.0, 2], [0, NAN], [-1, 3]]), torch.tensor([[1.0, -1], [5, 5]]))
    first, ends = data.offsets[:-1], data.ends
    part = Segments(torch.tensor([0]), first[:1], torch.tensor([2]), ends[:1])
    assert ends_before(data, part).tolist() == [2, 5]
    whole = Segments(torch.tensor([0]), first[:1], first[:1], ends[:1])
    assert ends_before(data, whole).tolist() == [3, 5]
    assert never_negative(data, torch.tensor([2, 5])).tolist() == [True, False]
    assert never_negative(data, torch.tensor([3, 3])).tolist() == [False, True]


def test_each_series_is_scaled_by_its_own_season() -> None:
    data = data_of(torch.tensor([[1.0], [2], [4], [8]]), torch.tensor([[1.0], [2], [4], [8]]))
    absolutes, squares = difference_scales(data, data.ends, torch.tensor([1, 2]))
    assert absolutes.tolist() == [[pytest.approx(7 / 3)], [4.5]]
    assert squares.tolist() == [[7], [22.5]]


@pytest.mark.parametrize("times", [1, 100_000])
def test_scales_are_mean_differences_of_each_series_within_its_end(times: int) -> None:
    """Of four series, and of so many that they are read in pieces of a million rows."""
    values = torch.tensor([1.0, 2, 4, 8, 99, 5, 5, 5, 5, 1, 3, NAN, 7])[:, None].repeat(times, 1)
    starts = 13 * torch.arange(times)[:, None]
    offsets = torch.cat([(starts + torch.tensor([0, 5, 9, 11])).flatten(), torch.tensor([13 * times])])
    ids, axis = [str(i) for i in range(4 * times)], TimeIndex([0] * 4 * times, [1] * 4 * times)
    data = SeriesData(values, offsets, ids, ["y"], axis)
    ends = (starts + torch.tensor([4, 9, 11, 13])).flatten()
    absolutes, squares = (
        scale.view(times, 4) for scale in difference_scales(data, ends, torch.full_like(ends, 2))
    )
    # The third has no two values two steps apart, the fourth one value.
    assert torch.equal(absolutes[:, :3], torch.tensor([(3 + 6) / 2, 0, 2]).double().repeat(times, 1))
    assert torch.equal(squares[:, :3], torch.tensor([(9 + 36) / 2, 0, 4]).double().repeat(times, 1))
    assert bool(absolutes[:, 3].isnan().all())
    first = difference_scales(data, ends, torch.ones_like(ends))[0].view(times, 4)[:, :3]
    assert torch.equal(first, torch.tensor([(1 + 2 + 4) / 3, 0, 2], dtype=torch.float64).repeat(times, 1))


def test_rounding_errors_of_an_exact_period_are_no_scale() -> None:
    steps = torch.arange(120, dtype=torch.float64)
    values = torch.sin(2 * torch.pi * steps / 12)[None, :, None]
    data = SeriesData.from_equal(values)
    absolutes, squares = difference_scales(data, data.ends, torch.tensor([12]))
    assert absolutes.item() == squares.item() == 0
    data = SeriesData.from_equal(values + 1e-9 * torch.randn(values.shape, dtype=torch.float64))
    assert difference_scales(data, data.ends, torch.tensor([12]))[0].item() > 0
