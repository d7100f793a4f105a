"""Atomic files, locked temporary files, and the removal of what killed processes leave."""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl: Any = None  # type: ignore[no-redef]

TEMPORARY, SCRATCH = ".rnn-lightning-{}.tmp", ".forecast-{}"

STALE_SECONDS = 24 * 3600
"""Age from which a temporary file is that of a killed process, where the system has no locks."""

WRITTEN_BYTES = 2**24
"""Zeros that are written together, where no system call gives a file its space."""


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes its name when it is complete and on disk; until then an older one keeps it.

    It is written beside its final name, as ``file.name``. An exception removes it. Its permissions are those
    of any new file.
    """
    path = Path(path)
    file = open_locked(path.with_name(TEMPORARY.format(secrets.token_hex(8))))
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:  # Windows renames no open file
                file.close()
            os.replace(file.name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(file.name)
        raise


class ScratchArray:
    """An array of float32 in a ``.npy`` file that exists while a run needs it, at first all NaN.

    Writing to it cannot fail, because its space is allocated: a sparse file would end the process where the
    disk is full. An OSError says that there is no space; the file is gone then.

    Args:
        path: the file; one that is there is replaced.
        shape: the shape of the array.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        path.unlink(missing_ok=True)
        self._file = open_locked(path)
        try:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._file.flush()
            offset, num_bytes = self._file.tell(), 4 * int(np.prod(shape))
            allocate(self._file, offset, num_bytes)
            self.values: np.ndarray = (
                np.memmap(path, "<f4", "r+", offset, shape) if num_bytes else np.empty(shape, "<f4")
            )
            self.values[:] = np.nan
        except BaseException:
            self._file.close()
            path.unlink(missing_ok=True)
            raise

    def flush(self) -> None:
        """Make what was written visible to other processes."""
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
        for path in inner.glob(TEMPORARY.format("*")):
            remove_unlocked([path])
        remove_unlocked(list(inner.glob(SCRATCH.format("*"))))


def open_locked(path: Path, mode: int = 0o666) -> BinaryIO:
    """Open a new file with permissions, locked before anyone can take it for abandoned."""
    while True:
        file: BinaryIO = open(path, "x+b", opener=partial(os.open, mode=mode))  # noqa: SIM115
        lock(file)
        if path.exists():
            return file
        file.close()


def lock(file: BinaryIO) -> None:
    """Share a lock of a file, which keeps it from ``remove_unlocked``."""
    with contextlib.suppress(OSError, AttributeError):  # a file system or a platform without locks
        fcntl.flock(file, fcntl.LOCK_SH)


def remove_unlocked(paths: Sequence[Path]) -> None:
    """Remove files that belong together, unless a process holds a lock on one of them.

    They are locked until they are gone. Without locks, those go that are older than a day; Windows removes
    none that a process has open.
    """
    with contextlib.suppress(OSError), contextlib.ExitStack() as held:
        for path in paths:
            if fcntl is not None:
                fcntl.flock(held.enter_context(path.open("rb")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            elif time.time() - path.stat().st_mtime < STALE_SECONDS:
                return
        for path in paths:
            path.unlink(missing_ok=True)


def allocate(file: BinaryIO, offset: int, num_bytes: int) -> None:
    """Give a file so many bytes of disk; an OSError says that there is no space."""
    if num_bytes and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), offset, num_bytes)
    else:  # macOS, Windows
        file.seek(offset)
        for first in range(0, num_bytes, WRITTEN_BYTES):
            file.write(bytes(min(WRITTEN_BYTES, num_bytes - first)))
        file.flush()
