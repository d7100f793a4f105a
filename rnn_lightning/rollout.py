"""Generation: from a context and a horizon to a forecast, in the units of the data.

``rollout`` is the whole of it. For a stream, ``warm_up``, ``observe`` and ``generate`` are its parts: the state after a
history, the state after more values, and any number of futures from a state.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from rnn_lightning.closed_loop import ClosedLoop, close_loop
from rnn_lightning.errors import InputError
from rnn_lightning.network import RecurrentNetwork, RecurrentState
from rnn_lightning.transforms import Memory

CHUNK_ELEMENTS = 2**20
"""Numbers that the hidden states of one chunk of a generation may hold: 4 MB of float32, which a cache keeps."""

GPU_CHUNK_FACTOR = 64
"""A GPU takes chunks this much larger: it has no such cache, and each chunk costs it launches."""

MIN_CHUNK_STEPS = 16
"""Below this many steps a chunk is split by rows: the fused call has a cost of its own."""

PROGRESS_STEPS = 2**18
"""Series times steps from which a progress bar is worth the time it costs; no CPU needs seconds for fewer."""


class State(NamedTuple):
    """All that generation needs of the past of ``batch`` series. Plain tensors: save it, load it, use it twice.

    Attributes:
        recurrent: the state of the recurrent layers, each ``(layer, batch, hidden)``.
        memory: what the transforms remember, such as the last value for ``difference``.
    """

    recurrent: RecurrentState
    memory: tuple[Memory, ...]


torch.serialization.add_safe_globals([State])


def rollout(
    network: RecurrentNetwork,
    context: Tensor,
    horizon: int,
    *,
    num_samples: int | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Generate the ``horizon`` steps after each context by feeding the network's predictions back to it.

    Args:
        network: the network, in evaluation mode (``network.eval()``): dropout is for training.
        context: ``(batch, time, feature)``, the known steps, in the units of the data.
        horizon: number of steps to generate.
        num_samples: number of sampled paths for each series; None for the point forecast.
        noise: ``(feature, feature)``, covariance of the noise of a sampled path in transformed units; the network's
            residual covariance if None.
        generator: the source of the noise: one for the whole batch, or one for each series, whose paths then do not
            depend on the rest of the batch. A longer horizon begins with the same noise.
        names: names of the series for warnings.

    Returns:
        ``(batch, horizon, feature)``, or ``(sample, batch, horizon, feature)`` with ``num_samples``, in the units of the
        data. Where a series leaves the finite numbers it is NaN from that step on, with a warning.

    Raises:
        InputError: if the horizon or the number of samples is below 1, the context is too short for the transforms or of
            another number of features, or there is no noise to sample from.
    """
    state = warm_up(network, context)
    return generate(network, state, horizon, num_samples=num_samples, noise=noise, generator=generator, names=names)


def warm_up(network: RecurrentNetwork, history: Tensor) -> State:
    """The state after a history ``(batch, time, feature)`` in the units of the data, which starts from zero."""
    history = _checked(network, history, "context")
    needed = network.transforms.num_lost + 1
    if history.shape[1] < needed:
        raise InputError(
            f"the context has {history.shape[1]} steps; the network with its transforms needs at least {needed}."
        )
    transformed, memory = network.transforms.start(history)
    return State(_recur(network, transformed, network.initial_state(len(history))), memory)


def observe(network: RecurrentNetwork, state: State, values: Tensor) -> State:
    """The state after ``values (batch, time, feature)`` that follow those of ``state``.

    It equals warming up on all of them, except that ``standardize_context`` keeps the scale of the first warm-up.
    """
    values = _checked(network, values, "observed values")
    _require_state(network, state, len(values))
    transformed, memory = network.transforms(values, state.memory)
    return State(_recur(network, transformed, state.recurrent), memory)


def generate(
    network: RecurrentNetwork,
    state: State,
    horizon: int,
    *,
    num_samples: int | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Generate from a state, which is left as it is; for the arguments see ``rollout``."""
    for name, count in (("horizon", horizon), ("num_samples", num_samples)):
        if count is not None and count < 1:
            raise InputError(f"{name} must be at least 1, got {count}.")
    batch_size = state.recurrent[0].shape[1]
    _require_state(network, state, batch_size)
    innovations = _Innovations(network, batch_size, num_samples, noise, generator)
    # Samples are rows of the batch: row = sample * batch_size + series.
    recurrent = state.recurrent
    if num_samples is not None:
        recurrent = tuple(part.repeat(1, num_samples, 1) for part in recurrent)
    transformed = _in_chunks(close_loop(network), innovations, recurrent, horizon, network.recurrent.hidden_size)
    if num_samples is not None:
        transformed = transformed.unflatten(0, (num_samples, batch_size))
    values = network.transforms.inverse(transformed, state.memory)
    return _end_at_nonfinite(values, names)


class _Innovations:
    """The innovations of a rollout, drawn in order of time, so that a short horizon is the beginning of a long one."""

    def __init__(
        self,
        network: RecurrentNetwork,
        batch_size: int,
        num_samples: int | None,
        noise: Tensor | None,
        generator: torch.Generator | Sequence[torch.Generator] | None,
    ) -> None:
        self.like, self.num_features = network.readout.weight, network.num_features
        self.batch_size, self.num_samples, self.factor = batch_size, num_samples, None
        if num_samples is None:
            if noise is not None or generator is not None:
                raise InputError("noise and generator are those of sampled paths: give num_samples as well.")
            return
        covariance = network.residual_covariance if noise is None else noise
        if covariance.shape != (self.num_features, self.num_features) or not bool(covariance.isfinite().all()):
            raise InputError(
                "sampled paths need the covariance of their noise, and the network holds none: fit it with validation "
                "data (--data.val_fraction above 0), or give noise as a finite (feature, feature) tensor."
            )
        variances, axes = torch.linalg.eigh(covariance.double().cpu())
        if bool(variances.min() < -1e-6 * variances.abs().max()) or not torch.allclose(covariance, covariance.T):
            raise InputError("noise must be a covariance: symmetric, without negative eigenvalues.")
        self.factor = (axes * variances.clamp_min(0).sqrt()).T
        self.generators: list[torch.Generator | None] = (
            [generator] if generator is None or isinstance(generator, torch.Generator) else list(generator)
        )
        if len(self.generators) not in (1, batch_size):
            raise InputError(f"{len(self.generators)} generators for {batch_size} series: give one, or one for each.")

    def draw(self, num_steps: int) -> Tensor:
        """The next innovations, ``(sample * batch, time, feature)``."""
        if self.factor is None:
            return self.like.new_zeros(self.batch_size, num_steps, self.num_features)
        assert self.num_samples is not None
        width = self.batch_size // len(self.generators)
        shape = (num_steps, width, self.num_samples, self.num_features)
        # Uniform numbers come one by one from a generator, normal ones in blocks that depend on how many are asked for.
        uniform = [torch.rand(shape, generator=generator, dtype=torch.float64) for generator in self.generators]
        normal = torch.special.ndtri(torch.cat(uniform, 1).clamp_min(torch.finfo(torch.float64).tiny))
        return (normal @ self.factor).permute(2, 1, 0, 3).flatten(0, 1).to(self.like)


def _in_chunks(
    closed_loop: ClosedLoop, innovations: _Innovations, state: RecurrentState, horizon: int, hidden_size: int
) -> Tensor:
    """The free run in chunks of rows and steps, whose hidden states stay within ``CHUNK_ELEMENTS``."""
    num_rows = state[0].shape[1]
    elements = CHUNK_ELEMENTS * (GPU_CHUNK_FACTOR if state[0].is_cuda else 1)
    rows = max(1, min(num_rows, elements // (hidden_size * min(horizon, MIN_CHUNK_STEPS))))
    steps = max(1, min(horizon, elements // (hidden_size * rows)))
    states = [tuple(part[:, row : row + rows].contiguous() for part in state) for row in range(0, num_rows, rows)]
    pieces = []
    total = num_rows * horizon
    settings = {"delay": 3, "leave": False, "disable": total < PROGRESS_STEPS}
    with tqdm(total=total, desc="generate", unit="step", unit_scale=True, **settings) as bar:
        for first in range(0, horizon, steps):
            drawn = innovations.draw(min(steps, horizon - first))
            columns = []
            for index, piece in enumerate(drawn.split(rows)):
                values, states[index] = closed_loop(piece, states[index])
                columns.append(values)
                bar.update(values.shape[0] * values.shape[1])
            pieces.append(torch.cat(columns))
    return torch.cat(pieces, 1)


def _recur(network: RecurrentNetwork, transformed: Tensor, state: RecurrentState) -> RecurrentState:
    """The state after ``transformed``, in chunks of bounded memory."""
    elements = CHUNK_ELEMENTS * (GPU_CHUNK_FACTOR if transformed.is_cuda else 1)
    steps = max(1, elements // (network.recurrent.hidden_size * len(transformed)))
    for piece in transformed.split(steps, 1):
        if piece.shape[1]:
            _, state = network.recur(piece, state)
    return state


def _end_at_nonfinite(values: Tensor, names: Sequence[str] | None) -> Tensor:
    """NaN from the first non-finite step of each path on, and a warning that names it."""
    if bool(values.isfinite().all()):
        return values
    bad = ~values.isfinite().all(-1)
    first = torch.where(bad.any(-1), bad.int().argmax(-1), values.shape[-2])
    by_series = first if first.ndim == 1 else first.amin(0)
    ended = [
        f"{names[index] if names is not None else f'series {index} of the batch'} at step {int(by_series[index]) + 1}"
        for index in (by_series < values.shape[-2]).nonzero()[:, 0].tolist()
    ]
    more = f" and {len(ended) - 5} more" if len(ended) > 5 else ""
    warnings.warn(
        f"the free run leaves the finite numbers and is NaN from there: {', '.join(ended[:5])}{more}. The network or its "
        "transforms are unstable beyond what was trained: train longer, with a lower learning rate, or shorten the horizon.",
        RuntimeWarning,
        stacklevel=3,
    )
    steps = torch.arange(values.shape[-2], device=values.device)
    return torch.where((steps >= first[..., None])[..., None], torch.nan, values)


def _checked(network: RecurrentNetwork, values: Tensor, what: str) -> Tensor:
    """The values on the device and in the precision of the network."""
    if values.ndim != 3 or len(values) == 0 or values.shape[-1] != network.num_features:
        raise InputError(
            f"the {what} must be (batch, time, {network.num_features} features) for this network, got {tuple(values.shape)}."
        )
    if not bool(values.isfinite().all()):
        raise InputError(f"the {what} must be finite numbers: fill or drop NaN and infinite values.")
    return values.to(network.readout.weight)


def _require_state(network: RecurrentNetwork, state: State, batch_size: int) -> None:
    expected = tuple(part.shape for part in network.initial_state(batch_size))
    given = tuple(part.shape for part in state.recurrent)
    of_memory = [tensor for part in state.memory for tensor in part]
    if (
        given != expected
        or [len(part) for part in state.memory] != network.transforms.memory_sizes
        or any(tensor.shape[::2] != (batch_size, network.num_features) for tensor in of_memory)
    ):
        raise InputError(
            f"the state is of another network or batch: its tensors are {[tuple(s) for s in given]}, this network's for "
            f"{batch_size} series {[tuple(s) for s in expected]}."
        )
