"""The solver by the command: it chooses the class, and the best checkpoint is what the solver chose."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

Call = Callable[..., None]

FEW = ("--trainer.max_epochs=3", "--model.input_noise=0", "--model.ridge=1e-8", "--model.hidden_size=8")


def test_a_solver_learns_a_sine_of_a_file(rnn_lightning: Call, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.sin(np.arange(600) * 0.21)
    np.save("wave.npy", values[:560])
    rnn_lightning("fit", "wave.npy", "--model.solver=variable_projection", *FEW, "--data.horizon=40")
    assert "Saved: runs/wave/fit_0/checkpoints/best.ckpt" in capsys.readouterr().out
    rnn_lightning("predict", "wave.npy", "--data.horizon=40")
    (column,) = [name for name in pl.read_csv("runs/wave/predict_0/forecast.csv").columns if name == "y"]
    forecast = pl.read_csv("runs/wave/predict_0/forecast.csv")[column].to_numpy()
    assert np.abs(forecast - values[560:]).max() < 0.01
    rnn_lightning("fit", "wave.npy", "--model.solver=reservoir", *FEW, "--data.horizon=40", "--quiet")
    assert Path("runs/wave/fit_1/checkpoints/best.ckpt").exists()


def test_options_of_adam_are_refused_beside_a_solver(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("wave.npy", np.sin(np.arange(300) * 0.21))
    with pytest.raises(SystemExit):
        rnn_lightning("fit", "wave.npy", "--model.solver=variable_projection", "--model.learning_rate=0.1")
    assert "learning_rate" in capsys.readouterr().err


def test_a_series_that_is_named_has_its_own_defaults(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        rnn_lightning("fit", "--data.series=LorenzSeries", "--print_config")
    said = capsys.readouterr().out
    assert "class_path: rnn_lightning.LorenzSeries" in said
    assert "time_step: 0.02" in said
    assert "noise: 0.0\n" in said


def test_auto_tries_four_fits_in_one_run_and_keeps_the_best(
    rnn_lightning: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.sin(np.arange(600) * 0.21)
    np.save("wave.npy", values[:560])
    few = (
        "--trainer.max_epochs=3",
        "--model.input_noise=1e-4",
        "--model.ridge=1e-8",
        "--model.hidden_size=8",
    )
    short = ("--data.num_batches_per_epoch=5", "--data.horizon=40", "--data.context_length=24")
    rnn_lightning("fit", "wave.npy", "--model.solver=auto", *few, *short)
    said = capsys.readouterr().out
    run = Path("runs/wave/fit_0")
    assert sorted(path.name for path in run.iterdir() if path.is_dir() and path.name != "checkpoints") == [
        "Adam_with_8_units",
        "reservoir_of_300_units",
        "variable_projection_of_16_units",
        "variable_projection_of_8_units",
    ]
    chosen = said.rpartition("Solver: ")[2].partition(",")[0]
    assert chosen != "Adam with 8 units"
    best = run / chosen.replace(" ", "_") / "checkpoints/best.ckpt"
    assert (run / "checkpoints/best.ckpt").read_bytes() == best.read_bytes()
    assert "Saved: runs/wave/fit_0/checkpoints/best.ckpt" in said.replace("\\", "/")
    assert said.count("1 series, 560 steps") == 1
    rnn_lightning("predict", "wave.npy", "--data.horizon=40")
    forecast = pl.read_csv("runs/wave/predict_0/forecast.csv")["y"].to_numpy()
    assert np.abs(forecast - values[560:]).max() < 0.1
    with pytest.raises(SystemExit):
        rnn_lightning("fit", "wave.npy", "--model.solver=auto", *few, *short, "--ckpt_path=last")
    assert "auto makes several fits" in capsys.readouterr().err
    last = run / "variable_projection_of_16_units/checkpoints/last.ckpt"
    solver = ("--model.solver=variable_projection", f"--ckpt_path={last}")
    rnn_lightning("fit", "wave.npy", *solver, "--trainer.max_epochs=8")
    assert f"Checkpoint: {last}" in capsys.readouterr().out
