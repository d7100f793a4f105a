"""Arrays larger than memory: kept in a file, written and read a chunk at a time."""

import contextlib
import mmap
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.data.series import SeriesData
from rnn_lightning.errors import InputError
from rnn_lightning.files import allocate, lock, open_locked, remove_unlocked

RELEASE_BYTES = 2**28
"""Bytes that a process reads before it unmaps their pages, which would count as its memory."""

ACCESS_BYTES = 2**21
"""What reading one chunk, such as a window, may map beside its own bytes: systems map whole blocks."""

PREFIX = "rnn-lightning-"
"""Prefix of the names of scratch files."""

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""On Linux, holds the bytes of memory of a container with a limit."""

IN_FILES = "keep them in files by `scratch_folder`, or check the time stamps for a wrong one"
"""Advice on arrays that do not fit into memory."""


class FileArray:
    """An array in a file that is indexed like a tensor: ``array[10:20]`` and ``array[steps]`` give tensors.

    They are float32, or uint8 if the file is. Every process that unpickles the array maps the same file, so
    that pages read by one are not read again by another.

    Args:
        path: the file.
        dtype: NumPy name of the type of its numbers.
        shape: ``(row, column)``.
        scratch: whether the file serves this run alone and may be unlinked once all processes have mapped it.
    """

    def __init__(self, path: Path, dtype: str, shape: tuple[int, int], scratch: bool = False) -> None:
        self.path, self.dtype, self.shape, self.scratch = path, dtype, shape, scratch
        with path.open("rb") as file:
            if scratch:
                lock(file)  # as long as it is mapped
            # Copy on write: read only for the file, writable for torch, which would warn otherwise.
            self._numbers = np.memmap(file, dtype, "c", shape=shape)
        self._tensor = torch.from_numpy(self._numbers)
        self._touched_bytes = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        """Copy the chosen rows into memory."""
        chosen = self._tensor[index]
        chosen = chosen.clone() if chosen.dtype in (torch.float32, torch.uint8) else chosen.float()
        num_accesses = len(index) if isinstance(index, Tensor) and index.ndim else 1
        self._touched_bytes += chosen.numel() * self._tensor.element_size() + num_accesses * ACCESS_BYTES
        if self._touched_bytes > RELEASE_BYTES:
            release(self._numbers)
            self._touched_bytes = 0
        return chosen

    def __reduce__(self) -> tuple[Any, ...]:
        return FileArray, (self.path, self.dtype, self.shape, self.scratch)

    def unlink(self) -> None:
        """Remove a scratch file; it stays readable where it is mapped."""
        if self.scratch:
            with contextlib.suppress(PermissionError):  # Windows, until it is no longer mapped
                self.path.unlink(missing_ok=True)


def unlink_scratch(data: SeriesData) -> None:
    """Remove the scratch files behind the arrays of a table, once they are mapped."""
    arrays = [data.values, data.covariates, *(getattr(data, name, None) for name in ("calendar", "past"))]
    for array in arrays:
        if isinstance(array, FileArray):
            array.unlink()


class Buffer:
    """An array ``(row, column)`` of zeros to be filled, in memory or in a file.

    Args:
        shape: the shape of the array.
        dtype: NumPy name of the type of its numbers.
        folder: the folder for the file; None for memory.

    Attributes:
        array: the array to write to.

    Raises:
        InputError: if the disk has no room for the file.
    """

    def __init__(self, shape: tuple[int, int], dtype: str, folder: Path | None) -> None:
        self.shape, self.dtype, self._path = shape, dtype, Path()
        num_bytes = shape[0] * shape[1] * np.dtype(dtype).itemsize
        if folder is None or num_bytes == 0:
            self.array: np.ndarray = np.zeros(shape, dtype)
            return
        remove_stale_files(folder)
        self._path = folder / f"{PREFIX}{secrets.token_hex(8)}"
        with open_locked(self._path, 0o600) as file:
            try:
                allocate(file, 0, num_bytes)  # a full disk is an error now, not a crash later
            except OSError as error:
                self.discard()
                free = shutil.disk_usage(folder).free / 2**30
                raise InputError(
                    f"`scratch_folder` {folder}: a file of {num_bytes / 2**30:.3g} GiB cannot be written "
                    f"({error.strerror}; {free:.3g} GiB are free)."
                ) from error
            self.array = np.memmap(file, dtype, "r+", shape=shape)

    def release(self) -> None:
        """Unmap the pages that were written; they stay in the file."""
        release(self.array)

    def finish(self) -> Tensor | FileArray | None:
        """Return the array as series hold it; None without columns."""
        if self.shape[1] == 0:
            return None
        if isinstance(self.array, np.memmap):
            return FileArray(self._path, self.dtype, self.shape, scratch=True)
        return torch.from_numpy(self.array)

    def discard(self) -> None:
        """Remove the file."""
        if self._path.name:
            self._path.unlink(missing_ok=True)


def remove_stale_files(folder: Path) -> None:
    """Remove the scratch files of runs that were killed."""
    for path in folder.glob(f"{PREFIX}*"):
        remove_unlocked([path])


def release(array: np.ndarray) -> None:
    """Unmap the pages of an array in a file, where the system can be told."""
    if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.base.madvise(mmap.MADV_DONTNEED)


def require_memory(num_bytes: int, what: str, advice: str = IN_FILES) -> None:
    """Raise InputError if something takes more than half of the memory, where the system tells its size."""
    if not hasattr(os, "sysconf"):
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if CONTAINER_LIMIT.is_file() and (limit := CONTAINER_LIMIT.read_text().strip()).isdigit():
        memory = min(memory, int(limit))
    if num_bytes > memory / 2:
        raise InputError(
            f"{what} take {num_bytes / 2**30:.3g} GiB, more than half of the {memory / 2**30:.3g} GiB of "
            f"memory: {advice}."
        )
