"""Speed of the native kernel against PyTorch, from which ``recurrent.py`` decides. Run it from the root.

    python benchmarks/native.py --output benchmarks/results/native.md
    python benchmarks/native.py --tables seasonal --output benchmarks/results/native_seasonal.md
    python benchmarks/native.py --tables large --output benchmarks/results/native_large.md

Forward and backward of recurrent layers, Python included: ``recur`` against the module of ``torch.nn`` that
holds the weights. CPU time, float32; rounds alternate, short calls are repeated within a round, the least
time counts. Two threads are measured in wall time.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from generation import best_seconds
from report import publish
from torch import Tensor, nn

from rnn_lightning import RecurrentNetwork
from rnn_lightning.losses import training_windows
from rnn_lightning.native import layers, library
from rnn_lightning.network import Cell
from rnn_lightning.pretrained import season_kernel
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.pretrained.prior import draw_series
from rnn_lightning.pretrained.season_features import NUM_INPUTS
from rnn_lightning.pretrained.seasonal import HEAD_SIZE, SeasonalNetwork
from rnn_lightning.pretrained.seasonal_loss import seasonal_loss
from rnn_lightning.recurrent import recur

NAMES: dict[Cell, str] = {"rnn_tanh": "Elman", "gru": "GRU", "lstm": "LSTM"}
GATES = {"rnn_tanh": 1, "gru": 3, "lstm": 4}
SEASON = 12
SHAPES = [(1, 50), (1, 400), (16, 150), (64, 50), (64, 400), (256, 50)]


def layers_of(cell: Cell, num_inputs: int, hidden_size: int, num_layers: int = 1) -> nn.RNNBase:
    torch.manual_seed(0)
    return RecurrentNetwork(num_inputs, cell, hidden_size, num_layers).recurrent


def training_pass(recurrent: nn.RNNBase, inputs: Tensor, along: Tensor, native: bool) -> None:
    for parameter in recurrent.parameters():
        parameter.grad = None
    outputs = recur(recurrent, inputs)[0] if native else recurrent(inputs)[0]
    outputs.backward(along)


def row(recurrent: nn.RNNBase, batch: int, steps: int, budget: float) -> tuple[float, float, float]:
    """Seconds of PyTorch and of the kernel, and the arithmetic of the second in GFLOP/s."""
    inputs = torch.randn(batch, steps, recurrent.input_size)
    along = torch.randn(batch, steps, recurrent.hidden_size)
    calls: list[Callable[[], object]] = [
        partial(training_pass, recurrent, inputs, along, native) for native in (False, True)
    ]
    theirs, ours = best_seconds(calls, budget, time.process_time)
    numbers = sum(weight.numel() for weight in recurrent.parameters() if weight.ndim == 2)
    of_inputs = recurrent.all_weights[0][0].numel()  # the inputs need no gradient
    return theirs, ours, 2 * batch * steps * (3 * numbers - of_inputs) / ours / 1e9


def training_table(budget: float) -> list[str]:
    lines = [
        "| layers | (batch, steps) | torch, ms | native, ms | torch / native | GFLOP/s |",
        "|---|---|---|---|---|---|",
    ]
    cases = [(cell, 1, hidden, 1, shape) for hidden in (12, 64) for cell in NAMES for shape in SHAPES]
    cases += [(cell, 1, hidden, 1, (64, 50)) for hidden in (128, 256, 512) for cell in NAMES]
    cases += [(cell, 1, 32, 2, (64, 50)) for cell in NAMES]
    cases += [
        ("lstm", 24, hidden, 1, shape) for hidden in (64, 96) for shape in ((1, 700), (32, 300), (512, 20))
    ]
    cases += [(cell, 1, 64, 1, (256, 1)) for cell in NAMES]
    for cell, num_inputs, hidden, num_layers, (batch, steps) in cases:
        theirs, ours, speed = row(layers_of(cell, num_inputs, hidden, num_layers), batch, steps, budget)
        name = f"{NAMES[cell]}-{hidden}" + (f", {num_layers} layers" if num_layers > 1 else "")
        name += f", {num_inputs} inputs" if num_inputs > 1 else ""
        lines.append(
            f"| {name} | {batch}, {steps} | {theirs * 1e3:.3f} | {ours * 1e3:.3f} | {theirs / ours:.1f} | "
            f"{speed:.0f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def large_table(budget: float) -> list[str]:
    """Layers whose weights do not stay in the second-level cache, wherever ``MAX_HIDDEN`` lies."""
    lines = [
        "| layers | (batch, steps) | forward, ms | torch / native | both passes, ms | torch / native |",
        "|---|---|---|---|---|---|",
    ]
    shapes = [(1, 100), (64, 20), (256, 20)]
    for cell, hidden, (batch, steps) in product(NAMES, (256, 512, 1024), shapes):
        recurrent = layers_of(cell, 1, hidden)
        inputs, along = torch.randn(batch, steps, 1), torch.randn(batch, steps, hidden)
        with patch.object(layers, "MAX_HIDDEN", hidden), torch.no_grad():
            calls = [partial(recurrent, inputs), partial(recur, recurrent, inputs)]
            forward = best_seconds(calls, budget, time.process_time)
            with torch.enable_grad():
                calls = [partial(training_pass, recurrent, inputs, along, native) for native in (False, True)]
                both = best_seconds(calls, budget, time.process_time)
        numbers = (f"{1e3 * ours:.1f} | {theirs / ours:.2f}" for theirs, ours in (forward, both))
        lines.append(f"| {NAMES[cell]}-{hidden} | {batch}, {steps} | {' | '.join(numbers)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def gap_table(budget: float) -> list[str]:
    """Teacher forcing over windows with gaps against windows without."""
    lines = ["| network | without gaps, ms | with gaps, ms | with / without |", "|---|---|---|---|"]
    cells: tuple[Cell, ...] = ("lstm", "gru")
    for cell in cells:
        torch.manual_seed(0)
        network = RecurrentNetwork(1, cell, 32, 2)
        inputs = torch.randn(64, 80, 1)
        holed = inputs.masked_fill(torch.rand(64, 80, 1) < 0.1, torch.nan)
        holed[::4, :20] = torch.nan  # short series

        def whole(network: RecurrentNetwork = network, inputs: Tensor = inputs) -> None:
            network.encode(inputs, None, {}, 29, complete=True).predictions.square().mean().backward()

        def bridged(network: RecurrentNetwork = network, inputs: Tensor = holed) -> None:
            network.encode(inputs, None, {}, 29).predictions.square().mean().backward()

        seconds = best_seconds([whole, bridged], budget, time.process_time)
        lines.append(
            f"| {NAMES[cell]}-32, 2 layers, (64, 80) | {seconds[0] * 1e3:.2f} | {seconds[1] * 1e3:.2f} | "
            f"{seconds[1] / seconds[0]:.2f} |"
        )
    return lines


def thread_table(budget: float) -> list[str]:
    """Wall time of one and of two threads."""
    lines = ["| layers | (batch, steps) | 1 thread, ms | 2 threads, ms | 1 / 2 |", "|---|---|---|---|---|"]
    for cell in NAMES:
        recurrent = layers_of(cell, 1, 64)
        inputs, along = torch.randn(256, 50, 1), torch.randn(256, 50, 64)

        def threads(
            count: int, recurrent: nn.RNNBase = recurrent, inputs: Tensor = inputs, along: Tensor = along
        ) -> None:
            torch.set_num_threads(count)
            training_pass(recurrent, inputs, along, native=True)

        one, two = best_seconds([partial(threads, 1), partial(threads, 2)], budget, time.perf_counter)
        lines.append(f"| {NAMES[cell]}-64 | 256, 50 | {one * 1e3:.2f} | {two * 1e3:.2f} | {one / two:.2f} |")
    torch.set_num_threads(1)
    return lines


def by_definition(call: Callable[[], object]) -> Callable[[], object]:
    """The same call by the operators of PyTorch."""

    def without_kernel() -> object:
        with patch.object(season_kernel, "native", None):
            return call()

    return without_kernel


def forecast(network: SeasonalNetwork, context: Tensor, horizon: int) -> None:
    """The network's part of a forecast: read a context, generate."""
    traits = {"season": torch.full((len(context),), SEASON)}
    with torch.inference_mode():
        state = network.encode(network.join(context, None), None, traits).state
        network.free_run(context.new_zeros(len(context), horizon, 1), state, traits)


def pretraining_step(network: SeasonalNetwork, optimizer: torch.optim.Optimizer, windows: Any) -> None:
    optimizer.zero_grad()
    seasonal_loss(network, windows, 0.67).backward()
    optimizer.step()


def seasonal_table(budget: float) -> list[str]:
    """The bundled network: forecasts without and with a gap in each context, and a step of pretraining."""
    lines = [
        "| what | rows | PyTorch, ms | native, ms | PyTorch / native | GFLOP/s |",
        "|---|---|---|---|---|---|",
    ]
    network, horizon = bundled_network().eval(), 24
    numbers = sum(weight.numel() for weight in network.parameters() if weight.ndim == 2)
    inputs = NUM_INPUTS * (4 * network.hidden_size + HEAD_SIZE)  # which rows and their negatives share
    calls: list[tuple[str, int, Callable[[], object], float]] = []
    for rows in (1, 16, 264, 1024):
        context = torch.randn(rows, 100, 1)
        flops = 2.0 * rows * (100 + horizon) * (2 * numbers - inputs)
        calls.append(("context 100, horizon 24", rows, partial(forecast, network, context, horizon), flops))
        context = context.index_fill(1, torch.tensor([50]), torch.nan)
        calls.append(("the same with a gap", rows, partial(forecast, network, context, horizon), flops))
    trained = bundled_network()
    values = torch.from_numpy(draw_series(np.random.default_rng(0), 44, 85 + 22, SEASON))[..., None]
    windows = training_windows(trained, values, 85, traits={"season": torch.full((44,), SEASON)})
    step = partial(pretraining_step, trained, torch.optim.Adam(trained.parameters(), 1e-5), windows)
    calls.append(("pretraining step, 85 + 22 steps", 44, step, 2.0 * 44 * 107 * 3 * (2 * numbers - inputs)))
    for name, rows, call, flops in calls:
        theirs, ours = best_seconds([by_definition(call), call], budget, time.process_time)
        lines.append(
            f"| {name} | {rows} | {theirs * 1e3:.2f} | {ours * 1e3:.2f} | {theirs / ours:.1f} | "
            f"{flops / ours / 1e9:.0f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


TABLES: dict[str, tuple[str, Callable[[float], list[str]]]] = {
    "layers": (
        "Forward and backward of recurrent layers, Python and autograd included, against `nn.RNN`, `nn.GRU` "
        "and `nn.LSTM` with the same weights; float32, CPU time of one thread, least of alternating rounds.",
        training_table,
    ),
    "large": (
        "## Large layers\n\nForward, and forward and backward, of layers from 256 units on.",
        large_table,
    ),
    "gaps": (
        "## Gaps\n\nTeacher forcing, forward and backward, over windows without gaps and over the same "
        "windows with a tenth of the values missing and a quarter of the rows beginning late.",
        gap_table,
    ),
    "seasonal": (
        "## The seasonal network\n\nThe bundled network, hidden size 64, season 12; float32, CPU time of one "
        "thread, least of alternating rounds. PyTorch has the recurrent kernel where it can use it. A step "
        "of pretraining is loss, gradient and Adam, without drawing the series; its GFLOP/s count a backward "
        "pass as two forward passes.",
        seasonal_table,
    ),
    "threads": ("## Threads\n\nThe passes of the layers in wall time.", thread_table),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="time to measure each row")
    parser.add_argument("--output", type=Path, help="file to write the results to; printed in any case")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), help="what to measure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = []
    for name in arguments.tables:
        text, table = TABLES[name]
        parts += [text, "\n".join(table(arguments.seconds))]
    publish("Speed of the native kernel", parts, arguments.output, "one core", library.describe())


if __name__ == "__main__":
    main()
