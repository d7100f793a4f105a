"""The compiled seasonal network as an operator of PyTorch with a gradient, on a CPU and in float32.

What the features of a series are is told by ``Tables``. Autograd, the profiler and distributed training see
an ordinary operator, ``torch.ops.rnn_lightning.seasonal``. It has no second derivative.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnn_lightning.native import library
from rnn_lightning.native.calls import pointer, pointers, require_library, run
from rnn_lightning.native.library import SWITCH, SeasonalTask

NUM_FIRST, NUM_COUNTS = 8, 7
"""Quantities before the profiles, and features that tell of time alone: both belong to the kernel."""


class Tables(NamedTuple):
    """What the features of a series and the ingredients of its forecasts are, see ``seasonal.h``.

    Attributes:
        constants: rates of the smoothing of levels, mean and slopes, the most seasons of each profile, rate
            of the smoothing of errors, least scale of the innovations.
        sums: ``(difference + forecast, quantity)``, the weights of the sums of quantities.
        mixed: the quantities that the gates weigh by their place: levels, profiles, slopes.
        sizes: numbers of level and slope rates, profiles, differences, forecasts, mixed levels, mixed slopes.
    """

    constants: Tensor
    sums: Tensor
    mixed: list[int]
    sizes: list[int]


_LIBRARY = torch.library.Library("rnn_lightning", "FRAGMENT")
_TABLES = "Tensor constants, Tensor sums, int[] mixed, int[] sizes, int season, bool free"
_LIBRARY.define(
    f"seasonal(Tensor values, Tensor? covariates, Tensor? state, Tensor[] weights, {_TABLES}, bool keep) "
    "-> (Tensor predictions, Tensor values, Tensor after, Tensor saved)"
)
_LIBRARY.define(
    f"seasonal_backward(Tensor saved, Tensor values, Tensor[] weights, {_TABLES}, bool continues, "
    "Tensor? d_predictions, Tensor? d_values, Tensor? d_after) -> Tensor[]"
)


def runs(values: Tensor, weights: Sequence[Tensor]) -> bool:
    """Return True if the compiled network can read these values with these weights: on a CPU, in float32."""
    return (
        values.device.type == "cpu"
        and all(part.dtype == torch.float32 for part in (values, *weights))
        and not (values.requires_grad and torch.is_grad_enabled())
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_exporting()
        and library.load() is not None
    )


def seasonal(
    values: Tensor,
    covariates: Tensor | None,
    state: Tensor | None,
    weights: Sequence[Tensor],
    tables: Tables,
    season: int,
    free: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the network over rows, see ``pretrained/seasonal.py``.

    Args:
        values: ``(row, time)``, NaN where unknown, or innovations; constants for the gradient.
        covariates: ``(row, time, covariate)``, those of the step after each; constants for the gradient.
        state: ``(row, number)``, the state before the first step; None for rows that begin with their first
            known value, whose values, known or not, are constants for the gradient.
        weights: those of the LSTM as ``torch.nn`` has them, and weight and bias of the head and the readout.
        tables: the features.
        season: steps of a season, 1 for none.
        free: whether all values are innovations.

    Returns:
        The predictions after each step and the values without gaps, ``(row, time)``, and the state after the
        last step.

    Raises:
        TypeError: if a tensor is not float32.
        ValueError: if a shape does not fit the rest.
        MemoryError: if there is no memory for the work.
    """
    settings = (*tables, season, free)
    differentiable = [part for part in (state, *weights) if part is not None and part.requires_grad]
    if torch.is_grad_enabled() and differentiable:
        results = _Seasonal.apply(values, covariates, state, settings, *weights)  # type: ignore[no-untyped-call]
    else:
        results = torch.ops.rnn_lightning.seasonal(values, covariates, state, weights, *settings, False)
    predictions, taken, after, _ = results
    return predictions, taken, after


class _Seasonal(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        covariates: Tensor | None,
        state: Tensor | None,
        settings: tuple[Any, ...],
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        operator = torch.ops.rnn_lightning.seasonal
        results: tuple[Tensor, ...] = operator(values, covariates, state, weights, *settings, True)
        _, taken, _, saved = results
        ctx.save_for_backward(saved, values, *weights)
        ctx.settings, ctx.continues = settings, state is not None
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*([saved] if state is not None else [saved, taken]))
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the native seasonal network has no second derivative: take gradients without create_graph, "
                f"or set the environment variable {SWITCH}=0 for the operators of PyTorch."
            )
        saved, values, *weights = ctx.saved_tensors
        of_state, *of_weights = torch.ops.rnn_lightning.seasonal_backward(
            saved, values, weights, *ctx.settings, ctx.continues, *gradients[:3]
        )
        return None, None, of_state if ctx.continues else None, None, *of_weights


def _forward(
    values: Tensor, covariates: Tensor | None, state: Tensor | None, weights: list[Tensor], *settings: Any
) -> tuple[Tensor, ...]:
    *arrays, season, free, keep = settings
    tables = Tables(*arrays)
    task = _task(values, weights, tables, season, free, state is not None)
    _check(task, values, covariates, state, weights, tables)
    inputs = [None if part is None else part.contiguous() for part in (values, covariates, state)]
    weights = [weight.contiguous() for weight in weights]
    results = _results(values, task, keep)
    task.x, task.next, task.state = map(pointer, inputs)
    task.weights = pointers(weights)
    task.predictions, task.values, task.after, task.saved = map(pointer, results)
    _run("seasonal_forward", task, tables)
    return results


def _backward(saved: Tensor, values: Tensor, weights: list[Tensor], *settings: Any) -> list[Tensor]:
    *arrays, season, free, continues, d_predictions, d_values, d_after = settings
    tables = Tables(*arrays)
    task = _task(values, weights, tables, season, free, continues)
    gradients = (d_predictions, d_values, d_after)
    inputs = [None if part is None else part.contiguous() for part in (values, *gradients)]
    weights = [weight.contiguous() for weight in weights]
    results = _gradients(values, task, weights)
    task.x, task.d_predictions, task.d_values, task.d_after = map(pointer, inputs)
    task.weights, task.saved = pointers(weights), pointer(saved)
    task.d_state, task.d_weights = pointer(results[0]), pointers(results[1:])
    _run("seasonal_backward", task, tables)
    return results


def _task(
    values: Tensor, weights: Sequence[Tensor], tables: Tables, season: int, free: bool, continues: bool
) -> SeasonalTask:
    """All of a task but its pointers."""
    levels, slopes, profiles, differences, forecasts, mixed_levels, mixed_slopes = tables.sizes
    num_covariates = weights[0].shape[1] - differences - forecasts - NUM_COUNTS
    shape = (*map(int, values.shape), season, weights[1].shape[1], weights[4].shape[0], num_covariates)
    counts = (levels, slopes, profiles, differences, forecasts, mixed_levels, mixed_slopes)
    return SeasonalTask(torch.get_num_threads(), *shape, continues, free, *counts)


def _run(function: str, task: SeasonalTask, tables: Tables) -> None:
    task.constants, task.sums = pointer(tables.constants), pointer(tables.sums)
    task.mixed = (library.INT * len(tables.mixed))(*tables.mixed)
    run(function, task)


def _results(values: Tensor, task: SeasonalTask, keep: bool) -> tuple[Tensor, ...]:
    found, new = require_library(), values.new_empty
    after, saved = new(task.rows, found.seasonal_state(task)), new(found.seasonal_saved(task) if keep else 0)
    return new(values.shape), new(values.shape), after, saved


def _gradients(values: Tensor, task: SeasonalTask, weights: Sequence[Tensor]) -> list[Tensor]:
    numbers = require_library().seasonal_state(task) if task.continues else 0
    zeros = [torch.zeros_like(weight, memory_format=torch.contiguous_format) for weight in weights]
    return [values.new_empty(task.rows, numbers), *zeros]


def _fake_forward(values: Tensor, _covariates: Tensor | None, state: Tensor | None, *others: Any) -> Any:
    weights, *tables, season, free, keep = others
    return _results(values, _task(values, weights, Tables(*tables), season, free, state is not None), keep)


def _fake_backward(_saved: Tensor, values: Tensor, weights: list[Tensor], *others: Any) -> list[Tensor]:
    *tables, season, free, continues, _, _, _ = others
    return _gradients(values, _task(values, weights, Tables(*tables), season, free, continues), weights)


def _check(
    task: SeasonalTask,
    values: Tensor,
    covariates: Tensor | None,
    state: Tensor | None,
    weights: list[Tensor],
    tables: Tables,
) -> None:
    """Raise for what the library could not bear."""
    hidden, head, num_covariates = task.hidden, task.head, task.covariates
    num_quantities = NUM_FIRST + task.profiles + task.levels + 1 + task.slopes + 2
    num_gates = task.mixed_levels + task.profiles + 1 + task.mixed_slopes + 4
    num_features = task.differences + task.forecasts + NUM_COUNTS
    gates, inputs = 4 * hidden, num_features + num_covariates
    given = [tuple(part.shape) for part in (*weights, tables.constants, tables.sums)]
    expected: list[tuple[int, ...]] = [(gates, inputs), (gates, hidden), (gates,), (gates,)]
    expected += [(head, hidden + num_features), (head,), (num_gates, head), (num_gates,)]
    expected += [(task.levels + 1 + task.slopes + task.profiles + 2,)]
    expected += [(task.differences + task.forecasts, num_quantities)]
    if covariates is not None:
        given, expected = [*given, tuple(covariates.shape)], [*expected, (*values.shape, num_covariates)]
    if state is not None and task.season > 0:
        numbers = require_library().seasonal_state(task)
        given, expected = [*given, tuple(state.shape)], [*expected, (task.rows, numbers)]
    if given != expected or (covariates is None) != (num_covariates == 0) or min(hidden, head) < 1:
        raise ValueError(f"values {tuple(values.shape)} need the shapes {expected}, got {given}.")
    if task.season < 1 or task.profiles < 2 or (task.free and state is None):
        raise ValueError("a season is at least 1, there are two profiles, and a free run has a state.")
    if len(tables.mixed) != task.mixed_levels + task.profiles + task.mixed_slopes or not all(
        0 <= place < num_quantities for place in tables.mixed
    ):
        raise ValueError(f"the gates weigh some of the {num_quantities} quantities, got {tables.mixed}.")
    floats = [part for part in (values, covariates, state, *weights, *tables[:2]) if part is not None]
    if any(part.dtype != torch.float32 for part in floats):
        raise TypeError(f"all tensors must be float32, got {[part.dtype for part in floats]}.")


_LIBRARY.impl("seasonal", _forward, "CPU")
_LIBRARY.impl("seasonal_backward", _backward, "CPU")
_LIBRARY.impl("seasonal", _fake_forward, "Meta")  # not by ``register_fake``, see ``operator.py``
_LIBRARY.impl("seasonal_backward", _fake_backward, "Meta")
