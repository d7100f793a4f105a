"""Plain recurrent networks in an ONNX graph: a node for a whole sequence where that is exact, else a loop."""

from typing import Any

import numpy as np

from rnn_lightning.closed_loop import FOLDABLE, FoldedLoop
from rnn_lightning.onnx.cells import fused, step
from rnn_lightning.onnx.forecast import Forecast
from rnn_lightning.onnx.graph import Graph, Value, numbers
from rnn_lightning.onnx.transforms import Chain


class RecurrentForecast(Forecast):
    """The forecast of a ``RecurrentNetwork``: warm-up and closed loop."""

    def __init__(self, graph: Graph, network: Any, inputs: dict[str, Value]) -> None:
        super().__init__(graph, network, inputs)
        self.weights = network.recurrent.all_weights
        self.w_readout, self.b_readout = numbers(network.readout.weight.T), numbers(network.readout.bias)
        self.num_parts = 2 if network.cell == "lstm" else 1
        known, self.future = self.scaled_covariates()
        self.chain = Chain(graph, list(network.transforms.parts))
        self.state, filled = self._warm_up(self.chain.start(self.context), known)
        self.chain.impute(filled)

    def generate(self, innovations: Value) -> Value:
        network, graph = self.network, self.graph
        samples, features = innovations.size(0), network.num_features
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
        return self.chain.inverse(transformed)

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
            value = self.at(values, number).or_where_nan(self._prediction(state))
            following = self._step(value, known, number, state)
            has_started = self.at(started.cast("FLOAT"), number)
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
            value = self._prediction(state) + self.at(innovations, number)
            return self._step(value, future, number, state), value

        return self.graph.loop(self.horizon, state, advance)[1]

    def _step(self, value: Value, covariates: Value | None, number: Value, state: list[Value]) -> list[Value]:
        """Return the state of all layers after one value ``(batch, feature)``."""
        inputs = self._joined(value, None if covariates is None else self.at(covariates, number))
        following: list[Value] = []
        for weights, parts in zip(self.weights, self._by_layer(state), strict=True):
            after = step(self.graph, self.network.cell, weights, inputs, parts)
            inputs, following = after[0], following + after
        return following

    def _prediction(self, state: list[Value]) -> Value:
        return state[-self.num_parts] @ self.w_readout + self.b_readout

    def _joined(self, values: Value, covariates: Value | None) -> Value:
        return values if covariates is None else self.graph.concat(values, covariates, axis=-1)

    def _by_layer(self, state: list[Value]) -> list[list[Value]]:
        return [state[i : i + self.num_parts] for i in range(0, len(state), self.num_parts)]
