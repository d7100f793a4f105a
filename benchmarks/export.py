"""Size and CPU time of exported networks beside PyTorch: one thread.

python benchmarks/export.py, with onnx and onnxruntime installed.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from rnn_lightning import RecurrentNetwork
from rnn_lightning.network import Cell
from rnn_lightning.onnx.export import export_onnx
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.rollout import rollout

NETWORKS: list[tuple[Cell, int]] = [("lstm", 1), ("rnn_tanh", 1), ("gru", 1), ("lstm", 2)]

BATCHES = [(1, 144, 24, 12), (100, 144, 24, 12), (1, 700, 48, 24)]
"""Series, known steps, horizons and seasons that the bundled network forecasts."""


def milliseconds(run: Callable[[], object]) -> float:
    """CPU time of the fastest of five runs."""
    run()
    times = []
    for _ in range(5):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return 1000 * min(times)


def session_of(network: nn.Module) -> tuple[Any, float]:
    """The exported network, and the size of its file in kB."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        export_onnx(network, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return session, path.stat().st_size / 1000


@torch.no_grad()
def bundled() -> None:
    network = bundled_network()
    session, size = session_of(network)
    print(f"\n| bundled network, {size:.0f} kB | PyTorch, ms | onnxruntime, ms | difference, deviations |")
    print("|---|---|---|---|")
    for batch, num_steps, horizon, season in BATCHES:
        phase = 2 * torch.pi * torch.arange(num_steps)[None, :, None] / season
        context = 100 + 10 * phase.sin() + 3 * torch.randn(batch, num_steps, 1)
        seasons = torch.full((batch,), season)
        inputs = {"context": context.numpy(), "horizon": np.array([horizon]), "season": seasons.numpy()}
        inputs["noise"] = np.zeros((1, 1, 1, 1), np.float32)
        expected = rollout(network, context, horizon, traits={"season": seasons}).numpy()
        difference = (
            np.abs(session.run(None, inputs)[0][0] - expected) / context.std(1, keepdim=True).numpy()
        ).max()
        times = [
            milliseconds(lambda: rollout(network, context, horizon, traits={"season": seasons})),  # noqa: B023
            milliseconds(lambda: session.run(None, inputs)),  # noqa: B023
        ]
        what = f"{batch} series, {num_steps} + {horizon} steps, season {season}"
        print(f"| {what} | {times[0]:.1f} | {times[1]:.1f} | {difference:.0e} |")


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    print("| network of 64 units | file, kB | PyTorch, ms | onnxruntime, ms | largest difference |")
    print("|---|---|---|---|---|")
    for cell, num_layers in NETWORKS:
        torch.manual_seed(0)
        network = RecurrentNetwork(1, cell, 64, num_layers).eval()
        network.transforms.fit([torch.rand(50, 1)])
        session, size = session_of(network)
        context = torch.rand(1, 100, 1)
        inputs = {"context": context.numpy(), "horizon": np.array([1000])}
        expected = rollout(network, context, 1000)
        difference = np.abs(session.run(None, inputs)[0][0] - expected.numpy()).max()
        times = [
            milliseconds(lambda: rollout(network, context, 1000)),  # noqa: B023
            milliseconds(lambda: session.run(None, inputs)),  # noqa: B023
        ]
        numbers = f"{size:.0f} | {times[0]:.1f} | {times[1]:.1f} | {difference:.0e}"
        print(f"| {cell}, {num_layers} layers | {numbers} |")


if __name__ == "__main__":
    main()
    bundled()
