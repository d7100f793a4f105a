"""The noisy sine of ``configs/sine.yaml``: the root mean squared error of 1,000 free steps, over ten seeds.

``python benchmarks/dynamics/sine.py [--seeds 10]``. A fifth of the values validates; the last
row trains once more on all of them. The seed draws the noise and the initial weights. The
truth is the sine without noise; the context is the whole recording of 400 values.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from cases import fit

from rnn_lightning import Forecaster, SineSeries
from rnn_lightning.solver.forecaster import VariableProjectionForecaster

NUM_STEPS, HORIZON = 400, 1000


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The recording, and what follows it without noise."""
    series = SineSeries(NUM_STEPS, seed=seed)
    return series.load().values.numpy(), series.clean(NUM_STEPS, HORIZON)[0].numpy()


def sinusoid(train: np.ndarray) -> np.ndarray:
    """The floor: amplitude, frequency and phase fitted by least squares to all 400 values."""
    time, ahead = np.arange(NUM_STEPS) * 0.2, (NUM_STEPS + np.arange(HORIZON)) * 0.2

    def rows(frequency: float, at: np.ndarray) -> np.ndarray:
        return np.stack([np.sin(frequency * at), np.cos(frequency * at)], 1)

    def misfit(frequency: float) -> float:
        known = rows(frequency, time)
        return float(np.square(train - known @ np.linalg.lstsq(known, train, rcond=None)[0]).sum())

    best = min(np.linspace(0.97, 1.03, 2001).tolist(), key=misfit)
    known = rows(best, time)
    return rows(best, ahead) @ np.linalg.lstsq(known, train, rcond=None)[0]


def solved(seed: int, train: np.ndarray, **arguments: Any) -> tuple[Forecaster, float]:
    torch.manual_seed(seed)
    forecaster = VariableProjectionForecaster(hidden_size=12, **arguments)
    return forecaster, fit(forecaster, train, seed, 30, val_fraction=0.2)


def adam(seed: int, train: np.ndarray, **data: bool) -> tuple[Forecaster, float]:
    torch.manual_seed(seed)
    forecaster = Forecaster(cell="rnn_tanh", hidden_size=12, transforms=["standardize"], learning_rate=0.005)
    sizes = {"batch_size": 16, "num_batches_per_epoch": 100, "val_fraction": 0.2}
    return forecaster, fit(forecaster, train, seed, 15, **sizes, **data)


def row(name: str, num_seeds: int, method: Callable[[int, np.ndarray], tuple[np.ndarray, float]]) -> None:
    errors, seconds = [], []
    for seed in range(num_seeds):
        train, truth = data(seed)
        path, spent = method(seed, train)
        errors.append(float(np.sqrt(np.square(path - truth).mean())))
        seconds.append(spent)
    shown = f"{statistics.median(errors):.4f} ({max(errors):.3f})"
    print(f"| {name} | {shown} | {statistics.median(seconds):.1f} |", flush=True)


def trained(fit_one: Callable[..., tuple[Forecaster, float]], **arguments: Any) -> Callable[..., Any]:
    def method(seed: int, train: np.ndarray) -> tuple[np.ndarray, float]:
        forecaster, spent = fit_one(seed, train, **arguments)
        return forecaster.forecast(train, HORIZON), spent

    return method


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    num_seeds = parser.parse_args().seeds
    print("| method | RMSE of 1,000 free steps: median (worst) | CPU s |\n|---|---|---|")
    row("exact sinusoid, all 400 values", num_seeds, lambda _, train: (sinusoid(train), 0.0))
    row("Elman-12, variable projection, auto", num_seeds, trained(solved))
    row("Elman-12, Adam, validated alone", num_seeds, trained(adam))
    row("Elman-12, Adam, then on all values", num_seeds, trained(adam, final_fit_on_all=True))
