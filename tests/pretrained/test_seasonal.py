"""The seasonal network: whole contexts at once equal single steps, and a forecast is a gap at the end."""

import pytest
import torch
from torch import Tensor, nn

from rnn_lightning.errors import InputError
from rnn_lightning.network import Encoded
from rnn_lightning.pretrained.season_clock import clock
from rnn_lightning.pretrained.season_features import QUANTITIES
from rnn_lightning.pretrained.season_track import Tracker, describe, initial_track
from rnn_lightning.pretrained.seasonal import SeasonalNetwork

pytestmark = pytest.mark.usefixtures("path")

SHAPES = [(1, 40), (2, 30), (3, 33), (4, 37), (7, 60), (12, 100), (24, 80), (12, 15), (12, 5)]


def walk(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).cumsum(1)


def seasons(batch_size: int, season: int = 4) -> dict[str, Tensor]:
    return {"season": torch.full((batch_size,), season)}


def read(made: SeasonalNetwork, inputs: Tensor) -> Encoded:
    """Read inputs from their first known value on."""
    return made.encode(inputs, None, seasons(len(inputs)))


def network(num_features: int = 1, num_covariates: int = 0) -> SeasonalNetwork:
    torch.manual_seed(0)
    made = SeasonalNetwork(num_features, 8, num_covariates=num_covariates)
    nn.init.normal_(made.recurrent.all_weights[0][0], 0, 0.3)
    if made.effect is not None:
        nn.init.normal_(made.effect)
    return made


@pytest.mark.parametrize(("season", "num_steps"), SHAPES)
def test_step_by_step_knows_what_the_whole_context_tells(season: int, num_steps: int) -> None:
    values = walk(5, num_steps + 2 * season + 3)
    known = torch.ones_like(values, dtype=torch.bool)
    known[1, :3] = known[2, num_steps - 2 : num_steps + 2] = False
    whole, last, of_whole = describe(values, known, season)
    for begin in (0, num_steps):
        start = (
            describe(values[:, :begin], known[:, :begin], season)[1]
            if begin
            else initial_track(values, 5, season)
        )
        tracker = Tracker(start, season)
        for index in range(begin, values.shape[1]):
            (now,) = clock(known[:, index, None], values, season, tracker.age, tracker.free).steps()
            step = tracker.push(torch.where(now.age >= 0, values[:, index], 0.0), now)
            for name, part in zip(step._fields, step, strict=True):
                expected = getattr(whole, name)[:, index]
                begun = of_whole.age[:, index] >= 0
                torch.testing.assert_close(part[begun], expected[begun], rtol=1e-4, atol=1e-4, msg=name)
        torch.testing.assert_close(tuple(tracker.track()), tuple(last), rtol=1e-4, atol=1e-4)


def test_a_season_on_a_line_is_known_after_two_seasons() -> None:
    """The smoothed forecasts of the features are exact where there is nothing to smooth away."""
    steps = torch.arange(120.0)
    values = (0.5 * steps + torch.tensor([3.0, -1.0, -4.0, 2.0]).repeat(30))[None]
    step, _, _ = describe(values, torch.ones_like(values, dtype=torch.bool), 4)
    known = {name: step.quantities[0, 20:, index] for index, name in enumerate(QUANTITIES)}
    torch.testing.assert_close(known["profile_1"], known["profile_4"], atol=1e-4, rtol=0)
    torch.testing.assert_close(known["adjusted"].diff(), torch.full((99,), 0.5), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("num_features", "num_covariates"), [(1, 0), (2, 3)])
def test_reading_equals_stepping_and_a_forecast_is_a_gap_at_the_end(
    num_features: int, num_covariates: int
) -> None:
    made = network(num_features, num_covariates)
    values, covariates = walk(6, 40, num_features), walk(6, 40, num_covariates)
    values[1, :7], values[2, :11], values[0, 10:13], values[4, 20] = (torch.nan,) * 4
    inputs = torch.cat([values, covariates], -1)
    traits = seasons(6)
    predictions, filled, state = made.encode(inputs, None, traits)
    stepped, taken, last = made.encode(inputs, made.initial_state(6, traits), traits)
    begun = ~filled.isnan()
    torch.testing.assert_close(predictions[begun], stepped[begun], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(filled[begun], taken[begun], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-4)
    for before in (None, made.initial_state(6, traits)):
        late = made.encode(inputs, before, traits, 30).predictions
        torch.testing.assert_close(late, predictions[:, 30:], rtol=1e-4, atol=1e-4)

    _, _, origin = made.encode(inputs[:, :25], None, traits)
    without_noise = torch.cat([torch.zeros(6, 10, num_features), covariates[:, 25:35]], -1)
    forecast, _ = made.free_run(without_noise, origin, traits)
    gap = inputs[:, :35].clone()
    gap[:, 25:, :num_features] = torch.nan
    torch.testing.assert_close(made.encode(gap, None, traits).values[:, 25:], forecast, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made.free_run(without_noise[:, :4], origin, traits)[0], forecast[:, :4])


def test_the_forecast_of_a_negated_series_is_the_negative() -> None:
    made, values = network(), walk(3, 30, 1)
    torch.testing.assert_close(read(made, -values).predictions, -read(made, values).predictions)


def test_features_and_rows_are_forecast_alone() -> None:
    made, values = network(2), walk(3, 30, 2)
    both = read(made, values).predictions
    one = network(1)
    one.load_state_dict({**made.state_dict(), "residual_covariance": one.residual_covariance})
    alone = read(one, values[1:2, :, 1:]).predictions
    torch.testing.assert_close(alone, both[1:2, :, 1:], rtol=1e-4, atol=1e-5)


def test_covariates_enter_only_by_training() -> None:
    torch.manual_seed(0)
    made = SeasonalNetwork(num_covariates=2)
    values, covariates = walk(3, 30, 1), walk(3, 30, 2)
    before = read(made, torch.cat([values, covariates], -1)).predictions
    after = read(made, torch.cat([values, -covariates], -1)).predictions
    torch.testing.assert_close(after, before)
    before.square().mean().backward()
    gradient = made.recurrent.all_weights[0][0].grad
    assert gradient is not None
    assert bool((gradient[:, -2:] != 0).any())


def test_gradients_reach_all_weights_through_the_free_run() -> None:
    made = network(num_covariates=1)
    state = read(made, walk(3, 30, 2)).state
    drive = torch.cat([torch.zeros(3, 12, 1), torch.ones(3, 12, 1)], -1)
    made.free_run(drive, state, seasons(3))[0].square().mean().backward()
    gradients = [parameter.grad for parameter in made.parameters()]
    assert all(gradient is not None and bool((gradient != 0).any()) for gradient in gradients)


@pytest.mark.parametrize("season", [1, 4])
def test_the_scale_survives_constants_zeros_and_short_contexts(season: int) -> None:
    made = network()
    contexts = [torch.zeros(1, 30, 1), torch.full((1, 30, 1), 5.0), torch.full((1, 1, 1), 3.0), walk(1, 3, 1)]
    for context in contexts:
        transformed, state = made.transforms.start(context, seasons(1, season))
        assert bool(transformed.isfinite().all())
        torch.testing.assert_close(made.transforms.inverse(transformed, state), context, rtol=1e-4, atol=1e-4)


def test_small_units_are_units_like_others() -> None:
    made, values = network(), walk(2, 40, 1)
    small, usual = (made.transforms.start(unit * values, seasons(2))[0] for unit in (1e-12, 1.0))
    torch.testing.assert_close(small, usual)


def test_what_was_never_negative_is_forecast_so() -> None:
    transforms = network().transforms
    _, state = transforms.start(torch.tensor([5.0, 3, 1, 2, 0, 1])[None, :, None], {})
    assert float(transforms.inverse(torch.tensor(-50.0).reshape(1, 1, 1), state)) == 0
    _, state = transforms.start(torch.tensor([5.0, 3, -1, 2, 0, 1])[None, :, None], {})
    assert float(transforms.inverse(torch.tensor(-50.0).reshape(1, 1, 1), state)) < 0


def test_an_effect_of_covariates_is_none_of_the_level() -> None:
    """A series with a known effect is forecast as the series without it, and has it again afterwards."""
    made = SeasonalNetwork(num_covariates=1)
    effect, values, covariates = 3.0, walk(4, 30, 1), walk(4, 41, 1)
    with torch.no_grad():
        made.effect.fill_(effect)  # type: ignore[union-attr]
    nothing = torch.zeros(4, 10, 1)
    generated = []
    for size in (0.0, effect):
        shown = values.clone()
        shown[:, 1:] += size * covariates[:, 1:30]  # nothing is known of the covariates of the first step
        inputs = torch.cat([shown, covariates[:, 1:31] * (size > 0)], -1)
        following = torch.cat([nothing, covariates[:, 31:] * (size > 0)], -1)
        state = read(made, inputs).state
        generated.append(made.free_run(following, state, seasons(4))[0])
    torch.testing.assert_close(
        generated[1], generated[0] + effect * covariates[:, 30:40], rtol=1e-4, atol=1e-4
    )


def test_each_context_is_scaled_by_a_season_of_its_own() -> None:
    transforms, contexts = network().transforms, walk(4, 60, 2)
    season = torch.tensor([7, 1, 12, 7])
    together, state = transforms.start(contexts, {"season": season})
    for row in range(4):
        alone, (of_row,) = transforms.start(contexts[row : row + 1], seasons(1, int(season[row])))
        torch.testing.assert_close(together[row : row + 1], alone)
        torch.testing.assert_close(tuple(part[row : row + 1] for part in state[0]), of_row)
    without, _ = transforms.start(contexts, {})
    torch.testing.assert_close(without, transforms.start(contexts, seasons(4, 1))[0])
    assert not torch.allclose(without, together)


def test_a_network_reads_series_of_one_season_at_a_time() -> None:
    made, values = network(), walk(2, 30, 1)
    with pytest.raises(InputError, match=r"series of one batch have the seasons \[4, 7\]"):
        made.encode(values, None, {"season": torch.tensor([4, 7])})
    with pytest.raises(InputError, match="`season` must be at least 1, got 0"):
        made.encode(values, None, seasons(2, 0))
    one, none = made.encode(values, None, seasons(2, 1)), made.encode(values, None, {})
    torch.testing.assert_close(one.predictions, none.predictions)


def test_the_noise_of_a_series_is_in_units_of_its_one_step_errors() -> None:
    """Innovations of one are errors of the size of the errors so far."""
    made, values = network(2), walk(3, 40, 2)
    values[1] *= 10
    state = read(made, values).state
    scale = made.noise_scale(state)
    assert scale.shape == (3, 1, 2)
    assert bool((scale[1] > 5 * scale[2]).all())
    still, unit = torch.zeros(3, 1, 2), torch.ones(3, 1, 2)
    point, path = (made.free_run(inputs, state, seasons(3))[0] for inputs in (still, unit))
    torch.testing.assert_close(path - point, scale, rtol=1e-4, atol=1e-5)
