"""Lorenz with observation noise: how long forecasts hold against the truth without noise.

``python benchmarks/dynamics/noise.py [--seeds 5]``. The contexts are noisy too, as are the validation data.
"""

import argparse
import statistics

from cases import chosen_next_generation, make_case, scored, solved

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    num_seeds = parser.parse_args().seeds
    print("| noise | method | VPT: median (worst) of seeds | CPU s of a fit |\n|---|---|---|---|")
    for noise in (0.01, 0.05):
        case = make_case("Lorenz", noise)
        path, settings = chosen_next_generation(case)
        print(f"| {noise:g} | NG-RC, {settings} | {scored(case, path)[0]:.2f} | 0 |", flush=True)
        scores, seconds = [], []
        for seed in range(num_seeds):
            forecaster, spent = solved(case, seed)
            scores.append(scored(case, forecaster.forecast(case.context, case.truth.shape[1]))[0])
            seconds.append(spent)
        shown = f"{statistics.median(scores):.2f} ({min(scores):.2f})"
        print(
            f"| {noise:g} | variable projection, auto | {shown} | {statistics.median(seconds):.1f} |",
            flush=True,
        )
