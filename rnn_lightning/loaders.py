"""Batches, and loaders that make them by index for any number of devices. No Lightning, no data."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from rnn_lightning.errors import InputError


class WindowBatch(NamedTuple):
    """Windows to train on.

    Attributes:
        values: ``(batch, time, feature)`` in the units of the data.
        context_length: number of first steps that warm the state up and are not scored.
    """

    values: Tensor
    context_length: int


class ForecastBatch(NamedTuple):
    """Forecasts to make.

    Attributes:
        context: ``(batch, time, feature)``, the known steps up to the origin.
        target: ``(batch, horizon, feature)``, what follows, NaN where unknown.
        series_index: ``(batch,)``, which series each is of.
        origin: ``(batch,)``, the last known step of each, counted from the start of its series.
        num_samples: number of sampled paths wanted, or None.
        seed: seed of the sampled paths.
    """

    context: Tensor
    target: Tensor
    series_index: Tensor
    origin: Tensor
    num_samples: int | None = None
    seed: int = 0


Batch = TypeVar("Batch")


class BatchLoader(Generic[Batch]):
    """The items in order, a batch made by one call: no work and no copy per item.

    Every device takes every ``world_size``-th item, and nothing is repeated to make the shares equal. A device without items
    gets one empty batch: it has to take part when the devices put their results together.

    Args:
        make_batch: from item numbers ``(batch,)`` to a batch.
        num_items: number of items.
        batch_size: items of a batch on each device.
        rank: number of this device.
        world_size: number of devices.
    """

    def __init__(
        self, make_batch: Callable[[Tensor], Batch], num_items: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.make_batch, self.num_items, self.batch_size = make_batch, num_items, batch_size
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return max(1, math.ceil(len(range(self.rank, self.num_items, self.world_size)) / self.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        mine = range(self.rank, self.num_items, self.world_size)
        for first in range(0, max(1, len(mine)), self.batch_size):
            yield self.make_batch(torch.tensor(mine[first : first + self.batch_size], dtype=torch.long))


class ShuffledLoader(BatchLoader[Batch]):
    """Batches of random items, pass after pass over all of them, in epochs of a given number of batches.

    Which items a batch holds depends on the seed and on ``position``, the number of batches before it, alone. The devices
    share each batch equally; where the last batch of a pass cannot be, it is cut down.

    Args:
        make_batch, num_items, batch_size, rank, world_size: see ``BatchLoader``.
        num_batches: number of batches in an epoch; None for one pass.
        seed: seed of the order.
    """

    def __init__(
        self,
        make_batch: Callable[[Tensor], Batch],
        num_items: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        num_batches: int | None,
        seed: int,
    ) -> None:
        super().__init__(make_batch, num_items, batch_size, rank, world_size)
        if num_items < world_size:
            raise InputError(
                f"there are {num_items} training windows for {world_size} devices: lower --trainer.devices, "
                "--data.context_length or --data.scored_length."
            )
        self.batches_per_pass = math.ceil(num_items // world_size / batch_size)
        self.num_batches = num_batches or self.batches_per_pass
        self.seed, self.position = seed, 0
        self._order: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.num_batches):
            number, index = divmod(self.position, self.batches_per_pass)
            self.position += 1
            items = self._pass(number)[index * self.batch_size : (index + 1) * self.batch_size]
            yield self.make_batch(items.long())

    def _pass(self, number: int) -> Tensor:
        """The items of this device in pass ``number``."""
        if self._order is None or self._order[0] != number:
            self._order = None  # at most one order in memory
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            dtype = torch.int32 if self.num_items < 2**31 else torch.int64
            order = torch.randperm(self.num_items, generator=generator, dtype=dtype)
            whole = self.num_items // self.world_size * self.world_size
            self._order = number, order[:whole][self.rank :: self.world_size]
        return self._order[1]

    def state_dict(self) -> dict[str, Any]:
        """Empty: the data module keeps the position."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load, see ``state_dict``."""
