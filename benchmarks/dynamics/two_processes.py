"""Add up the normal equations in two processes and in one: ``python benchmarks/dynamics/two_processes.py``.

Each has every other window of Lorenz, with input noise, at the initial weights of a network of 64 units.
Printed are the largest differences, relative to the largest number, over all devices.
"""

import tempfile

import torch
from cases import make_case
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn

from rnn_lightning import ArraySeries, RecurrentNetwork, SequenceDataModule
from rnn_lightning.solver.least_squares import evaluate, hidden_states, normal_sums
from rnn_lightning.solver.window_chunks import WindowChunks

NAMES = ("normal equations", "loss", "gradient")


class Share(SequenceDataModule):
    """The data of one of the processes."""

    share = (0, 1)

    @property
    def devices(self) -> tuple[int, int]:  # type: ignore[override]
        return self.share


def added_up(tensor: Tensor) -> Tensor:
    if distributed.is_initialized():
        distributed.all_reduce(tensor)
    return tensor


def results(rank: int = 0, num_processes: int = 1) -> list[Tensor]:
    """The sums, the loss and its gradient."""
    torch.manual_seed(0)
    data = Share(ArraySeries(make_case("Lorenz").train), 50, 100, horizon=200)
    data.share = (rank, num_processes)
    data.setup("fit")
    network = RecurrentNetwork(3, "rnn_tanh", 64, transforms=["standardize"]).double()
    network.transforms.fit(data.train_series())
    chunks = WindowChunks(network, data, data.training_segments(), 1e-4)
    (chunk,) = chunks
    sums = normal_sums(hidden_states(network, chunk).detach(), chunk.target, True).reduced(added_up)
    loss, gradient, _ = evaluate(network, chunks, 1e-8, added_up)
    return [sums.gram, torch.tensor(loss, dtype=torch.float64), gradient]


def work(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", f"file://{folder}/group", rank=rank, world_size=2)
    torch.save(results(rank, 2), f"{folder}/{rank}.pt")


if __name__ == "__main__":
    whole = results()
    with tempfile.TemporaryDirectory() as folder:
        spawn(work, (folder,), 2)
        parts = [torch.load(f"{folder}/{rank}.pt") for rank in (0, 1)]
    for name, one, *two in zip(NAMES, whole, *parts, strict=True):
        difference = max(float((each - one).abs().max() / one.abs().max()) for each in two)
        print(f"{name}: {difference:.1e}", flush=True)
