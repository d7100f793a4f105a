"""The default command on two tasks that others have published results of, over seeds, in Markdown.

    python benchmarks/accuracy/published.py airpassengers
    python benchmarks/accuracy/published.py FOLDER/published/m1_yearly.csv      # a table of collect.py
    python benchmarks/accuracy/published.py airpassengers --no-fit

The airline passengers: mean absolute percentage error of the last 36 months. M1 Yearly, 181 series: the last
six years of each, mean MASE as in the Monash archive, the mean absolute error over that of the naive forecast
within the known years.
"""

import argparse
from pathlib import Path

import numpy as np
from origins import Table, read_rows, seasonal_naive, values_of
from tables import forecast_of

AIRPASSENGERS = Path(__file__).parents[2] / "data/airpassengers.csv"
PUBLISHED = {
    "airpassengers": {"ETS": 5.11, "Holt-Winters": 5.64, "log SARIMA": 8.11},
    "m1_yearly": {
        "TBATS": 3.499,
        "ETS": 3.771,
        "Theta": 4.191,
        "FFNN": 4.355,
        "N-BEATS": 4.384,
        "DeepAR": 4.603,
        "WaveNet": 4.666,
        "SES": 4.938,
        "Transformer": 5.519,
    },
}
"""M1 Yearly is quoted from the Monash archive (forecastingdata.org), ETS of the passengers from Darts."""


def read(path: Path, horizon: int, season: int) -> Table:
    """A table whose last values of each series are to be forecast."""
    rows = read_rows(path)
    known = {id: of_series[:-horizon] for id, of_series in rows.items()}
    following = {id: of_series[-horizon:] for id, of_series in rows.items()}
    flat = [row for of_series in known.values() for row in of_series]
    return Table(flat, values_of(known), values_of(following), season)


def score(name: str, forecasts: dict[str, np.ndarray], table: Table) -> float:
    """MAPE in percent, or mean MASE."""
    values = []
    for id, true in table.following.items():
        error, known = np.abs(forecasts[id] - true), table.known[id]
        if name == "airpassengers":
            values.append(100 * (error / np.abs(true)).mean())
        else:
            values.append(error.mean() / np.abs(np.diff(known)).mean())
    return float(np.mean(values))


def drift(known: np.ndarray, horizon: int) -> np.ndarray:
    """The line through the first and the last known value."""
    return known[-1] + (known[-1] - known[0]) / (len(known) - 1) * np.arange(1, horizon + 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", help="airpassengers, or the path of m1_yearly.csv")
    parser.add_argument("--no-fit", action="store_true", help="predict without a fit before")
    parser.add_argument("--seeds", type=int, default=5, help="number of fits from different seeds")
    arguments = parser.parse_args()
    name = "airpassengers" if arguments.task == "airpassengers" else "m1_yearly"
    path = AIRPASSENGERS if name == "airpassengers" else Path(arguments.task)
    table = read(path, *((36, 12) if name == "airpassengers" else (6, 1)))
    values, seconds = [], []
    for seed in range(arguments.seeds):
        first = [f"--seed_everything={seed}"]
        commands = {"predict": first} if arguments.no_fit else {"fit": first, "predict": []}
        forecasts, of_commands = forecast_of(table, commands)
        values.append(score(name, {id: quantiles[0] for id, quantiles in forecasts.items()}, table))
        seconds.append(sum(of_commands.values()))
    simple = {
        "seasonal naive" if table.season > 1 else "naive": {
            id: seasonal_naive(known, table.horizon, table.season) for id, known in table.known.items()
        },
        "drift": {id: drift(known, table.horizon) for id, known in table.known.items()},
    }
    rows = {f"here, median of {len(values)} seeds": float(np.median(values)), "here, worst seed": max(values)}
    rows |= {method: score(name, of_method, table) for method, of_method in simple.items()}
    print(f"Seeds: {', '.join(f'{value:.3f}' for value in values)};", end=" ")
    print(f"{np.median(seconds):.1f} CPU seconds beside imports.\n")
    print(f"| method | {'MAPE, %' if name == 'airpassengers' else 'mean MASE'} |\n|---|---|")
    for method, value in sorted((rows | PUBLISHED[name]).items(), key=lambda row: row[1]):
        print(f"| {method} | {value:.3f} |")


if __name__ == "__main__":
    main()
