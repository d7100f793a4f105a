"""CPU time of an optimizer step through ``rnn-lightning fit``, against a bare loop over ``torch.nn``.

    python benchmarks/training_cost.py --output benchmarks/results/training_cost.md

Fit runs with its default callbacks and logging: progress bar, CSV log, validation, two checkpoints an epoch
of 200 batches. The bare loop goes over ready batches in memory and does forward, loss, backward and
``torch.optim.Adam`` with the modules of ``torch.nn``; the "same work" loop clips gradients and follows the
cosine schedule, as fit does. One process, one thread; the fastest epoch and the fastest hundred steps count.
"""

import argparse
import contextlib
import io
import math
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
from report import publish
from torch.nn import functional

from rnn_lightning import Forecaster, RecurrentNetwork, SineSeries
from rnn_lightning.cli.command_line import run
from rnn_lightning.native import library
from rnn_lightning.network import Cell

METHOD = """\
CPU time of an optimizer step through `rnn-lightning fit` with its default callbacks and logging, validation
and two checkpoints an epoch included, against a bare loop over `torch.nn` and ready batches. "Same work" also
clips gradients and follows the cosine schedule. Rounds alternate, the fastest counts.\
"""
BARE_STEPS, BATCHES_PER_EPOCH = 100, 200


class Case(NamedTuple):
    """One row of the table; windows are ``context + scored`` steps."""

    name: str
    cell: Cell
    hidden_size: int
    batch: int
    context: int
    scored: int


CASES = [
    Case("Elman-12", "rnn_tanh", 12, 64, 20, 30),
    Case("Elman-12", "rnn_tanh", 12, 16, 50, 100),
    Case("GRU-64", "gru", 64, 64, 20, 30),
    Case("LSTM-64", "lstm", 64, 64, 20, 30),
    Case("GRU-12", "gru", 12, 1, 200, 200),
]


def bare_step_seconds(case: Case, same_work: bool) -> float:
    values = SineSeries(num_steps=2000).load().values
    starts = torch.randint(len(values) - case.context - case.scored, (BARE_STEPS, case.batch))
    batches = list(values[starts[..., None] + torch.arange(case.context + case.scored)])
    network = RecurrentNetwork(1, case.cell, case.hidden_size)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / BARE_STEPS))
    )
    begin = time.process_time()
    for batch in batches:
        outputs, _ = network.recurrent(batch[:, :-1])  # the module of torch.nn
        loss = functional.mse_loss(network.readout(outputs)[:, -case.scored :], batch[:, -case.scored :])
        optimizer.zero_grad()
        loss.backward()
        if same_work:
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if same_work:
            scheduler.step()
    return (time.process_time() - begin) / BARE_STEPS


def fit_step_seconds(case: Case, num_epochs: int) -> float:
    options = {
        "model.cell": case.cell,
        "model.hidden_size": case.hidden_size,
        "data.series.num_steps": 2000,
        "data.context_length": case.context,
        "data.scored_length": case.scored,
        "data.batch_size": case.batch,
        "data.num_batches_per_epoch": BATCHES_PER_EPOCH,
        "trainer.max_epochs": num_epochs,
        "trainer.accelerator": "cpu",
    }
    starts: list[float] = []
    clock = patch.object(Forecaster, "on_train_epoch_start", lambda _: starts.append(time.process_time()))
    silence = contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, clock, silence[0], silence[1]:
        options["trainer.default_root_dir"] = folder
        run(["fit", *(f"--{name}={value}" for name, value in options.items())])
    return min(after - before for before, after in pairwise(starts)) / BATCHES_PER_EPOCH


def sine_seconds() -> float:
    """CPU time of the fit of the README, without the imports."""
    silence = contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, silence[0], silence[1]:
        begin = time.process_time()
        run(["fit", "--config", "configs/sine.yaml", f"--trainer.default_root_dir={folder}"])
        return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--output", type=Path, help="file to write the results to; printed in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "| network | batch, steps | bare loop, ms | same work, ms | fit, ms | fit / bare | fit / same work |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        rounds = [
            (
                bare_step_seconds(case, same_work=False),
                bare_step_seconds(case, same_work=True),
                fit_step_seconds(case, arguments.epochs),
            )
            for _ in range(arguments.rounds)
        ]
        bare, same, fit = (1000 * min(column) for column in zip(*rounds, strict=True))
        lines.append(
            f"| {case.name} | {case.batch}, {case.context + case.scored} | {bare:.2f} | {same:.2f} | "
            f"{fit:.2f} | {fit / bare:.2f} | {fit / same:.2f} |"
        )
    sine = min(sine_seconds() for _ in range(arguments.rounds))
    of_sine = f"The fit of `configs/sine.yaml`, 1,500 steps, takes {sine:.1f} s without the imports."
    parts = [METHOD, "\n".join(lines), of_sine]
    publish("Cost of an optimizer step", parts, arguments.output, "one thread", library.describe())


if __name__ == "__main__":
    main()
