from pathlib import Path

import numpy as np
import pytest
import torch

from rnn_lightning.errors import InputError
from rnn_lightning.tables.storage import Buffer, FileArray


def resident_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)
    return 1024 * int(line.split()[1])


def test_a_file_that_is_read_does_not_stay_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    with path.open("wb") as file:
        file.truncate(2**29)
    array, before = FileArray(path, "uint8", (2**29, 1)), resident_bytes()
    for first in range(0, len(array), 2**24):
        assert not bool(array[torch.arange(first, first + 2**24, 2**12)].any())
    assert resident_bytes() - before < 2**28 + 2**26


def test_a_file_that_is_written_does_not_stay_in_memory(tmp_path: Path) -> None:
    buffer, before = Buffer((2**27, 1), "uint8", tmp_path), resident_bytes()
    for first in range(0, 2**27, 2**22):
        buffer.array[first : first + 2**22] = first >> 22
        buffer.release()
    assert resident_bytes() - before < 2**26
    array = buffer.finish()
    assert isinstance(array, FileArray)
    assert array[:: 2**22, 0].tolist() == list(range(32))
    array.unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("in_file", [False, True])
def test_what_is_written_is_read(tmp_path: Path, in_file: bool) -> None:
    buffer = Buffer((3, 2), "float32", tmp_path if in_file else None)
    buffer.array[:] = np.arange(6).reshape(3, 2)
    array = buffer.finish()
    assert array is not None
    assert torch.equal(array[:], torch.arange(6.0).view(3, 2))
    assert Buffer((3, 0), "float32", tmp_path).finish() is None


def test_files_of_dead_runs_are_removed_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "rnn-lightning-dead").touch()
    (tmp_path / "mine").touch()
    first = Buffer((3, 1), "float32", tmp_path).finish()
    second = Buffer((3, 1), "float32", tmp_path)
    assert isinstance(first, FileArray)
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 3
    assert names >= {"mine", first.path.name}
    second.discard()
    first.unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"a file of 1.05e\+06 GiB cannot be written \(.*; .* GiB are free\)"
    ):
        Buffer((2**50, 1), "uint8", tmp_path)
    assert list(tmp_path.iterdir()) == []
