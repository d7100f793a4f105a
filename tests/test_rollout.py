"""Generation from a context: what the numbers are, and what is refused."""

import math
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rnn_lightning.closed_loop import plain_loop
from rnn_lightning.errors import InputError
from rnn_lightning.network import Cell, RecurrentNetwork
from rnn_lightning.recurrent import RecurrentState, recur, zero_state
from rnn_lightning.rollout import State, generate, generators, observe, rollout, warm_up
from rnn_lightning.transforms import Traits

CELLS: list[Cell] = ["rnn_tanh", "rnn_relu", "gru", "lstm"]
CHAINS = [
    (),
    ("standardize",),
    ("log",),
    ("difference",),
    ("difference", "difference"),
    ("log", "difference", "standardize"),
]

pytestmark = pytest.mark.usefixtures("_without_gradients", "path")


@pytest.fixture(name="_without_gradients")
def without_gradients() -> object:
    with torch.no_grad():
        yield


def make(
    cell: Cell = "lstm",
    transforms: Sequence[str] = ("standardize",),
    num_features: int = 2,
    num_layers: int = 1,
) -> RecurrentNetwork:
    torch.manual_seed(1)
    network = RecurrentNetwork(num_features, cell, 6, num_layers, transforms=transforms).double().eval()
    network.transforms.fit([values(1, 60, num_features, seed=9)[0]])
    network.residual_covariance.copy_(torch.eye(num_features) * 0.01)
    return network


def values(batch_size: int, num_steps: int, num_features: int, seed: int = 0) -> Tensor:
    noise = torch.randn(batch_size, num_steps, num_features, generator=torch.Generator().manual_seed(seed))
    return (noise.double() * 0.1).exp() * 3


def autoregressive(factor: float, variance: float) -> RecurrentNetwork:
    """Exactly ``x[t + 1] = factor * x[t] + e``: a relu for each sign, and a readout that joins them."""
    network = RecurrentNetwork(1, "rnn_relu", 2, transforms=()).double()
    for parameter in network.parameters():
        parameter.zero_()
    network.recurrent.all_weights[0][0].copy_(torch.tensor([[1.0], [-1.0]]))
    network.readout.weight.copy_(torch.tensor([[factor, -factor]]))
    network.residual_covariance.fill_(variance)
    return network


def silent(num_features: int, transforms: Sequence[str]) -> RecurrentNetwork:
    """A network whose output is zero."""
    network = RecurrentNetwork(num_features, "lstm", 3, transforms=transforms).double()
    network.readout.weight.zero_()
    network.readout.bias.zero_()
    return network


def read(
    network: RecurrentNetwork, inputs: Tensor, state: RecurrentState | None = None
) -> tuple[Tensor, RecurrentState]:
    """Inputs without gaps: the predictions and the state."""
    return recur(network.recurrent, inputs, state, network.readout)


def seeded(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(transforms=st.sampled_from([*CHAINS, ("standardize_context",)]), num_features=st.integers(1, 3))
def test_rollout_is_the_plain_loop_between_the_transforms(
    cell: Cell, num_layers: int, transforms: tuple[str, ...], num_features: int
) -> None:
    network = make(cell, transforms, num_features, num_layers)
    context = values(3, 20, num_features)
    transformed, of_transforms = network.transforms.start(context, {})
    _, recurrent = read(network, transformed)
    still = torch.zeros(3, 15, num_features).double()
    expected, _ = plain_loop(network.recurrent, network.readout, still, recurrent)
    torch.testing.assert_close(
        rollout(network, context, 15),
        network.transforms.inverse(expected, of_transforms),
        rtol=1e-10,
        atol=1e-10,
    )


@pytest.mark.parametrize(("cell", "num_layers"), [("rnn_tanh", 1), ("gru", 1), ("lstm", 1), ("lstm", 2)])
@pytest.mark.parametrize("transforms", CHAINS)
def test_rollout_equals_encoding_the_whole_history_at_every_step(
    cell: Cell, num_layers: int, transforms: tuple[str, ...]
) -> None:
    network = make(cell, transforms, num_layers=num_layers)
    history = values(2, 12, 2)
    forecast = rollout(network, history, 8)
    for step in range(8):
        transformed, of_transforms = network.transforms.start(history, {})
        ahead = read(network, transformed)[0][:, -1:]
        following = network.transforms.inverse(ahead, of_transforms)
        torch.testing.assert_close(forecast[:, step : step + 1], following, rtol=1e-10, atol=1e-10)
        history = torch.cat([history, following], 1)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_short_forecast_begins_a_long_one(cell: Cell) -> None:
    network, context = make(cell), values(3, 20, 2)
    torch.testing.assert_close(
        rollout(network, context, 5), rollout(network, context, 9)[:, :5], rtol=1e-12, atol=1e-12
    )
    for seeds in ((7,), (7, 8, 9)):
        short, long = (
            rollout(network, context, horizon, num_samples=4, generator=seeded(*seeds)) for horizon in (5, 9)
        )
        torch.testing.assert_close(short, long[:, :, :5], rtol=1e-12, atol=1e-12)
        assert float(long.std(0).min()) > 0


def test_a_counting_network_counts_on() -> None:
    network = RecurrentNetwork(1, "rnn_relu", 1, transforms=())
    for name, parameter in network.named_parameters():
        parameter.fill_(1.0 if "weight_ih" in name or "readout" in name else 0.0)
    assert rollout(network, torch.tensor([[[1.0], [2.0], [3.0]]]), 4).flatten().tolist() == [
        4.0,
        5.0,
        6.0,
        7.0,
    ]


def test_samples_have_the_mean_and_the_covariance_of_the_noise() -> None:
    covariance = torch.tensor([[2.0, 0.9], [0.9, 0.5]])
    paths = rollout(
        silent(2, ()), values(1, 5, 2), 2, num_samples=40_000, noise=covariance, generator=seeded(3)
    )
    for step in range(2):
        sample = paths[:, 0, step]
        torch.testing.assert_close(sample.mean(0), torch.zeros(2).double(), rtol=0, atol=0.03)
        torch.testing.assert_close(sample.T.cov(), covariance.double(), rtol=0, atol=0.05)
    assert float((paths[:, 0, 0] * paths[:, 0, 1]).mean(0).abs().max()) < 0.04  # steps are independent


def test_samples_of_an_autoregression_have_its_mean_and_variance() -> None:
    factor, variance = 0.8, 0.25
    paths = rollout(
        autoregressive(factor, variance),
        torch.tensor([[[4.0]]]).double(),
        6,
        num_samples=40_000,
        generator=seeded(4),
    )
    for step in range(1, 7):
        spread = variance * sum(factor ** (2 * lag) for lag in range(step))
        assert float(paths[:, 0, step - 1].mean()) == pytest.approx(4 * factor**step, abs=0.02)
        assert float(paths[:, 0, step - 1].var()) == pytest.approx(spread, rel=0.03)


def test_the_band_of_a_random_walk_widens_as_the_root_of_the_lead_time() -> None:
    noise = torch.tensor([[0.09]])
    paths = rollout(
        silent(1, ("difference",)), values(1, 9, 1), 64, num_samples=20_000, noise=noise, generator=seeded(5)
    )
    low, high = paths[:, 0, :, 0].quantile(torch.tensor([0.1, 0.9]).double(), dim=0)
    for lead in (1, 4, 16, 64):
        # An 80 % band is 2 * 1.2816 standard deviations wide.
        assert float((high - low)[lead - 1]) == pytest.approx(2 * 1.2816 * 0.3 * math.sqrt(lead), rel=0.04)


@pytest.mark.parametrize(("cell", "num_layers"), [("lstm", 1), ("gru", 2)])
def test_paths_of_a_series_do_not_depend_on_the_batch(cell: Cell, num_layers: int) -> None:
    network, context = make(cell, num_layers=num_layers), values(3, 20, 2)
    together = rollout(network, context, 10, num_samples=5, generator=seeded(1, 2, 3))
    alone = [
        rollout(network, context[i : i + 1], 10, num_samples=5, generator=seeded(i + 1)) for i in range(3)
    ]
    torch.testing.assert_close(torch.cat(alone, 1), together, rtol=1e-11, atol=1e-11)
    assert not torch.allclose(together[0], together[1])


def test_each_series_has_noise_of_its_own_by_its_number() -> None:
    network, context = make(), values(1, 20, 2).repeat(3, 1, 1)
    paths = rollout(network, context, 5, num_samples=4, generator=generators(0, range(3)))
    assert not torch.allclose(paths[:, 0], paths[:, 1])
    assert not torch.allclose(paths[:, 1], paths[:, 2])
    alone = rollout(network, context[:1], 5, num_samples=4, generator=generators(0, [2]))
    torch.testing.assert_close(alone[:, 0], paths[:, 2], rtol=1e-11, atol=1e-11)
    one, other = (
        rollout(network, context, 5, num_samples=4, generator=generators(seed, range(3))) for seed in (1, -1)
    )
    assert not any(torch.allclose(*pair) for pair in ((paths, one), (paths, other), (one, other)))


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("transforms", CHAINS)
def test_observing_one_value_at_a_time_equals_warming_up_on_all(
    transforms: tuple[str, ...], num_layers: int
) -> None:
    network, history = make("lstm", transforms, num_layers=num_layers), values(2, 20, 2)
    state = warm_up(network, history[:, :5])
    for step in range(5, 20):
        state = observe(network, state, history[:, step : step + 1])
    at_once = warm_up(network, history)
    torch.testing.assert_close(state, at_once, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        generate(network, state, 6), rollout(network, history, 6), rtol=1e-11, atol=1e-11
    )


def test_the_scale_of_a_context_stays_that_of_the_first_warm_up() -> None:
    network, history = make("lstm", ("standardize_context",)), values(2, 20, 2)
    first = warm_up(network, history[:, :10])
    later = observe(network, first, history[:, 10:] * 5)
    torch.testing.assert_close(later.transforms, first.transforms, rtol=0, atol=0)
    assert not torch.allclose(later.recurrent[0], first.recurrent[0])


def test_a_state_is_saved_loaded_and_branched(tmp_path: Path) -> None:
    network, history = make("lstm", ("difference", "standardize")), values(2, 20, 2)
    state = warm_up(network, history)
    expected = generate(network, state, 5)
    torch.save(state, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert isinstance(loaded, State)
    branches = [observe(network, loaded, history[:, :1] * factor) for factor in (1.0, 2.0)]
    futures = [generate(network, branch, 5) for branch in branches]
    assert not torch.allclose(futures[0], futures[1])
    generate(network, loaded, 3, num_samples=2)
    torch.testing.assert_close(
        generate(network, loaded, 5), expected, rtol=0, atol=0
    )  # nothing has touched it


@pytest.mark.parametrize(("cell", "num_layers"), [("rnn_tanh", 1), ("gru", 1), ("lstm", 2)])
@pytest.mark.parametrize("num_samples", [None, 4])
@pytest.mark.parametrize("num_steps", [1, 7])
def test_a_generation_in_chunks_of_steps_is_that_at_once(
    cell: Cell, num_layers: int, num_samples: int | None, num_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    transforms = ("standardize_context",)
    network = RecurrentNetwork(2, cell, 6, num_layers, transforms=transforms, num_covariates=1).eval()
    network.residual_covariance.copy_(torch.eye(2) * 0.01)
    context, covariates = values(3, 20, 2), values(3, 50, 1)

    def generated() -> Tensor:
        generator = None if num_samples is None else generators(0, range(3))
        given: dict[str, Any] = {"covariates": covariates, "num_samples": num_samples, "generator": generator}
        return rollout(network, context, 30, **given)

    lengths: list[int] = []
    free_run = network.free_run

    def noted(inputs: Tensor, *rest: Any) -> tuple[Tensor, RecurrentState]:
        lengths.append(inputs.shape[1])
        return free_run(inputs, *rest)

    monkeypatch.setattr(network, "free_run", noted)
    at_once = generated()
    monkeypatch.setattr("rnn_lightning.rollout.CHUNK_NUMBERS", num_steps * 6 * 3 * (num_samples or 1) + 5)
    torch.testing.assert_close(generated(), at_once, rtol=1e-5, atol=1e-6)
    assert lengths == [30, *([num_steps] * (30 // num_steps)), *([30 % num_steps] if 30 % num_steps else [])]


def test_the_gradient_of_a_free_run_reaches_the_weights() -> None:
    network, context = make("lstm"), values(2, 20, 2)
    with torch.enable_grad():
        (rollout(network, context, 10) - 1).square().mean().backward()
    weight = network.recurrent.all_weights[0][1]
    assert weight.grad is not None
    before, step = weight[1, 2].item(), 1e-6
    losses = []
    for change in (step, -step):
        weight[1, 2] = before + change
        losses.append(float((rollout(network, context, 10) - 1).square().mean()))
    assert float(weight.grad[1, 2]) == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5)


def test_a_run_that_leaves_the_finite_numbers_says_where_and_ends_in_nan() -> None:
    network = autoregressive(1e20, 1.0).float()
    context = torch.tensor([[[1.0]], [[0.0]], [[1e20]]])
    with pytest.warns(RuntimeWarning, match="second series at step 2, third series at step 1"):
        run = rollout(network, context[[1, 0, 2]], 4, names=["first series", "second series", "third series"])
    assert run[0].flatten().tolist() == [0.0] * 4
    assert run[1, 0].item() == pytest.approx(1e20)
    assert bool(run[1, 1:].isnan().all())
    assert bool(run[2].isnan().all())


def test_each_path_is_nan_from_its_own_end() -> None:
    network = autoregressive(1e20, 1.0).float()
    with pytest.warns(RuntimeWarning, match="series 0 of the batch at step 3"):
        paths = rollout(network, torch.tensor([[[0.0]]]), 4, num_samples=50, generator=seeded(1))
    ended = paths[:, 0, :, 0].isnan()
    assert ended.sum(1).unique().tolist() == [1, 2]  # a path that begins near zero lasts a step longer
    assert bool(ended[:, 3].all())
    assert bool(paths[~ended[:, None, :, None]].isfinite().all())


def test_a_finite_run_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bool(rollout(make(), values(2, 9, 2), 50).isfinite().all())


def test_wrong_counts_are_refused() -> None:
    network, context = make(), values(2, 9, 2)
    with pytest.raises(InputError, match=r"`horizon` must be at least 1, got 0"):
        rollout(network, context, 0)
    with pytest.raises(InputError, match=r"`num_samples` must be at least 1, got -2"):
        rollout(network, context, 3, num_samples=-2)


def test_wrong_contexts_are_refused() -> None:
    network = make(transforms=("difference", "difference"))
    with pytest.raises(
        InputError, match=r"context has 2 steps; the network with its transforms needs at least 3"
    ):
        rollout(network, values(2, 2, 2), 3)
    with pytest.raises(
        InputError, match=r"context must be \(batch, time, feature\), with 2 features .*got \(2, 9, 3\)"
    ):
        rollout(network, values(2, 9, 3), 3)
    with pytest.raises(InputError, match=r"context must be \(batch, time, feature\), .*got \(9, 2\)"):
        rollout(network, values(2, 9, 2)[0], 3)
    infinite = values(2, 9, 2)
    infinite[1, 4, 0] = torch.inf
    with pytest.raises(InputError, match="context must be finite numbers, or NaN where they are not known"):
        rollout(network, infinite, 3)
    with pytest.raises(InputError, match="observed values must be finite numbers"):
        observe(network, warm_up(network, values(2, 9, 2)), infinite)


@pytest.mark.parametrize("transforms", [*CHAINS, ("difference", "standardize_context")])
def test_a_context_filled_up_with_nan_is_the_short_one(transforms: tuple[str, ...]) -> None:
    network, context = make("gru", transforms), values(3, 9, 2)
    padded = torch.full((3, 40, 2), torch.nan).double()
    padded[0, 31:], padded[1, -3:], padded[2, -5:] = context[0], context[1, -3:], context[2, -5:]
    together = rollout(network, padded, 6)
    for row, length in enumerate((9, 3, 5)):
        torch.testing.assert_close(together[row], rollout(network, context[row : row + 1, -length:], 6)[0])


@pytest.mark.parametrize("transforms", CHAINS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_gap_at_the_end_is_part_of_the_forecast(cell: Cell, transforms: tuple[str, ...]) -> None:
    """What the network imputes a gap with is what it would have generated there."""
    network, context = make(cell, transforms), values(2, 12, 2)
    open_ended = torch.cat([context, torch.full((2, 3, 2), torch.nan).double()], 1)
    torch.testing.assert_close(rollout(network, open_ended, 5), rollout(network, context, 8)[:, 3:])
    state = observe(network, warm_up(network, context), open_ended[:, 12:])
    torch.testing.assert_close(generate(network, state, 5), rollout(network, context, 8)[:, 3:])


@pytest.mark.parametrize("transforms", CHAINS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("cuts", [[12, 13, 14, 20], [12, 14, 15, 17, 20], [*range(12, 21)]])
def test_a_stream_over_gaps_is_a_warm_up_on_all_values(
    cell: Cell, transforms: tuple[str, ...], cuts: list[int]
) -> None:
    """A change is unknown beside a gap, wherever the values are cut into pieces."""
    network, history = make(cell, transforms), values(2, 20, 2)
    history[0, 13] = history[1, 13:17] = history[:, 18, 1] = torch.nan
    state = warm_up(network, history[:, : cuts[0]])
    for begin, end in pairwise(cuts):
        state = observe(network, state, history[:, begin:end])
    whole = warm_up(network, history)
    torch.testing.assert_close(state, whole, equal_nan=True)
    torch.testing.assert_close(generate(network, state, 5), rollout(network, history, 5))


def test_a_long_context_with_gaps_is_its_parts_one_after_another() -> None:
    torch.manual_seed(0)
    network = RecurrentNetwork(1, hidden_size=32, transforms=("difference", "standardize")).eval()
    network.transforms.fit([torch.randn(50, 1)])
    context = torch.randn(3, 400, 1)
    context[0, :17] = context[1, 170:240] = context[1, 50] = context[2, :290] = torch.nan
    context[2, -1] = torch.nan
    state = warm_up(network, context[:, :100])
    for first in range(100, 400, 100):
        state = observe(network, state, context[:, first : first + 100])
    torch.testing.assert_close(rollout(network, context, 6), generate(network, state, 6), rtol=0, atol=1e-4)


def test_a_feature_of_which_nothing_is_known_is_nan_where_it_needs_a_level() -> None:
    network, context = make(transforms=("difference",)), values(2, 9, 2)
    context[1, :, 0] = torch.nan
    with pytest.warns(
        RuntimeWarning, match="series 1 of the batch at step 1.*nothing to go on from is known in the context"
    ):
        generated = rollout(network, context, 4)
    assert generated[1, :, 0].isnan().all()
    assert generated[1, :, 1].isfinite().all()
    assert generated[0].isfinite().all()


@pytest.mark.parametrize("cell", CELLS)
def test_covariates_of_context_and_horizon_reach_the_network(cell: Cell) -> None:
    """The rollout is the plain loop: each value is predicted with the covariates of its own step."""
    torch.manual_seed(1)
    network = RecurrentNetwork(1, cell, 6, transforms=("standardize",), num_covariates=2).double().eval()
    network.transforms.fit([values(1, 60, 1)[0]])
    context, covariates = values(2, 9, 1), values(2, 9 + 7, 2, seed=3)
    network.covariate_scale.fit([covariates.flatten(0, 1)])
    transformed, of_transforms = network.transforms.start(context, {})
    generated, state, value = [], zero_state(network.recurrent, 2), transformed[:, :1]
    for step in range(1, 16):
        predicted, state = read(network, network.join(value, covariates[:, step : step + 1]), state)
        value = transformed[:, step : step + 1] if step < 9 else predicted
        generated += [predicted] if step >= 9 else []
    expected = network.transforms.inverse(torch.cat(generated, 1), of_transforms)
    torch.testing.assert_close(rollout(network, context, 7, covariates=covariates), expected)
    state_then = observe(
        network, warm_up(network, context[:, :5], covariates[:, 1:6]), context[:, 5:], covariates[:, 6:10]
    )
    torch.testing.assert_close(generate(network, state_then, 7, covariates=covariates[:, 10:]), expected)
    network.residual_covariance.fill_(0.0)
    paths = rollout(network, context, 7, covariates=covariates, num_samples=3)
    torch.testing.assert_close(paths, expected.expand(3, -1, -1, -1))
    with pytest.raises(InputError, match=r"covariates must be .* = \(2, 16, 2\), got \(2, 15, 2\)"):
        rollout(network, context, 7, covariates=covariates[:, 1:])
    with pytest.raises(InputError, match="made for 2 covariates, and is given 0"):
        rollout(network, context, 7)
    with pytest.raises(InputError, match=r"from the second step on must be \(2, 6, 2\), got None"):
        generate(network, state_then, 7)


def test_a_network_is_given_the_traits_of_every_row() -> None:
    class Shifted(RecurrentNetwork):
        def free_run(
            self, inputs: Tensor, state: RecurrentState, traits: Traits
        ) -> tuple[Tensor, RecurrentState]:
            values, state = super().free_run(inputs, state, traits)
            return values + traits["shift"][:, None, None], state

    torch.manual_seed(0)
    network, plain = Shifted(1, "gru", 4, transforms=()), RecurrentNetwork(1, "gru", 4, transforms=())
    plain.load_state_dict(network.state_dict())
    context, traits = torch.randn(3, 9, 1), {"shift": torch.tensor([0.0, 10.0, 20.0])}
    expected = rollout(plain, context, 5) + traits["shift"][:, None, None]
    torch.testing.assert_close(rollout(network, context, 5, traits=traits), expected)
    paths = rollout(network, context, 5, traits=traits, num_samples=4, noise=torch.zeros(1, 1))
    torch.testing.assert_close(paths, expected.expand(4, -1, -1, -1))
    state = observe(network, warm_up(network, context[:, :6], traits=traits), context[:, 6:])
    torch.testing.assert_close(generate(network, state, 5), expected)


def test_sampling_without_a_covariance_is_refused() -> None:
    network, context = make(), values(2, 9, 2)
    with pytest.raises(InputError, match="covariance of their noise"):
        rollout(network, context, 3, num_samples=2, noise=torch.eye(3))
    network.residual_covariance.fill_(torch.nan)
    with pytest.raises(InputError, match="the network holds none: fit it with validation data"):
        rollout(network, context, 3, num_samples=2)
    assert rollout(network, context, 3, num_samples=2, noise=torch.eye(2)).shape == (2, 2, 3, 2)


def test_paths_without_a_generator_are_those_of_the_seed_of_torch() -> None:
    def paths(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return rollout(network, context, 3, num_samples=2)

    network, context = make(), values(2, 9, 2)
    assert torch.equal(paths(3), paths(3))
    assert not torch.equal(paths(3), paths(4))


def test_a_covariance_may_be_singular_to_the_rounding_of_float32() -> None:
    error = torch.randn(200, 1) @ torch.tensor([[1.0, 30.0, 0.001]])
    noise = (error.T @ error / 200).to(torch.float32)
    for scale in (1e-12, 1.0, 1e12):
        paths = rollout(silent(3, ()), values(1, 5, 3), 4, num_samples=9, noise=noise * scale)[:, 0]
        torch.testing.assert_close(paths[..., 1], 30 * paths[..., 0], rtol=1e-2, atol=0.1 * scale**0.5)


def test_a_wrong_number_of_generators_is_refused() -> None:
    with pytest.raises(InputError, match="2 generators for 3 series: give one, or one for each"):
        rollout(make(), values(3, 9, 2), 3, num_samples=2, generator=seeded(1, 2))


def test_a_state_of_another_network_or_batch_is_refused() -> None:
    state = warm_up(make("lstm"), values(2, 9, 2))
    for other in (make("gru"), make("lstm", num_layers=2), make("lstm", transforms=())):
        with pytest.raises(InputError, match="state is of another network or batch"):
            generate(other, state, 3)
    with pytest.raises(InputError, match="state is of another network or batch"):
        observe(make("lstm"), state, values(3, 1, 2))


def test_what_cannot_be_meant_is_refused() -> None:
    network = RecurrentNetwork(2, "lstm", 4, transforms=["difference"])
    context = torch.randn(3, 9, 2)
    with pytest.raises(InputError, match="noise and generator are for sampled paths: give num_samples"):
        rollout(network, context, 5, noise=torch.eye(2))
    with pytest.raises(
        InputError, match="noise must be a covariance: symmetric, without negative eigenvalues"
    ):
        rollout(network, context, 5, num_samples=3, noise=torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(InputError, match="noise must be a covariance: symmetric"):
        rollout(network, context, 5, num_samples=3, noise=torch.tensor([[1.0, 0.0], [0.5, 1.0]]))
    with pytest.raises(
        InputError,
        match=r"must be \(batch, time, feature\), with 2 features for this network, got \(0, 9, 2\)",
    ):
        rollout(network, context[:0], 5)
    other = RecurrentNetwork(2, "lstm", 4, transforms=["standardize_context"])
    with pytest.raises(InputError, match="the state is of another network"):
        generate(network, warm_up(other, context), 5)
    wider = RecurrentNetwork(3, "lstm", 4, transforms=["difference"])
    with pytest.raises(InputError, match="the state is of another network"):
        generate(network, warm_up(wider, torch.randn(3, 9, 3)), 5)


def test_a_context_may_be_in_another_precision() -> None:
    network = RecurrentNetwork(1, "gru", 4)
    context = torch.randn(2, 9, 1)
    torch.testing.assert_close(rollout(network, context.double(), 5), rollout(network, context, 5))
