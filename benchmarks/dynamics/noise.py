"""Lorenz with observation noise: how long forecasts hold against the truth without noise.

``python benchmarks/dynamics/noise.py [--seeds 5]``. The contexts are noisy too, as are the validation data.
"""

import argparse
import statistics

from cases import make_case, next_generation, scored, solved

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    num_seeds = parser.parse_args().seeds
    print("| noise | method | VPT: median (worst) of seeds | CPU s of a fit |\n|---|---|---|---|")
    for noise in (0.01, 0.05):
        case = make_case("Lorenz", noise)
        for degree in (2, 3):
            score = scored(case, next_generation(case, degree, ridge=1e-3 * noise))[0]
            print(f"| {noise:g} | NG-RC, degree {degree} | {score:.2f} | 0 |", flush=True)
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
