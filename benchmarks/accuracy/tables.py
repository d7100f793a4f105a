"""Scores of the command line on the tables of a folder, beside stored errors of the classics, in Markdown.

    python benchmarks/accuracy/tables.py FOLDER                # fit TABLE, then predict TABLE
    python benchmarks/accuracy/tables.py FOLDER --no-fit       # predict TABLE alone
    python benchmarks/accuracy/tables.py FOLDER --intervals    # 200 sampled paths: quantile loss and coverage
    python benchmarks/accuracy/tables.py FOLDER --seeds 3 --options="--model=Forecaster"

Each table is forecast from its last value and from the one that is one horizon before, in an empty folder,
with the horizon as the only option. The score of a series is its mean absolute error over that of the
seasonal naive forecast from the same origin; of a table, the geometric mean over its series, the two origins
and the seeds; of all tables, their geometric mean. Commands run in processes of their own, which inherit what
was imported once: the CPU seconds are those beside imports. Give OMP_NUM_THREADS=1 for those of one thread.
"""

import argparse
import contextlib
import csv
import importlib
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from origins import (
    LEVELS,
    ORIGINS,
    Table,
    coverage,
    geometric_mean,
    mean_absolute_error,
    read_meta,
    read_peers,
    read_table,
    relative,
    seasonal_naive,
    weighted_quantile_loss,
)

from rnn_lightning.cli.command_line import run

PACKAGE = ("cli.lightning_cli", "pretrained.bundled_forecaster", "tables.table_writer", "tables.reading")
for late in (
    *("attrs", "matplotlib.backends.backend_agg", "polars", "torch.utils.tensorboard"),
    *(f"rnn_lightning.{module}" for module in PACKAGE),
):
    with contextlib.suppress(ImportError):
        importlib.import_module(late)  # not used here: threads would not survive the fork
INTERVALS = ("--data.num_samples=200", f"--forecast.levels={list(LEVELS)}")
OUTPUT = "output.txt"
Scores = dict[str, float]
"""Scores by their columns."""


def cpu_seconds(words: list[str], folder: str) -> float:
    """Run the command line in a process of its own that has imported everything; return its CPU seconds."""
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = multiprocessing.get_context("fork").Process(target=run_within, args=(words, folder))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{' '.join(words)}\n{Path(folder, OUTPUT).read_text()}")
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime


def run_within(words: list[str], folder: str) -> None:
    os.chdir(folder)
    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    run(words)


def forecast_of(table: Table, commands: dict[str, list[str]]) -> tuple[dict[str, np.ndarray], Scores]:
    """The forecast of each series by commands with their options, and the CPU seconds of each command.

    A forecast is ``(1, horizon)``, or the quantiles of ``origins.QUANTILES`` where paths were sampled.
    """
    with tempfile.TemporaryDirectory() as folder:
        with Path(folder, "table.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("unique_id", "ds", "y"), *table.rows])
        common = ["table.csv", f"--data.horizon={table.horizon}", "--trainer.enable_progress_bar=false"]
        seconds = {
            f"{command}, CPU s": cpu_seconds([command, *common, *options], folder)
            for command, options in commands.items()
        }
        (path,) = Path(folder).rglob("forecast.csv")
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    ends = [f"y-{end}-{level}" for level in LEVELS for end in ("lo", "hi")]
    columns = ["y", *ends] if ends[0] in rows[0] else ["y"]
    by_series = groupby(rows, key=lambda row: row["unique_id"])
    forecasts = {
        id: np.array([[float(row[column]) for row in of_series] for column in columns])
        for id, of_series in ((id, list(of_series)) for id, of_series in by_series)
    }
    return forecasts, seconds


def scores(table: Table, peers: dict[str, Any], commands: dict[str, list[str]]) -> Scores:
    """The scores of a table at an origin, those of the peers among them."""
    forecasts, seconds = forecast_of(table, commands)
    naive = {
        id: mean_absolute_error(seasonal_naive(table.known[id], len(true), table.season), true)
        for id, true in table.following.items()
    }
    errors = {id: mean_absolute_error(forecasts[id][0], true) for id, true in table.following.items()}
    found = {"here": relative(errors, naive)}
    found |= {
        name: relative(of_peer["mae"], naive) for name, of_peer in peers.items() if name != "SeasonalNaive"
    }
    if all(len(quantiles) > 1 for quantiles in forecasts.values()):
        for level in (80, 95):
            shares = [coverage(forecasts[id], true, level) for id, true in table.following.items()]
            found[f"{level} %"] = float(np.mean(shares))
        losses = {id: weighted_quantile_loss(forecasts[id], true) for id, true in table.following.items()}
        if "AutoETS" in peers:
            found["quantile loss / AutoETS"] = relative(losses, peers["AutoETS"]["quantile_loss"])
            for level in (80, 95):
                shares = list(peers["AutoETS"][f"coverage_{level}"].values())
                found[f"AutoETS {level} %"] = float(np.mean(shares))
    return found | seconds


def mean_of(cases: list[Scores]) -> Scores:
    """Means over tables, origins or seeds: of shares, medians of seconds, geometric of relative errors."""
    result = {}
    for name in dict.fromkeys(name for case in cases for name in case):
        values = [case[name] for case in cases if name in case]
        if name.endswith("CPU s"):
            result[name] = statistics.median(values)
        else:
            result[name] = float(np.mean(values)) if name.endswith("%") else geometric_mean(values)
    return result


def commands_by_seed(
    num_seeds: int, options: list[str], fit: bool = True, intervals: bool = False
) -> list[dict[str, list[str]]]:
    """The commands of each seed, with their options; those given are of the first command."""
    predict = [*INTERVALS] if intervals else []
    commands = []
    for seed in range(num_seeds):
        first = [f"--seed_everything={seed}", *options]
        commands.append({"fit": first, "predict": predict} if fit else {"predict": [*first, *predict]})
    return commands


def scores_of_table(folder: Path, name: str, commands: list[dict[str, list[str]]]) -> Scores:
    """The scores of a table over origins and seeds, and its own relative error at each origin."""
    peers, by_origin = read_peers(folder).get(name, {}), dict[str, Scores]()
    for origin in ORIGINS:
        table = read_table(folder, name, origin)
        cases = [scores(table, peers.get(origin, {}), of_seed) for of_seed in commands]
        by_origin[origin] = mean_of(cases)
    own = {origin: of_origin["here"] for origin, of_origin in by_origin.items()}
    return own | mean_of(list(by_origin.values()))


def print_row(name: str, row: Scores, columns: list[str]) -> None:
    cells = []
    for column in columns:
        digits = 0 if column.endswith("%") else 2
        value = 100 * row[column] if column.endswith("%") and column in row else row.get(column)
        cells.append("" if value is None else f"{value:.{digits}f}")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def print_summary(tables: dict[str, Scores], overall: Scores) -> None:
    worst = max(tables, key=lambda name: tables[name]["here"])
    better = sum(row["here"] < 1 for row in tables.values())
    print(
        f"\n- Better than seasonal naive on {better} of {len(tables)} tables; worst table {worst},", end=" "
    )
    print(f"{tables[worst]['here']:.2f}.")
    print(f"- Geometric mean {overall['here']:.3f}.")
    for level in (80, 95):
        if f"{level} %" in overall:
            covered = {name: row[f"{level} %"] for name, row in tables.items()}
            worst = min(covered, key=lambda name: covered[name])
            print(f"- Coverage of the {level} % interval: mean {100 * overall[f'{level} %']:.0f} %,", end=" ")
            print(f"worst {worst}, {100 * covered[worst]:.0f} %.")
    print("- CPU seconds are medians, beside imports.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="+", help="tables; if none are given, all")
    parser.add_argument("--no-fit", action="store_true", help="predict without a fit before")
    parser.add_argument("--intervals", action="store_true", help="sample paths, and score the intervals")
    parser.add_argument("--seeds", type=int, default=1, help="number of fits from different seeds")
    parser.add_argument("--options", default="", help="of the first command, in one string")
    arguments = parser.parse_args()
    commands = commands_by_seed(
        arguments.seeds, arguments.options.split(), fit=not arguments.no_fit, intervals=arguments.intervals
    )
    tables, columns = dict[str, Scores](), list[str]()
    for name in arguments.names or read_meta(arguments.folder):
        tables[name] = scores_of_table(arguments.folder, name, commands)
        if not columns:
            columns = list(tables[name])
            print(f"| table | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
        print_row(name, tables[name], columns)
    overall = mean_of(list(tables.values()))
    print_row("all", overall, columns)
    print_summary(tables, overall)


if __name__ == "__main__":
    main()
