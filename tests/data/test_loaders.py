from collections import Counter
from itertools import chain
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rnn_lightning.data import windows
from rnn_lightning.data.windows import BatchLoader, ShuffledLoader
from rnn_lightning.errors import InputError


def test_every_pass_holds_every_window_once_in_another_order() -> None:
    loader = ShuffledLoader(lambda items: items.tolist(), 10, 4, num_batches=6, seed=0)
    passes = list(loader)
    assert [len(batch) for batch in passes] == [4, 4, 2, 4, 4, 2]
    first, second = [*chain(*passes[:3])], [*chain(*passes[3:])]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(3, 40), st.integers(1, 8), st.integers(1, 3))
def test_devices_share_items_without_repeating_any(num_items: int, batch_size: int, world_size: int) -> None:
    def items(loader: BatchLoader[list[int]]) -> list[list[int]]:
        return list(loader)

    def make(batch: Tensor) -> list[int]:
        return batch.tolist()

    ordered = [
        items(BatchLoader(make, num_items, batch_size, (rank, world_size))) for rank in range(world_size)
    ]
    assert sorted(item for batches in ordered for item in chain(*batches)) == list(range(num_items))
    shuffled = [
        items(ShuffledLoader(make, num_items, batch_size, (rank, world_size), num_batches=None, seed=0))
        for rank in range(world_size)
    ]
    flat = [item for batches in shuffled for item in chain(*batches)]
    assert len(set(flat)) == len(flat) == num_items // world_size * world_size
    assert len({tuple(len(batch) for batch in batches) for batches in shuffled}) == 1


def test_global_batches_are_those_of_one_device() -> None:
    def batches(rank: int, world_size: int) -> list[list[int]]:
        loader = ShuffledLoader(
            lambda i: i.tolist(), 24, 8 // world_size, (rank, world_size), num_batches=5, seed=3
        )
        return list(loader)

    together = [sorted(a + b) for a, b in zip(batches(0, 2), batches(1, 2), strict=True)]
    assert together == [sorted(batch) for batch in batches(0, 1)]


class Rows(list[int]):
    def rows(self, first: int, end: int) -> list[int]:
        return self[first:end]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(3, 40),
    st.integers(1, 8),
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(0, 20),
    st.sampled_from([2, windows.MAX_PERMUTED]),
)
def test_batches_made_together_are_those_made_one_by_one(
    num_items: int, batch_size: int, world_size: int, together: int, position: int, most: int
) -> None:
    def batches(together: int) -> list[list[int]]:
        loader = ShuffledLoader(
            lambda items: Rows(items.tolist()),
            num_items,
            batch_size,
            (world_size - 1, world_size),
            num_batches=15,
            seed=0,
            batches_together=together,
        )
        loader.position = position
        return list(loader)

    with patch.object(windows, "MAX_PERMUTED", most):
        assert batches(together) == batches(1)


def test_all_orders_are_about_equally_frequent() -> None:
    loader = ShuffledLoader(lambda items: tuple(items.tolist()), 4, 4, num_batches=2400, seed=0)
    orders = Counter(loader)
    assert len(orders) == 24
    assert 60 < min(orders.values()) <= max(orders.values()) < 140  # 100 +- 4 standard deviations


def test_of_more_items_than_an_order_in_memory_has_they_are_drawn_one_by_one() -> None:
    def batches(rank: int, world_size: int, first: int = 0) -> list[Tensor]:
        options = {"num_batches": 100 - first, "seed": 1}
        loader = ShuffledLoader(lambda i: i, 10**10, 128 // world_size, (rank, world_size), **options)
        loader.position = first
        return list(loader)

    items = torch.cat(batches(0, 1))
    assert torch.equal(items[-256:], torch.cat(batches(0, 1, first=98)))
    both = torch.stack([torch.cat(batches(rank, 2)) for rank in (0, 1)], 1)
    assert torch.equal(both.flatten(), items)
    distance = (items.sort().values / 10**10 - torch.linspace(0, 1, len(items))).abs().max()
    assert float(distance) < 1.63 / len(items) ** 0.5  # Kolmogorov and Smirnov, 1 %


def test_fewer_windows_than_devices_are_refused() -> None:
    with pytest.raises(InputError, match="there are 2 training windows for 3 devices: lower `devices`"):
        ShuffledLoader(lambda items: items, 2, 1, (0, 3), num_batches=None, seed=0)


def test_a_device_without_items_gets_one_empty_batch() -> None:
    loader = BatchLoader(lambda items: items.tolist(), 1, 4, (1, 2))
    assert (len(loader), list(loader)) == (1, [[]])
