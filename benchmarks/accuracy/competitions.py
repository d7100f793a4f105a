"""The pretrained forecaster on series of forecasting competitions, scored as these were.

    OMP_NUM_THREADS=1 python benchmarks/accuracy/competitions.py FOLDER [SET ...] [--table FILE.md]

FOLDER holds a set of series per file, ``m3_monthly.csv.gz`` and so on, with the columns ``unique_id``,
``freq`` (YS, QS, MS, 7D, D, B, h or int), ``season``, ``horizon``, and ``train`` and ``test``: numbers with
spaces between them, ``nan`` where unknown. Nothing but the frequency is given to the forecaster: each series
finds its seasons. Four sets of days with a week and a year are generated.

sMAPE and MASE are means over series; OWA is against Naive2, for the sets of M4; the points of M3 are the mean
sMAPE over all points of its four categories. Time is CPU time on one thread.
"""

import argparse
import csv
import gzip
import itertools
import os
import subprocess
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnn_lightning.pretrained.forecaster import PretrainedForecaster

CALENDAR = {"h": [24, 168], "D": [7], "7D": [52], "MS": [12], "QS": [4], "B": [5]}
YEAR = {"D": 365.25}
AMPLITUDES = (0, 3, 10, 25)
BATCH = 256
HARDWARE = "one thread of two shared cores of an AMD EPYC (AVX2)"


def days(amplitude: float) -> list[dict[str, Any]]:
    """Daily values of 2.2 to 6 years with a week of about 20 in them and a year of an amplitude; noise 2."""
    rng, rows = np.random.default_rng(11), []
    for years, shift in itertools.product((2.2, 3, 4, 6), range(8)):
        steps = np.arange(int(years * 365) + 50 * shift + 28)
        week = np.array([0, 3, 5, 4, 2, -18, -25])[steps % 7]
        year = amplitude * np.sin(2 * np.pi * steps / 365.25 + shift)
        values = 200 + week + year + rng.normal(0, 2, len(steps))
        row = {"train": values[:-28], "test": values[-28:], "freq": "D", "season": 7, "horizon": 28}
        rows.append(row)
    return rows


def relative_error(rows: list[dict[str, Any]], points: np.ndarray) -> float:
    """The mean absolute error of days over that of last week or the days a year ago, the better one."""
    tests = np.stack([row["test"] for row in rows])
    week = np.stack([np.tile(row["train"][-7:], 4) for row in rows])
    year = np.stack([row["train"][-364:][:28] for row in rows])
    errors = [np.abs(tests - each).mean() for each in (points, week, year)]
    return float(errors[0] / min(errors[1:]))


def load(path: Path) -> list[dict[str, Any]]:
    csv.field_size_limit(10**9)
    with gzip.open(path, "rt") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        row |= {name: int(row[name]) for name in ("season", "horizon")}
        row |= {name: np.array([float(value) for value in row[name].split()]) for name in ("train", "test")}
    return rows


def forecast(forecaster: PretrainedForecaster, rows: list[dict[str, Any]]) -> np.ndarray:
    """Forecasts ``(series, horizon)``."""
    horizon, frequency = rows[0]["horizon"], rows[0]["freq"]
    seasons, year = CALENDAR.get(frequency, [0]), YEAR.get(frequency, 0.0)
    wanted = forecaster.context_wanted(
        {"seasons": torch.tensor([seasons]), "year": torch.tensor([year])}, horizon
    )
    found = []
    for first in range(0, len(rows), BATCH):
        parts = [torch.from_numpy(row["train"][-wanted:]) for row in rows[first : first + BATCH]]
        context = torch.nn.utils.rnn.pad_sequence(parts, True, torch.nan, "left")[..., None].float()
        traits = {
            "seasons": torch.tensor([seasons] * len(parts)),
            "year": torch.full((len(parts),), year),
        }
        found.append(forecaster.forecast_with_errors(context, horizon, traits=traits).point[..., 0].numpy())
    return np.concatenate(found).astype(np.float64)


def symmetric_errors(test: np.ndarray, point: np.ndarray) -> float:
    size = np.abs(test) + np.abs(point)
    errors = np.where(size == 0, 0.0, 200 * np.abs(test - point) / np.where(size == 0, 1.0, size))
    return float(errors[~np.isnan(errors)].mean()) if not np.isnan(errors).all() else np.nan


def scaled_error(row: dict[str, Any], point: np.ndarray) -> float:
    """The mean absolute error over that of the seasonal naive forecast in the history; NaN if that is 0."""
    changes = np.abs(row["train"][row["season"] :] - row["train"][: -row["season"]])
    scale = np.nanmean(changes) if np.isfinite(changes).any() else 0.0
    known = np.abs(row["test"] - point)[~np.isnan(row["test"])]
    return float(known.mean() / scale) if scale > 0 and len(known) else np.nan


def naive2(values: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """The last value, seasonally adjusted where the autocorrelation says so, as in the M4 competition."""
    if season > 1 and len(values) >= 3 * season:
        rest = values - values.mean()
        lags = np.array([(rest[lag:] * rest[:-lag]).sum() for lag in range(1, season + 1)])
        correlation = lags / (rest * rest).sum()
        limit = 1.645 * np.sqrt((1 + 2 * np.square(correlation[:-1]).sum()) / len(values))
        if abs(correlation[-1]) > limit:
            window = np.r_[0.5, np.ones(season - 1), 0.5] if season % 2 == 0 else np.ones(season)
            half = len(window) // 2
            trend = np.full(len(values), np.nan)
            trend[half : len(values) - half] = np.convolve(values, window / season, "valid")
            indices = np.array([np.nanmean((values / trend)[phase::season]) for phase in range(season)])
            indices /= indices.mean()
            phases = (len(values) + np.arange(-1, horizon)) % season
            return values[-1] / indices[phases[0]] * indices[phases[1:]]
    return np.full(horizon, values[-1])


def scores(name: str, rows: list[dict[str, Any]], points: np.ndarray) -> dict[str, float]:
    def both(points: Any) -> tuple[float, float]:
        pairs = list(zip(rows, points, strict=True))
        symmetric = np.nanmean([symmetric_errors(row["test"], point) for row, point in pairs])
        return float(symmetric), float(np.nanmean([scaled_error(row, point) for row, point in pairs]))

    smape, mase = both(points)
    found = {"sMAPE": smape, "MASE": mase}
    if name.startswith("m4"):
        naive = both([naive2(row["train"], row["horizon"], row["season"]) for row in rows])
        found["OWA"] = 0.5 * (smape / naive[0] + mase / naive[1])
    return found


def table(lines: list[str], num_series: int, points: float | None) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    head = [
        "# Forecasting competitions",
        "",
        f"`benchmarks/accuracy/competitions.py` on {num_series:,} series, every other one of each set: the "
        "season policy was chosen on them. Nothing is given but the frequency, and nothing is fitted.",
        "",
        f"{date.today()}, commit {commit.stdout.strip()}, {HARDWARE}; CPU ms per series, hold-outs included. "
        "`days` are generated, with a week and a year of these amplitudes; `to week, year` is the error over "
        "that of the last week or of the days a year ago, whichever is better.",
        "",
        "| set | series | horizon | sMAPE | MASE | OWA | to week, year | CPU ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    tail = [] if points is None else ["", f"M3, mean sMAPE over all points of its four sets: {points:.2f}."]
    return "\n".join([*head, *lines, *tail]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--table", type=Path, help="write the scores as a Markdown table")
    given = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("set OMP_NUM_THREADS=1: times are those of one thread.")
    forecaster, lines, sums, num_series = PretrainedForecaster().eval(), [], np.zeros(2), 0
    generated = {f"days_{amplitude}": amplitude for amplitude in AMPLITUDES}
    files = sorted(path.name.split(".")[0] for path in given.folder.glob("*.csv.gz"))
    for name in given.sets or [*files, *generated]:
        rows = days(generated[name]) if name in generated else load(given.folder / f"{name}.csv.gz")
        started = time.process_time()
        points = forecast(forecaster, rows)
        spent = 1000 * (time.process_time() - started) / len(rows)
        found, horizon = scores(name, rows, points), rows[0]["horizon"]
        owa = f"{found['OWA']:.3f}" if "OWA" in found else ""
        relative = f"{relative_error(rows, points):.3f}" if name in generated else ""
        errors = f"{found['sMAPE']:.2f} | {found['MASE']:.3f} | {owa} | {relative}"
        lines.append(f"| {name} | {len(rows):,} | {horizon} | {errors} | {spent:.1f} |")
        print(lines[-1], flush=True)
        num_series += len(rows)
        if name.startswith("m3_"):
            sums += found["sMAPE"] * len(rows) * horizon, len(rows) * horizon
    result = table(lines, num_series, float(sums[0] / sums[1]) if sums[1] else None)
    print(result.splitlines()[-1])
    if given.table:
        given.table.write_text(result)


if __name__ == "__main__":
    main()
