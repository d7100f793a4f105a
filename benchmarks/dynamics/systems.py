"""Clean systems: how long forecasts hold.

``python benchmarks/dynamics/systems.py [--seeds 5] [--reservoir] [SYSTEM ...]``.

Everything is chosen on validation data, with the defaults of the configs. Of the peers, the echo state
network is the solver's own corner with 300 units, NG-RC a polynomial of the last values.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial

from cases import NUM_EPOCHS, SERIES, Case, adam, chosen_next_generation, make_case, scored, solved

from rnn_lightning import Forecaster


def rows(
    name: str, num_seeds: int, size: int, num_epochs: int, with_reservoir: bool, with_adam: bool
) -> None:
    case = make_case(name)
    by_error = name == "Mackey-Glass"

    def shown(values: list[float]) -> str:
        middle, worst = statistics.median(values), (max if by_error else min)(values)
        return f"{middle:.1e} ({worst:.1e})" if by_error else f"{middle:.2f} ({worst:.2f})"

    place = 1 if by_error else 0
    persistence = case.context[:, -1:].expand_as(case.truth)
    print(f"| {name} | persistence | {shown([scored(case, persistence)[place]])} | 0 |  |")
    path, settings = chosen_next_generation(case)
    print(f"| {name} | NG-RC | {shown([scored(case, path)[place]])} | 0 | {settings} |", flush=True)
    methods: dict[str, Callable[[Case, int], tuple[Forecaster, float]]] = {
        "variable projection, auto": partial(solved, num_epochs=num_epochs, hidden_size=size),
    }
    if with_reservoir:
        methods["reservoir of 300 units, 2 seeds"] = partial(solved, solver="reservoir", hidden_size=300)
    if with_adam:
        methods["LSTM-64, Adam"] = adam
    for method, fit in methods.items():
        scores, seconds, choices = [], [], []
        for seed in range(2 if "reservoir" in method else num_seeds):
            forecaster, spent = fit(case, seed)
            scores.append(scored(case, forecaster.forecast(case.context, case.truth.shape[1]))[place])
            seconds.append(spent)
            print(name, method, seed, scores[-1], f"{spent:.1f} s", file=sys.stderr, flush=True)
            choices.append(getattr(forecaster, "choice", "").split(",")[0].removeprefix("input noise "))
        note = "noise " + " ".join(choices) if any(choices) else ""
        print(
            f"| {name} | {method} | {shown(scores)} | {statistics.median(seconds):.1f} | {note} |", flush=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(SERIES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--units", type=int, default=64, help="of variable projection")
    parser.add_argument("--epochs", type=int, default=NUM_EPOCHS, help="of variable projection")
    parser.add_argument("--reservoir", action="store_true")
    parser.add_argument("--adam", action="store_true")
    given = parser.parse_args()
    print("| system | method | VPT, or NRMSE84: median (worst) of seeds | CPU s of a fit | chosen |")
    print("|---|---|---|---|---|")
    for each in given.names:
        rows(each, given.seeds, given.units, given.epochs, given.reservoir, given.adam)
