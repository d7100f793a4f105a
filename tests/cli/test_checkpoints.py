import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rnn_lightning.cli.checkpoints import CheckpointIO, newest_checkpoint, read_checkpoint
from rnn_lightning.errors import InputError

KILLED_IN_MID_WRITE = """
import os, signal, sys
import torch
from rnn_lightning.cli.checkpoints import CheckpointIO

def replace(*_):
    os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace
CheckpointIO().save_checkpoint({"step": 2}, sys.argv[1])
"""


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    CheckpointIO().save_checkpoint({"step": 1}, path)
    done = subprocess.run([sys.executable, "-c", KILLED_IN_MID_WRITE, str(path)], check=False)
    assert done.returncode == -9
    assert torch.load(path, weights_only=True) == {"step": 1}
    CheckpointIO().save_checkpoint({"step": 3}, path)
    assert torch.load(path, weights_only=True) == {"step": 3}


def test_a_full_disk_leaves_the_old_checkpoint_and_no_scrap(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    CheckpointIO().save_checkpoint({"step": 1}, path)
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises((OSError, RuntimeError)):
            CheckpointIO().save_checkpoint({"weights": torch.zeros(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_newest_checkpoint_is_found_by_time(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no best checkpoint in .*: run fit with the same --experiment first"
    ):
        newest_checkpoint(tmp_path, "best")
    for seconds, number in enumerate((2, 10, 9)):
        written(tmp_path / f"fit_{number}/checkpoints/last.ckpt", seconds)
    assert newest_checkpoint(tmp_path, "best").parts[-3] == "fit_9"
    written(tmp_path / "fit_2/checkpoints/best.ckpt", 5)
    assert newest_checkpoint(tmp_path, "best").parts[-3:] == ("fit_2", "checkpoints", "best.ckpt")
    with pytest.raises(InputError, match=f"There are: {tmp_path.name}"):
        newest_checkpoint(tmp_path.parent / "other", "best")
    assert newest_checkpoint(tmp_path, "last").parts[-3] == "fit_9"


def test_what_was_read_is_handed_over_once_and_only_for_its_path(tmp_path: Path) -> None:
    written(tmp_path / "a.ckpt", 1)
    content: dict[str, Any] = {"state_dict": {}}
    io = CheckpointIO(tmp_path / "a.ckpt", content)
    written(tmp_path / "b.ckpt", 1)
    assert io.load_checkpoint(tmp_path / "b.ckpt") is not content
    assert io.load_checkpoint(str(tmp_path / "a.ckpt")) is content
    assert io.load_checkpoint(tmp_path / "a.ckpt") is not content


def written(path: Path, seconds: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"rnn_lightning_version": "0", "state_dict": {}, "hyper_parameters": {}}, path)
    os.utime(path, (seconds, seconds))


def test_a_checkpoint_that_would_unpack_to_more_than_its_size_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    with pytest.raises(InputError, match="would unpack to 50,000,000 bytes, over 2 times its size"):
        read_checkpoint(tmp_path / "bomb.ckpt")


class Exploit:
    def __reduce__(self) -> Any:
        return os.mkdir, ("hacked",)


def test_a_pickle_is_not_run_and_no_advice_says_how_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"rnn_lightning_version": "0.1.0", "state_dict": Exploit()}, "evil.ckpt")
    with pytest.raises(InputError) as refused:
        read_checkpoint(Path("evil.ckpt"))
    assert "holds more than numbers, text and tensors" in str(refused.value)
    assert "weights_only" not in str(refused.value)
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.pop("rnn_lightning_version"),
            "not a checkpoint of rnn-lightning (no rnn_lightning_version)",
        ),
        (lambda c: c["state_dict"].pop("network.readout.weight"), "cannot be loaded"),
        (lambda c: c["state_dict"].update(evil=torch.zeros(3)), "cannot be loaded"),
        (lambda c: next(iter(c["state_dict"].values())).resize_(1), "cannot be loaded"),
        (lambda c: c.update(state_dict=[1]), "no state_dict"),
        (lambda c: c["hyper_parameters"].update(flux=3), "its options do not fit"),
        (lambda c: c.update(forecaster_class="evilmod.S"), "holds a network of the class evilmod.S"),
        (lambda c: c["hyper_parameters"].update(cell="evil"), "model.cell"),
        (
            lambda c: c["datamodule_hyper_parameters"].update(
                series={"class_path": "evilmod.S", "init_args": {}}
            ),
            "names the class 'evilmod.S', which is no part of rnn-lightning",
        ),
        (
            lambda c: c["datamodule_hyper_parameters"].update(series="evilmod.S"),
            "names the class 'evilmod.S'",
        ),
        (
            lambda c: c["datamodule_hyper_parameters"].update({"series.class_path": "evilmod.S"}),
            "its options do not fit",
        ),
    ],
)
def test_a_checkpoint_that_is_not_as_it_should_be_is_refused_in_a_line(
    rnn_lightning: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], None],
    message: str,
) -> None:
    Path("evilmod.py").write_text("import os; os.mkdir('hacked')\n")
    rnn_lightning("fit", "--trainer.max_epochs=1", "--data.num_batches_per_epoch=2", "--model.hidden_size=4")
    checkpoint = torch.load("runs/default/fit_0/checkpoints/last.ckpt", weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, "changed.ckpt")
    with pytest.raises(SystemExit) as ended:
        rnn_lightning("predict", "--ckpt_path=changed.ckpt")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not Path("hacked").exists()
    assert not list(Path().glob("runs/*/*/forecast*"))
