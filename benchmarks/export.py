"""Size and CPU time of exported networks beside PyTorch: 1,000 steps after 100, one series, one thread.

python benchmarks/export.py, with onnx and onnxruntime installed.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from rnn_lightning import RecurrentNetwork
from rnn_lightning.network import Cell
from rnn_lightning.onnx.export import export_onnx
from rnn_lightning.rollout import rollout

NETWORKS: list[tuple[Cell, int]] = [("lstm", 1), ("rnn_tanh", 1), ("gru", 1), ("lstm", 2)]


def milliseconds(run: Callable[[], object]) -> float:
    """CPU time of the fastest of five runs."""
    run()
    times = []
    for _ in range(5):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return 1000 * min(times)


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    print("| network of 64 units | file, kB | PyTorch, ms | onnxruntime, ms | largest difference |")
    print("|---|---|---|---|---|")
    for cell, num_layers in NETWORKS:
        torch.manual_seed(0)
        network = RecurrentNetwork(1, cell, 64, num_layers).eval()
        network.transforms.fit([torch.rand(50, 1)])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            export_onnx(network, path)
            size = path.stat().st_size / 1000
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
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
