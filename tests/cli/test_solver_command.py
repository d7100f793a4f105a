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
    assert "Checkpoint: runs/wave/fit_0/checkpoints/best.ckpt" in capsys.readouterr().out
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
