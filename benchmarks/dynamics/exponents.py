"""Lyapunov exponents of learned systems, beside the known ones. ``python benchmarks/dynamics/exponents.py``.

One fit with the defaults of the configs, seed 0; 20 free runs of 1,000 steps from test starts. The known
exponent of Mackey-Glass is that of two neighbouring runs of the recipe over 40,000 steps.
"""

import time

from cases import make_case, solved

from rnn_lightning.dynamics.lyapunov import lyapunov_exponents

KNOWN = {"Lorenz": (0.9056, 0.0, -14.572), "Rossler": (0.0714, 0.0, -5.3943), "Mackey-Glass": (0.0061,)}

if __name__ == "__main__":
    print("| system | known | learned | CPU s |\n|---|---|---|---|")
    for name, known in KNOWN.items():
        case = make_case(name)
        forecaster, _ = solved(case, 0)
        size, begin = case.series.time_step, time.process_time()  # type: ignore[attr-defined]
        found = lyapunov_exponents(forecaster, case.context[:20], len(known), 1000, time_step=size).mean(0)
        spent = time.process_time() - begin
        shown = (", ".join(f"{each:.4f}" for each in every) for every in (known, found.tolist()))
        print(f"| {name} | {' | '.join(shown)} | {spent:.1f} |", flush=True)
