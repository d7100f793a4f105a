"""Files that are there whole or not at all, and the removal of what killed processes leave."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

TEMPORARY, SCRATCH = ".rnn-lightning-{}.tmp", ".forecast-{}.npy"


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file that takes its name when it is complete and on disk; until then an older one keeps it.

    It is written beside its final name, as ``file.name``. An exception removes it. Its permissions are those
    of any new file.
    """
    path = Path(path)
    file = _open_locked(path.with_name(TEMPORARY.format(secrets.token_hex(8))))
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(file.name)
        raise


def append_whole(path: Path, content: bytes) -> None:
    """Append to a file in one piece; what a full disk cuts off is taken back.

    Raises:
        OSError: if there is no space for it; the file is as before.
    """
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            written = 0
            while written < len(content):
                written += file.write(content[written:])
        except OSError:
            file.truncate(before)
            raise


class ScratchArray:
    """An array of float32 in a ``.npy`` file that exists while a run needs it, at first all NaN.

    To write to it cannot fail: a sparse file would end the process where the disk is full.

    Args:
        path: the file; one that is there is replaced.
        shape: that of the array.

    Raises:
        OSError: if there is no space for it; the file is gone then.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        path.unlink(missing_ok=True)
        self._file = _open_locked(path)
        try:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._file.flush()
            offset = self._file.tell()
            _allocate(self._file, offset, 4 * int(np.prod(shape)))
            self.values: np.ndarray = (
                np.memmap(path, "<f4", "r+", offset, shape) if np.prod(shape) else np.empty(shape, "<f4")
            )
            self.values[:] = np.nan
        except BaseException:
            self._file.close()
            path.unlink(missing_ok=True)
            raise

    def flush(self) -> None:
        """See to it that other processes see what was written."""
        if isinstance(self.values, np.memmap):
            self.values.flush()

    def close(self) -> None:
        """Unlock the file; it stays."""
        self._file.close()
        self.values = np.empty(0, np.float32)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of processes that are gone from a folder and the folders in it.

    A process holds a lock on each of its temporary files. The scratch files of several processes belong
    together: they stay while one of them is locked.
    """
    for inner in (folder, *folder.glob("*/"), *folder.glob("*/checkpoints/")):
        groups = [[path] for path in inner.glob(TEMPORARY.format("*"))]
        for group in (*groups, list(inner.glob(SCRATCH.format("*")))):
            if all(map(_is_abandoned, group)):
                for path in group:
                    path.unlink(missing_ok=True)


def _open_locked(path: Path) -> BinaryIO:
    """A new file, locked before anyone can take it for abandoned."""
    while True:
        file = path.open("x+b")
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return file
        file.close()


def _allocate(file: BinaryIO, offset: int, num_bytes: int) -> None:
    if num_bytes and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), offset, num_bytes)
    else:  # macOS
        file.write(bytes(num_bytes))
        file.flush()


def _is_abandoned(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
