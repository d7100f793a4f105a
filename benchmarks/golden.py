"""What the fits of all configs forecast, recorded before a change and compared after it.

    python benchmarks/golden.py record before.json
    python benchmarks/golden.py compare before.json

Run both on one machine. Where no arithmetic was reordered the forecasts are equal to 1e-5 of their size; else
compare the errors on the validation split over seeds (``--seeds 5``): their medians should agree within 1 %.
``pretrain.yaml`` is left out: it takes ten minutes.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from rnn_lightning.cli.command_line import run

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = [path for path in sorted((ROOT / "configs").glob("*.yaml")) if path.stem != "pretrain"]


def numbers(path: Path) -> list[float]:
    """All numbers of a table but its ids and time stamps, row after row."""
    found = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, cell in row.items():
                if name not in ("unique_id", "ds", "shop", "day"):
                    found.append(float(cell or "nan"))
    return found


def fitted(config: Path, seed: int) -> dict[str, Any]:
    """The forecast and the best error on the validation split of a fit."""
    options = [f"--config={config}", f"--seed_everything={seed}", "--trainer.accelerator=cpu"]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        options.append(f"--trainer.default_root_dir={folder}")
        run(["fit", *options])
        run(["predict", *options, f"--output={folder}/forecast.csv"])
        (log,) = Path(folder).glob("*/fit_0/metrics.csv")
        with log.open(newline="") as file:
            errors = [row["val_rollout_nrmse"] for row in csv.DictReader(file) if row["val_rollout_nrmse"]]
        return {"forecast": numbers(Path(folder, "forecast.csv")), "error": min(map(float, errors))}


def distance(before: list[float], after: list[float]) -> float:
    """The largest difference, in units of the mean size."""
    size = statistics.fmean(abs(value) for value in before)
    return max(abs(old - new) for old, new in zip(before, after, strict=True)) / size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.file = arguments.file.resolve()
    os.chdir(ROOT)  # tables are named relative to it
    recorded = json.loads(arguments.file.read_text()) if arguments.action == "compare" else None
    configs = [path for path in CONFIGS if recorded is None or path.stem in recorded]  # others are new
    found = {path.stem: [fitted(path, seed) for seed in range(arguments.seeds)] for path in configs}
    if recorded is None:
        arguments.file.write_text(json.dumps(found))
        return
    print(f"{'config':16} {'forecast differs by':>20} {'median error before':>20} {'after':>10}")
    for name, after in found.items():
        before = recorded[name][: len(after)]
        pairs = list(zip(before, after, strict=True))
        most = max(distance(old["forecast"], new["forecast"]) for old, new in pairs)
        medians = [statistics.median(run["error"] for run in runs) for runs in (before, after)]
        print(f"{name:16} {most:20.2e} {medians[0]:20.4g} {medians[1]:10.4g}")


if __name__ == "__main__":
    main()
