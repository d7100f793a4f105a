from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rnn_lightning.evaluation.interval_widths import error_scale, floor_of, half_widths_at, learn_half_widths

LEVELS = torch.tensor([0.5, 0.8, 0.95])


def covered(errors: Tensor, half_widths: Tensor) -> list[float]:
    """The fraction of errors ``(forecast, horizon)`` within half-widths ``(level, horizon)``."""
    return [float((errors.abs() <= each).float().mean()) for each in half_widths]


def test_many_errors_give_intervals_that_hold_at_every_lead_time() -> None:
    errors = 2 * torch.randn(400, 30, 1, generator=torch.manual_seed(0)).cumsum(1)
    kept, longest = learn_half_widths(errors, torch.full((400, 1), 2.0), origin_step=30)
    assert longest == 30
    half_widths = half_widths_at(kept, LEVELS, 30)
    truth = torch.randn(2000, 30, generator=torch.manual_seed(1)).cumsum(1)
    assert covered(truth, half_widths) == pytest.approx([0.5, 0.8, 0.95], abs=0.04)
    for step in (0, 4, 29):
        found = covered(truth[:, step : step + 1], half_widths[:, step : step + 1])
        assert found == pytest.approx([0.5, 0.8, 0.95], abs=0.06)


def test_errors_need_not_be_normal() -> None:
    torch.manual_seed(0)
    heavy = torch.distributions.StudentT(2.0)
    kept, _ = learn_half_widths(heavy.sample((500, 6, 1)), torch.ones(500, 1), origin_step=6)
    found = covered(heavy.sample((3000, 6)), half_widths_at(kept, LEVELS, 6))
    assert found == pytest.approx([0.5, 0.8, 0.95], abs=0.03)


@pytest.mark.parametrize(
    ("draw", "forecast"),
    [
        (lambda size: torch.randn(size).cumsum(1), lambda past: past[:, -1:]),
        (lambda size: torch.randn(size), lambda past: past.mean(1, keepdim=True)),
    ],
)
def test_one_series_with_few_origins_has_intervals_that_hold_on_average(
    draw: Callable[[tuple[int, int]], Tensor], forecast: Callable[[Tensor], Tensor]
) -> None:
    """Fourteen held-out steps, a horizon of 24: the errors of one series are few and much alike."""
    torch.manual_seed(0)
    found, season = [], torch.tensor([12])
    for values in draw((40, 150 + 24))[..., None]:
        origins = range(150 - 14, 150)
        contexts = [values[None, :origin] for origin in origins]
        errors = torch.full((14, 24, 1), torch.nan)
        for number, (origin, context) in enumerate(zip(origins, contexts, strict=True)):
            errors[number, : 150 - origin] = values[origin:150] - forecast(context)[0]
        scale = torch.cat([error_scale(context, season) for context in contexts])
        half_widths = half_widths_at(learn_half_widths(errors, scale)[0], LEVELS, 24)
        past = values[None, :150]
        error = (values[150:] - forecast(past)[0]) / error_scale(past, season)
        found.append(covered(error.T, half_widths))
    for share, level, tolerance in zip(torch.tensor(found).mean(0), LEVELS, (0.16, 0.12, 0.11), strict=True):
        assert float(share) == pytest.approx(float(level), abs=tolerance)


def test_few_errors_are_followed_in_scale_and_go_on_beyond_what_is_known() -> None:
    half_widths = []
    for scale in (1.0, 5.0):
        errors = scale * torch.randn(3, 6, 1, generator=torch.manual_seed(3)).cumsum(1)
        errors[:, 4:] = torch.nan
        kept, longest = learn_half_widths(errors, torch.ones(3, 1), origin_step=4)
        assert longest == 4
        half_widths.append(half_widths_at(kept, LEVELS[:2], 24))
    torch.testing.assert_close(half_widths[1], 5 * half_widths[0])
    assert bool((half_widths[0][:, 4:].diff(dim=1) > 0).all())


def test_nothing_is_learned_of_unknown_errors() -> None:
    kept, longest = learn_half_widths(torch.full((3, 4, 1), torch.nan), torch.ones(3, 1))
    assert longest == 0
    assert not kept.any()


@pytest.mark.parametrize("number", [2, 4, 10, 40])
def test_few_forecasts_give_intervals_that_hold(number: int) -> None:
    """Their scale is uncertain, and the next error is another one: on average that is covered."""
    drawn = torch.randn(400, number, 1, 1, generator=torch.manual_seed(5))
    held = []
    for errors in drawn:
        half_widths = half_widths_at(learn_half_widths(errors, torch.ones(number, 1))[0], LEVELS, 1)[:, 0]
        held.append(torch.erf(half_widths / 2**0.5))
    assert torch.stack(held).mean(0).tolist() == pytest.approx([0.5, 0.8, 0.95], abs=0.06)


def test_the_error_scale_is_the_change_from_step_to_step_or_season_to_season() -> None:
    steps = torch.arange(24.0)
    pattern = torch.tensor([0.0, 5, 1, 9]).repeat(6)
    trend = (2 * steps + pattern)[None, :, None]
    seasonal, without = error_scale(trend.repeat(2, 1, 1), torch.tensor([4, 1])).flatten().tolist()
    assert seasonal == pytest.approx(1e-6 * float(trend.mean()), rel=1e-3)
    assert without > 1
    jumps = torch.tensor([1.0, -1]).repeat(12).cumsum(0)
    jumps[5] = torch.nan
    one = torch.tensor([1])
    assert float(error_scale(jumps[None, :, None], one)) == pytest.approx(1, abs=0.05)
    assert float(error_scale(torch.full((1, 5, 1), torch.nan), one)) == 0
    assert float(error_scale(torch.tensor([[[3.0]]]), torch.tensor([7]))) == 3


def test_the_lower_limit_is_zero_where_nothing_was_negative() -> None:
    past = torch.tensor([[0.0, 3, torch.nan, 1, 2], [-1, 3, 2, 1, 0], [0, 0, torch.nan, 4, 0]])[..., None]
    limit, is_common = floor_of(past, torch.tensor([True]))
    assert limit.flatten().tolist() == [0, -torch.inf, 0]
    assert is_common.flatten().tolist() == [False, False, True]
    limit, is_common = floor_of(past, torch.tensor([False]))
    assert limit.flatten().tolist() == [-torch.inf, -torch.inf, 0]  # most values of the last one are zero
    assert is_common.flatten().tolist() == [False, False, True]


def test_widths_of_high_levels_rise_whatever_the_errors() -> None:
    errors = torch.randn(20, 3, 1, generator=torch.manual_seed(0))
    half_widths, _ = learn_half_widths(errors, torch.ones(20, 1))
    levels = half_widths_at(
        half_widths, torch.tensor([0.95, 0.96, 0.97, 0.98, 0.99]), 3
    )  # (level, lead time)
    assert bool((levels.diff(dim=0) > 0).all())
