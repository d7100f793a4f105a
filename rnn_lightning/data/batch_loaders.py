"""Loaders that make batches by index for any number of devices. No Lightning, no data."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.errors import InputError

MAX_PERMUTED = 2**22
"""The most items whose order is held in memory, 16 MB; of more, items are drawn with replacement."""

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
    """Batches of random items in epochs of a given number of batches.

    Each pass goes over all items in an order of its own; where there are more than ``MAX_PERMUTED``, the
    items of each batch are drawn with replacement instead. Which items a batch holds depends on the seed and
    on ``position``, the number of batches before it, alone. The devices share each batch equally; where the
    last batch of a pass cannot be, it is cut down.

    Args:
        make_batch, num_items, batch_size, rank, world_size: see ``BatchLoader``.
        num_batches: number of batches in an epoch; None for one pass.
        seed: seed of the order.
        together: number of batches that are made by one call; with more than one, ``make_batch`` must return
            something with a method ``rows(first, end)``.
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
        together: int = 1,
    ) -> None:
        super().__init__(make_batch, num_items, batch_size, rank, world_size)
        if num_items < world_size:
            raise InputError(
                f"there are {num_items} training windows for {world_size} devices: lower `devices`, "
                "`context_length` or `scored_length`."
            )
        self.num_each = num_items // world_size
        self.batches_per_pass = math.ceil(self.num_each / batch_size)
        self.num_batches = num_batches or self.batches_per_pass
        self.seed, self.position, self.together = seed, 0, together
        self._pass: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Batch]:
        begin = -1
        block: Any = None
        for _ in range(self.num_batches):
            position, self.position = self.position, self.position + 1
            place = position % self.batches_per_pass % self.together
            if block is None or begin != position - place:
                begin = position - place
                block = self.make_batch(self._items(begin))
            first = place * self.batch_size
            yield block if self.together == 1 else block.rows(first, first + self.batch_size)

    def _items(self, position: int) -> Tensor:
        """The items of this device in ``together`` batches from ``position`` on, as far as a pass goes."""
        if self.num_items > MAX_PERMUTED:
            size = self.batch_size * self.world_size
            positions = range(position, position + self.together)
            drawn = [self._random(each).integers(self.num_items, size=size) for each in positions]
            return torch.from_numpy(np.concatenate(drawn)[self.rank :: self.world_size])
        number, index = divmod(position, self.batches_per_pass)
        if self._pass is None or self._pass[0] != number:
            order = self._random(number).permutation(np.arange(self.num_items, dtype=np.int32))
            self._pass = number, torch.from_numpy(order)
        first = index * self.batch_size
        end = min(first + self.together * self.batch_size, self.num_each)
        return self._pass[1][
            first * self.world_size + self.rank : end * self.world_size : self.world_size
        ].long()

    def _random(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed % 2**64, number])

    def state_dict(self) -> dict[str, Any]:
        """Empty: the data module keeps the position."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load, see ``state_dict``."""


class EndlessLoader(Generic[Batch]):
    """Batches that are drawn afresh, each by random numbers that depend on the seed and its position alone.

    Args:
        draw: makes a batch from two generators: one that all devices have alike, and one of the device's own.
        num_batches: number of batches in an epoch.
        rank: number of this device.
        seed: seed of all batches.
    """

    def __init__(
        self,
        draw: Callable[[np.random.Generator, np.random.Generator], Batch],
        num_batches: int,
        rank: int,
        seed: int,
    ) -> None:
        self.draw, self.num_batches, self.rank, self.seed, self.position = (
            draw,
            num_batches,
            rank,
            seed % 2**64,
            0,
        )

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.num_batches):
            self.position += 1
            key = [self.seed, self.position]
            yield self.draw(np.random.default_rng(key), np.random.default_rng([*key, self.rank]))
