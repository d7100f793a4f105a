"""Generation: from a context and a horizon to a forecast, in the units of the data.

``rollout`` is the whole of it. For a stream, ``warm_up``, ``observe`` and ``generate`` are its parts: the
state after a history, the state after more values, and any number of futures from a state.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rnn_lightning.chunks import generate_in_chunks, recur_in_chunks
from rnn_lightning.errors import InputError
from rnn_lightning.gaps import first_known
from rnn_lightning.noise import Innovations
from rnn_lightning.pretrained.seasonal import Network, SeasonalNetwork
from rnn_lightning.recurrent import RecurrentState
from rnn_lightning.transforms import TransformState


class State(NamedTuple):
    """All that generation needs of the past of ``batch`` series: plain tensors to save, load and reuse.

    Attributes:
        recurrent: the state of the recurrent layers, each ``(layer, batch, hidden)``.
        transforms: the state of the transforms, such as the last value for ``difference``.
    """

    recurrent: RecurrentState
    transforms: tuple[TransformState, ...]


torch.serialization.add_safe_globals([State])


def rollout(
    network: Network,
    context: Tensor,
    horizon: int,
    *,
    covariates: Tensor | None = None,
    num_samples: int | None = None,
    noise: Tensor | None = None,
    generator: np.random.Generator | Sequence[np.random.Generator] | None = None,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Generate the ``horizon`` steps after each context by feeding the network's predictions back to it.

    Args:
        network: the network, in evaluation mode (``network.eval()``): dropout is for training.
        context: ``(batch, time, feature)``, the steps up to the origin, in the units of the data. NaN is a
            value that is not known: the network goes on with its own prediction there, and begins at the
            first known value.
        horizon: number of steps to generate.
        covariates: ``(batch, time + horizon, covariate)``, those of the context and of the steps to generate;
            None for a network without.
        num_samples: number of sampled paths for each series; None for the point forecast.
        noise: ``(feature, feature)``, covariance of the noise of a sampled path in transformed units; the
            network's residual covariance if None.
        generator: the NumPy generator of the noise: one for the whole batch, or one for each series, whose
            paths then do not depend on the rest of the batch, see ``noise.generators``. A longer horizon
            begins with the same noise.
        names: names of the series for warnings.

    Returns:
        ``(batch, horizon, feature)``, or ``(sample, batch, horizon, feature)`` with ``num_samples``, in the
        units of the data. Where a series leaves the finite numbers it is NaN from that step on, with a
        warning.

    Raises:
        InputError: if the horizon or the number of samples is below 1, the context is too short for the
            transforms or of another number of features, there are other covariates than the network was made
            for, or there is no noise to sample from.
    """
    following = coming = None
    if covariates is not None:
        known = context.shape[1] + 1
        following, coming = covariates[:, 1:known], covariates[:, known:]
        if covariates.shape[:2] != (len(context), context.shape[1] + horizon):
            wanted = (len(context), context.shape[1] + horizon, network.num_covariates)
            raise InputError(
                f"the covariates must be (batch, time + horizon, covariate) = {wanted}, got "
                f"{tuple(covariates.shape)}."
            )
    state = warm_up(network, context, following)
    chosen = {"num_samples": num_samples, "noise": noise, "generator": generator, "names": names}
    return generate(network, state, horizon, covariates=coming, **chosen)  # type: ignore[arg-type]


def warm_up(network: Network, history: Tensor, covariates: Tensor | None = None) -> State:
    """The state after a history ``(batch, time, feature)`` in the units of the data, NaN where unknown.

    The state starts from zero at the first known value. ``covariates (batch, time, covariate)`` are those of
    the step *after* each value: the state knows those of the step that it predicts.
    """
    history = _checked(network, history, "context")
    needed = network.transforms.num_lost + 1
    if history.shape[1] < needed:
        raise InputError(
            f"the context has {history.shape[1]} steps; the network with its transforms needs at least "
            f"{needed}."
        )
    return _continued(network, history, covariates, None)


def observe(network: Network, state: State, values: Tensor, covariates: Tensor | None = None) -> State:
    """The state after ``values (batch, time, feature)`` that follow ``state``; otherwise like ``warm_up``.

    It equals warming up on all of them, except that ``standardize_context`` keeps the scale of the first
    warm-up.
    """
    values = _checked(network, values, "observed values")
    _require_state(network, state, len(values))
    return _continued(network, values, covariates, state)


def generate(
    network: Network,
    state: State,
    horizon: int,
    *,
    covariates: Tensor | None = None,
    num_samples: int | None = None,
    noise: Tensor | None = None,
    generator: np.random.Generator | Sequence[np.random.Generator] | None = None,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Generate from a state, which is left as it is; for the arguments see ``rollout``.

    Except that ``covariates (batch, horizon - 1, covariate)`` begin at the second step to generate: the state
    knows the first ones.
    """
    for name, count in (("horizon", horizon), ("num_samples", num_samples)):
        if count is not None and count < 1:
            raise InputError(f"{name} must be at least 1, got {count}.")
    batch_size = state.recurrent[0].shape[1]
    _require_state(network, state, batch_size)
    innovations = Innovations(network, batch_size, num_samples, noise, generator)
    following = _coming(network, covariates, batch_size, horizon)
    # Samples are rows of the batch: row = sample * batch_size + series.
    recurrent = state.recurrent
    if num_samples is not None:
        recurrent = tuple(part.repeat(1, num_samples, 1) for part in recurrent)
    transformed = generate_in_chunks(network, innovations, following, recurrent, horizon)
    if num_samples is not None:
        transformed = transformed.unflatten(0, (num_samples, batch_size))
    values = network.transforms.inverse(transformed, state.transforms)
    return _end_at_nonfinite(values, names)


def _coming(network: Network, covariates: Tensor | None, batch_size: int, horizon: int) -> Tensor | None:
    """The scaled covariates of the step after each of the horizon, as inputs of the closed loop."""
    if covariates is None and network.num_covariates == 0:
        return None
    shape = (batch_size, horizon - 1, network.num_covariates)
    if covariates is None or covariates.shape != shape:
        given = None if covariates is None else tuple(covariates.shape)
        raise InputError(
            f"the covariates from the second step on must be {shape} for this network, got {given}."
        )
    no_values = network.readout.weight.new_zeros(*shape[:2], network.num_features)
    scaled = network.join(no_values, covariates.to(no_values))[..., network.num_features :]
    return functional.pad(scaled, (0, 0, 0, 1))  # the state after the last step is not asked for


def _continued(network: Network, values: Tensor, covariates: Tensor | None, before: State | None) -> State:
    """The state after checked ``values`` that follow ``before``, or start a series if it is None."""
    if before is None:
        transformed, of_transforms = network.transforms.start(values)
        recurrent = network.initial_state(len(values))
    else:
        transformed, of_transforms = network.transforms(values, before.transforms)
        recurrent = before.recurrent
    if covariates is not None:
        covariates = covariates[:, values.shape[1] - transformed.shape[1] :]
    inputs, complete = network.join(transformed, covariates), not bool(transformed.isnan().any())
    if isinstance(network, SeasonalNetwork):
        _, filled, recurrent = network.encode(inputs, None if before is None else recurrent)
    else:
        begin = None if complete or before is not None else first_known(transformed)
        filled, recurrent = recur_in_chunks(network, inputs, recurrent, complete, begin)
    if not complete:
        _, of_transforms = network.transforms.imputed(values, filled, before.transforms if before else None)
    return State(recurrent, of_transforms)


def _end_at_nonfinite(values: Tensor, names: Sequence[str] | None) -> Tensor:
    """NaN from the first non-finite step of each feature of a path on, and a warning that names it."""
    # A sum of finite numbers is finite, but for an overflow; looking at each number costs more.
    if math.isfinite(values.sum().item()) or bool(values.isfinite().all()):
        return values
    bad = ~values.isfinite()
    first = torch.where(bad.any(-2), bad.int().argmax(-2), values.shape[-2])
    by_series = first.amin(-1) if first.ndim == 2 else first.amin((0, -1))
    ended = [
        f"{names[index] if names is not None else f'series {index} of the batch'} at step "
        f"{int(by_series[index]) + 1}"
        for index in (by_series < values.shape[-2]).nonzero()[:, 0].tolist()
    ]
    more = f" and {len(ended) - 5} more" if len(ended) > 5 else ""
    warnings.warn(
        f"the free run leaves the finite numbers and is NaN from there: {', '.join(ended[:5])}{more}. At "
        "step 1: nothing to go on from is known in the context. Later: the network or its transforms are "
        "unstable beyond what was trained: train longer, with a lower learning rate, or shorten the horizon.",
        RuntimeWarning,
        stacklevel=3,
    )
    steps = torch.arange(values.shape[-2], device=values.device)[:, None]
    return torch.where(steps >= first[..., None, :], torch.nan, values)


def _checked(network: Network, values: Tensor, what: str) -> Tensor:
    """The values on the device and in the precision of the network."""
    if values.ndim != 3 or len(values) == 0 or values.shape[-1] != network.num_features:
        raise InputError(
            f"the {what} must be (batch, time, {network.num_features} features) for this network, got "
            f"{tuple(values.shape)}."
        )
    if not math.isfinite(values.sum().item()) and bool(values.isinf().any()):
        raise InputError(f"the {what} must be finite numbers, or NaN where they are not known.")
    return values.to(network.readout.weight)


def _require_state(network: Network, state: State, batch_size: int) -> None:
    expected = tuple(part.shape for part in network.initial_state(batch_size))
    given = tuple(part.shape for part in state.recurrent)
    tensors = [tensor for part in state.transforms for tensor in part]
    if (
        given != expected
        or [len(part) for part in state.transforms] != network.transforms.state_sizes
        or any(tensor.shape[::2] != (batch_size, network.num_features) for tensor in tensors)
    ):
        raise InputError(
            f"the state is of another network or batch: its tensors are {[tuple(s) for s in given]}, this "
            f"network's for {batch_size} series {[tuple(s) for s in expected]}."
        )
