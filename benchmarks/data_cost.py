"""Memory and time of the data module on ten million values, windows of 200, against a small series.

    python benchmarks/data_cost.py

Memory is the resident memory of the process above what it was before ``setup``, in copies of the values; the
peak includes what making the values takes.
"""

import argparse
import resource
import time
from pathlib import Path

import torch

from rnn_lightning import SequenceDataModule, Series, SeriesData


class Noise(Series):
    """One series of normal values."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps

    def load(self) -> SeriesData:
        values = torch.randn(1, self.num_steps, 1, generator=torch.Generator().manual_seed(0))
        return SeriesData.from_equal(values)


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_values", type=int, default=10_000_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batch_times, megabytes = {}, 4 * arguments.num_values / 2**20
    for num_steps in (2000, arguments.num_values):
        before = resident_megabytes()
        begin = time.process_time()
        datamodule = SequenceDataModule(
            Noise(num_steps), context_length=100, scored_length=100, batch_size=64
        )
        datamodule.setup("fit")
        setup_seconds = time.process_time() - begin
        after_setup = resident_megabytes()
        batches = iter(datamodule.train_dataloader())
        begin = time.process_time()
        next(batches)
        first = time.process_time() - begin
        rounds = []
        for _ in range(90):
            begin = time.process_time()
            next(batches)
            rounds.append(time.process_time() - begin)
        batch_times[num_steps] = sorted(rounds)[len(rounds) // 2]
        running = resident_megabytes()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"values: {arguments.num_values:,} float32, {megabytes:.0f} MB")
    print(f"after setup: {(after_setup - before) / megabytes:.2f} copies; setup {setup_seconds:.2f} s CPU")
    used = (running - before) / megabytes
    print(f"while batches are drawn: {used:.2f} copies")
    print(f"peak of the process: {(peak - before) / megabytes:.2f} copies")
    print(f"first batch: {first:.2f} s CPU")
    small, large = batch_times.values()
    print(
        f"a batch of 64 windows: {1e6 * large:.0f} us, {large / small:.2f} of that on a series of 2,000 "
        "values"
    )


if __name__ == "__main__":
    main()
