"""The whole forecast as one ONNX graph: transforms, warm-up, closed loop, and back to the units of the data.

Its inputs, float32 but for the integers (int64):

- ``context (batch, time, feature)`` in the units of the data, NaN where a value is unknown;
- ``horizon (1,)``, an integer, the number of steps to generate;
- ``season (batch,)``, integers, the steps of the season of each series, 1 for none; for a seasonal network;
- ``covariates (batch, time + horizon, covariate)``, for a network with covariates;
- ``noise (sample, batch, horizon, feature)``, independent standard normal numbers for sampled paths, or one
  zero, ``(1, 1, 1, 1)``, for the point forecast; for a network that holds the covariance of its errors.

Its outputs:

- ``forecast (sample, batch, horizon, feature)``, one sample without noise. It equals ``rollout``, except that
  a graph refuses nothing: under ``log``, values of zero or less count as unknown, a season below 1 is 1.
- ``lo-80`` and ``hi-80``, likewise for each level, the bounds of prediction intervals around the forecast
  ``(sample, batch, horizon, feature)``: give no noise with them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, TensorProto, helper

from rnn_lightning.onnx.graph import Graph, Value, numbers
from rnn_lightning.onnx.intervals import IntervalTable, interval_bounds


class Forecast(ABC):
    """Builds what a kind of network does between the inputs of a graph and its forecast.

    Args:
        graph: the graph.
        network: the network.
        inputs: the inputs of the graph by name.
    """

    traits: tuple[str, ...] = ()
    """Names of the integers ``(batch,)`` that the network asks for."""

    def __init__(self, graph: Graph, network: Any, inputs: dict[str, Value]) -> None:
        self.graph, self.network, self.inputs = graph, network, inputs
        self.context, self.horizon = inputs["context"], inputs["horizon"]
        self.batch = self.context.size(0)

    @abstractmethod
    def generate(self, innovations: Value) -> Value:
        """Return the forecast in the units of the data, both ``(sample, batch, horizon, feature)``."""

    def scaled_covariates(self) -> tuple[Value | None, Value | None]:
        """Return scaled covariates of the step after each of the context, and after each of the horizon.

        Both are ``(time, batch, covariate)``.
        """
        if "covariates" not in self.inputs:
            return None, None
        scale = self.network.covariate_scale
        in_time = self.inputs["covariates"].transpose(1, 0, 2)
        scaled = ((in_time - numbers(scale.mean)) / numbers(scale.scale)).or_where_nan(0.0)
        after = self.context.size(1) + np.array([1])
        known = scaled.slice(0, 1 + self.network.transforms.num_lost, after)
        last = self.graph.constant(np.zeros(1, np.float32)).expand(1, self.batch, self.network.num_covariates)
        return known, self.graph.concat(scaled.slice(0, after), last, axis=0)

    def at(self, values: Value, number: Value) -> Value:
        """Return one step of ``(time, ...)`` values."""
        return self.graph.op("Gather", values, number, axis=0)


@torch.no_grad()
def onnx_model(network: Any, kind: type[Forecast], intervals: Mapping[str, Any] | None) -> ModelProto:
    """Return the graph that the first lines of this module describe, with bounds of ``intervals``."""
    graph, has_noise = Graph(), bool(network.residual_covariance.isfinite().all())
    sizes: dict[str, list[str | int]] = {"context": ["batch", "time", network.num_features]}
    if network.num_covariates:
        sizes["covariates"] = ["batch", "time_and_horizon", network.num_covariates]
    if has_noise:
        sizes["noise"] = ["sample", "batch_or_1", "horizon_or_1", "feature_or_1"]
    described = [_described(name, shape) for name, shape in sizes.items()]
    integers: dict[str, list[str | int]] = {"horizon": [1], **{name: ["batch"] for name in kind.traits}}
    described += [_described(name, shape, TensorProto.INT64) for name, shape in integers.items()]
    inputs = {info.name: Value(graph, info.name) for info in described}
    forecast = kind(graph, network, inputs)
    outputs = {"forecast": _end_at_nonfinite(forecast.generate(_innovations(forecast)))}
    if intervals is not None:
        outputs |= interval_bounds(outputs["forecast"], inputs, IntervalTable(**intervals))
    shape: list[str | int] = ["sample", "batch", "horizon", network.num_features]
    for name, value in outputs.items():
        graph.name(value, name)
    needed = str(network.transforms.num_lost + 1)
    return graph.model(
        described,
        [_described(name, shape) for name in outputs],
        network=type(network).__name__,
        minimal_context=needed,
    )


def noise_factor(network: Any) -> np.ndarray:
    """Return the matrix that gives standard normal numbers the covariance of the one-step errors."""
    variances, axes = torch.linalg.eigh(network.residual_covariance.double().cpu())
    return (axes * variances.clamp_min(0).sqrt()).T.float().numpy()


def _described(name: str, shape: list[str | int], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _innovations(forecast: Forecast) -> Value:
    """Return the noise with the covariance of the errors, ``(sample, batch, horizon, feature)``."""
    noise = forecast.inputs.get("noise")
    drawn = forecast.graph.constant(np.zeros((1, 1, 1, 1), np.float32)) if noise is None else noise
    shape = (drawn.size(0), forecast.batch, forecast.horizon, forecast.network.num_features)
    drawn = drawn.expand(*shape)
    return drawn if noise is None else drawn @ noise_factor(forecast.network)


def _end_at_nonfinite(values: Value) -> Value:
    """Put NaN from the first step on that is not a finite number."""
    graph = values.graph
    is_bad = graph.op("Or", values.is_nan(), graph.op("IsInf", values))
    return graph.op("Where", is_bad.cast("FLOAT").cumsum(-2).above(0.0), np.float32(np.nan), values)
