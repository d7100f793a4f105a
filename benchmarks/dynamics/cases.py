"""Systems with test starts of their own, and fits by the solver with the settings of the configs."""

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor

from rnn_lightning import ArraySeries, Forecaster, SequenceDataModule, TableDataModule
from rnn_lightning.dynamics.metrics import NRMSEAtLead, ValidTime
from rnn_lightning.dynamics.systems import (
    DynamicsSeries,
    FlowSeries,
    LorenzSeries,
    MackeyGlassSeries,
    RosslerSeries,
)
from rnn_lightning.solver.choice import fit_best
from rnn_lightning.solver.forecaster import VariableProjectionForecaster

warnings.filterwarnings("ignore")
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)
torch.set_num_threads(1)

NUM_EPOCHS = 30
"""Epochs of ``configs/lorenz.yaml``."""

SERIES: dict[str, tuple[Callable[..., DynamicsSeries], int, int, int, int, int]] = {
    # series, training steps, number of test starts, steps between them, warm-up, horizon
    "Lorenz": (LorenzSeries, 5000, 40, 1200, 100, 1000),
    "Mackey-Glass": (MackeyGlassSeries, 3000, 50, 300, 200, 500),
    "Rossler": (RosslerSeries, 5000, 40, 1000, 100, 2500),
    "Halvorsen": (lambda **known: FlowSeries("Halvorsen", **known), 5000, 20, 1000, 100, 800),
}


@dataclass
class Case:
    """Training values, and starts after them with what follows; the truth is free of noise."""

    train: np.ndarray
    context: Tensor
    truth: Tensor
    scale: Tensor
    series: DynamicsSeries


def make_case(name: str, noise: float = 0.0) -> Case:
    make, num_steps, num_starts, distance, warm_up, horizon = SERIES[name]
    total = num_steps + num_starts * distance + horizon
    clean, noisy = (make(num_steps=total, noise=each).load().values for each in (0.0, noise))
    last = total - warm_up - horizon
    starts = np.linspace(num_steps, last, num_starts).astype(int)
    context = torch.stack([noisy[start : start + warm_up] for start in starts])
    truth = torch.stack([clean[start + warm_up : start + warm_up + horizon] for start in starts])
    return Case(noisy[:num_steps].numpy(), context, truth, clean[:num_steps].std(0), make(num_steps=1))


def fit(forecaster: Forecaster, train: np.ndarray, seed: int, num_epochs: int, **data: Any) -> float:
    """Fit, and return the CPU seconds; draws of the weights are those made before."""
    sizes = {"context_length": 50, "scored_length": 100, "horizon": 200, "test_fraction": 0.0} | data
    kind = TableDataModule if "final_fit_on_all" in data else SequenceDataModule
    module: Any = kind(ArraySeries(train), **sizes, seed=seed)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    begin = time.process_time()
    L.Trainer(max_epochs=num_epochs, accelerator="cpu", enable_checkpointing=False, **quiet).fit(
        forecaster, module
    )
    return time.process_time() - begin


def solved(
    case: Case, seed: int, num_epochs: int = NUM_EPOCHS, **arguments: Any
) -> tuple[VariableProjectionForecaster, float]:
    torch.manual_seed(seed)
    forecaster = VariableProjectionForecaster(**arguments)
    return forecaster, fit(forecaster, case.train, seed, num_epochs)


def tried(
    train: np.ndarray, seed: int, size: int = 64, val_fraction: float = 0.1
) -> tuple[str, dict[str, Forecaster], dict[str, float]]:
    """The choice of ``auto``: its name, what it fitted, and the CPU seconds of each fit."""
    lengths = {"context_length": 50, "scored_length": 100, "horizon": 200, "val_fraction": val_fraction}
    data = SequenceDataModule(ArraySeries(train), **lengths, test_fraction=0.0, seed=seed)  # type: ignore[arg-type]
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    fitted: dict[str, Forecaster] = {}
    begins: list[float] = []

    def make_trainer(name: str, forecaster: Forecaster, settings: dict[str, Any]) -> L.Trainer:
        fitted[name] = forecaster
        begins.append(time.process_time())
        return L.Trainer(accelerator="cpu", enable_checkpointing=False, **settings, **quiet)

    torch.manual_seed(seed)
    given = VariableProjectionForecaster(solver="auto", hidden_size=size)
    best, _, _ = fit_best(given, data, NUM_EPOCHS, make_trainer)
    ends = [*begins[1:], time.process_time()]
    seconds = [end - begin for begin, end in zip(begins, ends, strict=True)]
    return best, fitted, dict(zip(fitted, seconds, strict=True))


def adam(case: Case, seed: int, num_epochs: int = 20) -> tuple[Forecaster, float]:
    """The product's default: an LSTM-64 by Adam, 4,000 steps."""
    torch.manual_seed(seed)
    forecaster = Forecaster(cell="lstm", hidden_size=64, transforms=["standardize"], learning_rate=0.005)
    return forecaster, fit(forecaster, case.train, seed, num_epochs, batch_size=16)


def next_generation(case: Case, degree: int, num_lags: int, skip: int, ridge: float) -> Tensor:
    """NG-RC (Gauthier et al. 2021): increments are polynomials of the last values, ``skip`` steps apart."""
    mean, deviation = case.train.mean(0), case.train.std(0)
    values, contexts = (case.train - mean) / deviation, (case.context.numpy() - mean) / deviation
    width, reach = values.shape[1], (num_lags - 1) * skip
    powers = [
        list(each)
        for order in range(2, degree + 1)
        for each in combinations_with_replacement(range(num_lags * width), order)
    ]

    def features(lags: np.ndarray) -> np.ndarray:
        products = [np.prod(lags[:, each], 1)[:, None] for each in powers]
        return np.concatenate([np.ones((len(lags), 1)), lags, *products], 1)

    places = range(0, reach + 1, skip)
    rows = features(np.concatenate([values[reach - lag : len(values) - 1 - lag] for lag in places], 1))
    matrix = rows.T @ rows + ridge * len(rows) * np.eye(rows.shape[1])
    weights = np.linalg.solve(matrix, rows.T @ np.diff(values[reach:], axis=0))
    path = list(contexts.transpose(1, 0, 2))
    for _ in range(case.truth.shape[1]):
        lags = np.concatenate([path[-1 - lag] for lag in places], 1)
        with np.errstate(all="ignore"):
            path.append(path[-1] + features(lags) @ weights)
    generated = np.stack(path[contexts.shape[1] :], 1) * deviation + mean
    return torch.from_numpy(generated)


def chosen_next_generation(case: Case, degree: int | None = None) -> tuple[Tensor, str]:
    """NG-RC, of a degree if given, with the settings that generate best over the last tenth of the values."""
    if case.train.shape[1] == 1:
        shapes = [(2, 20, 1), (3, 7, 3), (4, 6, 3)]
    else:
        shapes = [(2, 1, 1), (3, 1, 1), (2, 2, 1), (3, 2, 1)]
    shapes = [shape for shape in shapes if degree in (None, shape[0])]
    first = len(case.train) - len(case.train) // 10
    starts = range(first, len(case.train) - 100, 10)
    values = torch.from_numpy(case.train)
    context = torch.stack([values[start - 100 : start] for start in starts])
    truth = torch.stack([values[start : start + 100] for start in starts])
    validation = Case(case.train[:first], context, truth, case.scale, case.series)

    def error(settings: tuple[int, int, int, float]) -> float:
        errors = (next_generation(validation, *settings) - truth).abs().nan_to_num(1e3, posinf=1e3)
        return float(errors.clamp(1e-8, 1e3).log().mean())

    best = min(((*shape, ridge) for shape in shapes for ridge in (1e-4, 1e-6, 1e-8, 1e-11)), key=error)
    degree, num_lags, _, ridge = best
    return next_generation(case, *best), f"degree {degree}, {num_lags} lags, ridge {ridge:g}"


def scored(case: Case, generated: Tensor) -> tuple[float, float]:
    """The median valid time in Lyapunov times, and the error at step 84."""
    valid, error = ValidTime(lyapunov_time=case.series.lyapunov_time), NRMSEAtLead(84)
    scores = [metric(generated, case.truth, case.scale).item() for metric in (valid, error)]
    return scores[0], scores[1]
