"""M1 Yearly, 181 series, the last six years of each: mean MASE over seeds, beside the published table.

    python benchmarks/m1_yearly.py FOLDER --export                # where aeon is installed
    python benchmarks/m1_yearly.py FOLDER/m1_yearly.csv           # in the project's environment
    python benchmarks/m1_yearly.py FOLDER/m1_yearly.csv --inner   # forecast the six years before

The first takes the series from aeon, writes ``unique_id, ds, y`` and checks the metric: MASE as in the Monash
archive, the mean absolute error of the six forecasts over that of the naive forecast within the known years,
its mean over the series. The published simple exponential smoothing is repeated for it, level and weight by
least squares as R's ``ses`` finds them. The recipe was chosen by the last.

The recipe is fixed below. Each seed runs ``rnn-lightning fit`` with it on a table without the years to
forecast.
"""

import argparse
import contextlib
import csv
import importlib
import io
import tempfile
import time
from itertools import groupby
from pathlib import Path

import numpy as np

HORIZON = 6
CONTEXT_LENGTH = 6
"""Years that a forecast is made from."""

RECIPE = [
    "--data.context_length=4",
    "--data.scored_length=5",
    "--data.val_fraction=0",
    "--data.test_fraction=0",
    "--data.batch_size=64",
    "--data.num_batches_per_epoch=200",
    "--trainer.max_epochs=1",
    "--model.cell=lstm",
    "--model.hidden_size=16",
    "--model.transforms=[standardize_context, difference]",
    "--model.learning_rate=0.01",
    "--model.free_run_weight=0.3",
]
WINDOW = 4 + 5

PUBLISHED = {
    "TBATS": 3.499,
    "ETS": 3.771,
    "Theta": 4.191,
    "FFNN": 4.355,
    "N-BEATS": 4.384,
    "DeepAR": 4.603,
    "WaveNet": 4.666,
    "SES": 4.938,
    "Transformer": 5.519,
}
"""Mean MASE from the Monash archive, forecastingdata.org."""


def mase(forecast: np.ndarray, known: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(forecast - true).mean() / np.abs(np.diff(known)).mean())


def mean_mase(forecasts: list[np.ndarray], pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return float(np.mean([mase(forecast, *pair) for forecast, pair in zip(forecasts, pairs, strict=True)]))


def naive(known: np.ndarray) -> np.ndarray:
    return np.full(HORIZON, known[-1])


def drift(known: np.ndarray) -> np.ndarray:
    """The line through the first and the last known value."""
    return known[-1] + (known[-1] - known[0]) / (len(known) - 1) * np.arange(1, HORIZON + 1)


def exponential_smoothing(known: np.ndarray) -> np.ndarray:
    optimize = importlib.import_module("scipy.optimize")

    def run(weight: float, level: float) -> tuple[float, float]:
        squares = 0.0
        for value in known:
            squares += (value - level) ** 2
            level += weight * (value - level)
        return squares, level

    def loss(parameters: np.ndarray) -> float:
        inside = 1e-4 <= parameters[0] <= 0.9999
        return run(*parameters)[0] / len(known) if inside else 1e300

    options = {"maxiter": 2000, "maxfev": 4000}
    found = optimize.minimize(loss, [0.2, known[:10].mean()], method="Nelder-Mead", options=options)
    return np.full(HORIZON, run(*found.x)[1])


def export(folder: Path) -> None:
    """Write the table, and print what the metric gives for the simple methods."""
    frame = importlib.import_module("aeon.datasets").load_forecasting("m1_yearly_dataset")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "m1_yearly.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["unique_id", "ds", "y"])
        for name, start, values in zip(
            frame["series_name"], frame["start_timestamp"], frame["series_value"], strict=True
        ):
            writer.writerows(
                (name, f"{start.year + year}-01-01", float(value)) for year, value in enumerate(values)
            )
    series = read(folder / "m1_yearly.csv")
    pairs = [(values[:-HORIZON], values[-HORIZON:]) for values in series.values()]
    print("| method | mean MASE | published |\n|---|---|---|")
    methods = {"naive": naive, "drift": drift, "SES": exponential_smoothing}
    for name, method in methods.items():
        value = mean_mase([method(known) for known, _ in pairs], pairs)
        print(f"| {name} | {value:.3f} | {PUBLISHED.get(name, '')} |")


def read(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    by_name = groupby(rows, lambda row: row["unique_id"])
    return {name: np.array([float(row["y"]) for row in of_series]) for name, of_series in by_name}


def fitted_forecasts(path: Path, known: dict[str, np.ndarray], seed: int) -> tuple[list[np.ndarray], float]:
    """The forecasts of all series by a network fitted to the longer ones, and the CPU seconds of the fit."""
    from rnn_lightning import Forecaster
    from rnn_lightning.cli.command_line import run

    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "known.csv")
        with path.open(newline="") as source, table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["unique_id", "ds", "y"])
            rows = list(csv.DictReader(source))
            for name, of_series in groupby(rows, lambda row: row["unique_id"]):
                num_known = len(known.get(name, ()))
                if num_known >= WINDOW:
                    writer.writerows(list(row.values()) for row in list(of_series)[:num_known])
        options = [
            f"--seed_everything={seed}",
            f"--data.seed={seed}",
            "--experiment=m1",
            "--trainer.accelerator=cpu",
        ]
        options += [
            "--trainer.default_root_dir",
            folder,
            "--data.series=TableSeries",
            f"--data.series.path={table}",
        ]
        begin = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run(["fit", *options, *RECIPE])
        seconds = time.process_time() - begin
        forecaster = Forecaster.load_from_checkpoint(f"{folder}/m1/fit_0/checkpoints/last.ckpt")
    contexts = np.stack([values[-CONTEXT_LENGTH:] for values in known.values()])[..., None]
    return list(forecaster.forecast(contexts, HORIZON)[..., 0]), seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, help="m1_yearly.csv, or for --export its folder")
    parser.add_argument("--export", action="store_true")
    parser.add_argument(
        "--inner", action="store_true", help="leave the last six years out, forecast the six before"
    )
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.export:
        export(arguments.path)
        return
    series = read(arguments.path)
    if arguments.inner:
        series = {name: values[:-HORIZON] for name, values in series.items()}
        series = {name: values for name, values in series.items() if len(values) >= CONTEXT_LENGTH + HORIZON}
    known = {name: values[:-HORIZON] for name, values in series.items()}
    pairs = [(known[name], values[-HORIZON:]) for name, values in series.items()]
    results, seconds = [], []
    for seed in range(arguments.seeds):
        forecasts, of_fit = fitted_forecasts(arguments.path, known, seed)
        results.append(mean_mase(forecasts, pairs))
        seconds.append(of_fit)
    each = ", ".join(f"{value:.3f}" for value in results)
    print(f"{len(pairs)} series; seeds: {each}; {np.median(seconds):.1f} CPU s a fit\n")
    rows = {
        f"here, median of {len(results)} seeds": float(np.median(results)),
        "here, worst seed": max(results),
    }
    rows |= {"naive, last value": mean_mase([naive(values) for values in known.values()], pairs)}
    rows |= {"drift": mean_mase([drift(values) for values in known.values()], pairs)}
    rows |= {} if arguments.inner else PUBLISHED
    print("| method | mean MASE |\n|---|---|")
    for name, value in sorted(rows.items(), key=lambda row: row[1]):
        print(f"| {name} | {value:.3f} |")


if __name__ == "__main__":
    main()
