"""Twenty drawn systems: ``auto`` beside reservoirs and NG-RC, all chosen by their validation free run.

    ENVIRONMENT/bin/pip install -e .[dynamics] reservoirpy==0.4.2
    ENVIRONMENT/bin/python benchmarks/dynamics/twenty.py FILE.jsonl [--minutes 30] [--first 0] [--last 20]
    python benchmarks/dynamics/twenty.py FILE.jsonl --table

The systems are the first of a permutation by ``default_rng(3)`` of the flows of ``dysts`` with 3 to 6
features that stay within their range: 5,000 values, 50 steps a period, 40 starts, one seed. Each finished
system is a line of the file, and the table is made of them. The share of a method is its median valid time
divided by the longest one. D_stsp of 5,000 generated steps is at its floor up to 1.5 times, plus 0.1, that of
the training values, both beside 10,000 steps of the truth.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Case, chosen_next_generation, tried
from esn import chosen_reservoir
from torch import Tensor

from rnn_lightning.dynamics.metrics import StateSpaceDivergence, valid_times
from rnn_lightning.dynamics.systems import FlowSeries

NUM_TRAIN, NUM_STARTS, WARM_UP, HORIZON, NUM_LONG = 5000, 40, 100, 600, 5000


def names() -> list[str]:
    """The flows of 3 to 6 features in the drawn order."""
    from dysts import flows
    from dysts.base import DynSys

    kinds = {
        name: kind
        for name, kind in vars(flows).items()
        if isinstance(kind, type) and issubclass(kind, DynSys) and kind is not DynSys
    }
    sizes = {name: _num_features(kind) for name, kind in sorted(kinds.items())}
    known = [name for name, size in sizes.items() if 3 <= size <= 6]
    return [known[place] for place in np.random.default_rng(3).permutation(len(known))]


def _num_features(kind: Any) -> int:
    try:
        return len(kind().ic)
    except Exception:  # what the package itself cannot make
        return 0


def make_case(name: str) -> Case | None:
    """The values of a system; None if they leave the range of the training values far behind."""
    total = NUM_TRAIN + WARM_UP + 10_000 + HORIZON
    series = FlowSeries(name, num_steps=total)
    with np.errstate(all="ignore"):
        values = torch.from_numpy(series.clean())
    train, later = values[:NUM_TRAIN], values[NUM_TRAIN:]
    margin = train.amax(0) - train.amin(0)
    stays = (later <= train.amax(0) + margin) & (later >= train.amin(0) - margin)
    if not bool(stays.all()) or bool((later.std(0) < 1e-6).any()):  # it ends, or has a phase that grows
        return None
    starts = np.linspace(NUM_TRAIN, total - WARM_UP - HORIZON, NUM_STARTS).astype(int)
    context = torch.stack([values[start : start + WARM_UP] for start in starts])
    truth = torch.stack([values[start + WARM_UP :][:HORIZON] for start in starts])
    case = Case(train.numpy(), context, truth, train.std(0), series)
    case.long = values[NUM_TRAIN + WARM_UP :][:10_000]  # type: ignore[attr-defined]
    return case


def solved(case: Case) -> tuple[dict[str, Any], str]:
    """Forecasts by ``auto`` and by variable projection of 64 units, which is one of its fits."""
    best, fitted, _ = tried(case.train, 0)
    forecasters = {"auto": fitted[best], "variable projection, 64 units": [*fitted.values()][1]}
    return {
        name: lambda context, horizon, each=each: each.forecast(context, horizon)
        for name, each in forecasters.items()
    }, best


def measured(case: Case, generate: Any) -> dict[str, float]:
    """Median valid time in steps, and D_stsp of a long free run."""
    with np.errstate(all="ignore"):
        path: Tensor = generate(case.context, HORIZON)
        long: Tensor = generate(case.context[:1], NUM_LONG)[0]
    valid = valid_times(path, case.truth, case.scale)
    divergence = StateSpaceDivergence().distance(long.double(), case.long)  # type: ignore[attr-defined]
    return {"valid": float(valid.double().median()), "divergence": float(divergence)}


def run(name: str, case: Case) -> dict[str, Any]:
    result: dict[str, Any] = {"system": name, "lyapunov_time": case.series.lyapunov_time, "scores": {}}
    train = torch.from_numpy(case.train)
    result["floor"] = float(StateSpaceDivergence().distance(train, case.long))  # type: ignore[attr-defined]
    begin = time.process_time()
    methods, best = solved(case)
    result |= {"auto": best, "seconds": time.process_time() - begin}
    begin = time.process_time()
    methods["ESN"], settings = chosen_reservoir(case)
    result |= {"esn": settings, "esn_seconds": time.process_time() - begin}
    for method, generate in methods.items():
        result["scores"][method] = measured(case, generate)
    for degree in (3, 2):
        path, _ = chosen_next_generation(case, degree)
        valid = float(valid_times(path, case.truth, case.scale).double().median())
        result["scores"][f"NG-RC of degree {degree}"] = {"valid": valid}
    return result


def table(results: list[dict[str, Any]]) -> None:
    """Print the summary of all methods, and each system."""
    methods = list(results[0]["scores"])
    best = [max(each["valid"] for each in result["scores"].values()) for result in results]
    print(f"{len(results)} systems.\n")
    print("| method | median VPT, Lyapunov times | within 10 % of the best | worst share | D_stsp floor |")
    print("|---|---|---|---|---|")
    for method in methods:
        scores = [result["scores"][method] for result in results]
        times = [
            score["valid"] / result["lyapunov_time"] for score, result in zip(scores, results, strict=True)
        ]
        shares = [score["valid"] / max(top, 1) for score, top in zip(scores, best, strict=True)]
        reached = [
            score["divergence"] <= 1.5 * result["floor"] + 0.1
            for score, result in zip(scores, results, strict=True)
            if "divergence" in score
        ]
        floor = f"{sum(reached)} of {len(reached)}" if reached else ""
        close = sum(share >= 0.9 for share in shares)
        middle = statistics.median(times)
        print(f"| {method} | {middle:.2f} | {close} of {len(shares)} | {min(shares):.2f} | {floor} |")
    print(
        f"\n| system | auto chose | {' | '.join(methods)} | CPU s |\n|---|---|{'---|' * (len(methods) + 1)}"
    )
    for result in results:
        shown = " | ".join(f"{result['scores'][method]['valid']:.0f}" for method in methods)
        print(f"| {result['system']} | {result['auto']} | {shown} | {result['seconds']:.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0, help="of CPU time, after which none begins")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, default=20)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    lines = given.file.read_text().splitlines() if given.file.exists() else []
    results = [json.loads(line) for line in lines]
    if given.table:
        table(results)
        raise SystemExit
    done, place = {result["system"] for result in results}, 0
    for name in names():
        if place >= given.last or time.process_time() > 60 * given.minutes:
            break
        if place < given.first or name in done:
            place += 1
            continue
        case = make_case(name)
        if case is not None:
            place += 1
            with given.file.open("a") as file:
                file.write(json.dumps(run(name, case)) + "\n")
            print(name, f"{time.process_time():.0f} s", flush=True)
