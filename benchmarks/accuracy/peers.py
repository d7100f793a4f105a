"""Errors of the classics on the tables of a folder, at the last origin and one horizon before, once for all.

    python3 -m venv ENVIRONMENT && ENVIRONMENT/bin/pip install statsforecast
    ENVIRONMENT/bin/python benchmarks/accuracy/peers.py FOLDER

Writes ``benchmarks/accuracy/peers/<folder>.json``: by table, origin and method the mean absolute error of
each series, the CPU seconds, and of AutoETS the weighted quantile loss and the coverage of its intervals.
Tables that it has already are kept. Every method knows the season; AutoETS and AutoARIMA go without one
beyond 24 and 12 steps, where they take hours or refuse. Where a method fails on a series, the seasonal naive
forecast stands for it, and the series is named.
"""

import argparse
import importlib
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from origins import (
    LEVELS,
    ORIGINS,
    Table,
    coverage,
    mean_absolute_error,
    peers_path,
    read_meta,
    read_peers,
    read_table,
    seasonal_naive,
    weighted_quantile_loss,
)

METHODS = ("Naive", "SeasonalNaive", "AutoTheta", "AutoETS", "AutoARIMA", "MSTL")
LONGEST_SEASON = {"AutoETS": 24, "AutoARIMA": 12}


def forecast_of(method: str, known: np.ndarray, horizon: int, season: int) -> dict[str, np.ndarray]:
    """The ``mean`` of a method, and for AutoETS the ends of its intervals, ``lo-80`` and so on."""
    if method == "Naive":
        return {"mean": seasonal_naive(known, horizon, 1)}
    if method == "SeasonalNaive":
        return {"mean": seasonal_naive(known, horizon, season)}
    if method == "MSTL" and season == 1:
        return forecast_of("AutoETS", known, horizon, season)
    models = importlib.import_module("statsforecast.models")
    season = season if season <= LONGEST_SEASON.get(method, season) else 1
    levels = list(LEVELS) if method == "AutoETS" else None
    found: dict[str, np.ndarray] = getattr(models, method)(season_length=season).forecast(
        y=known, h=horizon, level=levels
    )
    if not np.isfinite(found["mean"]).all():
        raise ValueError("a forecast that is not finite")
    return found


def scores(method: str, table: Table) -> dict[str, Any]:
    """Errors by series, the CPU seconds, and the series that the method failed on."""
    begin = time.process_time()
    result: dict[str, Any] = {"mae": {}, "failed": []}
    for id, true in table.following.items():
        try:
            found = forecast_of(method, table.known[id], len(true), table.season)
        except Exception as error:  # every method has its own ways to refuse a series
            print(f"{method} fails on {id}: {error!r}", flush=True)
            result["failed"].append(id)
            found = forecast_of("SeasonalNaive", table.known[id], len(true), table.season)
        result["mae"][id] = round(mean_absolute_error(found["mean"], true), 6)
        if method == "AutoETS":
            ends = [found.get(f"{end}-{level}", found["mean"]) for level in LEVELS for end in ("lo", "hi")]
            quantiles = np.stack([found["mean"], *ends])
            loss = weighted_quantile_loss(quantiles, true)
            result.setdefault("quantile_loss", {})[id] = round(loss, 6)
            for level in (80, 95):
                share = round(coverage(quantiles, true, level), 4)
                result.setdefault(f"coverage_{level}", {})[id] = share
    return result | {"cpu_seconds": round(time.process_time() - begin, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="tables; if none are given, all")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    path, results = peers_path(arguments.folder), read_peers(arguments.folder)
    for name in arguments.names or list(read_meta(arguments.folder)):
        if name in results:
            continue
        results[name] = {
            origin: {method: scores(method, read_table(arguments.folder, name, origin)) for method in METHODS}
            for origin in ORIGINS
        }
        seconds = sum(of["cpu_seconds"] for origin in results[name].values() for of in origin.values())
        print(f"{name}: {seconds:.0f} CPU s", flush=True)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
