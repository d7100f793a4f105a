"""Speed of generation against the two loops that people write. Run it from the root of the repository.

    python benchmarks/generation.py --output benchmarks/results/generation.md

Ours is ``generate`` from a warm state: all that a user pays after the context. Loop (a) calls the
``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` and the readout once a step, loop (b) an ``nn.LSTMCell``, ``nn.GRUCell``
or ``nn.RNNCell`` a layer and the readout. All run the same weights on one CPU core under
``torch.inference_mode``. Their rounds alternate, short calls are repeated within a round, and the least CPU
time of a call counts: what the work costs undisturbed.

    python benchmarks/generation.py --peers only --hidden 12 64 --layers 1 --output
    benchmarks/results/generation_peers.md

measures darts and neuralforecast, which it installs into virtual environments of their own (3.5 GB) in
``--peer_folder``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from report import publish
from torch import Tensor, nn

from rnn_lightning import Forecaster
from rnn_lightning.network import Cell, RecurrentNetwork
from rnn_lightning.recurrent import RecurrentState
from rnn_lightning.rollout import State, generate, rollout, warm_up

NAMES: dict[Cell, str] = {"rnn_tanh": "Elman", "gru": "GRU", "lstm": "LSTM"}
NUM_SAMPLES = 200
MEASUREMENT_SECONDS = 0.02
METHOD = """\
One core, float32, CPU time, {horizon} steps of one feature, under `torch.inference_mode`. Ours is `generate`
from a warm state, with all its checks and transforms; (a) is a loop over `nn.LSTM`, `nn.GRU` or `nn.RNN`
called with one step, (b) a loop over `nn.LSTMCell`, `nn.GRUCell` or `nn.RNNCell`, each with its readout.
Rounds alternate, calls shorter than 20 ms are repeated within a round, the least time counts. The error is
the largest absolute difference between ours and (a). "With context" is `rollout`, which also warms up on 50
steps and standardises them, against (a) after one call of the module with these steps.\
"""
PEERS = {"darts": "darts[torch]==0.48.*", "neuralforecast": "neuralforecast==3.3.*"}
CONTEXT_LENGTH = 50
PEER_METHOD = """\
One core, float32, CPU time, {horizon} steps of one feature after a context of {context}. The peers are in
virtual environments of their own with the same PyTorch: {versions}.

Each of their models is trained for one step on random numbers. After a warm-up, rounds alternate between the
whole call and the generation inside it, three at least, and the least time counts. Case by case, ours is
measured and right after it the peers, in a process each.

The whole call is what a user pays for a forecast of data in memory. Ours: `Forecaster.forecast` of an array.
darts: `RNNModel.predict` of a list of `TimeSeries`, all in one batch, without warnings. neuralforecast:
`NeuralForecast.predict` with `recurrent=True` and no scaler, of the data that it was fitted to and holds
already. Both peers run without progress bar, logger, checkpoints and model summary; a Lightning `Trainer` is
part of what they do.

Generation alone begins with the context as a tensor and ends with the forecast as a tensor, under
`torch.inference_mode`, with the warm-up on the context and without `Trainer`, data loader and data frames.
Ours: `rollout`. darts: the module's `_get_batch_prediction`. neuralforecast: the model's
`_predict_step_recurrent_batch`. These two are called again with what `predict` gave them, and their values
are checked to be those of `predict`.

All networks have the same cells and sizes and a linear readout, with one exception: with `recurrent=True` the
LSTM of neuralforecast has no readout but `proj_size=1`, so that its hidden state is the forecast itself, a
single number. It is a smaller network, with less to compute in a step.\
"""
GPU_TARGETS = {("lstm", 1): 20.0, ("gru", 1): 5.0, ("lstm", 2): 5.0}


class Case(NamedTuple):
    """One row of the table."""

    cell: Cell
    hidden_size: int
    num_layers: int
    batch_size: int

    def __str__(self) -> str:
        layers = f"{self.num_layers}-layer " if self.num_layers > 1 else ""
        return f"{layers}{NAMES[self.cell]}-{self.hidden_size}, batch {self.batch_size}"


# The factor over loop (a) and over loop (b) that a case is held to.
TARGETS: dict[Case, tuple[float, float]] = {
    Case("lstm", 64, 1, 1): (80, 20),
    Case("gru", 64, 1, 1): (50, 20),
    Case("rnn_tanh", 12, 1, 1): (200, 50),
    Case("lstm", 64, 2, 1): (50, 10),
    Case("lstm", 64, 1, 256): (2.5, 2),
    Case("gru", 64, 1, 256): (2.5, 2),
    Case("rnn_tanh", 12, 1, 256): (20, 10),
    Case("lstm", 64, 2, 256): (2.5, 2),
}


def module_loop(network: RecurrentNetwork, state: RecurrentState, horizon: int) -> Tensor:
    """Loop (a): the recurrent module called with one step."""
    hidden = state if network.cell == "lstm" else state[0]
    value = network.readout(state[0][-1])[:, None]
    values = []
    for _ in range(horizon):
        values.append(value)
        output, hidden = network.recurrent(value, hidden)
        value = network.readout(output)
    return torch.cat(values, 1)


def whole_module_loop(network: RecurrentNetwork, context: Tensor, horizon: int) -> Tensor:
    """Loop (a) after a call of the module with the context."""
    state = network.recurrent(context)[1]
    return module_loop(network, state if network.cell == "lstm" else (state,), horizon)


def cells_of(network: RecurrentNetwork) -> list[nn.RNNCellBase]:
    """The layers as cells that share the network's weights."""
    kinds: dict[str, Callable[[int, int], nn.RNNCellBase]]
    kinds = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn_tanh": nn.RNNCell}
    cells = []
    for weights in network.recurrent.all_weights:
        cell = kinds[network.cell](weights[0].shape[1], network.recurrent.hidden_size)
        cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh = weights
        cells.append(cell)
    return cells


def cell_loop(
    network: RecurrentNetwork, cells: list[nn.RNNCellBase], state: RecurrentState, horizon: int
) -> Tensor:
    """Loop (b): a cell for each layer."""
    lstm = network.cell == "lstm"
    hiddens = (
        list(zip(*(part.unbind(0) for part in state), strict=True)) if lstm else list(state[0].unbind(0))
    )
    values = []
    for _ in range(horizon):
        below = network.readout(hiddens[-1][0] if lstm else hiddens[-1])
        values.append(below)
        for layer, cell in enumerate(cells):
            hiddens[layer] = cell(below, hiddens[layer])
            below = hiddens[layer][0] if lstm else hiddens[layer]
    return torch.stack(values, 1)


def best_seconds(
    calls: Sequence[Callable[[], object]], budget_seconds: float, clock: Callable[[], float]
) -> list[float]:
    """The least time of each call, in alternating rounds, two at least, until the budget is spent."""
    repeats = []
    for call in calls:
        begin = clock()
        call()
        repeats.append(max(1, round(MEASUREMENT_SECONDS / max(clock() - begin, 1e-9))))
    best = [float("inf")] * len(calls)
    begin, rounds = clock(), 0
    while rounds < 2 or clock() - begin < budget_seconds:
        for index, call in enumerate(calls):
            start = clock()
            for _ in range(repeats[index]):
                call()
            best[index] = min(best[index], (clock() - start) / repeats[index])
        rounds += 1
    return best


def warm_network(case: Case, device: str = "cpu") -> tuple[RecurrentNetwork, State]:
    """A network with PyTorch's own random weights, and its state after 50 steps of noise."""
    torch.manual_seed(0)
    network = RecurrentNetwork(1, case.cell, case.hidden_size, case.num_layers).eval()
    history = torch.randn(case.batch_size, 50, 1)
    return network.to(device), warm_up(network.to(device), history.to(device))


def cpu_table(cases: list[Case], horizon: int, budget_seconds: float) -> str:
    """The table of all cases, and the targets among them."""
    lines = [
        "| cell | hidden | layers | batch | ours, ms | (a), ms | (b), ms | (a) / ours | (b) / ours | "
        "(a) / ours with context | error |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    targets = [
        "| case | target (a) / ours | measured | target (b) / ours | measured | met |",
        "|---|---|---|---|---|---|",
    ]
    largest = 0.0
    for case in cases:
        network, state = warm_network(case)
        cells, context = cells_of(network), torch.randn(case.batch_size, CONTEXT_LENGTH, 1)
        calls = [
            partial(generate, network, state, horizon),
            partial(module_loop, network, state.recurrent, horizon),
            partial(cell_loop, network, cells, state.recurrent, horizon),
            partial(rollout, network, context, horizon),
            partial(whole_module_loop, network, context, horizon),
        ]
        ours, theirs = calls[0](), network.transforms.inverse(calls[1](), state.transforms)
        difference = float((ours - theirs).abs().max())
        largest = max(largest, difference)
        seconds = best_seconds(list(calls), budget_seconds, time.process_time)
        over_a, over_b = seconds[1] / seconds[0], seconds[2] / seconds[0]
        times = " | ".join(f"{second * 1e3:.2f}" for second in seconds[:3])
        lines.append(
            f"| {NAMES[case.cell]} | {case.hidden_size} | {case.num_layers} | {case.batch_size} | {times} | "
            f"{over_a:.2f} | {over_b:.2f} | {seconds[4] / seconds[3]:.2f} | {difference:.0e} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
        if case in TARGETS:
            need_a, need_b = TARGETS[case]
            met = "yes" if over_a >= need_a and over_b >= need_b else "**no**"
            targets.append(f"| {case} | {need_a or '-'} | {over_a:.2f} | {need_b} | {over_b:.2f} | {met} |")
    lines.append(f"\nLargest absolute difference between ours and (a): {largest:.1e}.\n")
    if len(targets) > 2:
        lines += ["## Targets\n", *targets]
    return "\n".join(lines)


def sampling_row(horizon: int, budget_seconds: float) -> str:
    """The price of noise: sampled paths of one series against as many point forecasts in a batch."""
    case = Case("lstm", 64, 1, NUM_SAMPLES)
    network, states = warm_network(case)
    _, state = warm_network(case._replace(batch_size=1))
    noise = torch.tensor([[0.01]])
    generator = np.random.default_rng(0)
    sampled, point = best_seconds(
        [
            lambda: generate(
                network, state, horizon, num_samples=NUM_SAMPLES, noise=noise, generator=generator
            ),
            lambda: generate(network, states, horizon),
        ],
        budget_seconds,
        time.process_time,
    )
    return (
        f"{NUM_SAMPLES} sampled paths of LSTM-64 take {sampled * 1e3:.1f} ms, {NUM_SAMPLES} point forecasts "
        f"as a batch {point * 1e3:.1f} ms: {sampled / point:.2f} times (target: at most 1.2)."
    )


def gpu_table(horizon: int, budget_seconds: float) -> str:
    """The same against loop (a) on a GPU, in wall time."""

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    lines = [
        f"On {torch.cuda.get_device_name()}, wall time, hidden 256, batch 256:\n",
        "| case | ours, ms | (a), ms | (a) / ours | target | error |",
        "|---|---|---|---|---|---|",
    ]
    for (cell, num_layers), target in GPU_TARGETS.items():
        case = Case(cell, 256, num_layers, 256)  # type: ignore[arg-type]
        network, state = warm_network(case, "cuda")
        calls = [
            partial(generate, network, state, horizon),
            partial(module_loop, network, state.recurrent, horizon),
        ]
        difference = float((calls[0]() - calls[1]()).abs().max())
        ours, theirs = best_seconds(list(calls), budget_seconds, clock)
        lines.append(
            f"| {case} | {ours * 1e3:.2f} | {theirs * 1e3:.2f} | {theirs / ours:.2f} | {target} | "
            f"{difference:.0e} |"
        )
    return "\n".join(lines)


def peer_tables(cases: list[Case], horizon: int, budget_seconds: float, folder: Path) -> str:
    """Ours against the peers: the whole call of each, and the generation inside it."""
    pythons, missing = {}, []
    for peer in PEERS:
        try:
            pythons[peer] = peer_python(peer, folder)
        except (OSError, subprocess.CalledProcessError) as error:
            print(error, file=sys.stderr, flush=True)
            missing.append(f"\n{peer} could not be installed here.")
    columns = ["cell", "hidden", "layers", "batch", *(f"{name}, ms" for name in ("ours", *pythons))]
    columns += [f"{peer} / ours" for peer in pythons]
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    tables, versions = (head.copy(), head.copy()), dict.fromkeys(pythons, "unknown")
    for case in cases:
        seconds = [forecast_seconds(case, horizon, budget_seconds)]
        for peer, python in pythons.items():
            try:
                answer = measured_peer(python, peer, case, horizon, budget_seconds)
                versions[peer] = ", ".join(
                    f"{name} {version}" for name, version in answer["versions"].items()
                )
                seconds.append(answer["seconds"])
            except subprocess.CalledProcessError as error:
                print(error, file=sys.stderr, flush=True)
                missing.append(f"\n{case}: {peer} failed.")
                seconds.append([float("nan")] * 2)
        for lines, (ours, *theirs) in zip(tables, zip(*seconds, strict=True), strict=True):
            cells = [NAMES[case.cell], *(str(size) for size in case[1:])]
            cells += [f"{second * 1e3:.2f}" for second in (ours, *theirs)]
            cells += [f"{second / ours:.1f}" for second in theirs]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], file=sys.stderr, flush=True)
    method = PEER_METHOD.format(
        horizon=horizon, context=CONTEXT_LENGTH, versions="; ".join(versions.values()) or "none"
    )
    whole, alone = tables
    return "\n".join([method, "\n### The whole call\n", *whole, "\n### Generation alone\n", *alone, *missing])


def forecast_seconds(case: Case, horizon: int, budget_seconds: float) -> list[float]:
    """Our time for the whole call and for the generation alone."""
    torch.manual_seed(0)
    forecaster = Forecaster(1, case.cell, case.hidden_size, case.num_layers)
    context = torch.randn(case.batch_size, CONTEXT_LENGTH, 1)
    whole = partial(forecaster.forecast, context.numpy(), horizon)
    alone = torch.inference_mode()(partial(rollout, forecaster.network.eval(), context, horizon))
    return best_seconds([whole, alone], budget_seconds, time.process_time)


def peer_python(peer: str, folder: Path) -> Path:
    """The Python of the peer's environment, which is made where it does not exist."""
    python = folder / peer / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / peer)], check=True, stdout=sys.stderr)
    install = ["pip", "install", "--quiet", "--disable-pip-version-check"]
    same_torch = f"torch=={torch.__version__.split('+')[0]}"
    subprocess.run([str(python), "-m", *install, same_torch, PEERS[peer]], check=True, stdout=sys.stderr)
    return python


def measured_peer(python: Path, peer: str, case: Case, horizon: int, budget_seconds: float) -> dict[str, Any]:
    """What ``peers_generation.py`` finds in the peer's environment."""
    script = Path(__file__).resolve().with_name("peers_generation.py")
    settings = {"horizon": horizon, "context": CONTEXT_LENGTH, "budget_seconds": budget_seconds}
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    # A folder of its own, for what a peer writes beside it; -P: no module of ours takes the place of the
    # peer's.
    with tempfile.TemporaryDirectory() as work:
        run = subprocess.run(
            [str(python), "-P", str(script), peer, json.dumps({**case._asdict(), **settings})],
            env={**os.environ, **single, "CUDA_VISIBLE_DEVICES": ""},
            cwd=work,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden", type=int, nargs="+", default=[12, 64, 256], help="hidden sizes")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 256], help="numbers of series")
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2], help="numbers of layers")
    parser.add_argument("--cells", nargs="+", choices=[*NAMES], default=[*NAMES], help="kinds of cells")
    parser.add_argument("--horizon", type=int, default=1000, help="steps to generate")
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="time to measure each row, at least two rounds"
    )
    parser.add_argument("--output", type=Path, help="file to write the results to; printed in any case")
    parser.add_argument(
        "--peers", nargs="?", const="too", choices=["too", "only"], help="measure the peers, too or only"
    )
    parser.add_argument(
        "--peer_folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "rnn_lightning_peers",
        help="folder of the peers' virtual environments, made where they do not exist (%(default)s)",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = [
        Case(cell, hidden, layers, batch)
        for cell in arguments.cells
        for layers in arguments.layers
        for batch in arguments.batch
        for hidden in arguments.hidden
    ]
    tables = []
    with torch.inference_mode():
        if arguments.peers != "only":
            tables.append(METHOD.format(horizon=arguments.horizon))
            tables.append(cpu_table(cases, arguments.horizon, arguments.seconds))
            tables.append("## Sampled paths\n\n" + sampling_row(arguments.horizon, arguments.seconds))
            if torch.cuda.is_available():
                tables.append("## GPU\n\n" + gpu_table(arguments.horizon, arguments.seconds))
    if arguments.peers is not None:
        peers = peer_tables(cases, arguments.horizon, arguments.seconds, arguments.peer_folder.absolute())
        tables.append("## Against darts and neuralforecast\n\n" + peers)
    publish("Speed of generation", tables, arguments.output, "one core")


if __name__ == "__main__":
    main()
