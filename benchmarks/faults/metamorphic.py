"""Metamorphic truths: a table written in another way has the same forecast.

    python benchmarks/faults/metamorphic.py --tables 300

Each table is random: its series, stamps, gaps, names and covariates. It is forecast by the bundled network as
it is and changed in every way below, and each forecast must be the same one, as text where stamps and ids are
concerned. Printed are the counts, and what was broken.
"""

import argparse
import importlib.util
import logging
import platform
import tempfile
import time
import warnings
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from rnn_lightning import PretrainedForecaster, TableSeries, forecast_frame
from rnn_lightning.tables.calendar import stamp_series

NAMES = ["y", "sold", "price: EUR", '"A": (US)', "null", "#1", "[kWh]", " lead", "a,b", "two\nlines", "2019"]
IDS = ["plain", "a,b", 'say "hi"', "two\nlines", "007", "=1+1", "🦆 é", " padded ", "null", "-3"]
RELATIVE = 2e-3
"""Difference of two forecasts in spreads of their series; float32 in another order rounds differently."""

Table = tuple[pl.DataFrame, dict[str, Any]]


def random_stamps(random: np.random.Generator, number: int) -> tuple[list[str], str | None]:
    """Return stamps as text, and their format where one must be given."""
    day, hour = date(2015, 1, 5) + timedelta(int(random.integers(0, 2000))), datetime(2021, 1, 1)
    months = [f"{2012 + month // 12}{month % 12 + 1:02}" for month in range(number)]
    days = [day + timedelta(step) for step in range(number)]
    kinds: list[tuple[list[str], str | None]] = [
        ([str(each) for each in days], None),
        ([f"{each.month}/{each.day}/{each.year}" for each in days], "%m/%d/%Y"),
        ([f"{each:%b} {each.day} {each.year}" for each in days], "%b %d %Y"),
        ([f"{each:%y%m%d}" for each in days], None),
        ([f"{each:%Y%j}" for each in days], "%Y%j"),
        ([str(hour + timedelta(hours=step)) for step in range(number)], None),
        ([f"{hour + timedelta(hours=step):%Y%m%d%H}" for step in range(number)], None),
        (months, None),
        ([f"{month[:4]}-{month[4:]}" for month in months], None),
        ([f"{1990 + step // 4}Q{step % 4 + 1}" for step in range(number)], None),
        ([f"{day + timedelta(7 * step):%G-W%V}" for step in range(number)], None),
        ([str(step) for step in range(number)], None),
    ]
    return kinds[int(random.integers(len(kinds)))]


def random_table(random: np.random.Generator) -> Table:
    """Return a table of one to four series and the options by which it is read."""
    number, count = int(random.integers(40, 160)), int(random.integers(1, 5))
    stamps, form = random_stamps(random, number)
    name, period = str(random.choice(NAMES)), int(random.choice([1, 4, 7, 12]))
    parts = []
    for each in random.choice(IDS, count, replace=False).tolist():
        level, step = float(random.choice([1.0, 50.0, 2000.0])), np.arange(number)
        pattern = random.standard_normal(period)[step % period]
        values = level * (10 + pattern + 0.02 * step + 0.3 * random.standard_normal(number))
        values[random.random(number) < random.choice([0.0, 0.05])] = np.nan
        values[[0, -1]] = level * 10
        parts.append(pl.DataFrame({"unique_id": each, "ds": stamps, name: np.round(values, 4)}))
    frame = pl.concat(parts).with_columns(pl.col(name).fill_nan(None))
    return frame, {"target_columns": [name], **({} if form is None else {"time_format": form})}


def forecast(frame: Any, options: dict[str, Any]) -> pl.DataFrame:
    """Return the forecast of seven steps by the bundled network in the order of ids and steps."""
    result = forecast_frame(PretrainedForecaster(), frame, 7, **options)
    result = result if isinstance(result, pl.DataFrame) else pl.from_dict(result.to_dict("list"))
    steps = pl.int_range(pl.len()).over("unique_id").alias("step")
    return result.with_columns(steps).sort("unique_id", "step")


def same(
    result: pl.DataFrame, wanted: pl.DataFrame, name: str, scale: float = 1.0, shift: float = 0.0
) -> bool:
    """Return True if a forecast is the wanted one, scaled and shifted."""
    if not result["unique_id"].equals(wanted["unique_id"]) or not result["ds"].equals(wanted["ds"]):
        return False
    given, expected = (each[name].to_numpy() for each in (result, wanted))
    spread = np.abs(expected).mean() * scale
    return bool(np.allclose(given, expected * scale + shift, rtol=RELATIVE, atol=RELATIVE * spread))


def changed(frame: pl.DataFrame, options: dict[str, Any], random: np.random.Generator) -> dict[str, bool]:
    """Return for every truth whether it holds."""
    (name,) = options["target_columns"]
    wanted, held = forecast(frame, options), {}
    shuffled = frame.sample(fraction=1, shuffle=True, seed=int(random.integers(99)))
    held["rows"] = same(forecast(shuffled, options), wanted, name)
    held["columns"] = same(forecast(frame.select(reversed(frame.columns)), options), wanted, name)
    ids = "id " + pl.col("unique_id")
    held["ids"] = same(forecast(frame.with_columns(ids), options), wanted.with_columns(ids), name)
    held["units"] = same(forecast(frame.with_columns(pl.col(name) * 8), options), wanted, name, 8)
    # Below 0, because the trend of positive series is one of their logarithms too.
    shift = -float(round(frame[name].abs().max() or 1))
    below, lower = (frame.with_columns(pl.col(name) + times * shift) for times in (2, 3))
    held["constant"] = same(forecast(lower, options), forecast(below, options), name, 1, shift)
    noise = pl.DataFrame({"unique_id": "beside", "ds": frame["ds"].unique(maintain_order=True)})
    noise = noise.with_columns(pl.Series(name, random.standard_normal(len(noise))))
    beside = forecast(pl.concat([frame, noise]), options).filter(pl.col("unique_id") != "beside")
    held["beside"] = same(beside, wanted, name)
    if importlib.util.find_spec("pandas"):
        import pandas  # type: ignore[import-untyped, import-not-found, unused-ignore]

        held["pandas"] = same(
            forecast(pandas.DataFrame(frame.to_dict(as_series=False)), options), wanted, name
        )
    return held | files(frame, options)


def files(frame: pl.DataFrame, options: dict[str, Any]) -> dict[str, bool]:
    """Return whether files of all kinds hold the series of the frame: then they have its forecast."""
    wanted = TableSeries(frame, **options).load()

    def holds(path: Path) -> bool:
        data = TableSeries(path, **options).load()
        order = [data.ids.index(each) for each in wanted.ids]
        parts = (
            [each.values[int(each.offsets[series]) : int(each.ends[series])].numpy() for series in numbers]
            for each, numbers in ((data, order), (wanted, range(wanted.num_series)))
        )
        same_values = all(map(partial(np.array_equal, equal_nan=True), *parts))
        ahead = stamp_series(data.times, order, data.lengths[order], 7)
        own_ahead = stamp_series(wanted.times, range(wanted.num_series), wanted.lengths, 7)
        form = data.table_format.time_format == wanted.table_format.time_format
        return bool(
            same_values and form and ahead.equals(own_ahead) and sorted(data.ids) == sorted(wanted.ids)
        )

    held = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frame.write_csv(folder / "a.csv")
        held["CSV"] = holds(folder / "a.csv")
        frame.write_csv(folder / "b.csv", separator=";")
        held["semicolons"] = holds(folder / "b.csv")
        (folder / "c.csv").write_bytes(b"# exported\n" + (folder / "a.csv").read_bytes())
        held["comment"] = holds(folder / "c.csv")
        frame.write_parquet(folder / "a.parquet")
        held["Parquet"] = holds(folder / "a.parquet")
        (folder / "split").mkdir()
        for number, part in enumerate(frame.iter_slices(37)):
            part.write_csv(folder / "split" / f"{number:03}.csv")
        held["split"] = holds(folder / "split")
    return held


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}\n")
    begin, counts, broken = time.monotonic(), dict[str, list[int]](), list[str]()
    for seed in range(arguments.seed, arguments.seed + arguments.tables):
        random = np.random.default_rng(seed)
        frame, options = random_table(random)
        try:
            held = changed(frame, options, random)
        except Exception as error:
            held = {f"error: {type(error).__name__}": False}
            broken.append(f"{seed}: {error}")
        for truth, holds in held.items():
            count = counts.setdefault(truth, [0, 0])
            count[0], count[1] = count[0] + 1, count[1] + (not holds)
            broken += [] if holds else [f"{seed}: {truth} ({options}, {frame['ds'][0]})"]
    print("| truth | tried | broken |\n|---|---|---|")
    print("\n".join(f"| {truth} | {tried} | {bad} |" for truth, (tried, bad) in counts.items()))
    print(f"\n{time.monotonic() - begin:.0f} s\n" + "\n".join(broken))


if __name__ == "__main__":
    main()
