"""The best of several forecasters by validation."""

from typing import Any

import lightning.pytorch as L
import pytest
import torch

from rnn_lightning import ArraySeries, Forecaster, SequenceDataModule
from rnn_lightning.dynamics.systems import MackeyGlassSeries
from rnn_lightning.errors import InputError
from rnn_lightning.solver.choice import fit_best, usual_forecasters
from rnn_lightning.solver.forecaster import VariableProjectionForecaster

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def make_data(val_fraction: float = 0.2) -> SequenceDataModule:
    values, known = MackeyGlassSeries(500).clean(), {"test_fraction": 0.0, "num_batches_per_epoch": 2}
    sizes: dict[str, Any] = {"context_length": 20, "scored_length": 40, "horizon": 30, **known}
    return SequenceDataModule(ArraySeries(values), **sizes, val_fraction=val_fraction)


def test_the_forecaster_that_generates_best_on_validation_data_is_chosen() -> None:
    torch.manual_seed(0)
    numbers: dict[str, Any] = {"input_noise": 1e-3, "ridge": 1e-8}
    forecasters = {
        "two steps of Adam": Forecaster(cell="rnn_tanh", hidden_size=8, transforms=["standardize"]),
        "solver": VariableProjectionForecaster(hidden_size=8, **numbers),
        "reservoir": VariableProjectionForecaster(solver="reservoir", hidden_size=8, **numbers),
    }
    name, best, scores = fit_best(forecasters, make_data, lambda _: L.Trainer(max_epochs=2, **QUIET))
    assert name == "solver"
    assert best is forecasters["solver"]
    assert list(scores) == list(forecasters)
    assert scores["solver"] == min(scores.values())


def test_nothing_is_chosen_without_validation_data() -> None:
    with pytest.raises(InputError, match="`val_fraction` 0"):
        fit_best(usual_forecasters(), lambda: make_data(0.0), lambda _: L.Trainer(max_epochs=2, **QUIET))
