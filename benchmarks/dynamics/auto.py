"""``--model.solver auto`` on clean and noisy data: CPU seconds of the whole choice, and all that it tried.

``python benchmarks/dynamics/auto.py [--seeds 1] [CASE ...]``; cases are Lorenz with 0, 0.01 and 0.05 of
observation noise, measured by the valid time in Lyapunov times, and the sine, by the error of 1,000 steps.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from cases import make_case, scored, tried
from sine import HORIZON, data

from rnn_lightning import Forecaster


def lorenz(noise: float, seed: int) -> tuple[np.ndarray, Callable[[Forecaster], float], dict[str, Any]]:
    case = make_case("Lorenz", noise)
    horizon = case.truth.shape[1]
    return case.train, lambda each: scored(case, each.forecast(case.context, horizon))[0], {}


def sine(seed: int) -> tuple[np.ndarray, Callable[[Forecaster], float], dict[str, Any]]:
    train, truth = data(seed)

    def error(forecaster: Forecaster) -> float:
        path = np.asarray(forecaster.forecast(train, HORIZON))
        return float(np.sqrt(np.square(path - truth).mean()))

    return train, error, {"size": 12, "val_fraction": 0.2}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", default=["0", "0.01", "0.05", "sine"])
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    print("| case | seed | chosen | CPU s | each: measure, CPU s |\n|---|---|---|---|---|")
    for name in given.cases:
        for seed in range(given.seeds):
            train, measure, settings = sine(seed) if name == "sine" else lorenz(float(name), seed)
            best, fitted, seconds = tried(train, seed, **settings)
            each = "; ".join(f"{key}: {measure(fitted[key]):.3g}, {seconds[key]:.1f}" for key in fitted)
            print(f"| {name} | {seed} | {best} | {sum(seconds.values()):.1f} | {each} |", flush=True)
