"""Arrays larger than memory: kept in a file, written and read a piece at a time."""

import contextlib
import fcntl
import mmap
import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.errors import InputError

RELEASE_BYTES = 2**28
"""A process unmaps pages when it has read about this many bytes: they would count as its memory."""

BYTES_PER_PIECE = 2**21
"""What reading one piece, such as a window, may map beside its own bytes: the system maps whole blocks around
an access."""


PREFIX = "rnn-lightning-"
"""Of the names of scratch files."""

OF_CONTAINER = Path("/sys/fs/cgroup/memory.max")
"""Holds the bytes of memory of a container that is limited, on Linux."""


class FileArray:
    """An array in a file that is indexed like a tensor: ``array[10:20]`` and ``array[steps]`` give tensors.

    They are of float32, or of uint8 where the file holds it.

    Every process that unpickles it maps the same file; pages read by one are not read again by another.

    Args:
        path: the file.
        dtype: NumPy name of the type of its numbers.
        shape: ``(row, column)``.
        offset: byte at which the numbers begin.
        scratch: the file serves this run alone and may be unlinked once all processes have mapped it.
    """

    def __init__(
        self, path: Path, dtype: str, shape: tuple[int, int], offset: int = 0, scratch: bool = False
    ) -> None:
        self.path, self.dtype, self.shape, self.offset, self.scratch = path, dtype, shape, offset, scratch
        with path.open("rb") as file:
            if scratch:
                fcntl.flock(file, fcntl.LOCK_SH)  # as long as it is mapped
            # Copy on write: read only for the file, writable for torch, which would warn otherwise.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        numbers = np.frombuffer(self._map, dtype, shape[0] * shape[1], offset)
        self._tensor = torch.from_numpy(numbers.reshape(shape))
        self._touched = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        """The chosen rows, copied into memory as float32, or as uint8 where they are."""
        chosen = self._tensor[index]
        chosen = chosen.clone() if chosen.dtype in (torch.float32, torch.uint8) else chosen.float()
        num_pieces = len(index) if isinstance(index, Tensor) and index.ndim else 1
        self._touched += chosen.numel() * self._tensor.element_size() + num_pieces * BYTES_PER_PIECE
        if self._touched > RELEASE_BYTES:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
        return chosen

    def __reduce__(self) -> tuple[Any, ...]:
        return FileArray, (self.path, self.dtype, self.shape, self.offset, self.scratch)

    def unlink(self) -> None:
        """Remove a scratch file; it stays readable where it is mapped."""
        if self.scratch:
            self.path.unlink(missing_ok=True)


class Buffer:
    """An array ``(row, column)`` to be filled, in memory or in a file.

    Args:
        shape: of the array.
        dtype: NumPy name of the type of its numbers.
        folder: for the file; None for memory.

    Attributes:
        array: to be written to.

    Raises:
        InputError: if the disk has no room for the file.
    """

    def __init__(self, shape: tuple[int, int], dtype: str, folder: Path | None) -> None:
        self.shape, self.dtype, self._path = shape, dtype, Path()
        self._map: mmap.mmap | None = None
        num_bytes = shape[0] * shape[1] * np.dtype(dtype).itemsize
        if folder is None or num_bytes == 0:
            self.array = np.empty(shape, dtype)
            return
        remove_stale_files(folder)
        with tempfile.NamedTemporaryFile(prefix=PREFIX, dir=folder, delete=False) as file:
            self._path = Path(file.name)
            try:
                fcntl.flock(file, fcntl.LOCK_SH)
                os.posix_fallocate(
                    file.fileno(), 0, num_bytes
                )  # a full disk is an error now, not a crash later
            except OSError as error:
                self.discard()
                free = shutil.disk_usage(folder).free / 2**30
                raise InputError(
                    f"`scratch_folder` {folder}: a file of {num_bytes / 2**30:.3g} GiB cannot "
                    f"be written ({error.strerror}; {free:.3g} GiB are free)."
                ) from error
            self._map = mmap.mmap(file.fileno(), num_bytes)
        self.array = np.frombuffer(self._map, dtype).reshape(shape)

    def release(self) -> None:
        """Unmap the pages that were written; they stay in the file."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)

    def finish(self) -> Tensor | FileArray | None:
        """The array as series hold it; None without columns."""
        if self.shape[1] == 0:
            return None
        if self._map is None:
            return torch.from_numpy(self.array)
        return FileArray(self._path, self.dtype, self.shape, scratch=True)

    def discard(self) -> None:
        """Remove the file."""
        if self._path.name:
            self._path.unlink(missing_ok=True)


IN_FILES = "keep them in files by `scratch_folder`, or check the time stamps for a wrong one"


def require_memory(num_bytes: int, what: str, advice: str = IN_FILES) -> None:
    """Raise InputError if something takes more than half of the memory that this process may have."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    if (of_process := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        limits.append(of_process)
    if OF_CONTAINER.is_file() and (of_container := OF_CONTAINER.read_text().strip()).isdigit():
        limits.append(int(of_container))
    half = min(limits) / 2
    if num_bytes > half:
        raise InputError(
            f"{what} take {num_bytes / 2**30:.3g} GiB, more than half of the {2 * half / 2**30:.3g} GiB of "
            f"memory: {advice}."
        )


def remove_stale_files(folder: Path) -> None:
    """Remove the scratch files of runs that were killed: those that no process holds a lock of."""
    for path in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
