from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rnn_lightning.evaluation.intervals import Intervals, spread_of

LEVELS = [50, 80, 95]


def covered(bounds: Tensor, truth: Tensor) -> list[float]:
    return [
        float(((truth >= low) & (truth <= high)).float().mean())
        for low, high in zip(bounds[::2], bounds[1::2], strict=True)
    ]


def calibrated(*, forecasts: int = 400, horizon: int = 30, seed: int = 0) -> Intervals:
    """From errors of a random walk, in units of a spread of 2."""
    intervals = Intervals()
    errors = 2 * torch.randn(forecasts, horizon, 1, generator=torch.manual_seed(seed)).cumsum(1)
    intervals.calibrate(errors, torch.full((forecasts, 1), 2.0), origin_step=horizon)
    return intervals


def test_many_errors_give_intervals_that_hold_at_every_lead_time() -> None:
    intervals = calibrated()
    torch.manual_seed(1)
    truth = torch.randn(2000, 30, 1).cumsum(1)
    bounds = intervals.bounds(torch.zeros(2000, 30, 1), torch.ones(2000, 1), LEVELS)
    assert covered(bounds, truth) == pytest.approx([0.5, 0.8, 0.95], abs=0.04)
    for step in (0, 4, 29):
        assert covered(bounds[:, :, step], truth[:, step]) == pytest.approx([0.5, 0.8, 0.95], abs=0.06)


def test_errors_need_not_be_normal() -> None:
    torch.manual_seed(0)
    heavy = torch.distributions.StudentT(2.0)
    intervals = Intervals()
    intervals.calibrate(heavy.sample((500, 6, 1)), torch.ones(500, 1), origin_step=6)
    bounds = intervals.bounds(torch.zeros(3000, 6, 1), torch.ones(3000, 1), LEVELS)
    assert covered(bounds, heavy.sample((3000, 6, 1))) == pytest.approx([0.5, 0.8, 0.95], abs=0.03)


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
    held, found = [], []
    for values in draw((40, 150 + 24))[..., None]:
        intervals = Intervals()
        origins = range(150 - 14, 150)
        contexts = [values[None, :origin] for origin in origins]
        errors = torch.full((14, 24, 1), torch.nan)
        for number, (origin, context) in enumerate(zip(origins, contexts, strict=True)):
            errors[number, : 150 - origin] = values[origin:150] - forecast(context)[0]
        intervals.calibrate(errors, torch.cat([spread_of(context, 12) for context in contexts]))
        past = values[None, :150]
        point = forecast(past).expand(1, 24, 1)
        bounds = intervals.bounds(point, spread_of(past, 12), LEVELS)
        found.append(covered(bounds, values[None, 150:]))
        held.append(bool((bounds.diff(dim=0)[::2] >= 0).all()))
    assert all(held)
    for share, level, tolerance in zip(torch.tensor(found).mean(0), LEVELS, (0.16, 0.12, 0.11), strict=True):
        assert float(share) == pytest.approx(level / 100, abs=tolerance)


def test_few_errors_are_followed_in_scale_and_go_on_beyond_what_is_known() -> None:
    levels, half_widths = torch.tensor([0.5, 0.8]), []
    for scale in (1.0, 5.0):
        intervals = Intervals()
        errors = scale * torch.randn(3, 6, 1, generator=torch.manual_seed(3)).cumsum(1)
        errors[:, 4:] = torch.nan
        intervals.calibrate(errors, torch.ones(3, 1), origin_step=4)
        assert int(intervals.horizon) == 4
        half_widths.append(intervals(levels, 24))
    torch.testing.assert_close(half_widths[1], 5 * half_widths[0])
    assert bool((half_widths[0][:, 4:].diff(dim=1) > 0).all())


def test_samples_spread_as_the_intervals_and_keep_their_order() -> None:
    intervals = calibrated()
    torch.manual_seed(4)
    samples, point = torch.randn(999, 2, 24, 1).cumsum(2), torch.randn(2, 24, 1)
    spread = torch.tensor([[1.0], [3.0]])
    moved = intervals.reshaped(samples, point, spread)
    assert torch.equal(moved.argsort(0), samples.argsort(0))
    quantiles = torch.quantile(moved, torch.tensor([0.1, 0.9]), 0)
    torch.testing.assert_close(quantiles, intervals.bounds(point, spread, [80]), rtol=0.03, atol=0.03)


def test_series_that_were_never_negative_have_no_negative_intervals() -> None:
    intervals = calibrated()
    past = torch.tensor([[0.0, 3, torch.nan, 1], [-1, 3, 2, 1]])[..., None]
    assert float(intervals.floor(past).value.max()) == -torch.inf
    intervals.describe(1, torch.tensor([True]))
    floor, spread = intervals.floor(past), intervals.spread(past)
    point = torch.ones(2, 20, 1)
    for values in (
        intervals.bounds(point, spread, LEVELS, floor),
        intervals.reshaped(torch.randn(50, 2, 20, 1), point, spread, floor),
    ):
        assert float(values[:, 0].min()) == 0
        assert float(values[:, 1].min()) < 0


def test_intervals_of_intermittent_series_hold_the_value_that_most_of_them_are() -> None:
    intervals = calibrated()
    intervals.describe(1, torch.tensor([True]))
    past = torch.tensor([[0.0, 0, 3, 0, torch.nan, 1, 0, 0], [0.0, 0, 3, 2, torch.nan, 1, 1, 0]])[..., None]
    point = torch.full((2, 20, 1), 9.0)
    known = (torch.full((2, 1), 0.1), intervals.floor(past))
    low, high = intervals.bounds(point, *known[:1], [80], known[1])
    assert low[0].eq(0).all()
    assert low[1].gt(8).all()
    assert high.gt(9).all()
    quantiles = intervals.quantiles(21, point, *known)
    torch.testing.assert_close(quantiles[:10, 0], torch.zeros(10, 20, 1))
    assert quantiles[10:].ge(9).all()
    assert quantiles[:, 1].gt(8).all()


def test_the_spread_is_that_of_changes_from_step_to_step_or_season_to_season() -> None:
    steps = torch.arange(24.0)
    season = torch.tensor([0.0, 5, 1, 9]).repeat(6)
    trend = (2 * steps + season)[None, :, None]
    assert float(spread_of(trend, 4)) == pytest.approx(1e-6 * float(trend.mean()), rel=1e-3)
    assert float(spread_of(trend, 1)) > 1
    jumps = torch.tensor([1.0, -1]).repeat(12).cumsum(0)
    jumps[5] = torch.nan
    assert float(spread_of(jumps[None, :, None], 1)) == pytest.approx(1, abs=0.05)
    assert float(spread_of(torch.full((1, 5, 1), torch.nan), 1)) == 0
    assert float(spread_of(torch.tensor([[[3.0]]]), 7)) == 3


def test_intervals_travel_with_the_weights() -> None:
    intervals, other = calibrated(), Intervals()
    other.load_state_dict(intervals.state_dict())
    assert torch.equal(other(torch.tensor([0.8]), 9), intervals(torch.tensor([0.8]), 9))
    old = Intervals()
    assert not old.calibrated
    old.calibrate(torch.full((3, 4, 1), torch.nan), torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"the network was fitted without: raise `val_fraction`"):
        old.bounds(torch.zeros(1, 2, 1), torch.ones(1, 1), [80])


@pytest.mark.parametrize("number", [2, 4, 10, 40])
def test_few_forecasts_give_intervals_that_hold(number: int) -> None:
    """Their scale is uncertain, and the next error is another one: on average that is covered."""
    drawn = torch.randn(400, number, 1, 1, generator=torch.manual_seed(5))
    held = []
    for errors in drawn:
        intervals = Intervals()
        intervals.calibrate(errors, torch.ones(number, 1))
        half_widths = intervals(torch.tensor([0.5, 0.8, 0.95]), 1)[:, 0]
        held.append(torch.erf(half_widths / 2**0.5))
    assert torch.stack(held).mean(0).tolist() == pytest.approx([0.5, 0.8, 0.95], abs=0.06)
