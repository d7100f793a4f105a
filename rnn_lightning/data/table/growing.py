"""Arrays to which rows are appended, in memory or in scratch files."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.data.storage import FileArray
from rnn_lightning.data.table.times import calendar_codes
from rnn_lightning.errors import InputError

if TYPE_CHECKING:
    import polars as pl


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
                raise InputError(
                    f"--data.series.scratch_folder {folder}: cannot be written to ({error})."
                ) from error

    def append(self, rows: np.ndarray) -> None:
        """Copy ``rows (row, column)`` to the end."""
        if self.num_columns == 0:
            return
        end = self.num_rows + len(rows)
        if self._file is not None:
            try:
                self._file.write(np.ascontiguousarray(rows, self.dtype).data)
            except OSError as error:
                raise InputError(
                    f"--data.series.scratch_folder: {self._file.name} cannot be written ({error})."
                ) from error
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


class GrowingSeries:
    """The arrays of all series, which grow.

    Args:
        num_targets: the first columns of the rows; the others are covariates.
        num_covariates: how many others.
        calendar: names of the calendar features.
        expected: rows to expect.
        folder: for files; None for memory.
    """

    def __init__(
        self,
        num_targets: int,
        num_covariates: int,
        calendar: Sequence[str],
        expected: int,
        folder: Path | None,
    ):
        self.num_targets, self.calendar_names = num_targets, calendar
        self.values = GrowingArray("float32", num_targets, expected, folder)
        self.covariates = GrowingArray("float32", num_covariates, expected, folder)
        self.calendar = GrowingArray("uint8", len(calendar), expected, folder)
        self.all = [self.values, self.covariates, self.calendar]

    def append(self, values: np.ndarray, stamps: "pl.Series | None") -> None:
        """Add rows: targets and covariates ``(row, column)``, and their stamps, if there is a calendar."""
        self.values.append(values[:, : self.num_targets])
        self.covariates.append(values[:, self.num_targets :])
        if stamps is not None:
            self.calendar.append(calendar_codes(stamps, self.calendar_names))

    def discard(self) -> None:
        """Remove the files."""
        for array in self.all:
            array.discard()
