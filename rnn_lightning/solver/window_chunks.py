"""All training windows of a device, in chunks of bounded memory, with fixed noise on their inputs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.data.windows import Segments, Windows, are_complete, training_starts, window_batch
from rnn_lightning.losses import TrainingWindows, training_windows
from rnn_lightning.network import RecurrentNetwork
from rnn_lightning.recurrent import first_known
from rnn_lightning.solver.least_squares import Chunk

CHUNK_NUMBERS = 2**21
"""Numbers in the hidden states of a chunk: 16 MB, of which the gradient needs a few copies."""

MAX_KEPT = 2**23
"""Numbers of windows that are kept in memory, 64 MB; more are cut anew in every pass."""


CONTEXTS_SCORED = 4
"""A window scores up to so many times its context: 250 steps instead of 150 take a third less time."""


def scored_steps(segments: Segments, context_length: int, scored_length: int) -> int:
    """Return the scored steps of a window: a multiple of those of the data that fits into every segment."""
    longest = min(CONTEXTS_SCORED * context_length, int(segments.lengths.min()) - context_length)
    return scored_length * max(1, longest // scored_length)


def side_by_side(segments: Segments, context_length: int, scored_length: int) -> tuple[Segments, Windows]:
    """Return windows that score each step of the segments once, and those of a last part twice at most.

    The context of a segment is not scored. Where the windows do not reach the end, one more ends there.
    """
    whole = training_starts(segments, context_length, scored_length, scored_length)
    length = context_length + scored_length
    left = segments.lengths - length
    has_tail = (left > 0) & (left % scored_length > 0)
    doubled = Segments(*(torch.cat([part, part]) for part in segments))
    first = torch.cat([whole.first, segments.end - length])
    counts = torch.cat([whole.ends - whole.begins, has_tail.long()])
    return doubled, Windows(first, counts, scored_length)


class WindowChunks:
    """The windows of one device, which every evaluation goes through.

    The noise of a window depends on the seed and its number alone, so that any number of devices sees the
    same. Windows are longer than those of the data where the series are: a context is then gone through for
    more scored steps.

    Args:
        network: the network whose transforms are used, and whose size says how many windows are a chunk.
        data: the data module.
        segments: the steps to train on.
        noise: standard deviation of the noise on the inputs, in transformed units; targets stay clean.
        filler: the network that imputes unknown values; None to hold the last known one.
        seed: seed of the noise.
    """

    def __init__(
        self,
        network: RecurrentNetwork,
        data: Any,
        segments: Segments,
        noise: float = 0.0,
        filler: RecurrentNetwork | None = None,
        seed: int = 0,
    ) -> None:
        self.network, self.data, self.noise, self.filler, self.seed = network, data, noise, filler, seed
        lengths = data.context_length, scored_steps(segments, data.context_length, data.scored_length)
        self.segments, self.windows = side_by_side(segments, *lengths)
        rank, world_size = data.devices
        self.items = torch.arange(rank, len(self.windows), world_size)
        self.length = sum(lengths)
        numbers = self.length * network.recurrent.hidden_size
        self.num_windows = max(1, CHUNK_NUMBERS // numbers)
        kept = len(self.items) * self.length * (network.num_features + network.num_covariates)
        self.kept: list[Chunk] | None = [] if kept <= MAX_KEPT else None
        self.complete = are_complete(data.data, self.segments, self.windows, self.length)

    def __len__(self) -> int:
        return max(1, -(-len(self.items) // self.num_windows))

    def __iter__(self) -> Iterator[Chunk]:
        if self.kept:
            yield from self.kept
            return
        for first in range(0, max(1, len(self.items)), self.num_windows):
            chunk = self._cut(self.items[first : first + self.num_windows])
            if self.kept is not None:
                self.kept.append(chunk)
            yield chunk

    @torch.no_grad()
    def _cut(self, items: Tensor) -> Chunk:
        """Cut windows, transform them, add the noise and impute the gaps."""
        settings = self.data.context_length, self.length
        batch = window_batch(self.data.data, self.segments, self.windows, *settings, items)
        windows = training_windows(self.network, *batch.to(self.network.readout.weight.device))
        if self.noise:
            windows = windows._replace(inputs=windows.inputs + self._drawn(items, windows))
        if self.complete:
            return Chunk(windows.inputs, windows.target, None)
        values = windows.inputs[..., : self.network.num_features]
        start = first_known(values[:, :-1])
        if self.filler is None:
            filled = hold_last(values)
        else:
            filled = self.filler.encode(windows.inputs, None, windows.traits, windows.inputs.shape[1]).values
        inputs = torch.cat([filled, windows.inputs[..., self.network.num_features :]], -1)
        return Chunk(inputs, windows.target, start)

    def _drawn(self, items: Tensor, windows: TrainingWindows) -> Tensor:
        """Return the noise ``(batch, time, feature + covariate)`` of windows; none is on covariates."""
        noise, size = torch.zeros_like(windows.inputs), self.network.num_features
        shape = (noise.shape[1], size)
        for row, item in enumerate(items.tolist()):
            drawn = np.random.default_rng([self.seed % 2**64, item]).standard_normal(shape)
            noise[row, :, :size] = self.noise * torch.from_numpy(drawn)
        return noise


def hold_last(values: Tensor) -> Tensor:
    """Return ``values (batch, time, feature)`` with the last known one in each gap, zero before the first."""
    steps = torch.arange(values.shape[1], device=values.device)[:, None]
    last = torch.where(values.isnan(), -1, steps).cummax(1).values  # (batch, time, feature)
    return values.gather(1, last.clamp_min(0)).masked_fill(last < 0, 0.0)
