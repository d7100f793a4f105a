"""The exported graph equals ``rollout``, run by another program."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from rnn_lightning import Forecaster, RecurrentNetwork
from rnn_lightning.errors import InputError
from rnn_lightning.network import Cell
from rnn_lightning.onnx.export import export_onnx
from rnn_lightning.rollout import Innovations, rollout
from rnn_lightning.transforms import Transform

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CELLS = get_args(Cell)
TRANSFORMS = [
    [],
    ["standardize"],
    ["standardize_context"],
    ["log", "difference", "standardize"],
    ["difference", "difference", "standardize_context"],
]
POINT = np.zeros((1, 1, 1, 1), np.float32)


def network_of(cell: Cell, num_layers: int, transforms: list[str], num_covariates: int) -> RecurrentNetwork:
    """Random weights, and statistics of random series."""
    torch.manual_seed(0)
    network = RecurrentNetwork(2, cell, 8, num_layers, 0.0, transforms, num_covariates).eval()
    network.transforms.fit([3 * torch.rand(50, 2) + 5])
    network.covariate_scale.fit([4 * torch.rand(50, num_covariates)])
    network.residual_covariance.copy_(torch.tensor([[0.02, 0.01], [0.01, 0.03]]))
    return network


def run(network: torch.nn.Module, path: Path, **inputs: Any) -> np.ndarray:
    """What onnxruntime makes of the exported file, which is written if it is not there."""
    if not path.exists():
        export_onnx(network, path)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    (forecast,) = session.run(None, inputs)
    return np.asarray(forecast)


def with_gaps(values: torch.Tensor) -> torch.Tensor:
    """Some values not known, none at the begin of the first series, all shortly before the end."""
    holed = values.masked_fill(torch.rand_like(values) < 0.3, torch.nan)
    holed[0, :2] = torch.nan
    holed[:, -5:-1] = values[:, -5:-1]
    return holed


@pytest.mark.parametrize("transforms", TRANSFORMS, ids="-".join)
@pytest.mark.parametrize(("num_layers", "num_covariates"), [(1, 2), (2, 0)])
@pytest.mark.parametrize("cell", CELLS)
def test_the_graph_equals_rollout(
    cell: Cell, num_layers: int, num_covariates: int, transforms: list[str], tmp_path: Path
) -> None:
    network = network_of(cell, num_layers, transforms, num_covariates)
    for batch, time, horizon in ((1, 12, 7), (3, 20, 30), (2, 6, 1)):
        values = 3 * torch.rand(batch, time, 2) + 5
        covariates = 4 * torch.rand(batch, time + horizon, num_covariates)
        given = {"covariates": covariates} if num_covariates else {}
        for context in (values, with_gaps(values)):
            with torch.no_grad():
                expected = rollout(network, context, horizon, **given).numpy()  # type: ignore[arg-type]
            inputs = {name: value.numpy() for name, value in {"context": context, **given}.items()}
            path = tmp_path / "model.onnx"
            forecast = run(network, path, horizon=np.array([horizon]), noise=POINT, **inputs)
            assert forecast.shape == (1, batch, horizon, 2)
            np.testing.assert_allclose(forecast[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_sampled_paths_follow_the_noise(cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rnn_lightning.onnx.forecast import noise_factor

    network = network_of(cell, 1, ["difference", "standardize_context"], 0)
    factor = noise_factor(network)
    np.testing.assert_allclose(factor.T @ factor, network.residual_covariance.numpy(), atol=1e-7)
    noise = np.random.default_rng(0).normal(size=(4, 3, 9, 2)).astype(np.float32)
    drawn = torch.from_numpy(noise @ factor).flatten(0, 1)
    monkeypatch.setattr(Innovations, "draw", lambda *_: drawn)
    context = 3 * torch.rand(3, 15, 2) + 5
    with torch.no_grad():
        expected = rollout(network, context, 9, num_samples=4)
    forecast = run(
        network, tmp_path / "model.onnx", context=context.numpy(), horizon=np.array([9]), noise=noise
    )
    np.testing.assert_allclose(forecast, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_a_forecast_ends_where_it_leaves_the_finite_numbers(tmp_path: Path) -> None:
    network = network_of("rnn_relu", 1, ["log"], 0)
    with torch.no_grad():
        for weight, value in zip(network.recurrent.all_weights[0], (0.1, 0.2, 0.0, 0.0), strict=True):
            weight.fill_(value)
        network.readout.weight.fill_(0.4)
        context = torch.full((1, 5, 2), 2.0)
        with pytest.warns(RuntimeWarning, match="leaves the finite numbers"):
            expected = rollout(network, context, 12).numpy()
    assert 0 < np.isnan(expected).sum() < expected.size
    forecast = run(
        network, tmp_path / "model.onnx", context=context.numpy(), horizon=np.array([12]), noise=POINT
    )
    np.testing.assert_array_equal(np.isnan(forecast[0]), np.isnan(expected))


def test_without_a_covariance_there_is_no_noise(tmp_path: Path) -> None:
    forecaster = Forecaster(hidden_size=4)
    with pytest.raises(InputError, match="has not been fitted"):
        export_onnx(forecaster.network, tmp_path / "model.onnx")
    forecaster.network.transforms.fit([torch.rand(9, 1)])
    history = np.random.default_rng(0).random(20)
    forecast = run(
        forecaster.network,
        tmp_path / "model.onnx",
        context=history[None, :, None].astype(np.float32),
        horizon=np.array([5]),
    )
    np.testing.assert_allclose(forecast[0, 0, :, 0], forecaster.forecast(history, 5), atol=1e-6)


def test_what_has_no_form_in_onnx_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Linear has no form in ONNX"):
        export_onnx(torch.nn.Linear(1, 1), tmp_path / "model.onnx")
    network = network_of("lstm", 1, ["standardize"], 0)
    network.transforms.parts.append(type("Root", (Transform,), {})())
    with pytest.raises(InputError, match="the transform Root cannot be exported to ONNX"):
        export_onnx(network, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
