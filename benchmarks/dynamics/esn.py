"""Echo state networks of ``reservoirpy``: its weights, with size, input noise and ridge chosen.

The recursion runs for all starts together, which ``reservoirpy`` cannot; its own ``run`` gives the same
states, see ``check``. The settings are those with the best free run over the last tenth of the training
values; then the readout is fitted to all of them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from cases import Case
from torch import Tensor

SIZES, NOISES, RIDGES = (300, 500, 1000), (0.0, 1e-4, 1e-3), (1e-10, 1e-8, 1e-6)
RADIUS, INPUT_SCALE = 0.9, 0.5
WASHOUT = 100

Generate = Callable[[Tensor, int], Tensor]


class Weights:
    """The weights of a reservoir with a bias, as ``reservoirpy`` draws them."""

    def __init__(self, size: int, num_features: int, seed: int = 0) -> None:
        from reservoirpy.nodes import Reservoir  # type: ignore[import, unused-ignore]

        self.bias = np.random.default_rng(seed).uniform(-INPUT_SCALE, INPUT_SCALE, size)
        settings: dict[str, Any] = {"sr": RADIUS, "input_scaling": INPUT_SCALE, "seed": seed}
        self.node = Reservoir(size, rc_connectivity=min(1.0, 10 / size), bias=self.bias, **settings)
        self.node.run(np.zeros((2, num_features)))
        self.recurrent, self.input = self.node.W, _dense(self.node.Win)
        self.node.reset()

    def step(self, state: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the state ``(size, batch)`` after ``values (batch, feature)``."""
        total: np.ndarray = self.recurrent @ state + self.input @ values.T + self.bias[:, None]
        return np.tanh(total)


def _dense(matrix: Any) -> np.ndarray:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, np.float64)


def states_of(weights: Weights, values: np.ndarray, noise: float) -> np.ndarray:
    """Return the states ``(time, size)`` after each of ``values (time, feature)``, which get the noise."""
    noisy = values + noise * np.random.default_rng(0).standard_normal(values.shape)
    state, states = np.zeros((len(weights.bias), 1)), []
    for step in noisy:
        state = weights.step(state, step[None])
        states.append(state[:, 0])
    return np.stack(states)


def readout(states: np.ndarray, values: np.ndarray, ridge: float) -> np.ndarray:
    """Return ``(size + 1, feature)``, the ridge regression of the next values."""
    rows = np.concatenate([states[WASHOUT:-1], np.ones((len(states) - WASHOUT - 1, 1))], 1)
    matrix = rows.T @ rows / len(rows) + ridge * np.eye(rows.shape[1])
    return np.linalg.solve(matrix, rows.T @ values[WASHOUT + 1 :] / len(rows))


def generated(weights: Weights, out: np.ndarray, context: np.ndarray, horizon: int) -> np.ndarray:
    """Return the free run ``(batch, horizon, feature)`` after ``context (batch, time, feature)``."""
    state, path = np.zeros((len(weights.bias), len(context))), []
    for step in range(context.shape[1]):
        state = weights.step(state, context[:, step])
    for _ in range(horizon):
        path.append(state.T @ out[:-1] + out[-1])
        state = weights.step(state, path[-1])
    return np.stack(path, 1)


def chosen_reservoir(case: Case) -> tuple[Generate, str]:
    """Return the generator of the best reservoir by validation, and its settings."""
    mean, deviation = case.train.mean(0), case.train.std(0)
    values = (case.train - mean) / deviation
    first = len(values) - len(values) // 10
    starts = np.linspace(first, len(values) - 200, 30).astype(int)
    contexts = np.stack([values[start - 100 : start] for start in starts])
    truth = np.stack([values[start : start + 200] for start in starts])
    low, high = values.min(0) - 0.2, values.max(0) + 0.2
    best, least = ("", 0.0, 0.0, 0), np.inf
    for size in SIZES:
        weights = Weights(size, values.shape[1])
        for noise in NOISES:
            states = states_of(weights, values[:first], noise)
            for ridge in RIDGES:
                out = readout(states, values[:first], ridge)
                with np.errstate(all="ignore"):
                    path = generated(weights, out, contexts, 1000)
                errors = np.abs(np.nan_to_num(path[:, :200] - truth, nan=1e2)).clip(1e-8, 1e2)
                leaves = not bool(((path >= low) & (path <= high)).all())
                if (score := float(np.log(errors).mean()) + 1e3 * leaves) < least:
                    least, best = score, (f"{size} units", noise, ridge, size)
    name, noise, ridge, size = best
    weights = Weights(size, values.shape[1])
    out = readout(states_of(weights, values, noise), values, ridge)

    def generate(context: Tensor, horizon: int) -> Tensor:
        path = generated(weights, out, (context.numpy() - mean) / deviation, horizon)
        return torch.from_numpy(path * deviation + mean)

    return generate, f"{name}, noise {noise:g}, ridge {ridge:g}"


def check() -> None:
    """Compare the states with those of ``reservoirpy`` itself."""
    values = np.random.default_rng(0).normal(size=(50, 3))
    weights = Weights(100, 3)
    assert np.allclose(np.asarray(weights.node.run(values)), states_of(weights, values, 0.0), atol=1e-10)
    print("the states are those of reservoirpy")


if __name__ == "__main__":
    check()
