"""Arrays larger than memory: kept in a file, read a piece at a time."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

RELEASE_BYTES = 2**28
"""A process gives mapped pages back when it has touched about this many bytes of them: they would count as its memory."""

BYTES_PER_PIECE = 2**21
"""What reading one piece, such as a window, may map beside its own bytes: the system maps whole blocks around an access."""


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
        # Copy on write: read only for the file, writable for torch, which would warn otherwise.
        self._map = np.memmap(path, dtype, "c", offset, shape)
        self._tensor = torch.from_numpy(self._map)
        self._touched = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        """The chosen rows, copied into memory as float32, or as uint8 where they are."""
        chosen = self._tensor[index]
        chosen = chosen.clone() if chosen.dtype in (torch.float32, torch.uint8) else chosen.float()
        num_pieces = len(index) if isinstance(index, Tensor) and index.ndim else 1
        self._touched += chosen.numel() * self._map.itemsize + num_pieces * BYTES_PER_PIECE
        if self._touched > RELEASE_BYTES:
            self._map._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
            self._touched = 0
        return chosen

    def __reduce__(self) -> tuple[Any, ...]:
        return FileArray, (self.path, self.dtype, self.shape, self.offset, self.scratch)

    def unlink(self) -> None:
        """Remove a scratch file; it stays readable where it is mapped."""
        if self.scratch:
            self.path.unlink(missing_ok=True)
