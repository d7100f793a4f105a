"""Forecasts of committed networks stay what they were: equal to 1e-5, whatever is moved or made faster.

``python tests/test_golden.py`` records them anew, after a change that is meant to change forecasts.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from rnn_lightning import RecurrentNetwork
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.pretrained.forecaster import PretrainedForecaster
from rnn_lightning.rollout import generators, rollout

FOLDER = Path(__file__).parent / "golden"
NETWORKS: dict[str, dict[str, Any]] = {
    "elman": {"cell": "rnn_tanh", "hidden_size": 6, "transforms": ["standardize"]},
    "relu": {"cell": "rnn_relu", "hidden_size": 5, "transforms": ["difference", "standardize"]},
    "gru": {"cell": "gru", "hidden_size": 6, "num_layers": 2, "transforms": ["log", "standardize_context"]},
    "lstm": {"cell": "lstm", "hidden_size": 6, "transforms": ["log", "difference", "standardize"]},
    "covariates": {"num_features": 2, "cell": "lstm", "hidden_size": 6, "num_covariates": 2},
}
SEASONS = (1, 4, 7, 12, 24)


def contexts(num_features: int) -> Tensor:
    """Positive series ``(batch, time, feature)`` with a season of 7, a trend, gaps and a late start."""
    rng, steps = np.random.default_rng(num_features), np.arange(60)[:, None]
    values = 20 + 3 * np.sin(2 * np.pi * steps / 7) + 0.1 * steps + rng.random((4, 60, num_features))
    values[1, 30:33], values[2, :17], values[3] = np.nan, np.nan, values[3] * 100
    return torch.from_numpy(values).float()


def covariates(num_covariates: int) -> Tensor | None:
    rng = np.random.default_rng(9)
    return torch.from_numpy(rng.random((4, 90, num_covariates))).float() if num_covariates else None


def made_network(name: str) -> RecurrentNetwork:
    """A network with drawn weights, and statistics from the contexts."""
    torch.manual_seed(len(name))
    network = RecurrentNetwork(**NETWORKS[name])
    network.transforms.fit(list(contexts(network.num_features)[[0, 3]]))
    network.residual_covariance.copy_(0.01 * torch.eye(network.num_features))
    return network


@torch.no_grad()
def forecasts_of(network: RecurrentNetwork) -> dict[str, Tensor]:
    known: dict[str, Any] = {"covariates": covariates(network.num_covariates)}
    context = contexts(network.num_features)
    point = rollout(network.eval(), context, 30, **known)
    paths = rollout(network, context, 30, **known, num_samples=2, generator=generators(0, range(4)))
    return {"point": point, "paths": paths}


@torch.no_grad()
def bundled_forecasts() -> dict[str, Tensor]:
    network = bundled_network(2).eval()
    return {
        f"season {season}": rollout(network, contexts(2), 30, traits={"season": torch.full((4,), season)})
        for season in SEASONS
    }


def require_equal(given: Tensor, recorded: Tensor) -> None:
    torch.testing.assert_close(given, recorded, rtol=1e-5, atol=1e-5 * float(recorded.abs().mean()))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_forecasts_what_it_did(name: str) -> None:
    recorded = torch.load(FOLDER / f"{name}.pt", weights_only=True)
    network = RecurrentNetwork(**NETWORKS[name])
    network.load_state_dict(recorded["weights"])
    for kind, forecast in forecasts_of(network).items():
        for given, expected in zip(forecast.unbind(-3), recorded[kind].unbind(-3), strict=True):
            require_equal(given, expected)


def test_the_bundled_network_forecasts_what_it_did() -> None:
    recorded = torch.load(FOLDER / "bundled.pt", weights_only=True)
    for name, forecast in bundled_forecasts().items():
        for given, expected in zip(forecast, recorded[name], strict=True):
            require_equal(given, expected)


def test_the_air_passengers_are_forecast_as_they_were(rnn_lightning: Callable[..., None]) -> None:
    rnn_lightning("predict", "data/airpassengers.csv", "--data.horizon=36", "--output=forecast.csv")
    given, recorded = pl.read_csv("forecast.csv"), pl.read_csv(FOLDER / "airpassengers.csv")
    assert given.columns == recorded.columns
    assert given["ds"].to_list() == recorded["ds"].to_list()
    for name in recorded.columns[2:]:
        np.testing.assert_allclose(given[name].to_numpy(), recorded[name].to_numpy(), rtol=1e-5)


def test_a_script_forecasts_the_air_passengers_as_the_command_does() -> None:
    values = pl.read_csv(Path(__file__).parents[1] / "data" / "airpassengers.csv")["y"].to_numpy()
    recorded = pl.read_csv(FOLDER / "airpassengers.csv")["y"].to_numpy()
    forecast = PretrainedForecaster().forecast(values.astype(float), 36, seasons=[12])
    np.testing.assert_allclose(forecast, recorded, rtol=1e-5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in NETWORKS:
        network = made_network(name)
        torch.save({"weights": network.state_dict(), **forecasts_of(network)}, FOLDER / f"{name}.pt")
    torch.save(bundled_forecasts(), FOLDER / "bundled.pt")
