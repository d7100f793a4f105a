"""One trial: a command in a process of its own, what became of it, and what it left."""

import contextlib
import csv
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [*("rnn_lightning.cli.lightning_cli", "polars", "matplotlib.figure", "tensorboard.summary")]
)

LIMIT_SECONDS = 240
KINDS = ("clear error", "right result", "silently wrong", "traceback", "hang", "left over")


@dataclass
class Ended:
    """How a command ended: its exit code, None after the time limit, and what it said."""

    code: int | None
    said: str


def _work(folder: str, words: Sequence[str], file_size: int | None) -> None:
    os.setpgrp()
    os.chdir(folder)
    with open("said.txt", "w", buffering=1) as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    sys.argv = ["rnn-lightning", *words]
    torch.set_num_threads(1)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    from rnn_lightning.cli.main import main

    main()


def start(
    folder: Path, words: Sequence[str], file_size: int | None = None
) -> "multiprocessing.process.BaseProcess":
    """Start a command; the imports are done already."""
    process = CONTEXT.Process(target=_work, args=(str(folder), list(words), file_size))
    process.start()
    return process


def ended(
    process: "multiprocessing.process.BaseProcess", folder: Path, seconds: float = LIMIT_SECONDS
) -> Ended:
    """Wait for a command."""
    process.join(seconds)
    code = process.exitcode
    if code is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    return Ended(
        code, (folder / "said.txt").read_text(errors="replace") if (folder / "said.txt").exists() else ""
    )


def run(folder: Path, words: Sequence[str], file_size: int | None = None) -> Ended:
    """Run a command to its end."""
    return ended(start(folder, words, file_size), folder)


def signalled(
    folder: Path, words: Sequence[str], number: int, seconds: float, is_due: Callable[[], bool] = lambda: True
) -> Ended:
    """Run a command that gets a signal after some seconds, as soon as that is due."""
    process = start(folder, words)
    process.join(seconds)
    while process.is_alive() and not is_due():
        process.join(0.003)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid or 0, number)
    return ended(process, folder)


@dataclass
class Tally:
    """The counts of one kind of fault, and the trials that ended badly."""

    name: str
    tried: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    bad: list[str] = field(default_factory=list)
    seconds: float = field(default_factory=time.monotonic)

    def note(self, what: str, result: Ended, is_right: bool, expects_error: bool | None = None) -> None:
        """Count a trial.

        Args:
            what: the trial, for the report.
            result: how it ended.
            is_right: whether what it wrote is right, where it ended well.
            expects_error: whether it must (or must not) end with an error; None where both will do.
        """
        self.tried += 1
        if result.code is None:
            kind = "hang"
        elif "Traceback (most recent call last)" in result.said or result.code not in (0, 2, 129, 130, 143):
            kind = "traceback"
        elif result.code == 2:
            kind = (
                "clear error" if "error: " in result.said and expects_error is not False else "silently wrong"
            )
        else:
            kind = "right result" if is_right and not expects_error else "silently wrong"
        self.counts[kind] += 1
        if kind not in KINDS[:2]:
            self.bad.append(f"{what}: {kind}, exit code {result.code}: {result.said[-400:]!r}")

    def leaves(self, folder: Path) -> None:
        """Count temporary files that are still there."""
        left = [path for path in folder.rglob(".*") if path.name.startswith((".rnn-lightning", ".forecast"))]
        if left:
            self.counts["left over"] += 1
            self.bad.append(f"left over: {left[0]}")

    def row(self) -> str:
        """A row of the table of results."""
        return (
            f"| {self.name} | {self.tried} | " + " | ".join(str(self.counts[kind]) for kind in KINDS) + " |"
        )


def broken_files(folder: Path) -> list[str]:
    """Files under their final names that are not whole."""
    broken = []
    for path in folder.rglob("*"):
        try:
            if path.suffix == ".ckpt":
                with zipfile.ZipFile(path) as archive:
                    assert archive.testzip() is None
                torch.load(path, weights_only=True)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.name == "config.yaml":
                assert "model" in yaml.safe_load(path.read_text())
            elif path.name == "metrics.csv":  # Lightning's: its last row may be cut
                rows = list(csv.reader(path.read_text().split("\n")[:-1]))
                assert len({len(row) for row in rows}) <= 1
            elif path.suffix == ".png":
                assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
        except Exception as error:
            broken.append(f"{path}: {error!r}")
    return broken
