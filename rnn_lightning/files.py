"""Files that are there whole or not at all, and the removal of what killed processes leave."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

try:
    import fcntl
except ImportError:  # Windows: there temporary files stay after a kill
    fcntl: Any = None  # type: ignore[no-redef]

TEMPORARY, SCRATCH = ".rnn-lightning-{}.tmp", ".forecast-{}"


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes its name when it is complete and on disk; until then an older one keeps it.

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
        self._file = _open_locked(path)
        try:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._file.flush()
            offset, num_bytes = self._file.tell(), 4 * int(np.prod(shape))
            if num_bytes and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), offset, num_bytes)
            else:  # macOS
                self._file.write(bytes(num_bytes))
                self._file.flush()
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
        groups = [[path] for path in inner.glob(TEMPORARY.format("*"))]
        for group in (*groups, list(inner.glob(SCRATCH.format("*")))):
            if all(map(_is_abandoned, group)):
                for path in group:
                    path.unlink(missing_ok=True)


def _open_locked(path: Path) -> BinaryIO:
    """Open a new file, locked before anyone can take it for abandoned."""
    while True:
        file = path.open("x+b")
        with contextlib.suppress(OSError, AttributeError):  # a file system or a platform without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return file
        file.close()


def _is_abandoned(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        return False
    return True
