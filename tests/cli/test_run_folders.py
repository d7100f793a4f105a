import contextlib
import multiprocessing
import os
import stat
import subprocess
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnn_lightning import files
from rnn_lightning.cli.run_folders import new_run_folder
from rnn_lightning.files import SCRATCH, TEMPORARY, ScratchArray, atomic_file, remove_abandoned


def claim(folder: Path, barrier: Barrier, number: int) -> None:
    barrier.wait()
    name = new_run_folder(folder, "fit")
    (folder / name / f"mine_{number}").touch()


def test_runs_that_start_at_one_instant_get_folders_of_their_own(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(20)
    processes = [context.Process(target=claim, args=(tmp_path / "runs", barrier, i)) for i in range(20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    folders = list((tmp_path / "runs").iterdir())
    assert sorted(folder.name for folder in folders) == sorted(f"fit_{number}" for number in range(20))
    assert [len(list(folder.iterdir())) for folder in folders] == [1] * 20


def test_the_number_of_a_run_follows_the_highest(tmp_path: Path) -> None:
    for name in ("fit_3", "fit_10", "fit_x", "predict_40"):
        (tmp_path / name).mkdir()
    assert new_run_folder(tmp_path, "fit") == "fit_11"


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(TypeError), atomic_file(path) as file:
        file.write("text")  # type: ignore[call-overload]
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_file(tmp_path / "file") as file:
            file.write(b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


def test_what_a_killed_process_leaves_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from rnn_lightning.files import *\n"
        "folder = Path(sys.argv[1])\n"
        "share = ScratchArray(folder / SCRATCH.format(0), (3, 2)); file = atomic_file(folder / 'a')\n"
        "file.__enter__(); os.kill(os.getpid(), 9)"
    )
    for name in ("dead", "alive"):
        (tmp_path / name).mkdir()
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
    share = ScratchArray(tmp_path / "alive" / SCRATCH.format(1), (3, 2))
    with atomic_file(tmp_path / "alive" / "b") as file, contextlib.closing(share):
        kept = {SCRATCH.format(0), SCRATCH.format(1), Path(file.name).name}
        assert len(list((tmp_path / "dead").iterdir())) == 2
        remove_abandoned(tmp_path)
        assert list((tmp_path / "dead").iterdir()) == []
        assert {path.name for path in (tmp_path / "alive").iterdir()} == kept
    remove_abandoned(tmp_path)
    assert [path.name for path in (tmp_path / "alive").iterdir()] == ["b"]
    assert not list(tmp_path.rglob(TEMPORARY.format("*")))


def test_a_scratch_array_is_on_disk_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / SCRATCH.format(0)
    share = ScratchArray(path, (100, 100))
    assert path.stat().st_blocks * 512 >= 40_000
    share.values[7, 3] = 1.5
    share.flush()
    read = np.load(path)
    assert read[7, 3] == 1.5
    assert int(np.isnan(read).sum()) == 9_999
    share.close()


FCNTL: Any = vars(files)["fcntl"]


@pytest.mark.skipif(FCNTL is None, reason="a system without locks")
def test_a_file_is_safe_between_its_creation_and_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removed = FCNTL.flock, list[bool]()

    def flock(file: Any, kind: int) -> None:
        if kind == FCNTL.LOCK_SH and not removed:
            removed.append(True)
            remove_abandoned(tmp_path)  # another process, just now
        real(file, kind)

    monkeypatch.setattr(FCNTL, "flock", flock)
    with atomic_file(tmp_path / "a") as file:
        file.write(b"whole")
        remove_abandoned(tmp_path)
    assert removed
    assert (tmp_path / "a").read_bytes() == b"whole"
