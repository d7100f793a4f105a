"""The seasonal network in an ONNX graph: each series has its season, and a forecast is a gap at its end."""

from typing import Any

import numpy as np

from rnn_lightning.onnx.forecast import Forecast
from rnn_lightning.onnx.graph import Graph, Value
from rnn_lightning.onnx.season_lags import Lags
from rnn_lightning.onnx.season_step import SeasonStep
from rnn_lightning.pretrained.season_scale import (
    LEAST_OF_RANGE,
    LEAST_WEIGHT,
    LEVEL_STEPS,
    MIN_STEPS,
    SCALE_OF_ZEROS,
    UNKNOWN_DISTANCE,
)


class SeasonalForecast(Forecast):
    """The forecast of a ``SeasonalNetwork`` with the season of each series."""

    traits = ("season",)

    def __init__(self, graph: Graph, network: Any, inputs: dict[str, Value]) -> None:
        super().__init__(graph, network, inputs)
        self.season = graph.op("Max", inputs["season"], np.array(1)).reshape(-1, 1)  # (batch, 1)
        self.longest = graph.op("ReduceMax", self.season, axes=[0, 1], keepdims=0).reshape(1)
        self.known, self.future = self.scaled_covariates()
        seen = None if network.ignores_covariates else inputs.get("covariates")
        self.level, self.scale, self.bound = season_scale(self.context, self.season, seen)
        self.memory = self._read()

    def generate(self, innovations: Value) -> Value:
        graph, samples = self.graph, innovations.size(0)
        rows = graph.op("Mul", samples, self._num_rows(self.batch))
        steps = innovations.transpose(2, 0, 1, 3).reshape(self.horizon, rows, 1)
        covariates = self._of_rows(self.future, samples)
        halves = [2, 2, *[1] * (len(self.memory) - 2)]
        memory = [
            self._sampled(part, samples, number) for part, number in zip(self.memory, halves, strict=True)
        ]
        step = self._step(samples)

        def advance(number: Value, carried: list[Value]) -> tuple[list[Value], Value]:
            after = None if covariates is None else self.at(covariates, number)
            return step(carried, None, self.at(steps, number), after)

        values = graph.loop(self.horizon, memory, advance)[1]
        values = values.reshape(self.horizon, samples, self.batch, self.network.num_features)
        values = values.transpose(1, 2, 0, 3) * self.scale + self.level
        return graph.op("Where", values.below(self.bound), self.bound, values)

    def _read(self) -> list[Value]:
        """Return the memory after the context."""
        one = self.graph.constant(np.array([1]))
        transformed = (self.context - self.level) / self.scale
        rows, num_steps = self._num_rows(self.batch), self.context.size(1)
        values = transformed.transpose(1, 0, 2).reshape(num_steps, rows, 1)
        covariates, step = self._of_rows(self.known, one), self._step(one)

        def advance(number: Value, carried: list[Value]) -> tuple[list[Value], Value]:
            after = None if covariates is None else self.at(covariates, number)
            return step(carried, self.at(values, number), 0.0, after)

        return self.graph.loop(num_steps, step.start(rows), advance)[0]

    def _step(self, samples: Value) -> SeasonStep:
        """Return the step of ``samples * batch * feature`` rows."""
        seasons = self.season.reshape(1, -1, 1).expand(samples, self.batch, self.network.num_features)
        return SeasonStep(self.graph, self.network, Lags(self.graph, seasons.reshape(-1, 1), self.longest))

    def _num_rows(self, batch: Value) -> Value:
        return batch * np.array([self.network.num_features])

    def _sampled(self, part: Value, samples: Value, halves: int) -> Value:
        """Repeat a part ``(halves * row, size)`` of the memory for each sample."""
        apart = part.reshape(halves, 1, self._num_rows(self.batch), part.size(1))
        sizes = (halves, samples, self._num_rows(self.batch), part.size(1))
        return apart.expand(*sizes).reshape(-1, part.size(1))

    def _of_rows(self, covariates: Value | None, samples: Value) -> Value | None:
        """Repeat covariates ``(time, batch, covariate)`` for the rows of a step."""
        if covariates is None:
            return None
        steps, count = covariates.size(0), self.network.num_covariates
        apart = covariates.reshape(steps, 1, self.batch, 1, count)
        wide = apart.expand(steps, samples, self.batch, self.network.num_features, count)
        return wide.reshape(steps, -1, count)


def season_scale(
    context: Value, season: Value, covariates: Value | None = None
) -> tuple[Value, Value, Value]:
    """Return the level, the scale and the lower bound, ``(batch, 1, feature)`` each, see ``SeasonScale``."""
    graph, values = context.graph, context.cast("DOUBLE")
    from_end = context.size(1) - context.steps()  # (time, 1), 1 for the newest
    season = season.reshape(-1, 1, 1)

    def last(num_steps: Value, of: Value = values) -> Value:
        return graph.op("Where", num_steps.reaches(from_end), of, np.array(np.nan))

    def difference(lag: Value | np.ndarray) -> Value:
        differences = graph.op("Abs", recent - recent.before(lag))
        if known is None:
            return differences.mean_known(1)
        apart = known - known.before(lag)
        distance = (apart * apart).or_where_nan(np.array(UNKNOWN_DISTANCE)).sum(2)  # (batch, time, 1)
        weights = graph.op("Max", graph.op("Exp", distance * np.array(-2.0)), np.array(LEAST_WEIGHT))
        is_known = graph.op("Not", differences.is_nan()).cast("DOUBLE")
        total = (differences.or_where_nan(np.array(0.0)) * weights).sum(1)
        return total / (is_known * weights).sum(1)

    num_recent = graph.op("Max", season * np.array(4), np.array(MIN_STEPS))
    recent, known = last(num_recent), None
    if covariates is not None:
        own = covariates.slice(1, 0, context.size(1)).cast("DOUBLE")
        own = graph.op("Where", context.steps().above(np.array(0)), own, np.array(np.nan))
        rest = last(num_recent, own)
        rest = rest - rest.mean_known(1)
        deviation = graph.op("Sqrt", (rest * rest).mean_known(1))
        known = rest / graph.op("Where", deviation.above(np.array(0.0)), deviation, np.array(1.0))
    neighbours, apart = difference(np.ones((1, 1, 1), np.int64)), difference(season)
    scale = apart.or_where_nan(neighbours) * np.array(0.75) + neighbours * np.array(0.25)
    magnitude = graph.op("Abs", recent).mean_known(1)
    scale = scale.or_where_nan(magnitude) + magnitude * np.array(1e-6)
    highest = graph.op("ReduceMax", recent.or_where_nan(np.array(-np.inf)), axes=[1])
    lowest = graph.op("ReduceMin", recent.or_where_nan(np.array(np.inf)), axes=[1])
    scale = graph.op("Max", scale, (highest - lowest) * np.array(LEAST_OF_RANGE))
    scale = graph.op("Where", scale.above(np.array(0.0)), scale, np.array(SCALE_OF_ZEROS))
    scale = graph.op("Where", magnitude.is_nan(), np.array(1.0), scale)
    level = last(graph.op("Max", season, np.array(LEVEL_STEPS))).mean_known(1)
    level = level.or_where_nan(recent.mean_known(1)).or_where_nan(np.array(0.0))
    negative = graph.op("ReduceMin", context.or_where_nan(0.0), axes=[1]).below(0.0)
    bound = graph.op("Where", negative, np.float32(-np.inf), np.float32(0.0))
    return level.cast("FLOAT"), scale.cast("FLOAT"), bound
