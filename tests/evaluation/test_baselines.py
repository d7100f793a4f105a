import pytest
import torch

from rnn_lightning import SeriesData
from rnn_lightning.data.series import TimeIndex
from rnn_lightning.evaluation.baselines import baseline_forecasts, difference_scales, drift, seasonal_naive

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


def test_features_and_series_are_forecast_alone() -> None:
    values = torch.randn(3, 20, 2)
    values[torch.rand(values.shape) < 0.3] = NAN
    together = baseline_forecasts(values, 9, 4)
    assert together.shape == (3, 3, 9, 2)
    alone = torch.stack(
        [
            torch.cat([baseline_forecasts(values[i : i + 1, :, j : j + 1], 9, 4) for j in range(2)], -1)[:, 0]
            for i in range(3)
        ],
        1,
    )
    assert torch.equal(together, alone)


@pytest.mark.parametrize("times", [1, 100_000])
def test_scales_are_mean_differences_of_each_series_within_its_end(times: int) -> None:
    """Of four series, and of so many that they are read in pieces of a million rows."""
    values = torch.tensor([1.0, 2, 4, 8, 99, 5, 5, 5, 5, 1, 3, NAN, 7])[:, None].repeat(times, 1)
    starts = 13 * torch.arange(times)[:, None]
    offsets = torch.cat([(starts + torch.tensor([0, 5, 9, 11])).flatten(), torch.tensor([13 * times])])
    ids, axis = [str(i) for i in range(4 * times)], TimeIndex([0] * 4 * times, [1] * 4 * times)
    data = SeriesData(values, offsets, ids, ["y"], axis)
    ends = (starts + torch.tensor([4, 9, 11, 13])).flatten()
    absolutes, squares = (scale.view(times, 4) for scale in difference_scales(data, ends, 2))
    # The third has no two values two steps apart, the fourth one value.
    assert torch.equal(absolutes[:, :3], torch.tensor([(3 + 6) / 2, 0, 2]).double().repeat(times, 1))
    assert torch.equal(squares[:, :3], torch.tensor([(9 + 36) / 2, 0, 4]).double().repeat(times, 1))
    assert bool(absolutes[:, 3].isnan().all())
    first = difference_scales(data, ends, 1)[0].view(times, 4)[:, :3]
    assert torch.equal(first, torch.tensor([(1 + 2 + 4) / 3, 0, 2], dtype=torch.float64).repeat(times, 1))
