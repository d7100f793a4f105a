"""Small tables whose forecasts once were wrong, because the season of one series was decided by another.

    python benchmarks/accuracy/season_cases.py FOLDER

FOLDER holds `c_alone.csv`, `c_new.csv`, `air_and_one_short.csv`, `air_truth.csv`, `weekly_and_noise.csv`,
`weekly_truth.csv` and `weekly_yearly.csv`, with the columns `unique_id` (or none) and `y`.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import torch

from rnn_lightning.pretrained.forecaster import PretrainedForecaster

FORECASTER = PretrainedForecaster().eval()


def load(path: Path) -> dict[str, list[float]]:
    series: dict[str, list[float]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            series.setdefault(row.get("unique_id", "y"), []).append(float(row["y"] or "nan"))
    return series


def forecast(series: dict[str, list[float]], horizon: int, season: int, year: float) -> dict[str, np.ndarray]:
    parts = [torch.tensor(values) for values in series.values()]
    context = torch.nn.utils.rnn.pad_sequence(parts, True, torch.nan, "left")[..., None]
    traits = {"seasons": torch.full((len(parts), 1), season), "year": torch.full((len(parts),), year)}
    points = FORECASTER.forecast_with_errors(context, horizon, traits=traits).point[..., 0].numpy()
    return dict(zip(series, points, strict=True))


def main(folder: Path) -> None:
    day = (7, 365.25)
    alone, beside = (forecast(load(folder / f"c_{name}.csv"), 14, *day)["live"] for name in ("alone", "new"))
    print(f"a live series beside one of a single row: differs by {np.abs(alone - beside).max():.2g} (0)")
    air = forecast(load(folder / "air_and_one_short.csv"), 36, 12, 0.0)["air"]
    truth = np.array(load(folder / "air_truth.csv")["air"])
    print(f"air passengers beside six rows: MAPE {100 * np.mean(np.abs(air / truth - 1)):.1f} % (4.8 alone)")
    week = forecast(load(folder / "weekly_and_noise.csv"), 28, *day)["weekly"]
    truth = np.array(load(folder / "weekly_truth.csv")["y"])
    print(f"a week beside three series of noise: MAE {np.abs(week - truth).mean():.2f} (0.36)")
    first = forecast(load(folder / "weekly_yearly.csv"), 28, *day)["y"][0]
    print(f"a week within a year: first day {first:.1f} (80)")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
