"""The whole forecast as one ONNX graph: transforms, warm-up, closed loop, and back to the units of the data.

Its inputs, float32 but for the horizon:

- ``context (batch, time, feature)`` in the units of the data, NaN where a value is unknown;
- ``horizon (1,)``, int64, the number of steps to generate;
- ``covariates (batch, time + horizon, covariate)``, for a network with covariates;
- ``noise (sample, batch, horizon, feature)``, independent standard normal numbers for sampled paths, or one
  zero, ``(1, 1, 1, 1)``, for the point forecast; for a network that holds the covariance of its errors.

Its output is ``forecast (sample, batch, horizon, feature)``, one sample without noise. It equals ``rollout``,
except that a graph refuses nothing: under ``log``, values of zero or less count as unknown.
"""

import numpy as np
import torch
from onnx import ModelProto, TensorProto, helper

from rnn_lightning.closed_loop import FOLDABLE, FoldedLoop
from rnn_lightning.network import RecurrentNetwork
from rnn_lightning.onnx.cells import fused, step
from rnn_lightning.onnx.graph import Graph, Value, numbers
from rnn_lightning.onnx.transforms import Chain


@torch.no_grad()
def onnx_model(network: RecurrentNetwork) -> ModelProto:
    """Return the graph that the first lines of this module describe."""
    graph, has_noise = Graph(), bool(network.residual_covariance.isfinite().all())
    sizes: dict[str, list[str | int]] = {"context": ["batch", "time", network.num_features]}
    if network.num_covariates:
        sizes["covariates"] = ["batch", "time_and_horizon", network.num_covariates]
    if has_noise:
        sizes["noise"] = ["sample", "batch_or_1", "horizon_or_1", "feature_or_1"]
    inputs = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sizes.items()
    }
    inputs["horizon"] = helper.make_tensor_value_info("horizon", TensorProto.INT64, [1])
    values = {name: Value(graph, name) for name in inputs}
    forecast = _Forecast(graph, network, values["context"], values["horizon"], values.get("covariates"))
    graph.name(forecast.generate(values.get("noise")), "forecast")
    shape: list[str | int] = ["sample", "batch", "horizon", network.num_features]
    output = helper.make_tensor_value_info("forecast", TensorProto.FLOAT, shape)
    needed = str(network.transforms.num_lost + 1)
    return graph.model([*inputs.values()], [output], cell=network.cell, minimal_context=needed)


class _Forecast:
    """Builds the parts of the graph: warm-up, innovations, closed loop."""

    def __init__(
        self,
        graph: Graph,
        network: RecurrentNetwork,
        context: Value,
        horizon: Value,
        covariates: Value | None,
    ) -> None:
        self.graph, self.network, self.horizon = graph, network, horizon
        self.weights = network.recurrent.all_weights
        self.w_readout, self.b_readout = numbers(network.readout.weight.T), numbers(network.readout.bias)
        self.batch, self.num_parts = context.size(0), 2 if network.cell == "lstm" else 1
        known, self.future = self._covariates(covariates, context.size(1))
        self.chain = Chain(graph, list(network.transforms.parts))
        self.state, filled = self._warm_up(self.chain.start(context), known)
        self.chain.impute(filled)

    def generate(self, noise: Value | None) -> Value:
        """Return ``(sample, batch, horizon, feature)`` in the units of the data."""
        network, graph = self.network, self.graph
        if noise is None:
            noise = graph.constant(np.zeros((1, 1, 1, 1), np.float32))
        samples, features = noise.size(0), network.num_features
        drawn = noise.expand(samples, self.batch, self.horizon, features)
        innovations = drawn @ noise_factor(network) if noise.name == "noise" else drawn
        rows = graph.op("Mul", samples, self.batch)
        innovations = innovations.transpose(2, 0, 1, 3).reshape(self.horizon, rows, features)
        future = None
        if self.future is not None:
            repeated = graph.op("Unsqueeze", self.future, np.array([1]))
            repeated = repeated.expand(self.horizon, samples, self.batch, network.num_covariates)
            future = repeated.reshape(self.horizon, rows, network.num_covariates)
        hidden = network.recurrent.hidden_size
        state = [part.expand(samples, self.batch, hidden).reshape(rows, hidden) for part in self.state]
        folds = network.recurrent.mode in FOLDABLE and network.recurrent.num_layers == 1
        values = (self._folded if folds else self._stepped)(innovations, future, state)
        transformed = values.reshape(self.horizon, samples, self.batch, features).transpose(1, 2, 0, 3)
        return self._end_at_nonfinite(self.chain.inverse(transformed))

    def _covariates(self, covariates: Value | None, time: Value) -> tuple[Value | None, Value | None]:
        """Return scaled covariates of the step after each of the context, and after each of the horizon.

        Both are ``(time, batch, covariate)``.
        """
        if covariates is None:
            return None, None
        scale = self.network.covariate_scale
        scaled = (covariates.transpose(1, 0, 2) - numbers(scale.mean)) / numbers(scale.scale)
        scaled = scaled.or_where_nan(0.0)
        after = time + np.array([1])
        known = scaled.slice(0, 1 + self.network.transforms.num_lost, after)
        last = self.graph.constant(np.zeros(1, np.float32)).expand(1, self.batch, self.network.num_covariates)
        return known, self.graph.concat(scaled.slice(0, after), last, axis=0)

    def _warm_up(self, transformed: Value, known: Value | None) -> tuple[list[Value], Value]:
        """Return the state after the context, parts of ``(batch, hidden)``, and the context without gaps."""
        hidden = self.network.recurrent.hidden_size
        zero = self.graph.constant(np.zeros(1, np.float32)).expand(self.batch, hidden)
        state = [zero] * (self.num_parts * len(self.weights))
        values = transformed.transpose(1, 0, 2)
        *state, filled = self.graph.branch(
            self.graph.any_nan(values),
            lambda: self._imputed(values, known, state),
            lambda: [*self._read(values, known, state), values],
        )
        return state, filled.transpose(1, 0, 2)

    def _read(self, values: Value, known: Value | None, state: list[Value]) -> list[Value]:
        """Return the state after values ``(time, batch, feature)`` without gaps, by a node for each layer."""
        outputs, following = self._joined(values, known), []
        for weights, parts in zip(self.weights, self._by_layer(state), strict=True):
            outputs, after = fused(self.graph, self.network.cell, weights, outputs, parts)
            following += after
        return following

    def _imputed(self, values: Value, known: Value | None, state: list[Value]) -> list[Value]:
        """Return the state after values with gaps, and the values with the predictions imputed."""
        is_known = self.graph.op("Not", values.is_nan()).cast("FLOAT")
        started = self.graph.op("ReduceMax", is_known, axes=[2]).cumsum(0).above(0.0)  # (time, batch, 1)

        def advance(number: Value, state: list[Value]) -> tuple[list[Value], Value]:
            value = self._at(values, number).or_where_nan(self._prediction(state))
            following = self._step(value, known, number, state)
            has_started = self._at(started.cast("FLOAT"), number)
            return [part * has_started for part in following], value

        following, filled = self.graph.loop(values.size(0), state, advance)
        return [*following, filled]

    def _folded(self, innovations: Value, future: Value | None, state: list[Value]) -> Value:
        """Run the closed loop as one node, see ``closed_loop.FoldedLoop``."""
        weights = FoldedLoop(self.network.recurrent, self.network.readout).weights
        outputs, _ = fused(self.graph, self.network.cell, weights, self._joined(innovations, future), state)
        before = self.graph.op("Unsqueeze", state[0], np.array([0]))
        outputs = self.graph.concat(before, outputs.slice(0, 0, -1), axis=0)
        return outputs @ self.w_readout + self.b_readout + innovations

    def _stepped(self, innovations: Value, future: Value | None, state: list[Value]) -> Value:
        """Run the closed loop step by step."""

        def advance(number: Value, state: list[Value]) -> tuple[list[Value], Value]:
            value = self._prediction(state) + self._at(innovations, number)
            return self._step(value, future, number, state), value

        return self.graph.loop(self.horizon, state, advance)[1]

    def _step(self, value: Value, covariates: Value | None, number: Value, state: list[Value]) -> list[Value]:
        """Return the state of all layers after one value ``(batch, feature)``."""
        inputs = self._joined(value, None if covariates is None else self._at(covariates, number))
        following: list[Value] = []
        for weights, parts in zip(self.weights, self._by_layer(state), strict=True):
            after = step(self.graph, self.network.cell, weights, inputs, parts)
            inputs, following = after[0], following + after
        return following

    def _prediction(self, state: list[Value]) -> Value:
        return state[-self.num_parts] @ self.w_readout + self.b_readout

    def _joined(self, values: Value, covariates: Value | None) -> Value:
        return values if covariates is None else self.graph.concat(values, covariates, axis=-1)

    def _at(self, values: Value, number: Value) -> Value:
        """Return one step of ``(time, ...)`` values."""
        return self.graph.op("Gather", values, number, axis=0)

    def _by_layer(self, state: list[Value]) -> list[list[Value]]:
        return [state[i : i + self.num_parts] for i in range(0, len(state), self.num_parts)]

    def _end_at_nonfinite(self, values: Value) -> Value:
        """Put NaN from the first step on that is not a finite number."""
        is_bad = self.graph.op("Or", values.is_nan(), self.graph.op("IsInf", values))
        return self.graph.op("Where", is_bad.cast("FLOAT").cumsum(-2).above(0.0), np.float32(np.nan), values)


def noise_factor(network: RecurrentNetwork) -> np.ndarray:
    """Return the matrix that gives standard normal numbers the covariance of the one-step errors."""
    variances, axes = torch.linalg.eigh(network.residual_covariance.double().cpu())
    return (axes * variances.clamp_min(0).sqrt()).T.float().numpy()
