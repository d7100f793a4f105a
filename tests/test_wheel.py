"""A wheel stands alone: outside the checkout it has the kernel, the configs and their tables."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rnn_lightning.native import library

ROOT = Path(__file__).parent.parent
HOOK = "import setuptools.build_meta, sys; print(getattr(setuptools.build_meta, sys.argv[1])(sys.argv[2]))"


def built(kind: str, source: Path, folder: Path, **environment: str) -> Path:
    """Build a wheel or a source distribution as ``pip`` does, and return its path."""
    command = [sys.executable, "-c", HOOK, f"build_{kind}", str(folder)]
    settings = os.environ | environment
    done = subprocess.run(command, cwd=source, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / done.stdout.splitlines()[-1]


def quick_compiler(folder: Path) -> dict[str, str]:
    """Return an environment whose compiler does without optimization, which takes most of a build."""
    if os.name != "posix":
        return {}
    script = folder / "cc"
    script.write_text('for word; do shift; [ "$word" = -O3 ] || set -- "$@" "$word"; done; exec cc "$@"')
    return {"CC": f"sh {script}"}


def clone(folder: Path) -> Path:
    """Copy what is in the repository, without what was built."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout")
    for name in listed.stdout.splitlines():
        if name.startswith(("rnn_lightning/", "configs/", "data/")) or "/" not in name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def test_a_wheel_fits_the_sine_outside_of_the_checkout(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    source = clone(tmp_path / "source")
    with zipfile.ZipFile(built("wheel", source, tmp_path, **quick_compiler(tmp_path))) as wheel:
        names = wheel.namelist()
        wheel.extractall(tmp_path / "site")
    assert {"rnn_lightning/_shipped/configs/sine.yaml", "rnn_lightning/_shipped/data/shops.csv"} <= {*names}
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "configs", "data"))]

    def run(*words: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
        command = [sys.executable, "-W", "ignore", "-m", "rnn_lightning", *words]
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert ("native CPU kernel" in run("--version")) == (library.find() is not None)
    assert str(tmp_path / "site") in run("configs")
    small = ["--trainer.max_epochs=1", "--data.num_batches_per_epoch=3", "--quiet"]
    run("fit", "--config", "airpassengers", *small)  # its table is found as well
    assert (tmp_path / "work/runs/airpassengers/fit_0/checkpoints/best.ckpt").is_file()
    run("configs", ".")
    assert (tmp_path / "work/configs/sine.yaml").is_file()


def test_a_source_distribution_builds_without_a_compiler(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    with tarfile.open(built("sdist", clone(tmp_path / "source"), tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from 3.11.4 on
        archive.extractall(tmp_path, **safely)
    assert {"rnn_lightning/native/rnn.h", "configs/sine.yaml", "data/shops.csv", "setup.py"} <= names
    (source,) = tmp_path.glob("rnn_lightning-*/")
    with zipfile.ZipFile(built("wheel", source, tmp_path, CC="/no/compiler")) as wheel:
        assert not [name for name in wheel.namelist() if "_rnn" in name]
        assert "rnn_lightning/_shipped/configs/sine.yaml" in wheel.namelist()
