"""The three demonstration contexts of DynaMix, a zero-shot foundation model for dynamical systems.

    git clone https://github.com/DurstewitzLab/DynaMix-python
    python benchmarks/dynamics/dynamix.py DynaMix-python [--seeds 5]

Its notebook forecasts 10,000 steps from the first 2,000, 1,028 and 512 values, and prints D_stsp, D_H and the
MASE of 10 steps. Here a network is trained on the same context alone, with one setting for all, and measured
by the code of that repository, called as in the notebook. Nothing of the repository is copied.
"""

import argparse
import importlib.util
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import NUM_EPOCHS, fit

from rnn_lightning.solver.forecaster import VariableProjectionForecaster

CONTEXTS = {
    "lorenz63": (2000, "0.804 / 0.064 / 0.285"),
    "chua": (1028, "2.206 / 0.088 / 0.366"),
    "sprottM": (512, "3.325 / 0.097 / 0.180"),
}
HORIZON = 10_000
SIZES: dict[str, Any] = {"context_length": 50, "scored_length": 100, "horizon": 50, "val_fraction": 0.2}


def metrics_of(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("metrics", folder / "src/dynamix/metrics/metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    metrics = metrics_of(given.folder)
    print("D_stsp / D_H / MASE of 10 steps; here median (worst) of seeds.\n")
    print("| context | DynaMix, as printed | here: D_stsp | D_H | MASE | CPU s |\n|---|---|---|---|---|---|")
    for name, (length, printed) in CONTEXTS.items():
        values = np.load(given.folder / "notebooks/test_data" / f"{name}.npy")
        truth = torch.from_numpy(values[length : length + HORIZON])
        scores, seconds = [], []
        for seed in range(given.seeds):
            torch.manual_seed(seed)
            forecaster = VariableProjectionForecaster()
            seconds.append(fit(forecaster, values[:length], seed, NUM_EPOCHS, **SIZES))
            path = torch.as_tensor(forecaster.forecast(values[:length], HORIZON))
            divergence = metrics.geometrical_misalignment(path, truth)
            distance = metrics.temporal_misalignment(path.numpy(), truth.numpy())
            scores.append((divergence, distance, float(metrics.MASE(truth, path, steps=10))))
        shown = " | ".join(
            f"{statistics.median(each):.2g} ({max(each):.2g})" for each in zip(*scores, strict=True)
        )
        print(f"| {name} | {printed} | {shown} | {statistics.median(seconds):.1f} |", flush=True)
