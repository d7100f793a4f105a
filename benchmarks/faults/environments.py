"""Terminals, pipes, locales, folders and signals, each with a process of its own from the start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from groups import FIT, PREDICT, fresh
from trials import LIMIT_SECONDS, Ended, Tally

COMMAND = f"{sys.executable} -m rnn_lightning"
CONFIG = "model: {hidden_size: 4}\ndata:\n  series: {class_path: SineSeries}  # été\n"


def environments(folder: Path, count: int) -> Tally:
    """The command in environments that are not as usual; what it must end with stands beside each."""
    tally = Tally("environments and signals")
    fit = " ".join(FIT)
    cases: list[tuple[str, dict[str, str], set[int]]] = [
        (f"{COMMAND} --help | head -2", {}, {0}),
        (f"{COMMAND} fit --help | head -2", {}, {0, 141}),
        (f"{COMMAND} --version", {"PYTHONIOENCODING": "ascii"}, {0}),
        (f"{COMMAND} {fit}", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {0}),
        (
            f"{COMMAND} {fit} --config c.yaml",
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            {0},
        ),
        (f"env -u HOME {COMMAND} {fit}", {}, {0}),
        (f"env -u HOME {COMMAND} {' '.join(PREDICT)}", {}, {2}),
        (f"{COMMAND} {fit} > /dev/full", {}, {2}),
        (f"{COMMAND} {fit} >&-", {}, {0}),
        (f"{COMMAND} {fit} 2>&-", {}, {0}),
        (f"{COMMAND} {fit} --trainer.default_root_dir /proc/runs", {}, {2}),
        (f"{COMMAND} {fit} --trainer.default_root_dir c.yaml/runs", {}, {2}),
        (f"{COMMAND} {fit} --config bomb.yaml", {}, {2}),
        (f"{COMMAND} {fit} --config deep.yaml", {}, {2}),
        (f"{COMMAND} {fit} --config latin.yaml", {}, {2}),
        (f"{COMMAND} {fit} --config wrong.yaml", {}, {2}),
        (f"{COMMAND} {fit} --config list.yaml", {}, {2}),
        (f"{COMMAND} {fit} --config loop.yaml", {}, {2}),
        (f"nohup {COMMAND} {fit} & sleep 4; kill -HUP $!; wait $!", {}, {0}),
    ]
    for number, seconds in enumerate((0.4, 0.8, 1.2, 1.8, 2.5, 4.0, 6.0, 9.0, 1.0, 3.0, 5.0, 8.0)):
        name = ("INT", "TERM", "HUP")[number % 3]
        code = 128 + getattr(signal, f"SIG{name}")
        # Before Python has started its code it ends as the system has it.
        cases.append((f"SIG{name} after {seconds} s", {}, {code, -getattr(signal, f"SIG{name}"), 1}))
    for number, (command, changed, codes) in enumerate(cases[:count]):
        place = fresh(folder / str(number))
        _write_configs(place)
        environment = {**os.environ, **changed, "OMP_NUM_THREADS": "1"}
        if command.startswith("SIG"):
            result = _signalled(place, environment, command)
        else:
            result = _ended(["bash", "-o", "pipefail", "-c", command], place, environment)
        is_right = result.code in codes
        code = 0 if is_right and result.code != 2 else result.code
        tally.note(command, Ended(code, result.said), is_right, None if 2 in codes else False)
        tally.leaves(place)
    return tally


def _signalled(place: Path, environment: dict[str, str], command: str) -> Ended:
    name, _, seconds, _ = command.split()
    words = [sys.executable, "-m", "rnn_lightning", *FIT, "--trainer.max_epochs=100000"]
    return _ended(words, place, environment, getattr(signal, name), float(seconds))


def _ended(
    words: list[str], place: Path, environment: dict[str, str], number: int = 0, seconds: float = 0.0
) -> Ended:
    """How a process ended, which got a signal after some seconds; signal 0 is none."""
    pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}
    with subprocess.Popen(words, cwd=place, env=environment, **pipe) as process:
        time.sleep(seconds)
        process.send_signal(number)
        try:
            said = process.communicate(timeout=LIMIT_SECONDS)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return Ended(None, process.communicate()[0].decode(errors="replace"))
    return Ended(process.returncode, said.decode(errors="replace"))


def _write_configs(place: Path) -> None:
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10) if n else 1}]" for n in range(12))
    (place / "c.yaml").write_text(CONFIG, encoding="utf-8")
    (place / "bomb.yaml").write_text(levels + "\n")
    (place / "deep.yaml").write_text("a: " + "[" * 100_000 + "\n")
    (place / "latin.yaml").write_bytes("# été\nmodel: {}\n".encode("latin-1"))
    (place / "wrong.yaml").write_text("model:\n  cell: 'lstm\n")
    (place / "list.yaml").write_text("- model\n")
    (place / "loop.yaml").write_text("model: &a {cell: *a}\n")
