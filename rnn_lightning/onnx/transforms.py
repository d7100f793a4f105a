"""The transforms in an ONNX graph, each the twin of a transform of the package."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto
from torch import Tensor

from rnn_lightning import transforms
from rnn_lightning.errors import InputError
from rnn_lightning.onnx.graph import Graph, Value, numbers

TransformState = tuple[Value, ...]

UNKNOWN = np.float32(np.nan)


class Twin(ABC):
    """A transform of ``(batch, time, feature)`` values in a graph."""

    def __init__(self, graph: Graph, part: Any) -> None:
        self.graph, self.part = graph, part

    @abstractmethod
    def start(self, context: Value) -> tuple[Value, TransformState]:
        """Return the transformed context and the state at its start."""

    @abstractmethod
    def inverse(self, transformed: Value, state: TransformState) -> Value:
        """Put the steps after the state back into the units of the input."""

    def impute(self, context: Value, filled: Value, state: TransformState) -> tuple[Value, TransformState]:
        """Return the context without gaps, by its transform without gaps, and the state after it."""
        return context.or_where_nan(self.inverse(filled, state)), state


class Log(Twin):
    """A graph cannot refuse values of zero or less: they count as unknown."""

    def start(self, context: Value) -> tuple[Value, TransformState]:
        return self.graph.op("Log", self.graph.op("Where", context.above(0.0), context, UNKNOWN)), ()

    def inverse(self, transformed: Value, state: TransformState) -> Value:
        return self.graph.op("Exp", transformed)


class Difference(Twin):
    """The state is the last value; sums are in double precision."""

    def start(self, context: Value) -> tuple[Value, TransformState]:
        return context.slice(1, 1) - context.slice(1, 0, -1), ()

    def inverse(self, transformed: Value, state: TransformState) -> Value:
        return (state[0].cast("DOUBLE") + transformed.cast("DOUBLE").cumsum(-2)).cast("FLOAT")

    def impute(self, context: Value, filled: Value, state: TransformState) -> tuple[Value, TransformState]:
        (whole,) = self.graph.branch(
            self.graph.any_nan(context), lambda: [self._continued(context, filled)], lambda: [context]
        )
        return whole, (whole.slice(1, -1),)

    def _continued(self, context: Value, filled: Value) -> Value:
        """Fill each gap with the last known value before it; steps before the first one stay NaN."""
        levels, changes = (value.transpose(1, 0, 2).cast("DOUBLE") for value in (context, filled))
        first = levels.slice(0, 0, 1)

        def step(number: Value, carried: list[Value]) -> tuple[list[Value], Value]:
            change = self.graph.op("Gather", changes, number, axis=0)
            level = self.graph.op("Gather", levels, number + np.array(1), axis=0)
            level = level.or_where_nan(carried[0] + change)
            return [level], level

        start = self.graph.op("Squeeze", first, np.array([0]))
        _, following = self.graph.loop(changes.size(0), [start], step, TensorProto.DOUBLE)
        return self.graph.concat(first, following, axis=0).transpose(1, 0, 2).cast("FLOAT")


class Standardize(Twin):
    """Zero mean and unit standard deviation over the training split."""

    def start(self, context: Value) -> tuple[Value, TransformState]:
        return (context - numbers(self.part.mean)) / numbers(self.part.scale), ()

    def inverse(self, transformed: Value, state: TransformState) -> Value:
        return transformed * numbers(self.part.scale) + numbers(self.part.mean)


class StandardizeContext(Twin):
    """Zero mean and unit standard deviation over the context; the state is the mean and the scale."""

    def start(self, context: Value) -> tuple[Value, TransformState]:
        graph, part, values = self.graph, self.part, context.cast("DOUBLE")
        mean = values.mean_known(1)
        deviation = graph.op("Sqrt", ((values - mean) * (values - mean)).mean_known(1))
        magnitude = graph.op("Abs", values).mean_known(1)
        usual = magnitude * doubles(part.relative)
        few = values.count_known(1).below(np.array(float(part.min_count)))
        scale = graph.op("Where", few, usual, deviation)
        for least in (
            usual * np.array(part.min_ratio),
            graph.op("Abs", mean) * np.array(part.min_part),
            graph.constant(doubles(part.floor)),
        ):
            scale = graph.op("Where", scale.above(least), scale, least)
        says_something = graph.op("And", magnitude.above(np.array(0.0)), scale.above(np.array(0.0)))
        scale = graph.op("Where", says_something, scale, doubles(part.scale)).cast("FLOAT")
        mean = mean.or_where_nan(doubles(part.mean)).cast("FLOAT")
        return (context - mean) / scale, (mean, scale)

    def inverse(self, transformed: Value, state: TransformState) -> Value:
        mean, scale = state
        return transformed * scale + mean


def doubles(tensor: Tensor) -> np.ndarray:
    """Return statistics as float64 numbers."""
    return tensor.detach().double().cpu().numpy()


TWINS: dict[type[transforms.Transform], type[Twin]] = {
    transforms.Log: Log,
    transforms.Difference: Difference,
    transforms.Standardize: Standardize,
    transforms.StandardizeContext: StandardizeContext,
}


class Chain:
    """Transforms one after another."""

    def __init__(self, graph: Graph, parts: Sequence[Any]) -> None:
        for part in parts:
            if type(part) not in TWINS:
                raise InputError(f"the transform {type(part).__name__} cannot be exported to ONNX.")
        self.twins = [TWINS[type(part)](graph, part) for part in parts]
        self._starts: list[tuple[Value, TransformState]] = []
        self._states: list[TransformState] = []  # after the context, last transform first

    def start(self, context: Value) -> Value:
        """Transform a context."""
        for twin in self.twins:
            values, state = twin.start(context)
            self._starts.append((context, state))
            context = values
        return context

    def impute(self, filled: Value) -> None:
        """Store the states after the context, given its transform without gaps."""
        for twin, (context, state) in zip(reversed(self.twins), reversed(self._starts), strict=True):
            filled, after = twin.impute(context, filled, state)
            self._states.append(after)

    def inverse(self, transformed: Value) -> Value:
        """Put the steps after the context back into the units of the data."""
        for twin, state in zip(reversed(self.twins), self._states, strict=True):
            transformed = twin.inverse(transformed, state)
        return transformed
