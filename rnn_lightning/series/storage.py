"""Arrays larger than memory: kept in a file, read a piece at a time."""

import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.errors import InputError

RELEASE_BYTES = 2**28
"""A process gives mapped pages back when it has touched about this many bytes of them: they would count as its memory."""

BYTES_PER_PIECE = 2**17
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

    def __init__(self, path: Path, dtype: str, shape: tuple[int, int], offset: int = 0, scratch: bool = False) -> None:
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


class GrowingArray:
    """Rows that are appended piece by piece, in memory or in a scratch file.

    Args:
        dtype: NumPy name of the type of the numbers.
        num_columns: numbers in a row; without any, nothing is kept.
        expected: rows to expect.
        folder: for the file; None for memory.
    """

    def __init__(self, dtype: str, num_columns: int, expected: int, folder: Path | None) -> None:
        self.dtype, self.num_columns, self.num_rows = dtype, num_columns, 0
        self._array = np.empty((0, num_columns), dtype)
        self._file: Any = None
        if folder is None:
            self._require_memory(expected)
            self._array = np.empty((expected, num_columns), dtype)
        elif num_columns:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.NamedTemporaryFile(prefix="rnn-lightning-", dir=folder, delete=False)  # noqa: SIM115
            except OSError as error:
                raise InputError(f"--data.series.scratch_folder {folder}: cannot be written to ({error}).") from error

    def append(self, rows: np.ndarray) -> None:
        """Copy ``rows (row, column)`` to the end."""
        if self.num_columns == 0:
            return
        end = self.num_rows + len(rows)
        if self._file is not None:
            try:
                self._file.write(np.ascontiguousarray(rows, self.dtype).data)
            except OSError as error:
                raise InputError(f"--data.series.scratch_folder: {self._file.name} cannot be written ({error}).") from error
        else:
            if end > len(self._array):
                self._require_memory(end)
                self._array.resize((max(end, len(self._array) * 5 // 4), self.num_columns), refcheck=False)
            self._array[self.num_rows : end] = rows
        self.num_rows = end

    def finish(self) -> Tensor | FileArray | None:
        """All rows; None without columns."""
        if self.num_columns == 0:
            return None
        if self._file is None:
            self._array.resize((self.num_rows, self.num_columns), refcheck=False)
            return torch.from_numpy(self._array)
        self._file.close()
        return FileArray(Path(self._file.name), self.dtype, (self.num_rows, self.num_columns), scratch=True)

    def discard(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink(missing_ok=True)

    def _require_memory(self, num_rows: int) -> None:
        needed = num_rows * self.num_columns * np.dtype(self.dtype).itemsize
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if needed > memory / 2:
            raise InputError(
                f"the {num_rows} steps take {needed / 2**30:.3g} GiB, more than half of the {memory / 2**30:.3g} GiB of "
                "memory: keep them in files by --data.series.scratch_folder, or check the time stamps for a wrong one."
            )
