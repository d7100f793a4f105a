"""Several devices: the same command, the same answer. Processes with gloo, set up as torchrun does."""

import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from polars.testing import assert_frame_equal
from processes import free_port, in_group, results, start_group

from rnn_lightning import Forecaster, RandomSeries, SeriesData, SineSeries, TableDataModule, TableSeries
from rnn_lightning.cli.command_line import run
from rnn_lightning.errors import InputError
from rnn_lightning.evaluation.callbacks import BacktestWriter, ValidationScores
from rnn_lightning.evaluation.prediction_intervals import PredictionIntervals
from rnn_lightning.tables.forecast_options import ForecastOptions
from rnn_lightning.tables.forecast_writer import ForecastWriter


def trainer(folder: Path, **options: Any) -> L.Trainer:
    """A Trainer for as many devices as there are processes in the group."""
    num = int(os.environ.get("WORLD_SIZE", "1"))
    names = ["logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"]
    quiet: dict[str, Any] = dict.fromkeys(names, False)
    settings = {
        "accelerator": "cpu",
        "devices": num,
        "strategy": "ddp" if num > 1 else "auto",
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(**{**quiet, **settings, "default_root_dir": folder, **options})


def forecaster(**options: Any) -> Forecaster:
    """A network with random weights, statistics and noise, the same in every process."""
    torch.manual_seed(0)
    made = Forecaster(**{"num_features": 2, "hidden_size": 8, **options})
    made.network.transforms.fit([torch.rand(20, made.network.num_features)])
    made.network.residual_covariance.copy_(0.01 + 0.02 * torch.eye(made.network.num_features))
    return made


CASES = ((1, 64), (2, 1), (3, 64), (7, 1), (7, 4), (7, 64), (100, 64))
"""Series, and forecasts in a batch: fewer than devices, as many, more, and shares that differ."""


def predict_cases(folder: Path) -> None:
    for num_series, batch_size in CASES:
        datamodule = TableDataModule(
            RandomSeries(num_series, 30, 2),
            context_length=10,
            horizon=5,
            batch_size=batch_size,
            num_samples=20,
        )
        predict = trainer(
            folder / f"{num_series}-{batch_size}", callbacks=[ForecastWriter(ForecastOptions(plot=False))]
        )
        predict.predict(forecaster(), datamodule, return_predictions=False)


def test_predict_writes_the_same_file_whatever_the_number_of_devices(tmp_path: Path) -> None:
    groups = {num: start_group(num, predict_cases, tmp_path / str(num)) for num in (1, 2, 3)}
    for num, group in groups.items():
        assert results(group) == [None] * num
    for num_series, batch_size in CASES:
        whole = 64 if num_series == 7 else batch_size
        expected = pl.read_csv(tmp_path / "1" / f"{num_series}-{whole}" / "forecast.csv")
        index_columns = ["unique_id", "ds"]
        assert expected["unique_id"].to_list() == [index for index in range(num_series) for _ in range(5)]
        values = ["y0", "y0-lo-80", "y0-hi-80", "y1", "y1-lo-80", "y1-hi-80"]
        assert expected.columns == [*index_columns, *values]
        for folder in (tmp_path / str(num) / f"{num_series}-{batch_size}" for num in (1, 2, 3)):
            assert [path.name for path in folder.iterdir()] == ["forecast.csv"]
            table = pl.read_csv(folder / "forecast.csv")
            assert table.select(index_columns).equals(expected.select(index_columns))
            np.testing.assert_allclose(table.select(values), expected.select(values), rtol=1e-6, atol=1e-7)


def predict_shares(folder: Path, *suffixes: str) -> list[str]:
    """Predict on machines of one device each; return what this one read, or why it refused."""
    num = int(os.environ.get("WORLD_SIZE", "1"))
    os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": os.environ.get("RANK", "0")}
    said = []
    for suffix in suffixes:
        series = TableSeries(folder / "part-*.parquet", share_files=True)
        datamodule = TableDataModule(series, 10, horizon=5, batch_size=2, num_samples=20)
        writer = ForecastWriter(ForecastOptions(format=suffix))  # type: ignore[arg-type]
        machines = trainer(folder / f"{suffix}{num}", callbacks=[writer], devices=1, num_nodes=num)
        try:
            machines.predict(forecaster(num_features=1), datamodule, return_predictions=False)
            said.append(" ".join(datamodule.data.ids))
        except InputError as error:
            said.append(str(error))
    if num > 1:
        with pytest.raises(InputError, match="`share_files` is for predict"):
            machines.test(forecaster(num_features=1), datamodule)
    return said


def validate_shares(folder: Path) -> tuple[dict[str, float], str, bool]:
    """Validate on machines of one device each; return the metrics and what is said of them."""
    num = int(os.environ.get("WORLD_SIZE", "1"))
    os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": os.environ.get("RANK", "0")}
    series, scores = TableSeries(folder / "part-*.parquet", share_files=True), ValidationScores(quiet=True)
    datamodule = TableDataModule(series, 10, horizon=2, batch_size=2, val_fraction=0.3)
    machines = trainer(folder / f"validated{num}", callbacks=[scores], devices=1, num_nodes=num)
    (metrics,) = machines.validate(forecaster(num_features=1), datamodule, verbose=False)
    return dict(metrics), scores.latest["verdict"], scores.is_sample


def test_machines_read_their_own_files_and_write_one_forecast(tmp_path: Path) -> None:
    names = ["c", "a", "e", "b", "d"]  # neither in the order of the alphabet, nor as many on each machine
    rng = np.random.default_rng(0)
    for number, name in enumerate(names):
        frame = pl.DataFrame({"unique_id": name, "ds": [*range(30)], "y": rng.random(30)})
        frame.write_parquet(tmp_path / f"part-{number}.parquet")
    alone = start_group(1, validate_shares, tmp_path)
    shared, ((metrics, verdict, is_sample),) = in_group(2, validate_shares, tmp_path), results(alone)
    assert "of 5 series" in verdict
    assert not is_sample
    assert shared == [(pytest.approx(metrics, rel=1e-6), verdict, False)] * 2
    alone = start_group(1, predict_shares, tmp_path, "csv", "parquet")
    assert in_group(2, predict_shares, tmp_path, "csv", "parquet") == [["c a"] * 2, ["e b d"] * 2]
    assert results(alone) == [[" ".join(names)] * 2]
    for suffix, read in (("csv", pl.read_csv), ("parquet", pl.read_parquet)):
        expected, joined = (read(tmp_path / f"{suffix}{num}/forecast.{suffix}") for num in (1, 2))
        assert joined["unique_id"].to_list() == [name for name in names for _ in range(5)]
        assert_frame_equal(joined, expected, rel_tol=1e-6, abs_tol=1e-7)
        written = sorted(path.name for path in (tmp_path / f"{suffix}2").iterdir())
        assert written == [f"forecast.{suffix}", "forecast.png"]


def refused_shares(folders: dict[str, Path]) -> list[str]:
    return [predict_shares(folder, "csv")[0] for folder in folders.values()]


def test_files_that_machines_cannot_share_are_refused_by_all(tmp_path: Path) -> None:
    frame = pl.DataFrame({"unique_id": "c", "ds": [*range(30)], "y": np.arange(30.0)})
    other = frame.with_columns(unique_id=pl.lit("d", pl.Categorical))
    seconds = {
        "series 'c' is in the files of two machines": frame,
        "machine 1 found other columns": other,
        "1 files cannot be shared by 2 machines": None,
    }
    folders = {message: tmp_path / str(number) for number, message in enumerate(seconds)}
    for message, second in seconds.items():
        folders[message].mkdir()
        frame.write_parquet(folders[message] / "part-0.parquet")
        if second is not None:
            second.write_parquet(folders[message] / "part-1.parquet")
    for said in in_group(2, refused_shares, folders):
        for message, line in zip(seconds, said, strict=True):
            assert line.startswith(f"`share_files`: {message}")


def evaluate_cases(folder: Path) -> list[list[float]]:
    cases = []
    for num_series, num_steps, batch_size in ((1, 40, 4), (5, 47, 3)):
        datamodule = TableDataModule(
            RandomSeries(num_series, num_steps, 2), context_length=10, horizon=4, batch_size=batch_size
        )
        model = forecaster()
        intervals = PredictionIntervals()
        check = trainer(folder, callbacks=[intervals, BacktestWriter()])
        values: list[float] = []
        for metrics in (check.validate(model, datamodule), check.test(model, datamodule)):
            values += metrics[0].values()
        values += model.network.residual_covariance.flatten().tolist()
        model.is_trained = True  # so that validation calibrates
        check.validate(model, datamodule)
        context, point = torch.rand(1, 9, 2, generator=torch.manual_seed(1)), torch.zeros(1, 3, 2)
        cases.append(values + intervals.interval_bounds(point, context, [50, 80]).flatten().tolist())
    return cases


def test_metrics_intervals_and_the_noise_of_paths_are_exact_on_every_device(tmp_path: Path) -> None:
    """There are 1 and 10 forecasts to validate on: fewer than devices, and shares that differ."""
    groups = [start_group(num, evaluate_cases, tmp_path) for num in (1, 2, 3)]
    everywhere = [result for group in groups for result in results(group)]
    assert len(everywhere[0][0]) == 8 + 4 + 24
    for result in everywhere:
        np.testing.assert_allclose(result, everywhere[0], rtol=1e-6)


def fit_curve(folder: Path) -> None:
    """Eighteen steps: almost four passes over 54 windows, 12 to a batch of all devices together."""
    num = int(os.environ.get("WORLD_SIZE", "1"))
    series = SineSeries(40, num_series=3)
    datamodule = TableDataModule(
        series, context_length=5, scored_length=10, batch_size=12 // num, num_batches_per_epoch=9, horizon=4
    )
    logger = CSVLogger(folder, name=None, version=f"curve{num}")
    torch.manual_seed(0)
    fit = trainer(folder, max_epochs=2, logger=logger, log_every_n_steps=1)
    fit.fit(Forecaster(hidden_size=8, free_run_weight=0.3), datamodule)


def test_devices_that_share_a_batch_train_as_one_device_with_all_of_it(tmp_path: Path) -> None:
    groups = [start_group(num, fit_curve, tmp_path) for num in (1, 2, 3)]
    assert [result for group in groups for result in results(group)] == [None] * 6
    one, two, three = (pl.read_csv(tmp_path / f"curve{num}" / "metrics.csv") for num in (1, 2, 3))
    assert one["train_loss"].count() == 18
    for column in ("step", "train_loss", "val_loss", "val_rollout_rmse"):
        np.testing.assert_allclose(two[column], one[column], rtol=1e-4)
        np.testing.assert_allclose(three[column], one[column], rtol=1e-4)


class CountedSeries(RandomSeries):
    """Notes every load in a file, and fails where it is asked to."""

    def __init__(self, notes: Path, fails: bool = False) -> None:
        super().__init__(num_series=100, num_steps=1000)
        self.notes, self.fails = notes, fails

    def load(self) -> SeriesData:
        with self.notes.open("a") as file:
            file.write(os.environ["RANK"])
        if self.fails:
            raise InputError("no such table")
        return super().load()


def load_counted(notes: Path, fails: bool) -> str:
    tempfile.tempdir = str(notes.parent / "scratch")
    datamodule = TableDataModule(CountedSeries(notes, fails), batch_size=1000)
    try:
        trainer(notes.parent).validate(forecaster(num_features=1), datamodule)
    except InputError as error:
        return str(error)
    assert torch.equal(datamodule.data.values, RandomSeries(100, 1000).load().values)
    return Path("/proc/self/maps").read_text()


def test_devices_of_a_machine_load_the_values_once_and_share_them(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch/rnn-lightning-of_a_killed_run.pt").touch()
    notes = tmp_path / "notes"
    for result in in_group(2, load_counted, notes, False):
        assert re.search(r"scratch/rnn-lightning-\w+.pt \(deleted\)", result)
    first, second = in_group(2, load_counted, notes, True)
    assert first == "no such table"
    assert second == "the first process of this machine could not load the series: see its message."
    assert notes.read_text() == "00"
    assert list((tmp_path / "scratch").iterdir()) == []


def commands(*lines: str) -> list[int]:
    """Run command lines; returns their exit codes."""
    sys.argv[1:] = []
    codes = []
    for line in lines:
        num = os.environ.get("WORLD_SIZE", "1")
        strategy = "ddp" if num != "1" else "auto"
        device = f"--trainer.accelerator=cpu --trainer.devices={num} --trainer.strategy={strategy}"
        try:
            run([*line.split(), *device.split()])
            codes.append(0)
        except SystemExit as ended:
            codes.append(ended.code)  # type: ignore[arg-type]
    return codes


FIT = (
    "fit --data.num_batches_per_epoch=6 --model.hidden_size=6 --model.schedule=constant "
    "--trainer.enable_progress_bar=false --data.series.num_series=3 --trainer.log_every_n_steps=1"
)


def weights(path: Path | str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def test_values_in_a_file_serve_all_processes_as_those_in_memory_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows: list[tuple[Any, ...]] = [
        (f"s{i}", step, math.sin(step / 3 + i), step % 5) for i in range(3) for step in range(119)
    ]
    rows += [(f"s{i}", step, None, step % 5) for i in range(3) for step in range(119, 124)]
    table = pl.DataFrame(sorted(rows), schema=["unique_id", "ds", "y", "promo"], orient="row")
    table.write_parquet("table.parquet", row_group_size=50)
    Path("scratch").mkdir()
    fit = FIT.replace(" --data.series.num_series=3", "").replace("fit ", "fit table.parquet ")
    fit += " --data.series.covariate_columns=[promo] --trainer.max_epochs=2 --experiment="
    predict = "predict table.parquet --data.horizon=5 --trainer.enable_progress_bar=false --experiment="
    in_memory = start_group(1, commands, f"{fit}memory --data.batch_size=12", f"{predict}memory")
    file = "--data.series.scratch_folder=scratch"
    assert in_group(2, commands, f"{fit}file --data.batch_size=6 {file}", f"{predict}file") == [
        [0, 0],
        [0, 0],
    ]
    assert results(in_memory) == [[0, 0]]
    assert list(Path("scratch").iterdir()) == []
    whole = weights("runs/memory/fit_0/checkpoints/last.ckpt")
    for name, value in weights("runs/file/fit_0/checkpoints/last.ckpt").items():
        torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-5)
    forecasts = [pl.read_csv(f"runs/{name}/predict_0/forecast.csv") for name in ("memory", "file")]
    assert forecasts[0]["ds"].to_list() == [*range(119, 124)] * 3
    np.testing.assert_allclose(forecasts[1]["y"], forecasts[0]["y"], rtol=1e-3, atol=1e-4)
    # One series is closed: each device forecasts its share of the others.
    is_left = pl.col("y").is_null() & (pl.col("unique_id") == "s1")
    table.filter(~is_left).write_parquet("table.parquet", row_group_size=50)
    assert in_group(2, commands, f"{predict}file {file}") == [[0], [0]]
    others = forecasts[1].filter(pl.col("unique_id") != "s1")
    assert pl.read_csv("runs/file/predict_1/forecast.csv").equals(others)


def test_checkpoints_move_between_numbers_of_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit on two, predict on one, go on with one, two and three: all equal to one fit on one device."""
    monkeypatch.chdir(tmp_path)
    in_group(1, commands, f"{FIT} --experiment=whole --data.batch_size=12 --trainer.max_epochs=4")
    resume = f"{FIT} --ckpt_path=last"
    assert in_group(2, commands, f"{FIT} --data.batch_size=6 --trainer.max_epochs=1") == [[0], [0]]
    predict = "predict --data.horizon=5 --trainer.enable_progress_bar=false"
    assert in_group(1, commands, predict, f"{resume} --data.batch_size=12 --trainer.max_epochs=2") == [[0, 0]]
    assert in_group(2, commands, f"{resume} --data.batch_size=6 --trainer.max_epochs=3", predict) == [
        [0, 0],
        [0, 0],
    ]
    assert in_group(3, commands, f"{resume} --data.batch_size=4 --trainer.max_epochs=4") == [[0], [0], [0]]
    assert len(pl.read_csv("runs/default/predict_1/forecast.csv")) == 15
    names = sorted(path.name for path in Path("runs/default").iterdir())
    assert names == ["fit_0", "fit_1", "fit_2", "fit_3", "predict_0", "predict_1"]
    whole = weights("runs/whole/fit_0/checkpoints/last.ckpt")
    for name, value in weights("runs/default/fit_3/checkpoints/last.ckpt").items():
        torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-5)


class SignalAtStep(L.Callback):
    """Sends its own process a signal, in fit at a step and in predict after a batch.

    Args:
        rank: which process.
        number: the signal.
        step: the step.
    """

    def __init__(self, rank: int, number: int, step: int = 9) -> None:
        self.rank, self.number, self.step = rank, number, step

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if (trainer.global_rank, trainer.global_step) == (self.rank, self.step):
            os.kill(os.getpid(), self.number)

    def on_predict_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.number)


def test_devices_choose_how_much_fine_tuning_to_keep_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).normal(size=(3, 60, 1)).cumsum(1)
    np.save("walks.npy", values)
    fit = "fit walks.npy --data.num_batches_per_epoch=2 --data.batch_size=2 --model.learning_rate=1e-9"
    for num in (1, 2):
        in_group(num, commands, f"{fit} --trainer.enable_progress_bar=false")
    alone, together = (weights(f"runs/walks/fit_{number}/checkpoints/last.ckpt") for number in (0, 1))
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-5, atol=1e-6, msg=name)


def signalled(rank: int, number: int) -> str:
    name = "--trainer.callbacks"
    return f"{name}=test_distributed.SignalAtStep {name}.rank={rank} {name}.number={number}"


def test_after_sigterm_to_one_process_a_fit_goes_on_where_all_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit = f"{FIT} --trainer.max_epochs=3 --experiment="
    groups = [start_group(2, commands, f"{fit}whole")]
    for rank in range(2):
        of_rank = f"{fit}{rank} {signalled(rank, signal.SIGTERM)}", f"{fit}{rank} --ckpt_path=last"
        groups.append(start_group(2, commands, *of_rank))
    assert [results(group) for group in groups] == [[[0], [0]], [[143, 0], [0, 0]], [[143, 0], [0, 0]]]
    whole = weights("runs/whole/fit_0/checkpoints/last.ckpt")
    for rank in range(2):
        stopped = torch.load(f"runs/{rank}/fit_0/checkpoints/last.ckpt", weights_only=True)
        # The first batch of the next epoch, where the processes ask each other.
        assert stopped["global_step"] == 13
        for name, value in weights(f"runs/{rank}/fit_1/checkpoints/last.ckpt").items():
            assert torch.equal(value, whole[name])


def different(folder: Path) -> None:
    """Fit with one difference between the two processes, then with none."""
    rank = os.environ["RANK"]
    for what in ("options", "trainer options", "files", "nothing"):
        path = folder / (rank if what == "files" else "0") / "table.csv"
        options: dict[str, Any] = {"stride": 1 + (what == "options" and rank == "1")}
        datamodule = TableDataModule(TableSeries(path), 10, 10, horizon=5, num_batches_per_epoch=2, **options)
        limits = {"limit_train_batches": 1} if (what, rank) == ("trainer options", "1") else {}
        fit = trainer(folder, max_epochs=1, **limits)
        if what == "nothing":
            fit.fit(Forecaster(hidden_size=4), datamodule)
            return
        said = f"^the processes 0, 1 of this run have other {what.removeprefix('trainer ')}.$"
        with pytest.raises(InputError, match=said):
            fit.fit(Forecaster(hidden_size=4), datamodule)


def test_processes_that_differ_are_refused_by_all_before_the_fit(tmp_path: Path) -> None:
    for rank in range(2):  # copies of a table of the same size, in which one value differs
        (tmp_path / str(rank)).mkdir()
        rows = [f"{step},{step % 7 + rank * (step == 9)}" for step in range(60)]
        (tmp_path / str(rank) / "table.csv").write_text("\n".join(["ds,y", *rows]))
    in_group(2, different, tmp_path)


def test_when_a_process_is_killed_the_others_end_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lost = "another process of this run has ended"
    fit = f"{FIT} --trainer.max_epochs=3 --experiment="
    predict = "predict --ckpt_path=last --data.batch_size=1 --experiment="
    for command in (fit, predict):
        lines = [f"{command}{rank} {signalled(rank, signal.SIGKILL)}" for rank in range(2)]
        groups = [start_group(2, commands, line) for line in lines]
        for rank, killed in enumerate(map(results, groups)):
            assert killed[rank] == "died"
            assert lost in killed[1 - rank]
    assert not list(Path().glob("runs/*/predict_0/forecast*"))
    assert in_group(1, commands, "predict --experiment=0", f"{fit}1 --ckpt_path=last") == [[0, 0]]


def evaluated(
    model: Forecaster, datamodule: TableDataModule, folder: Path, **options: Any
) -> list[torch.Tensor]:
    """Metrics, noise and forecasts."""
    found = [torch.tensor(list(trainer(folder, **options).validate(model, datamodule)[0].values()))]
    found += [torch.tensor(list(trainer(folder, **options).test(model, datamodule)[0].values()))]
    found.append(model.network.residual_covariance.cpu().clone())
    for forecast in trainer(folder, **options).predict(model, datamodule) or []:
        found += [forecast.point.cpu(), forecast.samples.cpu()]  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize(("cell", "num_layers"), [("lstm", 1), ("gru", 2)])
def test_mixed_precision_trains_in_bfloat16_and_generates_in_float32(
    cell: Any, num_layers: int, tmp_path: Path
) -> None:
    datamodule = TableDataModule(
        SineSeries(num_series=2),
        context_length=10,
        scored_length=20,
        num_batches_per_epoch=100,
        num_samples=3,
    )
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"cell": cell, "num_layers": num_layers, "hidden_size": 16}
    model = Forecaster(**sizes, transforms=["standardize"], free_run_weight=0.2)
    seen = []
    model.network.readout.register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    fit = trainer(tmp_path, max_epochs=1, precision="bf16-mixed")
    fit.fit(model, datamodule)
    assert torch.bfloat16 in seen
    assert fit.callback_metrics["val_rollout_rmse"] < 0.4  # that of a constant is 0.7
    assert all(tensor.dtype != torch.bfloat16 for tensor in model.state_dict().values())
    mixed = evaluated(model, datamodule, tmp_path, precision="bf16-mixed")
    for value, expected in zip(mixed, evaluated(model, datamodule, tmp_path), strict=True):
        assert torch.equal(value, expected)


def test_a_precision_that_would_round_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`precision` bf16-true .* choose bf16-mixed"):
        trainer(tmp_path, precision="bf16-true", max_epochs=1).fit(
            Forecaster(), TableDataModule(SineSeries())
        )


def wait_for_file(path: Path, process: "subprocess.Popen[str]") -> None:
    """Wait for a file that a process and its child write together; the end of one of them ends the test."""
    had_child = False
    while not path.exists():
        has_child = bool(children_of(process.pid))
        if process.poll() is not None or (had_child and not has_child):
            process.kill()  # it would wait for the other one for half an hour
            raise AssertionError(f"one of two processes ended before {path.name}.")
        had_child = has_child
        time.sleep(0.02)


def children_of(process_id: int) -> list[int]:
    try:
        return [*map(int, Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split())]
    except FileNotFoundError:
        return []


def ended(process_id: int) -> bool:
    stat = Path(f"/proc/{process_id}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_the_processes_that_the_command_line_starts_end_with_it(tmp_path: Path) -> None:
    """Fit on two devices until SIGTERM; then predict on two, where the first process is killed."""

    def start(arguments: str) -> "subprocess.Popen[str]":
        device = "--trainer.accelerator=cpu --trainer.devices=2 --trainer.strategy=ddp"
        command = [sys.executable, "-m", "rnn_lightning", *arguments.split(), *device.split()]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment["MASTER_PORT"] = str(free_port())
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)

    experiment = tmp_path / "runs" / "default"
    with start(f"{FIT} --trainer.max_epochs=100000") as fit:
        wait_for_file(experiment / "fit_0" / "checkpoints" / "last.ckpt", fit)
        fit.terminate()
        assert fit.wait() == 143
    assert (
        torch.load(experiment / "fit_0" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] >= 6
    )
    heavy = "--data.series.num_series=1000 --data.batch_size=1 --data.horizon=500 --data.num_samples=100"
    with start(f"predict --ckpt_path=last {heavy}") as predict:
        wait_for_file(experiment / "predict_0" / ".forecast-1.npy", predict)
        (other,) = children_of(predict.pid)
        predict.kill()
        while not ended(other):
            time.sleep(0.02)
        assert predict.stdout is not None
        assert predict.stdout.read().count("Checkpoint: runs/default/fit_0/checkpoints/last.ckpt") == 1
    assert sorted(path.name for path in experiment.iterdir()) == ["fit_0", "predict_0"]
    assert not list((experiment / "predict_0").glob("forecast*"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_gpu_gives_the_forecasts_and_metrics_of_the_cpu(precision: str, tmp_path: Path) -> None:
    """Fit on one device by DDP (NCCL), move the checkpoint to the CPU and back, and go on there."""
    gpu = {"accelerator": "gpu", "devices": 1, "strategy": "ddp", "precision": precision}
    datamodule = TableDataModule(
        SineSeries(num_series=3), context_length=10, scored_length=20, num_batches_per_epoch=50, num_samples=3
    )
    torch.manual_seed(0)
    model = Forecaster(hidden_size=16, schedule="constant")
    fit = trainer(tmp_path, max_epochs=1, **gpu)
    fit.fit(model, datamodule)
    fit.save_checkpoint(tmp_path / "gpu.ckpt")
    on_gpu = evaluated(model, datamodule, tmp_path, **gpu)
    loaded = Forecaster.load_from_checkpoint(tmp_path / "gpu.ckpt", map_location="cpu")
    for value, expected in zip(evaluated(loaded, datamodule, tmp_path), on_gpu, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-3)
    for options in ({}, gpu):
        trainer(tmp_path, max_epochs=2, **options).fit(loaded, datamodule, ckpt_path=tmp_path / "gpu.ckpt")
