"""Metamorphic truths: a table written in another way has the same forecast.

    python benchmarks/faults/metamorphic.py --tables 2000

Tables are random: their series, stamps, gaps, names and ids. Sixteen of the same name and kind of stamps are
forecast together by the bundled network, then again with all changes of values beside each other, and one of
them alone: a series must have the same forecast in all of them, as text where stamps and ids are concerned.
What changes the file alone must give the same series and stamps. Printed are counts and what was broken.
"""

import argparse
import logging
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
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
TOGETHER, HORIZON = 16, 5
SAME, ROUNDED = 1e-5, 2e-3
"""Differences of forecasts in spreads of their series: as they are, and in other units of float32."""

Options = dict[str, Any]


def every(
    first: datetime, step: timedelta, is_open: Callable[[datetime], bool]
) -> Callable[[int], list[Any]]:
    """Return a function that gives so many stamps of the open steps from the first one on."""

    def stamps(number: int) -> list[Any]:
        found, stamp = list[Any](), first
        while len(found) < number:
            found += [stamp] if is_open(stamp) else []
            stamp += step
        return found

    return stamps


def kinds_of_stamps(random: np.random.Generator) -> list[tuple[Callable[[int], list[str]], str | None]]:
    """Return functions that write so many stamps of each kind, and their format where one must be given."""
    begin = datetime(2015, 1, 5) + timedelta(int(random.integers(0, 2000)))
    day, hour, month = timedelta(1), timedelta(hours=1), int(random.integers(0, 12))

    def always(stamp: datetime) -> bool:
        return True

    def written(form: str, step: timedelta, is_open: Callable[[datetime], bool] = always) -> Any:
        series = every(begin, step, is_open)
        return lambda number: [stamp.strftime(form) for stamp in series(number)]

    def of_months(form: str) -> Callable[[int], list[str]]:
        dates = [date(2012 + (month + step) // 12, (month + step) % 12 + 1, 1) for step in range(200)]
        return lambda number: [f"{each:{form}}" for each in dates[:number]]

    return [
        (written("%Y-%m-%d", day), None),
        (written("%-m/%-d/%Y", day), "%m/%d/%Y"),
        (written("%b %-d %Y", day), "%b %d %Y"),
        (written("%y%m%d", day), None),
        (written("%Y%j", day), "%Y%j"),
        (written("%Y-%m-%d %H:%M:%S", hour), None),
        (written("%Y-%m-%dT%H:%M", hour / 4), None),
        (written("%Y%m%d%H", hour), None),
        (written("%G-W%V", 7 * day), None),
        (of_months("%Y%m"), None),
        (of_months("%Y-%m"), None),
        (of_months("%b-%y"), "%b-%y"),
        (lambda number: [f"{1990 + step // 4}Q{step % 4 + 1}" for step in range(number)], None),
        (lambda number: [f"{1950 + step // 2}H{step % 2 + 1}" for step in range(number)], None),
        (lambda number: [str(step) for step in range(number)], None),
        (lambda number: [f"{step / 10:.1f}" for step in range(number)], None),
        (written("%Y-%m-%d", day, lambda each: each.weekday() < 5), None),
        (written("%Y-%m-%d", day, lambda each: each.weekday() < 6), None),
        (written("%d.%m.%Y", day, lambda each: each.day in (1, 15)), "%d.%m.%Y"),
        (written("%Y%m%d", day, lambda each: each.day in (1, 11, 21)), None),
        (written("%Y-%m-%d", day, lambda each: each.weekday() == 4 and 15 <= each.day <= 21), None),
        (written("%Y-%m-%d %H:%M", hour, lambda each: 9 <= each.hour < 18), None),
    ]


def random_values(random: np.random.Generator, number: int, gaps: float) -> np.ndarray:
    """Return the values of a series of some level, with or without a season, NaN where unknown."""
    level, step = float(random.choice([1.0, 50.0, 2000.0])), np.arange(number)
    period = int(random.choice([1, 4, 7, 12]))
    pattern = random.standard_normal(period)[step % period]
    values = level * (10 + pattern + 0.02 * step + 0.3 * random.standard_normal(number))
    values[random.random(number) < gaps] = np.nan
    values[[0, -1]] = level * 10
    return np.round(values, 4)


def random_tables(random: np.random.Generator) -> tuple[list[pl.DataFrame], Options]:
    """Return tables of one to four series each, and the options by which they are read."""
    kinds = kinds_of_stamps(random)
    write, form = kinds[int(random.integers(len(kinds)))]
    name, gaps = str(random.choice(NAMES)), float(random.choice([0.0, 0.0, 0.0, 0.04]))
    tables = []
    for number in range(TOGETHER):
        length, count = int(random.integers(24, 90)), int(random.integers(1, 5))
        stamps, parts = write(length), []
        for each in random.choice(IDS, count, replace=False).tolist():
            values = random_values(random, length, gaps)
            parts.append(pl.DataFrame({"unique_id": f"{each}{number}", "ds": stamps, name: values}))
        tables.append(pl.concat(parts).with_columns(pl.col(name).fill_nan(None)))
    return tables, {"target_columns": [name], **({} if form is None else {"time_format": form})}


def forecast(frame: pl.DataFrame, options: Options, with_intervals: bool = False) -> pl.DataFrame:
    """Return the forecast by the bundled network in the order of ids and steps."""
    levels: list[int] | None = None if with_intervals else []
    result: Any = forecast_frame(PretrainedForecaster(), frame, HORIZON, levels=levels, **options)
    step = pl.int_range(pl.len()).over("unique_id").alias("step")
    return pl.DataFrame(result).with_columns(step).sort("unique_id", "step")


def spreads(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return the standard deviation of each series."""
    return frame.group_by("unique_id").agg(pl.col(name).std().fill_null(1.0).alias("spread"))


def same(
    result: pl.DataFrame,
    wanted: pl.DataFrame,
    frame: pl.DataFrame,
    change: tuple[str, float, float] = ("", 1.0, 0.0),
    tolerance: float = SAME,
) -> bool:
    """Return True if a forecast has the wanted one with another id, scaled and shifted.

    Args:
        result: a forecast with these series among others.
        wanted: the forecast as it was.
        frame: the table that has the spreads of the series.
        change: the begin of the id in ``result``, and a factor and a constant of the values.
        tolerance: difference in spreads that counts as none.
    """
    begin, scale, shift = change
    *_, name = frame.columns
    ids = wanted.with_columns(unique_id=begin + pl.col("unique_id"))
    own = result.join(ids.select("unique_id").unique(), on="unique_id", how="semi").sort("unique_id", "step")
    ids = ids.sort("unique_id", "step")
    if not own.select("unique_id", "ds").equals(ids.select("unique_id", "ds")):
        return False
    spread = wanted.join(spreads(frame, name), on="unique_id", how="left").sort("unique_id", "step")["spread"]
    columns = [each for each in wanted.columns if each not in ("unique_id", "ds", "step")]
    for column in columns:
        given, expected = own[column].to_numpy(), ids[column].to_numpy()
        allowed = abs(scale) * (tolerance * spread.to_numpy() + 1e-6 * np.abs(expected)) + 1e-6 * abs(shift)
        if not (np.abs(given - expected * scale - shift) <= allowed).all():
            return False
    return True


def changed(random: np.random.Generator) -> tuple[dict[str, bool], Options, str]:
    """Return for every truth whether it holds for some random tables, and how they are read."""
    tables, options = random_tables(random)
    frame, (name,) = pl.concat(tables), options["target_columns"]
    *_, first_stamp = frame["ds"].to_list()[:1]
    wanted, held = forecast(frame, options), {}
    # Below 0, because the trend of positive series is one of their logarithms too, and by the level of each
    # series, because float32 has no digits left for a series of 10 beside 50,000.
    shift = -pl.col(name).abs().max().over("unique_id").round()
    noise = random_values(random, 60, 0.0)
    stamps = tables[0].filter(pl.col("unique_id") == tables[0]["unique_id"][0])["ds"].head(60)
    beside = pl.DataFrame({"unique_id": "beside", "ds": stamps, name: 1e3 * noise[: len(stamps)]})
    changes = {
        "ids": ("id ", 1.0, 0.0),
        "units": ("8 ", 8.0, 0.0),
        "units of 1/1000": ("milli ", 0.001, 0.0),
        "below 0": ("2 ", 1.0, 0.0),
        "constant": ("3 ", 1.0, 0.0),
    }
    parts = [
        frame.with_columns(
            pl.col(name) * scale + {"2 ": 2, "3 ": 3}.get(begin, 0) * shift,
            unique_id=begin + pl.col("unique_id"),
        )
        for begin, scale, _ in changes.values()
    ]
    every = pl.concat([*parts, beside]).sample(fraction=1, shuffle=True, seed=int(random.integers(99)))
    result = forecast(every, options)
    for truth in ("ids", "units", "units of 1/1000"):
        tolerance = SAME if truth == "ids" else ROUNDED
        held[truth] = same(result, wanted, frame, changes[truth], tolerance)
    levels = frame.group_by("unique_id").agg(pl.col(name).abs().max().round().alias("level"))
    back = [
        result.filter(pl.col("unique_id").str.starts_with(f"{times} "))
        .with_columns(pl.col("unique_id").str.strip_prefix(f"{times} "))
        .join(levels, on="unique_id")
        .with_columns(pl.col(name) + times * pl.col("level"))
        .drop("level")
        for times in (2, 3)
    ]
    held["constant"] = same(back[1], back[0], frame, tolerance=ROUNDED)
    alone = tables[int(random.integers(TOGETHER))].sample(fraction=1, shuffle=True, seed=1)
    its = wanted.join(alone.select("unique_id").unique(), on="unique_id", how="semi")
    held["alone"] = same(forecast(alone, options), its, frame)
    return held | files(frame, options, random), options, str(first_stamp)


def intervals(random: np.random.Generator) -> dict[str, bool]:
    """Return whether intervals too are the same for other rows, columns and units."""
    tables, options = random_tables(random)
    frame, (name,) = tables[0], options["target_columns"]
    wanted = forecast(frame, options, True)
    other = frame.select(reversed(frame.columns)).sample(fraction=1, shuffle=True, seed=3)
    result = forecast(other.with_columns(pl.col(name) * 8), options, True)
    return {"intervals": same(result, wanted, frame, ("", 8.0, 0.0), ROUNDED)}


def files(frame: pl.DataFrame, options: Options, random: np.random.Generator) -> dict[str, bool]:
    """Return whether frames and files of all kinds hold the series of the frame, and so have its forecast."""
    wanted = TableSeries(frame, **options).load()

    def holds(table: Path | pl.DataFrame, **more: Any) -> bool:
        data = TableSeries(table, **options, **more).load()
        if sorted(data.ids) != sorted(wanted.ids):
            return False
        order = [data.ids.index(each) for each in wanted.ids]
        parts = (
            [each.values[int(each.offsets[series]) : int(each.ends[series])].numpy() for series in numbers]
            for each, numbers in ((data, order), (wanted, range(wanted.num_series)))
        )
        same_values = all(map(partial(np.array_equal, equal_nan=True), *parts))
        ahead = stamp_series(data.times, order, data.lengths[order], 7)
        own_ahead = stamp_series(wanted.times, range(wanted.num_series), wanted.lengths, 7)
        form = data.table_format.time_format == wanted.table_format.time_format
        return bool(same_values and form and ahead.equals(own_ahead))

    seed = int(random.integers(99))
    held = {
        "rows": holds(frame.sample(fraction=1, shuffle=True, seed=seed)),
        "columns": holds(frame.select(reversed(frame.columns)).with_columns(extra=pl.lit("x"))),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frame.write_csv(folder / "a.csv")
        held["CSV"] = holds(folder / "a.csv")
        frame.write_csv(folder / "b.csv", separator=";", quote_style="always", line_terminator="\r\n")
        held["semicolons, quotes, \\r\\n"] = holds(folder / "b.csv")
        (folder / "c.csv").write_bytes(b"\xef\xbb\xbf# exported\n" + (folder / "a.csv").read_bytes())
        held["comment"] = holds(folder / "c.csv")
        frame.write_parquet(folder / "a.parquet")
        held["Parquet"] = holds(folder / "a.parquet")
        (folder / "split").mkdir()
        for number, part in enumerate(frame.iter_slices(int(random.integers(11, 97)))):
            part.write_csv(folder / "split" / f"{number:03}.csv")
        held["split"] = holds(folder / "split")
    return held


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print(
        f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}\n", flush=True
    )
    begin, counts, broken = time.process_time(), dict[str, list[int]](), 0
    for number in range(arguments.tables // TOGETHER):
        seed = arguments.seed + number
        random, where = np.random.default_rng(seed), ""
        try:
            held, options, stamp = changed(random)
            where = f"{options}, {stamp}"
            held |= intervals(random) if number % 10 == 0 else {}
        except Exception as error:
            held, where = {f"error: {type(error).__name__}": False}, str(error)
        for truth, holds in held.items():
            count = counts.setdefault(truth, [0, 0])
            count[0] += 1 if truth in ("intervals", "alone") else TOGETHER
            count[1] += not holds
            if not holds:
                broken += 1
                print(f"{seed}: {truth} ({where})", flush=True)
    print("| truth | tables tried | groups broken |\n|---|---|---|")
    print("\n".join(f"| {truth} | {tried} | {bad} |" for truth, (tried, bad) in counts.items()))
    print(f"\n{broken} broken, {time.process_time() - begin:.0f} s of CPU")


if __name__ == "__main__":
    main()
