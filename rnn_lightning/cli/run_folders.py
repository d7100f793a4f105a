"""Run folders, one for each run, and what writes into them: loggers and the config."""

import atexit
import contextlib
import csv
import io
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import cached_property
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from rnn_lightning.errors import InputError
from rnn_lightning.files import append_whole, atomic_file, remove_abandoned

RUNS = "runs"


def experiment_folder(root: str | None, experiment: str) -> Path:
    """The folder of the runs of an experiment."""
    return Path(root or RUNS) / experiment


class RunFolder:
    """A new folder ``<subcommand>_<number>`` of an experiment, made when its name is first asked for.

    The number follows the highest that is there. Two runs that start at one instant get two folders: making a
    folder fails where another run was faster, and the next number is taken. Of several processes the first
    one makes it, and tells the others (``Trainer.log_dir``).

    Args:
        experiment: the folder of the experiment.
        subcommand: the subcommand.

    Raises:
        InputError: if the folder cannot be written.
    """

    def __init__(self, experiment: Path, subcommand: str) -> None:
        self.experiment, self.subcommand = experiment, subcommand

    @property
    def path(self) -> Path:
        return self.experiment / self.name

    @cached_property
    def name(self) -> str:
        if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
            return ""
        try:
            self.experiment.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.experiment)
            found = (
                re.fullmatch(rf"{self.subcommand}_(\d+)", path.name) for path in self.experiment.iterdir()
            )
            number = max((int(match[1]) for match in found if match), default=-1) + 1
            while True:
                with contextlib.suppress(FileExistsError):
                    name = f"{self.subcommand}_{number}"
                    (self.experiment / name).mkdir()
                    return name
                number += 1
        except OSError as error:
            raise InputError(
                f"--trainer.default_root_dir {self.experiment.parent}: cannot be written ({error.strerror})."
            ) from error


class WholeFiles(ExperimentWriter):
    """Writes ``metrics.csv`` and ``hparams.yaml``: a kill or a full disk leaves whole rows and files."""

    def save(self) -> None:
        if not self.metrics:
            return
        names = sorted({*self.metrics_keys, *chain.from_iterable(self.metrics)})
        path, rows = Path(self.metrics_file_path), io.StringIO(newline="")
        table = csv.DictWriter(rows, names)
        if names == self.metrics_keys and path.exists():
            table.writerows(self.metrics)
            append_whole(path, rows.getvalue().encode())
        else:
            table.writeheader()
            if path.exists():
                with path.open(newline="") as file:
                    table.writerows(csv.DictReader(file))
            table.writerows(self.metrics)
            with atomic_file(path) as whole:
                whole.write(rows.getvalue().encode())
        self.metrics_keys, self.metrics = names, []

    def log_hparams(self, params: dict[str, Any]) -> None:
        self.hparams.update(params)
        with atomic_file(Path(self.log_dir, self.NAME_HPARAMS_FILE)) as file:
            save_hparams_to_yaml(file.name, self.hparams)


class RunCSVLogger(CSVLogger):
    """Logs into a run folder."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder.experiment.parent, folder.experiment.name)
        self.folder = folder
        self.writer: WholeFiles | None = None

    @property
    def version(self) -> str:
        return self.folder.name

    @property
    @rank_zero_experiment
    def experiment(self) -> WholeFiles:
        if self.writer is None:
            self.writer = WholeFiles(self.log_dir)
        return self.writer

    def finalize(self, status: str) -> None:
        if self.writer is not None:
            self.writer.save()


class RunTensorBoardLogger(TensorBoardLogger):
    """Logs into a run folder."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder.experiment.parent, folder.experiment.name)
        self.folder = folder

    @property
    def version(self) -> str:
        return self.folder.name


def run_loggers(experiment: Path, subcommand: str) -> list[Logger]:
    """Loggers into a new run folder: CSV, and TensorBoard where it is installed."""
    folder = RunFolder(experiment, subcommand)
    kinds: list[Callable[[RunFolder], Logger]] = [RunCSVLogger]
    if find_spec("tensorboard") or find_spec("tensorboardX"):
        kinds.append(RunTensorBoardLogger)
    return [kind(folder) for kind in kinds]


def temporary_folder() -> Path:
    """A folder for a run that leaves none, removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="rnn-lightning-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class SaveConfig(SaveConfigCallback):
    """Keeps the config of a run in its folder, as ``config.yaml``."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        folder = trainer.log_dir  # asks all devices
        if trainer.is_global_zero and folder is not None and not self.already_saved:
            Path(folder).mkdir(parents=True, exist_ok=True)
            text: Any = self.parser.dump(self.config, skip_none=False)
            with atomic_file(Path(folder, self.config_filename)) as file:
                file.write(text.encode())
        self.already_saved = True
