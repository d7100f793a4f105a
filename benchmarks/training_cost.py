"""CPU time of an optimizer step in ``rnn-lightning fit``, against the same network in a bare loop.

    taskset -c 0 python benchmarks/training_cost.py

Fit runs with its default callbacks and logging: progress bar, CSV log, validation and two checkpoints an
epoch of 200 batches. The bare loop goes over ready batches in memory and does forward, loss, backward and
``torch.optim.Adam``; the "same work" loop clips gradients and follows the cosine schedule, as fit does. One
process, one thread, batch 64, windows of 50 steps; the rounds are interleaved and the fastest counts.
"""

import argparse
import contextlib
import io
import math
import platform
import tempfile
import time

import torch
from torch.nn import functional

from rnn_lightning import RecurrentNetwork, SineSeries
from rnn_lightning.cli import run
from rnn_lightning.model.network import Cell

CONTEXT, SCORED, BATCH = 20, 30, 64


def bare_step_seconds(cell: Cell, hidden_size: int, num_steps: int, same_work: bool) -> float:
    values = SineSeries(num_steps=2000).load().values
    starts = torch.randint(len(values) - CONTEXT - SCORED, (100, BATCH))
    batches = list(values[starts[..., None] + torch.arange(CONTEXT + SCORED)])
    network = RecurrentNetwork(1, cell, hidden_size)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / num_steps))
    )
    begin = time.process_time()
    for step in range(num_steps):
        batch = batches[step % len(batches)]
        predicted, _ = network(batch[:, :-1])
        loss = functional.mse_loss(predicted[:, -SCORED:], batch[:, -SCORED:])
        optimizer.zero_grad()
        loss.backward()
        if same_work:
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if same_work:
            scheduler.step()
    return (time.process_time() - begin) / num_steps


def fit_seconds(cell: Cell, hidden_size: int, num_epochs: int) -> float:
    options = {
        "model.cell": cell,
        "model.hidden_size": hidden_size,
        "data.series.num_steps": 2000,
        "data.context_length": CONTEXT,
        "data.scored_length": SCORED,
        "data.batch_size": BATCH,
        "trainer.max_epochs": num_epochs,
        "trainer.accelerator": "cpu",
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        options["trainer.default_root_dir"] = folder
        begin = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            run(["fit", *(f"--{name}={value}" for name, value in options.items())])
        return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6, help="epochs in the longer of two fits")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    fit_seconds("rnn_tanh", 4, 1)  # imports
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread, CPU time\n")
    print("| network | bare loop, ms | same work, ms | fit, ms | fit / bare | fit / same work |")
    print("|---|---|---|---|---|---|")
    networks: list[tuple[str, Cell, int]] = [("Elman-12", "rnn_tanh", 12), ("LSTM-64", "lstm", 64)]
    for name, cell, hidden_size in networks:
        rounds = []
        for _ in range(arguments.rounds):
            bare = bare_step_seconds(cell, hidden_size, 1000, same_work=False)
            same = bare_step_seconds(cell, hidden_size, 1000, same_work=True)
            long, short = fit_seconds(cell, hidden_size, arguments.epochs), fit_seconds(cell, hidden_size, 1)
            rounds.append((bare, same, (long - short) / (200 * (arguments.epochs - 1))))
        bare, same, fit = (1000 * min(column) for column in zip(*rounds, strict=True))
        print(f"| {name} | {bare:.2f} | {same:.2f} | {fit:.2f} | {fit / bare:.2f} | {fit / same:.2f} |")


if __name__ == "__main__":
    main()
