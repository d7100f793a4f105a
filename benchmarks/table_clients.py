"""Is ``forecast.csv`` read as it is by pandas, polars and utilsforecast? Fit and predict here, read there.

    python benchmarks/table_clients.py --make FOLDER     # in the project's environment
    python benchmarks/table_clients.py FOLDER            # with pandas, polars and utilsforecast

The first makes three monthly series, of which the last year is kept from the network, and forecasts it with
intervals. The second joins forecast and truth by id and time stamp, and has utilsforecast evaluate the
forecast and its interval; the values must be those that NumPy computes from the text of the files. No column
is renamed: the join tells the two ``y`` apart, ``y`` of the forecast and ``y_true``.
"""

import argparse
import contextlib
import csv
import importlib
import importlib.metadata
import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

HORIZON, NUM_MONTHS = 12, 96
KEYS = ["unique_id", "ds"]
COLUMNS = [*KEYS, "y", "y-lo-80", "y-hi-80"]
METRICS = ["mae", "rmse", "mase", "coverage_level80", "mqloss"]


def make(folder: Path) -> None:
    """Write the history, the truth and the forecast."""
    from rnn_lightning.cli.command_line import run

    generator = np.random.default_rng(0)
    months = [f"{2015 + month // 12}-{1 + month % 12:02}-01" for month in range(NUM_MONTHS)]
    rows = []
    for index, name in enumerate(("north", "south", "007")):
        wave = np.sin(2 * np.pi * (np.arange(NUM_MONTHS) / 12 + index / 3))
        values = 100 * (index + 1) * (5 + wave + 0.2 * generator.standard_normal(NUM_MONTHS))
        rows += [(name, month, f"{value:.3f}") for month, value in zip(months, values, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    known = [row for row in rows if row[1] < months[-HORIZON]]
    for path, chosen in (("history.csv", known), ("truth.csv", [row for row in rows if row not in known])):
        with (folder / path).open("w", newline="") as file:
            csv.writer(file).writerows([(*KEYS, "y"), *chosen])
    options = ["--trainer.default_root_dir", str(folder), "--trainer.accelerator=cpu", "--experiment=runs"]
    options += ["--data.series=TableSeries", f"--data.series.path={folder / 'history.csv'}"]
    window = [
        "--data.context_length=24",
        "--data.scored_length=12",
        "--data.val_fraction=0.15",
        "--data.test_fraction=0",
    ]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run(["fit", *options, *window, "--model.transforms=[standardize_context]", "--trainer.max_epochs=3"])
        run(["predict", *options, f"--data.horizon={HORIZON}", "--data.num_samples=200"])
    newest = max(folder.glob("runs/predict_*/forecast.csv"), key=lambda path: path.stat().st_mtime_ns)
    (folder / "forecast.csv").write_bytes(newest.read_bytes())


def with_pandas(folder: Path) -> dict[str, float]:
    pandas, utilsforecast = (
        importlib.import_module("pandas"),
        importlib.import_module("utilsforecast.evaluation"),
    )
    types = {"unique_id": str}  # 007 is a name
    history, truth, forecast = (
        pandas.read_csv(folder / f"{name}.csv", dtype=types, parse_dates=["ds"])
        for name in ("history", "truth", "forecast")
    )
    assert list(forecast.columns) == COLUMNS
    assert str(forecast["ds"].dtype).startswith("datetime64")
    joined = forecast.merge(truth, on=KEYS, suffixes=("", "_true"), validate="one_to_one")
    assert len(joined) == len(truth) == len(forecast)
    past = history.assign(y_true=history["y"])
    table = utilsforecast.evaluate(
        joined, metrics(), models=["y"], target_col="y_true", train_df=past, level=[80], agg_fn="mean"
    )
    return dict(zip(table["metric"], table["y"], strict=True))


def with_polars(folder: Path) -> dict[str, float]:
    polars, utilsforecast = (
        importlib.import_module("polars"),
        importlib.import_module("utilsforecast.evaluation"),
    )
    types = {"unique_id": polars.String}
    history, truth, forecast = (
        polars.read_csv(folder / f"{name}.csv", schema_overrides=types, try_parse_dates=True)
        for name in ("history", "truth", "forecast")
    )
    assert forecast.columns == COLUMNS
    assert forecast["ds"].dtype == polars.Date
    joined = forecast.join(truth, on=KEYS, suffix="_true", validate="1:1")
    assert len(joined) == len(truth) == len(forecast)
    past = history.with_columns(y_true="y")
    table = utilsforecast.evaluate(
        joined, metrics(), models=["y"], target_col="y_true", train_df=past, level=[80], agg_fn="mean"
    )
    # The forecast continues the table: the two go below each other without a change.
    assert len(polars.concat([history, forecast.select(history.columns)])) == len(history) + len(forecast)
    return dict(zip(table["metric"], table["y"], strict=True))


def metrics() -> list[Any]:
    losses = importlib.import_module("utilsforecast.losses")
    seasonal = partial(losses.mase, seasonality=12)  # scaled by the seasonal naive forecast of a year
    return [losses.mae, losses.rmse, seasonal, losses.coverage, losses.mqloss]


def with_numpy(folder: Path) -> dict[str, float]:
    """The same metrics, the mean over the series, from the text of the files."""
    tables = {}
    for name in ("history", "truth", "forecast"):
        with (folder / f"{name}.csv").open(newline="") as file:
            tables[name] = list(csv.DictReader(file))
    found: dict[str, list[float]] = {name: [] for name in METRICS}
    for series in dict.fromkeys(row["unique_id"] for row in tables["truth"]):
        past, truth, forecast = (
            [row for row in tables[name] if row["unique_id"] == series] for name in tables
        )
        assert [row["ds"] for row in truth] == [row["ds"] for row in forecast]
        y, true, low, high, known = (
            np.array([float(row[column]) for row in rows])
            for rows, column in (
                (forecast, "y"),
                (truth, "y"),
                (forecast, "y-lo-80"),
                (forecast, "y-hi-80"),
                (past, "y"),
            )
        )
        error = float(np.abs(y - true).mean())
        found["mae"].append(error)
        found["rmse"].append(float(np.sqrt(np.mean((y - true) ** 2))))
        found["mase"].append(error / np.abs(known[12:] - known[:-12]).mean())
        found["coverage_level80"].append(float(np.mean((low <= true) & (true <= high))))
        pinball = [
            np.maximum(q * (true - end), (q - 1) * (true - end)).mean()
            for q, end in ((0.1, low), (0.9, high))
        ]
        found["mqloss"].append(float(np.mean(pinball)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make", action="store_true", help="fit and predict here")
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.folder)
        return
    versions = {name: importlib.metadata.version(name) for name in ("pandas", "polars", "utilsforecast")}
    print(", ".join(f"{name} {version}" for name, version in versions.items()) + "\n")
    expected = with_numpy(arguments.folder)
    results = {
        "NumPy": expected,
        "pandas": with_pandas(arguments.folder),
        "polars": with_polars(arguments.folder),
    }
    print("| mean over the series | " + " | ".join(results) + " |\n|---|" + "---|" * len(results))
    for name, value in expected.items():
        row = [found[name] for found in results.values()]
        np.testing.assert_allclose(row, value, rtol=1e-9)
        print(f"| {name} | " + " | ".join(f"{number:.6g}" for number in row) + " |")


if __name__ == "__main__":
    main()
