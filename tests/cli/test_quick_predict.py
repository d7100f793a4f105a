"""A forecast without a fit takes a short way, which imports no Lightning and says and writes the same."""

import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from rnn_lightning import PretrainedForecaster, forecast_frame
from rnn_lightning.cli.arguments import Request
from rnn_lightning.cli.quick_predict import parse_quickly

Call = Callable[..., None]
LONG = "--trainer.enable_model_summary=false"
"""An option of the Trainer, which changes nothing but the way."""

NO_PICTURE = "--forecast.plot=false"

HEAVY = "{'lightning', 'torch._dynamo', 'sympy', 'torchmetrics', 'matplotlib'}"


def sales() -> pl.DataFrame:
    """Monthly series with a season, without one, short, with a gap, and intermittent, beside a covariate."""
    random, frames = np.random.default_rng(0), []
    months = pl.date_range(date(2015, 1, 1), date(2022, 12, 1), "1mo", eager=True)
    for name, length in (("a", 90), ("b", 60), ("short", 9), ("gap", 80), ("rare", 70)):
        steps = np.arange(length + 6)
        values = 50 + 10 * np.sin(2 * np.pi * steps / 12) * (name != "b") + random.normal(size=len(steps))
        values = random.poisson(0.3, len(steps)).astype(float) if name == "rare" else values
        values[length:] = np.nan
        values[40 if name == "gap" else length] = np.nan
        columns = {"ds": months[: len(steps)], "y": values, "promo": steps % 5 == 0}
        frames.append(pl.DataFrame(columns, nan_to_null=True).with_columns(pl.lit(name).alias("unique_id")))
    return pl.concat(frames).cast({"promo": pl.Int32})


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--data.num_samples=6", "--forecast.levels=[50, 90]", "--forecast.num_paths=2", "--data.horizon=3"],
        ["--data.series.covariate_columns=[promo]", "--data.horizon=6", "--forecast.point=mean", NO_PICTURE],
        ["--data.val_fraction=0", "--data.season=none", "--forecast.format=parquet", NO_PICTURE],
        ["--data.test_fraction=0.2", "--quiet", NO_PICTURE],
        ["--output=table.csv", "--forecast.levels=[]"],
    ],
)
def test_both_ways_say_and_write_the_same(
    options: list[str], rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    sales().drop_nulls("y").write_csv("sales.csv")
    if "--data.series.covariate_columns=[promo]" in options:
        sales().write_csv("sales.csv")
    said, written, configs = [], [], []
    for number, way in enumerate(([], [LONG])):
        rnn_lightning("predict", "sales.csv", *options, *way)
        said.append(capsys.readouterr().out.replace(f"predict_{number}", "predict"))
        folder = Path(f"runs/sales/predict_{number}")
        paths = [path for path in folder.glob("*") if "tfevents" not in path.name]  # of TensorBoard
        files = {path.name: path.read_bytes() for path in paths}
        files |= {path.name: path.read_bytes() for path in Path().glob("table.csv")}
        configs.append(yaml.safe_load(files.pop("config.yaml", b"{}")))
        written.append(files)
    assert said[0] == said[1]
    is_short = said[0].startswith("Forecast: ") and said[0].count("\n") == 1
    assert is_short == ("--quiet" in options)
    written[1].pop("hparams.yaml", None)  # Lightning's copy of the config
    assert written[0] == written[1]
    assert configs[0].items() <= configs[1].items()
    assert configs[1].keys() - configs[0].keys() <= {
        *("seed_everything", "model", "trainer", "backtest", "optimizer", "lr_scheduler"),
    }


def test_the_short_way_imports_nothing_of_lightning(tmp_path: Path) -> None:
    sales().drop_nulls("y").write_csv(tmp_path / "sales.csv")
    command = f"""
import sys
sys.argv = ["rnn-lightning", "predict", "sales.csv", "--output", "table.csv", "--data.horizon", "3"]
from rnn_lightning.cli.main import main
main()
heavy = {HEAVY} & set(sys.modules)
assert not heavy, heavy
"""
    frame = f"""
import sys
import polars as pl
from rnn_lightning import forecast_frame
forecast_frame(None, pl.read_csv("sales.csv", try_parse_dates=True), horizon=3).write_csv("frame.csv")
heavy = {HEAVY} & set(sys.modules)
assert not heavy, heavy
"""
    for code in (command, frame):
        subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
    assert len(pl.read_csv(tmp_path / "table.csv")) == 5 * 3
    assert len(pl.read_csv(tmp_path / "frame.csv")) == 5 * 3


def test_a_frame_is_forecast_by_the_bundled_network_as_by_its_module() -> None:
    frame = sales().drop_nulls("y").drop("promo")
    found, expected = (forecast_frame(each, frame, horizon=4) for each in (None, PretrainedForecaster()))
    assert isinstance(found, pl.DataFrame)
    assert isinstance(expected, pl.DataFrame)
    assert found.columns == ["ds", "y", "y-lo-80", "y-hi-80", "unique_id"]
    assert found.equals(expected)


@pytest.mark.parametrize(
    ("words", "is_quick"),
    [
        ("predict sales.csv", True),
        ("predict sales.csv --output f.csv --data.horizon 3 --quiet", True),
        ("predict sales.csv --data.series.id_column=shop", True),
        ("predict fitted.csv", False),
        ("predict sales.csv --experiment other", False),
        ("predict sales.csv --ckpt_path last", False),
        ("predict sales.csv --config some.yaml", False),
        ("predict sales.csv --trainer.accelerator gpu", False),
        ("predict sales.csv --model.hold_outs=never", False),
        ("predict sales.csv --model mine.MyForecaster", False),
        ("predict sales.csv --data.series mine.MySeries", False),
        ("predict sales.csv --data.horizn 3", False),
        ("predict sales.csv --data.horizon three", False),
        ("predict sales.csv --help", False),
        ("predict sales.npy", False),
        ("predict", False),
        ("fit sales.csv", False),
    ],
)
def test_whatever_needs_lightning_takes_the_long_way(
    words: str, is_quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("some.yaml").write_text("data: {horizon: 3}\n")
    Path("runs/fitted/fit_0/checkpoints").mkdir(parents=True)
    Path("runs/fitted/fit_0/checkpoints/best.ckpt").touch()
    assert (parse_quickly(Request.read(words.split())) is not None) == is_quick
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert parse_quickly(Request.read(words.split())) is None


def test_an_output_that_cannot_be_written_ends_before_the_work(
    rnn_lightning: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(**_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    sales().drop_nulls("y").write_csv("sales.csv")
    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(SystemExit):
        rnn_lightning("predict", "sales.csv", "--output=table.csv")
    assert "--output table.csv: cannot be written (Permission denied)" in capsys.readouterr().err


def test_series_of_two_rows_are_forecast(rnn_lightning: Call) -> None:
    Path("two.csv").write_text("ds,y\n2024-01-01,5\n2024-02-01,6\n")
    rnn_lightning("predict", "two.csv", "--data.horizon=2", "--output=table.csv")
    table = pl.read_csv("table.csv")
    assert table["ds"].to_list() == ["2024-03-01", "2024-04-01"]
    assert table["y"].is_between(4, 8).all()


def test_a_forecast_has_the_decimal_sign_of_its_table_and_can_be_appended(rnn_lightning: Call) -> None:
    rows = [f"01.0{month}.2024;{100 + month},5" for month in range(1, 10)]
    Path("sales.csv").write_text("\n".join(["Monat;Umsatz", *rows, ""]))
    options = ["--data.series.time_format=%d.%m.%Y", "--data.horizon=2", "--forecast.levels=[]"]
    rnn_lightning("predict", "sales.csv", *options, "--output=table.csv")
    header, *new = Path("table.csv").read_text().splitlines()
    assert header == "Monat;Umsatz"
    assert all("," in line and "." not in line.partition(";")[2] for line in new)
    Path("sales.csv").write_text("\n".join(["Monat;Umsatz", *rows, *new, ""]))
    rnn_lightning("predict", "sales.csv", *options, "--output=table.csv")
    assert Path("table.csv").read_text().splitlines()[1].startswith("01.12.2024;")


def test_covariates_that_the_bundled_network_ignores_are_named(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    sales().drop_nulls("y").write_csv("sales.csv")
    rnn_lightning("predict", "sales.csv", "--data.series.past_covariate_columns=[promo]", NO_PICTURE)
    assert "ignores covariates ('promo') until it is fitted" in capsys.readouterr().out


@pytest.mark.parametrize("way", [[], [LONG]])
def test_the_bundled_network_needs_no_covariates_of_the_future(way: list[str], rnn_lightning: Call) -> None:
    sales().drop_nulls("y").write_csv("sales.csv")
    rnn_lightning("predict", "sales.csv", "--output=without.csv", "--data.horizon=3", *way)
    known = "--data.series.covariate_columns=[promo]"
    rnn_lightning("predict", "sales.csv", known, "--output=with.csv", "--data.horizon=3", *way)
    assert pl.read_csv("with.csv").equals(pl.read_csv("without.csv"))


@pytest.mark.parametrize("extra", [(), (LONG,)])
def test_a_forecast_is_not_written_where_it_is_read_as_history(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str], extra: tuple[str, ...]
) -> None:
    Path("in").mkdir()
    for name in ("in/sales.csv", "sales.csv"):
        sales().drop_nulls("y").drop("promo").write_csv(name)
    before = Path("sales.csv").read_bytes()
    for table, output in (
        ("sales.csv", "sales.csv"),
        ("in", "in/f.csv"),
        ("in/[a-s]*.csv", "in/f.csv"),
        ("in/**/*.csv", "in/f.csv"),
    ):
        with pytest.raises(SystemExit):
            rnn_lightning("predict", table, f"--output={output}", "--data.horizon=2", *extra)
        assert f"--output {output} is a part of the table {table}" in capsys.readouterr().err
    assert Path("sales.csv").read_bytes() == before
    rnn_lightning("predict", "in", "--output=f.csv", "--data.horizon=2", *extra)
    assert len(pl.read_csv("f.csv")) == 10
