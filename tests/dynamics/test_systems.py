"""Canonical systems: the recipes, the seeds, and the time in which errors grow."""

import importlib.util
import math

import numpy as np
import pytest
import torch

from rnn_lightning.data.series import Series
from rnn_lightning.dynamics.systems import (
    Field,
    FlowSeries,
    LorenzSeries,
    MackeyGlassSeries,
    RosslerSeries,
    integrate,
)
from rnn_lightning.errors import InputError

SYSTEMS = [LorenzSeries, RosslerSeries, MackeyGlassSeries]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_recording_depends_on_its_seed_alone(system: type[Series]) -> None:
    torch.manual_seed(0)
    first = system(num_steps=50, seed=1).load()  # type: ignore[call-arg]
    torch.manual_seed(1)
    again, other = system(num_steps=50, seed=1).load(), system(num_steps=50, seed=2).load()  # type: ignore[call-arg]
    assert torch.equal(first.values, again.values)
    assert not torch.allclose(first.values, other.values)
    assert first.values.shape == (50, system.num_features)


@pytest.mark.parametrize("system", SYSTEMS)
def test_observation_noise_has_the_deviation_asked_for_and_the_same_path_below(system: type[Series]) -> None:
    clean = system(num_steps=2000).load().values  # type: ignore[call-arg]
    noisy = system(num_steps=2000, noise=0.1).load().values  # type: ignore[call-arg]
    assert torch.allclose((noisy - clean).std(0) / clean.std(0), torch.tensor(0.1).double(), rtol=0.1)


def test_the_integrator_is_of_order_four() -> None:
    def turn(point: np.ndarray) -> np.ndarray:
        return np.array([point[1], -point[0]])

    start, end = np.array([0.0, 1.0]), np.array([math.sin(5.0), math.cos(5.0)])
    errors = [np.linalg.norm(integrate(turn, start, 0.5, 11, 0.5 / parts)[-1] - end) for parts in (4, 8)]
    assert 14 < errors[0] / errors[1] < 18


@pytest.mark.parametrize(("system", "num_times"), [(LorenzSeries, 9), (RosslerSeries, 6)])
def test_errors_grow_by_e_in_a_lyapunov_time(system: type[LorenzSeries], num_times: int) -> None:
    series = system(num_steps=1)
    assert series.lyapunov_time is not None
    steps = round(num_times * series.lyapunov_time)
    growths = []
    for seed in range(8):
        one = system(num_steps=steps, seed=seed)
        path = one.clean()
        neighbour = integrate(field_of(one), path[0] + 1e-9, one.time_step, steps, 1.0)
        growths.append(math.log(np.linalg.norm(neighbour[-1] - path[-1]) / (1e-9 * math.sqrt(3))))
    assert 0.6 * num_times < np.mean(growths) < 1.6 * num_times


@pytest.mark.parametrize(("system", "time_step"), [(LorenzSeries, 0.4), (RosslerSeries, 2.0)])
def test_long_steps_are_integrated_in_short_ones(system: type[LorenzSeries], time_step: float) -> None:
    one = system(num_steps=2, time_step=time_step)
    path = one.clean()
    fine = integrate(field_of(one), path[0], time_step, 2, 0.001)
    assert np.abs(path[1] - fine[1]).max() < 1e-3
    assert system(num_steps=20, time_step=2.5 * time_step).clean().std() > 1


def test_the_lyapunov_time_of_mackey_and_glass_is_known_at_one_delay() -> None:
    assert [MackeyGlassSeries(delay=delay).lyapunov_time for delay in (17, 30)] == [163.0, None]


def field_of(series: LorenzSeries) -> Field:
    lorenz = isinstance(series, LorenzSeries)

    def field(point: np.ndarray) -> np.ndarray:
        x, y, z = point
        if lorenz:
            return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])
        return np.array([-y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)])

    return field


def test_mackey_glass_solves_its_delay_equation() -> None:
    values = np.arctanh(MackeyGlassSeries(num_steps=400).clean()[:, 0]) + 1
    change = (values[2:] - values[:-2]) / 2
    delayed = values[1:-1][:-17]
    expected = 0.2 * delayed / (1 + delayed**10) - 0.1 * values[1:-1][17:]
    assert np.abs(change[17:] - expected).max() < 0.012
    assert 0.3 < values.min() < 0.6
    assert 1.2 < values.max() < 1.4


@pytest.mark.parametrize(
    ("system", "arguments", "message"),
    [
        (LorenzSeries, {"time_step": 0}, "`time_step` must be above 0"),
        (RosslerSeries, {"noise": -1}, "`noise` must not be negative"),
        (MackeyGlassSeries, {"delay": 0}, "`delay` must be at least 0.1"),
        (MackeyGlassSeries, {"num_steps": 0}, "`num_steps` must be above 0"),
    ],
)
def test_wrong_arguments_are_refused(system: type[Series], arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        system(**arguments)


@pytest.mark.filterwarnings("ignore:Numba")
def test_flows_come_from_their_package_or_say_what_is_missing() -> None:
    if importlib.util.find_spec("dysts") is None:
        with pytest.raises(InputError, match="pip install dysts"):
            FlowSeries("Lorenz")
        return
    series = FlowSeries("Lorenz", num_steps=100)
    assert series.load().values.shape == (100, 3)
    with pytest.raises(InputError, match="no flow 'Sine'"):
        FlowSeries("Sine")
