"""From which size a GPU pays: training and generation there against the CPU. Run it from the root.

    python benchmarks/gpu.py --output benchmarks/results/gpu.md

An LSTM of each size trains on windows of 96 steps, in float32 and on the GPU in bf16-mixed as well, and
generates 96 steps. Wall time of whole calls, the least of several, with a wait for the GPU at the end. Last,
a fit over NCCL on one device. It has been run on the CPU alone (``--device cpu``).
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from report import publish

from rnn_lightning import Forecaster, SequenceDataModule, SineSeries
from rnn_lightning.losses import training_loss, training_windows

CONTEXT = HORIZON = 48
Calls = dict[str, Callable[[], object]]


def seconds(call: Callable[[], object], repeats: int) -> float:
    """The least time of a call, until the device has done its work."""
    best = float("inf")
    for _ in range(repeats + 1):  # the first one prepares
        begin = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return best


def calls(hidden_size: int, batch_size: int, device: str) -> Calls:
    """A training step in each precision, and a forecast, of a whole batch."""
    torch.manual_seed(0)
    forecaster = Forecaster(num_features=1, hidden_size=hidden_size, transforms=[]).to(device)
    network, values = forecaster.network, torch.randn(batch_size, CONTEXT + HORIZON, 1, device=device)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)

    def train(mixed: bool) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=mixed):
            loss = training_loss(network, training_windows(network, values, CONTEXT, complete=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def generate() -> None:
        forecaster(values[:, :CONTEXT], HORIZON)

    mixed: Calls = {"training, bf16": lambda: train(True)} if device != "cpu" else {}
    return {"training": lambda: train(False), **mixed, "generation": generate}


def table(sizes: list[int], batches: list[int], device: str, repeats: int) -> list[str]:
    """The throughput of the device and of the CPU, and where the device overtakes it."""
    lines = [
        "| hidden | batch | what | CPU, windows/s | device, windows/s | ratio |",
        "|---|---|---|---|---|---|",
    ]
    crossing: dict[str, str] = {}
    for hidden_size in sizes:
        for batch_size in batches:
            of_cpu = calls(hidden_size, batch_size, "cpu")
            for what, call in calls(hidden_size, batch_size, device).items():
                here = batch_size / seconds(of_cpu[what.partition(",")[0]], repeats)
                there = batch_size / seconds(call, repeats)
                cells = (
                    hidden_size,
                    batch_size,
                    what,
                    f"{here:,.0f}",
                    f"{there:,.0f}",
                    f"{there / here:.2f}",
                )
                lines.append(f"| {' | '.join(map(str, cells))} |")
                if there > here:
                    crossing.setdefault(what, f"{hidden_size} units and batches of {batch_size}")
    found = "; ".join(f"{what} from {size} on" for what, size in crossing.items()) or "nowhere"
    return ["\n".join(lines), f"The device is the faster: {found}."]


def distributed(device: str) -> str:
    """A short fit by DDP on one device: NCCL on a GPU, gloo on the CPU."""
    names = ["logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"]
    quiet: dict[str, Any] = dict.fromkeys(names, False)
    accelerator = "cpu" if device == "cpu" else "gpu"
    trainer = L.Trainer(accelerator=accelerator, devices=1, strategy="ddp", max_epochs=1, **quiet)
    trainer.fit(Forecaster(hidden_size=8), SequenceDataModule(SineSeries(), num_batches_per_epoch=20))
    error, backend = float(trainer.callback_metrics["val_rollout_rmse"]), torch.distributed.get_backend()
    torch.distributed.destroy_process_group()
    return f"DDP by {backend} on one device ends with an error of {error:.3f}."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 256, 512, 1024])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 256, 2048, 16384])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="file to write the result to; printed in any case")
    arguments = parser.parse_args()
    parts = table(arguments.sizes, arguments.batches, arguments.device, arguments.repeats)
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "the CPU itself"
    parts.append(distributed(arguments.device))
    publish("From which size a GPU pays", parts, arguments.output, name)


if __name__ == "__main__":
    main()
