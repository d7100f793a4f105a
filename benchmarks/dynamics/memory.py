"""Ten million values: the memory of an evaluation of the loss, which is that of a fit.

``python benchmarks/dynamics/memory.py [--values 10000000] [--units 16]``.
"""

import argparse
import resource
import time

import torch

from rnn_lightning import ArraySeries, RecurrentNetwork, SequenceDataModule
from rnn_lightning.solver.least_squares import evaluate
from rnn_lightning.solver.window_chunks import WindowChunks

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--values", type=int, default=10_000_000)
    parser.add_argument("--units", type=int, default=16)
    given = parser.parse_args()
    torch.set_num_threads(1)
    values = torch.sin(0.1 * torch.arange(given.values)) + 0.1 * torch.randn(given.values)
    data = SequenceDataModule(ArraySeries(values.numpy()), 50, 100, horizon=200)
    data.setup("fit")
    network = RecurrentNetwork(1, "rnn_tanh", given.units, transforms=["standardize"]).double()
    network.transforms.fit(data.train_series())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    begin = time.process_time()
    chunks = WindowChunks(network, data, data.training_segments())
    error = evaluate(network, chunks, 1e-6).error
    spent, peak = time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{given.values:,} values, {given.units} units, {len(chunks)} chunks: error {error:.4f}")
    print(f"peak memory {peak:.2f} GiB, {before:.2f} before the evaluation; {spent:.1f} CPU s an evaluation")
