"""ONNX graphs written like NumPy: values with operators, loops and branches."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, Union

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

OPSET, IR_VERSION = 17, 8
"""Every runtime since 2022 reads these versions."""

Operand: TypeAlias = Union["Value", float, np.ndarray, np.float32]

END = 2**62
"""An index behind the last step of any axis."""


class Value:
    """The result of a node, with the operators of arithmetic."""

    def __init__(self, graph: "Graph", name: str) -> None:
        self.graph, self.name = graph, name

    def __add__(self, other: Operand) -> "Value":
        return self.graph.op("Add", self, other)

    def __sub__(self, other: Operand) -> "Value":
        return self.graph.op("Sub", self, other)

    def __rsub__(self, other: Operand) -> "Value":
        return self.graph.op("Sub", other, self)

    def __mul__(self, other: Operand) -> "Value":
        return self.graph.op("Mul", self, other)

    def __truediv__(self, other: Operand) -> "Value":
        return self.graph.op("Div", self, other)

    def __matmul__(self, other: Operand) -> "Value":
        return self.graph.op("MatMul", self, other)

    def above(self, other: Operand) -> "Value":
        return self.graph.op("Greater", self, other)

    def below(self, other: Operand) -> "Value":
        return self.graph.op("Less", self, other)

    def reaches(self, other: Operand) -> "Value":
        return self.graph.op("GreaterOrEqual", self, other)

    def cast(self, kind: str) -> "Value":
        """Convert to ``FLOAT``, ``DOUBLE``, ``INT64`` or ``BOOL``."""
        return self.graph.op("Cast", self, to=TensorProto.DataType.Value(kind))

    def is_nan(self) -> "Value":
        return self.graph.op("IsNaN", self)

    def or_where_nan(self, other: Operand) -> "Value":
        """Return the value, or ``other`` where it is NaN."""
        return self.graph.op("Where", self.is_nan(), other, self)

    def sum(self, axis: int) -> "Value":
        """Return the sum along an axis, which is kept with length 1."""
        return self.graph.op("ReduceSum", self, np.array([axis]))

    def count_known(self, axis: int) -> "Value":
        """Return the number of values along an axis that are not NaN, in double precision."""
        return self.graph.op("Not", self.is_nan()).cast("DOUBLE").sum(axis)

    def mean_known(self, axis: int) -> "Value":
        """Return the mean of the known values in double precision along an axis, NaN if there are none."""
        return self.or_where_nan(np.array(0.0)).sum(axis) / self.count_known(axis)

    def cumsum(self, axis: int) -> "Value":
        return self.graph.op("CumSum", self, np.array(axis))

    def transpose(self, *axes: int) -> "Value":
        return self.graph.op("Transpose", self, perm=axes)

    def slice(self, axis: int, begin: "Value | int", end: "Value | int" = END) -> "Value":
        """Return the part of an axis from ``begin`` to before ``end``, integers or tensors of one."""
        return self.graph.op("Slice", self, self.graph.sizes(begin), self.graph.sizes(end), np.array([axis]))

    def reshape(self, *sizes: "Value | int") -> "Value":
        return self.graph.op("Reshape", self, self.graph.sizes(*sizes))

    def expand(self, *sizes: "Value | int") -> "Value":
        return self.graph.op("Expand", self, self.graph.sizes(*sizes))

    def size(self, axis: int) -> "Value":
        """Return the length of an axis as a tensor of one integer."""
        return self.graph.op("Gather", self.graph.op("Shape", self), np.array([axis]))

    def steps(self) -> "Value":
        """Return the numbers of the steps of ``(batch, time, feature)`` values, ``(time, 1)`` integers."""
        num_steps = self.graph.op("Squeeze", self.size(1), np.array([0]))
        steps = self.graph.op("Range", np.array(0), num_steps, np.array(1))
        return self.graph.op("Unsqueeze", steps, np.array([1]))

    def before(self, lag: Operand) -> "Value":
        """Return ``(batch, time, feature)`` values ``lag (batch, 1, 1)`` steps before, NaN at the begin."""
        graph, steps = self.graph, self.steps() - lag  # (batch, time, 1)
        sources = graph.op("Expand", graph.op("Max", steps, np.array(0)), graph.op("Shape", self))
        found = graph.op("GatherElements", self, sources, axis=1)
        return graph.op("Where", steps.reaches(np.array(0)), found, self * np.array(np.nan))


class Graph:
    """A graph under construction: its nodes so far, and all constants."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._count = 0

    def constant(self, value: float | np.float32 | np.ndarray) -> Value:
        """Add a constant: float32 for a number, the type of the array otherwise."""
        array = value if isinstance(value, np.ndarray) else np.asarray(value, np.float32)
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, self._new_name("constant"))
        return Value(self, self._constants[key].name)

    def op(self, kind: str, *inputs: Operand | None, **attributes: Any) -> Value:
        """Add a node and return its first result."""
        return self.ops(kind, *inputs, num_outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: Operand | None, num_outputs: int, **attributes: Any) -> list[Value]:
        """Add a node and return all its results."""
        values = (part if isinstance(part, Value | None) else self.constant(part) for part in inputs)
        names = ["" if value is None else value.name for value in values]
        outputs = [self._new_name(kind) for _ in range(num_outputs)]
        self._nodes.append(helper.make_node(kind, names, outputs, **attributes))
        return [Value(self, name) for name in outputs]

    def sizes(self, *sizes: Value | int) -> Value:
        """Join integers and tensors of one integer to a shape."""
        parts = [size if isinstance(size, Value) else self.constant(np.array([size])) for size in sizes]
        return self.op("Concat", *parts, axis=0)

    def any_nan(self, values: Value) -> Value:
        """Return a scalar that is true if any value is NaN."""
        found = values.is_nan().cast("FLOAT")
        return self.op("ReduceMax", found, keepdims=0).above(0.0)

    def concat(self, *values: Operand, axis: int) -> Value:
        return self.op("Concat", *values, axis=axis)

    def branch(
        self, condition: Value, then: Callable[[], list[Value]], otherwise: Callable[[], list[Value]]
    ) -> list[Value]:
        """Return the results of one of two functions."""
        yes, no = self._subgraph(lambda _: then(), []), self._subgraph(lambda _: otherwise(), [])
        return self.ops("If", condition, num_outputs=len(yes.output), then_branch=yes, else_branch=no)

    def loop(
        self,
        num_steps: Value,
        carried: Sequence[Value],
        step: Callable[[Value, list[Value]], tuple[list[Value], Value]],
        kind: int = TensorProto.FLOAT,
    ) -> tuple[list[Value], Value]:
        """Call ``step(number, carried)`` for each step; the carried values have two axes each.

        Returns:
            The carried values after the last step, and the second results of all steps, stacked along a new
            first axis.
        """

        def body(inputs: list[Value]) -> list[Value]:
            following, result = step(inputs[0], inputs[2:])
            return [self.op("Identity", inputs[1]), *following, result]

        types = [(TensorProto.INT64, 0), (TensorProto.BOOL, 0), *[(kind, 2)] * len(carried)]
        inputs = [self.op("Squeeze", num_steps, np.array([0])), self.constant(np.array(True)), *carried]
        num_outputs = len(carried) + 1
        *following, results = self.ops(
            "Loop", *inputs, num_outputs=num_outputs, body=self._subgraph(body, types)
        )
        return following, results

    def model(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto], **metadata: str
    ) -> onnx.ModelProto:
        """Return the checked model, whose outputs are the values with the names of ``outputs``."""
        graph = helper.make_graph(self._nodes, "rnn_lightning", inputs, outputs, [*self._constants.values()])
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="rnn-lightning"
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model

    def name(self, value: Value, name: str) -> None:
        """Name a value."""
        self._nodes.append(helper.make_node("Identity", [value.name], [name]))

    def _subgraph(
        self, make: Callable[[list[Value]], list[Value]], types: Sequence[tuple[int, int]]
    ) -> onnx.GraphProto:
        """Return a graph within a node; ``types`` are the type and the number of axes of each input."""
        inputs = [self._new_name("input") for _ in types]
        outer, self._nodes = self._nodes, []
        # A subgraph may only return results of its own nodes, not values from outside.
        outputs = [self.op("Identity", value) for value in make([Value(self, name) for name in inputs])]
        inner, self._nodes = self._nodes, outer
        described = [
            helper.make_tensor_value_info(name, kind, [None] * num_axes)
            for name, (kind, num_axes) in zip(inputs, types, strict=True)
        ]
        results = [onnx.ValueInfoProto(name=value.name) for value in outputs]
        return helper.make_graph(inner, self._new_name("graph"), described, results)

    def _new_name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"


def numbers(tensor: Tensor) -> np.ndarray:
    """Return a tensor of the network as float32 numbers."""
    return tensor.detach().float().cpu().numpy()
