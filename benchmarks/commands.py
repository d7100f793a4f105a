"""CPU time and memory of whole commands, from a CSV file to a forecast file, against ``import torch``.

    python benchmarks/commands.py --peer-python ENVIRONMENT/bin/python \
        --output benchmarks/results/commands.md

Monthly series of 120 steps are generated; each command is a process of its own on one thread, and its CPU
time is user and system time. A limit is a multiple of ``python -c "import torch"``, which is timed before
each command: the machine's load is in both. The peers need an environment with statsforecast.
"""

import argparse
import multiprocessing
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from report import publish

NUM_STEPS, HORIZON = 120, 18

LIMITS = {
    ("predict", 1): 1.5,
    ("predict, picture", 1): 2.0,
    ("predict", 1_000): 3.0,
    ("predict", 10_000): 9.0,
    ("predict", 100_000): 80.0,
}
"""The most imports of torch that a command may take."""

MAX_MEGABYTES = 1000

MAX_FITTED = 1000
"""Series up to which a fit is timed."""

PEERS = {
    "SeasonalNaive": "SeasonalNaive(season_length=12)",
    "AutoTheta": "AutoTheta(season_length=12)",
    "AutoETS": "AutoETS(season_length=12)",
}

PEER_CODE = """
import sys
import polars as pl
from statsforecast import StatsForecast
from statsforecast.models import {name}
table = pl.read_csv(sys.argv[1], try_parse_dates=True)
forecaster = StatsForecast([{model}], freq="1mo", n_jobs=1)
forecaster.forecast(df=table, h={horizon}, level=[80]).write_csv(sys.argv[2])
"""

METHOD = """\
CPU time (user and system) and peak memory of whole commands, each a process on one thread, from a CSV file of
monthly series of 120 steps to the forecast file of 18; in imports of torch, which is timed before each
command. The fraction is of the limit. `predict` is without a picture unless it says so.\
"""


class Cost(NamedTuple):
    """What a process took: CPU seconds and the peak of its memory in MB."""

    seconds: float
    megabytes: float


def cost_of(command: Sequence[str], folder: Path) -> Cost:
    """Run a command in a folder, and return what it took; a failure ends the benchmark with its message."""
    hidden = ("PYTHONDONTWRITEBYTECODE",)  # a user's second call compiles nothing
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    with (folder / "said.txt").open("w+") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)}\n{said.read()[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, _megabytes(usage))


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def write_series(path: Path, num_series: int) -> None:
    """Write monthly series with a level, a trend, a season and noise of their own."""
    random, steps = np.random.default_rng(0), np.arange(NUM_STEPS)
    drawn = random.uniform([50, -0.2, 0, 0], [500, 0.5, 0.3, 12], (num_series, 4))
    level, slope, size, phase = drawn.T[..., None]  # (series, 1) each
    noise = 0.01 * random.normal(size=(num_series, NUM_STEPS)).cumsum(1)
    noise += 0.03 * random.normal(size=noise.shape)
    season = 1 + size * np.sin(2 * np.pi * (steps + phase) / 12)
    values = (level + slope * steps) * season * np.exp(noise)
    months = pl.date_range(date(2014, 1, 1), date(2023, 12, 1), "1mo", eager=True)
    ids = pl.Series([f"s{number}" for number in range(num_series)])
    columns = {"unique_id": ids.gather(np.arange(num_series).repeat(NUM_STEPS))}
    columns |= {"ds": pl.concat([months] * num_series), "y": pl.Series(values.ravel().round(2))}
    pl.DataFrame(columns).write_csv(path)


class Commands:
    """Times commands, each against an import of torch just before it.

    Args:
        folder: the folder to run in.
        rounds: how often a command is run; the least time counts.
    """

    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder, self.rounds, self.imports = folder, rounds, list[float]()

    def ratio(self, command: Sequence[str], rounds: int | None = None) -> tuple[Cost, float]:
        """Return what a command takes, and the multiple of an import of torch."""
        found = []
        for _ in range(rounds or self.rounds):
            alone = cost_of([sys.executable, "-c", "import torch"], self.folder).seconds
            self.imports.append(alone)
            cost = cost_of(command, self.folder)
            found.append((cost.seconds / alone, cost))
        ratio, cost = min(found)
        return cost, ratio


def own_rows(commands: Commands, sizes: Sequence[int]) -> list[str]:
    """Return the rows of the table of the commands of this package."""
    program, rows = [sys.executable, "-m", "rnn_lightning"], []
    for size in sizes:
        file, horizon = f"series_{size}.csv", f"--data.horizon={HORIZON}"
        make = multiprocessing.get_context("spawn").Process(
            target=write_series, args=(commands.folder / file, size)
        )  # in a process of its own: a child's peak is not below that of the process that starts it
        make.start()
        make.join()
        cases = {"predict": [*program, "predict", file, horizon, "--output", "forecast.csv"]}
        if size == 1:
            cases["predict, picture"] = [*program, "predict", file, horizon]
        if size <= MAX_FITTED:
            cases["fit"] = [*program, "fit", file, horizon, "--experiment", f"fitted_{size}", "--quiet"]
        for name, command in cases.items():
            rounds = 1 if size > 1000 or name == "fit" else None
            cost, ratio = commands.ratio(command, rounds)
            limit = LIMITS.get((name, size))
            of_limit = "" if limit is None else f"{limit:g} | {ratio / limit:.2f}"
            rows.append(
                f"| {name} | {size:,} | {cost.seconds:.1f} | {ratio:.2f} | {cost.megabytes:.0f} | "
                f"{of_limit or ' | '} | {cost.megabytes / MAX_MEGABYTES:.2f} |"
            )
            print(rows[-1], flush=True)
    head = "| command | series | CPU s | imports of torch | peak MB | limit | fraction | fraction of 1 GB |"
    return [head, "|---|---|---|---|---|---|---|---|", *rows]


def peer_rows(commands: Commands, sizes: Sequence[int], python: str, max_seconds: float) -> list[str]:
    """Return the rows of the peers, up to the size that would take too long by the size before."""
    rows = []
    for name, model in PEERS.items():
        code = PEER_CODE.format(name=name, model=model, horizon=HORIZON)
        first = last = 0.0
        for place, size in enumerate(sizes):
            growth = size / sizes[place - 1] if place else 0.0
            if first + (last - first) * growth > max_seconds:
                break
            words = [python, "-c", code, f"series_{size}.csv", "peer.csv"]
            cost, ratio = commands.ratio(words, 1 if size > 100 else None)
            first, last = first or cost.seconds, cost.seconds
            rows.append(f"| {name} | {size:,} | {cost.seconds:.1f} | {ratio:.2f} | {cost.megabytes:.0f} |")
            print(rows[-1], flush=True)
    return ["| statsforecast | series | CPU s | imports of torch | peak MB |", "|---|---|---|---|---|", *rows]


def import_rows(folder: Path) -> list[str]:
    """Return the shares of packages in the time of all imports of two commands."""
    rows = ["| command | of all imports, by package |", "|---|---|"]
    fit = "fit series_1.csv --trainer.max_steps 1 --data.val_fraction 0 --experiment imports --quiet"
    for words in ("predict series_1.csv --output forecast.csv", fit):
        command = [sys.executable, "-X", "importtime", "-m", "rnn_lightning", *words.split()]
        cost_of(command, folder)
        times = Counter[str]()
        for line in (folder / "said.txt").read_text().splitlines():
            if found := re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\w+)", line):
                times[found[2]] += int(found[1])
        shares = [f"{name} {100 * part / times.total():.0f} %" for name, part in times.most_common(9)]
        rows.append(f"| `{words.partition(' ')[0]}` | {', '.join(shares)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 100, 1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-python", help="python of an environment with statsforecast and polars")
    parser.add_argument("--peer-seconds", type=float, default=100.0, help="of the largest run of a peer")
    parser.add_argument("--note", action="append", default=[], help="a sentence for the end of the report")
    parser.add_argument("--output", type=Path, help="file to write the results to; printed in any case")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        commands = Commands(Path(name), arguments.rounds)
        parts = [METHOD, "\n".join(own_rows(commands, arguments.sizes))]
        if arguments.peer_python:
            python, seconds = arguments.peer_python, arguments.peer_seconds
            parts.append("\n".join(peer_rows(commands, arguments.sizes, python, seconds)))
        parts.append("\n".join(import_rows(commands.folder)))
        alone = statistics.median(commands.imports)
    spread = f"from {min(commands.imports):.1f} to {max(commands.imports):.1f}"
    parts.append(
        f"`import torch` took {alone:.1f} s in the median of {len(commands.imports)} times, {spread}."
    )
    publish("Cost of whole commands", [*parts, *arguments.note], arguments.output, "one thread")


if __name__ == "__main__":
    main()
