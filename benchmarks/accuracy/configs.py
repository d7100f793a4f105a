"""Accuracy of the configs' free runs over seeds, beside floors: median and worst.

    python benchmarks/accuracy/configs.py sine random linear lstm airpassengers months --seeds 5

Every seed runs ``fit`` with the config as it is; only the seeds change, of the weights and of the generated
values. The forecast is that of the checkpoint which ``predict`` uses, and beside it that of the last weights.
"""

import argparse
import contextlib
import io
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from rnn_lightning import Forecaster, LinearSeries, SineSeries, TableSeries
from rnn_lightning.cli.command_line import run

CONFIGS = Path(__file__).parents[2] / "configs"


def sine(forecaster: Forecaster, seed: int, context_length: int) -> dict[str, float]:
    """Root mean square error of a free run after the last of the 400 values against the noise-free sine."""
    source = SineSeries(seed=seed)
    generated = forecaster.forecast(source.load().values[-context_length:], 1000)
    errors = generated.double() - source.clean(400, 1000)[0]
    return {"RMSE, 200 steps": rms(errors[:200]), "RMSE, 1,000 steps": rms(errors)}


def lstm(forecaster: Forecaster, seed: int, context_length: int) -> dict[str, float]:
    """The same over the eight series, 200 steps."""
    periods = [20.0, 23.0, 27.0, 32.0, 37.0, 43.0, 51.0, 60.0]
    source = SineSeries(num_series=8, time_step=1.0, period=periods, seed=seed)
    values = source.load().values.view(8, 400, 1)
    errors = forecaster.forecast(values[:, -context_length:], 200).double() - source.clean(400, 200)
    return {"RMSE, 200 steps": rms(errors), "worst series": max(rms(of_series) for of_series in errors)}


def random(forecaster: Forecaster, seed: int, context_length: int) -> dict[str, float]:
    """Mean squared error of a step on fresh series, over the best possible one, 1/12."""
    values = torch.rand(20000, 10, 1, generator=torch.Generator().manual_seed(10**6 + seed))
    errors = forecaster.forecast(values[:, :context_length], 10 - context_length) - values[:, context_length:]
    return {"MSE / (1/12)": 12 * rms(errors) ** 2}


def linear(forecaster: Forecaster, seed: int, context_length: int) -> dict[str, float]:
    """After 1, 2, 3, 4, 5; and the largest relative error in 1,000 steps of unseen starts and slopes."""
    following = float(forecaster.forecast(1.0 + np.arange(context_length), 1)[0])
    seen, worst = LinearSeries(), 0.0
    for start in (1.0, -200.0, 1000.0):
        for slope in (1.0, 10.0 * seen.max_slope, 5.0 * seen.min_slope, 0.01):
            exact = slope * np.arange(1.0, 1001.0)
            values = start + slope * np.arange(float(context_length))
            change = forecaster.forecast(values, 1000) - values[-1]
            worst = max(worst, float(np.max(np.abs(change - exact) / np.abs(exact))))
    return {"|next - 6|": abs(following - 6), "relative error, 1,000 steps": worst}


def airpassengers(forecaster: Forecaster, seed: int, context_length: int) -> dict[str, float]:
    """Mean absolute percentage error over the last 36 months."""
    calendar: list[Any] = ["month"] if forecaster.network.num_covariates else []
    data = TableSeries(str(CONFIGS.parent / "data/airpassengers.csv"), calendar_features=calendar).load()
    values, covariates = (
        data.values[:, 0].double(),
        data.covariates_at(torch.arange(108 - context_length, 144)),
    )
    generated = forecaster.forecast(values[108 - context_length : 108], 36, covariates=covariates)
    return {"MAPE, %": float(100 * ((generated - values[108:]) / values[108:]).abs().mean())}


FLOORS = {
    "sine": "least-squares AR(20) 0.020 / 0.045, exact fit of a sinusoid 0.004 / 0.008, "
    "forecasting zero 0.70 / 0.71",
    "lstm": "forecasting zero 0.71",
    "random": "the mean, 1.00",
    "linear": "exact, 0",
    "airpassengers": "seasonal naive 13.2, log SARIMA 8.1, Holt-Winters 5.6, ETS 5.1",
    "months": "the same, and mean log difference of each month 7.0, log-linear trend and months 14.2",
}


def rms(errors: torch.Tensor) -> float:
    return math.sqrt(float(errors.double().square().mean()))


def fitted(name: str, seed: int, folder: str) -> float:
    options = [f"--config={CONFIGS / name}.yaml", f"--seed_everything={seed}", f"--data.seed={seed}"]
    options += ["--trainer.default_root_dir", folder, "--trainer.accelerator=cpu", f"--experiment={name}"]
    if name not in ("airpassengers", "months"):
        options.append(f"--data.series.seed={seed}")
    begin = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run(["fit", *options])
    return time.process_time() - begin


def main() -> None:
    measures: dict[str, Callable[[Forecaster, int, int], dict[str, float]]] = {
        "sine": sine,
        "random": random,
        "linear": linear,
        "lstm": lstm,
        "airpassengers": airpassengers,
        "months": airpassengers,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=list(measures), help="configs to measure")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first_seed", type=int, default=0)
    arguments = parser.parse_args()
    print("| config | measure | median | worst | last weights: median | worst | floors | CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.names:
        context_length = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["data"]["context_length"]
        results: dict[str, list[dict[str, float]]] = {"best": [], "last": []}
        seconds = []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(CONFIGS.parent):
                seconds.append(fitted(name, seed, folder))
                for kind, found in results.items():
                    path = f"{folder}/{name}/fit_0/checkpoints/{kind}.ckpt"
                    found.append(measures[name](Forecaster.load_from_checkpoint(path), seed, context_length))
        for measure in results["best"][0]:
            best, last = ([result[measure] for result in results[kind]] for kind in ("best", "last"))
            numbers = " | ".join(f"{value:.3g}" for of in (best, last) for value in (np.median(of), max(of)))
            print(
                f"| {name} | {measure} | {numbers} | {FLOORS[name]} | {np.median(seconds):.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
