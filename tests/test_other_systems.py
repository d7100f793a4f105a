"""The package on systems without what only POSIX has: rehearsed by taking it away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rnn_lightning

WITHOUT_POSIX = """
import asyncio, importlib, os, signal, sys
import lightning.pytorch.cli, matplotlib.pyplot, polars, torch, torch.utils.tensorboard, torchmetrics, yaml
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"):
    sys.modules[name] = None
for name in '''
    posix_fallocate posix_fadvise fchmod fchown getuid geteuid getgid register_at_fork fork killpg setsid
    getpgid sysconf uname mkfifo nice sched_getaffinity
'''.split():
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGPIPE", "SIGALRM", "SIGQUIT", "SIGUSR2", "SIGCHLD"):
    delattr(signal, name)
"""

COMMANDS = """
import pkgutil
import rnn_lightning
from rnn_lightning.cli.main import main
for module in pkgutil.walk_packages(rnn_lightning.__path__, "rnn_lightning."):
    if module.name not in ("rnn_lightning.__main__", "rnn_lightning.native._rnn"):
        importlib.import_module(module.name)
small = ["--data.num_batches_per_epoch=5", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
table = ["table.csv", "--data.series.scratch_folder=."]
for words in (["--version"], ["fit", *small], ["fit", *small, "--trainer.max_epochs=2", "--ckpt_path=last"],
              ["predict", "--trainer.accelerator=cpu"], ["predict", *table, "--trainer.accelerator=cpu"]):
    sys.argv = ["rnn-lightning", *words]
    main()
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(rnn_lightning.__file__).parent.parent)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_module_and_the_commands_need_nothing_of_posix(tmp_path: Path) -> None:
    rows = "".join(f"{step},{step % 6}\n" for step in range(60))
    (tmp_path / "table.csv").write_text("ds,y\n" + rows)
    done = run(WITHOUT_POSIX + COMMANDS, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "runs/default/predict_0/forecast.csv").is_file()
    assert (tmp_path / "runs/table/predict_0/forecast.csv").is_file()


def test_taking_posix_away_is_noticed(tmp_path: Path) -> None:
    assert "fcntl" in run(WITHOUT_POSIX + "import fcntl", tmp_path).stderr


@pytest.mark.parametrize("name", ["aux", "CON.txt", "lpt1", "a:b", "a.", "b ", "what?", "deep/nul"])
def test_an_experiment_has_a_name_for_a_folder_on_every_system(name: str, tmp_path: Path) -> None:
    from rnn_lightning.cli.run_folders import new_run_folder
    from rnn_lightning.errors import InputError

    with pytest.raises(InputError, match="`experiment`"):
        new_run_folder(tmp_path / name, "fit")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["sine", "../other", "aux_2", "v1.2", "später"])
def test_other_names_are_taken(name: str, tmp_path: Path) -> None:
    from rnn_lightning.cli.run_folders import new_run_folder

    assert new_run_folder(tmp_path / "runs" / name, "fit") == "fit_0"


def test_a_subinterpreter_is_refused() -> None:
    """PyTorch would wait there without an end."""
    code = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import sys
attempt = "try: import rnn_lightning\\nexcept ImportError as error: print(error)"
interpreters.run_string(interpreters.create(), f"import sys; sys.path[:] = {sys.path!r}\\n{attempt}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "does not run in subinterpreters: use threads or processes" in done.stdout
