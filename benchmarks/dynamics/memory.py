"""The memory of an evaluation of the loss of the solver, which is that of a fit, and of a carried state.

``python benchmarks/dynamics/memory.py [--values 10000000] [--units 16]`` evaluates the loss;
``python benchmarks/dynamics/memory.py --carry-state --values 100000`` trains an epoch by Adam.
"""

import argparse
import resource
import time
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch

from rnn_lightning import ArraySeries, Forecaster, RecurrentNetwork, SequenceDataModule, TableDataModule
from rnn_lightning.solver.least_squares import evaluate
from rnn_lightning.solver.window_chunks import WindowChunks


def peak() -> float:
    """The largest memory so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def evaluate_loss(values: np.ndarray, units: int) -> str:
    data = SequenceDataModule(ArraySeries(values), 50, 100, horizon=200)
    data.setup("fit")
    network = RecurrentNetwork(1, "rnn_tanh", units, transforms=["standardize"]).double()
    network.transforms.fit(data.train_series())
    before = peak()
    chunks = WindowChunks(network, data, data.training_segments())
    error = evaluate(network, chunks, 1e-6).error
    return f"{len(chunks)} chunks, error {error:.4f}; {before:.2f} GiB before"


def train_with_carried_state(values: np.ndarray, units: int) -> str:
    known: dict[str, Any] = {
        "val_fraction": 0.0,
        "test_fraction": 0.0,
        "batch_size": 4,
        "num_batches_per_epoch": 250,
    }
    data = TableDataModule(ArraySeries(values), 50, 100, horizon=200, carry_state=True, **known)
    forecaster = Forecaster(cell="rnn_tanh", hidden_size=units, transforms=["standardize"])
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
    before = peak()
    trainer.fit(forecaster, data)
    return f"{trainer.global_step} steps in rows of {len(values) // 4:,} values; {before:.2f} GiB before"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--values", type=int, default=10_000_000)
    parser.add_argument("--units", type=int, default=16)
    parser.add_argument("--carry-state", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    values = torch.sin(0.1 * torch.arange(given.values)) + 0.1 * torch.randn(given.values)
    begin = time.process_time()
    work = train_with_carried_state if given.carry_state else evaluate_loss
    found = work(values.numpy(), given.units)
    spent = time.process_time() - begin
    print(
        f"{given.values:,} values, {given.units} units: {found}, {peak():.2f} at the peak, {spent:.1f} CPU s"
    )
