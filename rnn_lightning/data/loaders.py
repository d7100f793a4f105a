"""Loaders that make batches by index for any number of devices. No Lightning, no data."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.errors import InputError

BLOCK_BATCHES = 256
"""Batches whose items are drawn together: drawing has a cost of its own."""

MAX_LISTED = 2**16
"""The most items whose order is listed; the order of more is computed piece by piece."""

FEISTEL_ROUNDS = 8
"""Rounds of the random permutation; from four on it is one, for those who do not know its keys."""


Batch = TypeVar("Batch")


class BatchLoader(Generic[Batch]):
    """The items in order, a batch made by one call: no work and no copy per item.

    Every device takes every ``world_size``-th item, and nothing is repeated to make the shares equal. A
    device without items gets one empty batch: it has to take part when the devices put their results
    together.

    Args:
        make_batch: from item numbers ``(batch,)`` to a batch.
        num_items: number of items.
        batch_size: items of a batch on each device.
        rank: number of this device.
        world_size: number of devices.
    """

    def __init__(
        self,
        make_batch: Callable[[Tensor], Batch],
        num_items: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
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

    Which items a batch holds depends on the seed and on ``position``, the number of batches before it, alone.
    The devices share each batch equally; where the last batch of a pass cannot be, it is cut down.

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
        self.num_each = num_items // world_size
        self.batches_per_pass = math.ceil(self.num_each / batch_size)
        self.num_batches = num_batches or self.batches_per_pass
        self.seed, self.position = seed, 0
        self._block: tuple[tuple[int, int], Tensor] | None = None

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.num_batches):
            self.position += 1
            yield self.make_batch(self._items(self.position - 1))

    def _items(self, position: int) -> Tensor:
        """The items of this device in the batch at ``position``."""
        number, index = divmod(position, self.batches_per_pass)
        block, within = divmod(index, BLOCK_BATCHES)
        if self._block is None or self._block[0] != (number, block):
            self._block = (number, block), self._drawn(number, block)
        return self._block[1][within * self.batch_size : (within + 1) * self.batch_size]

    def _drawn(self, number: int, block: int) -> Tensor:
        """The items of this device in a block of batches of pass ``number``."""
        first = block * BLOCK_BATCHES * self.batch_size
        end = min(first + BLOCK_BATCHES * self.batch_size, self.num_each)
        places = torch.arange(first, end) * self.world_size + self.rank
        if self.num_items > MAX_LISTED:
            return permuted(places, self.num_items, (self.seed, number))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return torch.randperm(self.num_items, generator=generator)[places]

    def state_dict(self) -> dict[str, Any]:
        """Empty: the data module keeps the position."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load, see ``state_dict``."""


def permuted(index: Tensor, num_items: int, seed: tuple[int, int]) -> Tensor:
    """Where a random permutation of ``num_items`` items puts those at ``index``, without a list of them all.

    A Feistel network on the bits of the index (Luby and Rackoff, 1988) is a permutation of the next power of
    four; what it puts beyond the items it is applied to again, until all are among them (Black and Rogaway,
    2002).
    """
    half = max(1, math.ceil((num_items - 1).bit_length() / 2))
    keys = np.random.default_rng([part % 2**64 for part in seed]).integers(
        2**63, size=FEISTEL_ROUNDS, dtype=np.uint64
    )
    mask, shift = np.uint64(2**half - 1), np.uint64(half)
    places = index.numpy().astype(np.uint64)
    outside = np.full(len(places), True)
    while outside.any():
        left, right = places[outside] >> shift, places[outside] & mask
        for key in keys:
            mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ (mixed >> np.uint64(32)) & mask
        places[outside] = left << shift | right
        outside = places >= num_items
    return torch.from_numpy(places.astype(np.int64))
