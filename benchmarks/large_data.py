"""Reading a large Parquet file, and training on files larger than what may be kept of them in memory.

    python benchmarks/large_data.py reading
    python benchmarks/large_data.py larger --sources npy parquet memory

``reading``: ten million hourly values of 10,000 series in several orders, from before ``TableSeries`` to
the first batch of windows. ``larger``: files of 4 GB of float32 values, two features, on which the Trainer
trains an LSTM of 32 units in one process and in two; beside it the same training on a small series in
memory. The second feature of row ``k`` of ``n`` is ``k / n``, so that a batch says where its windows begin:
their Kolmogorov-Smirnov distance from a uniform distribution is given beside the one that 5 % of uniform
samples of their number exceed.

Every measurement is a process of its own, and memory its peak resident memory (VmHWM) above what was resident
after the imports and a small warm-up. A mapped file counts while its pages are mapped. With ``--cold`` the
system is asked to forget the pages of the file before each measurement. The files are written to a temporary
folder, or to ``--folder``, which keeps them for the next run.
"""

import argparse
import contextlib
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import polars as pl
import torch

from rnn_lightning import Forecaster, SequenceDataModule, Series, SeriesData, TableSeries
from rnn_lightning.data.array import ArraySeries

PIECE_ROWS = 4_000_000
"""Rows that are made together."""

ARRANGEMENTS = ["sorted", "3 % missing", "by time", "random", "csv", "csv random"]
"""Of the rows of a table that is read."""

START = datetime(2000, 1, 1)
FEATURES = ["y", "position"]
CONTEXT_LENGTH = SCORED_LENGTH = 50
MEMORY_ROWS = 100_000
"""Of the series in memory."""

WARM_UP_BATCHES = 20
"""First batches of a fit, which are not timed."""


# Making the files


def pieces(num_rows: int, dtype: Any = np.float32) -> Iterator[tuple[int, np.ndarray]]:
    """The first row of each piece, and its rows: noise, and their place in the file."""
    for first in range(0, num_rows, PIECE_ROWS):
        size = min(PIECE_ROWS, num_rows - first)
        rows = np.empty((size, 2), dtype)
        rows[:, 0] = np.random.default_rng(first).standard_normal(size, dtype)
        rows[:, 1] = np.arange(first, first + size) / num_rows
        yield first, rows


def write_npy(path: Path, num_rows: int) -> None:
    """``(time, feature)`` float32 of one series."""
    array = np.lib.format.open_memmap(path, "w+", np.float32, (num_rows, 2))
    array.flush()
    offset = array.offset
    del array
    with path.open("r+b") as file:
        file.seek(offset)
        for _, rows in pieces(num_rows):
            rows.tofile(file)


def write_parquet(path: Path, num_rows: int, num_series: int, features: list[str], dtype: Any) -> None:
    """Hourly rows ``unique_id, ds, ...`` of series of equal length, through files of one piece each."""
    length = num_rows // num_series
    names = pl.Series([f"series {index:06}" for index in range(num_series)])
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for number, (first, rows) in enumerate(pieces(num_series * length, dtype)):
            index, step = np.divmod(np.arange(first, first + len(rows)), length)
            stamps = (
                step * 3_600_000_000 + int((START - datetime(1970, 1, 1)) / timedelta(microseconds=1))
            ).astype(np.int64)
            frame = pl.DataFrame(
                {
                    "unique_id": names.gather(index),
                    "ds": pl.Series(stamps).cast(pl.Datetime("us")),
                    **{name: rows[:, column] for column, name in enumerate(features)},
                }
            )
            frame.write_parquet(f"{folder}/{number:06}.parquet", compression="lz4", row_group_size=2**20)
        pl.scan_parquet(f"{folder}/*.parquet").sink_parquet(path, compression="lz4", row_group_size=2**20)


# Measuring, in a process of its own


def memory_bytes(field: str) -> int:
    """``VmRSS`` now, or ``VmHWM``, the most there was."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


class InMemory(Series):
    """A small series of the same kind."""

    num_features = 2

    def __init__(self, num_rows: int = MEMORY_ROWS) -> None:
        self.num_rows = num_rows

    def load(self) -> SeriesData:
        return SeriesData.from_equal(torch.from_numpy(next(pieces(self.num_rows))[1])[None])


def source(kind: str, path: str, scratch: str) -> Series:
    if kind == "npy":
        return ArraySeries(path)
    if kind == "parquet":
        return TableSeries(path, target_columns=FEATURES, scratch_folder=scratch)
    return InMemory()


def windows_of(series: Series, num_batches: int | None = None) -> SequenceDataModule:
    """Windows of a hundred steps, and nothing held out."""
    lengths = {"context_length": CONTEXT_LENGTH, "scored_length": SCORED_LENGTH}
    sizes = {"batch_size": 64, "num_batches_per_epoch": num_batches}
    return SequenceDataModule(series, **lengths, **sizes, val_fraction=0, test_fraction=0)  # type: ignore[arg-type]


def first_batch(datamodule: SequenceDataModule) -> None:
    datamodule.setup("fit")
    next(iter(datamodule.train_dataloader()))


def measure_reading(path: str, folder: str) -> None:
    torch.set_num_threads(1)
    write_parquet(Path(folder) / "small.parquet", 2000, 10, ["y"], np.float64)
    first_batch(windows_of(TableSeries(f"{folder}/small.parquet")))
    resident = memory_bytes("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    datamodule = windows_of(TableSeries(path))
    first_batch(datamodule)
    result = {
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": memory_bytes("VmHWM") - resident,
        "after_bytes": memory_bytes("VmRSS") - resident,
    }
    Path(folder, "result-0.json").write_text(json.dumps(result))


class Watch(L.Callback):
    """Seconds of the batches after the first ones, and where their windows begin."""

    def __init__(self) -> None:
        self.starts: list[torch.Tensor] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.ready = time.perf_counter()
        standardized = batch.inputs[:, :1, :2]  # (batch, 1, feature)
        network: Any = pl_module.network
        self.starts.append(network.transforms.inverse(standardized, [()])[:, 0, 1])
        if batch_idx == WARM_UP_BATCHES:
            self.wall, self.cpu = time.perf_counter(), time.process_time()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu


def measure_training(kind: str, path: str, folder: str, num_batches: int, num_processes: int) -> None:
    torch.set_num_threads(1)
    first_batch(windows_of(InMemory(2000)))
    resident, begin, watch = memory_bytes("VmRSS"), time.perf_counter(), Watch()
    datamodule = windows_of(source(kind, path, folder), num_batches)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=num_processes,
        strategy="ddp" if num_processes > 1 else "auto",
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )
    trainer.fit(
        Forecaster(num_features=2, cell="lstm", hidden_size=32, transforms=["standardize"]), datamodule
    )
    result = {
        "ready_seconds": watch.ready - begin,
        "wall_seconds": watch.wall / (num_batches - WARM_UP_BATCHES),
        "cpu_seconds": watch.cpu / (num_batches - WARM_UP_BATCHES),
        "peak_bytes": memory_bytes("VmHWM") - resident,
        "starts": torch.cat(watch.starts).tolist(),
    }
    Path(folder, f"result-{trainer.global_rank}.json").write_text(json.dumps(result))


# Running the measurements


def measured(path: Path | None, cold: bool, *arguments: str) -> list[dict[str, Any]]:
    """The results of all processes of a measurement."""
    if cold and path is not None:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with tempfile.TemporaryDirectory(dir=path.parent if path else None) as folder:
        words = [sys.executable, __file__, "measure", arguments[0], str(path), folder, *arguments[1:]]
        process = subprocess.run(
            words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        results = [json.loads(file.read_text()) for file in sorted(Path(folder).glob("result-*.json"))]
    if process.returncode or not results:
        raise RuntimeError(f"{' '.join(words)}\n{process.stdout}\n{process.stderr}")
    return results


def distance_from_uniform(places: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of numbers from 0 to 1."""
    places = np.sort(places)
    steps = np.arange(len(places) + 1) / len(places)
    return float(max(np.max(steps[1:] - places), np.max(places - steps[:-1])))


def arranged(path: Path, arrangement: str) -> Path:
    """The rows of a sorted Parquet file, or some of them, in another order or as CSV."""
    kind = "csv" if arrangement.startswith("csv") else "parquet"
    other = path.with_name(f"{path.stem} {arrangement}.{kind}")
    if arrangement == "sorted" or other.exists():
        return path if arrangement == "sorted" else other
    table = pl.read_parquet(path)
    if arrangement.startswith("csv"):
        table = table.head(table.height // 5)
    if arrangement == "3 % missing":
        table = table.filter(np.random.default_rng(0).random(table.height) > 0.03)
    elif arrangement == "by time":
        table = table.sort("ds", "unique_id")
    elif arrangement.endswith("random"):
        table = table.sample(fraction=1, shuffle=True, seed=0)
    table.write_csv(other) if kind == "csv" else table.write_parquet(
        other, compression="lz4", row_group_size=2**20
    )
    return other


def report_reading(folder: Path, num_rows: int, num_series: int, cold: bool, repeats: int) -> None:
    path = folder / f"{num_rows}_{num_series}.parquet"
    if not path.exists():
        write_parquet(path, num_rows, num_series, ["y"], np.float64)
    print(
        f"{num_rows:,} float64 values of {num_series:,} series, {path.stat().st_size / 1e6:.0f} MB of "
        f"Parquet; of CSV a fifth of the rows; the least of {repeats}",
        flush=True,
    )
    print("| rows | wall s | CPU s | peak MB | after MB |\n" + "|---" * 5 + "|")
    for arrangement in ARRANGEMENTS:
        file = arranged(path, arrangement)
        results = [measured(file, cold, "reading")[0] for _ in range(repeats)]
        least = {name: min(result[name] for result in results) for name in results[0]}
        row = [f"{least[name]:.2f}" for name in ("wall_seconds", "cpu_seconds")]
        row += [f"{least[name] / 1e6:.0f}" for name in ("peak_bytes", "after_bytes")]
        print(f"| {' | '.join([arrangement, *row])} |", flush=True)


def report_larger(
    folder: Path,
    gigabytes: float,
    num_series: int,
    kinds: list[str],
    processes: list[int],
    num_batches: int,
    cold: bool,
) -> None:
    num_rows = int(gigabytes * 1e9 / 8) // num_series * num_series
    paths: dict[str, Path | None] = {"memory": None}
    for kind in set(kinds) - {"memory"}:
        path = paths[kind] = folder / f"{num_rows}_{num_series}_two.{kind}"
        if not path.exists():
            begin = time.perf_counter()
            if kind == "npy":
                write_npy(path, num_rows)
            else:
                write_parquet(path, num_rows, num_series, FEATURES, np.float32)
            print(
                f"{path.suffix}: {path.stat().st_size / 1e9:.2f} GB, written in "
                f"{time.perf_counter() - begin:.0f} s",
                flush=True,
            )
    print(
        f"{num_rows:,} rows of two float32, {8 * num_rows / 1e9:.2f} GB; {num_batches} batches of 64 "
        "windows in each process"
    )
    print(
        "| source | processes | s to the first batch | ms a batch | CPU ms | peak MB of each process | "
        "distance from uniform | of 5 % |\n" + "|---" * 8 + "|"
    )
    for num_processes in processes:
        for kind in kinds:
            results = measured(paths[kind], cold, kind, str(num_batches), str(num_processes))
            assert len(results) == num_processes
            starts = np.concatenate([result["starts"] for result in results])
            # Windows begin anywhere but so close to the end of a series that they would not fit into it.
            length = {"memory": MEMORY_ROWS, "npy": num_rows, "parquet": num_rows // num_series}[kind]
            num_of_series = num_series if kind == "parquet" else 1
            index, place = np.divmod(starts * num_of_series, 1)
            places = (
                index + np.minimum(place * length / (length - CONTEXT_LENGTH - SCORED_LENGTH), 1)
            ) / num_of_series
            row = [
                f"{max(result['ready_seconds'] for result in results):.1f}",
                *(
                    f"{1000 * np.mean([result[name] for result in results]):.2f}"
                    for name in ("wall_seconds", "cpu_seconds")
                ),
                " ".join(f"{result['peak_bytes'] / 1e6:.0f}" for result in results),
                f"{distance_from_uniform(places):.4f}",
                f"{1.358 / np.sqrt(len(places)):.4f}",
            ]
            print(f"| {kind} | {num_processes} | {' | '.join(row)} |", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["measure"]:
        warnings.filterwarnings("ignore")
        logging.disable(logging.WARNING)
        kind, path, folder, *numbers = sys.argv[2:]
        if kind == "reading":
            measure_reading(path, folder)
        else:
            measure_training(kind, path, folder, *map(int, numbers))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["reading", "larger"])
    parser.add_argument("--rows", type=int, default=10_000_000, help="of reading")
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3, help="of reading")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of larger")
    parser.add_argument("--batches", type=int, default=300, help="of larger, in each process")
    parser.add_argument(
        "--sources", nargs="+", default=["npy", "parquet", "memory"], choices=["npy", "parquet", "memory"]
    )
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--folder", type=Path, help="for the files, which stay there")
    parser.add_argument("--cold", action="store_true")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, {len(os.sched_getaffinity(0))} cores")
    with contextlib.ExitStack() as stack:
        files = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files.mkdir(parents=True, exist_ok=True)
        if arguments.part == "reading":
            report_reading(files, arguments.rows, arguments.series, arguments.cold, arguments.repeats)
        else:
            larger = (
                arguments.gigabytes,
                arguments.series,
                arguments.sources,
                arguments.processes,
                arguments.batches,
            )
            report_larger(files, *larger, arguments.cold)


if __name__ == "__main__":
    main()
