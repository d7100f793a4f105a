"""Generation: from a context and a horizon to a forecast, in the units of the data.

``rollout`` is the whole of it. For a stream, ``warm_up``, ``observe`` and ``generate`` are its parts: the
state after a history, the state after more values, and any number of futures from a state.
"""

import math
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rnn_lightning.devices import work_at_once
from rnn_lightning.errors import InputError, counted, require_counts
from rnn_lightning.network import Network
from rnn_lightning.recurrent import RecurrentState
from rnn_lightning.transforms import Traits, TransformState, with_covariates

CHUNK_NUMBERS = 2**22
"""Numbers in the hidden states of one chunk of steps of a generation on a CPU: 16 MB of float32."""

NO_COVARIANCE = "noise must be a covariance: symmetric, without negative eigenvalues."

Generators = np.random.Generator | Sequence[np.random.Generator]

_evaluations: dict[nn.Module, tuple[int, bool]] = {}  # those under way, and the mode before the first
_lock = threading.Lock()


class Forecast(NamedTuple):
    """Forecasts of a batch of series, in the units of the data.

    Attributes:
        series_index: ``(batch,)``, the series of each forecast.
        point: ``(batch, horizon, feature)``, the free run without noise.
        samples: ``(sample, batch, horizon, feature)``, sampled paths, or None.
        own_error: ``(batch, feature)``, the mean absolute error of earlier forecasts of each series, NaN
            where there are none; None of a network that makes none.
    """

    series_index: Tensor
    point: Tensor
    samples: Tensor | None = None
    own_error: Tensor | None = None

    def __repr__(self) -> str:
        num_series, horizon, num_features = self.point.shape
        sizes = [counted(num_series, "series"), counted(horizon, "step")]
        sizes += [counted(num_features, "feature")]
        sizes += [] if self.samples is None else [counted(len(self.samples), "sampled path")]
        return f"{type(self).__name__}: {', '.join(sizes)}"

    def plot(self) -> Any:
        """Return a ``Figure``: up to four series by lead time, and the middle 80 % of sampled paths."""
        from rnn_lightning.pictures import plot_lead_times

        return plot_lead_times(self.series_index, self.point, self.samples)


class State(NamedTuple):
    """All that generation needs of the past of ``batch`` series: plain tensors to save, load and reuse.

    Attributes:
        recurrent: the state of the recurrent layers, each ``(layer, batch, hidden)``.
        transforms: the state of the transforms, such as the last value for ``difference``.
        traits: traits of the series, ``(batch, ...)`` each.
    """

    recurrent: RecurrentState
    transforms: tuple[TransformState, ...]
    traits: Traits


torch.serialization.add_safe_globals([State])


def rollout(
    network: Network,
    context: Tensor,
    horizon: int,
    *,
    covariates: Tensor | None = None,
    traits: Traits | None = None,
    num_samples: int | None = None,
    noise: Tensor | None = None,
    generator: Generators | None = None,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Generate the ``horizon`` steps after each context by feeding the network's predictions back to it.

    Args:
        network: the network, in evaluation mode (``network.eval()``): dropout is for training.
        context: ``(batch, time, feature)``, the steps up to the origin in the units of the data, NaN where
            they are unknown: the network goes on with its own prediction there.
        horizon: number of steps to generate.
        covariates: ``(batch, time + horizon, covariate)``, those of the context and of the steps to generate.
        traits: traits of the series, ``(batch, ...)`` each, for a network that asks for them.
        num_samples: number of sampled paths for each series; None for the point forecast.
        noise: ``(feature, feature)``, covariance of the noise of a sampled path in transformed units; the
            network's residual covariance if None.
        generator: source of the noise: one for the whole batch, or one for each series, see ``generators``.
        names: names of the series for warnings.

    Returns:
        ``(batch, horizon, feature)``, or ``(sample, batch, horizon, feature)`` with ``num_samples``, in the
        units of the data; NaN, with a warning, from the step on at which a series leaves the finite numbers.

    Raises:
        InputError: if a count is below 1, the context is too short for the transforms or has another number
            of features, covariates are missing or too many, or there is no noise to sample from.
    """
    known, future = context.shape[1] + 1, None
    if covariates is not None:
        if covariates.shape[:2] != (len(context), context.shape[1] + horizon):
            wanted = (len(context), context.shape[1] + horizon, network.num_covariates)
            given = tuple(covariates.shape)
            rule = f"the covariates must be (batch, time + horizon, covariate) = {wanted}"
            raise InputError(f"{rule}, got {given}.")
        covariates, future = covariates[:, 1:known], covariates[:, known:]
    state = warm_up(network, context, covariates, traits)
    drawn: dict[str, Any] = {"num_samples": num_samples, "noise": noise, "generator": generator}
    return generate(network, state, horizon, covariates=future, names=names, **drawn)


def warm_up(
    network: Network, history: Tensor, covariates: Tensor | None = None, traits: Traits | None = None
) -> State:
    """Return the state after a history ``(batch, time, feature)`` in the units of the data, NaN if unknown.

    The state starts from zero at the first known value. ``covariates (batch, time, covariate)`` are those of
    the step *after* each value: the state knows those of the step that it predicts.
    """
    history = _checked(network, history, "context")
    needed = network.transforms.num_lost + 1
    if history.shape[1] < needed:
        given = f"the context has {history.shape[1]} steps"
        raise InputError(f"{given}; the network with its transforms needs at least {needed}.")
    return _continued(network, history, covariates, None, {} if traits is None else traits)


def observe(network: Network, state: State, values: Tensor, covariates: Tensor | None = None) -> State:
    """Return the state after ``values (batch, time, feature)`` that follow ``state``; else like ``warm_up``.

    It equals warming up on all of them, except that ``standardize_context`` keeps the scale of the first
    warm-up.
    """
    values = _checked(network, values, "observed values")
    _require_state(network, state, len(values))
    return _continued(network, values, covariates, state, state.traits)


def generate(
    network: Network,
    state: State,
    horizon: int,
    *,
    covariates: Tensor | None = None,
    num_samples: int | None = None,
    noise: Tensor | None = None,
    generator: Generators | None = None,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Generate from a state, which is left as it is; for the arguments see ``rollout``.

    Except that ``covariates (batch, horizon - 1, covariate)`` begin at the second step to generate: the state
    knows the first ones.
    """
    require_counts(horizon=horizon, num_samples=num_samples)
    if not isinstance(state, State):
        raise InputError(f"the state must be one of `warm_up` or `observe`, got {type(state).__name__}.")
    batch_size = state.recurrent[0].shape[1]
    _require_state(network, state, batch_size)
    innovations = Innovations(network, batch_size, num_samples, noise, generator)
    future = _future_covariates(network, covariates, batch_size, horizon)
    recurrent, rows, traits = state.recurrent, batch_size * (num_samples or 1), state.traits
    if num_samples is not None:  # samples are rows of the batch: row = sample * batch_size + series
        recurrent = tuple(part.repeat(1, num_samples, 1) for part in recurrent)
        future = None if future is None else future.repeat(num_samples, 1, 1)
        traits = {name: torch.cat([trait] * num_samples) for name, trait in traits.items()}
    numbers_at_once = work_at_once(CHUNK_NUMBERS, recurrent[0].device)
    chunks, num_steps = [], max(1, numbers_at_once // (rows * recurrent[0].shape[-1]))
    for first in range(0, horizon, num_steps):
        inputs = innovations.draw(min(num_steps, horizon - first))  # (row, time, feature)
        if future is not None:
            inputs = torch.cat([inputs, future[:, first : first + num_steps]], -1)
        values, recurrent = network.free_run(inputs, recurrent, traits)
        chunks.append(values)
    transformed = torch.cat(chunks, 1)  # (row, horizon, feature)
    if num_samples is not None:
        transformed = transformed.unflatten(0, (num_samples, batch_size))
    return _end_at_nonfinite(network.transforms.inverse(transformed, state.transforms), names)


@contextmanager
def evaluating(forecaster: Any) -> Iterator[None]:
    """Run a forecaster without dropout and gradients, in any number of threads, and leave it in its mode."""
    module = forecaster if isinstance(forecaster, nn.Module) else forecaster.network
    with _lock:
        count, mode = _evaluations.get(module, (0, module.training))
        _evaluations[module] = count + 1, mode
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        with _lock:
            count, mode = _evaluations.pop(module)
            if count > 1:
                _evaluations[module] = count - 1, mode
            else:
                module.train(mode)


def generators(seed: int, series_index: Iterable[int]) -> list[np.random.Generator]:
    """Make a generator for each series: its noise depends on the seed and the index of the series alone."""
    return [np.random.default_rng([seed % 2**64, index]) for index in series_index]


def path_bounds(samples: Tensor, point: Tensor, levels: Sequence[float]) -> Tensor:
    """Return the bounds of intervals that hold the point forecast and the middle of sampled paths.

    Args:
        samples: ``(sample, batch, horizon, feature)``.
        point: ``(batch, horizon, feature)``.
        levels: levels in percent.

    Returns:
        ``(2 * level, batch, horizon, feature)``: low, high, low ...
    """
    quantiles = [0.5 + sign * level / 200 for level in levels for sign in (-1, 1)]
    # Not torch.quantile, which accepts at most 16 million numbers.
    bounds = torch.from_numpy(np.quantile(samples.cpu().numpy(), quantiles, axis=0)).to(point)
    bounds[::2], bounds[1::2] = bounds[::2].minimum(point), bounds[1::2].maximum(point)
    return bounds


class Innovations:
    """The innovations of a rollout, drawn in order of time: a longer horizon begins with a shorter one."""

    def __init__(
        self,
        network: Network,
        batch_size: int,
        num_samples: int | None,
        noise: Tensor | None,
        generator: Generators | None,
    ) -> None:
        self.like, self.batch_size, self.num_samples = network.readout.weight, batch_size, num_samples
        self.num_features = size = network.num_features
        if num_samples is None:
            if noise is not None or generator is not None:
                raise InputError("noise and generator are for sampled paths: give num_samples as well.")
            return
        covariance = network.residual_covariance if noise is None else noise
        if covariance.shape != (size, size) or not bool(covariance.isfinite().all()):
            raise InputError(
                "sampled paths need the covariance of their noise, and the network holds none: fit it with "
                "validation data (`val_fraction` above 0), or give a finite (feature, feature) tensor."
            )
        if not torch.allclose(covariance, covariance.T):
            raise InputError(NO_COVARIANCE)
        self.covariance = covariance.detach().cpu().double().numpy()
        generator = generator or np.random.default_rng(int(torch.randint(2**63 - 1, ())))
        self.generators = [generator] if isinstance(generator, np.random.Generator) else list(generator)
        if len(self.generators) not in (1, batch_size):
            given = f"{len(self.generators)} generators for {batch_size} series"
            raise InputError(f"{given}: give one, or one for each.")

    def draw(self, num_steps: int) -> Tensor:
        """Draw the next innovations, ``(sample * batch, time, feature)``; zeros without samples."""
        if self.num_samples is None:
            return self.like.new_zeros(self.batch_size, num_steps, self.num_features)
        size = (num_steps, self.batch_size // len(self.generators), self.num_samples)
        mean, tolerance = np.zeros(self.num_features), 1e-6 * self.covariance.diagonal().max()
        settings: dict[str, Any] = {"tol": tolerance, "method": "eigh", "check_valid": "raise"}
        try:
            drawn = [
                each.multivariate_normal(mean, self.covariance, size, **settings) for each in self.generators
            ]
        except ValueError as error:
            raise InputError(NO_COVARIANCE) from error
        joined = torch.from_numpy(np.concatenate(drawn, 1))  # (time, batch, sample, feature)
        return joined.permute(2, 1, 0, 3).flatten(0, 1).to(self.like)


def _future_covariates(
    network: Network, covariates: Tensor | None, batch_size: int, horizon: int
) -> Tensor | None:
    """Return the scaled covariates of the step after each of the horizon, inputs of the closed loop."""
    if covariates is None and network.num_covariates == 0:
        return None
    shape = (batch_size, horizon - 1, network.num_covariates)
    covariates = torch.zeros(shape) if covariates is None and horizon == 1 else covariates
    if covariates is None or covariates.shape != shape:
        given = None if covariates is None else tuple(covariates.shape)
        raise InputError(f"the covariates from the second step on must be {shape}, got {given}.")
    no_values = network.readout.weight.new_zeros(*shape[:2], network.num_features)
    scaled = network.join(no_values, covariates.to(no_values))[..., network.num_features :]
    return functional.pad(scaled, (0, 0, 0, 1))  # the state after the last step is not asked for


def _continued(
    network: Network, values: Tensor, covariates: Tensor | None, before: State | None, traits: Traits
) -> State:
    """Return the state after checked ``values`` that follow ``before``, or start a series if it is None."""
    known = with_covariates(traits, None if getattr(network, "ignores_covariates", False) else covariates)
    if before is None:
        state, (transformed, of_transforms) = None, network.transforms.start(values, known)
    else:
        state, (transformed, of_transforms) = before.recurrent, network.transforms(values, before.transforms)
    if covariates is not None:
        covariates = covariates[:, values.shape[1] - transformed.shape[1] :]
    inputs, complete = network.join(transformed, covariates), not bool(transformed.isnan().any())
    encoded = network.encode(inputs, state, traits, inputs.shape[1], complete)
    if not complete:
        states = None if before is None else before.transforms
        _, of_transforms = network.transforms.imputed(values, encoded.values, states, known)
    return State(encoded.state, of_transforms, traits)


def _end_at_nonfinite(values: Tensor, names: Sequence[str] | None) -> Tensor:
    """Replace each feature of a path by NaN from its first non-finite step on, and name the series."""
    # A sum of finite numbers is finite, but for an overflow; looking at each number costs more.
    if math.isfinite(values.sum().item()) or bool(values.isfinite().all()):
        return values
    bad, num_steps = ~values.isfinite(), values.shape[-2]
    first = torch.where(bad.any(-2), bad.int().argmax(-2), num_steps)  # ([sample,] batch, feature)
    ended = [
        f"{names[index] if names is not None else f'series {index} of the batch'} at step {step + 1}"
        for index, step in enumerate(first.reshape(-1, *first.shape[-2:]).amin((0, -1)).tolist())
        if step < num_steps
    ]
    more = f" and {len(ended) - 5} more" if len(ended) > 5 else ""
    warnings.warn(
        f"the free run leaves the finite numbers and is NaN from there: {', '.join(ended[:5])}{more}. At "
        "step 1: nothing to go on from is known in the context. Later: the network or its transforms are "
        "unstable beyond what was trained: train longer, with a lower learning rate, or shorten the horizon.",
        RuntimeWarning,
        stacklevel=3,
    )
    steps = torch.arange(num_steps, device=values.device)[:, None]
    return torch.where(steps >= first[..., None, :], torch.nan, values)


def _checked(network: Network, values: Tensor, what: str) -> Tensor:
    """Return the values on the device and in the precision of the network."""
    if values.ndim != 3 or len(values) == 0 or values.shape[-1] != network.num_features:
        features = counted(network.num_features, "feature")
        rule = f"the {what} must be (batch, time, feature), with {features} for this network"
        are_series = values.ndim > 1 and network.num_features == 1
        advice = ". Several series are (batch, time, 1): values[..., None]" if are_series else ""
        raise InputError(f"{rule}, got {tuple(values.shape)}{advice}.")
    if not math.isfinite(values.sum().item()) and bool(values.isinf().any()):
        raise InputError(f"the {what} must be finite numbers, or NaN where they are not known.")
    return values.to(network.readout.weight)


def _require_state(network: Network, state: State, batch_size: int) -> None:
    expected = [part.shape for part in network.initial_state(batch_size, state.traits)]
    sizes, size = [len(part) for part in state.transforms], (batch_size, network.num_features)
    if (
        [part.shape for part in state.recurrent] != expected
        or sizes != network.transforms.state_sizes
        or any(tensor.shape[::2] != size for part in state.transforms for tensor in part)
    ):
        raise InputError(
            f"the state is of another network or batch: this one has {size} series and features."
        )
