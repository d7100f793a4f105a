"""How the series that pretraining draws compare with real tables, by features without a scale.

    python benchmarks/prior_features.py FOLDER [--output RESULTS.md] [--picture docs/prior.png]

``FOLDER`` holds tables ``NAME.csv`` of ``unique_id, ds, y`` and a ``meta.json`` with the season and the
horizon of each name. Every table is cut into windows as long as a context and a horizon of pretraining, and
2,000 series of the same season and length are drawn beside it.
"""

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from rnn_lightning.pretrained.prior import draw_series, draw_shape

Array = np.ndarray
NUM_DRAWN = 2000
LEAST_STRENGTH = 0.3
"""Of a season in a table; a weaker one is taken for none, as a fit would."""
MAX_WINDOWS = 12
"""Windows of one series of a table, so that a long one does not count more than a table of many."""


def read_windows(path: Path, season: int, horizon: int) -> Array:
    """Windows ``(window, step)`` of the series of a table, unknown values filled in."""
    series = defaultdict(list)
    with path.open() as file:
        for row in csv.DictReader(file):
            series[row["unique_id"]].append(float(row["y"] or "nan"))
    length = min(min(map(len, series.values())), round(max(200, 3.5 * season)) + horizon)
    windows = []
    for values in series.values():
        y, steps = np.array(values), np.arange(len(values))
        y = np.interp(steps, steps[~np.isnan(y)], y[~np.isnan(y)])
        starts = np.arange(len(y) - length, -1, -length)[:MAX_WINDOWS]
        windows += [y[start : start + length] for start in starts]
    return np.stack(windows)


def correlation(a: Array, b: Array) -> Array:
    """Of the rows of two arrays; zero where a row is constant."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1) + 1e-30)


def autocorrelation(y: Array, lag: int) -> Array:
    y = y - y.mean(1, keepdims=True)
    return (y[:, lag:] * y[:, :-lag]).sum(1) / ((y**2).sum(1) + 1e-30)


def decompose(y: Array, season: int) -> tuple[Array, Array, Array]:
    """Trend, season and remainder ``(series, step)``: a centred moving average, and the means of phases."""
    width = season if season > 1 else 5
    weights = np.ones(width + 1 - width % 2)
    weights[[0, -1]] -= 0.5 * (1 - width % 2)
    weights /= weights.sum()
    half = len(weights) // 2
    sums = np.pad(np.cumsum(y, 1), ((0, 0), (1, 0)))
    if width % 2:
        trend = (sums[:, width:] - sums[:, :-width]) / width
    else:
        trend = (sums[:, width:-1] - sums[:, : -width - 1] + (y[:, width:] - y[:, :-width]) / 2) / width
    inner = y[:, half : half + trend.shape[1]]
    swing = np.zeros_like(inner)
    if season > 1:
        for phase in range(min(season, inner.shape[1])):
            swing[:, phase::season] = (inner - trend)[:, phase::season].mean(1, keepdims=True)
    return trend, swing, inner - trend - swing


def strength(part: Array, remainder: Array) -> Array:
    """The share of the variance of a part and the remainder that the part explains."""
    return np.maximum(0, 1 - remainder.var(1) / ((part + remainder).var(1) + 1e-30))


def season_change(y: Array, season: int) -> dict[str, Array]:
    """Features of how the seasons of a series differ from one another."""
    count = y.shape[1] // season
    seasons = y[:, -count * season :].reshape(len(y), count, season)
    slope = (seasons[:, -1] - seasons[:, 0]).mean(1, keepdims=True) / max(1, count - 1) / season
    shape = seasons - slope[..., None] * np.arange(season)
    shape = shape - shape.mean(2, keepdims=True)
    early, late = shape[:, : count // 2].mean(1), shape[:, count - count // 2 :].mean(1)
    values = {"season: early and late alike": correlation(early, late)}
    if count > 2:
        size = np.log(shape.std(2) + 1e-30)
        values["season: size follows level"] = correlation(size, seasons.mean(2))
    return values


def simple_errors(y: Array, season: int, horizon: int) -> dict[str, Array]:
    """Log ratios of the absolute errors of simple forecasts at several origins."""
    horizon = min(horizon, y.shape[1] // 3)
    first = max(2, y.shape[1] - 4 * horizon, y.shape[1] // 3)
    sums: dict[str, Array] = defaultdict(lambda: np.zeros(len(y)))
    for origin in range(first, y.shape[1] - horizon + 1, max(1, horizon // 2)):
        past, future, step = y[:, :origin], y[:, origin : origin + horizon], np.arange(1, horizon + 1)
        naive = past[:, -1:] + 0 * future
        drift = naive + (past[:, -1:] - past[:, :1]) / (origin - 1) * step
        mean = past.mean(1, keepdims=True) + 0 * future
        forecasts = {"naive": naive, "drift": drift, "mean": mean}
        if origin >= 2 * season > 2:
            repeated = past[:, -season:][:, (step - 1) % season]
            change = past[:, -season:].mean(1, keepdims=True) - past[:, -2 * season : -season].mean(
                1, keepdims=True
            )
            forecasts |= {
                "seasonal": repeated,
                "seasonal drift": repeated + change * ((step - 1) // season + 1),
            }
        for name, forecast in forecasts.items():
            sums[name] = sums[name] + np.abs(forecast - future).mean(1)
    pairs = [("drift", "naive"), ("mean", "naive"), ("seasonal", "naive"), ("seasonal drift", "seasonal")]
    pairs = [pair for pair in pairs if pair[0] in sums]
    return {f"log error: {a} / {b}": np.log((sums[a] + 1e-12) / (sums[b] + 1e-12)) for a, b in pairs}


def features(y: Array, season: int, horizon: int) -> dict[str, Array]:
    """Features of series ``(series, step)`` of one season, an array ``(series,)`` each."""
    y = (y - y.mean(1, keepdims=True)) / (y.std(1, keepdims=True) + 1e-12)
    trend, swing, remainder = decompose(y, season)
    thirds = [part.mean(1) for part in np.array_split(trend, 3, 1)]
    deviation = np.abs(remainder - np.median(remainder, 1, keepdims=True))
    values = {
        "trend: strength": strength(trend, remainder),
        "trend: up or down": correlation(y, np.broadcast_to(np.arange(y.shape[1]), y.shape)),
        "trend: curvature": (thirds[0] + thirds[2] - 2 * thirds[1]) / (trend.std(1) + 1e-12),
        "trend: roughness": np.abs(np.diff(trend, 2)).mean(1) / (np.abs(np.diff(trend)).mean(1) + 1e-12),
        "difference: autocorrelation 1": autocorrelation(np.diff(y), 1),
    }
    if season > 1:
        values |= {
            "difference: autocorrelation m": autocorrelation(np.diff(y), season),
            "seasonal difference: autocorrelation 1": autocorrelation(y[:, season:] - y[:, :-season], 1),
            "season: strength": strength(swing, remainder),
            "season: roughness": np.abs(np.diff(swing)).mean(1) / (swing.std(1) + 1e-12),
        }
        values |= season_change(y, season)
    values |= {
        "remainder: autocorrelation 1": autocorrelation(remainder, 1),
        "remainder: outliers": (deviation > 5 * np.median(deviation, 1, keepdims=True) + 1e-9).mean(1),
        "remainder: skewness": (remainder**3).mean(1) / (remainder.std(1) ** 3 + 1e-12),
        "remainder: size changes": np.log(
            (np.abs(remainder[:, remainder.shape[1] // 2 :]).mean(1) + 1e-12)
            / (np.abs(remainder[:, : remainder.shape[1] // 2]).mean(1) + 1e-12)
        ),
        "repeated values": (np.abs(np.diff(y)) < 1e-9).mean(1),
    }
    return values | simple_errors(y, season, horizon)


class Comparison(NamedTuple):
    """A feature of a table among those of drawn series."""

    rank: float
    """Percent of the drawn series that are below the median of the table, those equal to it counted half."""
    real: float
    drawn: Array
    """Their 5 %, 50 % and 95 % quantiles."""

    @property
    def outside(self) -> bool:
        return not 5 <= self.rank <= 95


def compare(path: Path, season: int, horizon: int) -> dict[str, Comparison]:
    """Every feature of one table."""
    real = read_windows(path, season, horizon)
    _, swing, remainder = decompose(real, season)
    if season > 1 and np.median(strength(swing, remainder)) < LEAST_STRENGTH:
        season = 1
    drawn = draw_series(np.random.default_rng(0), NUM_DRAWN, real.shape[1], season).astype(np.float64)
    comparisons, drawn_features = {}, features(drawn, season, horizon)
    for name, values in features(real, season, horizon).items():
        median, ours = float(np.median(values)), drawn_features[name]
        rank = float(100 * (np.mean(ours < median) + np.mean(ours == median) / 2))
        comparisons[name] = Comparison(rank, median, np.quantile(ours, [0.05, 0.5, 0.95]))
    return comparisons


HEADER = f"""# The prior beside real tables

Command: `python benchmarks/prior_features.py FOLDER`, NumPy {np.__version__}

A cell is the share of {NUM_DRAWN:,} drawn series, in percent, whose feature is below the median of the
table: 50 is the middle of the prior. Bold: outside 5 to 95. A season that explains less than
{LEAST_STRENGTH} of the variance that is left without the trend counts as none, as in a fit. An empty cell:
the feature needs a season, or more seasons than the table has.
"""


def report(tables: Mapping[str, Mapping[str, Comparison]]) -> str:
    """The table of ranks, and a list of what lies outside, as Markdown."""
    names = list(dict.fromkeys(name for table in tables.values() for name in table))
    lines = [HEADER, f"| feature | {' | '.join(tables)} | mean |", "|---" * (len(tables) + 2) + "|"]
    for name in names:
        row = [table.get(name) for table in tables.values()]
        cells = ["" if c is None else f"**{c.rank:.0f}**" if c.outside else f"{c.rank:.0f}" for c in row]
        mean = np.mean([c.rank for c in row if c is not None])
        lines.append(f"| {name} | {' | '.join(cells)} | {mean:.0f} |")
    lines += ["", "Outside the prior's 5 to 95 %:", ""]
    for title, table in tables.items():
        for name, c in table.items():
            if c.outside:
                low, middle, high = c.drawn
                lines.append(f"- {title}, {name}: {c.real:.3g}; prior {low:.3g}, {middle:.3g}, {high:.3g}")
    return "\n".join(lines)


def draw_picture(path: Path) -> None:
    """The first series of 24 batches of pretraining, of context and horizon."""
    figure, axes = plt.subplots(6, 4, figsize=(13, 11), layout="constrained")
    for seed, axis in enumerate(axes.flat):
        rng = np.random.default_rng(seed)
        season, context_length, horizon = draw_shape(rng)
        y = draw_series(rng, 1, context_length + horizon, season)[0]
        axis.plot(y, linewidth=0.8, color="#1f5a99")
        axis.set_title(
            f"season {season}, {len(y)} steps" if season > 1 else f"no season, {len(y)} steps", fontsize=8
        )
        axis.tick_params(labelsize=6)
    figure.savefig(path, dpi=60)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    meta: Mapping[str, Mapping[str, int]] = json.loads((arguments.folder / "meta.json").read_text())
    tables = {
        name: compare(arguments.folder / f"{name}.csv", about["season"], about["horizon"])
        for name, about in meta.items()
    }
    text = report(tables)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    if arguments.picture:
        draw_picture(arguments.picture)


if __name__ == "__main__":
    main()
