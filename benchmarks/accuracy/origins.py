"""Tables of a folder, cut at an origin, and the scores that the network and its peers are compared by.

A folder has for each table ``NAME.csv`` with the columns ``unique_id, ds, y``, ``NAME_test.csv`` with the
values that follow, as many of each series as the horizon, and in ``meta.json`` the horizon and the season.
Needs NumPy alone, so that it runs in the environment of the peers as well.
"""

import csv
import json
import math
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LEVELS = (20, 40, 60, 80, 95)
"""Levels in percent of the intervals whose ends, with the point forecast, are scored as quantiles."""
QUANTILES = [0.5, *(0.5 + sign * level / 200 for level in LEVELS for sign in (-1, 1))]
ORIGINS = ("last", "previous")
"""The last value of the table, and the one that is one horizon before."""


class Table(NamedTuple):
    """A table as it is known at an origin, and what follows.

    Attributes:
        rows: the known rows, ``(id, time, value)`` as in the file.
        known: known values by series.
        following: the next values by series, as many as the horizon.
        season: length of the season in steps; 1 for none.
    """

    rows: list[tuple[str, str, str]]
    known: dict[str, np.ndarray]
    following: dict[str, np.ndarray]
    season: int

    @property
    def horizon(self) -> int:
        return max(len(values) for values in self.following.values())


def read_meta(folder: Path) -> dict[str, dict[str, Any]]:
    meta: dict[str, dict[str, Any]] = json.loads((folder / "meta.json").read_text())
    return meta


def read_peers(folder: Path) -> dict[str, Any]:
    """What ``peers.py`` has stored of a folder, by table, origin and method; empty if nothing."""
    path = peers_path(folder)
    peers: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return peers


def peers_path(folder: Path) -> Path:
    return Path(__file__).parent / "peers" / f"{folder.resolve().name}.json"


def read_table(folder: Path, name: str, origin: str) -> Table:
    """A table at an origin; the previous one is cut from the known values, so it needs no other file."""
    meta = read_meta(folder)[name]
    horizon, season = meta["horizon"], meta["season"]
    known, following = read_rows(folder / f"{name}.csv"), read_rows(folder / f"{name}_test.csv")
    if origin == "previous":
        following = {id: rows[-horizon:] for id, rows in known.items()}
        known = {id: rows[:-horizon] for id, rows in known.items()}
    rows = [row for of_series in known.values() for row in of_series]
    return Table(rows, values_of(known), values_of(following), season)


def read_rows(path: Path) -> dict[str, list[tuple[str, str, str]]]:
    """The rows of each series, in the order of time."""
    with path.open(newline="") as file:
        rows = [(row["unique_id"], row["ds"], row["y"]) for row in csv.DictReader(file)]
    return {id: list(of_series) for id, of_series in groupby(sorted(rows), key=lambda row: row[0])}


def values_of(rows: dict[str, list[tuple[str, str, str]]]) -> dict[str, np.ndarray]:
    return {id: np.array([float(row[2]) for row in of_series]) for id, of_series in rows.items()}


def seasonal_naive(known: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """The last season again and again; the last value where less than a season is known."""
    season = season if season <= len(known) else 1
    return np.resize(known[-season:], horizon)


def mean_absolute_error(forecast: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(forecast - true).mean())


def weighted_quantile_loss(quantiles: np.ndarray, true: np.ndarray) -> float:
    """Mean over ``QUANTILES`` of twice the pinball loss, which approximates the CRPS.

    Args:
        quantiles: forecast quantiles in the order of ``QUANTILES``, ``(quantile, horizon)``.
        true: true values, ``(horizon,)``.
    """
    error = true - quantiles
    level = np.array(QUANTILES)[:, None]
    return float(2 * np.maximum(level * error, (level - 1) * error).mean())


def coverage(quantiles: np.ndarray, true: np.ndarray, level: int) -> float:
    """Share of the true values within the interval of a level in percent; arguments as above."""
    lower = 1 + 2 * LEVELS.index(level)
    return float(((quantiles[lower] <= true) & (true <= quantiles[lower + 1])).mean())


def geometric_mean(values: Iterable[float]) -> float:
    return math.exp(float(np.mean([math.log(max(value, 1e-9)) for value in values])))


def relative(errors: dict[str, float], reference: dict[str, float]) -> float:
    """Geometric mean over the series of an error over that of a reference."""
    return geometric_mean(errors[id] / max(reference[id], 1e-9) for id in reference)
