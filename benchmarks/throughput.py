"""Windows a second that a fit trains on: two processes with a core each, by DDP, against one.

    python benchmarks/throughput.py --output benchmarks/results/throughput.md

LSTM-64, windows of 50 steps, the callbacks and settings of ``rnn-lightning fit`` without the progress bar.
The rounds are interleaved; in each the time of 50 steps is taken several times, and the shortest of all
rounds counts. Needs two cores that are not used by others: where they are, two processes suffer twice.
"""

import argparse
import logging
import multiprocessing
import os
import socket
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from report import publish

from rnn_lightning import Forecaster, SequenceDataModule, SineSeries
from rnn_lightning.cli.callbacks import StopAtSignal

HIDDEN_SIZE, CONTEXT, SCORED, STEPS = 64, 20, 30, 50


class Stopwatch(L.Callback):
    """Notes the time after every ``STEPS`` steps."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step % STEPS == 0:
            self.times.append(time.perf_counter())


def fit(rank: int, num: int, port: int, batch_size: int, num_steps: int, connection: Connection) -> None:
    """Fit as one of ``num`` processes on a core of its own; the first sends the shortest time of a step."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if num > 1:  # as torchrun sets it
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num), "GROUP_RANK": "0"}
        os.environ |= {
            "TORCHELASTIC_RUN_ID": "throughput",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    datamodule = SequenceDataModule(
        SineSeries(num_steps=5000, num_series=8),
        context_length=CONTEXT,
        scored_length=SCORED,
        batch_size=batch_size,
        num_batches_per_epoch=num_steps,
        val_fraction=0,
    )
    stopwatch = Stopwatch()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=num,
        strategy="ddp" if num > 1 else "auto",
        max_epochs=1,
        gradient_clip_val=1.0,
        callbacks=[StopAtSignal(), stopwatch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Forecaster(hidden_size=HIDDEN_SIZE), datamodule)
    if rank == 0:
        times = torch.tensor(stopwatch.times, dtype=torch.float64)
        connection.send(float(times.diff().min()) / STEPS)


def step_seconds(num: int, batch_size: int) -> float:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning.pytorch", "rnn_lightning.forecaster"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mine, theirs = context.Pipe()
    num_steps = STEPS * (5 if batch_size <= 128 else 3)
    group = [
        context.Process(target=fit, args=(rank, num, port, batch_size, num_steps, theirs))
        for rank in range(num)
    ]
    for process in group:
        process.start()
    theirs.close()
    seconds: float = mine.recv()
    for process in group:
        process.join()
    return seconds


def table(batch_sizes: list[int], rounds: int) -> str:
    best: dict[tuple[int, int], float] = {}
    for _ in range(rounds):
        for batch_size in batch_sizes:
            for num in (1, 2):
                key = num, batch_size
                best[key] = min(best.get(key, float("inf")), step_seconds(num, batch_size))
    head = "| batch of a process | 1: ms a step | 2: ms a step | 1: windows/s | 2: windows/s | ratio |"
    lines = [head, "|---|---|---|---|---|---|"]
    for batch_size in batch_sizes:
        one, two = best[1, batch_size], best[2, batch_size]
        rates = f"{batch_size / one:,.0f} | {2 * batch_size / two:,.0f} | {2 * one / two:.2f}"
        lines.append(f"| {batch_size} | {one * 1000:.2f} | {two * 1000:.2f} | {rates} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[8, 32, 64, 128, 256, 512])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    load_before = os.getloadavg()[0]
    result = table(arguments.batch_sizes, arguments.rounds)
    load_after = os.getloadavg()[0]
    method = (
        f"LSTM-64, windows of {CONTEXT + SCORED} steps, 1 process on one core and 2 with a core each, gloo "
        f"on one machine; best of the rounds. Load average before and after: {load_before:.1f}, "
        f"{load_after:.1f}."
    )
    title, cores = "Throughput of training, two processes against one", f"{os.cpu_count()} cores"
    publish(title, [method, result], arguments.output, cores)


if __name__ == "__main__":
    main()
