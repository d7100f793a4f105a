"""A few trials of each kind of the fault harness, ``benchmarks/faults/run.py``, which has hundreds."""

from collections.abc import Callable
from pathlib import Path

import groups
import pytest
from environments import environments
from trials import KINDS, Tally

FEW: list[tuple[Callable[[Path, int], Tally], int]] = [
    (groups.kills_of_fit, 1),
    (groups.kills_of_predict, 1),
    (groups.resumes, 2),
    (groups.full_disks, 2),
    (groups.corrupted_checkpoints, 4),
    (groups.tables, 3),
    (groups.numbers, 2),
    (groups.starts, 2),
    (environments, 1),
]


@pytest.mark.parametrize(("group", "count"), FEW, ids=[group.__name__ for group, _ in FEW])
def test_a_fault_ends_right_or_with_a_clear_error(
    group: Callable[[Path, int], Tally], count: int, tmp_path: Path
) -> None:
    tally = group(tmp_path, count)
    assert tally.tried >= count
    assert tally.bad == []
    assert [tally.counts[kind] for kind in KINDS[2:]] == [0, 0, 0, 0]
