"""The compiled seasonal network equals its definition: values, states and gradients."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rnn_lightning.native import library
from rnn_lightning.native import seasonal as operator
from rnn_lightning.network import Encoded
from rnn_lightning.pretrained import season_kernel
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.pretrained.seasonal import SeasonalNetwork

KERNEL = library.find() if os.environ.get(library.SWITCH) != "0" else None
pytestmark = pytest.mark.skipif(KERNEL is None, reason="the native kernel was not built, or is switched off")

CASES = [  # season, steps, rows, hidden units, features, covariates
    (1, 30, 21, 8, 1, 0),
    (2, 25, 5, 64, 1, 0),
    (3, 26, 17, 9, 1, 2),
    (4, 30, 16, 8, 1, 0),
    (5, 40, 1, 13, 2, 0),
    (7, 60, 9, 64, 2, 3),
    (12, 90, 18, 8, 1, 0),
    (12, 5, 3, 33, 1, 0),
    (24, 35, 33, 7, 1, 1),
]


def seasons(batch_size: int, season: int) -> dict[str, Tensor]:
    return {"season": torch.full((batch_size,), season)}


def network(hidden_size: int, num_features: int = 1, num_covariates: int = 0) -> SeasonalNetwork:
    torch.manual_seed(hidden_size)
    if hidden_size == 64:
        made = bundled_network(num_features, num_covariates)
    else:
        made = SeasonalNetwork(num_features, hidden_size, num_covariates)
        nn.init.normal_(made.recurrent.all_weights[0][0], 0, 0.3)
    if made.effect is not None:
        nn.init.normal_(made.effect, 0, 0.3)
        nn.init.normal_(made.recurrent.all_weights[0][0][:, -num_covariates:], 0, 0.2)
    return made


def series(rows: int, steps: int, season: int, num_features: int, num_covariates: int) -> Tensor:
    """Seasons and trends with gaps, late starts and a row without values, beside their covariates."""
    generator = torch.Generator().manual_seed(steps)
    time = torch.arange(steps)
    values = torch.randn(rows, steps, num_features, generator=generator) * 0.5
    values = values + (0.02 * time + torch.sin(2 * torch.pi * time / season))[None, :, None]
    values[torch.rand(values.shape, generator=generator) < 0.1] = torch.nan
    values[1::3, : steps // 3] = values[7::9] = torch.nan
    return torch.cat([values, torch.randn(rows, steps, num_covariates, generator=generator)], -1)


def by_definition(call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(season_kernel, "native", None)
        return call()


def assert_near(ours: Tensor, expected: Tensor, tolerance: float) -> None:
    """Relative to the largest value, at least one."""
    assert ours.dtype == expected.dtype
    assert torch.equal(ours.isnan(), expected.isnan())
    difference = (ours.nan_to_num(0.0) - expected.nan_to_num(0.0)).abs()
    assert float(difference.max()) <= tolerance * max(1.0, float(expected.nan_to_num(0.0).abs().max()))


def assert_encoded(ours: Encoded, expected: Encoded, tolerance: float) -> None:
    for part, other in zip((*ours[:2], *ours.state), (*expected[:2], *expected.state), strict=True):
        assert_near(part, other, tolerance)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("case", CASES)
def test_values_and_states_are_those_of_the_definition(
    case: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a context, in one that continues a state, and in a free run with innovations."""
    season, steps, rows, hidden_size, num_features, num_covariates = case
    made = network(hidden_size, num_features, num_covariates).eval()
    inputs, traits = series(rows, steps, season, num_features, num_covariates), seasons(rows, season)
    innovations = series(rows, 2 * season + 3, season, num_features, num_covariates).nan_to_num(0.5)
    calls: list[Callable[[Any], Encoded]] = [
        lambda _: made.encode(inputs, None, traits),
        lambda state: made.encode(inputs, state, traits),
        lambda state: Encoded(innovations, *made.free_run(innovations, state, traits)),
    ]
    state = made.initial_state(rows, traits)
    with torch.inference_mode():
        for call in calls:
            expected = by_definition(partial(call, state), monkeypatch)
            assert_encoded(call(state), expected, 2e-5)
            state = expected.state


def test_a_long_context_is_as_near_to_float64_as_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network(64).eval()
    exact, traits = copy.deepcopy(made).double(), seasons(4, 52)
    inputs = series(4, 700, 52, 1, 0)
    with torch.inference_mode():
        expected = exact.encode(inputs.double(), None, traits).predictions
        ours = made.encode(inputs, None, traits).predictions
        theirs = by_definition(lambda: made.encode(inputs, None, traits).predictions, monkeypatch)
    error, theirs_error, scale = (
        float(part.abs().nan_to_num(0.0).max()) for part in (ours - expected, theirs - expected, expected)
    )
    assert error < max(2 * theirs_error, 2e-6 * scale)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("from_state", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_definition_in_float64(
    case: tuple[int, ...], from_state: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a loss of predictions, of a free run and of the state after it."""
    season, steps, rows, hidden_size, num_features, num_covariates = case
    made = network(hidden_size, num_features, num_covariates)
    inputs, traits = series(rows, steps, season, num_features, num_covariates), seasons(rows, season)
    innovations = series(rows, 2 * season + 3, season, num_features, num_covariates).nan_to_num(0.5)

    def gradients(made: SeasonalNetwork) -> list[Tensor]:
        dtype = made.readout.weight.dtype
        state = made.initial_state(rows, traits) if from_state else None
        encoded = made.encode(inputs.to(dtype), state, traits)
        generated, last = made.free_run(innovations.to(dtype), encoded.state, traits)
        parts = [encoded.predictions, generated, *(part for part in last if part.is_floating_point())]
        along = [
            torch.randn(part.shape, generator=torch.Generator().manual_seed(index)).to(dtype)
            for index, part in enumerate(parts)
        ]
        loss = sum(
            (torch.where(part.isnan(), 0.0, part) * way).sum() for part, way in zip(parts, along, strict=True)
        )
        return list(torch.autograd.grad(loss, list(made.parameters())))  # type: ignore[arg-type]

    expected = by_definition(lambda: gradients(copy.deepcopy(made).double()), monkeypatch)
    for ours, exact in zip(gradients(made), expected, strict=True):
        assert float((ours - exact).abs().max()) <= 1e-4 * float(exact.abs().max())


def test_a_gap_is_a_constant_for_the_gradient_and_a_forecast_is_none() -> None:
    made, traits = network(8), seasons(2, 4)
    context = series(2, 30, 4, 1, 0)
    encoded = made.encode(context, None, traits)
    assert not encoded.values.requires_grad
    assert [part.requires_grad for part in encoded.state[:3]] == [True] * 3
    assert not any(part.requires_grad for part in encoded.state[3:])
    assert made.free_run(torch.zeros(2, 3, 1), encoded.state, traits)[0].requires_grad


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    made, traits = network(64), seasons(101, 7)
    context, results = series(101, 50, 7, 1, 0), []
    for count in (1, 2, 3, 8):
        torch.set_num_threads(count)
        encoded = made.encode(context, None, traits)
        generated, state = made.free_run(torch.zeros(101, 9, 1), encoded.state, traits)
        loss = torch.where(encoded.predictions.isnan(), 0.0, encoded.predictions).sum() + generated.nansum()
        gradients = torch.autograd.grad(loss, list(made.parameters()))
        results.append([part.detach().nan_to_num(0.0) for part in (encoded.predictions, *state, *gradients)])
    torch.set_num_threads(1)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_rows_do_not_depend_on_each_other() -> None:
    """Not even one that leaves the finite numbers."""
    made, traits = network(64).eval(), seasons(20, 4)
    context = series(20, 40, 4, 1, 0).nan_to_num(0.0)
    with torch.inference_mode():
        clean = made.encode(context, None, traits)
        alone = made.encode(context[3:4], None, seasons(1, 4))
        context[5, 20] = torch.inf
        beside = made.encode(context, None, traits)
    assert torch.equal(alone.predictions, clean.predictions[3:4])
    assert all(map(torch.equal, alone.state, (part[:, 3:4] for part in clean.state)))
    others = [row for row in range(20) if row != 5]
    assert torch.equal(beside.predictions[others], clean.predictions[others])
    assert not bool(beside.predictions[5, 21:].isfinite().any())


def test_a_series_of_zeros_is_forecast_as_exactly_zero() -> None:
    made, traits = network(64).eval(), seasons(3, 7)
    with torch.inference_mode():
        encoded = made.encode(torch.zeros(3, 30, 1), None, traits)
        generated, _ = made.free_run(torch.zeros(3, 9, 1), encoded.state, traits)
    assert not encoded.predictions.any()
    assert not generated.any()


def test_empty_batches_and_views() -> None:
    made = network(8).eval()
    with torch.inference_mode():
        assert made.encode(torch.zeros(0, 5, 1), None, {}).predictions.shape == (0, 5, 1)
        wide = series(6, 40, 4, 1, 3)
        encoded = made.encode(wide[::2, 5:, :1], None, seasons(3, 4))
        whole = made.encode(wide[::2, 5:, :1].contiguous(), None, seasons(3, 4))
    assert torch.equal(encoded.predictions.nan_to_num(0.0), whole.predictions.nan_to_num(0.0))


CHANGED_FEATURES = """
import torch
from rnn_lightning.pretrained import season_clock, season_features as features
season_clock.SLOPE_RATES = (0.3, 0.1, 0.02, 0.0)
season_clock.RATES = (*season_clock.LEVEL_RATES, season_clock.MEAN_RATE, *season_clock.SLOPE_RATES)
names = list(features.QUANTITIES)
names.insert(names.index("slope_slow"), "slope_middle")
features.QUANTITIES = tuple(names)
features.DIFFERENCES = (*features.DIFFERENCES, {"slope_middle": 3, "level": -1, "mean": 1})
features.SLOPES = (*features.SLOPES, "slope_middle")
features.NUM_INPUTS, features.NUM_GATES = features.NUM_INPUTS + 1, features.NUM_GATES + 1
from rnn_lightning.pretrained import season_kernel
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
torch.manual_seed(0)
made, results = SeasonalNetwork(hidden_size=8), []
values = torch.randn(5, 40, 1).cumsum(1)
for native in (season_kernel.native, None):
    season_kernel.native = native
    encoded = made.encode(values, None, {"season": torch.full((5,), 4)})
    generated, _ = made.free_run(torch.zeros(5, 9, 1), encoded.state, {"season": torch.full((5,), 4)})
    loss = generated.square().sum() + encoded.predictions.sum()
    results.append([generated, *torch.autograd.grad(loss, list(made.parameters()))])
for ours, expected in zip(*results, strict=True):
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
"""


def test_a_changed_feature_is_changed_in_one_place() -> None:
    subprocess.run([sys.executable, "-c", CHANGED_FEATURES], check=True)


def test_what_the_kernel_cannot_do_is_done_by_the_definition() -> None:
    made, inputs = network(8), torch.zeros(2, 5, 1)

    def runs(inputs: Tensor) -> bool:
        return season_kernel.runs(inputs, made.weights())

    assert runs(inputs)
    assert not runs(inputs.double())
    made.double()
    assert not runs(inputs.double())
    made.float()
    assert not runs(inputs.to("meta"))
    assert not runs(torch.zeros(2, 5, 1, requires_grad=True))
    with torch.autocast("cpu", torch.bfloat16):
        assert not runs(inputs)


def test_there_is_no_second_derivative() -> None:
    made = network(8)
    predictions = made.encode(torch.randn(2, 9, 1), None, {}).predictions
    with pytest.raises(RuntimeError, match=f"no second derivative.*{library.SWITCH}=0"):
        torch.autograd.grad(predictions.sum(), list(made.parameters()), create_graph=True)


def test_the_operator_is_an_ordinary_one() -> None:
    made = network(8, 1, 2)
    weights = [weight.detach() for weight in made.weights()]
    values, covariates, tables = torch.randn(3, 5), torch.randn(3, 5, 2), season_kernel.tables()
    operators, tests = torch.ops.rnn_lightning, ("test_schema", "test_faketensor")
    state = operators.seasonal(values, covariates, None, weights, *tables, 4, False, False)[2]
    for before, free, keep in ((None, False, False), (state, False, True), (state, True, True)):
        arguments = (values, covariates, before, weights, *tables, 4, free, keep)
        torch.library.opcheck(operators.seasonal.default, arguments, test_utils=tests)
    saved = operators.seasonal(*arguments)[-1]
    backward = (saved, values, weights, *tables, 4, True, True, None, torch.randn(3, 5), None)
    torch.library.opcheck(operators.seasonal_backward.default, backward, test_utils=tests)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"values": torch.zeros(3, 5).double()}, TypeError, "must be float32"),
        ({"covariates": torch.zeros(3, 5, 2)}, ValueError, "need the shapes"),
        ({"state": torch.zeros(3, 7)}, ValueError, "need the shapes"),
        ({"state": torch.zeros(2, 7)}, ValueError, "need the shapes"),
        ({"season": 0, "state": None}, ValueError, "a season is at least 1"),
        ({"free": True}, ValueError, "a free run has a state"),
    ],
)
def test_bad_input_is_an_error(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    weights = network(8).weights()
    good = {"values": torch.zeros(3, 5), "covariates": None, "state": None, "weights": weights, "season": 4}
    operator.seasonal(**good, tables=season_kernel.tables())  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        operator.seasonal(**{**good, **changed}, tables=season_kernel.tables())
