import json
import math
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import date, datetime, timedelta
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from rnn_lightning import Forecaster, PredictionIntervals, PretrainedForecaster, SineSeries
from rnn_lightning.cli.arguments import Request
from rnn_lightning.cli.main import COMMANDS, short_help
from rnn_lightning.errors import InputError
from rnn_lightning.losses import training_loss
from rnn_lightning.metrics import FreeRunError

Call = Callable[..., None]
SHORT = (
    "--trainer.max_epochs=1",
    "--trainer.log_every_n_steps=10",
    "--data.num_batches_per_epoch=20",
    "--model.hidden_size=6",
)


def error_of(call: Call, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as ended:
        call(*args)
    assert ended.value.code == 2
    return capsys.readouterr().err


def saved_config(folder: str) -> Any:
    return yaml.safe_load(Path(folder, "config.yaml").read_text())


@pytest.mark.renders
def test_from_fit_to_forecast_file_and_picture(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    rnn_lightning("fit", *SHORT)
    assert "Saved: runs/default/fit_0/checkpoints/best.ckpt (val_rollout_nrmse " in capsys.readouterr().out
    rnn_lightning("predict", "--data.horizon=7", "--data.context_length=30")
    said = capsys.readouterr().out
    assert "Checkpoint: runs/default/fit_0/checkpoints/best.ckpt" in said
    assert "Forecast: runs/default/predict_0/forecast.csv, runs/default/predict_0/forecast.png" in said
    table = pl.read_csv("runs/default/predict_0/forecast.csv")
    assert table.columns == ["unique_id", "ds", "y", "y-lo-80", "y-hi-80"]
    assert bool(((table["y"] > table["y-lo-80"]) & (table["y"] < table["y-hi-80"])).all())
    assert table["ds"].to_list() == [80.0, 80.2, 80.4, 80.6, 80.8, 81.0, 81.2]
    forecaster = Forecaster.load_from_checkpoint("runs/default/fit_0/checkpoints/best.ckpt")
    context = SineSeries().load().values[-30:].numpy()
    np.testing.assert_allclose(table["y"].to_numpy(), forecaster.forecast(context, 7)[:, 0], rtol=1e-5)
    assert Path("runs/default/predict_0/forecast.png").stat().st_size > 5000
    assert not list(Path("runs/default/predict_0").glob(".*"))
    rnn_lightning("test")
    assert "MASE" in capsys.readouterr().out
    rnn_lightning("validate")
    assert "val_rollout_nrmse" in capsys.readouterr().out


def test_runs_are_kept_apart_and_the_newest_best_checkpoint_is_used(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        rnn_lightning("fit", *SHORT, "--experiment=a")
    rnn_lightning("fit", *SHORT, "--experiment=b")
    rnn_lightning("predict", "--experiment=a")
    rnn_lightning("predict", "--experiment=a", "--data.horizon=3")
    assert "Checkpoint: runs/a/fit_1/checkpoints/best.ckpt" in capsys.readouterr().out
    assert sorted(path.name for path in Path("runs/a").iterdir()) == [
        "fit_0",
        "fit_1",
        "predict_0",
        "predict_1",
    ]
    assert len(pl.read_csv("runs/a/predict_0/forecast.csv")) == 24
    assert len(pl.read_csv("runs/a/predict_1/forecast.csv")) == 3
    for name in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert Path("runs/a/fit_1", name).is_file()
    assert bool(list(Path("runs/a/fit_1").glob("events.out.tfevents.*"))) == bool(find_spec("tensorboard"))


def test_options_come_from_flags_then_configs_then_the_checkpoint(rnn_lightning: Call) -> None:
    rnn_lightning("fit", *SHORT, "--data.series.noise=0.2", "--data.horizon=5", "--data.batch_size=7")
    Path("changed.yaml").write_text("data: {batch_size: 3, horizon: 6}\n")
    rnn_lightning("predict", "--config=changed.yaml", "--data.horizon=9")
    config = saved_config("runs/default/predict_0")
    assert config["model"]["hidden_size"] == 6
    assert config["data"]["series"]["init_args"]["noise"] == 0.2
    assert (config["data"]["batch_size"], config["data"]["horizon"]) == (3, 9)


def test_sampled_paths_give_intervals(rnn_lightning: Call) -> None:
    rnn_lightning("fit", *SHORT)
    rnn_lightning("predict", "--data.num_samples=300", "--forecast.levels=[50, 90]")
    table = pl.read_csv("runs/default/predict_0/forecast.csv")
    assert table.columns == ["unique_id", "ds", "y", "y-lo-50", "y-hi-50", "y-lo-90", "y-hi-90"]
    inside = table.select(
        (pl.col("y-lo-90") < pl.col("y-lo-50"))
        & (pl.col("y-lo-50") < pl.col("y-hi-50"))
        & (pl.col("y-hi-50") < pl.col("y-hi-90"))
    )
    assert inside.to_series().all()
    rnn_lightning("predict", "--data.num_samples=300", "--forecast.levels=[50, 90]", "--forecast.plot=false")
    assert table.equals(pl.read_csv("runs/default/predict_1/forecast.csv"))
    assert not Path("runs/default/predict_1/forecast.png").exists()


def test_without_validation_intervals_are_those_of_paths_or_none(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    rnn_lightning("fit", *SHORT, "--data.val_fraction=0")
    rnn_lightning("predict")
    assert pl.read_csv("runs/default/predict_0/forecast.csv").columns == ["unique_id", "ds", "y"]
    with pytest.raises(SystemExit):
        rnn_lightning("predict", "--forecast.levels=[50]")
    assert (
        "[50]: there are no prediction intervals, for the network was fitted without validation"
        in capsys.readouterr().err
    )


def test_a_table_needs_no_config(rnn_lightning: Call) -> None:
    rnn_lightning("fit", *SHORT, "--data.series=TableSeries", "--data.series.path=data/airpassengers.csv")
    rnn_lightning("predict", "--forecast.levels=[]")
    Path("other.csv").write_text(
        "ds,y\n" + "".join(f"2020-{month:02d}-29,{month}\n" for month in range(1, 13))
    )
    rnn_lightning("predict", "--data.series.path=other.csv", "--data.context_length=12")
    assert pl.read_csv("runs/default/predict_1/forecast.csv")["ds"][0] == "2021-01-29"
    table = pl.read_csv("runs/default/predict_0/forecast.csv", try_parse_dates=True)
    history = pl.read_csv("data/airpassengers.csv", try_parse_dates=True)
    appended = pl.concat([history.cast({"y": pl.Float64}), table])
    assert (
        appended["ds"].to_list()
        == pl.date_range(pl.date(1949, 1, 1), pl.date(1962, 12, 1), "1mo", eager=True).to_list()
    )


def test_a_file_is_the_shortest_command(rnn_lightning: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """Two series of other scales and lengths, the second short, with a gap and an empty value."""
    rows = [f"big,2024-{month:02d}-01,{1000 + 100 * month}" for month in range(1, 13)]
    rows += [f"big,2025-{month:02d}-01,{2200 + 100 * month}" for month in range(1, 13)]
    rows += [
        f"small,2025-{month:02d}-01,{'' if month == 9 else month / 10}" for month in (5, 6, 8, 9, 10, 11, 12)
    ]
    Path("sales.csv").write_text("shop,ds,y\n" + "\n".join(rows) + "\n")
    rnn_lightning("fit", "sales.csv", "--data.series.id_column=shop", *SHORT)
    said = capsys.readouterr().out
    assert "2 series" in said
    summary = json.loads(Path("runs/sales/fit_0/data.json").read_text())
    assert summary["missing"]["by_feature"]["y"]["values"] == 2
    assert summary["splits"]["train"]["padded_series"] == 2
    rnn_lightning(
        "predict", "sales.csv", "--data.horizon=3", "--data.num_samples=20", "--forecast.plot_ids=[small]"
    )
    table = pl.read_csv("runs/sales/predict_0/forecast.csv", try_parse_dates=True)
    assert table.columns == ["shop", "ds", "y", "y-lo-80", "y-hi-80"]
    assert table["shop"].to_list() == ["big"] * 3 + ["small"] * 3
    assert table["ds"].to_list() == [date(2026, month, 1) for month in (1, 2, 3)] * 2
    assert not table.null_count().sum_horizontal().item()
    np.save("values.npy", np.sin(0.3 * np.arange(120)).reshape(2, 60, 1))
    rnn_lightning("fit", "values.npy", *SHORT)
    rnn_lightning(
        "predict", "values.npy", "--data.horizon=24", "--forecast.format=parquet", "--forecast.plot=false"
    )
    assert len(pl.read_parquet("runs/values/predict_0/forecast.parquet")) == 2 * 24


def test_a_file_names_an_experiment() -> None:
    for file, experiment in (
        ("a/sales.csv.gz", "sales"),
        ("a/shops/*.parquet", "shops"),
        ("a/shops/", "shops"),
        ("*.csv", "default"),
        ("x.npy", "x"),
    ):
        request = Request.read(["fit", file, "--model.cell=gru"])
        assert (request.file, request.words) == (file, ["--model.cell=gru"])
        assert request.settings["experiment"] == experiment
    assert Request.read(["fit", "a.csv", "--experiment", "b"]).settings["experiment"] == "b"
    with pytest.raises(InputError, match=r"fit sales.csv and --data.series.path both name a table: give one"):
        Request.read(["fit", "sales.csv", "--data.series.path", "other.csv"])
    with pytest.raises(InputError, match=r"fit a.csv b.csv: give one file, a folder, or a pattern in quotes"):
        Request.read(["fit", "a.csv", "b.csv"])


def test_a_network_is_not_asked_for_steps_it_was_not_trained_on(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, unit in (("daily", 24), ("hourly", 1)):
        stamps = [datetime(2025, 1, 1) + timedelta(hours=unit * step) for step in range(60)]
        Path(f"{name}.csv").write_text(
            "ds,y\n" + "".join(f"{stamp.isoformat()},{stamp.day}\n" for stamp in stamps)
        )
    rnn_lightning("fit", "daily.csv", *SHORT)
    error = error_of(rnn_lightning, capsys, "predict", "hourly.csv", "--experiment=daily")
    assert "the series have steps of 1h, and the network was trained on steps of 1d" in error
    Path("numbers.csv").write_text("ds,y\n" + "".join(f"{step},{step % 7}\n" for step in range(60)))
    error = error_of(rnn_lightning, capsys, "predict", "numbers.csv", "--experiment=daily")
    assert "the series have steps of numbers, and the network was trained on steps of 1d" in error


def test_a_calendar_ends_with_the_year_9999(rnn_lightning: Call, capsys: pytest.CaptureFixture[str]) -> None:
    Path("years.csv").write_text(
        "ds,y\n" + "".join(f"{year}-01-01,{year % 7}\n" for year in range(1900, 2000))
    )
    rnn_lightning("fit", "years.csv", *SHORT)
    error = error_of(rnn_lightning, capsys, "predict", "years.csv", "--data.horizon=9000")
    assert "--data.horizon 9000 takes series 'years' past the year 9999" in error
    assert not list(Path("runs/years/predict_0").glob("forecast*"))


def test_a_folder_for_runs_that_cannot_be_written_is_named(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    error = error_of(rnn_lightning, capsys, "fit", *SHORT, "--trainer.default_root_dir=file/runs")
    assert "--trainer.default_root_dir file/runs: cannot be written" in error


def test_covariates_must_reach_over_the_horizon(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"{shop},{step},{step % 5 if step < 50 else ''},{step % 5}" for shop in "ab" for step in range(54)
    ]
    Path("sales.csv").write_text("unique_id,ds,y,promo\n" + "\n".join(rows) + "\n")
    rnn_lightning("fit", "sales.csv", "--data.series.covariate_columns=promo", *SHORT)
    error = error_of(rnn_lightning, capsys, "predict", "sales.csv", "--data.horizon=6")
    assert (
        "the covariate 'promo' is not known over --data.horizon 6 after the last value of 'a' (2 steps, ds "
        "= 54" in error
    )
    assert "'b' (2 steps" in error
    rnn_lightning("predict", "sales.csv", "--data.horizon=4")
    assert pl.read_csv("runs/sales/predict_1/forecast.csv")["ds"].to_list() == [50, 51, 52, 53] * 2


@pytest.mark.parametrize("closed", ["a", "b", "c"])
def test_one_closed_series_does_not_keep_the_others_from_a_forecast(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str], closed: str
) -> None:
    def write(name: str, shops: str, open_ones: str) -> None:
        rows = [
            f"{shop},{step},{step % 5 + ord(shop) if step < 50 else ''},{step % 5}"
            for shop in shops
            for step in range(60 if shop in open_ones else 50)
        ]
        Path(name).write_text("unique_id,ds,y,promo\n" + "\n".join(rows) + "\n")

    others = "abc".replace(closed, "")
    write("sales.csv", "abc", others)
    write("others.csv", others, others)
    covariates = "--data.series.covariate_columns=promo"
    rnn_lightning("fit", "sales.csv", covariates, "--data.horizon=6", *SHORT)
    note = f"predict will leave out 1 series, '{closed}', unless rows after their last value give covariates"
    assert note in capsys.readouterr().out
    rnn_lightning("predict", "sales.csv", "--forecast.num_paths=1", "--data.num_samples=2")
    said = capsys.readouterr().out
    assert "Note: 1 of 3 series are not forecast" in said
    assert f"'promo' is not known over --data.horizon 6 after the last value of '{closed}' (6 steps" in said
    rnn_lightning("predict", "others.csv", "--experiment=sales")
    forecasts = [pl.read_csv(f"runs/sales/predict_{number}/forecast.csv") for number in range(2)]
    assert forecasts[0]["unique_id"].unique(maintain_order=True).to_list() == list(others)
    columns = ["unique_id", "ds", "y", "y-lo-80", "y-hi-80"]
    assert forecasts[0].select(columns).equals(forecasts[1].select(columns))
    error = error_of(rnn_lightning, capsys, "predict", "sales.csv", "--forecast.skip_incomplete=false")
    assert f"after the last value of '{closed}'" in error
    rnn_lightning("test", "sales.csv")  # its past is known
    assert pl.read_csv("runs/sales/test_0/scores.csv")["unique_id"].unique().sort().to_list() == [
        "a",
        "b",
        "c",
    ]
    rnn_lightning(
        "predict", "sales.csv", "--output=table.csv", "--trainer.default_root_dir=never_fitted", covariates
    )
    everything = pl.read_csv("table.csv")  # of the bundled network, which ignores covariates
    assert everything["unique_id"].unique().sort().to_list() == ["a", "b", "c"]


def test_a_series_of_the_users_own_file(rnn_lightning: Call, capsys: pytest.CaptureFixture[str]) -> None:
    Path("my_series.py").write_text(
        "import torch\n"
        "from rnn_lightning import Series, SeriesData\n"
        "class Steps(Series):\n"
        "    '''A staircase.\n\n    Args:\n        height: height of a step.\n    '''\n"
        "    def __init__(self, height: float = 1.0):\n"
        "        self.height = height\n"
        "    def load(self):\n"
        "        return SeriesData.from_equal(self.height * (torch.arange(200.0) // 5).view(1, -1, 1))\n"
    )
    rnn_lightning("fit", *SHORT, "--data.series=my_series.Steps", "--data.series.height=2")
    error = error_of(rnn_lightning, capsys, "predict")
    assert "names the class 'my_series.Steps', which is no part of rnn-lightning" in error
    assert "If you trust it, say so: --data.series my_series.Steps" in error
    rnn_lightning("predict", "--data.series=my_series.Steps")
    assert saved_config("runs/default/predict_0")["data"]["series"]["init_args"] == {"height": 2.0}
    capsys.readouterr()
    with pytest.raises(SystemExit):
        rnn_lightning("fit", "--data.series.help", "my_series.Steps")
    assert "height of a step. (type: float, default: 1.0)" in capsys.readouterr().out


def test_several_features_reach_the_network_by_themselves(rnn_lightning: Call) -> None:
    rnn_lightning(
        "fit", *SHORT, "--data.series=RandomSeries", "--data.series.num_features=2",
        "--data.series.num_series=20", "--data.split_by=series", "--data.context_length=3",
        "--data.scored_length=4", "--data.horizon=2",
    )  # fmt: skip
    rnn_lightning("predict")
    table = pl.read_csv("runs/default/predict_0/forecast.csv")
    bounds = [f"y{feature}{end}" for feature in range(2) for end in ("", "-lo-80", "-hi-80")]
    assert table.columns == ["unique_id", "ds", *bounds]
    assert len(table) == 40
    assert table["unique_id"].to_list() == [index for index in range(20) for _ in range(2)]


@pytest.mark.parametrize(
    ("changed", "last_step"),
    [
        ([], 60),
        (["--model.num_layers=2", "--model.dropout=0.4"], 60),
        (["--trainer.accumulate_grad_batches=3"], 21),
    ],
)
def test_a_resumed_fit_goes_on(
    rnn_lightning: Call, monkeypatch: pytest.MonkeyPatch, changed: list[str], last_step: int
) -> None:
    """Stopped between two epochs, and in the middle of the gradients that are accumulated."""
    stop_at = last_step // 2 + 5
    sent: list[bool] = []

    def interrupt(self: Forecaster, *_: Any) -> None:
        if self.global_step == stop_at - 1 and not sent:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGTERM)  # stops after the next optimizer step

    def weights(run: str) -> dict[str, torch.Tensor]:
        checkpoint = torch.load(f"runs/default/{run}/checkpoints/last.ckpt", weights_only=True)
        assert checkpoint["global_step"] == last_step
        return checkpoint["state_dict"]

    options = (*SHORT, *changed, "--trainer.max_epochs=3")
    rnn_lightning("fit", *options)
    with monkeypatch.context() as patch:
        patch.setattr(Forecaster, "on_train_batch_end", interrupt)
        with pytest.raises(SystemExit) as ended:
            rnn_lightning("fit", *options)
        assert ended.value.code == 143
    assert torch.load("runs/default/fit_1/checkpoints/last.ckpt", weights_only=True)["global_step"] == stop_at
    rnn_lightning("fit", "--ckpt_path=last", *SHORT[1:], *changed, "--trainer.max_epochs=3")
    for name, expected in weights("fit_0").items():
        assert torch.equal(expected, weights("fit_2")[name]), name


def test_a_hang_up_that_nohup_ignores_stays_ignored(
    rnn_lightning: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang_up(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(Forecaster, "on_train_batch_end", hang_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        rnn_lightning("fit", *SHORT)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with pytest.raises(SystemExit) as ended:
            rnn_lightning("fit", *SHORT)
        assert ended.value.code == 129
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_fit_that_is_at_its_end_says_that_nothing_was_trained(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    rnn_lightning("fit", *SHORT)
    assert "nothing was trained" not in capsys.readouterr().out
    rnn_lightning("fit", "--ckpt_path=last", *SHORT)
    assert "nothing was trained" in capsys.readouterr().out
    rnn_lightning("fit", "--ckpt_path=last", *SHORT, "--trainer.max_epochs=2")
    assert "nothing was trained" not in capsys.readouterr().out


def test_a_resumed_fit_keeps_the_best_checkpoint_if_it_finds_no_better_one(
    rnn_lightning: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    rnn_lightning("fit", *SHORT, "--trainer.max_epochs=3")
    best = Path("runs/default/fit_0/checkpoints/best.ckpt").read_bytes()
    with monkeypatch.context() as patch:
        names = ("rmse", "mae", "nrmse", "nrmse_error")
        patch.setattr(FreeRunError, "compute", lambda _: dict.fromkeys(names, torch.tensor(9.0)))
        rnn_lightning("fit", "--ckpt_path=last", *SHORT, "--trainer.max_epochs=4")
        assert Path("runs/default/fit_1/checkpoints/best.ckpt").read_bytes() == best
        patch.setattr(FreeRunError, "compute", lambda _: dict.fromkeys(names, torch.tensor(0.01)))
        rnn_lightning("fit", "--ckpt_path=last", *SHORT, "--trainer.max_epochs=5")
    assert Path("runs/default/fit_2/checkpoints/best.ckpt").read_bytes() != best
    assert Path("runs/default/fit_1/checkpoints/best.ckpt").read_bytes() == best


def test_a_loss_that_turns_nan_stops_with_advice_and_the_best_checkpoint_stays(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    factors = chain([1.0] * 30, [math.nan])
    monkeypatch.setattr(
        "rnn_lightning.forecaster.training_loss", lambda *args: next(factors) * training_loss(*args)
    )
    error = error_of(rnn_lightning, capsys, "fit", *SHORT, "--trainer.max_epochs=3")
    assert "the loss is nan at step 30: training has diverged. Lower --model.learning_rate" in error
    for name in ("best", "last"):
        checkpoint = torch.load(f"runs/default/fit_0/checkpoints/{name}.ckpt", weights_only=True)
        assert all(bool(value.isfinite().all()) for value in checkpoint["state_dict"].values())
    factors = chain([1.0] * 10, [math.nan])
    error = error_of(rnn_lightning, capsys, "fit", *SHORT)
    assert error.endswith("or look for extreme values in the data.\n")
    assert not list(Path("runs/default").glob("fit_1/**/*.ckpt"))


@pytest.mark.parametrize(
    ("args", "messages"),
    [
        (
            ["fit", "--model.hiden_size=3"],
            ["unrecognized arguments: --model.hiden_size=3", "mean --model.hidden_size?"],
        ),
        (
            ["fit", "--trainer.max_epoch=3"],
            ["unrecognized arguments: --trainer.max_epoch=3", "mean --trainer.max_epochs?"],
        ),
        (
            ["fit", "--config=wrong.yaml"],
            ["there is no option 'model.hiden'", "mean --model.hidden_size?"],
        ),
        (["fit", "--model.cell=elman"], ["model.cell", "'rnn_tanh', 'rnn_relu', 'gru', 'lstm'", "elman"]),
        (["fit", "--data.horizon=twelve"], ["--data.horizon: give a whole number or 'auto', not 'twelve'."]),
        (["fit", "--trainer.callbacks+=mine.No"], ["--trainer.callbacks: mine.No: No module named 'mine'."]),
        (
            ["fit", "--data.serie.num_steps=9"],
            ["arguments: --data.serie.num_steps=9. Did you mean --data.series.num_steps?"],
        ),
        (["fit", "--config=configs/sine.yaml", "--epochs=5"], ["Did you mean --trainer.max_epochs?"]),
        (["fit", "--config=configs/sine.yaml", "--model.solvr=auto"], ["Did you mean --model.solver?"]),
        (
            ["fit", "--config=configs/sine.yaml", "--model.transforms=log"],
            ["--model.transforms: give a list, such as '[log]'"],
        ),
        (["fit", "--data.context_length=0"], ["--data.context_length must be at least 1, got 0"]),
        (["fit", f"--data.stride={10**23}"], [f"--data.stride must be at most {2**48:,}, got 1000"]),
        (
            ["predict", "--ckpt_path=ok.ckpt", "--data.horizon=0"],
            ["--data.horizon must be at least 1, got 0"],
        ),
        (
            ["fit", "--data.series.num_steps=1"],
            ["no series has two steps to train on"],
        ),
        (
            ["fit", "--data.series=TableSeries", "--data.series.path=no.csv"],
            ["--data.series.path no.csv: no such file"],
        ),
        (
            ["fit", "--trainer.accelerator=gpu"],
            ["--trainer.accelerator: there is no such device", "choose cpu, or auto"],
        ),
        (
            ["predict"],
            [
                "no best checkpoint in runs/default/fit_*/checkpoints: run fit with the same --experiment "
                "first"
            ],
        ),
        (["fit", "--ckpt_path=last"], ["no last checkpoint in runs/default"]),
        (["test", "--ckpt_path=none.ckpt"], ["--ckpt_path none.ckpt: no such file"]),
        (["predict", "--ckpt_path=cut.ckpt"], ["--ckpt_path cut.ckpt: damaged, or not a checkpoint"]),
        (["predict", "--ckpt_path=empty.ckpt"], ["--ckpt_path empty.ckpt: damaged, or not a checkpoint"]),
        (["predict", "--ckpt_path=flipped.ckpt"], ["--ckpt_path flipped.ckpt: damaged", "archive/data/0"]),
        (["predict", "--ckpt_path=other.ckpt"], ["not a checkpoint of rnn-lightning"]),
        (["fit", "--config=five.yaml"], ["--trainer is a group of options and cannot be set to 5"]),
        (
            ["fit", "--config=list.yaml"],
            ["--config list.yaml, row 1: not a valid config (a config maps options to values"],
        ),
        (["fit", "--config=cut.yaml"], ["--config cut.yaml, row 3: not a valid config"]),
        (["fit", "--config=none.yaml"], ["--config none.yaml: no such file, and no bundled config."]),
        (["fit", "--config=sinus"], ["--config sinus: no such file", "Did you mean sine?"]),
        (["fit", "--lr_scheduler=StepLR", "--lr_scheduler.step_size=1"], ["needs an --optimizer beside it"]),
        (
            ["predict", "--ckpt_path=ok.ckpt", "--model.hidden_size=9"],
            ["--model.hidden_size is 9", "network with 6"],
        ),
        (
            ["predict", "--ckpt_path=ok.ckpt", "--data.series=RandomSeries", "--data.series.num_features=2"],
            ["there are 2 features, and the checkpoint holds a network with 1"],
        ),
        (
            ["predict", "--ckpt_path=ok.ckpt", "--data.num_samples=1"],
            ["--data.num_samples 1: a prediction interval needs at least two"],
        ),
        (["fit", "--seed_everything=-1"], ["--seed_everything must be from 0 to 4294967295, got -1"]),
        (
            ["fit", "--trainer.devices=-3"],
            ["--trainer: --trainer.devices selected with", "should be an int > 0"],
        ),
        (["fit", "--trainer.accumulate_grad_batches=0"], ["--trainer.accumulate_grad_batches must be at"]),
        (
            ["fit", "--data.context_length=1000000000000"],
            ["32 windows of 1,000,000,000,024 steps take", "lower --data.context_length, --data.horizon or"],
        ),
        (["predict", "--ckpt_path=ok.ckpt", "--output=no/x.csv"], ["no/x.csv: the folder no does not exist"]),
        (
            ["fit", "--data.series=TableSeries", "--data.series.frequency", "-1d"],
            ["expected one argument", "begins with a dash follows an equals sign: --option=-1"],
        ),
        (
            ["fit", "--forecast.levels=[100]"],
            ["--forecast.levels are percentages from 1 to 99, such as 80, got 100"],
        ),
    ],
)
def test_wrong_input_ends_before_training_with_the_option_and_the_remedy(
    rnn_lightning: Call,
    capsys: pytest.CaptureFixture[str],
    checkpoint: Path,
    args: list[str],
    messages: list[str],
) -> None:
    if "--trainer.accelerator=gpu" in args and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    whole = checkpoint.read_bytes()
    Path("ok.ckpt").write_bytes(whole)
    Path("cut.ckpt").write_bytes(whole[: len(whole) // 2])
    Path("empty.ckpt").write_bytes(b"")
    with zipfile.ZipFile(checkpoint) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
    position = info.header_offset + 30 + len(info.filename) + 64
    Path("flipped.ckpt").write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    torch.save({"state_dict": {}}, "other.ckpt")
    Path("wrong.yaml").write_text("model: {hiden: 3}\n")
    Path("five.yaml").write_text("trainer: 5\n")
    Path("list.yaml").write_text("- 1\n- 2\n")
    Path("cut.yaml").write_text("data:\n  horizon: [1\n")
    error = error_of(rnn_lightning, capsys, *args)
    for message in messages:
        assert message in error.replace("\n  ", " ")
    assert "Traceback" not in error
    assert not list(Path("runs").rglob("*.ckpt"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from rnn_lightning.cli.command_line import run

    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["rnn-lightning"])
        run(["fit", *SHORT, f"--trainer.default_root_dir={folder}"])
    return folder / "default/fit_0/checkpoints/best.ckpt"


def test_the_config_a_run_leaves_runs_again(rnn_lightning: Call) -> None:
    rnn_lightning("fit", *SHORT)
    rnn_lightning("fit", "--config=runs/default/fit_0/config.yaml")
    first, second = saved_config("runs/default/fit_0"), saved_config("runs/default/fit_1")
    assert first == second
    assert (
        Path("runs/default/fit_0/metrics.csv").read_text()
        == Path("runs/default/fit_1/metrics.csv").read_text()
    )


def test_without_validation_the_best_checkpoint_is_the_last(rnn_lightning: Call) -> None:
    rnn_lightning("fit", *SHORT, "--data.val_fraction=0")
    rnn_lightning("predict")
    assert Path("runs/default/predict_0/forecast.csv").is_file()


def test_help_and_version_come_without_heavy_imports() -> None:
    code = (
        "import sys; from rnn_lightning.cli.main import main; main();heavy = {'torch', 'lightning', "
        "'matplotlib', 'tensorboard', 'polars'} & set(sys.modules); assert not heavy, heavy"
    )
    for option, expected in (("--help", "usage: rnn-lightning"), ("--version", "rnn-lightning 0.1.0")):
        done = subprocess.run(
            [sys.executable, "-c", code, option], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(expected)
    listed = short_help().split("commands:\n")[1].split("\n\n")[0].splitlines()
    assert tuple(line.split()[0] for line in listed) == COMMANDS


def test_export_writes_the_network_of_an_experiment(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    rnn_lightning("fit", "--config=configs/sine.yaml", *SHORT)
    capsys.readouterr()
    rnn_lightning("export", "--experiment=sine", "sine.onnx")
    assert "Export: sine.onnx (" in capsys.readouterr().out
    history = np.sin(0.2 * np.arange(100))
    session = runtime.InferenceSession("sine.onnx", providers=["CPUExecutionProvider"])
    context = history[None, :, None].astype(np.float32)
    noise = np.zeros((1, 1, 1, 1), np.float32)
    forecast, low, high = session.run(None, {"context": context, "horizon": np.array([50]), "noise": noise})
    assert bool(((low < forecast) & (forecast < high)).all())
    forecaster = Forecaster.load_from_checkpoint("runs/sine/fit_0/checkpoints/best.ckpt")
    np.testing.assert_allclose(forecast[0, 0, :, 0], forecaster.forecast(history, 50), atol=1e-5)
    for words, message in (
        (["export", "sine.txt"], "export sine.txt: name one file to write, an ONNX graph such as model.onnx"),
        (["export", "x.onnx", "--experiment=none"], "no best checkpoint in runs/none"),
        (["export", "x.onnx", "--output=y.onnx"], "export x.onnx y.onnx: name one file to write"),
        (["export", "x.onnx", "--levels=80"], "export --levels=80: no such option"),
        (["export", "x.onnx", "--forecast.levels=80"], "--forecast.levels must be a list such as [80, 95]"),
        (["export", "none/x.onnx"], "export none/x.onnx: cannot be written (No such file or directory)"),
        (["export", "x.onnx", "--ckpt_path=none.ckpt"], "--ckpt_path none.ckpt: no such file"),
    ):
        with pytest.raises(SystemExit) as ended:
            rnn_lightning(*words)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_the_pretrained_network_is_exported_before_a_fit_and_its_intervals_after(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    rnn_lightning("export", "--output", "bundled.onnx")
    assert "the pretrained one" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        rnn_lightning("export", "bundled.onnx", "--forecast.levels=[80]")
    assert "--forecast.levels: the pretrained network has no intervals" in capsys.readouterr().err
    rnn_lightning("fit", "data/airpassengers.csv", "--trainer.max_epochs=2", "--data.num_batches_per_epoch=2")
    rnn_lightning("export", "tuned.onnx", "--experiment=airpassengers", "--forecast.levels=[50, 80]")
    assert "returns forecast, lo-50, hi-50, lo-80, hi-80." in capsys.readouterr().out
    values = pl.read_csv("data/airpassengers.csv")["y"].to_numpy()
    context = values[None, :, None].astype(np.float32)
    point = np.zeros((1, 1, 1, 1), np.float32)
    given = {"context": context, "horizon": np.array([24]), "season": np.array([12]), "noise": point}
    (path,) = Path("runs/airpassengers/fit_0/checkpoints").glob("*.ckpt")
    for file, forecaster in (
        ("bundled.onnx", PretrainedForecaster()),
        ("tuned.onnx", PretrainedForecaster.load_from_checkpoint(path)),
    ):
        session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
        forecast, *bounds = session.run(None, given)
        np.testing.assert_allclose(
            forecast[0, 0, :, 0], forecaster.forecast(values, 24, season=12), rtol=1e-5
        )
    intervals = PredictionIntervals.from_checkpoint(path)
    expected = intervals.interval_bounds(
        torch.from_numpy(forecast[0]), torch.from_numpy(context), [50, 80], seasons=torch.tensor([12])
    )
    np.testing.assert_allclose(np.concatenate(bounds), expected, rtol=1e-5)


def test_a_test_compares_with_baselines_and_says_what_was_held_out(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--data.context_length=12", "--data.scored_length=12", "--data.horizon=6")
    rnn_lightning("fit", "data/airpassengers.csv", "--model.hidden_size=4", *SHORT, *options)
    said = capsys.readouterr().out
    assert re.search(r"Validation, 3 forecasts of 6 steps: (worse|better) than seasonal naive; MASE", said)
    rnn_lightning("test", "data/airpassengers.csv", "--data.num_origins=2", "--data.origin_step=1")
    said = capsys.readouterr().out
    assert "test      2 forecasts of 6 steps from the last origins of 1 series\n" in said
    assert "the network was trained on some of these values" not in said
    folder = Path("runs/airpassengers/test_0")
    names = {"scores.csv", "lead_times.csv", "forecasts.csv", "backtest.png", "config.yaml", "metrics.csv"}
    assert names <= {path.name for path in folder.iterdir()}
    forecasts = pl.read_csv(folder / "forecasts.csv")
    assert forecasts["cutoff"].unique().sort().to_list() == ["1960-05-01", "1960-06-01"]
    rnn_lightning("test", "data/airpassengers.csv", "--data.test_fraction=0.3")
    assert "the network was trained on some of these values" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        rnn_lightning("test", "data/airpassengers.csv", "--data.test_fraction=0")
    assert "fit with --data.test_fraction 0.2" in capsys.readouterr().err
    rnn_lightning("predict", "data/airpassengers.csv", "--data.horizon=40", "--forecast.plot=false")
    assert "validated up to 6 steps ahead, and --data.horizon is 40" in capsys.readouterr().out


def test_without_a_terminal_there_is_a_line_an_epoch_or_with_quiet_none(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", "--config=configs/sine.yaml", "--trainer.max_epochs=2", "--data.num_batches_per_epoch=3"]
    fit.append("--data.final_fit_on_all=false")
    rnn_lightning(*fit)
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if line.startswith("epoch ")]
    assert [line.split("  ")[:2] for line in lines] == [["epoch 1/2", "step 3"], ["epoch 2/2", "step 6"]]
    assert "val_rollout_nrmse" in lines[0]
    assert "s left" in lines[0]
    assert "\r" not in said
    assert len(said) < 3000
    rnn_lightning(*fit, "--quiet", "--trainer.logger=false")
    quiet = capsys.readouterr().out
    assert "epoch" not in quiet
    assert "columns" not in quiet
    assert Path("runs/sine/fit_1/checkpoints/best.ckpt").is_file()
    assert {path.name for path in Path().iterdir()} == {"configs", "data", "runs"}


def test_an_output_is_written_alone(rnn_lightning: Call, capfd: pytest.CaptureFixture[str]) -> None:
    rnn_lightning("fit", "--config=configs/sine.yaml", *SHORT)
    capfd.readouterr()
    rnn_lightning("predict", "--experiment=sine", "--data.horizon=3", "--output", "-")
    table = capfd.readouterr().out
    assert table.splitlines()[0].startswith("unique_id,ds,y")
    assert len(table.splitlines()) == 4
    rnn_lightning("predict", "--experiment=sine", "--data.horizon=3", "--output=forecast.parquet")
    assert len(pl.read_parquet("forecast.parquet")) == 3
    assert [path.name for path in Path("runs/sine").iterdir()] == ["fit_0"]


def test_a_file_is_read_as_a_table_whatever_the_network_was_fitted_on(rnn_lightning: Call) -> None:
    rnn_lightning("fit", "--config=configs/linear.yaml", *SHORT)
    Path("five.csv").write_text("ds,y\n" + "\n".join(f"{step},{2 * step}" for step in range(9)) + "\n")
    rnn_lightning("predict", "five.csv", "--experiment=linear", "--data.horizon=2", "--output=out.csv")
    assert pl.read_csv("out.csv")["ds"].to_list() == [9, 10]


MINE = """
from rnn_lightning import Forecaster

class Mine(Forecaster):
    def __init__(self, extra: float = 1.0, **options):
        super().__init__(**options)
        self.extra = extra

    def on_fit_end(self):
        (optimizer,) = self.trainer.optimizers
        print(type(optimizer).__name__, optimizer.param_groups[0]["weight_decay"], self.extra)
"""


def test_networks_and_optimizers_of_the_users_own(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine_of_test_cli.py").write_text(MINE)
    options = ["--optimizer=AdamW", "--optimizer.lr=0.01", "--optimizer.weight_decay=0.3"]
    mine = ["--model", "mine_of_test_cli.Mine", "--model.extra=3"]
    rnn_lightning("fit", "--config=configs/sine.yaml", *SHORT, *mine, *options)
    assert "AdamW 0.3 3.0" in capsys.readouterr().out
    for words, message in (
        (["--model", "rnn_lightning.SineSeries"], "must be a subclass of rnn_lightning.Forecaster"),
        (["--model=nowhere.Mine"], "--model nowhere.Mine: there is no such class"),
        (["--trainer.logger=WandbLogger"], "a package is missing: Requirement 'wandb"),
        (
            [*SHORT, "--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=loss"],
            "--trainer.callbacks: early stopping conditioned on metric `loss`",
        ),
        (
            ["--model.cell=elman"],
            "--model.cell: give one of 'rnn_tanh', 'rnn_relu', 'gru', 'lstm', not",
        ),
    ):
        if "Wandb" in words[0] and find_spec("wandb"):
            continue
        with pytest.raises(SystemExit) as ended:
            rnn_lightning("fit", "--config=configs/sine.yaml", *words)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_a_forecast_says_which_series_of_the_fit_are_gone(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{name},{step},{step % 4}" for name in "ab" for step in range(40)]
    Path("two.csv").write_text("\n".join(["unique_id,ds,y", *rows]))
    Path("one.csv").write_text("\n".join(["unique_id,ds,y", *rows[:40]]))
    rnn_lightning("fit", "two.csv", "--experiment=x", "--data.num_batches_per_epoch=1")
    rnn_lightning("predict", "two.csv", "--experiment=x")
    assert "of the fit" not in capsys.readouterr().out
    rnn_lightning("predict", "one.csv", "--experiment=x")
    assert "Note: series 'b' of the fit is not in this table." in capsys.readouterr().out
