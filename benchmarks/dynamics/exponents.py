"""Lyapunov exponents of learned systems, beside the known ones. ``python benchmarks/dynamics/exponents.py``.

Fits with the defaults of the configs; 20 free runs of 1,000 steps from test starts. The known exponent of
Mackey-Glass is that of two neighbouring runs of the recipe over 40,000 steps.
"""

import argparse
import time

import torch
from cases import Case, make_case, solved

from rnn_lightning import Forecaster
from rnn_lightning.dynamics.lyapunov import lyapunov_exponents

KNOWN = {"Lorenz": (0.9056, 0.0, -14.572), "Rossler": (0.0714, 0.0, -5.3943), "Mackey-Glass": (0.0061,)}


def exponents(forecaster: Forecaster, case: Case, number: int) -> list[float]:
    """The first exponents of a learned system, in the units of the known ones."""
    size = case.series.time_step  # type: ignore[attr-defined]
    return lyapunov_exponents(forecaster, case.context[:20], number, 1000, time_step=size).mean(0).tolist()


def row(name: str, known: tuple[float, ...], found: torch.Tensor, spent: float) -> str:
    """The medians over seeds ``found (seed, exponent)``, and the error of the largest one."""
    errors = (found[:, 0] / known[0] - 1).abs()
    shown = (", ".join(f"{each:.4f}" for each in every) for every in (known, found.median(0)[0].tolist()))
    return f"| {name} | {' | '.join(shown)} | {errors.median():.1%} ({errors.max():.1%}) | {spent:.1f} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    num_seeds = parser.parse_args().seeds
    print(
        "| system | known | learned | error of the largest: median (worst) | CPU s |\n|---|---|---|---|---|"
    )
    for name, known in KNOWN.items():
        case = make_case(name)
        forecasters = [solved(case, seed)[0] for seed in range(num_seeds)]
        begin = time.process_time()
        found = torch.tensor([exponents(each, case, len(known)) for each in forecasters])
        spent = (time.process_time() - begin) / num_seeds
        print(row(name, known, found, spent), flush=True)
